//! The command line, as one definition: parser, help, manual pages and completions come from it.
//!
//! What belongs to one command is defined beside that command, in `commands/`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use pump_control::ExitStatus;

use crate::commands::{
    account, adopt, auto_upgrade, backup, bundle, completions, doctor, finalize, generate, history,
    hold, install, metrics, package, restart, restore, resume, rollback, start, status, stop,
    uninstall, upgrade, verify,
};
use crate::host::Host;
use crate::report::{self, Failure};

/// Installs, upgrades and inspects pumpd, a social server.
#[derive(Debug, Parser)]
#[command(name = "pump", version = version(), propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What holds for every command.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// Work on a private place below DIR, without root and without systemd.
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) root: Option<PathBuf>,
    /// Answer in JSON, one value a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print results only.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Install pumpd, configure it and start it.
    Install(install::InstallArgs),
    /// Remove what `pump install` made. Data and configuration stay unless told otherwise.
    Uninstall(uninstall::UninstallArgs),
    /// Fetch a newer release, check it and roll the server onto it.
    Upgrade(upgrade::UpgradeArgs),
    /// Put releases and their signatures into one file, for a machine without a network.
    Bundle(bundle::BundleArgs),
    /// Check whether what is installed is what was signed.
    Verify(verify::VerifyArgs),
    /// Go back to the release that ran before.
    Rollback(rollback::RollbackArgs),
    /// Finish or undo an upgrade or a rollback that was cut.
    Resume(resume::ResumeArgs),
    /// Hold upgrades, until a time or until `pump unhold`.
    Hold(hold::HoldArgs),
    /// Hold upgrades no longer.
    Unhold(hold::UnholdArgs),
    /// Have upgrades happen by themselves, or not, and show what is in the way.
    AutoUpgrade(auto_upgrade::AutoUpgradeArgs),
    /// Check everything that an installation relies on, and repair what is safe to repair.
    Doctor(doctor::DoctorArgs),
    /// Show what was installed, upgraded and rolled back, and why.
    History(history::HistoryArgs),
    /// Show how the server is.
    Status(status::StatusArgs),
    /// Show every figure of the server, as OpenMetrics text.
    Metrics(metrics::MetricsArgs),
    /// Replace every worker, one at a time, without an interruption.
    Restart(restart::RestartArgs),
    /// Start the server.
    Start(start::StartArgs),
    /// Stop the server and close its sockets.
    Stop(stop::StopArgs),
    /// Copy the database while it is used, and show and check the copies there are.
    Backup(backup::BackupArgs),
    /// Put a backup in the place of the database.
    Restore(restore::RestoreArgs),
    /// Give up the way back: take away what only older releases need in the database.
    Finalize(finalize::FinalizeArgs),
    /// Hand the server over to what a package brought, or back.
    Adopt(adopt::AdoptArgs),
    /// Manage accounts.
    Account(account::AccountArgs),
    /// Print a completion script for a shell.
    Completions(completions::CompletionsArgs),
    /// What the scripts of a package ask for.
    #[command(hide = true)]
    Package(package::PackageArgs),
    /// Make files for a release from this definition.
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

/// The version of this build: the one the release was given, or the crate's.
pub(crate) const fn version() -> &'static str {
    match option_env!("PUMP_VERSION") {
        Some(version) => version,
        None => env!("CARGO_PKG_VERSION"),
    }
}

/// Reads the command line.
///
/// # Errors
/// Exit 2 when it is wrong. Help and version are printed here and end as done.
pub(crate) fn parse(host: &Host) -> Result<Option<Cli>, Failure> {
    let error = match Cli::try_parse_from(&host.args) {
        Ok(cli) => return Ok(Some(cli)),
        Err(error) => error,
    };
    if !error.use_stderr() {
        report::raw(error.render().to_string().as_bytes());
        return Ok(None);
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // The first paragraph is what was found; what follows is usage, told by the hint.
    let found = text.split("\n\n").next().unwrap_or(text).trim();
    let found = found.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let command = match host.args.get(1).and_then(|word| word.to_str()) {
        Some(word) if !word.starts_with('-') => format!("pump {word} --help"),
        _ => "pump --help".to_owned(),
    };
    Err(Failure::new(ExitStatus::Usage, found).hint(format!("run `{command}`")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }
}
