//! Calls that go astray: sent to a node that does not master the resource, which sends requests back.

use crate::{
    Dlm, Life,
    names::Place,
    table::{Pending, State},
};
use mainstay_base::{Instant, LockId, NodeId};
use mainstay_wire::{
    dlm::{Body, ResourceId},
    lock::Refusal,
};
use thin_vec::ThinVec;

impl Dlm {
    /// Sends calls that reached the wrong node back to their owners.
    pub(crate) fn bounce(&mut self, resource: &ResourceId, held: ThinVec<(Life, Body)>) {
        for (from, body) in held {
            if let Body::Request { lock, .. }
            | Body::RangeCall { lock, .. }
            | Body::TakeCeded { lock, .. } = body
                && self.is_member(from)
                && !self.is_me(from)
            {
                self.send(
                    from.0,
                    Body::NotMaster {
                        resource: resource.clone(),
                        lock,
                    },
                );
            }
        }
    }

    /// A call came that nobody can mean for this node as it is.
    pub(crate) fn not_here(&mut self, from: Life, resource: &ResourceId, body: &Body) {
        match body {
            Body::Request { lock, .. }
            | Body::RangeCall { lock, .. }
            | Body::TakeCeded { lock, .. } => {
                self.send(
                    from.0,
                    Body::NotMaster {
                        resource: resource.clone(),
                        lock: *lock,
                    },
                );
            }
            // They follow a request that was sent back.
            Body::Drop { .. } | Body::Cancel { .. } | Body::RangeWeaken { .. } => {}
            _ => self.violation(
                from.0,
                &format!(
                    "a call on a granted lock of {} came to a node that does not master it",
                    resource.name
                ),
            ),
        }
    }

    /// A call came back: the node that it was sent to does not master the resource.
    pub(crate) fn on_not_master(
        &mut self,
        now: Instant,
        from: NodeId,
        resource: &ResourceId,
        lock: LockId,
    ) {
        let Some(place) = self.resources.place(resource) else {
            return;
        };
        if let Some(owned) = self.locks.get_mut(&lock)
            && owned.place == place
            && owned.granted.is_none()
            && matches!(
                owned.pending,
                Pending::Request { .. } | Pending::Range(_) | Pending::Taking { .. }
            )
        {
            owned.sent = false;
            owned.ticket = None;
            self.deadlocks.wait_ends(lock);
            // What was to be cancelled is not asked for again: the cancel came back with it.
            if owned.cancel.is_some() {
                self.on_refused(now, lock, Refusal::Cancelled);
            }
            self.drop_taken(now);
        }
        let Some(place) = self.resources.place(resource) else {
            return;
        };
        let entry = self.resources.get_mut(place);
        if matches!(entry.state, State::At(master) if master == from) {
            entry.turned_away = true;
            self.look_elsewhere(now, place);
        } else {
            self.submit(now, lock);
        }
    }

    /// Looks for the master of a resource anew where the one that it was taken for has sent a call
    /// back, once it has no other: what it has, it may keep, and answer as the master that it is about
    /// to be, and until then it is the one to be told of what becomes of the call.
    pub(crate) fn look_elsewhere(&mut self, now: Instant, place: Place) {
        if !self.resources.peek(place).turned_away {
            return;
        }
        let entry = self.resources.get_mut(place);
        let (mut with_it, mut by_it) = (false, false);
        for owned in entry.locks.iter().filter_map(|lock| self.locks.get(lock)) {
            with_it |= owned.sent;
            by_it |= owned.shows_master() || owned.ticket.is_some();
        }
        if with_it && !by_it {
            return;
        }
        entry.turned_away = false;
        if by_it {
            self.submit_all(now, place);
        } else if matches!(entry.state, State::At(_)) {
            let resource = entry.id.clone();
            self.resources.set_state(place, State::LookingUp);
            self.look_up(now, &resource);
        }
    }
}
