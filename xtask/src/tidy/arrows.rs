//! Which crate may use which.

use super::{File, Finding, Tree};
use toml::Table;

/// Our crates by folder, in the direction of the arrows, and those of ours that each may use.
/// `core/` never uses `shell/` or `testing/`; `shell/` never uses `testing/`.
const ARROWS: &[(&str, &[&str])] = &[
    ("core/base", &[]),
    ("core/wire", &["base"]),
    ("core/journal", &["base"]),
    ("core/link", &["base"]),
    ("core/consensus", &["base"]),
    ("core/lock", &["base"]),
    ("core/cib", &["base"]),
    ("core/policy", &["base", "cib"]),
    ("core/recorder", &["base", "wire"]),
    ("core/fencing", &["base", "wire"]),
    ("core/membership", &["base", "wire", "fencing"]),
    (
        "core/dlm",
        &["base", "wire", "recorder", "fencing", "membership", "lock"],
    ),
    (
        "core/node",
        &[
            "base",
            "wire",
            "link",
            "consensus",
            "recorder",
            "fencing",
            "membership",
            "dlm",
        ],
    ),
    ("shell/lease", &["base"]),
    ("shell/transport", &["base"]),
    ("shell/store", &["base", "journal"]),
    ("shell/client", &["base", "wire", "lock", "lease"]),
    (
        "shell/daemon",
        &[
            "base",
            "wire",
            "journal",
            "recorder",
            "node",
            "lease",
            "transport",
            "store",
        ],
    ),
    (
        "shell/cli",
        &[
            "base", "wire", "recorder", "cib", "policy", "client", "daemon",
        ],
    ),
    (
        "testing/sim",
        &["base", "wire", "journal", "recorder", "node"],
    ),
    ("testing/mutants", &["base", "sim"]),
    (
        "testing/torture",
        &["base", "wire", "recorder", "lease", "client"],
    ),
    ("testing/compare", &["client"]),
    ("testing/scheduler", &["base", "cib", "policy"]),
    ("testing/policy-mutants", &["base", "policy", "scheduler"]),
    ("testing/reference", &["base", "wire", "lock"]),
    (
        "testing/fuzz",
        &[
            "base",
            "wire",
            "reference",
            "journal",
            "link",
            "cib",
            "consensus",
            "recorder",
            "fencing",
            "membership",
            "node",
            "transport",
            "store",
            "client",
            "daemon",
        ],
    ),
    ("xtask", &[]),
];

/// What of other people's work the core may build on: data structures, codecs, and the Raft library
/// with what it forces on its user.
const CORE_LIBRARIES: &[&str] = &[
    "arrayvec",
    "crc32c",
    "foldhash",
    "hashbrown",
    "postcard",
    "serde",
    "smallvec",
    "thin-vec",
    "thiserror",
];
const CORE_LIBRARIES_OF_ONE: &[(&str, &[&str])] = &[
    ("core/cib", &["roxmltree"]),
    ("core/consensus", &["raft", "slog"]),
    ("core/policy", &["regex"]),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree
        .files
        .iter()
        .filter(|f| f.path.ends_with("/Cargo.toml"))
    {
        let folder = file.path.trim_end_matches("/Cargo.toml");
        if folder == "testing/fuzz/libfuzzer" {
            continue; // A workspace of its own, for a nightly compiler.
        }
        match file.text.parse::<Table>() {
            Ok(manifest) => one(file, folder, &manifest, &mut findings),
            Err(error) => {
                let what = format!("the manifest cannot be read: {}", error.message());
                findings.push(file.finding(1, "manifest", what, "write valid TOML"));
            }
        }
    }
    findings
}

fn one(file: &File, folder: &str, manifest: &Table, findings: &mut Vec<Finding>) {
    let Some((_, ours)) = ARROWS.iter().find(|(name, _)| *name == folder) else {
        let what = format!("the crate {folder} is not in the table of arrows");
        let mend = "enter it in xtask/src/tidy/arrows.rs, with what it may use and no more";
        findings.push(file.finding(1, "arrows", what, mend));
        return;
    };
    let described = manifest
        .get("package")
        .and_then(|p| p.get("description"))
        .and_then(|d| d.as_str())
        .is_some_and(|d| !d.trim().is_empty());
    if !described {
        let what = "the crate has no description".to_owned();
        findings.push(file.finding(1, "manifest", what, "say in one line what it is for"));
    }
    let lints = manifest.get("lints").and_then(|l| l.get("workspace"));
    if lints.and_then(|l| l.as_bool()) != Some(true) {
        let what = "the crate does not use the workspace's lints".to_owned();
        findings.push(file.finding(1, "manifest", what, "add `[lints]` with `workspace = true`"));
    }
    for name in names(manifest, "dependencies").chain(names(manifest, "build-dependencies")) {
        used(file, folder, ours, name, findings);
    }
    known_bugs(file, folder, manifest, findings);
    for name in names(manifest, "dev-dependencies") {
        if let Some(crate_of_ours) = name.strip_prefix("mainstay-") {
            dev_used(file, folder, crate_of_ours, findings);
        }
    }
}

fn names<'a>(manifest: &'a Table, section: &str) -> impl Iterator<Item = &'a str> {
    let table = manifest.get(section).and_then(|t| t.as_table());
    table.into_iter().flat_map(|t| t.keys().map(String::as_str))
}

/// The feature that builds known bugs in; cargo unites features of what is built together, so it is
/// asked for in one crate, which is built apart from the rest.
fn known_bugs(file: &File, folder: &str, manifest: &Table, findings: &mut Vec<Finding>) {
    if matches!(folder, "testing/mutants" | "testing/policy-mutants") {
        return;
    }
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let table = manifest.get(section).and_then(|t| t.as_table());
        for (name, dependency) in table.into_iter().flatten() {
            let features = dependency.get("features").and_then(|f| f.as_array());
            let mutants = features.is_some_and(|f| f.iter().any(|f| f.as_str() == Some("mutants")));
            if mutants {
                let what = format!("{folder} builds known bugs into {name}");
                let mend = "take the feature `mutants` out; only testing/mutants and testing/policy-mutants ask for it";
                findings.push(file.finding(line_of(file, name), "arrows", what, mend));
            }
        }
    }
}

fn used(file: &File, folder: &str, ours: &[&str], name: &str, findings: &mut Vec<Finding>) {
    let line = line_of(file, name);
    if let Some(crate_of_ours) = name.strip_prefix("mainstay-") {
        if !ours.contains(&crate_of_ours) {
            let what = format!("{folder} must not know {name}; it may use {ours:?}");
            let mend =
                "turn the arrow: pass what is needed in from above, or move the shared part down";
            findings.push(file.finding(line, "arrows", what, mend));
        }
    } else if folder.starts_with("core/") {
        let of_one = CORE_LIBRARIES_OF_ONE.iter().find(|(f, _)| *f == folder);
        let allowed = CORE_LIBRARIES.contains(&name)
            || of_one.is_some_and(|(_, libraries)| libraries.contains(&name));
        if !allowed {
            let what =
                format!("{folder} uses the library {name}, which the core does not build on");
            let mend = "do it in the shell; or, if it is pure and worth it, enter it in \
                        xtask/src/tidy/arrows.rs and say why in docs/decisions/";
            findings.push(file.finding(line, "arrows", what, mend));
        }
    }
}

/// Tests may look around, but not up into another folder.
fn dev_used(file: &File, folder: &str, crate_of_ours: &str, findings: &mut Vec<Finding>) {
    let home = |folder: &str| match folder.split('/').next() {
        Some("core") => 0,
        Some("shell") => 1,
        _ => 2,
    };
    let used = ARROWS
        .iter()
        .find(|(name, _)| name.rsplit('/').next() == Some(crate_of_ours));
    if used.is_some_and(|(used, _)| home(used) > home(folder)) {
        let name = format!("mainstay-{crate_of_ours}");
        let what = format!("tests of {folder} use {name}");
        let mend = "move the test to the crate that may know both";
        findings.push(file.finding(line_of(file, &name), "arrows", what, mend));
    }
}

fn line_of(file: &File, name: &str) -> usize {
    let line = file
        .text
        .lines()
        .position(|l| l.trim_start().starts_with(name));
    line.map_or(1, |line| line + 1)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::tree, *};

    fn found(path: &str, dependencies: &str) -> Vec<String> {
        let text =
            format!("[package]\ndescription = \"x\"\n[lints]\nworkspace = true\n{dependencies}");
        check(&tree(&[(path, &text)]))
            .into_iter()
            .map(|f| f.what)
            .collect()
    }

    /// Protects the order of the layers.
    #[test]
    fn arrows_point_down() {
        let good = "[dependencies]\nmainstay-base.workspace = true\nserde.workspace = true\n";
        assert!(found("core/lock/Cargo.toml", good).is_empty());
        let up = "[dependencies]\nmainstay-node.workspace = true\n";
        assert_eq!(found("core/lock/Cargo.toml", up).len(), 1);
        assert_eq!(found("core/new/Cargo.toml", good).len(), 1);
    }

    /// Protects the core from libraries that read clocks or sockets.
    #[test]
    fn the_core_chooses_its_libraries() {
        let tokio = "[dependencies]\ntokio.workspace = true\n";
        assert_eq!(found("core/dlm/Cargo.toml", tokio).len(), 1);
        assert!(found("shell/daemon/Cargo.toml", tokio).is_empty());
        let raft = "[dependencies]\nraft.workspace = true\n";
        assert!(found("core/consensus/Cargo.toml", raft).is_empty());
        assert_eq!(found("core/dlm/Cargo.toml", raft).len(), 1);
    }

    /// Protects products from the bugs that the mutant tests build in.
    #[test]
    fn known_bugs_stay_apart() {
        let bugs =
            "[dependencies]\nmainstay-base = { workspace = true, features = [\"mutants\"] }\n";
        assert_eq!(found("testing/sim/Cargo.toml", bugs).len(), 1);
        assert!(found("testing/mutants/Cargo.toml", bugs).is_empty());
    }

    /// Protects the table: what a crate may use stands above it, so there are no circles.
    #[test]
    fn the_table_has_no_circles() {
        for (index, (folder, ours)) in ARROWS.iter().enumerate() {
            for used in *ours {
                let above = ARROWS[..index]
                    .iter()
                    .any(|(f, _)| f.rsplit('/').next() == Some(used));
                assert!(above, "{folder} uses {used}, which does not stand above it");
            }
        }
    }
}
