//! Rebuilding a resource on a new master from what the locks' owners restate.
//!
//! Owners restate what *they* know. The old master may have known more: an operation whose answer
//! never arrived may have been granted, or never seen. Three rules follow.
//!
//! * An operation with a ticket was queued by the old master, and keeps its place.
//! * An operation without one is treated as arriving now, after the queues have been rebuilt and
//!   swept: conversions first, then requests, in the order of their keys.
//! * If a lock with an operation in flight is restated in a mode that conflicts with a lock that
//!   has a later token, its conversion must have been granted before that token was issued. It is
//!   granted at once, whatever waits.

use crate::{
    Effect, Flags, Grant, LockView, Resource, Rules, Ticket,
    mode_tables::{ModeCounts, Transfer, transfer, vouches_for_value},
    queue::{Ask, Converting, Held, Pending, Waiting},
    resource::Publication,
};
use core::fmt::Debug;
use mainstay_base::{LockMode, Token, Value, ValueBlock, ValueVersion};
use smallvec::SmallVec;

/// A lock as its owner knows it. One of `granted` and `pending` must be there; a lock with neither
/// is left out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restated {
    /// The mode and token of the last grant the owner has heard of.
    pub granted: Option<(LockMode, Token)>,
    /// What it has asked for since, with flags that [`check_request`](crate::check_request) or
    /// [`check_convert`](crate::check_convert) allow.
    pub pending: Option<(LockMode, Flags)>,
    /// The place in its queue, if the owner has heard that the operation was queued.
    pub ticket: Option<Ticket>,
    /// Whether the owner wants blocking notices.
    pub wants_bast: bool,
    /// Whether `value` belongs to the granted mode: the last operation that was granted carried
    /// VALBLK, and the value came with that grant or, where none travels, this held before.
    pub valblk: bool,
    /// The owner's copy of the value block: the last one that came with a grant.
    pub value: Option<Value>,
    /// The block that the pending conversion publishes, if it does.
    pub publish: Option<ValueBlock>,
    /// The old master may have changed the value block for the owner, by an update whose answer never
    /// came: `value` may be older than what the lock stood for.
    pub unsure: bool,
    /// The owner is to be told when the value block changes, and what it is after the rebuild.
    pub watches: bool,
}

impl Restated {
    /// The pending operation, as it will be tried.
    fn ask(&self) -> Option<Ask> {
        self.pending.map(|(mode, flags)| Ask {
            mode,
            wants_bast: self.wants_bast,
            flags,
        })
    }

    /// The granted lock, which has not been told of anything yet.
    fn held<K>(&self, key: K) -> Option<Held<K>> {
        self.granted.map(|(mode, token)| Held {
            key,
            token,
            mode,
            told: None,
            wants_bast: self.wants_bast,
            valblk: self.valblk,
            watches: self.watches,
        })
    }
}

impl<K> From<LockView<K>> for Restated {
    fn from(lock: LockView<K>) -> Restated {
        Restated {
            granted: lock.granted,
            pending: lock.requested.map(|mode| (mode, lock.flags)),
            ticket: lock.ticket,
            wants_bast: lock.wants_bast,
            valblk: lock.valblk,
            value: None,
            publish: None,
            unsure: false,
            watches: lock.watches,
        }
    }
}

/// What has been restated so far.
#[derive(Debug)]
pub(crate) struct Rebuild<K> {
    /// Most often one. Large as it is with that, the heap makes other use of it at once when it goes; of
    /// hundreds of thousands that are smaller it makes a list, and works that off at some time in one go.
    locks: SmallVec<[(K, Restated); 1]>,
    certain: Option<Value>,
    /// A lock that may have been PW or EX was taken away meanwhile, and may have meant to write.
    lost_writer: bool,
}

impl<K> Default for Rebuild<K> {
    fn default() -> Self {
        Rebuild {
            locks: SmallVec::new(),
            certain: None,
            lost_writer: false,
        }
    }
}

impl<K: Copy + Ord> Rebuild<K> {
    pub(crate) fn len(&self) -> usize {
        self.locks.len()
    }

    pub(crate) fn force_unlock(&mut self, key: K, invalidate: bool) -> bool {
        let before = self.locks.len();
        let lost_writer = &mut self.lost_writer;
        self.locks.retain(|(k, lock)| {
            if *k != key {
                return true;
            }
            let held = lock.granted.map(|g| g.0);
            let perhaps = held.and(lock.pending).map(|p| p.0);
            let wrote = held.into_iter().chain(perhaps).any(LockMode::writes_value);
            *lost_writer |= invalidate && wrote;
            false
        });
        self.locks.len() < before
    }

    pub(crate) fn rekey(&mut self, from: K, to: K, wants_bast: bool) -> bool {
        let mut known = false;
        for (key, lock) in self.locks.iter_mut().filter(|(key, _)| *key == from) {
            *key = to;
            lock.wants_bast = wants_bast;
            known = true;
        }
        known
    }

    pub(crate) fn cancel(&mut self, key: K) -> bool {
        let mut known = false;
        self.locks.retain_mut(|(k, lock)| {
            if *k != key || lock.pending.is_none() {
                return true;
            }
            known = true;
            lock.pending = None;
            lock.ticket = None;
            lock.publish = None;
            lock.granted.is_some()
        });
        known
    }

    pub(crate) fn rename(&mut self, renamed: &impl Fn(K) -> Option<K>) -> bool {
        let mut any = false;
        for (key, _) in &mut self.locks {
            if let Some(new) = renamed(*key) {
                *key = new;
                any = true;
            }
        }
        any
    }

    /// The locks in the order of their keys, each as it was restated last.
    fn members(mut locks: SmallVec<[(K, Restated); 1]>) -> Vec<Member<K>> {
        locks.reverse();
        locks.sort_by_key(|(key, _)| *key);
        locks.dedup_by_key(|(key, _)| *key);
        locks
            .into_iter()
            .map(|(key, lock)| Member {
                key,
                lock,
                settled: None,
            })
            .collect()
    }
}

/// A lock during the end of a rebuild.
struct Member<K> {
    key: K,
    lock: Restated,
    /// Its conversion in flight has been granted; the value block goes along or not.
    settled: Option<bool>,
}

impl<K> Member<K> {
    /// Its granted mode conflicts with a lock that was granted later, so it must have left it.
    fn overtaken(&self, all: &[Member<K>]) -> bool {
        let (Some((mode, token)), Some(_)) = (self.lock.granted, self.lock.pending) else {
            return false;
        };
        all.iter()
            .filter_map(|other| other.lock.granted)
            .any(|(m, t)| t > token && !m.compatible(mode))
    }
}

impl<K: Copy + Ord + Debug> Resource<K> {
    /// Adds a lock as its owner knows it; of several for one key the last counts. Nothing is
    /// granted, told or refused until [`finish_rebuild`](Self::finish_rebuild). Locks that the
    /// resource had are first turned into restated ones.
    pub fn restate(&mut self, key: K, lock: Restated) {
        let rebuild = self.begin_rebuild();
        if lock.granted.is_none() && lock.pending.is_none() {
            return;
        }
        rebuild.locks.push((key, lock));
    }

    /// The locks that have been restated and are not live yet, each perhaps more than once.
    pub fn restated(&self) -> impl Iterator<Item = (K, &Restated)> {
        let rebuild = self.rebuild.iter();
        rebuild.flat_map(|rebuild| rebuild.locks.iter().map(|(key, lock)| (*key, lock)))
    }

    /// Adds the value block as a keeper other than a lock's owner knows it: a master that hands
    /// the resource over. It counts as exact if the master did not die, and as one more copy
    /// otherwise.
    pub fn restate_value(&mut self, value: Value) {
        let rebuild = self.begin_rebuild();
        match &rebuild.certain {
            Some(known) if known.version > value.version => {}
            _ => rebuild.certain = Some(value),
        }
    }

    /// Makes the resource live again: settles operations in flight, orders the queues by their
    /// tickets, chooses the value, grants what can be granted and tells those in the way of the
    /// rest. Emits `Queued` for locks that get another ticket than they restated.
    ///
    /// The value is the copy with the highest version. If the master died, it is marked as
    /// possibly stale unless a lock that excludes writers (CW, PR, PW, EX, with VALBLK, and not
    /// converting to less) has that copy, unmarked: somebody else may have published, and died
    /// with the master. That holds also if no copy is left at all: then the value is zeros under
    /// version 0, marked. If the master did not die, nothing is lost, and the copy's own mark
    /// decides.
    ///
    /// # Panics
    /// If the restated locks cannot have been held at once: exclusion is broken already, and
    /// nothing may be built on it.
    pub fn finish_rebuild(&mut self, master_died: bool, out: &mut Vec<Effect<K>>) {
        self.begin_rebuild();
        let Some(rebuild) = self.rebuild.take() else {
            return;
        };
        let Rebuild {
            locks,
            certain,
            lost_writer,
        } = *rebuild;
        let mut members = Rebuild::members(locks);
        for (_, token) in members.iter().filter_map(|m| m.lock.granted) {
            self.raise_floor(token);
        }
        let floor = ValueVersion(Token::floor(self.last_token.epoch()).0);
        let value = choose(
            self.rules(),
            &members,
            certain,
            master_died,
            lost_writer,
            floor,
        );
        self.value.restore(&value);
        if members.iter().any(|m| m.lock.watches) {
            self.value.watch();
            self.value.tell_anew();
        }
        self.settle_in_flight(&mut members);
        for member in &members {
            self.emit_settled(member, out);
        }
        let arriving = self.line_up(members, out);
        assert!(
            !self.held.conflict_within(),
            "locks were restated that cannot have been held at once: {:?}",
            self.granted().chain(self.converting()).collect::<Vec<_>>()
        );
        self.sweep(out);
        let (conversions, requests): (Vec<_>, Vec<_>) =
            arriving.into_iter().partition(|(_, _, own)| own.is_some());
        for (key, ask, own) in conversions {
            if let Ok(index) = self.find_granted(key) {
                let own = own == Some(true);
                self.start_conversion(index, ask, Publication::Settled { own }, out);
            }
        }
        for (key, ask, _) in requests {
            self.start_request(key, ask, out);
        }
        self.check_cheaply();
    }

    fn begin_rebuild(&mut self) -> &mut Rebuild<K> {
        if self.rebuild.is_none() {
            let mut rebuild = Rebuild::default();
            if !self.is_empty() {
                rebuild.certain = Some(self.value());
                rebuild.locks = self
                    .granted()
                    .chain(self.converting())
                    .chain(self.waiting())
                    .map(|view| (view.key, view.into()))
                    .collect();
                self.granted.clear();
                self.pending = None;
                self.held = ModeCounts::default();
            }
            self.rebuild = Some(Box::new(rebuild));
        }
        self.rebuild.get_or_insert_default()
    }

    /// Grants what the old master must have granted already. What such a conversion published is
    /// part of the chosen value.
    fn settle_in_flight(&mut self, members: &mut [Member<K>]) {
        let mut held = ModeCounts::default();
        for (mode, _) in members.iter().filter_map(|m| m.lock.granted) {
            held.add(mode);
        }
        while held.conflict_within() {
            let Some(index) = members.iter().position(|m| m.overtaken(members)) else {
                return;
            };
            let member = &mut members[index];
            let lock = &mut member.lock;
            let (Some((from, token)), Some((to, flags))) = (lock.granted, lock.pending.take())
            else {
                return;
            };
            held.remove(from);
            held.add(to);
            lock.granted = Some((to, self.token_after(from, token, to)));
            lock.ticket = None;
            let asked = flags.contains(Flags::VALBLK);
            let way = transfer(Some(from), to);
            lock.valblk = asked && (way != Transfer::Nothing || lock.valblk);
            // What it published may have been overwritten since: it is not told a version.
            member.settled = Some(asked && way == Transfer::Read);
        }
    }

    fn emit_settled(&self, member: &Member<K>, out: &mut Vec<Effect<K>>) {
        if let (Some((mode, token)), Some(moves)) = (member.lock.granted, member.settled) {
            out.push(Effect::Granted {
                key: member.key,
                grant: Grant {
                    mode,
                    token,
                    value: moves.then(|| self.value.read()),
                },
            });
        }
    }

    /// Puts all locks into their queues, and returns the operations that arrive now, a conversion
    /// with whether the value is the one that it published.
    fn line_up(
        &mut self,
        members: Vec<Member<K>>,
        out: &mut Vec<Effect<K>>,
    ) -> Vec<(K, Ask, Option<bool>)> {
        let mut converting = Vec::new();
        let mut waiting = Vec::new();
        let mut arriving = Vec::new();
        for Member { key, lock, .. } in members {
            let held = lock.held(key);
            if let Some(held) = held {
                self.held.add(held.mode);
            }
            match (held, lock.ask(), lock.ticket) {
                (Some(held), Some(ask), Some(ticket)) => {
                    converting.push(Converting {
                        held,
                        ask,
                        ticket,
                        patient: false,
                    });
                }
                (None, Some(ask), Some(ticket)) => waiting.push(Waiting { key, ask, ticket }),
                (held, ask, _) => {
                    self.granted.extend(held);
                    let own = held.map(|_| self.published_by(&lock));
                    arriving.extend(ask.map(|ask| (key, ask, own)));
                }
            }
        }
        if !converting.is_empty() || !waiting.is_empty() {
            // Both are in the order of their keys, which the stable sort keeps among equals.
            converting.sort_by_key(|c| c.ticket);
            waiting.sort_by_key(|w| w.ticket);
            self.enter(converting, waiting, out);
        }
        arriving
    }

    /// Whether the present value is what a restated lock's pending conversion publishes.
    fn published_by(&self, lock: &Restated) -> bool {
        let now = self.value.read();
        let after = lock.value.as_ref().map(|v| ValueVersion(v.version.0 + 1));
        let over = lock.value.as_ref().map(|v| &v.block);
        let block = lock
            .publish
            .as_ref()
            .map(|b| self.rules().published(b, over));
        let block = block.and_then(|b| b.padded(now.block.as_bytes().len()).ok());
        after == Some(now.version) && block.as_ref() == Some(&now.block)
    }

    /// Enters ordered queues. Tickets that two masters issued twice are made different again.
    fn enter(
        &mut self,
        mut converting: Vec<Converting<K>>,
        mut waiting: Vec<Waiting<K>>,
        out: &mut Vec<Effect<K>>,
    ) {
        let mut last = None;
        for entry in &mut converting {
            renumber(&mut last, entry.held.key, &mut entry.ticket, out);
        }
        let last_converting = last.take();
        for entry in &mut waiting {
            renumber(&mut last, entry.key, &mut entry.ticket, out);
        }
        let pending: &mut Pending<K> = self.pending_mut();
        for entry in &converting {
            pending.count_converting(entry);
        }
        for entry in &waiting {
            pending.count_waiting(entry.ask);
        }
        if let Some(last) = last_converting.max(last) {
            pending.next_ticket = pending.next_ticket.max(last.after());
        }
        pending.converting = converting.into();
        pending.waiting = waiting.into();
    }
}

fn renumber<K>(last: &mut Option<Ticket>, key: K, ticket: &mut Ticket, out: &mut Vec<Effect<K>>) {
    if let Some(last) = *last
        && *ticket <= last
    {
        *ticket = last.after();
        out.push(Effect::Queued {
            key,
            ticket: *ticket,
        });
    }
    *last = Some(*ticket);
}

/// A copy of the value block and what is known of it.
struct Candidate {
    value: Value,
    /// Nobody else can have published since.
    vouched: bool,
    /// The version is a guess, since its writer never read, or read a marked value.
    guessed: bool,
}

/// The copies that a lock speaks for: what it read, and what it published with a conversion whose
/// answer it does not know, under the version `guess` if it cannot tell which.
fn candidates<K>(rules: Rules, member: &Member<K>, guess: ValueVersion) -> [Option<Candidate>; 2] {
    let lock = &member.lock;
    let vouches = |mode: Option<LockMode>| mode.is_some_and(vouches_for_value);
    let from = lock.granted.map(|g| g.0);
    // With a conversion in flight the lock may be in either mode.
    let to = lock.pending.map(|p| p.0).or(from);
    let mut read = lock.value.clone().map(|value| Candidate {
        value,
        vouched: lock.valblk && !lock.unsure && vouches(from) && vouches(to),
        guessed: false,
    });
    let (Some(from), Some((to, flags))) = (from, lock.pending) else {
        return [read, None];
    };
    if transfer(Some(from), to) != Transfer::Write {
        return [read, None];
    }
    let own = lock.value.as_ref();
    let own = own.filter(|_| lock.valblk && !lock.unsure);
    let marked = |mut value: Value| {
        value.maybe_stale = true;
        Candidate {
            value,
            vouched: false,
            guessed: false,
        }
    };
    let published = if flags.contains(Flags::IVVALBLK) {
        own.cloned().map(marked)
    } else if !flags.contains(Flags::VALBLK) {
        None
    } else {
        // Where the copy is marked, versions that are lost may have followed it.
        let exact = own.filter(|v| !v.maybe_stale);
        let over = lock.value.as_ref().map(|v| &v.block);
        let publish = lock.publish.as_ref().map(|block| Value {
            block: rules.published(block, over),
            version: exact.map_or(guess, |v| ValueVersion(v.version.0 + 1)),
            maybe_stale: false,
        });
        match (publish, exact) {
            (Some(value), Some(_)) => Some(Candidate {
                value,
                vouched: vouches(Some(to)),
                guessed: false,
            }),
            (Some(value), None) => Some(Candidate {
                guessed: true,
                ..marked(value)
            }),
            (None, _) => own.cloned().map(marked),
        }
    };
    if let (Some(read), Some(_)) = (&mut read, &published) {
        read.vouched = false; // It has published over that one.
    }
    [read, published]
}

/// The value to go on with; see [`Resource::finish_rebuild`]. Versions that are guessed begin at
/// `floor`, which is above all that an earlier master can have given: what it gave, and to which
/// value, is not known.
fn choose<K>(
    rules: Rules,
    members: &[Member<K>],
    certain: Option<Value>,
    master_died: bool,
    lost_writer: bool,
    floor: ValueVersion,
) -> Value {
    let newest = members
        .iter()
        .filter_map(|m| m.lock.value.as_ref())
        .chain(&certain)
        .map(|v| v.version)
        .max()
        .unwrap_or_default();
    let guess = ValueVersion(newest.0 + 1).max(floor);
    // Of two writers whose answers are under way, the later token published later.
    let mut by_token: Vec<&Member<K>> = members.iter().collect();
    by_token.sort_by_key(|m| m.lock.granted.map(|g| g.1));
    let mut best = Value {
        block: ValueBlock::default(),
        version: ValueVersion::default(),
        maybe_stale: false,
    };
    let mut vouched = false;
    let certain = certain.map(|value| Candidate {
        value,
        vouched: false,
        guessed: false,
    });
    let candidates: Vec<Candidate> = (guess.0..)
        .zip(by_token)
        .flat_map(|(guess, m)| candidates(rules, m, ValueVersion(guess)))
        .flatten()
        .chain(certain)
        .collect();
    // Whoever vouches for a copy held it after that publication, and so has seen it.
    let seen = candidates.iter().any(|c| c.vouched);
    for candidate in candidates.into_iter().filter(|c| !(c.guessed && seen)) {
        if candidate.value.version > best.version {
            vouched = candidate.vouched;
            best = candidate.value;
        } else if candidate.value.version == best.version {
            vouched |= candidate.vouched;
            best.maybe_stale |= candidate.value.maybe_stale;
        }
    }
    best.maybe_stale |= lost_writer || (master_died && !vouched);
    best
}
