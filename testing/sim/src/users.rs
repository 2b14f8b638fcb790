//! Who the clients are, and what one of their users may not do: lock the cold names of the second
//! lockspace in a mode that writes.

use crate::{checkers::books::ClientNo, workloads::Terrain};
use mainstay_base::{
    AccessChange, AccessRule, Caller, LockMode, LockspaceName, ModeSet, ResourceName, UserLimits,
    Whom,
};

/// The user that may only read there.
const READER: u32 = 1001;
const PREFIX: &[u8] = b"cold-";

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
    let rule = |whom, modes| AccessRule {
        prefix: PREFIX.to_vec(),
        whom,
        modes,
    };
    AccessChange {
        rules: Some(vec![
            rule(Whom::User(READER), ModeSet::READ),
            rule(Whom::All, ModeSet::ALL),
        ]),
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
    reads || caller.uid != READER || !guarded || !name.as_bytes().starts_with(PREFIX)
}
