//! The six lock modes of the VMS lock manager.

use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// A lock mode. The numbers are those of the Linux DLM. `Ord` is deliberately absent: CW and PR
/// are not ordered, so nothing may compare modes by number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum LockMode {
    /// Null: interest only; conflicts with nothing.
    Nl = 0,
    /// Concurrent read: conflicts with EX.
    Cr = 1,
    /// Concurrent write: conflicts with PR, PW and EX.
    Cw = 2,
    /// Protected read: conflicts with CW, PW and EX.
    Pr = 3,
    /// Protected write: conflicts with all but NL and CR.
    Pw = 4,
    /// Exclusive: conflicts with all but NL.
    Ex = 5,
}

use LockMode::{Cr, Cw, Ex, Nl, Pr, Pw};

/// Row: held. Column: asked. As in the VMS lock manager.
const COMPATIBLE: [[bool; 6]; 6] = {
    const O: bool = false;
    const X: bool = true;
    [
        [X, X, X, X, X, X],
        [X, X, X, X, X, O],
        [X, X, X, O, O, O],
        [X, X, O, X, O, O],
        [X, X, O, O, O, O],
        [X, O, O, O, O, O],
    ]
};

impl LockMode {
    /// All modes, weakest first (CW before PR by number only).
    pub const ALL: [LockMode; 6] = [Nl, Cr, Cw, Pr, Pw, Ex];

    /// Whether two locks of these modes may be held on one resource at once. Symmetric.
    #[must_use]
    pub fn compatible(self, other: LockMode) -> bool {
        COMPATIBLE[self as usize][other as usize]
    }

    /// Whether a holder of `self` may do everything a holder of `other` may, and excludes everyone
    /// `other` excludes. CW and PR do not cover each other.
    #[must_use]
    pub fn covers(self, other: LockMode) -> bool {
        LockMode::ALL
            .iter()
            .all(|&m| !self.compatible(m) || other.compatible(m))
    }

    /// Whether a holder of this mode may publish a value block: PW and EX.
    #[must_use]
    pub fn writes_value(self) -> bool {
        matches!(self, Pw | Ex)
    }

    /// The mode's usual short name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Nl => "nl",
            Cr => "cr",
            Cw => "cw",
            Pr => "pr",
            Pw => "pw",
            Ex => "ex",
        }
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that is not a lock mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a lock mode; use one of nl, cr, cw, pr, pw, ex")]
pub struct ModeError(pub String);

impl FromStr for LockMode {
    type Err = ModeError;

    fn from_str(s: &str) -> Result<LockMode, ModeError> {
        LockMode::ALL
            .into_iter()
            .find(|m| m.name().eq_ignore_ascii_case(s))
            .ok_or_else(|| ModeError(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the reading of the matrix: compatibility does not depend on who came first.
    #[test]
    fn compatibility_is_symmetric() {
        for a in LockMode::ALL {
            for b in LockMode::ALL {
                assert_eq!(a.compatible(b), b.compatible(a), "{a} {b}");
            }
        }
    }

    /// Protects against treating modes as numbers: the two middle modes are unordered.
    #[test]
    fn middle_modes_are_unordered() {
        assert!(!Cw.covers(Pr) && !Pr.covers(Cw));
        assert!(Ex.covers(Pw) && Pw.covers(Pr) && Pw.covers(Cw) && Cw.covers(Cr) && Cr.covers(Nl));
    }
}
