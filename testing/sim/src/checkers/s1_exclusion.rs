//! S1: at no moment do two live holders hold incompatible modes on one resource, and tokens grow.
//!
//! A client holds from the receipt of the grant until it submits the release, while its lease page
//! shows its generation and its host's clock is before the deadline. Holding can therefore begin
//! only with a grant, with a new deadline on the page, or when a conversion is refused and what it
//! would have given up is relied on again; those moments are judged.

use super::{
    Checker, Fact,
    books::{Books, Claim, Res, Who},
    conflict, tell,
};
use mainstay_base::{LockMode, Token};
use std::collections::BTreeMap;

/// Watches S1.
#[derive(Debug, Default)]
pub struct Exclusion {
    /// Per resource and mode the largest tokens granted so far to two different locks.
    tokens: BTreeMap<Res, [[Top; 2]; 6]>,
}

/// A token, and which lock it was given to.
type Top = Option<(Token, Who)>;

impl Exclusion {
    fn alone(&self, now: u64, who: Who, claim: &Claim, books: &Books) -> Result<(), String> {
        for (other, theirs) in books.on(claim.res) {
            if *other != who && conflict(claim.mode, theirs.mode) && books.active(theirs, now) {
                return Err(format!(
                    "resource {} is held by {} and by {} at once",
                    claim.res,
                    tell(who, claim, books),
                    tell(*other, theirs, books)
                ));
            }
        }
        Ok(())
    }

    fn token_grew(&mut self, who: Who, claim: &Claim, books: &Books) -> Result<(), String> {
        let seen = self.tokens.entry(claim.res).or_default();
        for mode in LockMode::ALL {
            // A lock's own earlier grant does not conflict with its next: it may keep its token
            // when it converts down.
            let before = seen[mode as usize]
                .iter()
                .flatten()
                .filter(|(_, whose)| *whose != who)
                .map(|(token, _)| *token)
                .max();
            if conflict(mode, claim.mode)
                && let Some(before) = before
                && before >= claim.token
            {
                return Err(format!(
                    "resource {}: {} came after a conflicting grant in {mode} with token {before:?}",
                    claim.res,
                    tell(who, claim, books),
                ));
            }
        }
        let [first, second] = &mut seen[claim.mode as usize];
        match first {
            Some((token, whose)) if *whose == who => *token = (*token).max(claim.token),
            Some((token, _)) if *token > claim.token => {
                if second.is_none_or(|(token, whose)| whose == who || token < claim.token) {
                    *second = Some((claim.token, who));
                }
            }
            _ => *second = first.replace((claim.token, who)),
        }
        Ok(())
    }
}

impl Checker for Exclusion {
    fn promise(&self) -> &'static str {
        "S1 exclusion"
    }

    fn observe(&mut self, now: u64, fact: &Fact<'_>, books: &Books) -> Result<(), String> {
        match *fact {
            Fact::Granted { who, .. } => {
                let Some(claim) = books.claim(who) else {
                    return Ok(());
                };
                // A grant that arrives after the lease ran out is not held.
                if !books.active(claim, now) {
                    return Ok(());
                }
                self.alone(now, who, claim, books)?;
                self.token_grew(who, claim, books)
            }
            // The token is the lock's, whoever owns it.
            Fact::Passed { from, to, res } => {
                let seen = self.tokens.entry(res).or_default();
                for (_, whose) in seen.iter_mut().flatten().flatten() {
                    *whose = if *whose == from { to } else { *whose };
                }
                Ok(())
            }
            Fact::Inherited { who, res, token } => {
                let seen = self.tokens.entry(res).or_default();
                for (known, whose) in seen.iter_mut().flatten().flatten() {
                    *whose = if *known == token { who } else { *whose };
                }
                Ok(())
            }
            Fact::ConversionRefused { who } => match books.claim(who) {
                Some(claim) if books.active(claim, now) => self.alone(now, who, claim, books),
                _ => Ok(()),
            },
            Fact::LeaseShown { life } if books.life_valid(life, now) => books
                .all()
                .filter(|(_, claim)| claim.life == life && books.active(claim, now))
                .try_for_each(|(who, claim)| self.alone(now, *who, claim, books)),
            Fact::SureAgain { client } => books
                .all()
                .filter(|(who, claim)| who.client == client && books.active(claim, now))
                .try_for_each(|(who, claim)| self.alone(now, *who, claim, books)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{grant, two_nodes, who};
    use LockMode::{Cw, Ex, Pr};

    fn granted(checker: &mut Exclusion, now: u64, client: u32, books: &Books) -> bool {
        let fact = Fact::Granted {
            who: who(client),
            read: None,
        };
        checker.observe(now, &fact, books).is_ok()
    }

    /// Protects the net: two exclusive holders at once are seen.
    #[test]
    fn two_holders_are_seen() {
        let (mut checker, mut books) = (Exclusion::default(), two_nodes());
        grant(&mut books, 1, 0, Pr, 5);
        assert!(granted(&mut checker, 1, 1, &books));
        grant(&mut books, 2, 1, Pr, 5);
        assert!(granted(&mut checker, 2, 2, &books));
        grant(&mut books, 3, 1, Cw, 6);
        assert!(!granted(&mut checker, 3, 3, &books));
    }

    /// Protects the net: a lock that goes back to its old mode under another's lock is seen.
    #[test]
    fn a_refused_conversion_is_judged() {
        let (mut checker, mut books) = (Exclusion::default(), two_nodes());
        grant(&mut books, 1, 0, Pr, 5);
        books.converting(who(1), LockMode::Nl, false);
        grant(&mut books, 2, 1, Ex, 6);
        assert!(granted(&mut checker, 2, 2, &books));
        let refused = Fact::ConversionRefused { who: who(1) };
        books.demoted(who(1));
        books.conversion_refused(who(1));
        assert!(checker.observe(3, &refused, &books).is_ok());
        grant(&mut books, 1, 0, Pr, 5);
        assert!(checker.observe(3, &refused, &books).is_err());
    }

    /// Protects honest clusters: after the deadline on the page the old holder does not count.
    #[test]
    fn a_lapsed_holder_does_not_count() {
        let (mut checker, mut books) = (Exclusion::default(), two_nodes());
        grant(&mut books, 1, 0, Ex, 5);
        assert!(granted(&mut checker, 1, 1, &books));
        books.pages[1].over_at = 9000;
        grant(&mut books, 2, 1, Ex, 6);
        assert!(granted(&mut checker, 1000, 2, &books));
    }

    /// Protects the net: a lease that comes back to life under another's lock is seen.
    #[test]
    fn a_revived_holder_is_seen() {
        let (mut checker, mut books) = (Exclusion::default(), two_nodes());
        grant(&mut books, 1, 0, Ex, 5);
        books.pages[0].over_at = 10;
        books.pages[1].over_at = 9000;
        grant(&mut books, 2, 1, Ex, 6);
        assert!(granted(&mut checker, 20, 2, &books));
        books.pages[0].over_at = 500;
        let shown = Fact::LeaseShown { life: 0 };
        assert!(checker.observe(30, &shown, &books).is_err());
    }

    /// Protects the net: a token that does not grow is seen, and only between conflicting grants.
    #[test]
    fn tokens_must_grow() {
        let (mut checker, mut books) = (Exclusion::default(), two_nodes());
        grant(&mut books, 1, 0, Ex, 5);
        assert!(granted(&mut checker, 1, 1, &books));
        books.remove(who(1));
        grant(&mut books, 2, 1, Ex, 5);
        assert!(!granted(&mut checker, 2, 2, &books));
        grant(&mut books, 2, 1, Pr, 7);
        assert!(granted(&mut checker, 2, 2, &books));
        grant(&mut books, 3, 1, Pr, 7);
        assert!(granted(&mut checker, 2, 3, &books));
        books.remove(who(2));
        books.remove(who(3));
        grant(&mut books, 2, 1, Ex, 8);
        assert!(granted(&mut checker, 3, 2, &books));
        // Down-converted under its own token, which nobody else may have now.
        grant(&mut books, 2, 1, Pr, 8);
        assert!(granted(&mut checker, 4, 2, &books));
        grant(&mut books, 3, 1, Pr, 8);
        assert!(!granted(&mut checker, 5, 3, &books));
    }
}
