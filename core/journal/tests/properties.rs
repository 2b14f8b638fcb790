//! The journal against arbitrary content, power loss and bit rot.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use mainstay_base::DiskId;
use mainstay_journal::{
    Appender, BATCH_DATA_MAX, Damage, Flaw, PAYLOAD_MAX, Record, SECTOR, Scan, TooLarge,
    encode_file, record_len, scan,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;

type Batch = Vec<(u8, Vec<u8>)>;

fn view(batch: &Batch) -> impl Iterator<Item = (u8, &[u8])> {
    batch.iter().map(|(kind, payload)| (*kind, &payload[..]))
}

/// A file that was created with `base` and then got one batch after the other, and the lengths
/// it had after each step.
fn build(base: &Batch, batches: &[Batch]) -> (Vec<u8>, Vec<usize>) {
    let (mut file, mut appender) = encode_file(DiskId(7), 3, view(base)).unwrap();
    let mut ends = vec![file.len()];
    for batch in batches {
        assert_eq!(appender.len(), file.len() as u64);
        appender.append(view(batch), &mut file).unwrap();
        ends.push(file.len());
    }
    (file, ends)
}

fn expected<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Vec<Record> {
    let all = batches.into_iter().flatten();
    all.zip(1..)
        .map(|((kind, payload), seq)| Record {
            seq,
            kind: *kind,
            payload: payload.clone(),
        })
        .collect()
}

/// Payloads of zeros are the hard case for telling torn from intact, so they are frequent.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..40),
        vec(any::<u8>(), 400..2000),
        (0_usize..3000).prop_map(|len| vec![0; len]),
    ]
}

fn batch() -> impl Strategy<Value = Batch> {
    vec((any::<u8>(), payload()), 1..5)
}

fn assert_torn_at(scan: &Scan, offset: usize, len: usize) {
    let torn = scan.torn.expect("a torn tail");
    assert_eq!(torn.offset, offset as u64);
    assert_eq!(torn.bytes, (len - offset) as u64);
    assert_eq!(scan.valid_len(), offset as u64);
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(0x6a6f_7572_6e61_6c31),
        failure_persistence: None,
        ..ProptestConfig::with_cases(400)
    })]

    /// What was appended is what is read, and appending goes on after a scan as if it had never
    /// stopped.
    #[test]
    fn round_trip(base in vec((any::<u8>(), payload()), 0..4), batches in vec(batch(), 0..5), more in batch()) {
        let (mut file, ends) = build(&base, &batches);
        let mut found = scan(&file).unwrap();
        prop_assert_eq!(&found.records, &expected([&base].into_iter().chain(&batches)));
        prop_assert_eq!(found.torn, None);
        prop_assert_eq!(found.valid_len(), file.len() as u64);
        if !batches.is_empty() {
            prop_assert_eq!(found.last_batch, ends[batches.len() - 1] as u64);
        }
        prop_assert_eq!(found.header.disk, DiskId(7));
        prop_assert_eq!(found.header.generation, 3);
        found.appender.append(view(&more), &mut file).unwrap();
        let found = scan(&file).unwrap();
        prop_assert_eq!(&found.records, &expected([&base].into_iter().chain(&batches).chain([&more])));
    }

    /// A file that ends anywhere after its sealed part gives the batches that are whole; one that
    /// ends within it is damaged.
    #[test]
    fn truncation(base in batch(), batches in vec(batch(), 1..4), at in any::<Index>()) {
        let (file, ends) = build(&base, &batches);
        let len = at.index(file.len() + 1);
        let result = scan(&file[..len]);
        if len < ends[0] {
            let damaged = matches!(result, Err(Damage::NotAJournal | Damage::Corrupted { .. }));
            prop_assert!(damaged, "{result:?}");
        } else {
            let found = result.unwrap();
            let whole = ends.iter().filter(|end| **end <= len).count() - 1;
            prop_assert_eq!(&found.records, &expected([&base].into_iter().chain(&batches[..whole])));
            if len == ends[whole] {
                prop_assert_eq!(found.torn, None);
            } else {
                assert_torn_at(&found, ends[whole], len);
            }
        }
    }

    /// Whatever subset of the last batch's sectors power loss leaves unwritten, and wherever the
    /// file then ends, the earlier batches are all there and the last is dropped whole.
    #[test]
    fn unwritten_sectors(base in batch(), batches in vec(batch(), 1..4), lost in vec(any::<bool>(), 64), cut in any::<Index>(), cuts in any::<bool>()) {
        let (mut file, ends) = build(&base, &batches);
        let start = ends[batches.len() - 1];
        let mut loses = false;
        for (sector, lost) in file[start..].chunks_mut(SECTOR).zip(lost) {
            if lost {
                sector.fill(0);
                loses = true;
            }
        }
        if cuts {
            file.truncate(start + 1 + cut.index(file.len() - start));
        }
        loses |= file.len() < *ends.last().unwrap();
        let found = scan(&file).unwrap();
        let kept = if loses { batches.len() - 1 } else { batches.len() };
        prop_assert_eq!(&found.records, &expected([&base].into_iter().chain(&batches[..kept])));
        if loses {
            assert_torn_at(&found, start, file.len());
        } else {
            prop_assert_eq!(found.torn, None);
        }
    }

    /// One flipped bit anywhere, the last batch included, is damage and never a torn write, and
    /// the report names the sector that has it.
    #[test]
    fn bit_flip(base in batch(), batches in vec(batch(), 1..4), at in any::<Index>(), bit in 0..8_u32) {
        let (mut file, _) = build(&base, &batches);
        let at = at.index(file.len());
        file[at] ^= 1 << bit;
        match scan(&file) {
            Err(Damage::NotAJournal) => prop_assert!(at < 8),
            Err(Damage::Corrupted { offset, what, .. }) => {
                prop_assert_eq!(offset, (at / SECTOR * SECTOR) as u64);
                prop_assert_eq!(what, if at < SECTOR { Flaw::Header } else { Flaw::Checksum });
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    /// A torn last write does not hide damage: a flipped bit in what is left of it, or in front of
    /// it, still stops the node.
    #[test]
    fn bit_flip_beside_torn(base in batch(), batches in vec(batch(), 2..4), at in any::<Index>(), bit in 0..8_u32) {
        let (mut file, ends) = build(&base, &batches);
        let last = ends[batches.len() - 1];
        file[last..last + SECTOR].fill(0);
        let at = at.index(last - SECTOR) + SECTOR;
        file[at] ^= 1 << bit;
        let damaged = matches!(scan(&file), Err(Damage::Corrupted { what: Flaw::Checksum, .. }));
        prop_assert!(damaged);
    }

    /// Sectors lost from a batch that is not the last cannot come from power loss.
    #[test]
    fn lost_sector_of_an_earlier_batch(base in batch(), batches in vec(batch(), 2..5), at in any::<Index>()) {
        let (mut file, ends) = build(&base, &batches);
        let before_last = ends[batches.len() - 1];
        let sector = 1 + at.index(before_last / SECTOR - 1);
        file[sector * SECTOR..][..SECTOR].fill(0);
        match scan(&file) {
            Err(Damage::Corrupted { offset, what: Flaw::Missing { later }, .. }) => {
                prop_assert_eq!(offset, (sector * SECTOR) as u64);
                prop_assert!(later > 1);
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    /// Any two sectors changing places is noticed.
    #[test]
    fn swapped_sectors(base in batch(), batches in vec(batch(), 1..4), a in any::<Index>(), b in any::<Index>()) {
        let (mut file, _) = build(&base, &batches);
        let sectors = file.len() / SECTOR;
        let (a, b) = (a.index(sectors) * SECTOR, b.index(sectors) * SECTOR);
        prop_assume!(a != b);
        let copy = file[a..a + SECTOR].to_vec();
        file.copy_within(b..b + SECTOR, a);
        file[b..b + SECTOR].copy_from_slice(&copy);
        prop_assert!(scan(&file).is_err());
    }

    /// Arbitrary bytes, alone or behind a good header, are read without panic.
    #[test]
    fn hostile_bytes(noise in vec(any::<u8>(), 0..4000), with_header in any::<bool>()) {
        let (mut file, _) = encode_file(DiskId(1), 1, []).unwrap();
        if !with_header {
            file.clear();
        }
        file.extend_from_slice(&noise);
        if let Ok(found) = scan(&file) {
            prop_assert!(with_header && found.records.is_empty());
        }
    }

    /// Many random changes at once never panic, and no record that the file did not hold is made.
    #[test]
    fn rewritten_places(base in batch(), batches in vec(batch(), 1..4), changes in vec((any::<Index>(), any::<u8>(), 1_usize..600), 1..6)) {
        let (mut file, _) = build(&base, &batches);
        let all = expected([&base].into_iter().chain(&batches));
        for (at, byte, len) in changes {
            let at = at.index(file.len());
            let end = (at + len).min(file.len());
            file[at..end].fill(byte);
        }
        if let Ok(found) = scan(&file) {
            prop_assert!(all.starts_with(&found.records));
        }
    }
}

/// A record of the longest payload fits, one byte more is refused and leaves the appender as it was.
#[test]
fn size_bounds() {
    let longest = vec![1; PAYLOAD_MAX];
    let (file, mut appender) = encode_file(DiskId(1), 1, [(1, &longest[..])]).unwrap();
    assert_eq!(scan(&file).unwrap().records[0].payload, longest);

    let before = appender.clone();
    let mut out = Vec::new();
    let longer = vec![1; PAYLOAD_MAX + 1];
    let refused: Result<(), TooLarge> = appender.append([(1, &longer[..])], &mut out);
    assert!(refused.unwrap_err().bytes > BATCH_DATA_MAX);
    assert!(out.is_empty());
    assert_eq!(appender, before);
    assert!(encode_file(DiskId(1), 1, [(1, &longer[..])]).is_err());
    assert_eq!(record_len(usize::MAX), usize::MAX);
}

/// A file made from more records than one batch holds is read back whole: a replacement of the
/// journal has no limit of its own.
#[test]
fn a_file_of_several_batches() {
    let third = vec![9; BATCH_DATA_MAX / 3];
    let (file, _) = encode_file(DiskId(1), 1, (0..7).map(|kind| (kind, &third[..]))).unwrap();
    let found = scan(&file).unwrap();
    let kinds: Vec<u8> = found.records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(found.header.sealed, file.len() as u64);
}

/// Sectors left over from another journal, or from an earlier file of the same directory, do not
/// pass for this one's.
#[test]
fn sectors_of_another_file() {
    let record = [(1, &b"payload"[..])];
    let append = |disk, generation| {
        let (mut file, mut appender) = encode_file(DiskId(disk), generation, []).unwrap();
        appender.append(record, &mut file).unwrap();
        file
    };
    let ours = append(1, 1);
    for other in [append(2, 1), append(1, 2)] {
        let mut mixed = ours.clone();
        mixed[SECTOR..].copy_from_slice(&other[SECTOR..]);
        assert!(matches!(
            scan(&mixed),
            Err(Damage::Corrupted {
                offset: 512,
                seq: 1,
                what: Flaw::Checksum
            })
        ));
    }
}

/// Two attempts at the same batch, of which each left some sectors, are not put together.
#[test]
fn sectors_of_two_attempts() {
    let (file, appender) = encode_file(DiskId(1), 1, []).unwrap();
    let attempt = |byte: u8, mut appender: Appender| {
        let mut out = Vec::new();
        appender.append([(1, &[byte; 900][..])], &mut out).unwrap();
        out
    };
    let (first, second) = (attempt(1, appender.clone()), attempt(2, appender));
    let mixed = [&file[..], &first[..SECTOR], &second[SECTOR..]].concat();
    assert!(matches!(
        scan(&mixed),
        Err(Damage::Corrupted {
            offset: 1024,
            what: Flaw::Mixed,
            ..
        })
    ));
}

/// The bytes of version 1 do not change unnoticed: this file is read by every later program.
#[test]
fn golden_bytes() {
    let (mut file, mut appender) = encode_file(DiskId(0x0102_0304), 1, []).unwrap();
    appender.append([(5, &b"abc"[..])], &mut file).unwrap();
    assert_eq!(file.len(), 2 * SECTOR);
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    assert_eq!(
        hex(&file[..40]),
        "4d4e53544a524e4c010000002b96200b040302010000000001000000000000000002000000000000"
    );
    assert_eq!(
        hex(&file[512..568]),
        "a653c826180000000100000000000000000000000100000023342e2f00000000010000000000000003000000050000006162630000000000"
    );
    assert!(
        file[40..512]
            .iter()
            .chain(&file[568..])
            .all(|byte| *byte == 0)
    );
}

/// A file of a later format says so, instead of looking damaged.
#[test]
fn later_version() {
    let (mut file, _) = encode_file(DiskId(1), 1, []).unwrap();
    file[8] = 2;
    assert!(matches!(
        scan(&file),
        Err(Damage::Corrupted {
            what: Flaw::Header,
            ..
        })
    ));
    file[12..16].fill(0);
    let crc = crc32c::crc32c(&file[..SECTOR]);
    file[12..16].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(scan(&file), Err(Damage::Version { found: 2 }));
}
