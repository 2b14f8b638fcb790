//! What masters granted, in the order in which they did: no clocks are compared.

use crate::{
    check::{Finding, Shown},
    dump::Timeline,
    record::{Op, Record},
    tokens::Tokens,
};
use mainstay_base::{Incarnation, LockId, LockMode, LockspaceId, NodeId, ResourceName, Token};
use std::collections::BTreeMap;

/// A lock, as its master tells it from others: its owner's node and incarnation (none for the
/// master's own), and its number.
type Key = (Option<(NodeId, Incarnation)>, LockId);

/// A resource as one master keeps it.
#[derive(Default)]
struct Resource {
    holders: BTreeMap<Key, (LockMode, Token)>,
    tokens: Tokens<Key>,
}

/// What happened to a lock at its master.
struct Step<'a> {
    op: Op,
    resource: (LockspaceId, &'a ResourceName),
    key: Key,
    mode: Option<LockMode>,
    token: Token,
}

/// Plays the grants and releases of one master again. Counts the grants.
pub(crate) fn replay(timeline: &Timeline, findings: &mut Vec<Finding>) -> u64 {
    let mut resources: BTreeMap<(LockspaceId, &ResourceName), Resource> = BTreeMap::new();
    let mut grants = 0;
    let mut before: Option<u64> = None;
    for entry in &timeline.entries {
        if before.is_some_and(|before| entry.number != before + 1) {
            // What was released in a gap is not known.
            resources.clear();
        }
        before = Some(entry.number);
        let step = match &entry.record {
            Record::Life { .. } => {
                resources.clear();
                continue;
            }
            Record::Master { space, name, .. } => {
                // Whoever mastered it in between may have granted and released.
                resources.remove(&(*space, name));
                continue;
            }
            // What goes is gone, whoever decides meanwhile.
            Record::Own(own)
                if own.master == timeline.head.node
                    || matches!(own.op, Op::Unlocked | Op::Dropped | Op::OrphanPurged) =>
            {
                Step {
                    op: own.op,
                    resource: (own.space, &own.name),
                    key: (None, own.lock),
                    mode: own.mode,
                    token: own.token,
                }
            }
            Record::Mastered(theirs) => Step {
                op: theirs.op,
                resource: (theirs.space, &theirs.name),
                key: (Some((theirs.node, theirs.incarnation)), theirs.lock),
                mode: theirs.mode,
                token: theirs.token,
            },
            _ => continue,
        };
        let resource = resources.entry(step.resource).or_default();
        match step.op {
            Op::Granted | Op::Restated => {
                grants += u64::from(step.op == Op::Granted);
                if let Some(what) = resource.granted(&step, timeline) {
                    findings.push(Finding {
                        at: entry.at,
                        node: timeline.head.name.clone(),
                        resource: Shown::resource(timeline, step.resource.0, step.resource.1),
                        what,
                    });
                }
            }
            Op::Unlocked | Op::Dropped | Op::Purged | Op::OrphanPurged => {
                resource.holders.remove(&step.key);
            }
            Op::Demoted => {
                if let Some(held) = resource.holders.get_mut(&step.key) {
                    held.0 = LockMode::Nl;
                }
            }
            Op::Asked
            | Op::Converting
            | Op::Queued
            | Op::Refused
            | Op::Unlocking
            | Op::Blocking
            | Op::Orphaned
            | Op::Adopted
            // The bytes would be needed to judge it.
            | Op::Ranged => {}
        }
    }
    grants
}

impl Resource {
    /// What is wrong with a grant, if anything is.
    fn granted(&mut self, step: &Step<'_>, timeline: &Timeline) -> Option<String> {
        let mode = step.mode?;
        if step.op == Op::Restated {
            // Restated modes may exclude each other: one that is being given up, as the vanished
            // master may have granted, stands here as it was until queues are put in order.
            self.holders.insert(step.key, (mode, step.token));
            // It may have been another life's before. Only locks in NL have tokens of others.
            if mode != LockMode::Nl {
                self.tokens.passes(step.key, step.token);
            }
            self.tokens.granted(step.key, mode, step.token);
            return None;
        }
        let who = |key: &Key| {
            let node = key.0.map_or(timeline.head.node, |life| life.0);
            format!("lock {} of {}", key.1, Shown::node(timeline, node))
        };
        let others = self.holders.iter().filter(|(key, _)| **key != step.key);
        let mut conflicting = others.filter(|(_, (held, _))| !held.compatible(mode));
        let wrong = conflicting.next().map(|(other, (held, token))| {
            format!(
                "its master granted {mode} with token {} to {} while {} held {held} with token {token}",
                step.token,
                who(&step.key),
                who(other)
            )
        });
        let stale = self.tokens.unsurpassed(step.key, mode, step.token);
        let wrong = wrong.or_else(|| {
            stale.map(|(earlier, token)| {
                format!(
                    "its master granted {mode} with token {} to {} after a grant of {earlier} to another lock \
                     with token {token}, which is not smaller",
                    step.token,
                    who(&step.key)
                )
            })
        });
        self.holders.insert(step.key, (mode, step.token));
        self.tokens.granted(step.key, mode, step.token);
        wrong
    }
}
