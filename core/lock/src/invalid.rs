//! Operations that are wrong in themselves, and change nothing.

use crate::{Flags, mode_tables};
use mainstay_base::{Compat, LockMode};

/// Why an operation was not even tried. The resource is as before and no effect was emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A request under a key that has a lock already.
    #[error("the key is in use by another lock of this resource; request under a new one")]
    KeyInUse,
    /// No lock with this key.
    #[error("no lock of this resource has that key; it was never requested or is gone")]
    UnknownLock,
    /// A conversion or plain unlock of a lock that waits or converts.
    #[error(
        "the lock still waits for an earlier request or conversion; wait for it, cancel it, or unlock by force"
    )]
    Busy,
    /// An operation between the first restated lock and the end of the rebuild.
    #[error("the resource is being rebuilt after a change of master; try again when that is done")]
    Rebuilding,
    /// A flag that has no meaning for the operation.
    #[error("{flags} has no meaning for {operation}; it may carry only {allowed}")]
    FlagsNotFor {
        /// The flags that do not belong.
        flags: Flags,
        /// `a request`, `a conversion` or `an unlock`.
        operation: &'static str,
        /// What it may carry, beside a priority.
        allowed: Flags,
    },
    /// EXPEDITE with a mode that could conflict.
    #[error("EXPEDITE passes every queue and so is for NL requests only, not for {mode}")]
    ExpediteMode {
        /// The mode asked for.
        mode: LockMode,
    },
    /// EXPEDITE and NOQUEUE contradict each other.
    #[error("EXPEDITE is always granted, so NOQUEUE with it has no meaning; leave one out")]
    ExpediteNoqueue,
    /// NOQUEUEBAST says what a refused NOQUEUE does.
    #[error("NOQUEUEBAST tells holders about a refused NOQUEUE; add NOQUEUE or leave it out")]
    NoqueuebastAlone,
    /// QUECVT is for conversions that can conflict with others.
    #[error("QUECVT is not for {from} to {to}; from {from} it may go to {}", mode_tables::quecvt_targets(*from))]
    Quecvt {
        /// The mode held.
        from: LockMode,
        /// The mode asked for.
        to: LockMode,
    },
    /// CONVDEADLK says what becomes of a conversion that waits, and is found in a deadlock.
    #[error(
        "CONVDEADLK is for conversions that wait and are found in a deadlock; {with} rules that out, \
         so leave one out"
    )]
    ConvdeadlkWith {
        /// NOQUEUE or NODLCKWT.
        with: Flags,
    },
    /// What survives its node must be all that there is to know of the lock.
    #[error(
        "a lock that survives its node does not use the value block: leave VALBLK or SURVIVE out"
    )]
    SurviveWithValue,
    /// ALTPR and ALTCW in one call.
    #[error("ALTPR and ALTCW name two alternates, and a call has one; leave one out")]
    TwoAlternates,
    /// An alternate that could not help, or would take something away.
    #[error(
        "{alternate} is no alternate for {to}{}: it must bear with somebody whom {to} excludes, and \
         cover the mode held",
        from.map(|from| format!(" from {from}")).unwrap_or_default()
    )]
    Alternate {
        /// The mode held, if the call is a conversion.
        from: Option<LockMode>,
        /// The mode asked for.
        to: LockMode,
        /// The alternate.
        alternate: LockMode,
    },
    /// The operation publishes, but nothing was given to publish.
    #[error("leaving {from} with VALBLK publishes the value block, but none was given")]
    ValueMissing {
        /// The mode held.
        from: LockMode,
    },
    /// A value block longer than the lockspace's.
    #[error("the value block has {len} bytes; this lockspace's blocks have {max}")]
    ValueTooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A count in value blocks that are too short for one.
    #[error("a count needs value blocks of at least 8 bytes; this lockspace's have {len}")]
    NoRoomToCount {
        /// Bytes of a block.
        len: usize,
    },
    /// A count that would leave the range of its eight bytes.
    #[error("the count is {count}, and {delta} more is beyond what eight bytes hold")]
    CountOverflow {
        /// What it is.
        count: i64,
        /// What was to be added.
        delta: i64,
    },
    /// A range that was said to be weakened.
    #[error("not all of the range is held in modes that cover {mode}; ask for it by a call")]
    RangeGains {
        /// The mode that it was to have.
        mode: LockMode,
    },
    /// A flag that the system does not have whose rules the lockspace follows.
    #[error(
        "there is no {flags} in a lockspace with the rules of `{compat}`: leave it out, or use a \
         lockspace that was made without `--compat`"
    )]
    CompatFlags {
        /// Whose rules.
        compat: Compat,
        /// The flags.
        flags: Flags,
    },
    /// A mode that it does not have.
    #[error("there is no {mode} in a lockspace with the rules of `{compat}`, only pr and ex")]
    CompatMode {
        /// Whose rules.
        compat: Compat,
        /// The mode.
        mode: LockMode,
    },
    /// A conversion where there are none.
    #[error(
        "a lockspace with the rules of `{compat}` has no conversions: take another lock, or release \
         this one"
    )]
    CompatConversion {
        /// Whose rules.
        compat: Compat,
    },
    /// An adoption where there are none.
    #[error(
        "in a lockspace with the rules of `{compat}` nobody adopts a lock that another has left behind"
    )]
    CompatAdoption {
        /// Whose rules.
        compat: Compat,
    },
    /// A value block that is neither a short nor a long one of VMS.
    #[error(
        "the value block has {len} bytes; with the rules of `vms` it has 16, or all {max} of this \
         lockspace's"
    )]
    CompatValue {
        /// Bytes given.
        len: usize,
        /// Bytes of the lockspace's blocks.
        max: usize,
    },
}

const FOR_REQUEST: Flags = Flags::ALL
    .without(Flags::QUECVT)
    .without(Flags::IVVALBLK)
    .without(Flags::CONVDEADLK)
    .without(Flags::FORCEUNLOCK);
const FOR_CONVERSION: Flags = Flags::ALL
    .without(Flags::EXPEDITE)
    .without(Flags::SURVIVE)
    .without(Flags::FORCEUNLOCK);

fn only(flags: Flags, allowed: Flags, operation: &'static str) -> Result<(), Invalid> {
    let wrong = flags.without(allowed);
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Invalid::FlagsNotFor {
            flags: wrong,
            operation,
            allowed: allowed.without(Flags::PRIORITY),
        })
    }
}

fn common(from: Option<LockMode>, to: LockMode, flags: Flags) -> Result<(), Invalid> {
    if flags.contains(Flags::ALTPR | Flags::ALTCW) {
        return Err(Invalid::TwoAlternates);
    }
    if let Some(alternate) = flags.alternate()
        && (alternate.covers(to) || from.is_some_and(|from| !alternate.covers(from)))
    {
        return Err(Invalid::Alternate {
            from,
            to,
            alternate,
        });
    }
    if flags.contains(Flags::NOQUEUEBAST) && !flags.contains(Flags::NOQUEUE) {
        return Err(Invalid::NoqueuebastAlone);
    }
    Ok(())
}

/// Checks what can be known of a new request without its resource, so that its owner may refuse it
/// before it travels.
///
/// # Errors
/// For flags that do not belong to a request, or not together.
pub fn check_request(mode: LockMode, flags: Flags) -> Result<(), Invalid> {
    only(flags, FOR_REQUEST, "a request")?;
    common(None, mode, flags)?;
    if flags.contains(Flags::SURVIVE | Flags::VALBLK) {
        return Err(Invalid::SurviveWithValue);
    }
    if flags.contains(Flags::EXPEDITE) {
        if mode != LockMode::Nl {
            return Err(Invalid::ExpediteMode { mode });
        }
        if flags.contains(Flags::NOQUEUE) {
            return Err(Invalid::ExpediteNoqueue);
        }
    }
    Ok(())
}

/// Checks what can be known of a conversion from the modes and flags alone.
///
/// # Errors
/// For flags that do not belong to a conversion, not together, or not to this pair of modes.
pub fn check_convert(from: LockMode, to: LockMode, flags: Flags) -> Result<(), Invalid> {
    only(flags, FOR_CONVERSION, "a conversion")?;
    common(Some(from), to, flags)?;
    if flags.contains(Flags::QUECVT) && !mode_tables::quecvt_allowed(from, to) {
        return Err(Invalid::Quecvt { from, to });
    }
    for with in [Flags::NOQUEUE, Flags::NODLCKWT] {
        if flags.contains(Flags::CONVDEADLK | with) {
            return Err(Invalid::ConvdeadlkWith { with });
        }
    }
    Ok(())
}

/// Checks the flags of an unlock.
///
/// # Errors
/// For flags other than VALBLK, IVVALBLK and FORCEUNLOCK.
pub fn check_unlock(flags: Flags) -> Result<(), Invalid> {
    let allowed = Flags::VALBLK | Flags::IVVALBLK | Flags::FORCEUNLOCK;
    only(flags, allowed, "an unlock")
}

/// Checks the flags of a call for a range.
///
/// # Errors
/// For flags other than NOQUEUE.
pub fn check_range(flags: Flags) -> Result<(), Invalid> {
    only(flags, Flags::NOQUEUE, "a call for a range")
}

/// Checks the flags of a call that adopts a lock.
///
/// # Errors
/// For flags other than PERSISTENT, VALBLK and NODLCKBLK.
pub fn check_adopt(flags: Flags) -> Result<(), Invalid> {
    let allowed = Flags::PERSISTENT | Flags::VALBLK | Flags::NODLCKBLK;
    only(flags, allowed, "an adoption")
}
