//! A plan and its configuration, as rules look at them.

use crate::{Graph, Kind, Place, Plan, Step};
use mainstay_cib::{
    Cib, constraints::Constraint, index::Index, resources::Resource, sets::lookup, value::truth,
};
use std::collections::{BTreeMap, BTreeSet};

/// What rules are asked about.
pub(super) struct View<'a> {
    pub cib: &'a Cib,
    pub plan: &'a Plan,
    /// The primitives that are in no collective: of these there is one each.
    pub single: BTreeSet<&'a str>,
    /// The states of nodes by name.
    pub nodes: BTreeMap<&'a str, NodeState>,
    /// What is configured, by its id.
    pub index: Index<'a>,
    /// The steps that have a service and a node, by their task and their service.
    tasks: BTreeMap<(&'a str, &'a str), Vec<usize>>,
    /// The step that fences a node.
    fenced: BTreeMap<&'a str, usize>,
}

/// The state of a node.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct NodeState {
    pub online: bool,
    pub unclean: bool,
    pub standby: bool,
    pub maintenance: bool,
    pub shutdown: bool,
    /// It is brought about by a service.
    pub remote: bool,
}

impl<'a> View<'a> {
    pub(super) fn new(cib: &'a Cib, plan: &'a Plan) -> View<'a> {
        let single = cib.resources().iter().filter_map(|r| match r {
            Resource::Primitive(p) => Some(&*p.id),
            _ => None,
        });
        let members: BTreeSet<&str> = cib
            .nodes()
            .iter()
            .filter(|n| n.kind.get() != Some(mainstay_cib::value::NodeType::Remote))
            .map(|n| &**n.name())
            .collect();
        let nodes = plan.report.status.nodes.iter().map(|(name, state)| {
            let has = |word: &str| state.split(',').any(|w| w == word);
            let state = NodeState {
                online: has("online") || has("unclean-online"),
                unclean: has("unclean") || has("unclean-online"),
                standby: has("standby") || has("standby_onfail"),
                maintenance: has("maintenance"),
                shutdown: has("shutdown"),
                remote: !members.contains(name.as_str()),
            };
            (name.as_str(), state)
        });
        let mut tasks: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        let mut fenced = BTreeMap::new();
        for (at, step) in plan.graph.steps.iter().enumerate() {
            let Some(node) = &step.node else { continue };
            if let Some(service) = &step.service {
                tasks.entry((&step.task, service)).or_default().push(at);
            }
            if step.kind == Kind::Fencing && step.task != "on" {
                fenced.entry(node.as_str()).or_insert(at);
            }
        }
        View {
            cib,
            plan,
            single: single.collect(),
            nodes: nodes.collect(),
            index: Index::new(cib),
            tasks,
            fenced,
        }
    }

    pub(super) fn graph(&self) -> &'a Graph {
        &self.plan.graph
    }

    /// The steps with their places, operations on services only.
    pub(super) fn operations(&self) -> impl Iterator<Item = (usize, &'a Step)> {
        let steps = self.plan.graph.steps.iter().enumerate();
        steps.filter(|(_, s)| s.kind == Kind::Operation)
    }

    /// The steps of one task with a node, those that are implied included.
    pub(super) fn of_task(&self, task: &'static str) -> impl Iterator<Item = (usize, &'a Step)> {
        let all = self.tasks.range((task, "")..);
        let ours = all.take_while(move |((of, _), _)| *of == task);
        let steps = &self.plan.graph.steps;
        ours.flat_map(|(_, list)| list).map(|&at| (at, &steps[at]))
    }

    /// The steps of one task with a service and a node, those that are implied included.
    pub(super) fn of<'s>(
        &'s self,
        task: &'static str,
        service: &'s str,
    ) -> impl Iterator<Item = (usize, &'a Step)> {
        let steps = &self.plan.graph.steps;
        let list = self.tasks.get(&(task, service)).into_iter().flatten();
        list.map(|&at| (at, &steps[at]))
    }

    /// The step that fences a node.
    pub(super) fn fencing(&self, node: &str) -> Option<usize> {
        self.fenced.get(node).copied()
    }

    /// What holds for a service now, wherever it is: failed, blocked, unmanaged, orphaned.
    fn now(&self, service: &str) -> impl Iterator<Item = &'a str> {
        let list = self.plan.report.status.services.get(service);
        list.into_iter()
            .flatten()
            .map(|text| text.split_once(" (").map_or("", |(_, flags)| flags))
    }

    /// Where a service shall be.
    pub(super) fn next(&self, service: &str) -> &'a [Place] {
        self.plan.report.places.get(service).map_or(&[], |p| p)
    }

    /// Whether nothing may be done to a service.
    pub(super) fn is_unmanaged(&self, service: &str) -> bool {
        self.now(service).any(|flags| flags.contains("unmanaged"))
    }

    /// Whether a service may stay where it is now although it should not be there: where fencing is
    /// wanted and there is no device, it could not be started elsewhere.
    pub(super) fn may_stay(&self, service: &str, node: &str) -> bool {
        let wanted = self.option("stonith-enabled") != Some(false);
        let watchdog = self.option("have-watchdog") == Some(true);
        let primitives = self.cib.resources().iter().flat_map(Resource::primitives);
        let device = primitives
            .into_iter()
            .any(|p| p.class.as_deref() == Some("stonith"));
        let now = self.plan.report.status.services.get(service);
        let here = |text: &String| text.split(' ').next() == Some(node);
        wanted && !watchdog && !device && now.is_some_and(|places| places.iter().any(here))
    }

    /// Whether everything is left alone, by an option.
    pub(super) fn option(&self, name: &str) -> Option<bool> {
        truth(self.cib.option(name)?)
    }

    /// The value of a meta attribute that no rule can change.
    pub(super) fn meta(resource: &Resource, name: &str) -> Option<String> {
        lookup(resource.meta(), name).map(str::to_owned)
    }

    /// The constraints that hold always.
    pub(super) fn constraints(&self) -> impl Iterator<Item = &'a Constraint> {
        let timed = |c: &&Constraint| match c {
            Constraint::Location(c) => c.lifetime.is_none(),
            Constraint::Colocation(c) => c.lifetime.is_none(),
            Constraint::Order(c) => c.lifetime.is_none(),
            Constraint::Ticket(_) => true,
        };
        self.cib.constraints().iter().filter(timed)
    }
}
