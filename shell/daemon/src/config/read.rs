//! From text to a checked [`Config`].

use super::{
    Config, ConfigError, DEFAULT_STATE_DIR, Identity, LogConfig, LogFormat, NodeEntry,
    RecorderConfig,
    fields::{At, Fields},
    problem::Problems,
    socket::read_socket,
};
use mainstay_base::{
    DeadlockConfig, FencePolicy, LINKS_MAX, MASTER_WEIGHT_MAX, MastersConfig, NODES_MAX, NodeId,
    NodeName, Timings, UserLimits, VOTES_MAX, VictimPolicy,
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::de::DeTable;

const NODE_EXAMPLE: &str =
    "[[node]]\n    id = 1\n    name = \"a\"\n    addresses = [\"10.0.0.1:7464\"]";
const ADDRESSES_EXAMPLE: &str = "addresses = [\"10.0.0.1:7464\"]";
const PERIOD_MAX_MS: u64 = 60_000;

pub(super) fn read(file: &Path, text: &str, identity: &Identity) -> Result<Config, ConfigError> {
    let mut problems = Problems::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        problems.add(
            error.span().unwrap_or(0..0),
            "",
            format!("this is not TOML: {}", error.message()),
            "key = \"value\"",
        );
    }
    // What a broken line leaves behind would only add noise.
    let config = if problems.is_empty() {
        let mut fields = Fields::new("", 0..0, root.get_ref());
        let config = read_root(file, &mut fields, &mut problems, identity);
        fields.finish(&mut problems);
        config
    } else {
        None
    };
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(ConfigError::Invalid {
            file: file.to_owned(),
            problems: problems.into_vec(),
        }),
    }
}

fn read_root(
    file: &Path,
    root: &mut Fields<'_, '_>,
    problems: &mut Problems<'_>,
    identity: &Identity,
) -> Option<Config> {
    let base = file.parent().unwrap_or(Path::new(""));
    let cluster = read_cluster(root, problems);
    let nodes = read_nodes(root, problems);
    let this_node = root.string(problems, "this-node", "this-node = \"a\"");
    let key_file = read_path(
        root,
        problems,
        "key-file",
        base,
        "key-file = \"cluster.key\"",
    );
    if key_file.is_none() && !root.has("key-file") {
        root.missing(problems, "key-file", "key-file = \"cluster.key\"");
    }
    let state_dir = read_path(
        root,
        problems,
        "state-dir",
        base,
        "state-dir = \"/var/lib/mainstay\"",
    )
    .unwrap_or_else(|| PathBuf::from(DEFAULT_STATE_DIR));
    let (socket, socket_access) = read_socket(root, problems, base);
    let timings = read_timings(root, problems);
    let fencing = read_fencing(root, problems);
    let deadlock = read_deadlock(root, problems);
    let mut masters = read_masters(root, problems);
    let limits = read_limits(root, problems);
    let recorder = read_recorder(root, problems);
    let orphan_expiry = read_orphans(root, problems);
    let (max_grace, max_rest) = read_sessions(root, problems);
    let log = read_log(root, problems);

    let nodes = nodes?;
    masters.weights = weights(&nodes);
    let me = find_me(&nodes, this_node.as_ref(), identity, problems)?;
    Some(Config {
        file: file.to_owned(),
        cluster: cluster?,
        nodes,
        me,
        key_file: key_file?,
        state_dir,
        socket,
        socket_access,
        timings,
        fencing,
        deadlock,
        masters,
        limits,
        recorder,
        orphan_expiry,
        max_grace,
        max_rest,
        log,
    })
}

fn read_cluster(root: &mut Fields<'_, '_>, problems: &mut Problems<'_>) -> Option<String> {
    const EXAMPLE: &str = "[cluster]\n    name = \"hardcore\"";
    let present = root.has("cluster");
    let Some(mut fields) = root.table(problems, "cluster", EXAMPLE) else {
        if !present {
            root.missing(problems, "cluster.name", EXAMPLE);
        }
        return None;
    };
    let name = match fields.string(problems, "name", "name = \"hardcore\"") {
        Some(name) => check_name(name, problems, "a cluster name", "name = \"hardcore\""),
        None => {
            if !fields.has("name") {
                fields.missing(problems, "name", "name = \"hardcore\"");
            }
            None
        }
    };
    fields.finish(problems);
    name.map(|n| n.value)
}

/// Cluster names follow the rules of node names.
fn check_name(
    name: At<String>,
    problems: &mut Problems<'_>,
    what: &str,
    example: &str,
) -> Option<At<String>> {
    match NodeName::new(name.value.as_str()) {
        Ok(_) => Some(name),
        Err(_) => {
            problems.add(
                name.span,
                name.path,
                format!(
                    "`{}` is not {what}: 1 to 64 letters, digits, `-`, `_` or `.`",
                    name.value
                ),
                example,
            );
            None
        }
    }
}

struct RawNode {
    span: Range<usize>,
    path: String,
    id: Option<At<u64>>,
    name: Option<At<String>>,
    addresses: Option<At<Vec<At<SocketAddr>>>>,
    votes: u32,
    master_weight: u8,
}

fn read_nodes(root: &mut Fields<'_, '_>, problems: &mut Problems<'_>) -> Option<Vec<NodeEntry>> {
    let Some(tables) = root.tables(problems, "node", NODE_EXAMPLE) else {
        if !root.has("node") {
            root.missing(problems, "node", NODE_EXAMPLE);
        }
        return None;
    };
    let raw: Vec<RawNode> = tables
        .into_iter()
        .map(|fields| read_node(fields, problems))
        .collect();
    check_nodes(&raw, problems);
    let mut nodes = Vec::new();
    for node in raw {
        nodes.push(NodeEntry {
            id: NodeId(u16::try_from(node.id?.value).ok()?),
            name: NodeName::new(node.name?.value).ok()?,
            addresses: node.addresses?.value.into_iter().map(|a| a.value).collect(),
            votes: node.votes,
            master_weight: node.master_weight,
        });
    }
    nodes.sort_by_key(|n| n.id);
    Some(nodes)
}

fn read_node(mut fields: Fields<'_, '_>, problems: &mut Problems<'_>) -> RawNode {
    let id = fields.integer(problems, "id", 1..65_536, "id = 1");
    if id.is_none() && !fields.has("id") {
        fields.missing(problems, "id", "id = 1");
    }
    let name = fields.string(problems, "name", "name = \"a\"");
    if name.is_none() && !fields.has("name") {
        fields.missing(problems, "name", "name = \"a\"");
    }
    let name = name.and_then(|n| check_name(n, problems, "a node name", "name = \"a\""));
    let texts = fields.strings(problems, "addresses", ADDRESSES_EXAMPLE);
    if texts.is_none() && !fields.has("addresses") {
        fields.missing(problems, "addresses", ADDRESSES_EXAMPLE);
    }
    let addresses = texts.and_then(|texts| read_addresses(texts, problems));
    let votes = fields
        .integer(problems, "votes", 1..u64::from(VOTES_MAX) + 1, "votes = 1")
        .map_or(1, |v| u32::try_from(v.value).unwrap_or(VOTES_MAX));
    let weights = 0..u64::from(MASTER_WEIGHT_MAX) + 1;
    let master_weight = fields
        .integer(problems, "master-weight", weights, "master-weight = 1")
        .map_or(1, |w| u8::try_from(w.value).unwrap_or(MASTER_WEIGHT_MAX));
    let node = RawNode {
        span: fields.span(),
        path: fields.path("").trim_end_matches('.').to_owned(),
        id,
        name,
        addresses,
        votes,
        master_weight,
    };
    fields.finish(problems);
    node
}

fn read_addresses(
    texts: At<Vec<At<String>>>,
    problems: &mut Problems<'_>,
) -> Option<At<Vec<At<SocketAddr>>>> {
    let count = texts.value.len();
    if count == 0 || count > LINKS_MAX {
        problems.add(
            texts.span.clone(),
            texts.path.clone(),
            format!("has {count} addresses; a node has 1 to {LINKS_MAX}"),
            ADDRESSES_EXAMPLE,
        );
    }
    let mut addresses = Vec::new();
    for text in texts.value {
        let wrong = match text.value.parse::<SocketAddr>() {
            Ok(a) if a.port() == 0 => "port 0 cannot be connected to".to_owned(),
            Ok(a) if a.ip().is_unspecified() || a.ip().is_multicast() => {
                format!("{} is no address that other nodes can connect to", a.ip())
            }
            Ok(value) => {
                addresses.push(At {
                    value,
                    span: text.span,
                    path: text.path,
                });
                continue;
            }
            Err(_) => "not an IP address and port (names are not looked up)".to_owned(),
        };
        problems.add(
            text.span,
            text.path,
            format!("`{}`: {wrong}", text.value),
            "\"10.0.0.1:7464\" or \"[fd00::1]:7464\"",
        );
    }
    (addresses.len() == count && (1..=LINKS_MAX).contains(&count)).then_some(At {
        value: addresses,
        span: texts.span,
        path: texts.path,
    })
}

/// What holds between nodes.
fn check_nodes(nodes: &[RawNode], problems: &mut Problems<'_>) {
    if nodes.is_empty() || nodes.len() > NODES_MAX {
        let span = nodes.last().map_or(0..0, |n| n.span.clone());
        problems.add(
            span,
            "node",
            format!(
                "there are {} nodes; a cluster has 1 to {NODES_MAX}",
                nodes.len()
            ),
            NODE_EXAMPLE,
        );
    }
    let mut ids: BTreeMap<u64, &str> = BTreeMap::new();
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut addresses: BTreeMap<SocketAddr, &str> = BTreeMap::new();
    for node in nodes {
        if let Some(id) = &node.id
            && let Some(other) = ids.insert(id.value, &node.path)
        {
            problems.add(
                id.span.clone(),
                id.path.clone(),
                format!("{} is already the number of {other}", id.value),
                "a number that no other node has",
            );
        }
        if let Some(name) = &node.name
            && let Some(other) = names.insert(&name.value, &node.path)
        {
            problems.add(
                name.span.clone(),
                name.path.clone(),
                format!("`{}` is already the name of {other}", name.value),
                "a name that no other node has",
            );
        }
        for address in node.addresses.iter().flat_map(|a| &a.value) {
            if let Some(other) = addresses.insert(address.value, &node.path) {
                problems.add(
                    address.span.clone(),
                    address.path.clone(),
                    format!("{} is already an address of {other}", address.value),
                    "an address and port that no other node has",
                );
            }
        }
    }
    let mut counted = nodes
        .iter()
        .filter_map(|n| n.addresses.as_ref().map(|a| (n, a)));
    if let Some((first, first_addresses)) = counted.next() {
        for (_, own) in counted {
            if own.value.len() != first_addresses.value.len() {
                problems.add(
                    own.span.clone(),
                    own.path.clone(),
                    format!(
                        "has {} addresses but {} has {}; link i joins the i-th addresses of two \
                         nodes, so all need the same number",
                        own.value.len(),
                        first.path,
                        first_addresses.value.len()
                    ),
                    "one address per network on every node",
                );
            }
        }
    }
}

pub(super) fn read_path(
    fields: &mut Fields<'_, '_>,
    problems: &mut Problems<'_>,
    name: &'static str,
    base: &Path,
    example: &str,
) -> Option<PathBuf> {
    let text = fields.string(problems, name, example)?;
    if text.value.is_empty() || text.value.contains('\0') {
        problems.add(text.span, text.path, "is not a path", example);
        return None;
    }
    // An absolute path replaces the base.
    Some(base.join(text.value))
}

fn read_timings(root: &mut Fields<'_, '_>, problems: &mut Problems<'_>) -> Timings {
    let mut timings = Timings::default();
    let Some(mut fields) = root.table(problems, "timings", "[timings]\n    heartbeat-ms = 100")
    else {
        return timings;
    };
    let mut period = |name, least, example| {
        fields
            .integer(problems, name, least..PERIOD_MAX_MS + 1, example)
            .map(|at| (Duration::from_millis(at.value), at))
    };
    let heartbeat = period("heartbeat-ms", 10, "heartbeat-ms = 100");
    let dead = period("dead-ms", 30, "dead-ms = 1000");
    let lease = period("lease-ms", 30, "lease-ms = 1500");
    let drift = fields.integer(problems, "drift-ppm", 0..100_001, "drift-ppm = 10000");
    let span = fields.span();
    fields.finish(problems);

    for (field, read) in [
        (&mut timings.heartbeat, &heartbeat),
        (&mut timings.dead, &dead),
        (&mut timings.lease, &lease),
    ] {
        if let Some((value, _)) = read {
            *field = *value;
        }
    }
    if let Some(drift) = drift {
        timings.drift_ppm = u32::try_from(drift.value).unwrap_or(u32::MAX);
    }

    let place = |name: &str, read: &Option<(Duration, At<u64>)>| match read {
        Some((_, at)) => (at.span.clone(), at.path.clone()),
        None => (span.clone(), format!("timings.{name}")),
    };
    let least = 3 * timings.heartbeat;
    for (name, value, read) in [
        ("dead-ms", timings.dead, &dead),
        ("lease-ms", timings.lease, &lease),
    ] {
        if value < least {
            let (span, path) = place(name, read);
            problems.add(
                span,
                path,
                format!(
                    "{} ms is less than three heartbeats of {} ms; one lost packet would look like \
                     a failure",
                    value.as_millis(),
                    timings.heartbeat.as_millis()
                ),
                format!("{name} = {}", 10 * timings.heartbeat.as_millis()),
            );
        }
    }
    if timings.lease > 20 * timings.dead {
        let (span, path) = place("lease-ms", &lease);
        problems.add(
            span,
            path,
            format!(
                "{} ms is more than twenty times dead-ms ({} ms); every recovery waits for the \
                 lease to run out",
                timings.lease.as_millis(),
                timings.dead.as_millis()
            ),
            format!("lease-ms = {}", timings.dead.as_millis() * 3 / 2),
        );
    }
    timings
}

fn read_fencing(root: &mut Fields<'_, '_>, problems: &mut Problems<'_>) -> FencePolicy {
    const EXAMPLE: &str = "policy = \"lease\" or \"manual\"";
    let Some(mut fields) = root.table(problems, "fencing", "[fencing]\n    policy = \"lease\"")
    else {
        return FencePolicy::Lease;
    };
    let policy = match fields.string(problems, "policy", EXAMPLE) {
        None => FencePolicy::Lease,
        Some(text) => match text.value.as_str() {
            "lease" => FencePolicy::Lease,
            "manual" => FencePolicy::Manual,
            other => {
                problems.add(
                    text.span,
                    text.path,
                    format!("`{other}` is not a fencing policy"),
                    EXAMPLE,
                );
                FencePolicy::Lease
            }
        },
    };
    fields.finish(problems);
    policy
}

fn read_deadlock(root: &mut Fields<'_, '_>, problems: &mut Problems<'_>) -> DeadlockConfig {
    const POLICIES: &str = "victim = \"youngest\", \"priority\" or \"fewest-locks\"";
    let mut deadlock = DeadlockConfig::default();
    let Some(mut fields) = root.table(problems, "deadlock", "[deadlock]\n    delay-ms = 50") else {
        return deadlock;
    };
    if let Some(enabled) = fields.boolean(problems, "enabled", "enabled = true") {
        deadlock.enabled = enabled;
    }
    let delays = 1..PERIOD_MAX_MS + 1;
    if let Some(delay) = fields.integer(problems, "delay-ms", delays, "delay-ms = 50") {
        deadlock.delay = Duration::from_millis(delay.value);
    }
    if let Some(victim) = fields.string(problems, "victim", POLICIES) {
        match victim.value.as_str() {
            "youngest" => deadlock.victim = VictimPolicy::Youngest,
            "priority" => deadlock.victim = VictimPolicy::Priority,
            "fewest-locks" => deadlock.victim = VictimPolicy::FewestLocks,
            other => problems.add(
                victim.span,
                victim.path,
                format!("`{other}` is no policy by which a victim is chosen"),
                POLICIES,
            ),
        }
    }
    fields.finish(problems);
    deadlock
}

fn read_masters(root: &mut Fields<'_, '_>, problems: &mut Problems<'_>) -> MastersConfig {
    let mut masters = MastersConfig::default();
    let Some(mut fields) = root.table(problems, "masters", "[masters]\n    move = true") else {
        return masters;
    };
    if let Some(moves) = fields.boolean(problems, "move", "move = true") {
        masters.moves = moves;
    }
    if let Some(after) = fields.integer(problems, "after", 1..1001, "after = 64") {
        masters.after = u16::try_from(after.value).unwrap_or(u16::MAX);
    }
    let rests = 10..PERIOD_MAX_MS + 1;
    if let Some(rest) = fields.integer(problems, "rest-ms", rests, "rest-ms = 500") {
        masters.rest = Duration::from_millis(rest.value);
    }
    if let Some(cap) = fields.integer(problems, "cap", 1..101, "cap = 50") {
        masters.cap = u8::try_from(cap.value).unwrap_or(100);
    }
    fields.finish(problems);
    masters
}

/// Most seconds that orphans may be kept before they expire: a year.
const ORPHANS_KEPT_MAX: u64 = 365 * 24 * 3600;

fn read_orphans(root: &mut Fields<'_, '_>, problems: &mut Problems<'_>) -> Option<Duration> {
    let mut fields = root.table(problems, "orphans", "[orphans]\n    expiry-s = 600")?;
    let kept = 1..ORPHANS_KEPT_MAX + 1;
    let expiry = fields.integer(problems, "expiry-s", kept, "expiry-s = 600");
    fields.finish(problems);
    expiry.map(|expiry| Duration::from_secs(expiry.value))
}

/// The longest time, in seconds, that can be allowed for keeping a session without a connection.
const MAX_GRACE_MAX: u64 = 3600;

fn read_sessions(root: &mut Fields<'_, '_>, problems: &mut Problems<'_>) -> (Duration, Duration) {
    let mut max_rest = Duration::from_secs(60);
    let mut max_grace = Duration::from_secs(60);
    let example = "[sessions]\n    max-grace-s = 60";
    if let Some(mut fields) = root.table(problems, "sessions", example) {
        let range = 0..MAX_GRACE_MAX + 1;
        if let Some(found) = fields.integer(problems, "max-grace-s", range, "max-grace-s = 60") {
            max_grace = Duration::from_secs(found.value);
        }
        let range = 0..MAX_GRACE_MAX + 1;
        let example = "restart-grace-s = 60";
        if let Some(found) = fields.integer(problems, "restart-grace-s", range, example) {
            max_rest = Duration::from_secs(found.value);
        }
        fields.finish(problems);
    }
    (max_grace, max_rest)
}

/// The weights of the nodes that have another than usual.
fn weights(nodes: &[NodeEntry]) -> BTreeMap<NodeId, u8> {
    let unusual = nodes.iter().filter(|node| node.master_weight != 1);
    unusual.map(|node| (node.id, node.master_weight)).collect()
}

fn read_limits(root: &mut Fields<'_, '_>, problems: &mut Problems<'_>) -> UserLimits {
    let example = "[limits]\n    locks-per-user = 0";
    let Some(mut fields) = root.table(problems, "limits", example) else {
        return UserLimits::default();
    };
    let mut limit = |name, example| {
        let found = fields.integer(problems, name, 0..u64::from(u32::MAX), example);
        found.map(|limit| limit.value).filter(|limit| *limit > 0)
    };
    let limits = UserLimits {
        locks: limit("locks-per-user", "locks-per-user = 100000"),
        sessions: limit("sessions-per-user", "sessions-per-user = 1000"),
        waiting: limit("waiting-per-user", "waiting-per-user = 1000"),
        lockspaces: limit("lockspaces-per-user", "lockspaces-per-user = 16"),
    };
    fields.finish(problems);
    limits
}

fn read_recorder(root: &mut Fields<'_, '_>, problems: &mut Problems<'_>) -> RecorderConfig {
    let mut recorder = RecorderConfig::default();
    let example = "[recorder]\n    size-mib = 16";
    let Some(mut fields) = root.table(problems, "recorder", example) else {
        return recorder;
    };
    if let Some(size) = fields.integer(problems, "size-mib", 0..1025, "size-mib = 16") {
        recorder.bytes = usize::try_from(size.value << 20).unwrap_or(usize::MAX);
    }
    if let Some(keep) = fields.integer(problems, "keep", 1..1001, "keep = 8") {
        recorder.keep = usize::try_from(keep.value).unwrap_or(usize::MAX);
    }
    fields.finish(problems);
    recorder
}

fn read_log(root: &mut Fields<'_, '_>, problems: &mut Problems<'_>) -> LogConfig {
    let mut log = LogConfig::default();
    let Some(mut fields) = root.table(problems, "log", "[log]\n    level = \"info\"") else {
        return log;
    };
    if let Some(level) = fields.string(problems, "level", "level = \"info\"") {
        if let Err(why) = crate::logging::check_filter(&level.value) {
            problems.add(
                level.span,
                level.path,
                format!("`{}` is not a log filter: {why}", level.value),
                "level = \"info\" or \"warn,mainstay_daemon=debug\"",
            );
        } else {
            log.level = level.value;
        }
    }
    if let Some(format) = fields.string(problems, "format", "format = \"text\"") {
        match format.value.as_str() {
            "text" => log.format = LogFormat::Text,
            "json" => log.format = LogFormat::Json,
            other => problems.add(
                format.span,
                format.path,
                format!("`{other}` is not a log format"),
                "format = \"text\" or \"json\"",
            ),
        }
    }
    fields.finish(problems);
    log
}

/// Which of `nodes` this daemon is: the command line goes before the file, the file before the
/// host's name.
fn find_me(
    nodes: &[NodeEntry],
    in_file: Option<&At<String>>,
    identity: &Identity,
    problems: &mut Problems<'_>,
) -> Option<usize> {
    let index = |name: &str| nodes.iter().position(|n| n.name.as_str() == name);
    let names: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
    let example = format!("one of {}", names.join(", "));
    let (found, span, message) = match (&identity.node_name, in_file) {
        (Some(name), _) => (
            index(name),
            0..0,
            format!("no node has the name `{name}` that --node-name gives"),
        ),
        (None, Some(name)) => (
            index(&name.value),
            name.span.clone(),
            format!("no node has the name `{}`", name.value),
        ),
        (None, None) => {
            let host = identity.hostname.as_str();
            let short = host.split('.').next().unwrap_or(host);
            (
                index(host).or_else(|| index(short)),
                0..0,
                format!(
                    "is missing, --node-name is not given, and no node has this host's name, `{host}`"
                ),
            )
        }
    };
    if found.is_none() {
        problems.add(span, "this-node", message, example);
    }
    found
}
