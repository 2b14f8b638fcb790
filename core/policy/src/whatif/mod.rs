//! What if: changes to a cluster's state that did not happen.

mod apply;
#[cfg(test)]
mod tests;

use core::{fmt, str::FromStr};

/// Something that might happen to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A cluster option gets a value.
    Option {
        /// The option.
        name: String,
        /// Its value.
        value: String,
    },
    /// The cluster gets, or loses, its quorum.
    Quorum(bool),
    /// A node comes into the cluster.
    NodeUp(String),
    /// A node leaves the cluster cleanly; what is known of it is forgotten.
    NodeDown(String),
    /// A node is lost without a word.
    NodeFails(String),
    /// A ticket changes.
    Ticket(String, Ticket),
    /// An operation ends with a result.
    Result(OpResult),
}

/// What becomes of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ticket {
    /// It is granted.
    Granted,
    /// It is taken away.
    Revoked,
    /// It is put on standby: services leave in order.
    Standby,
    /// It counts again.
    Active,
}

/// An operation on a service, and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpResult {
    /// The service, with the number of its instance where numbers mean something.
    pub service: String,
    /// The operation: start, stop, monitor, promote, demote, migrate_to, migrate_from, notify, reload or
    /// reload-agent.
    pub task: String,
    /// How often it recurs, in milliseconds; 0 for once.
    pub interval: u64,
    /// The node.
    pub node: String,
    /// The exit code.
    pub rc: i32,
}

/// The operations that have results.
const TASKS: [&str; 10] = [
    "start",
    "stop",
    "monitor",
    "promote",
    "demote",
    "migrate_to",
    "migrate_from",
    "notify",
    "reload-agent",
    "reload",
];

impl FromStr for OpResult {
    type Err = String;

    /// Reads `SERVICE_TASK_INTERVAL@NODE=RC`, the interval in milliseconds.
    fn from_str(text: &str) -> Result<OpResult, String> {
        let expected = || {
            format!(
                "expected SERVICE_TASK_INTERVAL@NODE=RC with the interval in milliseconds, as in \
                 web_monitor_10000@node1=7; TASK is one of {}",
                TASKS.join(", ")
            )
        };
        let parts = || {
            let (rest, rc) = text.rsplit_once('=')?;
            let (operation, node) = rest.rsplit_once('@')?;
            let (operation, interval) = operation.rsplit_once('_')?;
            let (service, task) = TASKS.iter().find_map(|task| {
                let service = operation.strip_suffix(task)?.strip_suffix('_')?;
                Some((service, *task))
            })?;
            (!service.is_empty() && !node.is_empty()).then_some(())?;
            Some(OpResult {
                service: service.to_owned(),
                task: task.to_owned(),
                interval: interval.parse().ok()?,
                node: node.to_owned(),
                rc: rc.parse().ok()?,
            })
        };
        parts().ok_or_else(expected)
    }
}

impl fmt::Display for OpResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}_{}_{}@{}={}",
            self.service, self.task, self.interval, self.node, self.rc
        )
    }
}

/// Something is named that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// What it should be: node, service or ticket.
    pub what: &'static str,
    /// The name.
    pub name: String,
    /// What there is.
    pub known: Vec<String>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no {} {}; ", self.what, self.name)?;
        if self.known.is_empty() {
            write!(f, "there is none at all")
        } else {
            write!(f, "there are {}", self.known.join(", "))
        }
    }
}

impl std::error::Error for Unknown {}
