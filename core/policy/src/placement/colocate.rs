//! What colocations add to scores.

use super::{choose, group_last, partner, place_one};
use crate::{
    model::{Kind, Nx, Scores, Sx, World},
    report::Why,
};
use mainstay_base::PlanMutant;
use mainstay_cib::value::{Role, Score};

/// Which colocations count in a merge, as bits that can be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Select(u8);

impl Select {
    /// Those in which others follow.
    pub(super) const WITH_THIS: Select = Select(0);
    /// Those in which it follows.
    pub(super) const THIS_WITH: Select = Select(1);
    /// Nothing may get below zero by it.
    pub(super) const NONNEGATIVE: Select = Select(1 << 1);
    /// Only what leaves a node to run on.
    pub(super) const ACTIVE: Select = Select(1 << 2);

    pub(super) const fn and(self, other: Select) -> Select {
        Select(self.0 | other.0)
    }

    fn has(self, other: Select) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Whether the wishes of a dependent count for the primary (or for an instance of it).
pub(crate) fn has_influence(world: &World<'_>, at: usize, instance: Option<Sx>) -> bool {
    let c = &world.colocations[at];
    let primary = &world.services[instance.unwrap_or(c.primary)];
    // A connection moves easily, a container does not: the first follows the second.
    if world.services[c.dependent].nests && !primary.failed && primary.running_on.len() == 1 {
        return false;
    }
    c.influence || primary.running_on.is_empty()
}

/// A constraint's score as a factor for the scores of a partner.
#[expect(clippy::cast_precision_loss, reason = "a million is exact")]
fn factor(score: Score) -> f32 {
    score.get() as f32 / Score::INFINITY.get() as f32
}

/// The scores of a service, or given ones, with what its partners, and theirs, add to them.
///
/// A score far below must not stands for a node that is out of the question for an optional merge;
/// it is kept as a flag in `out`.
pub(super) fn merge(
    world: &mut World<'_>,
    service: Sx,
    given: Option<&Scores>,
    attribute: &str,
    factor: f32,
    select: Select,
) -> Scores {
    let mut work = Work {
        scores: given.cloned(),
        out: Vec::new(),
    };
    add(world, service, &mut work, attribute, factor, select);
    work.scores.unwrap_or_default()
}

/// Scores in the making.
#[derive(Clone, Default)]
struct Work {
    scores: Option<Scores>,
    /// Nodes that are out of the question.
    out: Vec<Nx>,
}

fn add(
    world: &mut World<'_>,
    service: Sx,
    work: &mut Work,
    attribute: &str,
    factor: f32,
    select: Select,
) {
    if world.services[service].merging {
        return;
    }
    world.services[service].merging = true;
    if world.services[service].kind == Kind::Group {
        of_group(world, service, work, attribute, factor, select);
    } else {
        of_one(world, service, work, attribute, factor, select);
    }
    world.services[service].merging = false;
}

/// A group is represented by its first member, from which the chain of members leads on; where its
/// own wishes are asked for, by its last one.
fn of_group(
    world: &mut World<'_>,
    group: Sx,
    work: &mut Work,
    attribute: &str,
    factor: f32,
    select: Select,
) {
    let members = &world.services[group].children;
    let member = if work.scores.is_none() {
        members.last()
    } else {
        members.first()
    };
    let Some(&member) = member else { return };
    add(world, member, work, attribute, factor, select);
    if select.has(Select::THIS_WITH) {
        return;
    }
    for at in world.services[group].with_this.clone() {
        if has_influence(world, at, None) {
            let c = world.colocations[at].clone();
            add(
                world,
                c.dependent,
                work,
                &c.attribute,
                self::factor(c.score),
                select,
            );
        }
    }
}

fn of_one(
    world: &mut World<'_>,
    service: Sx,
    into: &mut Work,
    attribute: &str,
    factor: f32,
    select: Select,
) {
    let mut work = into.clone();
    match &mut work.scores {
        None => work.scores = Some(world.services[service].allowed.clone()),
        Some(_) => add_matching(world, service, &mut work, attribute, factor, select),
    }
    let any = work.scores.as_ref().is_some_and(|s| {
        s.iter()
            .any(|(n, a)| a.score >= Score::ZERO && !work.out.contains(&n) && world.is_available(n))
    });
    if any {
        let direction = if factor < 0.0 { -1.0 } else { 1.0 };
        let forward = select.has(Select::THIS_WITH);
        let s = &world.services[service];
        let list = if forward {
            s.this_with.clone()
        } else {
            s.with_this.clone()
        };
        for at in list {
            let c = world.colocations[at].clone();
            if !forward && !has_influence(world, at, None) {
                continue;
            }
            let other = if forward { c.primary } else { c.dependent };
            let scaled = direction * self::factor(c.score);
            add(
                world,
                other,
                &mut work,
                &c.attribute,
                scaled,
                select.and(Select::ACTIVE),
            );
        }
    } else if select.has(Select::ACTIVE) {
        return;
    }
    if select.has(Select::NONNEGATIVE) {
        for node in std::mem::take(&mut work.out) {
            if let Some(allowed) = work.scores.as_mut().and_then(|s| s.get_mut(node)) {
                allowed.score = Score::new(1);
            }
        }
    }
    *into = work;
}

/// Adds to each node's score that of the partner's best node like it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "scores are small"
)]
fn add_matching(
    world: &World<'_>,
    partner: Sx,
    work: &mut Work,
    attribute: &str,
    factor: f32,
    select: Select,
) {
    let Some(scores) = &mut work.scores else {
        return;
    };
    for (node, allowed) in scores.iter_mut() {
        let score = best_like(world, partner, node, attribute);
        // What the dependent must avoid is no recommendation for what it avoids.
        if factor < 0.0 && score < Score::ZERO || work.out.contains(&node) {
            continue;
        }
        let exact = factor * score.get() as f32;
        let mut weight = (if exact < 0.0 {
            exact - 0.5
        } else {
            exact + 0.5
        }) as i64;
        if weight == 0 && score != Score::ZERO {
            weight = if factor > 0.0 {
                1
            } else {
                -i64::from(factor < 0.0)
            };
        }
        let sum = Score::new(weight) + allowed.score;
        if select.has(Select::NONNEGATIVE) && sum < Score::ZERO && allowed.score >= Score::ZERO {
            if allowed.score > Score::ZERO {
                work.out.push(node);
            }
            continue;
        }
        allowed.score = sum;
    }
}

/// The best score of a service on the nodes that share an attribute's value with a node.
fn best_like(world: &World<'_>, service: Sx, node: Nx, attribute: &str) -> Score {
    let allowed = &world.services[service].allowed;
    if attribute == "#uname" {
        return if world.is_available(node) {
            allowed.score(node)
        } else {
            Score::NEVER
        };
    }
    let value = world.nodes[node].attribute(attribute);
    allowed
        .iter()
        .filter(|(n, _)| world.is_available(*n) && same(world, *n, attribute, value))
        .map(|(_, a)| a.score)
        .max()
        .unwrap_or(Score::NEVER)
}

fn same(world: &World<'_>, node: Nx, attribute: &str, value: Option<&str>) -> bool {
    match (world.nodes[node].attribute(attribute), value) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        (None, None) => true,
        _ => false,
    }
}

/// What a colocation bears on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Affects {
    Nothing,
    Location,
    Role,
}

/// What a colocation bears on for a dependent (or an instance of it) now. `preview`: what it would if
/// nothing were decided yet.
pub(super) fn affects(
    world: &World<'_>,
    dependent: Sx,
    primary: Sx,
    at: usize,
    preview: bool,
) -> Affects {
    let c = &world.colocations[at];
    let (d, p) = (&world.services[dependent], &world.services[primary]);
    if !preview && p.provisional {
        return Affects::Nothing;
    }
    let in_promotable = d.parent.is_some_and(|p| world.services[p].promotable);
    if c.dependent_role >= Some(Role::Unpromoted) && in_promotable && !d.provisional {
        return Affects::Role;
    }
    if !preview && !d.provisional {
        return Affects::Nothing;
    }
    let role_is = |wanted: Option<Role>, next: Option<Role>| wanted == next;
    for (wanted, next) in [
        (c.dependent_role, d.next_role),
        (c.primary_role, p.next_role),
    ] {
        if wanted.is_some()
            && (c.score > Score::ZERO && !role_is(wanted, next)
                || c.score < Score::ZERO && role_is(wanted, next))
        {
            return Affects::Nothing;
        }
    }
    Affects::Location
}

/// Applies a colocation in which a service follows; its primary is placed first.
pub(super) fn apply_this_with(world: &mut World<'_>, service: Sx, at: usize) {
    let c = world.colocations[at].clone();
    let may_revert =
        c.dependent_role >= Some(Role::Promoted) || c.score < Score::ZERO && !c.score.is_never();
    let before = may_revert.then(|| world.services[service].allowed.clone());
    if world.services[c.primary].provisional {
        place_one(world, c.primary, None);
    }
    apply(world, service, c.primary, at);
    if let Some(before) = before
        && !world.any_available(&world.services[service].allowed)
    {
        world.services[service].allowed = before;
    }
}

/// Adds the wishes of those that follow a service.
pub(super) fn add_dependents(world: &mut World<'_>, service: Sx, at: usize) {
    if !has_influence(world, at, None) {
        return;
    }
    let c = world.colocations[at].clone();
    let given = world.services[service].allowed.clone();
    let scaled = factor(c.score);
    let scores = merge(
        world,
        c.dependent,
        Some(&given),
        &c.attribute,
        scaled,
        Select::ACTIVE,
    );
    replace(world, service, scores, &Why::Constraint(c.id));
}

/// The same for a clone as a whole, with nothing getting below zero.
pub(super) fn add_dependents_of_clone(world: &mut World<'_>, clone: Sx, at: usize, primary: bool) {
    let c = world.colocations[at].clone();
    let given = world.services[clone].allowed.clone();
    let (other, select) = if primary {
        let select = if c.score.is_infinite() {
            Select::WITH_THIS
        } else {
            Select::ACTIVE
        };
        (c.primary, select)
    } else {
        (c.dependent, Select::ACTIVE.and(Select::NONNEGATIVE))
    };
    let scores = merge(
        world,
        other,
        Some(&given),
        &c.attribute,
        factor(c.score),
        select,
    );
    replace(world, clone, scores, &Why::Constraint(c.id));
}

/// Scores of two instances, one node each, with what all partners of their clone add.
pub(super) fn partners_of_instance(
    world: &mut World<'_>,
    clone: Sx,
    instance: Sx,
    scores: Scores,
) -> Scores {
    let mut scores = scores;
    for at in world.services[clone].this_with.clone() {
        let c = world.colocations[at].clone();
        let scaled = factor(c.score);
        scores = merge(
            world,
            c.primary,
            Some(&scores),
            &c.attribute,
            scaled,
            Select::WITH_THIS,
        );
    }
    for at in world.services[clone].with_this.clone() {
        if has_influence(world, at, Some(instance)) {
            let c = world.colocations[at].clone();
            let scaled = factor(c.score);
            let select = Select::NONNEGATIVE;
            scores = merge(
                world,
                c.dependent,
                Some(&scores),
                &c.attribute,
                scaled,
                select,
            );
        }
    }
    scores
}

/// Sets scores, with the differences in the report.
fn replace(world: &mut World<'_>, service: Sx, scores: Scores, why: &Why) {
    let before = std::mem::replace(&mut world.services[service].allowed, scores);
    for (node, after) in world.services[service].allowed.iter() {
        let change = i64::from(after.score.get()) - i64::from(before.score(node).get());
        world
            .notes
            .contribution(service, node, Score::new(change), why);
    }
}

/// Applies a colocation to a dependent, whatever kind it and its primary are of.
pub(super) fn apply(world: &mut World<'_>, dependent: Sx, primary: Sx, at: usize) {
    if world.services[dependent].kind == Kind::Group {
        let members = world.services[dependent].children.clone();
        let together = world.services[dependent].colocated;
        if !together && world.colocations[at].score.is_infinite() {
            return;
        }
        let count = if together { 1 } else { members.len() };
        for &member in &members[..count.min(members.len())] {
            apply(world, member, primary, at);
        }
        return;
    }
    match world.services[primary].kind {
        Kind::Primitive => apply_primitive(world, dependent, primary, at),
        Kind::Group => with_group(world, dependent, primary, at),
        Kind::Clone => with_clone(world, dependent, primary, at),
        Kind::Bundle => with_bundle(world, dependent, primary, at),
    }
}

fn with_group(world: &mut World<'_>, dependent: Sx, group: Sx, at: usize) {
    if world.services[group].provisional {
        return;
    }
    let members = world.services[group].children.clone();
    let must = world.colocations[at].score.is_infinite();
    if world.services[group].colocated {
        // All of the group must be there for a must; else its beginning is enough.
        let member = if must {
            group_last(world, group)
        } else {
            members.first().copied()
        };
        if let Some(member) = member {
            apply(world, dependent, member, at);
        }
    } else if !must {
        for member in members {
            apply(world, dependent, member, at);
        }
    }
}

fn with_clone(world: &mut World<'_>, dependent: Sx, clone: Sx, at: usize) {
    let c = world.colocations[at].clone();
    if world.services[clone].promotable {
        if world.services[clone].provisional {
            return;
        }
        if let Some(role) = c.primary_role {
            if world.services[dependent].provisional {
                with_instances_in_role(world, dependent, clone, at, role);
                return;
            }
            if c.dependent_role == Some(Role::Promoted) {
                promote_with(world, dependent, clone, at, role);
                return;
            }
        }
    }
    if world.services[clone].provisional {
        return;
    }
    let follower = &world.services[c.dependent];
    let pairs = follower.interleave
        && follower.kind > Kind::Group
        && partner::copies_per_node(world, c.dependent)
            == partner::copies_per_node(world, c.primary);
    if pairs {
        match partner::compatible(world, dependent, clone, None, false) {
            Some(instance) => apply(world, dependent, instance, at),
            None if c.score.is_infinite() => {
                choose::assign(world, dependent, None);
            }
            None => {}
        }
        return;
    }
    let instances = world.services[clone].children.clone();
    if c.score.is_infinite() {
        let mut nodes = Vec::new();
        for instance in instances {
            if let Some(node) = world.location(instance, false)
                && !partner::is_blocked(world, instance)
            {
                nodes.push((node, Score::ZERO));
            }
        }
        exclude_others(world, dependent, &nodes);
        return;
    }
    for instance in instances {
        apply(world, dependent, instance, at);
    }
}

/// The dependent must be on one of these nodes, each of which gets something.
fn exclude_others(world: &mut World<'_>, dependent: Sx, nodes: &[(Nx, Score)]) {
    for (node, allowed) in world.services[dependent].allowed.iter_mut() {
        match nodes.iter().rev().find(|(n, _)| *n == node) {
            Some((_, score)) => allowed.score += *score,
            None => allowed.score = Score::NEVER,
        }
    }
}

/// Before the dependent has a place: it goes where instances in this role will be.
fn with_instances_in_role(world: &mut World<'_>, dependent: Sx, clone: Sx, at: usize, role: Role) {
    let c = world.colocations[at].clone();
    let mut nodes = Vec::new();
    for instance in world.services[clone].children.clone() {
        let Some(node) = world.location(instance, false) else {
            continue;
        };
        if world.role(instance, false) != Some(role) {
            continue;
        }
        let first = world.leaves(instance).first().copied();
        let score = first.map_or(Score::ZERO, |l| world.services[l].home_score);
        nodes.push((node, score));
        if c.score.is_infinite() {
            continue;
        }
        let value = world.nodes[node].attribute(&c.attribute).map(str::to_owned);
        let like: Vec<Nx> = world.services[dependent]
            .allowed
            .iter()
            .filter(|(n, _)| same(world, *n, &c.attribute, value.as_deref()))
            .map(|(n, _)| n)
            .collect();
        for n in like {
            if let Some(allowed) = world.services[dependent].allowed.get_mut(n) {
                allowed.score += c.score;
            }
        }
    }
    let both = c.dependent_role == Some(Role::Promoted) && role == Role::Promoted;
    if c.score.is_infinite() && !both {
        exclude_others(world, dependent, &nodes);
    }
}

/// After the dependent has a place: how much it is to be promoted there.
fn promote_with(world: &mut World<'_>, dependent: Sx, clone: Sx, at: usize, role: Role) {
    let score = world.colocations[at].score;
    if partner::compatible(world, dependent, clone, Some(role), false).is_some() {
        world.services[dependent].promotion += score;
    } else if score.is_infinite() {
        world.services[dependent].promotion = Score::NEVER;
    }
}

fn with_bundle(world: &mut World<'_>, dependent: Sx, bundle: Sx, at: usize) {
    if world.services[bundle].provisional {
        return;
    }
    let c = world.colocations[at].clone();
    if world.services[c.dependent].kind > Kind::Group {
        match partner::compatible(world, dependent, bundle, None, false) {
            Some(container) => apply(world, dependent, container, at),
            None if c.score.is_infinite() => {
                choose::assign(world, dependent, None);
            }
            None => {}
        }
        return;
    }
    let mut nodes = Vec::new();
    for replica in world.services[bundle].replicas.clone() {
        if !c.score.is_infinite() {
            apply(world, dependent, replica.container, at);
            continue;
        }
        let Some(node) = world.location(replica.container, false) else {
            continue;
        };
        if partner::is_blocked(world, replica.container) {
            continue;
        }
        let promoted = |child: Option<Sx>| {
            child.is_some_and(|c| world.services[c].next_role >= Some(Role::Promoted))
        };
        if c.primary_role >= Some(Role::Promoted) && !promoted(replica.child) {
            continue;
        }
        nodes.push((node, Score::ZERO));
    }
    if c.score.is_infinite() {
        exclude_others(world, dependent, &nodes);
    }
}

fn apply_primitive(world: &mut World<'_>, dependent: Sx, primary: Sx, at: usize) {
    match affects(world, dependent, primary, at, false) {
        Affects::Nothing => {}
        Affects::Location => to_location(world, dependent, primary, at),
        Affects::Role => to_role(world, dependent, primary, at),
    }
}

fn to_location(world: &mut World<'_>, dependent: Sx, primary: Sx, at: usize) {
    let c = world.colocations[at].clone();
    let place = world.services[primary].home;
    let ignored = PlanMutant::AntiColocationIgnored.active();
    if (place.is_none() || ignored) && c.score < Score::ZERO {
        return;
    }
    let attribute = &c.attribute;
    let value = place.and_then(|n| world.nodes[n].attribute(attribute).map(str::to_owned));
    let mut scores = world.services[dependent].allowed.clone();
    for (node, allowed) in scores.iter_mut() {
        if place.is_none() {
            allowed.score += -c.score;
        } else if same(world, node, attribute, value.as_deref()) {
            if !c.score.is_infinite() {
                allowed.score += c.score;
            }
        } else if c.score.is_infinite() {
            allowed.score += -c.score;
        }
    }
    let binding = c.score.is_infinite() || c.score.is_never();
    if binding || world.any_available(&scores) {
        replace(world, dependent, scores, &Why::Constraint(c.id));
    }
}

fn to_role(world: &mut World<'_>, dependent: Sx, primary: Sx, at: usize) {
    let c = world.colocations[at].clone();
    let (Some(there), Some(here)) = (world.services[primary].home, world.services[dependent].home)
    else {
        return;
    };
    let value = world.nodes[there].attribute(&c.attribute);
    if !same(world, here, &c.attribute, value) {
        if c.score.is_infinite() && c.dependent_role == Some(Role::Promoted) {
            world.services[dependent].promotion = Score::NEVER;
        }
        return;
    }
    if c.primary_role.is_some() && c.primary_role != world.services[primary].next_role {
        return;
    }
    let score = if c.dependent_role == Some(Role::Unpromoted) {
        -c.score
    } else {
        c.score
    };
    world.services[dependent].promotion += score;
}
