//! In which grades two verdicts are the same.

use mainstay_policy::Verdict;
use std::collections::BTreeMap;

/// The grades, from the state that is read to the scores that are thought of.
pub const GRADES: [&str; 6] = [
    "L0 state before",
    "L1 placement and fencing",
    "L2 changes",
    "L3 operations",
    "L4 order",
    "L5 scores",
];

/// Whether each grade is reached.
pub type Reached = [bool; GRADES.len()];

/// The grades that one verdict reaches against another one.
#[must_use]
pub fn grades(ours: &Verdict, theirs: &Verdict) -> Reached {
    [
        ours.nodes_before == theirs.nodes_before && bare(&ours.before) == bare(&theirs.before),
        ours.fencing == theirs.fencing && bare(&ours.placements) == bare(&theirs.placements),
        ours.summary == theirs.summary,
        ours.actions == theirs.actions && ours.cluster_actions == theirs.cluster_actions,
        // Both are without what follows, so that equal orders have equal lists.
        ours.order == theirs.order,
        ours.scores == theirs.scores,
    ]
}

/// Places without what is said of them in brackets, and only of services that have one.
fn bare(places: &BTreeMap<String, Vec<String>>) -> BTreeMap<&str, Vec<&str>> {
    let plain = |place: &'_ String| place.find(" (").unwrap_or(place.len());
    let some = places.iter().filter(|(_, list)| !list.is_empty());
    some.map(|(service, list)| {
        let mut list: Vec<&str> = list.iter().map(|p| &p[..plain(p)]).collect();
        list.sort_unstable();
        (service.as_str(), list)
    })
    .collect()
}

/// What differs, a line for each fact that only one of the two has: `+` is ours, `-` theirs.
#[must_use]
pub fn differences(ours: &Verdict, theirs: &Verdict) -> Vec<String> {
    let facts = |v: &Verdict| {
        let mut facts = Vec::new();
        for (name, state) in &v.nodes_before {
            facts.push(format!("node {name} {state}"));
        }
        for (name, places) in [("before", &v.before), ("after", &v.placements)] {
            for (service, list) in bare(places) {
                facts.extend(list.iter().map(|place| format!("{name} {service} {place}")));
            }
        }
        let lists = [
            ("fencing", &v.fencing),
            ("change", &v.summary),
            ("operation", &v.actions),
            ("operation", &v.cluster_actions),
            ("order", &v.order),
        ];
        for (name, list) in lists {
            facts.extend(list.iter().map(|fact| format!("{name} {fact}")));
        }
        facts.extend(v.scores.iter().map(|s| format!("score {}", s.join(" "))));
        facts
    };
    let (mine, mut others) = (facts(ours), facts(theirs));
    let mut lines = Vec::new();
    for fact in mine {
        match others.iter().position(|o| *o == fact) {
            Some(at) => {
                others.remove(at);
            }
            None => lines.push(format!("+ {fact}")),
        }
    }
    lines.extend(others.into_iter().map(|fact| format!("- {fact}")));
    lines
}
