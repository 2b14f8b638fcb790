//! Known bugs that tests switch on, to see whether the net catches them.
//!
//! Without the feature `mutants`, which only the mutant tests ask for, [`Mutant::active`] is the
//! constant `false` and nothing of this is left in the code.

/// A deliberately broken variant of the core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// A grant does not look at the modes that converting locks still hold.
    GrantIgnoresConverting,
    /// A vanished incarnation counts as harmless at once.
    ProofWithoutWaiting,
    /// What arrives after a pause is dealt with before the lease is looked at.
    LeaseCheckedAfterGrant,
    /// A voter goes on promising leases to incarnations that its view does not contain.
    PromiseToAnybody,
    /// Locks that wait are not restated to a new master.
    WaiterForgotten,
    /// A new master starts its tokens from scratch.
    TokenNotCarried,
    /// Owners restate their locks without their copies of the value block.
    ValueNotRestated,
    /// A value block is never marked possibly stale after a failure.
    StaleMarkOmitted,
    /// A new master grants before all survivors have restated their locks.
    RebuildTooEarly,
    /// A new master does not wait for vanished incarnations whose end is not proved.
    UnprovedNotAwaited,
    /// The directory gives unknown names away before all members have registered theirs.
    DirectoryTooSure,
    /// A node says that it has registered all it masters while it is still looking through it.
    RegisteredTooEarly,
    /// Locks of a dead incarnation stay where they were.
    PurgeForgotten,
    /// What a vanished incarnation held is not looked for before its proof, and not after it.
    HeldByVanishedUnnoticed,
    /// Log messages leave before the records they depend on are durable.
    SendBeforeDurable,
    /// A channel delivers what is repeated.
    RepeatsDelivered,
    /// A circle of waiters is believed without asking anybody again.
    DeadlockUnconfirmed,
    /// Each node that finds a circle of waiters judges it, and refuses the one it began with.
    DeadlockJudgedByAll,
    /// The search for deadlocks does not see that waiters wait for those ahead of them.
    DeadlockQueueUnseen,
    /// A lock that is demoted is taken for held in its old mode by its owner.
    DemotionNotTold,
    /// A call that waits is not tried with its alternate any more.
    AlternateTriedOnce,
    /// A page of resources is filled with those that are found first, not with those that come first.
    PageOfFirstFound,
    /// A master hands resources on when the first member has agreed to say no more about them.
    MoveUnasked,
    /// A master hands resources on before all have heard what it had to say.
    MoveUnheard,
    /// The directory does not learn that a resource has moved.
    MoveUnentered,
    /// Locks of a node that rests are dropped as if it had left.
    RestDropped,
    /// Locks of a node that rests are not restated to those who rebuild what it mastered.
    RestNotHandedOver,
    /// Locks of a node that rests stay those of the life that rested when the next one goes on with them.
    ResumedUnnoticed,
    /// A move is committed although the members have changed since they agreed upon it.
    MoveDespiteChange,
    /// A value block is swapped or counted up whoever relies on his copy of it.
    UpdateIgnoresHolders,
    /// A swap does not look at what it replaces.
    SwapUnconditional,
    /// An update whose answer was lost with the master is given to the next one.
    UpdateRepeated,
    /// A new master is not told who watches a value block.
    WatchNotRestated,
    /// Of a range that is cut out of a longer one, what came after it is forgotten.
    RangeTailForgotten,
    /// A range that began before another is not seen to reach into it.
    RangeOverlapByStart,
    /// Of lockspaces that came in a snapshot, the rules are not kept.
    RulesOfSnapshotForgotten,
    /// A lock that goes before it was granted goes on counting for its user.
    QuotaLeaks,
    /// Persistent locks end with their session, like others.
    OrphansDropped,
    /// An orphan that has been adopted may be adopted again.
    OrphanAdoptedTwice,
    /// A value block is not marked when an orphan that could write it is purged.
    PurgeUnmarked,
    /// The locks of a set are waited for in the order in which they were asked for.
    SetOrderAsAsked,
    /// A set that has to wait keeps what it holds behind the one that it waits for.
    SetBehindKept,
    /// A set that is refused keeps what it holds.
    SetNotGivenBack,
    /// A set is told to be granted as soon as it begins to wait.
    SetToldEarly,
    /// A sub-resource is given to whoever asks first, wherever its tree is mastered.
    TreeScattered,
    /// A lock may be released before those beneath it.
    ParentGoesFirst,
    /// A tree's root moves to another master, and what is beneath it stays.
    TreeLeftBehind,
    /// Conversions pass whoever waits, however often others have.
    OvertakesForEver,
    /// A short value block of VMS clears the rest of a long one.
    ShortValueClears,
    /// With Linux' rules, only those mark a value by their death who have spoken of it.
    OnlyValueWritersMark,
    /// With the SA Forum's rules, who holds EX may wait for another EX of his own.
    DuplicateWaits,
    /// A search goes on with the waits of a transaction only where it met one of its locks.
    TransactionChasedHereOnly,
    /// Users who name the same number have one transaction together.
    TransactionOfAnybody,
    /// The locks of a kept session end with its connection.
    KeptWithoutLocks,
    /// What a client repeats on a new connection is carried out again.
    RepeatedCarriedOut,
    /// What a client has not heard of is not told again on its new connection.
    UnheardNotTold,
    /// A client of a kept session goes by the lease page alone, as if it could not end unseen.
    KeptValidByPage,
    /// Who comes to master a resource does not look which locks on it survived their nodes.
    SurvivorNotInstalled,
    /// Locks that survive their node are dropped with it.
    SurvivorDroppedAtProof,
    /// A client is told of a lock that survives its node before the log has it.
    ToldBeforeRecorded,
    /// A lock that survives its node is released before the log says so.
    ReleasedBeforeLog,
    /// A surviving lock that is adopted stays under its old owner with the master.
    AdoptedUnderOldKey,
    /// A master has a ceded lock under its old owner still.
    CededUnderOldKey,
    /// A node keeps what it has ceded.
    CededKept,
    /// A client is told of a ceded lock before the master knows.
    CededToldEarly,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 65] = [
        Mutant::GrantIgnoresConverting,
        Mutant::ProofWithoutWaiting,
        Mutant::LeaseCheckedAfterGrant,
        Mutant::PromiseToAnybody,
        Mutant::WaiterForgotten,
        Mutant::TokenNotCarried,
        Mutant::ValueNotRestated,
        Mutant::StaleMarkOmitted,
        Mutant::RebuildTooEarly,
        Mutant::UnprovedNotAwaited,
        Mutant::DirectoryTooSure,
        Mutant::RegisteredTooEarly,
        Mutant::PurgeForgotten,
        Mutant::HeldByVanishedUnnoticed,
        Mutant::SendBeforeDurable,
        Mutant::RepeatsDelivered,
        Mutant::DeadlockUnconfirmed,
        Mutant::DeadlockJudgedByAll,
        Mutant::DeadlockQueueUnseen,
        Mutant::DemotionNotTold,
        Mutant::AlternateTriedOnce,
        Mutant::PageOfFirstFound,
        Mutant::MoveUnasked,
        Mutant::MoveUnheard,
        Mutant::MoveUnentered,
        Mutant::MoveDespiteChange,
        Mutant::RestDropped,
        Mutant::RestNotHandedOver,
        Mutant::ResumedUnnoticed,
        Mutant::UpdateIgnoresHolders,
        Mutant::SwapUnconditional,
        Mutant::UpdateRepeated,
        Mutant::WatchNotRestated,
        Mutant::RangeTailForgotten,
        Mutant::RangeOverlapByStart,
        Mutant::RulesOfSnapshotForgotten,
        Mutant::QuotaLeaks,
        Mutant::OrphansDropped,
        Mutant::OrphanAdoptedTwice,
        Mutant::PurgeUnmarked,
        Mutant::SetOrderAsAsked,
        Mutant::SetBehindKept,
        Mutant::SetNotGivenBack,
        Mutant::SetToldEarly,
        Mutant::TreeScattered,
        Mutant::ParentGoesFirst,
        Mutant::TreeLeftBehind,
        Mutant::OvertakesForEver,
        Mutant::ShortValueClears,
        Mutant::OnlyValueWritersMark,
        Mutant::DuplicateWaits,
        Mutant::TransactionChasedHereOnly,
        Mutant::TransactionOfAnybody,
        Mutant::KeptWithoutLocks,
        Mutant::RepeatedCarriedOut,
        Mutant::UnheardNotTold,
        Mutant::KeptValidByPage,
        Mutant::SurvivorNotInstalled,
        Mutant::SurvivorDroppedAtProof,
        Mutant::ToldBeforeRecorded,
        Mutant::ReleasedBeforeLog,
        Mutant::AdoptedUnderOldKey,
        Mutant::CededUnderOldKey,
        Mutant::CededKept,
        Mutant::CededToldEarly,
    ];

    /// Whether this bug is switched on in this thread.
    #[inline]
    #[must_use]
    pub fn active(self) -> bool {
        #[cfg(feature = "mutants")]
        return switch::ACTIVE.get() == Some(self);
        #[cfg(not(feature = "mutants"))]
        false
    }

    /// Switches a bug on in this thread, and every other off.
    #[cfg(feature = "mutants")]
    pub fn switch(mutant: Option<Mutant>) {
        switch::ACTIVE.set(mutant);
    }
}

/// A deliberately broken variant of the policy engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlanMutant {
    /// Services start elsewhere while their node is still being fenced.
    StartBeforeFencing,
    /// Orders between services bind nobody.
    OrderForgotten,
    /// A service that moves starts before it has stopped.
    MoveWithoutStop,
    /// Services do not stick to where they are.
    StickinessIgnored,
    /// However often a service fails on a node, it comes back there.
    ThresholdIgnored,
    /// Failures are never too old to count.
    FailuresNeverExpire,
    /// One more instance is promoted than shall be.
    PromotedOneMore,
    /// What must not be together may be.
    AntiColocationIgnored,
    /// Every ticket is taken for granted.
    TicketIgnored,
    /// Nodes are not asked what runs on them.
    ProbesForgotten,
}

impl PlanMutant {
    /// All of them.
    pub const ALL: [PlanMutant; 10] = [
        PlanMutant::StartBeforeFencing,
        PlanMutant::OrderForgotten,
        PlanMutant::MoveWithoutStop,
        PlanMutant::StickinessIgnored,
        PlanMutant::ThresholdIgnored,
        PlanMutant::FailuresNeverExpire,
        PlanMutant::PromotedOneMore,
        PlanMutant::AntiColocationIgnored,
        PlanMutant::TicketIgnored,
        PlanMutant::ProbesForgotten,
    ];

    /// Whether this bug is switched on in this thread.
    #[inline]
    #[must_use]
    pub fn active(self) -> bool {
        #[cfg(feature = "mutants")]
        return switch::PLAN.get() == Some(self);
        #[cfg(not(feature = "mutants"))]
        false
    }

    /// Switches a bug on in this thread, and every other of the engine off.
    #[cfg(feature = "mutants")]
    pub fn switch(mutant: Option<PlanMutant>) {
        switch::PLAN.set(mutant);
    }
}

#[cfg(feature = "mutants")]
mod switch {
    use super::{Mutant, PlanMutant};
    use std::cell::Cell;

    thread_local! {
        pub(super) static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
        pub(super) static PLAN: Cell<Option<PlanMutant>> = const { Cell::new(None) };
    }
}
