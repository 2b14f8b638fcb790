//! What agents say of themselves: their parameters, their actions, and how long these may take.

use crate::{
    problem::{Level, Problem},
    text::{At, Str},
    value::{FromText as _, Interval, Role},
    xml::{Element, parse},
};
use std::collections::BTreeMap;

/// The descriptions of several agents, by their [names](crate::resources::Primitive::agent_name).
pub type Agents = BTreeMap<String, Agent>;

/// What an agent says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// Its actions.
    pub actions: Vec<AgentAction>,
}

/// A parameter of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Whether the agent does nothing without it.
    pub required: bool,
}

/// An action of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentAction {
    /// Its name.
    pub name: String,
    /// How long it should be given.
    pub timeout: Option<Interval>,
    /// In which role it is done.
    pub role: Option<Role>,
}

impl Agent {
    /// Reads the description that agents print when they are asked for `meta-data`.
    ///
    /// # Errors
    /// If the text is not XML, or describes no agent.
    pub fn read(text: &str) -> Result<Agent, Problem> {
        let (root, _) = parse(text, Element::from_node)?;
        if root.name != "resource-agent" {
            return Err(Problem {
                level: Level::Error,
                rule: "no-agent",
                at: At::default(),
                element: Str::from(&*root.name),
                id: None,
                what: format!("the outermost element is <{}>", root.name),
                mend: "give the description of an agent, in <resource-agent>".to_owned(),
            });
        }
        let inside = |outer: &str, inner: &'static str| {
            let all = root.child(outer).map(|o| &*o.children);
            all.unwrap_or_default()
                .iter()
                .filter(move |e| e.name == inner)
        };
        let parameters = inside("parameters", "parameter").filter_map(|p| {
            Some(Parameter {
                name: p.get("name")?.to_owned(),
                required: p.get("required").and_then(crate::value::truth) == Some(true),
            })
        });
        let actions = inside("actions", "action").filter_map(|a| {
            Some(AgentAction {
                name: a.get("name")?.to_owned(),
                timeout: a.get("timeout").and_then(Interval::from_text),
                role: a.get("role").and_then(Role::from_text),
            })
        });
        Ok(Agent {
            parameters: parameters.collect(),
            actions: actions.collect(),
        })
    }

    /// Whether it has a parameter of that name.
    #[must_use]
    pub fn has(&self, parameter: &str) -> bool {
        self.parameters.iter().any(|p| p.name == parameter)
    }

    /// How long an action should be given; in one of several roles, what that role needs.
    #[must_use]
    pub fn advice(&self, action: &str, role: Option<Role>) -> Option<Interval> {
        let named = || self.actions.iter().filter(|a| a.name == action);
        let exact = named().find(|a| a.role == role);
        let any = || named().find(|a| a.role.is_none() || role.is_none());
        exact.or_else(any)?.timeout
    }
}
