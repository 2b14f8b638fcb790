//! Writing down what was done on a node, as nodes do it.

use mainstay_cib::{
    Attr,
    sets::AttributeSet,
    status::{Lrm, LrmOp, LrmResource, LrmResources, NodeState, TransientAttributes},
    text::Str,
    value::{TransitionKey, TransitionMagic},
};

/// An operation that came to its end.
#[derive(Clone, Debug)]
pub(crate) struct Done<'a> {
    /// What was done, by its name in histories.
    pub task: &'a str,
    /// How often it recurs, in milliseconds; 0 for once.
    pub interval: u64,
    /// How it ended.
    pub rc: i32,
    /// How it was meant to end.
    pub target: i32,
    /// When, in seconds since 1970.
    pub at: i64,
    /// For a migration: from where to where.
    pub migration: Option<(Str, Str)>,
    /// The digest of the parameters; if it is not known, they are taken to be what they were.
    pub digest: Option<String>,
}

/// The histories of services on a node.
pub(crate) fn histories(state: &mut NodeState) -> &mut Vec<LrmResource> {
    let lrm = state.lrm.get_or_insert_with(Lrm::default);
    &mut lrm
        .resources
        .get_or_insert_with(LrmResources::default)
        .items
}

/// The digest of no parameters at all.
const NO_PARAMETERS: &str = "f2317cad3d54cec5d7d7aa7d0bf35cf8";

/// Adds an operation to the history of a service. Only the newest of its kind is kept, and the newest
/// failure.
pub(crate) fn write(history: &mut LrmResource, done: &Done<'_>) {
    let name = history.id.clone();
    let key = format!("{name}_{}_{}", done.task, done.interval);
    let migrates = matches!(done.task, "migrate_to" | "migrate_from");
    let usual = if done.interval > 0 || migrates {
        key.clone()
    } else {
        format!("{name}_last_0")
    };
    let calls = history.ops.iter().map(|o| o.call_id.or(0));
    let call = calls.max().unwrap_or(0).max(0) + 1;
    let by = TransitionKey {
        action: 0,
        transition: -1,
        target_rc: done.target,
        uuid: "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx".to_owned(),
    };
    let (source, target) = done.migration.clone().unzip();
    let same = |o: &&LrmOp| *o.operation == *done.task && o.interval.or(0) == done.interval;
    let former = || history.ops.iter().find(same)?.op_digest.clone();
    let digest = done.digest.as_deref().map(Str::from).or_else(former);
    let op = LrmOp {
        operation_key: Some(key.as_str().into()),
        operation: done.task.into(),
        transition_magic: Attr::of(TransitionMagic {
            op_status: 0,
            rc: done.rc,
            key: by.clone(),
        }),
        transition_key: Attr::of(by),
        call_id: Attr::of(call),
        rc_code: Attr::of(done.rc),
        op_status: Attr::of(0),
        interval: Attr::of(done.interval),
        last_rc_change: Attr::of(done.at),
        op_digest: digest.or_else(|| Some(NO_PARAMETERS.into())),
        migrate_source: source,
        migrate_target: target,
        ..LrmOp::default()
    };
    let failed = done.rc != done.target;
    let failure = failed.then(|| format!("{name}_last_failure_0"));
    // What recurs keeps its place in the history when it fails; what was done once does not.
    let last = (!failed || done.interval == 0).then_some(usual);
    for id in failure.into_iter().chain(last) {
        let op = LrmOp {
            id: id.as_str().into(),
            ..op.clone()
        };
        match history.ops.iter_mut().find(|o| *o.id == *id) {
            Some(former) => *former = op,
            None => history.ops.push(op),
        }
    }
}

/// How a failure is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counting {
    /// For each operation, or for all together.
    pub by_operation: bool,
    /// As INFINITY: it is not tried again.
    pub fatal: bool,
}

/// Counts a failure of a service on a node.
pub(crate) fn count_failure(
    state: &mut NodeState,
    service: &str,
    done: &Done<'_>,
    counting: Counting,
) {
    let operation = if counting.by_operation {
        format!("#{}_{}", done.task, done.interval)
    } else {
        String::new()
    };
    let set = transient(state);
    let count = format!("fail-count-{service}{operation}");
    let former = set.get(&count).unwrap_or("0");
    let next = if counting.fatal || former == "INFINITY" {
        "INFINITY".to_owned()
    } else {
        former
            .parse::<u32>()
            .unwrap_or(0)
            .saturating_add(1)
            .to_string()
    };
    write_attribute(set, &count, &next);
    let last = format!("last-failure-{service}{operation}");
    write_attribute(set, &last, &done.at.to_string());
}

/// Gives a node a transient attribute.
pub(crate) fn set_attribute(state: &mut NodeState, name: &str, value: &str) {
    write_attribute(transient(state), name, value);
}

/// The set for transient attributes of a node.
fn transient(state: &mut NodeState) -> &mut AttributeSet {
    let id = state.id.clone();
    if state.transient.is_empty() {
        state.transient.push(TransientAttributes {
            id: Some(id.clone()),
            ..TransientAttributes::default()
        });
    }
    let sets = &mut state.transient[0].sets;
    if sets.is_empty() {
        sets.push(AttributeSet::new(&format!("status-{id}")));
    }
    &mut sets[0]
}

fn write_attribute(set: &mut AttributeSet, name: &str, value: &str) {
    set.set(name, value);
    for pair in &mut set.pairs {
        // An id in XML has no such character in it.
        if let Some(id) = pair.id.as_ref().filter(|id| id.contains('#')) {
            pair.id = Some(id.replace('#', ".").into());
        }
    }
}
