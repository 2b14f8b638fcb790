//! Known bugs in the policy engine, and the hunt for them.
//!
//! Random clusters on which the engine and its reference agree are decided on again with each
//! [`PlanMutant`] switched on. A comparison that would not notice is worth little.

#![forbid(unsafe_code)]

use anyhow::Result;
use mainstay_base::PlanMutant;
use mainstay_policy::Verdict;
use mainstay_scheduler::{
    compare::{differences, grades},
    ours, random, reference,
};
use std::panic::{self, AssertUnwindSafe};

/// A cluster that engine and reference decide on alike.
#[derive(Debug)]
pub struct Agreed {
    /// The seed that it follows from.
    pub seed: u64,
    text: String,
    verdict: Verdict,
}

/// Clusters from the seeds `1..=seeds` that both decide on alike, scores aside.
///
/// # Errors
/// If the reference cannot be asked.
pub fn agreed(seeds: u64) -> Result<Vec<Agreed>> {
    let mut agreed = Vec::new();
    for seed in 1..=seeds {
        let text = random::cluster(seed);
        let Some(verdict) = reference::verdict(&text)? else {
            continue;
        };
        if is_alike(&text, &verdict) {
            agreed.push(Agreed {
                seed,
                text,
                verdict,
            });
        }
    }
    Ok(agreed)
}

fn is_alike(text: &str, theirs: &Verdict) -> bool {
    ours(text).is_ok_and(|ours| grades(&ours, theirs)[..5].iter().all(|right| *right))
}

/// The first of these clusters on which the engine decides otherwise with a bug, and a difference.
#[must_use]
pub fn hunt(mutant: PlanMutant, clusters: &[Agreed]) -> Option<(u64, String)> {
    PlanMutant::switch(Some(mutant));
    let caught = clusters.iter().find_map(|cluster| {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            let alike = is_alike(&cluster.text, &cluster.verdict);
            (!alike).then(|| ours(&cluster.text))
        }));
        let what = match outcome {
            Ok(None) => return None,
            Ok(Some(Ok(ours))) => {
                let of_plans = |d: &&String| !d[2..].starts_with("score");
                let all = differences(&ours, &cluster.verdict);
                all.iter().find(of_plans).cloned().unwrap_or_default()
            }
            Ok(Some(Err(error))) => error,
            Err(_) => "an assertion".to_owned(),
        };
        Some((cluster.seed, what))
    });
    PlanMutant::switch(None);
    caught
}
