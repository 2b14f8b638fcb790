//! A network for each node, in namespaces: real interfaces, whose links are really taken down.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// The port on which each node listens in its own network.
const PORT: u16 = 7464;
/// Namespaces of this harness are called so, and then by the number of the process that made them.
const PREFIX: &str = "mainstay-torture-";

/// Nodes 1, 2, … in namespaces of their own, each with one interface per link to that link's
/// bridge, which lies in one more namespace. Removed when dropped.
#[derive(Debug)]
pub struct Namespaces {
    prefix: String,
    nodes: u16,
    links: u8,
}

fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(words.split_ascii_whitespace())
        .output()
        .map_err(|error| {
            format!("`ip` does not start: {error}; it is in Debian's package iproute2")
        })?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!("`ip {words}`: {}", why.trim()))
}

/// As [`ip`], for what must work once namespaces do.
fn must(words: &str) {
    if let Err(why) = ip(words) {
        panic!("{why}");
    }
}

/// Removes what tests left that were killed themselves.
fn remove_stale() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

impl Namespaces {
    /// Makes them.
    ///
    /// # Errors
    /// If this process may not.
    pub fn make(nodes: u16, links: u8) -> Result<Namespaces, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return Err("this is not root".to_owned());
        }
        remove_stale();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let made = Namespaces {
            prefix: format!("{PREFIX}{}-{count}", std::process::id()),
            nodes,
            links,
        };
        let switch = made.switch();
        ip(&format!("netns add {switch}"))?;
        for link in 0..links {
            ip(&format!("-n {switch} link add br{link} type bridge"))?;
            ip(&format!("-n {switch} link set br{link} up"))?;
        }
        for node in 1..=nodes {
            let name = made.name(node);
            ip(&format!("netns add {name}"))?;
            ip(&format!("-n {name} link set lo up"))?;
            for link in 0..links {
                let end = format!("n{node}l{link}");
                ip(&format!(
                    "-n {name} link add eth{link} type veth peer name {end} netns {switch}"
                ))?;
                ip(&format!("-n {switch} link set {end} master br{link} up"))?;
                let address = made.address(node, link).ip();
                ip(&format!("-n {name} addr add {address}/24 dev eth{link}"))?;
                ip(&format!("-n {name} link set eth{link} up"))?;
            }
        }
        Ok(made)
    }

    fn switch(&self) -> String {
        format!("{}-sw", self.prefix)
    }

    fn name(&self, node: u16) -> String {
        format!("{}-n{node}", self.prefix)
    }

    /// Where a node listens on one link.
    #[must_use]
    pub fn address(&self, node: u16, link: u8) -> SocketAddr {
        let last = u8::try_from(node).expect("few nodes");
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, link, last)), PORT)
    }

    /// All addresses of a node.
    #[must_use]
    pub fn addresses(&self, node: u16) -> Vec<SocketAddr> {
        (0..self.links).map(|l| self.address(node, l)).collect()
    }

    /// The words before a command that runs it in a node's network.
    #[must_use]
    pub fn wrapper(&self, node: u16) -> Vec<String> {
        let name = self.name(node);
        ["ip", "netns", "exec", &name].map(str::to_owned).into()
    }

    /// Takes one link of a node down at the switch, or up again.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn plug(&self, node: u16, link: u8, up: bool) {
        let state = if up { "up" } else { "down" };
        must(&format!(
            "-n {} link set n{node}l{link} {state}",
            self.switch()
        ));
    }

    /// Takes a whole bridge down, or up again: no node reaches any other by that link.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn power(&self, link: u8, up: bool) {
        let state = if up { "up" } else { "down" };
        must(&format!("-n {} link set br{link} {state}", self.switch()));
    }

    /// Drops what a node sends to another, and nothing else, or mends that.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn mute(&self, from: u16, to: u16, mute: bool) {
        let what = if mute { "add" } else { "del" };
        for address in self.addresses(to) {
            must(&format!(
                "-n {} route {what} blackhole {}/32",
                self.name(from),
                address.ip()
            ));
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for node in 1..=self.nodes {
            // It may not have come to being.
            let _ = ip(&format!("netns del {}", self.name(node)));
        }
        let _ = ip(&format!("netns del {}", self.switch()));
    }
}
