//! The report, for people and for programs.

use super::{
    failover::Failover,
    limits::Limits,
    memory::Memory,
    moving::{Even, Moving},
    placement::Placement,
    recovery::Recovery,
    sample::{Bound, Row, Summary},
};
use crate::output::{BAD, FAINT, GOOD, HEAD, ODD, Table, paint};
use serde::Serialize;
use std::fmt::Write as _;

/// From kill -9 to the next grant, at most, in milliseconds.
const FAILOVER_TARGET_MS: f64 = 3000.0;
/// From the proof of death to the grant, at most, in milliseconds.
const PROOF_TARGET_MS: f64 = 150.0;
/// From the proof of death to the end of the recovery, at most, in milliseconds.
const RECOVERY_TARGET_MS: f64 = 1000.0;
/// Longest pause of those who have nothing to do with a death or a return, in milliseconds.
const PAUSE_TARGET_MS: f64 = 20.0;

/// Share of locks of another node two seconds after the work has moved, at most, in percent.
const REMOTE_TARGET: f64 = 5.0;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: &'static str,
    /// Whether the nodes are connected without the development cluster's proxy.
    direct: bool,
    limits: Vec<Limits>,
    cases: Vec<Case>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) failover: Vec<Failover>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) memory: Vec<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recovery: Option<Recovery>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) masters: Option<Moving>,
}

#[derive(Debug, Serialize)]
struct Case {
    name: String,
    placement: Placement,
    #[serde(flatten)]
    summary: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<Ratio>,
}

/// The median beside the machine's limit, or another case's.
#[derive(Clone, Copy, Debug, Serialize)]
struct Ratio {
    /// To what: `unix`, `tcp`, `unix+tcp`, or the other case.
    to: &'static str,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<f64>,
}

impl Report {
    pub(super) fn new(direct: bool, limits: Vec<Limits>, rows: Vec<Row>) -> Report {
        let cases = rows.into_iter().map(|row| {
            let alike = limits.iter().find(|l| l.placement == row.placement);
            let limit = alike.and_then(|l| match row.bound {
                Bound::None => None,
                Bound::Unix => Some(("unix", l.unix.p50_us)),
                Bound::UnixAndTcp => Some(("unix+tcp", l.unix.p50_us + l.tcp.p50_us)),
                Bound::Case(name, p50_us) => Some((name, p50_us)),
            });
            let ratio = limit.map(|(to, limit)| Ratio {
                to,
                value: row.summary.p50_us / limit.max(1e-9),
                target: row.target,
            });
            Case {
                name: row.name,
                placement: row.placement,
                summary: row.summary,
                ratio,
            }
        });
        Report {
            version: env!("CARGO_PKG_VERSION"),
            direct,
            cases: cases.collect(),
            limits,
            failover: Vec::new(),
            memory: Vec::new(),
            recovery: None,
            masters: None,
        }
    }

    /// For people.
    pub(super) fn render(&self) -> String {
        let mut table = Table::new([
            "WHAT",
            "WHERE",
            "PER SECOND",
            "P50 µs",
            "P90 µs",
            "P99 µs",
            "MAX µs",
            "P50 / LIMIT",
        ]);
        for l in &self.limits {
            let limits = [("UNIX socket", &l.unix), ("TCP", &l.tcp)];
            for (what, summary) in limits {
                let name = format!("limit: {what} round trip, 64 bytes");
                table.row(cells(&name, l.placement, summary, String::new()));
            }
        }
        for case in &self.cases {
            let ratio = case.ratio.map(show).unwrap_or_default();
            table.row(cells(&case.name, case.placement, &case.summary, ratio));
        }
        let mut text = table.render();
        if !self.direct {
            let note = "The nodes are connected through the development cluster's proxy, which \
                        costs every message between nodes one more process.";
            let _ = writeln!(text, "\n{}", paint(FAINT, note));
        }
        if !self.failover.is_empty() {
            let mut table = Table::new(["FAILOVER (ms)", "MIN", "MEDIAN", "MAX", "TARGET"]);
            let kill = self.failover.iter().map(|f| f.kill_to_grant_ms).collect();
            let proof = self.failover.iter().map(|f| f.proof_to_grant_ms).collect();
            table.row(spread(
                "kill -9 of holder and master to grant",
                kill,
                FAILOVER_TARGET_MS,
            ));
            table.row(spread("proof of death to grant", proof, PROOF_TARGET_MS));
            text.push('\n');
            text.push_str(&table.render());
        }
        if !self.memory.is_empty() {
            let mut table = Table::new(["MEMORY OF A DAEMON", "LOCKS", "BYTES PER LOCK", "TARGET"]);
            for memory in &self.memory {
                table.row(grown(memory));
            }
            text.push('\n');
            text.push_str(&table.render());
        }
        if let Some(recovery) = &self.recovery {
            text.push('\n');
            text.push_str(&recovered(recovery));
        }
        if let Some(masters) = &self.masters {
            text.push('\n');
            text.push_str(&moved(masters));
        }
        text
    }
}

fn cells(name: &str, placement: Placement, summary: &Summary, ratio: String) -> [String; 8] {
    [
        name.to_owned(),
        placement.to_string(),
        format!("{:.0}", summary.per_second),
        format!("{:.1}", summary.p50_us),
        format!("{:.1}", summary.p90_us),
        format!("{:.1}", summary.p99_us),
        format!("{:.0}", summary.max_us),
        ratio,
    ]
}

fn show(ratio: Ratio) -> String {
    let text = format!("{:.2} × {}", ratio.value, ratio.to);
    match ratio.target {
        None => text,
        Some(target) => {
            let style = if ratio.value <= target { GOOD } else { BAD };
            format!("{} (target ≤ {target})", paint(style, text))
        }
    }
}

fn spread(name: &str, mut values: Vec<f64>, target: f64) -> [String; 5] {
    values.sort_by(f64::total_cmp);
    let at = |i: usize| values.get(i).copied().unwrap_or(0.0);
    let worst = at(values.len().saturating_sub(1));
    let style = if worst <= target { GOOD } else { BAD };
    [
        name.to_owned(),
        format!("{:.1}", at(0)),
        paint(HEAD, format!("{:.1}", at(values.len() / 2))),
        paint(style, format!("{worst:.1}")),
        format!("≤ {target:.0}"),
    ]
}

fn grown(memory: &Memory) -> [String; 4] {
    let bytes = format!("{:.0}", memory.bytes_per_lock);
    [
        memory.name.clone(),
        memory.locks.to_string(),
        match memory.target {
            Some(target) if memory.bytes_per_lock <= target => paint(GOOD, bytes),
            Some(_) => paint(BAD, bytes),
            None => bytes,
        },
        memory
            .target
            .map_or(String::new(), |target| format!("≤ {target:.0}")),
    ]
}

fn recovered(recovery: &Recovery) -> String {
    let head = format!("RECOVERY, {} LOCKS", recovery.locks);
    let mut table = Table::new([head.as_str(), "ms", "TARGET"]);
    for step in &recovery.timeline {
        let after = format!("{:.1}", step.after_kill_ms);
        table.row([step.what.clone(), after, String::new()]);
    }
    let mut judged = |what: String, ms: f64, target: f64| {
        let style = if ms <= target { GOOD } else { BAD };
        let ms = paint(style, format!("{ms:.1}"));
        table.row([what, ms, format!("≤ {target:.0}")]);
    };
    let proof = "from the proof to the end everywhere".to_owned();
    judged(proof, recovery.proof_to_end_ms, RECOVERY_TARGET_MS);
    for pause in &recovery.pauses {
        let times = [
            ("before", pause.before_ms),
            ("at the death", pause.death_ms),
            ("at the return", pause.join_ms),
        ];
        for (when, ms) in times {
            let what = format!("longest pause of others {when}, {}", pause.whose);
            judged(what, ms, PAUSE_TARGET_MS);
        }
    }
    if let Some(host) = &recovery.host {
        let mut told = |what: String, ms: f64| {
            table.row([what, format!("{ms:.0}"), String::new()]);
        };
        let all = format!(
            "taken by the host from the proof to the end, of {} processors together",
            host.processors
        );
        told(all, host.proof_to_end.all_ms);
        let times = [
            ("before", host.before),
            ("at the death", host.death),
            ("at the return", host.join),
        ];
        for (when, taken) in times {
            let what = format!("taken by the host within 100 ms {when}, at most");
            told(what, taken.at_once_ms);
        }
    }
    table.render()
}

fn moved(moving: &Moving) -> String {
    let head = format!("WORK MOVES, {} NAMES", moving.names);
    let mut table = Table::new([
        head.as_str(),
        "LOCKS/s AT FIRST",
        "LOCKS/s THEN",
        "BELOW 5 % REMOTE AFTER (ms)",
        "REMOTE AFTER 2 s",
        "LONGEST (ms)",
    ]);
    for (at, shift) in moving.shifts.iter().enumerate() {
        let style = match shift.remote_percent < REMOTE_TARGET {
            true => GOOD,
            false => BAD,
        };
        let settled = shift.settled_ms.map(|ms| format!("{ms:.0}"));
        table.row([
            format!("shift {}", at + 1),
            format!("{:.0}", shift.before_per_second),
            format!("{:.0}", shift.after_per_second),
            settled.unwrap_or_else(|| "never".to_owned()),
            paint(style, format!("{:.1} %", shift.remote_percent)),
            format!("{:.1}", shift.longest_ms),
        ]);
    }
    let Even {
        seconds,
        locks,
        moved,
    } = moving.even;
    let even = format!(
        "two nodes at the same time for {seconds:.0} s: {locks} locks, {moved} resources moved\n"
    );
    table.render() + &paint(if moved == 0 { GOOD } else { ODD }, even)
}
