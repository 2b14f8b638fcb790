//! `mainstay plan` on small clusters.

use super::*;
use crate::exit::OK;

const CLUSTER: &str = "\
cib epoch=1 have-quorum=true
property stonith-enabled=false
node 1 n1
node 2 n2
primitive ip systemd:ip
primitive web systemd:web
group site ip web
location home site 100: n2
status
  node_state id=1 uname=n1 in_ccm=true crmd=online join=member expected=member
  node_state id=2 uname=n2 in_ccm=true crmd=online join=member expected=member
";

fn args(dir: &Path, text: &str) -> PlanArgs {
    let file = dir.join("cib");
    std::fs::write(&file, text).expect("written");
    PlanArgs {
        file,
        from: None,
        rules: Rules::Pacemaker,
        at: Some(DateTime(0)),
        scores: false,
        why: None,
        graph: None,
        format: Format::Text,
        force: false,
    }
}

fn made(text: &str) -> Plan {
    let dir = tempfile::tempdir().expect("dir");
    let cib = load(&args(dir.path(), text)).expect("read").expect("taken");
    plan(&cib, Ask::at(0))
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// Protects those who read plans: states, changes and counts of steps are there, and a cluster without
/// work is told to have none.
#[test]
fn changes_are_told() {
    let text = plain(&show::changes(&made(CLUSTER), Ask::at(0)));
    assert!(text.contains("Plan for 1970-01-01T00:00:00Z"), "{text}");
    assert!(text.contains("online  n1, n2\n"), "{text}");
    assert!(text.contains("start   web  n2"), "{text}");
    assert!(text.contains("Steps: 4 probe, 2 start"), "{text}");
    let empty = CLUSTER.replace("have-quorum=true", "");
    let off = empty.replace("node 2 n2", "node 2 n2\nproperty stop-all-resources=true");
    let text = plain(&show::changes(&made(&off), Ask::at(0)));
    assert!(text.contains("No service changes."), "{text}");
}

/// Protects the answer to "why here": the constraint is named, also when it is about the group, and
/// what a step waits for is listed.
#[test]
fn reasons_name_constraints() {
    let plan = made(CLUSTER);
    let found = why::find(&plan, "ip", None).expect("known");
    let text = plain(&why::text(&found));
    assert!(text.contains("on n2: 100  chosen"), "{text}");
    assert!(text.contains("100  home (for site)"), "{text}");
    let found = why::find(&plan, "web", None).expect("known");
    let text = plain(&why::text(&found));
    assert!(text.contains("      after start ip n2\n"), "{text}");
    let both = why::find(&plan, "site", Some("n1")).expect("known");
    assert_eq!(both.len(), 2);
    assert!(both.iter().all(|w| w.scores.len() == 1));
}

/// Protects from answers about things that are not there.
#[test]
fn unknown_names_are_refused() {
    let plan = made(CLUSTER);
    for (service, node) in [("nothing", None), ("web", Some("n3"))] {
        let refused = why::find(&plan, service, node).expect_err("refused");
        assert_eq!(refused.code, NOT_FOUND);
        assert!(refused.message.contains("there are"), "{refused}");
    }
}

/// Protects scripts: the exit code tells whether there is a plan; errors leave none, unless somebody
/// insists.
#[test]
fn errors_leave_no_plan() {
    let dir = tempfile::tempdir().expect("dir");
    let global = Global {
        socket: PathBuf::new(),
        json: true,
    };
    let code = |text: &str, force| {
        let args = PlanArgs {
            force,
            ..args(dir.path(), text)
        };
        run(&global, &args).expect("ran")
    };
    assert_eq!(code(CLUSTER, false), OK);
    assert_eq!(code("<cib", true), BAD_DATA);
    let twice = format!("{CLUSTER}location home web 5: n1\n");
    assert_eq!(code(&twice, false), BAD_DATA);
    assert_eq!(code(&twice, true), OK);
}

/// Protects repeatability: the moment is that of the command line, else that of the file.
#[test]
fn the_moment_is_told() {
    let dir = tempfile::tempdir().expect("dir");
    let dated = CLUSTER.replace("epoch=1", "epoch=1 execution-date=86400");
    let cib = load(&args(dir.path(), &dated))
        .expect("read")
        .expect("taken");
    assert_eq!(now(&cib, None).expect("told"), 86_400);
    assert_eq!(now(&cib, Some(DateTime(7))).expect("told"), 7);
    assert_eq!(moment("1970-002"), Ok(DateTime(86_400)));
    assert!(moment("soon").is_err());
}
