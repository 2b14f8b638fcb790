//! Whether resources fit what their agents say of themselves.

use super::{Checker, option::near, spot};
use crate::{
    agents::{Agent, Agents},
    operations::Op,
    problem::Level,
    resources::Primitive,
    sets::lookup,
    value::{FromText as _, Interval},
};

/// What operations get if nothing is written.
const DEFAULT: Interval = Interval::from_millis(20_000);

pub(super) fn check(checker: &mut Checker<'_>, agents: &Agents) {
    for primitive in checker.primitives() {
        if let Some(agent) = agents.get(&primitive.agent_name()) {
            parameters(checker, &primitive, agent);
            timeouts(checker, &primitive, agent);
        }
    }
}

/// Parameters that the cluster takes or gives itself.
fn is_of_the_cluster(primitive: &Primitive, name: &str) -> bool {
    let fencing = ["action", "port", "plug", "nodename", "priority", "provides"];
    name.starts_with("CRM_meta_")
        || ["OCF_CHECK_LEVEL", "trace_ra", "trace_file"].contains(&name)
        || primitive.is_fencing() && (name.starts_with("pcmk_") || fencing.contains(&name))
}

fn parameters(checker: &mut Checker<'_>, primitive: &Primitive, agent: &Agent) {
    let referring = primitive
        .parameters
        .iter()
        .any(|s| s.id_ref.is_some() || s.pairs.iter().any(|p| p.id_ref.is_some()));
    for parameter in &agent.parameters {
        let name = &*parameter.name;
        let given = referring || lookup(&primitive.parameters, name).is_some();
        if parameter.required && !given && !is_of_the_cluster(primitive, name) {
            let what = format!("its agent needs the parameter {name}");
            let mend = format!("give it a value: {name}=…");
            checker.add(
                Level::Warning,
                "missing-parameter",
                spot(primitive),
                what,
                mend,
            );
        }
    }
    for pair in primitive.parameters.iter().flat_map(|s| &s.pairs) {
        let Some(name) = pair.name.as_deref() else {
            continue;
        };
        if agent.has(name) || is_of_the_cluster(primitive, name) {
            continue;
        }
        let place = (pair.at, "nvpair", pair.id.as_ref());
        let what = format!("{} has no parameter {name:?}", primitive.agent_name());
        let known = agent.parameters.iter().map(|p| &*p.name);
        let mend = match near(name, known) {
            Some(near) => format!("did you mean {near}?"),
            None => "take it out, or correct its name".to_owned(),
        };
        checker.add(Level::Warning, "unknown-parameter", place, what, mend);
    }
}

fn own_timeout(op: &Op) -> Option<Interval> {
    op.timeout
        .get()
        .or_else(|| Interval::from_text(lookup(&op.meta, "timeout")?))
        .filter(|t| *t > Interval::ZERO)
}

fn timeouts(checker: &mut Checker<'_>, primitive: &Primitive, agent: &Agent) {
    let common = lookup(checker.cib.op_defaults(), "timeout");
    let common = common.or_else(|| checker.cib.option("default-action-timeout"));
    let common = common.and_then(Interval::from_text).unwrap_or(DEFAULT);
    let short = |given: Interval, advised: Option<Interval>| advised.filter(|a| given < *a);
    for op in primitive.ops() {
        let place = (op.at, "op", op.id.as_ref());
        if !agent.actions.iter().any(|a| *a.name == *op.name) {
            let what = format!("{} has no action {:?}", primitive.agent_name(), &*op.name);
            let mend = "take it out, or correct its name";
            checker.add(Level::Warning, "unknown-action", place, what, mend);
            continue;
        }
        let given = own_timeout(op).unwrap_or(common);
        if let Some(advised) = short(given, agent.advice(&op.name, op.role.get())) {
            let what = format!("{} gets {given}, and its agent advises {advised}", op.name);
            let mend = format!("write timeout=\"{advised}\" or more");
            checker.add(Level::Warning, "short-timeout", place, what, mend);
        }
    }
    for action in ["start", "stop"] {
        let listed = primitive.ops().iter().any(|op| &*op.name == action);
        let advised = agent.advice(action, None).filter(|_| !listed);
        if let Some(advised) = short(common, advised) {
            let what = format!("{action} gets {common}, and its agent advises {advised}");
            let mend = format!("add <op name=\"{action}\" interval=\"0\" timeout=\"{advised}\"/>");
            checker.add(Level::Warning, "short-timeout", spot(primitive), what, mend);
        }
    }
}
