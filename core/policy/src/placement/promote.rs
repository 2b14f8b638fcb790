//! Which instances of a clone are promoted.

use super::{
    colocate::{self, add_dependents_of_clone, has_influence},
    rank,
};
use crate::{
    constraints::has_ticket,
    model::{Kind, NoQuorum, Nx, Sx, World},
    report::{ScoreLine, Why},
    rules,
};
use mainstay_base::PlanMutant;
use mainstay_cib::{
    text::Str,
    value::{Role, Score},
};
use std::cmp::Ordering;

/// Adds the promotion scores of instances to their scores on nodes, so that those that should be
/// promoted are placed well.
pub(super) fn add_scores(world: &mut World<'_>, clone: Sx) {
    for instance in world.services[clone].children.clone() {
        let nodes: Vec<Nx> = world.services[instance]
            .allowed
            .iter()
            .map(|(n, _)| n)
            .collect();
        for node in nodes {
            if !world.is_available(node) {
                continue;
            }
            let score = promotion_score(world, instance, node).unwrap_or(Score::ZERO);
            if score > Score::ZERO {
                if let Some(allowed) = world.services[instance].allowed.get_mut(node) {
                    allowed.score += score;
                }
                let why = Why::Fixed("its promotion score there");
                world.notes.contribution(instance, node, score, &why);
            }
            let s = &mut world.services[instance];
            s.promotion = s.promotion.max(score);
        }
    }
}

/// What a node says of an instance's promotion; nothing if it says nothing. Members of a group add up.
fn promotion_score(world: &World<'_>, service: Sx, node: Nx) -> Option<Score> {
    let s = &world.services[service];
    if s.kind != Kind::Primitive {
        let scores = s
            .children
            .iter()
            .filter_map(|&c| promotion_score(world, c, node));
        return scores.reduce(|a, b| a + b);
    }
    if !counts(world, service, node) {
        return None;
    }
    let attribute = |name: &str| attribute(world, service, node, &format!("master-{name}"));
    let name = s.history_name.as_ref().unwrap_or(&s.id);
    let plain = || (!s.unique).then(|| attribute(&s.config.id)).flatten();
    attribute(name).or_else(plain).map(|v| rules::score(&v))
}

/// An attribute of a node; of its host, if the service says that its host is meant.
fn attribute(world: &World<'_>, service: Sx, node: Nx, name: &str) -> Option<Str> {
    let meta = &world.services[service].config.meta;
    let of_host = meta.get("container-attribute-target").map(|v| &**v) == Some("host");
    let node = match world.container_of_guest(node) {
        Some(container) if of_host => *world.services[container].running_on.first()?,
        _ => node,
    };
    world.nodes[node].attribute(name).map(Str::from)
}

/// Whether a node's word on an instance counts: only where the state of the instance is known.
fn counts(world: &World<'_>, service: Sx, node: Nx) -> bool {
    let s = &world.services[service];
    if s.allowed.score(node) < Score::ZERO {
        return false;
    }
    let clone = world.top(service);
    if !s.unique {
        let like = |l: &Sx| world.services[*l].config.id == s.config.id;
        let alike: Vec<Sx> = world.leaves(clone).into_iter().filter(like).collect();
        let active = alike
            .iter()
            .find(|&&l| world.services[l].running_on.contains(&node));
        match active {
            Some(&l) if l == service => return true,
            None if alike
                .iter()
                .any(|&l| world.services[l].known_on.contains(&node)) =>
            {
                return true;
            }
            _ => {}
        }
    }
    s.running_on.is_empty() && s.known_on.is_empty()
        || s.known_on.contains(&node)
        || s.running_on.contains(&node)
}

/// Decides on the role of every instance.
pub(super) fn roles(world: &mut World<'_>, clone: Sx) {
    for (_, allowed) in world.services[clone].allowed.iter_mut() {
        allowed.count = 0;
    }
    for instance in world.services[clone].children.clone() {
        prioritise(world, clone, instance);
    }
    sort(world, clone);
    let mut promoted = 0;
    for instance in world.services[clone].children.clone() {
        decide(world, clone, instance, &mut promoted);
    }
}

/// How much an instance is to be promoted where it will be.
fn prioritise(world: &mut World<'_>, clone: Sx, instance: Sx) {
    if world.role(instance, true) == Some(Role::Started) {
        unpromoted_now(world, instance);
    }
    let Some(node) = world.location(instance, false) else {
        return;
    };
    let next = world.role(instance, false);
    match next {
        None | Some(Role::Started) => {
            // Without a word from a node or a constraint, nothing is promoted.
            let score = promotion_score(world, instance, node).unwrap_or(Score::new(-1));
            world.services[instance].promotion = score;
        }
        Some(Role::Unpromoted | Role::Stopped) => {
            world.services[instance].promotion = Score::NEVER;
        }
        Some(Role::Promoted) => {}
    }
    let locations = [instance, clone].map(|s| world.services[s].locations.clone());
    for at in locations.concat() {
        let location = &world.locations[at];
        if location.role == Some(Role::Promoted)
            && let Some(&(_, score)) = location.nodes.iter().find(|(n, _)| *n == node)
        {
            let why = Why::Constraint(location.id.clone());
            world.services[instance].promotion += score;
            world.notes.promotion(instance, node, score, &why);
        }
    }
    for at in world.services[instance].this_with.clone() {
        let primary = world.colocations[at].primary;
        colocate::apply(world, instance, primary, at);
    }
    let s = &mut world.services[instance];
    s.sort_index = if next == Some(Role::Promoted) {
        Score::INFINITY
    } else {
        s.promotion
    };
}

fn unpromoted_now(world: &mut World<'_>, service: Sx) {
    let s = &mut world.services[service];
    if s.role == Some(Role::Started) {
        s.role = Some(Role::Unpromoted);
    }
    for child in s.children.clone() {
        unpromoted_now(world, child);
    }
}

/// Puts the instances in the order in which they are to be promoted.
fn sort(world: &mut World<'_>, clone: Sx) {
    world.services[clone].merging = true;
    let instances = world.services[clone].children.clone();
    for &instance in &instances {
        let index = world.services[instance].sort_index;
        if let Some(node) = world.location(instance, false)
            && index >= Score::ZERO
            && let Some(allowed) = world.services[clone].allowed.get_mut(node)
        {
            allowed.score = index + allowed.score;
        }
    }
    for at in world.services[clone].this_with.clone() {
        if world.colocations[at].dependent_role == Some(Role::Promoted) {
            add_dependents_of_clone(world, clone, at, true);
        }
    }
    for at in world.services[clone].with_this.clone() {
        if world.colocations[at].primary_role == Some(Role::Promoted)
            && has_influence(world, at, None)
        {
            add_dependents_of_clone(world, clone, at, false);
        }
    }
    tickets(world, clone);
    for &instance in &instances {
        let place = world.location(instance, false);
        let s = &world.services[instance];
        if !s.managed && s.next_role == Some(Role::Promoted) {
            world.services[instance].sort_index = Score::INFINITY;
        } else if let Some(node) = place
            && s.sort_index >= Score::ZERO
        {
            let score = world.services[clone].allowed.score(node);
            world.services[instance].sort_index = score;
        }
    }
    let mut sorted: Vec<Sx> = Vec::with_capacity(instances.len());
    for instance in instances {
        let later = |world: &mut World<'_>, other: Sx| {
            compare(world, clone, other, instance) == Ordering::Greater
        };
        let mut at = sorted.len();
        while at > 0 && later(world, sorted[at - 1]) {
            at -= 1;
        }
        sorted.insert(at, instance);
    }
    world.services[clone].children = sorted;
    world.services[clone].merging = false;
}

fn compare(world: &mut World<'_>, clone: Sx, a: Sx, b: Sx) -> Ordering {
    let index = |s: Sx| world.services[s].sort_index;
    let by_role = world.role(b, true).cmp(&world.role(a, true));
    index(b)
        .cmp(&index(a))
        .then(by_role)
        .then_with(|| rank::compare(world, clone, a, b))
}

/// Without the ticket that promotion needs, nothing is promoted.
fn tickets(world: &mut World<'_>, clone: Sx) {
    let lacks = world.services[clone]
        .tickets
        .iter()
        .any(|need| need.role == Some(Role::Promoted) && !has_ticket(world, &need.ticket));
    if lacks {
        let why = Why::Fixed("the ticket for promotion is missing");
        world.add_score(clone, None, Score::NEVER, &why);
    }
}

fn decide(world: &mut World<'_>, clone: Sx, instance: Sx, promoted: &mut u32) {
    let s = &world.services[instance];
    let score = s.sort_index;
    world.notes.scores.push(ScoreLine {
        stage: "promotion",
        service: instance,
        node: world.location(instance, false),
        score,
    });
    let c = &world.services[clone];
    let most = c.promoted_max + u32::from(PlanMutant::PromotedOneMore.active());
    let room = *promoted < most || !c.managed;
    let node = (score >= Score::ZERO && room)
        .then(|| place_for_promotion(world, clone, instance))
        .flatten();
    let frozen = world.services[instance].role < Some(Role::Promoted)
        && !world.quorate
        && world.options.no_quorum == NoQuorum::Freeze;
    match node {
        Some(node) if !frozen => {
            if let Some(allowed) = world.services[clone].allowed.get_mut(node) {
                allowed.count += 1;
            }
            set_promoted(world, instance);
            *promoted += 1;
        }
        _ => set_unpromoted(world, instance),
    }
}

/// Where an instance can be promoted, all its members included.
fn place_for_promotion(world: &World<'_>, clone: Sx, service: Sx) -> Option<Nx> {
    let s = &world.services[service];
    for &child in &s.children {
        place_for_promotion(world, clone, child)?;
    }
    let node = world.location(service, false)?;
    if !s.managed {
        if world.role(service, true) != Some(Role::Promoted) {
            return None;
        }
    } else if s.promotion < Score::ZERO || !can_take(world, node) {
        return None;
    }
    let allowed = world.services[clone].allowed.get(node)?;
    let full = allowed.count >= world.services[clone].promoted_node_max && s.managed;
    (!full).then_some(node)
}

/// Whether a node can run something; a guest only if what brings it about has a place.
fn can_take(world: &World<'_>, node: Nx) -> bool {
    world.is_available(node)
        && world
            .container_of_guest(node)
            .is_none_or(|c| world.location(c, false).is_some())
}

fn set_promoted(world: &mut World<'_>, service: Sx) {
    if world.services[service].next_role.is_none() {
        world.set_next_role(service, Some(Role::Promoted), "promoted instance");
    }
    for child in world.services[service].children.clone() {
        set_promoted(world, child);
    }
}

fn set_unpromoted(world: &mut World<'_>, service: Sx) {
    let mut places = Vec::new();
    world.locations_of(service, false, &mut places);
    let role = if places.is_empty() {
        Role::Stopped
    } else {
        Role::Unpromoted
    };
    world.set_next_role(service, Some(role), "unpromoted instance");
    for child in world.services[service].children.clone() {
        set_unpromoted(world, child);
    }
}
