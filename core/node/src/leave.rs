//! Leaving the cluster cleanly.
//!
//! 1. Clients are told that their locks end with the present lease, which is renewed no more.
//! 2. When they have gone, or the lease has run out, their locks are dropped, however many, in slices:
//!    the others must not take this node for dead meanwhile. Orphans are dropped at once.
//! 3. What this node masters is frozen, and its value blocks are handed to the heirs.
//! 4. Once that is delivered, the log is asked to let this node go.
//! 5. With the view without it, it stops.

use crate::{Effect, Node, peers::Peer};
use core::time::Duration;
use mainstay_base::{Epoch, Instant, SessionId};
use mainstay_wire::{
    client::{Answer, ToClient},
    event::{Reason, What},
};

/// How long handing over, and then leaving, may take before the node stops without.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often progress is looked at.
const POLL: Duration = Duration::from_millis(20);
/// How long what kept sessions have under way may take to end, once the lease is over, before a node that
/// rests.
const SETTLING: Duration = Duration::from_secs(2);

/// How far a leaving node is.
#[derive(Debug)]
pub(crate) struct Leaving {
    step: Step,
    give_up_at: Instant,
    pub(crate) next_at: Instant,
    asker: Option<(SessionId, u64)>,
    /// It is to rest, for so many milliseconds at most: kept sessions stay.
    rest: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Clients,
    /// The clients are gone; their locks go.
    Releasing,
    HandingOver,
    /// What is left to the next life is being written; the members are those since that epoch.
    Carrying(Epoch),
    Departing,
    /// As departing, to rest.
    Resting(Epoch),
}

impl Node {
    pub(crate) fn begin_leave(&mut self, now: Instant, asker: Option<(SessionId, u64)>) {
        if self.leaving.is_some() {
            return;
        }
        self.event(
            What::Suspended,
            Reason::Stopping,
            "this node leaves the cluster".to_owned(),
        );
        if !self.state.view().has_boot(self.config.me, self.boot) {
            let detail = "asked to stop; it was not a member".to_owned();
            return self.say_left(asker, detail);
        }
        let reason = "this node is leaving the cluster; locks end with its lease".to_owned();
        self.tell_all(&ToClient::Suspended { reason });
        self.leaving = Some(Leaving {
            step: Step::Clients,
            give_up_at: self.lease.max(now) + PATIENCE,
            next_at: now,
            asker,
            rest: None,
        });
    }

    /// Stops so that the next life goes on with the kept sessions ([`Node::may_rest`]).
    pub(crate) fn begin_rest(&mut self, now: Instant, asker: (SessionId, u64), for_ms: u32) {
        self.begin_leave(now, Some(asker));
        if let Some(leaving) = &mut self.leaving {
            leaving.rest = Some(for_ms);
            self.cut_kept(now);
        }
    }

    /// Whether this life ends so that the next one goes on with the kept sessions.
    pub(crate) fn rests(&self) -> bool {
        self.leaving.as_ref().is_some_and(|l| l.rest.is_some())
    }

    /// Whether what it leaves to the next life is written, or about to be.
    pub(crate) fn has_carried(&self) -> bool {
        let step = self.leaving.as_ref().filter(|l| l.rest.is_some());
        step.is_some_and(|l| l.step != Step::Clients)
    }

    /// What is left to the next life is durable, or cannot be.
    pub(crate) fn on_carried(&mut self, now: Instant, result: Result<(), String>) {
        let Some(leaving) = &mut self.leaving else {
            return;
        };
        let (Step::Carrying(members), Some(for_ms)) = (leaving.step, leaving.rest) else {
            // It took too long.
            return self.out.push(Effect::Carry { bytes: None });
        };
        match result {
            Ok(()) if self.state.view().members_since == members => {
                leaving.give_up_at = now + PATIENCE;
                self.set_step(Step::Resting(members));
                let mut out = Vec::new();
                (self.membership).set_resting(now, members, for_ms, &mut out);
                self.on_membership(now, out);
            }
            Ok(()) => self.set_step(Step::HandingOver),
            Err(why) => self.leave_after_all(now, why),
        }
    }

    /// It cannot rest: it leaves as any node does, and nobody has been told anything else.
    fn leave_after_all(&mut self, now: Instant, why: String) {
        let Some(leaving) = &mut self.leaving else {
            return;
        };
        leaving.rest = None;
        leaving.give_up_at = now + PATIENCE;
        let asker = leaving.asker.map(|a| a.0);
        let detail = format!("kept sessions end: {why}");
        self.event(What::Suspended, Reason::Stopping, detail);
        self.out.push(Effect::Carry { bytes: None });
        self.dismiss_clients(now, asker, &[]);
        self.dlm.begin_leave(now);
        self.set_step(Step::HandingOver);
    }

    pub(crate) fn pursue_leaving(&mut self, now: Instant) {
        let Some(leaving) = &mut self.leaving else {
            return;
        };
        leaving.next_at = now + POLL;
        let (step, give_up) = (leaving.step, now >= leaving.give_up_at);
        let leaving_until = leaving.give_up_at;
        let asker = leaving.asker;
        match step {
            Step::Clients => {
                let mut others = self
                    .sessions
                    .keys()
                    .filter(|s| asker.is_none_or(|a| a.0 != **s));
                if now < self.lease && others.next().is_some() {
                    return;
                }
                let asker = asker.map(|a| a.0);
                if self.rests() {
                    let unsettled = self.unsettled();
                    let soon = now + PATIENCE < leaving_until + SETTLING;
                    if !unsettled.is_empty() && soon {
                        return;
                    }
                    let kept = self.kept.keys().copied();
                    let stay: Vec<SessionId> = kept.filter(|s| !unsettled.contains(s)).collect();
                    self.dismiss_clients(now, asker, &stay);
                    self.dlm.begin_rest(now);
                    self.set_step(Step::HandingOver);
                } else {
                    self.dismiss_clients(now, asker, &[]);
                    self.set_step(Step::Releasing);
                }
            }
            Step::Releasing if self.dlm.has_work() && !give_up => {}
            Step::Releasing => {
                leaving.give_up_at = leaving_until.max(now + PATIENCE);
                self.dlm.begin_leave(now);
                self.set_step(Step::HandingOver);
            }
            Step::HandingOver => {
                let view = self.state.view();
                let mut peers = self
                    .peers
                    .iter()
                    .filter(|(node, _)| view.member(**node).is_some());
                // The life before may still rest, and its locks may become this one's.
                let own_rest = self.state.rest().is_some_and(|r| r.node == self.config.me);
                let may_go = self.dlm.may_go() && self.survivors.are_settled() && !own_rest;
                let told = peers.all(|(_, peer)| Peer::delivered(peer)) && may_go;
                if self.rests() {
                    let calm = view.pending.is_empty()
                        && self.state.rest().is_none()
                        && self.dlm.has_restated();
                    return match told && calm {
                        true => self.carry(now, view.members_since),
                        false if give_up => self.leave_after_all(
                            now,
                            "others vanished, another node rests, or something could not be settled in time"
                                .to_owned(),
                        ),
                        false => {}
                    };
                }
                if !told && !give_up {
                    return;
                }
                if !may_go {
                    // Its leaving would say that there is nothing else to be known.
                    let text = "asked to stop; masters that move, or what the log has yet to say of surviving locks or of \
                                the life before, kept it too long; the others will \
                                wait for its lease";
                    return self.stop(Reason::Stopping, false, text.to_owned());
                }
                self.set_step(Step::Departing);
                let mut out = Vec::new();
                self.membership.set_leaving(now, &mut out);
                self.on_membership(now, out);
            }
            // Its locks are handed over to others than those who are there now.
            Step::Resting(members) if self.state.view().members_since != members => {
                self.set_step(Step::HandingOver);
            }
            Step::Resting(_) if give_up => {
                self.out.push(Effect::Carry { bytes: None });
                let text = "asked to stop; the others did not confirm in time that it rests, they \
                            will wait for its lease";
                self.stop(Reason::Stopping, false, text.to_owned());
            }
            Step::Carrying(_) if give_up => {
                let why = "what the next daemon needs could not be written in time".to_owned();
                self.leave_after_all(now, why);
            }
            Step::Carrying(_) | Step::Resting(_) => {}
            Step::Departing if give_up => {
                let text = "asked to stop; the others did not confirm its leaving in time, they \
                            will wait for its lease";
                self.stop(Reason::Stopping, false, text.to_owned());
            }
            Step::Departing => {}
        }
    }

    /// This life goes on with the sessions of the one before, and leaves: they end as the others.
    pub(crate) fn dismiss_late(&mut self, now: Instant) {
        let Some(leaving) = self.leaving.as_ref().filter(|l| l.step != Step::Clients) else {
            return;
        };
        let asker = leaving.asker.map(|a| a.0);
        self.dismiss_clients(now, asker, &[]);
        self.dlm.begin_leave(now);
        self.set_step(Step::HandingOver);
    }

    /// What is left to the next life is being written.
    pub(crate) fn set_carrying(&mut self, members: Epoch) {
        self.set_step(Step::Carrying(members));
    }

    fn set_step(&mut self, step: Step) {
        if let Some(leaving) = &mut self.leaving {
            leaving.step = step;
        }
    }

    /// `but`: it is told when the node has left. `stay`: they are told nothing.
    fn dismiss_clients(&mut self, now: Instant, but: Option<SessionId>, stay: &[SessionId]) {
        self.show_lease(Instant::ZERO);
        self.dlm.end_orphans(now);
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for session in sessions.into_iter().filter(|s| !stay.contains(s)) {
            self.dlm.close_session(now, session);
            if Some(session) == but {
                continue; // It is told when the node has left.
            }
            let reason = "the node has left the cluster".to_owned();
            self.tell(session, ToClient::SessionLost { reason });
            self.out.push(Effect::CloseSession { session });
            self.forget_kept(session);
            self.sessions.remove(&session);
        }
    }

    /// The view without this node is in force.
    pub(crate) fn left(&mut self, _now: Instant) {
        let asker = self.leaving.as_ref().and_then(|l| l.asker);
        let detail = match self.rests() {
            true => "asked to stop; its kept sessions go on when it is started again",
            false => "asked to stop; left the cluster",
        };
        self.say_left(asker, detail.to_owned());
    }

    fn say_left(&mut self, asker: Option<(SessionId, u64)>, detail: String) {
        if let Some((session, request)) = asker {
            self.answer(session, request, Answer::Left);
        }
        self.stop(Reason::LeftCleanly, true, detail);
    }
}
