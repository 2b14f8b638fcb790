//! Whether rules hold, and what sets of named values come to under them.

use crate::model::{Node, Values};
use mainstay_cib::{
    index::Index,
    rules::{Condition, DateExpression, DateSpec, Expression, ResourceExpression, Rule},
    sets::AttributeSet,
    value::{
        BooleanOp, Comparison, DateOperation, DateTime, FromText as _, Score, ValueSource,
        ValueType,
    },
};
use std::{borrow::Cow, cmp::Ordering};

/// What a rule is asked about. What is absent makes the conditions on it fail.
#[derive(Clone, Copy, Default)]
pub(crate) struct Asked<'a> {
    /// Seconds since 1970.
    pub now: i64,
    pub node: Option<&'a Node>,
    /// Class, provider and type of a service's agent.
    pub agent: Option<(&'a str, &'a str, &'a str)>,
    /// Name and interval (milliseconds) of an operation.
    pub op: Option<(&'a str, u64)>,
    /// Parameters and meta attributes of a service, for expressions that name them.
    pub params: Option<&'a Values>,
    pub meta: Option<&'a Values>,
    /// What the parts of a pattern matched, for `%0` to `%9` in names of attributes.
    pub parts: &'a [&'a str],
}

/// Whether a rule, or the one that it refers to, holds.
pub(crate) fn holds(index: &Index<'_>, rule: &Rule, asked: Asked<'_>) -> bool {
    let Some(rule) = index.rule_of(rule) else {
        return false;
    };
    let any = rule.boolean_op.get() == Some(BooleanOp::Or);
    for condition in &rule.conditions {
        if condition_holds(index, condition, asked) == any {
            return any;
        }
    }
    // All of no conditions hold, but not any of them.
    !any
}

fn condition_holds(index: &Index<'_>, condition: &Condition, asked: Asked<'_>) -> bool {
    match condition {
        Condition::Attribute(e) => attribute(e, asked),
        Condition::Date(e) => date(e, asked.now),
        Condition::Resource(e) => asked.agent.is_some_and(|agent| of_agent(e, agent)),
        Condition::Operation(e) => asked.op.is_some_and(|(name, interval)| {
            &*e.name == name && e.interval.get().is_none_or(|i| i.millis() == interval)
        }),
        Condition::Rule(inner) => holds(index, inner, asked),
    }
}

fn of_agent(e: &ResourceExpression, (class, provider, agent): (&str, &str, &str)) -> bool {
    let is = |wanted: Option<&str>, have: &str| wanted.is_none_or(|w| w.eq_ignore_ascii_case(have));
    is(e.class.as_deref(), class)
        && is(e.provider.as_deref(), provider)
        && is(e.agent.as_deref(), agent)
}

/// A name with `%0` to `%9` replaced by what the parts of a pattern matched.
fn expanded<'a>(name: &'a str, parts: &[&str]) -> Cow<'a, str> {
    if parts.is_empty() || !name.contains('%') {
        return Cow::Borrowed(name);
    }
    let mut whole = String::new();
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, rest.peek().and_then(|d| d.to_digit(10))) {
            ('%', Some(digit)) => {
                rest.next();
                whole.push_str(parts.get(digit as usize).copied().unwrap_or_default());
            }
            _ => whole.push(c),
        }
    }
    Cow::Owned(whole)
}

fn attribute(e: &Expression, asked: Asked<'_>) -> bool {
    let Some(operation) = e.operation.get() else {
        return false;
    };
    if &*e.attribute == "#role" {
        // What depends on a role is decided by constraints with roles; a rule knows none.
        return false;
    }
    let name = expanded(&e.attribute, asked.parts);
    let have = asked.node.and_then(|n| n.attribute(&name));
    let wanted = match e.value_source.get() {
        Some(ValueSource::Param) => named(e, asked.params),
        Some(ValueSource::Meta) => named(e, asked.meta),
        _ => e.value.as_deref(),
    };
    match (operation, have, wanted) {
        (Comparison::Defined, have, _) => have.is_some(),
        (Comparison::NotDefined, have, _) => have.is_none(),
        (_, Some(have), Some(wanted)) => compare(e, operation, have, wanted),
        (Comparison::Eq, have, wanted) => have.is_none() && wanted.is_none(),
        (Comparison::Ne, have, wanted) => have.is_some() || wanted.is_some(),
        _ => false,
    }
}

fn named<'a>(e: &Expression, values: Option<&'a Values>) -> Option<&'a str> {
    values?.get(e.value.as_deref()?).map(|v| &**v)
}

fn compare(e: &Expression, operation: Comparison, have: &str, wanted: &str) -> bool {
    let by_size = matches!(
        operation,
        Comparison::Lt | Comparison::Gt | Comparison::Lte | Comparison::Gte
    );
    let as_what = e.value_type.get().unwrap_or_else(|| {
        if !by_size {
            ValueType::String
        } else if have.contains('.') || wanted.contains('.') {
            ValueType::Number
        } else {
            ValueType::Integer
        }
    });
    // What is no number is compared as text.
    let by_letters = || have.to_lowercase().cmp(&wanted.to_lowercase());
    let order = match as_what {
        ValueType::String => by_letters(),
        ValueType::Integer => match (whole(have), whole(wanted)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => by_letters(),
        },
        ValueType::Number => match (number(have), number(wanted)) {
            (Some(a), Some(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            _ => by_letters(),
        },
        ValueType::Version => version(have).cmp(&version(wanted)),
    };
    match operation {
        Comparison::Lt => order.is_lt(),
        Comparison::Gt => order.is_gt(),
        Comparison::Lte => order.is_le(),
        Comparison::Gte => order.is_ge(),
        Comparison::Eq => order.is_eq(),
        Comparison::Ne => order.is_ne(),
        Comparison::Defined | Comparison::NotDefined => false,
    }
}

/// The whole number that a text begins with.
fn whole(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = |t: &str| t.find(|c: char| !c.is_ascii_digit()).unwrap_or(t.len());
    let sign = usize::from(text.starts_with(['-', '+']));
    let end = sign + digits(&text[sign..]);
    text[..end].parse().ok()
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

fn version(text: &str) -> Vec<i64> {
    text.split(['.', '-'])
        .map(|part| whole(part).unwrap_or(0))
        .collect()
}

fn date(e: &DateExpression, now: i64) -> bool {
    let start = e.start.get().map(|d| d.0);
    let by_duration = || Some(e.duration.as_ref()?.after(e.start.get()?).0);
    let end = e.end.get().map(|d| d.0).or_else(by_duration);
    match e.operation.get().unwrap_or(DateOperation::InRange) {
        DateOperation::InRange => {
            (start.is_some() || end.is_some())
                && start.is_none_or(|s| s <= now)
                && end.is_none_or(|e| now <= e)
        }
        DateOperation::Gt => start.is_some_and(|s| s < now),
        DateOperation::Lt => end.is_some_and(|e| now < e),
        DateOperation::DateSpec => e.spec.as_ref().is_some_and(|s| calendar(s, DateTime(now))),
    }
}

fn calendar(spec: &DateSpec, now: DateTime) -> bool {
    let (year, month, day) = now.date();
    let (hour, minute, second) = now.time();
    let (week_year, week) = now.week();
    [
        (&spec.seconds, second),
        (&spec.minutes, minute),
        (&spec.hours, hour),
        (&spec.monthdays, day),
        (&spec.weekdays, now.week_day()),
        (&spec.yeardays, now.year_day()),
        (&spec.months, month),
        (&spec.weeks, week),
        (&spec.years, year),
        (&spec.weekyears, week_year),
    ]
    .iter()
    .all(|(range, value)| range.get().is_none_or(|r| r.contains(*value)))
}

/// Adds what sets of named values come to. The set with the highest score counts for each name; of
/// equal ones the last, except that the set with the id `first` comes before all. Names that are
/// there already stay.
pub(crate) fn collect(
    index: &Index<'_>,
    sets: &[AttributeSet],
    asked: Asked<'_>,
    first: Option<&str>,
    into: &mut Values,
) {
    let mut order: Vec<&AttributeSet> = sets.iter().rev().collect();
    order.sort_by_key(|set| {
        let is_first = first.is_some() && set.id.as_deref() == first;
        std::cmp::Reverse((is_first, set.score.or(Score::ZERO)))
    });
    for set in order {
        let Some(set) = index.set(set) else {
            continue;
        };
        if !set.rules.iter().all(|r| holds(index, r, asked)) {
            continue;
        }
        for pair in &set.pairs {
            let Some((name, Some(value))) = index.pair(pair) else {
                continue;
            };
            // So the name is as if nobody had set it, here or in a set that counts more.
            if value.eq_ignore_ascii_case("#default") {
                into.remove(name);
            } else if !into.contains_key(name) {
                into.insert(name.clone(), value.clone());
            }
        }
    }
}

/// The same for sets whose values count more than those that are there.
pub(crate) fn collect_over(
    index: &Index<'_>,
    sets: &[AttributeSet],
    asked: Asked<'_>,
    into: &mut Values,
) {
    let mut own = Values::new();
    collect(index, sets, asked, None, &mut own);
    into.extend(own);
}

/// A score as options and attributes spell it: what the text begins with counts, 0 for what is none.
pub(crate) fn score(text: &str) -> Score {
    Score::from_text(text)
        .or_else(|| whole(text).map(Score::new))
        .unwrap_or(Score::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects rules over numbers: what a text begins with counts, and no number compares as equal.
    #[test]
    fn numbers_are_read_from_the_beginning() {
        assert_eq!(whole("-12 and more"), Some(-12));
        assert_eq!(whole("+7"), Some(7));
        assert_eq!(whole("high"), None);
        assert!(version("1.10") > version("1.9"));
    }

    /// Protects from taking the word for the default as a value.
    #[test]
    fn the_default_is_no_value() {
        let cib = mainstay_cib::Cib::default();
        let index = Index::new(&cib);
        let mut set = AttributeSet::new("s");
        set.set("target-role", "#default");
        set.set("priority", "5");
        let mut values = Values::new();
        values.insert("target-role".into(), "Stopped".into());
        collect(&index, &[set], Asked::default(), None, &mut values);
        assert!(!values.contains_key("target-role"));
        assert_eq!(values.get("priority").map(|v| &**v), Some("5"));
    }

    /// Protects patterns in constraints: parts of a match can name attributes.
    #[test]
    fn parts_of_a_match_are_filled_in() {
        assert_eq!(expanded("load-%1", &["vm12", "12"]), "load-12");
        assert_eq!(expanded("load-%2", &["vm12", "12"]), "load-");
        assert_eq!(expanded("load-%1", &[]), "load-%1");
    }
}
