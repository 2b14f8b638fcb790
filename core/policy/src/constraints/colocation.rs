//! Constraints on what runs together.

use super::{Group, Named, named, order_by, sets};
use crate::model::{Colocation, Kind, Sx, Task, World, flow};
use mainstay_cib::{
    constraints::Colocation as Written,
    text::Str,
    value::{Ordering as SetOrder, Role, Score},
};
use std::cmp::Ordering;

/// Reads one constraint.
pub(super) fn unpack(world: &mut World<'_>, written: &Written) {
    let score = written.score.or(Score::ZERO);
    let influence = written.influence.get();
    let groups = if written.sets.is_empty() {
        let Some(groups) = named_ends(world, written) else {
            return;
        };
        groups
    } else {
        sets(world, &written.sets)
    };
    for (at, group) in groups.iter().enumerate() {
        within(world, &written.id, group, score, influence);
        if at > 0 {
            between(world, &written.id, &groups[at - 1], group, score, influence);
        }
    }
}

/// The two ends of a constraint without sets. Simple ones are dealt with here; if a tag stands for
/// several services, that end is a set.
fn named_ends<'s>(world: &mut World<'_>, written: &Written) -> Option<Vec<Group<'s>>> {
    let (rsc, with) = (written.rsc.as_ref()?, written.with_rsc.as_ref()?);
    let (dependents, primaries) = (listed(named(world, rsc))?, listed(named(world, with))?);
    for &dependent in &dependents {
        for &primary in &primaries {
            let attribute = written.node_attribute.clone();
            let made = Colocation {
                id: written.id.clone(),
                dependent,
                primary,
                dependent_role: written.rsc_role.get(),
                primary_role: written.with_rsc_role.get(),
                attribute: attribute.unwrap_or_else(|| "#uname".into()),
                score: written.score.or(Score::ZERO),
                influence: influence_of(world, dependent, written.influence.get()),
            };
            colocate(world, made);
        }
    }
    None
}

fn listed(named: Named) -> Option<Vec<Sx>> {
    match named {
        Named::One(one) => Some(vec![one]),
        Named::Several(several) => Some(several),
        Named::Nothing => None,
    }
}

fn influence_of(world: &World<'_>, dependent: Sx, said: Option<bool>) -> bool {
    said.unwrap_or(world.services[dependent].critical)
}

fn role_of(group: &Group<'_>) -> Option<Role> {
    group.set.and_then(|s| s.role.get())
}

fn pair(
    world: &mut World<'_>,
    id: &Str,
    (dependent, primary): (Sx, Sx),
    (dependent_role, primary_role): (Option<Role>, Option<Role>),
    score: Score,
    influence: Option<bool>,
) {
    let made = Colocation {
        id: id.clone(),
        dependent,
        primary,
        dependent_role,
        primary_role,
        attribute: "#uname".into(),
        score,
        influence: influence_of(world, dependent, influence),
    };
    colocate(world, made);
}

/// The members of one set among each other.
fn within(
    world: &mut World<'_>,
    id: &Str,
    group: &Group<'_>,
    score: Score,
    influence: Option<bool>,
) {
    let score = group.set.and_then(|s| s.score.get()).unwrap_or(score);
    if score == Score::ZERO || group.sequential == Some(false) {
        return;
    }
    let id = group.set.and_then(|s| s.id.as_ref()).unwrap_or(id).clone();
    let role = role_of(group);
    let listed = group.set.and_then(|s| s.ordering.get()) == Some(SetOrder::Listed);
    let members = &group.members;
    for (at, &member) in members.iter().enumerate() {
        if score < Score::ZERO {
            // None of them with any other.
            for &other in &members[..at] {
                pair(world, &id, (member, other), (role, role), score, influence);
            }
        } else if at > 0 && listed {
            let ends = (members[at - 1], member);
            pair(world, &id, ends, (role, role), score, influence);
        } else if at > 0 {
            let ends = (member, members[at - 1]);
            pair(world, &id, ends, (role, role), score, influence);
        }
    }
}

/// One set with the next: where members stand in a chain, one end of it stands for all.
fn between(
    world: &mut World<'_>,
    id: &Str,
    first: &Group<'_>,
    second: &Group<'_>,
    score: Score,
    influence: Option<bool>,
) {
    if score == Score::ZERO {
        return;
    }
    let dependents = match first.sequential {
        Some(false) => &first.members[..],
        _ => &first.members[..first.members.len().min(1)],
    };
    let primaries = match second.sequential {
        Some(false) => &second.members[..],
        _ => &second.members[second.members.len().saturating_sub(1)..],
    };
    let roles = (role_of(first), role_of(second));
    for &dependent in dependents {
        for &primary in primaries {
            pair(world, id, (dependent, primary), roles, score, influence);
        }
    }
}

/// Takes in a colocation. Where two must not be together, one makes way before the other comes.
pub(crate) fn colocate(world: &mut World<'_>, mut made: Colocation) {
    if made.score == Score::ZERO {
        return;
    }
    for role in [&mut made.dependent_role, &mut made.primary_role] {
        if *role == Some(Role::Started) {
            *role = None;
        }
    }
    let at = world.colocations.len();
    let (dependent, primary) = (made.dependent, made.primary);
    let roles = (made.dependent_role, made.primary_role);
    let never = made.score.is_never();
    world.colocations.push(made);
    add_this_with(world, dependent, at);
    add_with_this(world, primary, at);
    if never {
        make_way(world, (dependent, roles.0), (primary, roles.1));
        make_way(world, (primary, roles.1), (dependent, roles.0));
    }
}

/// Adds a colocation to those in which a service follows, at its place.
pub(crate) fn add_this_with(world: &mut World<'_>, service: Sx, at: usize) {
    let primary = |c: usize| world.colocations[c].primary;
    let list = &world.services[service].this_with;
    let place = place(world, list, primary(at), &primary);
    world.services[service].this_with.insert(place, at);
}

/// Adds a colocation to those in which a service leads, at its place.
pub(crate) fn add_with_this(world: &mut World<'_>, service: Sx, at: usize) {
    let dependent = |c: usize| world.colocations[c].dependent;
    let list = &world.services[service].with_this;
    let place = place(world, list, dependent(at), &dependent);
    world.services[service].with_this.insert(place, at);
}

/// Where a new entry goes: before the first that does not come before it.
fn place(world: &World<'_>, list: &[usize], other: Sx, other_of: &dyn Fn(usize) -> Sx) -> usize {
    list.iter()
        .position(|&c| rank(world, other, other_of(c)) != Ordering::Greater)
        .unwrap_or(list.len())
}

/// Which of two partners counts first: by priority, then clones before groups before primitives.
fn rank(world: &World<'_>, a: Sx, b: Sx) -> Ordering {
    let (x, y) = (&world.services[a], &world.services[b]);
    let promotable = |s: &crate::model::Service| s.kind == Kind::Clone && s.promotable;
    y.priority
        .cmp(&x.priority)
        .then(y.kind.cmp(&x.kind))
        .then(promotable(y).cmp(&promotable(x)))
        .then_with(|| x.id.cmp(&y.id))
}

/// What ends a role comes before what begins the other one's.
fn make_way(world: &mut World<'_>, first: (Sx, Option<Role>), then: (Sx, Option<Role>)) {
    let ends: &[Task] = match first.1 {
        Some(Role::Promoted) => &[Task::Demote],
        Some(Role::Unpromoted) => &[Task::Stop, Task::Promote],
        _ => &[Task::Stop],
    };
    let begins: &[Task] = match then.1 {
        Some(Role::Promoted) => &[Task::Promote],
        Some(Role::Unpromoted) => &[Task::Start, Task::Demote],
        _ => &[Task::Start],
    };
    for &end in ends {
        for &begin in begins {
            order_by(
                world,
                (first.0, end),
                (then.0, begin),
                flow::ANTI_COLOCATION,
            );
        }
    }
}
