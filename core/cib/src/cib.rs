//! The whole: configuration and status.

use crate::{
    access::{Acls, Tag, Tags},
    alerts::{Alert, Alerts},
    constraints::{Constraint, Constraints},
    fencing::{FencingLevel, FencingTopology},
    nodes::{Node, Nodes},
    operations::Defaults,
    resources::{Resource, Resources, Template},
    sets::{AttributeSet, lookup},
    status::{NodeState, Status},
    text::Str,
    xml::{Attr, element},
};

element! {
    /// The section of cluster options.
    pub struct CrmConfig {
        attributes {}
        children {
            /// The sets of options.
            sets: Vec<AttributeSet> = "cluster_property_set",
        }
    }
}

element! {
    /// What people have configured.
    pub struct Configuration {
        attributes {}
        children {
            /// Cluster options.
            crm_config: Option<CrmConfig> = "crm_config",
            /// Nodes.
            nodes: Option<Nodes> = "nodes",
            /// Resources.
            resources: Option<Resources> = "resources",
            /// Constraints.
            constraints: Option<Constraints> = "constraints",
            /// Fencing levels.
            fencing_topology: Option<FencingTopology> = "fencing-topology",
            /// Permissions.
            acls: Option<Acls> = "acls",
            /// Tags.
            tags: Option<Tags> = "tags",
            /// Alerts.
            alerts: Option<Alerts> = "alerts",
            /// Defaults for operations.
            op_defaults: Option<Defaults> = "op_defaults",
            /// Defaults for resources.
            rsc_defaults: Option<Defaults> = "rsc_defaults",
        }
    }
}

element! {
    /// Configuration and status of a cluster.
    pub struct Cib {
        attributes {
            /// Which features the cluster's software must have.
            feature_set: Option<Str> = "crm_feature_set",
            /// The schema.
            validate_with: Option<Str> = "validate-with",
            /// Counts changes of the configuration.
            epoch: Attr<i64> = "epoch",
            /// Counts changes of the status since the last one of the configuration.
            num_updates: Attr<i64> = "num_updates",
            /// Raised by an operator to make this one win over others.
            admin_epoch: Attr<i64> = "admin_epoch",
            /// When it was last written.
            last_written: Option<Str> = "cib-last-written",
            /// Where the last change came from.
            update_origin: Option<Str> = "update-origin",
            /// Which program made it.
            update_client: Option<Str> = "update-client",
            /// Which user made it.
            update_user: Option<Str> = "update-user",
            /// Whether the cluster has a quorum.
            have_quorum: Attr<bool> = "have-quorum",
            /// The id of the node that coordinates.
            dc_uuid: Option<Str> = "dc-uuid",
            /// When a plan was made from it, in seconds since 1970.
            execution_date: Attr<i64> = "execution-date",
            /// Whether a node without quorum panics.
            no_quorum_panic: Attr<bool> = "no-quorum-panic",
            /// The port for changes from outside, with TLS.
            remote_tls_port: Attr<i64> = "remote-tls-port",
            /// The port for changes from outside, without TLS.
            remote_clear_port: Attr<i64> = "remote-clear-port",
        }
        children {
            /// What people have configured.
            configuration: Option<Configuration> = "configuration",
            /// The state of the cluster.
            status: Option<Status> = "status",
        }
    }
}

/// The items of a section, or none if it is absent.
macro_rules! section {
    ($self:ident.$section:ident.$items:ident) => {
        $self
            .configuration
            .as_ref()
            .and_then(|c| c.$section.as_ref())
            .map_or(&[], |s| s.$items.as_slice())
    };
}

impl Cib {
    /// Sets of cluster options.
    #[must_use]
    pub fn options(&self) -> &[AttributeSet] {
        section!(self.crm_config.sets)
    }

    /// A cluster option, rules not asked; see [`lookup`].
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        lookup(self.options(), name)
    }

    /// The nodes that are configured.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        section!(self.nodes.items)
    }

    /// The outermost resources, in the order of the text.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        section!(self.resources.items)
    }

    /// The templates.
    #[must_use]
    pub fn templates(&self) -> &[Template] {
        section!(self.resources.templates)
    }

    /// The constraints, in the order of the text.
    #[must_use]
    pub fn constraints(&self) -> &[Constraint] {
        section!(self.constraints.items)
    }

    /// The fencing levels.
    #[must_use]
    pub fn fencing_levels(&self) -> &[FencingLevel] {
        section!(self.fencing_topology.levels)
    }

    /// The tags.
    #[must_use]
    pub fn tags(&self) -> &[Tag] {
        section!(self.tags.items)
    }

    /// The alerts.
    #[must_use]
    pub fn alerts(&self) -> &[Alert] {
        section!(self.alerts.items)
    }

    /// Defaults for operations.
    #[must_use]
    pub fn op_defaults(&self) -> &[AttributeSet] {
        section!(self.op_defaults.sets)
    }

    /// Defaults for meta attributes of resources.
    #[must_use]
    pub fn rsc_defaults(&self) -> &[AttributeSet] {
        section!(self.rsc_defaults.sets)
    }

    /// What is known of the nodes.
    #[must_use]
    pub fn node_states(&self) -> &[NodeState] {
        self.status.as_ref().map_or(&[], |s| &s.nodes)
    }

    /// The configuration, to be changed; made if it is absent.
    pub fn configuration_mut(&mut self) -> &mut Configuration {
        self.configuration.get_or_insert_default()
    }

    /// The status, to be changed; made if it is absent.
    pub fn status_mut(&mut self) -> &mut Status {
        self.status.get_or_insert_default()
    }
}

impl Configuration {
    /// The resources, to be changed; the section is made if it is absent.
    pub fn resources_mut(&mut self) -> &mut Resources {
        self.resources.get_or_insert_default()
    }

    /// The constraints, to be changed; the section is made if it is absent.
    pub fn constraints_mut(&mut self) -> &mut Vec<Constraint> {
        &mut self.constraints.get_or_insert_default().items
    }

    /// The nodes, to be changed; the section is made if it is absent.
    pub fn nodes_mut(&mut self) -> &mut Vec<Node> {
        &mut self.nodes.get_or_insert_default().items
    }

    /// Sets a cluster option in the first set; made if there is none.
    pub fn set_option(&mut self, name: &str, value: &str) {
        let sets = &mut self.crm_config.get_or_insert_default().sets;
        if sets.is_empty() {
            sets.push(AttributeSet::new("cib-bootstrap-options"));
        }
        let index = sets.iter().position(|s| s.get(name).is_some());
        sets[index.unwrap_or(0)].set(name, value);
    }
}
