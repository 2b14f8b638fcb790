//! Rules on what services have to do with each other.

use super::view::View;
use mainstay_cib::{
    constraints::{Colocation, Constraint},
    value::{Action, OrderKind, Role, Score},
};

/// Colocations without roles between services of which there is one each, that can be moved.
fn colocations<'a>(view: &View<'a>) -> impl Iterator<Item = (&'a Colocation, &'a str, &'a str)> {
    let plain = |r: Option<Role>| r.is_none_or(|r| r == Role::Started);
    let single = view.single.clone();
    let list: Vec<_> = view
        .constraints()
        .filter_map(|c| match c {
            Constraint::Colocation(c) => Some(c),
            _ => None,
        })
        .filter(|c| plain(c.rsc_role.get()) && plain(c.with_rsc_role.get()))
        .filter(|c| c.node_attribute.as_deref().is_none_or(|a| a == "#uname"))
        .filter_map(|c| Some((c, c.rsc.as_deref()?, c.with_rsc.as_deref()?)))
        .filter(|(_, a, b)| single.contains(a) && single.contains(b))
        .filter(|(_, a, b)| !view.is_unmanaged(a) && !view.is_unmanaged(b))
        .collect();
    list.into_iter()
}

/// What must not be together is not.
pub(super) fn apart(view: &View<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (c, a, b) in colocations(view).filter(|(c, ..)| c.score.get() == Some(Score::NEVER)) {
        for place in view.next(a) {
            let stay = view.may_stay(a, &place.node) && view.may_stay(b, &place.node);
            if !stay && view.next(b).iter().any(|p| p.node == place.node) {
                wrong.push(format!(
                    "{a} and {b} on {} in spite of {}",
                    place.node, c.id
                ));
            }
        }
    }
    wrong
}

/// What must be together is.
pub(super) fn together(view: &View<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (c, a, b) in colocations(view).filter(|(c, ..)| c.score.get() == Some(Score::INFINITY)) {
        for place in view.next(a) {
            if !view.next(b).iter().any(|p| p.node == place.node) {
                wrong.push(format!(
                    "{a} on {} without {b} in spite of {}",
                    place.node, c.id
                ));
            }
        }
    }
    wrong
}

/// Where one start must come before another one, it does.
pub(super) fn order(view: &View<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for constraint in view.constraints() {
        let Constraint::Order(c) = constraint else {
            continue;
        };
        let starts = |a: Option<Action>| a.is_none_or(|a| a == Action::Start);
        let (Some(first), Some(then)) = (c.first.as_deref(), c.then.as_deref()) else {
            continue;
        };
        let both = view.single.contains(first) && view.single.contains(then);
        let binding = c.strength() == OrderKind::Mandatory && c.require_all.or(true);
        if !both
            || !binding
            || !starts(c.first_action.get())
            || !starts(c.then_action.get().or(c.first_action.get()))
        {
            continue;
        }
        for (later, step) in view.of("start", then).filter(|(_, s)| !s.implied) {
            for (earlier, other) in view.of("start", first).filter(|(_, s)| !s.implied) {
                if !view.graph().waits(later, earlier) {
                    wrong.push(format!(
                        "{} does not wait for {} in spite of {}",
                        step.label, other.label, c.id
                    ));
                }
            }
        }
    }
    wrong
}
