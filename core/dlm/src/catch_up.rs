//! What follows from a change of the members for what is known of millions of names, in slices.
//!
//! What is in use catches up when it is used ([`ResourceTable`](crate::table::ResourceTable)). Here
//! all are made to, and the rest follows: what is mastered here is registered with its new
//! directory, masters that were being looked up are looked up again, and it is known what was lost.
//! Only then has this node registered, and is a proof acted on.

use crate::{
    Dlm, Life, Out,
    directory::{Entry, NAMES_PER_MESSAGE},
    held_by::HeldBy,
    names::{Place, Places},
    recovery::Departure,
    table::State,
    work::{CHANGE, Work},
};
use mainstay_base::{Instant, LockspaceId, NodeId, ResourceName};
use mainstay_membership::directory_node;
use mainstay_wire::{
    dlm::{Body, ResourceId},
    event::{Reason, What},
};
use std::collections::BTreeMap;

/// What has to catch up yet.
#[derive(Debug)]
pub(crate) struct CatchUp {
    resources: Places,
    elsewhere: Places,
    /// The members before.
    before: Vec<NodeId>,
    gone: Vec<NodeId>,
    /// What those that are gone have here.
    held: HeldBy,
}

/// Names to be registered with nodes. They are sent before anything else happens, since a name may
/// be forgotten at any time.
type Registers = BTreeMap<(NodeId, LockspaceId), Vec<ResourceName>>;

impl Dlm {
    /// The members are others now; the table knows. The first slice is done at once.
    pub(crate) fn begin_catch_up(&mut self, now: Instant, before: Vec<NodeId>, gone: Vec<Life>) {
        self.works.at = now;
        self.works.catching_up = Some(CatchUp {
            resources: self.resources.places(),
            elsewhere: self.resources.elsewhere_places(),
            before,
            gone: gone.iter().map(|life| life.0).collect(),
            held: gone.into_iter().map(|life| (life, Vec::new())).collect(),
        });
        self.catch_up(now, self.works.slice);
    }

    /// Whether something may still be known only as it was under the members before.
    pub(crate) fn catching_up(&self) -> bool {
        self.works.catching_up.is_some()
    }

    /// Does as much as may be done, and returns how much may be done of something else.
    pub(crate) fn catch_up(&mut self, now: Instant, mut left: u32) -> u32 {
        let Some(mut work) = self.works.catching_up.take() else {
            return left;
        };
        let mut registers = Registers::new();
        let mut ended = false;
        while left > 0 {
            let cost = if let Some(place) = work.resources.next() {
                let cost = self.catch_up_resource(now, &work, place, &mut registers);
                self.note_held(place, &mut work.held);
                cost
            } else if let Some(place) = work.elsewhere.next() {
                if let Some(Entry::Lost(life)) = self.resources.catch_up_entry(place)
                    && is_rebuilt(&self.departed, life.life())
                {
                    self.resources.clear_elsewhere(place);
                }
                1
            } else {
                ended = true;
                break;
            };
            left = left.saturating_sub(cost);
        }
        for ((node, space), names) in registers {
            for names in names.chunks(NAMES_PER_MESSAGE) {
                let names = names.to_vec();
                self.send(node, Body::Register { space, names });
            }
        }
        if ended {
            self.keep_held(work.held);
            self.end_catch_up(now);
        } else {
            self.works.catching_up = Some(work);
        }
        left
    }

    /// Returns what it cost.
    fn catch_up_resource(
        &mut self,
        now: Instant,
        work: &CatchUp,
        place: Place,
        registers: &mut Registers,
    ) -> u32 {
        if let Some((from, to)) = self.resources.resumed() {
            self.greet_resumed(now, place, from, to);
        }
        let Some(entry) = self.resources.find_mut(place) else {
            return 1;
        };
        if let Some(Entry::Lost(life)) = entry.directory
            && is_rebuilt(&self.departed, life.life())
        {
            self.resources.set_directory(place, None);
        }
        let entry = self.resources.get(place);
        let forgetting = match &entry.state {
            State::At(_) | State::Moving(_) | State::Lost(_) => return 1,
            State::LookingUp => {
                let resource = entry.id.clone();
                self.look_up(now, &resource);
                return CHANGE;
            }
            State::Mine(master) if master.rebuilding.is_some() => return 1, // Later.
            State::Mine(_) => false,
            State::Forgetting => true,
        };
        let directory = directory_node(&self.ids, entry.id.space, &entry.id.name);
        let before = directory_node(&work.before, entry.id.space, &entry.id.name);
        // The same node in another life knows nothing.
        if directory == before && !work.gone.iter().any(|node| Some(*node) == before) {
            return 1;
        }
        let resource = entry.id.clone();
        if forgetting {
            // Without locks and unregistered with the new directory it is simply free; its tokens
            // are below those of the new epoch.
            self.unmaster(now, place);
        } else if directory == Some(self.me) {
            self.resources
                .set_directory(place, Some(Entry::At(self.me)));
            self.answer_askers(now, &resource);
        } else if let Some(node) = directory {
            let names = registers.entry((node, resource.space)).or_default();
            names.push(resource.name);
        }
        CHANGE
    }

    fn end_catch_up(&mut self, now: Instant) {
        for gone in self.resources.take_gone() {
            let (node, incarnation) = gone.life;
            let pending = &self.view.pending;
            let left = !pending.iter().any(|p| (p.node, p.incarnation) == gone.life);
            let detail = match left {
                _ if self.is_resting(gone.life) => "it rests, and has handed them over",
                true => "it left cleanly",
                false => "waiting for proof that it can do no more harm",
            };
            self.out.push(Out::Event {
                what: What::RecoveryStarted {
                    node,
                    incarnation,
                    resources: gone.lost.len() as u64,
                },
                reason: Reason::MasterLost,
                detail: detail.to_owned(),
            });
            if let Some(departure) = self.departed.get_mut(&gone.life) {
                departure.lost = gone.lost;
            }
        }
        // Proofs that came with the change itself.
        let proved = self.departed.iter().filter(|(_, d)| d.rebuild.is_some());
        let proved: Vec<Life> = proved.map(|(life, _)| *life).collect();
        for dead in proved {
            self.begin_restating(now, dead);
        }
        self.say_registered(now);
    }

    /// Begins to restate what a life mastered that is proved harmless, unless that has begun.
    pub(crate) fn begin_restating(&mut self, now: Instant, dead: Life) {
        let Some(departure) = self.departed.get_mut(&dead) else {
            return;
        };
        if let Some(rebuild) = &mut departure.rebuild
            && !std::mem::replace(&mut rebuild.restating, true)
        {
            let (rested, over) = (rebuild.rested, rebuild.rest_over);
            let (clean, doubted) = (rebuild.clean, rebuild.doubted.clone());
            let lost = std::mem::take(&mut departure.lost);
            self.take_carried(now, dead, rested);
            if over {
                // The rest is over already: what was being written there is in doubt.
                self.drop_restated(now, dead, dead, clean, &doubted);
            }
            self.begin_work(now, Work::restate(dead, lost));
        }
    }

    /// What this node knows as the directory of a name.
    pub(crate) fn entry(&mut self, resource: &ResourceId) -> Option<Entry> {
        let entry = self.resources.entry(resource)?;
        Some(entry).filter(|entry| self.is_taken(*entry))
    }

    /// Whether a name with such an entry has a master, or will: what nobody restated is free.
    pub(crate) fn is_taken(&self, entry: Entry) -> bool {
        match entry {
            Entry::At(_) => true,
            Entry::Lost(life) => !is_rebuilt(&self.departed, life.life()),
        }
    }
}

/// Whether all that a vanished incarnation mastered has been rebuilt here.
pub(crate) fn is_rebuilt(departed: &BTreeMap<Life, Departure>, life: Life) -> bool {
    let departure = departed.get(&life);
    departure.is_none_or(|departure| {
        let rebuild = departure.rebuild.as_ref();
        rebuild.is_some_and(|rebuild| rebuild.rebuilt.is_some())
    })
}
