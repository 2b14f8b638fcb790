//! Moving a service while it runs.

use crate::{
    actions,
    constraints::order_by,
    model::{Nx, Sx, Task, World, flow},
};

/// Whether a service can move without a stop.
pub(super) fn can(world: &World<'_>, service: Sx, current: Option<Nx>) -> bool {
    let s = &world.services[service];
    let clean = |n: Option<Nx>| n.is_some_and(|n| !world.nodes[n].unclean);
    s.allow_migrate && s.managed && !s.failed && !s.start_pending && clean(current) && clean(s.home)
}

/// Makes the two halves of a migration; stop and start become parts of it.
pub(super) fn create(world: &mut World<'_>, service: Sx, current: Nx) {
    let Some(home) = world.services[service].home else {
        return;
    };
    let begun = world.services[service].migration.is_some();
    let start = actions::make(world, service, Task::Start, 0, Some(home), true);
    let stop = actions::make(world, service, Task::Stop, 0, Some(current), true);
    let needs = world.actions[start].needs;
    let to =
        (!begun).then(|| actions::make(world, service, Task::MigrateTo, 0, Some(current), true));
    let from = actions::make(world, service, Task::MigrateFrom, 0, Some(home), true);
    world.actions[start].pseudo = true;
    world.actions[start].migrates = true;
    world.actions[stop].migrates = true;
    world.actions[from].migrates = true;
    world.actions[from].migration = Some((current, home));
    let mut order = |first, then, flags| {
        order_by(
            world,
            (service, first),
            (service, then),
            flow::OPTIONAL | flags,
        );
    };
    if to.is_some() {
        order(Task::Monitor, Task::MigrateTo, 0);
        order(
            Task::MigrateTo,
            Task::MigrateFrom,
            flow::FIRST_NEEDS_MIGRATION,
        );
    } else {
        order(Task::Monitor, Task::MigrateFrom, 0);
    }
    order(Task::MigrateFrom, Task::Stop, flow::FIRST_NEEDS_MIGRATION);
    let pseudo = flow::FIRST_NEEDS_MIGRATION | flow::PSEUDO_IF_FIRST;
    order(Task::MigrateFrom, Task::Start, pseudo);
    match to {
        Some(to) => {
            let action = &mut world.actions[to];
            action.migrates = true;
            action.needs = needs;
            action.migration = Some((current, home));
        }
        None => world.actions[from].needs = needs,
    }
}
