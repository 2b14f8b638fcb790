//! Files with configurations, whatever notation they are in.

use crate::{
    exit::{Failure, INTERNAL, NOT_FOUND},
    output::{BAD, FAINT, ODD, paint},
};
use clap::ValueEnum;
use mainstay_cib::{Document, Level, Problem, heartbeat, native, read};
use serde::Serialize;
use std::{
    io::{ErrorKind, Read as _},
    path::Path,
};

/// A notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Notation {
    /// Pacemaker's XML
    Pacemaker,
    /// Heartbeat 2's XML
    Heartbeat2,
    /// One line per thing, close to what crmsh and pcs take
    Native,
}

/// The content of a file, or of standard input if it is `-`.
pub(crate) fn content(path: &Path) -> Result<String, Failure> {
    if path == Path::new("-") {
        let mut text = String::new();
        return match std::io::stdin().lock().read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Err(Failure::new(
                INTERNAL,
                format!("cannot read standard input: {error}"),
            )),
        };
    }
    std::fs::read_to_string(path).map_err(|error| {
        let code = match error.kind() {
            ErrorKind::NotFound => NOT_FOUND,
            ErrorKind::PermissionDenied => crate::exit::DENIED,
            _ => INTERNAL,
        };
        Failure::new(code, format!("cannot read {}: {error}", path.display()))
    })
}

/// Which notation a text is in, by its looks.
pub(crate) fn guess(text: &str) -> Notation {
    let text = text.trim_start_matches('\u{FEFF}').trim_start();
    if !text.starts_with('<') {
        return Notation::Native;
    }
    // Both are XML; Pacemaker's reader tells what only Heartbeat wrote.
    let old = text.contains("crm-1.0.dtd")
        || matches!(read(text), Err(problem) if problem.rule == "heartbeat");
    if old {
        Notation::Heartbeat2
    } else {
        Notation::Pacemaker
    }
}

/// Reads a document, and finds all that keeps it from being used.
pub(crate) fn document(text: &str, notation: Notation) -> (Option<Document>, Vec<Problem>) {
    let reading = match notation {
        Notation::Pacemaker => read(text).map_err(|problem| vec![problem]),
        Notation::Heartbeat2 => heartbeat::import(text).map_err(|problem| vec![problem]),
        Notation::Native => native::read(text),
    };
    match reading {
        Ok(reading) => (Some(reading.document), reading.problems),
        Err(problems) => (None, problems),
    }
}

/// A problem in JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Finding<'a> {
    level: String,
    rule: &'a str,
    line: u32,
    column: u32,
    element: &'a str,
    id: Option<&'a str>,
    what: &'a str,
    mend: &'a str,
}

impl<'a> Finding<'a> {
    pub(crate) fn new(problem: &'a Problem) -> Finding<'a> {
        Finding {
            level: problem.level.to_string(),
            rule: problem.rule,
            line: problem.at.line,
            column: problem.at.column,
            element: &problem.element,
            id: problem.id.as_deref(),
            what: &problem.what,
            mend: &problem.mend,
        }
    }
}

/// A problem for people: `FILE:LINE:COLUMN: level: …`, as editors understand it.
pub(crate) fn describe(path: &Path, problem: &Problem) -> String {
    let style = match problem.level {
        Level::Error => BAD,
        Level::Warning => ODD,
        Level::Note => FAINT,
    };
    let element = match &problem.id {
        Some(id) => format!("{} {id}", problem.element),
        None => problem.element.to_string(),
    };
    format!(
        "{}:{}: {} {element}: {}; {} {}",
        path.display(),
        problem.at,
        paint(style, format_args!("{}:", problem.level)),
        problem.what,
        problem.mend,
        paint(FAINT, format_args!("[{}]", problem.rule))
    )
}

/// The worst level among problems.
pub(crate) fn worst(problems: &[Problem]) -> Option<Level> {
    problems.iter().map(|p| p.level).max()
}
