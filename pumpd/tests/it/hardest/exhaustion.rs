//! 15: something runs out in the middle of a roll. It is given up, with the reason, and the old workers
//! are as they were. What takes root or a program with limits is in `groups`, `room` and `clock`.

use std::process::Command;

use nix::sys::signal::Signal;
use pump_control::ExitStatus;
use pump_control::control::{Ask, Restart};

use super::{QUICK, Tried, pids};

/// The limits of a running process, as prlimit(1) sets them.
fn limit(pid: u32, what: &str, soft: usize) {
    let words = ["--pid", &pid.to_string(), &format!("--{what}={soft}:")];
    let status = Command::new("prlimit").args(words).status().expect("util-linux is installed");
    assert!(status.success(), "prlimit {words:?}");
}

#[test]
fn b15_a_master_without_descriptors_gives_the_roll_up() {
    let tried = Tried::new(QUICK);
    let before = pids(&tried.cluster.workers());
    let master = tried.cluster.master();
    let enough = 1024;
    // From too few for anything to nearly enough: it runs out at another place each time.
    let open = master.descriptors().expect("ours");
    for more in 1..14 {
        let new = tried.other(&format!("new-{more}"));
        limit(master.pid, "nofile", open + more);
        let rolled = tried
            .cluster
            .control()
            .restart(Restart { candidate: Some(new.clone()), ..Restart::default() }, |_| ());
        limit(master.pid, "nofile", enough);
        // With one or two there is not even a place for who asks.
        let Ok(rolled) = rolled else { continue };
        if rolled.outcome.exit == ExitStatus::Done {
            assert!(more > 4, "what a roll needs was not limited");
            break;
        }
        assert!(rolled.outcome.text.contains("`LimitNOFILE=`"), "{rolled:?}");
        assert_eq!(tried.cluster.status().latch, None, "the build is not to blame: {rolled:?}");
        let status =
            tried.cluster.eventually(|status| status.roll.is_none() && status.workers.len() == 2);
        assert_eq!(pids(&tried.cluster.workers()), before, "{more}: {rolled:?} {status:?}");
        std::fs::remove_file(new).expect("ours");
    }
    tried.good_roll();
}

#[test]
fn b15_a_new_worker_that_gets_no_processor_costs_nobody_anything() {
    let tried = Tried::new("[roll]\nready_seconds = 10\nwatch_seconds = 0\ncanary_seconds = 0\n");
    let before = pids(&tried.cluster.workers());
    let new = tried.other("new");
    let accepted =
        tried.cluster.ask(Ask::Restart(Restart { candidate: Some(new), ..Restart::default() }));
    assert!(matches!(accepted, pump_control::control::Reply::Accepted { .. }), "{accepted:?}");
    // The first new one, as soon as it is there; it may have been ready before it was stopped.
    let stopped = pump_test::eventually(std::time::Duration::from_secs(30), || {
        let workers = tried.cluster.workers();
        let new = workers.iter().find(|worker| !before.contains(&worker.pid)).cloned();
        new.ok_or(workers)
    });
    stopped.signal(Signal::SIGSTOP).expect("it lives");
    let status = tried.cluster.eventually(|status| {
        status.roll.is_none() && status.last_roll.is_some() && status.workers.len() == 2
    });
    let outcome = status.last_roll.expect("it has ended");
    if outcome.exit == ExitStatus::Done {
        // Stopped when it was ready: a worker that does not answer, whom nobody watches here.
        stopped.signal(Signal::SIGKILL).expect("it lives");
    } else {
        assert!(!stopped.lives(), "{outcome:?}");
    }
    tried.good_roll();
}

#[test]
fn b15_a_state_that_cannot_be_written_stops_no_roll() {
    let tried = Tried::new(QUICK);
    let bad =
        tried.broken("bad", &pump_test::fake::Faults { exits: Some(3), ..Default::default() });
    // Where the latch is to be written there is something that is no file.
    let latch = tried.cluster.place().join("data/latch.json");
    std::fs::create_dir(&latch).expect("ours");
    let rolled = tried.cluster.roll(Some(&bad));
    assert_eq!(rolled.outcome.exit, ExitStatus::RollFailed, "{rolled:?}");
    let again = tried.cluster.roll(Some(&bad));
    assert_eq!(again.outcome.exit, ExitStatus::Latched, "it is known all the same: {again:?}");
    tried.good_roll();
}
