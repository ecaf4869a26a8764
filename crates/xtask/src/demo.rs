//! `cargo xtask demo`: upgrades a server under load and shows what its clients saw.
//!
//! Makes two releases, installs the first in a private place with nothing but `pump`, lets people
//! post and follow, and then runs `pump upgrade --zero-downtime` while 46 clients ask for pages and
//! post notes. Nothing here reaches into the daemon: what is told comes from the clients' sockets,
//! from the public API and from /proc.
//!
//! Without `--once` the server is left running until Ctrl-C. With it the demo ends by itself, with 0
//! only when every line of the verdict holds.

mod people;
mod place;
mod verdict;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pump_control::control::Status;
use pump_test::load::{Load, Report};
use pump_test::process::{self, Process};

use crate::{dist, workspace};

use people::{PASSWORD, People};
use place::{Interrupt, Place};
use verdict::{Evidence, MIN_REQUESTS};

/// Flags of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End when the upgrade has been shown, with 0 only when nothing failed.
    #[arg(long)]
    once: bool,
}

/// How long clients are watched before the upgrade begins.
const BEFORE: Duration = Duration::from_secs(3);

/// How long they are watched at least, from first to last.
const AT_LEAST: Duration = Duration::from_secs(20);

/// How long they are watched after the upgrade has ended.
const AFTER: Duration = Duration::from_secs(3);

/// When a load that does not come to its number of requests is given up.
const AT_MOST: Duration = Duration::from_secs(180);

/// The two releases, and the tool that came with the first.
struct Releases {
    first: dist::Made,
    second: dist::Made,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let interrupt = Interrupt::catch()?;
    let mut place = Place::new()?;
    let releases = make_releases(&place)?;
    interrupt.check()?;

    say("installing", &format!("{} in {}", releases.first.info.name(), place.root().display()));
    place.install(&releases.first)?;
    let before = place.start()?;
    let address = before.listen.first().context("the server listens nowhere")?.clone();
    say("started", &format!("{}, on {address}", before.sentence));

    say("people", "alice and bob post and follow each other");
    let people = People::settle(&place, &address)?;
    interrupt.check()?;

    say("load", "46 clients: new connections, keep-alive, slow uploads, slow readers");
    let evidence = upgrade_under_load(&place, &people, &before, &releases, &interrupt)?;
    let verdict = evidence.judge(&people)?;
    show(&evidence, &verdict, begun.elapsed());
    let good = verdict.iter().all(|line| line.holds);

    if !args.once {
        print(&format!(
            "\nThe server runs on. Open {} and sign in as `alice` with `{PASSWORD}`.\n\
             Ctrl-C stops it and removes {}.",
            before.public_url,
            place.root().display()
        ));
        interrupt.wait();
        print("\nstopping");
    }
    place.stop()?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The current version and the next patch, offered by one source.
fn make_releases(place: &Place) -> anyhow::Result<Releases> {
    let current: semver::Version = env!("CARGO_PKG_VERSION").parse()?;
    let next = semver::Version::new(current.major, current.minor, current.patch + 1);
    let folder = place.releases();
    let make = |version: &semver::Version| {
        say("building", &format!("release {version}"));
        let args = dist::Args::new(version.clone(), &folder, &workspace().join("target/dist-keys"));
        dist::make(&args).with_context(|| format!("could not make release {version}"))
    };
    let first = make(&current)?;
    place.keep_tool()?;
    let second = make(&next)?;
    ensure!(first.info.build != second.info.build, "the two releases are the same build");
    Ok(Releases { first, second })
}

/// Watches clients before, during and after the upgrade.
fn upgrade_under_load(
    place: &Place,
    people: &People,
    before: &Status,
    releases: &Releases,
    interrupt: &Interrupt,
) -> anyhow::Result<Evidence> {
    let mut load = Load::start(people.plan(AT_MOST));
    watch(&load, interrupt, |load| load.elapsed() >= BEFORE)?;
    say("upgrading", "pump upgrade --zero-downtime --yes --bake 5");
    let begins = load.mark("upgrade begins");
    let upgraded = place.upgrade(&releases.first, interrupt);
    let ends = load.mark("upgrade ends");
    upgraded?;
    watch(&load, interrupt, |load| {
        load.elapsed() >= AT_LEAST.max(ends + AFTER) && load.requests() >= MIN_REQUESTS
    })?;
    // Before the clients stop, so that the workers seen are those that serve.
    let after = place.status()?;
    let workers = builds_of_workers(after.pid);
    let master = Process::of(after.pid).and_then(|master| master.build()).ok();
    let report: Report = load.stop();
    Ok(Evidence {
        report,
        begins,
        ends,
        before: before.clone(),
        after,
        workers,
        master,
        new_build: releases.second.info.build.to_string(),
    })
}

fn watch(load: &Load, interrupt: &Interrupt, enough: impl Fn(&Load) -> bool) -> anyhow::Result<()> {
    while !enough(load) {
        interrupt.check()?;
        ensure!(!load.is_over(), "the clients ended early, after {} requests", load.requests());
        interrupt.pause();
    }
    Ok(())
}

/// Each worker's pid and the hash of what it runs, from /proc.
fn builds_of_workers(master: u32) -> Vec<(u32, Option<String>)> {
    let is_worker = |child: &Process| child.arguments.iter().any(|word| word == "worker");
    let workers = process::children(master).into_iter().filter(is_worker);
    workers.map(|worker| (worker.pid, worker.build().ok())).collect()
}

fn show(evidence: &Evidence, verdict: &[verdict::Line], took: Duration) {
    let report = &evidence.report;
    print("\nWhat the clients saw, by half seconds (answers by build, the worst wait of `new`)\n");
    print(&report.time_line_text());
    print(&format!("{report}"));
    print("Workers");
    for worker in &evidence.before.workers {
        print(&format!("  before  pid {:<7} {}", worker.pid, worker.build.short()));
    }
    for (pid, build) in &evidence.workers {
        let build = build.as_deref().and_then(|build| build.get(..8)).unwrap_or("gone");
        print(&format!("  after   pid {pid:<7} {build} (from /proc/{pid}/exe)"));
    }
    print("\nVerdict");
    for line in verdict {
        print(&format!("  {}  {}", if line.holds { "yes" } else { "NO " }, line.text));
    }
    print(&format!("\nThe demo took {} s.", took.as_secs()));
}

fn say(step: &str, text: &str) {
    print(&format!("{step:>11}  {text}"));
}

#[expect(clippy::print_stdout, reason = "the one place where the demo prints")]
fn print(text: &str) {
    println!("{text}");
}

/// The folder that cargo builds into.
pub(crate) fn target() -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), Into::into)
}

/// Copies a program, so that the next build does not replace it.
pub(crate) fn keep(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::copy(from, to)
        .with_context(|| format!("could not copy `{}` to `{}`", from.display(), to.display()))?;
    Ok(())
}
