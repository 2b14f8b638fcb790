//! `mainstay locks` and `mainstay why`

use crate::{
    args::Global,
    connect::connect,
    exit::{Failure, NOT_FOUND, OK, Outcome},
    output::{self, FAINT, GOOD, ODD, Table, paint, span},
};
use clap::Args;
use mainstay_base::{LockspaceName, ResourceName};
use mainstay_client::{LockError, Refusal};
use mainstay_wire::report::{LockReport, LocksReport, ResourceReport};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mainstay locks\n  mainstay locks 'vm-*'\n  \
    mainstay locks --lockspace default --json"
)]
pub(crate) struct LocksArgs {
    /// Only resources whose name matches; `*` and `?` as in the shell
    pub(crate) pattern: Option<String>,
    /// Only resources in this lockspace
    #[arg(long, value_name = "NAME")]
    pub(crate) lockspace: Option<String>,
    /// Show at most so many resources
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
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

/// A resource's name from the command line.
pub(crate) fn resource_name(text: &str) -> Result<ResourceName, Failure> {
    ResourceName::new(text.as_bytes()).map_err(|error| Failure::usage(error.to_string()))
}

pub(crate) async fn locks(global: Global, args: LocksArgs) -> Outcome {
    let lockspace = args.lockspace.as_deref().map(lockspace_name).transpose()?;
    let client = connect(&global).await?;
    let report = client
        .locks(lockspace.clone(), args.pattern, args.limit)
        .await
        .map_err(|error| unknown(error, lockspace.as_ref()))?;
    if global.json {
        output::json(&report)?;
        return Ok(OK);
    }
    output::print(&render(&report));
    if report.truncated {
        output::note(format_args!(
            "there are more than {} such resources; raise --limit or narrow the pattern",
            args.limit
        ));
    }
    if !report.silent.is_empty() {
        let names: Vec<String> = report.silent.iter().map(ToString::to_string).collect();
        output::note(format_args!(
            "no answer from {}: what is mastered there is missing",
            names.join(", ")
        ));
    }
    Ok(OK)
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

fn render(report: &LocksReport) -> String {
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
            add(paint(GOOD, "holds"), Some(lock));
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
    if table.is_empty() {
        return "no resources\n".to_owned();
    }
    table.render()
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
        lock.owner.command.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{LockId, LockMode, NodeName, Token};
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
            },
            age_ms,
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
        let report = LocksReport {
            resources: vec![resource],
            ..LocksReport::default()
        };
        let text = render(&report);
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "\
RESOURCE      MASTER  ROLE      NODE  PID  USER  MODE   AGE        TOKEN  COMMAND
default/disk  n2      holds     n1    42   0     pr     1 min 1 s  9      backup
                      converts  n3    42   0     cr→ex  5 ms       9      backup
                      waits     n2    42   0     ex     1.5 s      -      backup
"
        );
        assert_eq!(render(&LocksReport::default()), "no resources\n");
    }
}
