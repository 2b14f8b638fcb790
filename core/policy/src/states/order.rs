//! Which of two recorded operations is the newer one.

use mainstay_cib::{
    status::LrmOp,
    value::{TransitionKey, TransitionMagic},
};
use std::cmp::Ordering;

/// The operations in the order in which they happened.
pub(crate) fn sorted(ops: &[LrmOp]) -> Vec<&LrmOp> {
    // Of equal ones, the later in the text comes first.
    merge_sort(ops.iter().rev().collect())
}

/// Pending operations make the order partial: a sort of the library may refuse that, and the result
/// depends on what is compared with what. So the way of sorting is part of the rule: halves (the
/// first the smaller one) are sorted and merged.
fn merge_sort(mut list: Vec<&LrmOp>) -> Vec<&LrmOp> {
    if list.len() < 2 {
        return list;
    }
    let second = merge_sort(list.split_off(list.len() / 2));
    let first = merge_sort(list);
    let mut merged = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    while let (Some(a), Some(b)) = (first.peek(), second.peek()) {
        let from = match compare(a, b, true) {
            Ordering::Greater => &mut second,
            _ => &mut first,
        };
        merged.extend(from.next());
    }
    merged.extend(first);
    merged.extend(second);
    merged
}

/// How two operations follow each other. Numbers of calls mean something on one node only; where an
/// operation is pending or the nodes differ, transitions and times tell.
pub(super) fn compare(a: &LrmOp, b: &LrmOp, same_node: bool) -> Ordering {
    let same_node = match (&a.on_node, &b.on_node) {
        (Some(x), Some(y)) => x == y,
        _ => same_node,
    };
    if same_node && a.id == b.id {
        return Ordering::Equal;
    }
    let (x, y) = (a.call_id.or(-1), b.call_id.or(-1));
    if x == -1 && y == -1 {
        return Ordering::Equal;
    }
    if same_node && x >= 0 && x < y {
        return Ordering::Less;
    }
    if same_node && y >= 0 && x > y {
        return Ordering::Greater;
    }
    if x >= 0 && y >= 0 && (!same_node || x == y) {
        let (p, q) = (a.last_rc_change.or(-1), b.last_rc_change.or(-1));
        if p >= 0 && p < q {
            return Ordering::Less;
        }
        if q >= 0 && p > q {
            return Ordering::Greater;
        }
        return Ordering::Equal;
    }
    by_transition(a, b, x, y)
}

/// One of the two is pending: a later transition of the same life is later; else what is pending is.
fn by_transition(a: &LrmOp, b: &LrmOp, x: i64, y: i64) -> Ordering {
    let key = |op: &LrmOp| -> Option<TransitionKey> {
        op.transition_magic
            .value()
            .map(|m: &TransitionMagic| m.key.clone())
    };
    let (Some(p), Some(q)) = (key(a), key(b)) else {
        return Ordering::Equal;
    };
    let (i, j) = (p.transition, q.transition);
    if p.uuid != q.uuid || i == j {
        if y == -1 {
            return Ordering::Less;
        }
        if x == -1 {
            return Ordering::Greater;
        }
    } else if (i >= 0 && i < j) || j == -1 {
        return Ordering::Less;
    } else if (j >= 0 && i > j) || i == -1 {
        return Ordering::Greater;
    }
    Ordering::Equal
}
