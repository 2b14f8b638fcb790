//! A daemon process around a node: takes inputs, carries out effects, dies, starts again.

use crate::{
    checkers::{
        Fact,
        books::{Life, LifeNo, Page, PageNo},
    },
    client::Mail,
    dice::{Dice, MS, SEC},
    disk::{Ended, Write},
    machine::Machine,
    rests::is_kept,
    users,
    world::{Ev, Up, World},
};
use mainstay_base::{BootId, Incarnation, Instant, LinkId, LockspaceName, NodeId, SessionId};
use mainstay_node::{BootInfo, Effect, Input, NodeConfig, Outbox, PersistSeq};
use mainstay_recorder::Dump;
use mainstay_wire::{
    client::{Ask, ToClient},
    event::What,
    keep::SessionKey,
    report::OwnerReport,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// Frames that wait for a stopped daemon at most; what exceeds the socket's buffer is lost.
const INBOX_MAX: usize = 20_000;

/// A node is looked through after so many times in which it dealt with all that had come.
const CHECKED_EVERY: u64 = 256;

/// What waits for a daemon to take it.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// For the node.
    Input(Input),
    /// A write ended.
    Disk(Ended),
    /// From a client.
    Client { conn: u64, what: Up },
}

/// A client's connection as the daemon knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    pub(crate) slot: usize,
    pub(crate) no: u32,
    /// Its present connection; 0 without one.
    pub(crate) conn: u64,
    /// The connection that it began on.
    pub(crate) home: u64,
    /// It outlives its connections.
    pub(crate) kept: bool,
    /// When the node said that it has none.
    pub(crate) broken: Option<u64>,
}

/// A running daemon.
pub(crate) struct Process {
    pub(crate) run: u64,
    /// Absent while a rebirth waits for outstanding writes.
    pub(crate) machine: Option<Box<dyn Machine>>,
    pub(crate) life: LifeNo,
    pub(crate) page: PageNo,
    inbox: VecDeque<Arrived>,
    carry: VecDeque<Effect>,
    run_due: bool,
    timer: u64,
    pub(crate) held: VecDeque<(PersistSeq, NodeId, LinkId, Vec<u8>)>,
    pub(crate) durable: PersistSeq,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) by_conn: BTreeMap<u64, SessionId>,
    /// Whose connections want to continue a session, and the node has not yet said.
    pub(crate) arriving: BTreeMap<u64, (usize, u32)>,
    /// Which of them have closed again.
    pub(crate) closed_early: BTreeSet<u64>,
    pub(crate) next_session: u64,
    /// How often it has dealt with all that had come.
    flushes: u64,
    /// This node's incarnation in the latest view that it installed.
    pub(crate) seen_as: Option<Incarnation>,
    /// This life has acted as a member.
    pub(crate) acted: bool,
    disk_failed: bool,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process")
            .field("run", &self.run)
            .field("life", &self.life)
            .field("inbox", &self.inbox.len())
            .finish_non_exhaustive()
    }
}

impl World {
    /// Starts a daemon after a while, unless something happens to it before.
    pub(crate) fn boot_in(&mut self, host: usize, wait: u64) {
        let token = self.unique();
        self.hosts[host].boot = token;
        self.at(wait, Ev::Boot { host, token });
    }

    /// Turns a host on if it was off, and starts its daemon if none runs.
    pub(crate) fn power_on(&mut self, host: usize) {
        if self.hosts[host].process.is_none() {
            let wait = self.dice.host.below(100 * MS);
            self.boot_in(host, wait);
        }
    }

    pub(crate) fn boot(&mut self, host: usize, token: u64) {
        if self.hosts[host].boot != token || self.hosts[host].process.is_some() {
            return;
        }
        self.hosts[host].power = true;
        let run = self.unique();
        let page = self.books.pages.len() as PageNo;
        self.books.pages.push(Page {
            generation: 1,
            over_at: 0,
        });
        self.hosts[host].process = Some(Process {
            run,
            machine: None,
            life: 0,
            page,
            inbox: VecDeque::new(),
            carry: VecDeque::new(),
            run_due: false,
            timer: 0,
            held: VecDeque::new(),
            durable: PersistSeq(0),
            sessions: BTreeMap::new(),
            by_conn: BTreeMap::new(),
            arriving: BTreeMap::new(),
            closed_early: BTreeSet::new(),
            next_session: 1,
            flushes: 0,
            seen_as: None,
            acted: false,
            disk_failed: false,
        });
        self.stats.count("boots");
        if !self.begin_life(host) {
            self.hosts[host].process = None;
        }
    }

    /// Reads the journal and makes a node of it. False if the node refuses.
    fn begin_life(&mut self, host: usize) -> bool {
        let found = match self.hosts[host].disk.open() {
            Ok(found) => found,
            Err(damage) => {
                self.refused(host, &damage.to_string());
                return false;
            }
        };
        if found.torn {
            self.stats.count("torn tails");
        }
        let records = found.records;
        let now = self.local(host);
        let config = NodeConfig {
            cluster: "simulated".to_owned(),
            me: self.hosts[host].id,
            nodes: self.params.nodes.clone(),
            timings: self.params.timings,
            fencing: self.params.fencing,
            deadlock: self.params.deadlock,
            orphan_expiry: self.params.orphan_expiry,
            max_grace: Duration::from_secs(10),
            max_rest: Duration::from_secs(60),
            masters: self.params.masters.clone(),
            slice: self.params.slice,
            window: self.params.window,
        };
        let carried = self.find_left(host);
        let info = BootInfo {
            carried,
            boot: BootId(self.dice.host.next_u64() | 1),
            disk: self.hosts[host].disk.id(),
            records,
            entropy: self.dice.host.next_u64(),
        };
        let count = info.records.len() as u64;
        let machine = match (self.maker)(now, config, info) {
            Ok(machine) => machine,
            Err(error) => {
                self.refused(host, &error.to_string());
                return false;
            }
        };
        let life = self.books.lives.len() as LifeNo;
        let damaged = self.hosts[host].damaged;
        let Some(process) = &mut self.hosts[host].process else {
            return false;
        };
        let (page, run) = (process.page, process.run);
        process.next_session = process.next_session.max(machine.next_session());
        process.machine = Some(machine);
        process.life = life;
        process.durable = PersistSeq(0);
        process.seen_as = None;
        process.acted = false;
        process.disk_failed = false;
        self.books.lives.push(Life {
            node: self.hosts[host].id,
            incarnation: None,
            page,
            generation: self.books.pages[page as usize].generation,
            leaving: false,
        });
        self.trace
            .note(self.now, "boot", &[host as u64, count], || {
                format!("host {} life {life}, {count} records", host + 1)
            });
        self.fact(&Fact::Booted { life, damaged });
        self.tell_links(host);
        self.schedule_run(host, run);
        true
    }

    fn refused(&mut self, host: usize, why: &str) {
        let id = self.hosts[host].id;
        self.trace.note(self.now, "refused", &[host as u64], || {
            format!("node {id} does not start: {why}")
        });
        if self.hosts[host].damaged {
            // The operator sees why, and makes a new state directory.
            self.stats.count("damage refused");
            self.wipe(host);
            self.boot_in(host, SEC);
        } else {
            let what = format!("node {id} refuses a journal that nothing damaged: {why}");
            self.judge.complain("D1 nothing lost", self.now, what);
        }
    }

    /// Puts something into a daemon's inbox.
    pub(crate) fn push(&mut self, host: usize, arrived: Arrived) {
        let Some(process) = &mut self.hosts[host].process else {
            return;
        };
        if process.inbox.len() >= INBOX_MAX
            && matches!(arrived, Arrived::Input(Input::Frame { .. }))
        {
            return;
        }
        process.inbox.push_back(arrived);
        let run = process.run;
        self.schedule_run(host, run);
    }

    fn schedule_run(&mut self, host: usize, run: u64) {
        let Some(process) = &mut self.hosts[host].process else {
            return;
        };
        if process.run_due {
            return;
        }
        process.run_due = true;
        let wait = 5_000 + self.dice.host.below(60_000);
        self.at(wait, Ev::Run { host, run });
    }

    pub(crate) fn timer(&mut self, host: usize, run: u64, timer: u64) {
        if let Some(process) = &self.hosts[host].process
            && process.run == run
            && process.timer == timer
        {
            self.schedule_run(host, run);
        }
    }

    /// Sets a daemon's timer by its node's deadline.
    pub(crate) fn set_timer(&mut self, host: usize) {
        let timer = self.unique();
        let late = match self.dice.host.below(20) {
            0 => self.dice.host.below(5 * MS),
            _ => self.dice.host.below(MS / 10),
        };
        let here = &mut self.hosts[host];
        let Some(process) = &mut here.process else {
            return;
        };
        let Some(deadline) = process.machine.as_ref().and_then(|m| m.deadline()) else {
            return;
        };
        process.timer = timer;
        let run = process.run;
        let wait = here.clock.real(deadline).saturating_sub(self.now) + late;
        self.at(wait.min(3600 * SEC), Ev::Wake { host, run, timer });
    }

    pub(crate) fn resume_node(&mut self, host: usize) {
        if let Some(process) = &mut self.hosts[host].process {
            process.run_due = false;
            let run = process.run;
            self.schedule_run(host, run);
        }
    }

    /// One turn of the daemon's loop: all inputs, then the effects.
    pub(crate) fn run_process(&mut self, host: usize, run: u64) {
        let here = &mut self.hosts[host];
        let Some(process) = &mut here.process else {
            return;
        };
        if process.run != run {
            return;
        }
        process.run_due = false;
        if here.node_pause.is_some() {
            return;
        }
        // Effects that a pause in the middle of a step left over come first.
        if !process.carry.is_empty() && !self.carry_out(host, run) {
            return;
        }
        let mut out = Outbox::default();
        let now = self.local(host);
        while let Some(arrived) = self.take(host, run) {
            let continues = matches!(
                &arrived,
                Arrived::Client {
                    what: Up::Reattach { .. },
                    ..
                }
            );
            self.feed(host, now, arrived, &mut out);
            if continues {
                // Whose connection it is must be known before anything else arrives.
                self.schedule_run(host, run);
                break;
            }
        }
        let Some(process) = self.process(host, run) else {
            return;
        };
        let Some(machine) = &process.machine else {
            return;
        };
        if machine.deadline().is_some_and(|deadline| deadline <= now) {
            self.step_node(host, now, Input::Wake, &mut out);
        }
        let Some(process) = self.process(host, run) else {
            return;
        };
        let Some(machine) = &mut process.machine else {
            return;
        };
        machine.flush(now, &mut out);
        if process.flushes.is_multiple_of(CHECKED_EVERY) {
            machine.check();
        }
        process.flushes += 1;
        let changes = machine.survivor_changes();
        process.carry.extend(out.effects);
        self.survivors_seen(host, changes);
        if self.carry_out(host, run) {
            self.set_timer(host);
        }
    }

    fn process(&mut self, host: usize, run: u64) -> Option<&mut Process> {
        self.hosts[host]
            .process
            .as_mut()
            .filter(|process| process.run == run)
    }

    fn take(&mut self, host: usize, run: u64) -> Option<Arrived> {
        let process = self.process(host, run)?;
        process.machine.as_ref()?;
        process.inbox.pop_front()
    }

    /// Hands one arrival to the node.
    fn feed(&mut self, host: usize, now: Instant, arrived: Arrived, out: &mut Outbox) {
        let input = match arrived {
            Arrived::Input(input) => Some(input),
            Arrived::Disk(Ended::Durable(seq)) => {
                self.release_sends(host, seq);
                Some(Input::Persisted(seq))
            }
            Arrived::Disk(Ended::Failed) => {
                if let Some(process) = &mut self.hosts[host].process {
                    process.disk_failed = true;
                }
                self.stats.count("failed writes");
                Some(Input::PersistFailed {
                    detail: "no space left on device".to_owned(),
                })
            }
            Arrived::Client { conn, what } => self.client_input(host, conn, what),
        };
        let Some(input) = input else {
            return;
        };
        if let Input::Stop = input
            && let Some(process) = &self.hosts[host].process
        {
            self.books.lives[process.life as usize].leaving = true;
        }
        let closed = match &input {
            Input::SessionClosed { session } => Some(*session),
            _ => None,
        };
        self.step_node(host, now, input, out);
        if closed.is_some_and(|session| self.detached(host, session)) {
            return;
        }
        if let Some(process) = &mut self.hosts[host].process
            && let Some(session) = closed
            && let Some(gone) = process.sessions.remove(&session)
        {
            process.by_conn.remove(&gone.conn);
            self.session_ended(gone);
        }
    }

    /// Gives a node an input, and sees whether it grants under a lease.
    fn step_node(&mut self, host: usize, now: Instant, input: Input, out: &mut Outbox) {
        let here = &mut self.hosts[host];
        let Some(process) = &mut here.process else {
            return;
        };
        let Some(machine) = &mut process.machine else {
            return;
        };
        let shown = here.leases.get(&process.page).copied();
        let (grants, told) = (machine.grants(), out.effects.len());
        machine.step(now, input, out);
        if machine.grants() == grants {
            return;
        }
        // What it was when the step began, or became in its course; effects of the steps before
        // this one are yet to be carried out.
        let lease_of = |effect: &Effect| match effect {
            Effect::Lease { until } => Some(*until),
            _ => None,
        };
        let (earlier, new) = out.effects.split_at(told);
        let before = earlier.iter().rev().find_map(lease_of).or(shown);
        let lease = new.iter().filter_map(lease_of).chain(before).max();
        let life = process.life;
        self.fact(&Fact::Granting {
            life,
            at: now,
            lease: lease.unwrap_or(Instant::ZERO),
        });
    }

    /// Turns what a client sent into an input; answers what the driver answers itself.
    fn client_input(&mut self, host: usize, conn: u64, what: Up) -> Option<Input> {
        let process = self.hosts[host].process.as_mut()?;
        match what {
            Up::Open { slot, no } => {
                let session = SessionId(process.next_session);
                process.next_session += 1;
                let begun = Session {
                    slot,
                    no,
                    conn,
                    home: conn,
                    kept: false,
                    broken: None,
                };
                process.sessions.insert(session, begun);
                process.by_conn.insert(conn, session);
                let life = process.life;
                let caller = users::caller(no, self.clients[slot].brain.name());
                self.mail(slot, no, conn, Mail::Welcome { life, session });
                Some(Input::SessionOpened {
                    group: caller.gid,
                    session,
                    owner: OwnerReport {
                        pid: no,
                        uid: caller.uid,
                        command: String::new(),
                        orphan_ms: None,
                        owner: mainstay_base::Owner::Session,
                        broken: None,
                    },
                    privileged: caller.privileged,
                })
            }
            Up::Reattach {
                slot,
                no,
                session,
                key,
                heard,
            } => {
                let expected = process.machine.as_ref().is_some_and(|m| m.expects(session));
                if expected {
                    self.stats.count("sessions not ready");
                    self.mail(slot, no, conn, Mail::Closed);
                    return None;
                }
                process.arriving.insert(conn, (slot, no));
                let caller = users::caller(no, self.clients[slot].brain.name());
                Some(Input::Reattach {
                    connection: SessionId(conn),
                    session,
                    key,
                    heard,
                    uid: caller.uid,
                })
            }
            Up::Ask {
                request,
                ask: Ask::KeepSession { grace_ms },
            } => {
                let session = *process.by_conn.get(&conn)?;
                let key = [0; 2].map(|_: u8| self.dice.keep.next_u64().to_ne_bytes());
                let mut drawn = SessionKey([0; 16]);
                drawn.0.copy_from_slice(key.as_flattened());
                Some(Input::Keep {
                    session,
                    request,
                    grace_ms,
                    key: drawn,
                })
            }
            Up::Ask { request, ask } => Some(Input::Request {
                session: *process.by_conn.get(&conn)?,
                request,
                ask,
            }),
            Up::Close => {
                let Some(session) = process.by_conn.get(&conn) else {
                    if process.arriving.contains_key(&conn) {
                        process.closed_early.insert(conn);
                    }
                    return None;
                };
                Some(Input::SessionClosed { session: *session })
            }
        }
    }

    /// Carries out effects in order. False if the process stopped, died or was paused on the way.
    fn carry_out(&mut self, host: usize, run: u64) -> bool {
        loop {
            if let Some(trap) = self.hosts[host].trap {
                let more = self
                    .process(host, run)
                    .is_some_and(|process| !process.carry.is_empty());
                if more && trap.skip == 0 {
                    self.hosts[host].trap = None;
                    match trap.pause {
                        Some(lasts) => self.pause_in_step(host, lasts),
                        None => {
                            self.stats.count("killed mid-step");
                            self.kill_node(host, trap.lasts);
                        }
                    }
                    return false;
                }
                if more && let Some(trap) = &mut self.hosts[host].trap {
                    trap.skip -= 1;
                }
            }
            let Some(process) = self.process(host, run) else {
                return false;
            };
            let Some(effect) = process.carry.pop_front() else {
                return true;
            };
            self.effect(host, effect);
        }
    }

    fn effect(&mut self, host: usize, effect: Effect) {
        let Some(process) = &mut self.hosts[host].process else {
            return;
        };
        match effect {
            Effect::Send {
                to,
                link,
                frame,
                after,
            } => match after {
                Some(seq) if seq > process.durable => {
                    process.held.push_back((seq, to, link, frame));
                }
                _ => self.send(host, to, link, frame),
            },
            Effect::Persist {
                seq,
                records,
                replace,
            } => {
                let bytes: usize = records.iter().map(|(_, payload)| payload.len()).sum();
                let words = [host as u64, seq.0, bytes as u64, u64::from(replace)];
                self.trace.note(self.now, "persist", &words, || {
                    format!("host {} write {} of {bytes} bytes", host + 1, seq.0)
                });
                self.stats.count("writes");
                self.hosts[host].disk.submit(Write {
                    seq,
                    records,
                    replace,
                });
                self.start_write(host);
            }
            Effect::Client { session, message } => {
                if let Some(known) = process.sessions.get_mut(&session) {
                    known.kept |= is_kept(&message);
                    let Session { slot, no, conn, .. } = *known;
                    self.mail(slot, no, conn, Mail::Message(Box::new(message)));
                }
            }
            Effect::CloseSession { session } => {
                let stays = process.machine.as_ref().is_some_and(|m| m.expects(session));
                if let Some(known) = process
                    .sessions
                    .get_mut(&session)
                    .filter(|s| s.kept && stays)
                {
                    let Session { slot, no, conn, .. } = *known;
                    known.conn = 0;
                    process.by_conn.remove(&conn);
                    self.mail(slot, no, conn, Mail::Closed);
                    // What waited loses its place.
                    self.fact(&Fact::ConnectionBroken { client: no });
                } else if let Some(gone) = process.sessions.remove(&session) {
                    let Session { slot, no, conn, .. } = gone;
                    process.by_conn.remove(&conn);
                    self.mail(slot, no, conn, Mail::Closed);
                    self.session_ended(gone);
                }
            }
            Effect::Lease { until } => self.show_lease(host, until),
            Effect::Event(event) => {
                self.event(host, &event);
                if let What::Session { session, fate, .. } = event.what {
                    self.session_told(host, session, fate);
                }
            }
            Effect::Reattached {
                session,
                connection,
                ..
            } => self.attach(host, session, connection.0),
            Effect::TurnedAway { connection, .. } => self.turn_away(host, connection.0),
            Effect::Carry { bytes } => self.carry(host, bytes),
            Effect::Dump { .. } => self.stats.count("dumps"),
            Effect::Reborn { detail } => {
                self.stats.count("rebirths");
                self.trace.note(self.now, "reborn", &[host as u64], || {
                    format!("host {}: {detail}", host + 1)
                });
                self.reborn(host);
            }
            Effect::Stop { clean, detail } => {
                let asked = self.books.lives[process.life as usize].leaving;
                let failed = process.disk_failed;
                self.trace
                    .note(self.now, "stop", &[host as u64, u64::from(clean)], || {
                        format!("host {} clean {clean}: {detail}", host + 1)
                    });
                self.stats
                    .count(if clean { "clean stops" } else { "failed stops" });
                if !asked && !failed {
                    let what = format!(
                        "node {} stopped by itself (clean: {clean}): {detail}",
                        self.hosts[host].id
                    );
                    self.judge.complain("L1 progress", self.now, what);
                }
                self.leave_behind(host);
                self.new_generation(host);
                let wait = self.dice.host.between(100 * MS, 5 * SEC);
                self.end_process(host, false);
                self.boot_in(host, wait);
            }
        }
    }

    /// The user that owns a lockspace, as a running node knows.
    pub(crate) fn owner_of(&self, node: NodeId, space: &LockspaceName) -> Option<u32> {
        let host = self.hosts.iter().find(|host| host.id == node)?;
        host.process.as_ref()?.machine.as_ref()?.owner_of(space)
    }

    /// What the flight recorders of all running nodes remember, dated by the true time.
    pub(crate) fn recorded(&mut self) -> Vec<Dump> {
        let mut dumps = Vec::new();
        for host in &mut self.hosts {
            let machine = host.process.as_mut().and_then(|p| p.machine.as_mut());
            if let Some(mut dump) = machine.and_then(|machine| machine.recorded()) {
                dump.head.at = host.clock.local(self.now);
                dump.head.unix_ms = self.now / MS;
                dumps.push(dump);
            }
        }
        dumps
    }

    fn start_write(&mut self, host: usize) {
        let epoch = self.hosts[host].disk_epoch;
        if let Some(takes) = self.hosts[host].disk.start(&mut self.dice.disk) {
            self.at(takes, Ev::DiskDone { host, epoch });
        }
    }

    /// A slow disk is quick again; so is the write under way.
    pub(crate) fn quicken_disk(&mut self, host: usize, latency: u64) {
        let here = &mut self.hosts[host];
        here.disk.latency = latency;
        if here.disk.in_flight() {
            here.disk_epoch += 1;
            let epoch = here.disk_epoch;
            self.at(latency, Ev::DiskDone { host, epoch });
        }
    }

    pub(crate) fn disk_done(&mut self, host: usize, epoch: u64) {
        if self.hosts[host].disk_epoch != epoch {
            return;
        }
        let ended = self.hosts[host].disk.finish();
        self.start_write(host);
        let Some(process) = &self.hosts[host].process else {
            return;
        };
        if process.machine.is_some() {
            self.push(host, Arrived::Disk(ended));
        } else if ended == Ended::Failed {
            // A rebirth that cannot wait for its writes is a failed daemon.
            self.new_generation(host);
            self.end_process(host, false);
            self.boot_in(host, SEC);
        } else if !self.hosts[host].disk.busy() && !self.begin_life(host) {
            self.end_process(host, false);
        }
    }

    /// Sessions of the present generation are dead, and the page says so.
    fn new_generation(&mut self, host: usize) {
        let Some(process) = &mut self.hosts[host].process else {
            return;
        };
        let page = process.page;
        let sessions = std::mem::take(&mut process.sessions);
        process.by_conn.clear();
        process.arriving.clear();
        process.closed_early.clear();
        self.books.pages[page as usize].generation += 1;
        self.books.pages[page as usize].over_at = 0;
        self.hosts[host].leases.insert(page, Instant::ZERO);
        for Session { slot, no, conn, .. } in sessions.into_values() {
            let lost = ToClient::SessionLost {
                reason: "the node starts anew".to_owned(),
            };
            self.mail(slot, no, conn, Mail::Message(Box::new(lost)));
            self.mail(slot, no, conn, Mail::Closed);
        }
    }

    fn reborn(&mut self, host: usize) {
        self.new_generation(host);
        let Some(process) = &mut self.hosts[host].process else {
            return;
        };
        process.machine = None;
        process.carry.clear();
        process.held.clear();
        let inbox = std::mem::take(&mut process.inbox);
        let life = process.life;
        for arrived in inbox {
            if let Arrived::Client {
                conn,
                what: Up::Open { slot, no } | Up::Reattach { slot, no, .. },
            } = arrived
            {
                self.mail(slot, no, conn, Mail::Closed);
            }
        }
        self.fact(&Fact::LifeEnded { life });
        if !self.hosts[host].disk.busy() && !self.begin_life(host) {
            self.end_process(host, false);
        }
    }

    pub(crate) fn kill_node(&mut self, host: usize, back_in: u64) {
        if self.hosts[host].process.is_some() {
            self.end_process(host, false);
            self.boot_in(host, back_in);
        }
    }

    pub(crate) fn power_fail(&mut self, host: usize, back_in: u64) {
        if !self.hosts[host].power {
            return;
        }
        for slot in 0..self.clients.len() {
            if self.clients[slot].host == host {
                self.kill_client(slot, back_in + SEC);
            }
        }
        self.hosts[host].power = false;
        // It is of an earlier start of the host.
        self.hosts[host].left.bytes = None;
        self.end_process(host, true);
        self.boot_in(host, back_in);
    }

    pub(crate) fn ask_to_leave(&mut self, host: usize) {
        self.push(host, Arrived::Input(Input::Stop));
    }

    /// A daemon is no more, by its own doing, by a signal or for lack of power.
    fn end_process(&mut self, host: usize, power: bool) {
        self.hosts[host].disk_epoch += 1;
        if power {
            self.hosts[host].disk.power_failed(&mut self.dice.disk);
        } else {
            self.hosts[host].disk.process_died(&mut self.dice.disk);
        }
        let Some(process) = self.hosts[host].process.take() else {
            return;
        };
        self.trace
            .note(self.now, "end", &[host as u64, u64::from(power)], || {
                format!("host {} daemon ends, power failure: {power}", host + 1)
            });
        if process.machine.is_some() {
            self.fact(&Fact::LifeEnded { life: process.life });
        }
        for peer in (0..self.hosts.len()).filter(|peer| *peer != host) {
            for link in 0..self.params.links {
                let silent = power || !self.net.passable(host, peer, link);
                let notice = if silent { 15 * SEC } else { 20 * MS };
                let within = if host < peer {
                    [0, notice]
                } else {
                    [notice, 0]
                };
                self.break_conn(host, peer, link, within);
                // The dead know nothing.
                self.net.conn_mut(host, peer, link).ends[usize::from(host > peer)] = false;
            }
        }
        let opens = process.inbox.iter().filter_map(|arrived| match arrived {
            Arrived::Client {
                conn,
                what: Up::Open { slot, no } | Up::Reattach { slot, no, .. },
            } => Some((*slot, *no, *conn)),
            _ => None,
        });
        let arriving = process.arriving.iter();
        let opens = opens.chain(arriving.map(|(conn, (slot, no))| (*slot, *no, *conn)));
        let open = process.sessions.values().map(|s| (s.slot, s.no, s.conn));
        for (slot, no, conn) in open.chain(opens).collect::<Vec<_>>() {
            self.mail(slot, no, conn, Mail::Closed);
        }
    }

    /// Something arrives from a client's socket.
    pub(crate) fn take_from_client(&mut self, host: usize, run: u64, conn: u64, what: Up) {
        if self.lost.contains(&conn) && !matches!(what, Up::Close) {
            return;
        }
        match &self.hosts[host].process {
            Some(process) if process.run == run => {
                // While a rebirth waits nobody is let in.
                if process.machine.is_none() {
                    if let Up::Open { slot, no } | Up::Reattach { slot, no, .. } = what {
                        self.mail(slot, no, conn, Mail::Closed);
                    }
                } else {
                    self.push(host, Arrived::Client { conn, what });
                }
            }
            _ => {
                if let Up::Open { slot, no } | Up::Reattach { slot, no, .. } = what {
                    self.mail(slot, no, conn, Mail::Closed);
                }
            }
        }
    }
}
