//! What a lockspace that follows others' rules makes of a call: which flags and modes it knows, and what
//! of them counts. Rules by number are those of `docs/protocol/compat.md`.
//!
//! The owner's node asks before a call travels, and the master asks again. What comes out of one comes out
//! of the other unchanged.

use crate::{
    Flags, Invalid, Resource, Rules, check_adopt, check_convert, check_request, check_unlock,
};
use core::fmt::Debug;
use mainstay_base::{Compat, LockMode, Mutant, ValueBlock};

/// What VMS' lock manager knows of the flags for requests and conversions.
const VMS: Flags = Flags::ALL
    .without(Flags::CONVDEADLK)
    .without(Flags::PERSISTENT)
    .without(Flags::SURVIVE)
    .without(Flags::NOQUEUEBAST)
    .without(Flags::HEADQUE)
    .without(Flags::NOORDER)
    .without(Flags::ALTPR)
    .without(Flags::ALTCW);
/// What the SA Forum's lock service knows of them.
const SAF: Flags =
    Flags(Flags::NOQUEUE.0 | Flags::PERSISTENT.0 | Flags::SURVIVE.0 | Flags::PRIORITY.0);

/// A new lock in this mode, with these flags: as which it counts.
///
/// # Errors
/// For what the lockspace does not have, and flags that do not belong to a request, or not together.
pub fn admit_request(compat: Compat, mode: LockMode, flags: Flags) -> Result<Flags, Invalid> {
    let flags = match compat {
        Compat::Strict => flags,
        Compat::Linux => without_effect(mode, flags.without(Flags::IVVALBLK)),
        Compat::Vms => known(compat, flags, VMS)?,
        Compat::Saf => known(compat, flags, SAF)?,
    };
    let flags = match flags.contains(Flags::SURVIVE) {
        true => flags | Flags::PERSISTENT,
        false => flags,
    };
    if compat == Compat::Saf && !matches!(mode, LockMode::Pr | LockMode::Ex) {
        return Err(Invalid::CompatMode { compat, mode });
    }
    check_request(mode, flags)?;
    Ok(flags)
}

/// A conversion between these modes, with these flags: as which it counts.
///
/// # Errors
/// As for requests.
pub fn admit_convert(
    compat: Compat,
    from: LockMode,
    to: LockMode,
    flags: Flags,
) -> Result<Flags, Invalid> {
    let flags = match compat {
        Compat::Strict => flags,
        Compat::Linux => {
            let flags = without_effect(to, flags);
            match flags.contains(Flags::CONVDEADLK) {
                true => flags.without(Flags::NODLCKWT),
                false => flags,
            }
        }
        Compat::Vms => known(compat, flags, VMS)?,
        Compat::Saf => return Err(Invalid::CompatConversion { compat }),
    };
    check_convert(from, to, flags)?;
    Ok(flags)
}

/// Checks the flags of an unlock.
///
/// # Errors
/// As for requests.
pub fn admit_unlock(compat: Compat, flags: Flags) -> Result<(), Invalid> {
    check_unlock(flags)?;
    match compat {
        Compat::Saf => known(compat, flags, Flags::FORCEUNLOCK).map(|_| ()),
        Compat::Strict | Compat::Linux | Compat::Vms => Ok(()),
    }
}

/// An adoption with these flags: as which it counts. Linux' is a request with a flag, which takes all flags
/// of requests, heeds one of them, and tells nothing of the value block.
///
/// # Errors
/// Where the lockspace has no orphans to be adopted, and for flags that do not belong to an adoption.
pub fn admit_adopt(compat: Compat, mode: LockMode, flags: Flags) -> Result<Flags, Invalid> {
    match compat {
        Compat::Strict => check_adopt(flags).map(|()| flags),
        Compat::Linux => {
            let flags = admit_request(compat, mode, flags)?;
            Ok(match flags.contains(Flags::PERSISTENT) {
                true => Flags::PERSISTENT,
                false => Flags::NONE,
            })
        }
        Compat::Vms | Compat::Saf => Err(Invalid::CompatAdoption { compat }),
    }
}

fn known(compat: Compat, flags: Flags, allowed: Flags) -> Result<Flags, Invalid> {
    let other = flags.without(allowed);
    match other.is_empty() {
        true => Ok(flags),
        false => Err(Invalid::CompatFlags {
            compat,
            flags: other,
        }),
    }
}

/// Leaves out what Linux accepts, and what then makes no difference.
fn without_effect(mode: LockMode, flags: Flags) -> Flags {
    let mut flags = flags.without(Flags::NODLCKBLK);
    if !flags.contains(Flags::NOQUEUE) {
        flags = flags.without(Flags::NOQUEUEBAST);
    }
    // Of two alternates the first counts, unless it is the asked mode.
    let asks = |flag| flags.contains(flag);
    let alternate = [(Flags::ALTPR, LockMode::Pr), (Flags::ALTCW, LockMode::Cw)]
        .into_iter()
        .find(|&(flag, alternate)| asks(flag) && alternate != mode);
    flags = flags.without(Flags::ALTPR).without(Flags::ALTCW);
    match alternate {
        Some((flag, alternate)) if !alternate.covers(mode) => flags | flag,
        _ => flags,
    }
}

impl Rules {
    /// Checks that a block may be published, so that this cannot fail later.
    ///
    /// # Errors
    /// If it is too long, or has a length that the lockspace does not have.
    pub fn check_value(self, block: &ValueBlock) -> Result<(), Invalid> {
        let (len, max) = (block.as_bytes().len(), usize::from(self.value_len));
        if len > max {
            return Err(Invalid::ValueTooLong { len, max });
        }
        if self.compat == Compat::Vms && len != max && len != Compat::VMS_VALUE_LEN {
            return Err(Invalid::CompatValue { len, max });
        }
        Ok(())
    }

    /// A block as it is once it has been published over another: in VMS a short one leaves the rest of a
    /// long one as it is.
    pub(crate) fn published(self, block: &ValueBlock, over: Option<&ValueBlock>) -> ValueBlock {
        let bytes = block.as_bytes();
        let keeps = self.compat == Compat::Vms && !Mutant::ShortValueClears.active();
        let rest = over.and_then(|over| over.as_bytes().get(bytes.len()..));
        let Some(rest) = rest.filter(|rest| keeps && !rest.is_empty()) else {
            return block.clone();
        };
        ValueBlock::new([bytes, rest].concat()).unwrap_or_else(|_| block.clone())
    }
}

impl<K: Copy + Ord + Debug> Resource<K> {
    /// Publishes what a lock gives.
    pub(crate) fn publish(&mut self, block: &ValueBlock) {
        let rules = self.rules();
        if block.as_bytes().len() == usize::from(rules.value_len) || rules.compat != Compat::Vms {
            return self.value.publish(block, self.last_token);
        }
        let block = rules.published(block, self.value.block());
        self.value.publish(&block, self.last_token);
    }
}
