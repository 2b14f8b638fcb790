//! Bundles: containers with their network and storage.

use super::Primitive;
use crate::{
    sets::AttributeSet,
    text::Str,
    xml::{Attr, choice, element},
};

element! {
    /// Containers of one image, perhaps with a primitive that runs inside.
    pub struct Bundle {
        attributes {
            /// Its id.
            id: Str = "id",
            /// What people say about it.
            description: Option<Str> = "description",
        }
        children {
            /// Meta attributes.
            meta: Vec<AttributeSet> = "meta_attributes",
            /// Parameters.
            parameters: Vec<AttributeSet> = "instance_attributes",
            /// The containers.
            container: Option<ContainerKind> = "docker" | "podman" | "rkt",
            /// Their addresses and ports.
            network: Option<Network> = "network",
            /// What of the host they see.
            storage: Option<Storage> = "storage",
            /// What runs inside.
            primitive: Option<Primitive> = "primitive",
        }
    }
}

/// Who runs containers.
#[derive(Clone, Debug, PartialEq)]
pub enum ContainerKind {
    /// Docker.
    Docker(Container),
    /// Podman.
    Podman(Container),
    /// rkt, which no longer exists.
    Rkt(Container),
}

choice!(ContainerKind {
    Docker = "docker",
    Podman = "podman",
    Rkt = "rkt",
});

impl ContainerKind {
    /// The containers.
    #[must_use]
    pub fn container(&self) -> &Container {
        match self {
            ContainerKind::Docker(c) | ContainerKind::Podman(c) | ContainerKind::Rkt(c) => c,
        }
    }

    /// Who runs them, which is also the type of the agent that does.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            ContainerKind::Docker(_) => "docker",
            ContainerKind::Podman(_) => "podman",
            ContainerKind::Rkt(_) => "rkt",
        }
    }
}

element! {
    /// Containers of one image.
    pub struct Container {
        attributes {
            /// The image.
            image: Str = "image",
            /// How many there are; by default as many as are promoted, else one.
            replicas: Attr<u32> = "replicas",
            /// How many there are on one node; one if absent.
            replicas_per_host: Attr<u32> = "replicas-per-host",
            /// How many are promoted; more than none makes the bundle promotable.
            promoted_max: Attr<u32> = "promoted-max",
            /// The same by its former name.
            masters: Attr<u32> = "masters",
            /// What is run inside; by default the daemon that carries out operations there.
            run_command: Option<Str> = "run-command",
            /// The network of the container.
            network: Option<Str> = "network",
            /// Further options for the program that runs containers.
            options: Option<Str> = "options",
        }
        children {}
    }
}

impl Container {
    /// How many are promoted.
    #[must_use]
    pub fn promoted(&self) -> u32 {
        self.promoted_max.or(self.masters.or(0))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.replicas.or(self.promoted().max(1))
    }

    /// How many there are on one node.
    #[must_use]
    pub fn per_host(&self) -> u32 {
        self.replicas_per_host.or(1)
    }
}

element! {
    /// Addresses and ports of containers.
    pub struct Network {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// The first address; each container gets the next one.
            ip_range_start: Option<Str> = "ip-range-start",
            /// The port of the daemon that carries out operations inside; 3121 if absent.
            control_port: Attr<u32> = "control-port",
            /// The interface for the addresses.
            host_interface: Option<Str> = "host-interface",
            /// The network mask, in bits.
            host_netmask: Option<Str> = "host-netmask",
            /// Whether the hosts file of each container names all of them; true if absent.
            add_host: Attr<bool> = "add-host",
        }
        children {
            /// Ports of the host that lead inside.
            ports: Vec<PortMapping> = "port-mapping",
        }
    }
}

element! {
    /// A port of the host that leads inside.
    pub struct PortMapping {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// The port of the host.
            port: Attr<u32> = "port",
            /// The port inside; the same if absent.
            internal_port: Attr<u32> = "internal-port",
            /// Several ports, the same inside.
            range: Option<Str> = "range",
        }
        children {}
    }
}

element! {
    /// What containers see of their host's files.
    pub struct Storage {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
        }
        children {
            /// The directories.
            mappings: Vec<StorageMapping> = "storage-mapping",
        }
    }
}

element! {
    /// A directory of the host that a container sees.
    pub struct StorageMapping {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// The directory of the host.
            source_dir: Option<Str> = "source-dir",
            /// The directory in which each container has one of its own.
            source_dir_root: Option<Str> = "source-dir-root",
            /// Where it is seen.
            target_dir: Str = "target-dir",
            /// Options of the mount.
            options: Option<Str> = "options",
        }
        children {}
    }
}
