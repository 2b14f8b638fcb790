//! Three lock managers, whose messages the test carries by hand: the search for deadlocks.

#![allow(missing_docs, clippy::unwrap_used)]

mod owners;

use core::time::Duration;
use mainstay_base::{
    BootId, DeadlockConfig, Epoch, Fairness, Incarnation, Instant, LockMode, LockspaceId, NodeId,
    ResourceName, SessionId, VictimPolicy,
};
use mainstay_dlm::{ConvertCall, Dlm, LockCall, Out, UnlockCall};
use mainstay_membership::{Member, View};
use mainstay_wire::{
    client::{Answer, Handle},
    deadlock::{OwnerId, Waiter},
    dlm::{Body, Message, ResourceId},
    lock::{Flags, Refusal},
    report::OwnerReport,
};
use std::collections::{BTreeMap, VecDeque};

const SPACE: LockspaceId = LockspaceId(1);
const OTHER_SPACE: LockspaceId = LockspaceId(2);

/// A client: node and session number.
type Who = (u16, u64);

/// How a call ended: granted, or why not, with the owners of the circle for a victim.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Granted,
    Unlocked,
    Refused(Refusal),
    Victim(Vec<Who>),
}

struct World {
    now: Instant,
    epoch: Epoch,
    nodes: BTreeMap<u16, Dlm>,
    /// Said and not yet heard, in the order in which it was said.
    mail: VecDeque<(u16, u16, Message)>,
    /// Calls by client and handle that ended.
    ends: BTreeMap<(Who, u64), End>,
    calls: BTreeMap<(u16, u64, u64), u64>,
    next_call: u64,
    /// How many messages of the search there were.
    searching: u64,
    /// A node has been asked to attest a lock.
    attested: bool,
    /// Mail from the one to the other that does not arrive for now.
    held_back: Option<(u16, u16)>,
    /// Messages that were refused for breaking the protocol.
    violations: u64,
}

/// The process of a client: one for each, numbered as its session, all of one user.
fn process(who: Who) -> OwnerReport {
    OwnerReport {
        pid: u32::try_from(who.1).unwrap(),
        uid: 1000,
        ..OwnerReport::default()
    }
}

fn boot(node: u16) -> BootId {
    BootId(u64::from(node) + 100)
}

impl World {
    fn new(victim: VictimPolicy) -> World {
        let mut world = World {
            now: Instant::from_millis(1000),
            epoch: Epoch(0),
            nodes: BTreeMap::new(),
            mail: VecDeque::new(),
            ends: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 1,
            searching: 0,
            attested: false,
            held_back: None,
            violations: 0,
        };
        for id in 1..=3 {
            let mut dlm = Dlm::new(NodeId(id), 512);
            dlm.configure_deadlocks(DeadlockConfig {
                victim,
                ..DeadlockConfig::default()
            });
            dlm.add_space(SPACE, 32, Fairness::default());
            dlm.add_space(OTHER_SPACE, 32, Fairness::default());
            for session in 1..=3 {
                dlm.open_session(SessionId(session));
                dlm.introduce(SessionId(session), process((id, session)));
            }
            world.nodes.insert(id, dlm);
        }
        world.install();
        for dlm in world.nodes.values_mut() {
            dlm.set_active(world.now, true);
        }
        world.settle();
        world
    }

    /// All install the next view; its members are the same.
    fn install(&mut self) {
        self.epoch = self.epoch.next();
        let members = (1..=3).map(|node| Member {
            node: NodeId(node),
            incarnation: Incarnation(1),
            boot: boot(node),
            joined: Epoch(1),
        });
        let view = View {
            epoch: self.epoch,
            members: members.collect(),
            members_since: Epoch(1),
            quorate: true,
            pending: Vec::new(),
        };
        for dlm in self.nodes.values_mut() {
            dlm.install(self.now, view.clone());
            dlm.view_settled(self.now);
        }
        self.collect();
    }

    fn collect(&mut self) {
        for (&id, dlm) in &mut self.nodes {
            let mut outs = Vec::new();
            dlm.take_outputs(&mut outs);
            for out in outs {
                match out {
                    Out::Send { to, body } => {
                        let epoch = self.epoch;
                        self.mail.push_back((id, to.0, Message { epoch, body }));
                    }
                    Out::Done {
                        session,
                        request,
                        result,
                    } => {
                        let end = match result {
                            Ok(Answer::Granted(_)) => End::Granted,
                            Ok(_) => End::Unlocked,
                            Err(why) => End::Refused(why),
                        };
                        let handle = self.calls[&(id, session.0, request)];
                        self.ends.insert(((id, session.0), handle), end);
                    }
                    Out::Victim {
                        session,
                        request,
                        circle,
                        ..
                    } => {
                        let who = |w: &Waiter| (w.wait.node.0, u64::from(w.process.pid));
                        let end = End::Victim(circle.iter().map(who).collect());
                        let handle = self.calls[&(id, session.0, request)];
                        self.ends.insert(((id, session.0), handle), end);
                    }
                    Out::Fatal(why) => panic!("{why}"),
                    Out::Event { .. } => self.violations += 1,
                    Out::ValueChanged { .. }
                    | Out::Blocking { .. }
                    | Out::RangeBlocking { .. }
                    | Out::Demoted { .. }
                    | Out::Overdue { .. }
                    | Out::Scanned(_)
                    | Out::Orphan { .. }
                    | Out::Purged(_)
                    | Out::Move(..)
                    | Out::Survive(_)
                    | Out::Many { .. } => {}
                }
            }
        }
    }

    /// Delivers the next message. False if there is none.
    fn deliver(&mut self) -> bool {
        let arrives = |mail: &(u16, u16, Message)| self.held_back != Some((mail.0, mail.1));
        let at = self.mail.iter().position(arrives);
        let Some((from, to, message)) = at.and_then(|at| self.mail.remove(at)) else {
            return false;
        };
        self.searching += u64::from(is_search(&message.body));
        self.attested |= matches!(message.body, Body::Attest { .. });
        let dlm = self.nodes.get_mut(&to).unwrap();
        dlm.receive(self.now, NodeId(from), boot(from), message);
        self.collect();
        true
    }

    fn settle(&mut self) {
        self.collect();
        while self.deliver() {}
    }

    /// Time passes; messages stay where they are.
    fn tick(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        for dlm in self.nodes.values_mut() {
            dlm.tick(self.now);
        }
        self.collect();
    }

    fn wait(&mut self, ms: u64) {
        self.tick(ms);
        self.settle();
    }

    fn number(&mut self, who: Who, handle: u64) -> u64 {
        let call = self.next_call;
        self.next_call += 1;
        self.calls.insert((who.0, who.1, call), handle);
        self.ends.remove(&(who, handle));
        call
    }

    fn ask(&mut self, who: Who, handle: u64, name: &str, mode: LockMode, flags: Flags) {
        let number = self.number(who, handle);
        let space = if name.starts_with('x') {
            OTHER_SPACE
        } else {
            SPACE
        };
        let call = LockCall {
            handle: Handle(handle),
            space,
            name: ResourceName::new(name).unwrap(),
            mode,
            flags,
            blocking: false,
            deadline: None,
        };
        let dlm = self.nodes.get_mut(&who.0).unwrap();
        dlm.lock(self.now, SessionId(who.1), number, call);
        self.settle();
    }

    fn ex(&mut self, who: Who, handle: u64, name: &str) {
        self.ask(who, handle, name, LockMode::Ex, Flags::NONE);
    }

    fn convert(&mut self, who: Who, handle: u64, mode: LockMode) {
        let number = self.number(who, handle);
        let call = ConvertCall {
            handle: Handle(handle),
            mode,
            flags: Flags::NONE,
            blocking: false,
            value: None,
            deadline: None,
        };
        let dlm = self.nodes.get_mut(&who.0).unwrap();
        dlm.convert(self.now, SessionId(who.1), number, call);
        self.settle();
    }

    fn unlock(&mut self, who: Who, handle: u64) {
        let number = self.number(who, handle);
        let call = UnlockCall {
            handle: Handle(handle),
            flags: Flags::NONE,
            value: None,
        };
        let dlm = self.nodes.get_mut(&who.0).unwrap();
        dlm.unlock(self.now, SessionId(who.1), number, call);
        self.collect();
    }

    fn end(&self, who: Who, handle: u64) -> Option<&End> {
        self.ends.get(&(who, handle))
    }

    fn victims(&self) -> Vec<(Who, Vec<Who>)> {
        let ends = self.ends.iter();
        ends.filter_map(|((who, _), end)| match end {
            End::Victim(circle) => Some((*who, circle.clone())),
            _ => None,
        })
        .collect()
    }
}

fn is_search(body: &Body) -> bool {
    matches!(
        body,
        Body::Probe { .. }
            | Body::Chase { .. }
            | Body::Accuse { .. }
            | Body::Examine { .. }
            | Body::Check { .. }
            | Body::Checked { .. }
            | Body::Testimony { .. }
            | Body::Condemn { .. }
            | Body::Pursue { .. }
            | Body::Awaits { .. }
            | Body::Stir { .. }
            | Body::Attest { .. }
            | Body::Attested { .. }
    )
}

const A: Who = (1, 1);
const B: Who = (2, 1);
const C: Who = (3, 1);

/// Three owners on three nodes, over two lockspaces; `C` closes the circle.
fn three(world: &mut World) {
    world.ex(A, 1, "a");
    world.ex(B, 1, "b");
    world.ex(C, 1, "x");
    world.ex(A, 2, "b");
    world.tick(1);
    world.ex(B, 2, "x");
    world.tick(1);
    world.ex(C, 2, "a");
}

/// Protects the search: a circle over nodes and lockspaces is broken soon after the delay, the one
/// who closed it is told all of it, and the others go on.
#[test]
fn a_circle_over_three_nodes_has_one_victim() {
    let mut world = World::new(VictimPolicy::Youngest);
    three(&mut world);
    world.wait(47);
    assert_eq!(world.victims(), []);
    world.wait(5);
    assert_eq!(world.victims(), [(C, vec![C, A, B])]);
    assert_eq!(world.end(B, 2), None, "it waits for what the victim holds");
    world.unlock(C, 1);
    world.settle();
    assert_eq!(world.end(B, 2), Some(&End::Granted));
    world.wait(3000);
    assert_eq!(world.victims().len(), 1);
}

/// Protects the policies: the lowest priority, or the fewest locks, instead of the youngest.
#[test]
fn the_policy_chooses_the_victim() {
    let mut world = World::new(VictimPolicy::Priority);
    for (who, priority) in [(A, 5), (B, 2), (C, 9)] {
        let dlm = world.nodes.get_mut(&who.0).unwrap();
        dlm.set_deadlock_priority(SessionId(who.1), priority);
    }
    three(&mut world);
    world.wait(60);
    assert_eq!(world.victims(), [(B, vec![B, C, A])]);

    let mut world = World::new(VictimPolicy::FewestLocks);
    world.ex(B, 9, "more-b");
    world.ex(C, 9, "more-c");
    three(&mut world);
    world.wait(60);
    assert_eq!(world.victims(), [(A, vec![A, B, C])]);
}

/// Protects those who wait behind others: a reader behind a writer is in the way of whom the writer
/// waits for.
#[test]
fn a_circle_by_way_of_a_queue_is_found() {
    let mut world = World::new(VictimPolicy::Youngest);
    world.ask(A, 1, "a", LockMode::Pr, Flags::NONE);
    world.ex(B, 1, "b");
    world.ex(C, 1, "a"); // Waits for A.
    world.ask(B, 2, "a", LockMode::Pr, Flags::NONE); // Suits A, but stands behind C.
    assert_eq!(world.end(B, 2), None);
    world.ex(A, 2, "b"); // Waits for B.
    world.wait(110);
    assert_eq!(world.victims().len(), 1, "{:?}", world.ends);
    let (_, circle) = &world.victims()[0];
    assert_eq!(circle.len(), 3, "{circle:?}");
}

/// Protects conversions: a lock that converts is in the way with the mode it holds.
#[test]
fn a_circle_with_a_conversion_is_found() {
    let mut world = World::new(VictimPolicy::Youngest);
    world.ask(A, 1, "a", LockMode::Pr, Flags::NONE);
    world.ask(B, 1, "a", LockMode::Pr, Flags::NONE);
    world.ex(C, 1, "c");
    world.convert(A, 1, LockMode::Ex); // Waits for B.
    world.ex(B, 2, "c"); // Waits for C.
    world.tick(1);
    world.ex(C, 2, "a"); // Waits for A and B.
    world.wait(60);
    let fallen: Vec<Who> = world.victims().into_iter().map(|v| v.0).collect();
    assert_eq!(fallen, [C], "it closed both circles");
    // A conversion as victim keeps its mode.
    let mut world = World::new(VictimPolicy::Youngest);
    world.ask(A, 1, "a", LockMode::Pr, Flags::NONE);
    world.ask(B, 1, "a", LockMode::Pr, Flags::NONE);
    world.ask(A, 2, "b", LockMode::Pr, Flags::NONE);
    world.ask(B, 2, "b", LockMode::Pr, Flags::NONE);
    world.convert(A, 1, LockMode::Ex);
    world.tick(1);
    world.convert(B, 2, LockMode::Ex);
    world.wait(60);
    assert_eq!(world.victims(), [(B, vec![B, A])]);
    world.unlock(B, 1);
    world.settle();
    assert_eq!(world.end(A, 1), Some(&End::Granted));
}

/// Protects the exemptions: NODLCKWT does not wait, NODLCKBLK is not in the way.
#[test]
fn exempt_locks_make_no_circle() {
    for (held, asked) in [
        (Flags::NODLCKBLK, Flags::NONE),
        (Flags::NONE, Flags::NODLCKWT),
    ] {
        let mut world = World::new(VictimPolicy::Youngest);
        world.ask(A, 1, "a", LockMode::Ex, held);
        world.ex(B, 1, "b");
        world.ask(A, 2, "b", LockMode::Ex, asked);
        world.ex(B, 2, "a");
        world.wait(60);
        world.wait(5000);
        assert_eq!(world.victims(), []);
    }
}

/// Protects programs with several tasks: what one owner does to itself is no deadlock.
#[test]
fn an_owner_does_not_fall_to_itself() {
    let mut world = World::new(VictimPolicy::Youngest);
    world.ex(A, 1, "a");
    world.ex(A, 2, "a");
    world.wait(60);
    world.wait(5000);
    assert_eq!(world.victims(), []);
}

/// Protects circles that share a wait: the first victim breaks both, and no second falls.
#[test]
fn circles_that_share_a_wait_are_judged_one_after_the_other() {
    let mut world = World::new(VictimPolicy::Youngest);
    world.ask(A, 1, "a", LockMode::Pr, Flags::NONE);
    world.ask(B, 1, "a", LockMode::Pr, Flags::NONE);
    world.ex(C, 1, "c");
    world.ex(A, 2, "c");
    world.ex(B, 2, "c");
    world.tick(1);
    world.ex(C, 2, "a"); // Closes one circle with A and one with B.
    world.wait(60);
    world.wait(3000);
    let fallen: Vec<Who> = world.victims().into_iter().map(|v| v.0).collect();
    assert_eq!(fallen, [C]);
}

/// Protects from false victims: a circle that is gone before it is confirmed has none, wherever the
/// release meets the search.
#[test]
fn a_release_at_any_moment_of_the_search_makes_no_false_victim() {
    for steps in 0..200 {
        let mut world = World::new(VictimPolicy::Youngest);
        three(&mut world);
        world.tick(60);
        for _ in 0..steps {
            if !world.deliver() {
                break;
            }
        }
        world.unlock(A, 1);
        world.settle();
        match &world.victims()[..] {
            [] => assert_eq!(world.end(C, 2), Some(&End::Granted), "after {steps} steps"),
            // All had confirmed before A let go.
            [(C, _)] => {}
            more => panic!("after {steps} steps: {more:?}"),
        }
        world.wait(3000);
        let early = steps < 5;
        assert!(!early || world.victims().is_empty(), "after {steps} steps");
    }
}

/// Protects from stale findings: what was found in an earlier view is void, and found again.
#[test]
fn a_new_view_voids_searches_and_begins_them_again() {
    for steps in 0..30 {
        let mut world = World::new(VictimPolicy::Youngest);
        three(&mut world);
        world.tick(60);
        for _ in 0..steps {
            world.deliver();
        }
        world.install();
        world.settle();
        world.wait(60);
        world.wait(200);
        assert_eq!(world.victims().len(), 1, "after {steps} steps");
    }
}

/// Protects the cost: owners of a single lock that wait for one resource send nothing.
#[test]
fn a_crowd_before_one_resource_searches_nothing() {
    let mut world = World::new(VictimPolicy::Youngest);
    world.ex(A, 1, "a");
    for node in 1..=3 {
        for session in 2..=3 {
            world.ex((node, session), 1, "a");
        }
    }
    world.wait(60);
    world.wait(5000);
    assert_eq!(world.searching, 0);
    for dlm in world.nodes.values() {
        dlm.check_at_rest();
    }
}

/// Protects circles that a grant closes: who still waits elsewhere gets what others wait for.
#[test]
fn a_grant_to_one_who_waits_begins_a_search() {
    let mut world = World::new(VictimPolicy::Youngest);
    world.ex(C, 1, "a");
    world.ex(B, 1, "b");
    world.ex(A, 1, "b"); // Waits for B.
    world.ask(A, 2, "a", LockMode::Pr, Flags::NONE); // Waits for C.
    world.ask(B, 2, "a", LockMode::Pw, Flags::NOORDER); // Waits for C.
    world.wait(60);
    world.wait(4000);
    assert_eq!(world.victims(), []);
    world.unlock(C, 1);
    world.settle();
    assert_eq!(world.end(A, 2), Some(&End::Granted));
    world.wait(52);
    assert_eq!(world.victims().len(), 1);
}

/// Protects the whole of a deadlock on one resource: who stands behind somebody that its own other
/// lock stops, without being in its own way.
#[test]
fn a_circle_by_way_of_an_own_lock_is_found() {
    let mut world = World::new(VictimPolicy::Youngest);
    world.ask(A, 1, "a", LockMode::Cw, Flags::NONE);
    world.ask(B, 1, "a", LockMode::Pr, Flags::NONE); // Waits for A's first.
    world.tick(1);
    world.ask(A, 2, "a", LockMode::Cw, Flags::NONE); // Suits it, but stands behind B.
    world.wait(60);
    assert_eq!(world.victims(), [(A, vec![A, B])]);
}

/// Protects programs with several tasks that share a session and take the same lock: the one that
/// has it lets go, whoever stands between them and whatever else that one has. But a circle by way
/// of another lock of theirs is found.
#[test]
fn tasks_that_want_the_same_lock_make_no_circle() {
    let mut world = World::new(VictimPolicy::Youngest);
    world.ex(A, 1, "a");
    world.ex(A, 3, "c");
    world.ex(B, 1, "b");
    world.ex(B, 2, "a"); // Waits for A's first task.
    world.ex(A, 2, "a"); // The second task waits for both.
    world.wait(60);
    world.wait(5000);
    assert_eq!(world.victims(), []);
    world.ex(B, 3, "c");
    world.wait(60);
    assert_eq!(world.victims(), [(B, vec![B, A])]);
}

/// Protects from false victims: a lock whose owner has asked to give up its mode is in nobody's way,
/// even where the master has not heard of it.
#[test]
fn a_lock_that_is_being_given_up_makes_no_circle() {
    let mut world = World::new(VictimPolicy::Youngest);
    world.ask(C, 1, "a", LockMode::Nl, Flags::NONE); // So that node 3 is the master.
    world.ex(A, 1, "a");
    world.ex(B, 1, "b");
    world.ex(A, 2, "b"); // Waits for B.
    world.ex(B, 2, "a"); // Waits for A.
    world.held_back = Some((1, 3));
    world.convert(A, 1, LockMode::Nl);
    assert!(!world.mail.is_empty(), "node 3 is not the master");
    world.wait(60);
    world.wait(5000);
    assert_eq!(world.victims(), []);
    world.held_back = None;
    world.settle();
    assert_eq!(world.end(B, 2), Some(&End::Granted));
}

/// Protects circles that a single lock closes by standing ahead of those who came before it.
#[test]
fn a_request_at_the_head_of_the_queue_begins_a_search() {
    let mut world = World::new(VictimPolicy::Youngest);
    world.ask(B, 1, "a", LockMode::Cr, Flags::NONE);
    world.ask(C, 1, "a", LockMode::Pw, Flags::NONE);
    world.ex(A, 1, "b");
    world.ask(A, 2, "a", LockMode::Cw, Flags::NONE); // Waits for C.
    world.ex(B, 2, "b"); // Waits for A.
    world.wait(60);
    world.wait(4000);
    assert_eq!(world.victims(), []);
    let single = (3, 2);
    world.ask(single, 1, "a", LockMode::Ex, Flags::HEADQUE); // A now stands behind B too.
    world.wait(52);
    assert_eq!(world.victims().len(), 1, "{:?}", world.ends);
}

/// Protects from peers that break the protocol: only the judge examines and condemns.
#[test]
fn only_the_judge_condemns() {
    let mut world = World::new(VictimPolicy::Youngest);
    three(&mut world);
    world.tick(60);
    let probe = |mail: &(u16, u16, Message)| match &mail.2.body {
        Body::Probe { wait, .. } if wait.node == NodeId(3) => Some(*wait),
        _ => None,
    };
    let wait = world.mail.iter().find_map(probe).expect("C searches");
    world.mail.clear();
    let waiter = |session| Waiter {
        wait,
        owner: OwnerId::Session {
            node: NodeId(3),
            session: SessionId(session),
        },
        process: OwnerReport::default(),
        resource: ResourceId {
            space: SPACE,
            name: ResourceName::new("a").unwrap(),
        },
        granted: None,
        requested: LockMode::Ex,
        waited_us: 0,
        locks: 2,
        priority: 0,
        range: None,
    };
    let condemn = |circle| Message {
        epoch: Epoch(1),
        body: Body::Condemn {
            wait,
            policy: VictimPolicy::Youngest,
            circle,
        },
    };
    let two = vec![waiter(1), waiter(2)];
    for (from, circle, violations, victims) in [
        (2, two.clone(), 1, 0),
        (1, vec![waiter(1)], 2, 0),
        (1, two, 2, 1),
    ] {
        world.mail.push_back((from, 3, condemn(circle)));
        world.settle();
        assert_eq!(world.violations, violations, "from {from}");
        assert_eq!(world.victims().len(), victims, "from {from}");
    }
}
