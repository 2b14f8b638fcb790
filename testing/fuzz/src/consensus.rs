//! The replicated log: messages of hostile members, and records of a hostile disk.

use crate::{Feed, memory::bounded};
use mainstay_base::{DiskId, Entropy, Instant};
use mainstay_consensus::{Consensus, ConsensusConfig, Durable, Output, PersistSeq};
use std::time::Duration;

/// Messages kept to be tampered with and sent again.
const KEPT: usize = 32;
const TICK: Duration = Duration::from_millis(50);

struct Member {
    log: Consensus,
    config: ConsensusConfig,
    disk: Durable,
    unsaved: Vec<(PersistSeq, Vec<Vec<u8>>, bool)>,
    applied: u64,
}

impl Member {
    fn new(id: u64) -> Member {
        let config = ConsensusConfig {
            snapshot_after: 4,
            ..ConsensusConfig::new(DiskId(id))
        };
        let voters = [DiskId(1), DiskId(2), DiskId(3)];
        let entropy = Entropy::new(id);
        let log = Consensus::found(config.clone(), &voters, Instant::ZERO, entropy);
        Member {
            log: log.expect("the settings are sound"),
            config,
            disk: Durable::new(),
            unsaved: Vec::new(),
            applied: 0,
        }
    }

    /// Carries out what is to be done, except for writes; returns what is to be sent.
    fn drain(&mut self) -> Vec<(DiskId, Vec<u8>)> {
        let mut outputs = Vec::new();
        let mut sent = Vec::new();
        self.log.take_outputs(&mut outputs);
        for output in outputs {
            match output {
                Output::Persist { seq, record } => self.unsaved.push((seq, vec![record], false)),
                Output::Replace { seq, records } => self.unsaved.push((seq, records, true)),
                Output::Send { to, message, .. } => sent.push((to, message)),
                Output::Committed { index, .. } | Output::Restore { index, .. } => {
                    assert!(index > self.applied, "the log went back");
                    self.applied = index;
                }
                Output::Leader { .. } | Output::Voters { .. } => {}
            }
        }
        if self.log.wants_snapshot() && self.applied > 0 {
            let fits = self.log.compact(self.applied, vec![9]);
            fits.expect("a short snapshot of what was applied");
        }
        sent
    }

    fn save(&mut self) {
        let mut last = None;
        for (seq, records, replace) in self.unsaved.drain(..) {
            if replace {
                self.disk = Durable::new();
            }
            for record in records {
                let read = self.disk.apply(&record);
                read.expect("a member can read what it wrote");
            }
            last = Some(seq);
        }
        if let Some(seq) = last {
            self.log.persisted(seq);
        }
    }

    fn restart(&mut self, now: Instant) {
        if self.disk.is_empty() {
            // It has promised nothing yet, and is founded anew.
            *self = Member::new(self.config.me.0);
            return;
        }
        self.unsaved.clear();
        self.applied = 0;
        let entropy = Entropy::new(now.0);
        let log = Consensus::recover(self.config.clone(), self.disk.clone(), now, entropy);
        self.log = log.expect("a member starts from what it wrote");
    }
}

/// Three members, whose messages are lost, repeated and tampered with, or made up altogether.
pub(crate) fn messages(data: &[u8]) {
    let mut feed = Feed::new(data);
    let mut now = Instant::ZERO;
    let mut members: Vec<Member> = (1..=3).map(Member::new).collect();
    let mut kept: Vec<(DiskId, Vec<u8>)> = Vec::new();
    let mut flying: Vec<(DiskId, Vec<u8>)> = Vec::new();
    let limit = (8 << 20) + 2048 * data.len();
    bounded("consensus", limit, || {
        while !feed.is_empty() {
            let how = feed.byte();
            let who = usize::from(how >> 4) % members.len();
            match how % 16 {
                0..=3 => {
                    // Time passes, and honest messages arrive.
                    for _ in 0..=feed.byte() % 32 {
                        now = now + TICK;
                        for member in &mut members {
                            member.log.tick_to(now);
                        }
                        collect(&mut members, &mut flying, &mut kept, true);
                        deliver(&mut members, &mut flying);
                    }
                }
                4 => {
                    members[who].log.tick_to(now);
                    collect(
                        &mut members,
                        &mut flying,
                        &mut kept,
                        feed.byte().is_multiple_of(2),
                    );
                }
                5 => deliver(&mut members, &mut flying),
                6 => flying.clear(),
                7 => drop(members[who].log.propose(feed.block().to_vec())),
                8 => members[who].restart(now),
                9 => {
                    let (old, new) = (
                        DiskId(u64::from(feed.byte())),
                        DiskId(u64::from(feed.byte())),
                    );
                    let log = &mut members[who].log;
                    match feed.byte() % 4 {
                        0 => drop(log.replace_voter(old, new)),
                        1 => drop(log.add_voter(new)),
                        2 => drop(log.remove_voter(old)),
                        _ => drop(log.transfer_leader(new)),
                    }
                }
                10 => drop(members[who].log.receive(feed.block())),
                _ => {
                    let place = usize::from(feed.byte());
                    let Some(place) = place.checked_rem(kept.len()) else {
                        continue;
                    };
                    let (to, mut message) = kept[place].clone();
                    feed.tamper(&mut message);
                    let _ = Consensus::sender(&message);
                    if let Some(member) = members.iter_mut().find(|m| m.config.me == to) {
                        drop(member.log.receive(&message));
                    }
                }
            }
        }
        for member in &mut members {
            member.drain();
            member.save();
            member.restart(now);
            member.drain();
        }
    });
}

fn collect(
    members: &mut [Member],
    flying: &mut Vec<(DiskId, Vec<u8>)>,
    kept: &mut Vec<(DiskId, Vec<u8>)>,
    save: bool,
) {
    for member in members {
        let mut sent = member.drain();
        if save {
            member.save();
            sent.extend(member.drain());
        }
        for message in sent {
            if kept.len() == KEPT {
                kept.remove(0);
            }
            kept.push(message.clone());
            flying.push(message);
        }
    }
    let excess = flying.len().saturating_sub(1000);
    flying.drain(..excess);
}

fn deliver(members: &mut [Member], flying: &mut Vec<(DiskId, Vec<u8>)>) {
    for (to, message) in std::mem::take(flying) {
        if let Some(member) = members.iter_mut().find(|m| m.config.me == to) {
            // A member whose peers were lied to may refuse what they now say in good faith.
            drop(member.log.receive(&message));
        }
    }
}

/// Records of a journal: what they say is refused, or a member starts from it.
pub(crate) fn records(data: &[u8]) {
    let mut feed = Feed::new(data);
    let mut durable = Durable::new();
    let limit = (1 << 20) + 512 * data.len();
    bounded("consensus records", limit, || {
        while !feed.is_empty() {
            let before = durable.clone();
            if let Err(why) = durable.apply(feed.block()) {
                assert!(!why.to_string().is_empty());
                assert_eq!(durable, before, "a record was refused and yet counted");
            }
        }
        let config = ConsensusConfig::new(DiskId(1));
        let now = Instant::from_millis(5);
        let mut member = Member {
            log: match Consensus::recover(config.clone(), durable.clone(), now, Entropy::new(1)) {
                Ok(log) => log,
                Err(why) => return assert!(!why.to_string().is_empty()),
            },
            config,
            disk: durable,
            unsaved: Vec::new(),
            applied: 0,
        };
        for tick in 0..30 {
            member.log.tick_to(now + TICK * tick);
            member.drain();
            member.save();
        }
    });
}

/// Records and messages of an honest group, for inputs to begin with.
#[must_use]
pub(crate) fn samples() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut members: Vec<Member> = (1..=3).map(Member::new).collect();
    let (mut flying, mut kept, mut records, mut messages) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut now = Instant::ZERO;
    for round in 0..80_u8 {
        now = now + TICK;
        for member in &mut members {
            member.log.tick_to(now);
            if round % 5 == 0 {
                drop(member.log.propose(vec![round; 3]));
            }
        }
        for member in &mut members {
            let sent = member.drain();
            if member.config.me == DiskId(1) {
                let written = member.unsaved.iter().filter(|(_, _, replace)| !replace);
                records.extend(written.flat_map(|(_, records, _)| records.clone()));
            }
            flying.extend(sent);
        }
        messages.extend(
            flying
                .iter()
                .map(|(_, message): &(DiskId, Vec<u8>)| message.clone()),
        );
        collect(&mut members, &mut flying, &mut kept, true);
        deliver(&mut members, &mut flying);
    }
    (records, messages)
}
