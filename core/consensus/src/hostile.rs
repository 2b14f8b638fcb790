//! Messages that no correct member sends.

use crate::configuration::Configuration;
use crate::consensus::Consensus;
use crate::wire::{Base, Body, Bytes, Envelope, LogEntry, MESSAGE_VERSION, Payload, Step, encode};
use crate::{ConsensusConfig, Durable, Output, PersistSeq, ReceiveError};
use core::time::Duration;
use mainstay_base::{DiskId, Entropy, Instant};

const ME: u64 = 1;

/// Small numbers meet the member's own more often; the others test the bounds.
fn number(e: &mut Entropy, near: u64) -> u64 {
    match e.below(40) {
        0 => u64::MAX,
        1 => (1 << 62) + e.below(3) - 1,
        2..=5 => e.below(4),
        6..=30 => near.saturating_add(e.below(5)).saturating_sub(2),
        _ => e.below(near + 10),
    }
}

fn id(e: &mut Entropy) -> u64 {
    e.below(6)
}

fn payload(e: &mut Entropy) -> Payload {
    match e.below(6) {
        0 => Payload::Nothing,
        1 => {
            let count = e.below(4);
            Payload::Change(
                (0..count)
                    .map(|_| match e.below(3) {
                        0 => Step::Voter(id(e)),
                        1 => Step::Learner(id(e)),
                        _ => Step::Remove(id(e)),
                    })
                    .collect(),
            )
        }
        _ => Payload::Data(Bytes(vec![7; e.below(3) as usize])),
    }
}

fn ids(e: &mut Entropy, most: u64) -> Vec<u64> {
    (1..=e.below(most + 1))
        .map(|_| id(e))
        .collect::<std::collections::BTreeSet<u64>>()
        .into_iter()
        .collect()
}

fn message(e: &mut Entropy, member: &Consensus) -> Envelope {
    let status = member.status();
    let near = |e: &mut Entropy| {
        let at = [status.commit, status.last_index, status.snapshot][e.below(3) as usize];
        number(e, at)
    };
    let term = |e: &mut Entropy| number(e, status.term);
    let body = match e.below(12) {
        0..=2 => {
            let prev_term = term(e);
            let mut last = prev_term;
            let count = e.below(5);
            let entries = (0..count)
                .map(|_| {
                    last = last.saturating_add(u64::from(e.chance(1, 6)));
                    LogEntry {
                        term: if e.chance(1, 30) { term(e) } else { last },
                        payload: payload(e),
                    }
                })
                .collect();
            Body::Append {
                prev_index: near(e),
                prev_term,
                commit: near(e),
                entries,
            }
        }
        3 | 4 => Body::AppendReply {
            index: near(e),
            commit: near(e),
            reject: e.chance(1, 2).then(|| (near(e), term(e))),
        },
        5 => Body::Vote {
            pre: e.chance(1, 2),
            transfer: e.chance(1, 2),
            last_index: near(e),
            last_term: term(e),
            commit: near(e),
            commit_term: term(e),
        },
        6 | 7 => Body::VoteReply {
            pre: e.chance(1, 2),
            reject: e.chance(1, 4),
            commit: near(e),
            commit_term: term(e),
        },
        8 => Body::Snapshot(Base {
            index: near(e),
            term: term(e),
            configuration: Configuration {
                voters: ids(e, 4),
                learners: ids(e, 1),
                outgoing: if e.chance(1, 4) {
                    ids(e, 3)
                } else {
                    Vec::new()
                },
                learners_next: if e.chance(1, 8) {
                    ids(e, 1)
                } else {
                    Vec::new()
                },
                auto_leave: e.chance(1, 4),
            },
            data: Bytes(vec![1; e.below(3) as usize]),
        }),
        9 => Body::Heartbeat { commit: near(e) },
        10 => Body::HeartbeatReply { commit: near(e) },
        _ => Body::TimeoutNow,
    };
    Envelope {
        to: if e.chance(1, 50) { id(e) } else { ME },
        from: if e.chance(1, 50) {
            id(e)
        } else {
            2 + e.below(3)
        },
        term: term(e),
        body,
    }
}

/// Carries out what one step has produced. Some writes stay pending.
fn settle(
    member: &mut Consensus,
    disk: &mut Durable,
    unsaved: &mut Vec<(PersistSeq, Vec<Vec<u8>>, bool)>,
    e: &mut Entropy,
) -> Option<u64> {
    let mut outputs = Vec::new();
    let mut applied = None;
    member.take_outputs(&mut outputs);
    for output in outputs {
        match output {
            Output::Persist { seq, record } => unsaved.push((seq, vec![record], false)),
            Output::Replace { seq, records } => unsaved.push((seq, records, true)),
            Output::Committed { index, .. } | Output::Restore { index, .. } => {
                applied = Some(index)
            }
            Output::Send { .. } | Output::Leader { .. } | Output::Voters { .. } => {}
        }
    }
    let done = e.below(unsaved.len() as u64 + 1) as usize;
    let mut last = None;
    for (seq, records, replace) in unsaved.drain(..done) {
        if replace {
            *disk = Durable::new();
        }
        for record in records {
            disk.apply(&record).expect("own records are consistent");
        }
        last = Some(seq);
    }
    if let Some(seq) = last {
        member.persisted(seq);
    }
    applied
}

/// Protects every member from its peers: whatever well-formed nonsense they send, in whatever
/// role it meets the member, the answer is an error and not a panic, and what the member writes
/// meanwhile can be read back.
#[test]
fn nonsense_from_peers_is_survived() {
    let (mut taken, mut refused, mut led, mut restarts) = (0u64, 0u64, 0u64, 0u64);
    for seed in 0..3_000 {
        let mut e = Entropy::new(seed);
        let config = ConsensusConfig {
            snapshot_after: 4,
            ..ConsensusConfig::new(DiskId(ME))
        };
        let mut now = Instant::ZERO;
        let voters: Vec<DiskId> = (1..=1 + e.below(3)).map(DiskId).collect();
        let mut member = if e.chance(1, 4) {
            Consensus::join(config.clone(), now, e.clone())
        } else {
            Consensus::found(config.clone(), &voters, now, e.clone())
        }
        .expect("starts");
        let mut disk = Durable::new();
        let mut unsaved = Vec::new();
        let mut applied = 0;
        for _ in 0..120 {
            match e.below(12) {
                0 | 1 => {
                    now = now + Duration::from_millis(e.below(700));
                    member.tick_to(now);
                }
                2 => {
                    let _ = member.propose(vec![1, 2, 3]);
                }
                3 => {
                    let (old, new) = (DiskId(id(&mut e)), DiskId(id(&mut e)));
                    let _ = match e.below(4) {
                        0 => member.replace_voter(old, new),
                        1 => member.add_voter(new),
                        2 => member.remove_voter(old),
                        _ => member.transfer_leader(new),
                    };
                }
                4 if e.chance(1, 8) && !disk.is_empty() => {
                    restarts += 1;
                    unsaved.clear();
                    applied = 0;
                    let restarted =
                        Consensus::recover(config.clone(), disk.clone(), now, e.clone());
                    member = restarted.expect("recovers");
                }
                _ => {
                    let envelope = message(&mut e, &member);
                    match member.receive(&encode(MESSAGE_VERSION, &envelope)) {
                        Ok(()) => taken += 1,
                        Err(_) => refused += 1,
                    }
                }
            }
            led += u64::from(member.is_leader());
            if e.chance(3, 4) {
                if let Some(index) = settle(&mut member, &mut disk, &mut unsaved, &mut e) {
                    applied = index;
                }
                if member.wants_snapshot() {
                    member.compact(applied, vec![9]).expect("fits");
                }
            }
        }
    }
    assert!(
        taken > 50_000 && refused > 20_000,
        "{taken} taken, {refused} refused"
    );
    assert!(
        led > 5_000 && restarts > 500,
        "led {led}, {restarts} restarts"
    );
}

/// Protects against bytes that are no message at all, and against messages cut or bent on the way.
#[test]
fn bent_bytes_are_refused_or_harmless() {
    let config = ConsensusConfig::new(DiskId(ME));
    let mut e = Entropy::new(5);
    let voters = [DiskId(1), DiskId(2), DiskId(3)];
    let mut member = Consensus::found(config, &voters, Instant::ZERO, e.clone()).expect("starts");
    for _ in 0..50_000 {
        let mut bytes = encode(MESSAGE_VERSION, &message(&mut e, &member));
        for _ in 0..=e.below(3) {
            let at = e.below(bytes.len() as u64) as usize;
            bytes[at] = e.next_u64() as u8;
        }
        bytes.truncate(1 + e.below(bytes.len() as u64) as usize);
        let _ = member.receive(&bytes);
        let _ = Consensus::sender(&bytes);
    }
    assert_eq!(
        member.receive(&[]),
        Err(ReceiveError::Malformed("it is empty".to_owned()))
    );
    assert!(matches!(
        member.receive(&[9, 9]),
        Err(ReceiveError::Version { found: 9, known: 1 })
    ));
    assert!(matches!(
        member.receive(&vec![1; crate::MESSAGE_LEN_MAX + 1]),
        Err(ReceiveError::TooLong { .. })
    ));
}

/// Protects a candidate whose log is still being written from votes that come too early, because
/// a peer is at fault or the caller sent a request before its write was durable: they do not make
/// it leader. Once the log is durable they do.
#[test]
fn early_votes_do_not_count() {
    let config = ConsensusConfig::new(DiskId(ME));
    let voters = [DiskId(1), DiskId(2), DiskId(3)];
    let entropy = Entropy::new(1);
    let mut member = Consensus::found(config, &voters, Instant::ZERO, entropy).expect("starts");
    let send = |member: &mut Consensus, term, body| {
        let envelope = Envelope {
            to: ME,
            from: 2,
            term,
            body,
        };
        let received = member.receive(&encode(MESSAGE_VERSION, &envelope));
        received.expect("it makes sense");
    };
    let entries = vec![LogEntry {
        term: 2,
        payload: Payload::Nothing,
    }];
    send(
        &mut member,
        2,
        Body::Append {
            prev_index: 1,
            prev_term: 1,
            commit: 1,
            entries,
        },
    );
    let mut outputs = Vec::new();
    member.take_outputs(&mut outputs);
    let mut now = Instant::ZERO;
    let mut elect = |member: &mut Consensus| {
        for _ in 0..60 {
            if member.is_leader() {
                return;
            }
            now = now + Duration::from_millis(50);
            member.tick_to(now);
            let term = member.status().term;
            for pre in [true, false] {
                let body = Body::VoteReply {
                    pre,
                    reject: false,
                    commit: 0,
                    commit_term: 0,
                };
                send(member, term + u64::from(pre), body);
            }
        }
    };
    elect(&mut member);
    assert!(!member.is_leader());
    member.take_outputs(&mut outputs);
    member.persisted(PersistSeq(u64::MAX));
    elect(&mut member);
    assert!(member.is_leader());
}
