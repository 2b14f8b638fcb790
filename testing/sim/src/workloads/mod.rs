//! What clients do, one file per kind. Each draws from its own dice and may be mixed with the others.

pub mod bargains;
pub mod cancels;
pub mod circles;
pub mod conversions;
pub mod counters;
pub mod crowds;
pub mod foreign;
pub mod locks;
pub mod orphans;
pub mod ranges;
pub mod sets;
pub mod several;
pub mod spectator;
pub mod survivors;
pub mod tallies;
pub mod transactions;
pub mod trees;

use crate::{
    checkers::books::{ClientNo, Res},
    client::Command,
};
use mainstay_base::{
    ByteRange, Compat, Entropy, Fairness, LockMode, LockspaceName, NodeName, ResourceName, Updated,
    Value,
};
use mainstay_wire::{
    client::{Answer, Handle},
    lock::{Granted, Refusal},
};
use std::ops::Range;

/// The resources of a run.
#[derive(Clone, Debug)]
pub struct Terrain {
    /// Lockspaces that clients open, by place.
    pub spaces: Vec<LockspaceName>,
    /// All resources by number: the lockspace's place, and the name.
    pub resources: Vec<(usize, ResourceName)>,
    /// A few that everybody wants.
    pub hot: Range<Res>,
    /// Many that are seldom wanted twice.
    pub cold: Range<Res>,
    /// Where counters live in value blocks.
    pub counters: Range<Res>,
    /// Where conversions are tried.
    pub converted: Range<Res>,
    /// Where owners wait for each other in circles.
    pub circles: Range<Res>,
    /// Where owners take less than they asked for.
    pub bargains: Range<Res>,
    /// Where value blocks are counted up in one step.
    pub tallies: Range<Res>,
    /// What is locked in ranges.
    pub ranged: Range<Res>,
    /// What is locked persistently.
    pub orphans: Range<Res>,
    /// What sets are taken of.
    pub sets: Range<Res>,
    /// What many read all the time, and some want to write.
    pub crowded: Range<Res>,
    /// How the lockspaces share out their resources.
    pub fairness: Fairness,
    /// Roots of trees, which have others beneath them.
    pub roots: Vec<Res>,
    /// What is locked in the lockspace that follows others' rules; the last one, if there is one.
    pub foreign: Range<Res>,
    /// Whose.
    pub compat: Compat,
    /// What is locked for transactions; two more come after them.
    pub transacted: Range<Res>,
    /// What is locked by locks that survive their nodes.
    pub surviving: Range<Res>,
}

impl Terrain {
    /// So many of each kind, in two lockspaces.
    #[must_use]
    pub fn new(
        [
            hot,
            cold,
            counters,
            converted,
            circles,
            bargains,
            tallies,
            ranged,
            orphans,
            sets,
            crowded,
            trees,
            transacted,
            surviving,
        ]: [u32; 14],
    ) -> Terrain {
        let mut resources = Vec::new();
        let mut add = |prefix: &str, count: u32| {
            let start = resources.len() as Res;
            for i in 0..count {
                let name = ResourceName::new(format!("{prefix}-{i}")).expect("short");
                resources.push((resources.len() % 2, name));
            }
            start..resources.len() as Res
        };
        let (hot, cold) = (add("hot", hot), add("cold", cold));
        let (counters, converted) = (add("counter", counters), add("convert", converted));
        let circles = add("circle", circles);
        let bargains = add("bargain", bargains);
        let tallies = add("tally", tallies);
        let ranged = add("range", ranged);
        let orphans = add("orphan", orphans);
        let sets = add("set", sets);
        let crowded = add("crowd", crowded);
        let mut roots = Vec::new();
        for i in 0..trees {
            let root = ResourceName::new(format!("tree-{i}")).expect("short");
            let mut tree = vec![root.clone()];
            for branch in ["a", "b"] {
                let branch = root.child(branch).expect("short");
                let leaves = ["x", "y"].map(|leaf| branch.child(leaf).expect("short"));
                tree.push(branch);
                tree.extend(leaves);
            }
            roots.push(resources.len() as Res);
            let space = resources.len() % 2;
            resources.extend(tree.into_iter().map(|name| (space, name)));
        }
        let start = resources.len() as Res;
        for i in 0..transacted + 2 {
            let name = ResourceName::new(format!("transaction-{i}")).expect("short");
            resources.push((resources.len() % 2, name));
        }
        let transacted = start..start + transacted;
        let start = resources.len() as Res;
        for i in 0..surviving {
            let name = ResourceName::new(format!("survivor-{i}")).expect("short");
            resources.push((resources.len() % 2, name));
        }
        let surviving = start..start + surviving;
        Terrain {
            spaces: ["sim", "aux"]
                .map(|name| LockspaceName::new(name).expect("valid"))
                .to_vec(),
            resources,
            hot,
            cold,
            counters,
            converted,
            circles,
            bargains,
            tallies,
            ranged,
            orphans,
            sets,
            crowded,
            fairness: Fairness::default(),
            roots,
            foreign: 0..0,
            compat: Compat::Strict,
            transacted,
            surviving,
        }
    }

    /// The same, with another lockspace that follows these rules, if they are others'.
    #[must_use]
    pub fn with_compat(mut self, compat: Compat) -> Terrain {
        if compat != Compat::Strict {
            let start = self.resources.len() as Res;
            let name = ResourceName::new("foreign-0").expect("short");
            self.resources.push((self.spaces.len(), name));
            self.foreign = start..start + 1;
            self.spaces
                .push(LockspaceName::new("foreign").expect("valid"));
            self.compat = compat;
        }
        self
    }

    /// What is right beneath a resource.
    #[must_use]
    pub fn beneath(&self, res: Res) -> Vec<Res> {
        let (space, above) = &self.resources[res as usize];
        let all = self.resources.iter().enumerate();
        let beneath =
            all.filter(|(_, (s, name))| s == space && name.parent().as_ref() == Some(above));
        beneath.map(|(at, _)| at as Res).collect()
    }

    /// The number of a resource.
    #[must_use]
    pub fn find(&self, space: &LockspaceName, name: &ResourceName) -> Option<Res> {
        self.resources
            .iter()
            .position(|(s, n)| self.spaces[*s] == *space && n == name)
            .map(|at| at as Res)
    }
}

/// Something that a workload is told.
#[derive(Clone, Debug)]
pub enum Happened {
    /// A session is open, and the lockspaces with it; it has no locks.
    Ready,
    /// The alarm rang.
    Alarm,
    /// A lock was granted, or converted.
    Granted(Handle, Granted),
    /// A request or conversion was refused.
    Refused(Handle, Refusal),
    /// An unlock was answered; the lock is gone.
    Unlocked(Handle),
    /// A release of a tree was answered, all of its locks being gone.
    TreeUnlocked,
    /// A cancel was answered.
    CancelAnswered(Handle),
    /// A lock was demoted to NL by its conversion, which waits on.
    Demoted(Handle),
    /// A lock blocks others.
    Blocking(Handle, LockMode),
    /// An update of a value block was answered.
    Updated(Handle, Result<Updated, Refusal>),
    /// The value block that a lock watches is another.
    ValueChanged(Handle, Value),
    /// A range of a lock was set; whether the lock still is one.
    RangeSet(Handle, bool),
    /// A call for a range was refused; whether the lock still is one.
    RangeRefused(Handle, bool),
    /// A lock on ranges blocks others there.
    RangeBlocking(Handle, ByteRange, LockMode),
    /// A question was answered.
    Told(Box<Result<Answer, Refusal>>),
    /// The session and all locks are gone.
    Lost,
    /// Make no new calls; release what is held and what may still be granted.
    Drain,
}

/// What a workload sees and can do while it reacts.
#[derive(Debug)]
pub struct Hands<'a> {
    /// Its dice.
    pub dice: &'a mut Entropy,
    /// Its process number.
    pub client: ClientNo,
    /// The resources.
    pub terrain: &'a Terrain,
    /// The lease page lets it rely on its locks.
    pub valid: bool,
    /// No new calls any more.
    pub draining: bool,
    /// Nodes whose vanished incarnations an operator could honestly vouch for.
    pub vouchable: &'a [NodeName],
    pub(crate) next_handle: &'a mut u64,
    pub(crate) commands: Vec<Command>,
}

impl Hands<'_> {
    /// A name that no lock of this process had.
    pub fn new_handle(&mut self) -> Handle {
        let handle = Handle(*self.next_handle);
        *self.next_handle += 1;
        handle
    }

    /// Has something done after the reaction.
    pub fn command(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// A number of a range of resources.
    pub fn one_of(&mut self, range: &Range<Res>) -> Res {
        range.start + self.dice.below(u64::from(range.end - range.start)) as Res
    }

    /// Releases a lock without publishing.
    pub fn unlock(&mut self, handle: Handle) {
        self.command(Command::Unlock {
            handle,
            flags: mainstay_base::Flags::NONE,
            value: None,
        });
    }
}

/// A workload in one client.
pub trait Brain: Send {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Reacts. When draining it must come to hold nothing.
    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened);
}

/// The kinds of workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// [`locks`]
    Locks,
    /// [`counters`]
    Counters,
    /// [`conversions`]
    Conversions,
    /// [`cancels`]
    Cancels,
    /// [`circles`]
    Circles,
    /// [`several`]
    Several,
    /// [`spectator`]
    Spectator,
    /// [`bargains`]
    Bargains,
    /// [`tallies`]
    Tallies,
    /// [`ranges`]
    Ranges,
    /// [`orphans`]
    Orphans,
    /// [`sets`]
    Sets,
    /// [`crowds`]
    Crowds,
    /// [`trees`]
    Trees,
    /// [`foreign`]
    Foreign,
    /// [`transactions`]
    Transactions,
    /// [`survivors`]
    Survivors,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 17] = [
        Kind::Locks,
        Kind::Counters,
        Kind::Conversions,
        Kind::Cancels,
        Kind::Circles,
        Kind::Several,
        Kind::Spectator,
        Kind::Bargains,
        Kind::Tallies,
        Kind::Ranges,
        Kind::Orphans,
        Kind::Sets,
        Kind::Crowds,
        Kind::Trees,
        Kind::Foreign,
        Kind::Transactions,
        Kind::Survivors,
    ];

    /// A new brain of this kind.
    #[must_use]
    pub fn brain(self) -> Box<dyn Brain> {
        match self {
            Kind::Locks => Box::new(locks::Locks::default()),
            Kind::Counters => Box::new(counters::Counters::default()),
            Kind::Conversions => Box::new(conversions::Conversions::default()),
            Kind::Cancels => Box::new(cancels::Cancels::default()),
            Kind::Circles => Box::new(circles::Circles::default()),
            Kind::Several => Box::new(several::Several::default()),
            Kind::Spectator => Box::new(spectator::Spectator::default()),
            Kind::Bargains => Box::new(bargains::Bargains::default()),
            Kind::Tallies => Box::new(tallies::Tallies::default()),
            Kind::Ranges => Box::new(ranges::Ranges::default()),
            Kind::Orphans => Box::new(orphans::Orphans::default()),
            Kind::Sets => Box::new(sets::Sets::default()),
            Kind::Crowds => Box::new(crowds::Crowds::default()),
            Kind::Trees => Box::new(trees::Trees::default()),
            Kind::Foreign => Box::new(foreign::Foreign::default()),
            Kind::Transactions => Box::new(transactions::Transactions::default()),
            Kind::Survivors => Box::new(survivors::Survivors::default()),
        }
    }
}
