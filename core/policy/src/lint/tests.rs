//! Each rule, shown a plan that is right, and the same plan broken.

use super::*;
use crate::{Ask, Place, Step, plan, run};
use mainstay_cib::{Attr, native};

const MEMBERS: &str = "\
node 1 n1
node 2 n2
status
  node_state id=1 uname=n1 in_ccm=true crmd=online join=member expected=member
  node_state id=2 uname=n2 in_ccm=true crmd=online join=member expected=member
";
const NO_FENCING: &str = "property stonith-enabled=false\n";
const WEB: &str = "primitive web systemd:web\n  op monitor interval=10s\n";

fn read(text: &str) -> Cib {
    let mut cib = native::read(text).expect("native form").document.cib;
    cib.have_quorum = Attr::of(true);
    cib
}

/// Two nodes without fencing, and services.
fn fresh(services: &str) -> Cib {
    read(&format!("{NO_FENCING}{services}{MEMBERS}"))
}

/// The state that a cluster with the first configuration comes to, under the second one.
fn later(before: &str, after: &str) -> Cib {
    let mut cib = read(after);
    let (_, played) = run(&read(before), Ask::at(0));
    cib.status = played.status;
    cib
}

/// Which rules a plan breaks, once it was broken; before, it breaks none.
fn broken(cib: &Cib, harm: impl FnOnce(&mut Plan)) -> Vec<&'static str> {
    let mut plan = plan(cib, Ask::at(0));
    assert_eq!(lint(cib, &plan), [], "the plan as it is made");
    harm(&mut plan);
    let mut rules: Vec<_> = lint(cib, &plan).iter().map(|f| f.rule).collect();
    rules.dedup();
    rules
}

fn at(plan: &Plan, label: &str) -> usize {
    let found = plan.graph.steps.iter().position(|s| s.label == label);
    found.unwrap_or_else(|| panic!("no step {label:?} among {:#?}", labels(plan)))
}

fn labels(plan: &Plan) -> Vec<&str> {
    plan.graph.steps.iter().map(|s| &*s.label).collect()
}

fn step<'p>(plan: &'p mut Plan, label: &str) -> &'p mut Step {
    let at = at(plan, label);
    &mut plan.graph.steps[at]
}

/// Makes a step wait for nothing.
fn hasty(plan: &mut Plan, label: &str) {
    step(plan, label).waits_for.clear();
}

fn place(plan: &mut Plan, service: &str, node: &str, role: &str) {
    let places = plan.report.places.entry(service.to_owned()).or_default();
    places.push(Place {
        node: node.to_owned(),
        role: role.to_owned(),
    });
}

fn node_state(plan: &mut Plan, node: &str, state: &str) {
    let nodes = &mut plan.report.status.nodes;
    nodes.insert(node.to_owned(), state.to_owned());
}

/// A configuration under which web runs on one node, and one that moves it to the other.
fn moving() -> Cib {
    let on = |n: &str| format!("{NO_FENCING}{WEB}location l web 100: {n}\n{MEMBERS}");
    later(&on("n1"), &on("n2"))
}

/// Protects from a plan that never ends.
#[test]
fn circle() {
    let rules = broken(&fresh(WEB), |plan| {
        let last = at(plan, "monitor=10000 web n1");
        step(plan, "start web n1").waits_for.push(last);
    });
    assert!(rules.contains(&"circle"), "{rules:?}");
}

/// Protects from doing something twice.
#[test]
fn twice() {
    let rules = broken(&fresh(WEB), |plan| {
        let again = step(plan, "start web n1").clone();
        plan.graph.steps.push(again);
    });
    assert!(rules.contains(&"twice"), "{rules:?}");
}

/// Protects from a service that runs twice while it moves.
#[test]
fn stop_before_start() {
    let rules = broken(&moving(), |plan| hasty(plan, "start web n2"));
    assert_eq!(rules, ["stop-before-start"]);
}

const DRBD: &str = "primitive d ocf:linbit:drbd\nclone c d\n  meta promotable=true notify=false\n";

/// Protects a promoted instance from being stopped under its users.
#[test]
fn demote_before_stop() {
    let text = |more: &str| {
        format!(
            "{NO_FENCING}{more}{DRBD}location l c rule role=Promoted 10: #uname eq n1\n{MEMBERS}"
        )
    };
    let mut cib = later(&text(""), &text("property stop-all-resources=true\n"));
    // The first transition starts, the second one promotes.
    let status = run(
        &{
            let mut up = read(&text(""));
            up.status.clone_from(&cib.status);
            up
        },
        Ask::at(0),
    );
    cib.status = status.1.status;
    let rules = broken(&cib, |plan| hasty(plan, "stop d n1"));
    assert_eq!(rules, ["demote-before-stop"]);
}

/// Protects from promoting what does not run.
#[test]
fn start_before_promote() {
    let text = format!("{DRBD}location l c rule role=Promoted 10: #uname eq n1\n");
    let rules = broken(&fresh(&text), |plan| hasty(plan, "promote d n1"));
    assert_eq!(rules, ["start-before-promote"]);
}

/// Protects from failures that are none: a monitor before its start finds nothing.
#[test]
fn monitor_after_start() {
    let rules = broken(&fresh(WEB), |plan| hasty(plan, "monitor=10000 web n1"));
    assert_eq!(rules, ["monitor-after-start"]);
}

/// Protects from work for a node that is down.
#[test]
fn offline_node() {
    let rules = broken(&fresh(WEB), |plan| node_state(plan, "n2", "offline"));
    assert_eq!(rules, ["offline-node"]);
}

/// Protects from work for a node that must be fenced.
#[test]
fn unclean_node() {
    let rules = broken(&fresh(WEB), |plan| node_state(plan, "n2", "unclean-online"));
    assert_eq!(rules, ["unclean-node"]);
}

/// Protects a node that an operator emptied.
#[test]
fn standby_node() {
    let rules = broken(&fresh(WEB), |plan| node_state(plan, "n1", "online,standby"));
    assert_eq!(rules, ["standby-node"]);
}

/// Protects services from a node that goes before they have been stopped.
#[test]
fn stop_before_shutdown() {
    let text = format!("{NO_FENCING}{WEB}location l web 100: n1\n{MEMBERS}");
    let asked = "  node_state id=9\n    transient_attributes id=9\n      instance_attributes id=s\n        \
                 nvpair id=s-s name=shutdown value=1\n";
    let mut cib = later(&text, &text);
    let nodes = &mut cib.status_mut().nodes;
    let transient = read(&format!("status\n{asked}")).status_mut().nodes[0]
        .transient
        .clone();
    let node = nodes.iter_mut().find(|n| &*n.id == "1").expect("n1");
    node.transient = transient;
    let rules = broken(&cib, |plan| hasty(plan, "do_shutdown n1"));
    assert_eq!(rules, ["stop-before-shutdown"]);
}

/// Protects data: what may still run on a lost node starts elsewhere after fencing only.
#[test]
fn fence_before_start() {
    let text = format!(
        "property stonith-enabled=true\nprimitive f stonith:fence_x\nlocation f2 f 100: n2\n{WEB}\
         location l web 100: n1\n{MEMBERS}"
    );
    let mut cib = later(&text, &text);
    for node in &mut cib.status_mut().nodes {
        if &*node.id == "1" {
            node.in_ccm = Attr::spelled("false");
            node.crmd = Attr::spelled("offline");
        }
    }
    let rules = broken(&cib, |plan| hasty(plan, "start web n2"));
    assert!(rules.contains(&"fence-before-start"), "{rules:?}");
}

/// Protects what people keep for themselves.
#[test]
fn unmanaged() {
    let rules = broken(&moving(), |plan| {
        let now = vec!["n1 Started (unmanaged)".to_owned()];
        plan.report.status.services.insert("web".to_owned(), now);
    });
    assert_eq!(rules, ["unmanaged"]);
}

/// Protects a single service from having two places.
#[test]
fn one_place() {
    let rules = broken(&fresh(WEB), |plan| place(plan, "web", "n2", "Started"));
    assert_eq!(rules, ["one-place"]);
}

/// Protects the limits of clones, in all and on one node.
#[test]
fn instances() {
    let text = format!("{WEB}clone c web\n  meta clone-max=1\n");
    let rules = broken(&fresh(&text), |plan| place(plan, "web", "n2", "Started"));
    assert_eq!(rules, ["instances"]);
    let text = format!("{WEB}clone c web\n");
    let rules = broken(&fresh(&text), |plan| place(plan, "web", "n2", "Started"));
    assert_eq!(rules, ["instances"]);
}

/// Protects from two that believe they are the promoted one.
#[test]
fn promoted() {
    let rules = broken(&fresh(DRBD), |plan| {
        for place in plan.report.places.get_mut("d").expect("placed") {
            place.role = "Promoted".to_owned();
        }
    });
    assert_eq!(rules, ["promoted"]);
}

/// Protects bans.
#[test]
fn banned_node() {
    let text = format!("{WEB}location ban web -INFINITY: n2\n");
    let rules = broken(&fresh(&text), |plan| {
        plan.report.places.remove("web");
        place(plan, "web", "n2", "Started");
    });
    assert_eq!(rules, ["banned-node"]);
}

/// Protects what an operator has stopped.
#[test]
fn stopped() {
    let text = "primitive web systemd:web\n  meta target-role=Stopped\n";
    let rules = broken(&fresh(text), |plan| {
        let mut start = step(plan, "probe web n1").clone();
        start.task = "start".to_owned();
        plan.graph.steps.push(start);
    });
    assert_eq!(rules, ["stopped"]);
}

const PAIR: &str = "primitive a systemd:a\nprimitive b systemd:b\n";

/// Protects what must not meet.
#[test]
fn apart() {
    let text = format!("{PAIR}colocation c -INFINITY: a b\n");
    let rules = broken(&fresh(&text), |plan| {
        let b = plan.report.places["b"].clone();
        plan.report.places.insert("a".to_owned(), b);
    });
    assert_eq!(rules, ["apart"]);
}

/// Protects what cannot be without the other.
#[test]
fn together() {
    let text = format!("{PAIR}colocation c INFINITY: a b\n");
    let rules = broken(&fresh(&text), |plan| {
        plan.report.places.insert("b".to_owned(), Vec::new());
    });
    assert_eq!(rules, ["together"]);
}

/// Protects what needs the other to be there first.
#[test]
fn order() {
    let text = format!("{PAIR}order o Mandatory: a b\n");
    let rules = broken(&fresh(&text), |plan| {
        let label = labels(plan).into_iter().find(|l| l.starts_with("start b"));
        let label = label.expect("a start").to_owned();
        hasty(plan, &label);
    });
    assert_eq!(rules, ["order"]);
}

/// Protects this list: a rule that nothing here breaks is not known to work.
#[test]
fn every_rule_has_its_test() {
    let here = include_str!("tests.rs");
    for rule in rules() {
        let name = format!("fn {}()", rule.replace('-', "_"));
        assert!(here.contains(&name), "no test {name}");
    }
}
