//! What is true, as an observer who sees all clients and all clocks would write it down.

use mainstay_base::{Flags, Incarnation, LockMode, Mutant, NodeId, Token};
use mainstay_wire::client::Handle;
use std::collections::BTreeMap;

/// Number of a resource in the world's table.
pub type Res = u32;
/// Number of a client process; never used twice in a run.
pub type ClientNo = u32;
/// Number of a node's life: from a boot or rebirth to the next; never used twice in a run.
pub type LifeNo = u32;
/// Number of a lease page; each daemon process has its own.
pub type PageNo = u32;

/// A lock, by its owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Who {
    /// The client.
    pub client: ClientNo,
    /// Its name for the lock.
    pub handle: Handle,
}

/// What the clients of a host read without asking their daemon.
#[derive(Clone, Copy, Debug, Default)]
pub struct Page {
    /// Sessions of another generation are dead.
    pub generation: u64,
    /// Real time at which the host's clock reaches the deadline.
    pub over_at: u64,
}

impl Page {
    /// Whether a session of this generation may rely on its locks at a real time.
    #[must_use]
    pub fn valid(&self, generation: u64, now: u64) -> bool {
        self.generation == generation && now < self.over_at
    }
}

/// A node from one boot or rebirth to the next.
#[derive(Clone, Debug)]
pub struct Life {
    /// The node.
    pub node: NodeId,
    /// Its membership, once it has acted as a member.
    pub incarnation: Option<Incarnation>,
    /// The page its clients read.
    pub page: PageNo,
    /// The generation of its sessions.
    pub generation: u64,
    /// It was asked to leave.
    pub leaving: bool,
}

/// A lock that a client was granted.
#[derive(Clone, Debug)]
pub struct Claim {
    /// On what.
    pub res: Res,
    /// The mode relied on. While a conversion is under way: what both the old and the new mode allow.
    pub mode: LockMode,
    /// Mode to return to if the conversion under way is refused.
    pub restore: Option<LockMode>,
    /// Of the last grant.
    pub token: Token,
    /// Granted through this life of the client's node.
    pub life: LifeNo,
    /// The client relies on it while the lease page lets it.
    pub believed: bool,
    /// Neither released nor ended with its session or by proof: the cluster must respect it.
    pub standing: bool,
    /// The last call asked for the value block.
    pub valblk: bool,
    /// Whether the conversion under way has VALBLK, too.
    pub valblk_then: bool,
    /// The last call asked that the lock outlive its session.
    pub persistent: bool,
    /// There was a moment at which its owner could rely on it as it was last granted.
    pub relied: bool,
    /// The client that relies on it.
    pub whose: ClientNo,
}

impl Claim {
    /// Whether the block may have been about to change under it.
    #[must_use]
    pub fn may_publish(&self) -> bool {
        self.valblk && (self.restore.is_none() || self.valblk_then)
    }
}

/// All of it.
#[derive(Debug, Default)]
pub struct Books {
    /// By resource.
    claims: BTreeMap<Res, BTreeMap<Who, Claim>>,
    /// Where a lock is filed.
    index: BTreeMap<Who, Res>,
    /// Lease pages by number.
    pub pages: Vec<Page>,
    /// Lives by number.
    pub lives: Vec<Life>,
    /// Until when, in real time, the sessions of clients are kept for certain, if they are kept.
    pub sure: BTreeMap<ClientNo, u64>,
}

/// The strongest mode that allows nothing which either of two modes does not.
#[must_use]
pub fn meet(a: LockMode, b: LockMode) -> LockMode {
    if a.covers(b) {
        b
    } else if b.covers(a) {
        a
    } else {
        // CW and PR have only CR and NL in common.
        LockMode::Cr
    }
}

impl Books {
    /// The lock of this name.
    #[must_use]
    pub fn claim(&self, who: Who) -> Option<&Claim> {
        self.claims.get(self.index.get(&who)?)?.get(&who)
    }

    /// The lock of this name, to be changed.
    pub fn claim_mut(&mut self, who: Who) -> Option<&mut Claim> {
        self.claims.get_mut(self.index.get(&who)?)?.get_mut(&who)
    }

    /// All locks of a resource.
    pub fn on(&self, res: Res) -> impl Iterator<Item = (&Who, &Claim)> {
        self.claims.get(&res).into_iter().flatten()
    }

    /// All locks.
    pub fn all(&self) -> impl Iterator<Item = (&Who, &Claim)> {
        self.claims.values().flatten()
    }

    /// Whether the owner relies on this lock now.
    #[must_use]
    pub fn active(&self, claim: &Claim, now: u64) -> bool {
        let life = &self.lives[claim.life as usize];
        claim.believed
            && self.pages[life.page as usize].valid(life.generation, now)
            && self.sure(claim.whose, now)
    }

    /// Whether a client is sure that its session has not ended. Those whose sessions are not kept learn
    /// that by other means.
    #[must_use]
    pub fn sure(&self, client: ClientNo, now: u64) -> bool {
        Mutant::KeptValidByPage.active() || self.sure.get(&client).is_none_or(|until| now < *until)
    }

    /// Whether the clients of a life may rely on their locks now.
    #[must_use]
    pub fn life_valid(&self, life: LifeNo, now: u64) -> bool {
        let life = &self.lives[life as usize];
        self.pages[life.page as usize].valid(life.generation, now)
    }

    /// Writes down a grant, of a new lock or of a conversion.
    pub fn grant(
        &mut self,
        now: u64,
        who: Who,
        res: Res,
        mode: LockMode,
        token: Token,
        life: LifeNo,
        valblk: bool,
    ) {
        let relied = self.life_valid(life, now);
        self.index.insert(who, res);
        self.claims.entry(res).or_default().insert(
            who,
            Claim {
                res,
                mode,
                restore: None,
                token,
                life,
                believed: true,
                standing: true,
                valblk,
                valblk_then: valblk,
                persistent: false,
                relied,
                whose: who.client,
            },
        );
    }

    /// Writes down a lock as it is.
    pub fn put(&mut self, who: Who, mut claim: Claim) {
        claim.whose = who.client;
        self.index.insert(who, claim.res);
        self.claims.entry(claim.res).or_default().insert(who, claim);
    }

    /// The last call on a lock had these flags.
    pub fn set_persistent(&mut self, who: Who, flags: Flags) {
        if let Some(claim) = self.claim_mut(who) {
            let outlives = flags.contains(Flags::PERSISTENT) || flags.contains(Flags::SURVIVE);
            claim.persistent = outlives;
        }
    }

    /// The clients of a life may rely on their locks now.
    pub fn rely(&mut self, life: LifeNo) {
        for claim in self.claims.values_mut().flat_map(BTreeMap::values_mut) {
            claim.relied |= claim.life == life && claim.believed;
        }
    }

    /// The session of a client goes on with another life of its node.
    pub fn goes_on(&mut self, client: ClientNo, life: LifeNo) {
        for claims in self.claims.values_mut() {
            for (who, claim) in claims {
                if who.client == client && claim.standing {
                    claim.life = life;
                }
            }
        }
    }

    /// The owner asked to convert: from now on it relies only on what both modes allow.
    /// Without VALBLK nothing will be published that a lost master could lose.
    pub fn converting(&mut self, who: Who, to: LockMode, valblk: bool) {
        if let Some(claim) = self.claim_mut(who) {
            claim.restore = Some(claim.mode);
            claim.mode = meet(claim.mode, to);
            claim.valblk_then = valblk;
        }
    }

    /// The conversion under way has taken the old mode.
    pub fn demoted(&mut self, who: Who) {
        if let Some(claim) = self.claim_mut(who) {
            claim.mode = LockMode::Nl;
            claim.restore = Some(LockMode::Nl);
        }
    }

    /// The conversion was refused: the old mode is in force as it always was.
    pub fn conversion_refused(&mut self, who: Who) {
        if let Some(claim) = self.claim_mut(who)
            && let Some(mode) = claim.restore.take()
        {
            claim.mode = mode;
        }
    }

    /// Strikes a lock out.
    pub fn remove(&mut self, who: Who) -> Option<Claim> {
        let res = self.index.remove(&who)?;
        let locks = self.claims.get_mut(&res)?;
        let claim = locks.remove(&who);
        if locks.is_empty() {
            self.claims.remove(&res);
        }
        claim
    }

    /// A client relies on nothing any more: it died or learnt that its session is lost.
    pub fn disbelieve(&mut self, client: ClientNo) {
        self.change_where(
            |who, _| who.client == client,
            |claim| claim.believed = false,
        );
    }

    /// Ends the standing of all locks that pass the test. Returns them as they were.
    pub fn end_standing(&mut self, test: impl Fn(Who, &Claim) -> bool) -> Vec<(Who, Claim)> {
        let mut ended = Vec::new();
        for locks in self.claims.values() {
            for (who, claim) in locks {
                if claim.standing && test(*who, claim) {
                    ended.push((*who, claim.clone()));
                }
            }
        }
        for (who, _) in &ended {
            if let Some(claim) = self.claim_mut(*who) {
                claim.standing = false;
            }
        }
        self.sweep();
        ended
    }

    /// Whether no lock stands on a resource.
    #[must_use]
    pub fn empty(&self, res: Res) -> bool {
        !self.on(res).any(|(_, claim)| claim.standing)
    }

    fn change_where(&mut self, test: impl Fn(Who, &Claim) -> bool, change: impl Fn(&mut Claim)) {
        for locks in self.claims.values_mut() {
            for (who, claim) in locks.iter_mut() {
                if test(*who, claim) {
                    change(claim);
                }
            }
        }
        self.sweep();
    }

    fn sweep(&mut self) {
        let index = &mut self.index;
        self.claims.retain(|_, locks| {
            locks.retain(|who, claim| {
                let keep = claim.believed || claim.standing;
                if !keep {
                    index.remove(who);
                }
                keep
            });
            !locks.is_empty()
        });
    }
}
