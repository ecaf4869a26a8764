//! Programs of others that the chores run.

use std::process::{Command, Stdio};

use anyhow::Context;

/// How many lines of what a program said last are told when it fails.
const LAST_LINES: usize = 30;

/// What a program prints, when it succeeds.
///
/// # Errors
/// With the last it said, when it does not.
pub(crate) fn said(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not run `{program}`"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = error.lines().rev().take(LAST_LINES).collect();
    anyhow::ensure!(
        output.status.success(),
        "`{program}` ended with {}:\n{}",
        output.status,
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
