//! Whatever the reader accepts has a plan.

use mainstay_base::Entropy;
use mainstay_policy::{Ask, lint::lint, plan, run, verdict};
use mainstay_scheduler::edited;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How many clusters are edited; a few seconds.
const ROUNDS: u64 = 3000;

/// Protects the command line, and one day the cluster, from configurations and histories that make no
/// sense: no panic, and no walk without an end.
#[test]
fn whatever_is_read_has_a_plan() {
    let mut accepted = 0;
    for round in 0..ROUNDS {
        let mut entropy = Entropy::new(round);
        let seed = entropy.below(400);
        let count = 6 * (1 + entropy.below(5));
        let edits: Vec<u8> = (0..count).map(|_| entropy.below(256) as u8).collect();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let Some(cib) = edited::cluster(seed, &edits) else {
                return 0;
            };
            let ask = Ask::at(cib.execution_date.get().unwrap_or(0));
            drop(lint(&cib, &plan(&cib, ask)));
            drop(verdict(&cib, ask, &[]));
            let (_, after) = run(&cib, ask);
            drop(plan(&after, ask));
            1
        }));
        match outcome {
            Ok(count) => accepted += count,
            Err(_) => panic!("round {round}: seed {seed}, edits {edits:?}"),
        }
    }
    assert!(accepted > ROUNDS / 4, "only {accepted} were read");
}
