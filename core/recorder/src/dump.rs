//! Dumps: a recorder's memory as bytes, and back.

use crate::{
    record::Record,
    ring::{Block, Recorder},
};
use mainstay_base::{BootId, Instant, LockspaceId, LockspaceName, NodeId, NodeName};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// First bytes of a dump.
const MAGIC: &[u8; 8] = b"MNSTRECD";
/// The format that this build writes, and the only one that it reads.
pub const FORMAT: u32 = 1;
/// Bytes before each frame: its length and its CRC32C.
const FRAME: usize = 8;
/// Longest frame, in bytes.
const FRAME_MAX: usize = 4 << 20;

/// All that is needed to understand the records of a dump elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The build that wrote it, for people.
    pub build: String,
    /// The cluster's name.
    pub cluster: String,
    /// The node.
    pub node: NodeId,
    /// The node by name.
    pub name: NodeName,
    /// Which recorder: drawn when the daemon started. Dumps of one recorder overlap.
    pub recorder: BootId,
    /// Names the clock of the records. Times of dumps whose clock is the same can be compared
    /// exactly; others only as well as their hosts' clocks agree. Zeros: not known.
    pub clock: [u8; 16],
    /// When it was made, on that clock.
    pub at: Instant,
    /// The same moment in milliseconds since 1970, by the host's clock.
    pub unix_ms: u64,
    /// Why it was made.
    pub reason: String,
    /// All configured nodes.
    pub nodes: Vec<(NodeId, NodeName)>,
    /// All lockspaces.
    pub spaces: Vec<(LockspaceId, LockspaceName)>,
}

/// A dump: what a recorder remembered at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Whose and when.
    pub head: Head,
    /// The records, oldest first.
    pub blocks: Vec<Block>,
}

/// One record of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number; the recorder counts from 0.
    pub number: u64,
    /// When, on the node's clock.
    pub at: Instant,
    /// What.
    pub record: Record,
}

/// Why bytes are no dump.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// Something else.
    #[error("this is no dump of a flight recorder: it does not begin with `MNSTRECD`")]
    Foreign,
    /// Of another build.
    #[error(
        "the dump has format {0}, this build reads {FORMAT}; read it with the build that wrote it"
    )]
    Format(u32),
    /// The file ends too early.
    #[error("the dump is cut short at byte {at}: {what}")]
    Short {
        /// Where it ends.
        at: usize,
        /// What is missing.
        what: &'static str,
    },
    /// Bytes have changed.
    #[error("the dump is damaged at byte {at}: {what}")]
    Damaged {
        /// Where.
        at: usize,
        /// What is wrong.
        what: String,
    },
}

impl Dump {
    /// What a recorder remembers.
    #[must_use]
    pub fn of(recorder: &Recorder, head: Head) -> Dump {
        Dump {
            head,
            blocks: recorder.blocks(),
        }
    }

    /// The dump as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let records: usize = self.blocks.iter().map(|b| b.bytes.len() + 64).sum();
        let mut out = Vec::with_capacity(records + 4096);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        add_frame(&mut out, &self.head);
        add_frame(&mut out, &(self.blocks.len() as u64));
        for block in &self.blocks {
            add_frame(&mut out, block);
        }
        out
    }

    /// Reads a dump and every record of it.
    ///
    /// # Errors
    /// If it is not one, is of another format, cut short, or damaged.
    pub fn decode(bytes: &[u8]) -> Result<(Dump, Vec<Entry>), DumpError> {
        let magic = bytes.get(..MAGIC.len()).ok_or(DumpError::Foreign)?;
        if magic != MAGIC {
            return Err(DumpError::Foreign);
        }
        let mut at = MAGIC.len();
        let format = take(bytes, &mut at, "its format")?;
        if format != FORMAT {
            return Err(DumpError::Format(format));
        }
        let head: Head = frame(bytes, &mut at, "its head")?;
        let count: u64 = frame(bytes, &mut at, "the number of its blocks")?;
        let (mut blocks, mut entries_read) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let start = at;
            let block: Block = frame(bytes, &mut at, "a block of records")?;
            let found = entries(&block).map_err(|what| DumpError::Damaged { at: start, what })?;
            if let (Some(last), Some(first)) = (entries_read.last(), found.first()) {
                let (last, first): (&Entry, &Entry) = (last, first);
                if first.number <= last.number || first.at < last.at {
                    let what = "its blocks are not in order".to_owned();
                    return Err(DumpError::Damaged { at: start, what });
                }
            }
            entries_read.extend(found);
            blocks.push(block);
        }
        if at < bytes.len() {
            let what = format!("{} bytes follow its end", bytes.len() - at);
            return Err(DumpError::Damaged { at, what });
        }
        Ok((Dump { head, blocks }, entries_read))
    }
}

fn add_frame(out: &mut Vec<u8>, what: &impl Serialize) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME]);
    let taken = std::mem::take(out);
    *out = postcard::to_extend(what, taken).expect("dumps have no failing serializers");
    let body = &out[start + FRAME..];
    let (len, sum) = (
        u32::try_from(body.len()).unwrap_or(u32::MAX),
        crc32c::crc32c(body),
    );
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + FRAME].copy_from_slice(&sum.to_le_bytes());
}

fn take(bytes: &[u8], at: &mut usize, what: &'static str) -> Result<u32, DumpError> {
    let short = DumpError::Short {
        at: bytes.len(),
        what,
    };
    let number = bytes.get(*at..*at + 4).ok_or(short)?;
    *at += 4;
    Ok(number.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b)))
}

fn frame<T: DeserializeOwned>(
    bytes: &[u8],
    at: &mut usize,
    what: &'static str,
) -> Result<T, DumpError> {
    let start = *at;
    let damaged = |text: String| DumpError::Damaged {
        at: start,
        what: format!("{what}: {text}"),
    };
    let len = take(bytes, at, what)? as usize;
    let sum = take(bytes, at, what)?;
    if len > FRAME_MAX {
        return Err(damaged(format!("a length of {len}")));
    }
    let body = bytes.get(*at..*at + len).ok_or(DumpError::Short {
        at: bytes.len(),
        what,
    })?;
    *at += len;
    if crc32c::crc32c(body) != sum {
        return Err(damaged("the checksum does not match".to_owned()));
    }
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(damaged(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(damaged(error.to_string())),
    }
}

/// The records of a block.
pub(crate) fn entries(block: &Block) -> Result<Vec<Entry>, String> {
    let mut rest = block.bytes.as_slice();
    let mut at = block.base;
    // A record takes at least three bytes: no more room is taken than that many need.
    let mut found = Vec::with_capacity((block.count as usize).min(rest.len() / 3));
    while !rest.is_empty() {
        let number = block.first.checked_add(found.len() as u64);
        let number = number.ok_or("its records have numbers too large")?;
        let ((delta, record), left) = postcard::take_from_bytes::<(u64, Record)>(rest)
            .map_err(|error| format!("record {number}: {error}"))?;
        let time = at.0.checked_add(delta).ok_or("its times are too late")?;
        at = Instant(time);
        found.push(Entry { number, at, record });
        rest = left;
    }
    if found.len() != block.count as usize {
        return Err(format!(
            "a block of {} records has {}",
            block.count,
            found.len()
        ));
    }
    Ok(found)
}

/// The records of one recorder, from one dump or several that overlap, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// That of the latest dump.
    pub head: Head,
    /// The records.
    pub entries: Vec<Entry>,
    /// Records that no dump has, before the first or between two dumps.
    pub lost: u64,
}

impl Timeline {
    /// Joins the dumps of each recorder. Recorders are in the order of their nodes.
    #[must_use]
    pub fn join(dumps: Vec<(Head, Vec<Entry>)>) -> Vec<Timeline> {
        let mut all: Vec<Timeline> = Vec::new();
        for (head, entries) in dumps {
            let same =
                |t: &&mut Timeline| (t.head.node, t.head.recorder) == (head.node, head.recorder);
            match all.iter_mut().find(same) {
                Some(timeline) => {
                    timeline.entries.extend(entries);
                    if head.at > timeline.head.at {
                        timeline.head = head;
                    }
                }
                None => all.push(Timeline {
                    head,
                    entries,
                    lost: 0,
                }),
            }
        }
        for timeline in &mut all {
            timeline.entries.sort_by_key(|entry| entry.number);
            timeline.entries.dedup_by_key(|entry| entry.number);
            let made = timeline
                .entries
                .last()
                .map_or(0, |last| last.number.saturating_add(1));
            timeline.lost = made - timeline.entries.len() as u64;
        }
        all.sort_by_key(|t| (t.head.node, t.head.recorder));
        all
    }

    /// What is to be added to times of this timeline, in nanoseconds, to compare them with those of
    /// others; `shared`: all have the same clock.
    #[must_use]
    pub fn offset(&self, shared: bool) -> i128 {
        if shared {
            return 0;
        }
        i128::from(self.head.unix_ms) * 1_000_000 - i128::from(self.head.at.0)
    }

    /// Whether timelines have one clock.
    #[must_use]
    pub fn share_clock(all: &[Timeline]) -> bool {
        let first = all.first().map_or([0; 16], |t| t.head.clock);
        first != [0; 16] && all.iter().all(|t| t.head.clock == first)
    }
}
