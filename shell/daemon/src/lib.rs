//! The daemon: configuration, runtime, client sockets.
