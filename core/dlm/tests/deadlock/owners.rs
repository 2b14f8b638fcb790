//! Owners that are not one session each: processes, groups, transactions.

use super::*;
use mainstay_base::{ByteRange, Owner};
use mainstay_dlm::{RangeCall, SetCall};
use mainstay_wire::sets::SetMember;

const XID: Owner = Owner::Transaction(7);
/// Another session on node 1, and one on node 2.
const A2: Who = (1, 2);
const B2: Who = (2, 2);

impl World {
    fn owner(&mut self, who: Who, owner: Owner) {
        let dlm = self.nodes.get_mut(&who.0).unwrap();
        dlm.set_owner(SessionId(who.1), owner);
    }

    /// A client is a process of that user.
    fn user(&mut self, who: Who, pid: u32, uid: u32) {
        let process = OwnerReport {
            pid,
            uid,
            ..OwnerReport::default()
        };
        let dlm = self.nodes.get_mut(&who.0).unwrap();
        dlm.introduce(SessionId(who.1), process);
    }

    fn range(&mut self, who: Who, handle: u64, name: &str, start: u64, end: u64) {
        let number = self.number(who, handle);
        let call = RangeCall {
            handle: Handle(handle),
            space: SPACE,
            name: ResourceName::new(name).unwrap(),
            range: ByteRange::new(start, end).unwrap(),
            mode: LockMode::Ex,
            flags: Flags::NONE,
            blocking: false,
            deadline: None,
        };
        let dlm = self.nodes.get_mut(&who.0).unwrap();
        dlm.range(self.now, SessionId(who.1), number, call);
        self.settle();
    }

    fn fallen(&self) -> Vec<Who> {
        self.victims().into_iter().map(|v| v.0).collect()
    }

    fn names_the_transaction(&self, node: u16, lock_of: Who) -> bool {
        let dlm = &self.nodes[&node];
        let views = dlm.owners_of(&(1..20).map(mainstay_base::LockId).collect::<Vec<_>>());
        let mut own = views.iter().filter(|v| v.session.0 == lock_of.1);
        own.all(|view| dlm.owner_named(view.lock) == XID)
    }
}

/// A transaction holds `a` on node 1 and waits for `b` on node 2; C holds `b` and, last, waits for
/// `a`.
fn over_two_nodes(world: &mut World) {
    world.ex(A, 1, "a");
    world.ex(C, 1, "b");
    world.ex(B, 1, "b");
    world.tick(1);
    world.ex(C, 2, "a");
}

/// Protects transactions: a circle that closes only because two sessions on two nodes are one owner
/// has one victim, who is told all of it; without the common number there is none.
#[test]
fn a_circle_through_a_transaction_on_two_nodes_has_one_victim() {
    for owner in [Owner::Session, XID, Owner::Group(7), Owner::Process] {
        let mut world = World::new(VictimPolicy::Youngest);
        world.owner(A, owner);
        world.owner(B, owner);
        over_two_nodes(&mut world);
        world.wait(60);
        match owner {
            XID => assert_eq!(world.victims(), [(C, vec![C, B])]),
            _ => assert_eq!(world.victims(), [], "{owner}"),
        }
        world.wait(4000);
        assert_eq!(world.victims().len(), usize::from(owner == XID), "{owner}");
    }
}

/// Protects groups and processes: sessions of one node that name the same one are one owner.
#[test]
fn sessions_of_a_node_may_be_one_owner() {
    for (owner, pid) in [
        (Owner::Group(3), 9),
        (Owner::Process, 1),
        (Owner::Session, 1),
    ] {
        let mut world = World::new(VictimPolicy::Youngest);
        world.user(A2, pid, 1000);
        world.owner(A, owner);
        world.owner(A2, owner);
        world.ex(A, 1, "a");
        world.ex(C, 1, "b");
        world.ex(A2, 1, "b");
        world.tick(1);
        world.ex(C, 2, "a");
        world.wait(60);
        let found = usize::from(owner != Owner::Session);
        assert_eq!(world.victims().len(), found, "{owner}");
    }
}

/// Protects users from each other: who names another's transaction makes no circle with it, and hides
/// none.
#[test]
fn a_number_means_something_else_for_another_user() {
    let mut world = World::new(VictimPolicy::Youngest);
    world.user(B, 1, 2000);
    world.owner(A, XID);
    world.owner(B, XID);
    over_two_nodes(&mut world);
    world.wait(60);
    world.wait(4000);
    assert_eq!(world.victims(), []);

    let mut world = World::new(VictimPolicy::Youngest);
    world.user(B, 1, 2000);
    world.owner(A, XID);
    world.owner(B, XID);
    world.ex(A, 1, "a");
    world.ex(B, 1, "b");
    world.ex(A, 2, "b");
    world.tick(1);
    world.ex(B, 2, "a");
    world.wait(60);
    assert_eq!(world.fallen(), [B]);
}

/// Protects programs whose parts want the same lock: what a transaction does to itself is no deadlock,
/// also over nodes and with others in between. But a circle by way of another of its locks is found.
#[test]
fn a_transaction_does_not_fall_to_itself() {
    let mut world = World::new(VictimPolicy::Youngest);
    let t = B2; // On another node than A.
    for who in [A, t] {
        world.owner(who, XID);
    }
    world.ex(A, 1, "a");
    world.ex(A, 3, "c");
    world.ex(C, 1, "b");
    world.ex(C, 2, "a"); // Waits for A.
    world.ex(t, 1, "a"); // Waits for both.
    world.wait(60);
    world.wait(5000);
    assert_eq!(world.victims(), []);
    world.ex(C, 3, "c");
    world.wait(60);
    assert_eq!(world.victims(), [(C, vec![C, t])]);
}

/// Protects owners of several byte ranges: their own stand in nobody's way but others', so a call that
/// an own range stops makes no circle with who waits for that range.
#[test]
fn an_own_range_makes_no_circle() {
    for second in [A, A2, B] {
        let mut world = World::new(VictimPolicy::Youngest);
        for who in [A, A2, B] {
            world.owner(who, XID);
        }
        world.range(A, 1, "f", 0, 10);
        world.range(C, 1, "f", 10, 20);
        world.range(C, 3, "f", 5, 6); // Waits for A's, which may let go.
        world.range(second, 2, "f", 0, 20); // Waits for A's and C's.
        world.wait(60);
        world.wait(5000);
        assert_eq!(world.victims(), [], "{second:?}");
        // What stands in the way by another lock of the owner does count.
        world.ex(A, 4, "y");
        world.ex(C, 4, "y");
        world.wait(60);
        assert_eq!(world.victims().len(), 1, "{second:?}");
    }
}

/// Protects from false victims: where a transaction lets go on one node while it waits on another, none
/// falls for a circle that was gone when it was judged, even where the master has not heard of it.
#[test]
fn a_link_on_another_node_is_attested_there() {
    let (mut early, mut late) = (0, 0);
    for steps in 0..20 {
        let mut world = World::new(VictimPolicy::Youngest);
        world.owner(A, XID);
        world.owner(B, XID);
        world.ask((3, 3), 9, "a", LockMode::Nl, Flags::NONE); // So that node 3 is the master.
        world.ex(B, 1, "a");
        world.ex(C, 1, "b");
        world.ex(A, 1, "b"); // Waits for C.
        world.tick(1);
        world.ex(C, 2, "a"); // Waits for B.
        world.tick(60);
        world.held_back = Some((2, 3));
        for _ in 0..steps {
            world.deliver();
        }
        let attested = world.attested;
        world.unlock(B, 1);
        assert!(!world.mail.is_empty(), "node 3 is not the master");
        world.settle();
        world.wait(3000);
        match attested {
            false => {
                early += 1;
                assert_eq!(world.victims(), [], "after {steps} steps");
                world.held_back = None;
                world.settle();
                assert_eq!(world.end(C, 2), Some(&End::Granted), "after {steps} steps");
            }
            true => {
                late += 1;
                assert!(world.victims().len() < 2, "after {steps} steps");
            }
        }
    }
    assert!(
        early > 3 && late > 3,
        "{early} before the judge has asked, {late} after"
    );
}

/// Protects the bound on how long a circle stands: what a transaction gets on one node begins a search
/// where it waits on another.
#[test]
fn an_answer_on_one_node_begins_a_search_on_another() {
    let mut world = World::new(VictimPolicy::Youngest);
    world.owner(A, XID);
    world.owner(B, XID);
    world.ask(A, 1, "a", LockMode::Cr, Flags::NONE);
    world.ask(B2, 1, "a", LockMode::Cw, Flags::NONE);
    world.ex(C, 1, "b");
    world.ex(B, 1, "b"); // Waits for C.
    world.ask(C, 2, "a", LockMode::Pr, Flags::NONE); // Waits for B2.
    world.wait(60);
    for _ in 0..40 {
        world.wait(100);
    }
    assert_eq!(world.victims(), []);
    world.convert(A, 1, LockMode::Cw); // Suits B2's, and stops C.
    world.wait(52);
    world.wait(52);
    assert_eq!(world.victims().len(), 1, "{:?}", world.ends);
    for dlm in world.nodes.values() {
        dlm.check_at_rest();
    }
}

/// Protects that bound where a node has lost its lease for a moment: what others have said of waiting
/// transactions counts on.
#[test]
fn a_lease_that_comes_back_forgets_nobody_who_waits() {
    let mut world = World::new(VictimPolicy::Youngest);
    world.owner(A, XID);
    world.owner(B, XID);
    world.ask(A, 1, "a", LockMode::Cr, Flags::NONE);
    world.ask(B2, 1, "a", LockMode::Cw, Flags::NONE);
    world.ex(C, 1, "b");
    world.ex(B, 1, "b"); // Waits for C.
    world.ask(C, 2, "a", LockMode::Pr, Flags::NONE); // Waits for B2.
    for _ in 0..40 {
        world.wait(100);
    }
    let dlm = world.nodes.get_mut(&1).unwrap();
    dlm.set_active(world.now, false);
    dlm.set_active(world.now, true);
    world.settle();
    world.convert(A, 1, LockMode::Cw); // Suits B2's, and stops C.
    world.wait(52);
    world.wait(52);
    assert_eq!(world.victims().len(), 1, "{:?}", world.ends);
}

/// Protects every node from owners of many locks: a search follows each of an owner's waits once, and
/// not once for each of its locks in the way, be it of a session or of a transaction on two nodes.
#[test]
fn many_locks_and_many_waits_are_not_multiplied() {
    const MANY: u64 = 200;
    for owner in [Owner::Session, XID] {
        let mut world = World::new(VictimPolicy::Youngest);
        world.owner(A, owner);
        world.owner(B2, owner);
        for handle in 1..=MANY {
            world.ask(A, handle, "r", LockMode::Pr, Flags::NONE);
        }
        world.ex((3, 2), 1, "q");
        world.ex(A, 1000, "r"); // Its own locks are in its way.
        for handle in 1..=MANY {
            world.ex(A, 1000 + handle, "q");
            world.ex(B2, 1000 + handle, "q");
        }
        world.ex(C, 1, "z");
        world.wait(60);
        world.searching = 0;
        world.ex(C, 1000, "r");
        world.wait(52);
        assert!(world.searching > MANY, "{owner}: the search follows them");
        let most = 10 * MANY;
        assert!(world.searching < most, "{owner}: {}", world.searching);
        assert_eq!(world.victims(), []);
    }
}

/// Protects from false victims: what lies between two waits of one owner is left out only where what is
/// left is a circle too. Here A works on, and lets go: C then goes on, and B and the third after it.
#[test]
fn a_shortened_circle_is_judged_again() {
    let third = (3, 2);
    let mut world = World::new(VictimPolicy::Youngest);
    for who in [A, B, third] {
        world.owner(who, XID);
    }
    world.ask(A, 1, "r", LockMode::Cw, Flags::NONE);
    world.ex(C, 1, "other");
    world.ask(C, 2, "r", LockMode::Pr, Flags::NONE); // Waits for A.
    world.tick(1);
    world.ex(B, 1, "r"); // Waits for A and C.
    world.ask(third, 1, "r", LockMode::Cr, Flags::NONE); // Waits for B only.
    for _ in 0..50 {
        world.wait(100);
    }
    assert_eq!(world.victims(), []);
    world.unlock(A, 1);
    world.settle();
    assert_eq!(world.end(C, 2), Some(&End::Granted));
}

/// Protects the policy: what the judge hears of a transaction's locks on other nodes counts.
#[test]
fn locks_of_a_transaction_count_over_its_nodes() {
    let mut world = World::new(VictimPolicy::FewestLocks);
    world.owner(A, XID);
    world.owner(B, XID);
    for (handle, name) in [(11, "p"), (12, "q")] {
        world.ex(A, handle, name);
    }
    world.ex(C, 13, "r");
    over_two_nodes(&mut world);
    world.wait(60);
    // B's node knows of one lock, A's of three: the transaction has four, and C three.
    assert_eq!(world.fallen(), [C]);
}

/// Protects what was asked for: a set and a range belong to the owner of the call, and locks stay
/// whose they are, whatever the session names later.
#[test]
fn locks_stay_whose_they_are() {
    let mut world = World::new(VictimPolicy::Youngest);
    world.ex(C, 1, "m2");
    world.owner(A, XID);
    let number = world.number(A, 1);
    let member = |handle, name| SetMember {
        handle: Handle(handle),
        name: ResourceName::new(name).unwrap(),
        mode: LockMode::Ex,
        flags: Flags::NONE,
        blocking: false,
    };
    let call = SetCall {
        space: SPACE,
        members: vec![member(1, "m1"), member(2, "m2"), member(3, "m3")],
        flags: Flags::NONE,
        deadline: None,
    };
    let now = world.now;
    let dlm = world.nodes.get_mut(&1).unwrap();
    dlm.lock_set(now, SessionId(1), number, call);
    world.settle();
    world.range(A, 4, "f", 0, 10);
    world.owner(A, Owner::Session);
    world.unlock(C, 1);
    world.settle();
    for _ in 0..5 {
        world.wait(100);
    }
    assert_eq!(world.end(A, 1), Some(&End::Unlocked), "the set is granted");
    assert!(world.names_the_transaction(1, A));
    world.convert(A, 1, LockMode::Pr);
    assert!(world.names_the_transaction(1, A));
    world.ex(A, 5, "s");
    assert!(!world.names_the_transaction(1, A));
}

/// Protects from peers that break the protocol: what is said of transactions is said of no other
/// owner, and by nobody else.
#[test]
fn only_transactions_are_pursued() {
    let mut world = World::new(VictimPolicy::Youngest);
    let session = OwnerId::Session {
        node: NodeId(1),
        session: SessionId(1),
    };
    let transaction = OwnerId::Transaction { uid: 1, xid: 7 };
    let (trial, place, lock) = (1, 0, mainstay_base::LockId(1));
    let bodies = [
        (2, Body::Awaits { owner: session }, 1),
        (2, Body::Stir { owner: session }, 2),
        (2, Body::Awaits { owner: transaction }, 2),
        (2, Body::Attest { trial, place, lock }, 3),
        (1, Body::Attest { trial, place, lock }, 3),
    ];
    for (from, body, violations) in bodies {
        let epoch = world.epoch;
        world.mail.push_back((from, 3, Message { epoch, body }));
        world.settle();
        assert_eq!(world.violations, violations);
    }
}
