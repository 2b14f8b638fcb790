//! What a release consists of.

use crate::run::{cargo, run};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    let root = crate::root();
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root.join(dir),
        None => root.join("target"),
    }
}

/// The release binary.
pub(crate) fn binary() -> PathBuf {
    target_dir().join("release/mainstay")
}

/// Builds the release binary.
pub(crate) fn build() -> Result<()> {
    run(cargo([
        "build",
        "--locked",
        "--release",
        "--package",
        "mainstay-cli",
    ]))
}

pub(crate) fn dist() -> Result<ExitCode> {
    build()?;
    let dist = target_dir().join("dist");
    if dist.exists() {
        fs::remove_dir_all(&dist).with_context(|| format!("cannot empty {}", dist.display()))?;
    }
    let bin = dist.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
    let to = bin.join("mainstay");
    fs::copy(binary(), &to).with_context(|| format!("cannot write {}", to.display()))?;

    generate(&["man", "--dir"], &dist.join("man/man1"))?;
    for (shell, file) in [
        ("bash", "bash-completion/completions/mainstay"),
        ("zsh", "zsh/site-functions/_mainstay"),
        ("fish", "fish/vendor_completions.d/mainstay.fish"),
    ] {
        let mut command = Command::new(binary());
        let output = command
            .args(["completions", shell])
            .output()
            .context("the release binary does not start")?;
        if !output.status.success() {
            bail!("`mainstay completions {shell}` failed: {}", output.status);
        }
        let path = dist.join("share").join(file);
        fs::create_dir_all(path.parent().unwrap_or(&dist))?;
        fs::write(&path, output.stdout)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{}", dist.display());
    Ok(ExitCode::SUCCESS)
}

fn generate(arguments: &[&str], dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut command = Command::new(binary());
    command.args(arguments).arg(dir);
    run(command)
}
