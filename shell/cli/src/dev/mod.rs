//! `mainstay dev`: a cluster of real daemons on this machine.
//!
//! Each node is a process of its own (`mainstay node`), with its own state directory and socket.
//! Traffic between nodes goes through one more process, `mainstay dev-proxy`, so that links can be
//! cut without root; with `--direct` it does not.

mod cluster;
mod demo;
mod follow;
mod handle;
mod play;
mod ports;
mod process;
pub(crate) mod proxy;
mod start;
mod table;

pub(crate) use handle::Handle;

use crate::{
    args::Global,
    block_on,
    exit::{Failure, OK, Outcome},
    output::{self, FAINT, paint},
    signals::StopSignals,
};
use clap::{Args, Subcommand};
use cluster::Cluster;
use std::path::PathBuf;

/// Nodes of a cluster unless told otherwise.
const NODES: u16 = 3;

#[derive(Debug, Args)]
#[command(
    after_help = "Nodes are named n1, n2, …; their sockets are DIR/n1.sock, DIR/n2.sock, …. \
    Without --dir, a new directory is made, and the commands below find the cluster that was \
    started last.\n\nExamples:\n  mainstay dev\n  mainstay dev --demo\n  \
    mainstay dev --nodes 5 --detach\n  mainstay dev kill n1\n  mainstay dev start n1\n  \
    mainstay dev partition n1 n2 && mainstay dev status && mainstay dev heal\n  mainstay dev stop"
)]
pub(crate) struct DevArgs {
    /// How many nodes, 1 to 16; 3 unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) nodes: Option<u16>,
    /// The cluster's directory. A cluster that was stopped there is started again
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) dir: Option<PathBuf>,
    /// Return when the cluster has quorum, and leave it running
    #[arg(long)]
    pub(crate) detach: bool,
    /// Connect the nodes directly: faster, but no link can be cut
    #[arg(long)]
    pub(crate) direct: bool,
    /// Leave masters where they are, also where another node does all the work
    #[arg(long)]
    pub(crate) keep_masters: bool,
    /// Show how a lock moves when its holder's node is killed, then stop
    #[arg(long, conflicts_with = "detach")]
    pub(crate) demo: bool,
    #[command(subcommand)]
    pub(crate) command: Option<DevCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DevCommand {
    /// Stop all nodes
    #[command(after_help = "Example:\n  mainstay dev stop")]
    Stop {
        /// Remove the cluster's directory too
        #[arg(long)]
        remove: bool,
    },
    /// Kill nodes with SIGKILL
    #[command(after_help = "Example:\n  mainstay dev kill n1")]
    Kill {
        /// Which nodes
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Stop nodes with SIGSTOP, as a frozen host would
    #[command(after_help = "Example:\n  mainstay dev pause n2")]
    Pause {
        /// Which nodes
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Let paused nodes go on
    #[command(after_help = "Example:\n  mainstay dev resume n2")]
    Resume {
        /// Which nodes
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Start nodes that are not running
    #[command(after_help = "Example:\n  mainstay dev start n1")]
    Start {
        /// Which nodes; all that are not running if none is named
        nodes: Vec<String>,
    },
    /// Cut all links between these nodes and the others
    #[command(
        after_help = "Links among the named nodes, and among the others, stay. An earlier \
        partition is replaced.\n\nExamples:\n  mainstay dev partition n1\n  \
        mainstay dev partition n1 n2"
    )]
    Partition {
        /// The nodes of one side
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Mend all links
    #[command(after_help = "Example:\n  mainstay dev heal")]
    Heal,
    /// Show nodes, sockets and state
    #[command(after_help = "Example:\n  mainstay dev status --json")]
    Status,
}

pub(crate) fn run(global: &Global, args: DevArgs) -> Outcome {
    let Some(command) = args.command else {
        return block_on(launch(global, args));
    };
    let own = args.detach || args.demo || args.direct || args.keep_masters;
    if args.nodes.is_some() || own {
        return Err(Failure::usage(
            "--nodes, --detach, --direct, --keep-masters and --demo belong to `mainstay dev` without a \
             further command",
        ));
    }
    let dir = cluster::find(args.dir)?;
    block_on(play::run(global, &dir, command))
}

async fn launch(global: &Global, args: DevArgs) -> Outcome {
    let temporary = args.dir.is_none();
    let mut stopped = StopSignals::listen()?;
    let wish = start::Wish {
        nodes: args.nodes,
        direct: args.direct,
        keep_masters: args.keep_masters,
    };
    let mut started = start::start(args.dir, wish).await?;
    cluster::remember(&started.cluster.dir);
    if args.demo {
        let shown = tokio::select! {
            shown = demo::run(&started.cluster) => shown,
            _ = stopped.next() => Ok(OK),
        };
        return finish(&mut started.cluster, temporary && shown.is_ok(), shown).await;
    }
    if !global.json {
        output::line(format_args!(
            "{} nodes started in {}; waiting for quorum",
            started.cluster.nodes.len(),
            started.cluster.dir.display()
        ));
    }
    let formed = tokio::select! {
        formed = start::wait_until_whole(&started.cluster) => formed,
        _ = stopped.next() => {
            return finish(&mut started.cluster, temporary, Ok(OK)).await;
        }
    };
    if let Err(failure) = formed {
        return finish(&mut started.cluster, false, Err(failure)).await;
    }
    table::show(global, &started.cluster).await?;
    if args.detach {
        if !global.json {
            output::line(paint(
                FAINT,
                "The cluster runs on. `mainstay dev status` shows it, `mainstay dev stop` stops it.",
            ));
        }
        return Ok(OK);
    }
    if !global.json {
        output::line(format_args!(
            "\nTry: {} --socket {} lock disk-1 -- sleep 60\n{}\n",
            process::this_executable()?.display(),
            started.cluster.nodes[0].socket.display(),
            paint(
                FAINT,
                "Events of all nodes follow; Ctrl-C stops the cluster."
            )
        ));
    }
    let followed = follow::follow(global, &mut started, &mut stopped).await;
    finish(
        &mut started.cluster,
        temporary && followed.is_ok(),
        followed,
    )
    .await
}

/// Stops the cluster whatever came before.
async fn finish(cluster: &mut Cluster, remove: bool, outcome: Outcome) -> Outcome {
    play::stop(cluster).await;
    if remove {
        cluster.remove();
    } else {
        output::note(format_args!(
            "logs and state are kept in {}",
            cluster.dir.display()
        ));
    }
    outcome
}
