//! How long `pump upgrade` takes, by release builds in a private place.
//!
//! The source is a folder, so that no network is in it; all else is what an upgrade does: metadata checked,
//! the bundle unpacked and each file synced, a roll of two workers. Neither canary nor bake: they last as long as
//! they are told to.

use std::fs;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pump_test::Control;

use super::print;
use crate::demo::target;
use crate::torture::upgrades::place::Place;
use crate::workspace;

/// How often each is timed.
const TIMES: usize = 9;

/// What is promised of a look, besides the network.
const LOOK: Duration = Duration::from_millis(300);

/// What is promised from the command to the last new worker.
const WORKERS: Duration = Duration::from_secs(5);

/// How often it is looked who serves.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The server's defaults, but for the canary.
const CONFIG: &str = "workers = 2\n[roll]\ncanary_seconds = 0\n";

/// One upgrade.
struct Upgrade {
    /// Until every ready worker was of the new build and none of the old one.
    workers: Duration,
    /// Until the command had ended, its master replaced.
    ended: Duration,
}

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = ["build", "--release", "--quiet", "--package", "pump-cli", "--package", "pumpd"];
    let built = Command::new(cargo).current_dir(workspace()).args(words).status()?;
    ensure!(built.success(), "the release build failed");
    let release = target().join("release");
    let place = Place::of(&release.join("pump"), &release.join("pumpd"))?;
    let installed = place.say("install")?;
    ensure!(installed.code == Some(0), "`pump install`: {installed:?}");
    let stopped = place.say("stop")?;
    ensure!(stopped.code == Some(0), "`pump stop`: {stopped:?}");
    let path = place.root().join("etc/pump/pumpd.toml");
    fs::OpenOptions::new().append(true).open(&path)?.write_all(CONFIG.as_bytes())?;
    let started = place.say("start")?;
    ensure!(started.code == Some(0), "`pump start`: {started:?}");

    let look = ["upgrade", "--check", "--quiet"].map(str::to_owned);
    let mut looks = Vec::new();
    for _ in 0..TIMES {
        let begun = Instant::now();
        let looked = place.pump(&look)?;
        looks.push(begun.elapsed());
        ensure!(looked.code == Some(0) || looked.code == Some(10), "{looked:?}");
    }
    let (mut first, mut warm) = (None, Vec::new());
    for _ in 0..TIMES {
        let upgrade = upgrade(&place)?;
        match first {
            None => first = Some(upgrade),
            Some(_) => warm.push(upgrade),
        }
        let back = place.pump(&["rollback", "--yes"].map(str::to_owned))?;
        ensure!(back.code == Some(0), "`pump rollback`: {back:?}");
    }
    let first = first.context("there was an upgrade")?;
    let workers = median(warm.iter().map(|it| it.workers).collect());
    let ended = median(warm.iter().map(|it| it.ended).collect());
    let worst = warm.iter().map(|it| it.workers).max().unwrap_or_default();
    let (look, slowest) = (median(looks.clone()), looks.iter().max().copied().unwrap_or_default());
    let seconds = |it: Duration| format!("{:.2} s", it.as_secs_f64());
    print(&format!(
        "| what | measured | promised |\n|---|---|---|\n\
         | `pump upgrade --check` besides the network, median and worst of {TIMES} | {} and {} ms | ≤ {} ms |\n\
         | upgrade until all workers are new: fetched, unpacked, rolled | {} | ≤ {} s |\n\
         | the same with a release that lies there, median and worst of {} | {} and {} | |\n\
         | until the master is new, too, and the command has ended (watched for 2 s), median | {} | |",
        look.as_millis(),
        slowest.as_millis(),
        LOOK.as_millis(),
        seconds(first.workers),
        WORKERS.as_secs(),
        warm.len(),
        seconds(workers),
        seconds(worst),
        seconds(ended),
    ));
    let holds = look <= LOOK && first.workers <= WORKERS && workers <= WORKERS;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn upgrade(place: &Place) -> anyhow::Result<Upgrade> {
    let control = Control::at(&place.root().join("run/pump/control.sock"));
    let build = place.second.build.to_string();
    let mut words = place.words("upgrade");
    words.insert(1, "--root".to_owned());
    words.insert(2, place.root().display().to_string());
    let begun = Instant::now();
    let mut run = Command::new(target().join("release/pump"))
        .args(&words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let mut workers = None;
    let ended = loop {
        if let Some(ended) = run.try_wait()? {
            break ended;
        }
        // Between two masters nobody answers.
        if workers.is_none() && control.status().is_ok_and(|status| all_new(&status, &build)) {
            workers = Some(begun.elapsed());
        }
        std::thread::park_timeout(LOOK_EVERY);
    };
    ensure!(ended.success(), "`pump upgrade` ended with {ended}");
    let ended = begun.elapsed();
    Ok(Upgrade { workers: workers.unwrap_or(ended), ended })
}

/// Whether as many workers as there are to be are ready, all of them of this build.
fn all_new(status: &pump_control::control::Status, build: &str) -> bool {
    use pump_control::control::WorkerState;
    let ready = status.workers.iter().filter(|it| it.state == WorkerState::Ready);
    let (mut new, mut old) = (0, 0);
    for worker in ready {
        if worker.build.build == build { new += 1 } else { old += 1 }
    }
    old == 0 && new >= status.wanted as usize
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort();
    durations.get(durations.len() / 2).copied().unwrap_or_default()
}
