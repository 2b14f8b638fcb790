//! Lockspaces that follow others' rules, made by a client and known to all nodes.

#![allow(missing_docs, clippy::unwrap_used)]

#[expect(dead_code, reason = "other tests need more of it")]
mod world;

use mainstay_base::{
    AccessChange, Compat, FencePolicy, LockMode, LockspaceName, NodeId, ResourceName,
};
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    lock::{Flags, Refusal},
    report::LockspaceAccess,
};
use world::World;

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);

fn ask(w: &mut World, node: NodeId, ask: Ask) -> Result<Answer, Refusal> {
    let session = u64::from(node.0);
    let request = w.ask(node, session, ask);
    w.wait(node, request)
}

fn make(w: &mut World, name: &str, compat: Compat, len: Option<u16>) -> Result<Answer, Refusal> {
    let create = Ask::CreateLockspace {
        name: LockspaceName::new(name).unwrap(),
        value_len: len,
        access: AccessChange::default(),
        fairness: compat.fairness(),
        compat,
    };
    ask(w, N1, create)
}

fn made(result: Result<Answer, Refusal>) -> LockspaceAccess {
    match result {
        Ok(Answer::LockspaceSet(made)) => *made,
        other => panic!("{other:?}"),
    }
}

fn why(result: Result<Answer, Refusal>) -> String {
    match result {
        Err(Refusal::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// Protects lockspaces for old programs: value blocks are as long as their system has them, whose rules a
/// lockspace follows is told to whoever lists it, and its calls are taken by them on every node.
#[test]
fn a_lockspace_follows_others_rules_on_all_nodes() {
    let mut w = World::new(2, FencePolicy::Lease);
    w.settle();
    w.open(N1, 1);
    w.open(N2, 2);
    for (compat, len, said) in [
        (Compat::Linux, Some(12), "multiples of 8"),
        (Compat::Vms, Some(32), "16 and 64"),
        (Compat::Saf, Some(32), "no value blocks"),
        (Compat::Strict, Some(0), "1 to 4096"),
    ] {
        let why = why(make(&mut w, "wrong", compat, len));
        assert!(why.contains(said), "{why}");
    }
    let mut told = Vec::new();
    for (name, compat, len) in [
        ("a", Compat::Linux, None),
        ("b", Compat::Vms, None),
        ("c", Compat::Vms, Some(64)),
        ("d", Compat::Saf, None),
        ("e", Compat::Strict, Some(12)),
    ] {
        let made = made(make(&mut w, name, compat, len));
        assert_eq!(made.compat, compat);
        assert_eq!(made.fairness, compat.fairness());
        told.push((made.value_len, made));
    }
    let lens: Vec<u16> = told.iter().map(|(len, _)| *len).collect();
    assert_eq!(lens, [32, 16, 64, 32, 12]);
    w.settle();
    let list = Ask::Lockspaces {
        after: None,
        limit: 10,
    };
    let Ok(Answer::Lockspaces { lockspaces, .. }) = ask(&mut w, N2, list) else {
        panic!("a list");
    };
    for (_, made) in &told {
        assert!(lockspaces.contains(made), "{}", made.name);
    }
    for (_, made) in &told {
        let open = Ask::OpenLockspace {
            name: made.name.clone(),
            value_len: None,
        };
        let Ok(Answer::Lockspace { id, .. }) = ask(&mut w, N2, open) else {
            panic!("it exists");
        };
        let lock = Ask::Lock {
            handle: Handle(u64::from(id.0)),
            lockspace: id,
            name: ResourceName::new("r").unwrap(),
            mode: LockMode::Ex,
            flags: Flags::NOQUEUEBAST,
            blocking: false,
            timeout_ms: None,
        };
        // A flag that Linux takes, and the others refuse, each for its reason.
        match (made.compat, ask(&mut w, N2, lock)) {
            (Compat::Linux, Ok(Answer::Granted(_))) => {}
            (Compat::Strict, refused) => assert!(why(refused).contains("add NOQUEUE")),
            (compat, refused) => {
                let why = why(refused);
                assert!(why.contains(&format!("`{compat}`")), "{why}");
            }
        }
    }
}
