//! Daemons that are started anew while their clients' sessions are kept: under load and faults, in time,
//! too late or not at all, with what the one before left or without.

use crate::{
    checkers::Fact,
    dice::{Dice, MS, SEC},
    process::{Arrived, Process, Session},
    world::{Ev, World},
};
use mainstay_base::SessionId;
use mainstay_node::Input;
use mainstay_wire::{
    client::{Answer, Ask, ToClient},
    event::SessionFate,
    report::OwnerReport,
};
use std::collections::BTreeMap;

/// What a daemon has left in its state directory, beside the journal.
#[derive(Debug, Default)]
pub(crate) struct LeftBehind {
    /// What the node wrote.
    pub(crate) bytes: Option<Vec<u8>>,
    /// Sessions of which it is not known yet what becomes of them.
    pub(crate) sessions: BTreeMap<SessionId, Session>,
}

/// Whether a session is told that it is kept.
pub(crate) fn is_kept(message: &ToClient) -> bool {
    let ToClient::Done { result, .. } = message else {
        return false;
    };
    matches!(result, Ok(Answer::Kept { .. }))
}

impl Process {
    /// A number for a session that no client has.
    pub(crate) fn strange_session(&mut self) -> SessionId {
        self.next_session += 1;
        SessionId(self.next_session - 1)
    }

    /// The clients whose sessions stay when this daemon rests.
    pub(crate) fn staying(&self) -> Vec<u32> {
        let machine = self.machine.as_ref();
        let sessions = self.sessions.iter();
        let stay = sessions.filter(|(number, _)| machine.is_some_and(|m| m.expects(**number)));
        stay.map(|(_, session)| session.no).collect()
    }
}

impl World {
    /// Some daemon is asked to stop so that its sessions go on in the next.
    pub(crate) fn rest_some(&mut self) {
        if self.calm || self.params.rests == 0 {
            return;
        }
        let hosts = self.hosts.len() as u64;
        let host = self.dice.rest.below(hosts) as usize;
        let for_ms = self.dice.rest.between(1000, 8000) as u32;
        self.ask_to_rest(host, for_ms);
        let wait = self.dice.rest.spread(self.params.rests);
        self.at(wait, Ev::Rester);
    }

    fn ask_to_rest(&mut self, host: usize, for_ms: u32) {
        let Some(process) = &mut self.hosts[host].process else {
            return;
        };
        let session = process.strange_session();
        self.stats.count("rests asked");
        self.trace
            .note(self.now, "rest", &[host as u64, for_ms.into()], || {
                format!("host {} is to rest for {for_ms} ms", host + 1)
            });
        let owner = OwnerReport {
            command: "stop".to_owned(),
            ..OwnerReport::default()
        };
        let opened = Input::SessionOpened {
            session,
            owner,
            group: 0,
            privileged: true,
        };
        let asked = Input::Request {
            session,
            request: 1,
            ask: Ask::Rest { for_ms },
        };
        for input in [opened, asked, Input::SessionClosed { session }] {
            self.push(host, Arrived::Input(input));
        }
    }

    /// A node leaves this to its next life, or takes back what it has left.
    pub(crate) fn carry(&mut self, host: usize, bytes: Option<Vec<u8>>) {
        let here = &mut self.hosts[host];
        let Some(process) = &mut here.process else {
            return;
        };
        let kept = process.sessions.iter();
        let kept: BTreeMap<_, _> = kept
            .filter(|(_, session)| session.kept)
            .map(|(number, session)| (*number, *session))
            .collect();
        here.left.sessions = match &bytes {
            Some(_) => kept,
            None => BTreeMap::new(),
        };
        let some = bytes.is_some();
        let full = here.disk.full && some;
        here.left.bytes = bytes.filter(|_| !full);
        if some {
            self.stats.count("hand-overs written");
            let result = match full {
                true => Err("no space left on device".to_owned()),
                false => Ok(()),
            };
            self.push(host, Arrived::Input(Input::Carried { result }));
        }
    }

    /// A daemon that rests has stopped: its sessions are nobody's for now.
    pub(crate) fn leave_behind(&mut self, host: usize) {
        let here = &mut self.hosts[host];
        let Some(process) = &mut here.process else {
            return;
        };
        for number in here.left.sessions.keys() {
            process.sessions.remove(number);
        }
        if !here.left.sessions.is_empty() {
            self.stats.count("nodes rested");
        }
    }

    /// What a new life finds of the one before; it is gone from the disk by that.
    pub(crate) fn find_left(&mut self, host: usize) -> Option<Vec<u8>> {
        let lost = self.dice.rest.percent(10);
        let found = self.hosts[host].left.bytes.take().filter(|_| !lost);
        if found.is_none() {
            let gone = std::mem::take(&mut self.hosts[host].left.sessions);
            for session in gone.into_values() {
                self.stats.count("sessions left behind");
                self.session_ended(session);
            }
        }
        found
    }

    /// Whether the present life of a host has a session.
    pub(crate) fn is_of_life(&self, host: usize, number: SessionId) -> bool {
        let process = self.hosts[host].process.as_ref();
        process.is_some_and(|process| process.sessions.contains_key(&number))
    }

    /// A new life says what becomes of a session of the one before.
    pub(crate) fn left_told(&mut self, host: usize, number: SessionId, fate: SessionFate) {
        let here = &mut self.hosts[host];
        let Some(session) = here.left.sessions.remove(&number) else {
            return;
        };
        let Some(process) = &mut here.process else {
            return;
        };
        if fate == SessionFate::Ended {
            self.stats.count("sessions not taken over");
            return self.session_ended(session);
        }
        let life = process.life;
        let known = Session {
            conn: 0,
            broken: Some(self.now),
            ..session
        };
        process.sessions.insert(number, known);
        self.stats.count("sessions taken over");
        self.books.goes_on(session.no, life);
        let client = session.no;
        self.fact(&Fact::GoesOn { client, life });
    }

    /// How long a client of a daemon that may be started anew has its session kept.
    pub(crate) fn long_grace(&mut self) -> u32 {
        self.dice.rest.between(2 * SEC / MS, 10 * SEC / MS) as u32
    }
}
