//! Trees on the move: a root and all that is beneath it go together.
//!
//! Calls on sub-resources count for the root, only roots are chosen, and a batch has all of a tree that
//! is mastered here, or nothing of it. A sub-resource can be given to a master that is giving its root
//! away at that moment; such a one is **astray**, and follows.

use super::{
    MESSAGE_BYTES, Moves,
    give::{BATCH_LOCKS_MAX, BATCH_MAX},
    heat::Stage,
};
use crate::{Dlm, names::Place, table::State};
use mainstay_base::{Instant, Mutant, NodeId};
use mainstay_wire::dlm::ResourceId;
use std::collections::BTreeMap;

/// Most bytes of names in one batch, which all go in one message.
const BATCH_NAMES_MAX: usize = MESSAGE_BYTES;
/// Bytes that the name of a resource takes in a message beside its own, at most.
const NAME_BYTES: usize = 8;

/// What goes with a batch.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) names: Vec<ResourceId>,
    locks: usize,
    bytes: usize,
}

/// Whether a tree goes with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loading {
    /// It does.
    Done,
    /// With another one.
    Later,
    /// It is too large for any, or a part of it cannot move.
    Stays,
}

impl Moves {
    /// Whether anything had better be mastered elsewhere.
    pub(super) fn has_wishes(&self) -> bool {
        !self.hot.is_empty() || !self.astray.is_empty()
    }
}

impl Dlm {
    /// Where calls on a resource mastered here are counted: with its root, if that is mastered here, too.
    pub(super) fn counted_at(&mut self, place: Place) -> Option<Place> {
        let id = &self.resources.peek(place).id;
        if id.name.is_root() {
            return Some(place);
        }
        let root = self.resources.place(&id.root())?;
        let here = matches!(self.resources.get(root).state, State::Mine(_));
        here.then_some(root)
    }

    /// Remembers a resource mastered here if the rest of its tree is mastered elsewhere.
    pub(crate) fn note_astray(&mut self, place: Place) {
        let is_root = self.resources.peek(place).id.name.is_root();
        if is_root || !self.moves.config.moves || Mutant::TreeLeftBehind.active() {
            return;
        }
        let together = self.counted_at(place).is_some();
        let Some(master) = self.resources.get_mut(place).master() else {
            return;
        };
        if !together && !std::mem::replace(&mut master.heat.listed, true) {
            self.moves.astray.push(place);
        }
    }

    /// A root has moved: what has come beneath it meanwhile is to follow.
    pub(super) fn note_left_behind(&mut self, root: &ResourceId) {
        let beneath: Vec<Place> = self.resources.beneath(root).collect();
        for place in beneath {
            self.note_astray(place);
        }
    }

    /// Where to those go that are astray, as far as it is known.
    pub(super) fn list_astray(
        &mut self,
        now: Instant,
        by_target: &mut BTreeMap<NodeId, Vec<Place>>,
    ) {
        for place in std::mem::take(&mut self.moves.astray) {
            let Some(resource) = self.resources.find_mut(place) else {
                continue;
            };
            let root = resource.id.root();
            let is_root = resource.id.name.is_root();
            let Some(master) = resource.master() else {
                continue;
            };
            if is_root {
                continue; // Another resource has the place by now.
            }
            master.heat.listed = false;
            let (above, new) = self.resources.place_or_new(&root);
            if new {
                self.look_up(now, &root);
                self.note_idle(now, above);
            }
            match self.resources.get(above).state {
                State::Mine(_) => {}
                State::At(to) if to != self.me && !self.moves.unwilling.contains_key(&to) => {
                    by_target.entry(to).or_default().push(place);
                }
                _ => self.note_astray(place),
            }
        }
    }

    /// Keeps in mind what did not go with a batch.
    pub(super) fn keep_wishes(&mut self, later: Vec<Place>) {
        for place in later {
            match self.resources.peek(place).id.name.is_root() {
                true => self.moves.hot.push(place),
                false => self.note_astray(place),
            }
        }
    }

    /// How many of these resources are more than this node masters the trees of.
    pub(super) fn new_trees(&mut self, names: &[ResourceId]) -> u64 {
        let mut new = 0;
        for name in names {
            let root = match name.name.is_root() {
                true => None,
                false => self.resources.place(&name.root()),
            };
            let here =
                root.is_some_and(|root| matches!(self.resources.get(root).state, State::Mine(_)));
            new += u64::from(!here);
        }
        new
    }

    /// Takes a resource, and what is mastered here beneath it, into a batch.
    pub(super) fn load_tree(&mut self, place: Place, load: &mut Load) -> Loading {
        let root = self.resources.peek(place).id.clone();
        let mut places = vec![place];
        if !Mutant::TreeLeftBehind.active() {
            // One more than fits is enough to know that it stays.
            let here = |place: &Place| matches!(self.resources.peek(*place).state, State::Mine(_));
            let beneath = self.resources.beneath(&root).filter(here);
            places.extend(beneath.take(BATCH_MAX + 1));
        }
        let fits = |names, locks, bytes| {
            names <= BATCH_MAX && locks <= BATCH_LOCKS_MAX && bytes <= BATCH_NAMES_MAX
        };
        let mut tree = Load::default();
        let mut loaded = Vec::new();
        for place in places {
            let resource = self.resources.get_mut(place);
            let id = resource.id.clone();
            let Some(master) = resource.master() else {
                continue;
            };
            if master.heat.stage != Stage::Stays {
                continue;
            }
            if master.rebuilding.is_some() {
                return Loading::Later;
            }
            if master.is_ranged() {
                return Loading::Stays;
            }
            tree.locks += master.engine.len();
            tree.bytes += id.name.encoded_len() + NAME_BYTES;
            tree.names.push(id);
            loaded.push(place);
            if tree.names.len() > 1 && !fits(tree.names.len(), tree.locks, tree.bytes) {
                return Loading::Stays;
            }
        }
        let locks = load.locks + tree.locks;
        let names = load.names.len() + tree.names.len();
        let alone = load.names.is_empty();
        if !alone && !fits(names, locks, load.bytes + tree.bytes) {
            return Loading::Later;
        }
        for place in loaded {
            if let Some(master) = self.resources.get_mut(place).master() {
                master.heat.cool();
                master.heat.stage = Stage::Asked;
            }
        }
        load.locks = locks;
        load.bytes += tree.bytes;
        load.names.append(&mut tree.names);
        Loading::Done
    }
}
