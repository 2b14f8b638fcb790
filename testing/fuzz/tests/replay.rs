//! The corpus, and seeded variations of it. Bounded to some twenty seconds; `cargo xtask fuzz` goes
//! on from there.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
// What a failed run needs to be looked at.
#![allow(clippy::print_stderr)]

use mainstay_base::Entropy;
use mainstay_fuzz::{
    Feed, Script, TARGETS, Target, corpus, extremes, find, hex,
    memory::{Counting, measured},
    seeds, vary,
};
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How long one target's variations may take; a slow machine tries fewer.
const TIME: Duration = Duration::from_secs(2);

/// Runs one input; says how to do it again if it fails.
fn run(target: &Target, input: &[u8], whence: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        let file = std::env::temp_dir().join(format!("mainstay-fuzz-{}", target.name));
        let kept = fs::write(&file, input);
        eprintln!("{}: {whence} fails: {}", target.name, hex(input));
        if kept.is_ok() {
            eprintln!(
                "it is in {}; keep it in {} when the fault is mended",
                file.display(),
                corpus(target).display()
            );
        }
        std::panic::resume_unwind(panic);
    }
}

fn inputs(target: &Target) -> Vec<(String, Vec<u8>)> {
    let dir = corpus(target);
    let mut files: Vec<_> = fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", dir.display());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files
        .iter()
        .map(|path| (name(path), fs::read(path).unwrap()))
        .collect()
}

fn replay(name: &str) {
    let target = find(name).unwrap();
    let inputs = inputs(target);
    for (name, input) in &inputs {
        run(target, input, &format!("corpus file {name}"));
    }
    let start = Instant::now();
    for seed in 0..target.variations {
        let mut entropy = Entropy::new(seed);
        let input = &inputs[entropy.below(inputs.len() as u64) as usize].1;
        let other = &inputs[entropy.below(inputs.len() as u64) as usize].1;
        let mut varied = vary(input, other, &mut entropy);
        varied.truncate(target.len_max);
        run(target, &varied, &format!("variation with seed {seed}"));
        if start.elapsed() > TIME {
            break;
        }
    }
}

macro_rules! replays {
    ($($test:ident: $name:literal,)*) => {
        $(
            /// Protects a decoder from every input that was ever found to matter, and from others
            /// like it: no panic, no loss, no more memory than in proportion.
            #[test]
            fn $test() {
                replay($name);
            }
        )*

        /// Protects the list above from falling behind the table of targets.
        #[test]
        fn every_target_is_replayed() {
            let here = [$($name),*];
            assert!(TARGETS.iter().map(|target| target.name).eq(here), "{here:?}");
        }
    };
}

replays! {
    wire_dlm: "wire-dlm",
    wire_asks: "wire-asks",
    wire_answers: "wire-answers",
    membership: "membership",
    commands: "commands",
    cluster_state: "cluster-state",
    link: "link",
    consensus: "consensus",
    consensus_records: "consensus-records",
    journal: "journal",
    store: "store",
    recorder: "recorder",
    handshake: "handshake",
    key: "key",
    config: "config",
    cib: "cib",
    cib_elements: "cib-elements",
    cib_native: "cib-native",
    client: "client",
    node_peers: "node-peers",
    node_clients: "node-clients",
    client_protocol: "client-protocol",
    node_boot: "node-boot",
}

/// Protects the memory bounds from being checked by an allocator that does not count.
#[test]
fn allocations_are_counted() {
    let (kept, peak) = measured(|| {
        drop(vec![1_u8; 1 << 20]);
        vec![1_u8; 1 << 10]
    });
    assert!((1 << 20..(1 << 20) + 4096).contains(&peak), "{peak}");
    assert_eq!(kept.len(), 1 << 10);
}

/// Protects the targets from passing because inputs no longer reach what they were made for.
#[test]
fn real_messages_decode() {
    for (name, bytes) in seeds("wire-dlm") {
        let message =
            mainstay_wire::codec::decode::<mainstay_wire::dlm::Message>("m", 4096, &bytes);
        assert!(message.is_ok(), "{name}");
    }
    for (name, bytes) in seeds("commands") {
        assert!(
            mainstay_membership::Command::decode(&bytes).is_ok(),
            "{name}"
        );
    }
}

/// Protects the replicated state, and a node's start, from numbers at the ends of their range in
/// snapshots, commands and records: what is counted on from must not overflow.
#[test]
fn numbers_at_their_ends_in_the_log() {
    for (name, has_kinds) in [
        ("cluster-state", false),
        ("consensus-records", false),
        ("node-boot", true),
    ] {
        let target = find(name).unwrap();
        for (seed, input) in seeds(name) {
            let mut feed = Feed::new(&input);
            let mut blocks = Vec::new();
            while !feed.is_empty() {
                let kind = has_kinds.then(|| feed.byte());
                blocks.push((kind, feed.block()));
            }
            for place in 0..blocks.len() {
                for spoilt in extremes(blocks[place].1) {
                    let mut script = Script::new();
                    for (at, (kind, block)) in blocks.iter().enumerate() {
                        let block = if at == place { &spoilt } else { *block };
                        script = script.raw(kind.as_slice()).block(block);
                    }
                    run(target, &script.0, &format!("{seed}, block {place}"));
                }
            }
        }
    }
}

/// Protects a lock manager from a member whose tokens, versions and node numbers are at the ends of
/// their range.
#[test]
fn numbers_at_their_ends_between_lock_managers() {
    let target = find("node-peers").unwrap();
    for (name, message) in seeds("wire-dlm") {
        for spoilt in extremes(&message) {
            // Said, then said as it should be, with a little time after each; see `node::peers`.
            let script = Script::new().raw(&[0, 5]).block(&spoilt);
            let script = script.raw(&[0, 2, 5]).block(&message).raw(&[0, 2]);
            run(target, &script.0, &name);
        }
    }
}
