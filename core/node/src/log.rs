//! The replicated log: its writes, its messages, and what its entries change.

use crate::{
    Effect, Node, PersistSeq, Write,
    boot::{KIND_FOUNDING, KIND_LOG},
};
use mainstay_base::{DiskId, Epoch, Instant, Mutant, NodeId};
use mainstay_consensus::Output;
use mainstay_dlm::Out;
use mainstay_membership::{Cause, Change, ClusterState, Command, Founding, View};
use mainstay_wire::{
    client::{Answer, ToClient},
    event::{Reason, What},
    lock::Refusal,
    sets::MemberRefusal,
};
use std::sync::Arc;

impl Node {
    /// Takes everything out of the log; whether there was anything.
    pub(crate) fn pump_log(&mut self, now: Instant) -> bool {
        let Some(consensus) = &mut self.consensus else {
            return false;
        };
        let mut outputs = Vec::new();
        consensus.take_outputs(&mut outputs);
        let any = !outputs.is_empty();
        for output in outputs {
            if self.over {
                break;
            }
            match output {
                Output::Persist { seq, record } => {
                    self.write(vec![(KIND_LOG, record)], false, Write::Log(seq));
                }
                Output::Replace { seq, records } => {
                    let founding = self.founding.iter().map(|f| (KIND_FOUNDING, f.encode()));
                    let records = founding
                        .chain(records.into_iter().map(|r| (KIND_LOG, r)))
                        .collect();
                    self.write(records, true, Write::Log(seq));
                }
                Output::Send { to, message, after } => {
                    let after = after
                        .filter(|_| !Mutant::SendBeforeDurable.active())
                        .and_then(|seq| self.write_of(seq));
                    if let Some(node) = self.disks.get(&to).copied() {
                        self.send_log(node, &message, after);
                    }
                }
                Output::Committed { index, data } => self.apply(now, index, &data),
                Output::Restore { snapshot, .. } => self.restore(now, &snapshot),
                Output::Leader { term, leader, me } => self.on_leader(now, term, leader, me),
                Output::Voters { .. } => {}
            }
        }
        any
    }

    /// Takes everything out of the lock manager; whether there was anything.
    pub(crate) fn pump_locks(&mut self, now: Instant) -> bool {
        let (mut outputs, mut scans) = (Vec::new(), Vec::new());
        self.dlm.take_outputs(&mut outputs);
        let any = !outputs.is_empty();
        for output in outputs {
            match output {
                Out::Send { to, body } => self.say(to, body),
                Out::Done {
                    session,
                    request,
                    result,
                } => {
                    self.tell(session, ToClient::Done { request, result });
                }
                Out::Blocking {
                    session,
                    handle,
                    mode,
                } => {
                    self.tell(session, ToClient::Blocking { handle, mode });
                }
                Out::RangeBlocking {
                    session,
                    handle,
                    range,
                    mode,
                } => {
                    let told = ToClient::RangeBlocking {
                        handle,
                        range,
                        mode,
                    };
                    self.tell(session, told);
                }
                Out::Demoted { session, handle } => {
                    self.tell(session, ToClient::Demoted { handle });
                }
                Out::Scanned(scan) => scans.push(scan),
                Out::ValueChanged {
                    session,
                    handle,
                    value,
                } => {
                    self.tell(session, ToClient::ValueChanged { handle, value });
                }
                overdue @ Out::Overdue { .. } => self.tell_overdue(overdue),
                orphan @ Out::Orphan { .. } => self.tell_orphan(orphan),
                Out::Purged(purge) => self.on_purged(&purge),
                Out::Event {
                    what,
                    reason,
                    detail,
                } => self.event(what, reason, detail),
                Out::Victim {
                    session,
                    request,
                    policy,
                    circle,
                    demoted,
                    member,
                } => {
                    let mut why = self.circle_refusal(policy, &circle, demoted);
                    if let Some((place, name)) = member {
                        why = Refusal::OfSet(Box::new(MemberRefusal { place, name, why }));
                    }
                    self.refuse(session, request, why);
                }
                Out::Many {
                    session,
                    request,
                    results,
                } => self.tell_many(session, request, results),
                Out::Move(batch, survivors) => self.propose_move(&batch, survivors),
                Out::Survive(step) => self.survive(step),
                Out::Fatal(detail) => self.stop(Reason::ProtocolViolation, false, detail),
            }
        }
        for scan in scans {
            self.on_scanned(now, scan);
        }
        any
    }

    fn write(&mut self, records: Vec<(u8, Vec<u8>)>, replace: bool, what: Write) {
        self.last_write = PersistSeq(self.last_write.0 + 1);
        let seq = self.last_write;
        self.writes.push_back((seq, what));
        self.out.push(Effect::Persist {
            seq,
            records,
            replace,
        });
    }

    /// This node's number of a write of the log; `None` if it is durable.
    fn write_of(&self, seq: mainstay_consensus::PersistSeq) -> Option<PersistSeq> {
        self.writes
            .iter()
            .find(|(_, what)| matches!(what, Write::Log(s) if *s >= seq))
            .map(|(number, _)| *number)
    }

    pub(crate) fn on_persisted(&mut self, now: Instant, seq: PersistSeq) {
        while let Some((number, _)) = self.writes.front()
            && *number <= seq
        {
            let Some((_, what)) = self.writes.pop_front() else {
                break;
            };
            match what {
                Write::Log(seq) => {
                    if let Some(consensus) = &mut self.consensus {
                        consensus.persisted(seq);
                    }
                }
                Write::Founding => {
                    let mut out = Vec::new();
                    self.membership.founding_durable(now, &mut out);
                    self.on_membership(now, out);
                }
            }
        }
    }

    pub(crate) fn on_founded(&mut self, now: Instant, founding: Founding) {
        self.write(
            vec![(KIND_FOUNDING, founding.encode())],
            false,
            Write::Founding,
        );
        let durable = mainstay_consensus::Durable::new();
        if let Err(error) = self.start_log(now, founding, durable) {
            self.stop(Reason::ProtocolViolation, false, error.to_string());
        }
    }

    fn on_leader(&mut self, now: Instant, term: u64, leader: Option<DiskId>, me: bool) {
        self.term = term;
        if self.leader_disk != leader || me {
            self.leader_disk = leader;
            let node = self.leader();
            self.event(What::Leader { node, term }, Reason::Elected, String::new());
        }
        if me
            && self.state.id().is_none()
            && self.wishes.is_empty()
            && let Some(founding) = self.founding.clone()
        {
            self.wish(now, Command::Found(founding), None);
        }
        let mut out = Vec::new();
        self.membership.set_leader(now, me, &mut out);
        self.on_membership(now, out);
    }

    /// The node that leads the log, as far as known.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        match self.leader_disk? {
            disk if disk == self.disk => Some(self.config.me),
            disk => self.disks.get(&disk).copied(),
        }
    }

    fn apply(&mut self, now: Instant, index: u64, data: &[u8]) {
        match Command::decode(data) {
            Ok(command) => {
                let of_locks = match &command {
                    Command::MoveMasters(_) | Command::MoveMastersWithSurvivors { .. } => true,
                    Command::Survivors(_) => self.dlm.has_restated(),
                    _ => false,
                };
                if !of_locks {
                    // What was decided under the old view leaves under its epoch, and what is to be
                    // restated under it too.
                    self.dlm.work_off(now);
                    self.pump_locks(now);
                }
                let changes = self.state.apply(index, &command);
                self.changed(now, changes);
            }
            Err(error) => {
                // Skipping what the others apply would make this node disagree with them.
                let text =
                    format!("log entry {index}: {error}; a newer version may have written it");
                self.stop(Reason::ProtocolViolation, false, text);
            }
        }
    }

    fn restore(&mut self, now: Instant, snapshot: &[u8]) {
        let state = match ClusterState::decode(snapshot) {
            Ok(state) => state,
            Err(error) => {
                return self.stop(
                    Reason::ProtocolViolation,
                    false,
                    format!("snapshot: {error}"),
                );
            }
        };
        let member = state.view().member(self.config.me);
        let mine = member.filter(|member| member.boot == self.boot);
        // This life has installed, or should have, all views since it joined.
        let seen = mine.map_or(Epoch(0), |member| member.joined);
        let seen = seen.max(self.state.view().epoch);
        let skipped = state.view().epoch.0.saturating_sub(seen.0);
        // No resource moves without the consent of each member, which this one is only if it joined.
        let moved = match self.joined {
            true => state.moved().saturating_sub(self.state.moved()),
            false => 0,
        };
        // What survives its node is known from the log alone.
        let survivors = match self.joined {
            true => state
                .survivor_changes()
                .saturating_sub(self.state.survivor_changes()),
            false => 0,
        };
        if (self.joined || mine.is_some()) && skipped + moved + survivors > 0 {
            // Views were missed, and with them what this node should have restated and dropped, and
            // who is to restate what to it; or who masters what.
            let text = format!(
                "{skipped} views, {moved} moves of masters and {survivors} changes of surviving locks were \
                 missed and caught up by a snapshot"
            );
            return self.be_reborn(Reason::Removed, text);
        }
        let changes = state.changes_since(&self.state);
        self.state = state;
        // Also those replaced before this node's first state: a learner does not speak first.
        for node in &self.config.nodes {
            if let Some(disk) = self.state.disk(node.id) {
                self.disks.insert(disk, node.id);
            }
        }
        self.changed(now, changes);
    }

    /// Acts on what the log changed.
    fn changed(&mut self, now: Instant, changes: Vec<Change>) {
        for change in changes {
            if self.over {
                return;
            }
            match change {
                Change::Founded => {
                    self.take_wishes(|command| matches!(command, Command::Found(_)));
                }
                Change::Resumed { node, from, to } => self.resumed(node, from, to),
                Change::View { view, cause } => {
                    // A view may follow another in the same entry.
                    self.dlm.work_off(now);
                    self.pump_locks(now);
                    let old = self.installed.replace(Arc::clone(&view));
                    self.on_view(now, old.as_deref(), &view, &cause);
                }
                Change::Fenced(fenced) => {
                    let (node, incarnation) = (fenced.record.node, fenced.record.incarnation);
                    self.ledger.enter(fenced.vanished.vanished());
                    let reason = fenced.record.proof.reason();
                    let detail = fenced.record.proof.to_string();
                    self.event(What::Fenced { node, incarnation }, reason, detail);
                    match self.ledger.confirm(fenced.record) {
                        // A snapshot also tells of proofs that the others had dealt with before this
                        // life joined.
                        Ok(proof) if self.joined && proof.record().epoch > self.joined_at() => {
                            self.dlm.recover(now, proof);
                            self.pump_locks(now);
                        }
                        Ok(_) => {}
                        Err(error) => {
                            self.stop(Reason::ProtocolViolation, false, error.to_string());
                        }
                    }
                    for asker in self.fence_came(node, incarnation) {
                        let incarnations = vec![incarnation];
                        let answer = Answer::Vouched { node, incarnations };
                        self.answer(asker.session, asker.request, answer);
                    }
                }
                Change::Lockspace {
                    lockspace,
                    created,
                    origin,
                } => {
                    let (id, value_len) = (lockspace.id, lockspace.value_len);
                    let (fairness, compat) = (lockspace.fairness, lockspace.compat);
                    self.dlm.add_compat_space(id, value_len, fairness, compat);
                    self.dlm.accept_appointments(now);
                    if origin.is_some() || !Mutant::RulesOfSnapshotForgotten.active() {
                        self.guard(&lockspace);
                    }
                    if created {
                        let name = lockspace.name.clone();
                        let what = What::LockspaceCreated { id, name };
                        self.event(what, Reason::ClientAsked, String::new());
                    }
                    self.lockspace_there(&lockspace, created, origin);
                }
                Change::Access { lockspace, origin } => {
                    self.guard(&lockspace);
                    self.access_set(&lockspace, origin);
                }
                Change::AccessRefused { origin, why } => self.access_refused(origin, why),
                Change::LockspaceRefused { origin } => self.lockspace_refused(origin),
                Change::Moved { record, done } => self.masters_moved(now, record, done),
                Change::Survivors {
                    by,
                    incarnation,
                    serial,
                    done,
                } => self.survivors_decided(now, (by, incarnation), serial, &done),
                Change::AllSurvivors { all } => {
                    self.dlm.know_survivors(all, self.state.survivor_changes());
                }
                Change::DiskReplaced { node, new, .. } => {
                    self.disks.insert(new, node);
                    let detail = format!("node {node} is known by disk {new} from now on");
                    self.event(What::DiskReplaced { node }, Reason::DiskReplaced, detail);
                }
            }
        }
        self.note_left_behind(now);
        // Clients may have asked before this node was a member.
        self.propose_survivors();
        if self.joined {
            self.dlm.view_settled(now);
        }
        self.pursue_rest(now);
        let mut out = Vec::new();
        self.membership.install(now, &self.state, &mut out);
        self.on_membership(now, out);
    }

    fn on_view(&mut self, now: Instant, old: Option<&View>, view: &Arc<View>, cause: &Cause) {
        let lives = |view: &View| -> Vec<(NodeId, mainstay_base::Incarnation)> {
            view.members
                .iter()
                .map(|m| (m.node, m.incarnation))
                .collect()
        };
        let (before, after) = (old.map(lives).unwrap_or_default(), lives(view));
        let what = What::View {
            members: after.clone(),
            quorate: view.quorate,
        };
        self.event_in(view.epoch, what, cause.reason, cause.detail.clone());
        for &(node, incarnation) in after.iter().filter(|life| !before.contains(life)) {
            let what = What::MemberJoined { node, incarnation };
            let concerned = cause.about == Some((node, incarnation));
            let reason = if concerned {
                cause.reason
            } else {
                Reason::Joined
            };
            self.event_in(view.epoch, what, reason, String::new());
        }
        for &(node, incarnation) in before.iter().filter(|life| !after.contains(life)) {
            let what = What::MemberLeft { node, incarnation };
            // A snapshot skips views, and brings only the cause of the last. A node's next life is
            // the cause of the end of the one before.
            let concerned = cause.about.is_some_and(|about| {
                about == (node, incarnation) || about.0 == node && after.contains(&about)
            });
            let (reason, detail) = if concerned {
                (cause.reason, cause.detail.clone())
            } else {
                let text = "in a view that this node has not seen";
                (Reason::Removed, text.to_owned())
            };
            self.event_in(view.epoch, what, reason, detail);
        }
        for pending in &view.pending {
            self.ledger.enter(pending.vanished());
        }
        self.forget_old_lives();
        if view.has_boot(self.config.me, self.boot) {
            self.joined = true;
            self.settle_activity(now);
            self.dlm.install(now, View::clone(view));
            self.take_over(now);
            self.pump_locks(now);
        }
        // If this life was a member and is none any more, the membership agent says so.
    }

    /// The epoch in which this life became a member.
    fn joined_at(&self) -> Epoch {
        let member = self.state.view().member(self.config.me);
        member.map(|m| m.joined).unwrap_or_default()
    }

    fn lockspace_refused(&mut self, origin: mainstay_membership::RequestOrigin) {
        if origin.node != self.config.me || origin.boot != self.boot {
            return;
        }
        let askers = self.take_wishes(
            |command| matches!(command, Command::CreateLockspace { origin: o, .. } if *o == origin),
        );
        for asker in askers {
            self.makers.remove(&(asker.session, asker.request));
            let limit = mainstay_base::LOCKSPACES_MAX;
            let text = format!(
                "the cluster has its limit of {limit} lockspaces, or their rules leave no room for another: \
                 `mainstay lockspace rules NAME --clear` makes room"
            );
            self.refuse(asker.session, asker.request, Refusal::Limit(text));
        }
    }

    pub(crate) fn replace_voter(&mut self, node: NodeId, old: Option<DiskId>, new: DiskId) {
        let Some(consensus) = &mut self.consensus else {
            return;
        };
        self.disks.insert(new, node);
        let status = consensus.status();
        let has = |disk: DiskId| status.voters.contains(&disk) || status.learners.contains(&disk);
        // A refusal is momentary: the membership agent asks again.
        let _ = match old {
            _ if has(new) && old.is_none_or(|old| !has(old)) => consensus
                .propose(Command::ReplaceDisk { node, old, new }.encode())
                .map_err(|e| e.to_string()),
            Some(old) if has(old) => consensus.replace_voter(old, new).map_err(|e| e.to_string()),
            _ => consensus.add_voter(new).map_err(|e| e.to_string()),
        };
    }

    pub(crate) fn hand_over(&mut self, to: NodeId) {
        let disk = self.state.disk(to);
        if let (Some(consensus), Some(disk)) = (&mut self.consensus, disk) {
            let _ = consensus.transfer_leader(disk); // It stays leader then, and tries again.
        }
    }

    pub(crate) fn compact_log(&mut self) {
        if let Some(consensus) = &mut self.consensus
            && consensus.wants_snapshot()
            && self.state.applied() > 0
            && let Err(error) = consensus.compact(self.state.applied(), self.state.encode())
        {
            let text = format!("the cluster state cannot be stored: {error}");
            self.stop(Reason::DiskFailed, false, text);
        }
    }
}
