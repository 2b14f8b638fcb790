//! Ranges in the order of their starts, in a tree whose every branch knows enough of what is in it
//! to be passed over: what overlaps a range is found without a look at what does not.
//!
//! A treap: a search tree by start, a heap by numbers that look random and are the same in every
//! run. Its depth is logarithmic in the number of ranges whatever they are, and it needs no rotations
//! by which what the branches know could go wrong.

use core::{fmt::Debug, ops::ControlFlow};
use mainstay_base::{ByteRange, fixed_mix};

/// What stands in a tree.
pub(crate) trait Item: Copy + Debug {
    /// Tells apart what begins at one place.
    type Tag: Ord;
    /// What a branch knows of all that is in it.
    type Summary: Copy + Debug;

    fn range(&self) -> ByteRange;
    fn tag(&self) -> Self::Tag;
    fn summary(&self) -> Self::Summary;
    fn join(a: Self::Summary, b: Self::Summary) -> Self::Summary;
    /// The last byte of all.
    fn last_end(summary: &Self::Summary) -> u64;
}

/// Who looks for something in a tree.
pub(crate) trait Seeker<I: Item> {
    /// Whether a branch may hold something of interest.
    fn wants(&mut self, branch: &I::Summary) -> bool;
    /// One that overlaps.
    fn meets(&mut self, item: &I) -> ControlFlow<()>;
}

const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Node<I, S> {
    item: I,
    summary: S,
    left: u32,
    right: u32,
    priority: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Tree<I, S> {
    nodes: Vec<Node<I, S>>,
    free: Vec<u32>,
    root: u32,
    drawn: u64,
}

impl<I, S> Default for Tree<I, S> {
    fn default() -> Self {
        Tree {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
            drawn: 0,
        }
    }
}

impl<I: Item<Summary = S>, S: Copy> Tree<I, S> {
    pub(crate) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.root == NONE
    }

    pub(crate) fn insert(&mut self, item: I) {
        self.drawn += 1;
        let node = Node {
            item,
            summary: item.summary(),
            left: NONE,
            right: NONE,
            priority: (fixed_mix(0, self.drawn) >> 32) as u32,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                let at =
                    u32::try_from(self.nodes.len()).expect("fewer ranges than bytes of memory");
                self.nodes.push(node);
                at
            }
        };
        let (before, after) = self.split(self.root, &key(&item));
        let before = self.merge(before, at);
        self.root = self.merge(before, after);
    }

    /// Removes the item of that start and tag. Whether there was one.
    pub(crate) fn remove(&mut self, item: &I) -> bool {
        let wanted = key(item);
        let mut path = Vec::new();
        let mut at = self.root;
        while at != NONE {
            let node = &self.nodes[at as usize];
            match wanted.cmp(&key(&node.item)) {
                core::cmp::Ordering::Equal => break,
                core::cmp::Ordering::Less => {
                    path.push((at, true));
                    at = node.left;
                }
                core::cmp::Ordering::Greater => {
                    path.push((at, false));
                    at = node.right;
                }
            }
        }
        if at == NONE {
            return false;
        }
        let Node { left, right, .. } = self.nodes[at as usize];
        let mut below = self.merge(left, right);
        self.free.push(at);
        while let Some((parent, leftwards)) = path.pop() {
            let node = &mut self.nodes[parent as usize];
            match leftwards {
                true => node.left = below,
                false => node.right = below,
            }
            self.sum_up(parent);
            below = parent;
        }
        self.root = below;
        if self.is_empty() {
            *self = Tree {
                drawn: self.drawn,
                ..Tree::default()
            };
        }
        true
    }

    /// Shows a seeker what overlaps a range, by start, the last first if `backwards`.
    pub(crate) fn seek(&self, range: ByteRange, backwards: bool, seeker: &mut impl Seeker<I>) {
        let _ = self.seek_in(self.root, range, backwards, seeker);
    }

    fn seek_in(
        &self,
        at: u32,
        range: ByteRange,
        backwards: bool,
        seeker: &mut impl Seeker<I>,
    ) -> ControlFlow<()> {
        let Some(node) = self.nodes.get(at as usize) else {
            return ControlFlow::Continue(());
        };
        if I::last_end(&node.summary) < range.start() || !seeker.wants(&node.summary) {
            return ControlFlow::Continue(());
        }
        let here = node.item.range();
        let reaches = here.start() <= range.end();
        let sides = match backwards {
            false => [node.left, node.right],
            true => [node.right, node.left],
        };
        for (side, at) in sides.into_iter().enumerate() {
            if reaches || at == node.left {
                self.seek_in(at, range, backwards, seeker)?;
            }
            if side == 0 && here.overlaps(range) {
                seeker.meets(&node.item)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn sum_up(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let mut summary = node.item.summary();
        for side in [node.left, node.right] {
            if let Some(below) = self.nodes.get(side as usize) {
                summary = I::join(summary, below.summary);
            }
        }
        self.nodes[at as usize].summary = summary;
    }

    /// Those before a key, and the others.
    fn split(&mut self, at: u32, wanted: &(u64, I::Tag)) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        let Node {
            item, left, right, ..
        } = self.nodes[at as usize];
        if key(&item) < *wanted {
            let (before, after) = self.split(right, wanted);
            self.nodes[at as usize].right = before;
            self.sum_up(at);
            (at, after)
        } else {
            let (before, after) = self.split(left, wanted);
            self.nodes[at as usize].left = after;
            self.sum_up(at);
            (before, at)
        }
    }

    /// All of the one come before all of the other.
    fn merge(&mut self, before: u32, after: u32) -> u32 {
        if before == NONE {
            return after;
        }
        if after == NONE {
            return before;
        }
        let priority = |at: u32| self.nodes[at as usize].priority;
        let top = match priority(before) > priority(after) {
            true => {
                let right = self.nodes[before as usize].right;
                let right = self.merge(right, after);
                self.nodes[before as usize].right = right;
                before
            }
            false => {
                let left = self.nodes[after as usize].left;
                let left = self.merge(before, left);
                self.nodes[after as usize].left = left;
                after
            }
        };
        self.sum_up(top);
        top
    }
}

fn key<I: Item>(item: &I) -> (u64, I::Tag) {
    (item.range().start(), item.tag())
}
