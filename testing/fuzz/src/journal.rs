//! Journal files: torn, damaged, and forged with right checksums.

use crate::{Feed, memory::bounded};
use mainstay_base::DiskId;
use mainstay_journal::{SECTOR, SECTOR_DATA, Scan, encode_file, scan};
use mainstay_store::{OpenOptions, StateDir};

/// A file as the input says: bytes as they are, the same with right checksums, or a true journal that
/// was tampered with, cut, and partly zeroed.
fn file(data: &[u8]) -> Vec<u8> {
    let mut feed = Feed::new(data);
    match feed.byte() % 4 {
        0 => feed.rest().to_vec(),
        1 => {
            let mut file = feed.rest().to_vec();
            seal(&mut file);
            file
        }
        how => {
            let mut file = built(&mut feed);
            feed.tamper(&mut file);
            if feed.byte() % 2 == 1 {
                let sector = usize::from(feed.byte()) * SECTOR;
                if let Some(sector) = file.get_mut(sector..sector + SECTOR) {
                    sector.fill(0);
                }
            }
            if feed.byte() % 2 == 1 {
                let len = usize::from(feed.u16()).min(file.len());
                file.truncate(len);
            }
            if how == 3 {
                seal(&mut file);
            }
            file
        }
    }
}

fn built(feed: &mut Feed<'_>) -> Vec<u8> {
    let (mut file, mut appender) = encode_file(DiskId(7), 3, []).expect("no records fit");
    for _ in 0..feed.byte() % 4 {
        let (kind, payload) = (feed.byte(), feed.block());
        let second = (kind, &payload[..payload.len() / 2]);
        let records = [(kind, payload), second];
        let fits = appender.append(records, &mut file);
        fits.expect("two records of 64 KiB fit");
    }
    file
}

/// Gives header, batches and sectors the checksums that fit what stands there, so that forged
/// content gets past them.
fn seal(file: &mut [u8]) {
    let Some((header, body)) = file.split_first_chunk_mut::<SECTOR>() else {
        return;
    };
    header[12..16].fill(0);
    let crc = crc32c::crc32c(header);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    let seed = crc32c::crc32c_append(crc32c::crc32c(&header[16..24]), &header[24..32]);
    let (sectors, _) = body.as_chunks_mut::<SECTOR>();
    let mut at = 0;
    while at < sectors.len() {
        let count = u32::from_le_bytes([
            sectors[at][20],
            sectors[at][21],
            sectors[at][22],
            sectors[at][23],
        ]);
        let count = (count as usize).clamp(1, sectors.len() - at);
        let batch = &mut sectors[at..at + count];
        let data: Vec<u8> = batch.iter().flat_map(|s| used(s).to_vec()).collect();
        let crc = crc32c::crc32c_append(seed, &data).to_le_bytes();
        for sector in batch {
            if sector.iter().any(|byte| *byte != 0) {
                sector[24..28].copy_from_slice(&crc);
                let own = crc32c::crc32c_append(seed, &sector[4..]);
                sector[..4].copy_from_slice(&own.to_le_bytes());
            }
        }
        at += count;
    }
}

fn used(sector: &[u8; SECTOR]) -> &[u8] {
    let used = usize::from(u16::from_le_bytes([sector[4], sector[5]]));
    &sector[32..32 + used.min(SECTOR_DATA)]
}

fn assert_sound(file: &[u8], found: &Scan) {
    let valid = usize::try_from(found.valid_len()).expect("within the file");
    assert!(valid <= file.len() && found.last_batch <= found.valid_len());
    for (number, record) in (1_u64..).zip(&found.records) {
        assert_eq!(record.seq, number, "records are numbered from 1");
    }
    let mut longer = file[..valid].to_vec();
    let cut = scan(&longer).expect("what a scan keeps is sound");
    assert_eq!((&cut.records, cut.torn), (&found.records, None));
    let mut appender = found.appender.clone();
    appender
        .append([(9, &b"more"[..])], &mut longer)
        .expect("four bytes fit");
    let more = scan(&longer).expect("appending after a scan keeps the journal sound");
    assert_eq!(more.records.len(), found.records.len() + 1);
    assert_eq!(more.records[..found.records.len()], found.records[..]);
}

/// The scan alone.
pub(crate) fn scanning(data: &[u8]) {
    let file = file(data);
    let limit = 8 * file.len() + 4096;
    if let Ok(found) = bounded("journal scan", limit, || scan(&file)) {
        assert_sound(&file, &found);
    }
}

/// A state directory whose journal is such a file.
pub(crate) fn opening(data: &[u8]) {
    let file = file(data);
    let temporary = tempfile::tempdir().expect("the system has room for temporary files");
    let dir = temporary.path().join("state");
    let options = OpenOptions { create: true };
    drop(StateDir::open(&dir, options).expect("an empty directory can be taken"));
    let journal = dir.join("journal");
    std::fs::write(&journal, &file).expect("our own file can be written");
    let limit = 16 * file.len() + (64 << 10);
    match bounded("state directory", limit, || StateDir::open(&dir, options)) {
        Ok((opened, recovered)) => {
            let found = scan(&file).expect("what opens is sound");
            let records = found.records.into_iter().map(|r| (r.kind, r.payload));
            assert!(records.eq(recovered.records.iter().cloned()));
            assert!(!recovered.fresh, "records must not be taken for none");
            drop(opened);
            let (_, again) = StateDir::open(&dir, options).expect("opens again");
            assert_eq!(
                again.records, recovered.records,
                "opened twice, read the same"
            );
            assert_eq!(again.torn, None, "the torn tail was cut off");
        }
        Err(_) => {
            let left = std::fs::read(&journal).expect("still there");
            assert_eq!(left, file, "a journal that was refused was changed");
        }
    }
}
