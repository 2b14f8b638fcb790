//! Exit codes of the daemon, as in `sysexits.h`.

/// The node left the cluster as asked.
pub const OK: u8 = 0;
/// The command line was wrong.
pub const USAGE: u8 = 64;
/// The configuration file cannot be read.
pub const NO_INPUT: u8 = 66;
/// The node stopped itself; the log says why.
pub const INTERNAL: u8 = 70;
/// A file, directory, socket or port could not be made or had.
pub const CANNOT_CREATE: u8 = 73;
/// The disk failed, or the journal is damaged.
pub const IO: u8 = 74;
/// It may work later: another daemon has the state directory or socket, a port is taken, or the
/// node stopped before the cluster had confirmed that it left.
pub const TEMPORARY: u8 = 75;
/// The configuration or the key file is wrong.
pub const CONFIG: u8 = 78;
