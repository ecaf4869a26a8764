//! The fifteen hardest cases of a restart, each by its number: what servers are known to fail at.
//!
//! | case | here, or in the file of that name |
//! |---|---|
//! | 1 a request in the moment of a hand-over | `clients`; `hand_over`, `takers` |
//! | 2 a build that fails later | `canary` |
//! | 3 a build that hangs before it is ready | `b03_…` |
//! | 4 capacity after a failed roll | `b04_…`; bug g in `roll` |
//! | 5 a worker that dies in a roll | `b05_…`; bug d in `roll` |
//! | 6 a worker that will not leave | `b06_…`; `groups` for one that nothing ends, `worker` for uploads |
//! | 7 files that change under a roll | `files` |
//! | 8 the moment of the master's exec | `storms`; `replace` |
//! | 9 the master is killed | `storms`; `adopt` |
//! | 10 listeners come and go | `listeners` |
//! | 11 the path of a unix socket | `storms` |
//! | 12 long connections over many rolls | `clients`; `streams` |
//! | 13 many commands at once | `storms` |
//! | 14 builds of several ages | `skew` |
//! | 15 something runs out, or jumps | `exhaustion`, `room`, `groups`, `clock` |
//!
//! Each ends with a good roll: whatever happened, the way forward is open.

mod clients;
mod clock;
mod exhaustion;
mod files;
mod groups;
mod room;
mod skew;
mod storms;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pump_control::ExitStatus;
use pump_control::control::{Phase, Status, WorkerState};
use pump_test::fake::{self, Faults};
use pump_test::process::{Process, sha256};
use pump_test::{Setup, TestCluster};
use tempfile::TempDir;

use crate::pumpd;

const QUICK: &str = "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\ncanary_seconds = 0\n";

/// A cluster, with a folder for other builds.
struct Tried {
    cluster: TestCluster,
    builds: TempDir,
}

impl Tried {
    fn new(more: &str) -> Self {
        Self::with(Setup { more: more.to_owned(), ..Setup::default() })
    }

    fn with(setup: Setup) -> Self {
        let builds = tempfile::tempdir().expect("a folder");
        let cluster = TestCluster::start(Setup { pumpd: Some(pumpd().to_owned()), ..setup });
        Self { cluster, builds }
    }

    fn other(&self, name: &str) -> PathBuf {
        fake::other_build(pumpd(), self.builds.path(), name).expect("a copy")
    }

    fn broken(&self, name: &str, faults: &Faults) -> PathBuf {
        fake::faulty(pumpd(), self.builds.path(), name, faults).expect("a copy that fails")
    }

    /// Waits until all workers are ready and of this build, and no other is left.
    fn whole(&self, build: &str) -> Status {
        let workers = self.cluster.workers().len().clamp(2, 4);
        self.cluster.eventually(|status| {
            let mut ready = status.workers.iter().map(|one| (one.state, &one.build.build));
            status.phase == Phase::Running
                && status.workers.len() == status.wanted as usize
                && workers >= 2
                && ready.all(|(state, of)| state == WorkerState::Ready && of == build)
        })
    }

    /// The way forward is open.
    fn good_roll(&self) {
        let last = self.other("last");
        let rolled = self.cluster.roll(Some(&last));
        assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}\n{}", self.cluster.log());
        self.whole(&sha256(&last).expect("it is there"));
        let answer = self.cluster.api().call("GET", "/", &[], b"").expect("an answer");
        assert_eq!(answer.status, 200);
    }
}

/// Says that it is over when it is dropped, so that a thread that waits for that does not wait for ever when
/// a test fails.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A test that cannot be done on this machine passes, and says so.
#[expect(clippy::print_stderr, reason = "who reads the test's output is to know")]
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

fn pids(processes: &[Process]) -> Vec<u32> {
    let mut pids: Vec<u32> = processes.iter().map(|process| process.pid).collect();
    pids.sort_unstable();
    pids
}

#[test]
fn b03_a_build_that_hangs_before_it_is_ready_is_ended_and_costs_nobody_anything() {
    let tried = Tried::new("[roll]\nready_seconds = 10\nwatch_seconds = 0\n");
    let before = pids(&tried.cluster.workers());
    for stays in [false, true] {
        let hangs = Faults { hangs: true, stays, ..Faults::default() };
        let hangs = tried.broken(&format!("hangs-{stays}"), &hangs);
        let rolled = tried.cluster.roll(Some(&hangs));
        assert_eq!(rolled.outcome.exit, ExitStatus::RollFailed, "{rolled:?}");
        let latch = tried.cluster.status().latch.map(|latch| latch.build.build);
        assert_eq!(latch, Some(sha256(&hangs).expect("ours")), "it is not tried again by itself");
        assert!(rolled.outcome.text.contains("ready"), "{rolled:?}");
        assert_eq!(pids(&tried.cluster.workers()), before, "the old ones, and no other is left");
    }
    tried.good_roll();
}

#[test]
fn b04_after_a_failed_roll_every_worker_that_dies_comes_back_as_the_old_build() {
    let folder = tempfile::tempdir().expect("a folder");
    let release = folder.path().join("release");
    fs::create_dir(&release).expect("ours");
    let old = fake::other_build(pumpd(), &release, "old").expect("a copy");
    let build = sha256(&old).expect("it is there");
    let more = QUICK.to_owned();
    let cluster = TestCluster::start(Setup { pumpd: Some(old), more, ..Setup::default() });
    let tried = Tried { cluster, builds: tempfile::tempdir().expect("a folder") };
    let bad = tried.broken("bad", &Faults { exits: Some(3), ..Faults::default() });
    assert_eq!(tried.cluster.roll(Some(&bad)).outcome.exit, ExitStatus::RollFailed);
    fs::remove_dir_all(&release).expect("ours");
    // Each comes back twice as late as the one before: a tenth would take a minute.
    for round in 0..6 {
        let workers = tried.cluster.workers();
        let oldest = workers.iter().min_by_key(|worker| worker.started).expect("two workers");
        oldest.signal(Signal::SIGKILL).expect("it lives");
        let gone = |status: &Status| status.workers.iter().all(|one| one.pid != oldest.pid);
        tried.cluster.eventually(gone);
        let status = tried.whole(&build);
        assert!(status.latch.is_some(), "round {round}: {status:?}");
        for worker in tried.cluster.workers() {
            assert_eq!(worker.build().expect("it lives"), build, "round {round}");
        }
    }
    tried.good_roll();
}

/// Old ones and new ones, at another moment of each roll.
#[test]
fn b05_a_worker_that_dies_in_a_roll_is_not_mistaken_for_the_roll() {
    let tried = Tried::with(Setup { workers: 3, more: QUICK.to_owned(), ..Setup::default() });
    let mut build = tried.cluster.status().workers_build.build;
    for round in 0..12_u64 {
        let new = tried.other(&format!("new-{round}"));
        let rolled = std::thread::scope(|scope| {
            let rolling = scope.spawn(|| tried.cluster.roll(Some(&new)));
            let until = Instant::now() + Duration::from_millis(round * 25);
            while Instant::now() < until && !rolling.is_finished() {
                std::thread::yield_now();
            }
            let workers = tried.cluster.workers();
            if let Some(victim) = workers.get(round as usize % workers.len().max(1)) {
                // It may have gone in the roll by now, which is as good a moment as any.
                let _ = victim.signal(Signal::SIGKILL);
            }
            rolling.join().expect("the roll comes to its end")
        });
        // A new worker that is killed is a build that fails; the old one is back then.
        let went_back = [ExitStatus::RolledBack, ExitStatus::RollFailed];
        let exit = rolled.outcome.exit;
        assert!(exit == ExitStatus::Done || went_back.contains(&exit), "{round}: {rolled:?}");
        if exit == ExitStatus::Done {
            build = sha256(&new).expect("it is there");
        }
        tried.whole(&build);
        fs::remove_file(new).expect("ours");
    }
    tried.good_roll();
}

#[test]
fn b06_a_worker_that_will_not_leave_is_ended_by_force_and_the_roll_goes_on() {
    let stays = Faults { stays: true, ..Faults::default() };
    let blocks = Faults { blocks_when_leaving: true, ..Faults::default() };
    for faults in [stays, blocks] {
        let builds = tempfile::tempdir().expect("a folder");
        let bad = fake::faulty(pumpd(), builds.path(), "bad", &faults).expect("a copy");
        let more = format!("{QUICK}drain_seconds = 1\n");
        let cluster = TestCluster::start(Setup { pumpd: Some(bad), more, ..Setup::default() });
        let tried = Tried { cluster, builds };
        let old = tried.cluster.workers();
        old[0].signal(Signal::SIGTERM).expect("it lives");
        tried.good_roll();
        let log = tried.cluster.log();
        assert!(log.contains("had not drained in time and is killed"), "{faults:?}: {log}");
        assert!(!old.iter().any(Process::lives), "{faults:?}");
    }
}
