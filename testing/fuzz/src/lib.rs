//! Every decoder against hostile bytes.
//!
//! A target is a plain function of bytes. It panics if a decoder panics, if what was decoded does not
//! come back when it is written and read again, or if the input made it allocate more than a bound
//! that grows with the input's length ([`memory`]). The same targets are run
//!
//! * over the committed corpus and a bounded number of seeded variations of it by this crate's test,
//! * by libFuzzer for as long as one likes, with `cargo xtask fuzz`.
//!
//! # Which decoder is fuzzed where
//!
//! | decoder | target |
//! |---|---|
//! | `mainstay_wire::codec::decode` of messages between lock managers | `wire-dlm` |
//! | the same of what clients ask | `wire-asks` |
//! | the same of what clients hear, with reports and events | `wire-answers` |
//! | `mainstay_membership`: `Message::decode`, `Founding::decode` | `membership` |
//! | `Command::decode` | `commands` |
//! | `ClusterState::decode`, and `apply` on what came out | `cluster-state` |
//! | `mainstay_link`: frame header and body, by `Channel::receive` | `link` |
//! | `mainstay_consensus`: messages, by `Consensus::receive` and `sender` | `consensus` |
//! | records, by `Durable::apply` and `Consensus::recover` | `consensus-records` |
//! | `mainstay_journal::scan`: header, sectors, records | `journal` |
//! | `mainstay_store::StateDir::open` | `store` |
//! | `mainstay_recorder::Dump::decode`, and `check` on what came out | `recorder` |
//! | `mainstay_transport::wire`: preamble, message header, hello, refusal, frame header | `handshake` |
//! | `mainstay_transport::parse_key_text` | `key` |
//! | `mainstay_daemon::config::Config::parse` | `config` |
//! | `mainstay_cib`: `read`, `heartbeat::import` and `Agent::read`, with `check`, `write` and `export` | `cib` |
//! | the first two, on combinations of elements that mean something | `cib-elements` |
//! | `mainstay_cib::native::read`, with the same and `native::write` | `cib-native` |
//! | the client's framing and its protocol machine | `client` |
//! | `mainstay_node`: frames of every kind, as a whole node takes them | `node-peers` |
//! | requests of clients, as a whole node takes them | `node-clients` |
//! | the same, beside a model that says what each client must be told | `client-protocol` |
//! | the journal's records, as `Node::boot` takes them | `node-boot` |
//!
//! The daemon's framing of what clients send is tested over real sockets in `mainstay-daemon`, the
//! Noise handshake in `mainstay-transport`; the lease page comes from a descriptor whose seals are
//! checked, and has no lengths in it.

mod cib;
mod client;
mod config;
mod consensus;
mod feed;
mod journal;
mod link;
mod membership;
pub mod memory;
mod node;
mod protocol;
mod recorder;
mod seeds;
mod transport;
mod wire;
mod world;

pub use feed::{Feed, Script, extremes, vary};
pub use seeds::seeds;

use std::path::PathBuf;

/// One thing to throw bytes at.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and its corpus' folder.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
    /// Variations tried per replay of the corpus: fewer for slow targets.
    pub variations: u64,
    /// Longest input worth trying, in bytes.
    pub len_max: usize,
}

const fn target(name: &'static str, run: fn(&[u8]), variations: u64, len_max: usize) -> Target {
    Target {
        name,
        run,
        variations,
        len_max,
    }
}

/// All targets.
pub const TARGETS: &[Target] = &[
    target("wire-dlm", wire::dlm, 60_000, 4096),
    target("wire-asks", wire::asks, 60_000, 4096),
    target("wire-answers", wire::answers, 60_000, 4096),
    target("membership", membership::messages, 60_000, 4096),
    target("commands", membership::commands, 60_000, 4096),
    target("cluster-state", membership::state, 20_000, 4096),
    target("link", link::frames, 30_000, 4096),
    target("consensus", consensus::messages, 1_000, 2048),
    target("consensus-records", consensus::records, 10_000, 4096),
    target("journal", journal::scanning, 20_000, 8192),
    target("store", journal::opening, 200, 4096),
    target("recorder", recorder::dump, 20_000, 4096),
    target("handshake", transport::handshake, 60_000, 1024),
    target("key", transport::key, 60_000, 1024),
    target("config", config::config, 5_000, 4096),
    target("cib", cib::document, 60_000, 8192),
    target("cib-elements", cib::elements, 60_000, 512),
    target("cib-native", cib::lines, 60_000, 8192),
    target("client", client::daemon, 30_000, 4096),
    target("node-peers", node::peers, 800, 2048),
    target("node-clients", node::clients, 800, 2048),
    target("client-protocol", protocol::run, 1_000, 1024),
    target("node-boot", node::boot, 3_000, 4096),
];

/// The target of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Where a target's committed inputs are.
#[must_use]
pub fn corpus(target: &Target) -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.join("corpus").join(target.name)
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
