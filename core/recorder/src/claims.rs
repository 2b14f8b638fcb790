//! What owners held, from node to node: their clocks are compared, with a tolerance.

use crate::{
    check::{Finding, Shown},
    dump::Timeline,
    record::{Op, OwnRecord, Record},
    tokens::Tokens,
};
use mainstay_base::{Instant, LockId, LockMode, LockspaceId, ResourceName, Token};
use std::collections::BTreeMap;

/// A lock: its timeline, which life of the node, and its number.
type Who = (usize, u32, LockId);

/// A time on the clock that all timelines share, in nanoseconds.
type Time = i128;

/// For a time, a lock excluded what both modes exclude: what it held, and what it was giving up its
/// mode for.
#[derive(Clone, Copy)]
struct Claim {
    who: Who,
    held: LockMode,
    wanted: LockMode,
    token: Token,
    /// It was another node's before.
    adopted: bool,
    from: Time,
    to: Time,
}

impl Claim {
    fn conflicts(&self, other: &Claim) -> bool {
        let modes = [self.held, self.wanted];
        let others = [other.held, other.wanted];
        self.who != other.who
            && modes
                .iter()
                .all(|mode| others.iter().all(|other| !mode.compatible(*other)))
    }
}

/// A lock that is held, and what it claims from when on.
struct Held<'a> {
    resource: (LockspaceId, &'a ResourceName),
    claim: Claim,
}

/// When the clients of one node could rely on their locks.
type Active = Vec<(Time, Time)>;

/// Looks whether owners on different nodes held what excludes each other at once, for longer than
/// the tolerance. Counts the claims.
pub(crate) fn compare(
    timelines: &[Timeline],
    shared: bool,
    skew: Time,
    findings: &mut Vec<Finding>,
) -> u64 {
    let mut claims = BTreeMap::new();
    let mut active: Vec<Active> = Vec::new();
    for (place, timeline) in timelines.iter().enumerate() {
        active.push(activity(timeline, shared));
        let part = read(place, timeline, shared);
        for (resource, mut more) in part {
            claims
                .entry(resource)
                .or_insert_with(Vec::new)
                .append(&mut more);
        }
    }
    let mut count = 0;
    for ((space, name), mut claims) in claims {
        count += claims.len() as u64;
        claims.sort_by_key(|claim| (claim.from, claim.token));
        let mut find = |claim: &Claim, what: String| {
            let timeline = &timelines[claim.who.0];
            let at = claim.from - timeline.offset(shared);
            findings.push(Finding {
                at: Instant(u64::try_from(at).unwrap_or_default()),
                node: timeline.head.name.clone(),
                resource: Shown::resource(timeline, space, name),
                what,
            });
        };
        overlaps(timelines, &claims, &active, skew, &mut find);
        tokens(timelines, &claims, skew, &mut find);
    }
    count
}

fn tell(timelines: &[Timeline], claim: &Claim) -> String {
    let node = &timelines[claim.who.0].head.name;
    format!(
        "lock {} of {node} in {} with token {}",
        claim.who.2, claim.held, claim.token
    )
}

fn overlaps(
    timelines: &[Timeline],
    claims: &[Claim],
    active: &[Active],
    skew: Time,
    find: &mut impl FnMut(&Claim, String),
) {
    let mut open: Vec<&Claim> = Vec::new();
    for claim in claims {
        open.retain(|other| other.to > claim.from);
        for other in &open {
            if !claim.conflicts(other) {
                continue;
            }
            let both = (claim.from, claim.to.min(other.to));
            let long = longest(both, &active[claim.who.0], &active[other.who.0]);
            let tolerance = match claim.who.0 == other.who.0 {
                true => 0,
                false => skew,
            };
            if long > tolerance {
                let text = format!(
                    "held by {} and by {} at once, for {} ms",
                    tell(timelines, other),
                    tell(timelines, claim),
                    long / 1_000_000
                );
                find(claim, text);
            }
        }
        if claim.to > claim.from {
            open.push(claim);
        }
    }
}

/// The longest time within bounds in which both were active.
fn longest(bounds: (Time, Time), one: &[(Time, Time)], other: &[(Time, Time)]) -> Time {
    let (mut i, mut j, mut most) = (0, 0, 0);
    while let (Some(a), Some(b)) = (one.get(i), other.get(j)) {
        let from = bounds.0.max(a.0).max(b.0);
        let to = bounds.1.min(a.1).min(b.1);
        most = most.max(to - from);
        if a.1 < b.1 {
            i += 1;
        } else {
            j += 1;
        }
    }
    most
}

/// Whether tokens grow from grant to grant, as far as it is known which came first.
fn tokens(
    timelines: &[Timeline],
    claims: &[Claim],
    skew: Time,
    find: &mut impl FnMut(&Claim, String),
) {
    let mut seen: Tokens<Who> = Tokens::default();
    // What was adopted goes on as the same lock, with the token that it had.
    let adopted = claims
        .iter()
        .filter(|c| c.adopted && c.held != LockMode::Nl);
    let same: BTreeMap<Token, Who> = adopted.map(|claim| (claim.token, claim.who)).collect();
    let who = |claim: &Claim| same.get(&claim.token).copied().unwrap_or(claim.who);
    let mut earlier = claims.iter().peekable();
    for claim in claims {
        while let Some(before) = earlier.next_if(|before| before.from + skew < claim.from) {
            seen.granted(who(before), before.held, before.token);
        }
        if let Some((mode, token)) = seen.unsurpassed(who(claim), claim.held, claim.token) {
            let text = format!(
                "{} came after a grant of {mode} with token {token}, which is not smaller",
                tell(timelines, claim)
            );
            find(claim, text);
        }
    }
}

/// When clients could rely on their locks: from each showing of the lease to its end.
fn activity(timeline: &Timeline, shared: bool) -> Active {
    let offset = timeline.offset(shared);
    let mut active: Active = Vec::new();
    for entry in &timeline.entries {
        let now = i128::from(entry.at.0) + offset;
        match entry.record {
            Record::Lease { until } => {
                let until = i128::from(until.0) + offset;
                match active.last_mut() {
                    Some(last) if last.1 >= now => last.1 = until.max(now),
                    _ if until > now => active.push((now, until)),
                    _ => {}
                }
            }
            Record::Life { .. } => {
                if let Some(last) = active.last_mut() {
                    last.1 = last.1.min(now);
                }
            }
            _ => {}
        }
    }
    active
}

type Claims<'a> = BTreeMap<(LockspaceId, &'a ResourceName), Vec<Claim>>;

fn read(place: usize, timeline: &Timeline, shared: bool) -> Claims<'_> {
    let offset = timeline.offset(shared);
    let mut claims = Claims::new();
    let mut held: BTreeMap<LockId, Held<'_>> = BTreeMap::new();
    let mut life = 0;
    let mut before: Option<u64> = None;
    for entry in &timeline.entries {
        let now = i128::from(entry.at.0) + offset;
        let gap = before.is_some_and(|before| entry.number != before + 1);
        before = Some(entry.number);
        if gap || matches!(entry.record, Record::Life { .. }) {
            // In a gap anything may have been released.
            for one in std::mem::take(&mut held).into_values() {
                end(&mut claims, &one, now);
            }
            life += 1;
        }
        if let Record::Own(own) = &entry.record {
            step(&mut claims, &mut held, (place, life, own.lock), own, now);
        }
    }
    let last = i128::from(timeline.head.at.0) + offset;
    for one in held.into_values() {
        end(&mut claims, &one, last);
    }
    claims
}

/// A claim ends, or changes into another.
fn end<'a>(claims: &mut Claims<'a>, held: &Held<'a>, now: Time) {
    let mut claim = held.claim;
    claim.to = now;
    claims.entry(held.resource).or_default().push(claim);
}

fn step<'a>(
    claims: &mut Claims<'a>,
    held: &mut BTreeMap<LockId, Held<'a>>,
    who: Who,
    own: &'a OwnRecord,
    now: Time,
) {
    let known = held.remove(&own.lock);
    if let Some(known) = &known {
        // A lock that is restated is held as before, and so is an orphan.
        if matches!(
            own.op,
            Op::Queued
                | Op::Blocking
                | Op::Asked
                | Op::Ranged
                | Op::Restated
                | Op::Orphaned
                | Op::Adopted
        ) {
            held.insert(own.lock, Held { ..*known });
            return;
        }
        end(claims, known, now);
    }
    let comes = own.op == Op::Orphaned && known.is_none();
    let claim = |held, wanted| Claim {
        who,
        held,
        wanted,
        token: own.token,
        adopted: own.op == Op::Adopted || comes,
        from: now,
        to: now,
    };
    let before = known.map(|known| known.claim.held);
    let claim = match (own.op, own.mode) {
        // One that is adopted and was not known comes from elsewhere; one that is an orphan then, and was
        // to go elsewhere, stays.
        (Op::Granted | Op::Refused | Op::Adopted | Op::Orphaned, Some(mode)) => claim(mode, mode),
        // Its owner counts on no more than both modes give.
        (Op::Converting, Some(wanted)) => match before {
            Some(held) => claim(held, wanted),
            None => return,
        },
        (Op::Demoted, _) => claim(LockMode::Nl, LockMode::Nl),
        _ => return,
    };
    let resource = (own.space, &own.name);
    held.insert(own.lock, Held { resource, claim });
}
