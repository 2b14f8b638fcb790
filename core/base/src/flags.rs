//! Flags of lock calls: what a caller may ask for beside the mode.

use crate::LockMode;
use core::{fmt, ops};
use serde::{Deserialize, Serialize};

/// A set of request, conversion and unlock flags. The bits are those of libdlm's `LKF_*`. Bits
/// without a meaning can be carried, so that whoever decides about a call can say what is wrong
/// with it; no call with such a bit is accepted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flags(pub u32);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);
    /// Refuse rather than wait.
    pub const NOQUEUE: Flags = Flags(0x1);
    /// Transfer the value block with this operation.
    pub const VALBLK: Flags = Flags(0x8);
    /// A conversion that may not overtake conversions that wait already.
    pub const QUECVT: Flags = Flags(0x10);
    /// Mark the value block as possibly stale when leaving PW or EX, and write nothing.
    pub const IVVALBLK: Flags = Flags(0x20);
    /// A conversion that would wait for others that wait for it gives up its old mode for NL, rather
    /// than be refused. Who asks so agrees, with the call, that the old mode may go while it waits.
    pub const CONVDEADLK: Flags = Flags(0x40);
    /// The lock outlives its session: it stays, as an orphan of its node, until it is adopted or
    /// purged. The last call with or without this flag counts.
    pub const PERSISTENT: Flags = Flags(0x80);
    /// The search for deadlocks does not count this request or conversion as waiting.
    pub const NODLCKWT: Flags = Flags(0x100);
    /// The search for deadlocks does not count this lock as blocking others: its owner will let go.
    pub const NODLCKBLK: Flags = Flags(0x200);
    /// Grant this NL request whatever waits.
    pub const EXPEDITE: Flags = Flags(0x400);
    /// With NOQUEUE: tell the holders that they were in the way although nobody waits.
    pub const NOQUEUEBAST: Flags = Flags(0x800);
    /// Wait at the head of the queue.
    pub const HEADQUE: Flags = Flags(0x1000);
    /// May be granted past locks that wait.
    pub const NOORDER: Flags = Flags(0x2000);
    /// PR will do where the asked mode cannot be granted.
    pub const ALTPR: Flags = Flags(0x8000);
    /// CW will do where the asked mode cannot be granted.
    pub const ALTCW: Flags = Flags(0x10000);
    /// Unlock even while a request or conversion waits, which ends with it.
    pub const FORCEUNLOCK: Flags = Flags(0x2_0000);
    /// Where the priority of a call stands, 0 to 7, in a lockspace that goes by priorities.
    pub const PRIORITY: Flags = Flags(0x70_0000);
    /// A persistent lock that also outlives its node, and all nodes: it stands in the replicated log. Not
    /// a flag of libdlm.
    pub const SURVIVE: Flags = Flags(0x80_0000);
    /// Every flag of this release.
    pub const ALL: Flags = Flags(0xf3_bff9);

    const NAMES: [(Flags, &'static str); 16] = [
        (Flags::NOQUEUE, "NOQUEUE"),
        (Flags::VALBLK, "VALBLK"),
        (Flags::QUECVT, "QUECVT"),
        (Flags::IVVALBLK, "IVVALBLK"),
        (Flags::CONVDEADLK, "CONVDEADLK"),
        (Flags::PERSISTENT, "PERSISTENT"),
        (Flags::NODLCKWT, "NODLCKWT"),
        (Flags::NODLCKBLK, "NODLCKBLK"),
        (Flags::EXPEDITE, "EXPEDITE"),
        (Flags::NOQUEUEBAST, "NOQUEUEBAST"),
        (Flags::HEADQUE, "HEADQUE"),
        (Flags::NOORDER, "NOORDER"),
        (Flags::ALTPR, "ALTPR"),
        (Flags::ALTCW, "ALTCW"),
        (Flags::FORCEUNLOCK, "FORCEUNLOCK"),
        (Flags::SURVIVE, "SURVIVE"),
    ];

    /// The bits that have no meaning in this release.
    #[must_use]
    pub const fn unknown(self) -> u32 {
        self.0 & !Flags::ALL.0
    }

    /// The bits, as in libdlm.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The highest priority of a call.
    pub const PRIORITY_MAX: u8 = 7;

    /// The priority, 0 to 7.
    #[must_use]
    pub const fn priority(self) -> u8 {
        ((self.0 & Flags::PRIORITY.0) >> Flags::PRIORITY.0.trailing_zeros()) as u8
    }

    /// This set with that priority; what is above 7 counts as 7.
    #[must_use]
    pub const fn with_priority(self, priority: u8) -> Flags {
        let priority = if priority > Flags::PRIORITY_MAX {
            Flags::PRIORITY_MAX
        } else {
            priority
        };
        let bits = (priority as u32) << Flags::PRIORITY.0.trailing_zeros();
        Flags(self.without(Flags::PRIORITY).0 | bits)
    }

    /// The flag of this name, in capitals and without the `LKF_`; `PRIORITY1` to `PRIORITY7`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Flags> {
        if let Some(priority) = name.strip_prefix("PRIORITY") {
            let [digit @ b'1'..=b'7'] = priority.as_bytes() else {
                return None;
            };
            return Some(Flags::NONE.with_priority(digit - b'0'));
        }
        Flags::NAMES
            .iter()
            .find(|(_, n)| *n == name)
            .map(|(flag, _)| *flag)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether who asks with these flags promises to let go when told that the lock is in the way.
    #[must_use]
    pub const fn promises_to_let_go(self) -> bool {
        self.contains(Flags::NODLCKWT) || self.contains(Flags::NODLCKBLK)
    }

    /// The mode that will do where the asked one cannot be granted.
    #[must_use]
    pub const fn alternate(self) -> Option<LockMode> {
        if self.contains(Flags::ALTPR) {
            Some(LockMode::Pr)
        } else if self.contains(Flags::ALTCW) {
            Some(LockMode::Cw)
        } else {
            None
        }
    }

    /// Whether there is no flag.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// This set without `other`.
    #[must_use]
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
}

impl ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl ops::BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut bar = "";
        for (flag, name) in Flags::NAMES {
            if self.contains(flag) {
                write!(f, "{bar}{name}")?;
                bar = "|";
            }
        }
        if self.priority() > 0 {
            write!(f, "{bar}PRIORITY{}", self.priority())?;
            bar = "|";
        }
        if self.unknown() != 0 {
            write!(f, "{bar}{:#x}", self.unknown())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the bits, which the libdlm ABI and the wire share, and the set of all of them.
    #[test]
    fn bits_names_and_the_whole_set_agree() {
        let mut all = Flags::NONE;
        for (flag, name) in Flags::NAMES {
            assert_eq!(flag.bits().count_ones(), 1, "{name}");
            assert!(!all.contains(flag), "{name} shares its bit");
            assert_eq!(Flags::from_name(name), Some(flag));
            all |= flag;
        }
        for priority in 1..=Flags::PRIORITY_MAX {
            let flag = Flags::NONE.with_priority(priority);
            assert_eq!(flag.priority(), priority);
            assert_eq!(Flags::from_name(&flag.to_string()), Some(flag));
            assert_eq!(all.0 & flag.0, 0, "{flag} shares its bits");
        }
        for wrong in ["PRIORITY8", "PRIORITY", "PRIORITY01", "PRIORITY+1"] {
            assert_eq!(Flags::from_name(wrong), None);
        }
        assert_eq!(
            Flags::NOQUEUE.with_priority(9).with_priority(0),
            Flags::NOQUEUE
        );
        all |= Flags::PRIORITY;
        assert_eq!(all, Flags::ALL);
        assert_eq!(Flags::NOQUEUEBAST.bits(), 0x800);
        assert_eq!(Flags(0x4000_0001).unknown(), 0x4000_0000);
        assert_eq!(Flags(0x4000_0001).to_string(), "NOQUEUE|0x40000000");
        assert_eq!(
            format!("{:?}", Flags::NOQUEUE | Flags::VALBLK),
            "Flags(NOQUEUE|VALBLK)"
        );
    }
}
