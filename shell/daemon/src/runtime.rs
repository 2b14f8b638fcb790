//! The main loop: whatever arrived goes into the node, and what the node wants done is done.
//!
//! Each round takes in everything that has arrived, then lets the node pack its frames, then
//! carries out its effects in their order; each peer and each client gets one write per round.
//! Time is `CLOCK_BOOTTIME`, which neither a change of the wall clock nor a suspend disturbs.

use crate::{
    config::Config,
    events::EventLog,
    exit,
    handover::HandOver,
    inbox::{Arrival, SharedInbox},
    ipc::{Gate, Greeting, Newcomer, Sessions},
    page::{SharedPage, survive_panics},
    recorder::Shelf,
    start,
};
use mainstay_base::{Instant, LinkId, NodeId, SessionId};
use mainstay_node::{Effect, Input, Node, Outbox, PersistSeq};
use mainstay_recorder::Dump;
use mainstay_store::{Completion, Write, WriteKind, Writer};
use mainstay_transport::{EventReceiver, SendError, Transport, TransportEvent};
use mainstay_wire::{
    client::{Answer, Ask, PROTOCOL, PROTOCOL_MIN, ToClient, Welcome},
    event::{Event, Reason, What},
    keep::SessionKey,
    lock::Refusal,
};
use std::{collections::VecDeque, io, path::PathBuf, pin::Pin, sync::Arc, time::Duration};
use tokio::time::Sleep;

/// Frames taken in per round, so that clients get their turn under a flood.
const FRAMES_PER_ROUND: usize = 4096;
/// Arrivals dealt with per round, so that the links and the lease get their turn when thousands of clients
/// come or go at once.
const ARRIVALS_PER_ROUND: usize = 1024;
/// How long a round takes in frames, and how long it deals with arrivals: in a recovery a frame has much to
/// say, and whoever asks for something else meanwhile waits for the end of the round.
const TURN: Duration = Duration::from_millis(3);
/// How long what the node has to do by itself may wait while there are frames: what it has to say would only
/// make the others as busy, and whoever asks for something over a link waits behind all that.
const FRAMES_FIRST: Duration = Duration::from_millis(10);
/// Arrivals between two looks at the clock.
const ARRIVALS_PER_LOOK: usize = 16;
/// Bytes waiting for the disk beyond which clients are not read.
const DISK_BACKLOG_MAX: u64 = 16 << 20;
/// Time for a clean leave before the daemon stops without one.
const LEAVE_TIME: Duration = Duration::from_secs(10);
/// A deadline missed by more than this is worth a line in the log.
const LATE: Duration = Duration::from_millis(250);
/// Longest sleep: the timer does not count suspend, so it must not be trusted for long.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// What a runtime is made of.
pub(crate) struct RuntimeParts {
    pub(crate) config: Config,
    pub(crate) node: Node,
    pub(crate) transport: Transport,
    pub(crate) events: EventReceiver,
    pub(crate) writer: Writer,
    pub(crate) generation: u64,
    pub(crate) page: SharedPage,
    pub(crate) inbox: SharedInbox,
    pub(crate) gate: Arc<Gate>,
}

/// A frame that waits for a write.
struct Held {
    after: PersistSeq,
    to: NodeId,
    link: LinkId,
    frame: Vec<u8>,
}

/// The daemon at work.
pub(crate) struct Runtime {
    config: Config,
    node: Node,
    outbox: Outbox,
    transport: Transport,
    events: EventReceiver,
    /// Taken out only while the node is reborn.
    writer: Option<Writer>,
    /// Counts the lives of the node within this daemon; also the lease page's generation.
    life: u64,
    page: SharedPage,
    inbox: SharedInbox,
    /// Taken from the inbox, but its turn has not come yet.
    arrivals: VecDeque<Arrival>,
    gate: Arc<Gate>,
    shelf: Shelf,
    handover: HandOver,
    sessions: Sessions,
    log: EventLog,
    held: VecDeque<Held>,
    durable: PersistSeq,
    now: Instant,
    /// When the daemon gives up leaving cleanly.
    stop_by: Option<Instant>,
    disk_failed: bool,
    /// A frame was refused for lack of room in this round.
    backlog: bool,
    /// Frames may have been left in this round.
    cut_short: bool,
    /// When the node last did what it had to do by itself.
    woken: Instant,
    end: Option<u8>,
}

impl Runtime {
    pub(crate) fn new(parts: RuntimeParts) -> Runtime {
        Runtime {
            shelf: Shelf::new(&parts.config.state_dir, &parts.config.recorder),
            handover: HandOver::new(&parts.config.state_dir),
            config: parts.config,
            node: parts.node,
            outbox: Outbox::default(),
            transport: parts.transport,
            events: parts.events,
            writer: Some(parts.writer),
            life: parts.generation,
            page: parts.page,
            sessions: Sessions::new(Arc::clone(&parts.inbox)),
            inbox: parts.inbox,
            arrivals: VecDeque::new(),
            gate: parts.gate,
            log: EventLog::default(),
            held: VecDeque::new(),
            durable: PersistSeq(0),
            now: mainstay_lease::now(),
            stop_by: None,
            disk_failed: false,
            backlog: false,
            cut_short: false,
            woken: mainstay_lease::now(),
            end: None,
        }
    }

    /// Runs until the node has stopped; returns the exit code.
    pub(crate) async fn run(mut self) -> u8 {
        let mut sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        loop {
            let frame = self.wait(sleep.as_mut()).await;
            self.round(frame);
            if let Some(code) = self.end {
                return self.shut_down(code).await;
            }
        }
    }

    /// Waits until there is something to do. A transport event that ended the wait is returned.
    async fn wait(&mut self, mut sleep: Pin<&mut Sleep>) -> Option<TransportEvent> {
        let due = self.node.deadline();
        let due = due.is_some_and(|due| due <= mainstay_lease::now());
        if due || self.cut_short || !self.arrivals.is_empty() {
            // The sockets are looked at in between. Where one round follows another at once, that would be
            // after a hundred of them otherwise.
            tokio::task::yield_now().await;
            return None;
        }
        let mut wake = self.now + SLEEP_MAX;
        if let Some(deadline) = self.node.deadline() {
            wake = wake.min(deadline);
        }
        if let Some(stop_by) = self.stop_by {
            wake = wake.min(stop_by);
        }
        let after = wake.since(mainstay_lease::now());
        let at = tokio::time::Instant::now() + after;
        // Setting a timer costs more than looking at it.
        let earlier = sleep.deadline().saturating_duration_since(at);
        let later = at.saturating_duration_since(sleep.deadline());
        if sleep.is_elapsed() || earlier.max(later) > Duration::from_micros(500) {
            sleep.as_mut().reset(at);
        }
        tokio::select! {
            biased;
            () = self.inbox.ready() => None,
            event = self.events.recv() => event,
            () = sleep => None,
        }
    }

    fn round(&mut self, first: Option<TransportEvent>) {
        let expected = self.node.deadline();
        if self.arrivals.is_empty() {
            self.inbox.take(&mut self.arrivals);
        }
        // Not before: nothing that a client has sent may seem to be sent later than it arrived
        // (docs/protocol/keeping.md, rule 11).
        self.now = mainstay_lease::now();
        if let Some(expected) = expected {
            let late = self.now.since(expected);
            if late > LATE {
                tracing::warn!(
                    late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX),
                    "this daemon was not run when it was due: it was stopped, the host was \
                     suspended, or the processor is overloaded"
                );
            }
        }
        let mut frame = first;
        self.cut_short = false;
        for done in 0..FRAMES_PER_ROUND {
            if done > 0 && is_over(self.now) {
                self.cut_short = true;
                break;
            }
            let Some(event) = frame.take().or_else(|| self.events.try_recv()) else {
                break;
            };
            self.transport_event(event);
        }
        let began = mainstay_lease::now();
        for done in 0..ARRIVALS_PER_ROUND {
            if done > 0 && done % ARRIVALS_PER_LOOK == 0 && is_over(began) {
                break;
            }
            let Some(arrival) = self.arrivals.pop_front() else {
                break;
            };
            self.arrival(arrival);
        }
        let patient = self.cut_short && self.now.since(self.woken) < FRAMES_FIRST;
        let woken = mainstay_lease::now();
        while !patient && self.node.deadline().is_some_and(|d| d <= self.now) {
            self.woken = self.now;
            self.step(Input::Wake);
            // The locks have waited for frames, and have as much time now as these have in a round.
            let locks = self.node.lock_manager().deadline();
            if !self.cut_short || is_over(woken) || locks.is_none_or(|due| due > self.now) {
                break;
            }
        }
        self.backlog = false;
        loop {
            let (node, outbox, now) = (&mut self.node, &mut self.outbox, self.now);
            if survive_panics(|| node.flush(now, outbox)).is_err() {
                self.die_of_a_defect();
            }
            self.carry_out();
            self.transport.flush();
            let closed = self.sessions.flush();
            if closed.is_empty() || self.end.is_some() {
                break;
            }
            for session in closed {
                self.step(Input::SessionClosed { session });
            }
        }
        self.press_back();
        if self.stop_by.is_some_and(|by| by <= self.now) {
            self.give_up("the cluster did not confirm within 10 s that this node left");
        }
    }

    fn step(&mut self, input: Input) {
        let (node, outbox, now) = (&mut self.node, &mut self.outbox, self.now);
        if survive_panics(|| node.step(now, input, outbox)).is_err() {
            self.die_of_a_defect();
        }
    }

    /// The node panicked. Its memory cannot be trusted any more, but what its flight recorder has is
    /// what is wanted now. The lease has been revoked.
    fn die_of_a_defect(&mut self) -> ! {
        let recorded = survive_panics(|| self.node.recorded("a defect: the node panicked"));
        if let Ok(mut dump) = recorded
            && self.config.recorder.bytes > 0
        {
            self.shelf.date(&mut dump, self.now);
            tell_dumped(&self.shelf.put(&dump));
        }
        std::process::abort();
    }

    /// Stops reading clients while links or disk take less than there is to do.
    fn press_back(&mut self) {
        let disk = self
            .writer
            .as_ref()
            .is_some_and(|w| w.queued_bytes() > DISK_BACKLOG_MAX);
        self.gate
            .set_closed(disk || self.backlog || self.node.congested());
    }

    fn transport_event(&mut self, event: TransportEvent) {
        let input = match event {
            TransportEvent::Frame { peer, link, bytes } => Input::Frame { peer, link, bytes },
            TransportEvent::Up {
                peer,
                link,
                boot,
                address,
            } => {
                tracing::debug!(%peer, %link, boot = boot.0, %address, "connected");
                Input::LinkUp { peer, link }
            }
            TransportEvent::Down { peer, link, reason } => Input::LinkDown {
                peer,
                link,
                detail: reason.to_string(),
            },
            TransportEvent::Refused {
                peer,
                link,
                reason,
                by_us,
                address,
            } => {
                let who = if by_us {
                    "refused here"
                } else {
                    "refused by the peer"
                };
                Input::Notice {
                    what: What::Refused { peer, link },
                    reason: Reason::PeerRefused,
                    detail: format!("{address} {who}: {reason}"),
                }
            }
        };
        self.step(input);
    }

    fn arrival(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Opened(newcomer) => self.welcome(newcomer),
            Arrival::Asked {
                session,
                request,
                ask,
            } => {
                if let Some(session) = self.sessions.on(session) {
                    self.asked(session, request, ask);
                }
            }
            Arrival::Broken { session, why } => {
                if let Some(session) = self.sessions.on(session) {
                    tracing::warn!(%session, "closing a client that broke the protocol: {why}");
                    self.sessions.send(
                        session,
                        &ToClient::SessionLost {
                            reason: format!("the client broke the protocol: {why}"),
                        },
                    );
                    self.sessions.close(session);
                    self.step(Input::SessionClosed { session });
                }
            }
            Arrival::Closed { session } => {
                if let Some(session) = self.sessions.on(session) {
                    self.sessions.drop_now(session);
                    self.step(Input::SessionClosed { session });
                }
            }
            Arrival::Writable { session } => self.sessions.writable(session),
            Arrival::Stored { life, completion } if life == self.life => self.stored(completion),
            Arrival::Stored { .. } => {}
            Arrival::Dumped { asker, result } => self.dumped(asker, &result),
            Arrival::Carried { result } => self.step(Input::Carried { result }),
            Arrival::Signal(name) => self.stop_asked(name),
        }
    }

    fn welcome(&mut self, newcomer: Newcomer) {
        let (request, (min, max)) = match newcomer.greeting {
            Greeting::Hello { request, versions } => (request, versions),
            Greeting::Reattach {
                session,
                key,
                heard,
            } => return self.continue_session(newcomer, session, key, heard),
        };
        let session = newcomer.session;
        let owner = newcomer.owner.clone();
        let (group, privileged) = (newcomer.group, newcomer.privileged);
        self.sessions.open(newcomer);
        if min > max || max < PROTOCOL_MIN || min > PROTOCOL {
            let why = format!(
                "the client speaks protocol versions {min} to {max}, this daemon {PROTOCOL_MIN} \
                 to {PROTOCOL}; upgrade the older of the two"
            );
            tracing::warn!(%session, pid = owner.pid, "refused a client: {why}");
            self.answer(session, request, Err(Refusal::Invalid(why)));
            self.sessions.close(session);
            return;
        }
        if let Err(why) = self.node.may_connect(owner.uid, privileged) {
            tracing::warn!(%session, pid = owner.pid, "refused a client: {why}");
            self.answer(session, request, Err(why));
            self.sessions.close(session);
            return;
        }
        tracing::debug!(%session, pid = owner.pid, uid = owner.uid, command = owner.command, "client");
        self.step(Input::SessionOpened {
            session,
            owner,
            group,
            privileged,
        });
        let this = self.config.this_node();
        let welcome = Welcome {
            protocol: max.min(PROTOCOL),
            session,
            node: this.id,
            node_name: this.name.clone(),
            cluster: self.config.cluster.clone(),
            cluster_id: self.node.cluster_state().id(),
            generation: self.life,
            lease_until: self.page.until(),
        };
        self.answer(session, request, Ok(Answer::Welcome(welcome)));
    }

    fn answer(&mut self, session: SessionId, request: u64, result: Result<Answer, Refusal>) {
        if self.node.is_kept(session) {
            // The node counts what such a session is told.
            self.step(Input::Answered {
                session,
                request,
                result,
            });
        } else {
            self.sessions
                .send(session, &ToClient::Done { request, result });
        }
    }

    /// A connection that is to continue a session.
    fn continue_session(
        &mut self,
        newcomer: Newcomer,
        session: SessionId,
        key: SessionKey,
        heard: u64,
    ) {
        if self.node.expects(session) {
            // It is not time yet: the client tries again.
            return self.sessions.put_off(&newcomer);
        }
        let connection = newcomer.session;
        let reattach = Input::Reattach {
            connection,
            session,
            key,
            heard,
            uid: newcomer.owner.uid,
        };
        self.sessions.arrive(newcomer);
        self.step(reattach);
        // At once, so that what arrives on the connection from here on is known to be the session's.
        self.carry_out();
        // A node that is over has said nothing.
        self.sessions.turn_away(connection, Refusal::NoSuchSession);
    }

    fn asked(&mut self, session: SessionId, request: u64, ask: Ask) {
        match ask {
            _ if self.node.is_repeated(session, request) => self.sessions.ignore(session),
            Ask::KeepSession { .. } if self.sessions.is_subscribed(session) => {
                let why = "a session that gets events cannot be kept: open another".to_owned();
                self.answer(session, request, Err(Refusal::Invalid(why)));
            }
            Ask::KeepSession { .. }
                if !self.node.is_kept(session) && !self.sessions.may_be_kept(session) =>
            {
                let why = "a session can be kept only while no other call is open and nothing waits to be \
                           told: ask for it first of all, and wait for the answer";
                self.answer(session, request, Err(Refusal::Invalid(why.to_owned())));
            }
            Ask::KeepSession { grace_ms } => match start::draw_session_key() {
                Ok(key) => self.step(Input::Keep {
                    session,
                    request,
                    grace_ms,
                    key,
                }),
                Err(error) => {
                    let why = format!("no key could be drawn: {error}");
                    self.answer(session, request, Err(Refusal::Unavailable(why)));
                }
            },
            // What it is told is counted, and so the node must say all of it.
            ask if self.node.is_kept(session) => self.step(Input::Request {
                session,
                request,
                ask,
            }),
            Ask::Ping => self.answer(session, request, Ok(Answer::Pong)),
            Ask::Events { backlog } => {
                self.answer(session, request, Ok(Answer::Subscribed));
                for event in self.log.last(backlog) {
                    self.sessions.tell_one(session, event);
                }
                self.sessions.subscribe(session);
            }
            Ask::Hello { .. } => {
                let why = "this session has already said hello".to_owned();
                self.answer(session, request, Err(Refusal::Invalid(why)));
            }
            ask => self.step(Input::Request {
                session,
                request,
                ask,
            }),
        }
    }

    fn stored(&mut self, completion: Completion) {
        match completion.result {
            Ok(()) => {
                let seq = PersistSeq(completion.token);
                self.durable = self.durable.max(seq);
                while self.held.front().is_some_and(|h| h.after <= seq)
                    && let Some(held) = self.held.pop_front()
                {
                    self.send(held.to, held.link, &held.frame);
                }
                self.step(Input::Persisted(seq));
            }
            Err(error) => {
                self.disk_failed = true;
                self.step(Input::PersistFailed {
                    detail: error.to_string(),
                });
            }
        }
    }

    /// Has a dump written: in a thread of its own if somebody waits for it, otherwise at once, since
    /// the daemon is about to end.
    fn dump(&mut self, mut dump: Box<Dump>, asker: Option<(SessionId, u64)>) {
        self.shelf.date(&mut dump, self.now);
        if asker.is_none() {
            return tell_dumped(&self.shelf.put(&dump));
        }
        let (shelf, inbox) = (self.shelf.clone(), Arc::clone(&self.inbox));
        tokio::task::spawn_blocking(move || {
            let result = shelf.put(&dump);
            inbox.push(Arrival::Dumped { asker, result });
        });
    }

    fn dumped(&mut self, asker: Option<(SessionId, u64)>, result: &io::Result<(PathBuf, u64)>) {
        tell_dumped(result);
        let Some((session, request)) = asker else {
            return;
        };
        let answer = match result {
            Ok((path, bytes)) => Ok(Answer::Dumped {
                path: path.display().to_string(),
                bytes: *bytes,
            }),
            Err(error) => Err(Refusal::Unavailable(format!(
                "the dump cannot be written to the state directory {}: {error}",
                self.config.state_dir.display()
            ))),
        };
        self.answer(session, request, answer);
    }

    fn stop_asked(&mut self, signal: &str) {
        if self.stop_by.is_some() {
            self.give_up("a second signal asked to stop at once");
            return;
        }
        tracing::info!(signal, "leaving the cluster; a second signal stops at once");
        self.stop_by = Some(self.now + LEAVE_TIME);
        self.step(Input::Stop);
    }

    fn give_up(&mut self, why: &str) {
        if self.end.is_none() {
            self.page.revoke();
            tracing::error!(
                "stopping without a clean leave: {why}. The other nodes go on when this one's \
                 lease has run out"
            );
            self.end = Some(exit::TEMPORARY);
        }
    }

    fn carry_out(&mut self) {
        let mut effects = std::mem::take(&mut self.outbox.effects);
        for effect in effects.drain(..) {
            if self.end.is_some() {
                break;
            }
            self.effect(effect);
        }
        // Keeps the allocation, unless a rebirth left effects of a new life.
        if self.outbox.effects.is_empty() {
            self.outbox.effects = effects;
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Send {
                to,
                link,
                frame,
                after,
            } => match after {
                Some(after) if after > self.durable => self.held.push_back(Held {
                    after,
                    to,
                    link,
                    frame,
                }),
                _ => self.send(to, link, &frame),
            },
            Effect::Persist {
                seq,
                records,
                replace,
            } => {
                let kind = if replace {
                    WriteKind::Replace(records)
                } else {
                    WriteKind::Append(records)
                };
                let write = Write { token: seq.0, kind };
                if let Some(writer) = &self.writer
                    && let Err(error) = writer.submit(write)
                {
                    self.inbox.push(Arrival::Stored {
                        life: self.life,
                        completion: Completion {
                            token: seq.0,
                            result: Err(error),
                        },
                    });
                }
            }
            Effect::Client { session, message } => self.sessions.send(session, &message),
            Effect::CloseSession { session } => self.sessions.close(session),
            Effect::Reattached {
                session,
                connection,
                unanswered,
            } => self.sessions.reattach(session, connection, unanswered),
            Effect::TurnedAway { connection, why } => self.sessions.turn_away(connection, why),
            Effect::Lease { until } => self.page.set_lease(until),
            Effect::Event(event) => self.tell(event),
            Effect::Carry { bytes } => self.carry(bytes),
            Effect::Dump { dump, asker } => self.dump(dump, asker),
            Effect::Reborn { detail } => self.reborn(&detail),
            Effect::Stop { clean, detail } => {
                self.page.revoke();
                if clean {
                    tracing::info!(detail, "the node has left");
                } else {
                    tracing::error!(detail, "the node stopped itself");
                }
                self.end = Some(match (clean, self.disk_failed) {
                    (true, _) => exit::OK,
                    (false, true) => exit::IO,
                    (false, false) => exit::INTERNAL,
                });
            }
        }
    }

    /// Has written what this node leaves to the next daemon, in a thread of its own; or removes it at once,
    /// since this node may be about to end.
    fn carry(&mut self, bytes: Option<Vec<u8>>) {
        let (handover, generation) = (self.handover.clone(), self.life);
        let Some(bytes) = bytes else {
            if let Err(error) = handover.put(generation, None) {
                tracing::error!(%error, "cannot remove what was written of kept sessions; they end all the same");
            }
            return;
        };
        let inbox = Arc::clone(&self.inbox);
        tokio::task::spawn_blocking(move || {
            let result = handover.put(generation, Some(&bytes));
            let result = result.map_err(|error| format!("they cannot be written down: {error}"));
            inbox.push(Arrival::Carried { result });
        });
    }

    fn tell(&mut self, event: Event) {
        let event = self.log.record(event);
        self.sessions.tell(event);
    }

    /// Sends a frame. One that cannot leave is lost, as on the wire; the node repeats what matters.
    fn send(&mut self, to: NodeId, link: LinkId, frame: &[u8]) {
        match self.transport.send(to, link, frame) {
            Ok(()) | Err(SendError::NotConnected) => {}
            Err(SendError::Backlog) => self.backlog = true,
            Err(error @ SendError::TooLong(_)) => {
                tracing::error!(peer = %to, %link, %error, "a frame was not sent");
            }
        }
    }

    /// Forgets the node and boots it anew from the journal.
    fn reborn(&mut self, detail: &str) {
        self.life += 1;
        self.page.set_generation(self.life);
        tracing::warn!(detail, "the node drops its state and joins anew");
        let lost = ToClient::SessionLost {
            reason: format!("this node lost its place in the cluster: {detail}"),
        };
        for session in self.sessions.ids() {
            self.sessions.send(session, &lost);
            self.sessions.close(session);
        }
        self.held.clear();
        self.durable = PersistSeq(0);
        if let Err(error) = self.boot_anew() {
            tracing::error!(%error, "cannot boot anew; the daemon stops");
            self.end = Some(error.exit_code());
        }
    }

    fn boot_anew(&mut self) -> Result<(), start::StartError> {
        if let Some(writer) = self.writer.take() {
            writer.close()?;
        }
        let boot = start::draw_boot_id()?;
        let (node, writer) = start::reopen(&self.config, &self.inbox, self.life, boot)?;
        let recorder = self.node.take_recorder();
        self.node = node;
        self.writer = Some(writer);
        self.now = mainstay_lease::now();
        self.node.record_to(self.now, recorder);
        self.transport.set_boot(boot);
        // What the old connections brought was for the old life.
        while self.events.try_recv().is_some() {}
        if self.stop_by.is_some() {
            self.step(Input::Stop);
        }
        Ok(())
    }

    async fn shut_down(mut self, code: u8) -> u8 {
        let closing = ToClient::SessionLost {
            reason: "the daemon stops".to_owned(),
        };
        for session in self.sessions.ids() {
            self.sessions.send(session, &closing);
            self.sessions.close(session);
        }
        self.transport.shutdown().await;
        if let Some(writer) = self.writer.take()
            && let Err(error) = writer.close()
        {
            tracing::error!(%error, "the journal did not close cleanly");
        }
        code
    }
}

/// Whether what began at that time has had its turn.
fn is_over(began: Instant) -> bool {
    mainstay_lease::now().since(began) >= TURN
}

fn tell_dumped(result: &io::Result<(PathBuf, u64)>) {
    match result {
        Ok((path, bytes)) => {
            tracing::info!(path = %path.display(), bytes, "wrote what the flight recorder remembers");
        }
        Err(error) => tracing::error!(%error, "cannot write what the flight recorder remembers"),
    }
}
