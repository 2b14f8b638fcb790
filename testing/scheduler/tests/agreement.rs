//! The policy engine and the reference implementation agree on random clusters.

#![allow(clippy::print_stdout)]

use mainstay_scheduler::{
    compare::{GRADES, grades},
    ours, random, reference,
};

/// How many clusters are compared; what follows takes a quarter of a minute.
const SEEDS: u64 = 160;

/// In how many of a hundred clusters each grade must be reached. The rest is known: releases of the
/// reference differ, and some of its habits are accidents.
const AT_LEAST: [u64; GRADES.len()] = [99, 97, 97, 97, 97, 93];

/// Protects compatibility: on clusters that nobody thought of, the engine decides what the reference
/// decides.
#[test]
fn the_engine_decides_what_the_reference_decides() {
    if !reference::is_there_or_skipped() {
        return;
    }
    let mut compared = 0;
    let mut reached = [0; GRADES.len()];
    let mut differing = Vec::new();
    for seed in 1..=SEEDS {
        let text = random::cluster(seed);
        let Some(theirs) = reference::verdict(&text).expect("the reference answers") else {
            continue;
        };
        let ours = ours(&text).expect("a cluster that can be read");
        compared += 1;
        let grades = grades(&ours, &theirs);
        for (count, right) in reached.iter_mut().zip(grades) {
            *count += u64::from(right);
        }
        if let Some(first) = grades.iter().position(|right| !right) {
            differing.push(format!("{seed} ({})", &GRADES[first][..2]));
        }
    }
    println!("{compared} compared, {reached:?} agree, differing: {differing:?}");
    assert!(
        compared >= SEEDS * 3 / 4,
        "the reference refused too many: {compared} left"
    );
    for ((grade, count), percent) in GRADES.iter().zip(reached).zip(AT_LEAST) {
        assert!(
            100 * count >= percent * compared,
            "{grade}: {count} of {compared}, want {percent} %; differing: {differing:?}; \
             look at one with `cargo run -p mainstay-scheduler -- --show --seed N`"
        );
    }
}

/// Protects the worth of the comparison: clusters are read as they were meant, and the same seed
/// gives the same one.
#[test]
fn random_clusters_are_read_without_problems() {
    for seed in 1..=SEEDS {
        let text = random::cluster(seed);
        assert_eq!(text, random::cluster(seed), "seed {seed}");
        let reading = mainstay_cib::read(&text).expect("a cluster");
        assert!(
            reading.problems.is_empty(),
            "seed {seed}: {:?}",
            reading.problems
        );
    }
}
