//! Who waits for whom, in sentences.

use crate::ranges;
use mainstay_base::{ByteRange, LockMode, LockspaceName, NodeName, ResourceName};
use mainstay_wire::report::{GraphReport, GraphWait, LockReport, ResourceReport, WhyReport};

/// What is known of a resource beside what its master says, if it has one.
#[derive(Default)]
pub(crate) struct Masterless {
    /// Who has a lock on it, or has asked for one: process, command and node.
    pub(crate) clients: Vec<String>,
    /// Vanished nodes, any of which may have been its master or have locks, and what is waited for.
    pub(crate) vanished: Vec<Absent>,
}

/// A node that is no member at present, and whose locks stay.
pub(crate) struct Absent {
    pub(crate) node: NodeName,
    /// For people.
    pub(crate) waits_for: String,
    /// It is being started anew, and has handed over what it mastered.
    pub(crate) rests: bool,
}

impl Masterless {
    fn explain(&self, lockspace: &LockspaceName, name: &ResourceName, sentences: &mut Vec<String>) {
        if !self.clients.is_empty() {
            let clients = self.clients.join(" and ");
            sentences.push(format!(
                "{name} has no master at present; {clients} had or want a lock on it."
            ));
        } else if self.vanished.is_empty() {
            sentences.push(format!(
                "Nobody has a lock on {name} in lockspace {lockspace}."
            ));
        } else {
            sentences.push(format!(
                "Nobody among the members has a lock on {name} in lockspace {lockspace}."
            ));
        }
        for Absent {
            node, waits_for, ..
        } in self.vanished.iter().filter(|absent| !absent.rests)
        {
            sentences.push(format!(
                "If {node} had one, or was its master, nothing is granted until it is certain that \
                 {node} can do no more harm ({waits_for})."
            ));
        }
    }
}

/// Explains every wait on a resource.
pub(crate) fn explain(
    resource: Option<ResourceReport>,
    masterless: &Masterless,
    lockspace: &LockspaceName,
    name: &ResourceName,
    silent: &[NodeName],
) -> WhyReport {
    let mut sentences = Vec::new();
    match &resource {
        None => masterless.explain(lockspace, name, &mut sentences),
        Some(found) => {
            if found.recovering {
                sentences.push(format!(
                    "{name} is being rebuilt on {} after its master vanished; nothing is granted \
                     until all survivors have restated their locks.",
                    found.master
                ));
            }
            explain_queues(found, &mut sentences);
            explain_orphans(found, &mut sentences);
            explain_absent(found, &masterless.vanished, &mut sentences);
        }
    }
    for node in silent {
        sentences.push(format!(
            "{node} did not answer in time; what it masters is missing here."
        ));
    }
    WhyReport {
        resource,
        sentences,
    }
}

/// Most waits of a circle that a sentence names.
const WAITS_TOLD: usize = 16;

/// Adds a sentence for each circle in which somebody waits on the report's resource.
pub(crate) fn explain_circles(report: &mut WhyReport, graph: &GraphReport) {
    let Some(found) = &report.resource else {
        return;
    };
    let here = |wait: &GraphWait| wait.lockspace == found.lockspace && wait.name == found.name;
    for circle in &graph.circles {
        let waits: Vec<&GraphWait> = graph
            .waits
            .iter()
            .filter(|wait| circle.contains(&wait.waiter))
            .collect();
        if !waits.iter().any(|wait| here(wait)) {
            continue;
        }
        let told = waits.iter().filter_map(|wait| {
            let owner = graph.owners.get(wait.waiter as usize)?;
            let name = format!("{}{}", wait.name, bytes(wait.range));
            let mode = wait.requested;
            if let Some(owner) = owner.owner.together(&owner.node) {
                return Some(format!("{owner} for {mode} on {name}"));
            }
            Some(match owner.owner.pid {
                0 => format!("lock {} of {} for {mode} on {name}", wait.lock, owner.node),
                pid => {
                    let command = &owner.owner.command;
                    format!(
                        "process {pid} ({command}) on {} for {mode} on {name}",
                        owner.node
                    )
                }
            })
        });
        let told: Vec<String> = told.take(WAITS_TOLD).collect();
        let more = match waits.len() > WAITS_TOLD {
            true => "; and more, see `mainstay graph`",
            false => "",
        };
        report.sentences.push(format!(
            "Deadlock: {} owners wait for each other in a circle: {}{more}.",
            circle.len(),
            told.join("; ")
        ));
    }
}

/// Says how to get rid of orphans that others wait for: nobody lets go of them.
fn explain_orphans(found: &ResourceReport, sentences: &mut Vec<String>) {
    let in_way = |orphan: &LockReport| {
        let mut waits = found.converters.iter().chain(&found.waiters);
        waits.any(|wait| wait.requested.is_some_and(|asked| blocks(orphan, asked)))
    };
    let holders = found.holders.iter();
    let mut orphans = holders.filter(|holder| holder.owner.orphan_ms.is_some());
    if orphans.any(in_way) {
        sentences.push(format!(
            "Nobody lets go of an orphan by itself: a process may adopt it, on its node or from another, or \
             `mainstay orphans purge {}` releases it.",
            found.name
        ));
    }
}

/// Says why nobody lets go of locks of nodes that are no members at present.
fn explain_absent(found: &ResourceReport, vanished: &[Absent], sentences: &mut Vec<String>) {
    for Absent {
        node, waits_for, ..
    } in vanished
    {
        let theirs = |lock: &LockReport| lock.node == *node && lock.owner.pid == 0;
        if found.holders.iter().chain(&found.converters).any(theirs) {
            sentences.push(format!(
                "{node} is no member at present, and its locks stay ({waits_for})."
            ));
        }
    }
}

fn explain_queues(found: &ResourceReport, sentences: &mut Vec<String>) {
    let name = &found.name;
    for (place, lock) in found.converters.iter().enumerate() {
        let Some(asked) = lock.requested else {
            continue;
        };
        let others = found.converters.iter().filter(|other| other.id != lock.id);
        let blockers: Vec<String> = found
            .holders
            .iter()
            .chain(others)
            .filter(|other| blocks(other, asked))
            .map(holds)
            .collect();
        let ahead = found.converters[..place].iter().map(waits_ahead);
        sentences.push(waiting(lock, asked, name, blockers, ahead.collect()));
    }
    for (place, lock) in found.waiters.iter().enumerate() {
        let Some(asked) = lock.requested else {
            continue;
        };
        let blockers: Vec<String> = found
            .holders
            .iter()
            .chain(&found.converters)
            .filter(|other| ranges::in_the_way(other, lock))
            .map(holds)
            .collect();
        let before = |ahead: &&LockReport| {
            lock.range.is_none() || ranges::stands_before(ahead, lock, found.holders.iter())
        };
        let ahead = found
            .converters
            .iter()
            .chain(&found.waiters[..place])
            .filter(before)
            .map(waits_ahead);
        sentences.push(waiting(lock, asked, name, blockers, ahead.collect()));
    }
    if found.converters.is_empty() && found.waiters.is_empty() {
        let held: Vec<String> = found.holders.iter().map(holds).collect();
        sentences.push(match held.is_empty() {
            true => format!("Nobody holds or waits for {name}."),
            false => format!("Nobody waits for {name}: {}.", held.join(", ")),
        });
    }
}

fn blocks(holder: &LockReport, asked: LockMode) -> bool {
    holder.granted.is_some_and(|held| !held.compatible(asked))
}

fn waiting(
    lock: &LockReport,
    asked: LockMode,
    name: &ResourceName,
    blockers: Vec<String>,
    ahead: Vec<String>,
) -> String {
    let mut text = match lock.granted {
        Some(held) => format!(
            "{} has waited {} to convert {name} from {held} to {asked}",
            who(lock),
            age(lock)
        ),
        None => format!(
            "{} has waited {} for {asked} on {name}{}",
            who(lock),
            age(lock),
            bytes(lock.range)
        ),
    };
    match (blockers.is_empty(), ahead.is_empty()) {
        (false, _) => text.push_str(&format!(", because {}.", blockers.join(" and "))),
        (true, false) => text.push_str(&format!(", behind {}.", ahead.join(" and "))),
        (true, true) => {
            text.push_str(", and nothing stands in its way: it is about to be granted.")
        }
    }
    text
}

fn holds(lock: &LockReport) -> String {
    let mode = lock.granted.map_or("nl", LockMode::name);
    let bytes = lock.range.map(|range| format!(" on bytes {range}"));
    let bytes = bytes.unwrap_or_default();
    format!("{} has held {mode}{bytes} for {}", who(lock), age(lock))
}

fn waits_ahead(lock: &LockReport) -> String {
    let mode = lock.requested.map_or("nl", LockMode::name);
    let bytes = lock.range.map(|range| format!(" on bytes {range}"));
    format!(
        "{}, which waits for {mode}{}",
        who(lock),
        bytes.unwrap_or_default()
    )
}

/// Which bytes of a resource, where not all of it.
fn bytes(range: Option<ByteRange>) -> String {
    range
        .map(|range| format!(" bytes {range}"))
        .unwrap_or_default()
}

fn who(lock: &LockReport) -> String {
    match lock.owner.pid {
        pid if lock.owner.orphan_ms.is_some() => format!(
            "an orphan that process {pid} ({}) of user {} left behind on {} {} ago",
            lock.owner.command,
            lock.owner.uid,
            lock.node,
            span(lock.owner.orphan_ms.unwrap_or_default())
        ),
        0 => format!("lock {} of {}", lock.id, lock.node),
        pid => {
            let LockReport { owner, node, .. } = lock;
            let broken = owner.broken.map(|broken| format!(", {broken},"));
            format!(
                "process {pid} ({}) on {node}{}{}",
                owner.command,
                owner.as_owner(),
                broken.unwrap_or_default()
            )
        }
    }
}

fn age(lock: &LockReport) -> String {
    span(lock.age_ms)
}

fn span(ms: u64) -> String {
    let (s, ms) = (ms / 1000, ms % 1000);
    match s {
        0..60 => format!("{s}.{:01} s", ms / 100),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{LockId, Token};
    use mainstay_wire::report::OwnerReport;

    fn lock(
        id: u64,
        node: &str,
        granted: Option<LockMode>,
        requested: Option<LockMode>,
    ) -> LockReport {
        LockReport {
            node: NodeName::new(node).expect("valid"),
            id: LockId(id),
            granted,
            requested,
            token: Token(id),
            owner: OwnerReport {
                pid: id as u32 * 100,
                uid: 0,
                command: format!("job{id}"),
                orphan_ms: None,
                owner: mainstay_base::Owner::Session,
                broken: None,
            },
            age_ms: 1500,
            range: None,
        }
    }

    /// Protects X1: while a vanished node may still be the master, nobody is told that a resource is
    /// free.
    #[test]
    fn a_resource_without_a_master_is_not_called_free() {
        let name = ResourceName::new("disk").expect("valid");
        let lockspace = LockspaceName::new("default").expect("valid");
        let why = |masterless: &Masterless| {
            let report = explain(None, masterless, &lockspace, &name, &[]);
            report.sentences.join(" ")
        };
        let mut masterless = Masterless::default();
        let free = "Nobody has a lock on disk in lockspace default.";
        assert_eq!(why(&masterless), free);
        let n1 = NodeName::new("n1").expect("valid");
        let absent = |rests| Absent {
            node: n1.clone(),
            waits_for: "its lease".to_owned(),
            rests,
        };
        masterless.vanished.push(absent(true));
        let others = "Nobody among the members has a lock on disk in lockspace default.";
        assert_eq!(why(&masterless), others, "one that rests masters nothing");
        masterless.vanished = vec![absent(false)];
        let vanished = "If n1 had one, or was its master, nothing is granted until it is certain \
                        that n1 can do no more harm (its lease).";
        let nobody = "Nobody among the members has a lock on disk in lockspace default.";
        assert_eq!(why(&masterless), format!("{nobody} {vanished}"));
        masterless.clients.push("process 7 (job) on n2".to_owned());
        let client =
            "disk has no master at present; process 7 (job) on n2 had or want a lock on it.";
        assert_eq!(why(&masterless), format!("{client} {vanished}"));
    }

    /// Protects X1: the sentence names the holder that blocks, and for one behind a waiter, the
    /// waiter.
    #[test]
    fn sentences_name_who_is_in_the_way() {
        let name = ResourceName::new("disk").expect("valid");
        let lockspace = LockspaceName::new("default").expect("valid");
        let found = ResourceReport {
            lockspace: lockspace.clone(),
            name: name.clone(),
            master: NodeName::new("n1").expect("valid"),
            recovering: false,
            token: Token(9),
            value: None,
            holders: vec![lock(1, "n1", Some(LockMode::Pr), None)],
            converters: vec![],
            waiters: vec![
                lock(2, "n2", None, Some(LockMode::Ex)),
                lock(3, "n3", None, Some(LockMode::Pr)),
            ],
        };
        let report =
            |found, known: &Masterless| explain(Some(found), known, &lockspace, &name, &[]);
        let mut absent = found.clone();
        absent.holders[0].owner = OwnerReport::default();
        let known = Masterless {
            vanished: vec![Absent {
                node: NodeName::new("n1").expect("valid"),
                waits_for: "rests: 9 s at most".to_owned(),
                rests: true,
            }],
            ..Masterless::default()
        };
        assert_eq!(
            report(absent, &known).sentences[2],
            "n1 is no member at present, and its locks stay (rests: 9 s at most)."
        );
        let report = report(found, &known);
        assert_eq!(
            report.sentences,
            [
                "process 200 (job2) on n2 has waited 1.5 s for ex on disk, because process 100 \
                 (job1) on n1 has held pr for 1.5 s.",
                "process 300 (job3) on n3 has waited 1.5 s for pr on disk, behind process 200 \
                 (job2) on n2, which waits for ex.",
            ]
        );
    }
}
