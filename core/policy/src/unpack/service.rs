//! Services as they are configured: their options, and what follows from them.

use super::{bundle, collective, nodes, remote::Guest};
use crate::{
    model::{Config, Kind, Needed, NoQuorum, OnMultiple, OpDef, Service, Sx, Values, World},
    report::Why,
    rules::{Asked, collect, collect_over, score},
};
use mainstay_cib::{
    operations::Op,
    resources::{Primitive, Resource},
    sets::AttributeSet,
    text::Str,
    value::{FromText as _, Interval, Role, Score, truth},
};
use std::sync::Arc;

/// What a service inherits from what is around it.
#[derive(Clone, Default)]
pub(super) struct Around {
    pub parent: Option<Sx>,
    pub meta: Values,
    pub params: Values,
    /// The number of the instance that it is in.
    pub instance: Option<u32>,
    /// Whether such numbers tell instances apart.
    pub unique: bool,
    pub promotable: bool,
}

/// Reads the section of resources, and the connections to guests.
pub(super) fn configured(world: &mut World<'_>, guests: &[Guest]) {
    let cib = world.cib;
    for resource in cib.resources() {
        if let Some(root) = resource_of(world, resource) {
            world.roots.push(root);
        }
    }
    for guest in guests {
        let root = guest.connection(world);
        world.roots.push(root);
    }
    for service in 0..world.services.len() {
        containers(world, service);
        connect(world, service);
    }
    let priority = |s: &Sx| std::cmp::Reverse(world.services[*s].priority);
    let mut roots = world.roots.clone();
    roots.sort_by_key(priority);
    world.roots = roots;
}

fn resource_of(world: &mut World<'_>, resource: &Resource) -> Option<Sx> {
    let outside = Around::default();
    match resource {
        Resource::Primitive(p) => {
            let config = primitive_config(world, p, &outside)?;
            Some(primitive(world, config, &outside))
        }
        Resource::Group(g) => collective::group(world, g, &outside),
        Resource::Clone(c) => collective::clone(world, c, false),
        Resource::Master(c) => collective::clone(world, c, true),
        Resource::Bundle(b) => bundle::bundle(world, b),
    }
}

/// The meta attributes of a service, with what it inherits and the cluster's defaults.
pub(super) fn meta(
    world: &World<'_>,
    own: &[AttributeSet],
    around: &Values,
    agent: Option<(&str, &str, &str)>,
) -> Values {
    let asked = Asked {
        now: world.now,
        agent,
        ..Asked::default()
    };
    let mut meta = Values::new();
    collect(world.index, own, asked, None, &mut meta);
    for (name, value) in around {
        if !meta.contains_key(name) {
            meta.insert(name.clone(), value.clone());
        }
    }
    collect(
        world.index,
        world.cib.rsc_defaults(),
        asked,
        None,
        &mut meta,
    );
    meta
}

/// What a primitive's configuration comes to; `None` if it refers to a template that is not there.
pub(super) fn primitive_config(
    world: &World<'_>,
    primitive: &Primitive,
    around: &Around,
) -> Option<Arc<Config>> {
    let whole = world.index.whole(primitive)?.into_owned();
    let text = |value: &Option<Str>| value.clone().unwrap_or_default();
    let (class, provider, agent) = (
        text(&whole.class),
        text(&whole.provider),
        text(&whole.agent),
    );
    let names = Some((&*class, &*provider, &*agent));
    let asked = Asked {
        now: world.now,
        agent: names,
        ..Asked::default()
    };
    let meta = meta(world, &whole.meta, &around.meta, names);
    let mut utilization = Values::new();
    collect(
        world.index,
        &whole.utilization,
        asked,
        None,
        &mut utilization,
    );
    let ops = whole
        .ops()
        .iter()
        .map(|op| operation(world, op, asked))
        .collect();
    Some(Arc::new(Config {
        id: whole.id.clone(),
        meta,
        ops,
        utilization: nodes::amounts(utilization),
        inherited: around.params.clone(),
        class,
        provider,
        agent,
        primitive: Some(whole),
    }))
}

fn operation(world: &World<'_>, op: &Op, asked: Asked<'_>) -> OpDef {
    let interval = op.interval.get().map_or(0, Interval::millis);
    let asked = Asked {
        op: Some((&op.name, interval)),
        ..asked
    };
    let mut meta = Values::new();
    for (name, text) in [
        ("timeout", op.timeout.text()),
        ("on-fail", op.on_fail.text()),
        ("enabled", op.enabled.text()),
        ("role", op.role.text()),
        ("requires", op.requires.text()),
        ("start-delay", op.start_delay.text()),
    ] {
        if let Some(text) = text {
            meta.insert(name.into(), text.into());
        }
    }
    let mut defaults = Values::new();
    collect(
        world.index,
        world.cib.op_defaults(),
        asked,
        None,
        &mut defaults,
    );
    collect_over(world.index, &op.meta, asked, &mut defaults);
    for (name, value) in defaults {
        meta.entry(name).or_insert(value);
    }
    OpDef {
        id: op.id.clone().unwrap_or_default(),
        name: op.name.clone(),
        interval,
        role: meta.get("role").and_then(|r| Role::from_text(r)),
        enabled: meta.get("enabled").and_then(|v| truth(v)).unwrap_or(true),
        meta,
    }
}

/// Makes a service of a configuration, in its place.
pub(super) fn service(
    world: &mut World<'_>,
    kind: Kind,
    config: Arc<Config>,
    around: &Around,
) -> Sx {
    let id = match around.instance {
        Some(number) => format!("{}:{number}", config.id).into(),
        None => config.id.clone(),
    };
    let mut made = Service::new(id, kind, config);
    made.parent = around.parent;
    made.unique = around.instance.is_none() || around.unique;
    options(world, &mut made, around);
    add(world, made)
}

fn add(world: &mut World<'_>, made: Service) -> Sx {
    let at = world.services.len();
    world.by_id.get_or_insert_with(made.id.clone(), || at);
    if let Some(parent) = made.parent {
        world.services[parent].children.push(at);
    }
    let exclusive = made.exclusive;
    // A connection to a guest may be wherever the guest is.
    let with_guest = made.is_remote && made.config.meta.contains_key("container");
    world.services.push(made);
    if with_guest && !world.options.symmetric {
        let why = Why::Fixed("it goes with its guest");
        world.add_score(at, None, Score::ZERO, &why);
    }
    if world.options.symmetric && !exclusive {
        for n in 0..world.nodes.len() {
            let node = &world.nodes[n];
            if node.discover != crate::model::Discover::Never {
                let (score, discover) = (node.score, node.discover);
                world.services[at].allowed.entry(n, score, discover);
            }
        }
    }
    at
}

/// A primitive.
pub(super) fn primitive(world: &mut World<'_>, config: Arc<Config>, around: &Around) -> Sx {
    if config.is_fencing() {
        world.has_fencing_device = true;
    }
    service(world, Kind::Primitive, config, around)
}

/// What the meta attributes say.
fn options(world: &World<'_>, made: &mut Service, around: &Around) {
    let config = made.config.clone();
    let meta = |name: &str| {
        config
            .meta
            .get(name)
            .map(|v| &**v)
            .filter(|v| *v != "default")
    };
    made.priority = meta("priority").map_or(Score::ZERO, score);
    made.promotion = made.priority;
    made.critical = meta("critical").is_none_or(|v| truth(v) == Some(true));
    made.notify = config.truth("notify") == Some(true);
    made.is_remote = is_connection(&config);
    made.allow_migrate = match config.truth("allow-migrate") {
        Some(yes) => yes,
        None => made.is_remote && meta("container").is_none(),
    };
    made.managed = meta("is-managed")
        .and_then(truth)
        .unwrap_or(world.options.managed_by_default);
    if config.truth("maintenance") == Some(true) || world.options.maintenance {
        made.managed = false;
        made.maintenance = true;
    }
    made.restart_with_order = meta("restart-type") == Some("restart");
    made.on_multiple = match meta("multiple-active") {
        Some("stop_only") => OnMultiple::StopOnly,
        Some("block") => OnMultiple::Block,
        Some("stop_unexpected") => OnMultiple::StopUnexpected,
        _ => OnMultiple::StopStart,
    };
    made.stickiness = meta("resource-stickiness").map_or(Score::ZERO, score);
    made.threshold = match meta("migration-threshold").map(score) {
        Some(number) if number >= Score::ZERO => number,
        _ => Score::INFINITY,
    };
    made.requires = requirements(world, &config, meta("requires"));
    made.failure_timeout = seconds(meta("failure-timeout"));
    if made.is_remote
        && let Some(text) = parameter(world, &config, "reconnect_interval")
        && let Some(interval) = Interval::from_text(&text)
    {
        // A reconnection waits until the failure is over.
        made.reconnect = interval.millis();
        made.failure_timeout = (interval.millis() / 1000) as i64;
    }
    made.next_role = target_role(&config, around.promotable);
}

fn seconds(text: Option<&str>) -> i64 {
    text.and_then(Interval::from_text)
        .map_or(0, |i| (i.millis() / 1000) as i64)
}

/// A parameter of the agent, rules on nodes not asked.
pub(crate) fn parameter(world: &World<'_>, config: &Config, name: &str) -> Option<Str> {
    let asked = Asked {
        now: world.now,
        ..Asked::default()
    };
    let mut values = Values::new();
    let primitive = config.primitive.as_ref()?;
    collect(world.index, &primitive.parameters, asked, None, &mut values);
    values
        .get(name)
        .or_else(|| config.inherited.get(name))
        .cloned()
}

/// Whether the agent is that of a connection to a remote node.
pub(super) fn is_connection(config: &Config) -> bool {
    &*config.class == "ocf" && &*config.provider == "pacemaker" && &*config.agent == "remote"
}

/// The role that people want a service to be in, if that is not what it would be in anyway.
pub(crate) fn target_role(config: &Config, promotable: bool) -> Option<Role> {
    let role = Role::from_text(config.meta.get("target-role")?)?;
    match role {
        Role::Stopped => Some(role),
        Role::Unpromoted if promotable => Some(role),
        _ => None,
    }
}

/// What a service needs before it may start.
pub(crate) fn requirements(world: &World<'_>, config: &Config, wanted: Option<&str>) -> Needed {
    match wanted {
        Some("nothing") => Needed::Nothing,
        Some("quorum") => Needed::Quorum,
        Some("fencing") => Needed::Fencing,
        Some("unfencing") if config.is_fencing() || !world.options.fencing => Needed::Quorum,
        Some("unfencing") => Needed::Unfencing,
        _ if config.is_fencing() || is_connection(config) => Needed::Quorum,
        _ if world.has_unfencing => Needed::Unfencing,
        _ if world.options.fencing => Needed::Fencing,
        _ if world.options.no_quorum == NoQuorum::Ignore => Needed::Nothing,
        _ => Needed::Quorum,
    }
}

/// A primitive that only the history knows.
pub(crate) fn orphan(
    world: &mut World<'_>,
    id: &Str,
    (class, provider, agent): (&Str, Option<&Str>, &Str),
    filler: bool,
) -> Sx {
    let names = Primitive {
        id: id.clone(),
        class: Some(class.clone()),
        provider: provider.cloned(),
        agent: Some(agent.clone()),
        ..Primitive::default()
    };
    let around = Around::default();
    let config = primitive_config(world, &names, &around).unwrap_or_default();
    let at = primitive(world, config, &around);
    let is_remote = {
        let made = &mut world.services[at];
        made.orphan = true;
        made.orphan_filler = filler;
        made.is_remote
    };
    if is_remote {
        let node = nodes::remote(world, id);
        world.nodes[node].connection = Some(at);
        world.nodes[node].shutdown = true;
    }
    world.roots.push(at);
    if world.options.stop_orphans {
        world.add_score(
            at,
            None,
            Score::NEVER,
            &Why::Fixed("it is no longer configured"),
        );
    } else {
        world.services[at].managed = false;
    }
    at
}

/// Links what runs in a container to it.
fn containers(world: &mut World<'_>, service: Sx) {
    let s = &world.services[service];
    if s.kind != Kind::Primitive {
        return;
    }
    let Some(name) = s.config.meta.get("container") else {
        return;
    };
    if **name == *s.id {
        return;
    }
    if let Some(&container) = world.by_id.get(name) {
        world.services[service].container = Some(container);
        world.services[container].fillers.push(service);
    }
}

/// Links a connection and its node.
fn connect(world: &mut World<'_>, service: Sx) {
    let s = &world.services[service];
    if !s.is_remote {
        return;
    }
    let (id, is_guest) = (s.id.clone(), s.container.is_some());
    let Some(&node) = world.node_by_name.get(&id) else {
        return;
    };
    let startup = world.options.fences_unseen();
    let node = &mut world.nodes[node];
    node.connection = Some(service);
    if is_guest {
        node.attributes.insert("#kind".into(), "container".into());
    } else {
        node.unclean = startup;
        node.unseen = true;
    }
}
