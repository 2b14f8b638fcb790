//! What locks on ranges of one resource cost on its master: `cargo bench -p mainstay-lock`.

#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use mainstay_base::{ByteRange, LockMode, Token};
use mainstay_lock::{
    Effect, Flags,
    ranges::{RangeAsk, Ranges},
};
use std::{hint::black_box, time::Duration};

/// A node and a lock number, the size of what the lock manager uses.
type Key = (u16, u64);

fn ask(start: u64, len: u64, mode: LockMode) -> RangeAsk {
    RangeAsk {
        range: ByteRange::new(start, start + len - 1).unwrap(),
        mode,
        flags: Flags::NONE,
        wants_bast: true,
    }
}

/// So many ranges of 8 bytes in EX, every 16 bytes, of 100 owners by turns.
fn many(count: u64) -> Ranges<Key> {
    let mut out = Vec::new();
    let mut ranges = Ranges::new(Token::NONE);
    for n in 0..count {
        let at = (n * 7919) % count;
        let key = (1, at % 100);
        ranges
            .call(key, ask(at * 16, 8, LockMode::Ex), &mut out)
            .unwrap();
        out.clear();
    }
    assert_eq!(ranges.held_count() as u64, count);
    ranges
}

fn set_and_clear(c: &mut Criterion) {
    let mut out: Vec<Effect<Key>> = Vec::with_capacity(16);
    for count in [100, 10_000, 100_000] {
        let mut ranges = many(count);
        let mut at = 0;
        c.bench_function(&format!("range set and given up among {count}"), |b| {
            b.iter(|| {
                out.clear();
                at = (at + 7919) % count;
                let key = black_box((2, 1));
                let range = ask(at * 16 + 9, 6, LockMode::Ex);
                ranges.call(key, range, &mut out).unwrap();
                ranges
                    .weaken(key, range.range, LockMode::Nl, &mut out)
                    .unwrap();
                out.len()
            });
        });
        // All of one owner's and others' ranges are in the asked one.
        c.bench_function(&format!("range of all refused among {count}"), |b| {
            b.iter(|| {
                out.clear();
                let mut all = ask(0, u64::MAX, LockMode::Cr);
                all.flags = Flags::NOQUEUE;
                ranges.call(black_box((1, 0)), all, &mut out).unwrap();
                out.len()
            });
        });
    }
}

fn hand_over(c: &mut Criterion) {
    let mut out: Vec<Effect<Key>> = Vec::with_capacity(16);
    for waiters in [10, 1_000, 100_000] {
        let mut ranges = Ranges::new(Token::NONE);
        let one = ask(100, 10, LockMode::Ex);
        for lock in 0..=waiters {
            out.clear();
            ranges.call((1, lock), one, &mut out).unwrap();
        }
        let (mut holder, mut next) = (0, waiters + 1);
        let name = format!("hand-over of a range, {waiters} waiters stay behind");
        c.bench_function(&name, |b| {
            b.iter(|| {
                out.clear();
                ranges.call((1, next), one, &mut out).unwrap();
                ranges.release((1, holder), &mut out);
                holder += 1;
                next += 1;
                out.len()
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = set_and_clear, hand_over
}
criterion_main!(benches);
