//! What always holds, asserted.

use crate::{
    Flags, LockView, Resource,
    mode_tables::{ModeCounts, urgency},
};
use core::fmt::Debug;
use mainstay_base::{LockMode, Token};

impl<K: Copy + Ord + Debug> Resource<K> {
    /// The part that costs next to nothing: after every operation.
    pub(crate) fn check_cheaply(&self) {
        assert!(
            !self.held.conflict_within(),
            "conflicting locks are held on one resource: {:?}",
            self.granted().chain(self.converting()).collect::<Vec<_>>()
        );
        let Some(pending) = &self.pending else {
            return;
        };
        if let Some(first) = self.next_conversion() {
            panic!("the conversion whose turn it is waits for nobody: {first:?}");
        }
        if let Some((at, _)) = pending.next_request(self.held, self.rules().order, false) {
            let first = &pending.waiting[at];
            panic!("the request whose turn it is waits for nobody: {first:?}");
        }
    }

    /// Asserts everything that holds between operations, at a cost linear in the number of locks.
    ///
    /// # Panics
    /// If the engine has a bug, or locks were restated that cannot have been held at once.
    pub fn check(&self) {
        self.check_cheaply();
        self.check_counts();
        self.check_keys_and_tokens();
        self.check_queues();
        self.check_notices();
        if self.rebuild.is_some() {
            assert!(
                self.granted.is_empty() && self.pending.as_ref().is_none_or(|p| p.is_empty()),
                "a resource that is being rebuilt has live locks: {self:?}"
            );
        }
    }

    fn check_counts(&self) {
        let mut held = ModeCounts::default();
        let mut wanted = ModeCounts::default();
        for lock in self
            .granted()
            .chain(self.converting())
            .chain(self.waiting())
        {
            if let Some((mode, _)) = lock.granted {
                held.add(mode);
            }
            if let Some(mode) = lock.requested {
                wanted.add(mode);
            }
        }
        assert_eq!(held, self.held, "held modes are miscounted: {self:?}");
        if let Some(pending) = &self.pending {
            assert_eq!(wanted, pending.wanted, "wanted modes are miscounted");
            let noorder = |flags: Flags| flags.contains(Flags::NOORDER);
            assert_eq!(
                pending.converting_noorder as usize,
                self.converting().filter(|l| noorder(l.flags)).count()
            );
            let promised = |lock: &LockView<K>| lock.flags.promises_to_let_go();
            assert_eq!(
                pending.promises as usize,
                self.converting().filter(promised).count()
            );
            let patient = pending.converting.iter().filter(|c| c.patient);
            let mut wanted_by_others = patient.clone().map(|c| {
                let mut wanted = pending.wanted;
                wanted.remove(c.ask.mode);
                (c, wanted)
            });
            assert!(
                wanted_by_others.all(|(c, wanted)| !wanted.conflict(c.held.mode, None)),
                "one is patient although what it holds is in the way: {pending:?}"
            );
            assert_eq!(pending.patient as usize, patient.count());
            let mut readers = ModeCounts::default();
            for w in pending.waiting.iter().filter(|w| w.ask.reads()) {
                readers.add(w.ask.mode);
            }
            assert_eq!(readers, pending.readers, "readers are miscounted");
            assert_eq!(
                pending.waiting_noorder as usize,
                self.waiting().filter(|l| noorder(l.flags)).count()
            );
        }
    }

    fn check_keys_and_tokens(&self) {
        let locks = || {
            self.granted()
                .chain(self.converting())
                .chain(self.waiting())
        };
        let mut keys: Vec<K> = locks().map(|l| l.key).collect();
        keys.sort_unstable();
        assert!(
            keys.windows(2).all(|w| w[0] != w[1]),
            "a key occurs twice: {keys:?}"
        );
        assert!(
            self.granted.windows(2).all(|w| w[0].key < w[1].key),
            "the grant queue is not in the order of its keys: {:?}",
            self.granted
        );
        let mut tokens: Vec<Token> = locks()
            .filter_map(|l| l.granted)
            .filter(|(mode, _)| *mode != LockMode::Nl)
            .map(|(_, token)| token)
            .collect();
        tokens.sort_unstable();
        assert!(
            tokens.windows(2).all(|w| w[0] != w[1]),
            "a token occurs twice: {tokens:?}"
        );
        assert!(
            locks()
                .filter_map(|l| l.granted)
                .all(|(_, token)| token <= self.last_token),
            "a token is larger than the last one issued, {:?}",
            self.last_token
        );
    }

    fn check_queues(&self) {
        let Some(pending) = &self.pending else {
            return;
        };
        for queue in [
            self.converting().collect::<Vec<_>>(),
            self.waiting().collect(),
        ] {
            assert!(
                queue.windows(2).all(|w| w[0].ticket < w[1].ticket),
                "tickets do not follow the queue: {queue:?}"
            );
            assert!(
                queue
                    .last()
                    .is_none_or(|l| l.ticket < Some(pending.next_ticket)),
                "a ticket was not issued yet: {queue:?}"
            );
        }
        for lock in self.converting().chain(self.waiting()) {
            let (Some(ask), true) = (lock.ask(), lock.flags.contains(Flags::NOORDER)) else {
                continue;
            };
            let own = lock.granted.map(|g| g.0);
            assert!(
                ask.free_mode(self.held, own).is_none(),
                "a lock with NOORDER waits for nobody: {lock:?}"
            );
        }
    }

    fn check_notices(&self) {
        let Some(pending) = &self.pending else {
            return;
        };
        for held in self.granted.iter().filter(|h| h.wants_bast) {
            if let Some(mode) = pending.wanted.most_urgent_blocked_by(held.mode) {
                assert!(
                    held.told.is_some_and(|told| urgency(told) >= urgency(mode)),
                    "a holder does not know that it is in the way of {mode}: {held:?}"
                );
            }
        }
        for c in pending.converting.iter().filter(|c| c.held.wants_bast) {
            if let Some(mode) = c.blocks(pending.wanted) {
                assert!(
                    c.held
                        .told
                        .is_some_and(|told| urgency(told) >= urgency(mode)),
                    "a converting holder does not know that it is in the way of {mode}: {c:?}"
                );
            }
        }
    }
}
