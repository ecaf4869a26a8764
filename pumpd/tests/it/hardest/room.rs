//! 15: no more room on the disk, in memory, or for descriptors. And whoever is served meanwhile.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::Signal;
use pump_control::ExitStatus;
use pump_control::control::{Restart, Worker, WorkerState};
use pump_test::process::sha256;
use pump_test::{Setup, TestCluster};
use tempfile::TempDir;

use super::{QUICK, Tried, pids};
use crate::client::{REQUEST, answer, connect};
use crate::pumpd;

/// Somebody who looks at pages all the while.
pub(super) struct Served {
    over: Arc<AtomicBool>,
    looking: Option<JoinHandle<(u64, Option<String>)>>,
}

impl Served {
    pub(super) fn begin(tried: &Tried) -> Self {
        let (api, over) = (tried.cluster.api(), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&over);
        let looking = std::thread::spawn(move || {
            let mut seen = 0;
            while !until.load(Ordering::Relaxed) {
                match api.call("GET", "/", &[], b"") {
                    Ok(answer) if answer.status == 200 => seen += 1,
                    other => return (seen, Some(format!("{other:?}"))),
                }
                std::thread::park_timeout(Duration::from_millis(20));
            }
            (seen, None)
        });
        Self { over, looking: Some(looking) }
    }

    #[track_caller]
    pub(super) fn nobody_noticed(mut self) {
        self.over.store(true, Ordering::Relaxed);
        let looking = self.looking.take().expect("it looks");
        let (seen, wrong) = looking.join().expect("looking does not panic");
        assert_eq!(wrong, None, "after {seen} pages");
        assert!(seen > 0, "somebody has looked");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A disk of so many KiB, which this thread and its children see and nobody else. None where that is not
/// allowed.
pub(super) struct SmallDisk(TempDir);

impl SmallDisk {
    pub(super) fn of(kib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_ok()
            && run("mount", &["--make-rprivate", "/"])
            && run(
                "mount",
                &["-t", "tmpfs", "-o", &format!("size={kib}k"), "none", &text(&folder)],
            );
        if !mounted {
            super::skipped("nothing can be mounted here");
        }
        mounted.then_some(Self(folder))
    }

    pub(super) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Takes all room there is, also what has become free since this was called before.
    fn fill(&self) {
        let path = self.0.path().join("filling");
        let mut file = fs::File::options().create(true).append(true).open(path).expect("ours");
        while file.write_all(&[0; 4096]).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.0.path().join("filling")).expect("ours");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &["--lazy", &text(&self.0)]);
    }
}

fn text(folder: &TempDir) -> String {
    folder.path().display().to_string()
}

fn run(program: &str, words: &[&str]) -> bool {
    Command::new(program).args(words).status().is_ok_and(|status| status.success())
}

#[test]
fn b15_a_full_disk_gives_the_roll_up_and_says_so() {
    let Some(disk) = SmallDisk::of(6 * 1024) else { return };
    let data = disk.0.path().join("data");
    fs::create_dir(&data).expect("ours");
    let tried = Tried::with(Setup { data: Some(data), more: QUICK.to_owned(), ..Setup::default() });
    let alice = tried.cluster.account("alice");
    let before = pids(&tried.cluster.workers());
    let api = tried.cluster.api();
    api.post(&alice, "there is room").expect("posted");
    disk.fill();
    let served = Served::begin(&tried);
    for round in 0..2 {
        let rolled = tried.cluster.roll(Some(&tried.other(&format!("new-{round}"))));
        assert_ne!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
        assert!(rolled.outcome.text.contains("no space left"), "{rolled:?}");
        let status = tried.cluster.status();
        assert_eq!(status.last_roll.as_ref(), Some(&rolled.outcome));
        assert_eq!(status.latch, None, "the build is not to blame: {rolled:?}");
        assert_eq!(pids(&tried.cluster.workers()), before, "{round}: {rolled:?}");
    }
    served.nobody_noticed();
    // A worker that dies meanwhile is replaced by one that serves what can be read.
    let victim = tried.cluster.workers().remove(0);
    victim.signal(Signal::SIGKILL).expect("it lives");
    tried.cluster.eventually(|status| {
        let ready = |one: &&Worker| one.state == WorkerState::Ready && one.pid != victim.pid;
        status.workers.iter().filter(ready).count() == 2
    });
    tried.cluster.eventually_logs("it serves what can be read");
    let served = Served::begin(&tried);
    for _ in 0..10 {
        assert_eq!(api.call("GET", "/", &[], b"").expect("an answer").status, 200);
    }
    served.nobody_noticed();
    disk.make_room();
    api.post(&alice, "there is room again").expect("posted");
    tried.good_roll();
}

/// Where a latch cannot be written it is known all the same, also to the next master.
#[test]
fn b15_a_build_that_fails_while_the_disk_is_full_is_remembered() {
    let Some(disk) = SmallDisk::of(6 * 1024) else { return };
    let data = disk.0.path().join("data");
    fs::create_dir(&data).expect("ours");
    let (data, more) = (Some(data), QUICK.to_owned());
    let mut tried = Tried::with(Setup { data, more, held: true, ..Setup::default() });
    // More than it is asked before the disk is full.
    let late = pump_test::fake::Faults { dies_after_requests: Some(50), ..Default::default() };
    let bad = tried.broken("bad", &late);
    let ask = Restart { candidate: Some(bad.clone()), canary: Some(300), ..Default::default() };
    let filled = std::cell::Cell::new(false);
    let api = tried.cluster.api();
    let rolled = tried.cluster.control().restart(ask, |step| {
        if step.contains("is ready") && !filled.replace(true) {
            // One of these it dies of. What others leave behind until then gives no room.
            let asked = (0..1000).find(|_| {
                disk.fill();
                api.call("GET", "/", &[], b"").is_err()
            });
            assert!(asked.is_some(), "it died of none of them");
        }
    });
    let outcome = rolled.expect("the master tells").outcome;
    assert_eq!(outcome.exit, ExitStatus::RolledBack, "{outcome:?}");
    tried.cluster.eventually_logs("could not write down");
    let before = tried.cluster.master();
    tried.cluster.kill_master().expect("ours");
    let status = tried.cluster.eventually(|status| status.pid != before.pid);
    let build = sha256(&bad).expect("it is there");
    assert_eq!(status.latch.map(|latch| latch.build.build), Some(build));
    disk.make_room();
    tried.good_roll();
}

/// `/readyz` is what a proxy believes: it says what somebody who posts would be told.
#[test]
fn b15_a_proxy_is_told_of_a_full_disk_what_who_posts_is_told() {
    let Some(disk) = SmallDisk::of(6 * 1024) else { return };
    let data = disk.0.path().join("data");
    fs::create_dir(&data).expect("ours");
    let tried = Tried::with(Setup { data: Some(data), more: QUICK.to_owned(), ..Setup::default() });
    let alice = tried.cluster.account("alice");
    let api = tried.cluster.api();
    let told = |posting: bool| {
        let bearer = format!("Bearer {}", alice.bearer);
        let headers =
            [("Authorization", bearer.as_str()), ("Content-Type", "application/activity+json")];
        let note = br#"{"type":"Create","object":{"type":"Note","content":"hello"}}"#;
        let answer = match posting {
            true => api.call("POST", "/users/alice/outbox", &headers, note),
            false => api.call("GET", "/readyz", &[], b""),
        };
        let answer = answer.expect("an answer");
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let wait = answer.header("retry-after").map(str::to_owned);
        (answer.status, wait, body["detail"].as_str().map(str::to_owned))
    };
    assert_eq!((told(false).0, told(true).0), (200, 201));
    disk.fill();
    // A write proves for a second that one can write. Whichever worker is asked, after that.
    let same = |status: (u16, u16)| {
        pump_test::eventually(Duration::from_secs(30), || {
            let pairs: Vec<_> = (0..10).map(|_| (told(false), told(true))).collect();
            let good = pairs.iter().all(|(ready, posted)| (ready.0, posted.0) == status);
            if good { Ok(pairs) } else { Err(pairs) }
        })
    };
    for (ready, posted) in same((503, 503)) {
        assert_eq!(ready, posted);
    }
    disk.make_room();
    same((200, 201));
    tried.good_roll();
}

/// A program whose workers begin with limits, where there are some in the file.
fn limited(folder: &Path) -> (PathBuf, PathBuf) {
    let (program, limits) = (folder.join("pumpd-limited"), folder.join("limits"));
    let text = format!(
        "if [ \"$1\" = worker ] && [ -e '{limits}' ]; then . '{limits}'; fi\n\
         exec -a \"$0\" '{pumpd}' \"$@\"",
        limits = limits.display(),
        pumpd = pumpd().display(),
    );
    crate::script(&program, &text);
    (program, limits)
}

fn limited_cluster(more: &str) -> (Tried, PathBuf) {
    let builds = tempfile::tempdir().expect("a folder");
    let (program, limits) = limited(builds.path());
    let setup = Setup { pumpd: Some(program), more: more.to_owned(), ..Setup::default() };
    let cluster = TestCluster::start(setup);
    (Tried { cluster, builds }, limits)
}

#[test]
fn b15_a_new_worker_without_memory_is_told_of_as_such() {
    let (tried, limits) = limited_cluster(QUICK);
    let before = pids(&tried.cluster.workers());
    let mut given_up = 0;
    for mib in 20..1000 {
        fs::write(&limits, format!("ulimit -v {}\n", mib * 1024)).expect("ours");
        let ask = Restart { clear_latch: true, ..Restart::default() };
        let rolled = tried.cluster.control().restart(ask, |_| ()).expect("it is told");
        if rolled.outcome.exit == ExitStatus::Done {
            // With so little it may not serve well: that is the canary's to find out, and there is none here.
            break;
        }
        let status = tried.cluster.status();
        // Without room for the program itself the kernel ends it before its first word.
        if rolled.outcome.text.contains("memory") {
            given_up += 1;
            assert_eq!(status.latch, None, "the build is not to blame: {rolled:?}");
        } else {
            assert!(rolled.outcome.text.ends_with("signal 11"), "{mib} MiB: {rolled:?}");
        }
        assert_eq!(pids(&tried.cluster.workers()), before, "{mib} MiB: {rolled:?}");
    }
    assert!(given_up > 0, "the limit is one");
    fs::remove_file(&limits).expect("ours");
    tried.good_roll();
}

#[test]
fn b15_a_new_worker_without_descriptors_is_told_of_as_such() {
    let (tried, limits) = limited_cluster(QUICK);
    let before = pids(&tried.cluster.workers());
    for descriptors in [20, 40, 70] {
        fs::write(&limits, format!("ulimit -n {descriptors}\n")).expect("ours");
        let rolled = tried.cluster.roll(None);
        assert_eq!(rolled.outcome.exit, ExitStatus::RollFailed, "{descriptors}: {rolled:?}");
        let text = &rolled.outcome.text;
        assert!(text.contains("`LimitNOFILE=`"), "{descriptors}: {rolled:?}");
        assert_eq!(tried.cluster.status().latch, None, "the build is not to blame: {rolled:?}");
        assert_eq!(pids(&tried.cluster.workers()), before, "{descriptors}: {rolled:?}");
    }
    fs::remove_file(&limits).expect("ours");
    tried.good_roll();
}

/// Descriptors for a few connections only: the others stay where they are and are served there.
#[test]
fn b15_new_workers_that_have_descriptors_for_few_take_few_and_nobody_is_lost() {
    let (tried, limits) = limited_cluster("[roll]\nlinger_seconds = 300\nwatch_seconds = 0\n");
    let mut connections: Vec<_> = (0..60).map(|_| connect(&tried.cluster)).collect();
    for connection in &mut connections {
        connection.write_all(REQUEST).expect("open");
        assert!(answer(connection).starts_with("http/1.1 200"));
    }
    // Some twenty are open at the beginning, and 64 are kept for other things.
    fs::write(&limits, "ulimit -n 100\n").expect("ours");
    let control = tried.cluster.control();
    let rolling = std::thread::spawn(move || control.restart(Default::default(), |_| ()));
    tried.cluster.eventually_logs("connections have a place at a time, and not 4096");
    tried.cluster.eventually(|status| {
        let old = |one: &Worker| one.generation == 1 && one.state == WorkerState::Ready;
        !status.workers.iter().any(old)
    });
    let mut stayed = 0;
    for connection in &mut connections {
        connection.write_all(REQUEST).expect("open");
        let text = answer(connection);
        assert!(text.starts_with("http/1.1 200"), "{text}");
        if text.contains("connection: close") {
            stayed += 1;
            assert_eq!(connection.read(&mut [0]).expect("an orderly close, no reset"), 0);
        }
    }
    assert!(stayed > 0, "there was no place for all");
    let rolled = rolling.join().expect("the roll's client does not panic").expect("it is told");
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    drop(connections);
    fs::remove_file(&limits).expect("ours");
    tried.good_roll();
}
