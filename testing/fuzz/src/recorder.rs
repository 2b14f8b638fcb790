//! Dumps of the flight recorder: damaged ones, and forged ones with right checksums.

use crate::{Feed, memory::bounded};
use core::time::Duration;
use mainstay_recorder::{Dump, check};

/// Allocated in proportion to a dump's length: a record of three bytes is a hundred or so when it is
/// read, and playing it again remembers locks and resources.
const FACTOR: usize = 512;

/// The decoder, and what is concluded from what it read.
pub(crate) fn dump(data: &[u8]) {
    let mut feed = Feed::new(data);
    let sealed = feed.byte() % 2 == 1;
    let mut bytes = feed.rest().to_vec();
    if sealed {
        seal(&mut bytes);
    }
    let limit = (64 << 10) + FACTOR * bytes.len();
    let read = bounded("dump", limit, || Dump::decode(&bytes));
    let Ok((dump, entries)) = read else {
        return;
    };
    let again = Dump::decode(&dump.encode()).expect("what was read can be written");
    assert_eq!(again, (dump.clone(), entries.clone()));
    bounded("check of a dump", limit, || {
        let twice = vec![(dump.head.clone(), entries.clone()), (dump.head, entries)];
        check(twice, Duration::from_millis(100))
    });
}

/// Sets the checksums of all frames right.
fn seal(bytes: &mut [u8]) {
    let mut at = 12;
    while let Some(head) = bytes.get(at..at + 8) {
        let len = head[..4]
            .iter()
            .rev()
            .fold(0usize, |n, b| n << 8 | usize::from(*b));
        let Some(body) = bytes.get(at + 8..at + 8 + len) else {
            return;
        };
        let sum = crc32c::crc32c(body).to_le_bytes();
        bytes[at + 4..at + 8].copy_from_slice(&sum);
        at += 8 + len;
    }
}
