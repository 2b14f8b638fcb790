//! Writing a configuration file.

use super::NodeEntry;
use mainstay_base::{FencePolicy, Timings};
use std::{fmt::Write as _, path::PathBuf};

/// What a new configuration file shall say.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The cluster's name.
    pub cluster: String,
    /// All nodes.
    pub nodes: Vec<NodeEntry>,
    /// Which node the daemon is, if the file shall name it.
    pub this_node: Option<String>,
    /// The cluster key.
    pub key_file: PathBuf,
    /// The journal's directory.
    pub state_dir: PathBuf,
    /// The clients' socket.
    pub socket: PathBuf,
    /// Periods.
    pub timings: Timings,
    /// Fencing policy.
    pub fencing: FencePolicy,
    /// Whether masters move to where the work is.
    pub move_masters: bool,
}

/// The text of a configuration file.
#[must_use]
pub fn render(draft: &Draft) -> String {
    let mut out = String::new();
    out.push_str(
        "# Mainstay cluster configuration. The same on every node, but for `this-node`.\n\n",
    );
    match &draft.this_node {
        Some(name) => {
            out.push_str("# Which of the nodes below this host is.\n");
            line(&mut out, "this-node", &quote(name));
        }
        None => out.push_str(
            "# Which of the nodes below this host is; without it, the one with the host's name.\n\
             # this-node = \"...\"\n",
        ),
    }
    out.push_str("# The key that all nodes share. Copy it to every node, mode 0600.\n");
    line(
        &mut out,
        "key-file",
        &quote(&draft.key_file.to_string_lossy()),
    );
    out.push_str("# The journal; never shared between two daemons.\n");
    line(
        &mut out,
        "state-dir",
        &quote(&draft.state_dir.to_string_lossy()),
    );
    out.push_str("# Where clients connect.\n");
    line(&mut out, "socket", &quote(&draft.socket.to_string_lossy()));
    out.push_str(
        "# Who may connect: \"600\" the daemon's user, \"660\" the socket's group too, \"666\" everybody.\n\
         # What they may do, `mainstay lockspace` and [limits] say.\n\
         socket-mode = \"660\"\n# socket-group = 1000\n",
    );
    out.push_str("\n[cluster]\n");
    line(&mut out, "name", &quote(&draft.cluster));
    out.push_str(
        "\n# All nodes must agree on these. Drift bounds the rate error of any node's clock.\n",
    );
    out.push_str("[timings]\n");
    line(
        &mut out,
        "heartbeat-ms",
        &draft.timings.heartbeat.as_millis().to_string(),
    );
    line(
        &mut out,
        "dead-ms",
        &draft.timings.dead.as_millis().to_string(),
    );
    line(
        &mut out,
        "lease-ms",
        &draft.timings.lease.as_millis().to_string(),
    );
    line(&mut out, "drift-ppm", &draft.timings.drift_ppm.to_string());
    out.push_str(
        "\n# When a vanished node's locks may pass on: \"lease\" waits until its lease has certainly\n\
         # run out, \"manual\" until an operator runs `mainstay vouch NODE`.\n[fencing]\n",
    );
    let policy = match draft.fencing {
        FencePolicy::Lease => "lease",
        FencePolicy::Manual => "manual",
    };
    line(&mut out, "policy", &quote(policy));
    out.push_str(
        "\n# Owners that wait for each other in a circle: the call of one is refused, chosen by\n\
         # \"youngest\" (it began to wait last), \"priority\" or \"fewest-locks\". All nodes must agree.\n\
         [deadlock]\nenabled = true\ndelay-ms = 50\nvictim = \"youngest\"\n",
    );
    out.push_str(
        "\n# Locks are managed by masters. One moves to the node that does most of the work; a cap, in\n\
         # percent, keeps a node from mastering more than its share. `master-weight` of a [[node]], 0 to\n\
         # 10, says how much its work counts; one of weight 0 masters nothing.\n\
         [masters]\n",
    );
    line(&mut out, "move", &draft.move_masters.to_string());
    line(&mut out, "cap", "100");
    out.push_str(
        "\n# What each user may have on this node, but for root and the daemon's user; 0: as much as it\n\
         # likes. Lockspaces count in the whole cluster; waiting calls when another that may wait is made.\n\
         [limits]\nlocks-per-user = 0\nsessions-per-user = 0\nwaiting-per-user = 0\nlockspaces-per-user = 0\n",
    );
    out.push_str(
        "\n# The flight recorder: the last lock events, kept in memory (0 MiB: not at all) and written to\n\
         # the state directory when asked for or when the node stops itself; so many files are kept.\n\
         [recorder]\nsize-mib = 16\nkeep = 8\n",
    );
    out.push_str(
        "\n# Persistent locks outlive their process as orphans of their node, until somebody adopts or\n\
         # purges them (`mainstay orphans`), or for so many seconds.\n\
         # [orphans]\n# expiry-s = 600\n",
    );
    out.push_str(
        "\n# Clients may ask that their session outlives a broken connection, for so many seconds at most;\n\
         # 0: none may. The same for sessions while their daemon is started anew.\n[sessions]\n\
         max-grace-s = 60\nrestart-grace-s = 60\n",
    );
    out.push_str("\n[log]\nlevel = \"info\"\nformat = \"text\"\n");
    for node in &draft.nodes {
        out.push_str("\n[[node]]\n");
        line(&mut out, "id", &node.id.to_string());
        line(&mut out, "name", &quote(node.name.as_str()));
        let addresses: Vec<String> = node
            .addresses
            .iter()
            .map(|a| quote(&a.to_string()))
            .collect();
        line(
            &mut out,
            "addresses",
            &format!("[{}]", addresses.join(", ")),
        );
        line(&mut out, "votes", &node.votes.to_string());
    }
    out
}

fn line(out: &mut String, key: &str, value: &str) {
    let _ = writeln!(out, "{key} = {value}");
}

/// A TOML basic string.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
