//! Every complaint about a configuration, by its full text.

use super::*;

const GOOD: &str = r#"this-node = "b"
key-file = "cluster.key"
state-dir = "state"
socket = "/tmp/m.sock"

[cluster]
name = "hardcore"

[[node]]
id = 1
name = "a"
addresses = ["10.0.0.1:7464"]

[[node]]
id = 2
name = "b"
addresses = ["10.0.0.2:7464"]
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/m/m.toml"), text, &Identity::default())
}

fn complaints(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => Vec::new(),
        Err(ConfigError::Invalid { problems, .. }) => problems
            .iter()
            .map(|p| format!("{}:{} {}: {}", p.line, p.column, p.field, p.message))
            .collect(),
        Err(other) => vec![other.to_string()],
    }
}

/// One change to the good file, one complaint.
fn one(from: &str, to: &str, expected: &str) {
    assert!(GOOD.contains(from), "{from}");
    let found = complaints(&GOOD.replacen(from, to, 1));
    assert_eq!(found, vec![expected.to_owned()]);
}

/// Protects the meaning of a plain file: relative paths count from it, defaults fill the rest.
#[test]
fn a_good_file_is_read() {
    let config = parse(GOOD).expect("valid");
    assert_eq!(config.key_file, Path::new("/etc/m/cluster.key"));
    assert_eq!(config.state_dir, Path::new("/etc/m/state"));
    assert_eq!(config.socket, Path::new("/tmp/m.sock"));
    assert_eq!(config.timings, Timings::default());
    assert_eq!(config.fencing, FencePolicy::Lease);
    assert_eq!(config.this_node().name.as_str(), "b");
    assert_eq!(
        config.summary(),
        "cluster `hardcore`: 2 nodes, 2 votes, 1 link per pair; this is node 2 (`b`)"
    );
    let core = config.node_config();
    assert_eq!((core.me, core.nodes.len()), (NodeId(2), 2));
}

/// Protects the promise that what `init` writes the daemon reads.
#[test]
fn what_is_rendered_reads_back() {
    let good = parse(GOOD).expect("valid");
    let draft = Draft {
        cluster: "odd.name-1".to_owned(),
        nodes: good.nodes.clone(),
        this_node: Some("a".to_owned()),
        key_file: PathBuf::from("/x/with \"quotes\" and \\"),
        state_dir: PathBuf::from("/var/lib/mainstay"),
        socket: PathBuf::from("/run/m.sock"),
        timings: Timings {
            drift_ppm: 7,
            ..Timings::default()
        },
        fencing: FencePolicy::Manual,
        move_masters: false,
    };
    let read = parse(&render(&draft)).expect("valid");
    assert_eq!(read.cluster, draft.cluster);
    assert_eq!(read.nodes, draft.nodes);
    assert_eq!(read.key_file, draft.key_file);
    assert_eq!(read.state_dir, draft.state_dir);
    assert_eq!(read.timings, draft.timings);
    assert_eq!(read.fencing, draft.fencing);
    assert!(!read.masters.moves);
    assert_eq!(read.me, 0);
}

/// Protects `[deadlock]`: its defaults, every field of it, and what is said of wrong ones.
#[test]
fn the_search_for_deadlocks_is_configured() {
    use mainstay_base::{DeadlockConfig, VictimPolicy};
    let read = |section: &str| parse(&format!("{GOOD}\n[deadlock]\n{section}"));
    assert_eq!(
        parse(GOOD).expect("valid").deadlock,
        DeadlockConfig::default()
    );
    let full = read("enabled = false\ndelay-ms = 200\nvictim = \"fewest-locks\"\n");
    let expected = DeadlockConfig {
        enabled: false,
        delay: std::time::Duration::from_millis(200),
        victim: VictimPolicy::FewestLocks,
    };
    assert_eq!(full.expect("valid").node_config().deadlock, expected);
    for (section, said) in [
        ("enabled = 1", "deadlock.enabled: must be true or false"),
        ("delay-ms = 0", "deadlock.delay-ms: 0 is outside 1 to 60000"),
        (
            "victim = \"oldest\"",
            "deadlock.victim: `oldest` is no policy by which a victim is chosen",
        ),
        ("delay = 5", "deadlock.delay"),
    ] {
        let error = read(section).expect_err(section).to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// Protects `[masters]` and the weights of nodes: their defaults, every field, and what is said of wrong
/// ones.
#[test]
fn masters_are_configured() {
    use mainstay_base::{MastersConfig, NodeId};
    let read = |section: &str| parse(&format!("{GOOD}\n[masters]\n{section}"));
    assert_eq!(
        parse(GOOD).expect("valid").masters,
        MastersConfig::default()
    );
    let full = read("move = false\nafter = 100\nrest-ms = 2000\ncap = 40\n");
    let expected = MastersConfig {
        moves: false,
        after: 100,
        rest: std::time::Duration::from_secs(2),
        cap: 40,
        ..MastersConfig::default()
    };
    assert_eq!(full.expect("valid").node_config().masters, expected);
    let heavy = parse(&GOOD.replace("id = 2", "id = 2\nmaster-weight = 0")).expect("valid");
    assert_eq!(heavy.node_config().masters.weight(NodeId(2)), 0);
    assert_eq!(heavy.node_config().masters.weight(NodeId(1)), 1);
    for (section, said) in [
        ("move = 1", "masters.move: must be true or false"),
        ("cap = 0", "masters.cap: 0 is outside 1 to 100"),
        ("after = 0", "masters.after: 0 is outside 1 to 1000"),
        ("rest-ms = 1", "masters.rest-ms: 1 is outside 10 to 60000"),
        ("caps = 5", "masters.caps"),
    ] {
        let error = read(section).expect_err(section).to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// Protects limits: they are none by default, each reaches the node, and what is said of wrong ones.
#[test]
fn users_are_limited_by_the_configuration() {
    use mainstay_base::UserLimits;
    let read = |section: &str| parse(&format!("{GOOD}\n[limits]\n{section}"));
    assert_eq!(parse(GOOD).expect("valid").limits, UserLimits::default());
    let full = read(
        "locks-per-user = 5\nsessions-per-user = 6\nwaiting-per-user = 7\nlockspaces-per-user = 8\n",
    );
    let expected = UserLimits {
        locks: Some(5),
        sessions: Some(6),
        waiting: Some(7),
        lockspaces: Some(8),
    };
    assert_eq!(full.expect("valid").limits, expected);
    let none = read("locks-per-user = 0\n").expect("valid");
    assert_eq!(none.limits, UserLimits::default());
    for (section, said) in [
        (
            "locks-per-user = -1",
            "limits.locks-per-user: -1 is outside 0 to",
        ),
        (
            "waiting-per-user = \"7\"",
            "limits.waiting-per-user: must be a whole number",
        ),
        ("locks = 5", "limits.locks"),
    ] {
        let error = read(section).expect_err(section).to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// Protects who may connect: the daemon's user and the socket's group, unless said otherwise.
#[test]
fn the_socket_is_opened_as_configured() {
    let read = |line: &str| parse(&format!("{line}\n{GOOD}"));
    let access = |line| read(line).expect("valid").socket_access;
    assert_eq!(
        access(""),
        super::SocketAccess {
            mode: 0o660,
            group: None
        }
    );
    assert_eq!(access("socket-mode = \"0666\"").mode, 0o666);
    assert_eq!(access("socket-group = 100").group, Some(100));
    for (line, said) in [
        ("socket-mode = \"777\"", "socket-mode: `777` is not \"600\""),
        ("socket-mode = 660", "socket-mode: must be a string"),
        (
            "socket-group = \"users\"",
            "socket-group: must be a whole number",
        ),
    ] {
        let error = read(line).expect_err(line).to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// Protects `[recorder]`: its defaults, its switch, and what is said of wrong fields.
#[test]
fn the_flight_recorder_is_configured() {
    use super::RecorderConfig;
    let read = |section: &str| parse(&format!("{GOOD}\n[recorder]\n{section}"));
    assert_eq!(
        parse(GOOD).expect("valid").recorder,
        RecorderConfig {
            bytes: 16 << 20,
            keep: 8
        }
    );
    let off = read("size-mib = 0\nkeep = 1").expect("valid").recorder;
    assert_eq!(off, RecorderConfig { bytes: 0, keep: 1 });
    for (section, said) in [
        (
            "size-mib = 1025",
            "recorder.size-mib: 1025 is outside 0 to 1024",
        ),
        ("keep = 0", "recorder.keep: 0 is outside 1 to 1000"),
        ("size = 5", "recorder.size"),
    ] {
        let error = read(section).expect_err(section).to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// Protects `[sessions]`: sessions can be kept for a minute unless it says otherwise.
#[test]
fn keeping_sessions_is_configured() {
    let read = |section: &str| parse(&format!("{GOOD}\n[sessions]\n{section}"));
    let grace = |config: crate::config::Config| config.node_config().max_grace.as_secs();
    assert_eq!(grace(parse(GOOD).expect("valid")), 60);
    assert_eq!(grace(read("").expect("valid")), 60);
    assert_eq!(grace(read("max-grace-s = 0\n").expect("valid")), 0);
    assert_eq!(grace(read("max-grace-s = 5\n").expect("valid")), 5);
    let rest = |config: crate::config::Config| config.node_config().max_rest.as_secs();
    assert_eq!(rest(parse(GOOD).expect("valid")), 60);
    assert_eq!(rest(read("restart-grace-s = 0\n").expect("valid")), 0);
    assert_eq!(rest(read("restart-grace-s = 7\n").expect("valid")), 7);
    for (section, said) in [
        (
            "restart-grace-s = 3601",
            "sessions.restart-grace-s: 3601 is outside 0 to 3600",
        ),
        (
            "max-grace-s = 3601",
            "sessions.max-grace-s: 3601 is outside 0 to 3600",
        ),
        ("grace = 5", "sessions.grace"),
    ] {
        let error = read(section).expect_err(section).to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// Protects `[orphans]`: without it none expire.
#[test]
fn orphans_are_configured() {
    let read = |section: &str| parse(&format!("{GOOD}\n[orphans]\n{section}"));
    assert_eq!(parse(GOOD).expect("valid").orphan_expiry, None);
    assert_eq!(read("").expect("valid").orphan_expiry, None);
    let expiry = std::time::Duration::from_secs(90);
    let full = read("expiry-s = 90\n").expect("valid");
    assert_eq!(full.node_config().orphan_expiry, Some(expiry));
    for (section, said) in [
        ("expiry-s = 0", "orphans.expiry-s: 0 is outside 1 to"),
        ("expiry = 5", "orphans.expiry"),
    ] {
        let error = read(section).expect_err(section).to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// Protects the wording and place of what is wrong within one field.
#[test]
fn wrong_fields_are_named() {
    one(
        "id = 2",
        "id = 70000",
        "15:6 node[1].id: 70000 is outside 1 to 65535",
    );
    one(
        "id = 2",
        "id = 0",
        "15:6 node[1].id: 0 is outside 1 to 65535",
    );
    one(
        "id = 2",
        "id = \"2\"",
        "15:6 node[1].id: must be a whole number, not the string \"2\"",
    );
    one(
        "name = \"b\"",
        "name = \"b/c\"",
        "16:8 node[1].name: `b/c` is not a node name: 1 to 64 letters, digits, `-`, `_` or `.`",
    );
    one(
        "\"hardcore\"",
        "\"\"",
        "7:8 cluster.name: `` is not a cluster name: 1 to 64 letters, digits, `-`, `_` or `.`",
    );
    one(
        "10.0.0.2:7464",
        "10.0.0.2",
        "17:14 node[1].addresses[0]: `10.0.0.2`: not an IP address and port (names are not looked up)",
    );
    one(
        "10.0.0.2:7464",
        "10.0.0.2:0",
        "17:14 node[1].addresses[0]: `10.0.0.2:0`: port 0 cannot be connected to",
    );
    one(
        "10.0.0.2:7464",
        "0.0.0.0:7464",
        "17:14 node[1].addresses[0]: `0.0.0.0:7464`: 0.0.0.0 is no address that other nodes can connect to",
    );
    one(
        "[\"10.0.0.2:7464\"]",
        "[]",
        "17:13 node[1].addresses: has 0 addresses; a node has 1 to 4",
    );
    one(
        "addresses = [\"10.0.0.2:7464\"]",
        "addresses = \"10.0.0.2:7464\"",
        "17:13 node[1].addresses: must be an array of strings, not the string \"10.0.0.2:7464\"",
    );
    one(
        "[cluster]",
        "[log]\nlevel = \"loud=\"\n[cluster]",
        "7:9 log.level: `loud=` is not a log filter: a level is one of off, error, warn, info, \
         debug, trace",
    );
    one(
        "[cluster]",
        "[log]\nformat = \"xml\"\n[cluster]",
        "7:10 log.format: `xml` is not a log format",
    );
    one(
        "[cluster]",
        "[fencing]\npolicy = \"hope\"\n[cluster]",
        "7:10 fencing.policy: `hope` is not a fencing policy",
    );
    one(
        "id = 2",
        "id = 2\nvotes = 9",
        "16:9 node[1].votes: 9 is outside 1 to 8",
    );
    // The core starts no node without votes.
    one(
        "id = 2",
        "id = 2\nvotes = 0",
        "16:9 node[1].votes: 0 is outside 1 to 8",
    );
}

/// Protects against silently ignored fields: a misspelt one is named with the nearest known one.
#[test]
fn unknown_fields_are_refused() {
    one(
        "state-dir",
        "statedir",
        "3:1 statedir: there is no such field; did you mean `state-dir`?",
    );
    one(
        "id = 2",
        "id = 2\nrack = \"west\"",
        "16:1 node[1].rack: there is no such field",
    );
}

/// Protects newcomers: a missing field is named, not only its table.
#[test]
fn missing_fields_are_named() {
    one(
        "key-file = \"cluster.key\"\n",
        "",
        "1:1 key-file: is missing",
    );
    one("name = \"hardcore\"\n", "", "6:1 cluster.name: is missing");
    one("id = 2\n", "", "14:1 node[1].id: is missing");
    assert_eq!(
        complaints("key-file = \"k\"\n"),
        ["1:1 cluster.name: is missing", "1:1 node: is missing"]
    );
}

/// Protects the rules between nodes: numbers, names and addresses are unique, links match, and
/// somebody has a vote.
#[test]
fn nodes_are_checked_against_each_other() {
    one(
        "id = 2",
        "id = 1",
        "15:6 node[1].id: 1 is already the number of node[0]",
    );
    let twice = GOOD.replacen("\"b\"", "\"a\"", 2);
    assert_eq!(
        complaints(&twice),
        ["16:8 node[1].name: `a` is already the name of node[0]"]
    );
    one(
        "10.0.0.2:7464",
        "10.0.0.1:7464",
        "17:14 node[1].addresses[0]: 10.0.0.1:7464 is already an address of node[0]",
    );
    one(
        "[\"10.0.0.2:7464\"]",
        "[\"10.0.0.2:7464\", \"10.1.0.2:7464\"]",
        "17:13 node[1].addresses: has 2 addresses but node[0] has 1; link i joins the i-th \
         addresses of two nodes, so all need the same number",
    );
    let mut many = GOOD.to_owned();
    for i in 3..66 {
        many.push_str(&format!(
            "[[node]]\nid = {i}\nname = \"n{i}\"\naddresses = [\"10.0.0.{i}:1\"]\n"
        ));
    }
    assert_eq!(
        complaints(&many),
        ["266:1 node: there are 65 nodes; a cluster has 1 to 64"]
    );
}

/// Protects against timings under which one lost packet or every recovery would hurt.
#[test]
fn timings_must_fit_together() {
    let with = |text: &str| GOOD.replacen("[cluster]", &format!("[timings]\n{text}\n[cluster]"), 1);
    assert_eq!(
        complaints(&with("heartbeat-ms = 400")),
        [
            "6:1 timings.dead-ms: 1000 ms is less than three heartbeats of 400 ms; one lost \
             packet would look like a failure"
        ]
    );
    assert_eq!(
        complaints(&with("lease-ms = 200\ndead-ms = 250")),
        [
            "7:12 timings.lease-ms: 200 ms is less than three heartbeats of 100 ms; one lost \
             packet would look like a failure",
            "8:11 timings.dead-ms: 250 ms is less than three heartbeats of 100 ms; one lost \
             packet would look like a failure"
        ]
    );
    assert_eq!(
        complaints(&with("lease-ms = 20001")),
        [
            "7:12 timings.lease-ms: 20001 ms is more than twenty times dead-ms (1000 ms); every \
             recovery waits for the lease to run out"
        ]
    );
    assert_eq!(
        complaints(&with("drift-ppm = 100001")),
        ["7:13 timings.drift-ppm: 100001 is outside 0 to 100000"]
    );
    let config = parse(&with(
        "heartbeat-ms = 50\ndead-ms = 400\nlease-ms = 600\ndrift-ppm = 0",
    ));
    assert_eq!(
        config.expect("valid").timings,
        Timings {
            heartbeat: std::time::Duration::from_millis(50),
            dead: std::time::Duration::from_millis(400),
            lease: std::time::Duration::from_millis(600),
            drift_ppm: 0
        }
    );
}

/// Protects the order in which a daemon learns its name: command line, file, host.
#[test]
fn the_node_is_found_by_name() {
    one(
        "this-node = \"b\"",
        "this-node = \"z\"",
        "1:13 this-node: no node has the name `z`",
    );
    let identity = |node_name: Option<&str>, hostname: &str| Identity {
        node_name: node_name.map(str::to_owned),
        hostname: hostname.to_owned(),
    };
    let me = |text: &str, identity: &Identity| {
        Config::parse(Path::new("m.toml"), text, identity).map(|c| c.me)
    };
    assert_eq!(me(GOOD, &identity(Some("a"), "b")), Ok(0));
    let nameless = GOOD.replacen("this-node = \"b\"\n", "", 1);
    assert_eq!(me(&nameless, &identity(None, "b.example.net")), Ok(1));
    let error = me(&nameless, &identity(None, "c")).expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("no node has this host's name, `c`"),
        "{error}"
    );
    let error = me(GOOD, &identity(Some("q"), "b")).expect_err("refused");
    assert!(
        error.to_string().contains("`q` that --node-name gives"),
        "{error}"
    );
}

/// Protects people who mend a file: they see all that is wrong at once, in order, with examples.
#[test]
fn all_problems_are_told_at_once() {
    let text = GOOD
        .replacen("id = 1", "id = -1", 1)
        .replacen("\"hardcore\"", "7", 1)
        .replacen("state-dir", "state_dir", 1);
    let error = parse(&text).expect_err("refused").to_string();
    assert_eq!(
        error,
        "/etc/m/m.toml:3:1: state_dir: there is no such field; did you mean `state-dir`?\n  \
         for example: state-dir\n\
         /etc/m/m.toml:7:8: cluster.name: must be a string, not the integer 7\n  \
         for example: name = \"hardcore\"\n\
         /etc/m/m.toml:10:6: node[0].id: -1 is outside 1 to 65535\n  \
         for example: id = 1"
    );
}

/// Protects the place of syntax errors.
#[test]
fn broken_toml_names_the_line() {
    let found = complaints(&GOOD.replacen("id = 1", "id = = 1", 1));
    assert!(found[0].starts_with("10:"), "{found:?}");
    assert!(found[0].contains("this is not TOML"), "{found:?}");
}

/// Protects against sockets that no client could connect to.
#[test]
fn long_socket_names_are_refused() {
    let long = format!("/{}", "x".repeat(107));
    let found = complaints(&GOOD.replacen("/tmp/m.sock", &long, 1));
    assert!(
        found[0].contains("has 108 bytes, more than the 107"),
        "{found:?}"
    );
}

/// Protects the advice that comes with a file that is not there.
#[test]
fn a_missing_file_says_what_to_do() {
    let error =
        Config::load(Path::new("/nonexistent/m.toml"), &Identity::default()).expect_err("refused");
    assert!(error.to_string().contains("mainstay init"), "{error}");
}
