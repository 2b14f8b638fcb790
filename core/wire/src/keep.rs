//! Sessions that are kept while they have no connection (`docs/protocol/keeping.md`).

use core::fmt;
use serde::{Deserialize, Serialize};

/// The shortest time, in milliseconds, that a client can ask to have its session kept.
pub const GRACE_MS_MIN: u32 = 500;

/// Proves that a connection may continue a session. Drawn by the daemon, known to the client alone.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionKey(pub [u8; 16]);

impl SessionKey {
    /// Whether another key is this one; takes as long whatever is wrong with it.
    #[must_use]
    pub fn matches(&self, other: &SessionKey) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        // The compiler must not see that it could stop early.
        pairs.fold(0, |wrong, (a, b)| core::hint::black_box(wrong | (a ^ b))) == 0
    }
}

/// Secrets do not belong into logs.
impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

/// A session that has lost its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenReport {
    /// Milliseconds since then.
    pub broken_ms: u64,
    /// Milliseconds after which it ends, if its client does not come back.
    pub left_ms: u64,
}

impl fmt::Display for BrokenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = |ms: u64| (ms / 1000, ms % 1000 / 100);
        let ((broken, b), (left, l)) = (tenths(self.broken_ms), tenths(self.left_ms));
        write!(
            f,
            "disconnected for {broken}.{b} s, kept for {left}.{l} s more"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects sessions from whoever knows most of a key: each bit counts.
    #[test]
    fn keys_match_in_all_their_bits() {
        let key = SessionKey([0x5a; 16]);
        assert!(key.matches(&SessionKey([0x5a; 16])));
        for bit in 0..128 {
            let mut other = key;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.matches(&other), "bit {bit}");
        }
    }
}
