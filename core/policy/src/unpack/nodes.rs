//! Nodes as they are configured.

use crate::{
    model::{Discover, Node, NodeKind, Nx, Values, World},
    rules::{Asked, collect, collect_over},
};
use mainstay_cib::{
    sets::AttributeSet,
    text::Str,
    value::{NodeType, Score},
};
use std::{cmp::Ordering, collections::BTreeMap};

/// Compares names so that numbers in them count as numbers: node2 before node10.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let (mut x, mut y) = (a.as_str(), b.as_str());
    loop {
        match (x.chars().next(), y.chars().next()) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(p), Some(q)) if p.is_ascii_digit() && q.is_ascii_digit() => {
                let cut = |t: &str| t.find(|c: char| !c.is_ascii_digit()).unwrap_or(t.len());
                let (i, j) = (cut(x), cut(y));
                let number = |t: &str| t.parse::<u64>().unwrap_or(u64::MAX);
                match number(&x[..i]).cmp(&number(&y[..j])) {
                    Ordering::Equal => (x, y) = (&x[i..], &y[j..]),
                    other => return other,
                }
            }
            (Some(p), Some(q)) if p != q => return p.cmp(&q),
            (Some(p), Some(q)) => (x, y) = (&x[p.len_utf8()..], &y[q.len_utf8()..]),
        }
    }
}

/// Reads the section of nodes. They stand in the order of their names from here on; nodes that
/// services bring about come behind.
pub(super) fn configured(world: &mut World<'_>) {
    let cib = world.cib;
    let mut nodes = Vec::new();
    for node in cib.nodes() {
        let kind = match node.kind.get().unwrap_or(NodeType::Member) {
            NodeType::Member => NodeKind::Member,
            NodeType::Remote => NodeKind::Remote,
            NodeType::Ping => NodeKind::Ping,
        };
        let mut made = new_node(world, &node.id, node.name(), kind);
        made.score = node.score.or(Score::ZERO);
        made.is_dc = cib.dc_uuid.as_deref() == Some(&*node.id);
        add_attributes(world, &mut made, &node.attributes, false);
        let asked = Asked {
            now: world.now,
            ..Asked::default()
        };
        let mut utilization = Values::new();
        collect(
            world.index,
            &node.utilization,
            asked,
            None,
            &mut utilization,
        );
        made.utilization = amounts(utilization);
        nodes.push(made);
    }
    nodes.sort_by(|a, b| natural(&a.name, &b.name));
    for node in nodes {
        add(world, node);
    }
    if cib
        .nodes()
        .iter()
        .any(|n| n.kind.get() == Some(NodeType::Remote))
    {
        world.has_remote_nodes = true;
    }
}

/// Amounts of utilization; what is no number is none.
pub(super) fn amounts(values: Values) -> BTreeMap<Str, i64> {
    let number = |v: &str| v.trim().parse().unwrap_or(0);
    values.into_iter().map(|(k, v)| (k, number(&v))).collect()
}

fn new_node(world: &World<'_>, id: &Str, name: &Str, kind: NodeKind) -> Node {
    let mut node = Node {
        id: id.clone(),
        name: name.clone(),
        kind,
        unseen: true,
        unclean: kind == NodeKind::Member && world.options.fences_unseen(),
        discovery: true,
        ..Node::default()
    };
    let kind = if kind == NodeKind::Remote {
        "remote"
    } else {
        "cluster"
    };
    node.attributes.insert("#kind".into(), kind.into());
    if let Some(cluster) = world.options.all.get("cluster-name") {
        node.attributes
            .insert("#cluster-name".into(), cluster.clone());
        node.attributes.insert("#site-name".into(), cluster.clone());
    }
    node
}

/// Adds attributes to those of a node; `over` if they count more than those that are there.
pub(crate) fn add_attributes(
    world: &World<'_>,
    node: &mut Node,
    sets: &[AttributeSet],
    over: bool,
) {
    let asked = Asked {
        now: world.now,
        ..Asked::default()
    };
    if over {
        collect_over(world.index, sets, asked, &mut node.attributes);
    } else {
        collect(world.index, sets, asked, None, &mut node.attributes);
    }
    if let Some(site) = node.attributes.get("site-name").cloned() {
        node.attributes.insert("#site-name".into(), site);
    }
}

fn add(world: &mut World<'_>, node: Node) -> Nx {
    let at = world.nodes.len();
    world
        .node_by_name
        .get_or_insert_with(node.name.clone(), || at);
    world.nodes.push(node);
    at
}

/// The node of this name that a service brings about; it may be configured with attributes too.
pub(crate) fn remote(world: &mut World<'_>, name: &Str) -> Nx {
    world.has_remote_nodes = true;
    if let Some(&known) = world.node_by_name.get(name) {
        return known;
    }
    let node = new_node(world, name, name, NodeKind::Remote);
    add(world, node)
}

/// Keeps all but what is meant for it away from a node.
pub(super) fn close(world: &mut World<'_>, node: Nx) {
    world.nodes[node].score = Score::NEVER;
    world.nodes[node].discover = Discover::Never;
    for service in &mut world.services {
        if let Some(allowed) = service.allowed.get_mut(node) {
            allowed.score = Score::NEVER;
            allowed.discover = Discover::Never;
        }
    }
}
