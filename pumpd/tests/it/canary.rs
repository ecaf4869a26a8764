//! Case 2: new code that comes up well and is bad. Its first worker is compared with the old ones while
//! real clients use both.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use pump_control::ExitStatus;
use pump_control::control::{Ask, Event, Reply, Restart, WorkerState};
use pump_test::{Rolled, TestCluster};

use pump_test::fake::{self, Faults, faulty};
use pump_test::load::{Load, Mix, Plan};

use crate::{cluster, pumpd};

/// Long enough for evidence on a busy machine; what is clearly worse is noticed far earlier.
const COMPARES: &str =
    "[roll]\ncanary_seconds = 10\nlinger_seconds = 0\nwatch_seconds = 0\ndrain_seconds = 5\n";

fn bad(cluster: &TestCluster, faults: &Faults) -> PathBuf {
    faulty(pumpd(), cluster.place(), "bad", faults).expect("a copy of the program")
}

fn good(cluster: &TestCluster, name: &str) -> PathBuf {
    fake::other_build(pumpd(), cluster.place(), name).expect("a copy of the program")
}

fn build_of(program: &std::path::Path) -> String {
    pump_test::process::sha256(program).expect("the program is there")
}

/// The machine crashes, as far as a process can tell, and comes up again.
fn crash(cluster: &mut TestCluster) {
    let workers = cluster.workers();
    cluster.kill_master().expect("it is killed");
    for worker in &workers {
        worker.signal(Signal::SIGKILL).expect("it serves on as an orphan");
    }
    pump_test::eventually(Duration::from_secs(30), || {
        if workers.iter().any(pump_test::process::Process::lives) { Err(()) } else { Ok(()) }
    });
    cluster.start_again().expect("another one starts");
}

/// Clients that use all workers for as long as this lives.
fn load(cluster: &TestCluster) -> Load {
    let status = cluster.status();
    let address = status.listen[0].parse().expect("an address");
    Load::start(Plan {
        mix: Mix { new: 4, keepalive: 4, ..Mix::default() },
        lasts: Duration::from_secs(300),
        new_per_second: 120,
        think: Duration::from_millis(100),
        ..Plan::new(address, "social.example")
    })
}

/// Rolls onto a build with these faults while clients look on, and returns how that ended.
#[track_caller]
fn is_rolled_back(faults: &Faults, reason: &str) -> (TestCluster, PathBuf, Rolled) {
    let cluster = cluster(2, COMPARES);
    let candidate = bad(&cluster, faults);
    let load = load(&cluster);
    let rolled = cluster.roll(Some(&candidate));
    drop(load);
    assert_eq!(rolled.outcome.exit, ExitStatus::RolledBack, "{rolled:?}");
    assert!(rolled.outcome.text.contains(reason), "{}", rolled.outcome.text);
    let started = |event: &&(u64, Event)| matches!(&event.1, Event::WorkerStarted(who) if who.generation == 2);
    assert_eq!(rolled.events.iter().filter(started).count(), 1, "one new worker, no more");
    let status = cluster.status();
    let old = build_of(pumpd());
    let serves = status.workers.iter().filter(|worker| worker.state == WorkerState::Ready);
    assert!(serves.clone().all(|worker| worker.build.build == old), "{status:?}");
    assert_eq!(serves.count(), 2, "the old build is at full strength");
    let latch = status.latch.expect("it is latched");
    assert_eq!(latch.build.build, build_of(&candidate));
    assert!(latch.reason.contains(reason), "{}", latch.reason);
    (cluster, candidate, rolled)
}

#[test]
fn b02_p3_five_errors_in_a_hundred_go_back_with_the_figures() {
    let faults = Faults { errors_percent: 5, ..Faults::default() };
    let (cluster, ..) = is_rolled_back(&faults, "% of ");
    let outcome = cluster.status().last_roll.expect("a roll has ended");
    assert!(outcome.text.contains("with 5xx, the old one 0.0 % of"), "{}", outcome.text);
    // What was bad is gone, and another build rolls. Nobody asks for anything now, and on a machine that is
    // too busy for probes that would be no evidence.
    let ask =
        Restart { candidate: Some(good(&cluster, "next")), canary: Some(0), ..Restart::default() };
    let rolled = cluster.control().restart(ask, |_| ()).expect("the master tells the end");
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    assert_eq!(cluster.status().latch, None);
}

#[test]
fn b02_p3_a_build_that_is_far_slower_goes_back() {
    let faults = Faults { delay_millis: 60, ..Faults::default() };
    is_rolled_back(&faults, "half of the answers in");
}

#[test]
fn b02_p3_a_build_that_leaks_goes_back() {
    let faults = Faults { leaks_kib: 512, ..Faults::default() };
    is_rolled_back(&faults, "grew steadily by");
}

#[test]
fn b02_p3_a_build_that_panics_goes_back() {
    let faults = Faults { panics_percent: 2, ..Faults::default() };
    is_rolled_back(&faults, "panicked");
}

#[test]
fn b02_p3_a_build_whose_event_loop_stops_goes_back() {
    let faults = Faults { blocks_after_requests: Some(30), ..Faults::default() };
    let (_, _, rolled) = is_rolled_back(&faults, "its event loop does not turn");
    // It cannot leave, so nobody waits for that.
    assert!(
        !rolled.steps.iter().any(|step| step.contains("had not drained in time")),
        "{rolled:?}"
    );
}

#[test]
fn b02_p3_a_build_that_dies_under_its_load_goes_back() {
    let faults = Faults { dies_after_requests: Some(100), ..Faults::default() };
    let (.., rolled) = is_rolled_back(&faults, "exited with 9");
    assert!(rolled.outcome.output.iter().any(|line| line.contains("died soon")), "{rolled:?}");
}

#[test]
fn a_good_build_is_compared_and_goes_on() {
    let cluster = cluster(3, &COMPARES.replace("= 10", "= 4"));
    let load = load(&cluster);
    let rolled = cluster.roll(Some(&good(&cluster, "new")));
    let report = load.stop();
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    assert!(rolled.steps.iter().any(|step| step.contains("no worse than the old")), "{rolled:?}");
    let canary = |event: &(u64, Event)| match &event.1 {
        Event::Canary(canary) => Some(canary.clone()),
        _ => None,
    };
    let canaries: Vec<_> = rolled.events.iter().filter_map(canary).collect();
    let last = canaries.last().expect("it was told of");
    // Who of the three takes a connection is the kernel's choice, and a busy machine's.
    assert!(last.new.requests > 30 && last.old.requests > 30, "{last:?}");
    // While it was compared it was alone.
    let position = |wanted: &str| rolled.steps.iter().position(|step| step.contains(wanted));
    let (begins, ends) = (position("is compared"), position("no worse"));
    let (begins, ends) = (begins.expect("it begins"), ends.expect("it ends"));
    let between = &rolled.steps[begins..ends];
    assert!(!between.iter().any(|step| step.contains("is started")), "{between:?}");
    assert_eq!(report.failures(), 0, "{report:?}");
}

/// Nobody asks for anything, so the workers are asked to do what a person does.
#[test]
fn on_a_quiet_server_a_good_build_is_probed() {
    let cluster = cluster(2, &COMPARES.replace("= 10", "= 1"));
    let rolled = cluster.roll(Some(&good(&cluster, "new")));
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    let no_worse = rolled.steps.iter().find(|step| step.contains("no worse")).expect("a verdict");
    // Once at its beginning, and once more at its end if there is the time. On a busy machine one of the two may not
    // come to its end, and then it does so in neither build.
    let probed = |went: &str| no_worse.matches(&format!("{went} probes went well")).count();
    let all = [probed("1 of 1"), probed("2 of 2")].iter().any(|sides| *sides > 0);
    assert!(all || probed("1 of 2") == 2, "{no_worse}");
}

#[test]
fn a_request_may_ask_for_no_canary_or_for_another() {
    let cluster = cluster(2, COMPARES);
    let asks = [Some(0), Some(1)];
    for (number, canary) in asks.into_iter().enumerate() {
        let candidate = Some(good(&cluster, &format!("new-{number}")));
        let ask = Restart { candidate, canary, ..Restart::default() };
        let rolled = cluster.control().restart(ask, |_| ()).expect("the master tells the end");
        assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
        let compared = rolled.steps.iter().any(|step| step.contains("is compared"));
        assert_eq!(compared, canary == Some(1), "{rolled:?}");
    }
}

#[test]
fn several_workers_are_replaced_at_a_time_if_somebody_says_so() {
    let cluster = cluster(4, "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\n");
    let candidate = Some(good(&cluster, "new"));
    let ask = Restart { candidate, parallel: Some(2), ..Restart::default() };
    let rolled = cluster.control().restart(ask, |_| ()).expect("the master tells the end");
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    let started = |step: &&String| step.contains("is started as");
    let first: Vec<&String> =
        rolled.steps.iter().filter(|step| !step.contains("candidate")).take(2).collect();
    assert!(first.iter().all(started), "{rolled:?}");
}

/// Rule 9: over a crash of the master, and until somebody says so.
#[test]
fn a_latch_is_kept_over_a_death_of_the_master_and_cleared_by_a_person() {
    let mut cluster = cluster(2, "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\n");
    let candidate = bad(&cluster, &Faults { exits: Some(3), ..Faults::default() });
    let rolled = cluster.roll(Some(&candidate));
    assert_eq!(rolled.outcome.exit, ExitStatus::RollFailed, "{rolled:?}");
    let latch = cluster.status().latch.expect("it is latched");
    assert!(latch.output.iter().any(|line| line.contains("no good")), "{latch:?}");

    crash(&mut cluster);
    assert_eq!(cluster.status().latch, Some(latch), "it is known after a crash");
    let again = cluster.roll(Some(&candidate));
    assert_eq!(again.outcome.exit, ExitStatus::Latched, "{again:?}");
    cluster.signal(Signal::SIGUSR2);
    cluster.eventually_logs("a signal cannot name another build");

    // With the latch forgotten it is tried again, and fails again.
    let ask = Restart { candidate: Some(candidate), clear_latch: true, ..Restart::default() };
    let rolled = cluster.control().restart(ask, |_| ()).expect("the master tells the end");
    assert_eq!(rolled.outcome.exit, ExitStatus::RollFailed, "{rolled:?}");

    // A good build heals it, and nothing is left on the disk.
    assert_eq!(cluster.roll(Some(&good(&cluster, "new"))).outcome.exit, ExitStatus::Done);
    assert_eq!(cluster.status().latch, None);
    assert!(!cluster.place().join("data/latch.json").exists());
}

#[test]
fn a_latch_that_cannot_be_read_keeps_nobody_from_starting() {
    let mut cluster = cluster(2, "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\n");
    fs::write(cluster.place().join("data/latch.json"), "{\"key\":7").expect("ours");
    crash(&mut cluster);
    cluster.eventually_logs("could not read which build has failed");
    assert!(matches!(cluster.ask(Ask::Status), Reply::Status(status) if status.latch.is_none()));
}
