//! The part of the log that speaks of surviving locks, and the ends of nodes.

use super::World;
use mainstay_base::{BootId, Incarnation, LockId, NodeId};
use mainstay_fencing::{FencedRecord, Ledger, Proof, Vanished};
use mainstay_membership::{Survivor, SurvivorDone, SurvivorKey, SurvivorStep};

impl World {
    /// The log decides about the next step, and all nodes hear of it; whether there was one.
    pub(crate) fn decide_next(&mut self) -> bool {
        let Some((node, step)) = self.steps.pop_front() else {
            return false;
        };
        let done = self.decide(node, &step);
        let nodes: Vec<u16> = self.nodes.keys().copied().collect();
        let (late, others) = nodes.into_iter().partition(|n| Some(*n) == self.behind);
        let (late, others): (Vec<u16>, Vec<u16>) = (late, others);
        self.apply_step(&others, node, &step, &done);
        if !late.is_empty() {
            let waits = std::mem::replace(&mut self.log_waits, true);
            self.settle();
            self.log_waits = waits;
            self.apply_step(&late, node, &step, &done);
        }
        true
    }

    fn apply_step(&mut self, nodes: &[u16], by: u16, step: &SurvivorStep, done: &SurvivorDone) {
        for node in nodes {
            let mine = Some(step).filter(|_| *node == by);
            let dlm = self.nodes.get_mut(node).unwrap();
            dlm.survivor_decided(self.now, mine, done);
        }
    }

    fn decide(&mut self, node: u16, step: &SurvivorStep) -> SurvivorDone {
        let own = |lock: LockId| SurvivorKey {
            node: NodeId(node),
            incarnation: Incarnation(1),
            lock,
        };
        let gone = |world: &World, key: &SurvivorKey| !world.nodes.contains_key(&key.node.0);
        let done = match step.clone() {
            SurvivorStep::Keep { .. } if self.log_full => return SurvivorDone::NoRoom,
            SurvivorStep::Keep {
                lock,
                space,
                name,
                mode,
                token,
                owner,
            } => {
                let number = self.changes + 1;
                let key = own(lock);
                let kept = Survivor {
                    number,
                    key,
                    space,
                    name,
                    mode,
                    token,
                    owner,
                };
                self.survivors.insert(key, kept.clone());
                SurvivorDone::Kept(kept)
            }
            SurvivorStep::Release { key } if key == own(key.lock) || gone(self, &key) => {
                match self.survivors.remove(&key) {
                    Some(released) => SurvivorDone::Released(released),
                    None => return SurvivorDone::NotThere,
                }
            }
            SurvivorStep::Adopt { key, lock, owner } if gone(self, &key) => {
                let Some(known) = self.survivors.remove(&key) else {
                    return SurvivorDone::NotThere;
                };
                let now = Survivor {
                    key: own(lock),
                    owner,
                    ..known
                };
                self.survivors.insert(now.key, now.clone());
                SurvivorDone::Adopted {
                    from: key,
                    left_by: known.owner,
                    now,
                }
            }
            SurvivorStep::Cede { lock, to } if self.nodes.contains_key(&to.node.0) => {
                let from = own(lock);
                let Some(known) = self.survivors.remove(&from) else {
                    return SurvivorDone::NotThere;
                };
                let now = Survivor { key: to, ..known };
                self.survivors.insert(to, now.clone());
                SurvivorDone::Ceded { from, now }
            }
            SurvivorStep::Own { lock, owner } => match self.survivors.get_mut(&own(lock)) {
                Some(known) => {
                    known.owner = owner;
                    SurvivorDone::Owned(known.clone())
                }
                None => return SurvivorDone::NotThere,
            },
            _ => return SurvivorDone::NotThere,
        };
        self.changes += 1;
        done
    }

    /// A node dies, and its end is proved at once.
    pub(crate) fn die(&mut self, node: u16) {
        self.depart(node, Proof::LeaseExpired);
    }

    /// A node is gone, with that proof.
    pub(crate) fn depart(&mut self, node: u16, proof: Proof) {
        self.nodes.remove(&node);
        self.mail
            .retain(|(from, to, _)| *from != node && *to != node);
        self.steps.retain(|(by, _)| *by != node);
        let members: Vec<u16> = self.nodes.keys().copied().collect();
        self.epoch = self.epoch.next();
        let view = self.view_of(&members);
        for dlm in self.nodes.values_mut() {
            dlm.work_off(self.now);
        }
        self.settle();
        for dlm in self.nodes.values_mut() {
            dlm.install(self.now, view.clone());
            let mut ledger = Ledger::new();
            let (id, incarnation) = (NodeId(node), Incarnation(1));
            ledger.enter(Vanished {
                node: id,
                incarnation,
                boot: BootId(u64::from(node) + 100),
                left_epoch: self.epoch,
            });
            let record = FencedRecord {
                node: id,
                incarnation,
                proof: proof.clone(),
                epoch: self.epoch,
                index: 1,
            };
            let fenced = ledger.confirm(record).expect("it has vanished");
            dlm.recover(self.now, fenced);
            dlm.view_settled(self.now);
        }
        self.settle();
        for dlm in self.nodes.values_mut() {
            dlm.work_off(self.now);
        }
        self.settle();
    }
}
