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
    for step in 0..40 {
        let place = Place::new();
        let _master = Master::of(&place, &old);
        place.offer(&new);
        let mut run = place
            .command(&["upgrade"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pump can be run");
        // Somewhere in the run: where exactly differs from time to time, which is the point.
        wait_at_most(&run, whole.mul_f64(f64::from(step) / 32.0));
        let _ = run.kill();
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
