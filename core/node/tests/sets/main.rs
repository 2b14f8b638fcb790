//! Sets of locks across nodes, taken all or none, and conversions and unlocks in bulk.

#![allow(missing_docs)]

mod bulk;
mod failures;
mod taken;
#[path = "../world/mod.rs"]
mod world;

use mainstay_base::{
    FencePolicy, LockMode, LockspaceId, NodeId, ResourceName, SET_LOCKS_MAX, SessionId, Token,
};
use mainstay_node::Input;
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    lock::{Flags, Granted, Refusal},
    sets::{ConvertOne, MemberRefusal, OneDone, SetMember, UnlockOne},
};
use std::time::Duration;
use world::World;

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);
const SHORT: Duration = Duration::from_millis(50);

/// Three nodes with a session each; node 1 masters `a` to `d` and holds nothing.
fn cluster() -> (World, LockspaceId) {
    let mut w = World::new(3, FencePolicy::Lease);
    w.settle();
    for node in 1..=3 {
        w.open(NodeId(node), u64::from(node));
    }
    let space = w.space(N1, 1);
    for node in [N2, N3] {
        w.space(node, u64::from(node.0));
    }
    for name in ["a", "b", "c", "d"] {
        take(&mut w, N1, 99, space, name, LockMode::Ex);
        release(&mut w, N1, 99);
    }
    (w, space)
}

fn session(node: NodeId) -> u64 {
    u64::from(node.0)
}

fn take(
    w: &mut World,
    node: NodeId,
    handle: u64,
    space: LockspaceId,
    name: &str,
    mode: LockMode,
) -> Granted {
    let ask = World::lock_ask(handle, space, name, mode, Flags::NONE);
    let request = w.ask(node, session(node), ask);
    w.granted(node, request)
}

fn unlock(w: &mut World, node: NodeId, handle: u64, flags: Flags) -> Result<Answer, Refusal> {
    let ask = Ask::Unlock {
        handle: Handle(handle),
        flags,
        value: None,
    };
    let request = w.ask(node, session(node), ask);
    w.wait(node, request)
}

fn release(w: &mut World, node: NodeId, handle: u64) {
    unlock(w, node, handle, Flags::NONE).expect("held");
    w.run(SHORT);
}

fn member(handle: u64, name: &str, mode: LockMode) -> SetMember {
    SetMember {
        handle: Handle(handle),
        name: ResourceName::new(name).expect("valid"),
        mode,
        flags: Flags::NONE,
        blocking: true,
    }
}

/// All in EX, with handles counted from 1.
fn all_ex(names: &[&str]) -> Vec<SetMember> {
    let named = (1..).zip(names);
    named
        .map(|(h, name)| member(h, name, LockMode::Ex))
        .collect()
}

fn ask_set(
    w: &mut World,
    node: NodeId,
    space: LockspaceId,
    members: Vec<SetMember>,
    flags: Flags,
    timeout_ms: Option<u32>,
) -> u64 {
    let ask = Ask::LockSet {
        lockspace: space,
        members,
        flags,
        timeout_ms,
    };
    w.ask(node, session(node), ask)
}

fn set(w: &mut World, node: NodeId, space: LockspaceId, names: &[&str]) -> u64 {
    ask_set(w, node, space, all_ex(names), Flags::NONE, None)
}

fn set_granted(w: &mut World, node: NodeId, request: u64) -> Vec<Granted> {
    match w.wait(node, request) {
        Ok(Answer::SetGranted { members }) => members,
        other => panic!("not granted: {other:?}"),
    }
}

/// The member that a set was refused for, and why.
fn refused(result: Result<Answer, Refusal>) -> (u32, String, Refusal) {
    match result {
        Err(Refusal::OfSet(member)) => {
            let MemberRefusal { place, name, why } = *member;
            (place, name.to_string(), why)
        }
        other => panic!("not refused for a member: {other:?}"),
    }
}

/// Whether a lock would be granted at once, to node 3.
fn is_free(w: &mut World, space: LockspaceId, name: &str) -> bool {
    let ask = World::lock_ask(77, space, name, LockMode::Ex, Flags::NOQUEUE);
    let request = w.ask(N3, 3, ask);
    match w.wait(N3, request) {
        Ok(_) => {
            release(w, N3, 77);
            true
        }
        Err(Refusal::NotQueued) => false,
        Err(other) => panic!("{other}"),
    }
}

fn notices(w: &World, node: NodeId) -> Vec<(Handle, LockMode)> {
    let heard = w.hosts[&node].heard.iter();
    let blocking = heard.filter_map(|(_, message)| match message {
        ToClient::Blocking { handle, mode } => Some((*handle, *mode)),
        _ => None,
    });
    blocking.collect()
}
