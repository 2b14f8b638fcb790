//! Where resources and this node's own locks are kept.

use crate::{
    directory::Entry,
    life::{Life, PackedLife},
    master::Master,
};
use mainstay_base::{
    FixedIndex, FixedMap, Instant, LockId, LockMode, LockspaceId, NodeId, SessionId, Token, Value,
    ValueBlock,
};
use mainstay_wire::{
    client::Handle,
    dlm::{Body, ResourceId},
    lock::Flags,
};
use thin_vec::ThinVec;

/// In place of the time since when a resource has no locks.
pub(crate) const NOT_IDLE: Instant = Instant(u64::MAX);

/// Place of a resource in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place(u32);

/// What this node knows of who masters a resource.
#[derive(Debug)]
pub(crate) enum State {
    /// Asked the directory, or will as soon as there is a view.
    LookingUp,
    /// That member does.
    At(NodeId),
    /// This node does.
    Mine(Box<Master>),
    /// This node did; the directory has been asked to forget.
    Forgetting,
    /// A vanished incarnation did; its end is not proved yet.
    Lost(PackedLife),
}

/// A resource in which this node has an interest.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) id: ResourceId,
    pub(crate) state: State,
    /// Locks of own clients, in the order in which they were asked for.
    pub(crate) locks: ThinVec<LockId>,
    /// Calls of others that arrived before it was known who masters.
    pub(crate) held: ThinVec<(Life, Body)>,
    /// What this node knows as the name's directory.
    directory: Option<Entry>,
    /// Since when there are no locks, or [`NOT_IDLE`].
    pub(crate) idle_since: Instant,
    /// It stands in the queue of idle resources.
    pub(crate) in_idle_queue: bool,
}

impl Resource {
    /// Nobody here or elsewhere has a lock on it, as far as this node is concerned.
    pub(crate) fn is_idle(&self) -> bool {
        self.locks.is_empty()
            && self.held.is_empty()
            && match &self.state {
                State::Mine(master) => master.engine.is_empty() && master.rebuilding.is_none(),
                State::LookingUp | State::At(_) | State::Forgetting | State::Lost(_) => true,
            }
    }

    /// A lock of an own client comes.
    pub(crate) fn add_lock(&mut self, lock: LockId) {
        if self.locks.is_empty() {
            self.locks.reserve_exact(1); // Most often it stays the only one.
        }
        self.locks.push(lock);
        self.idle_since = NOT_IDLE;
    }

    /// A lock of an own client goes.
    pub(crate) fn remove_lock(&mut self, lock: LockId) {
        self.locks.retain(|other| *other != lock);
        if self.locks.is_empty() {
            self.locks = ThinVec::new();
        }
    }

    /// Whether that incarnation mastered it and nothing has been restated yet.
    pub(crate) fn is_lost_with(&self, dead: Life) -> bool {
        matches!(self.state, State::Lost(life) if life.life() == dead)
    }

    /// The master side, if it is here.
    pub(crate) fn master(&mut self) -> Option<&mut Master> {
        match &mut self.state {
            State::Mine(master) => Some(master),
            _ => None,
        }
    }
}

/// All resources of this node, by place and by name, and what it knows as the directory of names.
/// There may be millions, so each name is kept only once.
#[derive(Debug, Default)]
pub(crate) struct ResourceTable {
    by_id: FixedIndex<Place>,
    places: Vec<Option<Resource>>,
    free: Vec<Place>,
    /// Directory entries of names in which this node has no other interest.
    elsewhere: FixedMap<ResourceId, Entry>,
}

impl ResourceTable {
    pub(crate) fn place(&self, id: &ResourceId) -> Option<Place> {
        let stands_at = |place: &Place| self.get(*place).id == *id;
        self.by_id.get(id, stands_at)
    }

    /// The place of a resource, which is made, looking up its master, if it was not known.
    pub(crate) fn place_or_new(&mut self, id: &ResourceId) -> (Place, bool) {
        if let Some(place) = self.place(id) {
            return (place, false);
        }
        let resource = Resource {
            id: id.clone(),
            state: State::LookingUp,
            locks: ThinVec::new(),
            held: ThinVec::new(),
            directory: self.elsewhere.remove(id),
            idle_since: NOT_IDLE,
            in_idle_queue: false,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place.0 as usize] = Some(resource);
                place
            }
            None => {
                self.places.push(Some(resource));
                Place(u32::try_from(self.places.len() - 1).expect("fewer than 2^32 resources"))
            }
        };
        let places = &self.places;
        let key_at = |place: &Place| &in_use(&places[place.0 as usize]).id;
        self.by_id.insert(id, place, key_at);
        (place, true)
    }

    /// The resource at a place.
    ///
    /// # Panics
    /// If it was removed: places are only kept by locks, and a resource with locks is not removed.
    pub(crate) fn get(&self, place: Place) -> &Resource {
        in_use(&self.places[place.0 as usize])
    }

    /// As [`ResourceTable::get`], to be changed.
    pub(crate) fn get_mut(&mut self, place: Place) -> &mut Resource {
        self.places[place.0 as usize]
            .as_mut()
            .expect("a place in use")
    }

    /// The resource at a place, if it is in use.
    pub(crate) fn find_mut(&mut self, place: Place) -> Option<&mut Resource> {
        self.places.get_mut(place.0 as usize)?.as_mut()
    }

    pub(crate) fn remove(&mut self, place: Place) {
        let resource = self.places[place.0 as usize]
            .take()
            .expect("a place in use");
        assert!(
            resource.locks.is_empty(),
            "a resource with locks is not removed"
        );
        self.by_id.remove(&resource.id, |other| *other == place);
        self.free.push(place);
        if let Some(entry) = resource.directory {
            self.elsewhere.insert(resource.id, entry);
        }
    }

    /// What this node knows as the directory of a name.
    pub(crate) fn entry(&self, id: &ResourceId) -> Option<Entry> {
        match self.place(id) {
            Some(place) => self.get(place).directory,
            None => self.elsewhere.get(id).copied(),
        }
    }

    pub(crate) fn set_entry(&mut self, id: &ResourceId, entry: Entry) {
        match self.place(id) {
            Some(place) => self.get_mut(place).directory = Some(entry),
            None => {
                self.elsewhere.insert(id.clone(), entry);
            }
        }
    }

    pub(crate) fn clear_entry(&mut self, id: &ResourceId) {
        match self.place(id) {
            Some(place) => self.get_mut(place).directory = None,
            None => {
                self.elsewhere.remove(id);
            }
        }
    }

    /// Changes all that this node knows as a directory. What it becomes must not depend on what
    /// becomes of another.
    pub(crate) fn change_entries(&mut self, to: impl Fn(&ResourceId, Entry) -> Option<Entry>) {
        for resource in self.places.iter_mut().flatten() {
            if let Some(entry) = resource.directory {
                resource.directory = to(&resource.id, entry);
            }
        }
        self.elsewhere.retain(|id, entry| match to(id, *entry) {
            Some(changed) => {
                *entry = changed;
                true
            }
            None => false,
        });
    }

    /// How many names of a lockspace this node is the directory of.
    pub(crate) fn entries_in(&self, space: LockspaceId) -> u64 {
        let here = self
            .iter()
            .filter(|r| r.id.space == space && r.directory.is_some());
        let elsewhere = self.elsewhere.count(|id, _| id.space == space);
        (here.count() + elsewhere) as u64
    }

    /// All places in use, in an order that follows from the history alone.
    pub(crate) fn all(&self) -> Vec<Place> {
        (0u32..)
            .zip(&self.places)
            .filter(|(_, r)| r.is_some())
            .map(|(i, _)| Place(i))
            .collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.places.iter().flatten()
    }
}

fn in_use(place: &Option<Resource>) -> &Resource {
    place.as_ref().expect("a place in use")
}

/// A call of a client that is not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    None,
    Request {
        mode: LockMode,
        flags: Flags,
    },
    Convert {
        mode: LockMode,
        flags: Flags,
        value: Option<ValueBlock>,
    },
    Unlock {
        flags: Flags,
        value: Option<ValueBlock>,
    },
}

/// A lock of one of this node's clients.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) session: SessionId,
    pub(crate) handle: Handle,
    pub(crate) place: Place,
    pub(crate) granted: Option<LockMode>,
    pub(crate) token: Token,
    pub(crate) pending: Pending,
    /// Number of the client's pending call.
    pub(crate) request: u64,
    /// Number of the client's call to cancel the pending one.
    pub(crate) cancel: Option<u64>,
    /// The pending call has been given to the master.
    pub(crate) sent: bool,
    /// The pending call is being cancelled because its time ran out.
    pub(crate) timed_out: bool,
    /// Its place in the master's queue.
    pub(crate) ticket: Option<i64>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) blocking: bool,
    pub(crate) valblk: bool,
    /// Its last call had NODLCKBLK: it goes when it is in the way.
    pub(crate) yields: bool,
    /// The owner's copy of the value block, for the next master.
    pub(crate) value: Option<Value>,
    /// When it was granted or began to wait.
    pub(crate) since: Instant,
}
