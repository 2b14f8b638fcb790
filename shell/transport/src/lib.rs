//! Authenticated, encrypted TCP links between the nodes of a cluster.
//!
//! Every node has up to four addresses, and every pair of nodes as many links: link *i* leads from
//! the node with the lower id to the *i*-th address of the other. Each connection begins with a
//! Noise `NNpsk0` handshake under the cluster key, in which both sides compare cluster name, node
//! ids, link number and cluster parameters; a mismatch is refused with a reason that both sides
//! log. Then it carries frames of up to [`mainstay_base::FRAME_LEN_MAX`] bytes, in order. What is
//! lost with a broken connection, and what is worth sending again, is the business of the layer
//! above.
//!
//! The decoders are public and pure, so that they can be fuzzed: [`wire::decode_preamble`],
//! [`wire::decode_header`], [`wire::decode_hello`], [`wire::decode_refusal`],
//! [`wire::decode_frame_header`] and [`parse_key_text`].

#![forbid(unsafe_code)]

mod config;
mod connection;
mod events;
mod handshake;
mod inbox;
mod judge;
mod key;
mod noise;
mod notices;
mod random;
mod reason;
mod shared;
mod sync;
mod tasks;
mod transport;
pub mod wire;

pub use config::{PeerConfig, TransportConfig, TransportError};
pub use events::{EVENT_QUEUE_MAX, EventReceiver, TransportEvent};
pub use key::{ClusterKey, KEY_LEN, KeyError, KeyTextError, parse_key_text};
pub use reason::{DownReason, RefusalReason};
pub use transport::{LinkStatus, SendError, Transport};
