//! 6 and 15, with the kernel's control groups: no more processes, no more memory, and a worker that sleeps
//! so that nothing wakes it. For root, where control groups may be made; elsewhere they say so and pass.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pump_control::ExitStatus;
use pump_control::control::{Event, Restart, WorkerState};
use pump_test::fake::{self, Faults};
use pump_test::process::Process;
use pump_test::{Setup, TestCluster, eventually};

use super::room::{Served, SmallDisk};
use super::{QUICK, Tried, pids};
use crate::pumpd;

/// A control group (cgroups(7), version 1) for one test.
struct Group {
    path: PathBuf,
}

impl Group {
    /// An empty one; none where it may not be made.
    fn new(controller: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (own, next) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let parent = Path::new("/sys/fs/cgroup").join(controller);
        let path = parent.join(format!("pump-test-{own}-{next}"));
        if let Err(error) = fs::create_dir(&path) {
            super::skipped(&format!("no control group `{}`: {error}", path.display()));
            return None;
        }
        Some(Self { path })
    }

    /// A cluster that is born in it.
    fn begin(&self) -> Tried {
        let builds = tempfile::tempdir().expect("a folder");
        let program = builds.path().join("pumpd-in-a-group");
        let (procs, pumpd) = (self.path.join("cgroup.procs"), pumpd().display());
        let text = format!("echo $$ > '{}'\nexec '{pumpd}' \"$@\"", procs.display());
        crate::script(&program, &text);
        let more = QUICK.to_owned();
        let cluster = TestCluster::start(Setup { pumpd: Some(program), more, ..Setup::default() });
        Tried { cluster, builds }
    }

    /// Has as much memory as the disk takes, so that it is of a size that services have.
    fn takes(&self, disk: &SmallDisk) {
        let script = "echo $$ > \"$0\"; exec 2>/dev/null; cat /dev/zero > \"$1\"/filling";
        let words = [&self.path.join("cgroup.procs"), disk.folder()];
        // It ends when there is no more room.
        let _full = Command::new("bash").args(["-c", script]).args(words).status();
    }

    fn set(&self, file: &str, value: &str) {
        let path = self.path.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    fn get(&self, file: &str) -> u64 {
        let text = fs::read_to_string(self.path.join(file)).expect("the kernel tells");
        text.trim().parse().expect("a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Of a test that has failed somebody may be frozen still, and could not be ended.
        let _ = fs::write(self.path.join("freezer.state"), "THAWED");
        if !std::thread::panicking() {
            eventually(Duration::from_secs(60), || fs::remove_dir(&self.path));
        }
    }
}

#[test]
fn b15_without_room_for_one_more_process_a_roll_is_given_up_and_says_so() {
    let Some(group) = Group::new("pids") else { return };
    let tried = group.begin();
    let mut before = pids(&tried.cluster.workers());
    let served = Served::begin(&tried);
    let mut given_up = 0;
    // From none at all to nearly enough: it runs out at another place each time. What there is counts threads
    // too that end when they have rested for a while, and leave room for others.
    for more in -4..24_i64 {
        let new = tried.other(&format!("new-{more}"));
        let most = group.get("pids.current").saturating_add_signed(more);
        group.set("pids.max", &most.to_string());
        let rolled = tried.cluster.roll(Some(&new));
        if rolled.outcome.exit == ExitStatus::Done {
            break;
        }
        given_up += 1;
        let text = &rolled.outcome.text;
        assert!(text.contains("`TasksMax=`"), "{more}: {rolled:?}\n{}", tried.cluster.log());
        if rolled.outcome.exit == ExitStatus::RollbackFailed {
            // There is no room for the old build either, which comes back as soon as there is.
            group.set("pids.max", "max");
        }
        let status =
            tried.cluster.eventually(|status| status.roll.is_none() && status.workers.len() == 2);
        assert_eq!(status.last_roll.as_ref(), Some(&rolled.outcome));
        assert_eq!(status.latch, None, "the build is not to blame: {rolled:?}");
        let is = tried.whole(&status.workers_build.build);
        // Where one had left already it is replaced.
        if !matches!(rolled.outcome.exit, ExitStatus::RolledBack | ExitStatus::RollbackFailed) {
            assert_eq!(pids(&tried.cluster.workers()), before, "{more}: {rolled:?} {is:?}");
        }
        before = pids(&tried.cluster.workers());
        fs::remove_file(new).expect("ours");
    }
    assert!(given_up > 2, "{given_up}");
    group.set("pids.max", "max");
    served.nobody_noticed();
    tried.good_roll();
}

/// The kernel ends the largest, if nobody tells it that the new one goes first.
#[test]
fn b15_without_memory_for_one_more_worker_the_new_one_goes_and_not_one_that_serves() {
    let (Some(group), Some(disk)) = (Group::new("memory"), SmallDisk::of(64 * 1024)) else {
        return;
    };
    group.takes(&disk);
    let tried = group.begin();
    // Its workers take more than there ever is, and what looks at it first does not.
    let larger = Faults { takes_kib: 32 << 10, ..Faults::default() };
    let larger = ["new-0", "new-1"]
        .map(|name| fake::faulty(pumpd(), tried.builds.path(), name, &larger).expect("a copy"));
    let build = tried.cluster.status().workers_build.build;
    let before = pids(&tried.cluster.workers());
    // In the first round not even that has room.
    for (round, room) in [2, 6, 8, 10, 12, 14].into_iter().enumerate() {
        for _ in 0..20 {
            assert_eq!(tried.cluster.api().call("GET", "/", &[], b"").expect("open").status, 200);
        }
        // What was read of files counts, too, until it is needed for something else.
        group.set("memory.limit_in_bytes", "-1");
        group.set("memory.force_empty", "0");
        let limit = group.get("memory.usage_in_bytes") + (room << 20);
        group.set("memory.limit_in_bytes", &limit.to_string());
        let candidate = Some(larger[round % 2].clone());
        let ask = Restart { candidate, clear_latch: true, ..Restart::default() };
        let rolled = tried.cluster.control().restart(ask, |_| ());
        let rolled = rolled.unwrap_or_else(|error| panic!("{error}\n{}", tried.cluster.log()));
        let text = &rolled.outcome.text;
        assert!(text.contains("`MemoryMax=`"), "{rolled:?}\n{}", tried.cluster.log());
        let started = |event: &(u64, Event)| matches!(event.1, Event::WorkerStarted(_));
        assert_eq!(rolled.events.iter().any(started), round > 0, "{rolled:?}");
        let status = tried.whole(&build);
        assert_eq!(status.latch, None, "the build is not to blame: {rolled:?}");
        assert_eq!(pids(&tried.cluster.workers()), before, "{rolled:?}\n{}", tried.cluster.log());
    }
    group.set("memory.limit_in_bytes", "-1");
    tried.good_roll();
}

/// A frozen process (version 1) sleeps uninterruptibly, and a SIGKILL waits until it thaws.
#[test]
fn b06_a_worker_in_a_sleep_that_nothing_ends_is_told_of_and_the_roll_goes_on() {
    let Some(frozen) = Group::new("freezer") else { return };
    let tried = Tried::new(&format!("{QUICK}drain_seconds = 1\n"));
    let old = tried.cluster.workers();
    frozen.set("cgroup.procs", &old[0].pid.to_string());
    frozen.set("freezer.state", "FROZEN");
    eventually(Duration::from_secs(60), || {
        let state = Process::of(old[0].pid).map(|process| process.state);
        if matches!(state, Ok('D')) { Ok(()) } else { Err(format!("{state:?}")) }
    });
    let new = tried.other("new");
    let ask = Restart { candidate: Some(new), ..Restart::default() };
    let rolled = tried.cluster.control().restart(ask, |_| ()).expect("it comes to its end");
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    let said = rolled.steps.join("\n");
    assert!(said.contains("is stuck: it is still there after SIGKILL"), "{said}");
    let status = tried.cluster.status();
    let stuck = status.workers.iter().find(|worker| worker.pid == old[0].pid);
    assert_eq!(stuck.map(|worker| worker.state), Some(WorkerState::Stuck), "{status:?}");
    let ready = status.workers.iter().filter(|worker| worker.state == WorkerState::Ready);
    assert_eq!(ready.count(), 2, "it counts for nothing: {status:?}");
    // Another roll does not wait for it either.
    assert_eq!(tried.cluster.roll(Some(&tried.other("next"))).outcome.exit, ExitStatus::Done);
    frozen.set("freezer.state", "THAWED");
    tried.cluster.eventually(|status| status.workers.len() == 2);
    tried.good_roll();
}
