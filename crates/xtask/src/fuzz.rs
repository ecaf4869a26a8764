//! `cargo xtask fuzz`: throws bytes at what reads bytes of others.
//!
//! Builds `fuzz/` with the coverage that libFuzzer wants and without a sanitizer, which the stable compiler
//! can do, and lets each target run for some seconds. What it finds new goes into the target's corpus, which an
//! ordinary test reads on every run; what breaks something goes to `fuzz/artifacts`. With `cargo-fuzz` the
//! same targets run under a sanitizer.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};

use crate::workspace;

/// Flags of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this target.
    target: Option<String>,
    /// How long each runs, in seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Keep what is found in the corpus. Without it, it is forgotten.
    #[arg(long)]
    keep: bool,
}

/// As `cargo fuzz build --sanitizer none` passes them.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// The machine we build for. Flags for a named one do not reach build scripts, which are not fuzzed.
const MACHINE: &str = "x86_64-unknown-linux-gnu";

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folder = workspace().join("fuzz");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&folder).args(["build", "--release", "--quiet", "--target", MACHINE]);
    cargo.env("RUSTFLAGS", FLAGS).env_remove("CARGO_TARGET_DIR");
    ensure!(cargo.status().context("could not run cargo")?.success(), "fuzz/ cannot be built");
    let mut targets: Vec<String> = fs::read_dir(folder.join("corpus"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    targets.retain(|target| args.target.as_ref().is_none_or(|only| only == target));
    targets.sort();
    ensure!(!targets.is_empty(), "there is no such target");
    let mut good = true;
    for target in targets {
        good &= fuzz(&folder, &target, args)?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn fuzz(folder: &Path, target: &str, args: &Args) -> anyhow::Result<bool> {
    let artifacts = folder.join("artifacts").join(target);
    fs::create_dir_all(&artifacts)?;
    let found = tempfile::tempdir()?;
    let corpus = folder.join("corpus").join(target);
    let mut command =
        Command::new(folder.join("target").join(MACHINE).join("release").join(target));
    command
        .arg(format!("-max_total_time={}", args.seconds))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-max_len=4096", "-timeout=10", "-print_final_stats=1", "-verbosity=0"])
        // What is found goes into the first folder.
        .arg(if args.keep { &corpus } else { found.path() })
        .arg(&corpus);
    let output = command.output().with_context(|| format!("could not run `{target}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let number = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("?", str::trim).to_owned()
    };
    let runs = number("stat::number_of_executed_units:");
    let new = number("stat::new_units_added:");
    #[expect(clippy::print_stdout, reason = "the result of the chore")]
    {
        println!("{target:<14} {runs} runs, {new} new paths");
        if !output.status.success() {
            println!("{said}");
        }
    }
    Ok(output.status.success())
}
