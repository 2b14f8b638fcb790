//! Golden bytes: journals keep the format that was once released, for a state directory outlives the
//! build that wrote it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use mainstay_base::DiskId;
use mainstay_journal::{SECTOR, encode_file, scan};

#[path = "../../wire/tests/golden/check.rs"]
mod check;

/// A file of a header and two batches, the second of two sectors.
fn file() -> Vec<u8> {
    let first = [(1, &b"founding"[..]), (2, &b""[..])];
    let (mut file, mut appender) = encode_file(DiskId(0x0102_0304_0506_0708), 3, first).unwrap();
    appender.append([(2, &[0xab; 500][..])], &mut file).unwrap();
    file
}

/// Protects state directories from an upgrade: header, sectors and records, to the byte. Each line is
/// a sector without the zeros at its end.
#[test]
fn sectors_keep_their_bytes() {
    let file = file();
    let sectors = file.chunks(SECTOR).enumerate().map(|(index, sector)| {
        let used = SECTOR - sector.iter().rev().take_while(|byte| **byte == 0).count();
        (format!("sector-{index}"), sector[..used].to_vec())
    });
    let sectors: Vec<_> = sectors.collect();
    assert_eq!(sectors.len(), 4);
    let golden = check::golden(
        "sectors.txt",
        include_str!("golden/sectors.txt"),
        "FORMAT_VERSION in core/journal/src/layout.rs",
        &sectors,
    );
    let mut old = Vec::new();
    for mut sector in golden {
        sector.resize(SECTOR, 0);
        old.append(&mut sector);
    }
    let found = scan(&old).unwrap();
    assert_eq!(
        (found.header.disk.0, found.header.generation),
        (0x0102_0304_0506_0708, 3)
    );
    let records: Vec<_> = found
        .records
        .iter()
        .map(|r| (r.seq, r.kind, r.payload.len()))
        .collect();
    assert_eq!(records, [(1, 1, 8), (2, 2, 0), (3, 2, 500)]);
}
