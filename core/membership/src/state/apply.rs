//! Applying commands.

use super::{
    AccessRefused, Cause, Change, ClusterState, Command, FENCED_KEPT, FencedNode,
    LOCKSPACES_LEN_MAX, Lockspace, MoveRecord, RETIRED_BOOTS_KEPT, Rest,
};
use crate::{Member, Pending, View};
use mainstay_base::{
    Access, AccessChange, BootId, Compat, DiskId, Epoch, Fairness, Incarnation, LOCKSPACES_MAX,
    LockspaceId, LockspaceName, Mutant, NodeId,
};
use mainstay_fencing::{FencedRecord, Proof};
use mainstay_wire::event::Reason;
use std::sync::Arc;

impl ClusterState {
    /// Applies the committed command at `index` of the log and tells what changed. Indexes ascend;
    /// one that was applied before is ignored, and so is a command that no longer applies.
    pub fn apply(&mut self, index: u64, command: &Command) -> Vec<Change> {
        if index <= self.applied {
            return Vec::new();
        }
        self.applied = index;
        if let Command::Found(founding) = command {
            if self.id.is_some() || !founding.is_sound() {
                return Vec::new();
            }
            self.found(founding);
            let mut changes = vec![Change::Founded];
            changes.extend(self.next_view(
                Reason::Founded,
                None,
                &format!("cluster {}", founding.cluster),
                |_| {},
            ));
            return changes;
        }
        if self.id.is_none() {
            return Vec::new();
        }
        match command {
            Command::Found(_) => Vec::new(),
            Command::Join { node, boot, after } => self.join(*node, *boot, *after),
            Command::Remove {
                node,
                incarnation,
                reason,
                detail,
            } => self.remove(*node, *incarnation, *reason, detail),
            Command::Leave { node, incarnation } => self.leave(index, *node, *incarnation),
            Command::Fenced {
                node,
                incarnation,
                proof,
            } => self.settle(index, *node, *incarnation, proof),
            Command::CreateLockspace {
                name,
                value_len,
                origin,
                access,
                fairness,
                compat,
            } => {
                vec![self.create_lockspace(name, *value_len, *origin, access, *fairness, *compat)]
            }
            Command::SetAccess {
                name,
                change,
                by,
                origin,
            } => vec![self.set_access(name, change, *by, *origin)],
            Command::ReplaceDisk { node, old, new } => self.replace_disk(*node, *old, *new),
            Command::MoveMasters(record) => self.move_masters(*record, 0),
            Command::MoveMastersWithSurvivors { record, changes } => {
                self.move_masters(*record, *changes)
            }
            Command::Survivors(batch) => self.decide_survivors(batch),
            Command::Rest {
                node,
                incarnation,
                members,
                for_ms,
            } => {
                let rest = Rest {
                    node: *node,
                    incarnation: *incarnation,
                    for_ms: *for_ms,
                };
                self.lay_down(index, rest, *members)
            }
            Command::Resume { node, from, to } => self.resume(*node, *from, *to),
        }
    }

    fn move_masters(&mut self, record: MoveRecord, changes: u64) -> Vec<Change> {
        let decided = self.moves.entry(record.from).or_default();
        let this = (record.from_incarnation, record.serial);
        if this <= *decided {
            return Vec::new();
        }
        *decided = this;
        let view = &self.view;
        let present = |node, incarnation| view.has_incarnation(node, incarnation);
        let done = (view.members_since == record.members || Mutant::MoveDespiteChange.active())
            && changes == self.survivor_changes()
            && present(record.from, record.from_incarnation)
            && present(record.to, record.to_incarnation);
        self.moved += u64::from(done);
        vec![Change::Moved { record, done }]
    }

    fn join(&mut self, node: NodeId, boot: BootId, after: Incarnation) -> Vec<Change> {
        let next_epoch = self.epoch().next();
        let nodes = self.view.nodes();
        let old = self.view.member(node).copied();
        let Some(record) = self.nodes.get_mut(&node) else {
            return Vec::new();
        };
        if record.incarnation != after
            || record.retired.contains(&boot)
            || old.is_some_and(|m| m.boot == boot)
        {
            return Vec::new();
        }
        record.incarnation = after.next();
        let incarnation = record.incarnation;
        if let Some(old) = old {
            self.retire(node, old.boot);
        }
        let detail = match old {
            Some(old) => format!(
                "its incarnation {} was still a member and has vanished",
                old.incarnation
            ),
            None => String::new(),
        };
        self.next_view(Reason::Joined, Some((node, incarnation)), &detail, |view| {
            view.members.retain(|m| m.node != node);
            view.members.push(Member {
                node,
                incarnation,
                boot,
                joined: next_epoch,
            });
            if let Some(old) = old {
                view.pending
                    .push(vanish(old, next_epoch, Reason::Restarted, nodes));
            }
        })
    }

    fn remove(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        reason: Reason,
        detail: &str,
    ) -> Vec<Change> {
        let Some(member) = self.member_of(node, incarnation) else {
            return Vec::new();
        };
        let pending = vanish(member, self.epoch().next(), reason, self.view.nodes());
        self.retire(node, member.boot);
        self.next_view(reason, Some((node, incarnation)), detail, |view| {
            view.members.retain(|m| m.node != node);
            view.pending.push(pending);
        })
    }

    fn leave(&mut self, index: u64, node: NodeId, incarnation: Incarnation) -> Vec<Change> {
        let Some(member) = self.member_of(node, incarnation) else {
            return Vec::new();
        };
        let mut changes = self.end_rest(index);
        let epoch = self.epoch().next();
        let vanished = vanish(member, epoch, Reason::LeftCleanly, self.view.nodes());
        self.retire(node, member.boot);
        changes.extend(self.next_view(
            Reason::LeftCleanly,
            Some((node, incarnation)),
            "",
            |view| {
                view.members.retain(|m| m.node != node);
            },
        ));
        changes.push(self.record_fenced(index, vanished, Proof::LeftCleanly));
        changes
    }

    fn settle(
        &mut self,
        index: u64,
        node: NodeId,
        incarnation: Incarnation,
        proof: &Proof,
    ) -> Vec<Change> {
        let mut pending = self.view.pending.iter();
        let found = pending.find(|p| p.node == node && p.incarnation == incarnation);
        let Some(vanished) = found.cloned() else {
            return Vec::new();
        };
        let rests = |rest: Rest| (rest.node, rest.incarnation) == (node, incarnation);
        if *proof == Proof::RestOver && !self.rest.is_some_and(rests) {
            return Vec::new();
        }
        let mut changes = Vec::new();
        match self.rest {
            Some(rest) if (rest.node, rest.incarnation) == (node, incarnation) => self.rest = None,
            _ => changes = self.end_rest(index),
        }
        let about = Some((node, incarnation));
        changes.extend(
            self.next_view(proof.reason(), about, &proof.to_string(), |view| {
                view.pending
                    .retain(|p| (p.node, p.incarnation) != (node, incarnation));
            }),
        );
        changes.push(self.record_fenced(index, vanished, proof.clone()));
        changes
    }

    /// A member rests: to all others it has left, but its locks stay.
    fn lay_down(&mut self, index: u64, rest: Rest, members: Epoch) -> Vec<Change> {
        let (node, incarnation) = (rest.node, rest.incarnation);
        let Some(member) = self.member_of(node, incarnation) else {
            return Vec::new();
        };
        let others = self.view.members_since != members;
        if others || !self.view.pending.is_empty() || self.rest.is_some() {
            return Vec::new();
        }
        let epoch = self.epoch().next();
        let vanished = vanish(member, epoch, Reason::Rests, self.view.nodes());
        self.retire(node, member.boot);
        self.rest = Some(rest);
        let pending = vanished.clone();
        let mut changes =
            self.next_view(Reason::Rests, Some((node, incarnation)), "", move |view| {
                view.members.retain(|m| m.node != node);
                view.pending.push(pending);
            });
        changes.push(self.record_fenced(index, vanished, Proof::Rests));
        changes
    }

    /// The end of somebody else is to be acted upon: whoever rests could not restate what it has with
    /// that one, and nobody is to wait for it so long.
    fn end_rest(&mut self, index: u64) -> Vec<Change> {
        match self.rest {
            Some(rest) => self.settle(index, rest.node, rest.incarnation, &Proof::RestOver),
            None => Vec::new(),
        }
    }

    /// The next life of a node that rests goes on with its locks.
    fn resume(&mut self, node: NodeId, from: Incarnation, to: Incarnation) -> Vec<Change> {
        let rests = |rest: Rest| (rest.node, rest.incarnation) == (node, from);
        if !self.rest.is_some_and(rests) || self.member_of(node, to).is_none() {
            return Vec::new();
        }
        self.rest = None;
        self.surviving.rename(node, from, to);
        let mut changes = vec![Change::Resumed { node, from, to }];
        let about = Some((node, to));
        changes.extend(self.next_view(Reason::Resumed, about, "", |view| {
            view.pending
                .retain(|p| (p.node, p.incarnation) != (node, from));
            // So that all masters look through what they have (`docs/protocol/restart.md`, rule 13).
            view.members_since = view.epoch.next();
        }));
        changes
    }

    fn create_lockspace(
        &mut self,
        name: &LockspaceName,
        value_len: u16,
        origin: super::RequestOrigin,
        access: &Access,
        fairness: Fairness,
        compat: Compat,
    ) -> Change {
        let known = self.lockspaces.get(name).cloned();
        let created = known.is_none();
        let next = self.lockspaces.values().map(|l| l.id.0).max().unwrap_or(0) + 1;
        let lockspace = known.unwrap_or_else(|| Lockspace {
            id: LockspaceId(next),
            name: name.clone(),
            value_len,
            access: access.clone(),
            fairness,
            compat,
        });
        if created
            && (self.lockspaces.len() >= LOCKSPACES_MAX
                || access.check().is_err()
                || !fairness.is_valid()
                || !compat.allows_value_len(value_len.into())
                || !self.has_room_for(&lockspace))
        {
            return Change::LockspaceRefused { origin };
        }
        self.lockspaces.insert(name.clone(), lockspace.clone());
        self.note_access(&lockspace);
        if lockspace.fairness != Fairness::default() {
            self.fairness.insert(name.clone(), lockspace.fairness);
        }
        if lockspace.compat != Compat::Strict {
            self.compat.insert(name.clone(), lockspace.compat);
        }
        Change::Lockspace {
            lockspace,
            created,
            origin: Some(origin),
        }
    }

    /// Whether all lockspaces fit a snapshot with this one, be it new or changed.
    fn has_room_for(&self, lockspace: &Lockspace) -> bool {
        let known = self.lockspaces.get(&lockspace.name);
        let freed = known.map_or(0, Lockspace::len_max);
        lockspace.len_max() <= self.room_left() + freed
    }

    /// How much more lockspaces and surviving locks may take in a snapshot.
    pub(super) fn room_left(&self) -> usize {
        let spaces: usize = self.lockspaces.values().map(Lockspace::len_max).sum();
        LOCKSPACES_LEN_MAX.saturating_sub(spaces + self.surviving.len_max())
    }

    /// For snapshots, in which the usual is left out.
    fn note_access(&mut self, lockspace: &Lockspace) {
        if lockspace.access == Access::default() {
            self.access.remove(&lockspace.name);
        } else {
            self.access
                .insert(lockspace.name.clone(), lockspace.access.clone());
        }
    }

    fn set_access(
        &mut self,
        name: &LockspaceName,
        change: &AccessChange,
        by: Option<u32>,
        origin: super::RequestOrigin,
    ) -> Change {
        let refused = |why| Change::AccessRefused { origin, why };
        let Some(lockspace) = self.lockspaces.get(name) else {
            return refused(AccessRefused::NoSuchLockspace);
        };
        let access = &lockspace.access;
        if by.is_some_and(|by| by != access.owner) {
            return refused(AccessRefused::NotOwner);
        }
        if change.check().is_err() {
            return refused(AccessRefused::Invalid);
        }
        // A command may stand in the log twice, and the second time after those of others.
        if change.revision.is_some_and(|read| read != access.revision) {
            return refused(AccessRefused::Changed);
        }
        let lockspace = Lockspace {
            access: access.changed(change),
            ..lockspace.clone()
        };
        if !self.has_room_for(&lockspace) {
            return refused(AccessRefused::NoRoom);
        }
        self.note_access(&lockspace);
        self.lockspaces.insert(name.clone(), lockspace.clone());
        Change::Access {
            lockspace,
            origin: Some(origin),
        }
    }

    fn replace_disk(&mut self, node: NodeId, old: Option<DiskId>, new: DiskId) -> Vec<Change> {
        match self.nodes.get_mut(&node) {
            Some(record) if record.disk == old && old != Some(new) => {
                record.disk = Some(new);
                vec![Change::DiskReplaced { node, old, new }]
            }
            _ => Vec::new(),
        }
    }

    fn member_of(&self, node: NodeId, incarnation: Incarnation) -> Option<Member> {
        let member = self.view.member(node).copied();
        member.filter(|m| m.incarnation == incarnation)
    }

    fn retire(&mut self, node: NodeId, boot: BootId) {
        if let Some(record) = self.nodes.get_mut(&node) {
            record.retired.push_back(boot);
            while record.retired.len() > RETIRED_BOOTS_KEPT {
                record.retired.pop_front();
            }
        }
    }

    fn record_fenced(&mut self, index: u64, vanished: Pending, proof: Proof) -> Change {
        let record = FencedRecord {
            node: vanished.node,
            incarnation: vanished.incarnation,
            proof,
            epoch: self.epoch(),
            index,
        };
        let fenced = FencedNode { vanished, record };
        self.fenced.push_back(fenced.clone());
        while self.fenced.len() > FENCED_KEPT {
            self.fenced.pop_front();
        }
        Change::Fenced(fenced)
    }

    fn next_view(
        &mut self,
        reason: Reason,
        about: Option<(NodeId, Incarnation)>,
        detail: &str,
        change: impl FnOnce(&mut View),
    ) -> Vec<Change> {
        let mut view = View::clone(&self.view);
        change(&mut view);
        view.epoch = self.epoch().next();
        if view.members != self.view.members {
            view.members_since = view.epoch;
        }
        view.members.sort_by_key(|m| m.node);
        view.pending.sort_by_key(|p| (p.node, p.incarnation));
        let votes: u32 = view.members.iter().map(|m| self.votes(m.node)).sum();
        view.quorate = votes * 2 > self.votes_total();
        self.view = Arc::new(view);
        self.cause = Cause {
            reason,
            about,
            detail: detail.to_owned(),
        };
        vec![Change::View {
            view: Arc::clone(&self.view),
            cause: self.cause.clone(),
        }]
    }
}

fn vanish(member: Member, left_epoch: Epoch, reason: Reason, directory: Vec<NodeId>) -> Pending {
    Pending {
        node: member.node,
        incarnation: member.incarnation,
        boot: member.boot,
        left_epoch,
        reason,
        directory,
    }
}
