//! `mainstay leave` and `mainstay vouch`

use crate::{
    args::Global,
    connect::connect,
    exit::{Failure, OK, Outcome},
    output,
};
use clap::Args;
use mainstay_base::NodeName;
use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    time::Duration,
};

#[derive(Debug, Args)]
#[command(
    after_help = "Needs root or the daemon's user. Vouching while the node still runs can \
    corrupt what the locks protect: make sure that it is switched off or cut from storage.\n\n\
    Examples:\n  mainstay vouch n3\n  mainstay vouch n3 --confirm n3"
)]
pub(crate) struct VouchArgs {
    /// The vanished node
    pub(crate) node: String,
    /// The node's name once more, instead of being asked for it
    #[arg(long, value_name = "NODE")]
    pub(crate) confirm: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LeaveArgs {
    /// Keep the sessions that outlive broken connections, and their locks, for the next daemon of this
    /// host, which must be there within so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "60",
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) keep_sessions: Option<u32>,
}

pub(crate) async fn leave(global: Global, args: LeaveArgs) -> Outcome {
    let client = connect(&global).await?;
    let node = client.welcome().node_name;
    match args.keep_sessions {
        Some(seconds) => client.rest(Duration::from_secs(seconds.into())).await?,
        None => client.leave().await?,
    }
    if global.json {
        output::json(
            &serde_json::json!({"node": node, "left": true, "kept_s": args.keep_sessions}),
        )?;
    } else if let Some(seconds) = args.keep_sessions {
        output::line(format_args!(
            "{node} is ready to be started anew: its kept sessions stay for {seconds} s; its daemon stops"
        ));
    } else {
        output::line(format_args!(
            "{node} has left the cluster; its daemon stops"
        ));
    }
    Ok(OK)
}

pub(crate) async fn vouch(global: Global, args: VouchArgs) -> Outcome {
    let node = NodeName::new(args.node.as_str()).map_err(|e| Failure::usage(e.to_string()))?;
    let again = match args.confirm {
        Some(name) => name,
        None => ask_again(&node)?,
    };
    if again != node.as_str() {
        return Err(Failure::usage(format!(
            "`{again}` is not `{node}`: nothing was vouched for"
        )));
    }
    let client = connect(&global).await?;
    let (id, incarnations) = client.vouch(node.clone()).await?;
    if global.json {
        output::json(&serde_json::json!({
            "node": node, "id": id, "incarnations": incarnations
        }))?;
    } else {
        let list: Vec<String> = incarnations.iter().map(ToString::to_string).collect();
        output::line(if list.is_empty() {
            format!("nothing waited for a word on {node}")
        } else {
            format!("vouched for {node}, incarnation {}", list.join(", "))
        });
    }
    Ok(OK)
}

fn ask_again(node: &NodeName) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "vouching needs the node's name twice; without a terminal give --confirm {node}"
        )));
    }
    output::note(format_args!(
        "Its locks pass on at once. If {node} still runs, what they protect can be corrupted."
    ));
    let mut err = anstream::stderr();
    let _ = write!(err, "Type the node's name again to vouch for it: ");
    let _ = err.flush();
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed)?;
    Ok(typed.trim().to_owned())
}
