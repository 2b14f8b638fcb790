//! Roles that resources never have.

use super::Checker;
use crate::{
    constraints::Constraint,
    problem::Level,
    resources::Resource,
    text::Str,
    value::{Action, Role},
    xml::Attr,
};

pub(super) fn check(checker: &mut Checker<'_>) {
    for constraint in checker.cib.constraints() {
        let mut promoted: Vec<&Str> = Vec::new();
        match constraint {
            Constraint::Location(c) => {
                let rules = c.rules.iter().any(|r| role(&r.role));
                promoted.extend(c.rsc.iter().filter(|_| rules || role(&c.role)));
            }
            Constraint::Colocation(c) => {
                promoted.extend(c.rsc.iter().filter(|_| role(&c.rsc_role)));
                promoted.extend(c.with_rsc.iter().filter(|_| role(&c.with_rsc_role)));
            }
            Constraint::Order(c) => {
                promoted.extend(c.first.iter().filter(|_| action(&c.first_action)));
                promoted.extend(c.then.iter().filter(|_| action(&c.then_action)));
            }
            Constraint::Ticket(c) => promoted.extend(c.rsc.iter().filter(|_| role(&c.rsc_role))),
        }
        for set in constraint.sets() {
            if role(&set.role) || action(&set.action) {
                promoted.extend(set.refs.iter().map(|r| &r.id));
            }
        }
        for id in promoted {
            let place = checker.index.find_resource(id);
            if place.is_some_and(|p| !promotable(p.outermost)) {
                let what = format!("{id} is never promoted, so this has no effect");
                let mend = "take the role or the action out, or make it a promotable clone";
                let spot = (constraint.at(), constraint.tag(), Some(constraint.id()));
                checker.add(Level::Warning, "never-promoted", spot, what, mend);
            }
        }
    }
}

fn promotable(resource: &Resource) -> bool {
    match resource {
        Resource::Bundle(bundle) => {
            let container = bundle.container.as_ref();
            container.is_some_and(|c| c.container().promoted() > 0)
        }
        _ => resource.is_promotable(),
    }
}

fn role(role: &Attr<Role>) -> bool {
    role.get() == Some(Role::Promoted)
}

fn action(action: &Attr<Action>) -> bool {
    matches!(action.get(), Some(Action::Promote | Action::Demote))
}
