//! What two verdicts do not agree on.

use super::{
    compare::{closure, places},
    score::Case,
};
use std::collections::{BTreeMap, BTreeSet};

/// Prints the facts that only one of both has: `+` ours, `-` the reference.
pub(super) fn print(case: &Case) {
    if case.is_right() {
        return;
    }
    println!("\n== {}", case.name);
    if let Some(why) = &case.failed {
        println!("  no verdict: {why}");
        return;
    }
    let (ours, theirs) = (&case.ours, &case.theirs);
    let states = |m: &BTreeMap<String, String>| m.iter().map(|(n, s)| format!("{n} {s}")).collect();
    facts(
        "node",
        states(&ours.nodes_before),
        states(&theirs.nodes_before),
    );
    let flat = |m| -> Vec<String> {
        let one = |(s, list): (&str, Vec<&str>)| format!("{s}: {}", list.join(", "));
        places(m).into_iter().map(one).collect()
    };
    facts("before", flat(&ours.before), flat(&theirs.before));
    facts("after", flat(&ours.placements), flat(&theirs.placements));
    facts("fencing", ours.fencing.clone(), theirs.fencing.clone());
    facts("summary", ours.summary.clone(), theirs.summary.clone());
    facts("action", ours.actions.clone(), theirs.actions.clone());
    facts(
        "cluster",
        ours.cluster_actions.clone(),
        theirs.cluster_actions.clone(),
    );
    // Orders between the same actions only; others differ because the actions do.
    let known = |order: &[String]| -> BTreeSet<(String, String)> {
        let pairs = closure(order).into_iter();
        pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
    };
    let (mine, yours) = (known(&ours.order), known(&theirs.order));
    let line = |(a, b): &(String, String)| format!("{a} < {b}");
    facts(
        "order",
        mine.difference(&yours).map(line).collect(),
        yours.difference(&mine).map(line).collect(),
    );
    let rows = |list: &[[String; 4]]| list.iter().map(|s| s.join(" ")).collect();
    facts("score", rows(&ours.scores), rows(&theirs.scores));
}

/// Multisets: what stands in both as often is left out.
fn facts(what: &str, ours: Vec<String>, theirs: Vec<String>) {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for fact in ours {
        *counts.entry(fact).or_default() += 1;
    }
    for fact in theirs {
        *counts.entry(fact).or_default() -= 1;
    }
    for (fact, count) in counts {
        let sign = if count > 0 { '+' } else { '-' };
        for _ in 0..count.abs() {
            println!("  {sign} {what:8} {fact}");
        }
    }
}
