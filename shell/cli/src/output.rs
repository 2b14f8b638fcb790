//! What goes to the terminal: colours, columns, JSON.

use crate::exit::{Failure, INTERNAL, OK};
use anstyle::{AnsiColor, Style};
use mainstay_base::NodeName;
use serde::Serialize;
use std::{
    io::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
};

/// A good state.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Something to look at.
pub(crate) const ODD: Style = AnsiColor::Yellow.on_default();
/// A bad state.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// Headings.
pub(crate) const HEAD: Style = Style::new().bold();
/// Details.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// One per node, so that interleaved lines can be told apart.
const NODES: [Style; 6] = [
    AnsiColor::Cyan.on_default(),
    AnsiColor::Magenta.on_default(),
    AnsiColor::Blue.on_default(),
    AnsiColor::Green.on_default(),
    AnsiColor::Yellow.on_default(),
    AnsiColor::Red.on_default(),
];

/// The colour of the `index`-th node.
pub(crate) fn node_style(index: usize) -> Style {
    NODES[index % NODES.len()]
}

/// `text` in a style; colours are taken out again where the output is no terminal.
pub(crate) fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// This process has something to put in order before it ends.
static MUST_STAY: AtomicBool = AtomicBool::new(false);
/// Standard output took no more.
static REFUSED: Notify = Notify::const_new();

/// Writes to standard output. A reader that went away (`| head`) ends the process quietly, any other
/// failure with an error, unless it is to [stay](stay_without_reader).
pub(crate) fn print(text: &str) {
    let mut out = anstream::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    let Err(error) = written else {
        return;
    };
    if MUST_STAY.load(Ordering::Relaxed) {
        REFUSED.notify_one();
    } else if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(OK.into());
    } else {
        note(format_args!(
            "mainstay: cannot write to standard output: {error}"
        ));
        std::process::exit(INTERNAL.into());
    }
}

/// Whether this process goes on when its output is no longer read, until it has looked at
/// [`reader_gone`].
pub(crate) fn stay_without_reader(stay: bool) {
    MUST_STAY.store(stay, Ordering::Relaxed);
}

/// Waits until nobody reads standard output any more, also while nothing is written to it.
pub(crate) async fn reader_gone() {
    tokio::select! {
        () = REFUSED.notified() => {}
        () = hung_up() => {}
    }
}

async fn hung_up() {
    // SAFETY: the handle stands for descriptor 1 as long as the process lives, and nothing here
    // closes it.
    let watched = unsafe { AsyncFd::register_with_interest(io::stdout(), Interest::ERROR) };
    // A file cannot be watched, and never hangs up.
    let Ok(out) = watched else {
        return std::future::pending().await;
    };
    while let Ok(mut seen) = out.ready(Interest::ERROR).await {
        if seen.ready().is_error() {
            return;
        }
        seen.clear_ready();
    }
}

/// Writes a line to standard output.
pub(crate) fn line(text: impl std::fmt::Display) {
    print(&format!("{text}\n"));
}

/// Writes a line to standard error.
pub(crate) fn note(text: impl std::fmt::Display) {
    // Nobody could be told of a failure here.
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Tells of members that did not answer in time, if there are any, and what is missing for it.
pub(crate) fn note_silent<'a>(silent: impl IntoIterator<Item = &'a NodeName>, missing: &str) {
    let names: Vec<String> = silent.into_iter().map(ToString::to_string).collect();
    if !names.is_empty() {
        let names = names.join(", ");
        note(format_args!("no answer from {names}: {missing} is missing"));
    }
}

/// Writes one JSON document: indented for one-off reports.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(INTERNAL, format!("cannot write JSON: {error}")))?;
    line(text);
    Ok(())
}

/// Writes one JSON document on one line: for streams.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::new(INTERNAL, format!("cannot write JSON: {error}")))?;
    line(text);
    Ok(())
}

/// A table with columns as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Table {
        Table {
            rows: vec![headings.iter().map(|h| paint(HEAD, h)).collect()],
        }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The table as text, each line ending in a newline.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|c| {
                let cells = self.rows.iter().filter_map(|r| r.get(c));
                cells.map(|cell| width(cell)).max().unwrap_or(0)
            })
            .collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut text = String::new();
            for (cell, &wide) in row.iter().zip(&widths) {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', wide - width(cell) + 2));
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Characters that a cell takes on the terminal, escape sequences not counted.
fn width(cell: &str) -> usize {
    let mut count = 0;
    let mut escaped = false;
    for c in cell.chars() {
        match (escaped, c) {
            (false, '\x1b') => escaped = true,
            (false, _) => count += 1,
            (true, 'm') => escaped = false,
            (true, _) => {}
        }
    }
    count
}

/// A duration for people: `850 ms`, `12.3 s`, `4 min 5 s`, `3 h 20 min`.
pub(crate) fn span(ms: u64) -> String {
    let s = ms / 1000;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", s, ms % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

/// The time of day in UTC of a time since 1970.
pub(crate) fn clock(unix_ms: u64) -> String {
    let s = unix_ms / 1000 % 86_400;
    let (h, m) = (s / 3600, s / 60 % 60);
    format!("{h:02}:{m:02}:{:02}.{:03}", s % 60, unix_ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the columns: colours have no width, trailing blanks are cut.
    #[test]
    fn columns_align_whatever_the_colours() {
        let mut table = Table::new(["A", "LONG"]);
        table.row([paint(GOOD, "xyz"), "1".to_owned()]);
        table.row(["x".to_owned(), String::new()]);
        let plain = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(plain, "A    LONG\nxyz  1\nx\n");
    }

    /// Protects what people read as durations and times.
    #[test]
    fn spans_and_clocks_read_well() {
        let spans = [0, 999, 1000, 59_999, 61_000, 7_260_000].map(span);
        assert_eq!(
            spans,
            [
                "0 ms",
                "999 ms",
                "1.0 s",
                "59.9 s",
                "1 min 1 s",
                "2 h 1 min"
            ]
        );
        assert_eq!(clock(1_700_000_000_123), "22:13:20.123");
    }
}
