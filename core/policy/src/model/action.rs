//! Actions: what may be done, and what it waits for.

use super::{Ax, Nx, Sx};

/// What a notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum About {
    Start,
    Stop,
    Promote,
    Demote,
}

/// How a node is fenced, or taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FenceOp {
    #[default]
    Reboot,
    Off,
    On,
}

impl FenceOp {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            FenceOp::Reboot => "reboot",
            FenceOp::Off => "off",
            FenceOp::On => "on",
        }
    }
}

/// What is done. The forms in the past tense are events at the end of what a collective does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Task {
    Start,
    Started,
    Stop,
    Stopped,
    Promote,
    Promoted,
    Demote,
    Demoted,
    Monitor,
    MigrateTo,
    MigrateFrom,
    /// Tells an instance before (false) or after (true) something is done to the clone.
    Notify(bool, About),
    /// All instances have been told.
    Notified(bool, About),
    /// Ends a recurring operation of the given name.
    Cancel,
    ClearFailCount,
    /// Makes a node forget what it has done to a service.
    Delete,
    /// Makes the cluster forget what a node has done to a service.
    Forget,
    /// Tells an agent of new parameters without a restart.
    Reload,
    Fence(FenceOp),
    Shutdown,
    /// Makes a node look again for everything that may run on it.
    ProbeAgain,
    /// An event with a name of its own, or an operation that people named.
    Named(u32),
}

impl Task {
    /// The event that tells of the end of this, for a collective.
    pub(crate) fn done(self) -> Task {
        match self {
            Task::Start => Task::Started,
            Task::Stop => Task::Stopped,
            Task::Promote => Task::Promoted,
            Task::Demote => Task::Demoted,
            Task::Notify(post, about) => Task::Notified(post, about),
            other => other,
        }
    }

    /// What ends in this event.
    pub(crate) fn begun(self) -> Task {
        match self {
            Task::Started => Task::Start,
            Task::Stopped => Task::Stop,
            Task::Promoted => Task::Promote,
            Task::Demoted => Task::Demote,
            Task::Notified(post, about) => Task::Notify(post, about),
            other => other,
        }
    }

    /// The operation that a notification is about; the task itself if it is none.
    pub(crate) fn about(self) -> Task {
        match self {
            Task::Notify(_, about) | Task::Notified(_, about) => about.task(),
            other => other,
        }
    }

    pub(crate) fn is_notification(self) -> bool {
        matches!(self, Task::Notify(..) | Task::Notified(..))
    }
}

impl About {
    pub(crate) fn task(self) -> Task {
        match self {
            About::Start => Task::Start,
            About::Stop => Task::Stop,
            About::Promote => Task::Promote,
            About::Demote => Task::Demote,
        }
    }
}

/// What a service or an action needs of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Needed {
    #[default]
    Nothing,
    Quorum,
    Fencing,
    /// Fencing, and that its node was unfenced.
    Unfencing,
}

/// An ordering as one action sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub action: Ax,
    pub flags: u32,
}

/// Something that may be done, or an event in between.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    pub service: Option<Sx>,
    pub node: Option<Nx>,
    pub task: Task,
    /// Milliseconds.
    pub interval: u64,
    /// Nothing is carried out: an event.
    pub pseudo: bool,
    /// It can be done.
    pub runnable: bool,
    /// It need not be done.
    pub optional: bool,
    /// It is shown though it need not be done.
    pub show: bool,
    /// It is part of a migration, or can be.
    pub migrates: bool,
    /// It needs only some of its firsts.
    pub needs_any: bool,
    pub any_needed: u32,
    pub any_found: u32,
    /// A stop that ends a migration whose other half is over.
    pub dangling: bool,
    /// A recurring operation that must begin anew though it goes on.
    pub begins_anew: bool,
    /// Carried out by the coordinator, whatever the node's state.
    pub by_dc: bool,
    pub needs: Needed,
    /// The result that means success, if it is not the usual one.
    pub target_rc: Option<i32>,
    /// What a cancellation ends.
    pub cancels: Option<Task>,
    /// Where a migration comes from and goes to.
    pub migration: Option<(Nx, Nx)>,
    pub reason: Option<String>,
    /// The action because of which it must be done, or cannot be.
    pub cause: Option<Ax>,
    pub before: Vec<Link>,
    pub after: Vec<Link>,
    /// Its orderings have been put together.
    pub tidied: bool,
    pub drawn: bool,
    /// For walks through the graph.
    pub tracking: bool,
}
