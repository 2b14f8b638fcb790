//! The command line as it is understood.

use super::*;
use clap::{CommandFactory as _, error::ErrorKind};
use mainstay_base::LockMode;
use std::time::Duration;

fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from([&["mainstay"], words].concat())
}

fn lock(words: &[&str]) -> commands::lock::LockArgs {
    match parse(words).expect("understood").command {
        Command::Lock(args) => args,
        other => panic!("{other:?}"),
    }
}

/// Protects against contradictions in the description itself.
#[test]
fn the_description_is_sound() {
    Cli::command().debug_assert();
}

/// Protects newcomers: every command that people see shows how it is used.
#[test]
fn every_command_has_examples() {
    fn check(command: &clap::Command, path: &str) {
        for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            let path = format!("{path} {}", sub.get_name());
            let help = sub.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            assert!(
                help.contains("Example") && help.contains("mainstay "),
                "{path}: {help}"
            );
            assert!(sub.get_about().is_some(), "{path} says what it does");
            check(sub, &path);
        }
    }
    check(&Cli::command(), "mainstay");
}

/// Protects `lock`'s likeness to flock(1): what follows `--` is the command, untouched.
#[test]
fn lock_takes_its_command_verbatim() {
    let args = lock(&["lock", "disk", "--", "sh", "-c", "exit 3", "--try"]);
    assert_eq!(args.names, ["disk"]);
    assert_eq!(args.command, ["sh", "-c", "exit 3", "--try"]);
    assert_eq!(args.mode, LockMode::Ex);
    assert!(!args.acquire.try_lock);
    assert_eq!(args.acquire.wait, None);
    assert_eq!(args.acquire.conflict_exit_code, 1);
    assert_eq!(args.acquire.place.lockspace, "default");
    assert_eq!(args.grace, Duration::from_millis(500));

    let args = lock(&[
        "lock",
        "--mode",
        "PR",
        "--wait",
        "1.5",
        "--lockspace",
        "vms",
        "--conflict-exit-code",
        "99",
        "disk",
        "--",
        "true",
    ]);
    assert_eq!(args.mode, LockMode::Pr);
    assert_eq!(args.acquire.wait, Some(Duration::from_millis(1500)));
    assert_eq!(args.acquire.conflict_exit_code, 99);
    assert_eq!(args.acquire.place.lockspace, "vms");
}

/// Protects against running something under no lock, or under another than was meant.
#[test]
fn wrong_lock_calls_are_refused() {
    for words in [
        &["lock", "disk"][..],
        &["lock", "disk", "--"],
        &["lock", "disk", "true"],
        &["lock", "--try", "--wait", "1", "disk", "--", "true"],
        &["lock", "--wait", "-1", "disk", "--", "true"],
        &["lock", "--wait", "NaN", "disk", "--", "true"],
        &["lock", "--mode", "xx", "disk", "--", "true"],
        &["lock", "--conflict-exit-code", "256", "disk", "--", "true"],
    ] {
        assert!(parse(words).is_err(), "{words:?}");
    }
    let error = parse(&["lock", "--mode", "xx", "disk", "--", "true"]).expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("use one of nl, cr, cw, pr, pw, ex"),
        "{error}"
    );
}

/// Protects the selection of the daemon: the option works before and after the command.
#[test]
fn the_socket_is_a_global_option() {
    for words in [
        &["--socket", "/x.sock", "status", "--json"][..],
        &["status", "--json", "--socket", "/x.sock"],
    ] {
        let cli = parse(words).expect("understood");
        assert_eq!(cli.global.socket, PathBuf::from("/x.sock"));
        assert!(cli.global.json);
    }
}

/// Protects `dev`'s commands, which share its --dir.
#[test]
fn dev_commands_share_the_directory() {
    let cli = parse(&["dev", "partition", "n1", "n2", "--dir", "/d"]).expect("understood");
    let Command::Dev(args) = cli.command else {
        panic!("not dev");
    };
    assert_eq!(args.dir, Some(PathBuf::from("/d")));
    assert!(matches!(
        args.command,
        Some(dev::DevCommand::Partition { nodes }) if nodes == ["n1", "n2"]
    ));
    assert!(parse(&["dev", "--detach", "--demo"]).is_err());
    assert!(parse(&["dev", "--nodes", "0"]).is_err());
    assert!(parse(&["dev", "kill"]).is_err(), "kill needs a node");
}

/// Protects exit codes: help and version are no errors.
#[test]
fn help_is_no_error() {
    for (words, kind) in [
        (&["--help"][..], ErrorKind::DisplayHelp),
        (&["lock", "--help"], ErrorKind::DisplayHelp),
        (&["--version"], ErrorKind::DisplayVersion),
    ] {
        let error = parse(words).expect_err("an answer");
        assert_eq!(error.kind(), kind);
        assert!(!error.use_stderr());
    }
}

/// Protects the hidden part: it is neither listed nor completed as a command for people.
#[test]
fn the_proxy_is_hidden() {
    let help = Cli::command().render_help().to_string();
    assert!(!help.contains("dev-proxy"), "{help}");
    assert!(
        help.contains("vouch") && help.contains("MAINSTAY_SOCKET"),
        "{help}"
    );
}
