//! Bundles: containers with an address each, a connection to what is inside, and an instance of the
//! primitive that runs there. All of these are services of their own.

use super::{
    collective, nodes,
    remote::{Guest, op},
    service::{Around, meta, primitive, primitive_config, service},
};
use crate::model::{Config, Discover, Kind, NodeKind, Nx, Replica, Scores, Sx, Values, World};
use mainstay_cib::{
    operations::Operations,
    resources::{Bundle, Container, ContainerKind, Network, Primitive, Resource, StorageMapping},
    sets::AttributeSet,
    text::Str,
    value::Score,
};
use std::{fmt::Write as _, sync::Arc};

/// What all copies of a bundle have in common.
struct Maker<'b> {
    bundle: &'b Bundle,
    container: &'b Container,
    agent: &'static str,
    network: Option<&'b Network>,
    per_host: u32,
    /// `--add-host` options for the addresses of all copies.
    hosts: String,
    addresses: Vec<Str>,
}

/// A bundle with all its copies; `None` if it says nothing of a container.
pub(super) fn bundle(world: &mut World<'_>, bundle: &Bundle) -> Option<Sx> {
    let kind = bundle.container.as_ref()?;
    let container = kind.container();
    let network = bundle.network.as_ref();
    let has_network = network.is_some_and(|n| n.ip_range_start.is_some());
    let has_port = network.is_some_and(|n| n.control_port.is_set());
    let per_host = if has_network {
        container.per_host()
    } else {
        container.per_host().min(1)
    };
    let mut maker = Maker {
        bundle,
        container,
        agent: match kind {
            ContainerKind::Docker(_) => "docker",
            ContainerKind::Podman(_) => "podman",
            ContainerKind::Rkt(_) => "rkt",
        },
        network,
        per_host,
        hosts: String::new(),
        addresses: Vec::new(),
    };
    maker.assign_addresses();
    let around = Around::default();
    let config = Arc::new(Config {
        id: bundle.id.clone(),
        meta: meta(world, &bundle.meta, &around.meta, None),
        ..Config::default()
    });
    let at = service(world, Kind::Bundle, config.clone(), &around);
    world.services[at].unique = per_host > 1;
    world.services[at].max = container.count();
    world.services[at].node_max = per_host;
    let inside = Around {
        parent: Some(at),
        meta: config.meta.clone(),
        promotable: container.promoted() > 0,
        ..Around::default()
    };
    let child = match &bundle.primitive {
        Some(p) if has_network || has_port => Some(maker.child(world, p, &inside)?),
        Some(_) => return None,
        None => None,
    };
    // The clone comes behind what carries it.
    if child.is_some() {
        world.services[at].children.pop();
    }
    for number in 0..container.count() {
        let instance = child.map(|c| world.services[c].children[number as usize]);
        let replica = maker.replica(world, &inside, number, instance);
        world.services[at].replicas.push(replica);
    }
    if let Some(child) = child {
        world.services[at].children.push(child);
    }
    Some(at)
}

impl Maker<'_> {
    /// Each copy gets the address after that of the one before.
    fn assign_addresses(&mut self) {
        let Some(first) = self.network.and_then(|n| n.ip_range_start.clone()) else {
            return;
        };
        let add_host = self.network.is_none_or(|n| n.add_host.or(true));
        let mut address = first;
        for number in 0..self.container.count() {
            if add_host {
                let host = format!(" --add-host={}-{number}:{address}", self.bundle.id);
                self.hosts.push_str(&host);
            }
            let next = next_address(&address).unwrap_or_else(|| address.clone());
            self.addresses.push(std::mem::replace(&mut address, next));
        }
    }

    /// The clone of what runs inside.
    fn child(&self, world: &mut World<'_>, inner: &Primitive, around: &Around) -> Option<Sx> {
        let promoted = self.container.promoted();
        let suffix = if promoted > 0 { "master" } else { "clone" };
        let id: Str = format!("{}-{suffix}", self.bundle.id).into();
        let mut values = Values::new();
        let mut set = |name: &str, value: &str| {
            values.insert(name.into(), value.into());
        };
        set("ordered", "true");
        set("clone-max", &self.container.count().to_string());
        set("clone-node-max", &self.per_host.to_string());
        set(
            "globally-unique",
            if self.per_host > 1 { "true" } else { "false" },
        );
        if promoted > 0 {
            set("promotable", "true");
            set("promoted-max", &promoted.to_string());
        }
        for (name, value) in &around.meta {
            values.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let content = Resource::Primitive(inner.clone());
        let master = promoted > 0;
        let clone =
            collective::clone_of(world, &id, values, Values::new(), &content, master, around)?;
        for instance in world.services[clone].children.clone() {
            world.services[instance].exclusive = true;
            if world.services[instance].notify {
                world.services[clone].notify = true;
            }
        }
        Some(clone)
    }

    fn replica(
        &self,
        world: &mut World<'_>,
        around: &Around,
        number: u32,
        child: Option<Sx>,
    ) -> Replica {
        let address = self.addresses.get(number as usize).cloned();
        let ip = address.as_ref().and_then(|address| {
            let config = primitive_config(world, &self.address(address), around)?;
            Some(primitive(world, config, around))
        });
        let config = self.docker(number, address.as_ref(), child.is_some());
        let config = primitive_config(world, &config, around).unwrap_or_default();
        let container = primitive(world, config, around);
        let mut replica = Replica {
            number,
            container,
            ip,
            remote: None,
            child,
            node: None,
        };
        if let Some(child) = child {
            let (remote, node) = self.remote(world, around, &replica, address, child);
            replica.remote = Some(remote);
            replica.node = Some(node);
            // What the inner primitive uses, its container uses.
            let inner = Arc::make_mut(&mut world.services[child].config);
            let used = std::mem::take(&mut inner.utilization);
            Arc::make_mut(&mut world.services[container].config).utilization = used;
        }
        replica
    }

    fn made(&self, id: &str, provider: &str, agent: &str, values: &[(&str, &str)]) -> Primitive {
        let mut parameters = AttributeSet::new(&format!("{id}-attributes-{}", self.bundle.id));
        for (name, value) in values {
            parameters.set(name, value);
        }
        Primitive {
            id: id.into(),
            class: Some("ocf".into()),
            provider: Some(provider.into()),
            agent: Some(agent.into()),
            parameters: vec![parameters],
            operations: Some(Operations {
                items: vec![op("monitor", 60_000, None)],
                ..Operations::default()
            }),
            ..Primitive::default()
        }
    }

    fn address(&self, address: &Str) -> Primitive {
        let id = format!("{}-ip-{address}", self.bundle.id).replace([':', '/'], ".");
        let mask = self
            .network
            .and_then(|n| n.host_netmask.as_deref())
            .unwrap_or("32");
        let mut values = vec![("ip", &**address)];
        if let Some(interface) = self.network.and_then(|n| n.host_interface.as_deref()) {
            values.push(("nic", interface));
        }
        values.push(("cidr_netmask", mask));
        self.made(&id, "heartbeat", "IPaddr2", &values)
    }

    /// The container itself, with the options that its agent hands on.
    fn docker(&self, number: u32, address: Option<&Str>, has_child: bool) -> Primitive {
        let id = format!("{}-{}-{number}", self.bundle.id, self.agent);
        let (options, mounts) = self.run_options(number, address);
        let mut values = vec![
            ("image", self.container.image.as_ref()),
            ("allow_pull", "true"),
            ("force_kill", "false"),
            ("reuse", "false"),
            ("run_opts", &options),
        ];
        values.push(("mount_points", &mounts));
        match (&self.container.run_command, has_child) {
            (Some(command), _) => values.push(("run_cmd", command)),
            (None, true) => values.push(("run_cmd", "/usr/sbin/pacemaker-remoted")),
            (None, false) => {}
        }
        values.push(("monitor_cmd", "/bin/true"));
        self.made(&id, "heartbeat", self.agent, &values)
    }

    fn run_options(&self, number: u32, address: Option<&Str>) -> (String, String) {
        let id = &self.bundle.id;
        let mut options = String::new();
        let mut own_mounts = String::new();
        // Podman restarts nothing by itself, and was never told not to.
        if self.agent != "podman" {
            options.push_str(" --restart=no");
        }
        // Writing to a string cannot fail.
        if address.is_some() {
            let _ = write!(options, " -h {id}-{number}");
        }
        options.push_str(" -e PCMK_stderr=1");
        if let Some(network) = &self.container.network {
            let _ = write!(options, " --net={network}");
        }
        let port = self.control_port();
        let _ = write!(options, " -e PCMK_remote_port={port}");
        let mappings: &[StorageMapping] = self.bundle.storage.as_ref().map_or(&[], |s| &s.mappings);
        for mount in self.mounts(mappings) {
            let (source, target, flags, own) = mount;
            let source = if own {
                format!("{source}/{id}-{number}")
            } else {
                source.to_owned()
            };
            if own {
                if !own_mounts.is_empty() {
                    own_mounts.push(',');
                }
                own_mounts.push_str(&source);
            }
            let _ = write!(options, " -v {source}:{target}");
            if let Some(flags) = flags {
                let _ = write!(options, ":{flags}");
            }
        }
        for (outer, inner) in self.ports() {
            if let Some(address) = address {
                let _ = write!(options, " -p {address}:{outer}:{inner}");
            } else if self.container.network.as_deref() != Some("host") {
                let _ = write!(options, " -p {outer}:{inner}");
            }
        }
        if let Some(own) = &self.container.options {
            let _ = write!(options, " {own}");
        }
        let _ = write!(options, " {}", self.hosts);
        (options, own_mounts)
    }

    fn control_port(&self) -> u32 {
        self.network.map_or(3121, |n| n.control_port.or(3121))
    }

    /// What the container sees of its host: source, target, options, and whether each has its own.
    fn mounts<'m>(
        &'m self,
        mappings: &'m [StorageMapping],
    ) -> Vec<(&'m str, &'m str, Option<&'m str>, bool)> {
        let mut mounts = Vec::new();
        for m in mappings {
            let own = m.source_dir.is_none();
            let source = m.source_dir.as_deref().or(m.source_dir_root.as_deref());
            mounts.push((
                source.unwrap_or_default(),
                &*m.target_dir,
                m.options.as_deref(),
                own,
            ));
        }
        if self.bundle.primitive.is_some() {
            let key = "/etc/pacemaker/authkey";
            mounts.push((key, key, None, false));
            mounts.push(("/var/log/pacemaker/bundles", "/var/log", None, true));
        }
        mounts
    }

    fn ports(&self) -> Vec<(String, String)> {
        let mut ports = Vec::new();
        for mapping in self.network.map_or(&[][..], |n| &n.ports) {
            match (mapping.port.get(), &mapping.range) {
                (Some(outer), _) => {
                    let inner = mapping.internal_port.or(outer);
                    ports.push((outer.to_string(), inner.to_string()));
                }
                (None, Some(range)) => ports.push((range.to_string(), range.to_string())),
                (None, None) => {}
            }
        }
        if self.bundle.primitive.is_some() {
            let port = self.control_port().to_string();
            ports.push((port.clone(), port));
        }
        ports
    }

    /// The connection to what runs inside, and the node that it makes.
    fn remote(
        &self,
        world: &mut World<'_>,
        around: &Around,
        replica: &Replica,
        address: Option<Str>,
        child: Sx,
    ) -> (Sx, Nx) {
        let mut name: Str = format!("{}-{}", self.bundle.id, replica.number).into();
        if world.by_id.contains(&name) {
            let inner = &world.services[child].id;
            name = format!("pcmk-internal-{inner}-remote-{}", replica.number).into();
        }
        let node = nodes::remote(world, &name);
        nodes::close(world, node);
        world.nodes[node]
            .attributes
            .insert("#kind".into(), "container".into());
        let mut own = Scores::default();
        own.entry(node, Score::new(500), Discover::Exclusive);
        let clone = world.services[child].parent;
        world.services[child].allowed = own;
        if let Some(clone) = clone {
            let allowed =
                world.services[clone]
                    .allowed
                    .entry(node, Score::NEVER, Discover::Exclusive);
            allowed.score = Score::NEVER;
            allowed.discover = Discover::Exclusive;
        }
        let guest = Guest {
            name,
            container: world.services[replica.container].id.clone(),
            allow_migrate: None,
            managed: None,
            connect_timeout: None,
            address: Some(address.unwrap_or_else(|| "#uname".into())),
            port: Some(self.control_port().to_string().into()),
        };
        let config = primitive_config(world, &guest.configuration(), around).unwrap_or_default();
        let remote = primitive(world, config, around);
        let count = world.nodes.len();
        for n in (0..count).filter(|n| world.nodes[*n].kind == NodeKind::Remote) {
            if let Some(allowed) = world.services[remote].allowed.get_mut(n) {
                allowed.score = Score::NEVER;
            }
        }
        world.services[remote].container = Some(replica.container);
        world.services[remote].nests = true;
        world.nodes[node].connection = Some(remote);
        (remote, node)
    }
}

/// The address after another one; `None` at the end of a range.
fn next_address(address: &str) -> Option<Str> {
    if let Ok(v4) = address.parse::<core::net::Ipv4Addr>() {
        let next = u32::from(v4).checked_add(1)?;
        return Some(core::net::Ipv4Addr::from(next).to_string().into());
    }
    let v6 = address.parse::<core::net::Ipv6Addr>().ok()?;
    let next = u128::from(v6).checked_add(1)?;
    Some(core::net::Ipv6Addr::from(next).to_string().into())
}
