//! Clients whose sessions are kept: their connections break, what is on its way is lost, the daemon
//! notices late, and they come back in time, twice at once, too late or not at all.

use crate::{
    checkers::{Fact, books::LifeNo},
    client::{Call, Client, Link, Mail},
    dice::{Dice, MS, SEC},
    process::Session,
    workloads::Kind,
    world::{Ev, Up, World},
};
use mainstay_base::{Instant, SessionId};
use mainstay_wire::{client::Ask, event::SessionFate, keep::SessionKey};
use std::{collections::BTreeMap, time::Duration};

/// What a client remembers so that its session can go on.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// For how long it has its session kept.
    pub grace_ms: u32,
    /// The session.
    pub session: SessionId,
    /// What it needs to continue it, once the daemon has said so.
    pub key: Option<SessionKey>,
    /// Messages heard.
    heard: u64,
    /// Requests that may not have arrived.
    repeat: BTreeMap<u64, Ask>,
    /// When requests were made whose answers prove that the session is kept; on the host's clock.
    made: BTreeMap<u64, Instant>,
    /// Once so many messages were heard, that proves it, too.
    behind: Option<(u64, Instant)>,
    /// When it last asked to continue.
    dialed: Instant,
    /// Until then the session is kept for certain; on the host's clock.
    sure_until: Instant,
    /// When the connection broke.
    broken: u64,
    /// The life that continued the session last.
    life: Option<LifeNo>,
    /// When it tries again, however often that was arranged.
    redial: u64,
}

impl Keeping {
    fn new(grace_ms: u32) -> Keeping {
        Keeping {
            grace_ms,
            session: SessionId(0),
            key: None,
            heard: 0,
            repeat: BTreeMap::new(),
            made: BTreeMap::new(),
            behind: None,
            dialed: Instant::ZERO,
            sure_until: Instant::ZERO,
            broken: 0,
            life: None,
            redial: 0,
        }
    }

    pub(crate) fn forget_session(&mut self) {
        *self = Keeping::new(self.grace_ms);
    }

    fn grace(&self) -> u64 {
        u64::from(self.grace_ms) * MS
    }

    /// The daemon kept the session at that moment, or later.
    fn word(&mut self, at: Instant) {
        let until = at + Duration::from_millis(self.grace_ms.into());
        self.sure_until = self.sure_until.max(until);
    }

    /// A message was heard.
    pub(crate) fn hear(&mut self) {
        self.heard += u64::from(self.key.is_some());
        self.catch_up();
    }

    fn catch_up(&mut self) {
        let heard = self.heard;
        if let Some((_, at)) = self.behind.take_if(|(told, _)| *told <= heard) {
            self.word(at);
        }
    }

    /// A request was answered.
    pub(crate) fn answered(&mut self, request: u64) {
        self.repeat = self.repeat.split_off(&(request + 1));
        if let Some(made) = self.made.remove(&request) {
            self.word(made);
        }
    }
}

/// The longest grace, and what a node that was stopped may need to go on.
const KEPT_MAX: u64 = 20 * SEC;

/// Whether a kind of client knows how to go on. The others show what sessions do that are not kept.
fn knows(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Locks | Kind::Counters | Kind::Conversions | Kind::Tallies | Kind::Ranges
    )
}

impl World {
    /// Decides whether a new client has its session kept.
    pub(crate) fn let_keep(&mut self, client: &mut Client, kind: Kind) {
        if self.params.client_breaks > 0 && knows(kind) && self.dice.keep.percent(70) {
            let grace_ms = self.dice.keep.between(500, 1500) as u32;
            let grace_ms = match self.params.rests > 0 {
                true => self.long_grace(),
                false => grace_ms,
            };
            client.keeping = Some(Keeping::new(grace_ms));
        }
    }

    /// Whether a client may rely on what it was granted.
    pub(crate) fn relies(&self, slot: usize) -> bool {
        let client = &self.clients[slot];
        matches!(client.link, Link::Open | Link::Broken)
            && self.books.life_valid(client.life, self.now)
            && self.books.sure(client.no, self.now)
    }

    /// The daemon welcomed a client that wants to have its session kept.
    pub(crate) fn ask_to_keep(&mut self, slot: usize, session: SessionId) {
        if let Some(keeping) = &mut self.clients[slot].keeping {
            keeping.session = session;
            let grace_ms = keeping.grace_ms;
            self.ask(slot, Ask::KeepSession { grace_ms }, Call::Keep);
        }
    }

    /// The daemon keeps the session.
    pub(crate) fn kept(&mut self, slot: usize, key: SessionKey) {
        let no = self.clients[slot].no;
        if let Some(keeping) = &mut self.clients[slot].keeping {
            keeping.key = Some(key);
            let wait = keeping.grace() / 4;
            self.at(wait, Ev::KeepAlive { slot, no });
        }
        self.stats.count("sessions kept");
        self.be_sure(slot);
    }

    /// A request is made: it is repeated, if it may be lost. Whether it can be sent now.
    pub(crate) fn note_asked(&mut self, slot: usize, request: u64, ask: &Ask, call: &Call) -> bool {
        let local = self.local(self.clients[slot].host);
        let client = &mut self.clients[slot];
        let Some(keeping) = &mut client.keeping else {
            return true;
        };
        if matches!(call, Call::Keep | Call::Heard) {
            keeping.made.insert(request, local);
        }
        if keeping.key.is_some() {
            keeping.repeat.insert(request, ask.clone());
        }
        client.link == Link::Open
    }

    /// Tells the observer until when a client is sure of its session.
    pub(crate) fn be_sure(&mut self, slot: usize) {
        let client = &self.clients[slot];
        let Some(keeping) = client.keeping.as_ref().filter(|k| k.key.is_some()) else {
            return;
        };
        let (no, was) = (client.no, self.books.sure(client.no, self.now));
        let until = self.hosts[client.host].clock.real(keeping.sure_until);
        self.books.sure.insert(no, until);
        if !was && self.books.sure(no, self.now) {
            self.stats.count("sessions sure again");
            self.fact(&Fact::SureAgain { client: no });
        }
    }

    /// The rate of a host's clock has changed.
    pub(crate) fn clocks_changed(&mut self, host: usize) {
        for slot in 0..self.clients.len() {
            if self.clients[slot].host == host {
                self.be_sure(slot);
            }
        }
    }

    /// A client says what it has heard.
    pub(crate) fn keep_alive(&mut self, slot: usize, no: u32) {
        let client = &self.clients[slot];
        let Some(keeping) = client.keeping.as_ref().filter(|k| k.key.is_some()) else {
            return;
        };
        if client.no != no || !client.alive {
            return;
        }
        let (upto, wait) = (keeping.heard, keeping.grace() / 4);
        let mut calls = client.calls.values();
        let waits = calls.any(|call| matches!(call, Call::Heard));
        if client.link == Link::Open && !waits && !self.stopped(slot) {
            self.ask(slot, Ask::Heard { upto }, Call::Heard);
        }
        self.at(wait, Ev::KeepAlive { slot, no });
    }

    /// The connection of some client breaks.
    pub(crate) fn break_some(&mut self) {
        if self.calm || self.params.client_breaks == 0 {
            return;
        }
        let slot = self.dice.keep.below(self.clients.len() as u64) as usize;
        self.break_connection(slot);
        let wait = self.dice.keep.spread(self.params.client_breaks);
        self.at(wait, Ev::Breaker);
    }

    fn break_connection(&mut self, slot: usize) {
        let client = &self.clients[slot];
        let keeps = client.keeping.as_ref().is_some_and(|k| k.key.is_some());
        let linked = matches!(client.link, Link::Open | Link::Broken);
        if !keeps || !linked || !client.alive || client.conn == 0 {
            return;
        }
        self.stats.count("client connections broken");
        let (no, conn, last_up) = (client.no, client.conn, client.last_up);
        self.trace
            .note(self.now, "break", &[u64::from(no), conn], || {
                format!("the connection of client {no} breaks")
            });
        self.fact(&Fact::ConnectionBroken { client: no });
        if self.dice.keep.percent(50) {
            self.lost.insert(conn);
        }
        let grace = self.clients[slot]
            .keeping
            .as_ref()
            .map_or(0, Keeping::grace);
        // Mostly the daemon notices at once; sometimes only after the client has come back.
        let notices = match self.dice.keep.below(4) {
            0 => self.dice.keep.spread(grace / 2),
            _ => self.dice.keep.below(2 * MS),
        };
        let wait = last_up.saturating_sub(self.now) + 1 + notices;
        self.close_later(slot, conn, wait);
        self.lose_connection(slot);
    }

    fn close_later(&mut self, slot: usize, conn: u64, wait: u64) {
        let host = self.clients[slot].host;
        if let Some(process) = &self.hosts[host].process {
            let run = process.run;
            let what = Up::Close;
            self.at(
                wait,
                Ev::Up {
                    host,
                    run,
                    conn,
                    what,
                },
            );
        }
    }

    /// A client whose session is kept has no connection any more.
    pub(crate) fn lose_connection(&mut self, slot: usize) {
        let now = self.now;
        let client = &mut self.clients[slot];
        let Some(keeping) = &mut client.keeping else {
            return;
        };
        let turned_away = client.link != Link::Open;
        if !turned_away {
            keeping.broken = now;
        }
        client.link = Link::Broken;
        client.conn = 0;
        let grace = keeping.grace();
        if turned_away && now > keeping.broken + 2 * grace {
            return self.lose_session(slot);
        }
        let wait = match self.dice.keep.below(10) {
            0..=5 => self.dice.keep.below(50 * MS),
            _ if turned_away => self.dice.keep.between(200 * MS, 500 * MS),
            6..=7 => self.dice.keep.below(grace),
            _ => self.dice.keep.between(grace, 2 * grace),
        };
        self.redial_in(slot, wait);
    }

    fn redial_in(&mut self, slot: usize, wait: u64) {
        let (client, at) = (&mut self.clients[slot], self.now + wait);
        let no = client.no;
        if let Some(keeping) = &mut client.keeping {
            keeping.redial = at;
            self.at(wait, Ev::Redial { slot, no });
        }
    }

    /// A client tries to continue its session.
    pub(crate) fn redial(&mut self, slot: usize, no: u32) {
        let client = &self.clients[slot];
        if client.no != no || !client.alive || client.link != Link::Broken {
            return;
        }
        let Some(keeping) = client.keeping.clone() else {
            return;
        };
        let Some(key) = keeping.key.filter(|_| keeping.redial == self.now) else {
            return;
        };
        let host = client.host;
        // Until there is an answer.
        let again = self.dice.keep.between(200 * MS, 500 * MS);
        if self.stopped(slot) {
            return self.redial_in(slot, again);
        }
        if client.conn != 0 {
            // Nobody has answered; the daemon may be stopped.
            let conn = client.conn;
            self.close_later(slot, conn, MS);
        } else if self.hosts[host].process.is_none() {
            if self.now > keeping.broken + keeping.grace() {
                return self.lose_session(slot);
            }
            return self.redial_in(slot, again);
        }
        let conn = self.unique();
        let dialed = self.local(host);
        let client = &mut self.clients[slot];
        client.conn = conn;
        if let Some(keeping) = &mut client.keeping {
            keeping.dialed = dialed;
        }
        let up = Up::Reattach {
            slot,
            no,
            session: keeping.session,
            key,
            heard: keeping.heard,
        };
        self.send_up(slot, up);
        self.redial_in(slot, again);
    }

    /// The session goes on: what has not arrived is said again.
    pub(crate) fn reattached(&mut self, slot: usize, asked: u64, told: u64) {
        let lazily = self.dice.keep.percent(30);
        let client = &mut self.clients[slot];
        let Some(keeping) = &mut client.keeping else {
            return self.protocol(slot, "an answer to what it did not ask");
        };
        client.link = Link::Open;
        // The page that came with the connection.
        client.life = keeping.life.unwrap_or(client.life);
        // Some repeat whatever has no answer.
        if !lazily {
            keeping.repeat = keeping.repeat.split_off(&(asked + 1));
        }
        keeping.behind = Some((told, keeping.dialed));
        keeping.catch_up();
        let repeat = keeping.repeat.clone();
        self.stats.count("sessions continued");
        self.stats.add("requests repeated", repeat.len() as u64);
        self.be_sure(slot);
        for (request, ask) in repeat {
            self.send_up(slot, Up::Ask { request, ask });
        }
    }

    /// A node says what became of a session that is kept.
    pub(crate) fn session_told(&mut self, host: usize, session: SessionId, fate: SessionFate) {
        if self.hosts[host].left.sessions.contains_key(&session) && !self.is_of_life(host, session)
        {
            return self.left_told(host, session, fate);
        }
        let Some(process) = &mut self.hosts[host].process else {
            return;
        };
        match fate {
            SessionFate::Ended => {
                if let Some(gone) = process.sessions.remove(&session) {
                    process.by_conn.remove(&gone.conn);
                    self.stats.count("kept sessions ended");
                    self.session_ended(gone);
                }
            }
            fate => {
                if let Some(known) = process.sessions.get_mut(&session) {
                    let broken = matches!(fate, SessionFate::Broken { .. });
                    known.broken = broken.then_some(self.now);
                }
            }
        }
    }

    /// Once faults are over, a session must not be kept for much longer than any client asks for.
    pub(crate) fn watch_kept(&mut self) {
        let long = |broken: u64| self.now > broken + KEPT_MAX;
        let processes = self.hosts.iter().filter_map(|host| host.process.as_ref());
        let mut sessions = processes.flat_map(|process| process.sessions.values());
        let over = sessions.find(|session| session.broken.is_some_and(long));
        if let Some(Session { no, .. }) = over.filter(|_| self.calm) {
            let what = format!("the session of client {no} is kept beyond its grace");
            self.judge.complain("L1 progress", self.now, what);
        }
    }

    /// A node lets a connection continue a session.
    pub(crate) fn attach(&mut self, host: usize, session: SessionId, conn: u64) {
        let Some(process) = &mut self.hosts[host].process else {
            return;
        };
        process.arriving.remove(&conn);
        let Some(known) = process.sessions.get_mut(&session) else {
            return;
        };
        process.by_conn.remove(&known.conn);
        known.conn = conn;
        let life = process.life;
        let client = &mut self.clients[known.slot];
        if let Some(keeping) = &mut client.keeping
            && client.no == known.no
        {
            keeping.life = Some(life);
        }
        process.by_conn.insert(conn, session);
        if process.closed_early.remove(&conn) {
            let what = Up::Close;
            self.push(host, crate::process::Arrived::Client { conn, what });
        }
    }

    /// A node does not.
    pub(crate) fn turn_away(&mut self, host: usize, conn: u64) {
        let Some(process) = &mut self.hosts[host].process else {
            return;
        };
        process.closed_early.remove(&conn);
        if let Some((slot, no)) = process.arriving.remove(&conn) {
            self.stats.count("sessions not continued");
            self.mail(slot, no, conn, Mail::TurnedAway);
        }
    }

    /// The connection of a kept session is gone, as the daemon knows now.
    pub(crate) fn detached(&mut self, host: usize, session: SessionId) -> bool {
        let Some(process) = &mut self.hosts[host].process else {
            return false;
        };
        match process.sessions.get_mut(&session) {
            Some(known @ Session { kept: true, .. }) => {
                process.by_conn.remove(&known.conn);
                known.conn = 0;
                true
            }
            _ => false,
        }
    }
}
