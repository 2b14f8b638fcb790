//! Numbers of instances.

use super::Checker;
use crate::{
    problem::Level,
    resources::{Bundle, Cloned, Resource},
};

pub(super) fn check(checker: &mut Checker<'_>) {
    for resource in checker.cib.resources() {
        match resource {
            Resource::Clone(clone) | Resource::Master(clone) => {
                clones(checker, resource, clone);
            }
            Resource::Bundle(bundle) => bundles(checker, bundle),
            _ => {}
        }
    }
}

fn clones(checker: &mut Checker<'_>, resource: &Resource, clone: &Cloned) {
    let number = |name| clone.meta_value(name).and_then(|v| v.parse::<usize>().ok());
    let spot = (resource.at(), resource.tag(), Some(resource.id()));
    let nodes = checker.cib.nodes().len();
    let node_max = number("clone-node-max").unwrap_or(1);
    if let Some(max) = number("clone-max") {
        if nodes > 0 && max > nodes.saturating_mul(node_max) {
            let what = format!(
                "{max} instances are wanted, and {nodes} nodes take {} at most",
                nodes.saturating_mul(node_max)
            );
            let mend = "lower clone-max, or raise clone-node-max";
            checker.add(Level::Note, "too-many-instances", spot, what, mend);
        }
        if number("promoted-max").is_some_and(|p| p > max) {
            let what = "more instances are to be promoted than there are";
            checker.add(
                Level::Warning,
                "too-many-instances",
                spot,
                what,
                "lower promoted-max",
            );
        }
    }
    if node_max > 1 && !clone.is_unique() {
        let what = "instances that do not differ run once per node, whatever clone-node-max says";
        let mend = "set globally-unique=true, or take clone-node-max out";
        checker.add(Level::Warning, "not-unique", spot, what, mend);
    }
    let promotion = ["promoted-max", "promoted-node-max"];
    if !resource.is_promotable() && promotion.iter().any(|n| clone.meta_value(n).is_some()) {
        let what = "promotions are limited, but the clone is not promotable";
        checker.add(
            Level::Warning,
            "not-promotable",
            spot,
            what,
            "set promotable=true, or take the limits out",
        );
    }
}

fn bundles(checker: &mut Checker<'_>, bundle: &Bundle) {
    let spot = (bundle.at, "bundle", Some(&bundle.id));
    let reachable = bundle
        .network
        .as_ref()
        .is_some_and(|n| n.ip_range_start.is_some() || n.control_port.is_set());
    if bundle.primitive.is_some() && !reachable {
        checker.add(
            Level::Error,
            "bundle-unreachable",
            spot,
            "the cluster cannot reach what runs inside its containers",
            "add <network ip-range-start=\"…\"/> or <network control-port=\"…\"/>",
        );
    }
    let Some(container) = bundle.container.as_ref().map(|c| c.container()) else {
        return;
    };
    if container.promoted() > container.count() {
        checker.add(
            Level::Warning,
            "too-many-instances",
            spot,
            "more containers are to be promoted than there are",
            "lower promoted-max, or raise replicas",
        );
    }
    let addressed = bundle
        .network
        .as_ref()
        .is_some_and(|n| n.ip_range_start.is_some());
    if container.per_host() > 1 && !addressed && bundle.primitive.is_some() {
        checker.add(
            Level::Error,
            "bundle-unreachable",
            spot,
            "several containers on one node cannot share a control port",
            "add ip-range-start, or set replicas-per-host to 1",
        );
    }
}
