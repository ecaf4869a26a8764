//! `cargo xtask torture upgrades`: `pump` is killed, and its disk fails, at every call by which it changes
//! something, and after each the job is finished.
//!
//! A run of each command is recorded by strace. Every call in it that changes a file, or that asks the server
//! for something, is a point: the command is run again and killed as it enters that call, and once more with
//! the call failing. After each point a version has to serve, `pump resume` has to bring the matter to an end,
//! and a further run may change nothing. A recorded run also shows whether what is published would survive a
//! power cut.
//!
//! The server is a real one, in a private place. A short run takes points that are spread over the commands.

mod attacks;
mod order;
mod past;
pub(crate) mod place;
mod sweep;
mod trace;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use super::print;
use crate::workspace;
use place::Place;
use sweep::{Sweep, Tally};
use trace::Fault;

/// How many points of each command and fault a short run takes.
const SHORT: usize = 4;

/// Flags of `cargo xtask torture upgrades`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Every point, instead of some.
    #[arg(long)]
    long: bool,
    /// So many points of each command and fault, spread over it.
    #[arg(long, value_name = "COUNT", conflicts_with = "long")]
    points: Option<usize>,
    /// Only this command: `install`, `upgrade`, `rollback` or `uninstall`; or only the `attacks` of a hostile
    /// source, or the upgrades between releases of the `past`.
    #[arg(long, value_name = "COMMAND")]
    only: Option<String>,
    /// Only this fault: `kill` or `disk`.
    #[arg(long, value_name = "FAULT")]
    fault: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // A short run leaves them to the tests of the workspace, which mount the same ones.
    let attacks = args.only.as_deref() == Some("attacks");
    if attacks || (args.long && args.only.is_none()) {
        let (table, reasons) = attacks::mount()?;
        print(&table);
        for reason in &reasons {
            print(&format!("NO   {reason}"));
        }
        if attacks || !reasons.is_empty() {
            return Ok(if reasons.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    let past = args.only.as_deref() == Some("past");
    if past || (args.long && args.only.is_none()) {
        let (table, reasons) = past::run()?;
        print(&table);
        for reason in &reasons {
            print(&format!("NO   {reason}"));
        }
        if past || !reasons.is_empty() {
            return Ok(if reasons.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    if !Path::new("/usr/bin/strace").exists() {
        print(
            "skipped: there is no strace, by which `pump` is killed at a call (apt install strace)",
        );
        return Ok(ExitCode::SUCCESS);
    }
    let begun = Instant::now();
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", "pumpd", "--package", "pump-cli"]);
    if !cfg!(debug_assertions) {
        // They are looked for beside this program.
        build.arg("--release");
    }
    let built = build.current_dir(workspace()).status()?;
    anyhow::ensure!(built.success(), "the programs could not be built");
    let place = Place::make()?;
    let mut tallies: Vec<Tally> = Vec::new();
    let wanted = |word: &str| args.only.as_deref().is_none_or(|only| only == word);
    let most = if args.long { usize::MAX } else { args.points.unwrap_or(SHORT) };
    let faults = [Fault::Kill, Fault::Disk];
    for fault in
        faults.into_iter().filter(|fault| args.fault.as_deref().is_none_or(|it| it == fault.word()))
    {
        if wanted("upgrade") || wanted("rollback") {
            tallies.extend(Sweep::new(&place, fault, most, &wanted).there_and_back()?);
        }
        if wanted("install") || wanted("uninstall") {
            tallies.extend(Sweep::new(&place, fault, most, &wanted).in_and_out()?);
        }
    }
    print(&sweep::table(&tallies));
    let mut reasons: Vec<String> = tallies.iter().flat_map(|tally| tally.reasons.clone()).collect();
    reasons.extend(place.order()?);
    print(&format!("It took {} s.", begun.elapsed().as_secs()));
    for reason in &reasons {
        print(&format!("NO   {reason}"));
    }
    if reasons.is_empty() {
        print("yes  after every point a version served, and `pump resume` brought it to an end");
    }
    Ok(if reasons.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
