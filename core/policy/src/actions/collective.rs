//! The events of groups, clones and bundles: when something begins and ends for all of them.

use super::{
    create::{event, find},
    notify::{self, Boundaries, Notices},
    transition,
};
use crate::{
    constraints::{by_number, order_actions_of},
    model::{About, Kind, Sx, Task, World, flow},
};

/// Makes the actions of a service and all in it.
pub(crate) fn create(world: &mut World<'_>, service: Sx) {
    match world.services[service].kind {
        Kind::Primitive => transition::create(world, service),
        Kind::Group => group(world, service),
        Kind::Clone => clone(world, service),
        Kind::Bundle => bundle(world, service),
    }
}

fn group(world: &mut World<'_>, group: Sx) {
    for member in world.services[group].children.clone() {
        create(world, member);
    }
    let promotable = world.services[world.top(group)].promotable;
    let mut tasks = vec![Task::Start, Task::Started, Task::Stop, Task::Stopped];
    if promotable {
        tasks.extend([Task::Demote, Task::Demoted, Task::Promote, Task::Promoted]);
    }
    for task in tasks {
        event(world, group, task, true, true);
    }
}

/// What instances do.
#[derive(Clone, Copy, Default)]
struct Doing {
    active: bool,
    starting: bool,
    stopping: bool,
}

fn doing(world: &World<'_>, service: Sx) -> Doing {
    let mut all = Doing::default();
    for leaf in world.leaves(service) {
        let s = &world.services[leaf];
        all.active |= !s.running_on.is_empty();
        for &at in &s.actions {
            let action = &world.actions[at];
            if action.optional || !(action.pseudo || action.runnable) {
                continue;
            }
            match action.task {
                Task::Stop => all.stopping = true,
                Task::Start if action.runnable => all.starting = true,
                _ => {}
            }
        }
    }
    all
}

fn clone(world: &mut World<'_>, clone: Sx) {
    let instances = world.services[clone].children.clone();
    for &instance in &instances {
        create(world, instance);
    }
    let notices = start_and_stop(world, clone, &instances);
    world.services[clone].notices = notices;
    if world.services[clone].ordered {
        in_sequence(world, clone);
    }
    if world.services[clone].promotable {
        promotion(world, clone);
    }
}

fn start_and_stop(world: &mut World<'_>, service: Sx, instances: &[Sx]) -> Notices {
    let (mut all, mut migrates) = (Doing::default(), true);
    for &instance in instances {
        let one = doing(world, instance);
        migrates &= !(one.stopping && one.starting);
        all.active |= one.active;
        all.starting |= one.starting;
        all.stopping |= one.stopping;
    }
    let start = event(world, service, Task::Start, !all.starting, true);
    let started = event(world, service, Task::Started, !all.starting, false);
    if all.active || all.starting {
        world.actions[started].runnable = true;
    }
    let starts = notify::boundaries(world, service, About::Start, (start, started));
    let stop = event(world, service, Task::Stop, !all.stopping, true);
    let stopped = event(world, service, Task::Stopped, !all.stopping, true);
    if migrates {
        world.actions[stop].migrates = true;
    }
    let stops = notify::boundaries(world, service, About::Stop, (stop, stopped));
    if let (Some(starts), Some(stops)) = (&starts, &stops) {
        before(world, stops, starts);
    }
    Notices {
        start: starts,
        stop: stops,
        ..Notices::default()
    }
}

/// All have been told of the end of one thing before they are told of the begin of another.
fn before(world: &mut World<'_>, first: &Boundaries, then: &Boundaries) {
    order_actions_of(world, first.post_done, then.pre, flow::OPTIONAL);
}

/// Instances of an ordered clone start and stop one after the other.
fn in_sequence(world: &mut World<'_>, clone: Sx) {
    by_number(world, clone);
    let (mut last_start, mut last_stop) = (None, None);
    for instance in world.services[clone].children.clone() {
        if let Some(stop) = find(world, instance, Task::Stop, None)
            && let Some(last) = last_stop.replace(stop)
        {
            order_actions_of(world, stop, last, flow::OPTIONAL);
        }
        if let Some(start) = find(world, instance, Task::Start, None)
            && let Some(last) = last_start.replace(start)
        {
            order_actions_of(world, last, start, flow::OPTIONAL);
        }
    }
}

fn promotion(world: &mut World<'_>, clone: Sx) {
    let (mut promoting, mut demoting) = (false, false);
    for leaf in world.leaves(clone) {
        for &at in &world.services[leaf].actions {
            let action = &world.actions[at];
            if !action.optional {
                promoting |= action.task == Task::Promote;
                demoting |= action.task == Task::Demote;
            }
        }
    }
    let promote = event(world, clone, Task::Promote, !promoting, true);
    let promoted = event(world, clone, Task::Promoted, !promoting, true);
    let promotes = notify::boundaries(world, clone, About::Promote, (promote, promoted));
    let demote = event(world, clone, Task::Demote, !demoting, true);
    let demoted = event(world, clone, Task::Demoted, !demoting, true);
    let demotes = notify::boundaries(world, clone, About::Demote, (demote, demoted));
    let notices = world.services[clone].notices.clone();
    if let (Some(starts), Some(stops), Some(promotes), Some(demotes)) =
        (&notices.start, &notices.stop, &promotes, &demotes)
    {
        before(world, stops, promotes);
        before(world, starts, promotes);
        before(world, demotes, promotes);
        before(world, demotes, starts);
        before(world, demotes, stops);
    }
    let own = &mut world.services[clone].notices;
    own.promote = promotes;
    own.demote = demotes;
    // The priorities of instances were lent to promotion.
    let priority = world.services[clone].priority;
    for instance in world.services[clone].children.clone() {
        world.services[instance].promotion = priority;
    }
}

fn bundle(world: &mut World<'_>, bundle: Sx) {
    let replicas = world.services[bundle].replicas.clone();
    for replica in &replicas {
        for part in [replica.ip, Some(replica.container), replica.remote]
            .into_iter()
            .flatten()
        {
            create(world, part);
        }
    }
    let containers: Vec<Sx> = replicas.iter().map(|r| r.container).collect();
    // Bundles tell nobody; the clone inside does.
    let notify = std::mem::take(&mut world.services[bundle].notify);
    start_and_stop(world, bundle, &containers);
    world.services[bundle].notify = notify;
    let children = world.services[bundle].children.clone();
    let Some(child) = children.into_iter().find(|c| world.is_clone(*c)) else {
        return;
    };
    create(world, child);
    if world.services[child].promotable {
        for task in [Task::Promote, Task::Promoted, Task::Demote, Task::Demoted] {
            event(world, bundle, task, true, true);
        }
    }
}
