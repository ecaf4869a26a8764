//! `pumpd`: the daemon of pump.
//!
//! One binary, and a command for each role: the master, its workers, and what is asked of a build
//! before its workers are started.

mod admin;
mod cli;
mod config;
mod faults;
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
use cli::{Cli, Command};
use inherit::Inherited;
use rustix::process::{Resource, getrlimit, setrlimit};

fn main() -> ExitStatus {
    let inherited = Inherited::at_start();
    faults::arm();
    // The master takes its signals from a descriptor and blocks them; its children start with that
    // mask and begin with a clean one.
    if let Err(error) = SigSet::empty().thread_set_mask() {
        return report(&Failed::new(ExitStatus::Failed, anyhow::Error::new(error)));
    }
    let done = match Cli::parse().command {
        Command::Master { config } => master(config, inherited),
        Command::Worker { channel } => worker::run(channel, inherited),
        Command::ReleaseInfo => admin::release_info(),
        Command::Check(configured) => admin::check(&configured),
        Command::Migrate(configured) => admin::migrate(&configured),
        Command::Account(account) => admin::account(&account),
    };
    match done {
        Ok(status) => status,
        Err(failed) => report(&failed),
    }
}

fn master(config_path: PathBuf, mut inherited: Inherited) -> Result<ExitStatus, Failed> {
    log::begin();
    raise_descriptors();
    let passed = inherit::from_systemd(&mut inherited, |name| std::env::var_os(name))
        .map_err(|error| Failed::new(ExitStatus::Preflight, error.into()))?;
    let program = started_by().map_err(|error| Failed::new(ExitStatus::Failed, error.into()))?;
    let setting = master::Setting { config_path, program, passed };
    master::run(setting).map_err(|error| Failed::new(error.exit(), error.into()))
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
