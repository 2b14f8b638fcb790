//! Numbers from peers that a lock manager counts on from. No correct member sends one that is out of
//! range, and a wrong one, once taken, would end in tokens that are used up or wrap.

use mainstay_base::{Epoch, LockMode, Token, Value};
use mainstay_lock::check_range;
use mainstay_wire::{
    ceding::{Ceding, Found},
    dlm::{Body, RestatedLock},
};

/// Largest distance of a place in a queue from the middle.
const TICKET_MAX: u64 = 1 << 62;

/// What is wrong with the numbers of a message, as a member that has installed `epoch` sees it.
pub(crate) fn check(body: &Body, epoch: Epoch) -> Result<(), &'static str> {
    let token = |token: Token| match token.is_plausible(epoch) {
        true => Ok(()),
        false => Err("a token that no member can have issued"),
    };
    // Versions count publications, and jump to what a token would be.
    let value = |value: Option<&Value>| match value {
        Some(v) if !Token(v.version.0).is_plausible(epoch) => {
            Err("a version of a value block that no member can have published")
        }
        _ => Ok(()),
    };
    let ticket = |ticket: i64| match ticket.unsigned_abs() <= TICKET_MAX {
        true => Ok(()),
        false => Err("a place in a queue that no master can have given"),
    };
    let lock = |lock: &RestatedLock| {
        token(lock.granted.map_or(Token::NONE, |(_, token)| token))?;
        value(lock.value.as_ref())?;
        ticket(lock.ticket.unwrap_or_default())
    };
    match body {
        Body::YouMaster { floor: number, .. }
        | Body::Appoint { floor: number, .. }
        | Body::Forget { last: number, .. } => token(*number),
        Body::Granted { granted, .. } => {
            token(granted.token)?;
            value(granted.value.as_ref())
        }
        Body::Ceding(Ceding::Answer {
            found: Found::Ceded(ceded),
            ..
        }) => {
            token(ceded.token)?;
            value(ceded.value.as_ref())
        }
        Body::TakeCeded { incarnation, .. }
        | Body::RestateCeded {
            from: (_, incarnation),
            ..
        } if !(1..1 << 48).contains(&incarnation.0) => {
            Err("a lock that was another's, of an incarnation that cannot be")
        }
        Body::Unlocked { version, .. } => token(Token(version.0)),
        Body::Queued { ticket: place, .. } => ticket(*place),
        Body::Restate { locks, .. } => locks.iter().try_for_each(lock),
        Body::RestateRanges { ranges, .. } => {
            let tokens = ranges.held.iter().map(|(_, _, held)| *held);
            tokens.into_iter().try_for_each(token)?;
            let modes = ranges.held.iter().map(|(_, mode, _)| *mode);
            if modes
                .chain(ranges.ask.map(|ask| ask.mode))
                .any(|mode| mode == LockMode::Nl)
            {
                return Err("a range that is held or waited for in NL, which is to hold nothing");
            }
            if ranges
                .ask
                .is_some_and(|ask| check_range(ask.flags).is_err())
            {
                return Err("a call for a range with flags that have no meaning there");
            }
            ranges.ticket.map_or(Ok(()), ticket)
        }
        Body::MoveState { resources, .. } => resources.iter().try_for_each(|moved| {
            token(moved.last)?;
            ticket(moved.next_ticket)?;
            value(Some(&moved.value))?;
            moved.locks.iter().try_for_each(|lock| {
                token(lock.granted.map_or(Token::NONE, |(_, token)| token))?;
                ticket(lock.pending.map_or(0, |(_, _, ticket)| ticket))
            })
        }),
        Body::HandOver { value: known, .. } | Body::ValueChanged { value: known, .. } => {
            value(Some(known))
        }
        Body::Updated { result, .. } => value(result.as_ref().ok().map(|updated| &updated.value)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{
        ByteRange, Flags, Incarnation, LockId, LockspaceId, NodeId, ResourceName, ValueBlock,
        ValueVersion,
    };
    use mainstay_wire::dlm::{RangeAsk, ResourceId, RestatedRanges};

    fn resource() -> ResourceId {
        ResourceId {
            space: LockspaceId(1),
            name: ResourceName::new("r").expect("short"),
        }
    }

    fn restated(token: Token, version: u64, ticket: i64) -> Body {
        let block = ValueBlock::default();
        let version = ValueVersion(version);
        let lock = RestatedLock {
            lock: LockId(1),
            granted: Some((LockMode::Ex, token)),
            pending: None,
            ticket: Some(ticket),
            publish: None,
            blocking: false,
            valblk: true,
            value: Some(Value {
                block,
                version,
                maybe_stale: false,
            }),
            unsure: false,
            watches: false,
        };
        Body::Restate {
            node: NodeId(2),
            incarnation: Incarnation(1),
            resource: resource(),
            locks: vec![lock],
        }
    }

    /// Protects tokens and versions from being used up by one message of a faulty peer; those of
    /// the present epoch, and of earlier ones, pass.
    #[test]
    fn numbers_out_of_range_are_noticed() {
        let (epoch, good) = (Epoch(5), Token::floor(Epoch(5)));
        let floor = |floor| Body::YouMaster {
            resource: resource(),
            members: epoch,
            floor,
        };
        assert_eq!(check(&floor(good), epoch), Ok(()));
        assert_eq!(check(&floor(Token::NONE), epoch), Ok(()));
        assert_eq!(check(&restated(good.next(), good.0, -3), epoch), Ok(()));
        let full = Token(Token::floor(Epoch(6)).0 - 1);
        for bad in [Token(u64::MAX), Token::floor(Epoch(6)), full] {
            assert!(check(&floor(bad), epoch).is_err(), "{bad:?}");
            assert!(check(&restated(bad, 1, 0), epoch).is_err(), "{bad:?}");
            assert!(check(&restated(good, bad.0, 0), epoch).is_err(), "{bad:?}");
        }
        assert!(check(&restated(good, 1, i64::MIN), epoch).is_err());
    }

    /// Protects a rebuilding master from ranges that nobody can hold or wait for.
    #[test]
    fn ranges_in_no_mode_are_noticed() {
        let (epoch, range) = (Epoch(5), ByteRange::ALL);
        let body = |held: &[LockMode], ask: Option<(LockMode, Flags)>| Body::RestateRanges {
            node: NodeId(2),
            incarnation: Incarnation(1),
            resource: resource(),
            lock: LockId(1),
            ranges: RestatedRanges {
                held: held
                    .iter()
                    .map(|mode| (range, *mode, Token::NONE))
                    .collect(),
                ask: ask.map(|(mode, flags)| RangeAsk {
                    range,
                    mode,
                    flags,
                    blocking: false,
                }),
                ticket: Some(1),
                blocking: false,
            },
        };
        let (ex, nl) = (LockMode::Ex, LockMode::Nl);
        assert_eq!(check(&body(&[ex], Some((ex, Flags::NONE))), epoch), Ok(()));
        assert!(check(&body(&[ex, nl], None), epoch).is_err());
        assert!(check(&body(&[], Some((nl, Flags::NONE))), epoch).is_err());
        assert!(check(&body(&[], Some((ex, Flags::QUECVT))), epoch).is_err());
    }
}
