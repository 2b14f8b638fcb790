//! Whether failures would be noticed, and operations make sense.

use super::{Checker, spot};
use crate::{
    operations::Op,
    problem::Level,
    resources::Primitive,
    sets::lookup,
    value::{Interval, Role},
};

pub(super) fn check(checker: &mut Checker<'_>) {
    for primitive in checker.primitives() {
        operations(checker, &primitive);
    }
    for resource in checker.cib.resources() {
        if resource.is_promotable() {
            for primitive in resource.primitives() {
                promotable(checker, primitive);
            }
        }
    }
}

fn interval(op: &Op) -> Interval {
    op.interval.or(Interval::ZERO)
}

fn is_monitor(op: &Op) -> bool {
    &*op.name == "monitor"
        && interval(op) > Interval::ZERO
        && op.enabled.or(true)
        && op.role.get() != Some(Role::Stopped)
}

fn operations(checker: &mut Checker<'_>, primitive: &Primitive) {
    let ops = primitive.ops();
    if !ops.iter().any(is_monitor) && !primitive.is_fencing() {
        checker.add(
            Level::Note,
            "no-monitor",
            spot(primitive),
            "no monitor recurs, so nobody notices when it fails",
            "add <op name=\"monitor\" interval=\"10s\" timeout=\"20s\"/>",
        );
    }
    for (index, op) in ops.iter().enumerate() {
        let place = (op.at, "op", op.id.as_ref());
        let same = |other: &&Op| {
            other.name == op.name
                && interval(other) == interval(op)
                && other.enabled.or(true)
                && op.enabled.or(true)
        };
        if let Some(first) = ops[..index].iter().find(same) {
            let what = format!(
                "{} of {} with this interval is configured already, at {}",
                op.name, primitive.id, first.at
            );
            let mend = "give them different intervals, also for different roles";
            checker.add(Level::Error, "duplicate-operation", place, what, mend);
        }
        let once = [
            "start",
            "stop",
            "promote",
            "demote",
            "migrate_to",
            "migrate_from",
        ];
        if once.contains(&&*op.name) && interval(op) > Interval::ZERO {
            let what = format!("{} never recurs, so the operation is not used", op.name);
            checker.add(
                Level::Warning,
                "interval-of-action",
                place,
                what,
                "write interval=\"0\"",
            );
        }
        let timeout = op.timeout.get().or_else(|| {
            let text = lookup(&op.meta, "timeout")?;
            <Interval as crate::value::FromText>::from_text(text)
        });
        if timeout == Some(Interval::ZERO) {
            checker.add(
                Level::Warning,
                "no-time",
                place,
                "a timeout of 0 means the default, not for ever",
                "write how long it may take",
            );
        }
        if is_monitor(op) && interval(op) < Interval::from_millis(1000) {
            checker.add(
                Level::Warning,
                "monitor-too-often",
                place,
                "the monitor runs more than once a second",
                "check the unit: a bare number counts seconds",
            );
        }
    }
}

fn promotable(checker: &mut Checker<'_>, primitive: &Primitive) {
    let Some(whole) = checker.index.find_primitive(&primitive.id) else {
        return;
    };
    let Some(whole) = checker.index.whole(whole) else {
        return;
    };
    let watched = |promoted: bool| {
        whole
            .ops()
            .iter()
            .any(|op| is_monitor(op) && (op.role.get() == Some(Role::Promoted)) == promoted)
    };
    if watched(false) && !watched(true) {
        checker.add(
            Level::Warning,
            "no-promoted-monitor",
            spot(primitive),
            "no monitor recurs in the promoted role, which the other one does not cover",
            "add a monitor with role=\"Promoted\" and another interval",
        );
    }
}
