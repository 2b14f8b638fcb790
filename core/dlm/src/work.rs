//! What takes long, in slices: others have their turn in between.
//!
//! In a recovery, catching up with the change of the members and restating come first, since other
//! nodes wait for it. Dropping the locks of the
//! dead and moving the queues of what was rebuilt are for a node that may act; until then they wait.
//! A client that ends may leave very many locks, too.

use crate::{
    Dlm, Life,
    catch_up::CatchUp,
    master::Key,
    names::{Place, Places},
    recovery::Rebuild,
    scan::Scanning,
    table::State,
};
use mainstay_base::{Instant, LockId, Mutant, Token};
use mainstay_recorder::{Op, Phase};
use mainstay_wire::event::{Reason, What};
use std::collections::VecDeque;

/// What it costs to change a resource, where looking at one costs 1.
pub(crate) const CHANGE: u32 = 8;

/// So many resources' needs are fetched from memory together.
const AHEAD: usize = 32;

/// Something to be done to many resources, for the sake of one vanished incarnation.
#[derive(Debug)]
pub(crate) struct Work {
    kind: Kind,
    dead: Life,
    left: Left,
}

/// What is left to be looked at.
#[derive(Debug)]
enum Left {
    /// These, last first.
    These(Vec<Place>),
    All(Places),
}

impl Left {
    fn these(mut places: Vec<Place>) -> Left {
        places.reverse();
        Left::These(places)
    }

    fn next(&mut self) -> Option<Place> {
        match self {
            Left::These(places) => places.pop(),
            Left::All(places) => places.next(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Restate,
    Purge,
    Finish,
}

impl Work {
    /// Restating own locks on what it mastered.
    pub(crate) fn restate(dead: Life, places: Vec<Place>) -> Work {
        Work {
            kind: Kind::Restate,
            dead,
            left: Left::these(places),
        }
    }

    /// Dropping the locks that it held on resources mastered here, wherever they are.
    pub(crate) fn purge(dead: Life, places: Places) -> Work {
        Work {
            kind: Kind::Purge,
            dead,
            left: Left::All(places),
        }
    }

    /// The same, where it is known on which.
    pub(crate) fn purge_these(dead: Life, places: Vec<Place>) -> Work {
        Work {
            kind: Kind::Purge,
            dead,
            left: Left::these(places),
        }
    }

    /// Putting the queues of rebuilt resources in order, and letting them move.
    pub(crate) fn finish(dead: Life, places: Vec<Place>) -> Work {
        Work {
            kind: Kind::Finish,
            dead,
            left: Left::these(places),
        }
    }
}

/// All that is under way.
#[derive(Debug)]
pub(crate) struct Works {
    pub(crate) slice: u32,
    /// When there was last a slice, or something to slice.
    pub(crate) at: Instant,
    /// What others are told in a recovery is held back, since they have not taken the last of it.
    held_back: bool,
    /// What follows from a change of the members.
    pub(crate) catching_up: Option<CatchUp>,
    /// Locks of clients that are gone, or that are released together; last first.
    releasing: VecDeque<Vec<LockId>>,
    restating: VecDeque<Work>,
    /// What only a node does that may act.
    acting: VecDeque<Work>,
    /// Reports that are being made; they come last.
    pub(crate) scans: VecDeque<Scanning>,
}

impl Works {
    /// # Panics
    /// If `slice` is zero.
    pub(crate) fn new(slice: u32) -> Works {
        assert!(slice > 0, "a slice of nothing never ends");
        Works {
            slice,
            at: Instant::ZERO,
            held_back: false,
            catching_up: None,
            releasing: VecDeque::new(),
            restating: VecDeque::new(),
            acting: VecDeque::new(),
            scans: VecDeque::new(),
        }
    }
}

impl Dlm {
    pub(crate) fn begin_work(&mut self, now: Instant, work: Work) {
        self.works.at = now;
        match work.kind {
            Kind::Restate => self.works.restating.push_back(work),
            Kind::Purge | Kind::Finish => self.works.acting.push_back(work),
        }
    }

    /// Gives up the locks of a client that is gone, or that are to go together, the first slice of them
    /// at once, unless others are before them: thousands of clients may go at a time.
    pub(crate) fn begin_release(&mut self, now: Instant, mut locks: Vec<LockId>) {
        locks.reverse();
        let first = self.works.releasing.is_empty();
        self.works.releasing.push_back(locks);
        self.works.at = now;
        if first && !self.catching_up() {
            self.release_on(now, self.works.slice);
        }
    }

    /// Does as much as may be done, and returns how much may be done of something else.
    fn release_on(&mut self, now: Instant, mut left: u32) -> u32 {
        while left > 0
            && let Some(mut locks) = self.works.releasing.pop_front()
        {
            while left > 0
                && let Some(lock) = locks.pop()
            {
                match self.trees.is_ending(lock) {
                    true => self.end_with_tree(now, lock),
                    false => self.drop_lock(now, lock, true),
                }
                left = left.saturating_sub(CHANGE);
            }
            if !locks.is_empty() {
                self.works.releasing.push_front(locks);
            }
        }
        left
    }

    /// Gives up a lock that is to go with others, when what is under way is over: masters may be changing
    /// just now.
    pub(crate) fn release_soon(&mut self, now: Instant, lock: LockId) {
        self.works.releasing.push_back(vec![lock]);
        self.works.at = now;
    }

    /// When the next slice is due.
    pub(crate) fn work_due(&self) -> Option<Instant> {
        let any = match self.is_held_back() {
            true => self.may_release(),
            false => self.has_work() || !self.works.scans.is_empty(),
        };
        any.then_some(self.works.at)
    }

    /// Whether there is anything to do but reports.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.has_restated()
            || !self.works.releasing.is_empty()
            || self.orphans.has_work()
            || self.active && !self.works.acting.is_empty()
    }

    /// Holds back what other nodes are to be told because the members changed, or lets it go on. What follows
    /// it in its turn waits, too. [`Dlm::work_off`] does not heed it.
    pub fn hold_back(&mut self, now: Instant, on: bool) {
        if std::mem::replace(&mut self.works.held_back, on) && !on {
            self.works.at = now; // It has not been due for all that time.
        }
    }

    fn is_held_back(&self) -> bool {
        self.works.held_back && !self.has_restated()
    }

    /// Whether there is something to drop that does not wait for others.
    fn may_release(&self) -> bool {
        let works = &self.works;
        works.catching_up.is_none() && (!works.releasing.is_empty() || self.orphans.has_work())
    }

    /// Does a slice of what is to be done.
    pub fn work(&mut self, now: Instant) {
        let held_back = self.is_held_back();
        if held_back && !self.may_release() {
            return;
        }
        let mut left = self.catch_up(now, self.works.slice);
        left = self.release_on(now, left);
        left = self.purge_on(now, left);
        if held_back {
            left = 0;
        }
        while left > 0
            && let Some(mut work) = self.next_work()
        {
            let mut ended = false;
            while left > 0 && !ended {
                self.fetch_ahead(&work);
                left = left.saturating_sub(match work.left.next() {
                    Some(place) => self.work_on(now, &work, place),
                    None => {
                        ended = true;
                        CHANGE
                    }
                });
            }
            if ended {
                self.end_work(now, &work);
            } else if work.kind == Kind::Restate {
                self.works.restating.push_front(work);
            } else {
                self.works.acting.push_front(work);
            }
        }
        self.scan_on(left);
        self.works.at = now;
    }

    /// Whether nothing has to catch up, or to be restated.
    #[must_use]
    pub fn has_restated(&self) -> bool {
        self.works.catching_up.is_none() && self.works.restating.is_empty()
    }

    /// Does all that can be done now, but for reports.
    pub fn work_off(&mut self, now: Instant) {
        self.hold_back(now, false);
        while self.has_work() {
            self.work(now);
        }
    }

    /// Lets the processor fetch what the next resources need all at once: one after the other, a third of
    /// the time of a recovery is waiting for memory.
    fn fetch_ahead(&self, work: &Work) {
        let Left::These(places) = &work.left else {
            return;
        };
        if !places.len().is_multiple_of(AHEAD) {
            return;
        }
        let next = places.iter().rev().take(AHEAD);
        let resources = next.filter_map(|place| self.resources.look(*place));
        let found = match work.kind {
            Kind::Restate => {
                let locks = resources.filter_map(|resource| resource.locks.first());
                let owned = locks.filter_map(|lock| self.locks.get(lock));
                owned.filter(|owned| owned.granted.is_some()).count()
            }
            Kind::Purge | Kind::Finish => {
                let mastered = resources.filter_map(|resource| match &resource.state {
                    State::Mine(master) => Some(master),
                    _ => None,
                });
                let restated = mastered.flat_map(|master| master.engine.restated());
                restated.filter(|(_, lock)| lock.granted.is_some()).count()
            }
        };
        std::hint::black_box(found);
    }

    fn next_work(&mut self) -> Option<Work> {
        let restating = self.works.restating.pop_front();
        restating.or_else(|| match self.active {
            true => self.works.acting.pop_front(),
            false => None,
        })
    }

    /// Returns what it cost.
    fn work_on(&mut self, now: Instant, work: &Work, place: Place) -> u32 {
        let changed = match work.kind {
            Kind::Restate => {
                // It may be forgotten by now, or restated in answer to another's restatement.
                let lost = self.resources.find_mut(place);
                let lost = lost.is_some_and(|resource| resource.is_lost_with(work.dead));
                if lost {
                    self.restate(now, place, work.dead);
                }
                lost
            }
            Kind::Purge => self.purge(now, place, work.dead),
            Kind::Finish => {
                self.settle(now, place, work.dead);
                true
            }
        };
        if changed { CHANGE } else { 1 }
    }

    fn end_work(&mut self, now: Instant, work: &Work) {
        match work.kind {
            Kind::Restate => self.say_restated(now, work.dead),
            Kind::Purge => {
                if let Some(rebuild) = self.rebuild_of(work.dead) {
                    rebuild.purged = true;
                }
                self.recovered(now, work.dead);
            }
            Kind::Finish => {
                self.handed.retain(|(life, _), _| *life != work.dead);
                if let Some(rebuild) = self.rebuild_of(work.dead) {
                    rebuild.rebuilt = Some(rebuild.places.len() as u64);
                }
                self.recovered(now, work.dead);
            }
        }
    }

    pub(crate) fn rebuild_of(&mut self, dead: Life) -> Option<&mut Rebuild> {
        self.departed.get_mut(&dead)?.rebuild.as_mut()
    }

    /// Puts the queues of a rebuilt resource in order and lets them move.
    fn settle(&mut self, now: Instant, place: Place, dead: Life) {
        self.greet_early(now, place);
        let resource = self.resources.get(place).id.clone();
        let handed = self.handed.remove(&(dead, resource.clone()));
        let Some(rebuild) = self.rebuild_of(dead) else {
            return;
        };
        // A clean departure leaves nothing in doubt, if its value came and all were heard.
        let clean = rebuild.clean && !rebuild.unheard && !rebuild.suspects.contains(&resource);
        let certain = clean && handed.is_some() || Mutant::StaleMarkOmitted.active();
        self.unite_ceded(now, place, dead);
        self.restate_survivors(now, place);
        let Some(master) = self.resources.get_mut(place).master() else {
            return;
        };
        if let Some(value) = handed {
            master.engine.restate_value(value);
        }
        let mut settled = match master.settle_use() {
            Ok(settled) => settled,
            Err(key) => {
                let ((node, _), name) = (key.life(), &resource.name);
                let text = format!(
                    "node {node} restates a lock on all of {name}, of which others hold ranges"
                );
                return self.out.push(crate::Out::Fatal(text));
            }
        };
        let mut effects = std::mem::take(&mut self.effects);
        master.engine.finish_rebuild(!certain, &mut effects);
        master.finish_ranges(&mut settled, &mut effects);
        master.rebuilding = None;
        self.note_held_after_rebuild(place);
        self.register_one(place, &resource);
        self.deliver(now, place, effects);
        for (key, why) in settled.refused {
            self.tell_refused(now, key.life(), key.lock, why);
        }
        self.note_news(place);
        self.mastered(now, place);
    }

    /// Drops the locks that an incarnation held on a resource mastered here. Whether there were any.
    fn purge(&mut self, now: Instant, place: Place, dead: Life) -> bool {
        if Mutant::PurgeForgotten.active() {
            return false;
        }
        self.greet_early(now, place);
        let ranges = self.purge_ranges(now, place, dead);
        if let Some(rebuild) = self.rebuild_of(dead) {
            rebuild.dropped += ranges;
        }
        let rebuild = self.departed.get(&dead).and_then(|d| d.rebuild.as_ref());
        let clean =
            rebuild.is_none_or(|rebuild| rebuild.clean) || Mutant::StaleMarkOmitted.active();
        let Some(entry) = self.resources.find_mut(place) else {
            return false;
        };
        entry.held.retain(|(from, _)| *from != dead);
        let Some(master) = entry.master() else {
            return false;
        };
        let engine = &mut master.engine;
        let keys: Vec<(Key, bool)> = engine
            .granted()
            .chain(engine.converting())
            .chain(engine.waiting())
            .filter(|view| view.key.life() == dead && !self.surviving.is_recorded(view.key))
            .map(|view| {
                let writer = view.granted.is_some_and(|(mode, _)| mode.writes_value());
                let said = rebuild.is_some_and(|r| r.doubted.contains(&view.key.lock));
                (view.key, writer && (said || !clean && view.valblk))
            })
            .collect();
        if keys.is_empty() {
            return ranges > 0;
        }
        let mut effects = std::mem::take(&mut self.effects);
        for &(key, invalidate) in &keys {
            engine.force_unlock(key, invalidate, &mut effects);
        }
        for &(key, _) in &keys {
            self.note_at_master(now, Op::Purged, place, key, None, Token::NONE);
        }
        self.deliver(now, place, effects);
        self.note_news(place);
        self.note_idle(now, place);
        if let Some(rebuild) = self.rebuild_of(dead) {
            rebuild.dropped += keys.len() as u64;
        }
        true
    }

    /// Ends a recovery when both its parts are done.
    fn recovered(&mut self, now: Instant, dead: Life) {
        let Some(rebuild) = self.rebuild_of(dead) else {
            return;
        };
        let (true, Some(rebuilt)) = (rebuild.purged, rebuild.rebuilt) else {
            return;
        };
        let (dropped, took) = (rebuild.dropped, now.since(rebuild.since));
        self.departed.remove(&dead);
        self.lay_ghosts();
        self.note_recovery(now, dead, Phase::Done);
        self.out.push(crate::Out::Event {
            what: What::RecoveryDone {
                node: dead.0,
                incarnation: dead.1,
                rebuilt,
                dropped,
                took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            },
            reason: Reason::HolderLost,
            detail: String::new(),
        });
        self.say_registered(now);
        self.directory_retry(now);
    }
}
