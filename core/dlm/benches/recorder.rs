//! What the flight recorder adds to a lock and unlock that its own node masters, without client,
//! socket and daemon: `cargo bench -p mainstay-dlm --bench recorder`. On and off take turns, and the
//! median of the turns' ratios counts, so that other work on the machine hits both alike.

// It measures real time, which nothing else in the core may know.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use mainstay_base::{
    BootId, Epoch, Fairness, Flags, Incarnation, Instant, LockMode, LockspaceId, NodeId,
    ResourceName, SessionId,
};
use mainstay_dlm::{Dlm, LockCall, Out, UnlockCall};
use mainstay_membership::{Member, View};
use mainstay_recorder::Recorder;
use mainstay_wire::client::Handle;
use std::hint::black_box;

const SPACE: LockspaceId = LockspaceId(1);
const SESSION: SessionId = SessionId(1);
const NAMES: u64 = 64;
/// Locks in a turn.
const LOCKS: u64 = 200_000;
const TURNS: usize = 21;
/// Bytes of the recorder, as a node has without configuration.
const SIZE: usize = 16 << 20;

/// A node alone, that masters everything.
fn alone(recorder: usize) -> Dlm {
    let now = Instant::from_millis(1);
    let mut dlm = Dlm::new(NodeId(1), 512);
    *dlm.recorder() = Recorder::new(recorder, BootId(1));
    dlm.add_space(SPACE, 32, Fairness::default());
    dlm.open_session(SESSION);
    let me = Member {
        node: NodeId(1),
        incarnation: Incarnation(1),
        boot: BootId(1),
        joined: Epoch(1),
    };
    let view = View {
        epoch: Epoch(1),
        members: vec![me],
        members_since: Epoch(1),
        quorate: true,
        pending: Vec::new(),
    };
    dlm.install(now, view);
    dlm.view_settled(now);
    dlm.set_active(now, true);
    dlm
}

/// Locks and unlocks so often, and returns the nanoseconds that each pair took.
fn turn(dlm: &mut Dlm, names: &[ResourceName], out: &mut Vec<Out>, next: &mut u64) -> f64 {
    let began = std::time::Instant::now();
    for n in 0..LOCKS {
        *next += 1;
        // Requests come some microseconds apart.
        let now = Instant(2_000_000 + *next * 3000);
        let handle = Handle(*next);
        let call = LockCall {
            handle,
            space: SPACE,
            name: names[(n % NAMES) as usize].clone(),
            mode: LockMode::Ex,
            flags: Flags::NONE,
            blocking: true,
            deadline: None,
        };
        dlm.lock(now, SESSION, n, call);
        let call = UnlockCall {
            handle,
            flags: Flags::NONE,
            value: None,
        };
        dlm.unlock(now, SESSION, n, call);
        dlm.take_outputs(out);
        assert_eq!(black_box(&*out).len(), 2);
        out.clear();
    }
    began.elapsed().as_nanos() as f64 / LOCKS as f64
}

fn main() {
    let names: Vec<ResourceName> = (0..NAMES)
        .map(|n| ResourceName::new(format!("disk-{n}")).unwrap())
        .collect();
    let mut nodes = [alone(0), alone(SIZE)];
    let (mut out, mut next) = (Vec::new(), 0);
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        let [off, on] = &mut nodes;
        let off = turn(off, &names, &mut out, &mut next);
        let on = turn(on, &names, &mut out, &mut next);
        turns.push((on / off, off, on));
    }
    turns.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, off, on) = turns[TURNS / 2];
    println!(
        "local lock and unlock in the lock manager: {off:.0} ns without, {on:.0} ns with the recorder"
    );
    println!(
        "median ratio of {TURNS} turns: {ratio:.3}, {:.0} ns more",
        on - off
    );
    // More went in than fits, so this is what a full one has.
    let blocks = nodes[1].recorder().blocks();
    let records: u64 = blocks.iter().map(|block| u64::from(block.count)).sum();
    let bytes: usize = blocks.iter().map(|block| block.bytes.len()).sum();
    let pair = 2.0 * bytes as f64 / records as f64;
    println!(
        "{pair:.1} bytes per pair; {} pairs in {} MiB",
        records / 2,
        SIZE >> 20
    );
}
