//! Every known bug is caught by the simulator, and without one the same seeds pass.

#![allow(clippy::print_stdout)]

use mainstay_base::Mutant;
use mainstay_mutants::{habitat, hunt};
use std::{panic, sync::Mutex, thread};

/// Seeds within which each bug must be found. Raise it only with a reason.
const LIMIT: u64 = 400;

/// Protects the worth of the simulator: a bug that it would not notice is a promise unguarded.
#[test]
fn every_mutant_is_caught() {
    // A mutant that trips an assertion of the core is caught; its panic is no news here.
    panic::set_hook(Box::new(|_| {}));
    let queue = Mutex::new(Mutant::ALL.iter().rev().copied().collect::<Vec<_>>());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(mutant) = { queue.lock().expect("no panic while held").pop() } {
                    let catch = hunt(Some(mutant), habitat(mutant), LIMIT);
                    results
                        .lock()
                        .expect("no panic while held")
                        .push((mutant, catch));
                }
            });
        }
    });
    let _ = panic::take_hook();
    let results = results.into_inner().expect("threads are done");
    let mut missed = Vec::new();
    for (mutant, catch) in &results {
        match catch {
            Some(catch) => {
                let what: String = catch
                    .what
                    .lines()
                    .next()
                    .unwrap_or("")
                    .chars()
                    .take(110)
                    .collect();
                println!("{mutant:?}: caught within {} seeds: {what}", catch.seeds);
            }
            None => missed.push(mutant),
        }
    }
    assert_eq!(results.len(), Mutant::ALL.len());
    assert!(
        missed.is_empty(),
        "not caught within {LIMIT} seeds: {missed:?}"
    );
}

/// Protects the meaning of the other test: it is the bug that fails, not the seed.
#[test]
fn without_a_mutant_the_seeds_pass() {
    for profile in mainstay_sim::Profile::ALL {
        let catch = hunt(None, profile, 15);
        assert!(catch.is_none(), "{profile:?}: {catch:?}");
    }
}
