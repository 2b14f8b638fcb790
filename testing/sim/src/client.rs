//! A client process: its session, its locks, and the workload that decides what it asks.

use crate::{
    checkers::{
        books::{ClientNo, LifeNo, Res, Who},
        s1_ranges::CELLS,
    },
    keeping::Keeping,
    sets::Member,
    trees::Child,
    workloads::{Brain, Happened},
};
use mainstay_base::{
    ByteRange, Entropy, Flags, LockMode, LockspaceId, SessionId, Value, ValueBlock, ValueUpdate,
};
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    lock::Granted,
};
use std::collections::{BTreeMap, VecDeque};

/// Where a lock is in its life, as its owner knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Asked for, not answered.
    Asking,
    /// Granted, nothing under way.
    Held(LockMode),
    /// Granted, a conversion under way.
    Converting {
        /// The mode held.
        from: LockMode,
    },
    /// Granted, a change of the value block under way.
    Updating(LockMode),
    /// Unlock under way.
    Releasing,
}

/// A lock as its owner knows it.
#[derive(Clone, Copy, Debug)]
pub struct Lock {
    /// On what.
    pub res: Res,
    /// Where in its life.
    pub phase: Phase,
    /// The conversion under way has demoted it.
    pub demoted: bool,
}

/// A lock on ranges as its owner knows it.
#[derive(Clone, Debug)]
pub struct Ranged {
    /// On what.
    pub res: Res,
    /// What it holds of each cell.
    pub cells: [LockMode; CELLS],
    /// What it has asked for and has no answer to.
    pub asked: Option<(ByteRange, LockMode)>,
    /// All of it is being released.
    pub releasing: bool,
}

/// A call that is not answered yet.
#[derive(Clone, Debug)]
pub enum Call {
    /// Open a lockspace of the terrain.
    Open(usize),
    /// Make it, with its rules.
    Create(usize),
    /// A new lock.
    Lock {
        /// Its name.
        handle: Handle,
        /// The mode asked for.
        mode: LockMode,
        /// How.
        flags: Flags,
    },
    /// A conversion.
    Convert {
        /// Of which lock.
        handle: Handle,
        /// To which mode.
        mode: LockMode,
        /// How.
        flags: Flags,
        /// A value block was handed in.
        publish: bool,
    },
    /// An unlock.
    Unlock {
        /// Of which lock.
        handle: Handle,
        /// A value block was handed in.
        publish: bool,
    },
    /// A call for a range.
    Range {
        /// Of which lock.
        handle: Handle,
    },
    /// An unlock of all ranges of a lock.
    ReleaseRanges {
        /// Of which lock.
        handle: Handle,
    },
    /// An adoption.
    Adopt {
        /// The lock's name from then on.
        handle: Handle,
        /// The mode in which it is held.
        mode: LockMode,
        /// How.
        flags: Flags,
    },
    /// A set.
    Set {
        /// What was asked for.
        members: Vec<Member>,
    },
    /// Conversions in bulk.
    ConvertMany {
        /// Which locks, to what, and how.
        locks: Vec<(Handle, LockMode, Flags)>,
    },
    /// Unlocks in bulk.
    UnlockMany {
        /// Which locks.
        handles: Vec<Handle>,
    },
    /// An unlock of many locks at once.
    UnlockTree {
        /// Which.
        handles: Vec<Handle>,
    },
    /// An unlock of a lock that has another beneath it.
    Probe {
        /// Of which lock.
        handle: Handle,
    },
    /// A cancel.
    Cancel {
        /// Of which lock's call.
        handle: Handle,
    },
    /// A change of the value block.
    Update {
        /// Under which lock.
        handle: Handle,
    },
    /// A wish to be told of changes of the value block.
    Watch {
        /// Of which lock.
        handle: Handle,
    },
    /// The wish to have the session kept.
    Keep,
    /// Word of what was heard.
    Heard,
    /// A question about the cluster.
    Question,
    /// The end-of-run question for all locks.
    Audit,
}

/// Something a workload wants done.
#[derive(Clone, Debug)]
pub enum Command {
    /// Ask for a new lock.
    Lock {
        /// Its name.
        handle: Handle,
        /// On what.
        res: Res,
        /// In which mode.
        mode: LockMode,
        /// How.
        flags: Flags,
        /// Want blocking notices.
        blocking: bool,
        /// Give up after so many milliseconds.
        timeout_ms: Option<u32>,
    },
    /// Convert a lock.
    Convert {
        /// Which.
        handle: Handle,
        /// To which mode.
        mode: LockMode,
        /// How.
        flags: Flags,
        /// Value block to publish.
        value: Option<ValueBlock>,
        /// Give up after so many milliseconds.
        timeout_ms: Option<u32>,
    },
    /// Release a lock.
    Unlock {
        /// Which.
        handle: Handle,
        /// How.
        flags: Flags,
        /// Value block to publish.
        value: Option<ValueBlock>,
    },
    /// Set a range of a lock on ranges.
    Range {
        /// Which lock; a new one if it is not known.
        handle: Handle,
        /// On what.
        res: Res,
        /// Where.
        range: ByteRange,
        /// To which mode.
        mode: LockMode,
        /// How.
        flags: Flags,
        /// Want blocking notices.
        blocking: bool,
        /// Give up after so many milliseconds.
        timeout_ms: Option<u32>,
    },
    /// Release all ranges of a lock, by force if a call of it waits.
    ReleaseRanges {
        /// Which.
        handle: Handle,
    },
    /// Adopt a lock that another left behind.
    Adopt {
        /// Its name from then on.
        handle: Handle,
        /// On what.
        res: Res,
        /// In which mode it is held.
        mode: LockMode,
        /// How.
        flags: Flags,
    },
    /// Adopt a lock that another left behind, on whichever node.
    AdoptAnywhere {
        /// Its name from then on.
        handle: Handle,
        /// On what.
        res: Res,
        /// In which mode it is held.
        mode: LockMode,
        /// How.
        flags: Flags,
    },
    /// Ask for a set.
    LockSet {
        /// Of what.
        members: Vec<Member>,
        /// How, as a whole.
        flags: Flags,
        /// Give up after so many milliseconds.
        timeout_ms: Option<u32>,
    },
    /// Convert several locks.
    ConvertMany {
        /// Which, to what, and how.
        locks: Vec<(Handle, LockMode, Flags)>,
        /// Give each up after so many milliseconds.
        timeout_ms: Option<u32>,
    },
    /// Release several locks.
    UnlockMany {
        /// Which.
        handles: Vec<Handle>,
    },
    /// Ask for a lock beneath another.
    LockUnder(Child),
    /// Release all beneath a lock, or all.
    UnlockTree {
        /// Beneath which.
        handle: Option<Handle>,
        /// That one, too.
        itself: bool,
    },
    /// Try to unlock a lock that has another beneath it.
    ProbeParent {
        /// Which.
        handle: Handle,
    },
    /// Cancel what is pending on a lock.
    Cancel {
        /// Which.
        handle: Handle,
    },
    /// Change the value block in one step.
    Update {
        /// Under which lock.
        handle: Handle,
        /// How.
        update: ValueUpdate,
    },
    /// Be told of changes of the value block from now on.
    Watch {
        /// By which lock.
        handle: Handle,
    },
    /// Ask something that concerns no lock.
    Ask(Ask),
    /// Wake after so many nanoseconds; replaces an earlier alarm.
    Sleep(u64),
    /// Die.
    Exit,
}

/// Where the connection to the daemon stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// None.
    Down,
    /// Connected; the daemon has not answered the hello.
    Dialing,
    /// A session is open.
    Open,
    /// The connection broke, and the session may go on, on another.
    Broken,
}

/// What reaches a client from its daemon.
#[derive(Clone, Debug)]
pub enum Mail {
    /// The answer to hello: the life of the node that the session belongs to.
    Welcome {
        /// Which life.
        life: LifeNo,
        /// The session.
        session: SessionId,
    },
    /// The session that was to be continued cannot be.
    TurnedAway,
    /// A message.
    Message(Box<ToClient>),
    /// The connection closed.
    Closed,
}

/// A client process and the place on its host where it runs; a dead one is followed by another.
pub struct Client {
    /// This process.
    pub no: ClientNo,
    /// Its host, counted from 0.
    pub host: usize,
    /// Draws for its workload.
    pub dice: Entropy,
    /// What decides.
    pub brain: Box<dyn Brain>,
    /// It lives; a dead one waits to be followed.
    pub alive: bool,
    /// It was stopped, alone.
    pub stalled: bool,
    /// Where the connection stands.
    pub link: Link,
    /// The connection's number; changes with each.
    pub conn: u64,
    /// The connection that the session began on.
    pub home: u64,
    /// What lets its session outlive a connection.
    pub keeping: Option<Keeping>,
    /// The node's life that the session belongs to.
    pub life: LifeNo,
    /// Lockspaces by place in the terrain.
    pub spaces: Vec<Option<LockspaceId>>,
    /// It has told its workload that it may begin.
    pub ready: bool,
    /// Its locks.
    pub locks: BTreeMap<Handle, Lock>,
    /// Its locks on ranges.
    pub ranges: BTreeMap<Handle, Ranged>,
    /// What its locks beneath others are beneath, also of those that are gone.
    pub parents: BTreeMap<Handle, Handle>,
    /// Its unanswered calls.
    pub calls: BTreeMap<u64, Call>,
    /// Number of the next call.
    pub next_request: u64,
    /// Name of the next lock.
    pub next_handle: u64,
    /// Mail that arrived while it was stopped.
    pub mail: VecDeque<(u64, Mail)>,
    /// What its workload has not been told because the world is frozen.
    pub untold: VecDeque<Happened>,
    /// Number of the alarm that counts.
    pub alarm: u64,
    /// The alarm rang while it was stopped or frozen.
    pub rang: bool,
    /// The last thing sent to the node arrives then; nothing overtakes on a stream.
    pub last_up: u64,
    /// The last thing sent from the node arrives then.
    pub last_down: u64,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("no", &self.no)
            .field("host", &self.host)
            .field("brain", &self.brain.name())
            .field("alive", &self.alive)
            .field("stalled", &self.stalled)
            .field("link", &self.link)
            .field("locks", &self.locks)
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A new process without a connection.
    #[must_use]
    pub fn new(
        no: ClientNo,
        host: usize,
        spaces: usize,
        dice: Entropy,
        brain: Box<dyn Brain>,
    ) -> Client {
        Client {
            no,
            host,
            dice,
            brain,
            alive: true,
            stalled: false,
            link: Link::Down,
            conn: 0,
            home: 0,
            keeping: None,
            life: 0,
            spaces: vec![None; spaces],
            ready: false,
            locks: BTreeMap::new(),
            ranges: BTreeMap::new(),
            parents: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_request: 1,
            next_handle: 1,
            mail: VecDeque::new(),
            untold: VecDeque::new(),
            alarm: 0,
            rang: false,
            last_up: 0,
            last_down: 0,
        }
    }

    /// The lock's name in the books.
    #[must_use]
    pub fn who(&self, handle: Handle) -> Who {
        Who {
            client: self.no,
            handle,
        }
    }

    /// Forgets the session and everything that went with it.
    pub fn forget_session(&mut self) {
        self.link = Link::Down;
        self.conn = 0;
        if let Some(keeping) = &mut self.keeping {
            keeping.forget_session();
        }
        self.ready = false;
        self.locks.clear();
        self.ranges.clear();
        self.parents.clear();
        self.calls.clear();
        self.spaces.fill(None);
    }

    /// Whether it neither waits for an answer nor holds more than interest in anything.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        let calls = self.calls.values();
        let mut calls = calls.filter(|call| !matches!(call, Call::Heard));
        !self.alive || (calls.next().is_none() && self.locks.is_empty() && self.ranges.is_empty())
    }
}

/// A grant, and how it differs from what was asked.
#[derive(Clone, Debug)]
pub struct Grant {
    /// What was granted.
    pub granted: Granted,
    /// In the alternate mode.
    pub altmode: bool,
    /// The lock was demoted before.
    pub demoted: bool,
}

impl Grant {
    /// The grant in an answer that is one.
    #[must_use]
    pub fn of(answer: Answer) -> Option<Grant> {
        match answer {
            Answer::Granted(granted) => Some(Grant {
                granted,
                altmode: false,
                demoted: false,
            }),
            Answer::GrantedOtherwise {
                granted,
                altmode,
                demoted,
            } => Some(Grant {
                granted,
                altmode,
                demoted,
            }),
            _ => None,
        }
    }
}

/// The value that a grant read, as opposed to the caller's own publication.
#[must_use]
pub fn read_of(granted: &Granted, publish: bool) -> Option<&Value> {
    if publish {
        None
    } else {
        granted.value.as_ref()
    }
}

/// The answer's kind, for people.
#[must_use]
pub fn answer_name(answer: &Answer) -> &'static str {
    match answer {
        Answer::Welcome(_) => "welcome",
        Answer::Lockspace { .. } => "lockspace",
        Answer::Granted(_) => "granted",
        Answer::Unlocked { .. } => "unlocked",
        Answer::Cancelled => "cancelled",
        Answer::Status(_) => "status",
        Answer::Locks(_) => "locks",
        Answer::Why(_) => "why",
        Answer::Subscribed => "subscribed",
        Answer::Left => "left",
        Answer::Vouched { .. } => "vouched",
        Answer::Pong => "pong",
        Answer::Graph(_) => "graph",
        Answer::PrioritySet => "priority set",
        Answer::OwnerSet => "owner set",
        Answer::ResponseTimeSet => "response time set",
        Answer::GrantedOtherwise { .. } => "granted otherwise",
        Answer::Contention(_) => "contention",
        Answer::Masters(_) => "masters",
        Answer::Updated(_) => "updated",
        Answer::Watching => "watching",
        Answer::RangeSet { .. } => "range set",
        Answer::Dumped { .. } => "dumped",
        Answer::LockspaceSet(_) => "lockspace set",
        Answer::Lockspaces { .. } => "lockspaces",
        Answer::Orphans(_) => "orphans",
        Answer::OrphansPurged(_) => "orphans purged",
        Answer::SetGranted { .. } => "set granted",
        Answer::Many { .. } => "many ended",
        Answer::TreeUnlocked { .. } => "tree unlocked",
        Answer::Kept { .. } => "kept",
        Answer::Reattached { .. } => "reattached",
        Answer::Heard => "heard",
    }
}
