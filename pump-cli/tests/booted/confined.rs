//! P9 on a real systemd: what somebody can do who runs code of his own in a worker, or in the master.
//!
//! The program is a build for tests that makes the attempts from within the real processes, under the unit as
//! `pump install` writes it (`pumpd/src/faults/attempts.rs`). What has to come of each is the table in
//! `docs/SECURITY.md`.

use std::collections::BTreeMap;

use pump_test::fake::{Faults, faulty};
use pump_test::machine::{Machine, said};

use super::asking::{AT_MOST, drop_in, must_exit, status};
use super::{INSTALL, machine};

/// The number of SIGSYS, by which seccomp ends a process.
const SIGSYS: &str = "signal 31";

/// Each attempt of the document with what has to come of it in a worker and in the master.
fn documented() -> BTreeMap<String, [String; 2]> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SECURITY.md");
    let text = std::fs::read_to_string(path).expect("the document is part of the source");
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, worker, master] = cells[..] else { continue };
        all.insert(name.trim_matches('`').to_owned(), [worker.to_owned(), master.to_owned()]);
    }
    all
}

/// A result of the log as the document writes it.
fn written(result: &str) -> String {
    let errno = |number: &str| match number {
        "1" => "EPERM",
        "2" => "ENOENT",
        "13" => "EACCES",
        "30" => "EROFS",
        "106" => "EISCONN",
        // Not in the table, and told with the attempt that it came of.
        _ => result,
    };
    match result.strip_prefix("errno ") {
        Some(number) => errno(number).to_owned(),
        None if result == SIGSYS || result == "made" => "ended".to_owned(),
        None => result.to_owned(),
    }
}

/// What came of the attempts of one role; of several, the last that was answered.
fn attempts(journal: &str, role: &str) -> BTreeMap<String, String> {
    let begin = format!("attempt by {role} ");
    let lines = journal.lines().filter_map(|line| line.split_once(&begin)?.1.split_once(": "));
    lines.map(|(name, said)| (name.to_owned(), written(said))).collect()
}

fn journal(machine: &Machine) -> String {
    let words = ["journalctl", "--unit=pumpd.service", "--output=cat", "--no-pager"];
    said(&machine.run(&words).expect("journalctl can be run"))
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn p9_who_runs_code_in_a_worker_or_the_master_changes_reads_and_reaches_nothing() {
    let (machine, _) = machine("pump-confined");
    must_exit(&machine, 0, INSTALL);
    let told = said(&must_exit(&machine, 0, &["pump", "doctor"]));
    assert!(told.contains("by Landlock"), "{told}");
    // What others have, and what would be reached if it were let.
    machine.must(&[
        "sh",
        "-ec",
        "mkdir /home/somebody /var/lib/pump-releases
         echo secret >/home/somebody/secret; echo secret >/srv/secret
         chown -R daemon /home/somebody /srv/secret; chmod 600 /srv/secret",
    ]);
    let folder = tempfile::tempdir().expect("a folder");
    let own = pump_test::pumpd().expect("a build for tests");
    let faults = Faults {
        attempts_after_millis: Some(3000),
        attempts_everywhere: true,
        ..Faults::default()
    };
    let program = faulty(&own, folder.path(), "pumpd", &faults).expect("a copy");
    must_exit(&machine, 0, &["pump", "stop"]);
    machine.must(&[
        "sed",
        "-i",
        "-e",
        "/^#* *workers/d",
        "-e",
        "1i workers = 9",
        "/etc/pump/pumpd.toml",
    ]);
    machine.put(&program, "/run/test/pumpd").expect("files can be copied");
    machine.must(&["cp", "/run/test/pumpd", "/opt/pump/current/bin/pumpd"]);
    machine.must(&["systemctl", "start", "pumpd.service"]);
    let wanted = documented();
    let text = pump_test::eventually(AT_MOST, || {
        let text = journal(&machine);
        let (worker, master) = (attempts(&text, "worker"), attempts(&text, "master"));
        let all = wanted.keys().all(|name| worker.contains_key(name) && master.contains_key(name));
        if all { Ok(text) } else { Err(text) }
    });
    let (worker, master) = (attempts(&text, "worker"), attempts(&text, "master"));
    for (name, [in_worker, in_master]) in &wanted {
        // systemd 257 leaves to the kernel what 252 does by a filter, and the kernel has another number for it.
        let is = |came: &str, wanted: &str| wanted.split(" or ").any(|one| one == came);
        let (came, wanted) = ([&worker[name], &master[name]], [in_worker, in_master]);
        assert!(
            is(came[0], wanted[0]) && is(came[1], wanted[1]),
            "{name}: {came:?}, and docs/SECURITY.md says {wanted:?}"
        );
    }
    assert_eq!(worker.len(), wanted.len(), "the document has all of them: {worker:?}");
    for path in
        ["/opt/pump/releases/planted", "/usr/lib/planted", "/etc/systemd/system/planted.service"]
    {
        assert!(!machine.path(path).exists(), "{path}");
    }
    // Those that were ended are replaced.
    pump_test::eventually(AT_MOST, || match status(&machine) {
        now if now.workers.iter().filter(|one| one.worker > 9).count() == 9 => Ok(()),
        now => Err(format!("{now:?}")),
    });
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn an_administrator_s_drop_in_that_weakens_the_sandbox_is_named_with_the_line() {
    let (machine, _) = machine("pump-weaker");
    must_exit(&machine, 0, INSTALL);
    for (unit, threshold) in [("pumpd.service", "11"), ("pump-upgrade.service", "30")] {
        let threshold = format!("--threshold={threshold}");
        machine.must(&["systemd-analyze", "security", "--no-pager", &threshold, unit]);
    }
    let told = said(&must_exit(&machine, 0, &["pump", "doctor"]));
    assert!(told.contains("no drop-in takes anything"), "{told}");
    let service = "[Service]\nNoNewPrivileges=no\nProtectSystem=full\nMemoryMax=2G\n";
    drop_in(&machine, "pumpd.service", service);
    let upgrade = "[Service]\nReadWritePaths=/srv/pump\nReadWritePaths=/etc\n";
    drop_in(&machine, "pump-upgrade.service", upgrade);
    let socket = "[Socket]\nListenStream=/run/pump/http.sock\nSocketMode=0666\n";
    drop_in(&machine, "pumpd.socket", socket);
    let told = said(&must_exit(&machine, 0, &["pump", "doctor"]));
    for line in [
        "pumpd.service.d/mine.conf` has `NoNewPrivileges=no`",
        "`ProtectSystem=strict`",
        "pump-upgrade.service.d/mine.conf` has `ReadWritePaths=/etc`",
        "pumpd.socket.d/mine.conf` has `SocketMode=0666`",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    for line in ["MemoryMax", "/srv/pump", "http.sock"] {
        assert!(!told.contains(line), "{line}: {told}");
    }
}
