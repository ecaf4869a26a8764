//! `cargo xtask figures`: measures what the documents promise, as a table in Markdown.
//!
//! Two builds of `pumpd` that do the same are rolled onto each other over the control socket, under
//! the usual load. Memory is read from /proc, and times are what clients saw. On a machine that does
//! other things as well the times are worse, never better.

mod measure;
mod migration;
mod unit;
mod upgrades;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};

use crate::demo::{keep, target};
use crate::workspace;

use measure::{Rolls, Still};

/// Rolls that are measured.
const ROLLS: usize = 4;

/// Rolls that are measured with `--long`.
const LONG_ROLLS: usize = 20;

/// Flags of `cargo xtask figures`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Roll twenty times, up and down, and show the master's descriptors and memory after each.
    #[arg(long)]
    long: bool,
    /// Measure `pump upgrade`: a look, and an upgrade until every worker is new.
    #[arg(long, conflicts_with_all = ["long", "migration", "pumpd"])]
    upgrades: bool,
    /// Measure this `pumpd` instead of building one.
    #[arg(long, value_name = "FILE", hide = true)]
    pumpd: Option<PathBuf>,
    /// Migrate a database of this many notes beside a server that is read and written, instead.
    #[arg(long, value_name = "NOTES", num_args = 0..=1, default_missing_value = "10000000")]
    migration: Option<i64>,
    /// The server that is read and written meanwhile, of before the migration.
    #[arg(long, value_name = "FILE", requires = "migration")]
    old: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.upgrades {
        return upgrades::run();
    }
    let folder = tempfile::Builder::new().prefix("pump-figures-").tempdir()?;
    let old = folder.path().join("pumpd");
    match &args.pumpd {
        Some(path) => keep(path, &old)?,
        None => keep(&build()?, &old)?,
    }
    if let Some(notes) = args.migration {
        return migration::run(&old, args.old.as_deref(), notes);
    }
    let new = pump_test::fake::other_build(&old, folder.path(), "pumpd-next")?;

    let still = Still::measure(&old)?;
    let rolls = Rolls::measure(&old, &new, if args.long { LONG_ROLLS } else { ROLLS })?;
    let exposure = unit::exposure(folder.path())?;
    print(&table(&still, &rolls, exposure.as_deref()));
    if args.long {
        print(&rolls_table(&rolls));
    }
    print(&format!("\n{}", rolls.report));
    let good = rolls.report.failures() == 0 && rolls.problems == 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).args(["build", "--release", "--quiet", "--package", "pumpd"]);
    let status = cargo.status().context("could not run cargo")?;
    ensure!(status.success(), "the release build failed");
    Ok(target().join("release/pumpd"))
}

fn table(still: &Still, rolls: &Rolls, exposure: Option<&str>) -> String {
    let mut text = String::from("| what | measured | promised |\n|---|---|---|\n");
    let mut line = |what: &str, measured: String, promised: &str| {
        let _ = writeln!(text, "| {what} | {measured} | {promised} |");
    };
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    let memory = |memory: pump_test::process::Memory| {
        format!("{} ({} PSS)", mib(memory.rss_kib), mib(memory.pss_kib))
    };
    line("master, resident", memory(still.master), "≤ 8 MiB");
    line("idle worker, resident", memory(still.worker), "≤ 25 MiB");
    line(
        &format!("exec to first answer, median of {}", still.ready.len()),
        format!("{:.0} ms", still.ready_median().as_secs_f64() * 1000.0),
        "≤ 150 ms",
    );
    let exposure = exposure.unwrap_or("no systemd here").to_owned();
    line("exposure of the unit, `systemd-analyze security`", exposure, "≤ 1.1");
    let seconds = |duration: std::time::Duration| format!("{:.1} s", duration.as_secs_f64());
    line("a roll of 2 workers under load, median", seconds(rolls.median_roll()), "");
    line(
        "from asking to the first new answer, median",
        format!("{:.0} ms", rolls.median_first().as_secs_f64() * 1000.0),
        "",
    );
    line(
        "longest wait of a new connection within a roll",
        format!("{:.0} ms", rolls.worst().as_secs_f64() * 1000.0),
        "",
    );
    line(
        &format!("failed requests over {} rolls", rolls.each.len()),
        format!("{} of {}", rolls.report.failures(), rolls.report.requests()),
        "0",
    );
    line("notes lost or doubled", format!("{} of {}", rolls.problems, rolls.acknowledged), "0");
    if let (Some(first), Some(last)) = (rolls.each.first(), rolls.each.last()) {
        line(
            "master's descriptors after the first and the last roll",
            format!("{} and {}", first.descriptors, last.descriptors),
            "the same",
        );
        line(
            "master, resident after the first and the last roll",
            format!("{} and {}", mib(first.memory.rss_kib), mib(last.memory.rss_kib)),
            "flat",
        );
    }
    text
}

fn rolls_table(rolls: &Rolls) -> String {
    let mut text = String::from(
        "\n| roll | seconds | first new answer ms | worst new connection ms | master's descriptors | \
         master RSS KiB | PSS KiB |\n|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for (number, roll) in rolls.each.iter().enumerate() {
        let millis = |duration: std::time::Duration| duration.as_secs_f64() * 1000.0;
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.0} | {:.0} | {} | {} | {} |",
            number + 1,
            roll.took.as_secs_f64(),
            millis(roll.first_answer),
            millis(roll.worst),
            roll.descriptors,
            roll.memory.rss_kib,
            roll.memory.pss_kib
        );
    }
    text
}

#[expect(clippy::print_stdout, reason = "the table is what the chore is for")]
pub(in crate::figures) fn print(text: &str) {
    println!("{text}");
}
