//! `mainstay masters`

use crate::{
    args::Global,
    connect::connect,
    exit::{OK, Outcome},
    output::{self, FAINT, Table, paint, span},
};
use clap::Args;
use mainstay_wire::report::MastersReport;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mainstay masters\n  mainstay masters --json")]
pub(crate) struct MastersArgs {}

/// Moves that the text shows; JSON has them all.
const MOVES_SHOWN: usize = 10;

pub(crate) async fn run(global: Global) -> Outcome {
    let report = connect(&global).await?.masters().await?;
    if global.json {
        output::json(&report)?;
        return Ok(OK);
    }
    output::print(&render(&report));
    output::note_silent(&report.silent, "what is mastered there");
    Ok(OK)
}

fn render(report: &MastersReport) -> String {
    let all: u64 = report.nodes.iter().map(|node| node.mastered).sum();
    let mut table = Table::new([
        "NODE",
        "WEIGHT",
        "MASTERED",
        "SHARE",
        "GRANTS",
        "LOCKSPACES",
    ]);
    for node in &report.nodes {
        let spaces = node.lockspaces.iter();
        let spaces: Vec<String> = spaces.map(|(name, n)| format!("{name} {n}")).collect();
        table.row([
            node.node.to_string(),
            node.weight.to_string(),
            node.mastered.to_string(),
            match all {
                0 => "-".to_owned(),
                all => format!("{} %", (node.mastered * 100 + all / 2) / all),
            },
            node.grants.to_string(),
            spaces.join(", "),
        ]);
    }
    let mut out = table.render();
    if report.moves.is_empty() {
        out.push_str(&match report.moving {
            true => paint(FAINT, "nothing has moved lately\n"),
            false => paint(
                FAINT,
                "this node keeps what it masters (masters.move = false)\n",
            ),
        });
        return out;
    }
    let mut table = Table::new(["AGO", "FROM", "TO", "RESOURCES", "REASON"]);
    for moved in report.moves.iter().take(MOVES_SHOWN) {
        table.row([
            span(moved.ago_ms),
            moved.from.to_string(),
            moved.to.to_string(),
            moved.resources.to_string(),
            moved.reason.to_string(),
        ]);
    }
    out.push('\n');
    out.push_str(&table.render());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{LockspaceName, NodeName};
    use mainstay_wire::{
        event::Reason,
        report::{MasterReport, MoveReport},
    };

    /// Protects what people read: shares of all that is mastered, and each move with its reason.
    #[test]
    fn shares_and_moves_are_told() {
        let node = |name| NodeName::new(name).expect("letters");
        let master = |name, mastered| MasterReport {
            node: node(name),
            weight: 1,
            mastered,
            lockspaces: vec![(LockspaceName::new("default").expect("letters"), mastered)],
            grants: 7,
        };
        let report = MastersReport {
            nodes: vec![master("a", 75), master("b", 25)],
            moves: vec![MoveReport {
                from: node("b"),
                to: node("a"),
                resources: 3,
                reason: Reason::BusierElsewhere,
                ago_ms: 1500,
            }],
            moving: true,
            cap: 100,
            silent: Vec::new(),
        };
        let text = anstream::adapter::strip_str(&render(&report)).to_string();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = text.lines().map(words).collect();
        assert_eq!(lines[1], "a 1 75 75 % 7 default 75");
        assert_eq!(lines[2], "b 1 25 25 % 7 default 25");
        assert_eq!(lines[5], "1.5 s b a 3 busier-elsewhere");
    }
}
