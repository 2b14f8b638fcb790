//! Nodes that services bring about: remote nodes, and guests of virtual machines.

use super::{
    nodes,
    service::{Around, primitive, primitive_config},
};
use crate::model::{Sx, World};
use mainstay_cib::{
    Attr,
    operations::{Op, Operations},
    resources::{Member, Primitive, Resource},
    sets::{AttributeSet, lookup},
    text::Str,
    value::Interval,
};

/// The connection to a node, which goes with what the node is in.
pub(super) struct Guest {
    pub name: Str,
    pub container: Str,
    pub allow_migrate: Option<Str>,
    pub managed: Option<Str>,
    pub connect_timeout: Option<Str>,
    pub address: Option<Str>,
    pub port: Option<Str>,
}

/// Makes the nodes that are brought about; returns the connections that follow from meta attributes.
pub(super) fn guests(world: &mut World<'_>) -> Vec<Guest> {
    let cib = world.cib;
    let mut found = Vec::new();
    for resource in cib.resources() {
        let primitives: Vec<&Primitive> = match resource {
            Resource::Primitive(p) => vec![p],
            Resource::Group(g) => g.members.iter().collect(),
            _ => Vec::new(),
        };
        for primitive in primitives {
            if is_remote(world, primitive) {
                nodes::remote(world, &primitive.id);
            } else if let Some(guest) = guest(primitive)
                && world.index.find_resource(&guest.name).is_none()
            {
                nodes::remote(world, &guest.name);
                found.push(guest);
            }
        }
        let inside = resource.members();
        for member in inside {
            if let Member::Resource(Resource::Primitive(p)) = member
                && is_remote(world, p)
            {
                nodes::remote(world, &p.id);
            }
        }
    }
    found
}

fn is_remote(world: &World<'_>, primitive: &Primitive) -> bool {
    world.index.whole(primitive).is_some_and(|p| {
        p.class.as_deref() == Some("ocf")
            && p.provider.as_deref() == Some("pacemaker")
            && p.agent.as_deref() == Some("remote")
    })
}

fn guest(primitive: &Primitive) -> Option<Guest> {
    let meta = |name: &str| lookup(&primitive.meta, name).map(Str::from);
    Some(Guest {
        name: meta("remote-node")?,
        container: primitive.id.clone(),
        allow_migrate: meta("remote-allow-migrate"),
        managed: meta("is-managed"),
        connect_timeout: Some(meta("remote-connect-timeout").unwrap_or_else(|| "60s".into())),
        address: meta("remote-addr"),
        port: meta("remote-port"),
    })
}

impl Guest {
    /// The connection as if people had configured it.
    pub(super) fn configuration(&self) -> Primitive {
        let mut meta = AttributeSet::new(&format!("{}_meta", self.name));
        meta.set("container", &self.container);
        meta.set("internal_rsc", "true");
        for (name, value) in [
            ("allow-migrate", &self.allow_migrate),
            ("is-managed", &self.managed),
        ] {
            if let Some(value) = value {
                meta.set(name, value);
            }
        }
        let mut parameters = AttributeSet::new(&format!("{}_params", self.name));
        for (name, value) in [("addr", &self.address), ("port", &self.port)] {
            if let Some(value) = value {
                parameters.set(name, value);
            }
        }
        let mut items = vec![op("monitor", 30_000, Some("30s"))];
        if let Some(timeout) = &self.connect_timeout {
            items.push(op("start", 0, Some(timeout)));
        }
        Primitive {
            id: self.name.clone(),
            class: Some("ocf".into()),
            provider: Some("pacemaker".into()),
            agent: Some("remote".into()),
            meta: vec![meta],
            parameters: vec![parameters],
            operations: Some(Operations {
                items,
                ..Operations::default()
            }),
            ..Primitive::default()
        }
    }

    /// The connection as a service of its own.
    pub(super) fn connection(&self, world: &mut World<'_>) -> Sx {
        let around = Around::default();
        let config = primitive_config(world, &self.configuration(), &around).unwrap_or_default();
        primitive(world, config, &around)
    }
}

/// An operation with an interval in milliseconds.
pub(super) fn op(name: &str, interval: u64, timeout: Option<&str>) -> Op {
    Op {
        name: name.into(),
        interval: Attr::of(Interval::from_millis(interval)),
        timeout: timeout.map(Attr::spelled).unwrap_or_default(),
        ..Op::default()
    }
}
