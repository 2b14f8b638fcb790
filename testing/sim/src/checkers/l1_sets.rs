//! L1: sets never wait for each other in a circle, whatever the order in which their locks are named.
//!
//! A client that does nothing but take one set at a time waits for others, but no circle is made of
//! such clients alone: none of them may be refused for one.

use super::{
    Checker, Fact,
    books::{Books, ClientNo},
};
use std::collections::BTreeSet;

/// Watches sets.
#[derive(Debug, Default)]
pub struct Sets {
    /// Calls for sets by clients that neither held nor waited for anything else.
    alone: BTreeSet<(ClientNo, u64)>,
    /// Clients that have waited with more than that.
    others: BTreeSet<ClientNo>,
}

impl Checker for Sets {
    fn promise(&self) -> &'static str {
        "L1 sets"
    }

    fn observe(&mut self, _: u64, fact: &Fact<'_>, _: &Books) -> Result<(), String> {
        match *fact {
            Fact::SetAsked {
                client,
                request,
                alone,
            } => {
                if alone {
                    self.alone.insert((client, request));
                } else {
                    self.others.insert(client);
                }
            }
            Fact::LockAsked { who, request, .. }
                if !self.alone.contains(&(who.client, request)) =>
            {
                self.others.insert(who.client);
            }
            Fact::RangeAsked { who, .. } => {
                self.others.insert(who.client);
            }
            Fact::Victim { client, told, .. }
                if told.iter().all(|w| !self.others.contains(&w.client)) =>
            {
                return Err(format!(
                    "client {client} was refused for a circle of clients that only take sets: \
                     {told:?}"
                ));
            }
            Fact::Answered { client, request } => {
                self.alone.remove(&(client, request));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::{l1_deadlocks::ToldWait, testing::two_nodes};

    fn asked(client: ClientNo, alone: bool) -> Fact<'static> {
        Fact::SetAsked {
            client,
            request: 1,
            alone,
        }
    }

    fn told(clients: [ClientNo; 2]) -> [ToldWait; 2] {
        clients.map(|client| ToldWait {
            client,
            res: Some(client),
            name: ("n1".to_owned(), 1, 1),
        })
    }

    /// Protects the net: a victim among clients that only take sets is seen, and one who stood in a
    /// circle with others is not accused.
    #[test]
    fn a_victim_among_sets_is_seen() {
        let (mut checker, books) = (Sets::default(), two_nodes());
        for fact in [asked(1, true), asked(2, true), asked(3, false)] {
            assert_eq!(checker.observe(1, &fact, &books), Ok(()));
        }
        let mixed = told([1, 3]);
        let victim = |told| Fact::Victim {
            client: 1,
            request: 1,
            told,
        };
        assert_eq!(checker.observe(2, &victim(&mixed), &books), Ok(()));
        let sets = told([1, 2]);
        assert!(checker.observe(2, &victim(&sets), &books).is_err());
    }
}
