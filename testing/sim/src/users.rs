//! Who the clients are, and what one of their users may not do: lock some names of the second lockspace
//! in a mode that writes, or write their values otherwise.

use crate::{
    checkers::{
        Fact,
        books::{ClientNo, Res},
        l1_deadlocks::Team,
    },
    client::{Call, Client, Phase},
    workloads::Terrain,
    world::World,
};
use mainstay_base::{
    AccessChange, AccessRule, Caller, Flags, LockMode, LockspaceName, ModeSet, Owner, ResourceName,
    UserLimits, Whom,
};

/// The user that may only read there.
const READER: u32 = 1001;
/// How those names begin. They are locked as a whole, with alternates, in ranges and in sets, and have
/// values that are updated.
const PREFIXES: [&str; 6] = ["cold-", "bargain-", "tally-", "range-", "set-", "tree-"];

/// Whose a client is. Those that only look around do it as root.
pub(crate) fn caller(no: ClientNo, workload: &str) -> Caller {
    let privileged = workload == "spectator";
    Caller {
        uid: match privileged {
            true => 0,
            false => READER - no % 2,
        },
        gid: 100,
        privileged,
    }
}

/// What is counted for a user, but never too much.
pub(crate) fn limits() -> UserLimits {
    UserLimits {
        locks: Some(u64::MAX),
        sessions: Some(u64::MAX),
        waiting: Some(u64::MAX),
        lockspaces: Some(u64::MAX),
    }
}

/// Whether a lockspace has rules.
pub(crate) fn has_rules(terrain: &Terrain, space: &LockspaceName) -> bool {
    terrain.spaces.get(1) == Some(space)
}

/// Its rules.
pub(crate) fn rules() -> AccessChange {
    let of_prefix = |prefix: &str| {
        let rule = |whom, modes| AccessRule {
            prefix: prefix.as_bytes().to_vec(),
            whom,
            modes,
        };
        let reader = rule(Whom::User(READER), ModeSet::READ);
        [reader, rule(Whom::All, ModeSet::ALL)]
    };
    AccessChange {
        rules: Some(PREFIXES.into_iter().flat_map(of_prefix).collect()),
        ..AccessChange::default()
    }
}

/// Whether a user may lock a name in a mode.
pub(crate) fn may(
    terrain: &Terrain,
    caller: Caller,
    (space, name): &(usize, ResourceName),
    mode: LockMode,
) -> bool {
    let reads = matches!(mode, LockMode::Nl | LockMode::Cr | LockMode::Pr);
    let guarded = has_rules(terrain, &terrain.spaces[*space]);
    let ruled = |prefix: &str| name.root_bytes().starts_with(prefix.as_bytes());
    reads || caller.uid != READER || !guarded || !PREFIXES.into_iter().any(ruled)
}

impl Client {
    /// The modes that a call needs which waits for its answer, and on what.
    fn modes_of(&self, call: &Call) -> Option<(Res, Vec<LockMode>)> {
        let with_alternates = |mode, flags: Flags| {
            let alternates = [(Flags::ALTPR, LockMode::Pr), (Flags::ALTCW, LockMode::Cw)];
            let allowed = alternates.into_iter().filter(|(f, _)| flags.contains(*f));
            allowed.map(|(_, mode)| mode).chain([mode]).collect()
        };
        match call {
            Call::Lock {
                handle,
                mode,
                flags,
            } => Some((self.locks.get(handle)?.res, with_alternates(*mode, *flags))),
            Call::Convert {
                handle,
                mode,
                flags,
                ..
            } => {
                let lock = self.locks.get(handle)?;
                let Phase::Converting { from } = lock.phase else {
                    return None;
                };
                // A weaker mode is everybody's.
                let modes = match from.covers(*mode) {
                    true => Vec::new(),
                    false => with_alternates(*mode, *flags),
                };
                Some((lock.res, modes))
            }
            Call::Range { handle } => {
                let ranged = self.ranges.get(handle)?;
                Some((ranged.res, vec![ranged.asked?.1]))
            }
            Call::Update { handle } => Some((self.locks.get(handle)?.res, vec![LockMode::Pw])),
            _ => None,
        }
    }
}

impl World {
    /// A client names the owner of the locks that it will ask for.
    pub(crate) fn owner_chosen(&mut self, slot: usize, owner: Owner) {
        let client = &self.clients[slot];
        let (no, host) = (client.no, client.host);
        let uid = caller(no, client.brain.name()).uid;
        let team = match owner {
            // No two clients are one process.
            Owner::Session | Owner::Process => Team::Alone(no),
            Owner::Group(number) => Team::Group(host, uid, number),
            Owner::Transaction(xid) => Team::Transaction(uid, xid),
        };
        self.stats.count("owners named");
        self.fact(&Fact::Owner { client: no, team });
    }

    /// What a user may not do is refused, and nothing else. `denied`: it was.
    pub(crate) fn judge_access(&mut self, slot: usize, call: &Call, denied: bool) {
        let client = &self.clients[slot];
        let Some((res, modes)) = client.modes_of(call) else {
            return;
        };
        let caller = caller(client.no, client.brain.name());
        let name = &self.terrain.resources[res as usize];
        let allowed = |mode: &LockMode| may(&self.terrain, caller, name, *mode);
        if self.has_rules && modes.iter().all(allowed) == denied {
            let denied = if denied { "denied" } else { "granted" };
            let what = format!(
                "user {} was {denied} {modes:?} on {} in answer to {call:?}",
                caller.uid, name.1
            );
            self.judge.complain("access", self.now, what);
        }
        let counted = match call {
            Call::Range { .. } => "ranges denied",
            Call::Update { .. } => "updates denied",
            _ => "calls denied",
        };
        self.stats.add(counted, u64::from(denied));
    }
}
