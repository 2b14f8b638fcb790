//! When two verdicts say the same.

use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
};

/// A plan, and the states before and after it, in the normalised form.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Verdict {
    #[serde(default)]
    pub(super) nodes_before: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) before: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(super) placements: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(super) summary: Vec<String>,
    #[serde(default)]
    pub(super) actions: Vec<String>,
    #[serde(default)]
    pub(super) cluster_actions: Vec<String>,
    #[serde(default)]
    pub(super) fencing: Vec<String>,
    #[serde(default)]
    pub(super) order: Vec<String>,
    /// Stage, service, node, score.
    #[serde(default)]
    pub(super) scores: Vec<[String; 4]>,
}

/// What is compared, by its name in reports and in words.
pub(super) const FIELDS: [(&str, &str); 10] = [
    ("L0_before", "placement before"),
    ("L0_nodes", "states of nodes"),
    ("L1_placements", "final placement"),
    ("L1_fencing", "fencing"),
    ("L2_summary", "user-level summary"),
    ("L3_actions", "actions"),
    ("L4_order", "order"),
    ("L5_scores_final", "scores, final"),
    ("L5_scores_all", "scores, all"),
    // What fails if any of these does is no field of its own.
    ("all", "everything but scores"),
];

/// Whether each field is right, in the order of [`FIELDS`].
pub(super) type Grades = [bool; FIELDS.len()];

/// The grades of a verdict against that of the reference.
pub(super) fn compare(ours: &Verdict, theirs: &Verdict) -> Grades {
    let mut grades = [
        places(&ours.before) == places(&theirs.before),
        ours.nodes_before == theirs.nodes_before,
        places(&ours.placements) == places(&theirs.placements),
        ours.fencing == theirs.fencing,
        sorted(&ours.summary) == sorted(&theirs.summary),
        sorted(&ours.actions) == sorted(&theirs.actions)
            && sorted(&ours.cluster_actions) == sorted(&theirs.cluster_actions),
        closure(&ours.order) == closure(&theirs.order),
        last(ours) == last(theirs),
        sorted(&ours.scores) == sorted(&theirs.scores),
        false,
    ];
    grades[9] = grades[..7].iter().all(|right| *right);
    grades
}

/// The scores by which places and promotions were decided in the end.
fn last(verdict: &Verdict) -> Vec<&[String; 4]> {
    let of_stage = |s: &&[String; 4]| s[0] == "primitive" || s[0] == "promotion";
    sorted(verdict.scores.iter().filter(of_stage))
}

/// Lists are multisets.
fn sorted<T: Ord + Hash>(list: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut list: Vec<T> = list.into_iter().collect();
    list.sort();
    list
}

/// Where services are: what is stopped is left out, and so are the remarks in brackets.
pub(super) fn places(map: &BTreeMap<String, Vec<String>>) -> BTreeMap<&str, Vec<&str>> {
    fn plain(text: &str) -> &str {
        match text.find(" (") {
            Some(at) if text.ends_with(')') => &text[..at],
            _ => text,
        }
    }
    map.iter()
        .filter(|(_, places)| !places.is_empty())
        .map(|(service, places)| (service.as_str(), sorted(places.iter().map(|p| plain(p)))))
        .collect()
}

/// All pairs of which the first comes before the second, at once or through others.
pub(super) fn closure(order: &[String]) -> BTreeSet<(&str, &str)> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in order {
        if let Some((first, then)) = line.split_once(" < ") {
            next.entry(first).or_default().insert(then);
        }
    }
    let mut all = BTreeSet::new();
    for (first, direct) in &next {
        let mut stack: Vec<&str> = direct.iter().copied().collect();
        while let Some(then) = stack.pop() {
            if all.insert((*first, then)) {
                stack.extend(next.get(then).into_iter().flatten());
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> Verdict {
        serde_json::from_str(text).expect("a verdict")
    }

    fn wrong(ours: &str, theirs: &str) -> Vec<&'static str> {
        let grades = compare(&verdict(ours), &verdict(theirs));
        let fields = FIELDS.iter().zip(grades);
        fields
            .filter(|(_, right)| !right)
            .map(|((name, _), _)| *name)
            .collect()
    }

    /// Protects the yardstick from being too strict: what counts as equal is.
    #[test]
    fn what_does_not_count_is_equal() {
        let none: [&str; 0] = [];
        let ours = r#"{"placements": {"a": ["n1 Started (failed,blocked)"], "b": []},
            "order": ["x < y", "y < z", "x < z"], "actions": ["x", "y"]}"#;
        let theirs = r#"{"placements": {"a": ["n1 Started"]},
            "order": ["x < y", "y < z"], "actions": ["y", "x"]}"#;
        assert_eq!(wrong(ours, theirs), none);
    }

    /// Protects the yardstick from being too mild: each field is looked at, twice is not once, and
    /// scores of early stages count apart.
    #[test]
    fn what_counts_differs() {
        let empty = "{}";
        for (theirs, fields) in [
            (
                r#"{"before": {"a": ["n1 Started"]}}"#,
                vec!["L0_before", "all"],
            ),
            (
                r#"{"nodes_before": {"n": "online"}}"#,
                vec!["L0_nodes", "all"],
            ),
            (
                r#"{"placements": {"a": ["n1"]}}"#,
                vec!["L1_placements", "all"],
            ),
            (r#"{"fencing": ["off n"]}"#, vec!["L1_fencing", "all"]),
            (r#"{"summary": ["start a"]}"#, vec!["L2_summary", "all"]),
            (r#"{"cluster_actions": ["a"]}"#, vec!["L3_actions", "all"]),
            (r#"{"order": ["a < b"]}"#, vec!["L4_order", "all"]),
            (
                r#"{"scores": [["clone", "a", "n", "1"]]}"#,
                vec!["L5_scores_all"],
            ),
            (
                r#"{"scores": [["promotion", "a", "n", "1"]]}"#,
                vec!["L5_scores_final", "L5_scores_all"],
            ),
        ] {
            assert_eq!(wrong(empty, theirs), fields, "{theirs}");
        }
        let once = r#"{"actions": ["start a n"]}"#;
        let twice = r#"{"actions": ["start a n", "start a n"]}"#;
        assert_eq!(wrong(once, twice), ["L3_actions", "all"]);
    }
}
