//! What the replicated log says of locks that survive their nodes: the truth about them, seen as soon as
//! any node has it.

use crate::{
    checkers::{
        Fact,
        books::{ClientNo, LifeNo, Res, Who},
    },
    world::World,
};
use mainstay_base::{LockMode, LockspaceName, ResourceName, Token};
use mainstay_wire::event::OrphanFate;
use std::collections::BTreeMap;

/// A surviving lock as a node knows it.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its number in the cluster.
    pub number: u64,
    /// Where.
    pub space: LockspaceName,
    /// On what.
    pub name: ResourceName,
    /// The mode held.
    pub mode: LockMode,
    /// The process that has it, or had it last.
    pub pid: ClientNo,
}

/// The records of the log, as the node knows them that has applied most of it.
#[derive(Debug, Default)]
pub(crate) struct Records {
    changes: u64,
    by_number: BTreeMap<u64, (Res, ClientNo, LockMode)>,
    /// Whose a lock is that was another's, by who had it before, until the log says so.
    heirs: BTreeMap<(Res, ClientNo), ClientNo>,
    /// Which lock a client was told of.
    told: BTreeMap<(Res, ClientNo), Who>,
}

impl Records {
    fn heir(&self, res: Res, mut client: ClientNo) -> ClientNo {
        while let Some(heir) = self.heirs.get(&(res, client)) {
            client = *heir;
        }
        client
    }

    /// Who had a lock last that was another's before.
    pub(crate) fn last_heirs(&self) -> impl Iterator<Item = ((Res, ClientNo), ClientNo)> {
        let heirs = self.heirs.keys();
        heirs.map(|&(res, client)| ((res, client), self.heir(res, client)))
    }

    /// All that the log has, by who has it now.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Res, ClientNo, LockMode)> {
        let all = self.by_number.values();
        all.map(|(res, client, mode)| (*res, self.heir(*res, *client), *mode))
    }
}

impl World {
    /// A node has applied so many changes of surviving locks.
    pub(crate) fn survivors_seen(&mut self, host: usize, changes: u64) {
        if changes <= self.records.changes {
            return;
        }
        self.records.changes = changes;
        let process = self.hosts[host].process.as_ref();
        let Some(machine) = process.and_then(|process| process.machine.as_ref()) else {
            return;
        };
        let mut by_number = BTreeMap::new();
        for known in machine.survivors() {
            if let Some(res) = self.terrain.find(&known.space, &known.name) {
                by_number.insert(known.number, (res, known.pid, known.mode));
            }
        }
        let before = std::mem::replace(&mut self.records.by_number, by_number);
        for (number, (res, client, _)) in before {
            if self.records.by_number.contains_key(&number) {
                continue;
            }
            self.stats.count("surviving locks released");
            let client = self.records.heir(res, client);
            let ended = self.books.end_standing(|who, claim| {
                who.client == client && claim.res == res && !claim.believed
            });
            self.tell_ended(&ended);
        }
    }

    /// Whether locks on a resource are to survive their nodes.
    pub(crate) fn survives(&self, res: Res) -> bool {
        self.terrain.surviving.contains(&res)
    }

    /// A client is told of a grant on such a resource: the log must have it by now, and nothing that
    /// is in its way.
    pub(crate) fn judge_survivor(&mut self, who: Who, res: Res, mode: LockMode, standing: bool) {
        if !standing {
            return;
        }
        self.records.told.insert((res, who.client), who);
        let mut known = false;
        let mut wrong = None;
        for (of, client, held) in self.records.all() {
            if of != res {
                continue;
            }
            known |= client == who.client && held == mode;
            if client != who.client && !held.compatible(mode) {
                wrong = Some((client, held));
            }
        }
        if let Some((client, held)) = wrong {
            let what = format!(
                "resource {res} was given to client {} in {mode}, while the log says that client {client}'s \
                 lock in {held} survives",
                who.client
            );
            self.judge.complain("S2 no lost grant", self.now, what);
        } else if !known {
            let what = format!(
                "client {} was told of a lock in {mode} on resource {res} that does not survive its node",
                who.client
            );
            self.judge.complain("S2 no lost grant", self.now, what);
        }
    }

    /// A node says that a client of it has got a lock that nobody here knows as an orphan: its node had
    /// left it behind.
    pub(crate) fn left_behind_passes(
        &mut self,
        life: LifeNo,
        (res, mode): (Res, LockMode),
        client: ClientNo,
        fate: OrphanFate,
    ) {
        let OrphanFate::Adopted { by } = fate else {
            return;
        };
        self.stats.count("surviving locks adopted");
        // Its node may have died before the log heard who had it last.
        let client = self.records.heir(res, client);
        let unheard = Who {
            client,
            handle: super::orphans::UNHEARD,
        };
        // What was ceded the log still has as that one's.
        self.survivor_inherited(res, client, by);
        let from = self.records.told.get(&(res, client)).copied();
        let from = from.unwrap_or(unheard);
        let Some((handle, conn)) = self.adopting.get(&by).map(|adopting| adopting.call()) else {
            let what = format!("client {by} adopted a lock that it had not asked for");
            return self.judge.complain("client protocol", self.now, what);
        };
        let to = Who { client: by, handle };
        let over = self.ended.contains(&conn);
        let token = Token::NONE;
        self.books
            .grant(self.now, to, res, mode, token, life, false);
        if let Some(claim) = self.books.claim_mut(to) {
            claim.believed = false;
            claim.persistent = true;
            claim.relied = false;
            claim.standing = !over;
        }
        self.records.told.insert((res, by), to);
        self.fact(&Fact::Passed { from, to, res });
    }

    /// An orphan on such a resource has another owner on its node; the log says so later.
    pub(crate) fn survivor_inherited(&mut self, res: Res, from: ClientNo, by: ClientNo) {
        if self.survives(res) {
            self.records.heirs.insert((res, from), by);
        }
    }
}
