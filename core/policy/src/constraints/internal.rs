//! The orders and colocations that follow from what services are: restarts, members of groups,
//! instances of clones, what is in a container.

use super::{colocate, order, order_by};
use crate::{
    actions,
    model::{Colocation, End, FenceOp, Kind, Needed, NodeKind, Nx, Replica, Sx, Task, World, flow},
    placement::has_utilization,
};
use mainstay_base::PlanMutant;
use mainstay_cib::{
    text::Str,
    value::{Role, Score},
};

/// Makes them for all services.
pub(crate) fn all(world: &mut World<'_>) {
    for root in world.roots.clone() {
        of(world, root);
    }
}

fn of(world: &mut World<'_>, service: Sx) {
    match world.services[service].kind {
        Kind::Primitive => primitive(world, service),
        Kind::Group => group(world, service),
        Kind::Clone => clone(world, service),
        Kind::Bundle => bundle(world, service),
    }
}

fn with(world: &mut World<'_>, id: &'static str, dependent: Sx, primary: Sx, score: Score) {
    let made = Colocation {
        id: id.into(),
        dependent,
        primary,
        dependent_role: None,
        primary_role: None,
        attribute: "#uname".into(),
        score,
        influence: true,
    };
    colocate(world, made);
}

fn primitive(world: &mut World<'_>, service: Sx) {
    let s = &world.services[service];
    if !s.managed {
        return;
    }
    let promotable = world.services[world.top(service)].promotable;
    let active_promoted = s.role > Some(Role::Unpromoted);
    let (is_fencing, is_remote) = (s.config.is_fencing(), s.is_remote);
    let unfences = !is_fencing && world.has_unfencing && s.requires == Needed::Unfencing;
    let container = s.container;
    let restart = flow::OPTIONAL | flow::IMPLIES_THEN | flow::RESTART;
    if !PlanMutant::MoveWithoutStop.active() {
        order_by(
            world,
            (service, Task::Stop),
            (service, Task::Start),
            restart,
        );
    }
    if promotable || active_promoted {
        let first = flow::PROMOTED_IMPLIES_FIRST;
        order_by(world, (service, Task::Demote), (service, Task::Stop), first);
        let needs = flow::NEEDS_FIRST;
        order_by(
            world,
            (service, Task::Start),
            (service, Task::Promote),
            needs,
        );
    }
    // A history that is asked for anew is not forgotten.
    let cancels = flow::SAME_NODE | flow::THEN_CANCELS_FIRST;
    order_by(
        world,
        (service, Task::Forget),
        (service, Task::Monitor),
        cancels,
    );
    if unfences {
        unfencing(world, service);
    }
    if has_utilization(world, service) {
        make_room(world, service);
    }
    if let Some(container) = container {
        in_container(world, service, container);
    }
    if is_remote || is_fencing {
        avoid_remote_nodes(world, service);
    }
}

fn allowed_nodes(world: &World<'_>, service: Sx) -> Vec<Nx> {
    let mut nodes: Vec<Nx> = world.services[service]
        .allowed
        .iter()
        .map(|(n, _)| n)
        .collect();
    nodes.sort_by(|a, b| world.nodes[*a].name.cmp(&world.nodes[*b].name));
    nodes
}

/// Stops come before a node is taken back, starts after it.
fn unfencing(world: &mut World<'_>, service: Sx) {
    for node in allowed_nodes(world, service) {
        let unfence = actions::fence_action(world, node, Some(FenceOp::On), false, None);
        let (stop, start) = (
            End::Task(service, Task::Stop, 0),
            End::Task(service, Task::Start, 0),
        );
        let on_node = flow::OPTIONAL | flow::SAME_NODE;
        order(world, stop, End::Action(unfence), on_node);
        let implies = flow::IMPLIES_THEN_ON_NODE | flow::SAME_NODE;
        order(world, End::Action(unfence), start, implies);
    }
}

/// Where room is short, stops on a node come before starts there.
fn make_room(world: &mut World<'_>, service: Sx) {
    for node in world.services[service].running_on.clone() {
        let room = room_on(world, node);
        order(
            world,
            End::Task(service, Task::Stop, 0),
            End::Action(room),
            flow::LOAD,
        );
    }
    for node in allowed_nodes(world, service) {
        let room = room_on(world, node);
        for task in [Task::Start, Task::MigrateTo] {
            order(
                world,
                End::Action(room),
                End::Task(service, task, 0),
                flow::LOAD,
            );
        }
    }
}

fn room_on(world: &mut World<'_>, node: Nx) -> crate::model::Ax {
    let name: Str = format!("load_stopped_{}", world.nodes[node].name).into();
    let task = world.task(&name);
    let at = actions::free(world, task, Some(node), false);
    world.actions[at].pseudo = true;
    at
}

fn in_container(world: &mut World<'_>, service: Sx, container: Sx) {
    let s = &world.services[service];
    let (is_remote, nests) = (s.is_remote, s.nests);
    let mut remote = None;
    if is_remote {
        if !nests {
            avoid_remote_nodes(world, container);
        }
        // If the container is found running after all, its connection need not be stopped.
        let (probe, stop) = ((container, Task::Monitor), (service, Task::Stop));
        order_by(world, probe, stop, flow::OPTIONAL);
    } else if world.services[container].is_remote {
        remote = Some(container);
    } else {
        let fillers = &world.services[container].fillers;
        remote = fillers
            .iter()
            .copied()
            .find(|f| world.services[*f].is_remote);
    }
    if let Some(remote) = remote {
        // It runs inside the node that the container makes.
        for node in 0..world.nodes.len() {
            if world.nodes[node].connection != Some(remote)
                && let Some(allowed) = world.services[service].allowed.get_mut(node)
            {
                allowed.score = Score::NEVER;
            }
        }
        return;
    }
    let up = flow::IMPLIES_THEN | flow::NEEDS_FIRST;
    order_by(world, (container, Task::Start), (service, Task::Start), up);
    let down = flow::IMPLIES_FIRST;
    order_by(world, (service, Task::Stop), (container, Task::Stop), down);
    let score = if nests {
        Score::new(10_000)
    } else {
        Score::INFINITY
    };
    with(world, "resource-with-container", service, container, score);
}

fn avoid_remote_nodes(world: &mut World<'_>, service: Sx) {
    for node in 0..world.nodes.len() {
        if world.nodes[node].kind == NodeKind::Remote
            && world.nodes[node].connection.is_some()
            && let Some(allowed) = world.services[service].allowed.get_mut(node)
        {
            allowed.score = Score::NEVER;
        }
    }
}

/// What the members of a group have learnt of those before them.
#[derive(Default)]
struct Chain {
    previous: Option<Sx>,
    last_active: Option<Sx>,
}

fn group(world: &mut World<'_>, group: Sx) {
    order_by(
        world,
        (group, Task::Stop),
        (group, Task::Stopped),
        flow::NEEDS_FIRST,
    );
    order_by(
        world,
        (group, Task::Stopped),
        (group, Task::Start),
        flow::OPTIONAL,
    );
    order_by(
        world,
        (group, Task::Start),
        (group, Task::Started),
        flow::NEEDS_FIRST,
    );
    let mut chain = Chain::default();
    for member in world.services[group].children.clone() {
        group_member(world, group, member, &mut chain);
    }
}

fn group_member(world: &mut World<'_>, group: Sx, member: Sx, chain: &mut Chain) {
    primitive(world, member);
    let (ordered, colocated) = (
        world.services[group].ordered,
        world.services[group].colocated,
    );
    let promotable = world.services[world.top(group)].promotable;
    let mut down = flow::SHOWS_FIRST;
    let mut after_down = flow::SHOWS_THEN;
    match chain.previous {
        None if ordered => {
            down |= flow::OPTIONAL;
            after_down = flow::IMPLIES_THEN;
        }
        Some(previous) if colocated => {
            let influence = world.services[member].critical;
            let made = Colocation {
                id: "group:internal_colocation".into(),
                dependent: member,
                primary: previous,
                dependent_role: None,
                primary_role: None,
                attribute: "#uname".into(),
                score: Score::INFINITY,
                influence,
            };
            colocate(world, made);
        }
        _ => {}
    }
    let up = flow::NEEDS_FIRST | flow::IMPLIES_THEN | flow::SHOWS_THEN;
    let shows = flow::SHOWS_FIRST;
    if promotable {
        order_by(world, (group, Task::Demote), (member, Task::Demote), down);
        order_by(
            world,
            (member, Task::Demote),
            (group, Task::Demoted),
            after_down,
        );
        order_by(world, (member, Task::Promote), (group, Task::Promoted), up);
        order_by(
            world,
            (group, Task::Promote),
            (member, Task::Promote),
            shows,
        );
    }
    order_by(world, (group, Task::Stop), (member, Task::Stop), down);
    order_by(
        world,
        (member, Task::Stop),
        (group, Task::Stopped),
        after_down,
    );
    order_by(world, (group, Task::Start), (member, Task::Start), shows);
    order_by(world, (member, Task::Start), (group, Task::Started), up);
    let begins: &[Task] = if promotable {
        &[Task::Start, Task::Promote]
    } else {
        &[Task::Start]
    };
    if !ordered {
        let flags = flow::IMPLIES_THEN | flow::NEEDS_FIRST | flow::SHOWS_FIRST;
        for &task in begins {
            order_by(world, (group, task), (member, task), flags);
        }
    } else if let Some(previous) = chain.previous {
        after_previous(world, previous, member, promotable);
    }
    shut_down_in_sequence(world, ordered, member, chain);
    chain.previous = Some(member);
}

fn after_previous(world: &mut World<'_>, previous: Sx, member: Sx, promotable: bool) {
    let needs = flow::IMPLIES_THEN | flow::NEEDS_FIRST;
    order_by(world, (previous, Task::Start), (member, Task::Start), needs);
    let restart = flow::OPTIONAL | flow::RESTART;
    order_by(world, (member, Task::Stop), (previous, Task::Stop), restart);
    if promotable {
        order_by(
            world,
            (previous, Task::Promote),
            (member, Task::Promote),
            needs,
        );
        let down = flow::OPTIONAL;
        order_by(
            world,
            (member, Task::Demote),
            (previous, Task::Demote),
            down,
        );
    }
}

/// Where only some members are active, these stop in sequence too.
fn shut_down_in_sequence(world: &mut World<'_>, ordered: bool, member: Sx, chain: &mut Chain) {
    let active = |s: Sx| !world.services[s].running_on.is_empty();
    if !active(member) {
        return;
    }
    if ordered
        && chain.previous.is_some_and(|p| !active(p))
        && let Some(last) = chain.last_active
        && active(last)
    {
        order_by(
            world,
            (member, Task::Stop),
            (last, Task::Stop),
            flow::OPTIONAL,
        );
    }
    chain.last_active = Some(member);
}

/// The instances in the order of their numbers.
pub(crate) fn by_number(world: &mut World<'_>, clone: Sx) {
    let number = |s: &Sx| {
        let id = &world.services[*s].id;
        id.rsplit_once(':').and_then(|(_, n)| n.parse::<u32>().ok())
    };
    let mut children = world.services[clone].children.clone();
    children.sort_by_key(number);
    world.services[clone].children = children;
}

fn clone(world: &mut World<'_>, clone: Sx) {
    let s = &world.services[clone];
    let (ordered, promotable) = (s.ordered, s.promotable);
    order_by(
        world,
        (clone, Task::Stopped),
        (clone, Task::Start),
        flow::OPTIONAL,
    );
    order_by(
        world,
        (clone, Task::Start),
        (clone, Task::Started),
        flow::NEEDS_FIRST,
    );
    order_by(
        world,
        (clone, Task::Stop),
        (clone, Task::Stopped),
        flow::NEEDS_FIRST,
    );
    if promotable {
        order_by(
            world,
            (clone, Task::Demoted),
            (clone, Task::Stop),
            flow::OPTIONAL,
        );
        order_by(
            world,
            (clone, Task::Started),
            (clone, Task::Promote),
            flow::NEEDS_FIRST,
        );
    }
    if ordered {
        by_number(world, clone);
    }
    let mut last = None;
    for instance in world.services[clone].children.clone() {
        of(world, instance);
        let up = flow::NEEDS_FIRST | flow::SHOWS_FIRST;
        order_by(world, (clone, Task::Start), (instance, Task::Start), up);
        let shows = flow::SHOWS_THEN;
        order_by(
            world,
            (instance, Task::Start),
            (clone, Task::Started),
            shows,
        );
        let previous = last.filter(|_| ordered);
        if let Some(previous) = previous {
            order_by(
                world,
                (previous, Task::Start),
                (instance, Task::Start),
                flow::OPTIONAL,
            );
        }
        order_by(
            world,
            (clone, Task::Stop),
            (instance, Task::Stop),
            flow::SHOWS_FIRST,
        );
        order_by(world, (instance, Task::Stop), (clone, Task::Stopped), shows);
        if let Some(previous) = previous {
            order_by(
                world,
                (instance, Task::Stop),
                (previous, Task::Stop),
                flow::OPTIONAL,
            );
        }
        last = Some(instance);
    }
    if promotable {
        promotion(world, clone, ordered);
    }
}

/// A collective that is restarted goes all the way down before it comes up again.
fn restart_of_promotable(world: &mut World<'_>, service: Sx) {
    for (first, then) in [
        (Task::Stopped, Task::Start),
        (Task::Stopped, Task::Promote),
        (Task::Demoted, Task::Stop),
        (Task::Demoted, Task::Start),
        (Task::Demoted, Task::Promote),
        (Task::Started, Task::Promote),
        (Task::Demote, Task::Demoted),
    ] {
        order_by(world, (service, first), (service, then), flow::OPTIONAL);
    }
}

fn promotion(world: &mut World<'_>, clone: Sx, ordered: bool) {
    restart_of_promotable(world, clone);
    let (first, then) = (flow::SHOWS_FIRST, flow::SHOWS_THEN);
    let mut last = None;
    for instance in world.services[clone].children.clone() {
        order_by(
            world,
            (clone, Task::Demote),
            (instance, Task::Demote),
            first,
        );
        order_by(
            world,
            (instance, Task::Demote),
            (clone, Task::Demoted),
            then,
        );
        order_by(
            world,
            (clone, Task::Promote),
            (instance, Task::Promote),
            first,
        );
        order_by(
            world,
            (instance, Task::Promote),
            (clone, Task::Promoted),
            then,
        );
        if ordered && let Some(last) = last {
            order_by(
                world,
                (last, Task::Promote),
                (instance, Task::Promote),
                flow::OPTIONAL,
            );
            order_by(
                world,
                (instance, Task::Demote),
                (last, Task::Demote),
                flow::OPTIONAL,
            );
        }
        last = Some(instance);
    }
}

fn bundle(world: &mut World<'_>, bundle: Sx) {
    let children = world.services[bundle].children.clone();
    let child = children.into_iter().find(|c| world.is_clone(*c));
    let (first, then) = (flow::SHOWS_FIRST, flow::SHOWS_THEN);
    if let Some(child) = child {
        order_by(world, (bundle, Task::Start), (child, Task::Start), first);
        order_by(world, (bundle, Task::Stop), (child, Task::Stop), first);
        order_by(world, (child, Task::Started), (bundle, Task::Started), then);
        order_by(world, (child, Task::Stopped), (bundle, Task::Stopped), then);
    }
    for replica in world.services[bundle].replicas.clone() {
        of_replica(world, bundle, &replica);
    }
    if let Some(child) = child {
        of(world, child);
        if world.services[child].promotable {
            restart_of_promotable(world, bundle);
            order_by(world, (child, Task::Demoted), (bundle, Task::Demoted), then);
            order_by(world, (bundle, Task::Demote), (child, Task::Demote), first);
            order_by(
                world,
                (child, Task::Promoted),
                (bundle, Task::Promoted),
                then,
            );
            order_by(
                world,
                (bundle, Task::Promote),
                (child, Task::Promote),
                first,
            );
        }
    }
}

fn of_replica(world: &mut World<'_>, bundle: Sx, replica: &Replica) {
    let container = replica.container;
    of(world, container);
    let (first, then) = (flow::SHOWS_FIRST, flow::SHOWS_THEN);
    let up = flow::NEEDS_FIRST | first;
    order_by(world, (bundle, Task::Start), (container, Task::Start), up);
    if let Some(child) = replica.child {
        order_by(world, (bundle, Task::Stop), (child, Task::Stop), first);
    }
    order_by(world, (bundle, Task::Stop), (container, Task::Stop), first);
    order_by(
        world,
        (container, Task::Start),
        (bundle, Task::Started),
        then,
    );
    order_by(
        world,
        (container, Task::Stop),
        (bundle, Task::Stopped),
        then,
    );
    if let Some(ip) = replica.ip {
        of(world, ip);
        let up = flow::NEEDS_FIRST | flow::PRESERVE;
        order_by(world, (ip, Task::Start), (container, Task::Start), up);
        let down = flow::IMPLIES_FIRST | flow::PRESERVE;
        order_by(world, (container, Task::Stop), (ip, Task::Stop), down);
        with(world, "ip-with-docker", ip, container, Score::INFINITY);
    }
    if let Some(remote) = replica.remote {
        of(world, remote);
    }
}
