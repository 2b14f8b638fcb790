use super::*;
use crate::{
    dump::{Dump, DumpError},
    record::{MasterRecord, Op, OwnRecord, Record},
    ring::Recorder,
};
use LockMode::{Cw, Ex, Nl, Pr, Pw};
use mainstay_base::{BootId, Incarnation, LockId, LockMode, LockspaceName, SessionId, Token};

const SPACE: LockspaceId = LockspaceId(1);
const SKEW: Duration = Duration::from_millis(100);

fn disk() -> ResourceName {
    ResourceName::new("disk").expect("valid")
}

fn head(node: u16) -> Head {
    let name = |n: u16| NodeName::new(format!("n{n}")).expect("valid");
    Head {
        build: "test".to_owned(),
        cluster: "c".to_owned(),
        node: NodeId(node),
        name: name(node),
        recorder: BootId(u64::from(node)),
        clock: [1; 16],
        at: ms(10_000),
        unix_ms: 1_000_000,
        reason: "asked".to_owned(),
        nodes: (1..=3).map(|n| (NodeId(n), name(n))).collect(),
        spaces: vec![(SPACE, LockspaceName::new("default").expect("valid"))],
    }
}

fn ms(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// One node's recorder, with a lease from the beginning to the end.
struct Node(u16, Recorder);

impl Node {
    fn new(node: u16) -> Node {
        let mut recorder = Recorder::new(1 << 20, BootId(1));
        recorder.record(ms(1), &Record::<&ResourceName>::Life { boot: BootId(1) });
        let until = ms(20_000);
        recorder.record(ms(1), &Record::<&ResourceName>::Lease { until });
        Node(node, recorder)
    }

    fn own(&mut self, at: u64, op: Op, lock: u64, mode: Option<LockMode>, token: u64, master: u16) {
        let record = Record::Own(OwnRecord {
            op,
            space: SPACE,
            name: disk(),
            session: SessionId(1),
            lock: LockId(lock),
            mode,
            token: Token(token),
            master: NodeId(master),
        });
        self.1.record(ms(at), &record);
    }

    fn theirs(
        &mut self,
        at: u64,
        op: Op,
        (node, lock): (u16, u64),
        mode: Option<LockMode>,
        token: u64,
    ) {
        let record = Record::Mastered(MasterRecord {
            op,
            space: SPACE,
            name: disk(),
            node: NodeId(node),
            incarnation: Incarnation(1),
            lock: LockId(lock),
            mode,
            token: Token(token),
        });
        self.1.record(ms(at), &record);
    }

    fn dump(&self) -> (Head, Vec<Entry>) {
        let bytes = Dump::of(&self.1, head(self.0)).encode();
        let (dump, entries) = Dump::decode(&bytes).expect("whole");
        (dump.head, entries)
    }
}

fn judged(nodes: &[&Node]) -> Verdict {
    check(nodes.iter().map(|node| node.dump()).collect(), SKEW)
}

/// Node 1 masters `disk`; its own lock and one of node 2 take turns.
fn turns() -> (Node, Node) {
    let (mut one, mut two) = (Node::new(1), Node::new(2));
    one.own(100, Op::Granted, 1, Some(Ex), 5, 1);
    two.own(150, Op::Asked, 1, Some(Ex), 0, 1);
    one.own(200, Op::Unlocked, 1, None, 5, 1);
    one.theirs(200, Op::Granted, (2, 1), Some(Ex), 6);
    two.own(201, Op::Granted, 1, Some(Ex), 6, 1);
    two.own(300, Op::Unlocked, 1, None, 6, 1);
    one.theirs(301, Op::Dropped, (2, 1), None, 6);
    one.own(400, Op::Granted, 2, Some(Pr), 7, 1);
    (one, two)
}

/// Protects honest clusters: locks that take turns are in order, with all that was looked at told.
#[test]
fn turns_are_in_order() {
    let (one, two) = turns();
    let verdict = judged(&[&one, &two]);
    assert_eq!(verdict.findings, []);
    assert_eq!(
        (verdict.grants, verdict.claims, verdict.one_clock),
        (3, 3, true)
    );
    let covered: Vec<_> = verdict
        .covered
        .iter()
        .map(|c| (c.node.as_str(), c.records, c.lost))
        .collect();
    assert_eq!(covered, [("n1", 7, 0), ("n2", 5, 0)]);
    assert_eq!(verdict.covered[0].from_unix_ms, 1_000_000 - 9_999);
}

/// Protects the check: a grant that was put in by hand is found, by its master's order and by the
/// owners' times, each without the other.
#[test]
fn a_wrong_grant_is_found() {
    let (mut one, two) = turns();
    one.theirs(450, Op::Granted, (3, 9), Some(Cw), 8);
    let verdict = judged(&[&one, &two]);
    assert_eq!(verdict.findings.len(), 1, "{:?}", verdict.findings);
    let what = &verdict.findings[0].what;
    assert!(
        what.contains("lock 9 of n3 while lock 2 of n1 held pr"),
        "{what}"
    );
    assert_eq!(verdict.findings[0].resource, "default/disk");

    let (one, two) = turns();
    let mut three = Node::new(3);
    three.own(500, Op::Granted, 9, Some(Cw), 8, 0);
    three.own(700, Op::Dropped, 9, None, 8, 0);
    let verdict = judged(&[&one, &two, &three]);
    assert_eq!(verdict.findings.len(), 1, "{:?}", verdict.findings);
    let what = &verdict.findings[0].what;
    assert!(
        what.contains("lock 2 of n1 in pr with token 7 and by lock 9 of n3"),
        "{what}"
    );
    assert!(what.ends_with("for 200 ms"), "{what}");
}

/// Protects the check: tokens that do not grow are found, at the master and between owners.
#[test]
fn tokens_that_do_not_grow_are_found() {
    let (mut one, two) = turns();
    one.own(500, Op::Unlocked, 2, None, 7, 1);
    one.own(600, Op::Granted, 3, Some(Ex), 7, 1);
    let verdict = judged(&[&one, &two]);
    assert!(
        verdict
            .findings
            .iter()
            .any(|f| f.what.contains("which is not smaller")),
        "{verdict:?}"
    );

    let (one, two) = turns();
    let mut three = Node::new(3);
    three.own(390, Op::Granted, 9, Some(Ex), 6, 0);
    three.own(395, Op::Unlocked, 9, None, 6, 0);
    assert_eq!(judged(&[&one, &two, &three]).findings.len(), 1);
}

/// Protects honest clusters from false alarms: what gives up its mode does not stand in the way of
/// what is granted before its owner hears of it; a lapsed lease holds nothing; a new life, a new
/// master and a gap begin anew; and clocks may differ a little.
#[test]
fn honest_histories_are_no_findings() {
    let mut nodes = [Node::new(1), Node::new(2), Node::new(3)];
    // A conversion down, whose answer is late.
    nodes[0].own(100, Op::Granted, 1, Some(Ex), 5, 3);
    nodes[0].own(200, Op::Converting, 1, Some(Nl), 5, 3);
    nodes[1].own(210, Op::Granted, 1, Some(Pw), 6, 3);
    nodes[0].own(900, Op::Granted, 1, Some(Nl), 5, 3);
    // A release that publishes, whose answer is late.
    nodes[1].own(950, Op::Unlocking, 1, Some(Pw), 6, 3);
    nodes[0].own(960, Op::Granted, 2, Some(Ex), 7, 3);
    nodes[1].own(1500, Op::Unlocked, 1, None, 6, 3);
    // A life that ends while it holds.
    nodes[0]
        .1
        .record(ms(2000), &Record::<&ResourceName>::Life { boot: BootId(2) });
    let until = ms(9000);
    nodes[0]
        .1
        .record(ms(2001), &Record::<&ResourceName>::Lease { until });
    nodes[1].own(2000, Op::Granted, 3, Some(Ex), 8, 3);
    nodes[1].own(3000, Op::Unlocked, 3, None, 8, 3);
    // A grant that seems a little too early.
    nodes[2].own(2950, Op::Granted, 1, Some(Ex), 9, 3);
    nodes[2].own(3500, Op::Unlocked, 1, None, 9, 3);
    // A node that is paused: its lease ends, and it learns so only later.
    let mut paused = Node(2, Recorder::new(1 << 20, BootId(1)));
    let until = ms(4000);
    paused
        .1
        .record(ms(1), &Record::<&ResourceName>::Lease { until });
    paused.own(3700, Op::Granted, 1, Some(Ex), 10, 3);
    nodes[2].own(5000, Op::Granted, 2, Some(Ex), 11, 3);
    paused.1.record(
        ms(9500),
        &Record::<&ResourceName>::Lease {
            until: Instant::ZERO,
        },
    );
    let mut dumps: Vec<_> = nodes.iter().map(Node::dump).collect();
    let (mut other, entries) = paused.dump();
    other.recorder = BootId(77);
    dumps.push((other, entries));
    let verdict = check(dumps, SKEW);
    assert_eq!(verdict.findings, []);
}

/// Protects masters that come and go: who releases elsewhere is not taken for a holder when mastership
/// comes back, and locks that were restated are.
#[test]
fn mastership_that_moves_is_understood() {
    let mut one = Node::new(1);
    one.theirs(100, Op::Granted, (2, 1), Some(Ex), 5);
    let master = |here| Record::Master {
        space: SPACE,
        name: disk(),
        here,
    };
    one.1.record(ms(200), &master(false));
    one.1.record(ms(300), &master(true));
    one.theirs(305, Op::Restated, (2, 9), Some(Ex), 6);
    one.theirs(310, Op::Restated, (3, 1), Some(Pr), 7);
    one.theirs(315, Op::Granted, (2, 9), Some(Nl), 6);
    one.theirs(320, Op::Granted, (2, 2), Some(Pr), 8);
    assert_eq!(judged(&[&one]).findings, []);
    one.theirs(330, Op::Granted, (2, 3), Some(Ex), 9);
    assert_eq!(judged(&[&one]).findings.len(), 1);
}

/// Protects the check across a master's death: what an owner restates to itself as the next master is
/// held as before, so that a grant elsewhere is found; unless it was being given up.
#[test]
fn what_is_restated_is_still_held() {
    let rebuilt = |op| {
        let (mut one, mut two) = (Node::new(1), Node::new(2));
        one.own(100, Op::Granted, 1, Some(Ex), 5, 3);
        one.own(150, op, 1, Some(Nl), 5, 3);
        let (space, name, here) = (SPACE, disk(), true);
        one.1.record(ms(200), &Record::Master { space, name, here });
        one.own(200, Op::Restated, 1, Some(Ex), 5, 1);
        two.own(300, Op::Granted, 1, Some(Ex), 6, 2);
        two.own(500, Op::Unlocked, 1, None, 6, 2);
        one.own(900, Op::Unlocked, 1, None, 5, 1);
        judged(&[&one, &two]).findings
    };
    let findings = rebuilt(Op::Blocking);
    assert_eq!(findings.len(), 1, "{findings:?}");
    let what = &findings[0].what;
    assert!(what.contains("held by lock 1 of n1 in ex"), "{what}");
    assert!(what.ends_with("for 200 ms"), "{what}");
    assert_eq!(rebuilt(Op::Unlocking), []);
    assert_eq!(rebuilt(Op::Converting), []);
}

/// Protects several dumps of one recorder: what they share counts once, and what none has is told.
#[test]
fn dumps_of_one_recorder_are_joined() {
    let (one, _) = turns();
    let (head, entries) = one.dump();
    let twice = vec![
        (head.clone(), entries.clone()),
        (head.clone(), entries[2..].to_vec()),
    ];
    assert_eq!(
        check(twice, SKEW),
        check(vec![(head.clone(), entries.clone())], SKEW)
    );
    let gap = vec![
        (head.clone(), entries[..2].to_vec()),
        (head, entries[5..].to_vec()),
    ];
    let verdict = check(gap, SKEW);
    assert_eq!(
        (verdict.covered[0].records, verdict.covered[0].lost),
        (4, 3)
    );
}

/// Protects readers: what is no dump, cut short, damaged, or of another format is refused with the
/// place and the reason; no bytes make it panic.
#[test]
fn damage_is_told() {
    let (one, _) = turns();
    let bytes = Dump::of(&one.1, head(1)).encode();
    assert!(matches!(Dump::decode(b"hello"), Err(DumpError::Foreign)));
    let mut newer = bytes.clone();
    newer[8] = 9;
    assert_eq!(Dump::decode(&newer).unwrap_err(), DumpError::Format(9));
    for len in 8..bytes.len() {
        let error = Dump::decode(&bytes[..len]).unwrap_err();
        assert!(
            matches!(error, DumpError::Short { at, .. } if at == len),
            "{len}: {error}"
        );
    }
    for place in 12..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 0x40;
        let error = Dump::decode(&changed).unwrap_err();
        let fits = matches!(error, DumpError::Damaged { .. } | DumpError::Short { .. });
        assert!(fits, "{place}: {error}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(
        Dump::decode(&longer),
        Err(DumpError::Damaged { .. })
    ));
}
