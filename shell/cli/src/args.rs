//! The command line.

use crate::{commands, dev, exit};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Cluster membership and distributed locks for Linux hosts.
#[derive(Debug, Parser)]
#[command(
    name = "mainstay",
    version,
    about,
    propagate_version = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Try it out: `mainstay dev` starts a three-node cluster on this machine.\n\
                  Exit codes: `mainstay help exit-codes`.",
    after_long_help = exit::TABLE
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The daemon's socket. Without it, the system's daemon
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "MAINSTAY_SOCKET",
        default_value = mainstay_daemon::config::DEFAULT_SOCKET
    )]
    pub(crate) socket: PathBuf,
    /// Print JSON rather than text
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a configuration and a key file for a new cluster
    Init(commands::init::InitArgs),
    /// Run the daemon of this host
    Node(commands::node::NodeArgs),
    /// Start a cluster on this machine, for trying out
    Dev(dev::DevArgs),
    /// Show members, quorum, lease, links and lockspaces
    #[command(after_help = "Examples:\n  mainstay status\n  mainstay status --json | jq .quorate")]
    Status,
    /// Run a command while holding a lock
    Lock(commands::lock::LockArgs),
    /// Read or write a value block
    #[command(subcommand)]
    Value(commands::value::ValueCommand),
    /// Try locks by hand, or from a script: a command a line
    Session(commands::session::SessionArgs),
    /// List, create and change lockspaces: who may lock what in them
    #[command(
        subcommand,
        after_help = "Examples:\n  mainstay lockspace list\n  mainstay lockspace create vms --mode 660\n  \
                      mainstay lockspace rules vms --add all:vm-:read"
    )]
    Lockspace(commands::lockspace::LockspaceCommand),
    /// List resources with their holders and waiters
    Locks(commands::locks::LocksArgs),
    /// Say who blocks whom on a resource, and since when
    Why(commands::locks::WhyArgs),
    /// Show who waits for whom, everywhere: as text, JSON or for Graphviz
    Graph(commands::graph::GraphArgs),
    /// Show the longest waits, the most contended resources, and how long locks are waited for and held
    Contention(commands::contention::ContentionArgs),
    /// List persistent locks that outlived their process, or release them
    Orphans(commands::orphans::OrphansArgs),
    /// Show who masters how much, and what moved lately
    Masters(commands::masters::MastersArgs),
    /// Dump, read and check what flight recorders remember: the last lock events of nodes
    #[command(
        subcommand,
        after_help = "Examples:\n  mainstay recorder dump\n  mainstay recorder show *.mainstay-record --resource disk-1\n  \
                      mainstay recorder check *.mainstay-record"
    )]
    Recorder(commands::recorder::RecorderCommand),
    /// Follow what happens in the cluster, with reasons
    Events(commands::events::EventsArgs),
    /// Measure how fast locks are here, beside the machine's own limits
    Bench(commands::bench::BenchArgs),
    /// Look for mistakes in a cluster's configuration
    Check(commands::check::CheckArgs),
    /// Turn a cluster's configuration from one notation into another
    Convert(commands::convert::ConvertArgs),
    /// Say what a cluster in a given state would do, and why
    Plan(commands::plan::PlanArgs),
    /// Leave the cluster cleanly and stop the daemon
    #[command(
        after_help = "Needs root or the daemon's user.\n\nExamples:\n  mainstay leave\n  \
                      mainstay leave --keep-sessions && systemctl start mainstay\n  \
                      mainstay --socket /run/mainstay/mainstay.sock leave"
    )]
    Leave(commands::admin::LeaveArgs),
    /// Vouch that a vanished node can do no more harm (fencing policy `manual`)
    Vouch(commands::admin::VouchArgs),
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  mainstay completions bash > /etc/bash_completion.d/mainstay\n  \
                      mainstay completions zsh > ~/.zfunc/_mainstay"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write one per command into a directory
    #[command(
        after_help = "Examples:\n  mainstay man | man -l -\n  mainstay man --dir /usr/local/share/man/man1"
    )]
    Man {
        /// Write mainstay.1, mainstay-lock.1, … here
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Explain a command, or the exit codes
    #[command(after_help = "Examples:\n  mainstay help lock\n  mainstay help exit-codes")]
    Help {
        /// A command, or `exit-codes`
        #[arg(value_name = "COMMAND")]
        topic: Vec<String>,
    },
    /// The part of `dev` that carries the traffic between its nodes
    #[command(hide = true)]
    DevProxy {
        /// The cluster's directory
        #[arg(long)]
        dir: PathBuf,
    },
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
