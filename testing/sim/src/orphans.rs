//! Persistent locks in the books: they stand when their session ends, until their node says that they
//! were released, and pass from one client to the next by adoption.

use crate::{
    checkers::{
        Fact,
        books::{Claim, ClientNo, LifeNo, Res, Who},
    },
    client::{Call, Lock, Phase},
    users,
    world::World,
};
use mainstay_base::{Flags, LockMode, Token};
use mainstay_wire::{
    client::{Ask, Handle},
    event::{Event, OrphanFate, What},
};

/// A lock that was granted to a client which died before it heard so.
pub(crate) const UNHEARD: Handle = Handle(0);

/// What a client asked last to adopt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adopting {
    handle: Handle,
    conn: u64,
    persistent: bool,
    /// If it asked for one of whichever node: on what, in which mode, and through which life.
    anywhere: Option<(Res, LockMode, LifeNo)>,
}

impl Adopting {
    /// Under which name, and on which connection.
    pub(crate) fn call(&self) -> (Handle, u64) {
        (self.handle, self.conn)
    }
}

impl World {
    /// A client has its answer: nothing is on its way to it any more.
    pub(crate) fn adoption_answered(&mut self, client: ClientNo, handle: Handle) {
        let adopting = self.adopting.get_mut(&client);
        if let Some(adopting) = adopting.filter(|a| a.handle == handle) {
            adopting.anywhere = None;
        }
    }

    /// A client asks to adopt an orphan, `anywhere` or of its node.
    pub(crate) fn ask_to_adopt(
        &mut self,
        slot: usize,
        handle: Handle,
        res: Res,
        mode: LockMode,
        flags: Flags,
        anywhere: bool,
    ) {
        let (space, name) = self.terrain.resources[res as usize].clone();
        let client = &mut self.clients[slot];
        let Some(lockspace) = client.spaces[space] else {
            return;
        };
        let (phase, demoted) = (Phase::Asking, false);
        let lock = Lock {
            res,
            phase,
            demoted,
        };
        client.locks.insert(handle, lock);
        let adopting = Adopting {
            handle,
            conn: client.conn,
            persistent: flags.contains(Flags::PERSISTENT),
            anywhere: anywhere.then_some((res, mode, client.life)),
        };
        self.adopting.insert(client.no, adopting);
        self.touched.entry(client.no).or_default().insert(res);
        let blocking = true;
        let ask = match anywhere {
            false => Ask::Adopt {
                handle,
                lockspace,
                name,
                mode,
                flags,
                blocking,
            },
            true => Ask::AdoptAnywhere {
                handle,
                lockspace,
                name,
                mode,
                flags,
                blocking,
            },
        };
        let call = Call::Adopt {
            handle,
            mode,
            flags,
        };
        self.ask(slot, ask, call);
    }

    /// A node says what became of an orphan. That goes before all that it says because of it.
    pub(crate) fn orphan_told(&mut self, life: LifeNo, event: &Event) {
        let What::Orphan {
            lockspace,
            name,
            mode,
            pid,
            fate,
        } = &event.what
        else {
            return;
        };
        let Some(res) = self.terrain.find(lockspace, name) else {
            return;
        };
        let here = &self.books.lives[life as usize];
        let vanished = here.incarnation.map(|incarnation| (here.node, incarnation));
        if vanished.is_some_and(|gone| self.proved.contains(&gone)) {
            return; // It has not heard that its locks are gone.
        }
        let (mode, client) = (*mode, *pid);
        let adopted = matches!(fate, OrphanFate::Adopted { .. });
        // A client has one lock at most on a resource of this kind.
        let claims = self.books.on(res);
        let mine = claims
            .filter(|(who, claim)| who.client == client && claim.standing && claim.persistent);
        // What comes may be of another life: it was adopted there; or the life before had it, if this one goes
        // on with its locks; or it was ceded to a client that waits no more.
        let comes = adopted || *fate == OrphanFate::Left && self.survives(res);
        let mine = mine.filter(|(_, claim)| comes || claim.life == life);
        let known = mine.max_by_key(|(_, claim)| claim.life == life);
        let known = known.map(|(who, _)| *who);
        let ends = adopted || *fate == OrphanFate::Purged;
        let known = match known {
            None if ends && !self.survives(res) => self.recall(res, client),
            known => known,
        };
        match (fate, known) {
            // The heir's node says more.
            (OrphanFate::Ceded, _) => self.stats.count("orphans ceded"),
            (OrphanFate::Left, known) => self.left(life, res, mode, client, known),
            (OrphanFate::Adopted { by }, Some(who)) => {
                self.survivor_inherited(res, client, *by);
                self.passes(who, *by, life);
            }
            (OrphanFate::Purged, Some(who)) => {
                self.stats.count("orphans purged");
                let ended = self.books.end_standing(|w, _| w == who);
                self.tell_ended(&ended);
            }
            (fate, None) if self.survives(res) => {
                self.left_behind_passes(life, (res, mode), client, *fate);
            }
            (OrphanFate::Adopted { .. } | OrphanFate::Purged, None) => {
                let what = format!("client {client} left no orphan on resource {res}: {event}");
                self.judge.complain("S2 no lost grant", self.now, what);
            }
        }
    }

    fn left(
        &mut self,
        life: LifeNo,
        res: Res,
        mode: LockMode,
        client: ClientNo,
        known: Option<Who>,
    ) {
        self.stats.count("orphans");
        let handle = UNHEARD;
        let who = known.unwrap_or(Who { client, handle });
        if known.is_none() {
            self.stats.count("orphans that were never heard of");
            let token = Token::NONE;
            self.books
                .grant(self.now, who, res, mode, token, life, true);
        }
        if let Some(claim) = self.books.claim_mut(who) {
            // What was under way when the client died has ended.
            claim.life = life;
            claim.mode = mode;
            claim.restore = None;
            claim.believed = false;
            claim.persistent = true;
            claim.relied &= known.is_some();
        }
        self.fact(&Fact::Orphaned { who, res });
    }

    /// An orphan has another owner, who may not have heard of it yet.
    fn passes(&mut self, from: Who, by: ClientNo, life: LifeNo) {
        self.stats.count("orphans adopted");
        let (Some(adopting), Some(mut claim)) =
            (self.adopting.get(&by).copied(), self.books.remove(from))
        else {
            let what = format!("client {by} adopted a lock that it had not asked for");
            return self.judge.complain("client protocol", self.now, what);
        };
        let to = Who {
            client: by,
            handle: adopting.handle,
        };
        let res = claim.res;
        let user = |no| users::caller(no, "orphans").uid;
        let space = &self.terrain.spaces[self.terrain.resources[res as usize].0];
        if claim.life != life {
            self.stats.count("orphans adopted on other nodes");
        }
        claim.life = life;
        let node = self.books.lives[life as usize].node;
        if user(by) != user(from.client) && self.owner_of(node, space) != Some(user(by)) {
            let what = format!(
                "client {by} adopted what another user's client {} left",
                from.client
            );
            self.judge.complain("access", self.now, what);
        }
        claim.persistent = adopting.persistent;
        self.books.put(to, claim);
        self.fact(&Fact::Passed { from, to, res });
        if self.ended.contains(&adopting.conn) && !adopting.persistent {
            let ended = self.books.end_standing(|who, _| who == to);
            self.tell_ended(&ended);
        }
    }

    /// The end of a life is proved. What its clients were about to adopt may have been theirs, unless its
    /// node says otherwise.
    pub(crate) fn perhaps_adopted(&mut self, gone: &[bool]) {
        let asked = self.adopting.values().filter_map(|asked| asked.anywhere);
        // Of what survives, the log says whose it is.
        let asked: Vec<(Res, LockMode)> = asked
            .filter(|(res, _, life)| gone[*life as usize] && !self.survives(*res))
            .map(|(res, mode, _)| (res, mode))
            .collect();
        let ended = self.books.end_standing(|_, claim| {
            claim.persistent && !claim.believed && asked.contains(&(claim.res, claim.mode))
        });
        for (_, claim) in &ended {
            self.fact(&Fact::MayInvalidate { res: claim.res });
            if self.books.empty(claim.res) {
                self.fact(&Fact::Emptied { res: claim.res });
            }
        }
        self.remember(&ended);
    }

    /// Orphans have ended, as far as can be seen: they may have been on their way to another node.
    pub(crate) fn remember(&mut self, ended: &[(Who, Claim)]) {
        for (who, claim) in ended {
            if claim.persistent && !claim.believed {
                let key = (claim.res, who.client);
                self.perhaps.insert(key, (*who, claim.clone()));
            }
        }
    }

    /// An orphan that may have ended has not.
    fn recall(&mut self, res: Res, client: ClientNo) -> Option<Who> {
        let (who, claim) = self.perhaps.remove(&(res, client))?;
        self.books.put(who, claim);
        self.fact(&Fact::HadPassed { res });
        Some(who)
    }
}
