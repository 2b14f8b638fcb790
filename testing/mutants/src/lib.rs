//! Known bugs in the core, and the hunt for them.
//!
//! A simulator that finds nothing proves little unless it is known what it would find. Here each
//! [`Mutant`] is switched on in turn and seeds are run until one fails.

#![forbid(unsafe_code)]

use mainstay_base::Mutant;
use mainstay_sim::{Maker, Profile, Trace, Wishes, machine::real_node, run};
use std::sync::Arc;

/// How a mutant was caught.
#[derive(Clone, Debug)]
pub struct Catch {
    /// The seed that did it.
    pub seed: u64,
    /// How many seeds it took.
    pub seeds: u64,
    /// What was noticed: the broken promise, or the assertion in the core.
    pub what: String,
}

/// The kind of faults that brings a bug to light soonest; seeds of all kinds find it in the end.
#[must_use]
pub fn habitat(mutant: Mutant) -> Profile {
    match mutant {
        Mutant::GrantIgnoresConverting
        | Mutant::DeadlockJudgedByAll
        | Mutant::DeadlockQueueUnseen
        | Mutant::DemotionNotTold
        | Mutant::AlternateTriedOnce
        | Mutant::PageOfFirstFound
        | Mutant::UpdateIgnoresHolders
        | Mutant::SwapUnconditional
        | Mutant::RangeTailForgotten
        | Mutant::RangeOverlapByStart
        | Mutant::QuotaLeaks
        | Mutant::OrphansDropped
        | Mutant::OrphanAdoptedTwice
        | Mutant::CededUnderOldKey
        | Mutant::CededKept
        | Mutant::CededToldEarly
        | Mutant::PurgeUnmarked
        | Mutant::SetOrderAsAsked
        | Mutant::SetBehindKept
        | Mutant::SetNotGivenBack
        | Mutant::SetToldEarly
        | Mutant::TreeScattered
        | Mutant::ParentGoesFirst
        | Mutant::TreeLeftBehind
        | Mutant::OvertakesForEver
        | Mutant::ShortValueClears
        | Mutant::OnlyValueWritersMark
        | Mutant::DuplicateWaits
        | Mutant::TransactionChasedHereOnly
        | Mutant::TransactionOfAnybody
        | Mutant::KeptWithoutLocks
        | Mutant::RepeatedCarriedOut
        | Mutant::KeptValidByPage
        | Mutant::RestDropped
        | Mutant::RestNotHandedOver
        | Mutant::ResumedUnnoticed => Profile::Quiet,
        Mutant::ProofWithoutWaiting | Mutant::LeaseCheckedAfterGrant | Mutant::PromiseToAnybody => {
            Profile::Pausy
        }
        Mutant::SendBeforeDurable => Profile::Disky,
        // With `UnheardNotTold` some quiet seeds go on for ever.
        Mutant::RepeatsDelivered
        | Mutant::UnheardNotTold
        | Mutant::DeadlockUnconfirmed
        | Mutant::MoveUnasked
        | Mutant::MoveUnheard
        | Mutant::MoveUnentered => Profile::Lossy,
        Mutant::WaiterForgotten
        | Mutant::TokenNotCarried
        | Mutant::ValueNotRestated
        | Mutant::StaleMarkOmitted
        | Mutant::RebuildTooEarly
        | Mutant::UnprovedNotAwaited
        | Mutant::DirectoryTooSure
        | Mutant::RegisteredTooEarly
        | Mutant::PurgeForgotten
        | Mutant::HeldByVanishedUnnoticed
        | Mutant::MoveDespiteChange
        | Mutant::WatchNotRestated
        | Mutant::SurvivorNotInstalled
        | Mutant::SurvivorDroppedAtProof
        | Mutant::ToldBeforeRecorded
        | Mutant::ReleasedBeforeLog
        | Mutant::AdoptedUnderOldKey
        | Mutant::RulesOfSnapshotForgotten => Profile::Crashy,
        // The answer must be lost with the master, and what it said to others must not.
        Mutant::UpdateRepeated => Profile::Mixed,
    }
}

/// Runs seeds `1..=limit` with a bug switched on (or none) until one fails.
#[must_use]
pub fn hunt(mutant: Option<Mutant>, profile: Profile, limit: u64) -> Option<Catch> {
    let maker: Arc<Maker> = real_node();
    let wishes = Wishes {
        profile: Some(profile),
        ..Wishes::default()
    };
    Mutant::switch(mutant);
    let mut catch = None;
    for seed in 1..=limit {
        let report = run(seed, wishes, &maker, Trace::quiet());
        if let Some(violation) = report.violation {
            catch = Some(Catch {
                seed,
                seeds: seed,
                what: format!("{} {}", violation.promise, violation.what),
            });
            break;
        }
    }
    Mutant::switch(None);
    catch
}
