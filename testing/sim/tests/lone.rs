//! The simulator with a stand-in for the node: a cluster of one with a small, plain lock table.
//! What it finds must come from the stand-in's deliberate faults, and nothing else.

use mainstay_base::{
    Epoch, FixedMap, Flags, Incarnation, Instant, LockMode, LockspaceId, LockspaceName, NodeId,
    ResourceName, SessionId, Token, Value, ValueBlock, ValueVersion,
};
use mainstay_node::{BootInfo, Effect, Input, NodeConfig, Outbox, PersistSeq};
use mainstay_sim::{Machine, Maker, Profile, Trace, Wishes, run};
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    event::{Event, Reason, What},
    lock::{Granted, Refusal},
    report::{LockReport, LocksReport, OwnerReport, ResourceReport},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// What the stand-in does wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// Grants everything at once.
    Greedy,
    /// Begins to grant without waiting for its predecessor's lease.
    Hasty,
    /// Every grant has the same token.
    SameToken,
    /// Forgets to mark the value of a writer that died.
    NoMark,
    /// Never grants what had to wait.
    Deaf,
    /// Drops a lock that nobody released.
    Forgetful,
    /// Trips over an assertion of its own.
    Brittle,
}

#[derive(Clone, Debug)]
struct Lock {
    session: SessionId,
    handle: Handle,
    granted: Option<LockMode>,
    wanted: Option<(u64, LockMode, Flags)>,
    token: Token,
}

#[derive(Default, Debug)]
struct Resource {
    locks: Vec<Lock>,
    value: Option<Value>,
    token: u64,
}

struct Lone {
    fault: Fault,
    me: NodeId,
    lease: Duration,
    incarnation: u64,
    numbered: bool,
    acting_from: Instant,
    acting: bool,
    renew_at: Instant,
    events: u64,
    spaces: Vec<LockspaceName>,
    owners: BTreeMap<SessionId, OwnerReport>,
    resources: BTreeMap<(LockspaceId, ResourceName), Resource>,
    filed: FixedMap<(SessionId, Handle), (LockspaceId, ResourceName)>,
    kept: Vec<(SessionId, u64, Ask)>,
    deadlines: BTreeMap<(Instant, SessionId, Handle), u64>,
    leaving: bool,
}

impl Lone {
    fn event(&mut self, out: &mut Outbox, what: What, reason: Reason) {
        self.events += 1;
        out.effects.push(Effect::Event(Event {
            number: self.events,
            unix_ms: 0,
            epoch: Epoch(self.incarnation),
            what,
            reason,
            detail: String::new(),
        }));
    }

    fn reply(out: &mut Outbox, session: SessionId, request: u64, result: Result<Answer, Refusal>) {
        let message = ToClient::Done { request, result };
        out.effects.push(Effect::Client { session, message });
    }

    fn compatible(
        &self,
        key: &(LockspaceId, ResourceName),
        who: (SessionId, Handle),
        mode: LockMode,
    ) -> bool {
        self.fault == Fault::Greedy
            || self.resources[key].locks.iter().all(|lock| {
                (lock.session, lock.handle) == who
                    || lock.granted.is_none_or(|held| held.compatible(mode))
            })
    }

    fn grant(
        &mut self,
        key: &(LockspaceId, ResourceName),
        at: usize,
        value: Option<Value>,
        out: &mut Outbox,
    ) {
        let same = self.fault == Fault::SameToken;
        let resource = self.resources.get_mut(key).expect("filed");
        if !same {
            resource.token += 1;
        }
        let token = Token(Token::floor(Epoch(self.incarnation)).0 + resource.token);
        let lock = &mut resource.locks[at];
        let (request, mode, flags) = lock.wanted.take().expect("asked");
        lock.granted = Some(mode);
        lock.token = token;
        let none = Value {
            block: ValueBlock::default(),
            version: ValueVersion(0),
            maybe_stale: false,
        };
        let read = flags
            .contains(Flags::VALBLK)
            .then(|| resource.value.clone().unwrap_or(none));
        let granted = Granted {
            mode,
            token,
            value: value.or(read),
        };
        let session = lock.session;
        Lone::reply(out, session, request, Ok(Answer::Granted(granted)));
    }

    /// Grants what can be granted, first come first served.
    fn sweep(&mut self, key: &(LockspaceId, ResourceName), out: &mut Outbox) {
        if self.fault == Fault::Deaf {
            return;
        }
        let Some(resource) = self.resources.get(key) else {
            return;
        };
        for at in 0..resource.locks.len() {
            let lock = self.resources[key].locks[at].clone();
            if let Some((_, mode, _)) = lock.wanted {
                if !self.compatible(key, (lock.session, lock.handle), mode) {
                    return;
                }
                self.grant(key, at, None, out);
            }
        }
    }

    fn publish(&mut self, key: &(LockspaceId, ResourceName), block: &ValueBlock) -> Value {
        let resource = self.resources.get_mut(key).expect("filed");
        let version = resource.value.as_ref().map_or(0, |v| v.version.0) + 1;
        let value = Value {
            block: block.clone(),
            version: ValueVersion(version),
            maybe_stale: false,
        };
        resource.value = Some(value.clone());
        value
    }

    fn mark(&mut self, key: &(LockspaceId, ResourceName)) {
        let resource = self.resources.get_mut(key).expect("filed");
        resource
            .value
            .get_or_insert(Value {
                block: ValueBlock::default(),
                version: ValueVersion(0),
                maybe_stale: false,
            })
            .maybe_stale = true;
    }

    fn drop_lock(&mut self, who: (SessionId, Handle), out: &mut Outbox) {
        if let Some(key) = self.filed.remove(&who) {
            let resource = self.resources.get_mut(&key).expect("filed");
            resource.locks.retain(|l| (l.session, l.handle) != who);
            // The value lives on here, which is allowed.
            self.sweep(&key, out);
        }
    }

    fn request(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        ask: Ask,
        out: &mut Outbox,
    ) {
        if !self.acting {
            self.kept.push((session, request, ask));
            return;
        }
        match ask {
            Ask::OpenLockspace { name, .. } => {
                if !self.spaces.contains(&name) {
                    self.spaces.push(name.clone());
                }
                let at = self.spaces.iter().position(|n| *n == name).expect("added");
                let id = LockspaceId(at as u32 + 1);
                Lone::reply(
                    out,
                    session,
                    request,
                    Ok(Answer::Lockspace { id, value_len: 32 }),
                );
            }
            Ask::CreateLockspace { .. } => {
                let why = Refusal::Invalid("it knows no rules".to_owned());
                Lone::reply(out, session, request, Err(why));
            }
            Ask::Lock {
                handle,
                lockspace,
                name,
                mode,
                flags,
                timeout_ms,
                ..
            } => {
                let key = (lockspace, name);
                self.filed.insert((session, handle), key.clone());
                let resource = self.resources.entry(key.clone()).or_default();
                let queue = resource.locks.iter().any(|l| l.wanted.is_some());
                resource.locks.push(Lock {
                    session,
                    handle,
                    granted: None,
                    wanted: Some((request, mode, flags)),
                    token: Token::NONE,
                });
                let at = resource.locks.len() - 1;
                if self.compatible(&key, (session, handle), mode)
                    && (!queue || self.fault == Fault::Greedy)
                {
                    self.grant(&key, at, None, out);
                } else if flags.contains(Flags::NOQUEUE) {
                    Lone::reply(out, session, request, Err(Refusal::NotQueued));
                    self.drop_lock((session, handle), out);
                } else if let Some(ms) = timeout_ms {
                    let until = now + Duration::from_millis(ms.into());
                    self.deadlines.insert((until, session, handle), request);
                }
            }
            Ask::Convert {
                handle,
                mode,
                flags,
                value,
                ..
            } => self.convert(session, request, handle, mode, flags, value, out),
            Ask::Unlock { handle, value, .. } => {
                let Some(key) = self.filed.get(&(session, handle)).cloned() else {
                    Lone::reply(out, session, request, Err(Refusal::NoSuchLock));
                    return;
                };
                let version = value.map(|block| self.publish(&key, &block).version);
                Lone::reply(out, session, request, Ok(Answer::Unlocked { version }));
                self.drop_lock((session, handle), out);
            }
            Ask::Cancel { handle } => {
                self.cancel(session, request, handle, Refusal::Cancelled, out)
            }
            Ask::Locks { .. } => {
                let report = self.report();
                Lone::reply(out, session, request, Ok(Answer::Locks(Box::new(report))));
            }
            _ => Lone::reply(
                out,
                session,
                request,
                Err(Refusal::Unavailable("not here".into())),
            ),
        }
    }

    fn convert(
        &mut self,
        session: SessionId,
        request: u64,
        handle: Handle,
        mode: LockMode,
        flags: Flags,
        value: Option<ValueBlock>,
        out: &mut Outbox,
    ) {
        let Some(key) = self.filed.get(&(session, handle)).cloned() else {
            Lone::reply(out, session, request, Err(Refusal::NoSuchLock));
            return;
        };
        let at = self.resources[&key]
            .locks
            .iter()
            .position(|l| (l.session, l.handle) == (session, handle))
            .expect("filed");
        let from = self.resources[&key].locks[at].granted.expect("granted");
        if !self.compatible(&key, (session, handle), mode) {
            // Conversions never wait here.
            Lone::reply(out, session, request, Err(Refusal::NotQueued));
            return;
        }
        let published = value.map(|block| self.publish(&key, &block));
        if flags.contains(Flags::IVVALBLK) && from.writes_value() {
            self.mark(&key);
        }
        self.resources.get_mut(&key).expect("filed").locks[at].wanted =
            Some((request, mode, flags));
        self.grant(&key, at, published, out);
        assert!(self.fault != Fault::Brittle, "this cannot be");
        if self.fault == Fault::Forgetful && mode == LockMode::Pr {
            self.filed.remove(&(session, handle));
            self.resources
                .get_mut(&key)
                .expect("filed")
                .locks
                .remove(at);
        }
        self.sweep(&key, out);
    }

    fn cancel(
        &mut self,
        session: SessionId,
        request: u64,
        handle: Handle,
        why: Refusal,
        out: &mut Outbox,
    ) {
        let pending = self.filed.get(&(session, handle)).cloned().and_then(|key| {
            self.resources[&key]
                .locks
                .iter()
                .find(|l| (l.session, l.handle) == (session, handle))
                .and_then(|l| l.wanted)
        });
        match pending {
            Some((waiting, _, _)) => {
                Lone::reply(out, session, waiting, Err(why.clone()));
                if why == Refusal::Cancelled {
                    Lone::reply(out, session, request, Ok(Answer::Cancelled));
                }
                self.drop_lock((session, handle), out);
            }
            None if why == Refusal::Cancelled => {
                Lone::reply(out, session, request, Err(Refusal::TooLate));
            }
            None => {}
        }
    }

    fn report(&self) -> LocksReport {
        let name = |i| mainstay_base::NodeName::new(format!("n{i}")).expect("valid");
        LocksReport {
            resources: self
                .resources
                .iter()
                .map(|((space, resource), state)| ResourceReport {
                    lockspace: self.spaces[space.0 as usize - 1].clone(),
                    name: resource.clone(),
                    master: name(1),
                    recovering: false,
                    token: Token::NONE,
                    value: None,
                    holders: state
                        .locks
                        .iter()
                        .filter(|l| l.granted.is_some())
                        .map(|l| LockReport {
                            node: name(1),
                            id: mainstay_base::LockId(1),
                            granted: l.granted,
                            requested: None,
                            token: l.token,
                            owner: self.owners[&l.session].clone(),
                            age_ms: 0,
                            range: None,
                        })
                        .collect(),
                    converters: Vec::new(),
                    waiters: Vec::new(),
                })
                .collect(),
            truncated: false,
            silent: Vec::new(),
        }
    }

    fn begin(&mut self, now: Instant, out: &mut Outbox) {
        self.acting = true;
        let me = self.me;
        if self.incarnation > 1 {
            for old in 1..self.incarnation {
                let incarnation = Incarnation(old);
                let node = me;
                self.event(
                    out,
                    What::MemberLeft { node, incarnation },
                    Reason::Restarted,
                );
                self.event(
                    out,
                    What::Fenced { node, incarnation },
                    Reason::LeaseExpired,
                );
            }
        }
        let members = vec![(me, Incarnation(self.incarnation))];
        self.event(
            out,
            What::View {
                members,
                quorate: true,
            },
            Reason::Joined,
        );
        self.renew(now, out);
        self.event(out, What::Active, Reason::LeaseRenewed);
        for (session, request, ask) in std::mem::take(&mut self.kept) {
            self.request(now, session, request, ask, out);
        }
    }

    fn renew(&mut self, now: Instant, out: &mut Outbox) {
        out.effects.push(Effect::Lease {
            until: now + self.lease,
        });
        self.renew_at = now + self.lease / 3;
    }
}

impl Machine for Lone {
    fn step(&mut self, now: Instant, input: Input, out: &mut Outbox) {
        match input {
            Input::Persisted(_) if !self.numbered => {
                self.numbered = true;
                let wait = if self.incarnation == 1 || self.fault == Fault::Hasty {
                    Duration::ZERO
                } else {
                    self.lease * 105 / 100
                };
                self.acting_from = now + wait;
            }
            Input::PersistFailed { detail } => out.effects.push(Effect::Stop {
                clean: false,
                detail,
            }),
            Input::SessionOpened { session, owner, .. } => {
                self.owners.insert(session, owner);
            }
            Input::Request {
                session,
                request,
                ask,
            } => self.request(now, session, request, ask, out),
            Input::SessionClosed { session } => {
                self.kept.retain(|(s, _, _)| *s != session);
                self.deadlines.retain(|(_, s, _), _| *s != session);
                for who in self.filed.sorted_keys_where(|(s, _), _| *s == session) {
                    let key = self.filed.get(&who).expect("listed").clone();
                    let wrote = self.resources[&key].locks.iter().any(|l| {
                        (l.session, l.handle) == who
                            && l.granted.is_some_and(LockMode::writes_value)
                    });
                    if wrote && self.fault != Fault::NoMark {
                        self.mark(&key);
                    }
                    self.drop_lock(who, out);
                }
            }
            Input::Stop => self.leaving = true,
            Input::Wake
            | Input::Persisted(_)
            // It keeps no sessions.
            | Input::Keep { .. }
            | Input::Reattach { .. }
            | Input::Answered { .. }
            | Input::Carried { .. }
            | Input::Notice { .. }
            | Input::Frame { .. }
            | Input::LinkUp { .. }
            | Input::LinkDown { .. } => {}
        }
    }

    fn flush(&mut self, now: Instant, out: &mut Outbox) {
        if self.leaving {
            out.effects.push(Effect::Lease {
                until: Instant::ZERO,
            });
            out.effects.push(Effect::Stop {
                clean: true,
                detail: String::new(),
            });
            return;
        }
        if self.numbered && !self.acting && now >= self.acting_from {
            self.begin(now, out);
        }
        if self.acting && now >= self.renew_at {
            self.renew(now, out);
        }
        while let Some(entry) = self.deadlines.first_entry() {
            let (until, session, handle) = *entry.key();
            if until > now {
                break;
            }
            let request = entry.remove();
            let pending = self.filed.get(&(session, handle)).is_some_and(|key| {
                self.resources[key].locks.iter().any(|l| {
                    (l.session, l.handle) == (session, handle)
                        && l.wanted.is_some_and(|(r, _, _)| r == request)
                })
            });
            if pending {
                self.cancel(session, request, handle, Refusal::TimedOut, out);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let next = if self.acting {
            self.renew_at
        } else {
            self.acting_from
        };
        let timeout = self.deadlines.keys().next().map(|(until, ..)| *until);
        (self.numbered).then(|| timeout.map_or(next, |t| t.min(next)))
    }

    fn grants(&self) -> u64 {
        // What it grants without a lease the other promises' watches must see.
        0
    }
}

/// A first record tells later lives how many there were before; it must be durable before they act.
struct Boot(Lone, bool);

impl Machine for Boot {
    fn step(&mut self, now: Instant, input: Input, out: &mut Outbox) {
        self.0.step(now, input, out);
    }

    fn flush(&mut self, now: Instant, out: &mut Outbox) {
        if !std::mem::replace(&mut self.1, true) {
            out.effects.push(Effect::Persist {
                seq: PersistSeq(1),
                records: vec![(1, vec![1; 700])],
                replace: false,
            });
        }
        self.0.flush(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        self.0.deadline()
    }

    fn grants(&self) -> u64 {
        self.0.grants()
    }
}

fn maker(fault: Fault) -> Arc<Maker> {
    Arc::new(move |now: Instant, config: NodeConfig, info: BootInfo| {
        let lone = Lone {
            fault,
            me: config.me,
            lease: config.timings.lease,
            incarnation: info.records.len() as u64 + 1,
            numbered: false,
            acting_from: now,
            acting: false,
            renew_at: now,
            events: 0,
            spaces: ["sim", "aux"]
                .map(|n| LockspaceName::new(n).expect("valid"))
                .to_vec(),
            owners: BTreeMap::new(),
            resources: BTreeMap::new(),
            filed: FixedMap::new(),
            kept: Vec::new(),
            deadlines: BTreeMap::new(),
            leaving: false,
        };
        Ok(Box::new(Boot(lone, false)) as Box<dyn Machine>)
    })
}

fn wishes(profile: Profile) -> Wishes {
    Wishes {
        profile: Some(profile),
        nodes: Some(1),
    }
}

/// The first violated promise within so many seeds.
fn caught(fault: Fault, profile: Profile, seeds: u64) -> Option<(u64, &'static str)> {
    let maker = maker(fault);
    (1..=seeds).find_map(|seed| {
        let report = run(seed, wishes(profile), &maker, Trace::quiet());
        report.violation.map(|violation| (seed, violation.promise))
    })
}

/// Protects every verdict of the simulator: an honest stand-in passes, under crashes, pauses and
/// disk faults, and the faults really happened.
#[test]
fn an_honest_machine_passes() {
    let maker = maker(Fault::None);
    let mut stats = mainstay_sim::stats::Stats::default();
    for profile in [
        Profile::Quiet,
        Profile::Crashy,
        Profile::Pausy,
        Profile::Disky,
    ] {
        for seed in 1..=25 {
            let report = run(seed, wishes(profile), &maker, Trace::keeping(60));
            assert_eq!(
                report.violation,
                None,
                "{profile:?} seed {seed}\n{}",
                report.tail.join("\n")
            );
            stats.merge(&report.stats);
        }
    }
    for what in [
        "grants",
        "nodes killed",
        "power failures",
        "publications",
        "stale marks",
        "torn tails",
        "full disks",
        "failed writes",
        "nodes paused",
        "paused mid-step",
        "killed mid-step",
        "proofs by lease",
        "clean stops",
        "audits",
        "clients killed",
    ] {
        assert!(stats.get(what) > 0, "no {what} in\n{stats}");
    }
}

/// Protects replay: the same seed does the same, event by event; another seed does not.
#[test]
fn a_seed_determines_a_run() {
    let maker = maker(Fault::None);
    let hash = |seed, trace| run(seed, wishes(Profile::Mixed), &maker, trace).hash;
    assert_eq!(hash(7, Trace::quiet()), hash(7, Trace::keeping(10)));
    assert_ne!(hash(7, Trace::quiet()), hash(8, Trace::quiet()));
}

/// Protects the net: every deliberate fault of the stand-in is caught, by the right promise.
#[test]
fn deliberate_faults_are_caught() {
    for (fault, profile, promise) in [
        (Fault::Greedy, Profile::Quiet, "S1 exclusion"),
        (Fault::SameToken, Profile::Quiet, "S1 exclusion"),
        (Fault::Hasty, Profile::Crashy, "S4 no recovery before proof"),
        (Fault::NoMark, Profile::Crashy, "S3 value blocks"),
        (Fault::Deaf, Profile::Quiet, "L1 progress"),
        (Fault::Forgetful, Profile::Quiet, "S2 no lost grant"),
        (Fault::Brittle, Profile::Quiet, "assertion"),
    ] {
        let found = caught(fault, profile, 300);
        assert!(
            found.is_some_and(|(_, p)| p == promise),
            "{fault:?}: {found:?}"
        );
    }
}
