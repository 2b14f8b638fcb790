//! Fencing tokens.

use crate::Epoch;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Comes with every grant and only grows per resource, through every recovery. Storage that
/// remembers the highest token it has seen can refuse a holder that does not know it lost its lock.
///
/// The upper 24 bits are the epoch in which the token's series began, the lower 40 count grants,
/// so a master that knows nothing of its predecessor's last grants still issues larger tokens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub u64);

const COUNT_BITS: u32 = 40;

impl Token {
    /// No grant yet.
    pub const NONE: Token = Token(0);
    /// The last epoch in which tokens can be issued.
    pub const EPOCH_MAX: u64 = (1 << (u64::BITS - COUNT_BITS)) - 1;

    /// The token below all that are issued first in `epoch`.
    ///
    /// # Panics
    /// If the epoch does not fit 24 bits: a node stops rather than issue tokens that wrap.
    #[must_use]
    pub fn floor(epoch: Epoch) -> Token {
        assert!(
            epoch.0 <= Token::EPOCH_MAX,
            "the cluster has changed views 16 million times; tokens are used up"
        );
        Token(epoch.0 << COUNT_BITS)
    }

    /// The token after this one.
    ///
    /// # Panics
    /// If 2^40 tokens were issued within one epoch: a node stops rather than issue tokens that a
    /// later epoch might repeat.
    #[must_use]
    pub fn next(self) -> Token {
        let next = self.0 + 1;
        assert!(
            next & ((1 << COUNT_BITS) - 1) != 0,
            "2^40 grants of one resource within an epoch"
        );
        Token(next)
    }

    /// Whether a member that has installed `epoch` may have issued this token, with as many again to
    /// spare before its series is used up.
    #[must_use]
    pub fn is_plausible(self, epoch: Epoch) -> bool {
        let count = self.0 & ((1 << COUNT_BITS) - 1);
        self.epoch() <= epoch && count < 1 << (COUNT_BITS - 1)
    }

    /// The epoch in which this token's series began.
    #[must_use]
    pub fn epoch(self) -> Epoch {
        Epoch(self.0 >> COUNT_BITS)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Token({}.{})",
            self.0 >> COUNT_BITS,
            self.0 & ((1 << COUNT_BITS) - 1)
        )
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
