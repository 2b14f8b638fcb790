//! The options of the cluster.

use crate::model::FenceOp;
use mainstay_cib::{
    text::Str,
    value::{FromText as _, Interval, Score, truth},
};
use std::collections::BTreeMap;

/// What happens without a quorum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum NoQuorum {
    #[default]
    Stop,
    Freeze,
    Ignore,
    Demote,
    Suicide,
}

/// What counts when a node is chosen, besides scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Strategy {
    #[default]
    Default,
    Utilization,
    Balanced,
    Minimal,
}

/// The options that the engine knows, and the text of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub all: BTreeMap<Str, Str>,
    pub fencing: bool,
    pub fence_action: FenceOp,
    pub startup_fencing: bool,
    pub concurrent_fencing: bool,
    pub symmetric: bool,
    pub no_quorum: NoQuorum,
    pub stop_all: bool,
    pub stop_orphans: bool,
    pub stop_orphan_actions: bool,
    pub maintenance: bool,
    pub managed_by_default: bool,
    pub probes: bool,
    pub remove_after_stop: bool,
    pub strategy: Strategy,
    pub shutdown_lock: bool,
    /// Seconds; 0 for ever.
    pub shutdown_lock_limit: i64,
}

impl Options {
    pub(crate) fn new(all: BTreeMap<Str, Str>, may_panic: bool) -> Options {
        let get = |names: &[&str]| names.iter().find_map(|n| all.get(*n)).map(|v| &**v);
        let yes = |names: &[&str], default: bool| get(names).and_then(truth).unwrap_or(default);
        let seconds = |name: &str| {
            get(&[name])
                .and_then(Interval::from_text)
                .map_or(0, |i| (i.millis() / 1000) as i64)
        };
        let fencing = yes(&["stonith-enabled", "stonith_enabled"], true);
        let no_quorum = match get(&["no-quorum-policy", "no_quorum_policy"]) {
            Some("ignore") => NoQuorum::Ignore,
            Some("freeze") => NoQuorum::Freeze,
            Some("demote") => NoQuorum::Demote,
            Some("suicide") if fencing && may_panic => NoQuorum::Suicide,
            _ => NoQuorum::Stop,
        };
        Options {
            fencing,
            fence_action: match get(&["stonith-action", "stonith_action"]) {
                Some("off" | "poweroff") => FenceOp::Off,
                _ => FenceOp::Reboot,
            },
            startup_fencing: yes(&["startup-fencing", "startup_fencing"], true),
            concurrent_fencing: yes(&["concurrent-fencing"], false),
            symmetric: yes(&["symmetric-cluster", "symmetric_cluster"], true),
            no_quorum,
            stop_all: yes(&["stop-all-resources", "stop_all_resources"], false),
            stop_orphans: yes(&["stop-orphan-resources", "stop_orphan_resources"], true),
            stop_orphan_actions: yes(&["stop-orphan-actions", "stop_orphan_actions"], true),
            maintenance: yes(&["maintenance-mode", "maintenance_mode"], false),
            managed_by_default: yes(&["is-managed-default", "is_managed_default"], true),
            probes: yes(&["enable-startup-probes", "enable_startup_probes"], true),
            remove_after_stop: yes(&["remove-after-stop", "remove_after_stop"], false),
            strategy: match get(&["placement-strategy"]) {
                Some("utilization") => Strategy::Utilization,
                Some("balanced") => Strategy::Balanced,
                Some("minimal") => Strategy::Minimal,
                _ => Strategy::Default,
            },
            shutdown_lock: yes(&["shutdown-lock"], false),
            shutdown_lock_limit: seconds("shutdown-lock-limit"),
            all,
        }
    }

    /// Whether nodes of which nothing is known must be fenced.
    pub(crate) fn fences_unseen(&self) -> bool {
        self.fencing && self.startup_fencing
    }

    /// A score among the options, such as the one for a colour of health.
    pub(crate) fn score(&self, name: &str, default: Score) -> Score {
        self.all
            .get(name)
            .and_then(|v| Score::from_text(v))
            .unwrap_or(default)
    }
}
