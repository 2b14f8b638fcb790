//! What follows from a pair of modes alone. Compatibility itself is in [`LockMode`].

use mainstay_base::LockMode;

use LockMode::{Cr, Cw, Ex, Nl, Pr, Pw};
use Transfer::{Nothing as O, Read as R, Write as W};

/// Which way the value block travels when an operation with VALBLK is granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfer {
    /// From the resource to the caller.
    Read,
    /// From the caller to the resource.
    Write,
    /// Neither way.
    Nothing,
}

/// Row: held. Column: asked.
const CONVERSION: [[Transfer; 6]; 6] = [
    [R, R, R, R, R, R],
    [O, R, R, R, R, R],
    [O, O, R, R, R, R],
    [O, O, O, R, R, R],
    [W, W, W, W, W, R],
    [W, W, W, W, W, W],
];

/// Row: held. Column: asked. Conversions that could wait for nobody need no place in a queue.
const QUECVT: [[bool; 6]; 6] = {
    const O: bool = false;
    const X: bool = true;
    [
        [O, X, X, X, X, X],
        [O, O, X, X, X, X],
        [O, O, O, X, X, X],
        [O, O, X, O, X, X],
        [O, O, O, O, O, X],
        [O, O, O, O, O, O],
    ]
};

/// The value block's way when `to` is granted to a holder of `from`, or as a new lock.
#[must_use]
pub fn transfer(from: Option<LockMode>, to: LockMode) -> Transfer {
    match from {
        None => Transfer::Read,
        Some(from) => CONVERSION[from as usize][to as usize],
    }
}

/// Whether a conversion may ask for QUECVT.
#[must_use]
pub fn quecvt_allowed(from: LockMode, to: LockMode) -> bool {
    QUECVT[from as usize][to as usize]
}

/// The modes that [`quecvt_allowed`] allows, as text for an error.
pub(crate) fn quecvt_targets(from: LockMode) -> &'static str {
    match from {
        Nl => "cr, cw, pr, pw, ex",
        Cr => "cw, pr, pw, ex",
        Cw => "pr, pw, ex",
        Pr => "cw, pw, ex",
        Pw => "ex",
        Ex => "no mode",
    }
}

/// Whether nobody else can have published while a lock of this mode was held, so that its copy of
/// the value block is the last one.
#[must_use]
pub fn vouches_for_value(mode: LockMode) -> bool {
    !mode.compatible(Pw)
}

/// How much a holder must give up for a waiter of this mode: tells which of several blocked modes
/// a blocking notice names. CW before PR is mere convention: no holder of one of these two is ever
/// in the way of both, and a holder of PW or EX will be told of the other when it has stepped down.
pub(crate) fn urgency(mode: LockMode) -> u8 {
    match mode {
        Nl => 0,
        Cr => 1,
        Cw => 2,
        Pr => 3,
        Pw => 4,
        Ex => 5,
    }
}

/// How many locks there are of each mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ModeCounts([u32; 6]);

impl ModeCounts {
    pub(crate) fn add(&mut self, mode: LockMode) {
        self.0[mode as usize] += 1;
    }

    pub(crate) fn remove(&mut self, mode: LockMode) {
        self.0[mode as usize] -= 1;
    }

    /// The modes that occur.
    pub(crate) fn present(self) -> impl Iterator<Item = LockMode> {
        LockMode::ALL
            .into_iter()
            .filter(move |&m| self.0[m as usize] > 0)
    }

    /// Whether any of these locks conflicts with `mode`, not counting one lock of mode `except`.
    pub(crate) fn conflict(mut self, mode: LockMode, except: Option<LockMode>) -> bool {
        if let Some(except) = except {
            self.remove(except);
        }
        self.present().any(|m| !m.compatible(mode))
    }

    /// Whether each of these locks conflicts with one of those, or there are none.
    pub(crate) fn all_conflict(self, others: ModeCounts) -> bool {
        self.present().all(|mode| others.conflict(mode, None))
    }

    /// Whether two of these locks conflict with each other.
    pub(crate) fn conflict_within(self) -> bool {
        self.present().any(|m| self.conflict(m, Some(m)))
    }

    /// The most urgent of these modes that a holder of `held` is in the way of.
    pub(crate) fn most_urgent_blocked_by(self, held: LockMode) -> Option<LockMode> {
        self.present()
            .filter(|m| !m.compatible(held))
            .max_by_key(|&m| urgency(m))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the QUECVT table: its text form and the matrix say the same, and exactly the
    /// conversions that the old mode does not cover are in it.
    #[test]
    fn quecvt_is_for_conversions_that_gain_something() {
        for from in LockMode::ALL {
            for to in LockMode::ALL {
                assert_eq!(quecvt_allowed(from, to), !from.covers(to), "{from} {to}");
                assert_eq!(
                    quecvt_targets(from).split(", ").any(|t| t == to.name()),
                    quecvt_allowed(from, to),
                    "{from} {to}"
                );
            }
        }
    }

    /// Protects value blocks in recovery: only modes that exclude writers vouch for their copy.
    #[test]
    fn modes_that_exclude_writers_vouch() {
        let vouching: Vec<LockMode> = LockMode::ALL
            .into_iter()
            .filter(|&m| vouches_for_value(m))
            .collect();
        assert_eq!(vouching, [Cw, Pr, Pw, Ex]);
    }
}
