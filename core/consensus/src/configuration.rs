//! Who votes and who learns.

use crate::config::VOTERS_MAX;
use mainstay_base::DiskId;
use raft::eraftpb::ConfState;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A configuration of the group. All lists are in order and without duplicates.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Configuration {
    pub(crate) voters: Vec<u64>,
    pub(crate) learners: Vec<u64>,
    /// The voters of the older configuration, while two overlap.
    pub(crate) outgoing: Vec<u64>,
    /// Outgoing voters that stay on as learners.
    pub(crate) learners_next: Vec<u64>,
    /// The leader is to end the overlap by itself.
    pub(crate) auto_leave: bool,
}

fn sorted(ids: &[u64]) -> Vec<u64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

impl Configuration {
    pub(crate) fn of_voters(voters: impl IntoIterator<Item = u64>) -> Configuration {
        Configuration {
            voters: voters
                .into_iter()
                .collect::<BTreeSet<u64>>()
                .into_iter()
                .collect(),
            ..Configuration::default()
        }
    }

    /// Lists come out of the library in hash order.
    pub(crate) fn from_library(state: &ConfState) -> Configuration {
        Configuration {
            voters: sorted(state.get_voters()),
            learners: sorted(state.get_learners()),
            outgoing: sorted(state.get_voters_outgoing()),
            learners_next: sorted(state.get_learners_next()),
            auto_leave: state.get_auto_leave(),
        }
    }

    pub(crate) fn to_library(&self) -> ConfState {
        let mut state = ConfState::default();
        state.set_voters(self.voters.clone());
        state.set_learners(self.learners.clone());
        state.set_voters_outgoing(self.outgoing.clone());
        state.set_learners_next(self.learners_next.clone());
        state.set_auto_leave(self.auto_leave);
        state
    }

    pub(crate) fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the log is replicated to this member.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id) || self.outgoing.contains(&id)
    }

    /// How many members there will be once no configurations overlap.
    pub(crate) fn len(&self) -> usize {
        self.voters.len() + self.learners.len() + self.learners_next.len()
    }

    /// The library panics on configurations that it could not have made itself.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        for list in [
            &self.voters,
            &self.learners,
            &self.outgoing,
            &self.learners_next,
        ] {
            if list.len() > VOTERS_MAX {
                return Err("a configuration with too many members");
            }
            if list.contains(&0) {
                return Err("a configuration with a member number of zero");
            }
            if !list.is_sorted_by(|a, b| a < b) {
                return Err("a configuration whose members are not in order");
            }
        }
        if self.voters.is_empty() {
            return Err("a configuration without voters");
        }
        let votes = |id: &u64| self.voters.contains(id) || self.outgoing.contains(id);
        if self.learners.iter().any(votes) {
            return Err("a configuration with a voter that is a learner as well");
        }
        let staged = |id: &u64| self.outgoing.contains(id) && !self.voters.contains(id);
        if !self.learners_next.iter().all(staged) {
            return Err("a configuration that demotes a member without a vote");
        }
        if self.auto_leave && !self.is_joint() {
            return Err("a configuration that ends an overlap without one");
        }
        Ok(())
    }

    pub(crate) fn shown_voters(&self) -> Vec<DiskId> {
        self.voters.iter().map(|&id| DiskId(id)).collect()
    }

    pub(crate) fn shown_learners(&self) -> Vec<DiskId> {
        sorted(&[&self.learners[..], &self.learners_next[..]].concat())
            .into_iter()
            .map(DiskId)
            .collect()
    }
}
