//! Where resources and this node's own locks are kept.

use crate::master::Master;
use mainstay_base::{
    FixedMap, Instant, LockId, LockMode, NodeId, SessionId, Token, Value, ValueBlock,
};
use mainstay_wire::{
    client::Handle,
    dlm::{Body, ResourceId},
    lock::Flags,
};
use smallvec::SmallVec;

use crate::Life;

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
    Lost(Life),
}

/// A resource in which this node has an interest.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) id: ResourceId,
    pub(crate) state: State,
    /// Locks of own clients, in the order in which they were asked for.
    pub(crate) locks: SmallVec<[LockId; 2]>,
    /// Calls of others that arrived before it was known who masters.
    pub(crate) held: Vec<(Life, Body)>,
    /// Since when there are no locks.
    pub(crate) idle_since: Option<Instant>,
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

    /// The master side, if it is here.
    pub(crate) fn master(&mut self) -> Option<&mut Master> {
        match &mut self.state {
            State::Mine(master) => Some(master),
            _ => None,
        }
    }
}

/// All resources of this node, by place and by name.
#[derive(Debug, Default)]
pub(crate) struct ResourceTable {
    by_id: FixedMap<ResourceId, Place>,
    places: Vec<Option<Resource>>,
    free: Vec<Place>,
}

impl ResourceTable {
    pub(crate) fn place(&self, id: &ResourceId) -> Option<Place> {
        self.by_id.get(id).copied()
    }

    /// The place of a resource, which is made, looking up its master, if it was not known.
    pub(crate) fn place_or_new(&mut self, id: &ResourceId) -> (Place, bool) {
        if let Some(place) = self.place(id) {
            return (place, false);
        }
        let resource = Resource {
            id: id.clone(),
            state: State::LookingUp,
            locks: SmallVec::new(),
            held: Vec::new(),
            idle_since: None,
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
        self.by_id.insert(id.clone(), place);
        (place, true)
    }

    /// The resource at a place.
    ///
    /// # Panics
    /// If it was removed: places are only kept by locks, and a resource with locks is not removed.
    pub(crate) fn get(&self, place: Place) -> &Resource {
        self.places[place.0 as usize]
            .as_ref()
            .expect("a place in use")
    }

    /// As [`ResourceTable::get`], to be changed.
    pub(crate) fn get_mut(&mut self, place: Place) -> &mut Resource {
        self.places[place.0 as usize]
            .as_mut()
            .expect("a place in use")
    }

    pub(crate) fn remove(&mut self, place: Place) {
        let resource = self.places[place.0 as usize]
            .take()
            .expect("a place in use");
        assert!(
            resource.locks.is_empty(),
            "a resource with locks is not removed"
        );
        self.by_id.remove(&resource.id);
        self.free.push(place);
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
    /// The owner's copy of the value block, for the next master.
    pub(crate) value: Option<Value>,
    /// When it was granted or began to wait.
    pub(crate) since: Instant,
}
