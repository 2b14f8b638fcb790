//! How many cases are right, in all and by tag.

use super::compare::{FIELDS, Grades, Verdict};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A case, and how it came out.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) grades: Grades,
    /// Why there is no verdict of ours.
    pub(super) failed: Option<String>,
    /// The linter did not let our plan pass.
    pub(super) complained: bool,
    pub(super) ours: Verdict,
    pub(super) theirs: Verdict,
}

impl Case {
    pub(super) fn is_right(&self) -> bool {
        self.wrong().is_empty()
    }

    /// The fields that differ.
    fn wrong(&self) -> Vec<&'static str> {
        let fields = FIELDS.iter().zip(self.grades);
        let wrong = fields.filter(|((name, _), right)| !right && *name != "all");
        wrong.map(|((name, _), _)| *name).collect()
    }
}

/// How many cases there are, and for how many of them each field is right.
#[derive(Clone, Debug, Default)]
struct Count {
    cases: usize,
    right: [usize; FIELDS.len()],
}

impl Count {
    fn add(&mut self, grades: Grades) {
        self.cases += 1;
        for (count, right) in self.right.iter_mut().zip(grades) {
            *count += usize::from(right);
        }
    }

    fn json(&self) -> Value {
        let fields = FIELDS.iter().zip(self.right);
        let right: BTreeMap<&str, usize> = fields.map(|((name, _), n)| (*name, n)).collect();
        json!({ "cases": self.cases, "right": right })
    }
}

/// The scores of many cases.
#[derive(Default)]
pub(super) struct Score {
    all: Count,
    by_primary: BTreeMap<String, Count>,
    by_tag: BTreeMap<String, Count>,
    differ: Vec<(String, Vec<&'static str>)>,
    failed: Vec<(String, String)>,
    complained: Vec<String>,
}

impl Score {
    pub(super) fn add(&mut self, case: Case, primary: Option<&str>, tags: &[String]) {
        self.all.add(case.grades);
        let primary = primary.unwrap_or("untagged").to_owned();
        self.by_primary.entry(primary).or_default().add(case.grades);
        for tag in tags {
            self.by_tag.entry(tag.clone()).or_default().add(case.grades);
        }
        if !case.is_right() {
            self.differ.push((case.name.clone(), case.wrong()));
        }
        if case.complained {
            self.complained.push(case.name.clone());
        }
        if let Some(why) = case.failed {
            self.failed.push((case.name, why));
        }
    }

    pub(super) fn json(&self, tags: bool) -> Value {
        let of = |map: &BTreeMap<String, Count>| -> BTreeMap<String, Value> {
            map.iter()
                .map(|(tag, count)| (tag.clone(), count.json()))
                .collect()
        };
        let mut value = json!({
            "all": self.all.json(),
            "by_primary": of(&self.by_primary),
            "differ": self.differ.iter().cloned().collect::<BTreeMap<_, _>>(),
            "failed": self.failed.iter().cloned().collect::<BTreeMap<_, _>>(),
            "complaints": self.complained,
        });
        if tags {
            value["by_tag"] = json!(of(&self.by_tag));
        }
        value
    }

    pub(super) fn print(&self, tags: bool, list: bool) {
        println!("\nBy field, of {} cases", self.all.cases);
        for ((name, words), right) in FIELDS.iter().zip(self.all.right) {
            let percent = percent(right, self.all.cases);
            println!("  {name:16} {words:22} {right:4}  {percent:>6}");
        }
        table("By tag", &self.by_primary);
        if tags {
            table("By any tag", &self.by_tag);
        }
        if list && !self.differ.is_empty() {
            println!("\nCases that differ");
            for (name, fields) in &self.differ {
                println!("  {name}: {}", fields.join(", "));
            }
        }
        for (name, why) in &self.failed {
            println!("\nNo verdict for {name}: {why}");
        }
        for name in &self.complained {
            println!("\nThe linter complains about the plan for {name}.");
        }
    }
}

fn table(title: &str, counts: &BTreeMap<String, Count>) {
    let heads = [
        "cases", "nodes", "before", "placed", "fenced", "summary", "actions", "order", "scores",
    ];
    let heads: Vec<String> = heads.iter().map(|h| format!("{h:>8}")).collect();
    println!("\n{title:32}{}", heads.concat());
    for (tag, count) in counts {
        // In the order of the heads; of the scores, all.
        let columns = [1, 0, 2, 3, 4, 5, 6, 8].map(|field| count.right[field]);
        let columns: Vec<String> = columns.iter().map(|n| format!("{n:8}")).collect();
        println!("  {tag:30}{:8}{}", count.cases, columns.concat());
    }
}

fn percent(part: usize, whole: usize) -> String {
    let tenths = (part * 1000 + whole / 2).checked_div(whole).unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}
