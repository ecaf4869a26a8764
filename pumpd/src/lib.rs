//! `pumpd`: the daemon of pump.
//!
//! One binary, and a command for each role: the master, its workers, and what is asked of a build
//! before its workers are started. All of it is behind [`main`]; it is a library only so that fuzzing can
//! link it, too.

mod admin;
mod cli;
mod config;
mod confine;
mod exhausted;
mod faults;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod guard;
mod hold;
mod inherit;
mod log;
mod master;
mod release_info;
mod worker;

use std::path::PathBuf;

use clap::Parser;
use nix::sys::signal::SigSet;
use pump_control::ExitStatus;

use admin::Failed;
use cli::{Cli, Command, Resumed};
use guard::Guard;
use inherit::Inherited;
use master::Passed;
use rustix::process::{Resource, getrlimit, setrlimit};

/// The program.
pub fn main() -> ExitStatus {
    let guard = match guard::arm_if_resumed() {
        Ok(guard) => guard,
        Err(error) => return report(&Failed::new(ExitStatus::Failed, anyhow::Error::new(error))),
    };
    let inherited = Inherited::at_start();
    faults::arm();
    let command = Cli::parse().command;
    let resumed = match &command {
        Command::Master { resumed, .. } => resumed.resume.is_some(),
        _ => false,
    };
    // The master takes its signals from a descriptor and blocks them; its children start with that
    // mask and begin with a clean one. What was sent to it while it became another build still waits.
    if !resumed && let Err(error) = SigSet::empty().thread_set_mask() {
        return report(&Failed::new(ExitStatus::Failed, anyhow::Error::new(error)));
    }
    let done = match command {
        Command::Master { config, resumed } => master(config, resumed, guard, inherited),
        Command::Hold { config } => hold::run(&config),
        Command::Worker { channel } => worker::run(channel, inherited),
        Command::ReleaseInfo => admin::release_info(),
        Command::Check(configured) => admin::check(&configured),
        Command::Migrate(migrate) => admin::data::migrate(&migrate),
        Command::Database(configured) => admin::data::database(&configured),
        Command::Backup(copying) => admin::copies::backup(&copying),
        Command::VerifyBackup(copying) => admin::copies::verify(&copying),
        Command::Restore(copying) => admin::copies::restore(&copying),
        Command::Rehearse(copying) => admin::copies::rehearse(&copying),
        Command::Account(account) => admin::account(&account),
    };
    match done {
        Ok(status) => status,
        Err(failed) => report(&failed),
    }
}

fn master(
    config_path: PathBuf,
    resumed: Resumed,
    guard: Option<Guard>,
    mut inherited: Inherited,
) -> Result<ExitStatus, Failed> {
    log::begin();
    // It is otherwise the number of the descriptor that was exec'ed.
    let named = rustix::thread::set_name(c"pumpd");
    debug_assert!(named.is_ok(), "a short name");
    raise_descriptors();
    let program = started_by().map_err(|error| Failed::new(ExitStatus::Failed, error.into()))?;
    let name = std::env::args_os().next().unwrap_or_else(|| program.clone().into_os_string());
    // A rehearsal is the child of a master that is, and shows no more by being it once more.
    let is_rehearsal = resumed.rehearse.is_some();
    let confinement = (!is_rehearsal).then(confine::master).unwrap_or_default();
    let passed = match resumed.resume.or(resumed.rehearse) {
        // What systemd passed went to the master before this one.
        Some(_) => Passed::default(),
        None => Passed::take(&mut inherited, |name| std::env::var_os(name))
            .map_err(|error| Failed::new(ExitStatus::Preflight, error.into()))?,
    };
    let setting = master::Setting { config_path, program, name, passed, confinement };
    let done = match (resumed, guard) {
        (Resumed { rehearse: Some(state), .. }, _) => master::rehearse(setting, state, &inherited),
        (Resumed { resume: Some(state), before: Some(before), .. }, Some(guard)) => {
            master::resume(setting, (state, before), &mut inherited, guard)
        }
        (Resumed { resume: Some(state), returned, .. }, _) => {
            master::returned(setting, (state, returned.unwrap_or(0)), &mut inherited)
        }
        _ => master::run(setting),
    };
    done.map_err(|error| Failed::new(error.exit(), error.into()))
}

/// As many descriptors as there may be: a shell gives 1024, and a worker alone may have 4096
/// connections. Workers inherit it.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // The sandbox of the unit forbids it, and has a limit of its own.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The path that this program was started by. It is resolved anew at each roll, so a link may have
/// come to point to another release.
fn started_by() -> std::io::Result<PathBuf> {
    match std::env::args_os().next().map(PathBuf::from) {
        Some(path) if path.components().count() > 1 => std::path::absolute(path),
        // Found by PATH, or started without a name.
        _ => std::env::current_exe(),
    }
}

/// The one place that prints an error.
fn report(failed: &Failed) -> ExitStatus {
    use std::io::Write;
    let mut text = format!("error: {:#}\n", failed.error);
    if let Some(hint) = &failed.hint {
        text += &format!("hint: {hint}\n");
    }
    // Where nobody reads, the exit code still tells.
    let _ = std::io::stderr().write_all(text.as_bytes());
    failed.exit
}
