//! Services: primitives, groups, clones and bundles, with all that is known and decided of them.

use super::{Ax, Needed, Needing, Nx, Scores, Sx};
use crate::actions::notify::Notices;
use mainstay_cib::{
    resources::Primitive,
    text::Str,
    value::{Role, Score},
};
use std::{collections::BTreeMap, sync::Arc};

/// Named values.
pub(crate) type Values = BTreeMap<Str, Str>;

/// The kind of a service, in the order of weight that constraints use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Primitive,
    Group,
    Clone,
    Bundle,
}

/// What happens to a service that is active on more nodes than it may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnMultiple {
    #[default]
    StopStart,
    StopOnly,
    Block,
    StopUnexpected,
}

/// What follows from a failure, from the lightest to the heaviest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fail {
    #[default]
    Ignore,
    Demote,
    Recover,
    ResetRemote,
    RestartContainer,
    Migrate,
    Block,
    Stop,
    Standby,
    Fence,
}

/// An operation as it is configured.
#[derive(Clone, Debug)]
pub(crate) struct OpDef {
    pub id: Str,
    pub name: Str,
    /// Milliseconds.
    pub interval: u64,
    pub role: Option<Role>,
    pub enabled: bool,
    /// Options of the operation, with the cluster's defaults.
    pub meta: Values,
}

/// What a service's configuration says, once for all instances of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    /// The id in the configuration.
    pub id: Str,
    pub class: Str,
    pub provider: Str,
    pub agent: Str,
    /// The primitive with all that its template gives it.
    pub primitive: Option<Primitive>,
    /// The parameters that a group or clone around it gives it.
    pub inherited: Values,
    pub meta: Values,
    pub ops: Vec<OpDef>,
    pub utilization: BTreeMap<Str, i64>,
}

impl Config {
    pub(crate) fn is_fencing(&self) -> bool {
        &*self.class == "stonith"
    }

    /// A meta attribute that means yes or no.
    pub(crate) fn truth(&self, name: &str) -> Option<bool> {
        mainstay_cib::value::truth(self.meta.get(name)?)
    }
}

/// What makes up one copy of a bundle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replica {
    pub number: u32,
    pub container: Sx,
    pub ip: Option<Sx>,
    /// The connection to what runs inside.
    pub remote: Option<Sx>,
    /// The instance that runs inside.
    pub child: Option<Sx>,
    /// The node that the container brings about.
    pub node: Option<Nx>,
}

/// A service.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Service {
    pub id: Str,
    /// The name that the history has for this instance, if it is another one.
    pub history_name: Option<Str>,
    pub config: Arc<Config>,
    pub kind: Kind,
    pub parent: Option<Sx>,
    pub children: Vec<Sx>,

    // What it is.
    pub managed: bool,
    pub maintenance: bool,
    pub critical: bool,
    pub notify: bool,
    /// Its number tells it apart from others; true for all that are not in a clone.
    pub unique: bool,
    pub orphan: bool,
    pub orphan_filler: bool,
    pub allow_migrate: bool,
    pub is_remote: bool,
    /// A container that may run on remote nodes.
    pub nests: bool,
    pub restart_with_order: bool,
    pub on_multiple: OnMultiple,
    pub stickiness: Score,
    pub threshold: Score,
    /// Seconds; 0 for ever.
    pub failure_timeout: i64,
    /// Milliseconds.
    pub reconnect: u64,
    pub requires: Needed,
    pub priority: Score,
    /// Runs in what this other service brings about.
    pub container: Option<Sx>,
    /// What runs in what this one brings about.
    pub fillers: Vec<Sx>,

    // What collectives are.
    pub ordered: bool,
    pub colocated: bool,
    pub interleave: bool,
    pub promotable: bool,
    pub max: u32,
    pub node_max: u32,
    pub min: u32,
    pub promoted_max: u32,
    pub promoted_node_max: u32,
    pub replicas: Vec<Replica>,

    // What it does.
    pub role: Option<Role>,
    pub next_role: Option<Role>,
    pub role_reason: &'static str,
    pub running_on: Vec<Nx>,
    pub known_on: Vec<Nx>,
    pub pending: Option<(Str, Nx)>,
    pub dangling: Vec<Nx>,
    /// A migration that has begun: from and to where.
    pub migration: Option<(Nx, Nx)>,
    pub lock: Option<Nx>,
    pub failed: bool,
    /// It failed so that it must be stopped (not only demoted).
    pub must_stop: bool,
    pub blocked: bool,
    pub failure_ignored: bool,
    pub start_pending: bool,

    // What is decided.
    pub allowed: Scores,
    pub exclusive: bool,
    pub home: Option<Nx>,
    /// The score by which the place was chosen.
    pub home_score: Score,
    /// No place has been decided on yet.
    pub provisional: bool,
    pub allocating: bool,
    pub merging: bool,
    pub restarting: bool,
    pub stop_unexpected: bool,
    pub reload: bool,
    pub promotion: Score,
    pub sort_index: Score,

    // Constraints: in which it follows, and in which it leads.
    pub this_with: Vec<usize>,
    pub with_this: Vec<usize>,
    pub locations: Vec<usize>,
    pub tickets: Vec<Needing>,
    pub actions: Vec<Ax>,
    /// The events around what is done to a clone whose instances are told.
    pub notices: Notices,
}

impl Service {
    /// A service of which nothing is known yet.
    pub(crate) fn new(id: Str, kind: Kind, config: Arc<Config>) -> Service {
        Service {
            id,
            history_name: None,
            config,
            kind,
            parent: None,
            children: Vec::new(),
            managed: true,
            maintenance: false,
            critical: true,
            notify: false,
            unique: true,
            orphan: false,
            orphan_filler: false,
            allow_migrate: false,
            is_remote: false,
            nests: false,
            restart_with_order: false,
            on_multiple: OnMultiple::StopStart,
            stickiness: Score::ZERO,
            threshold: Score::INFINITY,
            failure_timeout: 0,
            reconnect: 0,
            requires: Needed::Nothing,
            priority: Score::ZERO,
            container: None,
            fillers: Vec::new(),
            ordered: true,
            colocated: true,
            interleave: false,
            promotable: false,
            max: 0,
            node_max: 0,
            min: 0,
            promoted_max: 0,
            promoted_node_max: 0,
            replicas: Vec::new(),
            role: Some(Role::Stopped),
            next_role: None,
            role_reason: "",
            running_on: Vec::new(),
            known_on: Vec::new(),
            pending: None,
            dangling: Vec::new(),
            migration: None,
            lock: None,
            failed: false,
            must_stop: false,
            blocked: false,
            failure_ignored: false,
            start_pending: false,
            allowed: Scores::default(),
            exclusive: false,
            home: None,
            home_score: Score::ZERO,
            provisional: true,
            allocating: false,
            merging: false,
            restarting: false,
            stop_unexpected: false,
            reload: false,
            promotion: Score::ZERO,
            sort_index: Score::ZERO,
            this_with: Vec::new(),
            with_this: Vec::new(),
            locations: Vec::new(),
            tickets: Vec::new(),
            actions: Vec::new(),
            notices: Notices::default(),
        }
    }

    /// Whether it is active in some role.
    pub(crate) fn is_active(&self) -> bool {
        self.role > Some(Role::Stopped)
    }
}
