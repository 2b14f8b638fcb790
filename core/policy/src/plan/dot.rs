//! The steps as a drawing for Graphviz.

use super::{Graph, Kind, Step};
use std::fmt::Write as _;

impl Graph {
    /// The steps in the language of Graphviz: operations as boxes, events dashed, fencing in red.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut text = String::from("digraph plan {\n  rankdir=LR\n  node [shape=box]\n");
        // Writing to a string cannot fail.
        for (at, step) in self.steps.iter().enumerate() {
            let _ = writeln!(text, "  {at} [label={:?}{}]", step.label, style(step));
        }
        for (at, step) in self.steps.iter().enumerate() {
            for first in &step.waits_for {
                let _ = writeln!(text, "  {first} -> {at}");
            }
        }
        text.push_str("}\n");
        text
    }
}

fn style(step: &Step) -> &'static str {
    match step.kind {
        Kind::Fencing => " color=red",
        Kind::Event => " style=dashed color=gray",
        Kind::Cluster => " style=rounded",
        Kind::Operation => "",
    }
}
