//! What follows from each result of each operation: the whole table, with fencing and without.

use mainstay_cib::native;
use mainstay_policy::{Ask, verdict};
use std::fmt::Write as _;

/// By operation: results of the agent | where the service is before | what changes | where it is
/// afterwards | who is fenced.
const TABLE: &str = "\
probe, fencing on
  0 190 | n1 Started | - | n1 Started | -
  1 100 | n1 Started (failed) | recover A n1 | n1 Started | -
  2 5 | - | start A n2 | n2 Started | -
  3 4 | n1 Started (failed) | recover A n1 -> n2 | n2 Started | -
  6 | n1 Started (failed) | stop A n1 | - | -
  7 | - | start A n1 | n1 Started | -
  8 191 | n1 Promoted | restart A n1 [Promoted -> Started] | n1 Started | -
  9 | n1 Promoted (failed) | recover A n1 [Promoted -> Started] | n1 Started | -
start, fencing on
  0 | n1 Started | - | n1 Started | -
  1 7 190 100 | n1 Started (failed) | recover A n1 | n1 Started | -
  2 3 4 5 | n1 Started (failed) | recover A n1 -> n2 | n2 Started | -
  6 | n1 Started (failed) | stop A n1 | - | -
  8 9 191 | n1 Promoted (failed) | recover A n1 [Promoted -> Started] | n1 Started | -
monitor, fencing on
  0 190 | n1 Started | - | n1 Started | -
  1 3 7 100 | n1 Started (failed) | recover A n1 | n1 Started | -
  2 4 5 | n1 Started (failed) | recover A n1 -> n2 | n2 Started | -
  6 | n1 Started (failed) | stop A n1 | - | -
  8 9 191 | n1 Promoted (failed) | recover A n1 [Promoted -> Started] | n1 Started | -
stop, fencing on
  0 | - | start A n1 | n1 Started | -
  1 2 3 4 5 7 190 100 | n1 Started (failed) | fence (reboot) n1; recover A n1 -> n3 | n3 Started | reboot n1
  6 | n1 Started (failed) | fence (reboot) n1; stop A n1 | - | reboot n1
  8 9 191 | n1 Promoted (failed) | fence (reboot) n1; recover A n1 -> n3 [Promoted -> Started] | n3 Started | reboot n1
stop, fencing off
  0 | - | start A n1 | n1 Started | -
  1 2 3 4 5 6 7 190 100 | n1 Started (failed,blocked,unmanaged) | - | n1 Started (failed,blocked,unmanaged) | -
  8 9 191 | n1 Promoted (failed,blocked,unmanaged) | - | n1 Promoted (failed,blocked,unmanaged) | -
monitor promoted, fencing on
  0 1 3 7 9 190 100 | n1 Promoted (failed) | recover A n1; start A n2; start A n3 | n1 Promoted, n2 Unpromoted, n3 Unpromoted | -
  2 4 5 | n1 Promoted (failed) | start A n2; start A n3; stop A n1 | n2 Unpromoted, n3 Unpromoted | -
  6 | n1 Promoted (failed) | stop A n1 | - | -
  8 191 | n1 Promoted | start A n2; start A n3 | n1 Promoted, n2 Unpromoted, n3 Unpromoted | -
promote, fencing on
  0 | n1 Promoted | start A n2; start A n3 | n1 Promoted, n2 Unpromoted, n3 Unpromoted | -
  1 7 8 9 190 191 100 | n1 Promoted (failed) | recover A n1 [Promoted -> Unpromoted]; start A n2; start A n3 | n1 Unpromoted, n2 Unpromoted, n3 Unpromoted | -
  2 3 4 5 | n1 Promoted (failed) | start A n2; start A n3; stop A n1 | n2 Unpromoted, n3 Unpromoted | -
  6 | n1 Promoted (failed) | stop A n1 | - | -
demote, fencing on
  0 | n1 Unpromoted | promote A n1 [Unpromoted -> Promoted]; start A n2; start A n3 | n1 Promoted, n2 Unpromoted, n3 Unpromoted | -
  1 7 8 9 190 191 100 | n1 Unpromoted (failed) | recover A n1 [Unpromoted -> Promoted]; start A n2; start A n3 | n1 Promoted, n2 Unpromoted, n3 Unpromoted | -
  2 3 4 5 | n1 Unpromoted (failed) | start A n2; start A n3; stop A n1 | n2 Unpromoted, n3 Unpromoted | -
  6 | n1 Unpromoted (failed) | stop A n1 | - | -
";

/// One history entry of a service.
struct Done {
    task: &'static str,
    interval: u64,
    rc: i32,
    expected: i32,
}

fn done(task: &'static str, interval: u64, rc: i32, expected: i32) -> Done {
    Done {
        task,
        interval,
        rc,
        expected,
    }
}

/// What the first node did before: the last operation has the result that the row is about.
fn history(operation: &str, rc: i32) -> Vec<Done> {
    match operation {
        "probe" => vec![done("monitor", 0, rc, 7)],
        "start" => vec![done("start", 0, rc, 0)],
        "monitor" => vec![done("start", 0, 0, 0), done("monitor", 10_000, rc, 0)],
        "stop" => vec![done("stop", 0, rc, 0)],
        "promote" => vec![done("promote", 0, rc, 0)],
        "demote" => vec![done("demote", 0, rc, 0)],
        "monitor promoted" => vec![done("promote", 0, 0, 0), done("monitor", 11_000, rc, 8)],
        other => panic!("no operation {other}"),
    }
}

/// Three nodes, a service that likes the first one, a fencing device that runs there.
fn cluster(operation: &str, fencing: bool, rc: i32) -> String {
    let promotable = matches!(operation, "promote" | "demote" | "monitor promoted");
    let agent = if promotable { "Stateful" } else { "Dummy" };
    let mut text = format!(
        "cib crm_feature_set=3.16.1 epoch=1 have-quorum=1 execution-date=1700001000\n\
         property stonith-enabled={fencing}\n\
         node n1 n1\nnode n2 n2\nnode n3 n3\n\
         primitive F stonith:fence_xvm\n\
         primitive A ocf:pacemaker:{agent}\n"
    );
    text += match promotable {
        true => {
            "  op monitor interval=10s role=Unpromoted\n  op monitor interval=11s role=Promoted\n\
             clone C A\n  meta promotable=true\n\
             location l C\n  rule role=Promoted 10: #uname eq n1\n"
        }
        false => "  op monitor interval=10s\nlocation l A 10: n1\n",
    };
    text += "status\n";
    for node in ["n1", "n2", "n3"] {
        let first = node == "n1";
        let _ = write!(
            text,
            "  node_state id={node} uname={node} in_ccm=true crmd=online join=member expected=member\n\
             \x20   lrm id={node}\n\x20     lrm_resources\n"
        );
        let device = if first {
            done("start", 0, 0, 0)
        } else {
            done("monitor", 0, 7, 7)
        };
        write_history(&mut text, "F", "stonith", "fence_xvm", &[device]);
        let service = if first {
            history(operation, rc)
        } else {
            vec![done("monitor", 0, 7, 7)]
        };
        write_history(&mut text, "A", "ocf provider=pacemaker", agent, &service);
    }
    text
}

fn write_history(text: &mut String, id: &str, class: &str, agent: &str, history: &[Done]) {
    let _ = writeln!(
        text,
        "        lrm_resource id={id} class={class} type={agent}"
    );
    for (call, op) in (3..).zip(history) {
        let (task, interval, rc, expected) = (op.task, op.interval, op.rc, op.expected);
        let status = if rc == expected { 0 } else { 4 };
        let name = if interval > 0 {
            format!("{task}_{interval}")
        } else {
            "last_0".to_owned()
        };
        // The digests of no parameters, and of none but the usual timeout.
        let digest = match interval {
            0 => "f2317cad3d54cec5d7d7aa7d0bf35cf8",
            _ => "4811cef7f7f94e3a35a70be7916cb2fd",
        };
        let key = format!("1:1:{expected}:c3bd5e57-6b1d-4d7e-9c1e-0123456789ab");
        let _ = writeln!(
            text,
            "          lrm_rsc_op id={id}_{name} operation_key={id}_{task}_{interval} operation={task} \
             transition-key={key} transition-magic={status}:{rc};{key} call-id={call} rc-code={rc} \
             op-status={status} interval={interval} last-rc-change=170000000{call} op-digest={digest}"
        );
    }
}

fn list<'a>(lines: impl Iterator<Item = &'a String>, between: &str) -> String {
    let lines: Vec<&str> = lines.map(String::as_str).collect();
    match lines.is_empty() {
        true => "-".to_owned(),
        false => lines.join(between),
    }
}

/// The row that the engine would write.
fn row(operation: &str, fencing: bool, rc: i32) -> String {
    let text = cluster(operation, fencing, rc);
    let reading = native::read(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    let cib = reading.document.cib;
    let verdict = verdict(&cib, Ask::at(1_700_001_000), &[]);
    let own = |line: &&String| !line.split(' ').any(|word| word == "F");
    let before = list(verdict.before.get("A").into_iter().flatten(), ", ");
    let changes = list(verdict.summary.iter().filter(own), "; ");
    let after = list(verdict.placements.get("A").into_iter().flatten(), ", ");
    let fenced = list(verdict.fencing.iter(), ", ");
    format!("{before} | {changes} | {after} | {fenced}")
}

/// Protects services from being recovered wrongly: what each result leads to was measured, and differs
/// from what manuals say here and there.
#[test]
fn every_result_leads_where_it_should() {
    let (mut operation, mut fencing, mut rows) = ("", true, 0);
    let mut wrong = Vec::new();
    for line in TABLE.lines() {
        let Some(line) = line.strip_prefix("  ") else {
            let (name, how) = line.split_once(", fencing ").expect("an operation");
            (operation, fencing) = (name, how == "on");
            continue;
        };
        let (results, wanted) = line
            .split_once(" | ")
            .expect("results and what they lead to");
        for rc in results.split(' ') {
            let got = row(operation, fencing, rc.parse().expect("a result"));
            rows += 1;
            if got != wanted {
                wrong.push(format!(
                    "{operation} {rc} (fencing {fencing}): {got}, not {wanted}"
                ));
            }
        }
    }
    assert_eq!(rows, 104);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
