//! How much a service is wanted on each node.

use super::Nx;
use mainstay_cib::value::Score;

/// Whether it is asked on a node if a service runs there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Discover {
    #[default]
    Always,
    Never,
    Exclusive,
}

/// What a service has of one node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowed {
    pub score: Score,
    pub discover: Discover,
    /// Instances of a clone that are placed there.
    pub count: u32,
    present: bool,
}

/// The scores of one service, by node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scores(Vec<Allowed>);

impl Scores {
    pub(crate) fn get(&self, node: Nx) -> Option<&Allowed> {
        self.0.get(node).filter(|a| a.present)
    }

    pub(crate) fn get_mut(&mut self, node: Nx) -> Option<&mut Allowed> {
        self.0.get_mut(node).filter(|a| a.present)
    }

    /// The entry of a node, made with a score if it is absent.
    pub(crate) fn entry(&mut self, node: Nx, score: Score, discover: Discover) -> &mut Allowed {
        if self.0.len() <= node {
            self.0.resize(node + 1, Allowed::default());
        }
        let allowed = &mut self.0[node];
        if !allowed.present {
            *allowed = Allowed {
                score,
                discover,
                present: true,
                ..Allowed::default()
            };
        }
        allowed
    }

    /// The entries, in the order of the nodes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Nx, &Allowed)> {
        self.0.iter().enumerate().filter(|(_, a)| a.present)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Nx, &mut Allowed)> {
        self.0.iter_mut().enumerate().filter(|(_, a)| a.present)
    }

    /// The score on a node; must not where there is no entry.
    pub(crate) fn score(&self, node: Nx) -> Score {
        self.get(node).map_or(Score::NEVER, |a| a.score)
    }
}
