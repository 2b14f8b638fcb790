//! What clients know of their own locks, and whether that can all be true.
//!
//! Each client writes down what it could rely on: from when to when it held what, by the clock of
//! the host, which all of them share. A hold ends when the client last asked, before its release or
//! the loss of its lease, and was told that it still held the lock.

use mainstay_base::{Instant, LockMode, Token};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
};

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client let go.
    Released,
    /// The client was told that the lock is lost.
    Lost,
}

/// A time during which a client relied on a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The client.
    pub client: u32,
    /// The resource.
    pub resource: String,
    /// The mode.
    pub mode: LockMode,
    /// The grant's token.
    pub token: Token,
    /// Whether the token must be new: a conversion to less keeps the one it had.
    pub new: bool,
    /// When the client was first told that it holds the lock.
    pub from: Instant,
    /// When the client last was.
    pub to: Instant,
    /// How it ended.
    pub end: End,
}

/// The holds of all clients of a test.
#[derive(Debug, Default)]
pub struct History(Mutex<Vec<Hold>>);

impl History {
    /// Adds a hold that has ended.
    pub fn add(&self, hold: Hold) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(hold);
    }

    /// So many holds were added.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// So many holds ended this way.
    #[must_use]
    pub fn count(&self, end: End) -> usize {
        let holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        holds.iter().filter(|hold| hold.end == end).count()
    }

    /// Checks that no two incompatible holds overlap, that of two incompatible holds the later has
    /// the larger token, and that no token was given twice (but to NL, which excludes
    /// nobody).
    ///
    /// # Errors
    /// With everything that cannot be true.
    pub fn check(&self) -> Result<(), String> {
        let mut holds = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        holds.sort_by_key(|hold| (hold.from, hold.to));
        let mut resources: BTreeMap<&str, Vec<&Hold>> = BTreeMap::new();
        for hold in &holds {
            resources.entry(&hold.resource).or_default().push(hold);
        }
        let mut wrong = String::new();
        for holds in resources.values() {
            check_resource(holds, &mut wrong);
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// `holds` are of one resource, in the order of their beginnings.
fn check_resource(holds: &[&Hold], wrong: &mut String) {
    let mut complain = |what: &str, a: &Hold, b: &Hold| {
        // Writing to a String cannot fail.
        let _ = writeln!(wrong, "{what}:\n  {a:?}\n  {b:?}");
    };
    // By mode: the hold that began earlier and lasts longest, and the one with the largest token.
    let mut longest: BTreeMap<u8, &Hold> = BTreeMap::new();
    let mut largest: BTreeMap<u8, &Hold> = BTreeMap::new();
    let mut tokens: BTreeMap<Token, &Hold> = BTreeMap::new();
    for &hold in holds {
        for &earlier in longest.values() {
            if !earlier.mode.compatible(hold.mode) && earlier.to >= hold.from {
                complain("two held incompatible modes at once", earlier, hold);
            }
        }
        for &earlier in largest.values() {
            let same_grant =
                !hold.new && earlier.client == hold.client && earlier.token == hold.token;
            if !earlier.mode.compatible(hold.mode) && earlier.token >= hold.token && !same_grant {
                complain("a later grant has no larger token", earlier, hold);
            }
        }
        if hold.mode != LockMode::Nl
            && hold.new
            && let Some(other) = tokens.insert(hold.token, hold)
        {
            complain("a token was given twice", other, hold);
        }
        let long = longest.entry(hold.mode as u8).or_insert(hold);
        if hold.to > long.to {
            *long = hold;
        }
        let large = largest.entry(hold.mode as u8).or_insert(hold);
        if hold.token > large.token {
            *large = hold;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(mode: LockMode, token: u64, from: u64, to: u64) -> Hold {
        Hold {
            client: u32::try_from(token).unwrap(),
            resource: "r".to_owned(),
            mode,
            token: Token(token),
            new: true,
            from: Instant::from_millis(from),
            to: Instant::from_millis(to),
            end: End::Released,
        }
    }

    fn complaints(holds: &[Hold]) -> String {
        let history = History::default();
        for hold in holds {
            history.add(hold.clone());
        }
        history.check().err().unwrap_or_default()
    }

    use LockMode::{Cr, Ex, Pr};

    /// Protects the checker from crying wolf: what may be is not complained of.
    #[test]
    fn a_true_history_passes() {
        let mut other = hold(Ex, 1, 0, 100);
        other.resource = "s".to_owned();
        let holds = [
            hold(Ex, 1, 0, 10),
            hold(Pr, 2, 11, 30),
            hold(Pr, 3, 12, 20),
            hold(Cr, 4, 15, 40),
            hold(Ex, 5, 41, 50),
            other,
        ];
        assert_eq!(complaints(&holds), "");
    }

    /// Protects the worth of the checker: a double grant is found, also behind a short hold that
    /// began later.
    #[test]
    fn a_double_grant_is_found() {
        let holds = [hold(Pr, 1, 0, 100), hold(Pr, 2, 5, 10), hold(Ex, 3, 50, 60)];
        let found = complaints(&holds);
        assert!(found.contains("at once"), "{found}");
        assert!(complaints(&holds[1..]).is_empty());
    }

    /// Protects the worth of the checker: storage would refuse a rightful holder with a small token.
    #[test]
    fn a_token_that_does_not_grow_is_found() {
        let found = complaints(&[hold(Ex, 7, 0, 10), hold(Pr, 6, 20, 30)]);
        assert!(found.contains("no larger token"), "{found}");
        let found = complaints(&[hold(Pr, 7, 0, 10), hold(Pr, 7, 5, 30)]);
        assert!(found.contains("given twice"), "{found}");
        // A conversion to less keeps its token, but only its own.
        let mut converted = hold(Pr, 7, 20, 30);
        converted.new = false;
        assert_eq!(complaints(&[hold(Ex, 7, 0, 10), converted.clone()]), "");
        converted.client = 8;
        let found = complaints(&[hold(Ex, 7, 0, 10), converted]);
        assert!(found.contains("no larger token"), "{found}");
    }
}
