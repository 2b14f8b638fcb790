//! The directory side: who masters the names that hash to this node.
//!
//! Rules, by number in `docs/protocol/locking.md`. The delicate one: an unknown name may be given
//! to its first user only if it is certain that nobody masters it. That is certain once every
//! member has registered, under the present set of members, what it masters, and for every
//! vanished incarnation whose resources are not rebuilt yet this node was the name's directory
//! while that incarnation was still a member, and had registered: then it would know.

use crate::{Dlm, life::PackedLife, names::Place, table::State};
use mainstay_base::{Epoch, Instant, LockspaceId, Mutant, NodeId, ResourceName, Token};
use mainstay_membership::directory_node;
use mainstay_wire::dlm::{Body, ResourceId};

/// Most names in one registration.
pub(crate) const NAMES_PER_MESSAGE: usize = 512;

/// What the directory knows of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// That member masters it.
    At(NodeId),
    /// A vanished incarnation mastered it, and it is not rebuilt yet.
    Lost(PackedLife),
}

/// Who asks for the master of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) node: NodeId,
    /// If nobody masters it, it had rather not do so itself.
    pub(crate) unwilling: bool,
}

impl Asker {
    pub(crate) fn willing(node: NodeId) -> Asker {
        Asker {
            node,
            unwilling: false,
        }
    }

    pub(crate) fn unwilling(node: NodeId) -> Asker {
        Asker {
            node,
            unwilling: true,
        }
    }
}

impl Dlm {
    /// The directory node of a resource in the present view.
    pub(crate) fn directory_of(&self, resource: &ResourceId) -> Option<NodeId> {
        directory_node(&self.ids, resource.space, &resource.name)
    }

    /// Asks the directory who masters a resource.
    pub(crate) fn look_up(&mut self, now: Instant, resource: &ResourceId) {
        let Some(directory) = self.directory_of(resource) else {
            return;
        };
        let unwilling = self.had_rather_not_master(now);
        if directory == self.me {
            let node = self.me;
            self.directory_answer(now, Asker { node, unwilling }, resource);
        } else {
            let (resource, members) = (resource.clone(), self.members_epoch);
            let body = match unwilling {
                true => Body::LookupUnwilling { resource, members },
                false => Body::Lookup { resource, members },
            };
            self.send(directory, body);
        }
    }

    /// A member asks.
    pub(crate) fn directory_ask(
        &mut self,
        now: Instant,
        from: Asker,
        resource: ResourceId,
        members: Epoch,
    ) {
        // Whoever asked under another set of members asks again once it has installed this one.
        if members == self.members_epoch && self.directory_of(&resource) == Some(self.me) {
            self.directory_answer(now, from, &resource);
        }
    }

    /// Answers, or lets the asker wait until there is an answer.
    fn directory_answer(&mut self, now: Instant, from: Asker, resource: &ResourceId) {
        let known = self.entry(resource);
        let root = match known {
            None => self.root_entry(resource),
            Some(_) => None,
        };
        match known {
            Some(Entry::At(master)) if master != from.node => {
                self.directory_tell(now, from.node, resource, master);
            }
            Some(Entry::At(_)) => self.directory_give(now, from.node, resource, false),
            None if !matches!(root, Some(Entry::Lost(_))) && self.certainly_free(resource) => {
                let instead = match root {
                    // A tree is mastered together.
                    Some(Entry::At(master)) => Some(master).filter(|master| *master != from.node),
                    // Others may not know yet by which rules to master it; the asker does.
                    _ if from.unwilling && self.spaces.has(resource.space) => {
                        self.master_instead(from.node, resource)
                    }
                    _ => None,
                };
                match instead {
                    Some(master) => {
                        self.directory_give(now, master, resource, true);
                        self.directory_tell(now, from.node, resource, master);
                    }
                    None => self.directory_give(now, from.node, resource, false),
                }
            }
            Some(Entry::Lost(_)) | None => {
                let askers = self.askers.entry(resource.clone()).or_default();
                if !askers.contains(&from) {
                    askers.push(from);
                }
            }
        }
    }

    /// What this node knows of the root of a sub-resource's tree, if it is one.
    fn root_entry(&mut self, resource: &ResourceId) -> Option<Entry> {
        if resource.name.is_root() || Mutant::TreeScattered.active() {
            return None;
        }
        let root = resource.root();
        self.entry(&root)
    }

    fn directory_tell(&mut self, now: Instant, to: NodeId, resource: &ResourceId, master: NodeId) {
        if to == self.me {
            return self.learn_master(now, resource, master);
        }
        let members = self.members_epoch;
        self.send(
            to,
            Body::MasterIs {
                resource: resource.clone(),
                members,
                master,
            },
        );
    }

    fn directory_give(&mut self, now: Instant, to: NodeId, resource: &ResourceId, unasked: bool) {
        self.resources.set_entry(resource, Entry::At(to));
        let floor = self.floor.max(Token::floor(self.view.epoch));
        if to == self.me {
            return self.become_master(now, resource, floor);
        }
        let (resource, members) = (resource.clone(), self.members_epoch);
        let body = if unasked {
            self.unconfirmed.insert(resource.clone());
            Body::Appoint {
                resource,
                members,
                floor,
            }
        } else {
            Body::YouMaster {
                resource,
                members,
                floor,
            }
        };
        self.send(to, body);
    }

    /// Another had rather not master a resource, so this node does; once it knows by which rules. It may
    /// apply the entry of the log that made the lockspace later than whoever asked.
    pub(crate) fn appointed(&mut self, now: Instant, resource: ResourceId, floor: Token) {
        if !self.spaces.has(resource.space) {
            // What others ask for there meanwhile is kept, as while this node asks who the master is.
            self.resources.place_or_new(&resource);
            return self.appointed.push((resource, floor));
        }
        self.become_master(now, &resource, floor);
        self.confirm_master(&resource);
    }

    /// A lockspace has become known: this node masters in it what it was appointed to.
    pub fn accept_appointments(&mut self, now: Instant) {
        for (resource, floor) in std::mem::take(&mut self.appointed) {
            self.appointed(now, resource, floor);
        }
    }

    /// Registers a resource that this node has not asked for, if it has taken it.
    pub(crate) fn confirm_master(&mut self, resource: &ResourceId) {
        if let Some(place) = self.resources.place(resource)
            && matches!(self.resources.get(place).state, State::Mine(_))
        {
            self.register_one(place, resource);
        }
    }

    /// Whether it is certain that nobody masters a name without an entry.
    fn certainly_free(&self, resource: &ResourceId) -> bool {
        Mutant::DirectoryTooSure.active()
            || self.all_registered()
                && self.departed.values().all(|departure| {
                    departure.members.as_ref().is_some_and(|members| {
                        directory_node(members, resource.space, &resource.name) == Some(self.me)
                    })
                })
    }

    pub(crate) fn all_registered(&self) -> bool {
        self.ids.iter().all(|node| self.registered.contains(node))
    }

    /// Answers those that can be answered now.
    pub(crate) fn directory_retry(&mut self, now: Instant) {
        for (resource, askers) in std::mem::take(&mut self.askers) {
            for from in askers {
                self.directory_answer(now, from, &resource);
            }
        }
    }

    pub(crate) fn directory_register(
        &mut self,
        now: Instant,
        from: NodeId,
        space: LockspaceId,
        names: Vec<ResourceName>,
    ) {
        for name in names {
            let resource = ResourceId { space, name };
            self.unconfirmed.remove(&resource);
            if self.directory_of(&resource) != Some(self.me) {
                continue; // The sender will register it elsewhere when it installs this view.
            }
            match self.entry(&resource) {
                Some(Entry::At(master)) if master != from => {
                    let text = format!(
                        "nodes {master} and {from} both claim to master {} in lockspace {}",
                        resource.name, resource.space
                    );
                    self.out.push(crate::Out::Fatal(text));
                }
                _ => {
                    self.resources.set_entry(&resource, Entry::At(from));
                    self.answer_askers(now, &resource);
                }
            }
        }
    }

    /// Answers those who asked for a name of which it is known now who masters it.
    pub(crate) fn answer_askers(&mut self, now: Instant, resource: &ResourceId) {
        for asker in self.askers.remove(resource).unwrap_or_default() {
            self.directory_answer(now, asker, resource);
        }
        if !self.askers.is_empty() && resource.name.is_root() {
            // Those may have waited for the root of their tree.
            let of_tree =
                |id: &&ResourceId| id.space == resource.space && id.name.is_in(&resource.name);
            let after = self.askers.range(resource..).map(|(id, _)| id);
            let beneath: Vec<ResourceId> = after.take_while(of_tree).cloned().collect();
            for resource in beneath {
                for asker in self.askers.remove(&resource).unwrap_or_default() {
                    self.directory_answer(now, asker, &resource);
                }
            }
        }
    }

    /// A member has registered all it masters, for the set of members of that epoch.
    pub(crate) fn directory_registered(&mut self, now: Instant, from: NodeId, members: Epoch) {
        if members == self.members_epoch {
            self.registered.insert(from);
            if self.all_registered() {
                self.directory_retry(now);
            }
        }
    }

    pub(crate) fn directory_forget(&mut self, from: NodeId, resource: ResourceId, last: Token) {
        if self.entry(&resource) == Some(Entry::At(from)) {
            self.resources.clear_entry(&resource);
        }
        self.floor = self.floor.max(last);
        self.send(from, Body::Forgotten { resource });
    }

    /// Enters own mastership of the resource at a place with its directory.
    pub(crate) fn register_one(&mut self, place: Place, resource: &ResourceId) {
        match self.directory_of(resource) {
            Some(directory) if directory == self.me => {
                self.resources
                    .set_directory(place, Some(Entry::At(self.me)));
            }
            Some(directory) => {
                let names = vec![resource.name.clone()];
                self.send(
                    directory,
                    Body::Register {
                        space: resource.space,
                        names,
                    },
                );
            }
            None => {}
        }
    }

    /// Tells all members that everything mastered here is registered, unless there is more to come
    /// from catching up or from rebuilding.
    pub(crate) fn say_registered(&mut self, now: Instant) {
        let behind = self.catching_up() && !Mutant::RegisteredTooEarly.active();
        let more = !self.settled || behind || self.rebuilds_unfinished();
        if !self.owes_registered || more {
            return;
        }
        self.owes_registered = false;
        let members = self.members_epoch;
        for node in self.others() {
            self.send(node, Body::Registered { members });
        }
        self.registered.insert(self.me);
        if self.all_registered() {
            self.directory_retry(now);
        }
    }
}
