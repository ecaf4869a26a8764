//! The attacks of the TUF specification (1.5.2) as a table: what `pump` ended with, one by one.
//!
//! They are mounted by the tests of the command (`pump-cli/tests/upgrade/attacks.rs`), which look at what was
//! run, left and changed; here the same is done to the `pump` of a release build, and what came out is told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::workspace;

/// How a test begins the line of one attack: `attack`, class, attack, exit code.
const ROW: &str = "attack\t";

/// Names the `pump` to look at, for the tests and for who has built one already.
const UNDER_TEST: &str = "PUMP_UNDER_TEST";

/// Mounts every attack on a release build of `pump`. The table, and why not all is well.
///
/// # Errors
/// When nothing could be built or run.
pub(super) fn mount() -> anyhow::Result<(String, Vec<String>)> {
    let cargo = || {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(workspace());
        command
    };
    let program = match std::env::var_os(UNDER_TEST) {
        Some(program) => PathBuf::from(program),
        None => {
            let words = ["build", "--release", "--quiet", "--package", "pump-cli"];
            anyhow::ensure!(cargo().args(words).status()?.success(), "`pump` could not be built");
            let target = std::env::var_os("CARGO_TARGET_DIR")
                .map_or_else(|| workspace().join("target"), PathBuf::from);
            target.join("release/pump")
        }
    };
    let words = ["test", "--quiet", "--package", "pump-cli", "--test", "upgrade", "attack_"];
    let ran = cargo()
        .args(words)
        .args(["--", "--nocapture"])
        .env(UNDER_TEST, std::path::absolute(program)?)
        .stdin(Stdio::null())
        .output()
        .context("could not run the attacks")?;
    let (out, said) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let mut classes: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for row in out.lines().filter_map(|line| line.split_once(ROW)) {
        let mut cells = row.1.split('\t');
        let (class, name, exit) = (cells.next(), cells.next(), cells.next());
        if let (Some(class), Some(name), Some(exit)) = (class, name, exit) {
            classes.entry(class).or_default().push((name, exit));
        }
    }
    let mut table = String::from("exit  attack\n");
    let mut count = 0;
    for (class, rows) in &classes {
        for (name, exit) in rows {
            table.push_str(&format!("{exit:>4}  {class}: {name}\n"));
            count += 1;
        }
    }
    let mut reasons = Vec::new();
    if ran.status.success() && count > 0 {
        table.push_str(&format!(
            "{count} attacks of {} classes: all refused, nothing of theirs was run, nothing was changed",
            classes.len()
        ));
    } else {
        let last: Vec<&str> = said.lines().chain(out.lines()).rev().take(20).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        reasons.push(format!("an attack did not end as it should:\n{}", last.join("\n")));
    }
    Ok((table, reasons))
}
