//! A node that is alone in its cluster and may act, as its clients see it: for each thing that a client
//! asks, and for time that passes, exactly what all of them are told, each in its order.
//!
//! It is written from the pages of `docs/protocol`, with one [`Reference`] for each resource. Of time
//! it knows what it is told. Calls that are wrong in several ways may be refused for any of them; texts
//! are not compared. Where the pages leave an order open it is the node's: what is due at one
//! moment goes timeouts first, then notices that were kept back, promises to respond, resources that
//! are forgotten, sets; and the locks of a session that ends go in the order in which they were asked for, or
//! the latest first where there are locks beneath others.
//!
//! # What is not modelled
//!
//! * The stream: framing, `Hello`, `Ping` and `Events` are the daemon's, and are tested over real sockets in
//!   `mainstay-daemon`. A session here begins when the node hears of it.
//! * The search for deadlocks: it is to be switched off. That conversions of one resource refuse
//!   each other is modelled.
//! * What is in reports (`Status`, `Locks`, `Why`, `Graph`, `Contention`, `Masters`, `Lockspaces`, `Orphans`):
//!   only that each is answered once, in time and by its kind.
//! * Owners, which matter to the search for deadlocks alone.
//! * Of kept sessions: reports, too much that is unheard, and the next life.
//! * Lockspaces that follow the rules of other systems (the model of one resource knows those).
//! * Limits per user and of the stretches of a lock, orphans that expire, and patterns and processes of a purge.
//! * What only a privileged client may do to the node (`Leave`, `Vouch`, `DumpRecorder`): only that others
//!   may not.
//! * A node that may not act, leaves, is reborn, or has peers; more locks of one client than are released
//!   in one slice of work.

mod bulk;
mod calls;
mod ends;
mod kept;
mod lockspaces;
mod orphans;
mod ranges;
mod said;
mod sets;
mod time;
mod trees;
mod values;

pub use said::Said;

use crate::resource::{Key, Reference, ranges::Ranges};
use lockspaces::Space;
use mainstay_base::{
    Caller, Compat, Instant, LockMode, LockspaceId, ResourceName, SessionId, Token, ValueVersion,
};
use mainstay_lock::Effect;
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    dlm::ResourceId,
    lock::{Flags, Refusal},
};
use said::{Queue, is_report, is_report_for};
use sets::Set;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};
use time::{IDLE, Kept, Promise};

/// How long a report may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// One resource, and since when nobody has a lock on it.
#[derive(Debug)]
struct Resource {
    engine: Reference,
    /// In the place of the engine's locks, if there are any.
    ranges: Ranges,
    idle: Option<Instant>,
}

/// A request or conversion that waits.
#[derive(Clone, Debug)]
struct Call {
    request: u64,
    mode: LockMode,
    flags: Flags,
    deadline: Option<Instant>,
    /// Its lock was demoted meanwhile.
    demoted: bool,
    /// It is being taken back, and so is to be refused as that.
    ends_as: Option<Refusal>,
    part: Part,
}

/// Whose a call's answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Its own.
    Alone,
    /// A bulk call's: its number, and the place in it.
    Entry(u64, usize),
    /// A set's: its number, and the member's place in the order of sets.
    Member(u64, usize),
}

#[derive(Debug)]
struct Lock {
    session: SessionId,
    handle: Handle,
    resource: ResourceId,
    parent: Option<Key>,
    held: Option<LockMode>,
    token: Token,
    call: Option<Call>,
    /// Wants notices.
    blocking: bool,
    persistent: bool,
    /// Holds and waits for ranges, and no mode.
    on_ranges: bool,
    /// Whose process left it behind.
    orphan: Option<u32>,
    watches: bool,
    /// The value block that its client was told last.
    known: Option<(ValueVersion, bool)>,
    promise: Option<Promise>,
    kept: Kept,
}

#[derive(Debug, Default)]
struct Client {
    caller: Caller,
    handles: BTreeMap<Handle, Key>,
    /// If it outlives its connection.
    kept: Option<kept::Kept>,
}

/// A node, as its clients see it.
#[derive(Debug)]
pub struct Daemon {
    now: Instant,
    /// Below all tokens of resources that are not known, and no lower than any that was.
    floor: Token,
    spaces: BTreeMap<LockspaceId, Space>,
    resources: BTreeMap<ResourceId, Resource>,
    /// When to look whether resources can be forgotten: the next one, and those behind it.
    idle: VecDeque<(Instant, ResourceId)>,
    locks: BTreeMap<Key, Lock>,
    last_key: Key,
    clients: BTreeMap<SessionId, Client>,
    bulks: BTreeMap<u64, bulk::Bulk>,
    sets: BTreeMap<u64, Set>,
    set_news: Vec<sets::News>,
    last_number: u64,
    /// Resources whose values have changed in this step.
    news: Vec<ResourceId>,
    /// Locks that were demoted in what is being carried out, and how deep that is.
    demoted: Vec<Key>,
    depth: u32,
    /// The lock that is being released: the call's number, whose it is, and whether it publishes.
    releasing: Option<(Key, u64, Part, bool)>,
    /// The cancel that is being carried out.
    cancel: Option<u64>,
    /// Sessions whose grace has just ended: what is still said to them reaches nobody.
    over: Vec<SessionId>,
    /// Reports that are not answered yet.
    reports: Vec<(SessionId, u64, Ask, Instant)>,
    queue: Queue,
}

impl Daemon {
    /// One without lockspaces, whose tokens begin above the floor of the view's epoch.
    #[must_use]
    pub fn new(now: Instant, floor: Token) -> Daemon {
        Daemon {
            now,
            floor,
            spaces: BTreeMap::new(),
            resources: BTreeMap::new(),
            idle: VecDeque::new(),
            locks: BTreeMap::new(),
            last_key: 0,
            clients: BTreeMap::new(),
            bulks: BTreeMap::new(),
            sets: BTreeMap::new(),
            set_news: Vec::new(),
            last_number: 0,
            news: Vec::new(),
            demoted: Vec::new(),
            depth: 0,
            releasing: None,
            cancel: None,
            over: Vec::new(),
            reports: Vec::new(),
            queue: Queue::default(),
        }
    }

    /// Whether it is known here what must come of a call.
    #[must_use]
    pub fn knows(&self, session: SessionId, ask: &Ask) -> bool {
        let privileged = || self.caller(session).privileged;
        match ask {
            Ask::Leave | Ask::Rest { .. } | Ask::Vouch { .. } | Ask::DumpRecorder => !privileged(),
            Ask::PurgeOrphans { wish } => {
                wish.pattern.is_none() && wish.pid.is_none() && wish.node.is_none()
            }
            Ask::CreateLockspace { compat, .. } => *compat == Compat::Strict,
            Ask::Hello { .. } | Ask::KeepSession { .. } | Ask::SetOwner { .. } => false,
            Ask::Events { .. } | Ask::Ping => self.is_kept(session),
            ask if is_report(ask) => !self.is_kept(session),
            _ => true,
        }
    }

    /// A client has said hello.
    pub fn open(&mut self, session: SessionId, caller: Caller) {
        let client = Client {
            caller,
            ..Client::default()
        };
        self.clients.insert(session, client);
    }

    /// Whether a session is open.
    #[must_use]
    pub fn is_open(&self, session: SessionId) -> bool {
        self.clients.contains_key(&session)
    }

    /// How many locks there are, of sessions and orphans.
    #[must_use]
    pub fn lock_count(&self) -> usize {
        self.locks.len()
    }

    /// A client asks something.
    ///
    /// # Panics
    /// If it is not known here what must come of it.
    pub fn ask(&mut self, session: SessionId, request: u64, ask: Ask) {
        if !self.is_open(session) {
            return;
        }
        assert!(self.knows(session, &ask), "{ask:?} is not modelled");
        if !self.arrives(session, request) {
            return;
        }
        match ask {
            Ask::OpenLockspace { name, value_len } => {
                let opened = self.open_lockspace(session, name, value_len);
                self.answer(session, request, opened);
            }
            Ask::CreateLockspace {
                name,
                value_len,
                access,
                fairness,
                compat: _,
            } => {
                let made = self.create_lockspace(session, name, value_len, &access, fairness);
                self.answer(session, request, made);
            }
            Ask::SetLockspace { name, access } => {
                let set = self.set_lockspace(session, &name, &access);
                self.answer(session, request, set);
            }
            Ask::Lock { .. } | Ask::LockUnder { .. } => self.ask_lock(session, request, ask),
            Ask::Convert { .. } => self.ask_convert(session, request, ask),
            Ask::Unlock { .. } => self.ask_unlock(session, request, ask),
            Ask::Cancel { handle } => self.cancel(session, request, handle),
            Ask::LockSet { .. } => self.ask_set(session, request, ask),
            Ask::ConvertMany { .. } | Ask::UnlockMany { .. } => {
                self.ask_many(session, request, ask);
            }
            Ask::UnlockTree { handle, itself } => {
                self.unlock_tree(session, request, handle, itself);
            }
            Ask::UpdateValue { handle, update } => {
                let updated = self.update(session, handle, &update);
                self.answer(session, request, updated.map(Answer::Updated));
            }
            Ask::WatchValue { handle, on } => {
                let watching = self.watch(session, handle, on);
                self.answer(session, request, watching.map(|()| Answer::Watching));
            }
            Ask::SetResponseTime {
                handle,
                within_ms,
                release,
            } => {
                let set = self.promise(session, handle, within_ms, release);
                self.answer(session, request, set.map(|()| Answer::ResponseTimeSet));
            }
            Ask::SetDeadlockPriority { .. } => {
                self.say(session, Said::done(request, Answer::PrioritySet));
            }
            Ask::Adopt { .. } => self.adopt(session, request, ask),
            Ask::PurgeOrphans { wish } => self.purge(session, request, &wish),
            Ask::Range { .. } => self.ask_range(session, request, ask),
            Ask::Heard { upto } => self.heard(session, request, upto),
            Ask::Goodbye => self.close(session),
            Ask::Ping => self.say(session, Said::done(request, Answer::Pong)),
            Ask::Events { .. } | Ask::Reattach { .. } => {
                self.answer(session, request, Err(vec![invalid()]));
            }
            Ask::Leave | Ask::Rest { .. } | Ask::Vouch { .. } | Ask::DumpRecorder => {
                let why = Refusal::Denied(String::new());
                self.answer(session, request, Err(vec![why]));
            }
            ask => {
                let until = self.now + PATIENCE;
                self.reports.push((session, request, ask, until));
            }
        }
        self.end_step();
    }

    /// What follows from what was asked, or from time.
    fn end_step(&mut self) {
        self.due();
        self.tell_news();
    }

    /// A client was told something. Messages come in the order in which they were sent.
    ///
    /// # Errors
    /// If it should have been told something else, or nothing.
    pub fn hear(&mut self, session: SessionId, told: &ToClient) -> Result<(), String> {
        if let ToClient::Done { request, result } = told {
            let mut reports = self.reports.iter();
            let ours = reports.position(|(s, r, ..)| (s, r) == (&session, request));
            if let Some(at) = ours {
                let (_, _, ask, _) = self.reports.remove(at);
                return match result {
                    Ok(answer) if !is_report_for(&ask, answer) => {
                        Err(format!("{ask:?} was answered {answer:?}"))
                    }
                    _ => Ok(()),
                };
            }
        }
        match self.over.contains(&session) {
            true => Ok(()),
            false => self.queue.take(session, told),
        }
    }

    /// Nothing more is being said at this moment.
    ///
    /// # Errors
    /// If somebody should have been told something that he was not.
    pub fn silence(&mut self) -> Result<(), String> {
        self.over.clear();
        self.queue.is_told()?;
        let late = self.reports.iter().find(|(.., until)| *until < self.now);
        match late {
            Some((session, request, ask, _)) => Err(format!(
                "{session} was not answered request {request} in time: {ask:?}"
            )),
            None => Ok(()),
        }
    }

    fn say(&mut self, session: SessionId, said: Said) {
        if self.is_open(session) && self.counts(session, &said) {
            self.queue.push(session, said);
        }
    }

    fn tell(&mut self, session: SessionId, message: ToClient) {
        self.say(session, Said::Told(message));
    }

    fn answer(&mut self, session: SessionId, request: u64, result: Result<Answer, Vec<Refusal>>) {
        let said = match result {
            Ok(answer) => Said::done(request, answer),
            Err(reasons) => Said::Refused { request, reasons },
        };
        self.say(session, said);
    }

    fn caller(&self, session: SessionId) -> Caller {
        let client = self.clients.get(&session);
        client.map(|client| client.caller).unwrap_or_default()
    }

    fn find(&self, session: SessionId, handle: Handle) -> Option<Key> {
        self.clients.get(&session)?.handles.get(&handle).copied()
    }

    fn lock(&mut self, key: Key) -> &mut Lock {
        self.locks.get_mut(&key).unwrap()
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn reference(&mut self, id: &ResourceId) -> &mut Reference {
        let (floor, rules) = (self.floor, self.spaces[&id.space].rules);
        let resource = self.resources.entry(id.clone()).or_insert_with(|| {
            let mut engine = Reference::new(rules);
            engine.last_token = floor;
            Resource {
                engine,
                ranges: Ranges::default(),
                idle: None,
            }
        });
        &mut resource.engine
    }

    /// Does something to a resource, and what follows from it.
    fn engine<R>(
        &mut self,
        id: &ResourceId,
        what: impl FnOnce(&mut Reference, &mut Vec<Effect<Key>>) -> R,
    ) -> R {
        let engine = self.reference(id);
        let before = stamp(engine);
        let mut effects = Vec::new();
        let done = what(engine, &mut effects);
        let news = stamp(engine) != before;
        if news && !self.news.contains(id) {
            self.news.push(id.clone());
        }
        self.carry_out(effects);
        done
    }

    /// A lock, its handle and all that is known of it is gone.
    fn erase(&mut self, key: Key) {
        let lock = self.locks.remove(&key).unwrap();
        if let Some(client) = self.clients.get_mut(&lock.session)
            && client.handles.get(&lock.handle) == Some(&key)
        {
            client.handles.remove(&lock.handle);
        }
        self.note_idle(&lock.resource);
    }

    /// If nobody has a lock on a resource any more it is remembered for a while.
    fn note_idle(&mut self, id: &ResourceId) {
        let now = self.now;
        if self.locks.values().any(|lock| lock.resource == *id) {
            return;
        }
        if let Some(resource) = self.resources.get_mut(id) {
            resource.idle = Some(now);
            if self.idle.iter().all(|(_, other)| other != id) {
                self.idle.push_back((now + IDLE, id.clone()));
            }
        }
    }

    /// Keys of all locks right beneath one.
    fn beneath(&self, key: Key) -> Vec<Key> {
        let all = self.locks.iter();
        let beneath = all.filter(|(_, lock)| lock.parent == Some(key));
        beneath.map(|(key, _)| *key).collect()
    }

    fn handles_in_use(&self, session: SessionId) -> BTreeSet<Handle> {
        let own = self.clients.get(&session);
        let own = own.into_iter().flat_map(|c| c.handles.keys().copied());
        let sets = self.sets.values().filter(|set| set.session == session);
        own.chain(sets.flat_map(Set::handles)).collect()
    }
}

fn stamp(engine: &Reference) -> (ValueVersion, bool) {
    (engine.value.version, engine.value.maybe_stale)
}

fn invalid() -> Refusal {
    Refusal::Invalid(String::new())
}

fn root(name: &ResourceName) -> &[u8] {
    name.root_bytes()
}
