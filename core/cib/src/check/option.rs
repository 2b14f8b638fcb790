//! Names and values of options and meta attributes.

use super::Checker;
use crate::{
    problem::Level,
    resources::Resource,
    sets::AttributeSet,
    value::{FromText, Interval, MultipleActive, Requires, Role, Score, truth},
};

/// What the value of a name must be.
#[derive(Clone, Copy)]
enum Kind {
    Truth,
    Time,
    Number,
    Points,
    Word(&'static [&'static str]),
    Role,
    Requires,
    Multiple,
    Any,
}

use Kind::{Any, Multiple, Number, Points, Time, Truth, Word};

const OPTIONS: &[(&str, Kind)] = &[
    (
        "no-quorum-policy",
        Word(&["stop", "freeze", "ignore", "demote", "suicide", "fence"]),
    ),
    ("symmetric-cluster", Truth),
    ("stonith-enabled", Truth),
    ("stonith-action", Word(&["reboot", "off", "poweroff"])),
    ("stonith-timeout", Time),
    ("stonith-max-attempts", Number),
    ("stonith-watchdog-timeout", Any),
    ("have-watchdog", Truth),
    ("concurrent-fencing", Truth),
    ("startup-fencing", Truth),
    ("fence-reaction", Word(&["stop", "panic"])),
    ("priority-fencing-delay", Time),
    ("node-pending-timeout", Time),
    ("cluster-delay", Time),
    ("batch-limit", Number),
    ("migration-limit", Number),
    ("load-threshold", Any),
    ("node-action-limit", Number),
    ("stop-orphan-resources", Truth),
    ("stop-orphan-actions", Truth),
    ("start-failure-is-fatal", Truth),
    ("enable-startup-probes", Truth),
    ("maintenance-mode", Truth),
    ("stop-all-resources", Truth),
    ("shutdown-lock", Truth),
    ("shutdown-lock-limit", Time),
    (
        "placement-strategy",
        Word(&["default", "utilization", "minimal", "balanced"]),
    ),
    (
        "node-health-strategy",
        Word(&[
            "none",
            "migrate-on-red",
            "only-green",
            "progressive",
            "custom",
        ]),
    ),
    ("node-health-base", Points),
    ("node-health-green", Points),
    ("node-health-yellow", Points),
    ("node-health-red", Points),
    ("pe-error-series-max", Number),
    ("pe-warn-series-max", Number),
    ("pe-input-series-max", Number),
    ("cluster-recheck-interval", Time),
    ("dc-deadtime", Time),
    ("election-timeout", Time),
    ("shutdown-escalation", Time),
    ("join-integration-timeout", Time),
    ("join-finalization-timeout", Time),
    ("transition-delay", Time),
    ("remove-after-stop", Truth),
    ("default-resource-stickiness", Points),
    ("is-managed-default", Truth),
    ("default-action-timeout", Time),
    ("enable-acl", Truth),
    ("dc-version", Any),
    ("cluster-name", Any),
    ("cluster-infrastructure", Any),
    ("cluster-ipc-limit", Number),
    ("last-lrm-refresh", Any),
];

const META: &[(&str, Kind)] = &[
    ("target-role", Kind::Role),
    ("is-managed", Truth),
    ("maintenance", Truth),
    ("priority", Points),
    ("critical", Truth),
    ("resource-stickiness", Points),
    ("resource-failure-stickiness", Points),
    ("requires", Kind::Requires),
    ("migration-threshold", Points),
    ("failure-timeout", Time),
    ("multiple-active", Multiple),
    ("allow-migrate", Truth),
    ("allow-unhealthy-nodes", Truth),
    ("container-attribute-target", Word(&["host"])),
    ("remote-node", Any),
    ("remote-port", Number),
    ("remote-addr", Any),
    ("remote-connect-timeout", Time),
    ("remote-allow-migrate", Truth),
    ("restart-type", Word(&["ignore", "restart"])),
    ("clone-max", Number),
    ("clone-min", Number),
    ("clone-node-max", Number),
    ("globally-unique", Truth),
    ("notify", Truth),
    ("ordered", Truth),
    ("interleave", Truth),
    ("promotable", Truth),
    ("promoted-max", Number),
    ("promoted-node-max", Number),
    ("master-max", Number),
    ("master-node-max", Number),
    ("collocated", Truth),
    ("external-ip", Any),
    ("provides", Any),
    ("is-managed-default", Truth),
    ("container", Any),
];

pub(super) fn check(checker: &mut Checker<'_>) {
    for set in checker.cib.options() {
        values(checker, set, OPTIONS, "cluster option");
    }
    for set in checker.cib.rsc_defaults() {
        values(checker, set, META, "meta attribute");
    }
    for resource in checker.cib.resources() {
        each(checker, resource);
    }
}

fn each<'a>(checker: &mut Checker<'a>, resource: &'a Resource) {
    for set in resource.meta() {
        values(checker, set, META, "meta attribute");
    }
    match resource {
        Resource::Clone(clone) | Resource::Master(clone) => {
            if let Some(content) = &clone.content {
                each(checker, content);
            }
        }
        Resource::Group(_) | Resource::Bundle(_) => {
            for primitive in resource.primitives() {
                for set in &primitive.meta {
                    values(checker, set, META, "meta attribute");
                }
            }
        }
        Resource::Primitive(_) => {}
    }
}

fn values(checker: &mut Checker<'_>, set: &AttributeSet, known: &[(&str, Kind)], what: &str) {
    for pair in &set.pairs {
        let (Some(name), Some(value)) = (&pair.name, &pair.value) else {
            continue;
        };
        let spot = (pair.at, "nvpair", pair.id.as_ref());
        match known.iter().find(|(k, _)| **k == **name) {
            Some((_, kind)) => {
                if let Some(expected) = wrong(*kind, value) {
                    let what = format!("{name}={value:?} is not understood");
                    checker.add(
                        Level::Warning,
                        "bad-value",
                        spot,
                        what,
                        format!("write {expected}"),
                    );
                }
            }
            None => unknown(checker, spot, name, known, what),
        }
    }
}

fn unknown(
    checker: &mut Checker<'_>,
    spot: super::Spot<'_>,
    name: &str,
    known: &[(&str, Kind)],
    kind: &str,
) {
    let near = near(
        &name.replace('_', "-"),
        known.iter().map(|(known, _)| *known),
    );
    let what = format!("there is no {kind} {name:?}");
    match near {
        Some(near) => checker.add(
            Level::Warning,
            "unknown-name",
            spot,
            what,
            format!("did you mean {near}?"),
        ),
        // Agents and tools keep values of their own among them.
        None => checker.add(
            Level::Note,
            "unknown-name",
            spot,
            what,
            "take it out, unless a program of yours reads it",
        ),
    }
}

/// What is expected, if the value is none.
fn wrong(kind: Kind, value: &str) -> Option<String> {
    fn not<T: FromText>(value: &str) -> Option<String> {
        T::from_text(value)
            .is_none()
            .then(|| T::EXPECTED.to_owned())
    }
    match kind {
        Any => None,
        Truth => truth(value).is_none().then(|| bool::EXPECTED.to_owned()),
        Time => not::<Interval>(value),
        Number => not::<i64>(value),
        Points => not::<Score>(value),
        Kind::Role => not::<Role>(value),
        Kind::Requires => not::<Requires>(value),
        Multiple => not::<MultipleActive>(value),
        Word(words) => (!words.contains(&value)).then(|| words.join(", ")),
    }
}

/// The name that was probably meant.
pub(super) fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let all = known.map(|known| (distance(name, known), known));
    all.min().filter(|(d, _)| *d <= 2).map(|(_, known)| known)
}

/// How many letters must be changed, added or taken out to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
