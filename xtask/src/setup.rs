//! What the tests need beyond Rust itself.

use crate::run::{cargo, run, works};
use anyhow::Result;
use std::process::{Command, ExitCode};

/// The release of cargo-deny that deny.toml is written for.
const CARGO_DENY: &str = "0.20.2";

/// Something that has to be there.
struct Need {
    what: &'static str,
    why: &'static str,
    there: fn() -> bool,
    mend: Mend,
}

enum Mend {
    /// A Debian package.
    Package(&'static str),
    /// A component of the Rust toolchain.
    Component(&'static str),
    /// A cargo command, built from source.
    Cargo(&'static str, &'static str),
}

const NEEDS: [Need; 6] = [
    Need {
        what: "rustfmt",
        why: "the step `format`",
        there: || works("cargo", &["fmt", "--version"]),
        mend: Mend::Component("rustfmt"),
    },
    Need {
        what: "clippy",
        why: "the step `lints`",
        there: || works("cargo", &["clippy", "--version"]),
        mend: Mend::Component("clippy"),
    },
    Need {
        what: "a C compiler",
        why: "ring, the library of the transport's ciphers",
        there: || works("cc", &["--version"]),
        mend: Mend::Package("build-essential"),
    },
    Need {
        what: "ip",
        why: "the step `faults`: cutting links with network namespaces",
        there: || works("ip", &["-V"]),
        mend: Mend::Package("iproute2"),
    },
    Need {
        what: "crm_simulate",
        why: "the step `units`: comparing the policy engine with its reference",
        there: || works("crm_simulate", &["--version"]),
        mend: Mend::Package("pacemaker-cli-utils"),
    },
    Need {
        what: "cargo-deny",
        why: "the step `licences`",
        there: has_cargo_deny,
        mend: Mend::Cargo("cargo-deny", CARGO_DENY),
    },
];

/// Whether licences can be checked.
pub(crate) fn has_cargo_deny() -> bool {
    works("cargo", &["deny", "--version"])
}

/// Whether network namespaces can be made.
pub(crate) fn can_cut_links() -> bool {
    is_root() && works("ip", &["-V"])
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Installs what is missing, or says how it can be installed.
pub(crate) fn setup() -> Result<ExitCode> {
    let mut missing = 0;
    let mut updated = false;
    for need in NEEDS {
        if (need.there)() {
            println!("{:14} there", need.what);
            continue;
        }
        println!("{:14} missing, needed for {}", need.what, need.why);
        if let Err(error) = mend(&need.mend, &mut updated) {
            println!("{:14} cannot be installed: {error:#}", "");
        }
        if !(need.there)() {
            missing += 1;
            println!("{:14} to mend: {}", "", by_hand(&need.mend));
        }
    }
    if !is_root() {
        println!("Without root, the tests that cut links between network namespaces are skipped.");
    }
    if missing == 0 {
        println!("Everything is there. `cargo xtask test` runs all tests.");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{missing} missing.");
    Ok(if crate::is_ci() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn mend(mend: &Mend, updated: &mut bool) -> Result<()> {
    match mend {
        Mend::Package(package) if is_root() => {
            if !*updated {
                run(apt(&["update", "-q"]))?;
                *updated = true;
            }
            run(apt(&[
                "install",
                "-q",
                "-y",
                "--no-install-recommends",
                package,
            ]))
        }
        Mend::Package(_) => anyhow::bail!("installing Debian packages takes root"),
        Mend::Component(component) => {
            let mut rustup = Command::new("rustup");
            rustup.args(["component", "add", component]);
            run(rustup)
        }
        Mend::Cargo(name, version) => {
            run(cargo(["install", "--locked", name, "--version", version]))
        }
    }
}

fn by_hand(mend: &Mend) -> String {
    match mend {
        Mend::Package(package) => format!("apt-get install {package}"),
        Mend::Component(component) => format!("rustup component add {component}"),
        Mend::Cargo(name, version) => format!("cargo install --locked {name} --version {version}"),
    }
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}
