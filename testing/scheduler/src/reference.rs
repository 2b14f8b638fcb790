//! What the reference implementation decides, by its program `crm_simulate`.

use anyhow::{Context as _, Result, bail};
use mainstay_policy::Verdict;
use roxmltree::{Document, Node};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Command, Stdio},
};

/// The program.
pub const PROGRAM: &str = "crm_simulate";

/// Whether the program is there.
#[must_use]
pub fn is_there() -> bool {
    let mut command = Command::new(PROGRAM);
    command.arg("--version").stdout(Stdio::null());
    command
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// As [`is_there`], for tests: says loudly that one is skipped.
///
/// # Panics
/// If it is not there although `CI` is set: nothing may be skipped then.
#[must_use]
#[expect(clippy::print_stdout, reason = "whoever runs the tests shall see it")]
pub fn is_there_or_skipped() -> bool {
    if is_there() {
        return true;
    }
    let what = format!("{PROGRAM} is not installed: `cargo xtask setup`");
    assert!(std::env::var_os("CI").is_none(), "{what}");
    println!("SKIPPED: {what}");
    false
}

/// Its verdict for a cluster; nothing if it refuses the configuration.
///
/// # Errors
/// If the program cannot be run, or says what is not understood.
pub fn verdict(text: &str) -> Result<Option<Verdict>> {
    let folder = tempfile::tempdir().context("no place for the cluster")?;
    let (cib, graph) = (
        folder.path().join("cib.xml"),
        folder.path().join("graph.xml"),
    );
    std::fs::write(&cib, text)?;
    let Some(shown) = simulate(&cib, &["-S", "-s", "--output-as=xml"])? else {
        return Ok(None);
    };
    let path = graph.to_str().context("the path of the graph is no text")?;
    if simulate(&cib, &["-S", "-Q", "-G", path])?.is_none() {
        return Ok(None);
    }
    let drawn = std::fs::read_to_string(&graph).context("it drew no graph")?;
    let shown: String = shown
        .chars()
        .filter(|c| *c >= ' ' || c.is_whitespace())
        .collect();
    let shown = Document::parse(&shown).context("its output is no XML")?;
    let drawn = Document::parse(&drawn).context("its graph is no XML")?;
    read(shown.root_element(), drawn.root_element()).map(Some)
}

fn simulate(cib: &Path, options: &[&str]) -> Result<Option<String>> {
    let output = Command::new(PROGRAM)
        .env("LC_ALL", "C")
        .arg("-x")
        .arg(cib)
        .args(options)
        .output()
        .with_context(|| format!("cannot run {PROGRAM}"))?;
    let refused = !output.status.success() || output.stdout.is_empty() && !options.contains(&"-Q");
    Ok((!refused).then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn child<'a>(node: Node<'a, 'a>, name: &str) -> Option<Node<'a, 'a>> {
    node.children().find(|n| n.has_tag_name(name))
}

fn read(shown: Node<'_, '_>, drawn: Node<'_, '_>) -> Result<Verdict> {
    let before = child(shown, "cluster_status").context("it shows no cluster")?;
    let after = child(shown, "revised_cluster_status");
    let names = Names::of([Some(before), after].into_iter().flatten());
    let mut verdict = Verdict::default();
    (verdict.nodes_before, verdict.before) = names.status(before);
    if let Some(after) = after {
        (verdict.nodes_after, verdict.placements) = names.status(after);
    }
    for action in child(shown, "actions").iter().flat_map(|a| a.children()) {
        if action.is_element() {
            verdict.summary.push(names.change(action));
        }
    }
    for score in child(shown, "allocations")
        .iter()
        .flat_map(|a| a.children())
    {
        if score.is_element() {
            verdict.scores.push(names.score(score));
        }
    }
    draw(&names, drawn, &mut verdict)?;
    verdict.summary.sort();
    verdict.scores.sort();
    Ok(verdict)
}

/// Which instances are told apart.
struct Names {
    unique: BTreeSet<String>,
}

fn says(node: Node<'_, '_>, name: &str) -> bool {
    node.attribute(name) == Some("true")
}

fn text<'a>(node: Node<'a, '_>, name: &str) -> &'a str {
    node.attribute(name).unwrap_or_default()
}

impl Names {
    fn of<'a>(states: impl Iterator<Item = Node<'a, 'a>>) -> Names {
        let mut unique = BTreeSet::new();
        for state in states {
            let collectives = state.descendants().filter(|n| {
                (n.has_tag_name("clone") || n.has_tag_name("bundle")) && says(*n, "unique")
            });
            for collective in collectives {
                let inside = collective.descendants();
                unique.extend(inside.filter_map(|n| n.attribute("id")).map(str::to_owned));
            }
        }
        Names { unique }
    }

    /// Without a number that means nothing.
    fn plain<'a>(&self, id: &'a str) -> &'a str {
        match id.rsplit_once(':') {
            Some((name, number))
                if !self.unique.contains(id)
                    && !number.is_empty()
                    && number.bytes().all(|b| b.is_ascii_digit()) =>
            {
                name
            }
            _ => id,
        }
    }

    fn status(
        &self,
        state: Node<'_, '_>,
    ) -> (BTreeMap<String, String>, BTreeMap<String, Vec<String>>) {
        let nodes = child(state, "nodes").into_iter().flat_map(|n| n.children());
        let nodes = nodes
            .filter(|n| n.has_tag_name("node"))
            .map(|n| (text(n, "name").to_owned(), of_node(n)))
            .collect();
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for service in state.descendants().filter(|n| n.has_tag_name("resource")) {
            let list = places
                .entry(self.plain(text(service, "id")).to_owned())
                .or_default();
            let flags: Vec<&str> = [
                ("failed", says(service, "failed")),
                ("blocked", says(service, "blocked")),
                ("unmanaged", service.attribute("managed") == Some("false")),
                ("orphaned", says(service, "orphaned")),
            ]
            .iter()
            .filter(|(_, is)| *is)
            .map(|(flag, _)| *flag)
            .collect();
            let flags = match flags.is_empty() {
                true => String::new(),
                false => format!(" ({})", flags.join(",")),
            };
            for node in service.children().filter(|n| n.has_tag_name("node")) {
                if node.attribute("cached") != Some("false") {
                    let (name, role) = (text(node, "name"), text(service, "role"));
                    list.push(format!("{name} {role}{flags}"));
                }
            }
        }
        places.values_mut().for_each(|list| list.sort());
        (nodes, places)
    }

    fn change(&self, action: Node<'_, '_>) -> String {
        if action.has_tag_name("node_action") {
            return format!(
                "{} {}",
                text(action, "task").to_lowercase(),
                text(action, "node")
            );
        }
        let service = self.plain(text(action, "resource"));
        let mut line = format!("{} {service}", text(action, "action"));
        match (action.attribute("source"), action.attribute("dest")) {
            (Some(from), Some(to)) if from != to => line += &format!(" {from} -> {to}"),
            (from, to) => {
                if let Some(node) = from.or(to).or(action.attribute("node")) {
                    line += &format!(" {node}");
                }
            }
        }
        if let (Some(from), Some(to)) = (action.attribute("role"), action.attribute("next-role"))
            && from != to
        {
            line += &format!(" [{from} -> {to}]");
        }
        if says(action, "blocked") {
            line += " (blocked)";
        }
        line
    }

    fn score(&self, score: Node<'_, '_>) -> [String; 4] {
        let function = text(score, "function");
        let stage = match score.tag_name().name() {
            "promotion_score" => "promotion",
            _ => ["clone", "bundle", "group", "primitive"]
                .into_iter()
                .find(|stage| function.contains(&format!("_{stage}_")))
                .unwrap_or(function),
        };
        let node = score.attribute("node").unwrap_or("none");
        [
            stage,
            self.plain(text(score, "id")),
            node,
            text(score, "score"),
        ]
        .map(str::to_owned)
    }
}

fn of_node(node: Node<'_, '_>) -> String {
    let state = match (
        says(node, "unclean"),
        says(node, "pending"),
        says(node, "online"),
    ) {
        (true, _, true) => "unclean-online",
        (true, _, false) => "unclean",
        (false, true, _) => "pending",
        (false, false, true) => "online",
        (false, false, false) => "offline",
    };
    let flags = ["standby", "standby_onfail", "maintenance", "shutdown"];
    let flags = flags.iter().filter(|flag| says(node, flag));
    flags.fold(state.to_owned(), |state, flag| format!("{state},{flag}"))
}

/// One action of the graph: what it is called, and whether it is really done.
struct Drawn {
    label: String,
    real: bool,
    then: Vec<String>,
}

/// Reads the graph: the actions by kind, and which of them come before which.
fn draw(names: &Names, graph: Node<'_, '_>, verdict: &mut Verdict) -> Result<()> {
    let mut actions: BTreeMap<String, Drawn> = BTreeMap::new();
    for synapse in graph.children().filter(|n| n.has_tag_name("synapse")) {
        let set = child(synapse, "action_set").context("a synapse without actions")?;
        for action in set.children().filter(Node::is_element) {
            let (label, list) = label(names, action);
            let real = list != List::Events;
            match list {
                List::Operations => verdict.actions.push(label.clone()),
                List::Cluster => verdict.cluster_actions.push(label.clone()),
                List::Fencing => verdict.fencing.push(label.clone()),
                List::Events => verdict.pseudo.push(label.clone()),
            }
            let entry = actions.entry(text(action, "id").to_owned());
            let then = Vec::new();
            entry.or_insert(Drawn { label, real, then });
        }
    }
    for synapse in graph.children().filter(|n| n.has_tag_name("synapse")) {
        let ids = |within: Node<'_, '_>| -> Vec<String> {
            let all = within.descendants().filter(|n| n.is_element());
            all.filter(|n| n.has_attribute("operation"))
                .map(|n| text(n, "id").to_owned())
                .collect()
        };
        let thens = child(synapse, "action_set").map(ids).unwrap_or_default();
        for first in child(synapse, "inputs").map(ids).unwrap_or_default() {
            if let Some(first) = actions.get_mut(&first) {
                first.then.extend(thens.iter().cloned());
            }
        }
    }
    verdict.order = reduced(&actions);
    for list in [
        &mut verdict.actions,
        &mut verdict.cluster_actions,
        &mut verdict.fencing,
        &mut verdict.pseudo,
        &mut verdict.order,
    ] {
        list.sort();
    }
    if graph
        .children()
        .any(|n| n.is_element() && !n.has_tag_name("synapse"))
    {
        bail!("the graph has something else than synapses");
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum List {
    Operations,
    Cluster,
    Fencing,
    Events,
}

fn label(names: &Names, action: Node<'_, '_>) -> (String, List) {
    let (task, key, node) = (
        text(action, "operation"),
        text(action, "operation_key"),
        text(action, "on_node"),
    );
    let meta = child(action, "attributes");
    let meta = |name: &str| meta.and_then(|m| m.attribute(name)).unwrap_or_default();
    let how = || match meta("CRM_meta_stonith_action") {
        "" => key.rsplit('-').next().unwrap_or(key).to_owned(),
        how => how.to_owned(),
    };
    match action.tag_name().name() {
        "rsc_op" => {
            let service = child(action, "primitive").map_or(key, |p| text(p, "id"));
            let service = names.plain(service);
            let interval = match meta("CRM_meta_interval") {
                "" => key.rsplit('_').next().unwrap_or("0"),
                interval => interval,
            };
            let recurs = interval.bytes().all(|b| b.is_ascii_digit()) && interval != "0";
            let mut label = match task {
                "monitor" if !recurs => format!("probe {service} {node}"),
                "notify" => {
                    let (when, what) = (
                        meta("CRM_meta_notify_type"),
                        meta("CRM_meta_notify_operation"),
                    );
                    format!("notify:{when}-{what} {service} {node}")
                }
                "cancel" => {
                    let what = meta("CRM_meta_operation");
                    format!("cancel:{what}={interval} {service} {node}")
                }
                task if recurs => format!("{task}={interval} {service} {node}"),
                task => format!("{task} {service} {node}"),
            };
            if let Some(router) = action.attribute("router_node") {
                label += &format!(" via {router}");
            }
            (label, List::Operations)
        }
        "crm_event" if task == "stonith" => (format!("{} {node}", how()), List::Fencing),
        "crm_event" => {
            let service = key.strip_suffix("_clear_failcount_0");
            let service = service.map_or(String::new(), |s| format!("{} ", names.plain(s)));
            (format!("{task} {service}{node}"), List::Cluster)
        }
        _ if task == "stonith" => (format!("pseudo-{} {node}", how()), List::Fencing),
        _ => (format!("{key} {node}").trim_end().to_owned(), List::Events),
    }
}

/// The order between what is really done, without what follows from the rest of it.
fn reduced(actions: &BTreeMap<String, Drawn>) -> Vec<String> {
    let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (id, action) in actions.iter().filter(|(_, a)| a.real) {
        let mut seen = BTreeSet::new();
        let mut hit = BTreeSet::new();
        let mut stack: Vec<&str> = action.then.iter().map(String::as_str).collect();
        while let Some(at) = stack.pop() {
            let Some(next) = actions.get(at).filter(|_| seen.insert(at)) else {
                continue;
            };
            if next.real && at != id {
                hit.insert(at);
            }
            stack.extend(next.then.iter().map(String::as_str));
        }
        reach.insert(id, hit);
    }
    let mut lines = Vec::new();
    for (first, thens) in &reach {
        for then in thens {
            let between =
                |m: &&str| m != then && !reach[*m].contains(first) && reach[*m].contains(then);
            if !thens.iter().any(between) {
                let (a, b) = (&actions[*first].label, &actions[*then].label);
                lines.push(format!("{a} < {b}"));
            }
        }
    }
    lines
}
