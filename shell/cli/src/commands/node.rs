//! `mainstay node`

use crate::{
    args::Global,
    exit::{Failure, OK, Outcome},
    output,
};
use clap::Args;
use mainstay_daemon::{Options, config::DEFAULT_CONFIG};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(
    after_help = "SIGTERM and SIGINT leave the cluster cleanly; a second one stops at once.\n\
    The environment variable MAINSTAY_LOG overrides `level` of the configuration's [log].\n\n\
    Examples:\n  mainstay node\n  mainstay node --config /etc/mainstay/mainstay.toml\n  \
    mainstay node --config cluster.toml --node-name a --check"
)]
pub(crate) struct NodeArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(crate) config: PathBuf,
    /// Which of the configured nodes this is; goes before `this-node` in the file
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Check configuration and key file, start nothing
    #[arg(long)]
    pub(crate) check: bool,
}

pub(crate) fn run(global: &Global, args: &NodeArgs) -> Outcome {
    let options = Options {
        config: args.config.clone(),
        node_name: args.node_name.clone(),
    };
    let fail =
        |error: mainstay_daemon::StartError| Failure::new(error.exit_code(), error.to_string());
    if !args.check {
        return mainstay_daemon::run(&options).map_err(fail);
    }
    let summary = mainstay_daemon::check(&options).map_err(fail)?;
    if global.json {
        output::json(&serde_json::json!({
            "ok": true, "config": args.config, "summary": summary
        }))?;
    } else {
        output::line(format_args!("{}: ok: {summary}", args.config.display()));
    }
    Ok(OK)
}
