//! Sessions that go on when their daemon is started anew: what one life leaves, and how the next one takes
//! it up (`docs/protocol/restart.md`).

use crate::{Caller, Effect, Node, Session, query::millis};
use core::time::Duration;
use mainstay_base::{Epoch, Incarnation, Instant, NodeId, SessionId};
use mainstay_fencing::Proof;
use mainstay_membership::Command;
use mainstay_wire::{
    carry::{CARRIED_LEN_MAX, Carried},
    client::{Ask, ToClient},
    event::{Reason, SessionFate, What},
    lock::Refusal,
};

/// The shortest time that a node can be asked to rest, in milliseconds.
const REST_MS_MIN: u32 = 1000;

impl Node {
    /// Whether this node may rest when a client asks for it.
    pub(crate) fn may_rest(&self, session: SessionId, for_ms: u32) -> Result<(), Refusal> {
        self.privileged(session)?;
        let invalid = |text: String| Err(Refusal::Invalid(text));
        let unavailable = |text: &str| Err(Refusal::Unavailable(text.to_owned()));
        let max = millis(self.config.max_rest);
        let view = self.state.view();
        if max == 0 {
            return invalid(
                "this node keeps no sessions while it is started anew (`restart-grace-s` in `[sessions]` is 0)"
                    .to_owned(),
            );
        }
        if !(u64::from(REST_MS_MIN)..=max).contains(&for_ms.into()) {
            return invalid(format!(
                "sessions can be kept for {REST_MS_MIN} to {max} ms while a node is started anew, not for \
                 {for_ms} (`restart-grace-s` in `[sessions]`)"
            ));
        }
        if self.is_kept(session) {
            return invalid(
                "a session that is kept would have to wait for the next daemon".to_owned(),
            );
        }
        if self.leaving.is_some() {
            return Err(Refusal::Leaving);
        }
        if !self.active {
            return unavailable("this node has no lease, so it cannot hand its locks over");
        }
        if view.members.len() < 2 {
            return unavailable(
                "this node is the only member: nobody would keep its locks meanwhile",
            );
        }
        match self.state.rest() {
            Some(rest) => {
                let text = format!(
                    "{} is being started anew, try again when it is back",
                    self.name(rest.node)
                );
                Err(Refusal::Unavailable(text))
            }
            None if !view.pending.is_empty() => {
                unavailable("a node has vanished and is not proved harmless yet; try again then")
            }
            None => Ok(()),
        }
    }

    /// All have heard what this node had to say: leaves the rest to the next life.
    pub(crate) fn carry(&mut self, now: Instant, members_since: Epoch) {
        let Some(me) = self.state.view().member(self.config.me) else {
            return;
        };
        let incarnation = me.incarnation;
        let (since, members) = self.dlm.other_members();
        let sessions = self.carry_kept();
        let left: usize = sessions.iter().map(|session| session.locks.len()).sum();
        if since != members_since || left != self.dlm.lock_count() {
            return; // What the next life would not know nobody could ever release.
        }
        let carried = Carried {
            node: self.config.me,
            incarnation,
            at_ns: now.0,
            members_since,
            members,
            next_lock: self.dlm.next_lock(),
            sessions,
        };
        let bytes = carried.encode();
        self.set_carrying(members_since);
        if bytes.len() > CARRIED_LEN_MAX {
            let len = bytes.len();
            let why = format!(
                "what is to be written of them takes {len} bytes, more than {CARRIED_LEN_MAX}"
            );
            return self.on_carried(now, Err(why));
        }
        self.out.push(Effect::Carry { bytes: Some(bytes) });
    }

    /// Takes up what the driver has found of the life before.
    pub(crate) fn read_carried(&mut self, now: Instant, bytes: &[u8]) {
        let why = match Carried::decode(bytes) {
            Ok(carried) if carried.node != self.config.me => {
                format!("it is node {}'s", carried.node)
            }
            Ok(carried) if carried.at() > now => {
                "it is of an earlier start of this host".to_owned()
            }
            Ok(carried) => {
                self.dlm.number_locks_from(carried.next_lock);
                self.carried = Some(carried);
                return;
            }
            Err(error) => error.to_string(),
        };
        let detail = format!("what the daemon before has left of its sessions is not used: {why}");
        self.event(What::Suspended, Reason::RestOver, detail);
    }

    /// Whether a session may go on with this node, but not yet: it was left by the life before, or this life
    /// leaves it to the next.
    #[must_use]
    pub fn expects(&self, session: SessionId) -> bool {
        let mut carried = self.carried.iter().flat_map(|carried| &carried.sessions);
        carried.any(|known| known.session == session) || self.rests() && self.is_kept(session)
    }

    /// Above the numbers of sessions that the life before has left.
    #[must_use]
    pub fn next_session(&self) -> u64 {
        self.carried.as_ref().map_or(1, Carried::next_session)
    }

    /// The log has changed: if the life before rests, this one goes on, or ends that.
    pub(crate) fn pursue_rest(&mut self, now: Instant) {
        let view = self.state.view();
        let node = self.config.me;
        let Some(me) = view.member(node).filter(|m| m.boot == self.boot) else {
            return;
        };
        let to = me.incarnation;
        let Some(rest) = self.state.rest().filter(|rest| rest.node == node) else {
            self.take_wishes(
                |command| matches!(command, Command::Resume { node: n, .. } if *n == node),
            );
            return self.drop_carried("the others do not keep its locks any more");
        };
        let from = rest.incarnation;
        let fits = |carried: &Carried| carried.incarnation == from;
        let fits = self.carried.as_ref().is_some_and(fits);
        if !fits {
            self.drop_carried("it is of another life");
        }
        let resume = Command::Resume { node, from, to };
        let command = if fits && self.leaving.is_none() {
            resume
        } else {
            // What the log has already may make its locks this life's all the same.
            self.take_wishes(|command| *command == resume);
            Command::Fenced {
                node,
                incarnation: from,
                proof: Proof::RestOver,
            }
        };
        if !self.wishes.iter().any(|wish| wish.command == command) {
            self.wish(now, command, None);
            self.pursue_wishes(now);
        }
    }

    /// What the life before has left is of no use.
    fn drop_carried(&mut self, why: &str) {
        let Some(carried) = self.carried.take() else {
            return;
        };
        for session in carried.sessions {
            let what = What::Session {
                session: session.session,
                pid: session.owner.pid,
                fate: SessionFate::Ended,
            };
            self.event(what, Reason::RestOver, why.to_owned());
        }
    }

    /// The locks of an incarnation are another's with the next view.
    pub(crate) fn resumed(&mut self, node: NodeId, from: Incarnation, to: Incarnation) {
        self.ledger.resumed(node, from);
        let what = What::Fenced {
            node,
            incarnation: from,
        };
        let detail = format!("what it held is incarnation {to}'s");
        self.event(what, Reason::Resumed, detail);
        self.dlm.resumes((node, from), (node, to));
        self.take_wishes(|command| {
            matches!(command, Command::Resume { node: n, from: f, .. } if (*n, *f) == (node, from))
        });
        for asker in self.fence_came(node, from) {
            let name = self.name(node);
            let text = format!("{name} runs again, and has gone on with its locks meanwhile");
            self.refuse(asker.session, asker.request, Refusal::Invalid(text));
        }
        let mine = self.carried.as_ref().is_some_and(|c| c.incarnation == from);
        let me = self.state.view().member(self.config.me);
        let here = me.is_some_and(|m| m.boot == self.boot && m.incarnation == to);
        self.resuming = node == self.config.me && here && mine;
    }

    /// The view with which this life goes on with the sessions of the one before is in force.
    pub(crate) fn take_over(&mut self, now: Instant) {
        if !core::mem::take(&mut self.resuming) {
            return;
        }
        let Some(carried) = self.carried.take() else {
            return;
        };
        for session in &carried.sessions {
            let (number, owner) = (session.session, session.owner.clone());
            let caller = Caller {
                uid: owner.uid,
                gid: session.group,
                privileged: session.privileged,
            };
            self.dlm.open_session(number);
            self.dlm.charge_session(number, caller);
            self.dlm.introduce(number, owner.clone());
            self.sessions.insert(number, Session { owner, caller });
            self.take_kept(now, session);
        }
        self.dlm.take_up(now, &carried);
        for session in carried.sessions {
            let number = session.session;
            if self.active {
                self.tell(number, ToClient::Resumed);
            }
            for (request, ask, until) in session.repeat {
                let ask = with_time_left(ask, until.map(Instant), now);
                self.note_asked(now, number, request, &ask);
                self.heed(now, number, request, ask);
            }
        }
        self.dismiss_late(now);
    }
}

/// A call that is made again gives up when it would have.
fn with_time_left(mut ask: Ask, until: Option<Instant>, now: Instant) -> Ask {
    let left = until.map(|until| until.since(now).max(Duration::from_millis(1)));
    let left_ms = left.map(|left| u32::try_from(left.as_millis()).unwrap_or(u32::MAX));
    if let Ask::Lock { timeout_ms, .. }
    | Ask::LockUnder { timeout_ms, .. }
    | Ask::Range { timeout_ms, .. }
    | Ask::Convert { timeout_ms, .. } = &mut ask
    {
        *timeout_ms = left_ms;
    }
    ask
}
