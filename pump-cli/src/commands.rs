//! The commands, one file each.

pub(crate) mod account;
pub(crate) mod adopt;
pub(crate) mod auto_upgrade;
pub(crate) mod backup;
pub(crate) mod bundle;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod finalize;
pub(crate) mod generate;
pub(crate) mod history;
pub(crate) mod hold;
pub(crate) mod install;
pub(crate) mod metrics;
pub(crate) mod package;
pub(crate) mod restart;
pub(crate) mod restore;
pub(crate) mod resume;
pub(crate) mod rollback;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod uninstall;
pub(crate) mod upgrade;
pub(crate) mod verify;

use anyhow::Context as _;
use pump_control::{ExitStatus, Layout};

use crate::cli::{Cli, Command};
use crate::context::Context;
use crate::host::Host;
use crate::ownership;
use crate::report::{Ended, Report};

/// Does what the command line says. `None` when the line asked for help and had it.
///
/// # Errors
/// What the command says.
pub(crate) fn run(cli: Option<Cli>, host: &Host) -> Ended {
    let Some(Cli { global, command }) = cli else { return Ok(ExitStatus::Done) };
    let layout = match &global.root {
        Some(root) => Layout::private(
            std::path::absolute(root)
                .with_context(|| format!("could not make `{}` absolute", root.display()))?,
        ),
        None => ownership::layout(),
    };
    let report = Report { json: global.json, quiet: global.quiet };
    let context = Context { host, layout, report };
    match command {
        Command::Install(args) => install::run(args, &context),
        Command::Uninstall(args) => uninstall::run(args, &context),
        Command::Upgrade(args) => upgrade::run(args, &context),
        Command::Bundle(args) => bundle::run(args, &context),
        Command::Verify(args) => verify::run(args, &context),
        Command::Rollback(args) => rollback::run(args, &context),
        Command::Resume(args) => resume::run(args, &context),
        Command::Hold(args) => hold::run(args, &context),
        Command::Unhold(args) => hold::lift(args, &context),
        Command::AutoUpgrade(args) => auto_upgrade::run(args, &context),
        Command::Doctor(args) => doctor::run(args, &context),
        Command::History(args) => history::run(args, &context),
        Command::Status(args) => status::run(args, &context),
        Command::Metrics(args) => metrics::run(args, &context),
        Command::Package(args) => package::run(args, &context),
        Command::Restart(args) => restart::run(args, &context),
        Command::Start(args) => start::run(args, &context),
        Command::Stop(args) => stop::run(args, &context),
        Command::Backup(args) => backup::run(args, &context),
        Command::Restore(args) => restore::run(args, &context),
        Command::Finalize(args) => finalize::run(args, &context),
        Command::Adopt(args) => adopt::run(args, &context),
        Command::Account(args) => account::run(args, &context),
        Command::Completions(args) => completions::run(args, &context),
        Command::Generate(args) => generate::run(args, &context),
    }
}
