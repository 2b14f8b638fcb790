//! Who may lock what: owner, group and mode of a lockspace, and rules for names in it.

use crate::{LockMode, NameError, RESOURCE_NAME_MAX};
use serde::{Deserialize, Serialize};

/// Most rules of one lockspace.
pub const RULES_MAX: usize = 16;

/// A user, as the kernel told of the process that connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    /// User number.
    pub uid: u32,
    /// Number of the group with which the process connected; others that it is in do not count.
    pub gid: u32,
    /// Root or the daemon's own user: may do everything.
    pub privileged: bool,
}

/// Lock modes as a set.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ModeSet(u8);

impl ModeSet {
    /// No mode.
    pub const NONE: ModeSet = ModeSet(0);
    /// NL, CR and PR: those in which nobody writes.
    pub const READ: ModeSet =
        ModeSet(1 << LockMode::Nl as u8 | 1 << LockMode::Cr as u8 | 1 << LockMode::Pr as u8);
    /// All modes.
    pub const ALL: ModeSet = ModeSet(0b11_1111);

    /// Whether a mode is in it.
    #[must_use]
    pub fn has(self, mode: LockMode) -> bool {
        self.0 & (1 << mode as u8) != 0
    }

    /// The same set with another mode.
    #[must_use]
    pub fn with(self, mode: LockMode) -> ModeSet {
        ModeSet(self.0 | 1 << mode as u8)
    }

    /// Its modes, the weakest first.
    pub fn modes(self) -> impl Iterator<Item = LockMode> {
        LockMode::ALL
            .into_iter()
            .filter(move |mode| self.has(*mode))
    }
}

/// To whom a rule applies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whom {
    /// Everybody.
    All,
    /// Who connected with this group.
    Group(u32),
    /// This user.
    User(u32),
}

impl Whom {
    fn is(self, caller: Caller) -> bool {
        match self {
            Whom::All => true,
            Whom::Group(gid) => gid == caller.gid,
            Whom::User(uid) => uid == caller.uid,
        }
    }

    /// A rule for a user goes before one for a group, and that before one for all.
    fn rank(self) -> u8 {
        match self {
            Whom::All => 0,
            Whom::Group(_) => 1,
            Whom::User(_) => 2,
        }
    }
}

/// What some may do with names that begin alike.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccessRule {
    /// How the names begin, at most 64 bytes; nothing stands for all names.
    pub prefix: Vec<u8>,
    /// Who.
    pub whom: Whom,
    /// In which modes they may be locked.
    pub modes: ModeSet,
}

/// Who may lock what in a lockspace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Access {
    /// User number of the owner, who may change all this.
    pub owner: u32,
    /// Group number.
    pub group: u32,
    /// As of a file, for owner, group and others: 6 all modes, 4 those that do not write, 0 none.
    pub mode: u16,
    /// What goes before the mode, for some names and callers.
    pub rules: Vec<AccessRule>,
    /// Counts up with each change.
    pub revision: u64,
}

/// What is to become of an [`Access`]; what is not named stays.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AccessChange {
    /// Another owner.
    pub owner: Option<u32>,
    /// Another group.
    pub group: Option<u32>,
    /// Another mode.
    pub mode: Option<u16>,
    /// Other rules, in the place of all that there are.
    pub rules: Option<Vec<AccessRule>>,
    /// Only if its revision is this one: for who has read it and changes what it read.
    pub revision: Option<u64>,
}

/// Why an [`AccessChange`] cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AccessError {
    /// The mode has digits other than 0, 4 and 6, or too many.
    #[error(
        "a mode of {0:o}: three digits for owner, group and others, each 6 (all modes), 4 (nl, cr, pr) or 0"
    )]
    Mode(u16),
    /// More rules than allowed.
    #[error("{0} rules; a lockspace may have {RULES_MAX}")]
    TooMany(usize),
    /// A prefix that is longer than any name.
    #[error("{0}")]
    Prefix(NameError),
}

impl Default for Access {
    /// Root's, and open to all.
    fn default() -> Access {
        Access::open_to_all(0, 0)
    }
}

impl Access {
    /// Everybody may everything; the owner may change that.
    #[must_use]
    pub fn open_to_all(owner: u32, group: u32) -> Access {
        Access {
            owner,
            group,
            mode: 0o666,
            rules: Vec::new(),
            revision: 0,
        }
    }

    /// Whether nobody is refused anything.
    #[must_use]
    pub fn is_open_to_all(&self) -> bool {
        self.mode == 0o666 && self.rules.is_empty()
    }

    /// With some of it changed.
    #[must_use]
    pub fn changed(&self, change: &AccessChange) -> Access {
        Access {
            owner: change.owner.unwrap_or(self.owner),
            group: change.group.unwrap_or(self.group),
            mode: change.mode.unwrap_or(self.mode),
            rules: change.rules.clone().unwrap_or_else(|| self.rules.clone()),
            revision: self.revision.saturating_add(1),
        }
    }

    /// Whether it is one that may be.
    ///
    /// # Errors
    /// If it is not.
    pub fn check(&self) -> Result<(), AccessError> {
        let change = AccessChange {
            mode: Some(self.mode),
            rules: Some(self.rules.clone()),
            ..AccessChange::default()
        };
        change.check()
    }

    /// The modes in which a caller may lock a name.
    #[must_use]
    pub fn modes(&self, caller: Caller, name: &[u8]) -> ModeSet {
        if caller.privileged {
            return ModeSet::ALL;
        }
        let applies = |rule: &&AccessRule| rule.whom.is(caller) && name.starts_with(&rule.prefix);
        let rules = self.rules.iter().filter(applies);
        // The most special one decides; of two that are alike, the first.
        let rank = |rule: &&AccessRule| (rule.prefix.len(), rule.whom.rank());
        match rules.rev().max_by_key(rank) {
            Some(rule) => rule.modes,
            None => self.by_mode(caller),
        }
    }

    fn by_mode(&self, caller: Caller) -> ModeSet {
        let shift = if caller.uid == self.owner {
            6
        } else if caller.gid == self.group {
            3
        } else {
            0
        };
        match self.mode >> shift & 0o7 {
            0o6 => ModeSet::ALL,
            0o4 => ModeSet::READ,
            _ => ModeSet::NONE,
        }
    }

    /// Whether there may be a name that a caller may lock.
    #[must_use]
    pub fn may_open(&self, caller: Caller) -> bool {
        let by_rule = |rule: &AccessRule| rule.whom.is(caller) && rule.modes != ModeSet::NONE;
        caller.privileged || self.by_mode(caller) != ModeSet::NONE || self.rules.iter().any(by_rule)
    }
}

impl AccessChange {
    /// Whether what it names may be.
    ///
    /// # Errors
    /// If it may not.
    pub fn check(&self) -> Result<(), AccessError> {
        if let Some(mode) = self.mode {
            let digits = [mode >> 6 & 0o7, mode >> 3 & 0o7, mode & 0o7];
            if mode > 0o777 || digits.iter().any(|digit| ![0, 4, 6].contains(digit)) {
                return Err(AccessError::Mode(mode));
            }
        }
        let rules = self.rules.as_deref().unwrap_or_default();
        if rules.len() > RULES_MAX {
            return Err(AccessError::TooMany(rules.len()));
        }
        match rules.iter().map(|rule| rule.prefix.len()).max() {
            Some(len) if len > RESOURCE_NAME_MAX => Err(AccessError::Prefix(NameError::TooLong {
                what: "resource",
                max: RESOURCE_NAME_MAX,
                len,
            })),
            _ => Ok(()),
        }
    }
}

/// What one user may have on one node; `None` where there is no limit. Root and the daemon's user
/// have none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UserLimits {
    /// Locks, those that wait included.
    pub locks: Option<u64>,
    /// Sessions.
    pub sessions: Option<u64>,
    /// Calls that wait, or may come to.
    pub waiting: Option<u64>,
    /// Lockspaces owned, in the whole cluster.
    pub lockspaces: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use LockMode::{Cr, Cw, Ex, Nl, Pr, Pw};

    fn caller(uid: u32, gid: u32) -> Caller {
        Caller {
            uid,
            gid,
            privileged: false,
        }
    }

    fn rule(prefix: &str, whom: Whom, modes: ModeSet) -> AccessRule {
        AccessRule {
            prefix: prefix.into(),
            whom,
            modes,
        }
    }

    /// Protects lockspaces as files are: the owner's, the group's and the others' digit, the first that
    /// applies, decide; who is privileged may everything; and one open to all refuses nobody.
    #[test]
    fn modes_read_as_those_of_files() {
        let access = Access {
            mode: 0o640,
            ..Access::open_to_all(10, 20)
        };
        assert_eq!(access.modes(caller(10, 99), b"x"), ModeSet::ALL);
        assert_eq!(access.modes(caller(11, 20), b"x"), ModeSet::READ);
        assert_eq!(access.modes(caller(11, 21), b"x"), ModeSet::NONE);
        let owner_less = Access {
            mode: 0o066,
            ..access.clone()
        };
        assert_eq!(owner_less.modes(caller(10, 20), b"x"), ModeSet::NONE);
        let root = Caller {
            privileged: true,
            ..caller(0, 0)
        };
        assert_eq!(owner_less.modes(root, b"x"), ModeSet::ALL);
        assert!(!access.may_open(caller(11, 21)) && access.may_open(root));
        assert!(Access::open_to_all(1, 1).is_open_to_all() && !access.is_open_to_all());
        assert_eq!(ModeSet::READ.modes().collect::<Vec<_>>(), [Nl, Cr, Pr]);
        assert!([Cw, Pw, Ex].iter().all(|mode| !ModeSet::READ.has(*mode)));
    }

    /// Protects rules: the longest prefix decides, then the user before the group before all, and the
    /// mode only where no rule applies; a rule may give and take.
    #[test]
    fn the_most_special_rule_decides() {
        let read = ModeSet::READ;
        let access = Access {
            mode: 0o600,
            rules: vec![
                rule("vm-", Whom::All, read),
                rule("vm-", Whom::Group(20), ModeSet::ALL),
                rule("vm-", Whom::User(11), ModeSet::NONE),
                rule("vm-1", Whom::All, ModeSet::NONE.with(Cr)),
                rule("", Whom::User(12), read),
            ],
            ..Access::open_to_all(10, 10)
        };
        assert_eq!(access.modes(caller(13, 13), b"vm-2"), read);
        assert_eq!(access.modes(caller(13, 20), b"vm-2"), ModeSet::ALL);
        assert_eq!(access.modes(caller(11, 20), b"vm-2"), ModeSet::NONE);
        assert_eq!(
            access.modes(caller(13, 20), b"vm-10"),
            ModeSet::NONE.with(Cr)
        );
        assert_eq!(access.modes(caller(10, 10), b"vm-2"), read, "the owner too");
        assert_eq!(access.modes(caller(12, 13), b"db"), read);
        assert_eq!(access.modes(caller(13, 13), b"db"), ModeSet::NONE);
        assert!(access.may_open(caller(13, 13)));
    }

    /// Protects the replicated state from what means nothing: odd digits, too many rules, prefixes
    /// longer than names.
    #[test]
    fn what_cannot_be_is_refused() {
        let with = |mode| AccessChange {
            mode: Some(mode),
            ..AccessChange::default()
        };
        for mode in [0o666, 0, 0o640, 0o400] {
            assert_eq!(with(mode).check(), Ok(()));
        }
        for mode in [0o777, 0o660 | 1, 0o200, 0o1666] {
            assert_eq!(with(mode).check(), Err(AccessError::Mode(mode)));
        }
        let rules = |count, len| AccessChange {
            rules: Some(vec![rule(&"x".repeat(len), Whom::All, ModeSet::ALL); count]),
            ..AccessChange::default()
        };
        assert_eq!(rules(16, 64).check(), Ok(()));
        assert_eq!(rules(17, 1).check(), Err(AccessError::TooMany(17)));
        assert!(matches!(rules(1, 65).check(), Err(AccessError::Prefix(_))));
        let before = Access::open_to_all(1, 2);
        let after = before.changed(&with(0o600));
        assert_eq!((after.owner, after.group, after.mode), (1, 2, 0o600));
    }
}
