//! Every known bug of the policy engine is caught by the comparison with the reference.

#![allow(clippy::print_stdout)]

use mainstay_base::PlanMutant;
use mainstay_policy_mutants::{agreed, hunt};
use mainstay_scheduler::reference;

/// Seeds within which each bug must be found. Raise it only with a reason.
const SEEDS: u64 = 160;

/// Protects the worth of the comparison: a bug that it would not notice could come at any time.
#[test]
fn every_mutant_is_caught() {
    if !reference::is_there_or_skipped() {
        return;
    }
    let clusters = agreed(SEEDS).expect("the reference answers");
    let mut missed = Vec::new();
    for mutant in PlanMutant::ALL {
        match hunt(mutant, &clusters) {
            Some((seed, what)) => println!("{mutant:?}: caught by seed {seed}: {what}"),
            None => missed.push(mutant),
        }
    }
    assert!(
        missed.is_empty(),
        "not caught within {SEEDS} seeds: {missed:?}"
    );
}
