//! Builds that are told to fail do so: else the tests that expect a failure would show nothing.

use std::process::Command;

use pump_test::fake::{Break, Faults, faulty};
use pump_test::{Setup, TestCluster, eventually};

use crate::pumpd;

/// A cluster of a program with faults.
fn cluster_with(faults: &Faults, more: &str) -> (tempfile::TempDir, TestCluster) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = faulty(pumpd(), folder.path(), "pumpd", faults).expect("a copy");
    let more = more.to_owned();
    let cluster = TestCluster::start(Setup { pumpd: Some(program), more, ..Setup::default() });
    (folder, cluster)
}

/// The statuses of so many requests to each worker's own count, in any order.
fn statuses(cluster: &TestCluster, requests: usize) -> Vec<u16> {
    let api = cluster.api();
    (0..requests).filter_map(|_| Some(api.call("GET", "/healthz", &[], b"").ok()?.status)).collect()
}

#[test]
fn every_fault_is_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    let faults = Faults {
        version: Some("9.8.7".to_owned()),
        magic: Some(77),
        migrate_fails: true,
        exits: Some(3),
        hangs: true,
        stays: true,
        blocks_when_leaving: true,
        blocks_after_requests: Some(1),
        dies_after_millis: Some(1),
        dies_after_requests: Some(1),
        errors_percent: 1,
        panics_percent: 1,
        delay_millis: 1,
        leaks_kib: 1,
        takes_kib: 1,
        after_exec: Some(Break::OverflowsItsStack),
        rehearsing: Some(Break::Fails),
        rehearses_millis: 0,
        attempts_after_millis: None,
        attempts_everywhere: false,
    };
    let program = faulty(pumpd(), folder.path(), "pumpd", &faults).expect("a copy");
    let output = Command::new(&program).arg("release-info").output().expect("it runs");
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&info["version"], &info["magic"]), (&"9.8.7".into(), &77.into()));
    let build = pump_test::process::sha256(&program).expect("readable");
    assert_eq!(info["build"], build, "it is a build of its own");
}

#[test]
fn errors_delays_and_leaks_are_as_they_were_told() {
    let faults =
        Faults { errors_percent: 20, delay_millis: 20, leaks_kib: 256, ..Faults::default() };
    let (_folder, cluster) = cluster_with(&faults, "");
    let resident = || -> u64 {
        let memory = |worker: &pump_test::process::Process| worker.memory().expect("ours").rss_kib;
        cluster.workers().iter().map(memory).sum()
    };
    let (before, begun) = (resident(), std::time::Instant::now());
    let statuses = statuses(&cluster, 100);
    assert!(begun.elapsed() >= std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
    // Each worker counts for itself.
    let failed = statuses.iter().filter(|status| **status == 500).count();
    assert!((19..=20).contains(&failed), "{failed} of {}", statuses.len());
    let grown = resident().saturating_sub(before);
    assert!(grown >= 100 * 256 / 2, "{grown} KiB");
}

#[test]
fn a_worker_that_dies_at_a_request_dies_there() {
    let faults = Faults { dies_after_requests: Some(5), ..Faults::default() };
    let (_folder, cluster) = cluster_with(&faults, "");
    let first = cluster.workers();
    eventually(std::time::Duration::from_secs(30), || {
        let seen = statuses(&cluster, 1);
        if first.iter().all(pump_test::process::Process::lives) { Err(seen) } else { Ok(()) }
    });
    cluster.eventually_logs("died soon");
}
