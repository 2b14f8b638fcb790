//! What is wrong across elements: ids that are used twice, names that nothing has.

use crate::{
    cib::Cib,
    index::Index,
    problem::{self, Level, Problem},
    resources::{Member, Primitive, Resource},
    text::{At, Str},
};
use mainstay_base::FixedMap;

/// Checks that what an element names exists, and that ids of resources, templates, constraints,
/// nodes and tags are used once.
#[must_use]
pub fn validate(cib: &Cib) -> Vec<Problem> {
    let mut checker = Checker {
        index: Index::new(cib),
        problems: Vec::new(),
    };
    checker.ids(cib);
    for resource in cib.resources() {
        checker.resource(resource);
    }
    checker.constraints(cib);
    checker.fencing(cib);
    let mut problems = checker.problems;
    problem::sort(&mut problems);
    problems
}

struct Checker<'a> {
    index: Index<'a>,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn add(
        &mut self,
        (level, rule): (Level, &'static str),
        (at, element, id): (At, &str, &Str),
        what: String,
        mend: &str,
    ) {
        self.problems.push(Problem {
            level,
            rule,
            at,
            element: Str::from(element),
            id: Some(id.clone()),
            what,
            mend: mend.to_owned(),
        });
    }

    fn ids(&mut self, cib: &Cib) {
        let mut seen: FixedMap<Str, (At, &'static str)> = FixedMap::new();
        let mut all: Vec<(Str, At, &'static str)> = Vec::new();
        for template in cib.templates() {
            all.push((template.id.clone(), template.at, "template"));
        }
        for resource in cib.resources() {
            ids_of(resource, &mut all);
        }
        for constraint in cib.constraints() {
            all.push((constraint.id().clone(), constraint.at(), constraint.tag()));
        }
        for tag in cib.tags() {
            all.push((tag.id.clone(), tag.at, "tag"));
        }
        for (id, at, tag) in all {
            if id.is_empty() {
                continue; // Said when it was read.
            }
            if let Some((first, other)) = seen.get(&id).copied() {
                let what = format!("the id is used already by the <{other}> at {first}");
                let mend = "give one of them another id";
                self.add((Level::Error, "duplicate-id"), (at, tag, &id), what, mend);
            } else {
                seen.insert(id, (at, tag));
            }
        }
        let mut nodes: FixedMap<Str, At> = FixedMap::new();
        for node in cib.nodes() {
            if let Some(first) = nodes.insert(node.id.clone(), node.at) {
                let what = format!("there is a node of this id already, at {first}");
                let mend = "take one of them out";
                let place = (node.at, "node", &node.id);
                self.add((Level::Error, "duplicate-id"), place, what, mend);
            }
        }
    }

    fn resource(&mut self, resource: &Resource) {
        match resource {
            Resource::Primitive(primitive) => self.primitive(primitive),
            Resource::Group(group) => {
                if group.members.is_empty() {
                    let what = "the group has no members".to_owned();
                    let place = (group.at, "group", &group.id);
                    let mend = "add a <primitive>, or take the group out";
                    self.add((Level::Warning, "empty-group"), place, what, mend);
                }
            }
            Resource::Clone(clone) | Resource::Master(clone) => {
                if clone.content.is_none() {
                    let what = "there is nothing of which it could run instances".to_owned();
                    let place = (clone.at, resource.tag(), &clone.id);
                    let mend = "add a <primitive> or a <group>";
                    self.add((Level::Error, "empty-clone"), place, what, mend);
                }
            }
            Resource::Bundle(bundle) => {
                if bundle.container.is_none() {
                    let what = "the bundle has no container".to_owned();
                    let place = (bundle.at, "bundle", &bundle.id);
                    let mend = "add <podman image=\"…\"/> or <docker image=\"…\"/>";
                    self.add((Level::Error, "no-container"), place, what, mend);
                }
            }
        }
        for member in resource.members() {
            match member {
                Member::Primitive(primitive) => self.primitive(primitive),
                Member::Resource(inner) => self.resource(inner),
            }
        }
    }

    fn primitive(&mut self, primitive: &Primitive) {
        let place = (primitive.at, "primitive", &primitive.id);
        if let Some(template) = &primitive.template {
            if self.index.find_template(template).is_none() {
                let what = format!("there is no template {template:?}");
                let mend = "name a <template> of this configuration";
                self.add((Level::Error, "missing-template"), place, what, mend);
            }
            return;
        }
        for (name, value) in [("class", &primitive.class), ("type", &primitive.agent)] {
            if value.is_none() {
                let what = format!("the attribute {name} is missing");
                let mend = "say which agent manages the resource: class, provider and type, or a \
                            template";
                self.add((Level::Error, "missing-attribute"), place, what, mend);
            }
        }
        if primitive.class.as_deref() == Some("ocf") && primitive.provider.is_none() {
            let what = "agents of class ocf have a provider".to_owned();
            let mend = "add provider=\"heartbeat\" or another one";
            self.add((Level::Error, "missing-attribute"), place, what, mend);
        }
    }

    fn constraints(&mut self, cib: &Cib) {
        for constraint in cib.constraints() {
            for (attribute, name) in constraint.named() {
                let known = self.index.find_resource(name).is_some()
                    || self.index.find_template(name).is_some()
                    || self.index.find_tag(name).is_some();
                if !known {
                    let what = format!("{attribute} names {name:?}, which does not exist");
                    let mend = "name a resource, a template or a tag, or take the constraint out";
                    let place = (constraint.at(), constraint.tag(), constraint.id());
                    self.add((Level::Warning, "missing-resource"), place, what, mend);
                }
            }
        }
    }

    fn fencing(&mut self, cib: &Cib) {
        let none = Str::default();
        for level in cib.fencing_levels() {
            for device in level.devices() {
                let fences = self
                    .index
                    .find_primitive(device)
                    .and_then(|p| self.index.whole(p))
                    .is_some_and(|p| p.is_fencing());
                if !fences {
                    let what = format!("devices names {device:?}, which is no fencing device");
                    let mend = "name primitives of class stonith";
                    let place = (
                        level.at,
                        "fencing-level",
                        level.id.as_ref().unwrap_or(&none),
                    );
                    self.add((Level::Warning, "missing-device"), place, what, mend);
                }
            }
        }
    }
}

fn ids_of(resource: &Resource, all: &mut Vec<(Str, At, &'static str)>) {
    all.push((resource.id().clone(), resource.at(), resource.tag()));
    for member in resource.members() {
        match member {
            Member::Primitive(p) => all.push((p.id.clone(), p.at, "primitive")),
            Member::Resource(inner) => ids_of(inner, all),
        }
    }
}
