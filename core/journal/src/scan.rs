//! Bytes to records, and the verdict on what is not a record.

use core::fmt;

use crate::encode::{Appender, record_len};
use crate::layout::{
    BATCH_SECTORS_MAX, BadHeader, FORMAT_VERSION, Header, RECORD_HEADER, SECTOR, SectorHead,
    u32_at, u64_at,
};

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number, from 1 within the file.
    pub seq: u64,
    /// The caller's kind.
    pub kind: u8,
    /// The caller's bytes.
    pub payload: Vec<u8>,
}

/// The remains of a batch whose write did not finish. None of its records was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// File offset at which it starts, in bytes.
    pub offset: u64,
    /// Bytes from there to the end of the file.
    pub bytes: u64,
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unfinished write of {} bytes at offset {}",
            self.bytes, self.offset
        )
    }
}

/// What a journal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The file header.
    pub header: Header,
    /// Every record of every complete batch, in order.
    pub records: Vec<Record>,
    /// File offset in bytes of the last complete batch; `valid_len` if there is none. After a
    /// crash this batch alone may be complete to the reader and yet not durable, because its
    /// fsync was not waited for or failed: the caller writes it again before it relies on it.
    pub last_batch: u64,
    /// The tail to cut off, if the last write did not finish.
    pub torn: Option<Torn>,
    /// Appends after the last complete batch, once the file has been cut to `valid_len`.
    pub appender: Appender,
}

impl Scan {
    /// Length in bytes of the header and all complete batches.
    #[must_use]
    pub fn valid_len(&self) -> u64 {
        self.appender.len()
    }
}

/// Why a journal must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The file does not start as a journal does.
    #[error("not a journal: the file does not start with MNSTJRNL")]
    NotAJournal,
    /// The file is sound but of another format.
    #[error("format version {found}; this program reads version {FORMAT_VERSION}")]
    Version {
        /// The version of the file.
        found: u32,
    },
    /// Bytes that were once complete are no longer what was written.
    #[error("at offset {offset} (record {seq} and later are unreadable): {what}")]
    Corrupted {
        /// File offset in bytes of the first bad or missing sector.
        offset: u64,
        /// Number of the first record that cannot be read.
        seq: u64,
        /// What is wrong there.
        what: Flaw,
    },
}

/// What is wrong with the bytes at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The file is shorter than a header.
    #[error("the file ends within its header")]
    ShortHeader,
    /// The header is not as it was written.
    #[error("the header does not match its checksum")]
    Header,
    /// The header names an impossible sealed length.
    #[error("the header names an impossible sealed length")]
    SealedLength,
    /// A sector is neither zero nor as it was written.
    #[error("the sector does not match its checksum")]
    Checksum,
    /// A sector was lost although a later batch was written.
    #[error("the sector is missing, yet batch {later} was written after it")]
    Missing {
        /// A batch that was begun only after this one was safe.
        later: u64,
    },
    /// A sector that belongs elsewhere.
    #[error("the sector belongs elsewhere: it is sector {index} of batch {batch}")]
    Misplaced {
        /// The batch that the sector claims.
        batch: u64,
        /// The place in that batch that it claims.
        index: u32,
    },
    /// Sectors of two different writes of one batch.
    #[error("the sector is of another write than those before it")]
    Mixed,
    /// An incomplete batch with more behind it than it can have.
    #[error("the unfinished write is longer than any that could have been begun")]
    TooLong,
    /// Complete sectors whose content makes no records.
    #[error("every sector matches its checksum, but the records in them do not parse")]
    Records,
    /// Loss in the part that was complete when the file was put in place.
    #[error("bytes are missing below offset {sealed}, up to which the file was once complete")]
    Sealed {
        /// The sealed length in bytes.
        sealed: u64,
    },
}

/// Reads a journal. Allocates no more than a small multiple of `file`, whatever its bytes.
///
/// # Errors
/// [`Damage`] if the bytes are anything but complete batches and at most one unfinished write
/// after them; the module documentation has the rules.
pub fn scan(file: &[u8]) -> Result<Scan, Damage> {
    let header = Header::decode(file).map_err(|bad| {
        let what = match bad {
            BadHeader::Magic => return Damage::NotAJournal,
            BadHeader::Version(found) => return Damage::Version { found },
            BadHeader::Short => Flaw::ShortHeader,
            BadHeader::Checksum => Flaw::Header,
            BadHeader::Sealed => Flaw::SealedLength,
        };
        Damage::Corrupted {
            offset: 0,
            seq: 1,
            what,
        }
    })?;
    let seed = header.seed();
    let mut records = Vec::new();
    let mut batch = 1;
    let mut seq = 1;
    let mut rest = &file[SECTOR..];
    let mut last_batch = SECTOR as u64;
    let offset_of = |rest: &[u8]| (file.len() - rest.len()) as u64;
    let torn = loop {
        if rest.is_empty() {
            break None;
        }
        let corrupted = |(sector, what): (usize, Flaw)| Damage::Corrupted {
            offset: offset_of(rest) + (sector * SECTOR) as u64,
            seq,
            what,
        };
        match complete_batch(seed, batch, rest) {
            Some((data, sectors)) => {
                let next = parse_records(seq, &data, &mut records);
                seq = next.ok_or_else(|| corrupted((0, Flaw::Records)))?;
                batch += 1;
                last_batch = offset_of(rest);
                rest = &rest[sectors * SECTOR..];
            }
            None => {
                check_torn(seed, batch, rest).map_err(corrupted)?;
                break Some(Torn {
                    offset: offset_of(rest),
                    bytes: rest.len() as u64,
                });
            }
        }
    };
    let valid_len = offset_of(rest);
    if valid_len < header.sealed {
        return Err(Damage::Corrupted {
            offset: valid_len,
            seq,
            what: Flaw::Sealed {
                sealed: header.sealed,
            },
        });
    }
    Ok(Scan {
        header,
        records,
        last_batch,
        torn,
        appender: Appender::resume(&header, batch, seq, valid_len),
    })
}

/// The data of batch number `batch` and its number of sectors, if `tail` starts with all of it.
fn complete_batch(seed: u32, batch: u64, tail: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (sectors, _) = tail.as_chunks::<SECTOR>();
    let (first, _) = SectorHead::decode(seed, sectors.first()?)?;
    let count = first.count as usize;
    let mut data = Vec::new();
    for (index, sector) in sectors.get(..count)?.iter().enumerate() {
        let (head, part) = SectorHead::decode(seed, sector)?;
        let expected = SectorHead {
            batch,
            index: index as u32,
            used: head.used,
            ..first
        };
        if head != expected {
            return None;
        }
        data.extend_from_slice(part);
    }
    (crc32c::crc32c_append(seed, &data) == first.batch_crc).then_some((data, count))
}

/// Pushes the records of a batch; returns the number of the record after them. `None` if the data
/// is not a row of records numbered from `seq`.
fn parse_records(mut seq: u64, mut data: &[u8], records: &mut Vec<Record>) -> Option<u64> {
    while !data.is_empty() {
        let head = data.get(..RECORD_HEADER)?;
        let len = u32_at(head, 8) as usize;
        let payload = data.get(RECORD_HEADER..)?.get(..len)?;
        let rest = data.get(record_len(len)..)?;
        if u64_at(head, 0) != seq {
            return None;
        }
        records.push(Record {
            seq,
            kind: head[12],
            payload: payload.to_vec(),
        });
        seq += 1;
        data = rest;
    }
    Some(seq)
}

/// Whether `tail`, which does not start with a complete batch, is what an unfinished write of
/// batch number `batch` leaves. If not: the first flaw, and in which sector of the tail.
fn check_torn(seed: u32, batch: u64, tail: &[u8]) -> Result<(), (usize, Flaw)> {
    let (sectors, cut) = tail.as_chunks::<SECTOR>();
    let mut first_missing = None;
    let mut of_batch: Option<SectorHead> = None;
    for (place, sector) in sectors.iter().enumerate() {
        if sector.iter().all(|byte| *byte == 0) {
            first_missing.get_or_insert(place);
            continue;
        }
        let Some((head, _)) = SectorHead::decode(seed, sector) else {
            return Err((place, Flaw::Checksum));
        };
        if head.batch > batch
            && let Some(missing) = first_missing
        {
            return Err((missing, Flaw::Missing { later: head.batch }));
        }
        if head.batch != batch || head.index as usize != place {
            let (batch, index) = (head.batch, head.index);
            return Err((place, Flaw::Misplaced { batch, index }));
        }
        match of_batch {
            None => of_batch = Some(head),
            Some(other) if (other.count, other.batch_crc) == (head.count, head.batch_crc) => {}
            Some(_) => return Err((place, Flaw::Mixed)),
        }
    }
    let longest = of_batch.map_or(BATCH_SECTORS_MAX, |head| head.count) as usize;
    let length = sectors.len() + usize::from(!cut.is_empty());
    if length > longest {
        return Err((longest, Flaw::TooLong));
    }
    if of_batch.is_some() && first_missing.is_none() && length == longest && cut.is_empty() {
        // Nothing is missing, so the batch would have been complete were its checksum right.
        return Err((0, Flaw::Records));
    }
    Ok(())
}
