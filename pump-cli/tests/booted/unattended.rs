//! Nobody looks on: the timer upgrades when it may, and root works on the data of the service.

use std::fs;

use pump_test::Api;
use pump_test::machine::{Machine, said};

use super::asking::{AT_MOST, drop_in, json, must_exit, status};
use super::{INSTALL, LISTEN, machine};

/// Has the timer elapse every third second, as an administrator may say. systemd starts no unit more than five times in
/// ten seconds (systemd-system.conf(5), `DefaultStartLimitBurst=`).
#[track_caller]
fn looks_often(machine: &Machine) {
    let often =
        "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/3\nRandomizedDelaySec=0\nAccuracySec=100ms\n";
    drop_in(machine, "pump-upgrade.timer", often);
    machine.must(&["systemctl", "restart", "pump-upgrade.timer"]);
}

/// Waits until the timer's last look ended with this status.
#[track_caller]
fn looked(machine: &Machine, exit: i64, says: &str) {
    pump_test::eventually(AT_MOST, || {
        let told = machine.run(&["pump", "auto-upgrade", "status", "--json"]).expect("it runs");
        let value: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
        let last = &value["last"];
        let text = last["text"].as_str().unwrap_or_default();
        if last["exit"] == exit && text.contains(says) { Ok(()) } else { Err(said(&told)) }
    });
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn the_timer_elapses_and_upgrades_when_neither_a_window_nor_a_hold_is_in_the_way() {
    let (machine, releases) = machine("pump-elapses");
    must_exit(&machine, 0, INSTALL);
    let fresh = json_lines(&said_of(&machine, &["pump", "doctor", "--json"]));
    let wrong: Vec<_> = fresh.iter().filter(|it| it["level"] == "broken").collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let begun = status(&machine);
    releases.publish(&machine);
    let toml = machine.path("/etc/pump/upgrade.toml");
    let usual = fs::read_to_string(&toml).expect("install wrote it") + "bake_seconds = 1\n";
    // A window of one minute, twelve hours from now.
    let hour = machine.must(&["date", "--utc", "--date=+12 hours", "+%H"]);
    let window = format!("window = \"{0}:00-{0}:01\"\ntime_zone = \"UTC\"\n", hour.trim());
    // Keys of the file come before its tables, if it has any.
    fs::write(&toml, format!("{window}{usual}")).expect("ours");
    looks_often(&machine);
    looked(&machine, 21, "window");
    must_exit(&machine, 0, &["pump", "hold", "--reason", "not today"]);
    fs::write(&toml, &usual).expect("ours");
    looked(&machine, 20, "not today");
    assert_eq!(status(&machine).generation, begun.generation, "nothing was touched");
    must_exit(&machine, 0, &["pump", "unhold"]);
    let after = pump_test::eventually(AT_MOST, || match status(&machine) {
        after if after.master.short() == releases.second && after.roll.is_none() => Ok(after),
        after => Err(format!("{after:?}")),
    });
    assert_eq!(after.pid, begun.pid, "the master goes on");
    looked(&machine, 0, "");
    machine.must(&["systemctl", "stop", "pump-upgrade.timer"]);
    let history = said(&must_exit(&machine, 0, &["pump", "history"]));
    assert!(history.contains(&releases.second), "{history}");
    let failed = ["systemctl", "list-units", "--failed", "--plain", "--no-legend"];
    assert_eq!(machine.must(&failed), "");
}

fn said_of(machine: &Machine, words: &[&str]) -> String {
    String::from_utf8_lossy(&must_exit(machine, 0, words).stdout).into_owned()
}

fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn root_backs_up_restores_and_finalizes_what_belongs_to_the_service() {
    let (machine, _) = machine("pump-data");
    let installed = json(&must_exit(&machine, 0, &[INSTALL, &["--account", "alice"]].concat()));
    let password = installed["password"].as_str().expect("a password was made").to_owned();
    let api = || Api::new(LISTEN.parse().expect("an address"), "https://social.example");
    let shown = || {
        machine.within(|| {
            let shown = api().outbox("alice").expect("the outbox can be read");
            shown.iter().map(|note| note.content.clone()).collect::<Vec<_>>()
        })
    };
    let post = |text: &str| {
        machine.within(|| {
            let alice = api().sign_in("alice", &password).expect("alice can sign in");
            api().post(&alice, text).expect("a note can be posted");
        });
    };
    post("before the backup");
    let made = json(&must_exit(&machine, 0, &["pump", "backup", "--json"]));
    let name = made["name"].as_str().expect("it has a name").to_owned();
    must_exit(&machine, 0, &["pump", "backup", "verify"]);
    post("after the backup");
    assert_eq!(shown().len(), 2);
    must_exit(&machine, 0, &["pump", "restore", &name, "--stop", "--yes"]);
    must_exit(&machine, 0, &["pump", "start"]);
    pump_test::eventually(AT_MOST, || match machine.run(&["pump", "status"]) {
        Ok(told) if told.status.success() => Ok(()),
        other => Err(other.map(|told| said(&told))),
    });
    let shown = shown();
    assert!(shown.len() == 1 && shown[0].contains("before the backup"), "{shown:?}");
    let owner = ["stat", "--format=%U:%G", "/var/lib/pump/pump.sqlite3"];
    assert_eq!(machine.must(&owner).trim(), "pump:pump");
    must_exit(&machine, 0, &["pump", "finalize"]);
    must_exit(&machine, 0, &["pump", "doctor"]);
}
