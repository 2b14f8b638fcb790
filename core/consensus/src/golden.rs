//! Golden bytes: messages and records keep the format that was once released.

use crate::configuration::Configuration;
use crate::wire::{
    Ballot, Base, Body, Bytes, Envelope, LogEntry, MESSAGE_VERSION, Payload, RECORD_VERSION,
    Record, Step, decode, encode,
};

#[path = "../../wire/tests/golden/check.rs"]
mod check;

fn entries() -> Vec<LogEntry> {
    let entry = |payload| LogEntry { term: 300, payload };
    vec![
        entry(Payload::Nothing),
        entry(Payload::Data(Bytes(b"command".to_vec()))),
        entry(Payload::Change(vec![
            Step::Voter(1 << 40),
            Step::Learner(5),
            Step::Remove(6),
        ])),
        entry(Payload::Change(Vec::new())),
    ]
}

fn base() -> Base {
    Base {
        index: 1000,
        term: 299,
        configuration: Configuration {
            voters: vec![1, 2, 3],
            learners: vec![4],
            outgoing: vec![1, 2, 5],
            learners_next: vec![5],
            auto_leave: true,
        },
        data: Bytes(b"state".to_vec()),
    }
}

fn bodies() -> Vec<(&'static str, Body)> {
    let vote = |pre, transfer| Body::Vote {
        pre,
        transfer,
        last_index: 1003,
        last_term: 300,
        commit: 1001,
        commit_term: 299,
    };
    let reply = |reject| Body::AppendReply {
        index: 1003,
        commit: 1001,
        reject,
    };
    vec![
        (
            "append",
            Body::Append {
                prev_index: 1000,
                prev_term: 299,
                commit: 1001,
                entries: entries(),
            },
        ),
        ("append-reply", reply(None)),
        ("append-reject", reply(Some((999, 298)))),
        ("vote", vote(false, true)),
        ("pre-vote", vote(true, false)),
        (
            "vote-reply",
            Body::VoteReply {
                pre: false,
                reject: true,
                commit: 1001,
                commit_term: 299,
            },
        ),
        ("snapshot", Body::Snapshot(base())),
        ("heartbeat", Body::Heartbeat { commit: 1001 }),
        ("heartbeat-reply", Body::HeartbeatReply { commit: 1001 }),
        ("timeout-now", Body::TimeoutNow),
    ]
}

/// Protects rolling upgrades: what members of different builds say to each other.
#[test]
fn messages_keep_their_bytes() {
    let envelope = |body| Envelope {
        to: 1,
        from: u64::MAX,
        term: 300,
        body,
    };
    let all: Vec<_> = bodies()
        .into_iter()
        .map(|(n, body)| (n, envelope(body)))
        .collect();
    let now: Vec<_> = all
        .iter()
        .map(|(name, envelope)| ((*name).to_owned(), encode(MESSAGE_VERSION, envelope)))
        .collect();
    let text = include_str!("../tests/golden/messages.txt");
    let version = "MESSAGE_VERSION in core/consensus/src/wire.rs";
    let golden = check::golden("messages.txt", text, version, &now);
    for ((name, envelope), old) in all.iter().zip(golden) {
        assert_eq!(decode(&old[1..]).as_ref(), Ok(envelope), "{name}");
    }
}

/// Protects what a member promised from being forgotten by an upgrade: its records on disk.
#[test]
fn records_keep_their_bytes() {
    let ballot = Ballot {
        term: 300,
        vote: u64::MAX,
        commit: 1001,
    };
    let record = |base, first, entries| Record {
        ballot,
        base,
        first,
        entries,
    };
    let all = [
        ("ballot", record(None, 0, Vec::new())),
        ("entries", record(None, 1001, entries())),
        ("snapshot", record(Some(base()), 1001, entries())),
    ];
    let now = all
        .iter()
        .map(|(name, record)| ((*name).to_owned(), encode(RECORD_VERSION, record)));
    let now: Vec<_> = now.collect();
    let text = include_str!("../tests/golden/records.txt");
    let version = "RECORD_VERSION in core/consensus/src/wire.rs";
    let golden = check::golden("records.txt", text, version, &now);
    for ((name, record), old) in all.iter().zip(golden) {
        assert_eq!(decode(&old[1..]).as_ref(), Ok(record), "{name}");
    }
}
