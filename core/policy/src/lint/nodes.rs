//! Rules on the states of nodes.

use super::view::View;
use crate::{Kind, Step};

fn operations_on<'a>(
    view: &View<'a>,
    wrong: impl Fn(&Step, &str) -> Option<&'static str>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (_, step) in view.operations() {
        if let Some(node) = &step.node
            && let Some(why) = wrong(step, node)
        {
            found.push(format!("{} on a node that is {why}", step.label));
        }
    }
    found
}

/// Nothing is done on a node that is down, unless it is brought up by a connection first.
pub(super) fn offline(view: &View<'_>) -> Vec<String> {
    operations_on(view, |_, node| {
        let state = view.nodes.get(node)?;
        (!state.online && !state.remote).then_some("offline")
    })
}

/// Nothing is done on a node that must be fenced.
pub(super) fn unclean(view: &View<'_>) -> Vec<String> {
    operations_on(view, |_, node| {
        let state = view.nodes.get(node)?;
        (state.unclean && !state.remote).then_some("unclean")
    })
}

/// Nothing comes to a node that shall have nothing.
pub(super) fn standby(view: &View<'_>) -> Vec<String> {
    operations_on(view, |step, node| {
        let comes = matches!(step.task.as_str(), "start" | "promote" | "migrate_from");
        let state = view.nodes.get(node)?;
        let closed = state.standby || state.shutdown || state.maintenance;
        let managed = !view.is_unmanaged(step.service.as_deref()?);
        (comes && closed && managed && !state.remote).then_some("closed to services")
    })
}

/// A node shuts down when its services have been stopped.
pub(super) fn stop_before_shutdown(view: &View<'_>) -> Vec<String> {
    let steps = &view.graph().steps;
    let mut wrong = Vec::new();
    for (down, step) in steps
        .iter()
        .enumerate()
        .filter(|(_, s)| s.task == "do_shutdown")
    {
        for (stop, other) in view.of_task("stop").filter(|(_, s)| s.node == step.node) {
            if other.kind == Kind::Operation && !view.graph().waits(down, stop) {
                wrong.push(format!("{} does not wait for {}", step.label, other.label));
            }
        }
    }
    wrong
}

/// A service that there is one of, and that needs fencing, starts elsewhere only when its node has
/// been fenced.
pub(super) fn fence_before_start(view: &View<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (start, step) in view.of_task("start") {
        let Some(service) = step.service.as_deref().filter(|s| view.single.contains(s)) else {
            continue;
        };
        let found = view.index.find_primitive(service);
        let whole = found.and_then(|p| view.index.whole(p));
        let lax = whole.is_none_or(|p| {
            p.is_fencing()
                || p.meta.iter().any(|m| m.get("requires").is_some())
                || p.agent.as_deref() == Some("remote")
        });
        if lax || step.kind != Kind::Operation || !view.cib.rsc_defaults().is_empty() {
            continue;
        }
        for (_, other) in view.of("stop", service) {
            let fencing = other.node.as_deref().and_then(|n| view.fencing(n));
            if let Some(fencing) = fencing.filter(|_| other.implied)
                && !view.graph().waits(start, fencing)
            {
                let fencing = &view.graph().steps[fencing].label;
                wrong.push(format!("{} does not wait for {fencing}", step.label));
            }
        }
    }
    wrong
}

/// Nothing is done to what people keep for themselves, but watching it.
pub(super) fn unmanaged(view: &View<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (_, step) in view.operations() {
        let watches = matches!(
            step.task.as_str(),
            "probe" | "monitor" | "cancel" | "notify"
        );
        if let Some(service) = &step.service
            && view.single.contains(service.as_str())
            && !watches
            && view.is_unmanaged(service)
        {
            found.push(format!("{} though it is unmanaged", step.label));
        }
    }
    found
}
