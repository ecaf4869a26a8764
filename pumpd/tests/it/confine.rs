//! P9: what a process of ours cannot do any more once it serves, tried from within it.
//!
//! Here without systemd, and as whoever runs the tests, root perhaps: what is refused is refused by what the
//! process has given up itself. The same attempts under the real unit are in `pump-cli/tests/booted`.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use pump_test::fake::{Faults, faulty};
use pump_test::{Setup, TestCluster, eventually};

use crate::{cluster, pumpd};

const WITHIN: Duration = Duration::from_secs(60);

/// EPERM: seccomp's answer to what is not needed. EACCES: Landlock's.
const EPERM: &str = "errno 1";
const EACCES: &str = "errno 13";

/// What the kernel says to a worker.
const WORKER: &[(&str, &str)] = &[
    ("write-program", EACCES),
    ("read-shadow", EACCES),
    ("read-passwd", EACCES),
    ("read-parent-memory", EACCES),
    ("signal-init", EPERM),
    ("signal-parent", EPERM),
    ("raw-socket", EPERM),
    ("packet-socket", EPERM),
    ("connect-out", EPERM),
    ("connect-listener", EPERM),
    ("send-to-address", EPERM),
    ("connect-unix", EPERM),
    ("new-process", EPERM),
    ("process-in-namespace", EPERM),
    ("code-in-memory", EPERM),
    ("set-user-id", EPERM),
];

/// What ends it at once.
const DEADLY: &[&str] = &[
    "shell",
    "trace-parent",
    "write-parent-memory",
    "user-namespace",
    "mount-namespace",
    "network-namespace",
    "mount",
    "kernel-program",
    "keyring",
];

/// What came of each attempt, by its name; of several, the last.
fn attempts(log: &str) -> BTreeMap<String, String> {
    let told =
        log.lines().filter_map(|line| line.split_once("attempt by worker ")?.1.split_once(": "));
    told.map(|(name, said)| (name.to_owned(), said.to_owned())).collect()
}

#[test]
fn p9_a_worker_opens_its_data_folder_and_nothing_else_and_reaches_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let faults = Faults { attempts_after_millis: Some(1500), ..Faults::default() };
    let program = faulty(pumpd(), folder.path(), "pumpd", &faults).expect("a copy");
    let workers = DEADLY.len() as u32;
    let cluster = TestCluster::start(Setup { pumpd: Some(program), workers, ..Setup::default() });
    let first: Vec<u32> = cluster.workers().iter().map(|worker| worker.pid).collect();
    let landlock = confinement(&cluster).0;
    let made = eventually(WITHIN, || {
        let made = attempts(&cluster.log());
        let all = DEADLY.iter().all(|name| made.contains_key(*name));
        if all && cluster.workers().iter().all(|worker| !first.contains(&worker.pid)) {
            Ok(made)
        } else {
            Err(cluster.log())
        }
    });
    for (name, want) in WORKER {
        // A kernel without it leaves these to modes and to systemd.
        if landlock == 0 && *want == EACCES {
            continue;
        }
        assert_eq!(made.get(*name).map(String::as_str), Some(*want), "{name}: {made:#?}");
    }
    for name in DEADLY {
        // It was told that it is made, and nothing after.
        assert_eq!(made.get(*name).map(String::as_str), Some("made"), "{name}: {made:#?}");
    }
    let ended = cluster.log().matches("was ended by signal 31").count();
    assert!(ended >= DEADLY.len(), "{ended} were ended: {}", cluster.log());
}

/// What the workers say, and the master: the version of Landlock of the first, and whether all calls are
/// filtered.
fn confinement(cluster: &TestCluster) -> (u32, bool) {
    let status = cluster.status();
    let workers: Vec<_> =
        status.workers.iter().map(|worker| worker.confinement.unwrap_or_default()).collect();
    let master = status.confinement.unwrap_or_default();
    (workers[0].landlock, master.seccomp && workers.iter().all(|worker| worker.seccomp))
}

#[test]
fn the_status_tells_what_is_in_force_also_after_the_master_was_replaced() {
    let cluster = cluster(2, "");
    assert!(confinement(&cluster).1, "{:?}", cluster.status());
    let filters = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let line = text.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"));
        line.map(|count| count.trim().to_owned())
    };
    let (pid, before) = (cluster.master().pid, filters(cluster.master().pid));
    let folder = tempfile::tempdir().expect("a folder");
    let other = pump_test::fake::other_build(pumpd(), folder.path(), "other").expect("a copy");
    let rolled = cluster.roll(Some(&other));
    assert_eq!(rolled.outcome.exit, pump_control::ExitStatus::Done, "{rolled:?}");
    assert_eq!(cluster.master().pid, pid);
    // The kernel takes a bounded number of layers, and a master may be replaced any number of times.
    assert_eq!(filters(pid), before);
    assert!(confinement(&cluster).1, "{:?}", cluster.status());
}

/// The data of a command that works on it is in reach, and the copy that it was asked for.
#[test]
fn what_works_on_data_makes_a_copy_where_it_was_told_to() {
    let cluster = cluster(1, "");
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("copy.sqlite3");
    let run = |words: &[&str]| {
        let mut command = Command::new(pumpd());
        command.arg(words[0]).arg(&copy).arg("--config").arg(cluster.config());
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["backup"]);
    run(&["verify-backup"]);
    run(&["rehearse"]);
}

/// Old kernels, and containers that forbid both.
#[test]
fn where_the_kernel_has_neither_it_serves_all_the_same_and_says_so() {
    let strace = std::path::Path::new("/usr/bin/strace");
    if !strace.exists() {
        return crate::hardest::skipped("there is no strace");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("starter");
    let text = format!(
        "exec {} -D -f -o /dev/null -e trace=landlock_create_ruleset,seccomp \
         -e inject=landlock_create_ruleset,seccomp:error=ENOSYS '{}' \"$@\"",
        strace.display(),
        pumpd().display()
    );
    crate::script(&program, &text);
    let cluster = TestCluster::start(Setup { pumpd: Some(program), ..Setup::default() });
    assert_eq!(confinement(&cluster), (0, false), "{:?}", cluster.status());
    cluster.eventually_logs("this kernel has no Landlock");
    cluster.eventually_logs("system calls could not be filtered");
    let answer = cluster.api().call("GET", "/", &[], b"").expect("it answers");
    assert_eq!(answer.status, 200);
}
