//! Finding things by their id.

use crate::{
    access::Tag,
    cib::Cib,
    constraints::{Constraint, ResourceSet},
    nodes::Node,
    operations::{Op, Operations},
    resources::{Member, Primitive, Resource, Template},
    rules::{Condition, Rule},
    sets::{AttributeSet, NvPair},
    text::Str,
};
use mainstay_base::FixedMap;
use std::borrow::Cow;

/// A resource, and what contains it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place<'a> {
    /// The resource.
    pub resource: Member<'a>,
    /// The group, clone or bundle that it is directly in.
    pub parent: Option<&'a Resource>,
    /// The outermost resource that it is in, or that it is.
    pub outermost: &'a Resource,
}

/// Finds the objects of a configuration by their ids. Where an id is used twice, the first counts.
#[derive(Default)]
pub struct Index<'a> {
    resources: FixedMap<&'a str, Place<'a>>,
    templates: FixedMap<&'a str, &'a Template>,
    nodes: FixedMap<&'a str, &'a Node>,
    tags: FixedMap<&'a str, &'a Tag>,
    sets: FixedMap<&'a str, &'a AttributeSet>,
    pairs: FixedMap<&'a str, &'a NvPair>,
    rules: FixedMap<&'a str, &'a Rule>,
    operations: FixedMap<&'a str, &'a Operations>,
    resource_sets: FixedMap<&'a str, &'a ResourceSet>,
}

impl core::fmt::Debug for Index<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let count = self.resources.len();
        f.debug_struct("Index").field("resources", &count).finish()
    }
}

impl<'a> Index<'a> {
    /// Indexes a configuration.
    #[must_use]
    pub fn new(cib: &'a Cib) -> Index<'a> {
        let mut index = Index::default();
        for node in cib.nodes() {
            first(&mut index.nodes, &node.id, node);
            index.sets(&node.attributes);
            index.sets(&node.utilization);
        }
        for template in cib.templates() {
            first(&mut index.templates, &template.id, template);
            index.sets(&template.meta);
            index.sets(&template.parameters);
            index.sets(&template.utilization);
            index.operations(template.operations.as_ref());
        }
        for resource in cib.resources() {
            index.resource(resource, None, resource);
        }
        for tag in cib.tags() {
            first(&mut index.tags, &tag.id, tag);
        }
        for sets in [cib.options(), cib.op_defaults(), cib.rsc_defaults()] {
            index.sets(sets);
        }
        for alert in cib.alerts() {
            index.sets(&alert.meta);
            index.sets(&alert.parameters);
        }
        for constraint in cib.constraints() {
            for set in constraint.sets() {
                if let Some(id) = &set.id {
                    first(&mut index.resource_sets, id, set);
                }
            }
            if let Constraint::Location(location) = constraint {
                for rule in &location.rules {
                    index.rule(rule);
                }
            }
        }
        index
    }

    fn resource(
        &mut self,
        resource: &'a Resource,
        parent: Option<&'a Resource>,
        outermost: &'a Resource,
    ) {
        let place = Place {
            resource: Member::Resource(resource),
            parent,
            outermost,
        };
        first(&mut self.resources, resource.id(), place);
        self.sets(resource.meta());
        match resource {
            Resource::Primitive(primitive) => self.primitive(primitive),
            Resource::Group(group) => self.sets(&group.parameters),
            Resource::Clone(clone) | Resource::Master(clone) => self.sets(&clone.parameters),
            Resource::Bundle(bundle) => self.sets(&bundle.parameters),
        }
        for member in resource.members() {
            match member {
                Member::Resource(inner) => self.resource(inner, Some(resource), outermost),
                Member::Primitive(primitive) => {
                    let place = Place {
                        resource: member,
                        parent: Some(resource),
                        outermost,
                    };
                    first(&mut self.resources, &primitive.id, place);
                    self.sets(&primitive.meta);
                    self.primitive(primitive);
                }
            }
        }
    }

    fn primitive(&mut self, primitive: &'a Primitive) {
        self.sets(&primitive.parameters);
        self.sets(&primitive.utilization);
        self.operations(primitive.operations.as_ref());
    }

    fn operations(&mut self, operations: Option<&'a Operations>) {
        let Some(operations) = operations else { return };
        if let Some(id) = &operations.id {
            first(&mut self.operations, id, operations);
        }
        self.sets(&operations.meta);
        self.sets(&operations.parameters);
        for op in &operations.items {
            self.sets(&op.meta);
            self.sets(&op.parameters);
        }
    }

    fn sets(&mut self, sets: &'a [AttributeSet]) {
        for set in sets {
            if let Some(id) = &set.id {
                first(&mut self.sets, id, set);
            }
            for pair in &set.pairs {
                if let Some(id) = &pair.id {
                    first(&mut self.pairs, id, pair);
                }
            }
            for rule in &set.rules {
                self.rule(rule);
            }
        }
    }

    fn rule(&mut self, rule: &'a Rule) {
        if let Some(id) = &rule.id {
            first(&mut self.rules, id, rule);
        }
        for condition in &rule.conditions {
            if let Condition::Rule(inner) = condition {
                self.rule(inner);
            }
        }
    }

    /// A resource at any depth.
    #[must_use]
    pub fn find_resource(&self, id: &str) -> Option<Place<'a>> {
        self.resources.get(&id).copied()
    }

    /// A primitive at any depth.
    #[must_use]
    pub fn find_primitive(&self, id: &str) -> Option<&'a Primitive> {
        match self.find_resource(id)?.resource {
            Member::Primitive(primitive) | Member::Resource(Resource::Primitive(primitive)) => {
                Some(primitive)
            }
            Member::Resource(_) => None,
        }
    }

    /// A template.
    #[must_use]
    pub fn find_template(&self, id: &str) -> Option<&'a Template> {
        self.templates.get(&id).copied()
    }

    /// A node by its id.
    #[must_use]
    pub fn find_node(&self, id: &str) -> Option<&'a Node> {
        self.nodes.get(&id).copied()
    }

    /// A tag.
    #[must_use]
    pub fn find_tag(&self, id: &str) -> Option<&'a Tag> {
        self.tags.get(&id).copied()
    }

    /// The set itself, or the one that it refers to; `None` if that does not exist.
    #[must_use]
    pub fn set<'b>(&self, set: &'b AttributeSet) -> Option<&'b AttributeSet>
    where
        'a: 'b,
    {
        match &set.id_ref {
            Some(id) => self.sets.get(&&**id).copied(),
            None => Some(set),
        }
    }

    /// The name and value of a pair, or of the one that it refers to; a name at the reference
    /// renames it. `None` if that does not exist, or there is no name.
    #[must_use]
    pub fn pair<'b>(&self, pair: &'b NvPair) -> Option<(&'b Str, Option<&'b Str>)>
    where
        'a: 'b,
    {
        let whole = match &pair.id_ref {
            Some(id) => self.pairs.get(&&**id).copied()?,
            None => pair,
        };
        let name = pair.name.as_ref().or(whole.name.as_ref())?;
        Some((name, whole.value.as_ref()))
    }

    /// The rule itself, or the one that it refers to; `None` if that does not exist.
    #[must_use]
    pub fn rule_of<'b>(&self, rule: &'b Rule) -> Option<&'b Rule>
    where
        'a: 'b,
    {
        match &rule.id_ref {
            Some(id) => self.rules.get(&&**id).copied(),
            None => Some(rule),
        }
    }

    /// The resource set itself, or the one that it refers to; `None` if that does not exist.
    #[must_use]
    pub fn resource_set<'b>(&self, set: &'b ResourceSet) -> Option<&'b ResourceSet>
    where
        'a: 'b,
    {
        match &set.id_ref {
            Some(id) => self.resource_sets.get(&&**id).copied(),
            None => Some(set),
        }
    }

    /// The operations of a primitive; those of another one, if it refers to them.
    #[must_use]
    pub fn ops<'b>(&self, primitive: &'b Primitive) -> &'b [Op]
    where
        'a: 'b,
    {
        let Some(own) = &primitive.operations else {
            return &[];
        };
        let operations = match &own.id_ref {
            Some(id) => self.operations.get(&&**id).copied(),
            None => Some(own),
        };
        operations.map_or(&[], |o| &o.items)
    }

    /// A primitive with all that its template gives it, and with the operations that it refers to;
    /// `None` if its template does not exist.
    #[must_use]
    pub fn whole<'b>(&self, primitive: &'b Primitive) -> Option<Cow<'b, Primitive>>
    where
        'a: 'b,
    {
        let reference = primitive
            .operations
            .as_ref()
            .and_then(|o| o.id_ref.as_ref());
        let template = match &primitive.template {
            Some(id) => Some(self.find_template(id)?),
            None => None,
        };
        if reference.is_none() && template.is_none() {
            return Some(Cow::Borrowed(primitive));
        }
        let mut whole = primitive.clone();
        if let Some(operations) = reference.and_then(|id| self.operations.get(&&**id)) {
            whole.operations = Some((*operations).clone());
        }
        if let Some(template) = template {
            whole = whole.with_template(template);
        }
        Some(Cow::Owned(whole))
    }
}

fn first<'a, T>(map: &mut FixedMap<&'a str, T>, id: &'a str, value: T) {
    map.get_or_insert_with(id, || value);
}
