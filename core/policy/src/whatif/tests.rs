//! Events, and what a cluster makes of them.

use super::*;
use crate::{Ask, plan, run_with, status};
use mainstay_cib::{Attr, Cib, native};

const CLUSTER: &str = "\
cib epoch=1 crm_feature_set=3.16.2
property stonith-enabled=false
node 1 n1
node 2 n2
primitive web systemd:web
  op monitor interval=10s
location l web 100: n1
ticket t T: web
status
  node_state id=1 uname=n1 in_ccm=true crmd=online join=member expected=member
  node_state id=2 uname=n2 in_ccm=true crmd=online join=member expected=member
";

fn cluster(text: &str) -> Cib {
    let mut cib = native::read(text).expect("native form").document.cib;
    cib.have_quorum = Attr::of(true);
    cib
}

fn what_if(cib: &Cib, events: &[Event]) -> Cib {
    let mut cib = cib.clone();
    for event in events {
        event.apply(&mut cib, 7).expect("known");
    }
    cib
}

fn changes(cib: &Cib) -> Vec<String> {
    let plan = plan(cib, Ask::at(7));
    plan.report.changes.iter().map(|c| c.line()).collect()
}

/// A cluster that has come to rest, with web on n1.
fn settled() -> Cib {
    let text = CLUSTER.replace("ticket t T: web\n", "");
    run_with(&cluster(&text), Ask::at(7), &[]).after
}

fn result(text: &str) -> OpResult {
    text.parse().expect("understood")
}

/// Protects the notation of results, which operators know: the task is found in names with underscores,
/// and what is wrong is refused with what would be right.
#[test]
fn results_are_read() {
    let r = result("my_web_migrate_to_0@n1=5");
    assert_eq!(
        (&*r.service, &*r.task, r.interval),
        ("my_web", "migrate_to", 0)
    );
    assert_eq!((&*r.node, r.rc), ("n1", 5));
    assert_eq!(
        result("web:0_monitor_10000@n1=7").to_string(),
        "web:0_monitor_10000@n1=7"
    );
    for wrong in [
        "",
        "web",
        "web_start_0",
        "web_start_0@n1",
        "web_dance_0@n1=1",
        "_start_0@n1=1",
    ] {
        let refused = wrong.parse::<OpResult>().expect_err("refused");
        assert!(refused.contains("web_monitor_10000@node1=7"), "{refused}");
    }
}

/// Protects the meaning of nodes that come, go and get lost.
#[test]
fn nodes_come_and_go() {
    let cib = settled();
    assert_eq!(changes(&cib), [""; 0]);
    let down = what_if(&cib, &[Event::NodeDown("n1".into())]);
    assert_eq!(changes(&down), ["start web n2"]);
    let back = what_if(&down, &[Event::NodeUp("n1".into())]);
    assert_eq!(changes(&back), ["start web n1"]);
    let state = |cib: &Cib| status(cib, Ask::at(7)).nodes["n1"].clone();
    assert_eq!(
        (state(&down), state(&back)),
        ("offline".into(), "online".into())
    );
    let fencing = Event::Option {
        name: "stonith-enabled".into(),
        value: "true".into(),
    };
    let lost = what_if(&cib, &[fencing, Event::NodeFails("n1".into())]);
    assert_eq!(state(&lost), "unclean");
}

/// Protects options and quorum.
#[test]
fn options_and_quorum_change() {
    let off = Event::Option {
        name: "stop-all-resources".into(),
        value: "true".into(),
    };
    assert_eq!(changes(&what_if(&settled(), &[off])), ["stop web n1"]);
    let lost = what_if(&settled(), &[Event::Quorum(false)]);
    assert_eq!(changes(&lost), ["stop web n1"]);
}

/// Protects tickets.
#[test]
fn tickets_change() {
    let cib = cluster(CLUSTER);
    let ticket = |change| Event::Ticket("T".into(), change);
    assert_eq!(changes(&cib), [""; 0]);
    let granted = what_if(&cib, &[ticket(Ticket::Granted)]);
    assert_eq!(changes(&granted), ["start web n1"]);
    let up = run_with(&granted, Ask::at(7), &[]).after;
    for change in [Ticket::Standby, Ticket::Revoked] {
        let gone = what_if(&up, &[ticket(change)]);
        assert_eq!(changes(&gone), ["stop web n1"], "{change:?}");
    }
    let again = what_if(&up, &[ticket(Ticket::Standby), ticket(Ticket::Active)]);
    assert_eq!(changes(&again), [""; 0]);
}

/// Protects results: a monitor that failed leads to a recovery and counts.
#[test]
fn results_count() {
    let event = Event::Result(result("web_monitor_10000@n1=7"));
    let failed = what_if(&settled(), std::slice::from_ref(&event));
    assert_eq!(changes(&failed), ["recover web n1"]);
    let twice = what_if(&failed, &[event]);
    let xml = twice.to_xml();
    assert!(
        xml.contains("id=\"status-1-fail-count-web.monitor_10000\""),
        "{xml}"
    );
    assert!(
        xml.contains("name=\"fail-count-web#monitor_10000\" value=\"2\""),
        "{xml}"
    );
    assert!(
        xml.contains("name=\"last-failure-web#monitor_10000\" value=\"7\""),
        "{xml}"
    );
}

/// Protects from answers about things that are not there.
#[test]
fn unknown_names_are_refused() {
    let mut cib = cluster(CLUSTER);
    for (event, what) in [
        (Event::NodeUp("n9".into()), "node n9; there are n1, n2"),
        (
            Event::Ticket("X".into(), Ticket::Granted),
            "ticket X; there are T",
        ),
        (
            Event::Result(result("db_start_0@n1=0")),
            "service db; there are web",
        ),
        (
            Event::Result(result("web_start_0@n9=0")),
            "node n9; there are n1, n2",
        ),
    ] {
        let refused = event.apply(&mut cib, 0).expect_err("refused").to_string();
        assert!(refused.contains(what), "{refused}");
    }
}

/// Protects `--run` with failures: the step fails, is counted, nothing is begun after it, and the next
/// plan goes elsewhere, since a start that failed is not tried again.
#[test]
fn a_failing_step_ends_the_transition() {
    let cib = cluster(&CLUSTER.replace("ticket t T: web\n", ""));
    let run = run_with(&cib, Ask::at(7), &[result("web_start_0@n1=1")]);
    assert_eq!(run.failed.as_deref(), Some("start web n1"));
    assert!(
        !run.done.iter().any(|s| s.starts_with("monitor")),
        "{:?}",
        run.done
    );
    assert_eq!(changes(&run.after), ["recover web n1 -> n2"]);
    let mild = cib
        .to_xml()
        .replace("stonith-enabled", "start-failure-is-fatal");
    let mild = mainstay_cib::read(&mild).expect("XML").document.cib;
    let mild = what_if(
        &mild,
        &[Event::Option {
            name: "stonith-enabled".into(),
            value: "false".into(),
        }],
    );
    let run = run_with(&mild, Ask::at(7), &[result("web_start_0@n1=1")]);
    assert_eq!(changes(&run.after), ["recover web n1"]);
    let run = run_with(&cib, Ask::at(7), &[result("web_stop_0@n1=1")]);
    assert_eq!(run.failed, None);
}
