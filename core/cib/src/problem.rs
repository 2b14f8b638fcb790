//! What is wrong with a document, said so that one can mend it.

use crate::text::{At, Str};
use core::fmt;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Worth knowing: something is kept as it is, but means nothing to us.
    Note,
    /// The cluster will work, but probably not as intended: a value is not understood, and the
    /// default takes its place; something is named that does not exist.
    Warning,
    /// The configuration must not be used: something that everything else rests on is missing.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        })
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub level: Level,
    /// The name of the rule that found it, in small letters and hyphens.
    pub rule: &'static str,
    /// Where.
    pub at: At,
    /// In which element.
    pub element: Str,
    /// The id of that element, if it has one.
    pub id: Option<Str>,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub mend: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: <{}", self.at, self.level, self.element)?;
        if let Some(id) = &self.id {
            write!(f, " id=\"{id}\"")?;
        }
        write!(f, ">: {}; {} [{}]", self.what, self.mend, self.rule)
    }
}

/// Puts problems into the order of the text.
pub fn sort(problems: &mut [Problem]) {
    problems.sort_by_key(|p| (p.at.line, p.at.column));
}
