//! Many resources on many nodes: directory, mastering, remote operations, recovery.
