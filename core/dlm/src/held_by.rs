//! What a vanished incarnation had on resources mastered here.
//!
//! It is looked for while all catch up with the change of the members, since then every resource is
//! looked at anyway; the proof, for which others wait, mostly comes later. What one has that rests, or
//! whose proof comes with the change, is looked for at its proof.

use crate::{
    Dlm, Life,
    master::{Key, Master},
    names::Place,
    table::State,
    work::Work,
};
use mainstay_base::Mutant;

impl Master {
    /// Whether a life has locks here, restated ones among them.
    fn knows(&self, life: Life) -> bool {
        self.engine.keys().any(|key| key.life() == life)
    }
}

/// Lives that have vanished with a change of the members, and where each has something.
pub(crate) type HeldBy = Vec<(Life, Vec<Place>)>;

impl Dlm {
    /// Takes note of what vanished lives have on a resource.
    pub(crate) fn note_held(&self, place: Place, by: &mut HeldBy) {
        let Some(entry) = self.resources.look(place) else {
            return;
        };
        if Mutant::HeldByVanishedUnnoticed.active() {
            return;
        }
        for (life, places) in by {
            let waits = entry.held.iter().any(|(from, _)| from == life);
            let has = matches!(&entry.state, State::Mine(master) if master.knows(*life));
            if waits || has {
                places.push(place);
            }
        }
    }

    /// All have caught up: what was found is what there is, unless they rest and may have more. Where the
    /// proof has come already, all is looked through for them anyway.
    pub(crate) fn keep_held(&mut self, by: HeldBy) {
        for (life, places) in by {
            let rests = self.is_resting(life);
            if let Some(departure) = self.departed.get_mut(&life) {
                let useful = !rests && departure.rebuild.is_none();
                departure.held = Some(places).filter(|_| useful);
            }
        }
    }

    /// Dropping all that a life has here, that is proved harmless.
    pub(crate) fn purge_of(&mut self, dead: Life) -> Work {
        let departure = self.departed.get_mut(&dead);
        match departure.and_then(|departure| departure.held.take()) {
            Some(places) => Work::purge_these(dead, places),
            None => Work::purge(dead, self.resources.places()),
        }
    }

    /// A resource has been rebuilt: others who have vanished since the one that mastered it may have
    /// restated locks there.
    pub(crate) fn note_held_after_rebuild(&mut self, place: Place) {
        for (life, departure) in &mut self.departed {
            if let Some(places) = &mut departure.held
                && let State::Mine(master) = &self.resources.peek(place).state
                && master.knows(*life)
            {
                places.push(place);
            }
        }
    }

    /// Checks that a vanished life has no lock that will not be found at its proof, nor any after it.
    ///
    /// # Panics
    /// If it has.
    pub(crate) fn check_held(&self) {
        if self.catching_up() {
            return;
        }
        for place in self.resources.places() {
            let Some(entry) = self.resources.look(place) else {
                continue;
            };
            let State::Mine(master) = &entry.state else {
                continue;
            };
            if master.rebuilding.is_some() {
                continue;
            }
            // What survives its node is the log's, until what the log says of it is carried out here.
            let known = |key: &Key| {
                let mut releases = self.surviving.releases.iter();
                self.surviving.is_recorded(*key) || releases.any(|(_, released)| released == key)
            };
            for key in master.engine.keys().filter(|key| !known(key)) {
                let Some(departure) = self.departed.get(&key.life()) else {
                    continue;
                };
                let missed = departure.held.as_ref().is_some_and(|h| !h.contains(&place));
                let purged = departure
                    .rebuild
                    .as_ref()
                    .is_some_and(|r| r.purged && !r.rested);
                assert!(
                    !missed && !purged,
                    "{key:?} on {} is of a life that has vanished, and would stay",
                    entry.id.name
                );
            }
        }
    }
}
