//! How exposed systemd finds the unit.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::workspace;

/// What `systemd-analyze security` says of the unit with the answers of a usual installation filled
/// in, as in `1.1 OK`. None where there is no systemd. The tests on booted machines ask it of the unit
/// that is installed.
///
/// # Errors
/// When the unit cannot be read or is not understood.
pub(super) fn exposure(folder: &Path) -> anyhow::Result<Option<String>> {
    let template = workspace().join("systemd/pumpd.service.in");
    let template = fs::read_to_string(&template)
        .with_context(|| format!("could not read `{}`", template.display()))?;
    let unit = folder.join("pumpd.service");
    fs::write(&unit, template.replace("@STOP_SECONDS@", "90").replace("@WRITABLE@", ""))?;
    let asked = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=yes"])
        .arg(&unit)
        .output();
    let Ok(asked) = asked else { return Ok(None) };
    let said = String::from_utf8_lossy(&asked.stdout);
    let level = said.lines().find_map(|line| {
        let (_, level) = line.split_once("Overall exposure level for pumpd.service:")?;
        Some(level.trim().to_owned())
    });
    Ok(Some(level.context("`systemd-analyze security` says no level")?))
}
