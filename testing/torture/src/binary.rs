//! The program under test.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The `mainstay` program: what the environment variable `MAINSTAY_BIN` names, or one built from
/// this source tree; optimised, if it was ever built optimised.
///
/// # Panics
/// If it cannot be built.
pub fn mainstay() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("MAINSTAY_BIN") {
        Some(path) => {
            let path = std::path::absolute(path).expect("MAINSTAY_BIN is a path");
            assert!(
                path.is_file(),
                "MAINSTAY_BIN names {}, which is no file",
                path.display()
            );
            path
        }
        None => build(),
    })
}

fn build() -> PathBuf {
    // A test lies in TARGET/PROFILE/deps.
    let this = std::env::current_exe().expect("this program has a path");
    let target = this
        .ancestors()
        .nth(3)
        .expect("a test lies in a target directory");
    let release = target.join("release/mainstay");
    let (profile, binary) = if release.exists() {
        ("release", release)
    } else {
        ("dev", target.join("debug/mainstay"))
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "mainstay-cli"])
        .args(["--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo starts");
    assert!(status.success(), "`mainstay` cannot be built: {status}");
    binary
}
