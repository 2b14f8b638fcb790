//! The last stage: the actions that are carried out, and what each of them waits for.

use crate::{
    actions::{notify, router},
    model::{Ax, Link, NodeKind, Nx, Task, World, flow},
    ordering::refresh,
};
use std::collections::BTreeMap;

/// Draws the graph.
pub(crate) fn draw(world: &mut World<'_>) {
    for service in 0..world.services.len() {
        if world.is_clone(service) {
            for at in world.services[service].actions.clone() {
                refresh(world, at);
            }
        }
    }
    notify::create_all(world);
    for at in 0..world.actions.len() {
        add(world, at);
    }
}

fn add(world: &mut World<'_>, at: Ax) {
    if !world.actions[at].tidied {
        tidy(world, at);
    }
    if world.actions[at].drawn || !belongs(world, at) {
        return;
    }
    world.actions[at].drawn = true;
}

/// Puts orderings between the same two actions together.
fn tidy(world: &mut World<'_>, at: Ax) {
    let mut together: BTreeMap<Ax, u32> = BTreeMap::new();
    for link in &world.actions[at].before {
        *together.entry(link.action).or_default() |= link.flags;
    }
    let links = together
        .into_iter()
        .map(|(action, flags)| Link { action, flags });
    world.actions[at].before = links.collect();
    world.actions[at].tidied = true;
}

/// Whether an action is carried out.
pub(crate) fn belongs(world: &World<'_>, at: Ax) -> bool {
    let a = &world.actions[at];
    if !a.runnable || a.optional && !a.show {
        return false;
    }
    if let Some(s) = a.service
        && !world.services[s].managed
        && a.task != Task::Monitor
        && a.interval == 0
    {
        return false;
    }
    if a.pseudo || matches!(a.task, Task::Fence(_) | Task::Shutdown) {
        return true;
    }
    let Some(node) = a.node else {
        return false;
    };
    let n = &world.nodes[node];
    a.by_dc || world.is_guest(node) && !n.needs_reset || n.online && !n.unclean
}

/// Whether an ordering counts for an action that is carried out.
pub(crate) fn counts(world: &World<'_>, at: Ax, link: &Link) -> bool {
    let (a, input) = (&world.actions[at], &world.actions[link.action]);
    let flags = link.flags;
    let mild = flow::SHOWS_FIRST | flow::SHOWS_THEN | flow::OPTIONAL;
    if flags == 0 {
        return false;
    }
    if !input.runnable && (flags & !mild == 0 || flags & flow::ONE_OR_MORE != 0) {
        return false;
    }
    if flags & flow::FIRST_NEEDS_MIGRATION != 0 && !input.runnable
        || flags & flow::UNLESS_FIRST_MIGRATES != 0 && input.migrates
        || flags == flow::OPTIONAL && input.migrates && input.task == Task::Stop
    {
        return false;
    }
    if flags == flow::LOAD {
        return makes_room(world, at, input.node, input.optional);
    }
    if flags == flow::ANTI_COLOCATION {
        let elsewhere = input.node.is_some() && a.node.is_some() && input.node != a.node;
        return !elsewhere && !input.optional;
    }
    let stuck = input.service.is_some_and(|s| {
        let s = &world.services[s];
        s.failed && !s.managed
    });
    if input.service.is_some()
        && input.service != a.service
        && stuck
        && input.task == Task::Stop
        && a.service.is_some_and(|s| world.is_clone(s))
    {
        return false;
    }
    if input.optional && !input.show && !belongs(world, link.action) {
        return false;
    }
    true
}

/// Whether room is made for an action where it is done (a migration: where it leads).
fn makes_room(world: &World<'_>, at: Ax, node: Option<Nx>, optional: bool) -> bool {
    let a = &world.actions[at];
    if let (Some(s), Task::MigrateTo) = (a.service, a.task) {
        let home = world.services[s].home;
        return node.is_some() && node == home;
    }
    node.is_some() && node == a.node && !optional
}

impl World<'_> {
    /// The actions that are carried out, in the order in which they were thought of.
    pub(crate) fn drawn(&self) -> impl Iterator<Item = Ax> {
        (0..self.actions.len()).filter(|a| self.actions[*a].drawn)
    }

    /// The actions that one waits for.
    pub(crate) fn inputs(&self, at: Ax) -> impl Iterator<Item = Ax> {
        let links = self.actions[at].before.iter();
        links
            .filter(move |l| self.actions[l.action].drawn && counts(self, at, l))
            .map(|l| l.action)
    }

    /// What an action is called: task, service, node; in short words that are the same everywhere.
    pub(crate) fn label(&self, at: Ax) -> String {
        let a = &self.actions[at];
        let node = a.node.map_or("", |n| &*self.nodes[n].name);
        let Some(service) = a.service else {
            return match a.task {
                Task::Fence(op) if a.pseudo => format!("pseudo-{} {node}", op.as_str()),
                Task::Fence(op) => format!("{} {node}", op.as_str()),
                Task::ProbeAgain => format!("probe_again probe_again-{node} {node}"),
                task => format!("{} {node}", self.task_name(task))
                    .trim_end()
                    .to_owned(),
            };
        };
        let name = self.shown_name(service);
        let via = match router(self, at) {
            Some(router) if self.nodes[a.node.unwrap_or(router)].kind == NodeKind::Remote => {
                format!(" via {}", self.nodes[router].name)
            }
            _ => String::new(),
        };
        match a.task {
            Task::Monitor if a.interval == 0 => format!("probe {name} {node}{via}"),
            Task::Notify(post, about) => {
                let when = if post { "post" } else { "pre" };
                let about = self.task_name(about.task());
                format!("notify:{when}-{about} {name} {node}{via}")
            }
            Task::Cancel => {
                let what = a.cancels.map_or("", |task| self.task_name(task));
                format!("cancel:{what}={} {name} {node}{via}", a.interval)
            }
            Task::ClearFailCount => format!("clear_failcount {name} {node}"),
            Task::Forget => format!("lrm_delete {name} {node}"),
            task if a.interval > 0 => {
                format!("{}={} {name} {node}{via}", self.task_name(task), a.interval)
            }
            task => format!("{} {name} {node}{via}", self.task_name(task)),
        }
    }
}
