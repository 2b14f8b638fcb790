//! The stages that decide what is done.

mod collective;
mod config;
mod create;
mod migrate;
pub(crate) mod notify;
mod policy;
mod probe;
mod recurring;
mod remote;
mod transition;
mod unfence;

pub(crate) use config::check as check_config;
pub(crate) use create::{fence_action, find, find_all, free, free_event, make};
pub(crate) use policy::{failure_policy, op_def};
pub(crate) use remote::{order_all as order_remote, router};

use crate::model::World;

/// Decides what is done to services: what must be asked first, what must be started and stopped.
pub(crate) fn schedule(world: &mut World<'_>) {
    config::check_deferred(world);
    probe::all(world);
    config::clear_orphans(world);
    for root in world.roots.clone() {
        collective::create(world, root);
    }
}
