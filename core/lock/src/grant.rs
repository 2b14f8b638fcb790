//! Grant decisions, sweeps and blocking notices.

use crate::{
    Effect, Flags, Grant, Resource,
    mode_tables::{Transfer, transfer, urgency},
    queue::{Ask, Held, Waiting},
};
use core::fmt::Debug;
use mainstay_base::{LockMode, Mutant, Token};

impl<K: Copy + Ord + Debug> Resource<K> {
    /// The mode in which a request that just arrived is granted, if it is (rules 1, 4, 6 and 8 of
    /// the crate's documentation).
    pub(crate) fn grants_request(&self, ask: Ask) -> Option<LockMode> {
        let mode = self.free_mode(ask, None)?;
        let Some(pending) = self.pending.as_ref().filter(|p| !p.is_empty()) else {
            return Some(mode);
        };
        let order = self.rules().order;
        let place = pending.place_waiting(ask, order);
        let next = place.index == 0 || pending.is_turn_of(ask, order);
        let first_to_wait =
            next && pending.request_in_turn(place.ticket) && !ask.flags.contains(Flags::NOQUEUE);
        let may = ask.flags.contains(Flags::EXPEDITE)
            || ask.flags.contains(Flags::NOORDER)
            || first_to_wait;
        may.then_some(mode)
    }

    /// The mode in which a conversion that just arrived is granted, if it is (rules 2, 3 and 8).
    pub(crate) fn grants_conversion(&self, from: LockMode, ask: Ask) -> Option<LockMode> {
        let mode = self.free_mode(ask, Some(from))?;
        let pending = self.pending.as_ref();
        let behind =
            pending.filter(|p| !p.converting.is_empty() && ask.flags.contains(Flags::QUECVT));
        let Some(pending) = behind else {
            return Some(mode);
        };
        let place = pending.place_converting(ask, self.rules().order);
        let at_once = ask.flags.contains(Flags::NOORDER) || pending.conversion_in_turn(place.index);
        (at_once && !ask.flags.contains(Flags::NOQUEUE)).then_some(mode)
    }

    /// The mode in which a conversion that has to be patient is granted when it comes: if it is first
    /// all the same, for its priority (rule 8).
    pub(crate) fn grants_in_turn(&self, from: LockMode, ask: Ask) -> Option<LockMode> {
        let pending = self.pending.as_ref()?;
        let place = pending.place_converting(ask, self.rules().order);
        let first = pending.waiting.front();
        let at_once = pending.conversion_in_turn(place.index)
            && first.is_none_or(|first| first.ticket > place.ticket)
            && !ask.flags.contains(Flags::NOQUEUE);
        self.free_mode(ask, Some(from)).filter(|_| at_once)
    }

    /// The asked mode, or else its alternate, if no lock that is held is in its way.
    fn free_mode(&self, ask: Ask, except: Option<LockMode>) -> Option<LockMode> {
        ask.modes().find(|&mode| !self.in_the_way(mode, except))
    }

    /// Whether a lock that is held, be it converting, conflicts with `mode`; a converting lock's own
    /// old mode, `except`, does not count.
    fn in_the_way(&self, mode: LockMode, except: Option<LockMode>) -> bool {
        if Mutant::GrantIgnoresConverting.active() {
            let others = self.granted.iter().filter(|held| Some(held.mode) != except);
            return others.into_iter().any(|held| !held.mode.compatible(mode));
        }
        self.held.conflict(mode, except)
    }

    /// Makes a new lock, in one of the modes that will do.
    pub(crate) fn grant_request(&mut self, key: K, ask: Ask, mode: LockMode) -> Grant {
        if mode != LockMode::Nl {
            self.last_token = self.last_token.next();
        }
        let valblk = ask.flags.contains(Flags::VALBLK);
        self.held.add(mode);
        self.insert_granted(Held {
            key,
            token: self.last_token,
            mode,
            told: None,
            wants_bast: ask.wants_bast,
            valblk,
            watches: false,
        });
        Grant {
            mode,
            token: self.last_token,
            value: valblk.then(|| self.value.read()),
        }
    }

    /// The token of a lock that goes from one mode to another: a new one if it gains anything.
    pub(crate) fn token_after(&mut self, from: LockMode, token: Token, to: LockMode) -> Token {
        if from.covers(to) {
            return token;
        }
        self.last_token = self.last_token.next();
        self.last_token
    }

    /// The lock `old` in one of the modes that will do, which the counts then show. What the
    /// conversion publishes has been published.
    pub(crate) fn promote(&mut self, old: Held<K>, ask: Ask, mode: LockMode) -> (Held<K>, Grant) {
        let token = self.token_after(old.mode, old.token, mode);
        self.held.remove(old.mode);
        self.held.add(mode);
        let asked = ask.flags.contains(Flags::VALBLK);
        let moves = transfer(Some(old.mode), mode) != Transfer::Nothing;
        let held = Held {
            key: old.key,
            token,
            mode,
            told: None,
            wants_bast: ask.wants_bast,
            valblk: asked && (moves || old.valblk),
            watches: old.watches,
        };
        let grant = Grant {
            mode,
            token,
            value: (asked && moves).then(|| self.value.read()),
        };
        (held, grant)
    }

    /// Grants what can be granted now, conversions before requests, and tells those in the way of
    /// the rest.
    pub(crate) fn sweep(&mut self, out: &mut Vec<Effect<K>>) {
        if self.pending.as_ref().is_none_or(|p| p.is_empty()) {
            return;
        }
        loop {
            while self.grant_one_conversion(out) {}
            let granted = self.sweep_waiting(out);
            // With the requests before it, a patient conversion gets its turn.
            if !granted || self.pending.as_ref().is_none_or(|p| p.patient == 0) {
                break;
            }
        }
        self.tell_blockers(out);
    }

    /// Grants the foremost conversion that can be granted (rules 4 and 5).
    pub(crate) fn grant_one_conversion(&mut self, out: &mut Vec<Effect<K>>) -> bool {
        let Some(pending) = self.pending.as_mut() else {
            return false;
        };
        let turn = pending.first_converting();
        let look_at = match pending.converting_noorder {
            0 => turn.map_or(0, |at| at + 1),
            _ => pending.converting.len(),
        };
        let held = self.held;
        let first = pending
            .converting
            .iter()
            .take(look_at)
            .enumerate()
            .find_map(|(at, c)| {
                let may = Some(at) == turn || c.ask.flags.contains(Flags::NOORDER);
                let mode = c.ask.freed_mode(held, Some(c.held.mode)).filter(|_| may)?;
                Some((at, mode))
            });
        let Some((index, mode)) = first else {
            return false;
        };
        let Some(entry) = pending.take_converting(index) else {
            return false;
        };
        let (held, grant) = self.promote(entry.held, entry.ask, mode);
        self.insert_granted(held);
        out.push(Effect::Granted {
            key: held.key,
            grant,
        });
        true
    }

    /// Grants what it can of the wait queue (rules 4 and 7). Returns whether it could.
    fn sweep_waiting(&mut self, out: &mut Vec<Effect<K>>) -> bool {
        let order = self.rules().order;
        let before = out.len();
        let mut reading = false;
        while let Some(pending) = self.pending.as_mut()
            && let Some((at, mode)) = pending.next_request(self.held, order, reading)
            && let Some(entry) = pending.take_waiting(at)
        {
            reading = entry.ask.reads();
            pending.wrote = !reading;
            self.grant_waiting(entry, mode, out);
        }
        let mut at = 0;
        while let Some(pending) = self.pending.as_mut().filter(|p| p.waiting_noorder > 0)
            && let Some(entry) = pending.waiting.get(at)
        {
            let noorder = entry.ask.flags.contains(Flags::NOORDER);
            let mode = entry.ask.freed_mode(self.held, None).filter(|_| noorder);
            match mode.and_then(|mode| Some((pending.take_waiting(at)?, mode))) {
                Some((entry, mode)) => self.grant_waiting(entry, mode, out),
                None => at += 1,
            }
        }
        out.len() > before
    }

    fn grant_waiting(&mut self, entry: Waiting<K>, mode: LockMode, out: &mut Vec<Effect<K>>) {
        let grant = self.grant_request(entry.key, entry.ask, mode);
        out.push(Effect::Granted {
            key: entry.key,
            grant,
        });
    }

    /// Tells every granted lock that is in the way of anything that waits and has not been told, and
    /// those that convert and have promised to let go.
    pub(crate) fn tell_blockers(&mut self, out: &mut Vec<Effect<K>>) {
        let Some(pending) = self.pending.as_ref().filter(|p| !p.is_empty()) else {
            return;
        };
        let wanted = pending.wanted;
        for held in &mut self.granted {
            if let Some(mode) = wanted.most_urgent_blocked_by(held.mode) {
                tell(held, mode, out);
            }
        }
        self.tell_converting_blockers(out);
    }

    /// Tells the converting locks that have promised to let go what others wait for them.
    pub(crate) fn tell_converting_blockers(&mut self, out: &mut Vec<Effect<K>>) {
        let Some(pending) = self.pending.as_mut().filter(|p| p.promises > 0) else {
            return;
        };
        for c in pending.converting.iter_mut() {
            if let Some(mode) = c.blocks(pending.wanted) {
                tell(&mut c.held, mode, out);
            }
        }
    }

    /// Tells every granted lock that is in the way of `mode`, which just began to wait.
    pub(crate) fn tell_granted_in_the_way(&mut self, mode: LockMode, out: &mut Vec<Effect<K>>) {
        if !self.held.conflict(mode, None) {
            return;
        }
        for held in &mut self.granted {
            if !held.mode.compatible(mode) {
                tell(held, mode, out);
            }
        }
    }

    /// Tells every lock that is in the way of `mode`, those that convert too: nobody waits, so
    /// there will be no later occasion.
    pub(crate) fn tell_all_in_the_way(
        &mut self,
        mode: LockMode,
        except: Option<K>,
        out: &mut Vec<Effect<K>>,
    ) {
        let converting = self
            .pending
            .iter_mut()
            .flat_map(|p| p.converting.iter_mut().map(|c| &mut c.held));
        for held in self.granted.iter_mut().chain(converting) {
            if Some(held.key) != except && !held.mode.compatible(mode) {
                tell(held, mode, out);
            }
        }
    }
}

fn tell<K: Copy>(held: &mut Held<K>, mode: LockMode, out: &mut Vec<Effect<K>>) {
    if held.wants_bast && held.told.is_none_or(|told| urgency(told) < urgency(mode)) {
        held.told = Some(mode);
        out.push(Effect::Blocking {
            key: held.key,
            mode,
        });
    }
}
