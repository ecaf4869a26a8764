//! P4: the master becomes another build in place, and comes back when that build is no good.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use pump_control::ExitStatus;
use pump_control::control::{Ask, Restart};
use pump_test::fake::{self, Break, Faults};
use pump_test::process::Process;
use pump_test::{Setup, TestCluster};
use tempfile::TempDir;

use crate::client::connect;
use crate::pumpd;

const QUICK: &str = "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\ncanary_seconds = 0\n";

fn cluster() -> TestCluster {
    let listen = vec!["127.0.0.1:0".to_owned(), "unix:run/http.sock".to_owned()];
    let pumpd = Some(pumpd().to_owned());
    TestCluster::start(Setup { pumpd, listen, more: QUICK.to_owned(), ..Setup::default() })
}

fn other(folder: &TempDir, name: &str) -> PathBuf {
    fake::other_build(pumpd(), folder.path(), name).expect("a copy")
}

fn broken(folder: &TempDir, name: &str, faults: Faults) -> PathBuf {
    fake::faulty(pumpd(), folder.path(), name, &faults).expect("a copy that fails")
}

/// The builds that the processes run, as the kernel shows them.
fn builds(processes: &[Process]) -> Vec<String> {
    processes.iter().map(|process| process.build().expect("it lives")).collect()
}

#[test]
fn p4_the_master_becomes_the_new_build_and_is_the_same_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = cluster();
    let before = cluster.master();
    for round in 0..3 {
        let new = other(&folder, &format!("new-{round}"));
        let rolled = cluster.roll(Some(&new));
        assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
        let after = cluster.master();
        assert_eq!((after.pid, after.started), (before.pid, before.started));
        let want = pump_test::process::sha256(&new).expect("it is there");
        assert_eq!(after.build().expect("it lives"), want, "the kernel shows the new build");
        assert_eq!(cluster.status().master.build, want, "and so does the status");
        assert!(builds(&cluster.workers()).iter().all(|build| *build == want));
        assert_eq!(cluster.api().call("GET", "/", &[], b"").expect("an answer").status, 200);
    }
    assert_eq!(cluster.workers().len(), 2);
    cluster.signal(Signal::SIGHUP);
    cluster.eventually_logs("the configuration is as it was");
}

/// The worker of a master that has become another build is replaced like any other, and by that build.
#[test]
fn p4_the_new_master_looks_after_the_workers_that_it_took_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = cluster();
    let new = other(&folder, "new");
    assert_eq!(cluster.roll(Some(&new)).outcome.exit, ExitStatus::Done);
    let want = pump_test::process::sha256(&new).expect("it is there");
    fs::remove_file(&new).expect("ours");
    for _ in 0..3 {
        let before = cluster.workers();
        before[0].signal(Signal::SIGKILL).expect("it lives");
        cluster.eventually(|status| {
            let gone = status.workers.iter().all(|worker| worker.pid != before[0].pid);
            gone && status.workers.len() == 2
        });
        assert!(builds(&cluster.workers()).iter().all(|build| *build == want));
    }
}

#[test]
fn p4_a_configuration_alone_changes_no_master() {
    let cluster = cluster();
    let text = fs::read_to_string(cluster.config()).expect("ours");
    fs::write(cluster.config(), text.replace("workers = 2", "workers = 3")).expect("ours");
    assert_eq!(cluster.roll(None).outcome.exit, ExitStatus::Done);
    assert!(!cluster.log().contains("becoming"), "{}", cluster.log());
    assert_eq!(cluster.workers().len(), 3);
}

/// What another server's master dies of.
#[test]
fn p4_a_build_whose_master_cannot_begin_is_refused_before_anything_is_touched() {
    for how in [Break::Aborts, Break::OverflowsItsStack, Break::Exits, Break::Fails, Break::Hangs] {
        let folder = tempfile::tempdir().expect("a folder");
        let cluster = cluster();
        let pids = || cluster.workers().iter().map(|worker| worker.pid).collect::<Vec<_>>();
        let before = pids();
        let bad = broken(&folder, "bad", Faults { rehearsing: Some(how), ..Faults::default() });
        let rolled = cluster.roll(Some(&bad));
        assert_eq!(rolled.outcome.exit, ExitStatus::Preflight, "{how:?}: {rolled:?}");
        let text = &rolled.outcome.text;
        assert!(text.contains("the candidate's master would not take over"), "{how:?}: {text}");
        assert_eq!(pids(), before, "{how:?}: no worker was touched");
        let good = other(&folder, "good");
        let rolled = cluster.roll(Some(&good));
        assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{how:?}: {rolled:?}\n{}", cluster.log());
    }
}

#[test]
fn p4_a_master_that_dies_after_its_exec_becomes_the_old_one_again() {
    for how in [Break::Aborts, Break::OverflowsItsStack, Break::Exits, Break::Fails, Break::Hangs] {
        let folder = tempfile::tempdir().expect("a folder");
        let cluster = cluster();
        let before = cluster.master();
        let old = before.build().expect("it lives");
        let bad = broken(&folder, "bad", Faults { after_exec: Some(how), ..Faults::default() });
        let rolled = cluster.roll(Some(&bad));
        assert_eq!(rolled.outcome.exit, ExitStatus::RolledBack, "{how:?}: {rolled:?}");
        assert!(rolled.outcome.text.contains("the old build again"), "{:?}", rolled.outcome);
        let after = cluster.master();
        assert_eq!((after.pid, after.started), (before.pid, before.started), "{how:?}");
        assert_eq!(after.build().expect("it lives"), old, "{how:?}");
        let status = cluster.eventually(|status| status.workers.len() == 2);
        assert!(status.latch.is_some(), "{how:?}");
        assert!(builds(&cluster.workers()).iter().all(|build| *build == old), "{how:?}");
        let again = cluster.roll(Some(&bad));
        assert_eq!(again.outcome.exit, ExitStatus::Latched, "{how:?}: {again:?}");
        let good = other(&folder, "good");
        assert_eq!(cluster.roll(Some(&good)).outcome.exit, ExitStatus::Done, "{how:?}");
        let new = cluster.master().build().expect("it lives");
        assert_ne!(new, old, "{how:?}: the way forward is open");
    }
}

/// What was sent while the process became another build is not lost, and does not end it.
#[test]
fn p4_signals_wait_for_the_new_master() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = cluster();
    for round in 0..5 {
        let new = other(&folder, &format!("new-{round}"));
        let master = cluster.master();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = master.signal(Signal::SIGHUP);
                    std::thread::park_timeout(std::time::Duration::from_millis(1));
                }
            });
            // One roll at a time: each of these is refused, whichever build reads it.
            let ask = Restart { candidate: Some(new), ..Restart::default() };
            let rolled = cluster.control().restart(ask, |_| {
                master.signal(Signal::SIGUSR2).expect("it lives");
            });
            over.store(true, Ordering::Relaxed);
            let rolled = rolled.expect("one connection");
            assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
        });
        // The last SIGUSR2 may have begun a roll of its own.
        cluster.eventually(|status| status.roll.is_none());
        assert_eq!(cluster.master().pid, master.pid);
    }
    assert_eq!(cluster.end().expect("SIGTERM ends it"), Some(0));
}

#[test]
fn p4_a_client_that_waits_hears_how_it_ended_and_others_are_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = cluster();
    let new = other(&folder, "new");
    let mut steps = Vec::new();
    let ask = Restart { candidate: Some(new), ..Restart::default() };
    let control = cluster.control();
    let rolled = control.restart(ask, |step| steps.push(step.to_owned())).expect("one connection");
    assert_eq!(rolled.outcome.exit, ExitStatus::Done);
    cluster.ask(Ask::Status);
    let descriptors = cluster.master().descriptors().expect("it lives");
    for round in 0..10 {
        let new = other(&folder, &format!("again-{round}"));
        assert_eq!(cluster.roll(Some(&new)).outcome.exit, ExitStatus::Done);
    }
    cluster.eventually(|status| status.workers.len() == 2);
    let after = cluster.master().descriptors().expect("it lives");
    assert!(after <= descriptors + 1, "{descriptors} descriptors became {after}");
    let path = cluster.place().join("run/control.sock");
    assert!(path.exists() && cluster.place().join("run/http.sock").exists());
}

/// The beginning of a request that takes its time.
const UPLOAD: &[u8] =
    b"POST /oauth/token HTTP/1.1\r\nHost: social.example\r\nContent-Length: 1000\r\n\
    Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant_type=";

/// The roll has failed while the new master was rehearsed: it must not take over all the same.
#[test]
fn p4_a_worker_that_dies_before_the_exec_takes_everything_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = TestCluster::start(Setup {
        pumpd: Some(pumpd().to_owned()),
        more: format!("{QUICK}drain_seconds = 4\n"),
        ..Setup::default()
    });
    let old = cluster.master().build().expect("it lives");
    let slow = broken(&folder, "slow", Faults { rehearses_millis: 4000, ..Faults::default() });
    let new = pump_test::process::sha256(&slow).expect("it is there");
    let ask = Restart { candidate: Some(slow), ..Restart::default() };
    let mut busy = Vec::new();
    let rolled = cluster.control().restart(ask, |step| {
        if step.contains("takes over") {
            // The way back takes its time while these are answered.
            for _ in 0..16 {
                let mut connection = connect(&cluster);
                connection.write_all(UPLOAD).expect("open");
                busy.push(connection);
            }
            let workers = cluster.workers();
            let of_new = |one: &&Process| one.build().is_ok_and(|build| build == new);
            let victim = workers.iter().find(of_new).expect("all workers are new");
            victim.signal(Signal::SIGKILL).expect("it lives");
        }
    });
    let rolled = rolled.expect("one connection");
    assert_eq!(rolled.outcome.exit, ExitStatus::RolledBack, "{rolled:?}");
    // Whatever was begun for the new master has ended.
    cluster.eventually(|_| pump_test::process::children(cluster.master().pid).len() == 2);
    assert_eq!(cluster.master().build().expect("it lives"), old);
    assert!(!cluster.log().contains("becoming"), "{}", cluster.log());
    assert!(builds(&cluster.workers()).iter().all(|build| *build == old));
    let good = other(&folder, "good");
    assert_eq!(cluster.roll(Some(&good)).outcome.exit, ExitStatus::Done);
}

/// What is only open for the way back is closed on the way back.
#[test]
fn p4_the_way_back_leaves_no_descriptor_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = cluster();
    let fail = |round: u32| {
        let faults = Faults { after_exec: Some(Break::Fails), ..Faults::default() };
        let bad = broken(
            &folder,
            &format!("bad-{round}"),
            Faults { leaks_kib: round as usize, ..faults },
        );
        let rolled = cluster.roll(Some(&bad));
        assert_eq!(rolled.outcome.exit, ExitStatus::RolledBack, "{rolled:?}");
        cluster.eventually(|status| status.workers.len() == 2);
    };
    fail(0);
    let before = cluster.master().descriptors().expect("it lives");
    for round in 1..5 {
        fail(round);
    }
    let after = cluster.master().descriptors().expect("it lives");
    assert!(after <= before + 1, "{before} descriptors became {after}");
}
