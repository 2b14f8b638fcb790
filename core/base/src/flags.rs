//! Flags of lock calls.

use core::{fmt, ops};
use serde::{Deserialize, Serialize};

/// Flags of a lock call. Bits and meanings are libdlm's `LKF_*` where the names agree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flags(pub u32);

impl Flags {
    /// None.
    pub const NONE: Flags = Flags(0);
    /// Refuse rather than wait.
    pub const NOQUEUE: Flags = Flags(0x1);
    /// The caller reads and writes the resource's value block.
    pub const VALBLK: Flags = Flags(0x8);
    /// A conversion that does not overtake queued conversions.
    pub const QUECVT: Flags = Flags(0x10);
    /// Mark the value block possibly stale on leaving PW or EX, instead of publishing.
    pub const IVVALBLK: Flags = Flags(0x20);
    /// A new NL request that is granted past any queue.
    pub const EXPEDITE: Flags = Flags(0x400);
    /// With NOQUEUE: tell the holders that they block although the request fails.
    pub const NOQUEUEBAST: Flags = Flags(0x800);
    /// Join the head of the queue.
    pub const HEADQUE: Flags = Flags(0x1000);
    /// Ignore the order of the queues; only holders count.
    pub const NOORDER: Flags = Flags(0x2000);

    const NAMES: [(Flags, &'static str); 8] = [
        (Flags::NOQUEUE, "NOQUEUE"),
        (Flags::VALBLK, "VALBLK"),
        (Flags::QUECVT, "QUECVT"),
        (Flags::IVVALBLK, "IVVALBLK"),
        (Flags::EXPEDITE, "EXPEDITE"),
        (Flags::NOQUEUEBAST, "NOQUEUEBAST"),
        (Flags::HEADQUE, "HEADQUE"),
        (Flags::NOORDER, "NOORDER"),
    ];

    /// Whether all bits of `other` are set.
    #[must_use]
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits that have no meaning in this release.
    #[must_use]
    pub fn unknown(self) -> u32 {
        Flags::NAMES
            .iter()
            .fold(self.0, |bits, (flag, _)| bits & !flag.0)
    }
}

impl ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// Names joined by `+`, unknown bits in hex, `-` for none.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut part = |f: &mut fmt::Formatter<'_>, text: &str| {
            let sep = if std::mem::take(&mut first) { "" } else { "+" };
            write!(f, "{sep}{text}")
        };
        for (flag, name) in Flags::NAMES {
            if self.contains(flag) {
                part(f, name)?;
            }
        }
        if self.unknown() != 0 {
            part(f, &format!("{:#x}", self.unknown()))?;
        }
        if self.0 == 0 {
            f.write_str("-")
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
