//! Words of the calls that are for several locks at once. The rules are in `docs/protocol/sets.md`.

use crate::{
    client::Handle,
    lock::{Flags, Granted, Refusal},
    nested::leaf,
};
use core::fmt;
use mainstay_base::{LockMode, ResourceName, ValueBlock, ValueVersion};
use serde::{Deserialize, Serialize};

/// One lock of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetMember {
    /// The handle it shall have.
    pub handle: Handle,
    /// On what.
    pub name: ResourceName,
    /// In which mode.
    pub mode: LockMode,
    /// How: VALBLK, EXPEDITE, HEADQUE, NOORDER, ALTPR or ALTCW.
    pub flags: Flags,
    /// Whether to be told when the lock blocks others, once the set is granted.
    pub blocking: bool,
}

/// One of several conversions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvertOne {
    /// Which lock.
    pub handle: Handle,
    /// To which mode.
    pub mode: LockMode,
    /// How.
    pub flags: Flags,
    /// Whether to be told when the lock blocks others.
    pub blocking: bool,
    /// The value block to publish, where the mode change publishes and VALBLK is set.
    pub value: Option<ValueBlock>,
}

/// One of several unlocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlockOne {
    /// Which lock.
    pub handle: Handle,
    /// As for an unlock alone.
    pub flags: Flags,
    /// The value block to publish.
    pub value: Option<ValueBlock>,
}

/// How one of several conversions or unlocks ended well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OneDone {
    /// The conversion was granted.
    Granted {
        /// What was granted.
        granted: Granted,
        /// In the alternate mode that the call allowed.
        altmode: bool,
        /// The lock was demoted to NL before.
        demoted: bool,
    },
    /// The lock is released. Carries the version of the published value, if one was.
    Unlocked {
        /// Version of the value block after the publication.
        version: Option<ValueVersion>,
    },
}

/// The lock of a set for which all of it was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRefusal {
    /// Its place in the call, from 0.
    pub place: u32,
    /// On what.
    pub name: ResourceName,
    /// Why: a refusal that has no other within; one that has does not decode.
    #[serde(deserialize_with = "leaf")]
    pub why: Refusal,
}

impl MemberRefusal {
    /// The refusal of a whole set for the sake of the member at a place of the call, from 0.
    #[must_use]
    pub fn at(place: usize, name: ResourceName, why: Refusal) -> Refusal {
        Refusal::OfSet(Box::new(MemberRefusal {
            place: u32::try_from(place).unwrap_or(u32::MAX),
            name,
            why,
        }))
    }
}

impl fmt::Display for MemberRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "none of the set is granted, because of {}: {}",
            self.name, self.why
        )
    }
}
