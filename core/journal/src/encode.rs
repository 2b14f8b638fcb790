//! Records to bytes.

use mainstay_base::DiskId;

use crate::layout::{
    BATCH_DATA_MAX, Header, PAYLOAD_MAX, RECORD_HEADER, SECTOR, SECTOR_DATA, SectorHead,
};

/// Records that do not fit into one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{bytes} bytes of records do not fit into one batch of the journal, which holds {BATCH_DATA_MAX}"
)]
pub struct TooLarge {
    /// What the records take, at least.
    pub bytes: usize,
}

/// Bytes that a record with a payload of `payload` bytes takes of [`BATCH_DATA_MAX`].
#[must_use]
pub const fn record_len(payload: usize) -> usize {
    // Saturating, because the caller compares the result with a bound.
    RECORD_HEADER.saturating_add(match payload.checked_next_multiple_of(8) {
        Some(padded) => padded,
        None => usize::MAX,
    })
}

/// Turns records into batches for the end of one journal file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appender {
    seed: u32,
    next_batch: u64,
    next_record: u64,
    len: u64,
}

impl Appender {
    pub(crate) fn resume(header: &Header, next_batch: u64, next_record: u64, len: u64) -> Appender {
        Appender {
            seed: header.seed(),
            next_batch,
            next_record,
            len,
        }
    }

    /// Appends to `out` the bytes of one batch that holds `records`, all or nothing. The caller
    /// writes them at the file offset that [`Appender::len`] told before the call, and writes no
    /// further batch until their fsync has succeeded. No records make no bytes.
    ///
    /// # Errors
    /// If the records exceed one batch. Then `out` and the appender are as before.
    pub fn append<'a>(
        &mut self,
        records: impl IntoIterator<Item = (u8, &'a [u8])>,
        out: &mut Vec<u8>,
    ) -> Result<(), TooLarge> {
        let mut data = Vec::new();
        let mut next_record = self.next_record;
        for (kind, payload) in records {
            let bytes = data.len().saturating_add(record_len(payload.len()));
            if bytes > BATCH_DATA_MAX {
                return Err(TooLarge { bytes });
            }
            encode_record(next_record, kind, payload, &mut data);
            next_record += 1;
        }
        if data.is_empty() {
            return Ok(());
        }
        let count = data.len().div_ceil(SECTOR_DATA);
        let batch_crc = crc32c::crc32c_append(self.seed, &data);
        out.reserve(count * SECTOR);
        // `count` is at most `BATCH_SECTORS_MAX` and a chunk at most 480, by the check above.
        for (index, chunk) in data.chunks(SECTOR_DATA).enumerate() {
            let head = SectorHead {
                batch: self.next_batch,
                index: index as u32,
                count: count as u32,
                used: chunk.len() as u16,
                batch_crc,
            };
            head.encode(self.seed, chunk, out);
        }
        self.next_batch += 1;
        self.next_record = next_record;
        self.len += (count * SECTOR) as u64;
        Ok(())
    }

    /// Length of the file in bytes when everything appended so far has been written.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a journal has at least its header"
    )]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Number that the next record gets.
    #[must_use]
    pub fn next_record(&self) -> u64 {
        self.next_record
    }
}

fn encode_record(number: u64, kind: u8, payload: &[u8], data: &mut Vec<u8>) {
    let end = data.len() + record_len(payload.len());
    data.extend_from_slice(&number.to_le_bytes());
    // Within `u32`: the caller has checked the record against `BATCH_DATA_MAX`.
    data.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    data.extend_from_slice(&[kind, 0, 0, 0]);
    data.extend_from_slice(payload);
    data.resize(end, 0);
}

/// A whole new journal that holds `records`, in as many batches as it takes, and the appender for
/// its end. The caller writes and fsyncs the bytes under another name and then renames the file
/// into place: all of them are sealed.
///
/// # Errors
/// If a single record exceeds [`PAYLOAD_MAX`].
pub fn encode_file<'a>(
    disk: DiskId,
    generation: u64,
    records: impl IntoIterator<Item = (u8, &'a [u8])>,
) -> Result<(Vec<u8>, Appender), TooLarge> {
    let mut header = Header {
        disk,
        generation,
        sealed: SECTOR as u64,
    };
    let mut appender = Appender::resume(&header, 1, 1, SECTOR as u64);
    let mut file = vec![0; SECTOR];
    let mut group: Vec<(u8, &[u8])> = Vec::new();
    let mut bytes = 0_usize;
    for (kind, payload) in records {
        let more = record_len(payload.len());
        if payload.len() > PAYLOAD_MAX {
            return Err(TooLarge { bytes: more });
        }
        if bytes + more > BATCH_DATA_MAX {
            appender.append(group.drain(..), &mut file)?;
            bytes = 0;
        }
        group.push((kind, payload));
        bytes += more;
    }
    appender.append(group, &mut file)?;
    header.sealed = appender.len;
    file[..SECTOR].copy_from_slice(&header.encode());
    Ok((file, appender))
}
