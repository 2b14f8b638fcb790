//! The policy engine: where every service should run, why, and in which steps.
//!
//! [`plan`] is a pure function of a cluster's configuration and status and of the moment: the same
//! input gives the same plan, to the byte. It is a recital of stages, each a module:
//!
//! | stage | module | what it finds out |
//! |---|---|---|
//! | unpacking | `unpack` | options, nodes and services as they are configured |
//! | states | `states` | which nodes are up, what runs where, what failed, who must be fenced |
//! | constraints | `constraints` | where, together with what, in which order |
//! | placement | `placement` | scores, places, roles of instances |
//! | actions | `actions` | what is asked, started, stopped, promoted, told, moved |
//! | fencing | `fencing` | who is fenced and shut down, and what depends on that |
//! | ordering | `ordering` | what must be done, or cannot be, because of something else |
//! | graph | `graph` | the steps that remain, and what each waits for |
//!
//! The rules are those of Pacemaker, as far as `docs/scheduler.md` says. [`lint`](mod@lint) looks at
//! plans from outside: it knows what no plan may do, and nothing of how plans are made.
//!
//! ```
//! use mainstay_cib::native;
//! use mainstay_policy::{Ask, plan};
//!
//! let text = "\
//! property stonith-enabled=false
//! node 1 n1
//! node 2 n2
//! primitive web systemd:nginx
//! location l web 100: n2
//! status
//!   <node_state id=1 uname=n1 in_ccm=true crmd=online join=member expected=member
//!   <node_state id=2 uname=n2 in_ccm=true crmd=online join=member expected=member
//! ";
//! let mut cib = native::read(text).unwrap().document.cib;
//! cib.have_quorum = mainstay_cib::Attr::of(true);
//! let plan = plan(&cib, Ask::at(0));
//! let changes: Vec<String> = plan.report.changes.iter().map(|c| c.line()).collect();
//! assert_eq!(changes, ["start web n2"]);
//! ```

#![forbid(unsafe_code)]

mod actions;
mod constraints;
mod digest;
mod fencing;
mod graph;
pub mod lint;
mod model;
mod ordering;
mod placement;
mod plan;
mod record;
mod report;
mod rules;
mod run;
mod states;
mod unpack;
pub mod whatif;

pub use plan::{
    Contribution, Graph, Kind, NodeScore, Place, Plan, Report, Score, Step, StepWhy, Why,
};
pub use report::{Change, Status, Verdict};

use mainstay_cib::{Cib, index::Index};
use model::World;

/// Whose rules hold where they differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Those of Pacemaker.
    #[default]
    Pacemaker,
    /// Those of Heartbeat 2: what is active in a group makes all of the group stay, each member as
    /// much as all together.
    Heartbeat,
}

/// What a plan is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask {
    /// The moment, in seconds since 1970.
    pub now: i64,
    /// Whose rules hold where they differ.
    pub dialect: Dialect,
}

impl Ask {
    /// For a moment (seconds since 1970), by the rules of Pacemaker.
    #[must_use]
    pub fn at(now: i64) -> Ask {
        Ask {
            now,
            dialect: Dialect::Pacemaker,
        }
    }
}

/// Plans what is to be done.
#[must_use]
pub fn plan(cib: &Cib, ask: Ask) -> Plan {
    recite(cib, ask, Plan::of)
}

/// Plans what is to be done, and plays it to its end as if everything succeeded: the plan, and the
/// cluster afterwards.
#[must_use]
pub fn run(cib: &Cib, ask: Ask) -> (Plan, Cib) {
    recite(cib, ask, |world, before| {
        let played = run::play(world, run::Player::Node, &[]);
        (Plan::of(world, before), played.cib)
    })
}

/// A plan, and what became of it.
#[derive(Clone, Debug)]
pub struct Run {
    /// The plan.
    pub plan: Plan,
    /// The steps that were done, in that order.
    pub done: Vec<String>,
    /// The step that failed. Nothing was begun after it.
    pub failed: Option<String>,
    /// The configuration, and the status afterwards.
    pub after: Cib,
}

/// Plans what is to be done, and plays it to its end, or to the first step of which a failure is given.
#[must_use]
pub fn run_with(cib: &Cib, ask: Ask, failing: &[whatif::OpResult]) -> Run {
    recite(cib, ask, |world, before| {
        let played = run::play(world, run::Player::Node, failing);
        Run {
            plan: Plan::of(world, before),
            done: played.done,
            failed: played.failed,
            after: played.cib,
        }
    })
}

/// The plan, and the states before and after it, in the normalised form in which plans of different
/// engines can be compared. The state afterwards is that at the first step of which a failure is given.
#[must_use]
pub fn verdict(cib: &Cib, ask: Ask, failing: &[whatif::OpResult]) -> Verdict {
    let (mut verdict, played) = recite(cib, ask, |world, before| {
        (
            Verdict::of(world, before),
            run::play(world, run::Player::Reference, failing),
        )
    });
    let after = state_of(&played.cib, ask, false);
    verdict.nodes_after = after.nodes;
    verdict.placements = after.services;
    verdict
}

/// The state of a cluster: which nodes are up, and where services are.
#[must_use]
pub fn status(cib: &Cib, ask: Ask) -> Status {
    state_of(cib, ask, true)
}

fn state_of(cib: &Cib, ask: Ask, pending: bool) -> Status {
    let index = Index::new(cib);
    let mut world = unpack::unpack(cib, &index, ask);
    states::read(&mut world);
    Status::of(&world, pending)
}

/// All stages, one after the other.
fn recite<R>(cib: &Cib, ask: Ask, result: impl FnOnce(&World<'_>, Status) -> R) -> R {
    let index = Index::new(cib);
    let mut world = unpack::unpack(cib, &index, ask);
    states::read(&mut world);
    let before = Status::of(&world, true);
    constraints::unpack(&mut world);
    placement::criteria(&mut world);
    constraints::internal(&mut world);
    actions::check_config(&mut world);
    placement::place(&mut world);
    actions::schedule(&mut world);
    actions::order_remote(&mut world);
    fencing::schedule(&mut world);
    ordering::apply(&mut world);
    graph::draw(&mut world);
    result(&world, before)
}
