//! Whatever moment an upgrade is killed at, the old release or the new one is current, whole, and the
//! same command finishes the job.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::master::Master;
use crate::place::{Place, version};

#[test]
fn p6_a_kill_at_any_moment_leaves_the_old_or_the_new_release() {
    let (old, new) = (version("1.0.0"), version("1.1.0"));
    let place = Place::new();
    place.offer(&new);
    let began = Instant::now();
    place.pump(&["upgrade"]).ended(0, "");
    let whole = began.elapsed();
    let (mut before, mut after) = (0, 0);
    const CUTS: u32 = 40;
    for step in 0..=CUTS {
        let place = Place::new();
        let _master = Master::of(&place, &old);
        place.offer(&new);
        let mut run = place
            .command(&["upgrade"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pump can be run");
        // Somewhere in the run: where exactly differs from time to time, which is the point. The last
        // one ends by itself, however slow the machine is.
        if step < CUTS {
            wait_at_most(&run, whole.mul_f64(f64::from(step) / 32.0));
            let _ = run.kill();
        }
        run.wait().expect("our own child");
        let current = place.link("current").expect("there always is one");
        match current == new.info().name() {
            true => after += 1,
            false => before += 1,
        }
        assert!(current == old.info().name() || current == new.info().name(), "{current}");
        place.pump(&["upgrade"]).ended(0, "");
        assert_eq!(place.link("current"), Some(new.info().name()));
        let mut names = vec![old.info().name(), new.info().name()];
        names.sort();
        place.pump(&["rollback"]).ended(0, "");
        assert_eq!(place.releases(), names, "nothing unfinished is left");
    }
    assert!(before > 0, "no run was cut before its end");
    assert!(after > 0, "no run was cut after its end");
}

fn wait_at_most(child: &std::process::Child, limit: Duration) {
    use std::os::fd::AsFd;
    let pid = rustix::process::Pid::from_child(child);
    let flags = rustix::process::PidfdFlags::empty();
    let pidfd = rustix::process::pidfd_open(pid, flags).expect("our own child");
    let timeout = rustix::event::Timespec::try_from(limit).expect("a short time");
    let watched =
        rustix::event::PollFd::from_borrowed_fd(pidfd.as_fd(), rustix::event::PollFlags::IN);
    let _ = rustix::event::poll(&mut [watched], Some(&timeout));
}

/// Calls by which `pump` changes a file system.
const CHANGES: &[&str] = &[
    "rename",
    "renameat2",
    "symlink",
    "mkdir",
    "unlink",
    "unlinkat",
    "rmdir",
    "fsync",
    "chmod",
    "fchmod",
    "ftruncate",
];

/// More calls of one kind than an upgrade makes.
const MOST_CALLS: u32 = 500;

#[test]
#[ignore = "a hundred upgrades under strace; `cargo xtask test --long` runs it"]
fn long_p6_a_kill_at_every_change_leaves_the_old_or_the_new_release() {
    sweep("signal=KILL", &[CHANGES, &["write"]].concat());
}

/// Without `write`: by it the runtime also wakes its own threads, and without that it would wait.
#[test]
#[ignore = "a hundred upgrades under strace; `cargo xtask test --long` runs it"]
fn long_p6_a_disk_that_is_full_at_any_change_leaves_the_old_or_the_new_release() {
    sweep("error=ENOSPC", CHANGES);
}

/// Runs upgrade after upgrade, with a fault at the first call of a kind, the second, and so on until
/// one ends without meeting it.
fn sweep(fault: &str, calls: &[&str]) {
    let faults: u32 = calls.iter().map(|call| sweep_call(fault, call)).sum();
    assert!(faults > 30, "only {faults} faults were met, so nothing was looked at");
}

/// How many calls of this kind met the fault.
fn sweep_call(fault: &str, call: &str) -> u32 {
    let (old, new) = (version("1.0.0").info().name(), version("1.1.0").info().name());
    for when in 1..MOST_CALLS {
        let place = Place::new();
        place.offer(&version("1.1.0"));
        let seen = place.folder().join("seen");
        let inject = format!("inject={call}:{fault}:when={when}");
        let status = place
            .traced(&seen, &["-e", &format!("trace={call}"), "-e", &inject], &["upgrade"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("strace is installed");
        let text = std::fs::read_to_string(&seen).expect("strace writes what it saw");
        let met = text.contains("INJECTED") || text.contains("+++ killed by SIGKILL");
        let current = place.link("current").expect("there always is one");
        assert!(current == old || current == new, "at {call} {when}: {current}");
        if !met {
            assert!(status.success(), "{call}: {status}");
            return when - 1;
        }
        place.pump(&["upgrade"]).ended(0, "");
        assert_eq!(place.link("current"), Some(new.clone()), "at {call} {when}");
        assert_eq!(place.link("previous"), Some(old.clone()), "at {call} {when}");
        place.pump(&["rollback"]).ended(0, "");
        let mut names = vec![old.clone(), new.clone()];
        names.sort();
        assert_eq!(place.releases(), names, "at {call} {when}: nothing unfinished is left");
    }
    panic!("an upgrade made more than {MOST_CALLS} calls of {call}");
}
