//! Which members to keep when some of them cannot hear each other.

use mainstay_base::NodeId;
use std::collections::BTreeSet;

/// Search steps before the best set found so far is taken. Partial partitions of real clusters need
/// a handful.
const STEPS_MAX: u32 = 20_000;

/// The set with the most votes (then the most nodes, then the lowest numbers) that contains `leader`
/// and in which no pair of `apart` occurs. `members` ascend.
pub(super) fn keep(
    members: &[(NodeId, u32)],
    leader: NodeId,
    apart: &BTreeSet<(NodeId, NodeId)>,
) -> Vec<NodeId> {
    let together = |a: NodeId, b: NodeId| !apart.contains(&(a, b)) && !apart.contains(&(b, a));
    let candidates: Vec<(NodeId, u32)> = members
        .iter()
        .copied()
        .filter(|(node, _)| *node == leader || together(*node, leader))
        .collect();
    // Only nodes that are apart from another candidate need a choice; the others stay.
    let (undecided, settled): (Vec<_>, Vec<_>) = candidates
        .iter()
        .copied()
        .partition(|(a, _)| candidates.iter().any(|(b, _)| !together(*a, *b)));
    let mut search = Search {
        together: &together,
        best: (0, 0, Vec::new()),
        steps: 0,
    };
    search.extend(&undecided, &mut Vec::new(), 0);
    let mut kept: Vec<NodeId> = settled.iter().map(|(node, _)| *node).collect();
    kept.extend(search.best.2);
    kept.sort_unstable();
    kept
}

struct Search<'a, F> {
    together: &'a F,
    /// Votes, nodes, and who.
    best: (u32, usize, Vec<NodeId>),
    steps: u32,
}

impl<F: Fn(NodeId, NodeId) -> bool> Search<'_, F> {
    /// Takes or leaves the first of `rest`. Taking comes first, so of equal sets the one with the
    /// lowest numbers is found first, and the first one found is a good one.
    fn extend(&mut self, rest: &[(NodeId, u32)], taken: &mut Vec<NodeId>, votes: u32) {
        self.steps += 1;
        if (votes, taken.len()) > (self.best.0, self.best.1) {
            self.best = (votes, taken.len(), taken.clone());
        }
        let possible: u32 = rest.iter().map(|(_, votes)| votes).sum();
        let bound = (votes + possible, taken.len() + rest.len());
        if bound <= (self.best.0, self.best.1) || self.steps > STEPS_MAX {
            return;
        }
        let Some(((node, weight), others)) = rest.split_first() else {
            return;
        };
        let friends: Vec<(NodeId, u32)> = others
            .iter()
            .copied()
            .filter(|(other, _)| (self.together)(*node, *other))
            .collect();
        taken.push(*node);
        self.extend(&friends, taken, votes + weight);
        taken.pop();
        self.extend(others, taken, votes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(u16, u16)]) -> BTreeSet<(NodeId, NodeId)> {
        list.iter().map(|(a, b)| (NodeId(*a), NodeId(*b))).collect()
    }

    fn kept(members: &[(u16, u32)], leader: u16, apart: &[(u16, u16)]) -> Vec<u16> {
        let members: Vec<(NodeId, u32)> = members.iter().map(|(n, v)| (NodeId(*n), *v)).collect();
        let kept = keep(&members, NodeId(leader), &pairs(apart));
        kept.iter().map(|n| n.0).collect()
    }

    const FIVE: [(u16, u32); 5] = [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)];

    /// Protects the tie break: of two that do not hear each other the lower number stays.
    #[test]
    fn one_of_a_pair_goes_and_the_lower_number_stays() {
        assert_eq!(kept(&FIVE, 1, &[(2, 3)]), [1, 2, 4, 5]);
        assert_eq!(kept(&FIVE, 5, &[(3, 2)]), [1, 2, 4, 5]);
    }

    /// Protects the leader, which alone can carry the decision out.
    #[test]
    fn the_leader_always_stays() {
        assert_eq!(kept(&FIVE, 5, &[(1, 5)]), [2, 3, 4, 5]);
    }

    /// Protects the many from the one: a node that hears nobody but the leader goes alone.
    #[test]
    fn the_node_that_most_cannot_hear_goes() {
        assert_eq!(kept(&FIVE, 4, &[(1, 2), (1, 3), (1, 5)]), [2, 3, 4, 5]);
    }

    /// Protects votes: a heavy node outweighs a lower number.
    #[test]
    fn votes_outweigh_numbers() {
        assert_eq!(kept(&[(1, 1), (2, 1), (3, 2)], 1, &[(2, 3)]), [1, 3]);
    }

    /// Protects the step function from running forever on a thoroughly broken network.
    #[test]
    fn sixty_four_nodes_in_disarray_are_decided_in_bounded_work() {
        let members: Vec<(u16, u32)> = (1..=64).map(|n| (n, 1)).collect();
        let mut apart = Vec::new();
        for a in 1..=64u16 {
            for b in a + 1..=64 {
                if (a * 7 + b * 13) % 3 == 0 {
                    apart.push((a, b));
                }
            }
        }
        let kept = kept(&members, 9, &apart);
        assert!(kept.contains(&9));
        for a in &kept {
            for b in &kept {
                assert!(!apart.contains(&(*a, *b)), "{a} and {b} are apart");
            }
        }
    }
}
