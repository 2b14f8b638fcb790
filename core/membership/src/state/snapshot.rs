//! The cluster state as bytes.

use super::{ClusterState, Rest, surviving::Surviving};
use crate::View;
use mainstay_base::{
    Access, Compat, Fairness, Incarnation, LOCKSPACES_MAX, LockspaceName, NODES_MAX, NodeId, Token,
    VOTES_MAX,
};
use mainstay_wire::codec::{self, DecodeError};
use std::collections::BTreeMap;

/// The format that this build writes.
const VERSION: u8 = 7;
/// The one before: nobody rested.
const WITHOUT_REST: u8 = 6;
/// The one before that: no lock survived its node.
const WITHOUT_SURVIVORS: u8 = 5;
/// The one before that: all lockspaces followed the same rules.
const WITHOUT_COMPAT: u8 = 4;
/// The one before that: all lockspaces were fair in the same way.
const WITHOUT_FAIRNESS: u8 = 3;
/// The one before that: everybody might lock everything.
const WITHOUT_ACCESS: u8 = 2;
/// The one before that: without the moves of masters, of which there had been none.
const WITHOUT_MOVES: u8 = 1;
/// Longest encoded state, in bytes: room for every lockspace, node and fencing record.
const STATE_LEN_MAX: usize = 8 << 20;
/// No node comes back so often.
const INCARNATION_MAX: Incarnation = Incarnation(1 << 48);

/// Bytes that are no cluster state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Nothing at all.
    #[error("a cluster state has at least a version byte, this one has no bytes")]
    Empty,
    /// Written by a build that this one does not understand.
    #[error(
        "cluster state of format {found}; this build reads formats {WITHOUT_MOVES} to {VERSION}"
    )]
    Version {
        /// The format found.
        found: u8,
    },
    /// The bytes do not follow the format.
    #[error("cluster state: {0}")]
    Decode(#[from] DecodeError),
    /// The bytes follow the format, but no log can have led there.
    #[error("cluster state: {0}")]
    Impossible(&'static str),
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
    /// If the bytes are no state, one of an unknown format, or one that no log leads to.
    pub fn decode(bytes: &[u8]) -> Result<ClusterState, StateError> {
        match bytes {
            [] => Err(StateError::Empty),
            [
                version @ (VERSION | WITHOUT_REST | WITHOUT_SURVIVORS | WITHOUT_COMPAT
                | WITHOUT_FAIRNESS | WITHOUT_ACCESS | WITHOUT_MOVES),
                state @ ..,
            ] => {
                let mut state = state.to_vec();
                if *version == WITHOUT_MOVES {
                    codec::encode(&(BTreeMap::<NodeId, u64>::new(), 0_u64), &mut state);
                }
                if *version < WITHOUT_FAIRNESS {
                    codec::encode(&BTreeMap::<LockspaceName, Access>::new(), &mut state);
                }
                if *version < WITHOUT_COMPAT {
                    codec::encode(&BTreeMap::<LockspaceName, Fairness>::new(), &mut state);
                }
                if *version < WITHOUT_SURVIVORS {
                    codec::encode(&BTreeMap::<LockspaceName, Compat>::new(), &mut state);
                }
                if *version < WITHOUT_REST {
                    codec::encode(&Surviving::default(), &mut state);
                }
                if *version < VERSION {
                    codec::encode(&None::<Rest>, &mut state);
                }
                let mut state: ClusterState =
                    codec::decode("cluster state", STATE_LEN_MAX, &state)?;
                for (name, access) in &state.access {
                    let lockspace = state.lockspaces.get_mut(name);
                    let lockspace = lockspace.ok_or(StateError::Impossible(
                        "it says who may lock what in a lockspace that it does not have",
                    ))?;
                    lockspace.access.clone_from(access);
                }
                for (name, fairness) in &state.fairness {
                    let lockspace = state.lockspaces.get_mut(name);
                    let lockspace = lockspace.ok_or(StateError::Impossible(
                        "it says how a lockspace shares out its resources that it does not have",
                    ))?;
                    lockspace.fairness = *fairness;
                }
                for (name, compat) in &state.compat {
                    let lockspace = state.lockspaces.get_mut(name);
                    let lockspace = lockspace.ok_or(StateError::Impossible(
                        "it says whose rules a lockspace follows that it does not have",
                    ))?;
                    lockspace.compat = *compat;
                }
                state.check().map_err(StateError::Impossible)?;
                Ok(state)
            }
            [found, ..] => Err(StateError::Version { found: *found }),
        }
    }
}

impl ClusterState {
    /// What the rest of the crate relies on: numbers that can be counted on from, lists in order.
    fn check(&self) -> Result<(), &'static str> {
        let nodes = &self.nodes;
        if nodes.len() > NODES_MAX {
            return Err("it has too many nodes");
        }
        if nodes.iter().any(|(id, node)| *id != node.spec.id) {
            return Err("it has a node under the number of another");
        }
        if nodes.values().any(|node| node.spec.votes > VOTES_MAX) {
            return Err("it has a node with too many votes");
        }
        if nodes
            .values()
            .any(|node| node.incarnation > INCARNATION_MAX)
        {
            return Err("it has a node with an incarnation out of range");
        }
        if self.lockspaces.len() > LOCKSPACES_MAX {
            return Err("it has too many lockspaces");
        }
        for (name, space) in &self.lockspaces {
            let len = usize::from(space.value_len);
            let counted = (1..=LOCKSPACES_MAX).contains(&(space.id.0 as usize));
            if *name != space.name || !counted || !space.compat.allows_value_len(len) {
                return Err(
                    "it has a lockspace whose name, number or value length is out of range",
                );
            }
        }
        if self
            .lockspaces
            .values()
            .any(|space| space.access.check().is_err() || !space.fairness.is_valid())
        {
            return Err("it has a lockspace with a mode, rules or fairness out of range");
        }
        let rests = |rest: Rest| self.view.is_pending(rest.node, rest.incarnation);
        if self.rest.is_some_and(|rest| !rests(rest)) {
            return Err("somebody rests that is not pending");
        }
        self.check_view(&self.view)?;
        self.surviving.check(&self.view)
    }

    fn check_view(&self, view: &View) -> Result<(), &'static str> {
        if view.epoch.0 > Token::EPOCH_MAX || view.members_since > view.epoch {
            return Err("its view is numbered out of range");
        }
        if !view.members.is_sorted_by(|a, b| a.node < b.node) {
            return Err("its members are not in order");
        }
        let pending = &view.pending;
        if !pending.is_sorted_by(|a, b| (a.node, a.incarnation) < (b.node, b.incarnation)) {
            return Err("its pending incarnations are not in order");
        }
        let known = |node: NodeId, incarnation: Incarnation| {
            let record = self.nodes.get(&node);
            record.is_some_and(|record| incarnation <= record.incarnation)
        };
        if !view.members.iter().all(|m| known(m.node, m.incarnation))
            || !pending.iter().all(|p| known(p.node, p.incarnation))
        {
            return Err("its view names an incarnation that no node has had");
        }
        Ok(())
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
