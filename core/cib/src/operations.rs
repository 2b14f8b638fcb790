//! Operations as they are configured.

use crate::{
    sets::AttributeSet,
    text::Str,
    value::{Interval, OnFail, Requires, Role},
    xml::{Attr, element},
};

element! {
    /// How an operation on a resource is done. Each attribute but the first three can be given by a
    /// meta attribute of the operation too.
    pub struct Op {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// What is done: start, stop, monitor …
            name: Str = "name",
            /// How often it recurs; 0 for never.
            interval: Attr<Interval> = "interval",
            /// What people say about it.
            description: Option<Str> = "description",
            /// How long after the start the first one waits.
            start_delay: Attr<Interval> = "start-delay",
            /// From when on the intervals are counted, in place of the start.
            interval_origin: Option<Str> = "interval-origin",
            /// How long it may take.
            timeout: Attr<Interval> = "timeout",
            /// Whether it is done at all; true if absent.
            enabled: Attr<bool> = "enabled",
            /// Whether it is written down while it runs; true if absent.
            record_pending: Attr<bool> = "record-pending",
            /// In which role the resource must be for it to recur.
            role: Attr<Role> = "role",
            /// What the resource needs first (old; now a meta attribute of the resource).
            requires: Attr<Requires> = "requires",
            /// What follows from its failure.
            on_fail: Attr<OnFail> = "on-fail",
        }
        children {
            /// Meta attributes.
            meta: Vec<AttributeSet> = "meta_attributes",
            /// Parameters of the agent, for this operation only.
            parameters: Vec<AttributeSet> = "instance_attributes",
        }
    }
}

element! {
    /// The operations of a resource.
    pub struct Operations {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// The id of the operations to use in place of these.
            id_ref: Option<Str> = "id-ref",
        }
        children {
            /// The operations.
            items: Vec<Op> = "op",
            /// Values that hold for all of them.
            meta: Vec<AttributeSet> = "meta_attributes",
            /// Parameters that hold for all of them.
            parameters: Vec<AttributeSet> = "instance_attributes",
        }
    }
}

element! {
    /// Defaults for operations or for resources.
    pub struct Defaults {
        attributes {}
        children {
            /// The sets.
            sets: Vec<AttributeSet> = "meta_attributes",
        }
    }
}
