//! Who does most of the work on a resource, as its master sees it, in a few bytes per resource.
//!
//! The count of one node goes up with each call of that node, by its weight, and down with each call
//! of another, by twice that one's weight. Where it falls to nothing another node takes its place. So
//! it grows only while one node does more than two thirds of the work (weights aside), and a load
//! that is even, or swings faster than it can grow, moves nothing.

use mainstay_base::{Instant, MastersConfig, NodeId};

/// Where a resource stands on its way to another master.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Stage {
    /// It stays.
    #[default]
    Stays,
    /// The others are being asked to say no more.
    Asked,
    /// They have; nothing is decided here any more.
    Frozen,
}

/// Kept with every resource by its master.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heat {
    node: NodeId,
    score: u16,
    /// It stands in the list of those that may move.
    pub(crate) listed: bool,
    pub(crate) stage: Stage,
    /// When it came, in [`TICK`]s, of which only the last bits are kept.
    came: u16,
}

/// Nanoseconds.
const TICK: u64 = 1 << 26;

fn ticks(now: Instant) -> u16 {
    (now.0 / TICK) as u16
}

impl Heat {
    /// Counts a call. Whether the resource is better off at [`Heat::node`] and not listed yet.
    pub(crate) fn count(&mut self, config: &MastersConfig, me: NodeId, by: NodeId) -> bool {
        let weight = u16::from(config.weight(by));
        if by == self.node && by != me {
            let enough = self.enough(config);
            self.score = self.score.saturating_add(weight).min(enough.max(1) * 2);
            return !self.listed && self.score > 0 && self.score >= enough;
        }
        let down = weight * 2;
        if self.score > down {
            self.score -= down;
        } else if by == me {
            self.score = 0;
        } else {
            (self.node, self.score) = (by, weight);
        }
        false
    }

    /// Who does most of the work, if that has gone on for long enough to move.
    pub(crate) fn better(&self, config: &MastersConfig) -> Option<NodeId> {
        (self.score > 0 && self.score >= self.enough(config)).then_some(self.node)
    }

    fn enough(&self, config: &MastersConfig) -> u16 {
        config.after * u16::from(config.weight(self.node))
    }

    /// Of a resource that has just come from another master.
    pub(crate) fn fresh(now: Instant) -> Heat {
        Heat {
            came: ticks(now),
            ..Heat::default()
        }
    }

    /// Whether it came so lately that it stays for now; by accident also now and then later.
    pub(crate) fn rests(&self, config: &MastersConfig, now: Instant) -> bool {
        let here = u64::from(ticks(now).wrapping_sub(self.came)) * TICK;
        u128::from(here) < config.rest.as_nanos()
    }

    /// Begins to count anew.
    pub(crate) fn cool(&mut self) {
        self.score = 0;
        self.listed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);

    fn moved_after(config: &MastersConfig, calls: impl Iterator<Item = u16>) -> Option<usize> {
        let mut heat = Heat::default();
        let mut calls = calls.map(NodeId);
        calls.position(|by| heat.count(config, ME, by))
    }

    /// Protects from moves to and fro: an even load moves nothing, nor does one that swings quickly.
    #[test]
    fn an_even_load_moves_nothing() {
        let config = MastersConfig::default();
        for period in [1, 2, 10, 60] {
            let even = (0..100_000).map(|i| 1 + (i / period % 2) as u16);
            assert_eq!(moved_after(&config, even), None, "{period} calls each");
        }
        let three = (0..60_000).map(|i| 1 + i % 3);
        assert_eq!(moved_after(&config, three), None);
    }

    /// Protects the point of it: what another node uses nearly alone moves soon.
    #[test]
    fn what_another_uses_moves() {
        let config = MastersConfig::default();
        let after = usize::from(config.after);
        assert_eq!(moved_after(&config, core::iter::repeat(2)), Some(after - 1));
        let mostly = (0..10_000).map(|i| if i % 5 == 0 { 1 } else { 2 });
        assert!(moved_after(&config, mostly).is_some_and(|calls| calls < 6 * after));
    }

    /// Protects weights: a heavier node needs a smaller share, one without weight never gets any.
    #[test]
    fn weights_count() {
        let half = || (0..10_000).map(|i| 1 + i % 2);
        let mut config = MastersConfig::default();
        config.weights.insert(NodeId(2), 8);
        assert!(moved_after(&config, half()).is_some());
        config.weights.insert(NodeId(2), 0);
        let mut heat = Heat::default();
        for _ in 0..1000 {
            heat.count(&config, ME, NodeId(2));
        }
        assert_eq!(heat.better(&config), None);
    }
}
