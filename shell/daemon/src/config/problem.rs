//! What can be wrong with a configuration file.

use std::{fmt, ops::Range, path::PathBuf};

/// One thing that is wrong, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// The field, as in `node[1].addresses`; empty for the file as a whole.
    pub field: String,
    /// What is wrong, with the offending value.
    pub message: String,
    /// Something that would be valid in its place.
    pub example: String,
}

/// Why a configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The file could not be read.
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Whether there is no such file.
        missing: bool,
        /// The system's complaint.
        why: String,
    },
    /// The file was read and is wrong.
    Invalid {
        /// Which file.
        file: PathBuf,
        /// Everything found, in the order of the file.
        problems: Vec<Problem>,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable {
                file, missing, why, ..
            } => {
                write!(
                    f,
                    "{}: cannot read the configuration: {why}",
                    file.display()
                )?;
                if *missing {
                    f.write_str("\n  `mainstay init` writes one; `--config FILE` names another")?;
                }
                Ok(())
            }
            ConfigError::Invalid { file, problems } => {
                for (i, p) in problems.iter().enumerate() {
                    if i > 0 {
                        f.write_str("\n")?;
                    }
                    write!(f, "{}:{}:{}: ", file.display(), p.line, p.column)?;
                    if !p.field.is_empty() {
                        write!(f, "{}: ", p.field)?;
                    }
                    write!(f, "{}\n  for example: {}", p.message, p.example)?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// Gathers problems of one file.
pub(super) struct Problems<'a> {
    text: &'a str,
    found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(text: &'a str) -> Problems<'a> {
        Problems {
            text,
            found: Vec::new(),
        }
    }

    pub(super) fn add(
        &mut self,
        span: Range<usize>,
        field: impl Into<String>,
        message: impl Into<String>,
        example: impl Into<String>,
    ) {
        let (line, column) = position(self.text, span.start);
        self.found.push(Problem {
            line,
            column,
            field: field.into(),
            message: message.into(),
            example: example.into(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The problems in the order of the file.
    pub(super) fn into_vec(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|p| (p.line, p.column));
        self.found
    }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |i| i + 1);
    (line, before[start..].chars().count() + 1)
}
