//! What is known of a development cluster: the file `dev.json` in its directory.

use super::process::Process;
use crate::exit::{CANNOT_CREATE, Failure, NOT_FOUND};
use rustix::{
    fs::{FlockOperation, flock},
    process::getuid,
    rand::{GetRandomFlags, getrandom},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{DirBuilder, File},
    io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink},
    path::{Path, PathBuf},
};

const FILE: &str = "dev.json";
/// Format of the file.
const VERSION: u32 = 1;

/// A development cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Cluster {
    version: u32,
    /// Its directory.
    pub(super) dir: PathBuf,
    /// Its nodes, by number.
    pub(super) nodes: Vec<DevNode>,
    /// What carries the traffic between nodes.
    pub(super) proxy: Proxy,
    /// Masters stay where they are.
    #[serde(default)]
    pub(super) keep_masters: bool,
}

/// One node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct DevNode {
    pub(super) name: String,
    pub(super) id: u16,
    /// Where it listens for other nodes.
    pub(super) address: SocketAddr,
    pub(super) socket: PathBuf,
    pub(super) config: PathBuf,
    pub(super) state_dir: PathBuf,
    pub(super) log: PathBuf,
    /// Its daemon, as last started.
    pub(super) process: Option<Process>,
}

/// The proxy and its routes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Proxy {
    pub(super) process: Option<Process>,
    /// Where it takes orders.
    pub(super) control: PathBuf,
    pub(super) log: PathBuf,
    pub(super) routes: Vec<Route>,
    /// Pairs of nodes, smaller number first, whose link is cut.
    pub(super) cut: Vec<(u16, u16)>,
}

/// One direction of calling: the lower node calls the higher.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Route {
    pub(super) from: u16,
    pub(super) to: u16,
    /// Where the caller believes the other to be.
    pub(super) listen: SocketAddr,
    /// Where the other is.
    pub(super) target: SocketAddr,
}

impl Cluster {
    /// Lays out a cluster in `dir`; nothing is written.
    pub(super) fn plan(
        dir: &Path,
        addresses: &[SocketAddr],
        routes: Vec<Route>,
        keep_masters: bool,
    ) -> Cluster {
        let nodes = (1..)
            .zip(addresses)
            .map(|(id, &address)| {
                let name = format!("n{id}");
                DevNode {
                    id,
                    address,
                    socket: dir.join(format!("{name}.sock")),
                    config: dir.join(format!("{name}.toml")),
                    state_dir: dir.join(&name),
                    log: dir.join(format!("{name}.log")),
                    name,
                    process: None,
                }
            })
            .collect();
        Cluster {
            version: VERSION,
            dir: dir.to_owned(),
            nodes,
            proxy: Proxy {
                process: None,
                control: dir.join("proxy.sock"),
                log: dir.join("proxy.log"),
                routes,
                cut: Vec::new(),
            },
            keep_masters,
        }
    }

    /// Whether there is a cluster in `dir`.
    pub(super) fn exists(dir: &Path) -> bool {
        dir.join(FILE).exists()
    }

    pub(super) fn load(dir: &Path) -> Result<Cluster, Failure> {
        let path = dir.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::new(
                NOT_FOUND,
                format!(
                    "there is no development cluster in {}: {error}; `mainstay dev --dir DIR` \
                     starts one",
                    dir.display()
                ),
            )
        })?;
        let wrong = |why: String| {
            Failure::new(
                NOT_FOUND,
                format!(
                    "{} is not of this version of mainstay: {why}; start over in a new directory",
                    path.display()
                ),
            )
        };
        let mut cluster: Cluster =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if cluster.version != VERSION {
            return Err(wrong(format!("it has format version {}", cluster.version)));
        }
        cluster.dir = dir.to_owned();
        Ok(cluster)
    }

    /// Writes `dev.json` in one step.
    pub(super) fn save(&self) -> Result<(), Failure> {
        let path = self.dir.join(FILE);
        let new = self.dir.join("dev.json.new");
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|error| cannot_write(&path, &error))
    }

    pub(super) fn index(&self, name: &str) -> Result<usize, Failure> {
        self.nodes
            .iter()
            .position(|n| n.name == name)
            .ok_or_else(|| {
                let names: Vec<&str> = self.nodes.iter().map(|n| n.name.as_str()).collect();
                Failure::new(
                    NOT_FOUND,
                    format!("there is no node `{name}`; there are {}", names.join(", ")),
                )
            })
    }

    /// Whether its nodes call each other without the proxy; then no link can be cut.
    pub(super) fn is_direct(&self) -> bool {
        self.proxy.routes.is_empty()
    }

    pub(super) fn is_running(&self) -> bool {
        let nodes = self.nodes.iter().map(|n| &n.process);
        nodes
            .chain([&self.proxy.process])
            .any(|p| p.is_some_and(|p| p.is_alive()))
    }

    /// Removes the directory of a stopped cluster.
    pub(super) fn remove(&self) {
        // Only what looks like one of ours, however the path came about.
        if Cluster::exists(&self.dir)
            && let Err(error) = std::fs::remove_dir_all(&self.dir)
        {
            crate::output::note(format_args!(
                "cannot remove {}: {error}",
                self.dir.display()
            ));
        }
    }
}

pub(super) fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        CANNOT_CREATE,
        format!("cannot write {}: {error}", path.display()),
    )
}

/// Keeps other `mainstay dev` commands from changing the cluster meanwhile.
pub(super) fn lock(dir: &Path) -> Result<File, Failure> {
    let file = File::open(dir).map_err(|error| {
        Failure::new(NOT_FOUND, format!("cannot open {}: {error}", dir.display()))
    })?;
    flock(&file, FlockOperation::LockExclusive).map_err(io::Error::from)?;
    Ok(file)
}

/// Where short-lived things of this user go.
fn runtime_dir() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(dir) if dir.is_dir() => dir,
        _ => std::env::temp_dir(),
    }
}

fn last_path() -> PathBuf {
    runtime_dir().join(format!("mainstay-dev-last-{}", getuid().as_raw()))
}

/// A new directory that only this user can enter.
pub(super) fn make_temporary() -> Result<PathBuf, Failure> {
    let mut random = [0; 4];
    getrandom(&mut random, GetRandomFlags::empty()).map_err(io::Error::from)?;
    let name = format!("mainstay-dev-{:08x}", u32::from_ne_bytes(random));
    let dir = runtime_dir().join(name);
    DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .map_err(|error| cannot_write(&dir, &error))?;
    Ok(dir)
}

/// Remembers the cluster that was started last.
pub(super) fn remember(dir: &Path) {
    let last = last_path();
    let new = last.with_extension("new");
    let _ = std::fs::remove_file(&new);
    if let Err(error) = symlink(dir, &new).and_then(|()| std::fs::rename(&new, &last)) {
        crate::output::note(format_args!(
            "cannot remember this cluster in {}: {error}; give --dir {} to later commands",
            last.display(),
            dir.display()
        ));
    }
}

/// The directory that the command line names, or that of the cluster started last.
pub(super) fn find(dir: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let dir = match dir {
        Some(dir) => dir,
        None => {
            let last = last_path();
            let mine =
                std::fs::symlink_metadata(&last).is_ok_and(|meta| meta.uid() == getuid().as_raw());
            std::fs::read_link(&last)
                .ok()
                .filter(|dir| mine && Cluster::exists(dir))
                .ok_or_else(|| {
                    Failure::new(
                        NOT_FOUND,
                        "no development cluster is known; start one with `mainstay dev`, or name \
                         its directory with --dir",
                    )
                })?
        }
    };
    std::path::absolute(&dir).map_err(Failure::from)
}
