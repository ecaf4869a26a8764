//! What `docs/ARCHITECTURE.md` says is absent, compared with the tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The floors of the drawing, from the top. What a crate leans on stands on a floor below its own.
const FLOORS: &[&[&str]] = &[
    &["xtask"],
    &["pump-cli", "pumpd"],
    &["pump-test", "pump-repository", "pump-http"],
    &["pump-store"],
    &["pump-release", "pump-control", "pump-activity"],
    &["pump-model"],
];

/// Who alone may lean on what.
const FENCES: &[(&str, &[&str])] = &[
    ("rusqlite", &["pump-store"]),
    ("axum", &["pump-http"]),
    ("tough", &["pump-cli", "pump-repository"]),
    ("pump-store", &["pumpd", "pump-http", "xtask"]),
    ("dialoguer", &["pump-cli"]),
];

/// The files that may be `unsafe`: inherited descriptors, the way back out of an exec, what is so
/// between fork and exec, what tests try from within a process, who asks over the control socket, and the demo's handler for Ctrl-C.
const UNSAFE: &[&str] = &[
    "pumpd/src/inherit.rs",
    "pumpd/src/guard.rs",
    "pumpd/src/faults/attempts.rs",
    "pumpd/src/master/child.rs",
    "pumpd/src/master/control/peer.rs",
    "pump-cli/src/service.rs",
    "crates/xtask/src/demo/place.rs",
];

fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("xtask lies two folders below the workspace").to_owned()
}

/// Each crate with what it leans on when it is built, tests aside.
fn crates() -> Vec<(String, Vec<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(workspace())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let names = |package: &Value| {
        let all = package["dependencies"].as_array().cloned().unwrap_or_default();
        let built = all.into_iter().filter(|one| one["kind"].is_null());
        built.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
    };
    let packages = metadata["packages"].as_array().expect("packages").iter();
    packages.map(|one| (one["name"].as_str().expect("a name").to_owned(), names(one))).collect()
}

#[test]
fn arrows_run_down_only() {
    let floor = |name: &str| FLOORS.iter().position(|floor| floor.contains(&name));
    for (name, leans_on) in crates() {
        let own = floor(&name).unwrap_or_else(|| panic!("`{name}` has no floor in the drawing"));
        for below in leans_on {
            if let Some(other) = floor(&below) {
                assert!(other > own, "`{name}` leans on `{below}`, which does not stand below it");
            }
        }
    }
}

#[test]
fn what_is_fenced_stays_fenced() {
    for (name, leans_on) in crates() {
        for (fenced, allowed) in FENCES {
            let leans = leans_on.iter().any(|one| one == fenced);
            assert!(!leans || allowed.contains(&name.as_str()), "`{name}` leans on `{fenced}`");
        }
    }
}

/// The files that git tracks, with their text.
fn sources(ending: &str) -> Vec<(String, String)> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(workspace())
        .output()
        .expect("git runs");
    let names = String::from_utf8(output.stdout).expect("names are UTF-8");
    let names = names.split('\0').filter(|name| name.ends_with(ending));
    let read =
        |name: &str| Some((name.to_owned(), fs::read_to_string(workspace().join(name)).ok()?));
    names.filter_map(read).collect()
}

#[test]
fn unsafe_has_few_doors() {
    for (name, text) in sources(".rs") {
        let opens =
            |line: &str| line.contains("(unsafe_code") && line.trim_start().starts_with('#');
        let opens = text.lines().any(opens);
        assert!(!opens || UNSAFE.contains(&name.as_str()), "`{name}` allows unsafe code");
    }
}

#[test]
fn every_decision_stands_once_and_in_order() {
    let mut names: Vec<String> = sources(".md").into_iter().map(|(name, _)| name).collect();
    names.retain(|name| name.starts_with("docs/decisions/"));
    let numbers: Vec<&str> = names.iter().filter_map(|name| name.get(15..19)).collect();
    let want: Vec<String> = (1..=numbers.len()).map(|number| format!("{number:04}")).collect();
    assert_eq!(numbers, want, "docs/decisions is numbered without gaps");
}

#[test]
fn the_document_has_every_exit_code_with_its_meaning() {
    let text = fs::read_to_string(workspace().join("docs/UPGRADING.md")).expect("it is there");
    let (_, section) = text.split_once("\n## Exit codes\n").expect("it has them in a section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).collect();
    for (status, meaning) in pump_control::ExitStatus::TABLE {
        let row = format!("| {} | {meaning} |", status.code());
        assert!(rows.contains(&row.as_str()), "`{row}` is not in docs/UPGRADING.md");
    }
    assert_eq!(rows.len(), pump_control::ExitStatus::TABLE.len() + 1, "and no other");
}
