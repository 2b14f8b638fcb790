//! Groups and clones, and the instances that clones have.

use super::service::{Around, meta, primitive, primitive_config, service};
use crate::{
    model::{Config, Kind, Sx, Values, World},
    rules::{Asked, collect},
};
use mainstay_cib::{
    resources::{Cloned, Group, Primitive, Resource},
    sets::AttributeSet,
    text::Str,
};
use std::sync::Arc;

/// A group with its members; `None` if there are none.
pub(super) fn group(world: &mut World<'_>, group: &Group, around: &Around) -> Option<Sx> {
    let config = group_config(world, group, around);
    let inner = inside_group(world, group, &config, around);
    let members: Vec<Arc<Config>> = group
        .members
        .iter()
        .filter_map(|m| primitive_config(world, m, &inner))
        .collect();
    Some(make_group(world, config, &members, around))
}

fn group_config(world: &World<'_>, group: &Group, around: &Around) -> Arc<Config> {
    Arc::new(Config {
        id: group.id.clone(),
        meta: meta(world, &group.meta, &around.meta, None),
        ..Config::default()
    })
}

/// What the members of a group inherit.
fn inside_group(world: &World<'_>, group: &Group, config: &Arc<Config>, around: &Around) -> Around {
    let mut params = parameters(world, &group.parameters);
    for (name, value) in &around.params {
        params.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Around {
        meta: config.meta.clone(),
        params,
        ..around.clone()
    }
}

fn make_group(
    world: &mut World<'_>,
    config: Arc<Config>,
    members: &[Arc<Config>],
    around: &Around,
) -> Sx {
    let (ordered, colocated) = (config.truth("ordered"), config.truth("collocated"));
    let at = service(world, Kind::Group, config, around);
    world.services[at].ordered = ordered.unwrap_or(true);
    world.services[at].colocated = colocated.unwrap_or(true);
    let inner = Around {
        parent: Some(at),
        ..around.clone()
    };
    for member in members {
        primitive(world, member.clone(), &inner);
    }
    at
}

fn parameters(world: &World<'_>, sets: &[AttributeSet]) -> Values {
    let asked = Asked {
        now: world.now,
        ..Asked::default()
    };
    let mut values = Values::new();
    collect(world.index, sets, asked, None, &mut values);
    values
}

/// A whole number among meta attributes.
fn number(config: &Config, names: &[&str]) -> Option<u32> {
    let text = names.iter().find_map(|n| config.meta.get(*n))?;
    match mainstay_cib::value::FromText::from_text(text) {
        Some(score) => u32::try_from(mainstay_cib::value::Score::get(score))
            .ok()
            .or(Some(0)),
        None => None,
    }
}

/// A clone with its instances. `master` is the old element for promotable ones.
pub(super) fn clone(world: &mut World<'_>, cloned: &Cloned, master: bool) -> Option<Sx> {
    let around = Around::default();
    let params = parameters(world, &cloned.parameters);
    let own = meta(world, &cloned.meta, &around.meta, None);
    clone_of(
        world,
        &cloned.id,
        own,
        params,
        cloned.content.as_deref()?,
        master,
        &around,
    )
}

/// The same with what is known already of the clone; bundles have clones inside.
pub(super) fn clone_of(
    world: &mut World<'_>,
    id: &Str,
    own: Values,
    params: Values,
    content: &Resource,
    master: bool,
    around: &Around,
) -> Option<Sx> {
    let mut config = Config {
        id: id.clone(),
        meta: own,
        ..Config::default()
    };
    let promotable = master || config.truth("promotable") == Some(true);
    if promotable && !all_of(world, content, &["ocf"]) {
        return None;
    }
    let asked_unique = config.truth("globally-unique") == Some(true);
    let unique = asked_unique && all_of(world, content, &["ocf", "stonith"]);
    let everywhere = u32::try_from(world.nodes.len().max(1)).unwrap_or(u32::MAX);
    // Instances stay where they are unless there is a reason; the clone as such has no place.
    let sticky = config.meta.contains_key("resource-stickiness");
    let own_config = Arc::new(config.clone());
    if !sticky {
        config.meta.insert("resource-stickiness".into(), "1".into());
    }
    if master {
        config.meta.insert("promotable".into(), "true".into());
    }
    if asked_unique && !unique {
        config.meta.insert("globally-unique".into(), "false".into());
    }
    let outer = Around {
        promotable,
        ..around.clone()
    };
    let at = service(world, Kind::Clone, own_config, &outer);
    let node_max = number(&config, &["clone-node-max"]).unwrap_or(1);
    let made = &mut world.services[at];
    made.unique = unique;
    made.promotable = promotable;
    made.max = number(&config, &["clone-max"]).unwrap_or(everywhere);
    if asked_unique && !unique {
        made.max = made.max.min(everywhere);
    }
    made.node_max = if unique { node_max } else { node_max.min(1) };
    made.min = number(&config, &["clone-min"]).unwrap_or(0);
    made.interleave = config.truth("interleave") == Some(true);
    made.ordered = config.truth("ordered") == Some(true);
    if promotable {
        made.promoted_max = number(&config, &["promoted-max", "master-max"]).unwrap_or(1);
        made.promoted_node_max =
            number(&config, &["promoted-node-max", "master-node-max"]).unwrap_or(1);
    }
    let count = made.max.max(1);
    let orphan = made.max == 0;
    let inner = Around {
        parent: Some(at),
        meta: config.meta.clone(),
        params,
        instance: None,
        unique,
        promotable,
    };
    match content {
        Resource::Group(g) => {
            let config = group_config(world, g, &inner);
            let members = inside_group(world, g, &config, &inner);
            let members: Vec<_> = g
                .members
                .iter()
                .filter_map(|m| primitive_config(world, m, &members))
                .collect();
            for number in 0..count {
                let around = Around {
                    instance: Some(number),
                    ..inner.clone()
                };
                make_group(world, config.clone(), &members, &around);
            }
        }
        Resource::Primitive(p) => {
            let config = primitive_config(world, p, &inner)?;
            for number in 0..count {
                let around = Around {
                    instance: Some(number),
                    ..inner.clone()
                };
                primitive(world, config.clone(), &around);
            }
        }
        _ => return None,
    }
    if orphan {
        for child in world.services[at].children.clone() {
            mark_orphan(world, child);
        }
    }
    Some(at)
}

/// Whether all agents in a clone are of one of these standards: most standards know neither instances
/// that differ nor promotion.
fn all_of(world: &World<'_>, content: &Resource, classes: &[&str]) -> bool {
    let fits = |p: &Primitive| {
        let whole = world.index.whole(p);
        let class = whole.as_ref().and_then(|w| w.class.as_deref());
        class.is_none_or(|class| classes.contains(&class))
    };
    match content {
        Resource::Primitive(p) => fits(p),
        Resource::Group(g) => g.members.iter().all(fits),
        _ => true,
    }
}

fn mark_orphan(world: &mut World<'_>, service: Sx) {
    world.services[service].orphan = true;
    for child in world.services[service].children.clone() {
        mark_orphan(world, child);
    }
}

/// One more instance of a clone than it should have, for what the history has too many of.
pub(crate) fn another_instance(world: &mut World<'_>, clone: Sx) -> Sx {
    let model = world.services[clone].children[0];
    let number = u32::try_from(world.services[clone].children.len()).unwrap_or(u32::MAX);
    let around = Around {
        parent: Some(clone),
        instance: Some(number),
        unique: world.services[clone].unique,
        promotable: world.services[clone].promotable,
        ..Around::default()
    };
    let config = world.services[model].config.clone();
    let instance = if world.services[model].kind == Kind::Group {
        let members: Vec<_> = world.services[model]
            .children
            .iter()
            .map(|&m| world.services[m].config.clone())
            .collect();
        make_group(world, config, &members, &around)
    } else {
        primitive(world, config, &around)
    };
    if number >= world.services[clone].max {
        mark_orphan(world, instance);
    }
    instance
}
