//! A host's disk, byte by byte: one journal file, a page cache, sectors, and what power loss leaves.

use crate::dice::{Dice, MS};
use mainstay_base::{DiskId, Entropy};
use mainstay_journal::{Appender, Damage, SECTOR, encode_file, scan};
use mainstay_node::PersistSeq;
use std::collections::VecDeque;

/// One `Effect::Persist`.
#[derive(Clone, Debug)]
pub struct Write {
    /// Its number.
    pub seq: PersistSeq,
    /// Kind and payload.
    pub records: Vec<(u8, Vec<u8>)>,
    /// Takes the place of the whole file.
    pub replace: bool,
}

/// What is under way.
#[derive(Debug)]
enum Flight {
    /// Bytes of an append stand in the page cache; the fsync runs.
    Append { upto: PersistSeq, short: bool },
    /// A new file is being written beside the old one.
    Replace {
        upto: PersistSeq,
        file: Vec<u8>,
        appender: Appender,
        /// Whether the rename has been issued: a crash finds either file only after that.
        renamed: bool,
    },
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All writes up to this one are durable.
    Durable(PersistSeq),
    /// Nothing may be trusted any more.
    Failed,
}

/// What a start found.
#[derive(Debug)]
pub struct Found {
    /// Every record.
    pub records: Vec<(u8, Vec<u8>)>,
    /// Whether an unfinished write was cut off.
    pub torn: bool,
}

/// The disk under one node's state directory.
#[derive(Debug)]
pub struct Disk {
    id: DiskId,
    generation: u64,
    /// The journal file as the operating system shows it.
    bytes: Vec<u8>,
    /// How much of it is on the platter.
    synced: usize,
    appender: Option<Appender>,
    queue: VecDeque<Write>,
    flight: Option<Flight>,
    /// Typical time of an fsync, in nanoseconds.
    pub latency: u64,
    /// No space is left.
    pub full: bool,
    failed: bool,
}

impl Disk {
    /// An empty state directory.
    #[must_use]
    pub fn new(id: DiskId, latency: u64) -> Disk {
        Disk {
            id,
            generation: 0,
            bytes: Vec::new(),
            synced: 0,
            appender: None,
            queue: VecDeque::new(),
            flight: None,
            latency,
            full: false,
            failed: false,
        }
    }

    /// The directory's number.
    #[must_use]
    pub fn id(&self) -> DiskId {
        self.id
    }

    /// Length of the journal file in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether a write is waiting or under way.
    #[must_use]
    pub fn busy(&self) -> bool {
        self.flight.is_some() || !self.queue.is_empty()
    }

    /// Whether a write is under way.
    #[must_use]
    pub fn in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// Opens the journal as a starting process does: cuts off a torn tail and makes what is left
    /// durable before anything in it is believed.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn open(&mut self) -> Result<Found, Damage> {
        self.flight = None;
        self.queue.clear();
        self.failed = false;
        if self.bytes.is_empty() {
            self.generation = 1;
            let (file, appender) =
                encode_file(self.id, 1, std::iter::empty()).expect("an empty journal fits");
            self.bytes = file;
            self.synced = self.bytes.len();
            self.appender = Some(appender);
            return Ok(Found {
                records: Vec::new(),
                torn: false,
            });
        }
        let scan = scan(&self.bytes)?;
        self.bytes.truncate(scan.valid_len() as usize);
        self.synced = self.bytes.len();
        self.generation = scan.header.generation;
        self.id = scan.header.disk;
        self.appender = Some(scan.appender);
        Ok(Found {
            records: scan
                .records
                .into_iter()
                .map(|record| (record.kind, record.payload))
                .collect(),
            torn: scan.torn.is_some(),
        })
    }

    /// Takes a write. [`Disk::start`] begins it.
    pub fn submit(&mut self, write: Write) {
        if !self.failed {
            self.queue.push_back(write);
        }
    }

    /// Begins the next write, with all appends that wait behind it, if none is under way. Returns
    /// after how many nanoseconds it ends.
    pub fn start(&mut self, dice: &mut Entropy) -> Option<u64> {
        if self.flight.is_some() {
            return None;
        }
        let first = self.queue.pop_front()?;
        let takes = dice.spread(self.latency).max(MS / 20);
        if first.replace {
            let (file, appender) = encode_file(
                self.id,
                self.generation + 1,
                first.records.iter().map(|(k, p)| (*k, p.as_slice())),
            )
            .expect("the node's records are far below the journal's bound");
            self.flight = Some(Flight::Replace {
                upto: first.seq,
                file,
                appender,
                renamed: dice.percent(50),
            });
            return Some(takes * 2);
        }
        let mut upto = first.seq;
        let mut records = first.records;
        while self.queue.front().is_some_and(|next| !next.replace) {
            if let Some(next) = self.queue.pop_front() {
                upto = next.seq;
                records.extend(next.records);
            }
        }
        let appender = self.appender.as_mut().expect("opened before written");
        let before = self.bytes.len();
        appender
            .append(
                records.iter().map(|(k, p)| (*k, p.as_slice())),
                &mut self.bytes,
            )
            .expect("the node's records are far below the journal's bound");
        if self.full {
            let room = dice.below((self.bytes.len() - before) as u64 + 1) as usize;
            self.bytes.truncate(before + room);
        }
        self.flight = Some(Flight::Append {
            upto,
            short: self.full,
        });
        Some(takes)
    }

    /// Ends the write under way.
    ///
    /// # Panics
    /// If none is.
    pub fn finish(&mut self) -> Ended {
        let flight = self.flight.take().expect("a write is under way");
        // A write that found no space has failed, whatever room there is by now.
        if self.full || matches!(flight, Flight::Append { short: true, .. }) {
            self.failed = true;
            self.queue.clear();
            return Ended::Failed;
        }
        match flight {
            Flight::Append { upto, .. } => {
                self.synced = self.bytes.len();
                Ended::Durable(upto)
            }
            Flight::Replace {
                upto,
                file,
                appender,
                ..
            } => {
                self.put_in_place(file);
                self.appender = Some(appender);
                Ended::Durable(upto)
            }
        }
    }

    fn put_in_place(&mut self, file: Vec<u8>) {
        self.generation += 1;
        self.bytes = file;
        self.synced = self.bytes.len();
    }

    /// The process died; the operating system did not. What was handed over stays, except that the
    /// last call to write may have been cut short.
    pub fn process_died(&mut self, dice: &mut Entropy) {
        self.queue.clear();
        self.appender = None;
        match self.flight.take() {
            Some(Flight::Append { .. }) => {
                let unsynced = (self.bytes.len() - self.synced) as u64;
                if dice.percent(40) {
                    let kept = dice.below(unsynced + 1) as usize;
                    self.bytes.truncate(self.synced + kept);
                }
            }
            Some(Flight::Replace { file, renamed, .. }) if renamed => self.put_in_place(file),
            _ => {}
        }
    }

    /// The power failed: of the unsynced bytes any subset of sectors is left, the others are zero
    /// or beyond the end of the file.
    pub fn power_failed(&mut self, dice: &mut Entropy) {
        self.queue.clear();
        self.appender = None;
        if let Some(Flight::Replace { file, renamed, .. }) = self.flight.take()
            && renamed
            && dice.percent(50)
        {
            self.put_in_place(file);
        }
        let tail = self.bytes.split_off(self.synced);
        let mut left = tail;
        for sector in left.chunks_mut(SECTOR) {
            if dice.percent(50) {
                sector.fill(0);
            }
        }
        match dice.below(4) {
            0 => left.clear(),
            1 => left.truncate(dice.below(left.len() as u64 + 1) as usize),
            _ => {}
        }
        self.bytes.extend_from_slice(&left);
        self.synced = self.bytes.len();
    }

    /// Flips one bit of what is on the platter. False if there is nothing to spoil.
    pub fn corrupt(&mut self, dice: &mut Entropy) -> bool {
        // A last sector that the end of the file cuts was never acknowledged; nobody reads it.
        let whole = self.bytes.len() / SECTOR * SECTOR;
        if whole == 0 {
            return false;
        }
        let at = dice.below(whole as u64) as usize;
        self.bytes[at] ^= 1 << dice.below(8);
        true
    }

    /// The state directory is made anew, empty.
    pub fn wipe(&mut self, id: DiskId) {
        *self = Disk {
            full: self.full,
            ..Disk::new(id, self.latency)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(seq: u64, text: &str) -> Write {
        Write {
            seq: PersistSeq(seq),
            records: vec![(7, text.as_bytes().repeat(200))],
            replace: false,
        }
    }

    fn opened(disk: &mut Disk) -> Vec<Vec<u8>> {
        let found = disk.open().expect("sound");
        found.records.into_iter().map(|(_, p)| p).collect()
    }

    /// Protects D1's ground: what was acknowledged is found after power loss, in every one of many
    /// ways to tear the unacknowledged rest, and some of those really are torn.
    #[test]
    fn power_loss_keeps_what_was_acknowledged() {
        let (mut torn, mut whole, mut gone) = (0, 0, 0);
        for seed in 0..300 {
            let mut dice = Entropy::new(seed);
            let mut disk = Disk::new(DiskId(9), MS);
            assert!(opened(&mut disk).is_empty());
            disk.submit(write(1, "one"));
            assert!(disk.start(&mut dice).is_some());
            assert_eq!(disk.finish(), Ended::Durable(PersistSeq(1)));
            disk.submit(write(2, "two"));
            disk.start(&mut dice);
            disk.power_failed(&mut dice);
            let found = disk.open().expect("torn is not damaged");
            assert_eq!(found.records[0].1, b"one".repeat(200));
            match (found.torn, found.records.len()) {
                (true, 1) => torn += 1,
                (false, 2) => whole += 1,
                (false, 1) => gone += 1,
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        assert!(torn > 20 && whole > 5 && gone > 20, "{torn} {whole} {gone}");
    }

    /// Protects the replacement of the journal: a crash at any point finds the old file or the new.
    #[test]
    fn a_replacement_is_atomic() {
        let (mut old, mut new) = (0, 0);
        for seed in 0..100 {
            let mut dice = Entropy::new(seed);
            let mut disk = Disk::new(DiskId(9), MS);
            disk.open().expect("new");
            disk.submit(write(1, "old"));
            disk.start(&mut dice);
            disk.finish();
            disk.submit(Write {
                replace: true,
                ..write(2, "new")
            });
            disk.start(&mut dice);
            if seed % 2 == 0 {
                disk.power_failed(&mut dice);
            } else {
                disk.process_died(&mut dice);
            }
            match opened(&mut disk)[..] {
                [ref only] if *only == b"old".repeat(200) => old += 1,
                [ref only] if *only == b"new".repeat(200) => new += 1,
                ref other => panic!("{other:?}"),
            }
        }
        assert!(old > 10 && new > 10, "{old} {new}");
    }

    /// Protects the group commit: appends that wait together end together, in order.
    #[test]
    fn waiting_appends_share_an_fsync() {
        let mut dice = Entropy::new(3);
        let mut disk = Disk::new(DiskId(9), MS);
        disk.open().expect("new");
        disk.submit(write(1, "a"));
        disk.start(&mut dice);
        disk.submit(write(2, "b"));
        disk.submit(write(3, "c"));
        assert_eq!(disk.start(&mut dice), None);
        assert_eq!(disk.finish(), Ended::Durable(PersistSeq(1)));
        disk.start(&mut dice);
        assert_eq!(disk.finish(), Ended::Durable(PersistSeq(3)));
        assert_eq!(opened(&mut disk).len(), 3);
    }

    /// Protects the full disk: the write fails, and what was durable before is still found.
    #[test]
    fn a_full_disk_fails_the_write() {
        let mut dice = Entropy::new(4);
        let mut disk = Disk::new(DiskId(9), MS);
        disk.open().expect("new");
        disk.submit(write(1, "a"));
        disk.start(&mut dice);
        disk.finish();
        disk.full = true;
        disk.submit(write(2, "b"));
        disk.start(&mut dice);
        assert_eq!(disk.finish(), Ended::Failed);
        disk.process_died(&mut dice);
        disk.full = false;
        assert_eq!(opened(&mut disk)[0], b"a".repeat(200));
    }

    /// Protects "never a wrong state": a flipped bit anywhere is refused, never read over.
    #[test]
    fn a_flipped_bit_is_refused() {
        for seed in 0..200 {
            let mut dice = Entropy::new(seed);
            let mut disk = Disk::new(DiskId(9), MS);
            disk.open().expect("new");
            disk.submit(write(1, "a"));
            disk.start(&mut dice);
            disk.finish();
            assert!(disk.corrupt(&mut dice));
            assert!(disk.open().is_err(), "seed {seed}");
        }
    }
}
