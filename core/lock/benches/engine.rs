//! What one resource costs on its master: `cargo bench -p mainstay-lock`.

#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use mainstay_base::{LockMode, Token};
use mainstay_lock::{Effect, Flags, Resource};
use std::{hint::black_box, time::Duration};

/// A node and a lock number, the size of what the lock manager uses.
type Key = (u16, u64);

fn idle(c: &mut Criterion) {
    let mut out: Vec<Effect<Key>> = Vec::with_capacity(16);
    let mut resource = Resource::new(Token::NONE, 32);
    c.bench_function("ex request + unlock, idle resource", |b| {
        b.iter(|| {
            out.clear();
            let key = black_box((1, 7));
            resource
                .request(key, LockMode::Ex, Flags::NONE, true, &mut out)
                .unwrap();
            resource.unlock(key, Flags::NONE, None, &mut out).unwrap();
            out.len()
        });
    });
}

fn conversion(c: &mut Criterion) {
    let mut out: Vec<Effect<Key>> = Vec::with_capacity(16);
    let mut resource = Resource::new(Token::NONE, 32);
    let key = (1, 7);
    let flags = Flags::NONE;
    resource
        .request(key, LockMode::Nl, flags, true, &mut out)
        .unwrap();
    c.bench_function("nl -> ex -> nl conversion", |b| {
        b.iter(|| {
            out.clear();
            for mode in [LockMode::Ex, LockMode::Nl] {
                resource
                    .convert(black_box(key), mode, flags, true, None, &mut out)
                    .unwrap();
            }
            out.len()
        });
    });
}

/// An EX holder and `waiters` EX waiters behind it.
fn crowded(waiters: u64) -> Resource<Key> {
    let mut out = Vec::new();
    let mut resource = Resource::new(Token::NONE, 32);
    for lock in 0..=waiters {
        resource
            .request((1, lock), LockMode::Ex, Flags::NONE, true, &mut out)
            .unwrap();
    }
    resource
}

fn hand_over(c: &mut Criterion) {
    let mut out: Vec<Effect<Key>> = Vec::with_capacity(16);
    let mut resource = crowded(1000);
    let mut holder = 0;
    let mut next = 1001;
    c.bench_function("hand-over, 1000 ex waiters stay behind", |b| {
        b.iter(|| {
            out.clear();
            resource
                .request((1, next), LockMode::Ex, Flags::NONE, true, &mut out)
                .unwrap();
            resource
                .unlock((1, holder), Flags::NONE, None, &mut out)
                .unwrap();
            holder += 1;
            next += 1;
            out.len()
        });
    });
    c.bench_function("drain 1000 ex waiters one by one", |b| {
        b.iter_batched(
            || crowded(1000),
            |mut resource| {
                for lock in 0..1000 {
                    out.clear();
                    resource
                        .unlock((1, lock), Flags::NONE, None, &mut out)
                        .unwrap();
                }
                resource
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = idle, conversion, hand_over
}
criterion_main!(benches);
