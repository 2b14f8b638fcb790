//! Rules: `rule 100: #uname eq n1 or defined pingd`.

use super::{
    Owner,
    lines::{Line, problem},
    read::Reader,
};
use crate::{
    value::{BooleanOp, Comparison, FromText as _, Score, ValueType},
    xml::{Element, is_name},
};

fn expression_id(rule: &str, index: usize) -> String {
    match index {
        0 => format!("{rule}-expression"),
        _ => format!("{rule}-expression-{}", index + 1),
    }
}

pub(super) fn read(line: &Line, owner: Owner<'_>, reader: &mut Reader) -> Element {
    let mut rule = Element::new("rule");
    rule.at = line.at;
    let id = match (line.special("$id"), line.special("id-ref")) {
        (Some(id), _) => id.to_owned(),
        (None, None) => owner.part("rule"),
        (None, Some(_)) => String::new(),
    };
    if !id.is_empty() {
        rule.set("id", &id);
    }
    let mut words = line.plain().peekable();
    if let Some(score) = words.peek().and_then(|w| w.value.strip_suffix(':')) {
        let known = Score::from_text(score).is_some();
        rule.set(if known { "score" } else { "score-attribute" }, score);
        words.next();
    }
    let mut boolean: Option<BooleanOp> = None;
    let mut count = 0;
    while let Some(first) = words.next() {
        let mut expression = Element::new("expression").with("id", &expression_id(&id, count));
        expression.at = first.at;
        count += 1;
        let mut missing = false;
        if let "defined" | "not_defined" = &*first.value {
            let attribute = words.next();
            missing |= attribute.is_none();
            expression.set("attribute", attribute.map_or("", |w| &w.value));
            expression.set("operation", &first.value);
        } else {
            expression.set("attribute", &first.value);
            let (operation, value) = (words.next(), words.next());
            let written = operation.map_or("", |w| &*w.value);
            let (kind, operation) = written.split_once(':').unwrap_or(("", written));
            let known = Comparison::from_text(operation).is_some()
                && (kind.is_empty() || ValueType::from_text(kind).is_some());
            missing |= value.is_none() || !known;
            expression.set("operation", operation);
            expression.set("value", value.map_or("", |w| &w.value));
            if !kind.is_empty() {
                expression.set("type", kind);
            }
        }
        if missing {
            let what = "this is no condition";
            let mend = "write ATTRIBUTE eq|ne|lt|gt|lte|gte VALUE, or defined ATTRIBUTE";
            reader.problems.push(problem(first.at, "rule", what, mend));
            break;
        }
        rule.children.push(expression);
        let Some(word) = words.next() else { break };
        let next = BooleanOp::from_text(&word.value);
        if next.is_none() || boolean.is_some_and(|b| Some(b) != next) {
            let what = format!("{:?} cannot follow here", word.value);
            let mend = "combine conditions by and, or all of them by or; nest rules for both";
            reader.problems.push(problem(word.at, "rule", what, mend));
            break;
        }
        boolean = next;
    }
    if boolean == Some(BooleanOp::Or) {
        rule.set("boolean-op", "or");
    }
    for (name, word) in line.pairs().filter(|(name, _)| *name != "$id") {
        if is_name(name) && rule.get(name).is_none() {
            rule.set(name, &word.value);
        } else {
            let what = format!("{name:?} is said already, or cannot be the name of an attribute");
            let mend = "write each once: id-ref, role, score, score-attribute, boolean-op";
            reader.problems.push(problem(word.at, "rule", what, mend));
        }
    }
    reader.below(line, &mut rule, &id);
    rule
}

/// Writes a rule; what does not fit on its line follows below.
pub(super) fn write(rule: &Element, owner: Owner<'_>) -> Line {
    let mut line = Line::new("rule");
    let id = rule.get("id").unwrap_or_default();
    if rule.get("id").is_some() && id != owner.part("rule") {
        line.named("$id", id);
    }
    let score = rule.get("score").filter(|s| Score::from_text(s).is_some());
    let by = score.map(|s| ("score", s)).or_else(|| {
        let attribute = rule.get("score-attribute")?;
        Score::from_text(attribute)
            .is_none()
            .then_some(("score-attribute", attribute))
    });
    if let Some((_, text)) = by {
        line.word(format!("{text}:"));
    }
    let word = if rule.get("boolean-op") == Some("or") {
        "or"
    } else {
        "and"
    };
    let usual = |(index, e): (usize, &Element)| condition(e, &expression_id(id, index));
    let conditions: Option<Vec<Vec<String>>> =
        rule.children.iter().enumerate().map(usual).collect();
    let inline = conditions.filter(|c| !c.is_empty());
    for (name, value) in &rule.attributes {
        let said = name == "id"
            || by.is_some_and(|(by, _)| by == name)
            || (name == "boolean-op"
                && value == "or"
                && inline.as_ref().is_some_and(|i| i.len() > 1));
        if !said {
            line.named(name, value);
        }
    }
    match inline {
        Some(conditions) => {
            for (index, words) in conditions.into_iter().enumerate() {
                if index > 0 {
                    line.word(word);
                }
                words.into_iter().for_each(|w| line.word(w));
            }
        }
        None => line.children = super::write::below(rule, id),
    }
    line
}

/// The words of a condition, if they say everything about it.
fn condition(expression: &Element, id: &str) -> Option<Vec<String>> {
    if expression.name != "expression" || expression.get("id") != Some(id) {
        return None;
    }
    let attribute = expression.get("attribute")?;
    let operation = expression.get("operation")?;
    let words = match (operation, expression.get("value"), expression.get("type")) {
        ("defined" | "not_defined", None, None) => vec![operation.to_owned(), attribute.to_owned()],
        (_, Some(value), kind) => {
            let operation = match kind {
                Some(kind) => format!("{kind}:{operation}"),
                None => operation.to_owned(),
            };
            vec![attribute.to_owned(), operation, value.to_owned()]
        }
        _ => return None,
    };
    let said = 2 + words.len() - usize::from(expression.get("type").is_none());
    let said = if words.len() == 2 { 3 } else { said };
    (expression.attributes.len() == said && attribute != "defined" && attribute != "not_defined")
        .then_some(words)
}
