//! Keys of operations, and since when a node is a member.

use super::FromText;
use core::fmt;

/// Which action of which transition ordered an operation, and what result it hoped for:
/// `action:transition:target:uuid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransitionKey {
    /// The number of the action in its transition.
    pub action: i32,
    /// The number of the transition.
    pub transition: i32,
    /// The return code that means success.
    pub target_rc: i32,
    /// The life of the policy engine that made the transition.
    pub uuid: String,
}

impl FromText for TransitionKey {
    const EXPECTED: &'static str = "action:transition:target:uuid";

    fn from_text(text: &str) -> Option<TransitionKey> {
        let mut parts = text.splitn(4, ':');
        let mut number = || parts.next()?.parse().ok();
        Some(TransitionKey {
            action: number()?,
            transition: number()?,
            target_rc: number()?,
            uuid: parts.next()?.to_owned(),
        })
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for TransitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TransitionKey {
            action,
            transition,
            target_rc,
            uuid,
        } = self;
        write!(f, "{action}:{transition}:{target_rc}:{uuid}")
    }
}

/// The result of an operation with the key of what ordered it: `status:rc;key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransitionMagic {
    /// How its execution ended.
    pub op_status: i32,
    /// What the agent returned.
    pub rc: i32,
    /// What ordered it.
    pub key: TransitionKey,
}

impl FromText for TransitionMagic {
    const EXPECTED: &'static str = "status:rc;action:transition:target:uuid";

    fn from_text(text: &str) -> Option<TransitionMagic> {
        let (result, key) = text.split_once(';')?;
        let (op_status, rc) = result.split_once(':')?;
        Some(TransitionMagic {
            op_status: op_status.parse().ok()?,
            rc: rc.parse().ok()?,
            key: TransitionKey::from_text(key)?,
        })
    }

    fn to_text(&self) -> String {
        format!("{}:{};{}", self.op_status, self.rc, self.key)
    }
}

/// Whether a node takes part, and since when. Newer clusters write a time where older ones wrote
/// true or online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It does not.
    No,
    /// It does.
    Yes,
    /// It does since so many seconds after 1970 began.
    Since(i64),
}

impl Membership {
    /// Whether it takes part.
    #[must_use]
    pub fn is_yes(self) -> bool {
        self != Membership::No
    }
}

impl FromText for Membership {
    const EXPECTED: &'static str = "true, false, online, offline, or seconds since 1970";

    fn from_text(text: &str) -> Option<Membership> {
        if text.eq_ignore_ascii_case("online") {
            Some(Membership::Yes)
        } else if text.eq_ignore_ascii_case("offline") {
            Some(Membership::No)
        } else if let Some(yes) = bool::from_text(text) {
            Some(if yes { Membership::Yes } else { Membership::No })
        } else {
            text.parse().ok().map(Membership::Since)
        }
    }

    fn to_text(&self) -> String {
        match self {
            Membership::No => "false".to_owned(),
            Membership::Yes => "true".to_owned(),
            Membership::Since(seconds) => seconds.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the comparison of what happened with what was hoped for.
    #[test]
    fn keys_and_magic_are_read_and_written() {
        let text = "0:7;4:88:7:227c6da2-2be2-434b-933b-d715c60f45cd";
        let magic = TransitionMagic::from_text(text).unwrap();
        assert_eq!((magic.rc, magic.key.target_rc), (7, 7));
        assert_eq!(magic.to_text(), text);
        assert_eq!(TransitionKey::from_text("4:88:x"), None);
        assert_eq!(TransitionMagic::from_text("0:7"), None);
    }
}
