//! Checksummed record log as bytes: encoding, scanning, torn and damaged records.
//!
//! A journal is a file header followed by batches. A batch is what one write and one fsync put on
//! disk: it is kept whole or dropped whole. The caller does the I/O; this crate turns records into
//! bytes ([`encode_file`], [`Appender`]) and bytes back into records ([`scan`]).
//!
//! # Layout
//!
//! Everything is little-endian and cut into sectors of [`SECTOR`] bytes. The header is sector 0.
//! Every batch starts on a sector boundary, so that no later write touches the sectors of an
//! earlier one. Every sector of a batch says which batch it belongs to, which part of it it is,
//! how many parts there are, and the checksum of the whole batch; and it carries its own CRC32C,
//! which is seeded with the disk id and the generation of the file, so that a sector of any other
//! journal never passes for one of this journal. A valid sector is never all zeros.
//!
//! | bytes of the header | content |
//! |---|---|
//! | 0..8 | `MNSTJRNL` |
//! | 8..12 | format version, now 1 |
//! | 12..16 | CRC32C of the 512 bytes, taken with this field zero |
//! | 16..24 | disk id |
//! | 24..32 | generation: 1 for a new directory, one more with each replacement of the file |
//! | 32..40 | sealed length: bytes that were complete before the file got its name |
//!
//! | bytes of a batch's sector | content |
//! |---|---|
//! | 0..4 | CRC32C of bytes 4..512, seeded with CRC32C(disk id, generation) |
//! | 4..6 | bytes used in this sector, 1 to 480; 480 in all but the last |
//! | 8..16 | batch number, from 1, one more each time |
//! | 16..20 | index of this sector in the batch, from 0 |
//! | 20..24 | number of sectors in the batch |
//! | 24..28 | CRC32C of the batch's data, seeded alike |
//! | 32..512 | data |
//!
//! The data of a batch's sectors, joined, is a row of records, each padded to 8 bytes:
//!
//! | bytes of a record | content |
//! |---|---|
//! | 0..8 | record number, from 1 within the file, one more each time |
//! | 8..12 | length of the payload |
//! | 12 | kind, free for the caller |
//! | 16.. | payload |
//!
//! Bytes not named are zero.
//!
//! # Torn or damaged
//!
//! The rules rest on two facts that the caller must provide: a batch is written only after the
//! fsync of the one before it has succeeded, and the file is put in place by a rename after its
//! first [`Header::sealed`] bytes were fsynced. Then power loss can leave only the last batch
//! incomplete, and a sector of it holds either what was written or, never having been written,
//! zeros; or the file ends early. Precisely that is [`Torn`]: the tail after the last complete
//! batch has only sectors that are all zeros, or that are valid sectors of the one next batch in
//! their right places and of the same write; it is no longer than that batch; the last sector may
//! be cut by the end of the file; and the tail does not reach into the sealed part. The caller
//! logs it and truncates the file to [`Scan::valid_len`]. No acknowledged record can be in it,
//! unless the disk lied about an fsync.
//!
//! Everything else is [`Damage`]: a sector that is neither zero nor valid, wherever it is; a
//! missing sector with any sector of a later batch behind it; a sector in the wrong place; loss
//! in the sealed part. A node must not start on it, for it may have forgotten what it promised.
//!
//! What cannot be told from a torn write: whole sectors of the *last* batch that turn into zeros,
//! or a file that loses bytes at its end, after the fsync was acknowledged.

#![forbid(unsafe_code)]

mod encode;
mod layout;
mod scan;

pub use encode::{Appender, TooLarge, encode_file, record_len};
pub use layout::{
    BATCH_DATA_MAX, BATCH_SECTORS_MAX, FORMAT_VERSION, Header, PAYLOAD_MAX, SECTOR, SECTOR_DATA,
};
pub use scan::{Damage, Flaw, Record, Scan, Torn, scan};
