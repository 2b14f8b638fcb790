//! The client protocol as a state machine: a lone node with several clients, each of which asks what it
//! likes, in any order, and comes and goes; and beside it the plain model of the same, which says what
//! each of them must be told.

mod script;

use crate::world::{VICTIM, World};
use mainstay_base::{Caller, SessionId, Token};
use mainstay_node::Input;
use mainstay_reference::daemon::Daemon;
use mainstay_wire::{
    client::{Ask, ToClient},
    keep::SessionKey,
    lock::Refusal,
    report::OwnerReport,
};
use script::{Action, SLOTS, first, last, read};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

/// The target.
pub(crate) fn run(data: &[u8]) {
    let actions = read(data);
    let Err(why) = attempt(&actions) else {
        return;
    };
    let (actions, why) = shortened(actions, why);
    let mut text = String::new();
    for (place, action) in actions.iter().enumerate() {
        text += &format!("{place:3}  {action:?}\n");
    }
    panic!("node and reference differ after\n{text}{why}");
}

/// The same, where a node or a reference that contradicts itself is a difference, too.
fn attempt(actions: &[Action]) -> Result<(), String> {
    let played = catch_unwind(AssertUnwindSafe(|| play(actions)));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("it panics: {}", text.unwrap_or_default()))
    })
}

/// Leaves out what is not needed for a difference.
fn shortened(mut actions: Vec<Action>, mut why: String) -> (Vec<Action>, String) {
    loop {
        let before = actions.len();
        for place in (0..actions.len()).rev() {
            let mut fewer = actions.clone();
            fewer.remove(place);
            if let Err(still) = attempt(&fewer) {
                (actions, why) = (fewer, still);
            }
        }
        if actions.len() == before {
            return (actions, why);
        }
    }
}

/// The clients' side: who is connected, as which session.
struct Play {
    world: World,
    reference: Daemon,
    sessions: [SessionId; SLOTS],
    last_session: u64,
    last_request: u64,
}

fn caller(slot: usize) -> Caller {
    match slot {
        0 | 1 => Caller {
            uid: 1000,
            gid: 100,
            privileged: false,
        },
        2 => Caller {
            uid: 1001,
            gid: 101,
            privileged: false,
        },
        _ => Caller {
            uid: 0,
            gid: 0,
            privileged: true,
        },
    }
}

/// What proves that a connection may go on with a session.
fn key(session: SessionId) -> SessionKey {
    SessionKey(u128::from(session.0).to_le_bytes())
}

/// Carries out actions on both; says where they differ, if they do.
fn play(actions: &[Action]) -> Result<(), String> {
    let mut world = World::configured(0, false, |config| config.deadlock.enabled = false);
    world.told.clear();
    let floor = Token::floor(world.epoch());
    let reference = Daemon::new(world.now, floor);
    let mut play = Play {
        world,
        reference,
        sessions: [SessionId(0); SLOTS],
        last_session: 0,
        last_request: 0,
    };
    for slot in 0..SLOTS {
        play.connect(slot)?;
    }
    let mut actions: Vec<Action> = actions.to_vec();
    let rules = actions.first().cloned();
    actions.splice(0..1.min(actions.len()), first(rules));
    actions.extend(last());
    for action in actions {
        play.act(action)?;
    }
    match play.reference.lock_count() {
        0 => Ok(()),
        left => Err(format!("{left} locks are left of clients that are gone")),
    }
}

impl Play {
    fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Rules(_) => Ok(()),
            Action::Pass(ms) => {
                let time = Duration::from_millis(ms.into());
                self.world.run(time);
                self.reference.pass(time);
                self.compare()
            }
            Action::Connect(slot) => self.connect(slot),
            Action::Disconnect(slot) => {
                let session = self.sessions[slot];
                if self.reference.is_linked(session) {
                    self.world.input(VICTIM, Input::SessionClosed { session });
                    self.reference.disconnect(session);
                }
                self.compare()
            }
            Action::Ask(slot, ask) => self.ask(slot, ask),
            Action::Keep(slot, grace_ms) => self.keep(slot, grace_ms),
            Action::Continue { slot, back, how } => self.go_on(slot, back, how),
            Action::Heard(slot, back) => {
                let upto = self.counted(slot, back);
                self.ask(slot, Ask::Heard { upto })
            }
            Action::Again(slot, ask) => match self.reference.is_kept(self.sessions[slot]) {
                true => self.ask_as(slot, 1, ask),
                false => Ok(()),
            },
        }
    }

    fn connect(&mut self, slot: usize) -> Result<(), String> {
        if self.reference.is_linked(self.sessions[slot]) {
            return Ok(());
        }
        self.last_session += 1;
        let session = SessionId(self.last_session);
        self.sessions[slot] = session;
        let caller = caller(slot);
        let owner = OwnerReport {
            pid: slot as u32,
            uid: caller.uid,
            command: "fuzz".to_owned(),
            orphan_ms: None,
            broken: None,
            owner: mainstay_base::Owner::Session,
        };
        let opened = Input::SessionOpened {
            session,
            owner,
            group: caller.gid,
            privileged: caller.privileged,
        };
        self.world.input(VICTIM, opened);
        self.reference.open(session, caller);
        self.compare()
    }

    /// So many messages of a kept session, or one more than there were.
    fn counted(&self, slot: usize, back: u8) -> u64 {
        let told = self.reference.told_count(self.sessions[slot]);
        match back {
            u8::MAX => told + 1,
            back => told.saturating_sub(back.into()),
        }
    }

    fn keep(&mut self, slot: usize, grace_ms: u32) -> Result<(), String> {
        let session = self.sessions[slot];
        if !self.reference.is_linked(session) || self.reference.has_open_calls(session) {
            return Ok(());
        }
        self.last_request += 1;
        let (request, key) = (self.last_request, key(session));
        let keep = Input::Keep {
            session,
            request,
            grace_ms,
            key,
        };
        self.world.input(VICTIM, keep);
        self.reference.keep(session, request, grace_ms, key);
        self.compare()
    }

    /// A new connection wants to go on with the session that a client has, or had.
    fn go_on(&mut self, slot: usize, back: u8, how: u8) -> Result<(), String> {
        let session = self.sessions[slot];
        let heard = self.counted(slot, back);
        self.last_session += 1;
        let connection = SessionId(self.last_session);
        let key = key(match how % 16 {
            0 => connection,
            _ => session,
        });
        let uid = caller(if how % 16 == 1 { slot ^ 2 } else { slot }).uid;
        let reattach = Input::Reattach {
            connection,
            session,
            key,
            heard,
            uid,
        };
        self.world.input(VICTIM, reattach);
        let unanswered = self.reference.reattach(session, key, heard, uid);
        let continued = unanswered.ok_or(Refusal::NoSuchSession);
        let theirs = std::mem::take(&mut self.world.continued);
        match theirs == [(connection, continued.clone())] {
            true => self.compare(),
            false => Err(format!(
                "{connection} came to {theirs:?}\ninstead of {continued:?}"
            )),
        }
    }

    fn ask(&mut self, slot: usize, ask: Ask) -> Result<(), String> {
        self.last_request += 1;
        self.ask_as(slot, self.last_request, ask)
    }

    fn ask_as(&mut self, slot: usize, request: u64, ask: Ask) -> Result<(), String> {
        let session = self.sessions[slot];
        let away = self.reference.is_open(session) && !self.reference.is_linked(session);
        if away || !self.reference.knows(session, &ask) {
            return Ok(());
        }
        let asked = Input::Request {
            session,
            request,
            ask: ask.clone(),
        };
        self.world.input(VICTIM, asked);
        self.reference.ask(session, request, ask);
        self.compare()
    }

    fn compare(&mut self) -> Result<(), String> {
        for (session, told) in std::mem::take(&mut self.world.told) {
            self.heard(session, &told)?;
        }
        self.reference.silence()?;
        let Some(node) = self.world.victim() else {
            return Err(format!("the node stopped: {:?}", self.world.stopped));
        };
        node.lock_manager().check_at_rest();
        let counts = node.lock_manager().counts();
        let locks: u64 = counts.values().map(|space| space.locks).sum();
        match self.reference.lock_count() as u64 {
            count if count == locks => Ok(()),
            count => Err(format!(
                "the node has {locks} locks, and should have {count}"
            )),
        }
    }

    fn heard(&mut self, session: SessionId, told: &ToClient) -> Result<(), String> {
        self.reference.hear(session, told)
    }
}
