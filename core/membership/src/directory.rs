//! Which member knows where a resource is mastered.

use mainstay_base::{LockspaceId, NodeId, ResourceName, fixed_hash, fixed_mix};

/// The directory node of a resource: rendezvous hashing, so a member that comes or goes moves only
/// its own share. A sub-resource has the directory node of its root, so one node knows a whole tree.
/// `None` if there are no members. The order of `members` does not matter.
#[must_use]
pub fn directory_node(
    members: &[NodeId],
    lockspace: LockspaceId,
    name: &ResourceName,
) -> Option<NodeId> {
    let resource = fixed_hash(name.root_bytes(), u64::from(lockspace.0));
    members.iter().copied().max_by_key(|node| {
        // The name is hashed once; only its hash is mixed with each node. A tie goes to the higher
        // number, so that the order of the members cannot show.
        (fixed_mix(resource, u64::from(node.0) + 1), *node)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> impl Iterator<Item = ResourceName> {
        (0..20_000).map(|i| ResourceName::new(format!("vm-{i}/disk")).expect("a valid name"))
    }

    fn nodes(count: u16) -> Vec<NodeId> {
        (1..=count).map(NodeId).collect()
    }

    /// Protects L2: a node that leaves moves its own entries and no others, and its share is even.
    #[test]
    fn a_leaver_moves_only_its_share() {
        let before = nodes(5);
        let after: Vec<NodeId> = before.iter().copied().filter(|n| n.0 != 3).collect();
        let mut moved = 0;
        for name in names() {
            let old = directory_node(&before, LockspaceId(1), &name);
            let new = directory_node(&after, LockspaceId(1), &name);
            if old == Some(NodeId(3)) {
                moved += 1;
                assert_ne!(new, old);
            } else {
                assert_eq!(new, old, "{name} moved although its node stayed");
            }
        }
        assert!(
            (3600..4400).contains(&moved),
            "{moved} of 20000, a fifth was due"
        );
    }

    /// Protects even spread, and lockspaces from sharing one pattern.
    #[test]
    fn entries_spread_evenly_over_the_members() {
        for lockspace in [LockspaceId(1), LockspaceId(2)] {
            let mut counts = [0u32; 4];
            for name in names() {
                let node = directory_node(&nodes(4), lockspace, &name).expect("four members");
                counts[usize::from(node.0) - 1] += 1;
            }
            for count in counts {
                assert!((4600..5400).contains(&count), "{counts:?}");
            }
        }
    }

    /// Protects rolling upgrades: all versions must agree on the directory.
    #[test]
    fn the_directory_function_is_part_of_the_protocol() {
        let pick = |text: &str| {
            let name = ResourceName::new(text).expect("a valid name");
            directory_node(&nodes(5), LockspaceId(1), &name)
                .expect("members")
                .0
        };
        let picks: Vec<u16> = ["a", "b", "c", "d", "e", "f", "g", "h"].map(pick).into();
        assert_eq!(picks, GOLDEN);
        assert_eq!(
            directory_node(
                &[],
                LockspaceId(1),
                &ResourceName::new("a").expect("a valid name")
            ),
            None
        );
    }

    /// Protects trees: whatever is beneath a resource has its directory node.
    #[test]
    fn a_tree_has_one_directory_node() {
        for root in names().take(100) {
            let child = root.child("a").expect("valid");
            let deep = child.child("b").expect("valid");
            let pick = |name| directory_node(&nodes(5), LockspaceId(1), name);
            assert!(pick(&root) == pick(&child) && pick(&root) == pick(&deep));
        }
    }

    const GOLDEN: [u16; 8] = [2, 3, 3, 4, 5, 1, 2, 1];
}
