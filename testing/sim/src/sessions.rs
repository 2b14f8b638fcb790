//! Clients at work: connecting, asking, believing, dying.

use crate::{
    checkers::Fact,
    client::{Call, Client, Command, Grant, Link, Lock, Mail, Phase, answer_name},
    dice::{Dice, MS},
    shares,
    trace::mix_bytes,
    users,
    words::{describe, tell_message},
    workloads::{Hands, Happened, Kind},
    world::{Ev, Up, World},
};
use mainstay_base::{Entropy, Flags, LockMode};
use mainstay_wire::{
    client::{Answer, Ask, ToClient},
    codec,
    lock::Refusal,
};

impl World {
    pub(crate) fn new_client(&mut self, host: usize, kind: Kind) -> Client {
        let no = self.next_client;
        self.next_client += 1;
        let dice = Entropy::new(self.dice.client.next_u64());
        let spaces = self.terrain.spaces.len();
        let mut client = Client::new(no, host, spaces, dice, kind.brain());
        self.let_keep(&mut client, kind);
        client
    }

    pub(crate) fn stopped(&self, slot: usize) -> bool {
        let client = &self.clients[slot];
        client.stalled || self.hosts[client.host].clients_pause.is_some()
    }

    /// A client tries to connect to the daemon of its host.
    pub(crate) fn hello(&mut self, slot: usize, no: u32) {
        let client = &self.clients[slot];
        if client.no != no || !client.alive || client.link != Link::Down {
            return;
        }
        let host = client.host;
        if self.stopped(slot) || self.hosts[host].process.is_none() {
            let wait = self.dice.client.between(50 * MS, 400 * MS);
            self.at(wait, Ev::Hello { slot, no });
            return;
        }
        let conn = self.unique();
        let client = &mut self.clients[slot];
        client.link = Link::Dialing;
        client.conn = conn;
        client.home = conn;
        client.last_up = self.now;
        client.last_down = self.now;
        self.send_up(slot, Up::Open { slot, no });
    }

    /// Sends something from a client to its daemon; nothing overtakes on a stream.
    pub(crate) fn send_up(&mut self, slot: usize, what: Up) {
        let delay = 5_000 + self.dice.client.spread(MS / 10);
        let client = &mut self.clients[slot];
        let host = client.host;
        let Some(process) = &self.hosts[host].process else {
            return;
        };
        let run = process.run;
        client.last_up = (self.now + delay).max(client.last_up + 1);
        let (wait, conn) = (client.last_up - self.now, client.conn);
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

    /// Sends something from a daemon to a client.
    pub(crate) fn mail(&mut self, slot: usize, no: u32, conn: u64, mail: Mail) {
        let delay = 5_000 + self.dice.client.spread(MS / 10);
        let client = &mut self.clients[slot];
        if client.no != no || client.conn != conn || conn == 0 {
            return;
        }
        client.last_down = (self.now + delay).max(client.last_down + 1);
        let wait = client.last_down - self.now;
        self.at(
            wait,
            Ev::Down {
                slot,
                no,
                conn,
                mail,
            },
        );
    }

    pub(crate) fn mail_arrives(&mut self, slot: usize, no: u32, conn: u64, mail: Mail) {
        let client = &mut self.clients[slot];
        if client.no != no || client.conn != conn || !client.alive {
            return;
        }
        client.mail.push_back((conn, mail));
        if !self.stopped(slot) {
            self.read_mail(slot);
        }
    }

    pub(crate) fn resume_clients(&mut self, host: usize) {
        for slot in 0..self.clients.len() {
            if self.clients[slot].host == host {
                self.resume_client(slot);
            }
        }
    }

    /// A client that was stopped goes on, if nothing else stops it.
    pub(crate) fn resume_client(&mut self, slot: usize) {
        if self.stopped(slot) || !self.clients[slot].alive {
            return;
        }
        // Whether it first sees its alarm or its mail is chance.
        let alarm_first = self.dice.client.percent(50);
        if alarm_first {
            self.ring(slot);
        }
        self.read_mail(slot);
        if !alarm_first {
            self.ring(slot);
        }
    }

    fn read_mail(&mut self, slot: usize) {
        while let Some((conn, mail)) = self.clients[slot].mail.pop_front() {
            if self.clients[slot].conn == conn {
                self.read(slot, mail);
            }
        }
    }

    fn read(&mut self, slot: usize, mail: Mail) {
        let no = self.clients[slot].no;
        match mail {
            Mail::Welcome { life, session } => {
                let client = &mut self.clients[slot];
                client.link = Link::Open;
                client.life = life;
                self.stats.count("sessions");
                if client.keeping.is_some() {
                    return self.ask_to_keep(slot, session);
                }
                for space in 0..self.terrain.spaces.len() {
                    self.open_space(slot, space);
                }
            }
            Mail::Message(message) => self.message(slot, *message),
            Mail::TurnedAway => self.lose_session(slot),
            Mail::Closed => {
                self.trace
                    .note(self.now, "eof", &[u64::from(no)], || format!("client {no}"));
                let keeping = self.clients[slot].keeping.as_ref();
                match keeping.is_some_and(|k| k.key.is_some()) {
                    true => self.lose_connection(slot),
                    false => self.lose_session(slot),
                }
            }
        }
    }

    pub(crate) fn lose_session(&mut self, slot: usize) {
        let client = &mut self.clients[slot];
        if client.link == Link::Down {
            return;
        }
        let (no, was_ready) = (client.no, client.ready);
        client.forget_session();
        self.books.disbelieve(no);
        self.books.sure.remove(&no);
        self.fact(&Fact::SessionOver { client: no });
        self.stats.count("sessions lost");
        if was_ready {
            self.tell(slot, Happened::Lost);
        }
        let wait = self.dice.client.between(10 * MS, 300 * MS);
        self.at(wait, Ev::Hello { slot, no });
    }

    /// Opens a lockspace, which exists already if it is not as it would be made by that.
    fn open_space(&mut self, slot: usize, space: usize) {
        match shares::make(&self.terrain, &self.terrain.spaces[space]) {
            Some(ask) => self.ask(slot, ask, Call::Create(space)),
            None => self.open_existing(slot, space),
        }
    }

    fn open_existing(&mut self, slot: usize, space: usize) {
        let name = self.terrain.spaces[space].clone();
        let ask = Ask::OpenLockspace {
            name,
            value_len: None,
        };
        self.ask(slot, ask, Call::Open(space));
    }

    pub(crate) fn reopen(&mut self, slot: usize, no: u32, conn: u64, space: usize) {
        let client = &self.clients[slot];
        let linked = matches!(client.link, Link::Open | Link::Broken);
        if client.no == no && client.home == conn && linked {
            self.open_space(slot, space);
        }
    }

    /// Sends a request, and remembers what it was.
    pub(crate) fn ask(&mut self, slot: usize, ask: Ask, call: Call) {
        let client = &mut self.clients[slot];
        let (no, request) = (client.no, client.next_request);
        client.next_request += 1;
        let asked = match &call {
            Call::Lock {
                handle,
                mode,
                flags,
            }
            | Call::Convert {
                handle,
                mode,
                flags,
                ..
            } => client
                .locks
                .get(handle)
                .map(|lock| (client.who(*handle), lock.res, *mode, *flags)),
            _ => None,
        };
        let (conn, life) = (client.home, client.life);
        client.calls.insert(request, call.clone());
        let words = [u64::from(no), request, mix_bytes(0, &codec::to_vec(&ask))];
        let what = describe(&ask);
        self.trace.note(self.now, "ask", &words, || {
            format!("client {no} call {request}: {what}")
        });
        self.fact(&Fact::Asked {
            client: no,
            request,
            what: &what,
        });
        if let Some((who, res, mode, flags)) = asked {
            self.fact(&Fact::LockAsked {
                who,
                request,
                res,
                mode,
                flags,
                conn,
                life,
            });
        }
        self.parts_asked(slot, request, &call);
        if self.note_asked(slot, request, &ask, &call) {
            self.send_up(slot, Up::Ask { request, ask });
        }
    }

    /// A message from the daemon.
    fn message(&mut self, slot: usize, message: ToClient) {
        let no = self.clients[slot].no;
        let words = [u64::from(no), mix_bytes(0, &codec::to_vec(&message))];
        self.trace
            .note(self.now, "told", &words, || tell_message(no, &message));
        if let ToClient::Done {
            request: 0,
            result: Ok(Answer::Reattached { asked, told }),
        } = message
        {
            return self.reattached(slot, asked, told);
        }
        if let Some(keeping) = &mut self.clients[slot].keeping {
            keeping.hear();
            if let ToClient::Done { request, .. } = &message {
                keeping.answered(*request);
            }
            self.be_sure(slot);
        }
        match message {
            ToClient::Done { request, result } => self.done(slot, request, result),
            ToClient::Blocking { handle, mode } => {
                self.stats.count("blocking notices");
                if self.clients[slot].locks.contains_key(&handle) {
                    self.tell(slot, Happened::Blocking(handle, mode));
                }
            }
            ToClient::RangeBlocking {
                handle,
                range,
                mode,
            } => {
                self.stats.count("blocking notices for ranges");
                if self.clients[slot].ranges.contains_key(&handle) {
                    self.tell(slot, Happened::RangeBlocking(handle, range, mode));
                }
            }
            ToClient::Demoted { handle } => self.demoted(slot, handle),
            ToClient::ValueChanged { handle, value } => self.value_told(slot, handle, value),
            ToClient::Overdue { .. } => {
                self.protocol(slot, "a broken promise that it never gave");
            }
            ToClient::Suspended { .. } => self.stats.count("suspended sessions"),
            ToClient::Resumed => self.stats.count("resumed sessions"),
            ToClient::SessionLost { .. } => self.lose_session(slot),
            ToClient::Event(_) | ToClient::EventsMissed(_) => {
                self.protocol(slot, "an event that it did not ask for");
            }
        }
    }

    pub(crate) fn protocol(&mut self, slot: usize, what: &str) {
        let what = format!("client {} got {what}", self.clients[slot].no);
        self.judge.complain("client protocol", self.now, what);
    }

    fn done(&mut self, slot: usize, request: u64, result: Result<Answer, Refusal>) {
        let client = &mut self.clients[slot];
        let no = client.no;
        let Some(call) = client.calls.remove(&request) else {
            self.protocol(
                slot,
                &format!(
                    "an answer to call {request} that it never made or that had been answered"
                ),
            );
            return;
        };
        if let Err(Refusal::DeadlockCycle(report)) = result.as_ref().map_err(Refusal::cause) {
            self.victim(no, request, report);
        }
        self.fact(&Fact::Answered {
            client: no,
            request,
        });
        self.judge_foreign(slot, &call, &result);
        if let Call::Adopt { handle, .. } = call {
            self.adoption_answered(no, handle);
        }
        match &result {
            Ok(
                Answer::Granted(_)
                | Answer::GrantedOtherwise { .. }
                | Answer::RangeSet { .. }
                | Answer::Updated(_),
            ) => self.judge_access(slot, &call, false),
            Err(Refusal::Denied(_)) => self.judge_access(slot, &call, true),
            result => self.judge_many(slot, &call, result),
        }
        match (call, result) {
            (Call::Create(space), Ok(Answer::LockspaceSet(_))) => {
                self.has_rules |= users::has_rules(&self.terrain, &self.terrain.spaces[space]);
                self.open_existing(slot, space);
            }
            (Call::Create(space), Err(Refusal::Invalid(_))) => {
                self.stats.count("lockspaces made by others");
                self.open_existing(slot, space);
            }
            (Call::Create(space) | Call::Open(space), result) => self.opened(slot, space, result),
            (
                call @ (Call::Lock { .. } | Call::Convert { .. } | Call::Adopt { .. }),
                Ok(answer @ (Answer::Granted(_) | Answer::GrantedOtherwise { .. })),
            ) => {
                if let Some(grant) = Grant::of(answer) {
                    self.granted(slot, &call, grant);
                }
            }
            // The answer to the unlock tells the rest.
            (Call::Lock { .. } | Call::Convert { .. }, Err(Refusal::Released)) => {
                self.stats.count("calls ended by force");
            }
            (Call::Lock { handle, .. } | Call::Adopt { handle, .. }, Err(refusal)) => {
                self.count_refusal(&refusal);
                if refusal == Refusal::NoSuchLockspace {
                    self.protocol(slot, "no-such-lockspace for one that it has opened");
                }
                self.clients[slot].locks.remove(&handle);
                self.tell(slot, Happened::Refused(handle, refusal));
            }
            (
                Call::Convert {
                    handle, publish, ..
                },
                Err(refusal),
            ) => self.conversion_refused(slot, handle, publish, refusal),
            (Call::Unlock { handle, publish }, result) => {
                self.unlocked(slot, handle, publish, result);
            }
            (Call::Range { handle }, Ok(Answer::RangeSet { token, holds })) => {
                self.range_set(slot, handle, token, holds);
            }
            (Call::Range { handle }, Err(refusal)) => {
                self.range_refused(slot, handle, refusal);
            }
            (Call::ReleaseRanges { handle }, result) => {
                self.ranges_released(slot, handle, result);
            }
            (Call::Set { members }, Ok(Answer::SetGranted { members: granted })) => {
                self.set_granted(slot, &members, granted);
            }
            (Call::Set { members }, Err(refusal)) => self.set_refused(slot, &members, &refusal),
            (call @ (Call::ConvertMany { .. } | Call::UnlockMany { .. }), result) => {
                self.many_done(slot, call, result);
            }
            (Call::UnlockTree { handles }, result) => self.tree_unlocked(slot, &handles, &result),
            (Call::Probe { handle }, result) => self.probed(slot, handle, result),
            (Call::Cancel { handle }, Ok(Answer::Cancelled) | Err(_)) => {
                self.stats.count("cancels answered");
                self.tell(slot, Happened::CancelAnswered(handle));
            }
            (Call::Update { handle }, result) => self.updated(slot, handle, result),
            (Call::Watch { handle }, Ok(Answer::Watching)) => {
                let who = self.clients[slot].who(handle);
                self.fact(&Fact::Watching { who });
            }
            (Call::Watch { handle }, Err(refusal)) => {
                // It may have been released meanwhile, or be on its way out.
                let gone = matches!(refusal, Refusal::NoSuchLock | Refusal::Busy);
                if !gone {
                    self.protocol(
                        slot,
                        &format!("its watch of {} refused: {refusal}", handle.0),
                    );
                }
            }
            (Call::Question, result) => {
                self.stats.count("questions answered");
                if let Ok(Answer::Status(report)) = &result
                    && let Some(id) = report.cluster_id
                {
                    self.stats.count("cluster numbers told");
                    self.fact(&Fact::Cluster { id });
                }
                self.tell(slot, Happened::Told(Box::new(result)));
            }
            (Call::Keep, Ok(Answer::Kept { key })) => {
                self.kept(slot, key);
                for space in 0..self.terrain.spaces.len() {
                    self.open_space(slot, space);
                }
            }
            (Call::Heard, Ok(Answer::Heard)) => {}
            (Call::Keep, Err(Refusal::Leaving)) => {
                self.send_up(slot, Up::Close);
                self.lose_session(slot);
            }
            (call @ (Call::Keep | Call::Heard), Err(why)) => {
                self.protocol(slot, &format!("`{why}` in answer to {call:?}"));
            }
            (Call::Audit, Ok(Answer::Locks(report))) => self.audits.push(Ok(*report)),
            (Call::Audit, Err(refusal)) => self.audits.push(Err(refusal.to_string())),
            (call, Ok(answer)) => {
                let what = format!("`{}` in answer to {call:?}", answer_name(&answer));
                self.protocol(slot, &what);
            }
        }
    }

    fn opened(&mut self, slot: usize, space: usize, result: Result<Answer, Refusal>) {
        let (no, conn) = (self.clients[slot].no, self.clients[slot].home);
        match result {
            Ok(Answer::Lockspace { id, value_len }) => {
                let name = self.terrain.spaces[space].clone();
                self.fact(&Fact::Lockspace {
                    name: &name,
                    id,
                    value_len,
                });
                let client = &mut self.clients[slot];
                client.spaces[space] = Some(id);
                if client.spaces.iter().all(Option::is_some) && !client.ready {
                    client.ready = true;
                    self.tell(slot, Happened::Ready);
                }
            }
            Ok(answer) => {
                let what = format!("`{}` in answer to open", answer_name(&answer));
                self.protocol(slot, &what);
            }
            Err(_) => {
                let wait = self.dice.client.between(50 * MS, 300 * MS);
                self.at(
                    wait,
                    Ev::Reopen {
                        slot,
                        no,
                        conn,
                        space,
                    },
                );
            }
        }
    }

    pub(crate) fn alarm(&mut self, slot: usize, no: u32, alarm: u64) {
        let client = &mut self.clients[slot];
        if client.no != no || client.alarm != alarm || !client.alive {
            return;
        }
        client.rang = true;
        if !self.stopped(slot) {
            self.ring(slot);
        }
    }

    fn ring(&mut self, slot: usize) {
        if std::mem::take(&mut self.clients[slot].rang) {
            self.tell(slot, Happened::Alarm);
        }
    }

    /// Lets a workload react, then does what it wants.
    pub(crate) fn tell(&mut self, slot: usize, happened: Happened) {
        // Without a session there is nothing to ask.
        if !self.clients[slot].ready && !matches!(happened, Happened::Lost) {
            return;
        }
        if self.frozen {
            let untold = &mut self.clients[slot].untold;
            if matches!(happened, Happened::Lost) {
                untold.clear(); // It was told to a session that is gone.
            }
            untold.push_back(happened);
            return;
        }
        let vouchable = self.vouchable();
        let valid = self.relies(slot);
        let client = &mut self.clients[slot];
        if !client.alive {
            return;
        }
        let mut hands = Hands {
            dice: &mut client.dice,
            client: client.no,
            terrain: &self.terrain,
            valid,
            draining: self.draining,
            vouchable: &vouchable,
            next_handle: &mut client.next_handle,
            commands: Vec::new(),
        };
        client.brain.react(&mut hands, happened);
        let commands = hands.commands;
        for command in commands {
            self.obey(slot, command);
        }
    }

    /// Tells everybody what was kept back while the world was frozen.
    pub(crate) fn thaw(&mut self) {
        self.frozen = false;
        for slot in 0..self.clients.len() {
            while let Some(happened) = self.clients[slot].untold.pop_front() {
                self.tell(slot, happened);
            }
        }
    }

    /// Nodes for whose vanished incarnations an operator could honestly vouch: their daemon is gone,
    /// so that no late promise can renew its lease, and no client of theirs can rely on anything.
    fn vouchable(&self) -> Vec<mainstay_base::NodeName> {
        if self.params.fencing == mainstay_base::FencePolicy::Lease {
            return Vec::new();
        }
        let harmful = |node, incarnation| {
            self.books.lives.iter().enumerate().any(|(number, life)| {
                life.node == node
                    && life.incarnation.is_none_or(|i| i == incarnation)
                    && (self.lives_on(number as u32)
                        || self.books.life_valid(number as u32, self.now))
            })
        };
        self.hosts
            .iter()
            .filter(|host| {
                let mut pending = self.unproved.iter().filter(|(n, _)| *n == host.id);
                pending.clone().next().is_some() && pending.all(|&(n, i)| !harmful(n, i))
            })
            .map(|host| host.name.clone())
            .collect()
    }

    /// Whether the daemon of a life still runs, be it paused.
    fn lives_on(&self, life: u32) -> bool {
        let processes = self.hosts.iter().filter_map(|host| host.process.as_ref());
        processes.into_iter().any(|process| process.life == life)
    }

    fn obey(&mut self, slot: usize, command: Command) {
        let client = &mut self.clients[slot];
        if !client.alive {
            return;
        }
        let no = client.no;
        match command {
            Command::Sleep(wait) => {
                client.alarm += 1;
                let alarm = client.alarm;
                client.rang = false;
                self.at(wait, Ev::Alarm { slot, no, alarm });
            }
            Command::Exit => self.kill_client(slot, MS),
            Command::Lock {
                handle,
                res,
                mode,
                flags,
                blocking,
                timeout_ms,
            } => {
                let (space, name) = self.terrain.resources[res as usize].clone();
                let Some(lockspace) = client.spaces[space] else {
                    return;
                };
                let flags = shares::with_priority(&self.terrain, &mut self.dice.client, res, flags);
                let phase = Phase::Asking;
                let demoted = false;
                let lock = Lock {
                    res,
                    phase,
                    demoted,
                };
                client.locks.insert(handle, lock);
                self.touched.entry(no).or_default().insert(res);
                let ask = Ask::Lock {
                    handle,
                    lockspace,
                    name,
                    mode,
                    flags,
                    blocking,
                    timeout_ms,
                };
                self.ask(
                    slot,
                    ask,
                    Call::Lock {
                        handle,
                        mode,
                        flags,
                    },
                );
            }
            Command::Range { .. } => self.set_range(slot, command),
            Command::ReleaseRanges { handle } => self.release_ranges(slot, handle),
            Command::LockSet {
                members,
                flags,
                timeout_ms,
            } => self.lock_set(slot, members, flags, timeout_ms),
            Command::ConvertMany { locks, timeout_ms } => {
                self.convert_many(slot, locks, timeout_ms);
            }
            Command::UnlockMany { handles } => self.unlock_many(slot, handles),
            Command::LockUnder(child) => self.lock_under(slot, &child),
            Command::UnlockTree { handle, itself } => self.unlock_tree(slot, handle, itself),
            Command::ProbeParent { handle } => self.probe_parent(slot, handle),
            Command::Convert { .. } => self.convert(slot, command),
            Command::Unlock { .. } => self.unlock(slot, command),
            Command::Adopt {
                handle,
                res,
                mode,
                flags,
            } => self.ask_to_adopt(slot, handle, res, mode, flags, false),
            Command::AdoptAnywhere {
                handle,
                res,
                mode,
                flags,
            } => self.ask_to_adopt(slot, handle, res, mode, flags, true),
            Command::Cancel { handle } => {
                self.ask(slot, Ask::Cancel { handle }, Call::Cancel { handle });
            }
            Command::Update { handle, update } => self.update(slot, handle, update),
            Command::Watch { handle } => {
                let ask = Ask::WatchValue { handle, on: true };
                self.ask(slot, ask, Call::Watch { handle });
            }
            Command::Ask(ask) => {
                if let Ask::SetOwner { owner } = ask {
                    self.owner_chosen(slot, owner);
                }
                self.ask(slot, ask, Call::Question);
            }
        }
    }

    fn convert(&mut self, slot: usize, command: Command) {
        let Command::Convert {
            handle,
            mode,
            mut flags,
            mut value,
            timeout_ms,
        } = command
        else {
            return;
        };
        let valid = self.relies(slot);
        let client = &mut self.clients[slot];
        let who = client.who(handle);
        let Some(lock) = client.locks.get_mut(&handle) else {
            return;
        };
        let Phase::Held(from) = lock.phase else {
            return;
        };
        lock.phase = Phase::Converting { from };
        let res = lock.res;
        // Nobody publishes under a lock that may be lost.
        if value.is_some() && !valid {
            value = None;
            flags = Flags::NONE;
        }
        if flags.contains(Flags::IVVALBLK) {
            self.fact(&Fact::MayInvalidate { res });
        }
        if let Some(block) = &value {
            let block = &self.in_full(who, res, block);
            self.judge
                .observe(self.now, &Fact::Publishing { who, res, block }, &self.books);
        }
        let flags = shares::with_priority(&self.terrain, &mut self.dice.client, res, flags);
        // Who agrees to be demoted relies on no more than NL from now on.
        let left = match flags.contains(Flags::CONVDEADLK) {
            true => LockMode::Nl,
            false => mode,
        };
        let valblk = flags.contains(Flags::VALBLK);
        self.books.converting(who, left, valblk);
        self.books.set_persistent(who, flags);
        let call = Call::Convert {
            handle,
            mode,
            flags,
            publish: value.is_some(),
        };
        let ask = Ask::Convert {
            handle,
            mode,
            flags,
            blocking: true,
            value,
            timeout_ms,
        };
        self.ask(slot, ask, call);
    }

    fn unlock(&mut self, slot: usize, command: Command) {
        let Command::Unlock {
            handle,
            mut flags,
            mut value,
        } = command
        else {
            return;
        };
        let valid = self.relies(slot);
        let client = &mut self.clients[slot];
        let who = client.who(handle);
        let Some(lock) = client.locks.get_mut(&handle) else {
            return;
        };
        let forced = flags.contains(Flags::FORCEUNLOCK);
        if lock.phase == Phase::Releasing || !forced && !matches!(lock.phase, Phase::Held(_)) {
            return;
        }
        lock.phase = Phase::Releasing;
        lock.demoted = false;
        let res = lock.res;
        if value.is_some() && !valid {
            value = None;
            flags = flags.without(Flags::VALBLK);
        }
        if let Some(block) = &value {
            let block = &self.in_full(who, res, block);
            self.judge
                .observe(self.now, &Fact::Publishing { who, res, block }, &self.books);
        }
        self.books.remove(who);
        if self.books.empty(res) {
            self.fact(&Fact::Emptied { res });
        }
        let call = Call::Unlock {
            handle,
            publish: value.is_some(),
        };
        let ask = Ask::Unlock {
            handle,
            flags,
            value,
        };
        self.ask(slot, ask, call);
    }

    /// A client dies; another takes its place later.
    pub(crate) fn kill_client(&mut self, slot: usize, followed_in: u64) {
        let client = &mut self.clients[slot];
        if !client.alive {
            return;
        }
        let no = client.no;
        self.trace.note(self.now, "died", &[u64::from(no)], || {
            format!("client {no}")
        });
        self.stats.count("clients killed");
        let client = &mut self.clients[slot];
        client.alive = false;
        let connected = client.link != Link::Down;
        self.books.disbelieve(no);
        self.books.sure.remove(&no);
        self.fact(&Fact::SessionOver { client: no });
        if connected {
            self.send_up(slot, Up::Close);
        }
        self.clients[slot].forget_session();
        self.at(followed_in, Ev::Follow { slot });
    }

    pub(crate) fn follow(&mut self, slot: usize) {
        let host = self.clients[slot].host;
        if self.clients[slot].alive {
            return;
        }
        if !self.hosts[host].power {
            self.at(500 * MS, Ev::Follow { slot });
            return;
        }
        let per_host = self.params.clients.len();
        let kind = self.params.clients[slot % per_host];
        let client = self.new_client(host, kind);
        let no = client.no;
        self.clients[slot] = client;
        self.at(MS, Ev::Hello { slot, no });
    }

    /// Some client dies, and in a while another.
    pub(crate) fn reap(&mut self) {
        if self.calm {
            return;
        }
        let slot = self.dice.client.below(self.clients.len() as u64) as usize;
        let back = self.dice.client.spread(500 * MS);
        self.kill_client(slot, back);
        let wait = self.dice.client.spread(self.params.client_life);
        self.at(wait, Ev::Reaper);
    }
}
