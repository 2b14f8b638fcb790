//! The ring: blocks of encoded records, the oldest of which goes when there is no room.

use crate::record::Record;
use mainstay_base::{BootId, Instant};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Bytes of a block of a large ring.
const BLOCK_MAX: usize = 64 << 10;
/// Blocks of a small ring.
const BLOCKS_MIN: usize = 8;
/// Longest record of a lock, in bytes: its name and some numbers.
const LOCK_RECORD_MAX: usize = 384;

/// A row of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The number of its first record; the recorder counts from 0.
    pub first: u64,
    /// How many records it has.
    pub count: u32,
    /// The time from which the first record counts.
    pub base: Instant,
    /// Each record: nanoseconds since the one before, then the record.
    pub bytes: Vec<u8>,
}

/// The last records of a node. Memory is taken as records come, up to the limit, and never given
/// back.
#[derive(Debug)]
pub struct Recorder {
    id: BootId,
    /// In bytes; 0 records nothing.
    limit: usize,
    block_len: usize,
    blocks: VecDeque<Block>,
    /// The number of the next record.
    next: u64,
    last: Instant,
    scratch: Box<[u8; LOCK_RECORD_MAX]>,
}

impl Recorder {
    /// A recorder of so many bytes; 0 records nothing. `id` tells it from all others.
    #[must_use]
    pub fn new(limit: usize, id: BootId) -> Recorder {
        Recorder {
            id,
            limit,
            block_len: (limit / BLOCKS_MIN).min(BLOCK_MAX),
            blocks: VecDeque::new(),
            next: 0,
            last: Instant::ZERO,
            scratch: Box::new([0; LOCK_RECORD_MAX]),
        }
    }

    /// What tells this recorder from all others.
    #[must_use]
    pub fn id(&self) -> BootId {
        self.id
    }

    /// Whether anything is recorded.
    #[must_use]
    #[inline]
    pub fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// Records what happened. What is larger than an eighth of the ring is left out.
    pub fn record<N: Serialize>(&mut self, now: Instant, record: &Record<N>) {
        if self.limit == 0 {
            return;
        }
        let delta = now.0.saturating_sub(self.last.0);
        let text;
        let written = postcard::to_slice(&(delta, record), &mut self.scratch[..]);
        let mut bytes: &[u8] = match &written {
            Ok(bytes) => bytes,
            Err(_) => {
                // Only events have texts that may be so long.
                text = postcard::to_allocvec(&(delta, record)).unwrap_or_default();
                &text
            }
        };
        let room = |block: &Block| block.bytes.len() + bytes.len() <= self.block_len;
        let anew;
        if !self.blocks.back().is_some_and(room) {
            // A block counts from its own first record, so that it can be read when those before
            // are gone.
            anew = postcard::to_allocvec(&(0u64, record)).unwrap_or_default();
            bytes = &anew;
            if bytes.is_empty() || bytes.len() > self.block_len {
                return;
            }
            let mut room = Vec::new();
            if (self.blocks.len() + 1) * self.block_len > self.limit
                && let Some(oldest) = self.blocks.pop_front()
            {
                room = oldest.bytes;
                room.clear();
            }
            if room.capacity() == 0 {
                room.reserve_exact(self.block_len);
            }
            self.blocks.push_back(Block {
                first: self.next,
                count: 0,
                base: now,
                bytes: room,
            });
        }
        if let Some(block) = self.blocks.back_mut() {
            block.bytes.extend_from_slice(bytes);
            block.count += 1;
            self.next += 1;
            self.last = now;
        }
    }

    /// A copy of all that is remembered, oldest first.
    #[must_use]
    pub fn blocks(&self) -> Vec<Block> {
        self.blocks.iter().cloned().collect()
    }

    /// How many records were made, those that are forgotten included.
    #[must_use]
    pub fn recorded(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dump::entries,
        record::{Op, OwnRecord},
    };
    use mainstay_base::{LockId, LockMode, LockspaceId, NodeId, ResourceName, SessionId, Token};

    fn lock(name: &ResourceName, n: u64) -> Record<&ResourceName> {
        Record::Own(OwnRecord {
            op: Op::Granted,
            space: LockspaceId(1),
            name,
            session: SessionId(3),
            lock: LockId(n),
            mode: Some(LockMode::Ex),
            token: Token(n),
            master: NodeId(1),
        })
    }

    /// Protects the bound: however much is recorded, the ring stays within its bytes, and has the last
    /// records, whole and in order, with their times.
    #[test]
    fn the_last_records_stay() {
        let name = ResourceName::new("disk").expect("valid");
        let mut recorder = Recorder::new(8192, BootId(1));
        for n in 0..10_000 {
            recorder.record(Instant(1_000_000 + n * 1000), &lock(&name, n));
        }
        let blocks = recorder.blocks();
        let bytes: usize = blocks.iter().map(|b| b.bytes.capacity()).sum();
        assert!((6000..=8192).contains(&bytes), "{bytes} bytes");
        let found: Vec<_> = blocks
            .iter()
            .flat_map(|b| entries(b).expect("readable"))
            .collect();
        assert!(found.len() > 200, "{}", found.len());
        for (entry, n) in found.iter().rev().zip((0..10_000u64).rev()) {
            assert_eq!((entry.number, entry.at), (n, Instant(1_000_000 + n * 1000)));
            let Record::Own(own) = &entry.record else {
                panic!("{entry:?}");
            };
            assert_eq!((own.lock, &own.name), (LockId(n), &name));
        }
        assert_eq!(recorder.recorded(), 10_000);
    }

    /// Protects those who switch it off, and rings that are too small for a record.
    #[test]
    fn a_ring_without_room_records_nothing() {
        let name = ResourceName::new([7; 64]).expect("valid");
        for limit in [0, 8, 100] {
            let mut recorder = Recorder::new(limit, BootId(1));
            recorder.record(Instant(5), &lock(&name, 1));
            assert_eq!((recorder.blocks(), recorder.recorded()), (vec![], 0));
        }
        assert!(!Recorder::new(0, BootId(1)).is_on());
    }

    /// Protects readers: a clock that does not move, or a record of another kind, is no difficulty.
    #[test]
    fn records_of_all_kinds_are_read_again() {
        let mut recorder = Recorder::new(1 << 16, BootId(1));
        let records: Vec<Record> = vec![
            Record::Life { boot: BootId(7) },
            Record::Lease {
                until: Instant(900),
            },
            Record::Recovery {
                node: NodeId(2),
                incarnation: mainstay_base::Incarnation(4),
                phase: crate::Phase::Restated,
            },
            Record::Master {
                space: LockspaceId(1),
                name: ResourceName::new("disk").expect("valid"),
                here: true,
            },
        ];
        for record in &records {
            recorder.record(Instant(50), record);
        }
        let found: Vec<_> = recorder
            .blocks()
            .iter()
            .flat_map(|b| entries(b).expect("readable"))
            .collect();
        let found: Vec<Record> = found.into_iter().map(|e| e.record).collect();
        assert_eq!(found, records);
    }
}
