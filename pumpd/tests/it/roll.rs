//! Rolling restarts. A name that begins with a letter is a bug of the implementation of 2017, as the
//! decision on the roll lists them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use pump_control::ExitStatus;
use pump_control::control::{Ask, Phase, Reply, Restart, Status, WorkerState};
use pump_test::fake::{self, Fault, candidate};
use pump_test::{Setup, TestCluster};

use crate::{cluster, pumpd, script};

/// A roll with short patience, for candidates that take all of it.
const IMPATIENT: &str = "[roll]\nready_seconds = 10\nlinger_seconds = 0\nwatch_seconds = 0\n";

/// Idle connections are not what these tests are about.
const QUICK: &str = "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\n";

/// A build that is good and other than the running one.
fn good(cluster: &TestCluster, name: &str) -> PathBuf {
    fake::other_build(pumpd(), cluster.place(), name).expect("a copy of the program")
}

fn bad(cluster: &TestCluster, fault: Fault) -> PathBuf {
    candidate(pumpd(), cluster.place(), "9.9.9", fault).expect("a script")
}

fn ready_builds(status: &Status) -> Vec<String> {
    let ready = status.workers.iter().filter(|worker| worker.state == WorkerState::Ready);
    ready.map(|worker| worker.build.build.clone()).collect()
}

/// Whether the cluster is whole, at rest, and of this build alone.
fn whole(status: &Status, build: &str, workers: usize) -> bool {
    let builds = ready_builds(status);
    status.phase == Phase::Running
        && status.workers.len() == workers
        && builds.len() == workers
        && builds.iter().all(|ready| ready == build)
}

fn worker_pids(status: &Status) -> BTreeSet<u32> {
    status.workers.iter().map(|worker| worker.pid).collect()
}

fn build_of(program: &Path) -> String {
    pump_test::process::sha256(program).expect("the program is there")
}

#[test]
fn every_worker_is_replaced_and_the_master_stays() {
    let cluster = cluster(3, QUICK);
    let before = cluster.status();
    let new = good(&cluster, "new");
    let rolled = cluster.roll(Some(&new));
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    let after = cluster.status();
    assert!(whole(&after, &build_of(&new), 3), "{after:?}");
    assert_eq!(after.pid, before.pid);
    assert!(worker_pids(&after).is_disjoint(&worker_pids(&before)));
    for worker in cluster.workers() {
        assert_eq!(worker.build().expect("its program is readable"), build_of(&new));
    }
    let gone = rolled.steps.iter().filter(|step| step.ends_with("is gone"));
    assert_eq!(gone.count(), 3, "each step is told, the last one too: {rolled:?}");
    assert_eq!(after.master.build, build_of(&new), "the master has followed: {after:?}");
}

#[test]
fn sigusr2_rolls_onto_what_the_path_has_become() {
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("pumpd");
    let next = fake::other_build(pumpd(), folder.path(), "next").expect("a copy of the program");
    std::os::unix::fs::symlink(pumpd(), &link).expect("a link");
    let setup = Setup { pumpd: Some(link.clone()), more: QUICK.to_owned(), ..Setup::default() };
    let cluster = TestCluster::start(setup);
    fs::remove_file(&link).expect("ours");
    std::os::unix::fs::symlink(&next, &link).expect("a link");
    cluster.signal(Signal::SIGUSR2);
    cluster.eventually(|status| whole(status, &build_of(&next), 2));
}

/// Bug a: a refused magic left "in flight" set, and every later restart was refused.
#[test]
fn a_after_a_refused_magic_the_next_roll_goes_through() {
    let cluster = cluster(2, QUICK);
    let before = cluster.status();
    let other = bad(&cluster, Fault::Magic(77));
    for _ in 0..2 {
        let rolled = cluster.roll(Some(&other));
        assert_eq!(rolled.outcome.exit, ExitStatus::OtherMagic, "{rolled:?}");
        assert!(rolled.outcome.text.contains("77"), "{rolled:?}");
    }
    let refused = cluster.status();
    assert_eq!(worker_pids(&refused), worker_pids(&before), "no worker was touched");
    assert_eq!(refused.latch, None);
    let new = good(&cluster, "new");
    assert_eq!(cluster.roll(Some(&new)).outcome.exit, ExitStatus::Done);
}

/// Bug b: the request itself set "in flight", so no restart was ever performed.
#[test]
fn b_a_request_is_performed_and_one_during_it_is_refused() {
    let cluster = cluster(2, IMPATIENT);
    let before = cluster.status();
    let slow = bad(&cluster, Fault::Hangs);
    let accepted =
        cluster.ask(Ask::Restart(Restart { candidate: Some(slow), ..Restart::default() }));
    assert!(matches!(accepted, Reply::Accepted { .. }), "{accepted:?}");
    let second = cluster.roll(None);
    assert_eq!(second.outcome.exit, ExitStatus::RollInProgress, "{second:?}");
    let after = cluster.eventually(|status| status.roll.is_none() && status.last_roll.is_some());
    assert_eq!(after.last_roll.map(|outcome| outcome.exit), Some(ExitStatus::RollFailed));
    assert_eq!(worker_pids(&cluster.status()), worker_pids(&before), "nothing was touched");
    assert_eq!(cluster.roll(Some(&good(&cluster, "new"))).outcome.exit, ExitStatus::Done);
}

/// Bug c: a worker that died weeks after a restart was taken for one that failed in it.
#[test]
fn c_a_worker_that_dies_after_a_roll_is_replaced_and_rolls_go_on() {
    let cluster = cluster(2, QUICK);
    for round in 0..3 {
        let new = good(&cluster, &format!("round-{round}"));
        assert_eq!(cluster.roll(Some(&new)).outcome.exit, ExitStatus::Done, "round {round}");
        let last = cluster.workers().into_iter().max_by_key(|worker| worker.pid);
        last.expect("two workers").signal(Signal::SIGKILL).expect("it lives");
        let build = build_of(&new);
        cluster.eventually(|status| whole(status, &build, 2));
        assert_eq!(cluster.status().latch, None);
    }
}

/// Bug d: a crash of another worker was taken for the end of the one that was draining.
#[test]
fn d_another_workers_death_during_a_roll_is_not_mistaken_for_the_roll() {
    let cluster = cluster(4, QUICK);
    let new = good(&cluster, "new");
    let old = cluster.workers();
    let rolled = std::thread::scope(|scope| {
        let rolling = scope.spawn(|| cluster.roll(Some(&new)));
        for worker in old.iter().take(2) {
            // It may have gone in the roll by now, which is as good a moment as any.
            let _ = worker.signal(Signal::SIGKILL);
        }
        rolling.join().expect("the roll comes to its end")
    });
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    cluster.eventually(|status| whole(status, &build_of(&new), 4));
}

/// Bug e: a message of another shape ended the master.
#[test]
fn e_a_worker_that_says_what_nobody_knows_is_served_with() {
    let cluster = cluster(2, QUICK);
    let babbling = cluster.place().join("babbling");
    let real = pumpd().display();
    // The channel is the third argument: `worker --channel N`.
    script(
        &babbling,
        &format!(
            "if [ \"$1\" = worker ]; then\n\
             printf '{{\"cmd\":\"follow\"}}\\n{{\\n\\0\\n' >&\"$3\"\nfi\n\
             exec '{real}' \"$@\""
        ),
    );
    let rolled = cluster.roll(Some(&babbling));
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    cluster.eventually_logs("said something that this build does not know");
}

/// Bug f: what listened for errors of the start was never removed, so a later error failed a restart.
#[test]
fn f_a_death_long_after_ready_fails_nothing() {
    let cluster = cluster(2, QUICK);
    let build = build_of(pumpd());
    for worker in cluster.workers() {
        worker.signal(Signal::SIGKILL).expect("it lives");
    }
    let after = cluster.eventually(|status| whole(status, &build, 2));
    assert_eq!((after.latch, after.last_roll), (None, None));
    cluster.signal(Signal::SIGUSR2);
    let rolled = cluster.eventually(|status| status.last_roll.is_some());
    assert_eq!(rolled.last_roll.map(|outcome| outcome.exit), Some(ExitStatus::Done));
}

/// Bug g: after a failed restart nobody was replaced any more, down to none.
#[test]
fn g_after_a_failed_roll_old_workers_are_replaced_by_the_old_build() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = fake::other_build(pumpd(), folder.path(), "old").expect("a copy of the program");
    let build = build_of(&old);
    let more = QUICK.to_owned();
    let cluster = TestCluster::start(Setup { pumpd: Some(old.clone()), more, ..Setup::default() });
    let failed = cluster.roll(Some(&bad(&cluster, Fault::Exits(3))));
    assert_eq!(failed.outcome.exit, ExitStatus::RollFailed, "{failed:?}");
    assert!(failed.outcome.output.iter().any(|line| line == "no good"), "{failed:?}");
    // Not even its file is needed for that, nor the file of the configuration as it was.
    fs::remove_file(&old).expect("ours");
    fs::write(cluster.config(), "domian = \"typo.example\"\n").expect("ours");
    for _ in 0..3 {
        for worker in cluster.workers() {
            worker.signal(Signal::SIGKILL).expect("it lives");
        }
        let status = cluster.eventually(|status| whole(status, &build, 2));
        assert!(status.latch.is_some(), "the latch stays: {status:?}");
    }
}

#[test]
fn while_latched_the_signal_is_refused_and_another_build_heals() {
    let cluster = cluster(2, QUICK);
    let failing = bad(&cluster, Fault::Exits(3));
    assert_eq!(cluster.roll(Some(&failing)).outcome.exit, ExitStatus::RollFailed);
    cluster.signal(Signal::SIGUSR2);
    cluster.eventually_logs("a rolling restart is refused: the last roll failed");
    let again = cluster.roll(Some(&failing));
    assert_eq!(
        again.outcome.exit,
        ExitStatus::Latched,
        "what failed is not tried again: {again:?}"
    );
    let new = good(&cluster, "new");
    assert_eq!(cluster.roll(Some(&new)).outcome.exit, ExitStatus::Done);
    assert_eq!(cluster.status().latch, None);
}

#[test]
fn a_candidate_that_is_no_good_costs_no_worker() {
    let cluster = cluster(2, IMPATIENT);
    let before = cluster.status();
    let cases = [
        (Fault::Exits(0), ExitStatus::RollFailed),
        (Fault::Hangs, ExitStatus::RollFailed),
        (Fault::IgnoresTerm, ExitStatus::RollFailed),
        (Fault::MigrateFails, ExitStatus::Preflight),
        (Fault::NoInfo, ExitStatus::Preflight),
    ];
    for (fault, exit) in cases {
        let rolled = cluster.roll(Some(&bad(&cluster, fault)));
        assert_eq!(rolled.outcome.exit, exit, "{fault:?}: {rolled:?}");
        let after = cluster.status();
        assert_eq!(worker_pids(&after), worker_pids(&before), "{fault:?}: {after:?}");
    }
    let missing = cluster.place().join("not-there");
    let rolled = cluster.roll(Some(&missing));
    assert_eq!(rolled.outcome.exit, ExitStatus::Preflight, "{rolled:?}");
    assert!(rolled.outcome.text.contains("not-there"), "{rolled:?}");
}

#[test]
fn a_candidate_that_says_it_cannot_serve_costs_no_worker() {
    let cluster = cluster(2, QUICK);
    let before = cluster.status();
    let refusing = cluster.place().join("refusing");
    let real = pumpd().display();
    // The channel is the third argument, and the first roll's generation is the second.
    script(
        &refusing,
        &format!(
            "[ \"$1\" = worker ] || exec '{real}' \"$@\"\n\
             printf '{{\"say\":\"refused\",\"generation\":2,\"reason\":\"could not bind\"}}\\n' >&\"$3\"\n\
             exec sleep 600"
        ),
    );
    let rolled = cluster.roll(Some(&refusing));
    assert_eq!(rolled.outcome.exit, ExitStatus::RollFailed, "{rolled:?}");
    assert!(rolled.outcome.text.contains("could not bind"), "{rolled:?}");
    assert_eq!(worker_pids(&cluster.status()), worker_pids(&before));
}

#[test]
fn a_candidate_whose_file_vanishes_is_rolled_all_the_same() {
    let cluster = cluster(2, QUICK);
    let new = good(&cluster, "new");
    let build = build_of(&new);
    let ask = Restart { candidate: Some(new.clone()), ..Restart::default() };
    assert!(matches!(cluster.ask(Ask::Restart(ask)), Reply::Accepted { .. }));
    fs::remove_file(&new).expect("ours");
    cluster.eventually(|status| whole(status, &build, 2));
}

#[test]
fn a_build_that_dies_soon_after_ready_is_rolled_back() {
    let cluster = cluster(2, "[roll]\nwatch_seconds = 30\n");
    let build = build_of(pumpd());
    let rolled = cluster.roll(Some(&bad(&cluster, Fault::DiesSoon)));
    // The first of them dies before or after the second one is ready.
    let expected = [ExitStatus::RolledBack, ExitStatus::RollFailed];
    assert!(expected.contains(&rolled.outcome.exit), "{rolled:?}");
    cluster.eventually(|status| whole(status, &build, 2));
}

#[test]
fn a_typo_in_the_configuration_is_the_reason_and_the_old_one_goes_on() {
    let cluster = cluster(2, QUICK);
    let text = fs::read_to_string(cluster.config()).expect("ours");
    fs::write(cluster.config(), format!("workres = 3\n{text}")).expect("ours");
    let rolled = cluster.roll(None);
    assert_eq!(rolled.outcome.exit, ExitStatus::Configuration, "{rolled:?}");
    assert!(rolled.outcome.text.contains("line 1: unknown key `workres`"), "{rolled:?}");
    for worker in cluster.workers() {
        worker.signal(Signal::SIGKILL).expect("it lives");
    }
    cluster.eventually(|status| whole(status, &build_of(pumpd()), 2));
    // Mended, it takes effect.
    fs::write(cluster.config(), text.replace("workers = 2", "workers = 3")).expect("ours");
    assert_eq!(cluster.roll(None).outcome.exit, ExitStatus::Done);
    cluster.eventually(|status| whole(status, &build_of(pumpd()), 3));
}

#[test]
fn sighup_says_what_changed_and_what_it_needs() {
    let cluster = cluster(2, QUICK);
    let text = fs::read_to_string(cluster.config()).expect("ours");
    let changed = text.replace("workers = 2", "workers = 3").replace("/data\"", "/other\"");
    fs::write(cluster.config(), &changed).expect("ours");
    cluster.signal(Signal::SIGHUP);
    cluster.eventually_logs("`workers` changed: `pump restart` makes it take effect");
    cluster.eventually_logs("`data_dir` changed: `pump stop` and `pump start`");
    fs::write(cluster.config(), "nonsense").expect("ours");
    let reply = cluster.ask(Ask::Reload);
    assert!(matches!(&reply, Reply::Reloaded(told) if told.error.is_some()), "{reply:?}");
}

#[test]
fn one_worker_is_rolled_only_if_somebody_says_so() {
    let cluster = cluster(1, QUICK);
    let refused = cluster.roll(None);
    assert_eq!(refused.outcome.exit, ExitStatus::OneWorker, "{refused:?}");
    let ask = Restart { one_worker: true, ..Restart::default() };
    let rolled = cluster.control().restart(ask, |_| {}).expect("the control socket answers");
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
}

#[test]
fn a_stop_wins_over_a_roll() {
    let mut cluster = cluster(2, QUICK);
    let slow = bad(&cluster, Fault::Hangs);
    let ask = Restart { candidate: Some(slow), ..Restart::default() };
    assert!(matches!(cluster.ask(Ask::Restart(ask)), Reply::Accepted { .. }));
    // Before that the script has children of its own, which no real build has.
    cluster.eventually(|status| {
        status.workers.iter().any(|worker| worker.state == WorkerState::Starting)
    });
    assert_eq!(cluster.end().expect("it ends in time and leaves nobody"), Some(0));
}

#[test]
fn a_worker_that_is_told_to_leave_before_it_listens_leaves() {
    let mut cluster = cluster(2, "[roll]\nlinger_seconds = 0\ndrain_seconds = 600\n");
    let slow = cluster.place().join("slow");
    let real = pumpd().display();
    script(&slow, &format!("[ \"$1\" != worker ] || sleep 2\nexec '{real}' \"$@\""));
    let ask = Restart { candidate: Some(slow), ..Restart::default() };
    assert!(matches!(cluster.ask(Ask::Restart(ask)), Reply::Accepted { .. }));
    cluster.eventually(|status| {
        status.workers.iter().any(|worker| worker.state == WorkerState::Starting)
    });
    // It would be killed after ten minutes only.
    assert_eq!(cluster.end().expect("it ends in time and leaves nobody"), Some(0));
}

/// The reply was longer than anybody reads: `pump status` failed for as long as the latch was on.
#[test]
fn a_build_that_dies_in_garbage_is_told_of_in_a_reply_that_can_be_read() {
    let cluster = cluster(2, QUICK);
    let garbage = cluster.place().join("garbage");
    let real = pumpd().display();
    script(
        &garbage,
        &format!(
            "[ \"$1\" = worker ] || exec '{real}' \"$@\"\n\
             for line in {{1..20}}; do head -c 4000 /dev/zero; echo; done >&2\nexit 1"
        ),
    );
    let rolled = cluster.roll(Some(&garbage));
    assert_eq!(rolled.outcome.exit, ExitStatus::RollFailed, "{rolled:?}");
    assert_eq!(rolled.outcome.output.len(), 20);
    let latch = cluster.status().latch.expect("it failed");
    let control = |line: &String| line.contains(char::is_control);
    assert!(!latch.output.iter().any(control), "a terminal takes it for orders: {latch:?}");
}

/// To open it waits for somebody who writes, and the master has nobody else to go on meanwhile.
#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_at_once() {
    let cluster = cluster(2, QUICK);
    let pipe = cluster.place().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("it runs");
    assert!(made.success());
    let rolled = cluster.roll(Some(&pipe));
    assert_eq!(rolled.outcome.exit, ExitStatus::Preflight, "{rolled:?}");
    fs::rename(&pipe, cluster.config()).expect("ours");
    let rolled = cluster.roll(None);
    assert_eq!(rolled.outcome.exit, ExitStatus::Configuration, "{rolled:?}");
    assert!(matches!(cluster.ask(Ask::Reload), Reply::Reloaded(told) if told.error.is_some()));
}
