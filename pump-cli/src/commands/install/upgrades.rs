//! Where upgrades will come from, and whose signatures they need: `upgrade.toml` and the trust root.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pump_control::{ExitStatus, Layout};

use crate::context::Context;
use crate::manifest;
use crate::report::Failure;
use crate::source::{self, Address};
use crate::transaction::Transaction;
use crate::trust;

/// A source as it is written down: a folder by its absolute path, a URL as it is.
///
/// # Errors
/// Exit 2 when it is neither.
pub(super) fn whole_source(text: &str) -> Result<String, Failure> {
    // A folder is usually typed as the shell completes it.
    let text = match fs::canonicalize(text) {
        Ok(folder) => folder.to_string_lossy().into_owned(),
        Err(_) => text.to_owned(),
    };
    match text.parse::<Address>() {
        Ok(_) => Ok(text),
        Err(why) => Err(Failure::new(ExitStatus::Usage, format!("`--source {text}` {why}"))
            .hint("give a URL or a folder that `cargo xtask dist` or a publisher made")),
    }
}

/// Writes `upgrade.toml`, unless it is there, and the trust root, if there is one to record. Returns what was
/// written.
///
/// # Errors
/// When the root is none, or what the file system says.
pub(super) fn write(
    source: Option<&str>,
    trust_root: Option<&Path>,
    layout: &Layout,
    transaction: &mut Transaction,
) -> Result<Vec<PathBuf>, Failure> {
    let mut written = Vec::new();
    let upgrade = manifest::entry("/etc/pump/upgrade.toml");
    if !upgrade.at(layout).exists() && transaction.file(upgrade, layout, &configuration(source))? {
        written.push(upgrade.at(layout));
    }
    if let Some(file) = trust_root {
        let text = String::from_utf8(trust::read_root(file)?).context("the root is no text")?;
        let entry = manifest::entry("/etc/pump/trust-root.json");
        if transaction.file(entry, layout, &text)? {
            written.push(entry.at(layout));
        }
    }
    Ok(written)
}

/// Refuses flags that say something else than the files, which are the administrator's. What is not there is
/// written by them.
///
/// # Errors
/// Exit 2.
pub(super) fn refuse_contradiction(
    source: Option<&str>,
    trust_root: Option<&Path>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let layout = &context.layout;
    let refuse = |flag: String, file: &Path| {
        Err(Failure::new(
            ExitStatus::Usage,
            format!("`{flag}` contradicts `{}`, which stays as it is", file.display()),
        )
        .hint(format!("edit `{}`", file.display())))
    };
    if let Some(source) = source
        && layout.upgrade_config().exists()
    {
        let wanted = whole_source(source)?.parse::<Address>();
        let found = source::wish(layout, None, None).map(|wish| wish.address);
        if found.ok() != wanted.ok() {
            return refuse(format!("--source {source}"), &layout.upgrade_config());
        }
    }
    if let Some(root) = trust_root {
        let recorded = trust::recorded_path(layout);
        if recorded.exists() && fs::read(&recorded).ok() != Some(trust::read_root(root)?) {
            return refuse(format!("--trust-root {}", root.display()), &recorded);
        }
    }
    Ok(())
}

/// The text of `upgrade.toml`.
fn configuration(source: Option<&str>) -> String {
    let source = match source {
        Some(source) => format!("source = {}", toml::Value::from(source)),
        None => "# source = \"https://releases.example/pump\"".to_owned(),
    };
    format!(
        "# Where `pump upgrade` looks for releases: a URL or a folder. Without it there are none.\n\
         {source}\n\n\
         # `stable`, or `beta` for releases on trial.\n\
         # channel = \"stable\"\n"
    )
}
