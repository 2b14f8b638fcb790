//! The plain model of one resource. Nothing here is shared with the engine but the words of its
//! interface; the tables are written down once more.

mod compat;
mod order;
pub(crate) mod ranges;
mod rebuild;

use mainstay_base::{LockMode, Token, Updated, Value, ValueBlock, ValueUpdate, ValueVersion};
use mainstay_lock::{Effect, Flags, Grant, Refusal, Rules, Ticket};

/// A lock, as its owner tells it from all others of the resource; those that come later have larger
/// ones.
pub type Key = u64;

/// A lock in its queue: its mode and token, what it asks for, its ticket, and whether its owner's copy
/// of the value block belongs to its mode.
pub type Brief = (
    Key,
    Option<(LockMode, Token)>,
    Option<LockMode>,
    Option<Ticket>,
    bool,
);

#[derive(Clone, Debug)]
struct Lock {
    key: Key,
    granted: Option<(LockMode, Token)>,
    asked: Option<(LockMode, Flags)>,
    asked_bast: bool,
    ticket: Ticket,
    /// Behind the requests that came before it.
    patient: bool,
    bast: bool,
    told: Option<LockMode>,
    /// The owner's copy of the value, and whether it belongs to the granted mode.
    copy: Option<Value>,
    fresh: bool,
    watches: bool,
}

/// One resource, as lists of locks.
#[derive(Clone, Debug)]
pub struct Reference {
    granted: Vec<Lock>,
    converting: Vec<Lock>,
    waiting: Vec<Lock>,
    next_ticket: i64,
    rules: Rules,
    passed: u8,
    wrote: bool,
    /// The value block.
    pub value: Value,
    /// The last token that was issued.
    pub last_token: Token,
}

type Out<'a> = &'a mut Vec<Effect<Key>>;

pub(crate) fn compatible(a: LockMode, b: LockMode) -> bool {
    const TABLE: [&str; 6] = ["yyyyyy", "yyyyyn", "yyynnn", "yynynn", "yynnnn", "ynnnnn"];
    TABLE[a as usize].as_bytes()[b as usize] == b'y'
}

/// `r`, `w` or `.`.
pub(crate) fn way(from: LockMode, to: LockMode) -> u8 {
    const TABLE: [&str; 6] = ["rrrrrr", ".rrrrr", "..rrrr", "...rrr", "wwwwwr", "wwwwww"];
    TABLE[from as usize].as_bytes()[to as usize]
}

/// Whether a conversion gains anything: it does unless it goes down or stays.
pub(crate) fn gains(from: LockMode, to: LockMode) -> bool {
    use LockMode::{Cw, Pr};
    to as u8 > from as u8 || (from, to) == (Pr, Cw)
}

pub(crate) fn writes(mode: LockMode) -> bool {
    matches!(mode, LockMode::Pw | LockMode::Ex)
}

pub(crate) fn excludes_writers(mode: LockMode) -> bool {
    !matches!(mode, LockMode::Nl | LockMode::Cr)
}

pub(crate) fn has(flags: Flags, flag: Flags) -> bool {
    flags.bits() & flag.bits() != 0
}

impl Lock {
    fn conversion(&self) -> bool {
        self.granted.is_some()
    }

    fn mode(&self) -> LockMode {
        self.granted.unwrap().0
    }

    fn wish(&self) -> LockMode {
        self.asked.unwrap().0
    }

    /// What will do, best first.
    fn wishes(&self) -> Vec<LockMode> {
        let mut wishes = vec![self.wish()];
        if self.flag(Flags::ALTPR) {
            wishes.push(LockMode::Pr);
        }
        if self.flag(Flags::ALTCW) {
            wishes.push(LockMode::Cw);
        }
        wishes
    }

    fn reads(&self) -> bool {
        let mode = self.wish();
        compatible(mode, mode) && self.wishes().len() == 1
    }

    fn flag(&self, flag: Flags) -> bool {
        has(self.asked.unwrap().1, flag)
    }

    fn brief(&self, queued: bool) -> Brief {
        (
            self.key,
            self.granted,
            self.asked.map(|a| a.0),
            queued.then_some(self.ticket),
            self.fresh,
        )
    }

    /// Its owner lets go of its mode when it is told.
    fn lets_go(&self) -> bool {
        self.flag(Flags::NODLCKWT) || self.flag(Flags::NODLCKBLK)
    }

    fn tell(&mut self, mode: LockMode, out: Out<'_>) {
        if self.bast && self.told.is_none_or(|told| (told as u8) < mode as u8) {
            self.told = Some(mode);
            out.push(Effect::Blocking {
                key: self.key,
                mode,
            });
        }
    }
}

impl Reference {
    /// A resource without locks.
    pub fn new(rules: Rules) -> Reference {
        let value_len = usize::from(rules.value_len);
        Reference {
            granted: Vec::new(),
            converting: Vec::new(),
            waiting: Vec::new(),
            next_ticket: 1,
            rules,
            passed: 0,
            wrote: false,
            value: Value {
                block: ValueBlock::new(vec![0; value_len]).unwrap(),
                version: ValueVersion(0),
                maybe_stale: false,
            },
            last_token: Token::NONE,
        }
    }

    /// What is granted and waits for nothing, in the order of keys.
    pub fn granted_briefs(&self) -> Vec<Brief> {
        self.granted.iter().map(|l| l.brief(false)).collect()
    }

    /// What converts, in its queue.
    pub fn converting_briefs(&self) -> Vec<Brief> {
        self.converting.iter().map(|l| l.brief(true)).collect()
    }

    /// New requests that wait, in their queue.
    pub fn waiting_briefs(&self) -> Vec<Brief> {
        self.waiting.iter().map(|l| l.brief(true)).collect()
    }

    /// The mode in which a lock can be granted now, if it can.
    fn can_be_granted(&self, lock: &Lock, now: bool) -> Option<LockMode> {
        let mut wishes = lock.wishes().into_iter();
        wishes.find(|wish| self.can_be_granted_in(*wish, lock, now))
    }

    /// The decision, test by test. `now`: the lock is in no queue yet; its old self, if it has
    /// one, is still among the granted.
    fn can_be_granted_in(&self, wish: LockMode, lock: &Lock, now: bool) -> bool {
        if lock.flag(Flags::EXPEDITE) {
            return true;
        }
        for other in self.granted.iter().chain(&self.converting) {
            if other.key != lock.key && !compatible(other.mode(), wish) {
                return false;
            }
        }
        if now && lock.conversion() && !lock.flag(Flags::QUECVT) {
            return true;
        }
        if now && lock.conversion() {
            return self.converting.is_empty();
        }
        if lock.flag(Flags::NOORDER) {
            return true;
        }
        if !now && lock.conversion() {
            let mut in_turn = self.converting.iter().filter(|c| !self.held_back(c));
            return in_turn.next().is_some_and(|c| c.key == lock.key);
        }
        if now {
            return self.converting.is_empty() && self.waiting.is_empty();
        }
        let next = self.waiting[0].key == lock.key || self.is_turn_of(lock);
        self.no_conversion_before(lock) && next
    }

    /// The lock is granted a mode and joins the grant queue.
    fn grant(&mut self, mut lock: Lock, mode: LockMode, out: Out<'_>) {
        let (_, flags) = lock.asked.take().unwrap();
        lock.patient = false;
        let gained = match lock.granted {
            None => mode != LockMode::Nl,
            Some((from, _)) => gains(from, mode),
        };
        if gained {
            self.last_token = self.last_token.next();
        }
        let token = match lock.granted {
            Some((_, token)) if !gained => token,
            _ => self.last_token,
        };
        let way = lock.granted.map_or(b'r', |(from, _)| way(from, mode));
        let value = (has(flags, Flags::VALBLK) && way != b'.').then(|| self.value.clone());
        lock.fresh = has(flags, Flags::VALBLK) && (way != b'.' || lock.fresh);
        if value.is_some() {
            lock.copy = value.clone();
        }
        lock.granted = Some((mode, token));
        lock.told = None;
        lock.bast = lock.asked_bast;
        out.push(Effect::Granted {
            key: lock.key,
            grant: Grant { mode, token, value },
        });
        self.granted.retain(|l| l.key != lock.key);
        self.granted.push(lock);
        self.granted.sort_by_key(|l| l.key);
    }

    fn sweep(&mut self, out: Out<'_>) {
        'again: loop {
            for at in 0..self.converting.len() {
                if let Some(mode) = self.can_be_granted(&self.converting[at], false) {
                    self.leaves(&self.converting[at].clone());
                    let lock = self.converting.remove(at);
                    self.grant(lock, mode, out);
                    continue 'again;
                }
            }
            let mut reading = false;
            let mut granted = false;
            while let Some((at, mode)) = self.next_request(reading) {
                self.leaves(&self.waiting[at].clone());
                let lock = self.waiting.remove(at);
                reading = lock.reads();
                self.wrote = !reading;
                self.grant(lock, mode, out);
                granted = true;
            }
            let mut at = 0;
            while at < self.waiting.len() {
                let lock = self.waiting[at].clone();
                let may = lock.flag(Flags::NOORDER);
                match self.can_be_granted(&lock, false).filter(|_| may) {
                    Some(mode) => {
                        self.leaves(&lock);
                        self.waiting.remove(at);
                        self.grant(lock, mode, out);
                        granted = true;
                    }
                    None => at += 1,
                }
            }
            if !granted || !self.converting.iter().any(|c| c.patient) {
                break;
            }
        }
        self.tell_holders(out);
    }

    fn tell_holders(&mut self, out: Out<'_>) {
        let wanted: Vec<LockMode> = self
            .converting
            .iter()
            .chain(&self.waiting)
            .map(Lock::wish)
            .collect();
        for holder in &mut self.granted {
            let blocked = wanted.iter().filter(|m| !compatible(**m, holder.mode()));
            if let Some(mode) = blocked.max_by_key(|m| **m as u8) {
                holder.tell(*mode, out);
            }
        }
        self.tell_converters(out);
    }

    fn tell_converters(&mut self, out: Out<'_>) {
        let all: Vec<(Key, LockMode)> = self
            .converting
            .iter()
            .chain(&self.waiting)
            .map(|l| (l.key, l.wish()))
            .collect();
        for holder in self.converting.iter_mut().filter(|l| l.lets_go()) {
            let mut blocked: Vec<LockMode> = all
                .iter()
                .filter(|(key, wish)| *key != holder.key && !compatible(*wish, holder.mode()))
                .map(|(_, wish)| *wish)
                .collect();
            blocked.sort_by_key(|m| *m as u8);
            if let Some(mode) = blocked.last() {
                holder.tell(*mode, out);
            }
        }
    }

    /// With everyone else gone, would the convert queue run dry?
    fn stuck(&self) -> bool {
        let mut queue = self.converting.clone();
        loop {
            let next = queue.iter().enumerate().position(|(at, lock)| {
                (at == 0 || lock.flag(Flags::NOORDER))
                    && lock.wishes().into_iter().any(|wish| {
                        queue
                            .iter()
                            .all(|o| o.key == lock.key || o.lets_go() || compatible(o.mode(), wish))
                    })
            });
            match next {
                Some(at) => queue.remove(at),
                None => return !queue.is_empty(),
            };
        }
    }

    /// A request, or a conversion of a lock that is still among the granted.
    fn arrive(&mut self, mut lock: Lock, out: Out<'_>) {
        let (key, wish, conversion) = (lock.key, lock.wish(), lock.conversion());
        lock.patient = conversion && self.has_to_be_patient(&lock);
        let patient = lock.patient;
        let at_once = self.can_be_granted(&lock, true).filter(|_| !patient);
        if let Some(mode) = at_once {
            self.let_in(&lock);
            self.count_arrival(&lock);
            if conversion && self.would_pass(lock.mode(), mode) {
                self.passed = self.passed.saturating_add(1);
            }
            self.grant(lock, mode, out);
            if conversion {
                self.sweep(out);
            } else {
                self.tell_holders(out);
            }
            return;
        }
        if lock.flag(Flags::NOQUEUE) {
            out.push(Effect::Refused {
                key,
                why: Refusal::NotQueued,
            });
            if lock.flag(Flags::NOQUEUEBAST) {
                for holder in self.granted.iter_mut().chain(&mut self.converting) {
                    if holder.key != key && !compatible(holder.mode(), wish) {
                        holder.tell(wish, out);
                    }
                }
            }
            return;
        }
        let passes = conversion && !patient && self.would_pass(lock.granted.unwrap().0, wish);
        let (place, ticket, next) = self.place(&lock);
        let before = self.granted.clone();
        self.granted.retain(|l| l.key != key);
        let queue = if conversion {
            &mut self.converting
        } else {
            &mut self.waiting
        };
        lock.ticket = ticket;
        queue.insert(place, lock.clone());
        let at_once = self.can_be_granted(&lock, false);
        if at_once.is_some() || (conversion && !patient && self.stuck()) {
            let queue = if conversion {
                &mut self.converting
            } else {
                &mut self.waiting
            };
            queue.remove(place);
            self.granted = before;
            let Some(mode) = at_once else {
                out.push(Effect::Refused {
                    key,
                    why: Refusal::Deadlock,
                });
                return;
            };
            self.let_in(&lock);
            self.count_arrival(&lock);
            if conversion && self.would_pass(lock.mode(), mode) {
                self.passed = self.passed.saturating_add(1);
            }
            self.grant(lock, mode, out);
            if conversion {
                self.sweep(out);
            } else {
                self.tell_holders(out);
            }
            return;
        }
        self.next_ticket = next;
        if passes && !self.waiting.is_empty() {
            self.passed = self.passed.saturating_add(1);
        }
        out.push(Effect::Queued {
            key,
            ticket: lock.ticket,
        });
        let mut lost_patience = false;
        for c in self.converting.iter_mut().filter(|c| c.patient) {
            if c.key != key && !compatible(c.mode(), wish) {
                c.patient = false;
                lost_patience = true;
            }
        }
        if lost_patience || self.converting.iter().any(|c| c.patient) {
            return self.sweep(out);
        }
        for holder in &mut self.granted {
            if !compatible(holder.mode(), wish) {
                holder.tell(wish, out);
            }
        }
        self.tell_converters(out);
    }

    fn publish(&mut self, block: ValueBlock) {
        let mut version = self.value.version.0 + 1;
        if self.value.maybe_stale {
            // Above all versions that may have been lost.
            version = version.max(Token::floor(self.last_token.epoch()).0);
        }
        self.value = Value {
            block: self.in_full(&block),
            version: ValueVersion(version),
            maybe_stale: false,
        };
    }

    fn known(&self, key: Key) -> bool {
        self.granted
            .iter()
            .chain(&self.converting)
            .chain(&self.waiting)
            .any(|l| l.key == key)
    }

    fn alternate_is_wrong(from: Option<LockMode>, to: LockMode, flags: Flags) -> bool {
        use LockMode::{Cr, Cw, Ex, Nl, Pr, Pw};
        let (pr, cw) = (has(flags, Flags::ALTPR), has(flags, Flags::ALTCW));
        let held = from.unwrap_or(Nl);
        let pr_fits = matches!(to, Cw | Pw | Ex) && matches!(held, Nl | Cr | Pr);
        let cw_fits = matches!(to, Pr | Pw | Ex) && matches!(held, Nl | Cr | Cw);
        (pr && (cw || !pr_fits)) || (cw && !cw_fits)
    }

    /// Whether flags do not go with a new lock, or not together.
    pub(crate) fn request_is_wrong(mode: LockMode, flags: Flags) -> bool {
        has(flags, Flags::QUECVT | Flags::IVVALBLK)
            || has(flags, Flags::CONVDEADLK)
            || Reference::alternate_is_wrong(None, mode, flags)
            || (has(flags, Flags::NOQUEUEBAST) && !has(flags, Flags::NOQUEUE))
            || (has(flags, Flags::EXPEDITE) && (mode != LockMode::Nl || has(flags, Flags::NOQUEUE)))
    }

    /// Whether flags do not go with a conversion, not together, or not with these modes.
    pub(crate) fn conversion_is_wrong(from: LockMode, to: LockMode, flags: Flags) -> bool {
        has(flags, Flags::EXPEDITE)
            || (has(flags, Flags::CONVDEADLK) && has(flags, Flags::NOQUEUE | Flags::NODLCKWT))
            || Reference::alternate_is_wrong(Some(from), to, flags)
            || (has(flags, Flags::NOQUEUEBAST) && !has(flags, Flags::NOQUEUE))
            || (has(flags, Flags::QUECVT) && !gains(from, to))
    }

    /// A new lock is asked for. Whether the call is one that may be.
    pub fn request(
        &mut self,
        key: Key,
        mode: LockMode,
        flags: Flags,
        bast: bool,
        out: Out<'_>,
    ) -> bool {
        let Some(flags) = self.counts(None, mode, flags) else {
            return false;
        };
        if Reference::request_is_wrong(mode, flags) || self.known(key) {
            return false;
        }
        let lock = Lock {
            key,
            granted: None,
            asked: Some((mode, flags)),
            asked_bast: bast,
            ticket: Ticket(0),
            patient: false,
            bast,
            told: None,
            copy: None,
            fresh: false,
            watches: false,
        };
        self.arrive(lock, out);
        true
    }

    /// Another mode of a lock is asked for. Whether the call is one that may be.
    pub fn convert(
        &mut self,
        key: Key,
        mode: LockMode,
        flags: Flags,
        bast: bool,
        value: Option<ValueBlock>,
        out: Out<'_>,
    ) -> bool {
        let Some(lock) = self.granted.iter().find(|l| l.key == key) else {
            return false;
        };
        let from = lock.mode();
        let Some(flags) = self.counts(Some(from), mode, flags) else {
            return false;
        };
        let way = way(from, mode);
        let unfit = value
            .as_ref()
            .is_some_and(|block| self.value_is_wrong(block));
        let to_publish = way == b'w' && has(flags, Flags::VALBLK) && !has(flags, Flags::IVVALBLK);
        if Reference::conversion_is_wrong(from, mode, flags)
            || (way == b'w' && unfit)
            || (to_publish && value.is_none())
        {
            return false;
        }
        // What publishes is never stopped by others, so it may be done first.
        if way == b'w' && has(flags, Flags::IVVALBLK) {
            self.value.maybe_stale = true;
        } else if to_publish {
            self.publish(value.unwrap());
        }
        let mut lock = self.granted.iter().find(|l| l.key == key).unwrap().clone();
        lock.asked = Some((mode, flags));
        lock.asked_bast = bast;
        self.arrive(lock, out);
        true
    }

    /// Down to NL, the conversions may go on, and then this one is asked for from NL.
    pub fn convert_demoted(
        &mut self,
        key: Key,
        mode: LockMode,
        flags: Flags,
        bast: bool,
        out: Out<'_>,
    ) -> bool {
        let Some(flags) = self.counts(Some(LockMode::Nl), mode, flags) else {
            return false;
        };
        let wrong = (has(flags, Flags::QUECVT) && mode == LockMode::Nl)
            || (has(flags, Flags::CONVDEADLK) && has(flags, Flags::NOQUEUE | Flags::NODLCKWT))
            || (has(flags, Flags::NOQUEUEBAST) && !has(flags, Flags::NOQUEUE))
            || Reference::alternate_is_wrong(Some(LockMode::Nl), mode, flags);
        let Some(lock) = self.granted.iter_mut().find(|l| l.key == key) else {
            return false;
        };
        if wrong {
            return false;
        }
        lock.granted = lock.granted.map(|(_, token)| (LockMode::Nl, token));
        lock.told = None;
        while let Some((at, mode)) = (0..self.converting.len()).find_map(|at| {
            let mode = self.can_be_granted(&self.converting[at], false)?;
            Some((at, mode))
        }) {
            self.leaves(&self.converting[at].clone());
            let lock = self.converting.remove(at);
            self.grant(lock, mode, out);
        }
        let mut lock = self.granted.iter().find(|l| l.key == key).unwrap().clone();
        lock.asked = Some((mode, flags.without(Flags::HEADQUE)));
        lock.asked_bast = bast;
        self.arrive(lock, out);
        self.sweep(out);
        true
    }

    /// A lock is given up by its owner. Whether the call is one that may be.
    pub fn unlock(
        &mut self,
        key: Key,
        flags: Flags,
        value: Option<ValueBlock>,
        out: Out<'_>,
    ) -> bool {
        let pending = self.converting.iter().chain(&self.waiting);
        let forced = pending.filter(|_| has(flags, Flags::FORCEUNLOCK));
        let mut all = self.granted.iter().chain(forced);
        let Some(lock) = all.find(|l| l.key == key).cloned() else {
            return false;
        };
        if has(flags, Flags::NOQUEUE) || self.unlock_is_wrong(flags) {
            return false;
        }
        if lock.granted.is_some_and(|(mode, _)| writes(mode)) {
            if value
                .as_ref()
                .is_some_and(|block| self.value_is_wrong(block))
            {
                return false;
            }
            if has(flags, Flags::IVVALBLK) {
                self.value.maybe_stale = true;
            } else if has(flags, Flags::VALBLK) && value.is_none() {
                return false;
            } else if let Some(value) = value
                && (has(flags, Flags::VALBLK) || lock.fresh)
            {
                self.publish(value);
            }
        }
        self.leaves(&lock);
        for queue in [&mut self.granted, &mut self.converting, &mut self.waiting] {
            queue.retain(|l| l.key != key);
        }
        self.gone(key, out);
        true
    }

    /// The change, if it can be made: nothing for a call that is wrong, and no value where others
    /// are in the way.
    pub fn update(&mut self, key: Key, update: &ValueUpdate) -> Option<Option<Updated>> {
        let own = self.granted.iter().position(|l| l.key == key)?;
        let all = self.granted.iter().chain(&self.converting);
        let others = all
            .filter(|l| l.key != key)
            .any(|l| excludes_writers(l.mode()));
        let (block, stale) = match update {
            ValueUpdate::Swap { block, .. } if self.value_is_wrong(block) => return None,
            _ if others => return Some(None),
            ValueUpdate::Swap {
                expect,
                expect_stale,
                block,
            } => {
                if *expect != self.value.version || *expect_stale != self.value.maybe_stale {
                    let value = self.value.clone();
                    self.granted[own].copy = Some(value.clone());
                    return Some(Some(Updated { done: false, value }));
                }
                (block.clone(), false)
            }
            ValueUpdate::Add { delta } => {
                let mut bytes = self.value.block.as_bytes().to_vec();
                let count = i64::from_le_bytes(bytes[..8].try_into().unwrap());
                let sum = i128::from(count) + i128::from(*delta);
                let sum = i64::try_from(sum).ok()?;
                bytes[..8].copy_from_slice(&sum.to_le_bytes());
                (ValueBlock::new(bytes).unwrap(), self.value.maybe_stale)
            }
        };
        self.publish(block);
        self.value.maybe_stale = stale;
        let value = self.value.clone();
        self.granted[own].copy = Some(value.clone());
        Some(Some(Updated { done: true, value }))
    }

    /// A lock watches the value, or not any more. Whether it is known and granted.
    pub fn watch(&mut self, key: Key, on: bool) -> bool {
        let mut all = self.granted.iter_mut().chain(&mut self.converting);
        let lock = all.find(|l| l.key == key);
        lock.map(|l| l.watches = on).is_some()
    }

    /// Who is to be told of a change.
    pub fn watching(&self) -> Vec<Key> {
        let all = self.granted.iter().chain(&self.converting);
        all.filter(|l| l.watches).map(|l| l.key).collect()
    }

    /// Those who watch have heard what the value is.
    pub fn heard(&mut self) {
        let value = self.value.clone();
        let all = self.granted.iter_mut().chain(&mut self.converting);
        for lock in all.filter(|l| l.watches) {
            lock.copy = Some(value.clone());
        }
    }

    /// A granted lock has another owner, who knows nothing of earlier notices.
    pub(crate) fn adopted(&mut self, key: Key, bast: bool, out: Out<'_>) {
        for lock in self.granted.iter_mut().filter(|l| l.key == key) {
            lock.bast = bast;
            lock.told = None;
        }
        self.tell_holders(out);
    }

    /// Whether nobody has a lock, or waits for one.
    pub(crate) fn is_empty(&self) -> bool {
        self.granted.is_empty() && self.converting.is_empty() && self.waiting.is_empty()
    }

    /// Whether a lock's owner has the value block as its mode entitles it to.
    pub(crate) fn is_fresh(&self, key: Key) -> bool {
        let mut all = self.granted.iter().chain(&self.converting);
        all.any(|l| l.key == key && l.fresh)
    }

    fn gone(&mut self, key: Key, out: Out<'_>) {
        out.push(Effect::Unlocked {
            key,
            version: self.value.version,
        });
        self.sweep(out);
    }

    /// A lock is taken away. Whether it was known.
    pub fn force_unlock(&mut self, key: Key, invalidate: bool, out: Out<'_>) -> bool {
        if !self.known(key) {
            return false;
        }
        if invalidate
            && self
                .granted
                .iter()
                .chain(&self.converting)
                .any(|l| l.key == key && writes(l.mode()))
        {
            self.value.maybe_stale = true;
        }
        let all = self.converting.iter().chain(&self.waiting);
        if let Some(lock) = all.clone().find(|l| l.key == key).cloned() {
            self.leaves(&lock);
        }
        self.granted.retain(|l| l.key != key);
        self.converting.retain(|l| l.key != key);
        self.waiting.retain(|l| l.key != key);
        self.gone(key, out);
        true
    }

    /// What waits is taken back. Whether anything was waiting.
    pub fn cancel(&mut self, key: Key, out: Out<'_>) -> bool {
        if let Some(at) = self.converting.iter().position(|l| l.key == key) {
            self.leaves(&self.converting[at].clone());
            let mut lock = self.converting.remove(at);
            lock.asked = None;
            lock.patient = false;
            self.granted.push(lock);
            self.granted.sort_by_key(|l| l.key);
        } else if let Some(at) = self.waiting.iter().position(|l| l.key == key) {
            self.leaves(&self.waiting[at].clone());
            self.waiting.remove(at);
        } else {
            return false;
        }
        out.push(Effect::Refused {
            key,
            why: Refusal::Cancelled,
        });
        self.sweep(out);
        true
    }
}
