//! What was done to resources on a node.

use crate::{
    text::Str,
    value::{TransitionKey, TransitionMagic},
    xml::{Attr, element},
};

element! {
    /// What the executor of a node has done.
    pub struct Lrm {
        attributes {
            /// The id of the node.
            id: Option<Str> = "id",
        }
        children {
            /// By resource.
            resources: Option<LrmResources> = "lrm_resources",
        }
    }
}

element! {
    /// The resources that the executor of a node knows.
    pub struct LrmResources {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
        }
        children {
            /// The resources.
            items: Vec<LrmResource> = "lrm_resource",
        }
    }
}

element! {
    /// What was done to a resource, or to an instance of it, on a node.
    pub struct LrmResource {
        attributes {
            /// The id of the primitive; of an instance, with `:` and its number.
            id: Str = "id",
            /// The agent.
            agent: Str = "type",
            /// The class of agents.
            class: Str = "class",
            /// Who provides the agent.
            provider: Option<Str> = "provider",
            /// The resource that brings the node about on which this one runs.
            container: Option<Str> = "container",
            /// Since when it may run nowhere else because its node was shut down, in seconds since
            /// 1970.
            shutdown_lock: Attr<i64> = "shutdown-lock",
        }
        children {
            /// The last operations of each kind, in no particular order: their call numbers tell.
            ops: Vec<LrmOp> = "lrm_rsc_op",
        }
    }
}

element! {
    /// An operation that was done, is being done, or has failed.
    pub struct LrmOp {
        attributes {
            /// Its id: `RESOURCE_last_0`, `RESOURCE_last_failure_0`, `RESOURCE_monitor_10000` …
            id: Str = "id",
            /// Its key: `RESOURCE_OPERATION_INTERVAL`.
            operation_key: Option<Str> = "operation_key",
            /// What was done.
            operation: Str = "operation",
            /// Who wrote this last.
            debug_origin: Option<Str> = "crm-debug-origin",
            /// The feature set of who ordered it, which decides how digests are made.
            feature_set: Option<Str> = "crm_feature_set",
            /// What ordered it, and the result that was hoped for.
            transition_key: Attr<TransitionKey> = "transition-key",
            /// The result with the key.
            transition_magic: Attr<TransitionMagic> = "transition-magic",
            /// Why it failed, in the agent's words.
            exit_reason: Option<Str> = "exit-reason",
            /// On which node, if the agent ran for another one.
            on_node: Option<Str> = "on_node",
            /// The number of the call on its node: later ones have higher numbers; -1 while pending.
            call_id: Attr<i64> = "call-id",
            /// What the agent returned.
            rc_code: Attr<i32> = "rc-code",
            /// How the execution ended: -1 pending, 0 done, 1 cancelled, 2 timed out, 3 not
            /// supported, 4 error, 7 not installed …
            op_status: Attr<i32> = "op-status",
            /// Its interval in milliseconds; 0 if it does not recur.
            interval: Attr<u64> = "interval",
            /// When it was last begun, in seconds since 1970 (old).
            last_run: Attr<i64> = "last-run",
            /// When its result last changed, in seconds since 1970.
            last_rc_change: Attr<i64> = "last-rc-change",
            /// How long it took, in milliseconds.
            exec_time: Attr<i64> = "exec-time",
            /// How long it waited, in milliseconds.
            queue_time: Attr<i64> = "queue-time",
            /// Digest of all parameters.
            op_digest: Option<Str> = "op-digest",
            /// Names of the parameters whose change needs a restart (or, in older entries, the
            /// opposite), separated by spaces.
            op_force_restart: Option<Str> = "op-force-restart",
            /// Digest of the parameters whose change needs a restart.
            op_restart_digest: Option<Str> = "op-restart-digest",
            /// Names of the parameters that are secrets, separated by spaces.
            op_secure_params: Option<Str> = "op-secure-params",
            /// Digest of the parameters that are no secrets.
            op_secure_digest: Option<Str> = "op-secure-digest",
            /// From where a resource migrated.
            migrate_source: Option<Str> = "migrate_source",
            /// Where a resource migrated to.
            migrate_target: Option<Str> = "migrate_target",
        }
        children {}
    }
}
