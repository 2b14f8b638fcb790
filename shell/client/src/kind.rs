//! Which answers a call can get, and what the client keeps of a call until then.

use mainstay_base::{ByteRange, LockMode};
use mainstay_wire::client::{Answer, Ask, Handle};

/// What kind of answer a call must get.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Hello,
    Open,
    Lock(Handle),
    Convert(Handle),
    Unlock(Handle, HasValue),
    Cancel,
    Status,
    Locks,
    Why,
    Events,
    Leave,
    Vouch,
    Ping,
    Graph,
    Priority,
    ResponseTime,
    Contention,
    Masters,
    Update(Handle),
    Watch(Handle, bool),
    Range(Handle, ByteRange, LockMode),
    Dump,
    SetLockspace,
    Lockspaces,
    Orphans,
    Purge,
    /// Which locks is kept beside.
    Set,
    ConvertMany,
    UnlockMany,
    /// As for a set.
    UnlockTree,
    Goodbye,
    Heard,
    Keep,
    Owner,
    Reattach,
}

pub(crate) type HasValue = bool;

impl Kind {
    pub(crate) fn of(ask: &Ask) -> Kind {
        match ask {
            Ask::Hello { .. } => Kind::Hello,
            Ask::OpenLockspace { .. } => Kind::Open,
            Ask::Lock { handle, .. } => Kind::Lock(*handle),
            Ask::Convert { handle, .. } => Kind::Convert(*handle),
            Ask::Unlock { handle, value, .. } => Kind::Unlock(*handle, value.is_some()),
            Ask::Cancel { .. } => Kind::Cancel,
            Ask::Status => Kind::Status,
            Ask::Locks { .. } => Kind::Locks,
            Ask::Why { .. } => Kind::Why,
            Ask::Events { .. } => Kind::Events,
            Ask::Leave | Ask::Rest { .. } => Kind::Leave,
            Ask::Vouch { .. } => Kind::Vouch,
            Ask::Ping => Kind::Ping,
            Ask::Graph { .. } => Kind::Graph,
            Ask::SetDeadlockPriority { .. } => Kind::Priority,
            Ask::SetResponseTime { .. } => Kind::ResponseTime,
            Ask::Contention { .. } => Kind::Contention,
            Ask::Masters => Kind::Masters,
            Ask::UpdateValue { handle, .. } => Kind::Update(*handle),
            Ask::WatchValue { handle, on } => Kind::Watch(*handle, *on),
            Ask::Range {
                handle,
                range,
                mode,
                ..
            } => Kind::Range(*handle, *range, *mode),
            Ask::DumpRecorder => Kind::Dump,
            Ask::CreateLockspace { .. } | Ask::SetLockspace { .. } => Kind::SetLockspace,
            Ask::Lockspaces { .. } => Kind::Lockspaces,
            Ask::Adopt { handle, .. } | Ask::AdoptAnywhere { handle, .. } => Kind::Lock(*handle),
            Ask::Orphans { .. } => Kind::Orphans,
            Ask::PurgeOrphans { .. } => Kind::Purge,
            Ask::LockSet { .. } => Kind::Set,
            Ask::ConvertMany { .. } => Kind::ConvertMany,
            Ask::UnlockMany { .. } => Kind::UnlockMany,
            Ask::LockUnder { handle, .. } => Kind::Lock(*handle),
            Ask::UnlockTree { .. } => Kind::UnlockTree,
            Ask::SetOwner { .. } => Kind::Owner,
            Ask::KeepSession { .. } => Kind::Keep,
            Ask::Reattach { .. } => Kind::Reattach,
            Ask::Heard { .. } => Kind::Heard,
            Ask::Goodbye => Kind::Goodbye,
        }
    }

    pub(crate) fn fits(self, answer: &Answer) -> bool {
        matches!(
            (self, answer),
            (Kind::Hello, Answer::Welcome(_))
                | (Kind::Open, Answer::Lockspace { .. })
                | (
                    Kind::Lock(_) | Kind::Convert(_),
                    Answer::Granted(_) | Answer::GrantedOtherwise { .. }
                )
                | (Kind::Unlock(..), Answer::Unlocked { .. })
                | (Kind::Cancel, Answer::Cancelled)
                | (Kind::Graph, Answer::Graph(_))
                | (Kind::Priority, Answer::PrioritySet)
                | (Kind::ResponseTime, Answer::ResponseTimeSet)
                | (Kind::Contention, Answer::Contention(_))
                | (Kind::Masters, Answer::Masters(_))
                | (Kind::Update(_), Answer::Updated(_))
                | (Kind::Watch(..), Answer::Watching)
                | (Kind::Range(..), Answer::RangeSet { .. })
                | (Kind::Dump, Answer::Dumped { .. })
                | (Kind::SetLockspace, Answer::LockspaceSet(_))
                | (Kind::Lockspaces, Answer::Lockspaces { .. })
                | (Kind::Orphans, Answer::Orphans(_))
                | (Kind::Purge, Answer::OrphansPurged(_))
                | (Kind::Set, Answer::SetGranted { .. })
                | (Kind::ConvertMany | Kind::UnlockMany, Answer::Many { .. })
                | (Kind::UnlockTree, Answer::TreeUnlocked { .. })
                | (Kind::Owner, Answer::OwnerSet)
                | (Kind::Status, Answer::Status(_))
                | (Kind::Locks, Answer::Locks(_))
                | (Kind::Why, Answer::Why(_))
                | (Kind::Events, Answer::Subscribed)
                | (Kind::Leave, Answer::Left)
                | (Kind::Vouch, Answer::Vouched { .. })
                | (Kind::Ping, Answer::Pong)
                | (Kind::Keep, Answer::Kept { .. })
                | (Kind::Reattach, Answer::Reattached { .. })
                | (Kind::Heard, Answer::Heard)
        )
    }
}
