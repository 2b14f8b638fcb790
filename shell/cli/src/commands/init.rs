//! `mainstay init`

use crate::{
    args::Global,
    exit::{CANNOT_CREATE, Failure, OK, Outcome},
    output::{self, GOOD, paint},
};
use clap::{Args, ValueEnum};
use mainstay_base::{FencePolicy, LINKS_MAX, NodeId, NodeName, Timings};
use mainstay_daemon::{
    ClusterKey,
    config::{
        Config, DEFAULT_PORT, DEFAULT_SOCKET, DEFAULT_STATE_DIR, Draft, Identity, NodeEntry, render,
    },
};
use std::{
    fs::File,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    net::{IpAddr, SocketAddr},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

#[derive(Debug, Args)]
#[command(
    after_help = "Without --name or --node it asks, if there is a terminal. Run it once, then \
    copy both files to every node and set `this-node` there (or let the host's name decide).\n\n\
    Examples:\n  mainstay init --name hardcore --node a=10.0.0.1:7464 --node b=10.0.0.2:7464 \
    --node c=10.0.0.3:7464\n  \
    mainstay init --dir /etc/mainstay --name two-links --node a=10.0.0.1,10.1.0.1 --node b=10.0.0.2,10.1.0.2"
)]
pub(crate) struct InitArgs {
    /// The cluster's name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A node with its addresses, one per network; port 7464 unless given. Numbered from 1 in the
    /// order given
    #[arg(long = "node", value_name = "NAME=ADDRESS[,ADDRESS…]")]
    pub(crate) nodes: Vec<String>,
    /// Which of the nodes this host is
    #[arg(long, value_name = "NAME")]
    pub(crate) this_node: Option<String>,
    /// Write mainstay.toml and cluster.key into this directory
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Where the daemon keeps its journal
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub(crate) state_dir: PathBuf,
    /// Where clients shall connect
    #[arg(long = "client-socket", value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub(crate) client_socket: PathBuf,
    /// By what proof a vanished node's locks pass on
    #[arg(long, value_enum, default_value_t = Policy::Lease)]
    pub(crate) fencing: Policy,
    /// Replace files that are there. The old key is gone then
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// Its lease has certainly run out
    Lease,
    /// An operator vouches for it
    Manual,
}

pub(crate) fn run(global: &Global, args: InitArgs) -> Outcome {
    let (cluster, nodes, this_node) = gather(&args)?;
    let config = args.dir.join("mainstay.toml");
    let key = args.dir.join("cluster.key");
    let draft = Draft {
        cluster,
        nodes,
        this_node,
        key_file: PathBuf::from("cluster.key"),
        state_dir: args.state_dir,
        socket: args.client_socket,
        timings: Timings::default(),
        fencing: match args.fencing {
            Policy::Lease => FencePolicy::Lease,
            Policy::Manual => FencePolicy::Manual,
        },
        move_masters: true,
    };
    let text = render(&draft);
    // The daemon's own judgement, before anything is written.
    let identity = Identity {
        node_name: draft.nodes.first().map(|n| n.name.to_string()),
        hostname: String::new(),
    };
    Config::parse(&config, &text, &identity).map_err(|e| Failure::usage(e.to_string()))?;

    std::fs::create_dir_all(&args.dir).map_err(|e| cannot_write(&args.dir, &e))?;
    for path in [&config, &key] {
        if path.exists() && !args.force {
            return Err(Failure::new(
                CANNOT_CREATE,
                format!(
                    "{} exists already; move it away, choose another --dir, or replace it with \
                     --force",
                    path.display()
                ),
            ));
        }
    }
    let made = ClusterKey::generate()?;
    if key.exists() {
        std::fs::remove_file(&key).map_err(|e| cannot_write(&key, &e))?;
    }
    made.write_new(&key)
        .map_err(|e| Failure::new(CANNOT_CREATE, e.to_string()))?;
    write(&config, &text)?;

    if global.json {
        output::json(&serde_json::json!({
            "config": config, "key": key, "cluster": draft.cluster,
            "nodes": draft.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(),
        }))?;
        return Ok(OK);
    }
    output::line(format_args!(
        "{} {}",
        paint(GOOD, "wrote"),
        config.display()
    ));
    output::line(format_args!(
        "{} {} (mode 0600; whoever has it can join)",
        paint(GOOD, "wrote"),
        key.display()
    ));
    output::line(format_args!(
        "\nNow copy both to every node, then on each:\n  mainstay node --config {} --check\n  \
         mainstay node --config {}",
        config.display(),
        config.display()
    ));
    Ok(OK)
}

/// Replaces the file in one step, so that a full disk leaves no half of one.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_extension("toml.new");
    let written = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&new)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&new, path));
    written.map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        CANNOT_CREATE,
        format!("cannot write {}: {error}", path.display()),
    )
}

/// Cluster name, nodes and this node, from the flags or by asking.
fn gather(args: &InitArgs) -> Result<(String, Vec<NodeEntry>, Option<String>), Failure> {
    let flags = args.name.is_some() && !args.nodes.is_empty();
    if !flags && !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "without a terminal to ask at, --name and --node are needed, as in\n  mainstay init \
             --name hardcore --node a=10.0.0.1:7464 --node b=10.0.0.2:7464",
        ));
    }
    let cluster = match &args.name {
        Some(name) => name.clone(),
        None => ask("Name of the cluster", "mainstay")?,
    };
    let mut texts = args.nodes.clone();
    if texts.is_empty() {
        output::note("The nodes, one per line, as NAME=ADDRESS[:PORT]; an empty line ends.");
        loop {
            let text = ask(&format!("Node {}", texts.len() + 1), "")?;
            if text.is_empty() {
                break;
            }
            match node(&text, texts.len()) {
                Ok(_) => texts.push(text),
                Err(why) => output::note(why),
            }
        }
    }
    let nodes: Vec<NodeEntry> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| node(text, index).map_err(Failure::usage))
        .collect::<Result<_, _>>()?;
    if let Some(name) = &args.this_node
        && !nodes.iter().any(|n| n.name.as_str() == name)
    {
        return Err(Failure::usage(format!(
            "--this-node {name}: there is no --node of that name"
        )));
    }
    Ok((cluster, nodes, args.this_node.clone()))
}

fn ask(question: &str, default: &str) -> Result<String, Failure> {
    let mut err = anstream::stderr();
    let hint = if default.is_empty() {
        String::new()
    } else {
        format!(" [{default}]")
    };
    let _ = write!(err, "{question}{hint}: ");
    let _ = err.flush();
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed)?;
    let typed = typed.trim();
    Ok(if typed.is_empty() { default } else { typed }.to_owned())
}

/// Reads `NAME=ADDRESS[:PORT][,…]`.
fn node(text: &str, index: usize) -> Result<NodeEntry, String> {
    const EXAMPLE: &str = "for example a=10.0.0.1:7464";
    let (name, addresses) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not NAME=ADDRESS; {EXAMPLE}"))?;
    let name = NodeName::new(name).map_err(|error| error.to_string())?;
    let addresses: Vec<SocketAddr> = addresses
        .split(',')
        .map(|a| {
            a.parse::<SocketAddr>()
                .or_else(|_| a.parse::<IpAddr>().map(|ip| (ip, DEFAULT_PORT).into()))
                .map_err(|_| {
                    format!("`{a}` is not an IP address with or without a port; {EXAMPLE}")
                })
        })
        .collect::<Result<_, _>>()?;
    if addresses.len() > LINKS_MAX {
        return Err(format!(
            "node {name} has {} addresses; {LINKS_MAX} are possible",
            addresses.len()
        ));
    }
    let id = u16::try_from(index + 1).map_err(|_| "there are too many nodes".to_owned())?;
    Ok(NodeEntry {
        master_weight: 1,
        id: NodeId(id),
        name,
        addresses,
        votes: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn global() -> Global {
        Global {
            socket: PathBuf::from(DEFAULT_SOCKET),
            json: false,
        }
    }

    fn args(dir: &Path, nodes: &[&str]) -> InitArgs {
        InitArgs {
            name: Some("hardcore".to_owned()),
            nodes: nodes.iter().map(|n| (*n).to_owned()).collect(),
            this_node: None,
            dir: dir.to_owned(),
            state_dir: PathBuf::from(DEFAULT_STATE_DIR),
            client_socket: PathBuf::from(DEFAULT_SOCKET),
            fencing: Policy::Lease,
            force: false,
        }
    }

    /// Protects the first step of every installation: the files are there, the daemon accepts
    /// them, and the key is nobody else's.
    #[test]
    fn what_init_writes_the_daemon_reads() {
        let dir = tempfile::tempdir().expect("dir");
        let nodes = ["a=10.0.0.1", "b=10.0.0.2:99", "c=[fd00::3]:7464"];
        run(&global(), args(dir.path(), &nodes)).expect("written");
        let identity = Identity {
            node_name: Some("b".to_owned()),
            hostname: String::new(),
        };
        let file = dir.path().join("mainstay.toml");
        let config = Config::load(&file, &identity).expect("valid");
        assert_eq!(config.this_node().addresses[0].to_string(), "10.0.0.2:99");
        assert_eq!(config.nodes[0].addresses[0].to_string(), "10.0.0.1:7464");
        let key = std::fs::metadata(&config.key_file).expect("key");
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
        ClusterKey::load(&config.key_file).expect("a key");
    }

    /// Protects a running cluster's key: nothing is overwritten without --force.
    #[test]
    fn nothing_is_overwritten_unasked() {
        let dir = tempfile::tempdir().expect("dir");
        run(&global(), args(dir.path(), &["a=10.0.0.1"])).expect("written");
        let key = std::fs::read(dir.path().join("cluster.key")).expect("key");
        let again = run(&global(), args(dir.path(), &["a=10.0.0.1"])).expect_err("refused");
        assert_eq!(again.code, CANNOT_CREATE);
        assert!(again.message.contains("--force"), "{again}");
        assert_eq!(
            std::fs::read(dir.path().join("cluster.key")).expect("key"),
            key
        );
        let mut forced = args(dir.path(), &["a=10.0.0.1"]);
        forced.force = true;
        run(&global(), forced).expect("replaced");
        assert_ne!(
            std::fs::read(dir.path().join("cluster.key")).expect("key"),
            key
        );
    }

    /// Protects against half-made clusters: wrong nodes are refused before anything is written.
    #[test]
    fn wrong_nodes_write_nothing() {
        let dir = tempfile::tempdir().expect("dir");
        for nodes in [
            &["a"][..],
            &["a=host"],
            &["a=10.0.0.1", "a=10.0.0.2"],
            &["a=10.0.0.1", "b=10.0.0.1"],
            &["a/b=10.0.0.1"],
        ] {
            let failure = run(&global(), args(dir.path(), nodes)).expect_err("refused");
            assert_eq!(failure.code, crate::exit::USAGE, "{nodes:?}: {failure}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("dir").count(), 0);
    }
}
