//! `mainstay orphans` and `mainstay orphans purge`

use super::locks::{lockspace_name, unknown};
use crate::{
    args::Global,
    connect::connect,
    exit::{DENIED, Failure, OK, Outcome},
    output::{self, Table, span},
};
use clap::{ArgGroup, Args, Subcommand};
use mainstay_base::{LockspaceName, NodeName};
use mainstay_client::{OrphanReport, OrphanWish, OrphansReport, asynchronous::Client};
use std::collections::BTreeSet;

/// Orphans asked for at a time.
const PAGE: u32 = 1000;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "An orphan is a persistent lock whose process has ended: its node keeps it, and it keeps \
        others waiting, until a process adopts it (`adopt NAME ex` of `mainstay session` on that node, `adopt NAME ex \
        anywhere` on others, or the client libraries) or it is purged. A lock that survives its node (`lock NAME ex survive`) is listed with \
        the node that left it behind.\n\nExamples:\n  mainstay orphans\n  mainstay orphans 'vm-*' --json\n  \
        mainstay orphans purge 'vm-*' --lockspace vms\n  mainstay orphans purge --node n1 --pid 4711"
)]
pub(crate) struct OrphansArgs {
    #[command(subcommand)]
    purge: Option<OrphansCommand>,
    #[command(flatten)]
    which: Which,
    /// Show at most so many; they are asked for in pages
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Show all, however many
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

#[derive(Debug, Subcommand)]
enum OrphansCommand {
    /// Release orphans; the value blocks of those held in pw or ex are possibly stale then
    #[command(
        group = ArgGroup::new("meant").required(true).multiple(true)
            .args(["pattern", "lockspace", "node", "pid", "all"]),
        after_help = "Those of other users are left alone, unless the lockspace's owner, root or the daemon's user asks.\n\n\
            Examples:\n  mainstay orphans purge 'vm-*'\n  mainstay orphans purge --node n1 --pid 4711\n  \
            mainstay orphans purge --all"
    )]
    Purge {
        #[command(flatten)]
        which: Which,
        /// All of the cluster
        #[arg(long, conflicts_with_all = ["pattern", "lockspace", "node", "pid"])]
        all: bool,
    },
}

#[derive(Clone, Debug, Args)]
struct Which {
    /// Only on resources whose name matches; `*` and `?` as in the shell
    pattern: Option<String>,
    /// Only in this lockspace
    #[arg(long, value_name = "NAME")]
    lockspace: Option<String>,
    /// Only those of this node
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only those that this process of --node left behind
    #[arg(long, value_name = "PID", requires = "node")]
    pid: Option<u32>,
}

impl Which {
    fn wish(self) -> Result<OrphanWish, Failure> {
        let node = self.node.map(NodeName::new).transpose();
        Ok(OrphanWish {
            lockspace: self.lockspace.as_deref().map(lockspace_name).transpose()?,
            pattern: self.pattern,
            node: node.map_err(|error| Failure::usage(error.to_string()))?,
            pid: self.pid,
        })
    }
}

pub(crate) async fn run(global: Global, args: OrphansArgs) -> Outcome {
    match args.purge {
        Some(OrphansCommand::Purge { which, .. }) => purge(&global, which.wish()?).await,
        None => {
            let limit = if args.all { u64::MAX } else { args.limit };
            list(&global, args.which.wish()?, limit).await
        }
    }
}

async fn list(global: &Global, wish: OrphanWish, limit: u64) -> Outcome {
    let lockspace = wish.lockspace.clone();
    let client = connect(global).await?;
    let report = gather(&client, wish, limit)
        .await
        .map_err(|error| unknown(error, lockspace.as_ref()))?;
    if global.json {
        output::json(&report)?;
        return Ok(OK);
    }
    output::print(&render(&report.orphans));
    if report.next.is_some() {
        output::note(format_args!(
            "there are more than {limit}; raise --limit, narrow the pattern, or ask for --all"
        ));
    }
    output::note_silent(&report.silent, "what was left behind there");
    Ok(OK)
}

/// All that is meant, page by page, in the order of names.
pub(crate) async fn gather(
    client: &Client,
    wish: OrphanWish,
    limit: u64,
) -> Result<OrphansReport, mainstay_client::LockError> {
    let mut all = OrphansReport::default();
    let mut silent: BTreeSet<NodeName> = BTreeSet::new();
    loop {
        let left = limit.saturating_sub(all.orphans.len() as u64);
        let page = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let page = client.orphans(wish.clone(), page, all.next.take()).await?;
        all.orphans.extend(page.orphans);
        all.next = page.next;
        silent.extend(page.silent);
        if all.next.is_none() || all.orphans.len() as u64 >= limit {
            break;
        }
    }
    let place = |o: &OrphanReport| (o.lockspace.clone(), o.name.clone(), o.node.clone(), o.id);
    all.orphans.sort_by_cached_key(place);
    all.silent = silent.into_iter().collect();
    Ok(all)
}

pub(crate) fn render(orphans: &[OrphanReport]) -> String {
    if orphans.is_empty() {
        return "no orphans\n".to_owned();
    }
    let mut table = Table::new([
        "RESOURCE", "NODE", "MODE", "TOKEN", "PID", "USER", "GONE", "EXPIRES", "COMMAND",
    ]);
    for orphan in orphans {
        table.row([
            format!("{}/{}", orphan.lockspace, orphan.name),
            orphan.node.to_string(),
            orphan.mode.to_string(),
            orphan.token.to_string(),
            orphan.owner.pid.to_string(),
            orphan.owner.uid.to_string(),
            orphan.owner.orphan_ms.map_or_else(String::new, span),
            match orphan.expires_ms {
                Some(ms) => format!("in {}", span(ms)),
                None => "-".to_owned(),
            },
            orphan.owner.command.clone(),
        ]);
    }
    table.render()
}

async fn purge(global: &Global, wish: OrphanWish) -> Outcome {
    let lockspace: Option<LockspaceName> = wish.lockspace.clone();
    let client = connect(global).await?;
    let report = client
        .purge_orphans(wish)
        .await
        .map_err(|error| unknown(error, lockspace.as_ref()))?;
    if global.json {
        output::json(&report)?;
    } else {
        output::line(match report.purged {
            1 => "1 orphan released".to_owned(),
            n => format!("{n} orphans released"),
        });
        output::note_silent(&report.silent, "what was left behind there");
    }
    if report.denied > 0 {
        let text = format!(
            "{} orphans are other users', and were left alone; try it with sudo",
            report.denied
        );
        return Err(Failure::new(DENIED, text));
    }
    Ok(OK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{LockId, LockMode, ResourceName, Token};
    use mainstay_wire::report::OwnerReport;

    /// Protects what operators read before they purge: whose it was, since when, and for how long.
    #[test]
    fn orphans_are_told_with_their_process() {
        let orphan = OrphanReport {
            node: NodeName::new("n1").expect("a name"),
            id: LockId(3),
            lockspace: LockspaceName::new("vms").expect("a name"),
            name: ResourceName::new("web-1").expect("a name"),
            mode: LockMode::Ex,
            token: Token(7),
            owner: OwnerReport {
                pid: 4711,
                uid: 0,
                command: "qemu web-1".to_owned(),
                orphan_ms: Some(61_000),
                owner: mainstay_base::Owner::Session,
                broken: None,
            },
            expires_ms: Some(1500),
        };
        let text = anstream::adapter::strip_str(&render(&[orphan])).to_string();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let told: Vec<String> = text.lines().map(words).collect();
        assert_eq!(
            told[1],
            "vms/web-1 n1 ex 7 4711 0 1 min 1 s in 1.5 s qemu web-1"
        );
        assert_eq!(render(&[]), "no orphans\n");
    }
}
