//! Messages between nodes and between a client and its daemon, and their codec.
