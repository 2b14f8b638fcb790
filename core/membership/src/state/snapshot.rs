//! The cluster state as bytes.

use super::ClusterState;
use mainstay_wire::codec::{self, DecodeError};

/// The format that this build writes, and the only one there has been.
const VERSION: u8 = 1;
/// Longest encoded state, in bytes: room for every lockspace, node and fencing record.
const STATE_LEN_MAX: usize = 8 << 20;

/// Bytes that are no cluster state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Nothing at all.
    #[error("a cluster state has at least a version byte, this one has no bytes")]
    Empty,
    /// Written by a build that this one does not understand.
    #[error("cluster state of format {found}; this build reads format {VERSION}")]
    Version {
        /// The format found.
        found: u8,
    },
    /// The bytes do not follow the format.
    #[error("cluster state: {0}")]
    Decode(#[from] DecodeError),
}

impl ClusterState {
    /// For a snapshot: a version byte, then the state.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        codec::encode(self, &mut bytes);
        bytes
    }

    /// From a snapshot.
    ///
    /// # Errors
    /// If the bytes are no state, or one of an unknown format.
    pub fn decode(bytes: &[u8]) -> Result<ClusterState, StateError> {
        match bytes {
            [] => Err(StateError::Empty),
            [VERSION, state @ ..] => Ok(codec::decode("cluster state", STATE_LEN_MAX, state)?),
            [found, ..] => Err(StateError::Version { found: *found }),
        }
    }
}

/// `Arc<View>` as a plain view.
pub(super) mod arc_view {
    use crate::View;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::sync::Arc;

    pub(in crate::state) fn serialize<S: Serializer>(
        view: &Arc<View>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        View::serialize(view, s)
    }

    pub(in crate::state) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Arc<View>, D::Error> {
        View::deserialize(d).map(Arc::new)
    }
}
