//! Constraints: where, together with what, in which order, and with which ticket.

use crate::{
    rules::{Lifetime, Rule},
    text::{At, Str},
    value::{Action, Discovery, LossPolicy, OrderKind, Ordering, Role, Score},
    xml::{Attr, choice, element},
};

/// A constraint.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// Where.
    Location(Location),
    /// Together with what.
    Colocation(Colocation),
    /// In which order.
    Order(Order),
    /// With which ticket.
    Ticket(TicketConstraint),
}

choice!(Constraint {
    Location = "rsc_location",
    Colocation = "rsc_colocation",
    Order = "rsc_order",
    Ticket = "rsc_ticket",
});

impl Constraint {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &Str {
        match self {
            Constraint::Location(c) => &c.id,
            Constraint::Colocation(c) => &c.id,
            Constraint::Order(c) => &c.id,
            Constraint::Ticket(c) => &c.id,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn at(&self) -> At {
        match self {
            Constraint::Location(c) => c.at,
            Constraint::Colocation(c) => c.at,
            Constraint::Order(c) => c.at,
            Constraint::Ticket(c) => c.at,
        }
    }

    /// The name of its element.
    #[must_use]
    pub fn tag(&self) -> &'static str {
        match self {
            Constraint::Location(_) => "rsc_location",
            Constraint::Colocation(_) => "rsc_colocation",
            Constraint::Order(_) => "rsc_order",
            Constraint::Ticket(_) => "rsc_ticket",
        }
    }

    /// The resource sets in it.
    #[must_use]
    pub fn sets(&self) -> &[ResourceSet] {
        match self {
            Constraint::Location(c) => &c.sets,
            Constraint::Colocation(c) => &c.sets,
            Constraint::Order(c) => &c.sets,
            Constraint::Ticket(c) => &c.sets,
        }
    }

    /// Every resource (or tag) that it names, with the attribute that names it. Patterns are none.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, &Str)> {
        let mut named = Vec::new();
        match self {
            Constraint::Location(c) => named.extend(c.rsc.as_ref().map(|r| ("rsc", r))),
            Constraint::Colocation(c) => {
                named.extend(c.rsc.as_ref().map(|r| ("rsc", r)));
                named.extend(c.with_rsc.as_ref().map(|r| ("with-rsc", r)));
            }
            Constraint::Order(c) => {
                named.extend(c.first.as_ref().map(|r| ("first", r)));
                named.extend(c.then.as_ref().map(|r| ("then", r)));
            }
            Constraint::Ticket(c) => named.extend(c.rsc.as_ref().map(|r| ("rsc", r))),
        }
        let refs = self.sets().iter().flat_map(|s| &s.refs);
        named.extend(refs.map(|r| ("resource_ref", &r.id)));
        named
    }
}

element! {
    /// The section of constraints.
    pub struct Constraints {
        attributes {}
        children {
            /// The constraints, in the order of the text.
            items: Vec<Constraint> =
                "rsc_location" | "rsc_colocation" | "rsc_order" | "rsc_ticket",
        }
    }
}

element! {
    /// How much a resource is wanted on which nodes: a node with a score, or rules with scores.
    pub struct Location {
        attributes {
            /// Its id.
            id: Str = "id",
            /// The resource, or a tag of several.
            rsc: Option<Str> = "rsc",
            /// A regular expression for the ids of resources; with `!` before it, for the others.
            rsc_pattern: Option<Str> = "rsc-pattern",
            /// In which role it counts.
            role: Attr<Role> = "role",
            /// The node.
            node: Option<Str> = "node",
            /// What the node gets.
            score: Attr<Score> = "score",
            /// Whether it is asked on the node if the resource is running there.
            discovery: Attr<Discovery> = "resource-discovery",
        }
        children {
            /// The resources, if they are listed.
            sets: Vec<ResourceSet> = "resource_set",
            /// The rules.
            rules: Vec<Rule> = "rule",
            /// When it counts (old).
            lifetime: Option<Lifetime> = "lifetime",
        }
    }
}

element! {
    /// How much a resource is wanted where another one runs.
    pub struct Colocation {
        attributes {
            /// Its id.
            id: Str = "id",
            /// How much; below zero, how much not.
            score: Attr<Score> = "score",
            /// An attribute that says how much (old).
            score_attribute: Option<Str> = "score-attribute",
            /// The same (old).
            score_attribute_mangle: Option<Str> = "score-attribute-mangle",
            /// The resource that follows.
            rsc: Option<Str> = "rsc",
            /// The resource that leads.
            with_rsc: Option<Str> = "with-rsc",
            /// The node attribute that must be equal; the name of the node if absent.
            node_attribute: Option<Str> = "node-attribute",
            /// In which role of the follower it counts.
            rsc_role: Attr<Role> = "rsc-role",
            /// In which role of the leader it counts.
            with_rsc_role: Attr<Role> = "with-rsc-role",
            /// Which instance of a clone (old).
            rsc_instance: Attr<u32> = "rsc-instance",
            /// Which instance of a clone (old).
            with_rsc_instance: Attr<u32> = "with-rsc-instance",
            /// Whether the follower's wishes move the leader; true if absent, unless the meta
            /// attribute `critical` of the follower says otherwise.
            influence: Attr<bool> = "influence",
        }
        children {
            /// The resources, if they are listed.
            sets: Vec<ResourceSet> = "resource_set",
            /// When it counts (old).
            lifetime: Option<Lifetime> = "lifetime",
        }
    }
}

element! {
    /// Which action comes first.
    pub struct Order {
        attributes {
            /// Its id.
            id: Str = "id",
            /// The resource that comes first.
            first: Option<Str> = "first",
            /// The resource that comes then.
            then: Option<Str> = "then",
            /// What is done first; start if absent.
            first_action: Attr<Action> = "first-action",
            /// What is done then; the same if absent.
            then_action: Attr<Action> = "then-action",
            /// Which instance of a clone (old).
            first_instance: Attr<u32> = "first-instance",
            /// Which instance of a clone (old).
            then_instance: Attr<u32> = "then-instance",
            /// How binding it is; mandatory if absent.
            kind: Attr<OrderKind> = "kind",
            /// How binding it is in the old notation: 0 for optional, more for mandatory.
            score: Attr<Score> = "score",
            /// Whether the reverse holds for the reverse actions; true if absent.
            symmetrical: Attr<bool> = "symmetrical",
            /// Whether all instances or members of what comes first must be done; true if absent.
            require_all: Attr<bool> = "require-all",
        }
        children {
            /// The resources, if they are listed.
            sets: Vec<ResourceSet> = "resource_set",
            /// When it counts (old).
            lifetime: Option<Lifetime> = "lifetime",
        }
    }
}

impl Order {
    /// How binding it is, in the new notation or the old one.
    #[must_use]
    pub fn strength(&self) -> OrderKind {
        match (self.kind.get(), self.score.get()) {
            (Some(kind), _) => kind,
            (None, Some(score)) if score <= Score::ZERO => OrderKind::Optional,
            _ => OrderKind::Mandatory,
        }
    }

    /// Whether the reverse holds for the reverse actions. Serialized actions have no reverse.
    #[must_use]
    pub fn is_symmetrical(&self) -> bool {
        self.symmetrical.or(self.strength() != OrderKind::Serialize)
    }
}

element! {
    /// Which ticket resources need.
    pub struct TicketConstraint {
        attributes {
            /// Its id.
            id: Str = "id",
            /// The resource.
            rsc: Option<Str> = "rsc",
            /// In which role it needs the ticket.
            rsc_role: Attr<Role> = "rsc-role",
            /// The ticket.
            ticket: Str = "ticket",
            /// What follows from its loss; by default demote for the promoted role, else stop.
            loss_policy: Attr<LossPolicy> = "loss-policy",
        }
        children {
            /// The resources, if they are listed.
            sets: Vec<ResourceSet> = "resource_set",
        }
    }
}

element! {
    /// Several resources in one constraint.
    pub struct ResourceSet {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// The id of the set to use in place of this one.
            id_ref: Option<Str> = "id-ref",
            /// Whether its members stand in a chain; true if absent.
            sequential: Attr<bool> = "sequential",
            /// Whether all members must be done; true if absent.
            require_all: Attr<bool> = "require-all",
            /// How members of a colocation are ordered.
            ordering: Attr<Ordering> = "ordering",
            /// What is done to them; start if absent.
            action: Attr<Action> = "action",
            /// In which role.
            role: Attr<Role> = "role",
            /// A score of its own.
            score: Attr<Score> = "score",
            /// How binding an order within it is.
            kind: Attr<OrderKind> = "kind",
        }
        children {
            /// Its members.
            refs: Vec<ResourceRef> = "resource_ref",
        }
    }
}

element! {
    /// A resource in a set.
    pub struct ResourceRef {
        attributes {
            /// The id of the resource.
            id: Str = "id",
        }
        children {}
    }
}
