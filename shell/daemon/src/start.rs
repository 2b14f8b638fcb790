//! Starting the daemon, and everything that can prevent it.

use crate::{
    config::{Config, ConfigError, Identity},
    exit,
    handover::HandOver,
    inbox::{Arrival, Inbox, SharedInbox},
    ipc::{self, Doorway, Gate, SocketError},
    logging,
    page::{SharedPage, stop_on_panic},
    recorder,
    runtime::{Runtime, RuntimeParts},
};
use mainstay_base::{BootId, FencePolicy};
use mainstay_lease::PageError;
use mainstay_node::{BootError, BootInfo, Node};
use mainstay_store::{OnDone, OpenOptions, Recovered, StateDir, StoreError, Writer};
use mainstay_transport::{
    ClusterKey, KeyError, PeerConfig, Transport, TransportConfig, TransportError,
};
use mainstay_wire::keep::SessionKey;
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    rand::{GetRandomFlags, getrandom},
};
use std::{io, path::PathBuf, sync::Arc};

/// Bytes that may wait for the socket of one link.
const SEND_QUEUE_MAX: usize = 16 << 20;

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Which node of the configuration this is; goes before the file's `this-node`.
    pub node_name: Option<String>,
}

/// Why the daemon did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cluster key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the state directory holds.
    #[error(
        "the state directory {} does not fit: {error}. Name the right `state-dir`, or move this \
         one away to rejoin as a node that lost its disk",
        .dir.display()
    )]
    Boot {
        /// The state directory.
        dir: PathBuf,
        /// What does not fit.
        error: BootError,
    },
    /// The addresses for traffic between nodes.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The clients' socket.
    #[error("{0}")]
    Socket(String, u8),
    /// The lease page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The system.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        error: io::Error,
    },
}

impl From<SocketError> for StartError {
    fn from(error: SocketError) -> StartError {
        let code = match &error {
            SocketError::Alive(_) => exit::TEMPORARY,
            SocketError::NotASocket(_) | SocketError::System { .. } => exit::CANNOT_CREATE,
        };
        StartError::Socket(error.to_string(), code)
    }
}

impl StartError {
    /// The process's exit code for this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Config(ConfigError::Unreadable { .. }) => exit::NO_INPUT,
            StartError::Config(ConfigError::Invalid { .. })
            | StartError::Key(_)
            | StartError::Boot {
                error: BootError::Config(_) | BootError::Foreign(_),
                ..
            }
            | StartError::Transport(TransportError::Config { .. }) => exit::CONFIG,
            StartError::Store(StoreError::InUse { .. }) => exit::TEMPORARY,
            StartError::Store(StoreError::Damaged { .. } | StoreError::Version { .. })
            | StartError::Boot { .. } => exit::IO,
            StartError::Store(_) => exit::CANNOT_CREATE,
            StartError::Transport(TransportError::Listen { error, .. })
                if error.kind() == io::ErrorKind::AddrInUse =>
            {
                exit::TEMPORARY
            }
            StartError::Transport(_) => exit::CANNOT_CREATE,
            StartError::Socket(_, code) => *code,
            StartError::Page(_) | StartError::System { .. } => exit::INTERNAL,
        }
    }
}

/// Checks the configuration and the key file without starting anything; returns a summary.
///
/// # Errors
/// With what is wrong.
pub fn check(options: &Options) -> Result<String, StartError> {
    let identity = Identity::of_host(options.node_name.clone());
    let config = Config::load(&options.config, &identity)?;
    ClusterKey::load(&config.key_file)?;
    Ok(config.summary())
}

/// Runs the daemon until it stops; returns the exit code.
///
/// # Errors
/// If it could not start.
pub fn run(options: &Options) -> Result<u8, StartError> {
    let identity = Identity::of_host(options.node_name.clone());
    let config = Config::load(&options.config, &identity)?;
    logging::init(&config.log);
    let key = ClusterKey::load(&config.key_file)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::System {
            what: "start the event loop",
            error,
        })?;
    runtime.block_on(serve(config, key))
}

async fn serve(config: Config, key: ClusterKey) -> Result<u8, StartError> {
    raise_file_limit();
    let now = mainstay_lease::now();
    let (dir, recovered) = StateDir::open(&config.state_dir, OpenOptions { create: true })?;
    tracing::info!(
        state_dir = %config.state_dir.display(),
        disk = recovered.disk.0,
        fresh = recovered.fresh,
        records = recovered.records.len(),
        "opened the state directory"
    );
    let left = HandOver::new(&config.state_dir).take();
    let generation = left.as_ref().map_or(1, |left| left.generation);
    let boot = draw_boot_id()?;
    let carried = left.map(|left| left.bytes);
    let mut node = boot_node(&config, now, boot, recovered, carried)?;
    let first = node.next_session();
    node.record_to(now, recorder::new(&config.recorder, boot));
    let (transport, events) = Transport::start(transport_config(&config, boot, key)).await?;
    let (page, page_fd) = SharedPage::create(generation)?;
    stop_on_panic(&page);
    let listener = ipc::bind(&config.socket, config.socket_access)?;
    let inbox = SharedInbox::default();
    let gate = Arc::new(Gate::default());
    watch_signals(&inbox)?;
    let writer = dir.start(on_done(&inbox, generation))?;
    let doorway = Doorway {
        inbox: Arc::clone(&inbox),
        gate: Arc::clone(&gate),
        page: page_fd,
        first,
    };
    let this = config.this_node();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        cluster = config.cluster,
        node = this.name.as_str(),
        id = this.id.0,
        boot = boot.0,
        socket = %config.socket.display(),
        addresses = ?transport.local_addresses(),
        "the daemon has started"
    );
    let socket = config.socket.clone();
    let accepting = tokio::spawn(ipc::accept_clients(listener, doorway));
    let runtime = Runtime::new(RuntimeParts {
        config,
        node,
        transport,
        events,
        writer,
        generation,
        page: page.clone(),
        inbox,
        gate,
    });
    // A task of its own rather than part of `block_on`: the wake-up of a spawned task costs no
    // system call.
    let ended = tokio::spawn(runtime.run()).await;
    page.revoke();
    accepting.abort();
    // Another daemon cannot have bound it meanwhile: it would have found this one alive.
    let _ = std::fs::remove_file(socket);
    ended.map_err(|error| StartError::System {
        what: "go on",
        error: io::Error::other(error),
    })
}

/// Makes a node from what the state directory held.
pub(crate) fn boot_node(
    config: &Config,
    now: mainstay_base::Instant,
    boot: BootId,
    recovered: Recovered,
    carried: Option<Vec<u8>>,
) -> Result<Node, StartError> {
    let info = BootInfo {
        boot,
        disk: recovered.disk,
        records: recovered.records,
        entropy: draw()?,
        carried,
    };
    let mut node =
        Node::boot(now, config.node_config(), info).map_err(|error| StartError::Boot {
            dir: config.state_dir.clone(),
            error,
        })?;
    node.limit_users(config.limits);
    Ok(node)
}

/// Opens the state directory again after a rebirth.
pub(crate) fn reopen(
    config: &Config,
    inbox: &SharedInbox,
    life: u64,
    boot: BootId,
) -> Result<(Node, Writer), StartError> {
    let (dir, recovered) = StateDir::open(&config.state_dir, OpenOptions { create: false })?;
    let node = boot_node(config, mainstay_lease::now(), boot, recovered, None)?;
    let writer = dir.start(on_done(inbox, life))?;
    Ok((node, writer))
}

fn on_done(inbox: &SharedInbox, life: u64) -> OnDone {
    let inbox: Arc<Inbox> = Arc::clone(inbox);
    Box::new(move |completion| inbox.push(Arrival::Stored { life, completion }))
}

/// A boot id that is not zero.
pub(crate) fn draw_boot_id() -> Result<BootId, StartError> {
    loop {
        match draw()? {
            0 => {}
            id => return Ok(BootId(id)),
        }
    }
}

/// What only the client that gets it can know.
pub(crate) fn draw_session_key() -> Result<SessionKey, StartError> {
    let halves = [draw()?.to_ne_bytes(), draw()?.to_ne_bytes()];
    let mut key = SessionKey([0; 16]);
    key.0.copy_from_slice(halves.as_flattened());
    Ok(key)
}

fn draw() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    loop {
        match getrandom(&mut bytes, GetRandomFlags::empty()) {
            Ok(_) => return Ok(u64::from_ne_bytes(bytes)),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => {
                return Err(StartError::System {
                    what: "draw random numbers",
                    error: errno.into(),
                });
            }
        }
    }
}

fn transport_config(config: &Config, boot: BootId, key: ClusterKey) -> TransportConfig {
    let this = config.this_node();
    let timings = &config.timings;
    let policy = match config.fencing {
        FencePolicy::Lease => "lease",
        FencePolicy::Manual => "manual",
    };
    TransportConfig {
        cluster: config.cluster.clone(),
        node: this.id,
        boot,
        key,
        // What all nodes must agree on for the lease arithmetic to be safe.
        params: format!(
            "heartbeat-ms={} dead-ms={} lease-ms={} drift-ppm={} fencing={policy}",
            timings.heartbeat.as_millis(),
            timings.dead.as_millis(),
            timings.lease.as_millis(),
            timings.drift_ppm,
        )
        .into_bytes(),
        listen: this.addresses.clone(),
        peers: config
            .nodes
            .iter()
            .filter(|n| n.id != this.id)
            .map(|n| PeerConfig {
                id: n.id,
                name: n.name.clone(),
                addresses: n.addresses.clone(),
            })
            .collect(),
        version: concat!("mainstay ", env!("CARGO_PKG_VERSION")).to_owned(),
        send_queue_max: SEND_QUEUE_MAX,
    }
}

/// Thousands of clients need more descriptors than the usual soft limit allows.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, soft = limit.current, "cannot raise the limit of open files");
    }
}

fn watch_signals(inbox: &SharedInbox) -> Result<(), StartError> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| {
        signal(kind).map_err(|error| StartError::System {
            what: "listen for signals",
            error,
        })
    };
    for (kind, name) in [
        (SignalKind::terminate(), "SIGTERM"),
        (SignalKind::interrupt(), "SIGINT"),
    ] {
        let mut signals = listen(kind)?;
        let inbox = Arc::clone(inbox);
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                inbox.push(Arrival::Signal(name));
            }
        });
    }
    let mut hangup = listen(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::warn!("SIGHUP has no effect; restart the daemon to read its configuration");
        }
    });
    Ok(())
}
