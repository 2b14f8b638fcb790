//! Changes of the configuration, all of them made by the leader.

use crate::ChangeError;
use crate::config::PROMOTE_LAG;
use crate::config::VOTERS_MAX;
use crate::configuration::Configuration;
use crate::consensus::Consensus;
use crate::message::{steps_to_change, steps_to_context};
use crate::wire::Step;
use mainstay_base::DiskId;
use raft::StateRole;

impl Consensus {
    /// Replaces a voter whose disk is lost by the same node's new disk. The old one loses its vote
    /// and the new one becomes a learner in one change; once it has caught up, whoever leads then
    /// makes it a voter. [`status`](Self::status) shows how far it is. Asking again for a change
    /// that has been made or is being made does no harm.
    ///
    /// # Errors
    /// If this member is not the leader, `old` is the leader itself, the last voter or no member,
    /// `new` is not a possible number, or another change is going on.
    pub fn replace_voter(&mut self, old: DiskId, new: DiskId) -> Result<(), ChangeError> {
        let present = self.changeable()?;
        let (had, has) = (present.has(old.0), present.has(new.0));
        if !had {
            // Both halves happen at once, so the presence of the new one tells that they have.
            return if has {
                Ok(())
            } else {
                Err(ChangeError::NotAMember(old))
            };
        }
        if old == new {
            return Err(ChangeError::BadNumber(new));
        }
        self.may_go(&present, old)?;
        let mut steps = vec![Step::Remove(old.0)];
        if !has {
            self.may_come(&present, new)?;
            steps.push(Step::Learner(new.0));
        }
        self.propose_change(&steps)
    }

    /// Adds a member, first as a learner and once it has caught up as a voter. Asking again does no
    /// harm.
    ///
    /// # Errors
    /// If this member is not the leader, `new` is not a possible number, the group is full, or
    /// another change is going on.
    pub fn add_voter(&mut self, new: DiskId) -> Result<(), ChangeError> {
        let present = self.changeable()?;
        if present.has(new.0) {
            return Ok(());
        }
        self.may_come(&present, new)?;
        if present.len() >= VOTERS_MAX {
            return Err(ChangeError::TooMany { max: VOTERS_MAX });
        }
        self.propose_change(&[Step::Learner(new.0)])
    }

    /// Removes a member for good. Asking again does no harm.
    ///
    /// # Errors
    /// If this member is not the leader, `old` is the leader itself or the last voter, or another
    /// change is going on.
    pub fn remove_voter(&mut self, old: DiskId) -> Result<(), ChangeError> {
        let present = self.changeable()?;
        if !present.has(old.0) {
            return Ok(());
        }
        self.may_go(&present, old)?;
        self.propose_change(&[Step::Remove(old.0)])
    }

    /// Hands leadership to a voter, before the leader leaves cleanly. It may fail silently: then
    /// this member still leads after an election timeout.
    ///
    /// # Errors
    /// If this member is not the leader, or `to` has no vote.
    pub fn transfer_leader(&mut self, to: DiskId) -> Result<(), ChangeError> {
        if !self.is_leader() {
            return Err(ChangeError::NotLeader {
                leader: self.leader(),
            });
        }
        if !self.present().voters.contains(&to.0) {
            return Err(ChangeError::NotAVoter(to));
        }
        self.node.transfer_leader(to.0);
        Ok(())
    }

    pub(crate) fn present(&self) -> Configuration {
        Configuration::from_library(&self.node.raft.prs().conf().to_conf_state())
    }

    fn changeable(&self) -> Result<Configuration, ChangeError> {
        if !self.is_leader() {
            return Err(ChangeError::NotLeader {
                leader: self.leader(),
            });
        }
        let present = self.present();
        if present.is_joint() || self.node.raft.has_pending_conf() {
            return Err(ChangeError::InProgress);
        }
        Ok(present)
    }

    fn may_go(&self, present: &Configuration, old: DiskId) -> Result<(), ChangeError> {
        if old == self.config.me {
            return Err(ChangeError::Leader(old));
        }
        if present.voters == [old.0] {
            return Err(ChangeError::LastVoter(old));
        }
        Ok(())
    }

    fn may_come(&self, present: &Configuration, new: DiskId) -> Result<(), ChangeError> {
        if new.0 == 0 || present.has(new.0) {
            return Err(ChangeError::BadNumber(new));
        }
        Ok(())
    }

    /// The library turns a change that it does not like into an empty entry, so all its conditions
    /// have been checked before.
    fn propose_change(&mut self, steps: &[Step]) -> Result<(), ChangeError> {
        self.node
            .propose_conf_change(steps_to_context(steps), steps_to_change(steps))
            .map_err(|_| ChangeError::Busy)
    }

    /// Carries changes through that this leader, or one before it, has begun.
    pub(crate) fn drive_change(&mut self) {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader
            || raft.has_pending_conf()
            || raft.lead_transferee.is_some()
            || !raft.commit_to_current_term()
        {
            return;
        }
        let present = self.present();
        let step = if present.is_joint() {
            // The library does it itself, unless leadership changed at the wrong moment.
            Some(Vec::new())
        } else {
            let last = raft.raft_log.last_index();
            let caught_up = |id: &&u64| {
                raft.prs().get(**id).is_some_and(|progress| {
                    progress.recent_active
                        && progress.matched > 0
                        && progress.matched + PROMOTE_LAG >= last
                })
            };
            let learner = present.learners.iter().find(caught_up);
            learner.map(|&id| vec![Step::Voter(id)])
        };
        if let Some(steps) = step {
            // If there is no room for it now, there will be when outputs are taken next.
            let _ = self.propose_change(&steps);
        }
    }
}
