//! Primitives and the templates that they refer to.

use crate::{
    operations::{Op, Operations},
    sets::AttributeSet,
    text::Str,
    xml::element,
};

element! {
    /// A resource that one agent manages.
    pub struct Primitive {
        attributes {
            /// Its id.
            id: Str = "id",
            /// The class of agents: ocf, systemd, lsb, service, stonith …
            class: Option<Str> = "class",
            /// Who provides the agent; for class ocf.
            provider: Option<Str> = "provider",
            /// The agent.
            agent: Option<Str> = "type",
            /// The template that gives it all that it does not say itself.
            template: Option<Str> = "template",
            /// What people say about it.
            description: Option<Str> = "description",
        }
        children {
            /// Meta attributes: what the cluster shall do with it.
            meta: Vec<AttributeSet> = "meta_attributes",
            /// Parameters of the agent.
            parameters: Vec<AttributeSet> = "instance_attributes",
            /// How operations are done.
            operations: Option<Operations> = "operations",
            /// What it needs of a node.
            utilization: Vec<AttributeSet> = "utilization",
        }
    }
}

element! {
    /// What primitives have in common that refer to it.
    pub struct Template {
        attributes {
            /// Its id.
            id: Str = "id",
            /// The class of agents.
            class: Option<Str> = "class",
            /// Who provides the agent.
            provider: Option<Str> = "provider",
            /// The agent.
            agent: Option<Str> = "type",
            /// What people say about it.
            description: Option<Str> = "description",
        }
        children {
            /// Meta attributes.
            meta: Vec<AttributeSet> = "meta_attributes",
            /// Parameters of the agent.
            parameters: Vec<AttributeSet> = "instance_attributes",
            /// How operations are done.
            operations: Option<Operations> = "operations",
            /// What it needs of a node.
            utilization: Vec<AttributeSet> = "utilization",
        }
    }
}

impl Primitive {
    /// Its operations as they are listed; a reference to those of another one is not followed.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        self.operations.as_ref().map_or(&[], |o| &o.items)
    }

    /// Whether it is a fencing device.
    #[must_use]
    pub fn is_fencing(&self) -> bool {
        self.class.as_deref() == Some("stonith")
    }

    /// The agent in one word: `class:provider:type` or `class:type`.
    #[must_use]
    pub fn agent_name(&self) -> String {
        let parts = [&self.class, &self.provider, &self.agent];
        let parts: Vec<&str> = parts.iter().filter_map(|p| p.as_deref()).collect();
        parts.join(":")
    }

    /// This primitive with all that its template gives it.
    ///
    /// Sets of the template stand before its own. Since of equal scores the later set counts when a
    /// primitive is made from a template, its own values win. An operation of the template is left
    /// out if the primitive has one of the same name and role; Started and Unpromoted count as no
    /// role here.
    #[must_use]
    pub fn with_template(&self, template: &Template) -> Primitive {
        let mut whole = self.clone();
        whole.template = None;
        whole.class = self.class.clone().or_else(|| template.class.clone());
        whole.provider = self.provider.clone().or_else(|| template.provider.clone());
        whole.agent = self.agent.clone().or_else(|| template.agent.clone());
        let before = |first: &[AttributeSet], own: &[AttributeSet]| [first, own].concat();
        whole.meta = before(&template.meta, &self.meta);
        whole.parameters = before(&template.parameters, &self.parameters);
        whole.utilization = before(&template.utilization, &self.utilization);
        whole.operations = match (&self.operations, &template.operations) {
            (None, theirs) => theirs.clone(),
            (own, None) => own.clone(),
            (Some(own), Some(theirs)) => Some(merged(own, theirs)),
        };
        whole.extra.forget_order();
        whole
    }
}

fn merged(own: &Operations, theirs: &Operations) -> Operations {
    let mut all = own.clone();
    let kept = theirs
        .items
        .iter()
        .filter(|op| !own.items.iter().any(|o| same_purpose(o, op)));
    all.items.extend(kept.cloned());
    all.meta = [&*theirs.meta, &*own.meta].concat();
    all.parameters = [&*theirs.parameters, &*own.parameters].concat();
    all.extra.forget_order();
    all
}

fn same_purpose(one: &Op, other: &Op) -> bool {
    use crate::value::Role;
    let role = |op: &Op| {
        op.role
            .get()
            .filter(|r| matches!(r, Role::Promoted | Role::Stopped))
    };
    one.name == other.name && role(one) == role(other)
}
