//! The bytes of a file header and of one sector of a batch.

use mainstay_base::DiskId;

/// Bytes that a disk writes as a whole or not at all; the unit of everything in a journal.
pub const SECTOR: usize = 512;
/// Bytes of data in one sector of a batch.
pub const SECTOR_DATA: usize = SECTOR - SECTOR_HEADER;
/// Most sectors in one batch.
pub const BATCH_SECTORS_MAX: u32 = 1 << 16;
/// Most bytes of data in one batch: the sum of [`crate::record_len`] over its records.
pub const BATCH_DATA_MAX: usize = BATCH_SECTORS_MAX as usize * SECTOR_DATA;
/// Longest payload of a record, in bytes.
pub const PAYLOAD_MAX: usize = BATCH_DATA_MAX - RECORD_HEADER;
/// Version of the file format that this crate writes and reads.
pub const FORMAT_VERSION: u32 = 1;

pub(crate) const SECTOR_HEADER: usize = 32;
pub(crate) const RECORD_HEADER: usize = 16;
const MAGIC: [u8; 8] = *b"MNSTJRNL";

/// What the first sector of a journal says about the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The state directory that the file belongs to.
    pub disk: DiskId,
    /// 1 for the first file of a directory, one more with each replacement.
    pub generation: u64,
    /// Length in bytes, header included, that was complete when the file was put in place.
    pub sealed: u64,
}

/// Why the first sector is not a header of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Short,
    Magic,
    Checksum,
    Version(u32),
    Sealed,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.disk.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.generation.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.sealed.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(file: &[u8]) -> Result<Header, BadHeader> {
        let Some((sector, _)) = file.split_first_chunk::<SECTOR>() else {
            return Err(BadHeader::Short);
        };
        if sector[..8] != MAGIC {
            return Err(BadHeader::Magic);
        }
        // The checksum before the version: a version is believed only when it is what was written.
        let mut zeroed = *sector;
        zeroed[12..16].fill(0);
        if crc32c::crc32c(&zeroed) != u32_at(sector, 12) {
            return Err(BadHeader::Checksum);
        }
        let version = u32_at(sector, 8);
        if version != FORMAT_VERSION {
            return Err(BadHeader::Version(version));
        }
        let header = Header {
            disk: DiskId(u64_at(sector, 16)),
            generation: u64_at(sector, 24),
            sealed: u64_at(sector, 32),
        };
        if header.sealed < SECTOR as u64 || !header.sealed.is_multiple_of(SECTOR as u64) {
            return Err(BadHeader::Sealed);
        }
        Ok(header)
    }

    /// Where the checksums of this file's sectors start from.
    pub(crate) fn seed(&self) -> u32 {
        let disk = crc32c::crc32c(&self.disk.0.to_le_bytes());
        crc32c::crc32c_append(disk, &self.generation.to_le_bytes())
    }
}

/// The head of one sector of a batch, without its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SectorHead {
    pub(crate) batch: u64,
    pub(crate) index: u32,
    pub(crate) count: u32,
    pub(crate) used: u16,
    pub(crate) batch_crc: u32,
}

impl SectorHead {
    /// Appends the sector that has this head and `data`, which is `used` bytes long.
    pub(crate) fn encode(&self, seed: u32, data: &[u8], out: &mut Vec<u8>) {
        let mut bytes = [0; SECTOR];
        bytes[4..6].copy_from_slice(&self.used.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.batch.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.index.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.count.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.batch_crc.to_le_bytes());
        bytes[SECTOR_HEADER..SECTOR_HEADER + data.len()].copy_from_slice(data);
        let crc = crc32c::crc32c_append(seed, &bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&bytes);
    }

    /// The head and data of a sector; `None` if it is not exactly what an encoder wrote.
    pub(crate) fn decode(seed: u32, sector: &[u8; SECTOR]) -> Option<(SectorHead, &[u8])> {
        if crc32c::crc32c_append(seed, &sector[4..]) != u32_at(sector, 0) {
            return None;
        }
        let head = SectorHead {
            batch: u64_at(sector, 8),
            index: u32_at(sector, 16),
            count: u32_at(sector, 20),
            used: u16::from_le_bytes([sector[4], sector[5]]),
            batch_crc: u32_at(sector, 24),
        };
        let used = usize::from(head.used);
        let last = head.index.checked_add(1)? == head.count;
        let plausible = head.index < head.count
            && head.count <= BATCH_SECTORS_MAX
            && (1..=SECTOR_DATA).contains(&used)
            && (last || used == SECTOR_DATA);
        plausible.then(|| (head, &sector[SECTOR_HEADER..SECTOR_HEADER + used]))
    }
}

/// Reads a number. `at + 4` must lie within `bytes`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

/// Reads a number. `at + 8` must lie within `bytes`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
