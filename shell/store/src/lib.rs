//! State directory: journal files, fsync, exclusive use.
