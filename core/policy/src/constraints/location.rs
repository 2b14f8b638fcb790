//! Constraints on where services run, and what the health of nodes adds to them.

use super::{Named, members, named};
use crate::{
    model::{Discover, Kind, Location, Nx, Sx, Values, World},
    report::Why,
    rules::{Asked, holds, score},
};
use mainstay_cib::{
    constraints::Location as Written,
    rules::Rule,
    text::Str,
    value::{Discovery, Role, Score, truth},
};
use regex::Regex;

/// Reads one constraint.
pub(super) fn unpack(world: &mut World<'_>, written: &Written) {
    if written.sets.is_empty() {
        match written.rsc.as_ref().map(|r| named(world, r)) {
            Some(Named::One(one)) => of_service(world, written, one, None, None, &[]),
            Some(Named::Several(several)) => {
                for one in several {
                    of_service(world, written, one, None, None, &[]);
                }
            }
            Some(Named::Nothing) | None => {}
        }
        if let Some(pattern) = &written.rsc_pattern {
            by_pattern(world, written, pattern);
        }
        return;
    }
    for set in &written.sets {
        let Some(set) = world.index.resource_set(set) else {
            continue;
        };
        for one in members(world, set) {
            of_service(world, written, one, set.role.get(), set.score.get(), &[]);
        }
    }
}

fn by_pattern(world: &mut World<'_>, written: &Written, pattern: &str) {
    let (pattern, invert) = match pattern.strip_prefix('!') {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let Ok(regex) = Regex::new(pattern) else {
        return;
    };
    for root in world.roots.clone() {
        let id = world.services[root].id.clone();
        let found = regex.captures(&id);
        if found.is_some() == invert {
            continue;
        }
        let parts: Vec<&str> = found
            .iter()
            .flat_map(|c| c.iter().map(|m| m.map_or("", |m| m.as_str())))
            .collect();
        of_service(world, written, root, None, None, &parts);
    }
}

fn of_service(
    world: &mut World<'_>,
    written: &Written,
    service: Sx,
    role: Option<Role>,
    of_set: Option<Score>,
    parts: &[&str],
) {
    let score = of_set.or(written.score.get());
    let at_node = written.node.as_ref().zip(score);
    let node = at_node.map(|(name, _)| world.node_named(name));
    if node == Some(None) {
        return;
    }
    let discover = match written.discovery.get() {
        Some(Discovery::Never) => Discover::Never,
        Some(Discovery::Exclusive) => {
            world.services[service].exclusive = true;
            Discover::Exclusive
        }
        _ => Discover::Always,
    };
    if let (Some(Some(node)), Some(score)) = (node, score) {
        // A constraint on the lowest role counts for all roles: it comes before the others.
        let role = role
            .or(written.role.get())
            .filter(|r| !matches!(r, Role::Started | Role::Unpromoted));
        let nodes = vec![(node, score)];
        add(world, written.id.clone(), service, role, nodes, discover);
        return;
    }
    for rule in &written.rules {
        let Some(rule) = world.index.rule_of(rule) else {
            continue;
        };
        let nodes = by_rule(world, rule, service, parts);
        if !nodes.is_empty() {
            let role = rule.role.get().filter(|r| *r != Role::Unpromoted);
            add(world, written.id.clone(), service, role, nodes, discover);
        }
    }
}

/// The nodes on which a rule holds, with what it gives them.
fn by_rule(world: &World<'_>, rule: &Rule, service: Sx, parts: &[&str]) -> Vec<(Nx, Score)> {
    let config = &world.services[service].config;
    let holding = |n: &Nx| {
        let params = parameters(world, service, *n);
        let asked = Asked {
            now: world.now,
            node: Some(&world.nodes[*n]),
            params: Some(&params),
            meta: Some(&config.meta),
            parts,
            ..Asked::default()
        };
        holds(world.index, rule, asked)
    };
    (0..world.nodes.len())
        .filter(holding)
        .map(|n| (n, rule_score(world, rule, n)))
        .collect()
}

fn parameters(world: &World<'_>, service: Sx, node: Nx) -> Values {
    let config = &world.services[service].config;
    let mut values = Values::new();
    if let Some(primitive) = &config.primitive {
        let asked = Asked {
            now: world.now,
            node: Some(&world.nodes[node]),
            ..Asked::default()
        };
        crate::rules::collect(world.index, &primitive.parameters, asked, None, &mut values);
    }
    for (name, value) in &config.inherited {
        values.entry(name.clone()).or_insert_with(|| value.clone());
    }
    values
}

/// What a rule gives a node: its score, or what a node attribute says; must not without that.
fn rule_score(world: &World<'_>, rule: &Rule, node: Nx) -> Score {
    match (rule.score.text(), &rule.score_attribute) {
        (Some(text), _) => score(text),
        (None, Some(name)) => world.nodes[node]
            .attribute(name)
            .map_or(Score::NEVER, score),
        (None, None) => Score::ZERO,
    }
}

fn add(
    world: &mut World<'_>,
    id: Str,
    service: Sx,
    role: Option<Role>,
    nodes: Vec<(Nx, Score)>,
    discover: Discover,
) {
    let at = world.locations.len();
    world.services[service].locations.push(at);
    world.locations.push(Location {
        id,
        service,
        role,
        nodes,
        discover,
    });
}

/// Adds what the health of nodes gives to services.
pub(super) fn health(world: &mut World<'_>) {
    let strategy = world.options.all.get("node-health-strategy").cloned();
    let option = |name, default| world.options.score(name, default);
    let (zero, never) = (Score::ZERO, Score::NEVER);
    let (red, yellow, green) = match strategy.as_deref() {
        Some("migrate-on-red") => (never, zero, zero),
        Some("only-green") => (never, never, zero),
        Some("progressive" | "custom") => (
            option("node-health-red", never),
            option("node-health-yellow", zero),
            option("node-health-green", zero),
        ),
        _ => return,
    };
    let base = match strategy.as_deref() {
        Some("progressive") => option("node-health-base", zero),
        _ => zero,
    };
    for node in 0..world.nodes.len() {
        let mut sum = base;
        for (name, value) in &world.nodes[node].attributes {
            if name.starts_with("#health") {
                sum += match value.to_ascii_lowercase().as_str() {
                    "red" => red,
                    "yellow" => yellow,
                    "green" => green,
                    other => score(other),
                };
            }
        }
        if sum == zero {
            continue;
        }
        for root in world.roots.clone() {
            let hardy = world.services[root]
                .config
                .meta
                .get("allow-unhealthy-nodes");
            if sum < zero && hardy.is_some_and(|v| truth(v) == Some(true)) {
                continue;
            }
            let nodes = vec![(node, sum)];
            add(
                world,
                "node-health".into(),
                root,
                None,
                nodes,
                Discover::Always,
            );
        }
    }
}

impl World<'_> {
    /// The node of a name or, failing that, of an id.
    pub(crate) fn node_named(&self, name: &Str) -> Option<Nx> {
        let by_name = |n: &crate::model::Node| n.name.eq_ignore_ascii_case(name);
        let by_id = || {
            self.nodes
                .iter()
                .position(|n| n.id.eq_ignore_ascii_case(name))
        };
        self.nodes.iter().position(by_name).or_else(by_id)
    }

    /// Applies one constraint to a service and what is in it.
    pub(crate) fn apply_location(&mut self, service: Sx, at: usize, scale: Scale) {
        self.apply_to(service, at, scale);
        let s = &self.services[service];
        match s.kind {
            Kind::Primitive => {}
            Kind::Group => {
                // The score of the first member goes for all of a group that stays together.
                let together = s.colocated;
                for (number, member) in s.children.clone().into_iter().enumerate() {
                    let scale = if together && number > 0 {
                        Scale::Nothing
                    } else {
                        scale
                    };
                    self.apply_location(member, at, scale);
                }
            }
            Kind::Clone => {
                for instance in s.children.clone() {
                    self.apply_location(instance, at, scale);
                }
            }
            Kind::Bundle => {
                for replica in s.replicas.clone() {
                    self.apply_location(replica.container, at, scale);
                    if let Some(ip) = replica.ip {
                        self.apply_location(ip, at, scale);
                    }
                }
                if self.locations[at].role.is_some() {
                    self.apply_to_child(service, at, scale);
                }
            }
        }
    }

    fn apply_to_child(&mut self, bundle: Sx, at: usize, scale: Scale) {
        let children = self.services[bundle].children.clone();
        if let Some(clone) = children.into_iter().find(|c| self.is_clone(*c)) {
            self.apply_location(clone, at, scale);
            self.services[clone].locations.push(at);
        }
    }

    fn apply_to(&mut self, service: Sx, at: usize, scale: Scale) {
        let location = self.locations[at].clone();
        if location.role.is_some() && location.role != self.services[service].next_role {
            return;
        }
        let why = Why::Constraint(location.id.clone());
        for &(node, score) in &location.nodes {
            let score = if scale == Scale::Nothing {
                Score::ZERO
            } else {
                score
            };
            let discover = self.nodes[node].discover;
            let known = self.services[service].allowed.get(node).is_some();
            let allowed = self.services[service].allowed.entry(node, score, discover);
            if known {
                allowed.score += score;
            }
            if allowed.discover < location.discover {
                allowed.discover = location.discover;
                if location.discover == Discover::Exclusive {
                    self.services[service].exclusive = true;
                }
            }
            self.notes.contribution(service, node, score, &why);
        }
    }
}

/// Whether a constraint's scores count for a service, or only where it allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Full,
    Nothing,
}
