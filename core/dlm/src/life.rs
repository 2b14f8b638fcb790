//! Incarnations of nodes, at length and packed for tables with millions of rows.

use core::{fmt, num::NonZeroU64};
use mainstay_base::{Incarnation, NodeId};

/// An incarnation of a node.
pub(crate) type Life = (NodeId, Incarnation);

const INCARNATION_BITS: u32 = 48;

/// A [`Life`] in eight bytes, in the same order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PackedLife(NonZeroU64);

impl PackedLife {
    /// # Panics
    /// If the incarnation is zero or beyond 2^48: the replicated log numbers them from one.
    pub(crate) fn of((node, incarnation): Life) -> PackedLife {
        assert!(
            incarnation.0 >> INCARNATION_BITS == 0,
            "incarnation {incarnation} of node {node}: no node comes back that often"
        );
        let packed = u64::from(node.0) << INCARNATION_BITS | incarnation.0;
        PackedLife(NonZeroU64::new(packed).expect("incarnations are numbered from one"))
    }

    pub(crate) fn life(self) -> Life {
        let packed = self.0.get();
        (
            NodeId((packed >> INCARNATION_BITS) as u16),
            Incarnation(packed & ((1 << INCARNATION_BITS) - 1)),
        )
    }
}

impl fmt::Debug for PackedLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.life().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the keys of locks: packing loses nothing, and keeps the order of queues.
    #[test]
    fn packed_lives_are_the_same_lives() {
        let lives = [(0, 1), (1, 1), (1, 2), (1, (1 << 48) - 1), (65535, 1)];
        let lives = lives.map(|(node, incarnation)| (NodeId(node), Incarnation(incarnation)));
        let packed = lives.map(PackedLife::of);
        assert_eq!(packed.map(PackedLife::life), lives);
        assert!(packed.is_sorted());
    }
}
