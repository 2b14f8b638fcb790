//! A session that goes on, on another connection.

use super::{Session, Told};
use crate::{Notice, connect::Continued};
use mainstay_base::Instant;
use mainstay_wire::client::Ask;
use std::{net::Shutdown, os::unix::net::UnixStream, sync::Arc};

impl Session {
    /// A connection cannot be used any more. If it is that of a session that is kept, this is to go on on
    /// another; otherwise it is over.
    pub(crate) fn broke(&self, socket: &Arc<UnixStream>, reason: &str) {
        let mut told = Told::default();
        let mut state = self.lock();
        let current = state.socket().is_some_and(|s| Arc::ptr_eq(s, socket));
        if state.lost.is_some() || !current {
            return;
        }
        if state.machine.keep.is_none() || self.forked() {
            self.end(&mut state, reason.to_owned(), &mut told);
        } else {
            state.broken = Some(mainstay_lease::now());
            state.blocked = false;
            state.machine.disconnected();
            told.wakers.extend(state.driver.take());
            let reason = reason.to_owned();
            told.notices.push(Notice::Disconnected { reason });
            // Fails if the daemon closed it first.
            let _ = socket.shutdown(Shutdown::Both);
            self.kick();
        }
        drop(state);
        self.turn.notify_all();
        self.tell(told);
    }

    /// How to ask for the session on another connection; and until when that makes sense.
    pub(crate) fn to_continue(&self) -> Option<(Ask, Instant)> {
        let state = self.lock();
        let keep = state.machine.keep.as_ref()?;
        let broken = state.broken.filter(|_| state.lost.is_none())?;
        let ask = Ask::Reattach {
            session: self.welcome.session,
            key: keep.key,
            heard: keep.heard,
        };
        Some((ask, broken + keep.grace))
    }

    /// There is another connection.
    pub(crate) fn continue_on(&self, new: Continued) {
        let mut told = Told::default();
        let mut state = self.lock();
        state.socket = Arc::new(new.socket);
        state.broken = None;
        if state.lost.is_some() {
            // The user closed it meanwhile, and nothing is to be kept.
            state.machine.say_goodbye();
            let output = std::mem::take(state.machine.output());
            // What cannot be sent at once ends with the grace.
            let _ = std::io::Write::write_all(&mut &*state.socket, &output);
            let _ = state.socket.shutdown(Shutdown::Both);
            return;
        }
        self.turn_page(new.page);
        state.machine.continued(new.asked, new.told, new.asked_at);
        told.notices.push(Notice::Continued);
        self.take_in(&mut state, &new.rest, &mut told);
        drop(state);
        self.turn.notify_all();
        self.tell(told);
    }

    /// Says what was heard, if it is time for that; when to look again, if ever.
    pub(crate) fn keep_alive(&self) -> Option<Instant> {
        let mut state = self.lock();
        state.machine.keep.as_ref()?;
        if state.lost.is_some() || state.broken.is_some() || self.forked() {
            return None;
        }
        let now = mainstay_lease::now();
        state.machine.say_heard(now);
        self.flush_locked(&mut state);
        let keep = state.machine.keep.as_ref()?;
        // Behind time it waits for an answer, which says it.
        Some(if keep.due() > now {
            keep.due()
        } else {
            now + keep.grace / 4
        })
    }

    /// Whether the session has no connection, and is to get another.
    pub(crate) fn is_broken(&self) -> bool {
        let state = self.lock();
        state.broken.is_some() && state.lost.is_none()
    }

    /// The present connection, if there is one.
    pub(crate) fn socket(&self) -> Option<Arc<UnixStream>> {
        self.lock().socket().cloned()
    }
}
