//! `mainstay locks` and `mainstay why`

use crate::{
    args::Global,
    connect::connect,
    exit::{Failure, INTERNAL, NOT_FOUND, OK, Outcome},
    output::{self, FAINT, GOOD, ODD, Table, paint, span},
};
use clap::Args;
use mainstay_base::{LockspaceName, NodeName, Owner, ResourceName};
use mainstay_client::{LockError, Refusal};
use mainstay_wire::report::{LockReport, LocksReport, ResourceReport};
use std::collections::BTreeSet;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mainstay locks\n  mainstay locks 'vm-*'\n  \
    mainstay locks --xid 7\n  \
    mainstay locks --lockspace default --json\n  \
    mainstay locks --all --json | jq -c '.resources[] | .name'"
)]
pub(crate) struct LocksArgs {
    /// Only resources whose name matches; `*` and `?` as in the shell
    pub(crate) pattern: Option<String>,
    /// Only resources in this lockspace
    #[arg(long, value_name = "NAME")]
    pub(crate) lockspace: Option<String>,
    /// Show at most so many resources; they are asked for in pages
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: u64,
    /// Show all resources, however many
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    /// Only resources on which a transaction of this number, of any user, has a lock or waits for one
    #[arg(long, value_name = "N")]
    pub(crate) xid: Option<u64>,
    /// Go on after this resource of --lockspace
    #[arg(long, value_name = "NAME", requires = "lockspace")]
    pub(crate) after: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mainstay why disk-1\n  mainstay why --lockspace vms web-1 --json"
)]
pub(crate) struct WhyArgs {
    /// The resource
    pub(crate) name: String,
    /// Its lockspace
    #[arg(long, value_name = "NAME", default_value = super::lock::DEFAULT_LOCKSPACE)]
    pub(crate) lockspace: String,
}

/// A lockspace's name from the command line.
pub(crate) fn lockspace_name(text: &str) -> Result<LockspaceName, Failure> {
    LockspaceName::new(text).map_err(|error| Failure::usage(error.to_string()))
}

/// A resource's name from the command line: `//` is between the levels of a tree, and `\xNN` stands for
/// any byte.
pub(crate) fn resource_name(text: &str) -> Result<ResourceName, Failure> {
    text.parse()
        .map_err(|error: mainstay_base::NameError| Failure::usage(error.to_string()))
}

pub(crate) async fn locks(global: Global, args: LocksArgs) -> Outcome {
    let lockspace = args.lockspace.as_deref().map(lockspace_name).transpose()?;
    let after = args.after.as_deref().map(resource_name).transpose()?;
    let mut after = lockspace.clone().zip(after);
    let client = connect(&global).await?;
    let mut left = if args.all { u64::MAX } else { args.limit };
    let mut silent: BTreeSet<NodeName> = BTreeSet::new();
    let mut pages = Pages::new(global.json);
    let mut truncated;
    loop {
        let limit = u32::try_from(left).unwrap_or(u32::MAX).min(PAGE);
        let limit = args.xid.map_or(limit, |_| PAGE);
        let mut page = client
            .locks_after(lockspace.clone(), args.pattern.clone(), limit, after)
            .await
            .map_err(|error| unknown(error, lockspace.as_ref()))?;
        after = page.next();
        if let Some(xid) = args.xid {
            page.resources.retain(|found| concerns(found, xid));
        }
        let more = cut(&mut page.resources, &mut left);
        silent.extend(page.silent.iter().cloned());
        pages.add(&page)?;
        // Of a transaction it is not known whether more of its resources follow.
        truncated = more || left == 0 && after.is_some() && args.xid.is_none();
        if after.is_none() || truncated {
            break;
        }
    }
    pages.end(truncated, &silent)?;
    if truncated && !global.json {
        output::note(format_args!(
            "there are more than {} such resources; raise --limit, narrow the pattern, or ask for --all",
            args.limit
        ));
    }
    if !global.json {
        output::note_silent(&silent, "what is mastered there");
    }
    Ok(OK)
}

/// Leaves so many resources of a page as may still be shown. Whether there were more.
fn cut(resources: &mut Vec<ResourceReport>, left: &mut u64) -> bool {
    let most = usize::try_from(*left).unwrap_or(usize::MAX);
    let more = resources.len() > most;
    resources.truncate(most);
    *left -= resources.len() as u64;
    more
}

/// Whether a transaction has a lock on a resource, or waits for one.
fn concerns(found: &ResourceReport, xid: u64) -> bool {
    let queues = [&found.holders, &found.converters, &found.waiters];
    let mut locks = queues.into_iter().flatten();
    locks.any(|lock| lock.owner.owner == Owner::Transaction(xid))
}

/// Resources asked for at a time.
const PAGE: u32 = 1000;

/// Writes pages as they come: in text each a table of its own, as JSON all in one document.
struct Pages {
    json: bool,
    any: bool,
}

impl Pages {
    fn new(json: bool) -> Pages {
        if json {
            output::print("{\n  \"resources\": [");
        }
        Pages { json, any: false }
    }

    fn add(&mut self, page: &LocksReport) -> Result<(), Failure> {
        if page.resources.is_empty() {
            return Ok(());
        }
        if self.json {
            let mut text = String::new();
            for resource in &page.resources {
                let one = serde_json::to_string_pretty(resource).map_err(no_json)?;
                text.push_str(if self.any { ",\n    " } else { "\n    " });
                text.push_str(&one.replace('\n', "\n    "));
                self.any = true;
            }
            output::print(&text);
        } else {
            output::print(&render(page, !self.any));
            self.any = true;
        }
        Ok(())
    }

    fn end(self, truncated: bool, silent: &BTreeSet<NodeName>) -> Result<(), Failure> {
        if self.json {
            let silent = serde_json::to_string(silent).map_err(no_json)?;
            let gap = if self.any { "\n  " } else { "" };
            output::print(&format!(
                "{gap}],\n  \"truncated\": {truncated},\n  \"silent\": {silent}\n}}\n"
            ));
        } else if !self.any {
            output::print("no resources\n");
        }
        Ok(())
    }
}

fn no_json(error: serde_json::Error) -> Failure {
    Failure::new(INTERNAL, format!("cannot write JSON: {error}"))
}

pub(crate) async fn why(global: Global, args: WhyArgs) -> Outcome {
    let lockspace = lockspace_name(&args.lockspace)?;
    let name = resource_name(&args.name)?;
    let report = connect(&global)
        .await?
        .why(lockspace.clone(), name)
        .await
        .map_err(|error| unknown(error, Some(&lockspace)))?;
    if global.json {
        output::json(&report)?;
    } else {
        for sentence in &report.sentences {
            output::line(sentence);
        }
    }
    Ok(OK)
}

/// Names the lockspace that does not exist.
pub(crate) fn unknown(error: LockError, lockspace: Option<&LockspaceName>) -> Failure {
    match (&error, lockspace) {
        (LockError::Refused(Refusal::NoSuchLockspace), Some(name)) => Failure::new(
            NOT_FOUND,
            format!(
                "there is no lockspace `{name}`; `mainstay lock --lockspace {name}` makes it on \
                 first use"
            ),
        ),
        _ => error.into(),
    }
}

fn render(report: &LocksReport, headed: bool) -> String {
    let mut table = Table::new([
        "RESOURCE", "MASTER", "ROLE", "NODE", "PID", "USER", "MODE", "AGE", "TOKEN", "COMMAND",
    ]);
    for resource in &report.resources {
        let mut first = true;
        let mut add = |role: String, lock: Option<&LockReport>| {
            let shown = std::mem::take(&mut first);
            table.row(row(resource, shown, role, lock));
        };
        for lock in &resource.holders {
            let role = match lock.owner.orphan_ms {
                Some(_) => paint(ODD, "orphan"),
                None => paint(GOOD, "holds"),
            };
            add(role, Some(lock));
        }
        for lock in &resource.converters {
            add(paint(ODD, "converts"), Some(lock));
        }
        for lock in &resource.waiters {
            add(paint(ODD, "waits"), Some(lock));
        }
        if resource.holders.len() + resource.converters.len() + resource.waiters.len() == 0 {
            add(paint(FAINT, "no locks"), None);
        }
    }
    let text = table.render();
    match text.split_once('\n') {
        Some((_, rows)) if !headed => rows.to_owned(),
        _ => text,
    }
}

fn row(
    resource: &ResourceReport,
    first: bool,
    role: String,
    lock: Option<&LockReport>,
) -> [String; 10] {
    let (name, master) = if first {
        let recovering = if resource.recovering {
            " (recovering)"
        } else {
            ""
        };
        (
            format!("{}/{}", resource.lockspace, resource.name),
            format!("{}{recovering}", resource.master),
        )
    } else {
        (String::new(), String::new())
    };
    let Some(lock) = lock else {
        return [
            name,
            master,
            role,
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            resource.token.to_string(),
            String::new(),
        ];
    };
    let mode = match (lock.granted, lock.requested) {
        (Some(held), Some(wanted)) => format!("{held}→{wanted}"),
        (Some(mode), None) | (None, Some(mode)) => mode.to_string(),
        (None, None) => "-".to_owned(),
    };
    let mode = match lock.range {
        Some(range) => format!("{mode} {range}"),
        None => mode,
    };
    let token = if lock.granted.is_some() {
        lock.token.to_string()
    } else {
        "-".to_owned()
    };
    [
        name,
        master,
        role,
        lock.node.to_string(),
        lock.owner.pid.to_string(),
        lock.owner.uid.to_string(),
        mode,
        span(lock.age_ms),
        token,
        match (lock.owner.orphan_ms, lock.owner.broken) {
            (Some(ms), _) => format!("{} (gone for {})", lock.owner.command, span(ms)),
            (None, Some(broken)) => {
                let owner = lock.owner.as_owner();
                format!("{}{owner} ({broken})", lock.owner.command)
            }
            (None, None) => format!("{}{}", lock.owner.command, lock.owner.as_owner()),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{LockId, LockMode, Token};
    use mainstay_wire::report::OwnerReport;

    /// Protects scripts: JSON spells modes as the command line and the tables do.
    #[test]
    fn json_spells_modes_as_text_does() {
        for mode in LockMode::ALL {
            assert_eq!(serde_json::to_value(mode).expect("serializes"), mode.name());
        }
    }

    /// Protects the page that answers "who has it": one line per lock, the resource named once.
    #[test]
    fn locks_read_as_a_page() {
        let node = |n: &str| NodeName::new(n).expect("a name");
        let lock = |n: &str, granted, requested, age_ms| LockReport {
            node: node(n),
            id: LockId(1),
            granted,
            requested,
            token: Token(9),
            owner: OwnerReport {
                pid: 42,
                uid: 0,
                command: "backup".to_owned(),
                orphan_ms: None,
                owner: mainstay_base::Owner::Session,
                broken: None,
            },
            age_ms,
            range: None,
        };
        let resource = ResourceReport {
            lockspace: LockspaceName::new("default").expect("a name"),
            name: ResourceName::new("disk").expect("a name"),
            master: node("n2"),
            recovering: false,
            token: Token(9),
            value: None,
            holders: vec![lock("n1", Some(LockMode::Pr), None, 61_000)],
            converters: vec![lock("n3", Some(LockMode::Cr), Some(LockMode::Ex), 5)],
            waiters: vec![lock("n2", None, Some(LockMode::Ex), 1500)],
        };
        let mut found = vec![resource.clone(), resource.clone(), resource.clone()];
        let mut left = 4;
        assert!(!cut(&mut found, &mut left), "all of them fit");
        assert_eq!((found.len(), left), (3, 1));
        assert!(cut(&mut found, &mut left), "the limit is of what is shown");
        assert_eq!((found.len(), left), (1, 0));
        let report = LocksReport {
            resources: vec![resource],
            ..LocksReport::default()
        };
        let text = render(&report, true);
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "\
RESOURCE      MASTER  ROLE      NODE  PID  USER  MODE   AGE        TOKEN  COMMAND
default/disk  n2      holds     n1    42   0     pr     1 min 1 s  9      backup
                      converts  n3    42   0     cr→ex  5 ms       9      backup
                      waits     n2    42   0     ex     1.5 s      -      backup
"
        );
        let next = anstream::adapter::strip_str(&render(&report, false)).to_string();
        assert!(text.ends_with(&render(&report, false)) && next.starts_with("default/disk"));
    }
}
