//! `mainstay graph`

use crate::{
    args::Global,
    commands::locks::{lockspace_name, unknown},
    connect::connect,
    exit::{Failure, OK, Outcome},
    output::{self, BAD, paint, span},
};
use clap::Args;
use mainstay_base::ByteRange;
use mainstay_wire::report::{GraphOwner, GraphReport, GraphWait};
use std::{collections::BTreeSet, fmt::Write as _};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mainstay graph\n  mainstay graph 'vm-*' --json\n  \
                        mainstay graph --dot | dot -Tsvg > waits.svg"
)]
pub(crate) struct GraphArgs {
    /// Only resources whose name matches; `*` and `?` as in the shell
    pub(crate) pattern: Option<String>,
    /// Only resources in this lockspace
    #[arg(long, value_name = "NAME")]
    pub(crate) lockspace: Option<String>,
    /// Look at no more than so many resources
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
    /// Print the graph in the language of Graphviz
    #[arg(long, conflicts_with = "json")]
    pub(crate) dot: bool,
}

pub(crate) async fn run(global: Global, args: GraphArgs) -> Outcome {
    let lockspace = args.lockspace.as_deref().map(lockspace_name).transpose()?;
    let client = connect(&global).await?;
    let report = client
        .graph(lockspace.clone(), args.pattern, args.limit)
        .await
        .map_err(|error| unknown(error, lockspace.as_ref()))?;
    check(&report)?;
    if global.json {
        output::json(&report)?;
    } else if args.dot {
        output::print(&dot(&report));
    } else {
        output::print(&text(&report));
    }
    if report.truncated {
        output::note(format_args!(
            "there is more than is shown; raise --limit or narrow the pattern"
        ));
    }
    output::note_silent(&report.silent, "what is mastered there");
    Ok(OK)
}

/// The daemon may be of another build: what it names must be there.
fn check(report: &GraphReport) -> Result<(), Failure> {
    let waits = report.waits.iter();
    let named = waits
        .flat_map(|w| w.blockers.iter().map(|b| b.owner).chain([w.waiter]))
        .chain(report.circles.iter().flatten().copied());
    match named.max() {
        Some(most) if most as usize >= report.owners.len() => Err(Failure::new(
            crate::exit::INTERNAL,
            "the daemon's graph names an owner that it does not contain",
        )),
        _ => Ok(()),
    }
}

pub(crate) fn who(owner: &GraphOwner) -> String {
    if let Some(several) = owner.owner.together(&owner.node) {
        return several;
    }
    match (owner.owner.pid, owner.session) {
        (pid, _) if owner.owner.orphan_ms.is_some() => format!(
            "an orphan of process {pid} ({}) on {}, gone for {}",
            owner.owner.command,
            owner.node,
            span(owner.owner.orphan_ms.unwrap_or_default())
        ),
        (0, None) => format!("an unknown process on {}", owner.node),
        (0, Some(session)) => format!("session {session} on {}", owner.node),
        (pid, _) => match owner.owner.broken {
            Some(broken) => format!(
                "process {pid} ({}) on {}, {broken}",
                owner.owner.command, owner.node
            ),
            None => format!("process {pid} ({}) on {}", owner.owner.command, owner.node),
        },
    }
}

fn wish(wait: &GraphWait) -> String {
    let (name, space, asked) = (&wait.name, &wait.lockspace, wait.requested);
    match wait.granted {
        Some(held) => format!("converts {space}/{name} from {held} to {asked}"),
        None => format!("waits for {asked} on {space}/{name}{}", bytes(wait.range)),
    }
}

/// Which bytes of a resource, where not all of it.
fn bytes(range: Option<ByteRange>) -> String {
    range.map_or(String::new(), |range| format!(" bytes {range}"))
}

fn text(report: &GraphReport) -> String {
    if report.waits.is_empty() {
        return "nobody waits\n".to_owned();
    }
    let mut out = String::new();
    let owner = |place: u32| who(&report.owners[place as usize]);
    for wait in &report.waits {
        let (waiter, age) = (owner(wait.waiter), span(wait.age_ms));
        let _ = writeln!(out, "{waiter} {}, since {age}", wish(wait));
        for blocker in &wait.blockers {
            let name = owner(blocker.owner);
            let _ = match blocker.held {
                Some(held) => {
                    let bytes = bytes(blocker.range);
                    writeln!(out, "  held in {held}{bytes} by {name}")
                }
                None => writeln!(out, "  behind {name}"),
            };
        }
    }
    for circle in &report.circles {
        let names: Vec<String> = circle.iter().map(|place| owner(*place)).collect();
        let _ = writeln!(
            out,
            "{}: {} wait for each other",
            paint(BAD, "deadlock"),
            names.join(", ")
        );
    }
    out
}

fn dot(report: &GraphReport) -> String {
    let mut out = String::from("digraph waits {\n  node [shape=box];\n");
    let stuck: BTreeSet<u32> = report.circles.iter().flatten().copied().collect();
    for (place, owner) in (0u32..).zip(&report.owners) {
        let colour = if stuck.contains(&place) {
            ", color=red"
        } else {
            ""
        };
        let _ = writeln!(out, "  o{place} [label={}{colour}];", quote(&who(owner)));
    }
    for wait in &report.waits {
        for blocker in &wait.blockers {
            let style = match blocker.held {
                Some(_) => "",
                None => ", style=dashed",
            };
            let label = quote(&wish(wait));
            let (from, to) = (wait.waiter, blocker.owner);
            let _ = writeln!(out, "  o{from} -> o{to} [label={label}{style}];");
        }
    }
    out.push_str("}\n");
    out
}

/// A string of the language of Graphviz; commands and names may contain anything.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{LockId, LockMode, LockspaceName, NodeName, ResourceName, SessionId};
    use mainstay_wire::report::{GraphBlocker, OwnerReport};

    fn report() -> GraphReport {
        let owner = |node: &str, pid| GraphOwner {
            node: NodeName::new(node).expect("valid"),
            session: Some(SessionId(1)),
            owner: OwnerReport {
                pid,
                uid: 0,
                command: "say \"hi\"".to_owned(),
                orphan_ms: None,
                owner: mainstay_base::Owner::Session,
                broken: None,
            },
        };
        let wait = |waiter, name: &str, blocker, held| GraphWait {
            waiter,
            lockspace: LockspaceName::new("default").expect("valid"),
            name: ResourceName::new(name).expect("valid"),
            lock: LockId(1),
            granted: None,
            requested: LockMode::Ex,
            age_ms: 1500,
            blockers: vec![GraphBlocker {
                owner: blocker,
                held,
                range: None,
            }],
            range: None,
        };
        GraphReport {
            owners: vec![owner("n1", 7), owner("n2", 8)],
            waits: vec![wait(0, "a", 1, Some(LockMode::Pr)), wait(1, "b", 0, None)],
            circles: vec![vec![0, 1]],
            ..GraphReport::default()
        }
    }

    /// Protects the page: each wait with what is in its way, and the circle by name.
    #[test]
    fn a_graph_reads_as_a_page() {
        let text = anstream::adapter::strip_str(&text(&report())).to_string();
        assert_eq!(
            text,
            "\
process 7 (say \"hi\") on n1 waits for ex on default/a, since 1.5 s
  held in pr by process 8 (say \"hi\") on n2
process 8 (say \"hi\") on n2 waits for ex on default/b, since 1.5 s
  behind process 7 (say \"hi\") on n1
deadlock: process 7 (say \"hi\") on n1, process 8 (say \"hi\") on n2 wait for each other
"
        );
        assert_eq!(super::text(&GraphReport::default()), "nobody waits\n");
    }

    /// Protects `--dot`: what Graphviz reads, whatever commands contain.
    #[test]
    fn a_graph_reads_as_dot() {
        let dot = dot(&report());
        let line = "  o0 [label=\"process 7 (say \\\"hi\\\") on n1\", color=red];\n";
        assert!(dot.contains(line), "{dot}");
        let edge = "  o1 -> o0 [label=\"waits for ex on default/b\", style=dashed];\n";
        assert!(dot.contains(edge), "{dot}");
    }

    /// Protects the command from a daemon that names what it does not send.
    #[test]
    fn a_graph_without_its_owners_is_refused() {
        let mut report = report();
        assert!(check(&report).is_ok());
        report.owners.pop();
        assert!(check(&report).is_err());
    }
}
