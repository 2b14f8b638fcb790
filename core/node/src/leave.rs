//! Leaving the cluster cleanly.
//!
//! 1. Clients are told that their locks end with the present lease, which is renewed no more.
//! 2. When they have gone, or the lease has run out, their locks are dropped.
//! 3. What this node masters is frozen, and its value blocks are handed to the heirs.
//! 4. Once that is delivered, the log is asked to let this node go.
//! 5. With the view without it, it stops.

use crate::{Effect, Node, peers::Peer};
use core::time::Duration;
use mainstay_base::{Instant, SessionId};
use mainstay_wire::{
    client::{Answer, ToClient},
    event::{Reason, What},
};

/// How long handing over, and then leaving, may take before the node stops without.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often progress is looked at.
const POLL: Duration = Duration::from_millis(20);

/// How far a leaving node is.
#[derive(Debug)]
pub(crate) struct Leaving {
    step: Step,
    give_up_at: Instant,
    pub(crate) next_at: Instant,
    asker: Option<(SessionId, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Clients,
    HandingOver,
    Departing,
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
        });
    }

    pub(crate) fn pursue_leaving(&mut self, now: Instant) {
        let Some(leaving) = &mut self.leaving else {
            return;
        };
        leaving.next_at = now + POLL;
        let (step, give_up) = (leaving.step, now >= leaving.give_up_at);
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
                self.dismiss_clients(now, asker.map(|a| a.0));
                self.dlm.begin_leave(now);
                self.set_step(Step::HandingOver);
            }
            Step::HandingOver => {
                let view = self.state.view();
                let mut peers = self
                    .peers
                    .iter()
                    .filter(|(node, _)| view.member(**node).is_some());
                let may_go = self.dlm.may_go() && self.survivors.are_settled();
                let told = peers.all(|(_, peer)| Peer::delivered(peer)) && may_go;
                if !told && !give_up {
                    return;
                }
                if !may_go {
                    // Its leaving would say that there is nothing else to be known.
                    let text = "asked to stop; masters that move, or what the log has yet to say of surviving locks, \
                                kept it too long; the others will \
                                wait for its lease";
                    return self.stop(Reason::Stopping, false, text.to_owned());
                }
                self.set_step(Step::Departing);
                let mut out = Vec::new();
                self.membership.set_leaving(now, &mut out);
                self.on_membership(now, out);
            }
            Step::Departing if give_up => {
                let text = "asked to stop; the others did not confirm its leaving in time, they \
                            will wait for its lease";
                self.stop(Reason::Stopping, false, text.to_owned());
            }
            Step::Departing => {}
        }
    }

    fn set_step(&mut self, step: Step) {
        if let Some(leaving) = &mut self.leaving {
            leaving.step = step;
        }
    }

    fn dismiss_clients(&mut self, now: Instant, but: Option<SessionId>) {
        self.show_lease(Instant::ZERO);
        self.dlm.end_orphans(now);
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for session in sessions {
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
        self.say_left(asker, "asked to stop; left the cluster".to_owned());
    }

    fn say_left(&mut self, asker: Option<(SessionId, u64)>, detail: String) {
        if let Some((session, request)) = asker {
            self.answer(session, request, Answer::Left);
        }
        self.stop(Reason::LeftCleanly, true, detail);
    }
}
