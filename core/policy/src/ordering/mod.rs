//! The stage that puts actions in order, and finds out what must be done or cannot be done because of
//! others.

mod apply;
mod block;
mod flags;
mod interleave;
mod loops;
mod probes;
mod update;

pub(crate) use flags::refresh;

use crate::model::{Ax, World};
use std::collections::VecDeque;

/// Actions whose neighbours changed, and which must be looked at again.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    list: VecDeque<Ax>,
    waiting: Vec<bool>,
}

impl Queue {
    fn push(&mut self, at: Ax) {
        if self.waiting.len() <= at {
            self.waiting.resize(at + 1, false);
        }
        if !std::mem::replace(&mut self.waiting[at], true) {
            self.list.push_back(at);
        }
    }

    /// All actions that come after one.
    fn push_after(&mut self, world: &World<'_>, at: Ax) {
        for link in world.actions[at].after.iter().rev() {
            self.push(link.action);
        }
    }

    fn pop(&mut self) -> Option<Ax> {
        let at = self.list.pop_front()?;
        self.waiting[at] = false;
        Some(at)
    }
}

/// Applies all orderings until nothing changes any more.
pub(crate) fn apply(world: &mut World<'_>) {
    apply::all(world);
    let mut queue = Queue::default();
    for at in (0..world.actions.len()).rev() {
        block::dependents(world, at, &mut queue);
    }
    probes::order(world);
    for at in (0..world.actions.len()).rev() {
        queue.push(at);
    }
    while let Some(at) = queue.pop() {
        update::one(world, at, &mut queue);
    }
    loops::disable_invalid(world);
}
