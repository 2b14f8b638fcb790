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
        play: whatif::Play::default(),
        what_if: whatif::WhatIf::default(),
    }
}

fn made(text: &str) -> Plan {
    let dir = tempfile::tempdir().expect("dir");
    let loaded = load(&args(dir.path(), text)).expect("read").expect("taken");
    plan(&loaded.0.cib, Ask::at(0))
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
    let loaded = load(&args(dir.path(), &dated));
    let (Document { cib, .. }, _) = loaded.expect("read").expect("taken");
    assert_eq!(now(&cib, None).expect("told"), 86_400);
    assert_eq!(now(&cib, Some(DateTime(7))).expect("told"), 7);
    assert_eq!(moment("1970-002"), Ok(DateTime(86_400)));
    assert!(moment("soon").is_err());
}

fn command(dir: &Path, words: &[&str]) -> PlanArgs {
    use clap::Parser as _;
    let file = dir.join("cib");
    let file = file.to_str().expect("a name");
    let words = [&["mainstay", "plan", file, "--at", "1970-01-01"], words].concat();
    match crate::args::Cli::try_parse_from(words)
        .expect("understood")
        .command
    {
        crate::args::Command::Plan(args) => args,
        other => panic!("{other:?}"),
    }
}

/// Protects the chain of what-if, playing, and playing on: the file that is written is the cluster
/// afterwards, in the notation that was read.
#[test]
fn what_if_can_be_played_on() {
    let dir = tempfile::tempdir().expect("dir");
    let dir = dir.path();
    std::fs::write(dir.join("cib"), CLUSTER).expect("written");
    let global = Global {
        socket: PathBuf::new(),
        json: false,
    };
    let after = dir.join("cib");
    let write = ["--run", "--write", after.to_str().expect("a name")];
    let code = |words: &[&str]| run(&global, &command(dir, &[words, &write].concat()));
    let places = || {
        let text = std::fs::read_to_string(&after).expect("written");
        let (document, _) = document(&text, Notation::Native);
        let status = status(&document.expect("native").cib, Ask::at(0));
        status.services["web"].join(" ")
    };
    assert_eq!(code(&[]).expect("ran"), OK);
    assert_eq!(places(), "n2 Started");
    assert_eq!(code(&["--node-down", "n2"]).expect("ran"), OK);
    assert_eq!(places(), "n1 Started");
    assert_eq!(
        code(&["--set", "stop-all-resources=true"]).expect("ran"),
        OK
    );
    assert_eq!(places(), "");
    let wrong = code(&["--node-down", "n9"]).expect_err("refused");
    assert_eq!(wrong.code, NOT_FOUND);
}

/// Protects what people read after `--run`: the step that failed, and where things are.
#[test]
fn what_failed_is_told() {
    let dir = tempfile::tempdir().expect("dir");
    std::fs::write(dir.path().join("cib"), CLUSTER).expect("written");
    let args = command(dir.path(), &["--run", "--op-fail", "ip_start_0@n2=1"]);
    let loaded = load(&args).expect("read").expect("taken");
    let run = run_with(&loaded.0.cib, Ask::at(0), &args.play.op_fail);
    let text = plain(&whatif::played(&run, &status(&run.after, Ask::at(0))));
    assert!(
        text.contains("Failed: start ip n2, after 4 steps"),
        "{text}"
    );
    assert!(
        text.contains("ip                  n2 Started (failed)"),
        "{text}"
    );
    assert!(text.contains("web                 stopped"), "{text}");
}
