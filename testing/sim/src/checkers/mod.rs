//! The promises, one file each, judged from what clients and an all-seeing observer know.

pub mod books;
pub mod d1_nothing_lost;
pub mod l1_deadlocks;
pub mod l1_progress;
pub mod l1_sets;
pub mod l1_starvation;
pub mod l1_trees;
pub mod s1_exclusion;
pub mod s1_ranges;
pub mod s2_no_lost_grant;
pub mod s3_updates;
pub mod s3_value_blocks;
pub mod s4_no_recovery_before_proof;
pub mod s5_agreement;

use books::{Books, Claim, ClientNo, LifeNo, Res, Who};
use l1_deadlocks::{Team, ToldWait};
use mainstay_base::{
    ByteRange, ClusterId, Epoch, Fairness, Flags, Incarnation, Instant, LockMode, LockspaceId,
    LockspaceName, NodeId, Token, Updated, Value, ValueBlock, ValueVersion,
};
use mainstay_wire::{event::Reason, lock::Refusal, report::ResourceReport};
use std::ops::Range;

/// What the log says of locks that survive their nodes.
#[derive(Clone, Debug, Default)]
pub struct Surviving<'a> {
    /// The resources that such locks are on, and no others.
    pub on: Range<Res>,
    /// They, and who has them.
    pub locks: &'a [(Res, ClientNo, LockMode)],
    /// Who has had one last that the log still has as another's: its node may have died before it could say.
    pub heirs: &'a [((Res, ClientNo), ClientNo)],
    /// Orphans that may be there or not: they were on their way to a node that is gone.
    pub perhaps: &'a [(Res, ClientNo)],
}

impl Surviving<'_> {
    /// Who had it last that a client is said to have, or to have left behind.
    #[must_use]
    pub fn heir(&self, res: Res, client: ClientNo) -> ClientNo {
        let mut heirs = self.heirs.iter();
        let heir = heirs.find(|(from, _)| *from == (res, client));
        heir.map_or(client, |(_, heir)| *heir)
    }
}

/// Something that an observer saw. The books are up to date with it when a checker sees it.
#[derive(Debug)]
pub enum Fact<'a> {
    /// A client received a grant; the books have the lock.
    Granted {
        /// Whose.
        who: Who,
        /// The value block that came with it, if the grant read one.
        read: Option<&'a Value>,
    },
    /// A node showed its clients a new deadline.
    LeaseShown {
        /// Which life of the node.
        life: LifeNo,
    },
    /// The connection of a client whose session is kept breaks: what it asks may arrive much later.
    ConnectionBroken {
        /// Which client.
        client: ClientNo,
    },
    /// A client that had not heard of its daemon for too long has, and relies on its locks again.
    SureAgain {
        /// Which client.
        client: ClientNo,
    },
    /// A client handed in a value block with a conversion or unlock.
    Publishing {
        /// The publishing lock.
        who: Who,
        /// On what.
        res: Res,
        /// The bytes.
        block: &'a ValueBlock,
    },
    /// The publication was acknowledged.
    Published {
        /// The publishing lock.
        who: Who,
        /// On what.
        res: Res,
        /// The value block's version after it; absent if the answer named none.
        version: Option<ValueVersion>,
    },
    /// The call that carried the publication was refused.
    PublicationRefused {
        /// The publishing lock.
        who: Who,
        /// On what.
        res: Res,
    },
    /// A node keeps a lock of a session that has ended.
    Orphaned {
        /// Whose it was.
        who: Who,
        /// On what.
        res: Res,
    },
    /// Such a lock has another owner.
    Passed {
        /// Whose it was.
        from: Who,
        /// Whose it is.
        to: Who,
        /// On what.
        res: Res,
    },
    /// A client asked that the value block be changed in one step, so that its count grows by one.
    Updating {
        /// Under which lock.
        who: Who,
        /// On what.
        res: Res,
    },
    /// The change was answered.
    Updated {
        /// Under which lock.
        who: Who,
        /// On what.
        res: Res,
        /// How.
        result: Result<&'a Updated, &'a Refusal>,
    },
    /// A lock is told of changes of the value block from now on.
    Watching {
        /// Which.
        who: Who,
    },
    /// It was told of one.
    ValueTold {
        /// Which.
        who: Who,
        /// On what.
        res: Res,
        /// What the value is.
        value: &'a Value,
    },
    /// A client was told that it has a lock that survived its node. Who had it before may be known to the log
    /// alone; but tokens are of one lock each, and none of those is in NL.
    Inherited {
        /// Which.
        who: Who,
        /// On what.
        res: Res,
        /// Its token.
        token: Token,
    },
    /// A lock that seemed to have died with its node had another owner by then.
    HadPassed {
        /// On what.
        res: Res,
    },
    /// A client asked that the value block be marked, or died with a call pending on the resource.
    MayInvalidate {
        /// On what.
        res: Res,
    },
    /// A lock ended because its session or its node's incarnation did.
    HolderDied {
        /// The lock as it was.
        claim: &'a Claim,
    },
    /// A lock in PW or EX ended with its session, in a lockspace where that alone marks the value.
    WriterDied {
        /// On what.
        res: Res,
    },
    /// No lock stands on a resource any more.
    Emptied {
        /// Which.
        res: Res,
    },
    /// A session was refused a call on a lock that it holds, as unknown.
    LockUnknown {
        /// Which lock.
        who: Who,
    },
    /// The session of a client goes on with another life of its node.
    GoesOn {
        /// Which client.
        client: ClientNo,
        /// Which life.
        life: LifeNo,
    },
    /// The locks of an incarnation that rested are its node's next one's: nothing of it is left to be proved.
    Resumed {
        /// The node.
        node: NodeId,
        /// The incarnation that rested.
        incarnation: Incarnation,
    },
    /// A node began a life.
    Booted {
        /// Which.
        life: LifeNo,
        /// Whether the journal had been damaged since it was last read.
        damaged: bool,
    },
    /// A node may act for the first time as this incarnation.
    Adopted {
        /// Which life.
        life: LifeNo,
        /// Which incarnation.
        incarnation: Incarnation,
    },
    /// A life ended: crash, rebirth or stop.
    LifeEnded {
        /// Which.
        life: LifeNo,
    },
    /// A node installed a view.
    View {
        /// In which life.
        life: LifeNo,
        /// Its number.
        epoch: Epoch,
        /// Its members.
        members: &'a [(NodeId, Incarnation)],
        /// Whether they have quorum.
        quorate: bool,
    },
    /// A node may act, or may not.
    Acting {
        /// In which life.
        life: LifeNo,
        /// Whether it may.
        active: bool,
    },
    /// A master granted something.
    Granting {
        /// In which life.
        life: LifeNo,
        /// When, on its own clock.
        at: Instant,
        /// The end of its lease as it knew it.
        lease: Instant,
    },
    /// A node saw an incarnation vanish from the view.
    Left {
        /// Which node.
        node: NodeId,
        /// Which incarnation.
        incarnation: Incarnation,
        /// Why.
        reason: Reason,
    },
    /// A node counts an incarnation as harmless.
    Proved {
        /// Which node.
        node: NodeId,
        /// Which incarnation.
        incarnation: Incarnation,
        /// By what proof.
        reason: Reason,
    },
    /// A client learnt a lockspace's number.
    Lockspace {
        /// Its name.
        name: &'a LockspaceName,
        /// Its number.
        id: LockspaceId,
        /// Length of its value blocks.
        value_len: u16,
    },
    /// A node knows the cluster's number.
    Cluster {
        /// The number.
        id: ClusterId,
    },
    /// A client's call was handed to its node.
    Asked {
        /// The client.
        client: ClientNo,
        /// The call's number.
        request: u64,
        /// What, for people.
        what: &'a str,
    },
    /// A call was answered.
    Answered {
        /// The client.
        client: ClientNo,
        /// The call's number.
        request: u64,
    },
    /// A client asked for a lock or a conversion.
    LockAsked {
        /// Which lock.
        who: Who,
        /// The call's number.
        request: u64,
        /// On what.
        res: Res,
        /// In which mode.
        mode: LockMode,
        /// How.
        flags: Flags,
        /// Through which connection.
        conn: u64,
        /// To which life of its node.
        life: LifeNo,
    },
    /// A client asked for a set. Comes before what it asked for.
    SetAsked {
        /// The client.
        client: ClientNo,
        /// The call's number.
        request: u64,
        /// It neither holds nor waits for anything else.
        alone: bool,
    },
    /// A client asked for several conversions, which are answered together. Comes before what it
    /// asked for.
    ManyAsked {
        /// The client.
        client: ClientNo,
        /// The call's number.
        request: u64,
    },
    /// A conversion was refused; the lock is held as before.
    ConversionRefused {
        /// Which lock.
        who: Who,
    },
    /// A client asked for a range, or gives one up.
    RangeAsked {
        /// Which lock.
        who: Who,
        /// On what.
        res: Res,
        /// Where.
        range: ByteRange,
        /// In which mode; NL for none.
        mode: LockMode,
    },
    /// A range was set as asked last.
    RangeSet {
        /// Which lock.
        who: Who,
        /// The token that it got.
        token: Token,
        /// Through which life of the client's node.
        life: LifeNo,
        /// Through which connection.
        conn: u64,
    },
    /// A call for a range was refused; the lock is as before.
    RangeRefused {
        /// Which lock.
        who: Who,
    },
    /// A client releases all ranges of a lock.
    RangesReleased {
        /// Which lock.
        who: Who,
    },
    /// An unlock was answered.
    Unlocked {
        /// Which lock.
        who: Who,
    },
    /// Locks that a client asks for from now on are for an owner.
    Owner {
        /// The client.
        client: ClientNo,
        /// Whose they are.
        team: Team,
    },
    /// A call was refused because it waited in a circle. Comes before its answer.
    Victim {
        /// The client.
        client: ClientNo,
        /// The call's number.
        request: u64,
        /// The circle as the client was told.
        told: &'a [ToldWait],
    },
    /// A node has closed a session.
    SessionEnded {
        /// Its connection.
        conn: u64,
    },
    /// A client's session is over; its calls get no answers.
    SessionOver {
        /// The client.
        client: ClientNo,
    },
    /// Faults are over, progress is owed: all nodes by then members of one view.
    Healed {
        /// Until this real time, in nanoseconds.
        by: u64,
    },
    /// Clients make no new calls and release what they get: all calls are answered by then.
    Draining {
        /// Until this real time, in nanoseconds.
        by: u64,
    },
    /// A client does not run, and reads nothing; said before each [`Fact::Tick`].
    ClientStopped {
        /// The client.
        client: ClientNo,
    },
    /// Virtual time passed; sent a few times a second.
    Tick,
    /// All resources as the masters tell at the end, with the clients' numbers as pids.
    Audit {
        /// From which node.
        node: NodeId,
        /// What it told.
        resources: &'a [(Res, &'a ResourceReport)],
        /// What the log says of locks that survive their nodes.
        surviving: Surviving<'a>,
    },
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub promise: &'static str,
    /// Real time in nanoseconds.
    pub at: u64,
    /// What happened.
    pub what: String,
}

/// One promise's watch.
pub trait Checker {
    /// The promise's name.
    fn promise(&self) -> &'static str;
    /// Sees a fact.
    ///
    /// # Errors
    /// A sentence about the promise that this fact broke.
    fn observe(&mut self, now: u64, fact: &Fact<'_>, books: &Books) -> Result<(), String>;
}

/// All promises.
pub struct Judge {
    checkers: Vec<Box<dyn Checker>>,
    progress: l1_progress::Progress,
    violation: Option<Violation>,
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge")
            .field("violation", &self.violation)
            .finish_non_exhaustive()
    }
}

impl Judge {
    /// A judge of all promises, for clusters of so many nodes; `quiet`: nothing goes wrong; `moves`: masters
    /// move; `fairness`: that of all lockspaces.
    #[must_use]
    pub fn new(nodes: usize, quiet: bool, moves: bool, fairness: Fairness) -> Judge {
        Judge {
            checkers: vec![
                Box::new(s1_exclusion::Exclusion::default()),
                Box::new(s1_ranges::Ranges::default()),
                Box::new(s4_no_recovery_before_proof::Proof::default()),
                Box::new(s2_no_lost_grant::NoLostGrant::default()),
                Box::new(s3_value_blocks::ValueBlocks::default()),
                Box::new(s3_updates::Updates::default()),
                Box::new(s5_agreement::Agreement::default()),
                Box::new(d1_nothing_lost::NothingLost::default()),
                Box::new(l1_deadlocks::Deadlocks::new(nodes, quiet)),
                Box::new(l1_sets::Sets::default()),
                Box::new(l1_starvation::Starvation::new(fairness, quiet)),
                Box::new(l1_trees::Trees::new(moves || quiet)),
            ],
            progress: l1_progress::Progress::new(nodes),
            violation: None,
        }
    }

    /// What the checkers would say to an audit, without keeping it.
    pub fn opinion(&mut self, now: u64, audit: &Fact<'_>, books: &Books) -> Result<(), String> {
        debug_assert!(
            matches!(audit, Fact::Audit { .. }),
            "other facts leave traces"
        );
        self.checkers
            .iter_mut()
            .try_for_each(|checker| checker.observe(now, audit, books))
    }

    /// Shows a fact to all checkers. The first complaint of the run is kept.
    pub fn observe(&mut self, now: u64, fact: &Fact<'_>, books: &Books) {
        let all = self.checkers.iter_mut().map(|checker| &mut **checker);
        for checker in all.chain([&mut self.progress as &mut dyn Checker]) {
            if let Err(what) = checker.observe(now, fact, books) {
                let promise = checker.promise();
                let at = now;
                self.violation
                    .get_or_insert(Violation { promise, at, what });
                return;
            }
        }
    }

    /// Whether every node is an active member of one view.
    #[must_use]
    pub fn whole(&self) -> bool {
        self.progress.whole()
    }

    /// Keeps a complaint if it is the first.
    pub fn complain(&mut self, promise: &'static str, at: u64, what: String) {
        self.violation
            .get_or_insert(Violation { promise, at, what });
    }

    /// The first complaint.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }
}

/// Words for a lock.
fn tell(who: Who, claim: &Claim, books: &Books) -> String {
    let life = &books.lives[claim.life as usize];
    let incarnation = life
        .incarnation
        .map_or_else(|| "?".to_owned(), |i| i.to_string());
    format!(
        "client {} on node {}.{incarnation} (lock {}, {}, token {:?})",
        who.client, life.node, who.handle.0, claim.mode, claim.token
    )
}

/// Whether two locks exclude each other.
fn conflict(a: LockMode, b: LockMode) -> bool {
    !a.compatible(b)
}

#[cfg(test)]
pub(crate) mod testing {
    //! A hand-made world for the checkers' own tests.

    use super::books::{Books, Life, Page, Who};
    use mainstay_base::{Incarnation, LockMode, NodeId, Token};
    use mainstay_wire::client::Handle;

    /// Two nodes, 1 and 2, each in its first life (0 and 1), incarnation 1, with a lease until 1000.
    pub(crate) fn two_nodes() -> Books {
        let mut books = Books::default();
        for node in 1..=2 {
            books.pages.push(Page {
                generation: 1,
                over_at: 1000,
            });
            books.lives.push(Life {
                node: NodeId(node),
                incarnation: Some(Incarnation(1)),
                page: u32::from(node) - 1,
                generation: 1,
                leaving: false,
            });
        }
        books
    }

    /// Lock 1 of a client.
    pub(crate) fn who(client: u32) -> Who {
        Who {
            client,
            handle: Handle(1),
        }
    }

    /// Writes a grant on resource 0 into the books, through the life of that number.
    pub(crate) fn grant(books: &mut Books, client: u32, life: u32, mode: LockMode, token: u64) {
        books.grant(0, who(client), 0, mode, Token(token), life, true);
    }
}
