//! One module per command, or per few that belong together.

pub(crate) mod admin;
pub(crate) mod agents;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod cib;
pub(crate) mod contention;
pub(crate) mod convert;
pub(crate) mod events;
pub(crate) mod graph;
pub(crate) mod init;
pub(crate) mod lock;
pub(crate) mod locks;
pub(crate) mod lockspace;
pub(crate) mod masters;
pub(crate) mod node;
pub(crate) mod orphans;
pub(crate) mod plan;
pub(crate) mod recorder;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod value;
