//! `mainstay lockspace`

use crate::{
    args::Global,
    commands::locks::{lockspace_name, unknown},
    connect::connect,
    exit::{Failure, OK, Outcome},
    output::{self, Table},
};
use clap::{Args, Subcommand};
use mainstay_base::{AccessChange, AccessRule, Compat, Fairness, LockMode, ModeSet, Order, Whom};
use mainstay_wire::report::LockspaceAccess;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum LockspaceCommand {
    /// List lockspaces, with owner, group, mode and rules
    #[command(
        after_help = "Examples:\n  mainstay lockspace list\n  mainstay lockspace list --json | jq -r '.lockspaces[].name'"
    )]
    List,
    /// Create a lockspace that does not exist yet
    Create(CreateArgs),
    /// Change owner, group or mode of a lockspace
    Set(SetArgs),
    /// Say who may lock which names of a lockspace, in which modes
    Rules(RulesArgs),
}

/// What goes with every way to say it.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// The user who owns it, by number; only root and the daemon's user may give it away
    #[arg(long, value_name = "UID")]
    pub(crate) owner: Option<u32>,
    /// Its group, by number; only root and the daemon's user may name one other than their own
    #[arg(long, value_name = "GID")]
    pub(crate) group: Option<u32>,
    /// As of a file, for owner, group and others: 6 all modes, 4 only nl, cr and pr, 0 none
    #[arg(long, value_name = "MODE", value_parser = octal)]
    pub(crate) mode: Option<u16>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A lockspace is also created when it is first opened: owned by who opens it, mode 666, so \
    that everybody may do everything until the owner says otherwise. Order, overtake, min-hold and compat are what \
    they are for as long as the lockspace exists.\n\n\
    With --compat a lockspace is as programs know it that were written for another system. linux: flags without \
    effect are accepted, a cancel that comes too late is answered like any other, the value block is marked whenever \
    a holder of pw or ex dies. vms: names of at most 31 bytes, value blocks of 16 or 64, and only the flags of $ENQ. \
    saf: locks in pr and ex only, without conversions and value blocks; persistent ones stay until they are purged. \
    All of it is in docs/protocol/compat.md.\n\nExamples:\n  \
    mainstay lockspace create vms --mode 660\n  mainstay lockspace create jobs --value-len 64\n  \
    mainstay lockspace create index --order phase-fair --min-hold-ms 20\n  \
    mainstay lockspace create lvm_global --compat linux"
)]
pub(crate) struct CreateArgs {
    /// Its name
    pub(crate) name: String,
    /// Length of its value blocks, in bytes; 32 without this, or 16 with `--compat vms`
    #[arg(long, value_name = "BYTES")]
    pub(crate) value_len: Option<u16>,
    /// In which order what waits for a resource is granted: `fifo`, as it came; `phase-fair`, readers and
    /// writers by turns; `priority`, where each step of a call's priority (0 to 7) counts as 32 arrivals
    #[arg(long, value_name = "ORDER", default_value = "fifo")]
    pub(crate) order: Order,
    /// So many conversions may pass whoever waits foremost; 0 for any number, as in VMS and Linux. 64
    /// without this, or 0 with `--compat vms` or `linux`
    #[arg(long, value_name = "NUMBER")]
    pub(crate) overtake: Option<u8>,
    /// For so many milliseconds after a grant its holder is not told that it is in the way; at most 10000
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(crate) min_hold_ms: u16,
    /// Whose rules it follows where systems differ: `strict`, its own; `linux`, `vms`, or `saf`, the SA
    /// Forum's lock service
    #[arg(long, value_name = "SYSTEM", default_value = "strict")]
    pub(crate) compat: Compat,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// A rule, as for `lockspace rules`; may be given several times
    #[arg(long, value_name = "RULE", value_parser = rule)]
    pub(crate) rule: Vec<AccessRule>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "For the owner, root and the daemon's user. Locks that are held stay.\n\nExamples:\n  \
    mainstay lockspace set vms --mode 640\n  sudo mainstay lockspace set vms --owner 1000 --group 1000"
)]
pub(crate) struct SetArgs {
    /// Its name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A rule is WHOM:PREFIX:MODES. WHOM is `user=UID`, `group=GID` or `all`; PREFIX is how the \
    names begin, and may be empty; MODES are lock modes with commas, or `read` (nl, cr, pr), `all`, `none`. \
    Of the rules that apply to a caller and a name, the one with the longest prefix decides, of those with \
    the same prefix that for a user before that for a group before that for all. Where none applies, the \
    lockspace's mode does. Locks that are held stay. A group is the one with which a process connects; \
    others that it is in do not count.\n\nExamples:\n  \
    mainstay lockspace rules vms\n  \
    mainstay lockspace rules vms --add all:vm-:read --add group=100:vm-:all\n  \
    mainstay lockspace rules vms --clear --add user=1000::none"
)]
pub(crate) struct RulesArgs {
    /// The lockspace
    pub(crate) name: String,
    /// Add a rule; one for the same callers and prefix is replaced
    #[arg(long, value_name = "RULE", value_parser = rule)]
    pub(crate) add: Vec<AccessRule>,
    /// Remove the rule of WHOM:PREFIX
    #[arg(long, value_name = "WHOM:PREFIX", value_parser = subject)]
    pub(crate) remove: Vec<(Whom, Vec<u8>)>,
    /// Remove all rules first
    #[arg(long)]
    pub(crate) clear: bool,
}

fn octal(text: &str) -> Result<u16, String> {
    u16::from_str_radix(text, 8).map_err(|_| format!("`{text}` is no octal number such as 660"))
}

fn subject(text: &str) -> Result<(Whom, Vec<u8>), String> {
    let (whom, prefix) = text
        .split_once(':')
        .ok_or_else(|| format!("`{text}` has no colon between whom and prefix"))?;
    let number = |text: &str| {
        let number = text.parse::<u32>();
        number.map_err(|_| format!("`{text}` is no number of a user or group"))
    };
    let whom = match whom.split_once('=') {
        None if whom == "all" => Whom::All,
        Some(("user", uid)) => Whom::User(number(uid)?),
        Some(("group", gid)) => Whom::Group(number(gid)?),
        _ => return Err(format!("`{whom}` is neither user=UID, group=GID nor all")),
    };
    Ok((whom, prefix.as_bytes().to_vec()))
}

fn rule(text: &str) -> Result<AccessRule, String> {
    let (of, modes) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("`{text}` is not WHOM:PREFIX:MODES"))?;
    let (whom, prefix) = subject(of)?;
    let modes = match modes {
        "all" => ModeSet::ALL,
        "read" => ModeSet::READ,
        "none" => ModeSet::NONE,
        list => list.split(',').try_fold(ModeSet::NONE, |set, word| {
            let mode = LockMode::ALL.into_iter().find(|mode| mode.name() == word);
            let mode = mode.ok_or_else(|| {
                format!(
                    "`{word}` is no lock mode (nl, cr, cw, pr, pw, ex), nor `all`, `read` or `none`"
                )
            })?;
            Ok::<_, String>(set.with(mode))
        })?,
    };
    Ok(AccessRule {
        prefix,
        whom,
        modes,
    })
}

pub(crate) async fn run(global: Global, command: LockspaceCommand) -> Outcome {
    match command {
        LockspaceCommand::List => list(&global).await,
        LockspaceCommand::Create(args) => create(&global, args).await,
        LockspaceCommand::Set(args) => {
            if args.wanted.owner.is_none()
                && args.wanted.group.is_none()
                && args.wanted.mode.is_none()
            {
                let text = "nothing is to be changed: name --owner, --group or --mode";
                return Err(Failure::usage(text.to_owned()));
            }
            let change = change(args.wanted, None)?;
            set(&global, &args.name, change).await
        }
        LockspaceCommand::Rules(args) => rules(&global, args).await,
    }
}

fn change(wanted: Wanted, rules: Option<Vec<AccessRule>>) -> Result<AccessChange, Failure> {
    let change = AccessChange {
        owner: wanted.owner,
        group: wanted.group,
        mode: wanted.mode,
        rules,
        revision: None,
    };
    change
        .check()
        .map_err(|error| Failure::usage(error.to_string()))?;
    Ok(change)
}

async fn all(
    client: &mainstay_client::asynchronous::Client,
) -> Result<Vec<LockspaceAccess>, Failure> {
    let mut found: Vec<LockspaceAccess> = Vec::new();
    loop {
        let after = found.last().map(|last| last.name.clone());
        let (page, more) = client.lockspaces(1000, after).await?;
        found.extend(page);
        if !more {
            return Ok(found);
        }
    }
}

async fn list(global: &Global) -> Outcome {
    let found = all(&connect(global).await?).await?;
    if global.json {
        let spaces: Vec<Value> = found.iter().map(as_json).collect();
        output::json(&json!({ "lockspaces": spaces }))?;
    } else {
        output::print(&render(&found));
    }
    Ok(OK)
}

async fn create(global: &Global, args: CreateArgs) -> Outcome {
    let name = lockspace_name(&args.name)?;
    let change = change(args.wanted, Some(args.rule))?;
    let fairness = Fairness {
        order: args.order,
        overtake: args.overtake.unwrap_or(args.compat.fairness().overtake),
        min_hold_ms: args.min_hold_ms,
    };
    let client = connect(global).await?;
    let made = client
        .create_lockspace(name, args.value_len, change, fairness, args.compat)
        .await?;
    show(global, &made)
}

async fn set(global: &Global, name: &str, change: AccessChange) -> Outcome {
    let name = lockspace_name(name)?;
    let client = connect(global).await?;
    let set = client.set_lockspace(name.clone(), change).await;
    show(global, &set.map_err(|error| unknown(error, Some(&name)))?)
}

async fn rules(global: &Global, args: RulesArgs) -> Outcome {
    let name = lockspace_name(&args.name)?;
    let client = connect(global).await?;
    let found = all(&client).await?.into_iter().find(|l| l.name == name);
    let missing = || {
        unknown(
            mainstay_client::Refusal::NoSuchLockspace.into(),
            Some(&name),
        )
    };
    let lockspace = found.ok_or_else(missing)?;
    if args.add.is_empty() && args.remove.is_empty() && !args.clear {
        return show(global, &lockspace);
    }
    let mut rules = lockspace.access.rules;
    if args.clear {
        rules.clear();
    }
    for gone in &args.remove {
        let before = rules.len();
        rules.retain(|rule| (rule.whom, &rule.prefix) != (gone.0, &gone.1));
        if rules.len() == before {
            let text = format!("lockspace {name} has no rule {}", of(gone.0, &gone.1));
            return Err(Failure::new(crate::exit::NOT_FOUND, text));
        }
    }
    for added in args.add {
        rules.retain(|rule| (rule.whom, &rule.prefix) != (added.whom, &added.prefix));
        rules.push(added);
    }
    let change = AccessChange {
        rules: Some(rules),
        revision: Some(lockspace.access.revision),
        ..AccessChange::default()
    };
    change
        .check()
        .map_err(|error| Failure::usage(error.to_string()))?;
    set(global, &args.name, change).await
}

fn show(global: &Global, lockspace: &LockspaceAccess) -> Outcome {
    if global.json {
        output::json(&as_json(lockspace))?;
    } else {
        output::print(&render(std::slice::from_ref(lockspace)));
    }
    Ok(OK)
}

fn of(whom: Whom, prefix: &[u8]) -> String {
    let whom = match whom {
        Whom::All => "all".to_owned(),
        Whom::User(uid) => format!("user={uid}"),
        Whom::Group(gid) => format!("group={gid}"),
    };
    format!("{whom}:{}", String::from_utf8_lossy(prefix))
}

fn modes(set: ModeSet) -> String {
    match set {
        ModeSet::ALL => "all".to_owned(),
        ModeSet::READ => "read".to_owned(),
        ModeSet::NONE => "none".to_owned(),
        set => set
            .modes()
            .map(LockMode::name)
            .collect::<Vec<_>>()
            .join(","),
    }
}

fn as_json(lockspace: &LockspaceAccess) -> Value {
    let access = &lockspace.access;
    let rules = access.rules.iter().map(|rule| {
        json!({
            "rule": format!("{}:{}", of(rule.whom, &rule.prefix), modes(rule.modes)),
            "whom": rule.whom,
            "prefix": String::from_utf8_lossy(&rule.prefix),
            "modes": rule.modes.modes().map(LockMode::name).collect::<Vec<_>>(),
        })
    });
    json!({
        "id": lockspace.id,
        "name": lockspace.name,
        "value_len": value_len(lockspace),
        "owner": access.owner,
        "group": access.group,
        "mode": format!("{:03o}", access.mode),
        "rules": rules.collect::<Vec<_>>(),
        "order": lockspace.fairness.order.name(),
        "overtake": lockspace.fairness.overtake,
        "min_hold_ms": lockspace.fairness.min_hold_ms,
        "compat": lockspace.compat.name(),
    })
}

/// How long its value blocks are, if it has any.
fn value_len(lockspace: &LockspaceAccess) -> Option<u16> {
    Some(lockspace.value_len).filter(|_| lockspace.compat != Compat::Saf)
}

fn render(lockspaces: &[LockspaceAccess]) -> String {
    let mut table = Table::new([
        "LOCKSPACE",
        "VALUE",
        "OWNER",
        "GROUP",
        "MODE",
        "ORDER",
        "OVERTAKE",
        "MIN HOLD",
        "COMPAT",
        "RULES",
    ]);
    for lockspace in lockspaces {
        let access = &lockspace.access;
        let mut rules = access
            .rules
            .iter()
            .map(|rule| format!("{}:{}", of(rule.whom, &rule.prefix), modes(rule.modes)));
        table.row([
            lockspace.name.to_string(),
            value_len(lockspace).map_or_else(|| "-".to_owned(), |len| len.to_string()),
            access.owner.to_string(),
            access.group.to_string(),
            format!("{:03o}", access.mode),
            lockspace.fairness.order.to_string(),
            match lockspace.fairness.overtake {
                0 => "any".to_owned(),
                most => most.to_string(),
            },
            match lockspace.fairness.min_hold_ms {
                0 => "-".to_owned(),
                ms => format!("{ms} ms"),
            },
            lockspace.compat.to_string(),
            rules.next().unwrap_or_else(|| "-".to_owned()),
        ]);
        for rule in rules {
            let none = String::new;
            let mut row = [(); 10].map(|()| none());
            row[9] = rule;
            table.row(row);
        }
    }
    if table.is_empty() {
        return "no lockspaces\n".to_owned();
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects rules on the command line: what is printed can be given again, and what is wrong is
    /// named.
    #[test]
    fn rules_are_read_as_they_are_printed() {
        for text in [
            "all::none",
            "user=1000:vm-:all",
            "group=5:a:b:read",
            "all:x:nl,ex",
        ] {
            let read = rule(text).expect(text);
            let printed = format!("{}:{}", of(read.whom, &read.prefix), modes(read.modes));
            assert_eq!(printed, text);
        }
        for (text, said) in [
            ("all", "is not WHOM:PREFIX:MODES"),
            ("me:x:all", "`me` is neither"),
            ("user=me:x:all", "`me` is no number"),
            ("all:x:write", "`write` is no lock mode"),
        ] {
            let error = rule(text).expect_err(text);
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(octal("640"), Ok(0o640));
        assert!(octal("9").is_err());
    }
}
