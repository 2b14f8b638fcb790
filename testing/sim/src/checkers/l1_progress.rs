//! L1: with a quorum of connected nodes, every request is granted, refused or timed out once
//! holders let go.
//!
//! Judged after the faults stopped: every node is a member of one view and acts within a bound;
//! then every call is answered within a bound.

use super::{
    Checker, Fact,
    books::{Books, ClientNo, LifeNo},
};
use mainstay_base::{Epoch, Incarnation, NodeId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, Default)]
struct State {
    epoch: Epoch,
    members: usize,
    active: bool,
}

/// Watches L1.
#[derive(Debug)]
pub struct Progress {
    nodes: usize,
    lives: BTreeMap<LifeNo, State>,
    /// Vanished incarnations without proof.
    unproved: BTreeSet<(NodeId, Incarnation)>,
    proved: BTreeSet<(NodeId, Incarnation)>,
    pending: BTreeMap<(ClientNo, u64), (u64, String)>,
    healed_by: Option<u64>,
    drained_by: Option<u64>,
}

impl Progress {
    /// For clusters of so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Progress {
        Progress {
            nodes,
            lives: BTreeMap::new(),
            unproved: BTreeSet::new(),
            proved: BTreeSet::new(),
            pending: BTreeMap::new(),
            healed_by: None,
            drained_by: None,
        }
    }

    /// Whether every node is a member of one view and acts, and nothing waits for a proof.
    #[must_use]
    pub fn whole(&self) -> bool {
        let mut states = self.lives.values();
        let Some(first) = states.next() else {
            return false;
        };
        self.lives.len() == self.nodes
            && self.unproved.is_empty()
            && self.lives.values().all(|state| {
                state.active && state.members == self.nodes && state.epoch == first.epoch
            })
    }
}

impl Checker for Progress {
    fn promise(&self) -> &'static str {
        "L1 progress"
    }

    fn observe(&mut self, now: u64, fact: &Fact<'_>, _: &Books) -> Result<(), String> {
        match *fact {
            Fact::Booted { life, .. } => {
                self.lives.insert(life, State::default());
            }
            Fact::LifeEnded { life } => {
                self.lives.remove(&life);
            }
            Fact::View {
                life,
                epoch,
                members,
                ..
            } => {
                if let Some(state) = self.lives.get_mut(&life) {
                    state.epoch = epoch;
                    state.members = members.len();
                }
            }
            Fact::Left {
                node, incarnation, ..
            } => {
                if !self.proved.contains(&(node, incarnation)) {
                    self.unproved.insert((node, incarnation));
                }
            }
            Fact::Proved {
                node, incarnation, ..
            }
            | Fact::Resumed { node, incarnation } => {
                self.proved.insert((node, incarnation));
                self.unproved.remove(&(node, incarnation));
            }
            Fact::Acting { life, active } => {
                if let Some(state) = self.lives.get_mut(&life) {
                    state.active = active;
                }
            }
            Fact::Asked {
                client,
                request,
                what,
            } => {
                self.pending
                    .insert((client, request), (now, what.to_owned()));
            }
            Fact::Answered { client, request } => {
                self.pending.remove(&(client, request));
            }
            Fact::SessionOver { client } => {
                self.pending.retain(|(c, _), _| *c != client);
            }
            Fact::Healed { by } => self.healed_by = Some(by),
            Fact::Draining { by } => {
                self.healed_by = None;
                self.drained_by = Some(by);
            }
            Fact::Tick => {
                if self.healed_by.is_some_and(|by| now > by) && !self.whole() {
                    return Err(format!(
                        "long after the last fault the nodes are not all active members of one view, or a vanished one is not proved harmless: {:?}, unproved {:?}",
                        self.lives, self.unproved
                    ));
                }
                if self.drained_by.is_some_and(|by| now > by)
                    && let Some(((client, request), (since, what))) = self.pending.iter().next()
                {
                    return Err(format!(
                        "client {client} still waits for its call {request} ({what}), made at {:.3} s; {} calls wait in all",
                        *since as f64 / 1e9,
                        self.pending.len()
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::two_nodes;

    fn seen(checker: &mut Progress, now: u64, facts: &[Fact<'_>]) -> bool {
        let books = two_nodes();
        facts
            .iter()
            .all(|fact| checker.observe(now, fact, &books).is_ok())
    }

    /// Protects the net: a call that is never answered is seen, once progress is owed.
    #[test]
    fn a_stuck_call_is_seen() {
        let asked = Fact::Asked {
            client: 1,
            request: 2,
            what: "lock",
        };
        let mut checker = Progress::new(2);
        assert!(seen(&mut checker, 1, &[asked, Fact::Tick]));
        assert!(seen(
            &mut checker,
            2,
            &[Fact::Draining { by: 10 }, Fact::Tick]
        ));
        assert!(!seen(&mut checker, 11, &[Fact::Tick]));
        let answered = Fact::Answered {
            client: 1,
            request: 2,
        };
        assert!(seen(&mut checker, 12, &[answered, Fact::Tick]));
    }

    /// Protects the net: a node that stays outside after the heal is seen.
    #[test]
    fn a_node_left_outside_is_seen() {
        let members = [(NodeId(1), Incarnation(1)), (NodeId(2), Incarnation(1))];
        let view = |life, members| Fact::View {
            life,
            epoch: Epoch(3),
            members,
            quorate: true,
        };
        let booted = |life| Fact::Booted {
            life,
            damaged: false,
        };
        let acting = |life| Fact::Acting { life, active: true };
        let mut checker = Progress::new(2);
        assert!(seen(
            &mut checker,
            1,
            &[booted(0), booted(1), view(0, &members), acting(0)]
        ));
        assert!(seen(&mut checker, 1, &[Fact::Healed { by: 5 }, Fact::Tick]));
        assert!(!seen(&mut checker, 6, &[Fact::Tick]));
        assert!(seen(
            &mut checker,
            7,
            &[view(1, &members), acting(1), Fact::Tick]
        ));
    }
}
