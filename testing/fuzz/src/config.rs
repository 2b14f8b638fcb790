//! The daemon's configuration file.

use crate::memory::bounded;
use mainstay_base::{BootId, DiskId, Instant};
use mainstay_daemon::config::{Config, Identity};
use mainstay_node::{BootInfo, Node};
use std::path::Path;

/// A configuration; one without complaints is one that a node starts with.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let identity = Identity {
        node_name: None,
        hostname: "a".to_owned(),
    };
    // A document tree keeps keys, positions and the space around each word.
    let limit = 2048 * data.len() + (256 << 10);
    let file = Path::new("/etc/mainstay/mainstay.toml");
    let config = match bounded("configuration", limit, || {
        Config::parse(file, text, &identity)
    }) {
        Ok(config) => config,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(!config.summary().is_empty());
    let info = BootInfo {
        carried: None,
        boot: BootId(1),
        disk: DiskId(1),
        records: Vec::new(),
        entropy: 1,
    };
    let booted = Node::boot(Instant::from_millis(1), config.node_config(), info);
    if let Err(error) = booted {
        panic!("a configuration without complaints is refused by the core: {error}");
    }
}
