//! What a session tells: as lines for people, or as JSON, one object a line.

use super::{grammar::WORDS, input::Printer};
use crate::{
    commands::{
        orphans,
        value::{text_of, to_hex},
    },
    output::{BAD, GOOD, HEAD, ODD, Table, paint},
};
use mainstay_base::{ByteRange, LockMode, Token, Value, ValueVersion};
use mainstay_client::OrphanReport;
use mainstay_wire::deadlock::DeadlockReport;
use serde::Serialize;
use std::fmt::Write as _;

/// Something to be told.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Shown<'a> {
    Granted {
        lock: String,
        call: &'static str,
        mode: LockMode,
        token: Token,
        value: Option<ShownValue>,
        /// Not the asked mode, but the alternate.
        altmode: bool,
        /// The old mode had been given up while it waited.
        demoted: bool,
    },
    Refused {
        lock: String,
        call: &'static str,
        code: &'static str,
        reason: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        deadlock: Option<Box<DeadlockReport>>,
    },
    RangeSet {
        lock: String,
        range: ByteRange,
        /// NL for a range that was given up.
        mode: LockMode,
        token: Token,
        /// Whether any range is left.
        holds: bool,
    },
    Unlocked {
        lock: String,
        version: Option<ValueVersion>,
    },
    /// What was released together.
    Dequeued {
        released: u64,
        locks: Vec<String>,
    },
    Cancelled {
        lock: String,
    },
    Blocking {
        lock: String,
        mode: LockMode,
    },
    RangeBlocking {
        lock: String,
        range: ByteRange,
        mode: LockMode,
    },
    Demoted {
        lock: String,
    },
    Promised {
        lock: String,
    },
    Overdue {
        lock: String,
        mode: LockMode,
        /// It is gone.
        released: bool,
    },
    /// What came of `cas` or `add`.
    Updated {
        lock: String,
        call: &'static str,
        /// The value was the expected one.
        done: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        count: Option<i64>,
        /// As it is then.
        value: ShownValue,
    },
    Watching {
        lock: String,
        on: bool,
    },
    ValueChanged {
        lock: String,
        value: ShownValue,
    },
    Suspended {
        reason: String,
    },
    Resumed,
    Disconnected {
        reason: String,
    },
    Continued,
    Missed {
        count: u64,
    },
    StillWaiting {
        locks: Vec<String>,
    },
    Locks {
        locks: Vec<ListedLock>,
    },
    Why {
        sentences: Vec<String>,
    },
    Orphans {
        orphans: Vec<OrphanReport>,
    },
    Purged {
        purged: u64,
        /// Other users', which were left alone.
        denied: u64,
    },
    Error {
        line: u64,
        message: &'a str,
    },
}

/// A lock of the session.
#[derive(Debug, Serialize)]
pub(super) struct ListedLock {
    pub(super) lock: String,
    pub(super) resource: String,
    pub(super) mode: Option<LockMode>,
    /// It is on ranges of the resource, which `mainstay locks` lists.
    pub(super) ranges: bool,
    pub(super) token: Option<Token>,
    /// The call that is under way.
    pub(super) asked: Option<&'static str>,
    pub(super) asked_mode: Option<LockMode>,
}

/// A value block.
#[derive(Debug, Serialize)]
pub(super) struct ShownValue {
    version: ValueVersion,
    maybe_stale: bool,
    hex: String,
    text: Option<String>,
}

impl ShownValue {
    pub(super) fn of(value: &Value) -> ShownValue {
        let bytes = value.block.as_bytes();
        ShownValue {
            version: value.version,
            maybe_stale: value.maybe_stale,
            hex: to_hex(bytes),
            text: text_of(bytes).map(str::to_owned),
        }
    }

    fn text(&self) -> String {
        match &self.text {
            Some(text) => format!("value \"{text}\", {}", self.tail()),
            None => format!("value 0x{}, {}", self.hex, self.tail()),
        }
    }

    fn tail(&self) -> String {
        let mark = if self.maybe_stale {
            ", possibly stale"
        } else {
            ""
        };
        format!("version {}{mark}", self.version.0)
    }
}

impl Shown<'_> {
    fn text(&self) -> String {
        match self {
            Shown::Granted {
                lock,
                mode,
                token,
                value,
                altmode,
                demoted,
                ..
            } => {
                let value = value.as_ref().map(|v| format!(", {}", v.text()));
                let granted = paint(GOOD, "granted");
                let alternate = if *altmode { ", the alternate" } else { "" };
                let demoted = if *demoted { ", after a demotion" } else { "" };
                format!(
                    "{granted}  {lock} {mode}, token {token}{alternate}{demoted}{}",
                    value.unwrap_or_default()
                )
            }
            Shown::Refused {
                lock, call, reason, ..
            } => format!("{}  {lock} ({call}): {reason}", paint(BAD, "refused")),
            Shown::RangeSet {
                lock, range, mode, ..
            } if *mode == LockMode::Nl => format!("given up {lock} {range}"),
            Shown::RangeSet {
                lock,
                range,
                mode,
                token,
                ..
            } => {
                let granted = paint(GOOD, "granted");
                format!("{granted}  {lock} {range} {mode}, token {token}")
            }
            Shown::RangeBlocking { lock, range, mode } => format!(
                "{} {lock}: another wants {mode} on {range}",
                paint(ODD, "blocking")
            ),
            Shown::Unlocked { lock, version } => {
                let version = version.map(|v| format!(", value has version {}", v.0));
                format!("unlocked {lock}{}", version.unwrap_or_default())
            }
            Shown::Dequeued { released, locks } => match locks.is_empty() {
                true => format!("dequeued {released}"),
                false => format!("dequeued {released}: {}", locks.join(", ")),
            },
            Shown::Cancelled { lock } => format!("cancelled {lock}"),
            Shown::Blocking { lock, mode } => {
                format!("{} {lock}: another wants {mode}", paint(ODD, "blocking"))
            }
            Shown::Demoted { lock } => format!(
                "{}  {lock} to nl, and waits on: others may have what its mode excluded",
                paint(ODD, "demoted")
            ),
            Shown::Promised { lock } => format!("promised {lock}"),
            Shown::Overdue {
                lock,
                mode,
                released,
            } => {
                let end = if *released { ", and is gone" } else { "" };
                format!(
                    "{}  {lock} keeps {mode} waiting for longer than promised{end}",
                    paint(BAD, "overdue")
                )
            }
            Shown::Updated {
                lock,
                done,
                count,
                value,
                ..
            } => match (done, count) {
                (true, Some(count)) => {
                    format!(
                        "{}  {lock} counts {count}, {}",
                        paint(GOOD, "updated"),
                        value.tail()
                    )
                }
                (true, None) => format!("{}  {lock}, {}", paint(GOOD, "updated"), value.text()),
                (false, _) => {
                    format!("{}  {lock}, {}", paint(ODD, "not updated"), value.text())
                }
            },
            Shown::Watching { lock, on: true } => format!("watching {lock}"),
            Shown::Watching { lock, on: false } => format!("watching {lock} no more"),
            Shown::ValueChanged { lock, value } => {
                format!("{}  {lock}, {}", paint(ODD, "changed"), value.text())
            }
            Shown::Suspended { reason } => format!(
                "{}: no lock may be relied on: {reason}",
                paint(BAD, "suspended")
            ),
            Shown::Resumed => format!("{}: every lock is still held", paint(GOOD, "resumed")),
            Shown::Disconnected { reason } => format!(
                "{}: the session is kept, and to be continued: {reason}",
                paint(BAD, "disconnected")
            ),
            Shown::Continued => format!("{}: every lock is still held", paint(GOOD, "continued")),
            Shown::Missed { count } => format!("{count} notices were dropped"),
            Shown::StillWaiting { locks } => {
                format!("{} {}", paint(ODD, "still waiting"), locks.join(", "))
            }
            Shown::Locks { locks } if locks.is_empty() => "no locks".to_owned(),
            Shown::Locks { locks } => table(locks),
            Shown::Orphans { orphans } => orphans::render(orphans).trim_end().to_owned(),
            Shown::Purged { purged, denied } => match denied {
                0 => format!("purged {purged}"),
                _ => format!("purged {purged}; {denied} of other users were left alone"),
            },
            Shown::Why { sentences } => sentences.join("\n"),
            Shown::Error { message, .. } => format!("{} {message}", paint(BAD, "error:")),
        }
    }
}

fn table(locks: &[ListedLock]) -> String {
    let mut table = Table::new(["LOCK", "RESOURCE", "MODE", "TOKEN", "UNDER WAY"]);
    for lock in locks {
        let mode = match (lock.ranges, lock.mode) {
            (true, _) => "ranges".to_owned(),
            (false, Some(mode)) => mode.to_string(),
            (false, None) => "-".to_owned(),
        };
        let token = lock.token.map_or("-".to_owned(), |token| token.to_string());
        let asked = match (lock.asked, lock.asked_mode) {
            (Some(asked), Some(mode)) => format!("{asked} {mode}"),
            (Some(asked), None) => asked.to_owned(),
            (None, _) => "-".to_owned(),
        };
        table.row([lock.lock.clone(), lock.resource.clone(), mode, token, asked]);
    }
    table.render().trim_end().to_owned()
}

/// Where it is told.
pub(super) struct Screen {
    json: bool,
    printer: Printer,
}

impl Screen {
    pub(super) fn new(json: bool, printer: Printer) -> Screen {
        Screen { json, printer }
    }

    pub(super) fn show(&mut self, shown: &Shown<'_>) {
        let text = match self.json {
            true => serde_json::to_string(shown).expect("names and numbers are JSON"),
            false => shown.text(),
        };
        self.printer.print(&text);
    }

    pub(super) fn help(&mut self) {
        let mut table = Table::new(["COMMAND", ""]);
        for (word, arguments, what) in WORDS {
            table.row([format!("{word} {arguments}"), what.to_owned()]);
        }
        let mut text = table.render();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{} `mainstay help session` explains options and modes.",
            paint(HEAD, "More:")
        );
        self.printer.print(&text);
    }
}
