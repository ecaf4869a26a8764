//! `pump`: installs, upgrades and inspects pumpd.
//!
//! It links no store and opens no database: what it needs done on data it asks the daemon's binary to
//! do, so that it can repair a machine whose database is broken. How it ends is one table, in
//! `pump-control`.

mod address;
mod atomic_file;
mod backups;
mod bake;
mod bundle;
mod chain;
mod checks;
mod cli;
mod commands;
mod context;
mod control;
mod daemon;
mod fetch;
mod figures;
mod hold;
mod host;
mod inspect;
mod journal;
mod json_lines;
mod lock;
mod machine;
mod manifest;
mod notify;
mod others;
mod ownership;
mod packages;
mod passage;
mod policy;
mod portable;
mod releases;
mod report;
mod roll;
mod saved;
mod service;
mod session;
mod source;
mod switch;
mod systemd;
mod tool;
mod transaction;
mod tree;
mod trust;
mod units;

use pump_control::ExitStatus;

use crate::host::Host;

fn main() -> ExitStatus {
    // What is made has a mode of its own in the end. Until then an odd umask of whoever types the command would
    // lock us out of our own folders, where we are not root.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let host = Host::real();
    let outcome = cli::parse(&host).and_then(|cli| commands::run(cli, &host));
    report::finish(outcome, &host)
}
