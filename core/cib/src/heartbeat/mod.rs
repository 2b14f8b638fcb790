//! The notation of Heartbeat 2 (`crm-1.0.dtd`), in both directions.
//!
//! What Heartbeat says is put into Pacemaker's words: wrappers of named values are taken off, names
//! get hyphens, what were attributes or parameters become meta attributes, and **defaults that differ
//! today are written out**: clones are globally unique, nothing is fenced. What has no meaning today
//! is an error that says so.

mod clean;
mod config;
mod constraints;
mod export;
mod import;
mod resources;
mod status;

pub use export::export;
pub use import::import;

/// Meta attributes, by their present names, that Heartbeat took as attributes of the element.
const AS_ATTRIBUTES: &[&str] = &[
    "is-managed",
    "restart-type",
    "multiple-active",
    "resource-stickiness",
    "notify",
    "ordered",
    "interleave",
    "globally-unique",
    "collocated",
];

/// Meta attributes, by their present names, that Heartbeat took among the parameters.
const AS_PARAMETERS: &[&str] = &[
    "target-role",
    "clone-max",
    "clone-node-max",
    "master-max",
    "master-node-max",
    "priority",
    "allow-migrate",
    "resource-failure-stickiness",
];

/// Cluster options that are called otherwise today.
const OPTIONS: &[(&str, &str)] = &[("transition-idle-timeout", "cluster-delay")];

/// Cluster options that are defaults for resources today.
const DEFAULTS: &[(&str, &str)] = &[
    ("default-resource-stickiness", "resource-stickiness"),
    (
        "default-resource-failure-stickiness",
        "resource-failure-stickiness",
    ),
    ("is-managed-default", "is-managed"),
];

/// Attributes whose underscores became hyphens.
const HYPHENATED: &[&str] = &[
    "op_status",
    "rc_code",
    "call_id",
    "op_digest",
    "op_force_restart",
    "op_restart_digest",
    "transition_key",
    "transition_magic",
    "boolean_op",
    "score_attribute",
    "have_quorum",
    "dc_uuid",
];
