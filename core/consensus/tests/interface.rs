//! Single calls at their limits.

#![allow(clippy::unwrap_used)]

mod world;

use core::time::Duration;
use mainstay_base::{DiskId, Entropy, Instant};
use mainstay_consensus::{
    CompactError, Consensus, ConsensusConfig, Durable, DurableError, Output, PROPOSAL_LEN_MAX,
    PersistSeq, ProposeError, Role, SNAPSHOT_LEN_MAX, StartError,
};
use world::{FAIR, World};

fn alone() -> (Consensus, Vec<Output>) {
    let config = ConsensusConfig::new(DiskId(1));
    let voters = [DiskId(1)];
    let mut member = Consensus::found(config, &voters, Instant::ZERO, Entropy::new(1)).unwrap();
    let mut outputs = Vec::new();
    member.take_outputs(&mut outputs);
    (member, outputs)
}

/// Makes everything durable at once, until nothing comes any more.
fn settle(member: &mut Consensus) -> Vec<Output> {
    let mut all = Vec::new();
    loop {
        let from = all.len();
        member.take_outputs(&mut all);
        if all.len() == from {
            return all;
        }
        for output in &all[from..] {
            if let Output::Persist { seq, .. } | Output::Replace { seq, .. } = output {
                member.persisted(*seq);
            }
        }
    }
}

/// Protects the founding: its record comes first, and a group needs a sensible list of voters.
#[test]
fn founding_is_written_first_and_checked() {
    let (_, outputs) = alone();
    assert!(matches!(
        outputs[0],
        Output::Voters { .. } | Output::Persist { .. }
    ));
    let first = outputs.iter().find_map(|output| match output {
        Output::Persist { seq, record } => Some((*seq, record.clone())),
        _ => None,
    });
    let (seq, record) = first.unwrap();
    assert_eq!(seq, PersistSeq(1));
    assert_eq!(
        record[0], 1,
        "the record format is versioned by its first byte"
    );
    let found = |me: u64, voters: &[u64]| {
        let voters: Vec<DiskId> = voters.iter().copied().map(DiskId).collect();
        let config = ConsensusConfig::new(DiskId(me));
        Consensus::found(config, &voters, Instant::ZERO, Entropy::new(1)).err()
    };
    assert_eq!(found(1, &[1, 2]), None);
    assert!(matches!(found(1, &[]), Some(StartError::Voters(_))));
    assert!(matches!(found(1, &[1, 1]), Some(StartError::Voters(_))));
    assert!(matches!(found(1, &[1, 0]), Some(StartError::Voters(_))));
    assert_eq!(found(3, &[1, 2]), Some(StartError::NotAVoter(DiskId(3))));
    assert!(matches!(found(0, &[1, 2]), Some(StartError::Config { .. })));
}

/// Protects the bounds of proposals and who may make them.
#[test]
fn proposals_are_bounded() {
    let (mut member, _) = alone();
    assert_eq!(
        member.propose(vec![1]),
        Err(ProposeError::NotLeader { leader: None })
    );
    member.persisted(PersistSeq(1));
    member.tick_to(Instant::from_millis(600));
    member.tick_to(Instant::from_millis(1_200));
    settle(&mut member);
    assert!(member.is_leader());
    assert!(matches!(
        member.propose(Vec::new()),
        Err(ProposeError::Length { len: 0, .. })
    ));
    let long = vec![1; PROPOSAL_LEN_MAX + 1];
    assert!(matches!(
        member.propose(long),
        Err(ProposeError::Length { .. })
    ));
    let mut taken = 0;
    while member.propose(vec![1; PROPOSAL_LEN_MAX]).is_ok() {
        taken += 1;
        assert!(taken < 100, "back-pressure never sets in");
    }
    assert!(taken >= 8);
    let outputs = settle(&mut member);
    let committed = outputs
        .iter()
        .filter(|o| matches!(o, Output::Committed { .. }));
    assert_eq!(committed.count(), taken);
    assert_eq!(member.propose(vec![1]), Ok(()));
    assert!(
        member.wants_snapshot(),
        "a long log must call for a snapshot"
    );
}

/// Protects the log from being cut at the wrong place, and messages from snapshots too long.
#[test]
fn snapshots_are_checked() {
    let (mut member, _) = alone();
    member.persisted(PersistSeq(1));
    member.tick_to(Instant::from_millis(600));
    member.tick_to(Instant::from_millis(1_200));
    settle(&mut member);
    member.propose(b"a".to_vec()).unwrap();
    member.propose(b"b".to_vec()).unwrap();
    let indices: Vec<u64> = settle(&mut member)
        .iter()
        .filter_map(|output| match output {
            Output::Committed { index, .. } => Some(*index),
            _ => None,
        })
        .collect();
    assert!(matches!(
        member.compact(indices[0], Vec::new()),
        Err(CompactError::Length { .. })
    ));
    let long = vec![1; SNAPSHOT_LEN_MAX + 1];
    assert!(matches!(
        member.compact(indices[0], long),
        Err(CompactError::Length { .. })
    ));
    assert!(matches!(
        member.compact(indices[1] + 1, vec![1]),
        Err(CompactError::Ahead { .. })
    ));
    member.compact(indices[0], b"A".to_vec()).unwrap();
    let outputs = settle(&mut member);
    let Output::Replace { records, .. } = &outputs[0] else {
        panic!("{outputs:?}");
    };
    // A restart gives the snapshot and then what came after it.
    let mut durable = Durable::new();
    for record in records {
        durable.apply(record).unwrap();
    }
    assert_eq!(durable.last_index(), indices[1]);
    let config = ConsensusConfig::new(DiskId(1));
    let mut again = Consensus::recover(config, durable, Instant::ZERO, Entropy::new(2)).unwrap();
    let outputs = settle(&mut again);
    let shown: Vec<&Output> = outputs
        .iter()
        .filter(|o| matches!(o, Output::Restore { .. } | Output::Committed { .. }))
        .collect();
    assert_eq!(
        shown,
        [
            &Output::Restore {
                index: indices[0],
                snapshot: b"A".to_vec()
            },
            &Output::Committed {
                index: indices[1],
                data: b"b".to_vec()
            },
        ]
    );
}

/// Protects a process that was paused from standing for election on waking up, before it has read
/// what arrived meanwhile; and the arithmetic of deadlines.
#[test]
fn a_long_pause_counts_for_one_election_timeout() {
    let config = ConsensusConfig::new(DiskId(1));
    let voters = [DiskId(1), DiskId(2), DiskId(3)];
    let start = Instant::from_millis(1_000);
    let mut deposed = 0;
    for seed in 0..50 {
        let mut member =
            Consensus::found(config.clone(), &voters, start, Entropy::new(seed)).unwrap();
        settle(&mut member);
        assert_eq!(member.deadline(), start + Duration::from_millis(50));
        member.tick_to(start + Duration::from_millis(130));
        assert_eq!(member.deadline(), start + Duration::from_millis(150));
        let later = start + Duration::from_secs(86_400);
        member.tick_to(later);
        assert_eq!(member.deadline(), later + Duration::from_millis(50));
        // 2 ticks before the pause and 12 for it are within most of the random timeouts.
        deposed += u64::from(member.status().role != Role::Follower);
    }
    assert!(
        deposed < 25,
        "{deposed} of 50 stood for election after a pause"
    );
}

/// Protects the start from damaged records: each kind of contradiction is named, none panics.
#[test]
fn contradictory_records_are_named() {
    let mut world = World::with_snapshots(1, 3, FAIR, 1_000);
    world.run_until(5_000, "a leader", |world| world.leader().is_some());
    for _ in 0..20 {
        world.propose();
        world.run(50);
    }
    let records = world.hosts[&2].disk.clone();
    assert!(records.len() > 10);
    let replay = |records: &[&[u8]]| -> Result<Durable, DurableError> {
        let mut durable = Durable::new();
        for record in records {
            durable.apply(record)?;
        }
        Ok(durable)
    };
    let all: Vec<&[u8]> = records.iter().map(|r| &r[..]).collect();
    replay(&all).unwrap();
    assert!(matches!(
        replay(&[&[]]),
        Err(DurableError::Malformed { record: 1, .. })
    ));
    assert!(matches!(
        replay(&[&[7, 0]]),
        Err(DurableError::Version { found: 7, .. })
    ));
    let reversed: Vec<&[u8]> = all.iter().rev().copied().collect();
    assert!(matches!(
        replay(&reversed),
        Err(DurableError::Inconsistent { .. })
    ));
    let gap: Vec<&[u8]> = all[..4]
        .iter()
        .chain(&all[all.len() - 1..])
        .copied()
        .collect();
    assert!(matches!(
        replay(&gap),
        Err(DurableError::Inconsistent { .. })
    ));
    // Any one byte changed: an error, or a state from which a member starts.
    let mut entropy = Entropy::new(3);
    let (mut refused, mut started) = (0, 0);
    for _ in 0..5_000 {
        let mut bent = records.clone();
        let record = entropy.below(bent.len() as u64) as usize;
        let at = entropy.below(bent[record].len() as u64) as usize;
        bent[record][at] = entropy.next_u64() as u8;
        match replay(&bent.iter().map(|r| &r[..]).collect::<Vec<_>>()) {
            Err(_) => refused += 1,
            Ok(durable) => {
                let config = ConsensusConfig::new(DiskId(2));
                Consensus::recover(config, durable, Instant::ZERO, Entropy::new(1)).unwrap();
                started += 1;
            }
        }
    }
    assert!(
        refused > 500 && started > 500,
        "{refused} refused, {started} started"
    );
}

/// A message and the write it waits for.
type Sent = (Vec<u8>, Option<PersistSeq>);

/// Protects the order of durability: what a follower promises waits for its record, a leader's
/// messages and the replies to heartbeats do not wait.
#[test]
fn promises_wait_for_the_disk() {
    let voters = [DiskId(1), DiskId(2)];
    let member = |id: u64| {
        let config = ConsensusConfig::new(DiskId(id));
        Consensus::found(config, &voters, Instant::ZERO, Entropy::new(id)).unwrap()
    };
    let (mut one, mut two) = (member(1), member(2));
    settle(&mut one);
    settle(&mut two);
    let sends = |member: &mut Consensus| -> (Option<PersistSeq>, Vec<Sent>) {
        let mut outputs = Vec::new();
        member.take_outputs(&mut outputs);
        let mut written = None;
        let mut sent = Vec::new();
        for output in outputs {
            match output {
                Output::Persist { seq, .. } => written = Some(seq),
                Output::Send { message, after, .. } => sent.push((message, after)),
                _ => {}
            }
        }
        (written, sent)
    };
    let mut now = Instant::ZERO;
    while one.status().role == Role::Follower {
        now = now + Duration::from_millis(50);
        one.tick_to(now);
    }
    let (_, pre_votes) = sends(&mut one);
    two.tick_to(Instant::from_millis(600));
    two.receive(&pre_votes[0].0).unwrap();
    let (_, replies) = sends(&mut two);
    one.receive(&replies[0].0).unwrap();
    // The candidate's own vote must be durable before it asks for another.
    let (written, votes) = sends(&mut one);
    assert_eq!(votes[0].1, written);
    assert!(written.is_some());
    one.persisted(written.unwrap());
    two.receive(&votes[0].0).unwrap();
    let (written, replies) = sends(&mut two);
    assert_eq!(replies[0].1, written);
    assert!(written.is_some());
    two.persisted(written.unwrap());
    one.receive(&replies[0].0).unwrap();
    // The leader sends its first entry before that is durable.
    let (written, appends) = sends(&mut one);
    assert!(written.is_some());
    assert!(!appends.is_empty() && appends.iter().all(|(_, after)| after.is_none()));
    for (append, _) in &appends {
        two.receive(append).unwrap();
    }
    let (written, replies) = sends(&mut two);
    assert!(written.is_some());
    assert!(replies.iter().all(|(_, after)| *after == written));
    // While the follower's disk is busy, heartbeats are answered at once.
    now = now + Duration::from_millis(100);
    one.tick_to(now);
    let (_, heartbeats) = sends(&mut one);
    two.receive(&heartbeats[0].0).unwrap();
    let (_, replies) = sends(&mut two);
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].1, None);
}

/// Protects learners of a lone voter: it leads at once, in a term that a crash would make it forget
/// and use again with other entries. So nothing of that term leaves before it is durable.
#[test]
fn a_term_that_could_be_forgotten_is_not_used() {
    let (mut member, _) = alone();
    member.persisted(PersistSeq(1));
    member.tick_to(Instant::from_millis(600));
    member.tick_to(Instant::from_millis(1_200));
    settle(&mut member);
    member.add_voter(DiskId(4)).unwrap();
    settle(&mut member);
    assert_eq!(member.status().learners, [DiskId(4)]);
    member.compact(0, vec![1]).unwrap();
    let mut durable = Durable::new();
    for output in settle(&mut member) {
        if let Output::Replace { records, .. } = output {
            for record in records {
                durable.apply(&record).unwrap();
            }
        }
    }
    let config = ConsensusConfig::new(DiskId(1));
    let mut again = Consensus::recover(config, durable, Instant::ZERO, Entropy::new(2)).unwrap();
    let mut now = Instant::ZERO;
    while !again.is_leader() {
        now = now + Duration::from_millis(50);
        again.tick_to(now);
    }
    let mut outputs = Vec::new();
    again.take_outputs(&mut outputs);
    let written = outputs.iter().rev().find_map(|output| match output {
        Output::Persist { seq, .. } => Some(*seq),
        _ => None,
    });
    assert!(written.is_some());
    let mut sent = 0;
    for output in &outputs {
        match output {
            Output::Send { after, .. } => {
                assert_eq!(*after, written, "it must wait for the write of its term");
                sent += 1;
            }
            Output::Leader { me, .. } => assert!(!me, "leads in a term that is not durable"),
            _ => {}
        }
    }
    assert!(sent > 0, "nothing was sent to the learner");
    again.persisted(written.unwrap());
    let outputs = settle(&mut again);
    assert!(
        outputs
            .iter()
            .any(|o| matches!(o, Output::Leader { me: true, .. }))
    );
}
