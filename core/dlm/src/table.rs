//! Where resources and this node's own locks are kept.

use crate::{
    directory::Entry,
    life::{Life, PackedLife},
    master::{Key, Master},
    names::{Named, Names, Place, Places},
    tally::{Counts, Tally},
};
use mainstay_base::{
    Instant, LockId, LockMode, LockspaceId, Mutant, NodeId, SessionId, Token, Value, ValueBlock,
    ValueVersion,
};
use mainstay_membership::directory_node;
use mainstay_wire::{
    client::Handle,
    dlm::{Body, RangeAsk, ResourceId},
    lock::{Flags, ValueUpdate},
};
use std::collections::{BTreeMap, BTreeSet};
use thin_vec::ThinVec;

/// In place of the time since when a resource has no locks.
pub(crate) const NOT_IDLE: Instant = Instant(u64::MAX);

/// What this node knows of who masters a resource.
#[derive(Debug)]
pub(crate) enum State {
    /// Asked the directory, or will as soon as there is a view.
    LookingUp,
    /// That member does.
    At(NodeId),
    /// That member does, and is giving it away: nothing is said to it for now.
    Moving(NodeId),
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
    /// Changed by [`ResourceTable::set_state`] alone.
    pub(crate) state: State,
    /// Locks of own clients, in the order in which they were asked for, which is that of their
    /// numbers. Changed by [`ResourceTable::add_lock`] and [`ResourceTable::remove_lock`] alone.
    pub(crate) locks: ThinVec<LockId>,
    /// Calls of others that arrived before it was known who masters.
    pub(crate) held: ThinVec<(Life, Body)>,
    /// What this node knows as the name's directory. Changed by [`ResourceTable::set_directory`] alone.
    pub(crate) directory: Option<Entry>,
    /// Since when there are no locks, or [`NOT_IDLE`].
    pub(crate) idle_since: Instant,
    /// It stands in the queue of idle resources.
    pub(crate) in_idle_queue: bool,
    /// The node that is taken for its master has sent a call back, and may have others yet.
    pub(crate) turned_away: bool,
    /// That of the last change of the members with which it has caught up.
    turn: bool,
}

impl Resource {
    /// Nobody here or elsewhere has a lock on it, as far as this node is concerned.
    pub(crate) fn is_idle(&self) -> bool {
        self.locks.is_empty()
            && self.held.is_empty()
            && match &self.state {
                State::Mine(master) => master.is_empty() && master.stays(),
                State::Moving(_) => false,
                State::LookingUp | State::At(_) | State::Forgetting | State::Lost(_) => true,
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

/// What this node knows as the directory of a name in which it has no other interest.
#[derive(Debug)]
struct Elsewhere {
    id: ResourceId,
    entry: Entry,
    turn: bool,
}

impl Named for Resource {
    fn id(&self) -> &ResourceId {
        &self.id
    }
}

impl Named for Elsewhere {
    fn id(&self) -> &ResourceId {
        &self.id
    }
}

/// The last change of the members, as far as it changes what is known of names.
#[derive(Debug, Default)]
struct Change {
    /// Other with each change: what has the other one has not caught up yet.
    turn: bool,
    me: NodeId,
    members: Vec<NodeId>,
    gone: Vec<Gone>,
    /// Whose locks are those of which other life now.
    resumed: Option<(PackedLife, Life)>,
}

/// An incarnation that left with the last change of the members.
#[derive(Debug)]
pub(crate) struct Gone {
    pub(crate) life: Life,
    /// What it mastered and this node has an interest in, as far as that has caught up.
    pub(crate) lost: Vec<Place>,
}

impl Change {
    fn gone(&mut self, node: NodeId) -> Option<&mut Gone> {
        self.gone.iter_mut().find(|gone| gone.life.0 == node)
    }

    /// What becomes of a directory entry.
    fn entry(&mut self, id: &ResourceId, entry: Entry) -> Option<Entry> {
        let Entry::At(master) = entry else {
            // Kept even if the name's directory moves away: it may come back before the proof.
            return Some(entry);
        };
        if let Some(gone) = self.gone(master) {
            return Some(Entry::Lost(PackedLife::of(gone.life)));
        }
        let directory = directory_node(&self.members, id.space, &id.name);
        Some(entry).filter(|_| directory == Some(self.me))
    }

    fn catch_up(&mut self, place: Place, resource: &mut Resource) {
        resource.turn = self.turn;
        if let Some(entry) = resource.directory {
            resource.directory = self.entry(&resource.id, entry);
        }
        if let Some((from, to)) = self.resumed
            && !Mutant::ResumedUnnoticed.active()
        {
            for (life, _) in resource.held.iter_mut().filter(|h| h.0 == from.life()) {
                *life = to;
            }
            if let State::Mine(master) = &mut resource.state {
                let to = |key: Key| key.is_of(from).then(|| Key::of(to, key.lock));
                master.engine.rename(to);
            }
        }
        if let State::At(master) | State::Moving(master) = resource.state {
            resource.state = match self.gone(master) {
                Some(gone) => {
                    gone.lost.push(place);
                    State::Lost(PackedLife::of(gone.life))
                }
                None => State::At(master),
            };
        }
    }
}

/// All resources of this node, by place and by name, and what it knows as the directory of names.
///
/// When the members change, every resource and entry has to change with them. There may be
/// millions, so each **catches up** when it is next used, and the others are made to by
/// [`ResourceTable::catch_up`] and [`ResourceTable::catch_up_entry`] in slices.
#[derive(Debug, Default)]
pub(crate) struct ResourceTable {
    resources: Names<Resource>,
    /// Directory entries of names in which this node has no other interest.
    elsewhere: Names<Elsewhere>,
    change: Change,
    /// Places of sub-resources, by the roots of their trees.
    trees: BTreeMap<ResourceId, BTreeSet<Place>>,
    tally: Tally,
}

impl ResourceTable {
    pub(crate) fn place(&self, id: &ResourceId) -> Option<Place> {
        self.resources.place(id)
    }

    /// The place of a resource, which is made, looking up its master, if it was not known.
    pub(crate) fn place_or_new(&mut self, id: &ResourceId) -> (Place, bool) {
        if let Some(place) = self.place(id) {
            return (place, false);
        }
        // What was known in its stead goes on as its own.
        let directory = match self.elsewhere.place(id) {
            Some(place) => {
                let entry = self.catch_up_entry(place);
                self.clear_elsewhere(place);
                entry
            }
            None => None,
        };
        let counts = self.tally.of(id.space);
        counts.resources += 1;
        counts.entry(None, directory);
        let place = self.resources.add(Resource {
            id: id.clone(),
            state: State::LookingUp,
            locks: ThinVec::new(),
            held: ThinVec::new(),
            directory,
            idle_since: NOT_IDLE,
            in_idle_queue: false,
            turned_away: false,
            turn: self.change.turn,
        });
        if !id.name.is_root() {
            self.trees.entry(id.root()).or_default().insert(place);
        }
        (place, true)
    }

    /// The resource at a place.
    ///
    /// # Panics
    /// If it was removed: places are only kept by locks, and a resource with locks is not removed.
    pub(crate) fn get(&mut self, place: Place) -> &Resource {
        self.get_mut(place)
    }

    /// As [`ResourceTable::get`], to be changed.
    pub(crate) fn get_mut(&mut self, place: Place) -> &mut Resource {
        self.find_mut(place).expect("a place in use")
    }

    /// The resource at a place, if it is in use.
    pub(crate) fn find_mut(&mut self, place: Place) -> Option<&mut Resource> {
        let resource = self.resources.at_mut(place)?;
        if resource.turn != self.change.turn {
            let before = resource.directory;
            self.change.catch_up(place, resource);
            if resource.directory != before {
                let counts = self.tally.of(resource.id.space);
                counts.entry(before, resource.directory);
            }
        }
        Some(resource)
    }

    /// Who masters the resource at a place is known otherwise from now on.
    ///
    /// # Panics
    /// As [`ResourceTable::get`].
    pub(crate) fn set_state(&mut self, place: Place, state: State) -> &mut Resource {
        let resource = self.get_mut(place);
        let mine = |state: &State| u64::from(matches!(state, State::Mine(_)));
        let (before, after) = (mine(&resource.state), mine(&state));
        resource.state = state;
        if before != after {
            let space = resource.id.space;
            let counts = self.tally.of(space);
            counts.mastered = counts.mastered + after - before;
        }
        self.get_mut(place)
    }

    /// A lock of an own client comes.
    ///
    /// # Panics
    /// As [`ResourceTable::get`].
    pub(crate) fn add_lock(&mut self, place: Place, lock: LockId) {
        let resource = self.get_mut(place);
        let locks = &mut resource.locks;
        if locks.is_empty() {
            locks.reserve_exact(1); // Most often it stays the only one.
        }
        // One that the log gives may have got its number before others.
        let at = match locks.last() {
            Some(last) if *last > lock => locks.partition_point(|other| *other < lock),
            _ => locks.len(),
        };
        locks.insert(at, lock);
        resource.idle_since = NOT_IDLE;
        let space = resource.id.space;
        self.tally.of(space).locks += 1;
    }

    /// A lock of an own client goes.
    ///
    /// # Panics
    /// As [`ResourceTable::get`].
    pub(crate) fn remove_lock(&mut self, place: Place, lock: LockId) {
        let resource = self.get_mut(place);
        let Ok(at) = resource.locks.binary_search(&lock) else {
            return;
        };
        resource.locks.remove(at);
        if resource.locks.is_empty() {
            resource.locks = ThinVec::new();
        }
        let space = resource.id.space;
        self.tally.of(space).locks -= 1;
    }

    /// Sets, or takes out, what this node knows as the directory of a resource's name.
    ///
    /// # Panics
    /// As [`ResourceTable::get`].
    pub(crate) fn set_directory(&mut self, place: Place, entry: Option<Entry>) {
        let resource = self.get_mut(place);
        let space = resource.id.space;
        let before = std::mem::replace(&mut resource.directory, entry);
        self.tally.of(space).entry(before, entry);
    }

    /// The resource at a place, which may not have caught up with the last change of the members: a
    /// master that is gone may still be named.
    ///
    /// # Panics
    /// As [`ResourceTable::get`].
    pub(crate) fn peek(&self, place: Place) -> &Resource {
        self.resources.at(place).expect("a place in use")
    }

    /// As [`ResourceTable::peek`], if the place is in use.
    pub(crate) fn look(&self, place: Place) -> Option<&Resource> {
        self.resources.at(place)
    }

    pub(crate) fn remove(&mut self, place: Place) {
        let directory = self.get(place).directory;
        let resource = self.resources.remove(place).expect("found above");
        assert!(
            resource.locks.is_empty(),
            "a resource with locks is not removed"
        );
        let counts = self.tally.of(resource.id.space);
        counts.resources -= 1;
        counts.mastered -= u64::from(matches!(resource.state, State::Mine(_)));
        counts.entry(directory, None);
        if !resource.id.name.is_root() {
            let root = resource.id.root();
            if let Some(places) = self.trees.get_mut(&root) {
                places.remove(&place);
                if places.is_empty() {
                    self.trees.remove(&root);
                }
            }
        }
        if let Some(entry) = directory {
            self.set_entry(&resource.id, entry);
        }
    }

    /// Places of all sub-resources that this node knows of beneath a root.
    pub(crate) fn beneath(&self, root: &ResourceId) -> impl Iterator<Item = Place> {
        self.trees.get(root).into_iter().flatten().copied()
    }

    /// What this node knows as the directory of a name.
    pub(crate) fn entry(&mut self, id: &ResourceId) -> Option<Entry> {
        if let Some(place) = self.place(id) {
            return self.get(place).directory;
        }
        let place = self.elsewhere.place(id)?;
        self.catch_up_entry(place)
    }

    /// Makes what is known as the directory of a name without other interest catch up, and tells
    /// what it is now.
    pub(crate) fn catch_up_entry(&mut self, place: Place) -> Option<Entry> {
        let known = self.elsewhere.at_mut(place)?;
        if known.turn == self.change.turn {
            return Some(known.entry);
        }
        known.turn = self.change.turn;
        let entry = self.change.entry(&known.id, known.entry);
        match entry {
            Some(after) => {
                let counts = self.tally.of(known.id.space);
                counts.entry(Some(known.entry), entry);
                known.entry = after;
            }
            None => self.clear_elsewhere(place),
        }
        entry
    }

    pub(crate) fn set_entry(&mut self, id: &ResourceId, entry: Entry) {
        let turn = self.change.turn;
        if let Some(place) = self.place(id) {
            return self.set_directory(place, Some(entry));
        }
        let before = if let Some(place) = self.elsewhere.place(id) {
            let known = self.elsewhere.at_mut(place).expect("found above");
            known.turn = turn;
            Some(std::mem::replace(&mut known.entry, entry))
        } else {
            let id = id.clone();
            self.elsewhere.add(Elsewhere { id, entry, turn });
            None
        };
        self.tally.of(id.space).entry(before, Some(entry));
    }

    pub(crate) fn clear_entry(&mut self, id: &ResourceId) {
        if let Some(place) = self.place(id) {
            self.set_directory(place, None);
        } else if let Some(place) = self.elsewhere.place(id) {
            self.clear_elsewhere(place);
        }
    }

    /// Forgets what is known as the directory of a name without other interest.
    pub(crate) fn clear_elsewhere(&mut self, place: Place) {
        if let Some(known) = self.elsewhere.remove(place) {
            self.tally.of(known.id.space).entry(Some(known.entry), None);
        }
    }

    /// The members are others now. All must have caught up with the change before.
    pub(crate) fn members_changed(
        &mut self,
        me: NodeId,
        members: Vec<NodeId>,
        gone: &[Life],
        resumed: Option<(Life, Life)>,
    ) {
        let gone = gone.iter().map(|&life| Gone {
            life,
            lost: Vec::new(),
        });
        self.change = Change {
            turn: !self.change.turn,
            me,
            members,
            gone: gone.collect(),
            resumed: resumed.map(|(from, to)| (PackedLife::of(from), to)),
        };
    }

    /// Who has got others' locks with the last change.
    pub(crate) fn resumed(&self) -> Option<(Life, Life)> {
        self.change.resumed.map(|(from, to)| (from.life(), to))
    }

    /// Who left with the last change, and what was lost with them: when all have caught up.
    pub(crate) fn take_gone(&mut self) -> Vec<Gone> {
        std::mem::take(&mut self.change.gone)
    }

    /// Counts of the lockspaces of which anything is known here, as [`ResourceTable::peek`] shows it.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (LockspaceId, &Counts)> {
        self.tally.all()
    }

    /// Checks that the counts are those of what there is.
    ///
    /// # Panics
    /// If they are not.
    pub(crate) fn check_counts(&self) {
        let mut counted = Tally::default();
        for resource in self.resources.iter() {
            let counts = counted.of(resource.id.space);
            counts.resources += 1;
            counts.mastered += u64::from(matches!(resource.state, State::Mine(_)));
            counts.locks += resource.locks.len() as u64;
            counts.entry(None, resource.directory);
        }
        for known in self.elsewhere.iter() {
            counted.of(known.id.space).entry(None, Some(known.entry));
        }
        assert!(
            self.counts().eq(counted.all()),
            "{:?} is counted where there is {counted:?}",
            self.tally
        );
    }

    /// How many resources are mastered here and how many directory entries there are, roughly where
    /// there are many.
    pub(crate) fn estimate(&self) -> (u64, u64) {
        /// Errs by less than two in a hundred, most of the time.
        const SAMPLE: usize = 4096;
        let (mut seen, mut mine, mut entries) = (0, 0, 0);
        for resource in self.resources.sample(SAMPLE) {
            seen += 1;
            mine += u64::from(matches!(resource.state, State::Mine(_)));
            entries += u64::from(resource.directory.is_some());
        }
        let all = self.resources.len() as u64;
        let scaled = |count: u64| count * all / u64::max(seen, 1);
        let elsewhere = self.elsewhere.len() as u64;
        (scaled(mine), scaled(entries) + elsewhere)
    }

    /// All places of resources.
    pub(crate) fn places(&self) -> Places {
        self.resources.places()
    }

    /// All places of directory entries of names without other interest.
    pub(crate) fn elsewhere_places(&self) -> Places {
        self.elsewhere.places()
    }

    /// All resources, as [`ResourceTable::peek`] shows them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.resources.iter()
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
    Update {
        update: ValueUpdate,
    },
    /// For a range that is not held yet.
    Range(RangeAsk),
    /// Another node keeps it for this one, as the lock of that number. `known`: the master has it as this
    /// node's.
    Taking {
        from: (Life, LockId),
        known: bool,
    },
    /// It is granted, and the log has yet to say that it survives its node.
    Recording {
        mode: LockMode,
        flags: Flags,
    },
}

impl Pending {
    /// The mode that a request or conversion asks for.
    pub(crate) fn requested(&self) -> Option<LockMode> {
        match self {
            Pending::Request { mode, .. }
            | Pending::Convert { mode, .. }
            | Pending::Recording { mode, .. } => Some(*mode),
            Pending::Range(ask) => Some(ask.mode),
            Pending::None
            | Pending::Unlock { .. }
            | Pending::Update { .. }
            | Pending::Taking { .. } => None,
        }
    }

    /// Whether it is a request or conversion that stands in a queue if it is not granted at once, or stood
    /// there until it was.
    pub(crate) fn may_wait(&self) -> bool {
        match self {
            Pending::Request { flags, .. }
            | Pending::Convert { flags, .. }
            | Pending::Recording { flags, .. } => !flags.contains(Flags::NOQUEUE),
            Pending::Range(ask) => !ask.flags.contains(Flags::NOQUEUE),
            Pending::None
            | Pending::Unlock { .. }
            | Pending::Update { .. }
            | Pending::Taking { .. } => false,
        }
    }
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
    /// It gave its mode up for NL while the pending conversion waits.
    pub(crate) demoted: bool,
    /// It is being unlocked by force, and the master's answer to the call that this ended may come
    /// first.
    pub(crate) forced: bool,
    /// Its place in the master's queue.
    pub(crate) ticket: Option<i64>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) blocking: bool,
    pub(crate) valblk: bool,
    /// It was granted a mode to write in when its client was gone, which wrote nothing under it.
    pub(crate) late: bool,
    /// Its last call had NODLCKBLK: it goes when it is in the way.
    pub(crate) yields: bool,
    /// Its last call had PERSISTENT: it outlives its session.
    pub(crate) persistent: bool,
    /// The log says that it survives its node. Whoever masters its resource knows it from there, and
    /// is told nothing of it.
    pub(crate) recorded: bool,
    /// The master could not be told that it was adopted.
    pub(crate) adoption_unsaid: bool,
    /// The owner's copy of the value block, for the next master; its version and mark are what the
    /// client was told last.
    pub(crate) value: Option<Box<Value>>,
    /// A master that vanished may have made a change after that copy, for this lock.
    pub(crate) unsure: bool,
    /// The client wants to be told of changes of the value block.
    pub(crate) watches: bool,
    /// The master could not be told so, or that it does no more.
    pub(crate) watch_unsaid: bool,
    /// When its mode was granted, or it was first asked for.
    pub(crate) since: Instant,
    /// When its last request or conversion was asked for.
    pub(crate) asked: Instant,
}

impl Owned {
    /// One that the log has given to a client of this node, in the mode and with the token that it has.
    pub(crate) fn adopted(
        session: SessionId,
        handle: Handle,
        place: Place,
        held: (LockMode, Token),
        now: Instant,
    ) -> Owned {
        Owned {
            persistent: true,
            recorded: true,
            ..Owned::held(session, handle, place, held, now)
        }
    }

    /// One that is granted, and of which nothing else is known.
    pub(crate) fn held(
        session: SessionId,
        handle: Handle,
        place: Place,
        (mode, token): (LockMode, Token),
        now: Instant,
    ) -> Owned {
        Owned {
            session,
            handle,
            place,
            granted: Some(mode),
            token,
            pending: Pending::None,
            request: 0,
            cancel: None,
            sent: false,
            timed_out: false,
            demoted: false,
            forced: false,
            ticket: None,
            deadline: None,
            blocking: false,
            valblk: false,
            yields: false,
            persistent: false,
            late: false,
            recorded: false,
            adoption_unsaid: false,
            value: None,
            unsure: false,
            watches: false,
            watch_unsaid: false,
            since: now,
            asked: now,
        }
    }

    /// Whether the master of its resource has granted it, as far as this node knows: one that the log
    /// brought here shows nothing.
    pub(crate) fn shows_master(&self) -> bool {
        self.granted.is_some() && !self.recorded
    }

    /// The mode that the pending call asks for.
    pub(crate) fn requested(&self) -> Option<LockMode> {
        self.pending.requested()
    }

    /// Keeps the value block as it came from the master. One that was never published is zeros,
    /// which the next master needs no copy of.
    pub(crate) fn keep(&mut self, value: &Value) {
        let mut value = value.clone();
        if value.version == ValueVersion::default() {
            value.block = ValueBlock::default();
        }
        self.unsure = false;
        match &mut self.value {
            Some(known) => **known = value,
            None => self.value = Some(Box::new(value)),
        }
    }
}

/// The pending call of a lock as a message to its master.
pub(crate) fn call_body(resource: ResourceId, lock: LockId, owned: &Owned) -> Body {
    let blocking = owned.blocking;
    match &owned.pending {
        Pending::Request { mode, flags } => Body::Request {
            resource,
            lock,
            mode: *mode,
            flags: *flags,
            blocking,
        },
        Pending::Convert { mode, flags, .. } if owned.demoted => Body::ConvertDemoted {
            resource,
            lock,
            mode: *mode,
            flags: *flags,
            blocking,
        },
        Pending::Convert { mode, flags, value } => Body::Convert {
            resource,
            lock,
            mode: *mode,
            flags: *flags,
            blocking,
            value: value.clone(),
        },
        Pending::Unlock { flags, value } => Body::Unlock {
            resource,
            lock,
            flags: *flags,
            value: value.clone(),
        },
        Pending::Update { update } => Body::Update {
            resource,
            lock,
            update: update.clone(),
        },
        Pending::Range(ask) => Body::RangeCall {
            resource,
            lock,
            ask: *ask,
        },
        Pending::Taking {
            from: ((node, incarnation), known_as),
            ..
        } => Body::TakeCeded {
            resource,
            lock,
            node: *node,
            incarnation: *incarnation,
            known_as: *known_as,
            token: owned.token,
            blocking,
        },
        Pending::None | Pending::Recording { .. } => Body::Cancel { resource, lock },
    }
}
