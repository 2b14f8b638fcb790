//! Clients of a lone node that do anything, beside the reference. Bounded to half a minute.

use mainstay_base::Entropy;
use mainstay_fuzz::{find, hex};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

/// How many sequences are tried, and for how long at most.
const SEQUENCES: u64 = 6_000;
const TIME: Duration = Duration::from_secs(30);

/// Protects the promises that the pages of the protocol make to clients: whatever they ask, in whatever
/// order, each is told what the rules say, and nothing else.
#[test]
#[allow(
    clippy::print_stderr,
    reason = "what a failed run needs to be looked at"
)]
fn clients_are_told_what_the_rules_say() {
    let Some(target) = find("client-protocol") else {
        panic!("the target is gone");
    };
    let first = std::env::var("MAINSTAY_FUZZ_START").map_or(0, |seed| seed.parse().unwrap_or(0));
    let start = Instant::now();
    for seed in first..first + SEQUENCES {
        let mut entropy = Entropy::new(seed);
        let len = entropy.below(target.len_max as u64);
        let input: Vec<u8> = (0..len).map(|_| entropy.next_u64() as u8).collect();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
            eprintln!("sequence {seed} fails: {}", hex(&input));
            std::panic::resume_unwind(panic);
        }
        if start.elapsed() > TIME {
            break;
        }
    }
}
