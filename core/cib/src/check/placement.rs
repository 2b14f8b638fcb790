//! What resources need, and what nodes have.

use super::{Checker, spot};
use crate::{problem::Level, resources::Primitive, sets::lookup};

pub(super) fn check(checker: &mut Checker<'_>) {
    let primitives = checker.primitives();
    let strategy = checker
        .cib
        .option("placement-strategy")
        .unwrap_or("default");
    let needy = primitives.iter().find(|p| !p.utilization.is_empty());
    if strategy == "default" {
        if let Some(primitive) = needy {
            checker.add(
                Level::Warning,
                "utilization-unused",
                spot(primitive),
                "what resources need is configured, but not looked at",
                "set placement-strategy to utilization, minimal or balanced",
            );
        }
        return;
    }
    for primitive in &primitives {
        fits(checker, primitive);
    }
}

/// Whether any node has what one resource needs alone.
fn fits(checker: &mut Checker<'_>, primitive: &Primitive) {
    let nodes = checker.cib.nodes();
    if nodes.is_empty() {
        return;
    }
    let names = primitive.utilization.iter().flat_map(|s| &s.pairs);
    let names: Vec<&str> = names.filter_map(|p| p.name.as_deref()).collect();
    for name in names {
        let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok()).unwrap_or(0);
        let needed = number(lookup(&primitive.utilization, name));
        let most = nodes
            .iter()
            .map(|n| number(lookup(&n.utilization, name)))
            .max()
            .unwrap_or(0);
        if needed > most {
            let what = format!("it needs {needed} of {name}, and no node has more than {most}");
            let mend = "give a node more, or take the need out";
            checker.add(Level::Warning, "does-not-fit", spot(primitive), what, mend);
        }
    }
}
