//! The stage that reads the constraints: where, together with what, in which order, with which
//! ticket.

mod colocation;
mod internal;
mod location;
mod order;
mod ticket;

pub(crate) use colocation::{add_this_with, add_with_this, colocate};
pub(crate) use internal::{all as internal, by_number};
pub(crate) use location::Scale;
pub(crate) use order::{order, order_actions_of, order_by};
pub(crate) use ticket::has_ticket;

use crate::{
    model::{Sx, World},
    rules::{Asked, holds},
};
use mainstay_cib::{
    constraints::{Constraint, ResourceSet},
    resources::Resource,
    rules::Lifetime,
    text::Str,
};

/// Reads all constraints, in the order of the text.
pub(crate) fn unpack(world: &mut World<'_>) {
    let cib = world.cib;
    location::health(world);
    for constraint in cib.constraints() {
        match constraint {
            Constraint::Location(c) if lives(world, c.lifetime.as_ref()) => {
                location::unpack(world, c);
            }
            Constraint::Colocation(c) if lives(world, c.lifetime.as_ref()) => {
                colocation::unpack(world, c);
            }
            Constraint::Order(c) if lives(world, c.lifetime.as_ref()) => order::unpack(world, c),
            Constraint::Ticket(c) => ticket::unpack(world, c),
            _ => {}
        }
    }
}

fn lives(world: &World<'_>, lifetime: Option<&Lifetime>) -> bool {
    let asked = Asked {
        now: world.now,
        ..Asked::default()
    };
    lifetime
        .is_none_or(|l| l.rules.is_empty() || l.rules.iter().any(|r| holds(world.index, r, asked)))
}

/// What a constraint names.
enum Named {
    /// A service.
    One(Sx),
    /// All services that have a tag or a template.
    Several(Vec<Sx>),
    /// Nothing that there is.
    Nothing,
}

fn named(world: &World<'_>, name: &Str) -> Named {
    if let Some(one) = service(world, name) {
        return Named::One(one);
    }
    let ids: Vec<&Str> = match world.index.find_tag(name) {
        Some(tag) => tag.refs.iter().map(|r| &r.id).collect(),
        None if world.index.find_template(name).is_some() => of_template(world, name),
        None => return Named::Nothing,
    };
    Named::Several(
        ids.into_iter()
            .filter_map(|id| service(world, id))
            .collect(),
    )
}

fn of_template<'a>(world: &World<'a>, template: &Str) -> Vec<&'a Str> {
    let all = world.cib.resources().iter().flat_map(Resource::primitives);
    all.filter(|p| p.template.as_ref() == Some(template))
        .map(|p| &p.id)
        .collect()
}

/// The service of an id. The primitive in a clone stands for the clone, if it has a history.
fn service(world: &World<'_>, id: &Str) -> Option<Sx> {
    if let Some(&exact) = world.by_id.get(id) {
        return Some(exact);
    }
    let renamed = |s: &crate::model::Service| s.history_name.as_ref() == Some(id);
    let found = world.services.iter().position(renamed)?;
    Some(world.top(found))
}

/// Services with what a set says of them.
struct Group<'s> {
    members: Vec<Sx>,
    /// The set that they stand in, unless they were named by a tag.
    set: Option<&'s ResourceSet>,
    /// Whether the members stand in a chain, if it is said.
    sequential: Option<bool>,
}

/// The sets of a constraint, references followed.
fn sets<'a>(world: &World<'a>, sets: &'a [ResourceSet]) -> Vec<Group<'a>> {
    sets.iter()
        .filter_map(|set| world.index.resource_set(set))
        .map(|set| Group {
            members: members(world, set),
            set: Some(set),
            sequential: set.sequential.get(),
        })
        .collect()
}

/// The members of a set; tags stand for what has them.
fn members(world: &World<'_>, set: &ResourceSet) -> Vec<Sx> {
    let mut all = Vec::new();
    for reference in &set.refs {
        match named(world, &reference.id) {
            Named::One(one) => all.push(one),
            Named::Several(several) => all.extend(several),
            Named::Nothing => {}
        }
    }
    all
}
