//! `mainstay recorder`

use crate::{
    args::Global,
    connect::connect,
    exit::{BAD_DATA, CANNOT_CREATE, Failure, INTERNAL, NOT_FOUND, OK, Outcome},
    output::{self, BAD, GOOD, paint},
};
use clap::{Args, Subcommand};
use mainstay_base::{Instant, LockMode, LockspaceId, NodeId, ResourceName, Token};
use mainstay_recorder::{Dump, Entry, Head, Op, Record, Timeline, Verdict, check};
use serde_json::{Map, Value, json};
use std::{
    fs,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

#[derive(Debug, Subcommand)]
pub(crate) enum RecorderCommand {
    /// Have the daemon write down what its flight recorder remembers
    Dump(DumpArgs),
    /// Print the records of dumps, those of several nodes in the order of time
    Show(ShowArgs),
    /// Play the grants and releases of dumps again, and check that they excluded each other
    Check(CheckArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Needs root or the daemon's user. The daemon writes into `recorder` in its state \
    directory, keeps the newest there, and writes one by itself when it stops because something must \
    not be as it is.\n\nExamples:\n  mainstay recorder dump\n  mainstay recorder dump n1.mainstay-record"
)]
pub(crate) struct DumpArgs {
    /// Copy the dump to this file, which must not exist
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mainstay recorder show n1.mainstay-record n2.mainstay-record\n  \
    mainstay recorder show *.mainstay-record --resource disk-1\n  \
    mainstay recorder show n1.mainstay-record --json | jq -c 'select(.op == \"granted\")'"
)]
pub(crate) struct ShowArgs {
    /// The dumps
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Only what happened to the resource of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) resource: Option<String>,
    /// Only what happened to resources of this lockspace
    #[arg(long, value_name = "NAME")]
    pub(crate) lockspace: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "What masters granted is checked in the masters' own order. What owners held is compared \
    between nodes by their clocks: exactly between nodes of one host, otherwise as well as the hosts' clocks \
    agree. Only what the dumps cover is checked; the more nodes, and the more of their records, the better.\n\n\
    Exit code 2: something was found.\n\n\
    Examples:\n  mainstay recorder check *.mainstay-record\n  mainstay recorder check --skew-ms 2000 *.mainstay-record"
)]
pub(crate) struct CheckArgs {
    /// The dumps
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// How long locks on two nodes may seem to overlap: their clocks may differ by so much
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pub(crate) skew_ms: u64,
}

/// `check` found something.
const FOUND: u8 = crate::exit::ERRORS;

pub(crate) async fn dump(global: Global, args: DumpArgs) -> Outcome {
    let (path, bytes) = connect(&global).await?.dump_recorder().await?;
    let path = match args.file {
        Some(file) => {
            copy(&path, &file)?;
            file
        }
        None => path,
    };
    if global.json {
        output::json(&json!({"path": path, "bytes": bytes}))?;
    } else {
        output::line(format_args!("{} ({bytes} bytes)", path.display()));
    }
    Ok(OK)
}

/// Copies a dump to a file that does not exist yet, and that its owner alone may read, as the daemon has
/// it: a dump tells what locks are called. Nothing stays of a copy that fails.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |error| {
        Failure::new(
            CANNOT_CREATE,
            format!(
                "cannot copy {} to {}: {error}",
                from.display(),
                to.display()
            ),
        )
    };
    let mut source = fs::File::open(from).map_err(failed)?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut copy = options.open(to).map_err(failed)?;
    if let Err(error) = std::io::copy(&mut source, &mut copy) {
        // Should it stay, its end tells that it is cut short.
        let _ = fs::remove_file(to);
        return Err(failed(error));
    }
    Ok(())
}

fn read(files: &[PathBuf]) -> Result<Vec<(Head, Vec<Entry>)>, Failure> {
    let mut dumps = Vec::new();
    for file in files {
        let bytes = fs::read(file).map_err(|error| {
            Failure::new(
                NOT_FOUND,
                format!("cannot read {}: {error}", file.display()),
            )
        })?;
        let (dump, entries) = Dump::decode(&bytes)
            .map_err(|error| Failure::new(BAD_DATA, format!("{}: {error}", file.display())))?;
        dumps.push((dump.head, entries));
    }
    let clusters: Vec<&str> = dumps
        .iter()
        .map(|(head, _)| head.cluster.as_str())
        .collect();
    if let Some(other) = clusters.iter().find(|cluster| **cluster != clusters[0]) {
        let text = format!(
            "the dumps are of different clusters, `{}` and `{other}`: look at each alone",
            clusters[0]
        );
        return Err(Failure::new(BAD_DATA, text));
    }
    Ok(dumps)
}

pub(crate) fn show(global: &Global, args: &ShowArgs) -> Outcome {
    let timelines = Timeline::join(read(&args.files)?);
    let shared = Timeline::share_clock(&timelines);
    let mut lines: Vec<(i128, &Timeline, &Entry)> = Vec::new();
    for timeline in &timelines {
        let offset = timeline.offset(shared);
        let entries = timeline.entries.iter();
        lines.extend(entries.map(|e| (i128::from(e.at.0) + offset, timeline, e)));
    }
    // Records of one node keep their order: they are sorted by time already.
    lines.sort_by_key(|(time, _, _)| *time);
    for (_, timeline, entry) in lines {
        if wanted(args, timeline, entry) {
            let told = tell(timeline, entry);
            if global.json {
                output::json_line(&told)?;
            } else {
                output::line(sentence(&told));
            }
        }
    }
    Ok(OK)
}

fn resource_of(record: &Record) -> Option<(LockspaceId, &ResourceName)> {
    match record {
        Record::Own(own) => Some((own.space, &own.name)),
        Record::Mastered(theirs) => Some((theirs.space, &theirs.name)),
        Record::Master { space, name, .. } => Some((*space, name)),
        Record::Life { .. } | Record::Lease { .. } | Record::Event(_) | Record::Recovery { .. } => {
            None
        }
    }
}

fn wanted(args: &ShowArgs, timeline: &Timeline, entry: &Entry) -> bool {
    if args.resource.is_none() && args.lockspace.is_none() {
        return true;
    }
    let Some((space, name)) = resource_of(&entry.record) else {
        return false;
    };
    let named = args.resource.as_ref();
    let inside = args.lockspace.as_ref();
    named.is_none_or(|wanted| wanted.parse().as_ref() == Ok(name))
        && inside.is_none_or(|wanted| *wanted == space_name(timeline, space))
}

fn space_name(timeline: &Timeline, space: LockspaceId) -> String {
    let mut spaces = timeline.head.spaces.iter();
    let found = spaces.find(|(id, _)| *id == space);
    found.map_or_else(|| space.to_string(), |(_, name)| name.to_string())
}

fn node_name(timeline: &Timeline, node: NodeId) -> String {
    let mut nodes = timeline.head.nodes.iter();
    let found = nodes.find(|(id, _)| *id == node);
    found.map_or_else(|| node.to_string(), |(_, name)| name.to_string())
}

fn unix_ms(timeline: &Timeline, at: Instant) -> u64 {
    let before = timeline.head.at.since(at).as_millis();
    let ms = timeline.head.unix_ms;
    ms.saturating_sub(u64::try_from(before).unwrap_or(u64::MAX))
}

/// A record as one flat object.
fn tell(timeline: &Timeline, entry: &Entry) -> Map<String, Value> {
    let mut told = Map::new();
    let mut add = |key: &str, value: Value| {
        told.insert(key.to_owned(), value);
    };
    add("unix_ms", unix_ms(timeline, entry.at).into());
    add("at_ns", entry.at.0.into());
    add("node", timeline.head.name.as_str().into());
    add("number", entry.number.into());
    let mut lock = |op: Op, mode: Option<LockMode>, token: Token, number: u64| {
        add("op", json!(op_name(op)));
        add("lock", number.into());
        add("mode", json!(mode));
        if token != Token::NONE {
            add("token", token.0.into());
        }
    };
    match &entry.record {
        Record::Own(own) => {
            lock(own.op, own.mode, own.token, own.lock.0);
            add("role", "owner".into());
            add("session", own.session.0.into());
            let master = Some(own.master).filter(|master| master.0 != 0);
            add("master", json!(master.map(|m| node_name(timeline, m))));
        }
        Record::Mastered(theirs) => {
            lock(theirs.op, theirs.mode, theirs.token, theirs.lock.0);
            add("role", "master".into());
            add("owner", node_name(timeline, theirs.node).into());
            add("incarnation", theirs.incarnation.0.into());
        }
        Record::Master { here, .. } => {
            add(
                "op",
                if *here { "masters" } else { "masters-no-more" }.into(),
            );
        }
        Record::Life { boot } => {
            add("op", "life".into());
            add("boot", boot.0.into());
        }
        Record::Lease { until } => {
            add("op", "lease".into());
            add(
                "left_ms",
                json!(u64::try_from(until.since(entry.at).as_millis()).ok()),
            );
        }
        Record::Recovery {
            node,
            incarnation,
            phase,
        } => {
            add("op", format!("recovery-{phase:?}").to_lowercase().into());
            add("of", node_name(timeline, *node).into());
            add("incarnation", incarnation.0.into());
        }
        Record::Event(event) => {
            add("op", "event".into());
            add("epoch", event.epoch.0.into());
            add("text", event.to_string().into());
        }
    }
    if let Some((space, name)) = resource_of(&entry.record) {
        add("lockspace", space_name(timeline, space).into());
        add("name", name.to_string().into());
    }
    told
}

fn op_name(op: Op) -> &'static str {
    match op {
        Op::Asked => "asked",
        Op::Converting => "converting",
        Op::Queued => "queued",
        Op::Granted => "granted",
        Op::Refused => "refused",
        Op::Unlocking => "unlocking",
        Op::Unlocked => "unlocked",
        Op::Dropped => "dropped",
        Op::Purged => "purged",
        Op::Demoted => "demoted",
        Op::Blocking => "blocking",
        Op::Restated => "restated",
        Op::Ranged => "ranged",
        Op::Orphaned => "orphaned",
        Op::Adopted => "adopted",
        Op::OrphanPurged => "orphan-purged",
    }
}

/// The same object for people.
fn sentence(told: &Map<String, Value>) -> String {
    let text = |key: &str| match told.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let ns = told
        .get("at_ns")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    let ms = told
        .get("unix_ms")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    let mut out = format!(
        "{} {:03} {:8}",
        output::clock(ms),
        ns / 1000 % 1000,
        text("node")
    );
    if text("op") == "event" {
        return format!("{out} {} [epoch {}]", text("text"), text("epoch"));
    }
    out.push_str(&format!(" {:10}", text("op")));
    if told.contains_key("name") {
        out.push_str(&format!(" {}/{}", text("lockspace"), text("name")));
    }
    for (key, before) in [
        ("mode", ""),
        ("token", "token "),
        ("lock", "lock "),
        ("session", "session "),
        ("owner", "of "),
        ("of", "of "),
        ("incarnation", "incarnation "),
        ("master", "master "),
        ("boot", "boot "),
        ("left_ms", "for ms "),
    ] {
        if !text(key).is_empty() {
            out.push_str(&format!(" {before}{}", text(key)));
        }
    }
    out
}

pub(crate) fn run_check(global: &Global, args: &CheckArgs) -> Outcome {
    let verdict = check(read(&args.files)?, Duration::from_millis(args.skew_ms));
    if global.json {
        let text = serde_json::to_value(&verdict)
            .map_err(|error| Failure::new(INTERNAL, format!("cannot write JSON: {error}")))?;
        output::json(&text)?;
    } else {
        output::print(&judgement(&verdict, args.skew_ms));
    }
    Ok(if verdict.findings.is_empty() {
        OK
    } else {
        FOUND
    })
}

fn judgement(verdict: &Verdict, skew_ms: u64) -> String {
    let mut out = String::new();
    for covered in &verdict.covered {
        let lost = match covered.lost {
            0 => "from its beginning".to_owned(),
            lost => format!("{lost} earlier ones forgotten"),
        };
        out.push_str(&format!(
            "{}: {} to {}, {}, {} records, {lost}\n",
            covered.node,
            output::clock(covered.from_unix_ms),
            output::clock(covered.to_unix_ms),
            output::span(covered.to_unix_ms.saturating_sub(covered.from_unix_ms)),
            covered.records,
        ));
    }
    let clocks = if verdict.one_clock {
        "by one clock"
    } else {
        "by the clocks of several hosts"
    };
    out.push_str(&format!(
        "{} grants in their masters' order; {} holds compared {clocks}, overlaps up to {skew_ms} ms allowed\n",
        verdict.grants, verdict.claims
    ));
    for finding in &verdict.findings {
        out.push_str(&format!(
            "{} {} at {} s on {}: {}\n",
            paint(BAD, "WRONG"),
            finding.resource,
            finding.at,
            finding.node,
            finding.what
        ));
    }
    if verdict.findings.is_empty() {
        out.push_str(&format!(
            "{}: nothing is wrong in what these dumps cover\n",
            paint(GOOD, "ok")
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// Protects what locks are called, and files: a copy of a dump is its owner's alone, overwrites
    /// nothing, and is whole or not there.
    #[test]
    fn copies_are_private_and_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, b"dump").expect("written");
        copy(&from, &to).expect("copied");
        assert_eq!(fs::read(&to).expect("there"), b"dump");
        let mode = fs::metadata(&to).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        fs::write(&from, b"other").expect("written");
        let failure = copy(&from, &to).expect_err("it exists");
        assert_eq!(failure.code, CANNOT_CREATE);
        assert_eq!(fs::read(&to).expect("there"), b"dump");

        // A directory can be opened, but not read.
        let other = dir.path().join("other");
        copy(dir.path(), &other).expect_err("it is no file");
        assert!(!other.exists());
    }
}
