//! What the plan has to say for itself.

mod status;
mod summary;
mod verdict;

pub use status::Status;
pub use summary::Change;
pub(crate) use summary::{changes, reason};
pub use verdict::Verdict;

use crate::model::{Nx, Sx};
use mainstay_cib::{text::Str, value::Score};

/// Why a score is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// For a reason that is always there.
    Fixed(&'static str),
    /// Because of a constraint.
    Constraint(Str),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Why::Fixed(words) => words,
            Why::Constraint(id) => id,
        })
    }
}

/// One addition to a score.
#[derive(Clone, Debug)]
pub(crate) struct Contribution {
    pub service: Sx,
    pub node: Nx,
    pub score: Score,
    pub why: Why,
}

/// A line of the score tables.
#[derive(Clone, Debug)]
pub(crate) struct ScoreLine {
    pub stage: &'static str,
    pub service: Sx,
    pub node: Option<Nx>,
    pub score: Score,
}

/// What the stages wrote down on their way.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub contributions: Vec<Contribution>,
    pub scores: Vec<ScoreLine>,
    pub unsupported: Vec<String>,
}

impl Notes {
    pub(crate) fn promotion(&mut self, service: Sx, node: Nx, score: Score, why: &Why) {
        self.contribution(service, node, score, why);
    }

    pub(crate) fn contribution(&mut self, service: Sx, node: Nx, score: Score, why: &Why) {
        if score != Score::ZERO {
            self.contributions.push(Contribution {
                service,
                node,
                score,
                why: why.clone(),
            });
        }
    }
}
