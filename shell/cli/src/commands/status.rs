//! `mainstay status`

use crate::{
    args::Global,
    connect::connect,
    exit::{OK, Outcome},
    output::{self, BAD, FAINT, GOOD, HEAD, ODD, Table, paint, span},
};
use mainstay_wire::report::{MemberState, StatusReport};
use std::fmt::Write as _;

pub(crate) async fn run(global: Global) -> Outcome {
    let report = connect(&global).await?.status().await?;
    if global.json {
        output::json(&report)?;
    } else {
        output::print(&render(&report));
    }
    Ok(OK)
}

/// A member's state in its colour.
pub(crate) fn state(state: MemberState) -> String {
    match state {
        MemberState::Member => paint(GOOD, "member"),
        MemberState::Joining => paint(ODD, "joining"),
        MemberState::Absent => paint(BAD, "absent"),
    }
}

fn render(report: &StatusReport) -> String {
    let mut out = String::new();
    let quorum = if report.quorate {
        paint(GOOD, "quorate")
    } else {
        paint(BAD, "no quorum")
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "cluster {}  view {}  {quorum} ({} of {} votes)  leader {} (term {})",
        paint(HEAD, &report.cluster),
        report.epoch,
        report.votes,
        report.votes_total,
        report
            .leader
            .as_ref()
            .map_or_else(|| paint(ODD, "none"), ToString::to_string),
        report.term,
    );
    let activity = if report.active {
        format!(
            "{}, lease ends in {}",
            paint(GOOD, "active"),
            span(report.lease_ms)
        )
    } else {
        format!("{}: grants nothing", paint(BAD, "suspended"))
    };
    let _ = writeln!(
        out,
        "node {}  {activity}  {} client session{}\n",
        paint(HEAD, &report.node),
        report.sessions,
        if report.sessions == 1 { "" } else { "s" },
    );

    let mut members = Table::new(["NODE", "ID", "STATE", "INCARNATION", "VOTES", "HEARD"]);
    for m in &report.members {
        let heard = if m.name == report.node {
            paint(FAINT, "itself")
        } else {
            m.heard_ms
                .map_or_else(|| "never".to_owned(), |ms| format!("{} ago", span(ms)))
        };
        members.row([
            m.name.to_string(),
            m.id.to_string(),
            state(m.state),
            m.incarnation.to_string(),
            m.votes.to_string(),
            heard,
        ]);
    }
    out.push_str(&members.render());

    if !report.pending_fences.is_empty() {
        let mut pending = Table::new(["VANISHED", "INCARNATION", "WAITS FOR"]);
        for p in &report.pending_fences {
            pending.row([
                paint(BAD, &p.node),
                p.incarnation.to_string(),
                p.waits_for.clone(),
            ]);
        }
        out.push('\n');
        out.push_str(&pending.render());
    }

    let mut links = Table::new(["PEER", "LINK", "STATE", "ROUND TRIP"]);
    for l in &report.links {
        links.row([
            l.peer.to_string(),
            l.link.to_string(),
            if l.up {
                paint(GOOD, "up")
            } else {
                paint(BAD, "down")
            },
            l.rtt_us
                .map_or_else(|| "-".to_owned(), |us| format!("{us} µs")),
        ]);
    }
    if !links.is_empty() {
        out.push('\n');
        out.push_str(&links.render());
    }

    let mut spaces = Table::new([
        "LOCKSPACE",
        "ID",
        "VALUE BYTES",
        "MASTERED HERE",
        "KNOWN HERE",
        "LOCKS HERE",
        "DIRECTORY",
    ]);
    for l in &report.lockspaces {
        spaces.row([
            l.name.to_string(),
            l.id.to_string(),
            l.value_len.to_string(),
            l.mastered.to_string(),
            l.resources.to_string(),
            l.locks.to_string(),
            l.directory.to_string(),
        ]);
    }
    if !spaces.is_empty() {
        out.push('\n');
        out.push_str(&spaces.render());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{
        ClusterId, Epoch, Incarnation, LinkId, LockspaceId, LockspaceName, NodeId, NodeName,
    };
    use mainstay_wire::report::{LinkReport, LockspaceReport, MemberReport, PendingFence};

    fn name(text: &str) -> NodeName {
        NodeName::new(text).expect("a name")
    }

    fn report() -> StatusReport {
        let member = |text: &str, id, state, heard_ms| MemberReport {
            name: name(text),
            id: NodeId(id),
            state,
            incarnation: Incarnation(u64::from(id)),
            votes: 1,
            heard_ms,
        };
        StatusReport {
            cluster: "dev".to_owned(),
            cluster_id: Some(ClusterId(9)),
            epoch: Epoch(7),
            quorate: true,
            node: name("n1"),
            active: true,
            lease_ms: 1400,
            leader: Some(name("n2")),
            term: 3,
            votes: 2,
            votes_total: 3,
            members: vec![
                member("n1", 1, MemberState::Member, None),
                member("n2", 2, MemberState::Member, Some(40)),
                member("n3", 3, MemberState::Absent, None),
            ],
            pending_fences: vec![PendingFence {
                node: name("n3"),
                incarnation: Incarnation(3),
                waits_for: "its lease to run out".to_owned(),
            }],
            links: vec![LinkReport {
                peer: name("n2"),
                link: LinkId(0),
                up: true,
                rtt_us: Some(120),
            }],
            lockspaces: vec![LockspaceReport {
                id: LockspaceId(1),
                name: LockspaceName::new("default").expect("a name"),
                value_len: 32,
                mastered: 4,
                resources: 5,
                locks: 6,
                directory: 2,
            }],
            sessions: 1,
        }
    }

    /// Protects what an operator reads first.
    #[test]
    fn status_reads_as_a_page() {
        let text = render(&report());
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(
            plain,
            "\
cluster dev  view 7  quorate (2 of 3 votes)  leader n2 (term 3)
node n1  active, lease ends in 1.4 s  1 client session

NODE  ID  STATE   INCARNATION  VOTES  HEARD
n1    1   member  1            1      itself
n2    2   member  2            1      40 ms ago
n3    3   absent  3            1      never

VANISHED  INCARNATION  WAITS FOR
n3        3            its lease to run out

PEER  LINK  STATE  ROUND TRIP
n2    0     up     120 µs

LOCKSPACE  ID  VALUE BYTES  MASTERED HERE  KNOWN HERE  LOCKS HERE  DIRECTORY
default    1   32           4              5           6           2
"
        );
    }

    /// Protects scripts: the names and shapes of the JSON document's fields.
    #[test]
    fn status_json_keeps_its_shape() {
        let value = serde_json::to_value(report()).expect("serializes");
        assert_eq!(value["cluster"], "dev");
        assert_eq!(value["epoch"], 7);
        assert_eq!(value["quorate"], true);
        assert_eq!(value["node"], "n1");
        assert_eq!(value["members"][2]["name"], "n3");
        assert_eq!(value["members"][2]["id"], 3);
        assert_eq!(value["members"][2]["state"], "absent");
        assert_eq!(value["members"][1]["incarnation"], 2);
    }
}
