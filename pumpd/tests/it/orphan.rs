//! What becomes of the cluster when those around it are gone: the master, who reads the log, who would
//! have waited for children.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use pump_test::{Setup, TestCluster};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::{pumpd, script};

fn healthy(cluster: &TestCluster) -> bool {
    let answer = cluster.api().call("GET", "/", &[], b"");
    answer.is_ok_and(|answer| answer.status == 200)
}

/// A cluster whose master is started by a script.
fn started_by(folder: &tempfile::TempDir, text: &str) -> TestCluster {
    let program: PathBuf = folder.path().join("starter");
    script(&program, &text.replace("PUMPD", &format!("'{}'", pumpd().display())));
    TestCluster::start(Setup { pumpd: Some(program), ..Setup::default() })
}

/// Each line that a worker wrote to the dead master's pipe ended it.
#[test]
fn workers_serve_on_when_the_master_is_killed_until_there_is_one_again() {
    let listen = vec!["127.0.0.1:0".to_owned(), "unix:run/http.sock".to_owned()];
    let more = "[roll]\nlinger_seconds = 0\n".to_owned();
    let pumpd = Some(pumpd().to_owned());
    let mut cluster = TestCluster::start(Setup { pumpd, listen, more, ..Setup::default() });
    // The next master shall want the very addresses that these workers hold.
    let text = fs::read_to_string(cluster.config()).expect("ours");
    let address = cluster.address().to_string();
    fs::write(cluster.config(), text.replace("127.0.0.1:0", &address)).expect("ours");
    let (before, api) = (cluster.status(), cluster.api());
    let orphans = cluster.workers();

    cluster.kill_master().expect("our own child");
    for _ in 0..20 {
        let answer = api.call("GET", "/", &[], b"").expect("an orphan answers");
        assert_eq!(answer.status, 200);
    }
    cluster.start_again().expect("the addresses are let go of");
    assert_eq!(cluster.status().listen, before.listen);
    pump_test::eventually(std::time::Duration::from_secs(30), || {
        let left = orphans.iter().filter(|orphan| orphan.lives()).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} orphans are left")) }
    });
    assert!(healthy(&cluster));
}

/// Each line of the log ended the master, and with it everybody.
#[test]
fn a_log_that_nobody_reads_ends_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = started_by(&folder, "exec PUMPD \"$@\" 2> >(exec true)");
    cluster.signal(Signal::SIGHUP);
    for worker in cluster.workers() {
        worker.signal(Signal::SIGKILL).expect("it lives");
    }
    cluster.eventually(|status| status.workers.len() == 2 && !status.sentence.is_empty());
    pump_test::eventually(std::time::Duration::from_secs(30), || {
        if healthy(&cluster) { Ok(()) } else { Err("no answer") }
    });
    assert_eq!(cluster.end().expect("it ends"), Some(0));
}

/// Its first line made the master wait for a reader, without end and with everything it has to do.
#[test]
fn a_log_that_is_full_stops_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = started_by(
        &folder,
        "mkfifo \"$0.pipe\"\nexec 2<>\"$0.pipe\"\nhead -c 65536 /dev/zero >&2\nexec PUMPD \"$@\"",
    );
    assert!(healthy(&cluster));
    assert_eq!(cluster.end().expect("it ends"), Some(0));
}

/// The kernel reaped the children then, and the master looked at dead ones without a pause.
#[test]
fn who_ignored_the_death_of_children_may_start_a_master() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = started_by(&folder, "trap '' CHLD\nexec PUMPD \"$@\"");
    let before = cluster.workers();
    for worker in &before {
        worker.signal(Signal::SIGKILL).expect("it lives");
    }
    cluster.eventually(|status| {
        let old = |pid: u32| before.iter().any(|worker| worker.pid == pid);
        status.workers.len() == 2 && !status.workers.iter().any(|worker| old(worker.pid))
    });
    assert_eq!(cluster.end().expect("it ends"), Some(0));
}

/// Who knocked stayed at the door, and woke the master for ever.
#[test]
fn a_master_without_descriptors_waits_for_one() {
    let pumpd = Some(pumpd().to_owned());
    let mut cluster = TestCluster::start(Setup { pumpd, ..Setup::default() });
    // Its workers were born before and keep theirs.
    let master = cluster.master();
    let few = master.descriptors().expect("it lives") as u64 + 4;
    let few = Rlimit { current: Some(few), maximum: Some(few) };
    let pid = Pid::from_raw(master.pid.cast_signed()).expect("a process");
    prlimit(Some(pid), Resource::Nofile, few).expect("our own child");
    let path = cluster.place().join("run/control.sock");
    let knocking: Vec<_> = (0..30)
        .map(|_| std::os::unix::net::UnixStream::connect(&path).expect("the kernel takes it"))
        .collect();
    let ticks = || -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", cluster.master().pid));
        let stat = stat.expect("it lives");
        let (_, fields) = stat.rsplit_once(") ").expect("proc(5)");
        let spent = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>());
        spent.sum::<Result<u64, _>>().expect("numbers")
    };
    let before = ticks();
    std::thread::park_timeout(std::time::Duration::from_secs(1));
    // A second has a hundred. A slow machine makes it fewer.
    let spent = ticks() - before;
    assert!(spent < 40, "{spent} ticks in a second");
    drop(knocking);
    cluster.eventually(|status| status.workers.len() == 2);
    assert_eq!(cluster.end().expect("it ends"), Some(0));
}
