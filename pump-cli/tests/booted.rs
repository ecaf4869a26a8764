//! The whole road on a real systemd: install, serve, upgrade under load, roll back, remove.
//!
//! Each test boots a machine of its own. The machine has neither curl nor zstd nor procps.

#[path = "booted/apt_alone.rs"]
mod apt_alone;
#[path = "booted/asking.rs"]
mod asking;
#[path = "booted/confined.rs"]
mod confined;
#[path = "booted/contents.rs"]
mod contents;
#[path = "booted/driven.rs"]
mod driven;
#[path = "booted/matrix.rs"]
mod matrix;
#[path = "booted/packages.rs"]
mod packages;
#[path = "booted/releases.rs"]
mod releases;
#[path = "booted/rpm.rs"]
mod rpm;
#[path = "booted/state.rs"]
mod state;
#[path = "booted/suites.rs"]
mod suites;
#[path = "booted/unattended.rs"]
mod unattended;
#[path = "booted/untoward.rs"]
mod untoward;

use std::net::TcpListener;
use std::path::PathBuf;

use pump_control::control::Status;
use pump_test::Api;
use pump_test::load::{Load, Plan};
use pump_test::machine::{Machine, said};

use asking::{AT_MOST, drop_in, json, must_exit, status, until_it_is_watched};
use releases::Releases;
use state::State;

const LISTEN: &str = "127.0.0.1:8000";
const PUMP: &str = "/run/test/pump";

/// `pump install` with every answer but where to listen and the first account.
const INSTALL: &[&str] = &[
    PUMP,
    "install",
    "--from",
    "/run/test/first.tar.zst",
    "--domain",
    "social.example",
    "--source",
    "/run/test/source",
    "--trust-root",
    "/run/test/root.json",
    "--yes",
    "--json",
];

/// Requests that must have been made between two steps of an upgrade.
const BETWEEN_STEPS: u64 = 1500;

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn p1_p8_install_upgrade_reload_rollback_and_purge_on_a_booted_machine() {
    let (machine, releases) = machine("pump-road");
    let before = State::of(&machine);

    let installed = json(&must_exit(&machine, 0, &[INSTALL, &["--account", "alice"]].concat()));
    let password = installed["password"].as_str().expect("a password was made").to_owned();
    assert_eq!(machine.must(&["systemctl", "is-active", "pumpd.service"]).trim(), "active");
    assert_eq!(machine.must(&["systemctl", "is-active", "pump-upgrade.timer"]).trim(), "active");
    let score = ["systemd-analyze", "security", "--no-pager", "--threshold=11", "pumpd.service"];
    machine.must(&score);
    let begun = status(&machine);
    assert_eq!(begun.master.short(), releases.first);
    assert_eq!(begun.workers_build.short(), releases.first);

    let made = State::of(&machine);
    made_as_listed(&machine, &before.new_files(&made));
    let again = json(&must_exit(
        &machine,
        0,
        &[PUMP, "install", "--from", "/run/test/first.tar.zst", "--json"],
    ));
    assert_eq!(again["changed"], serde_json::json!([]), "{again}");
    assert_eq!(made.differences(&State::of(&machine)), [""; 0]);
    assert_eq!(status(&machine).pid, begun.pid, "a second install restarts nothing");

    releases.publish(&machine);
    let address = LISTEN.parse().expect("an address");
    let report = machine.within(|| {
        let api = Api::new(address, "https://social.example");
        let alice = api.sign_in("alice", &password).expect("alice can sign in");
        let mut plan = Plan::new(api.address().clone(), api.host());
        plan.lasts = AT_MOST;
        plan.authors = vec![alice];
        plan.pages = vec!["/".into(), "/@alice".into(), "/healthz".into()];
        plan.big_page = "/users/alice/outbox?page=true".into();
        let mut load = Load::start(plan);
        let mut step = |what: &str, words: &[&str]| {
            let seen = load.requests() + BETWEEN_STEPS;
            pump_test::eventually(AT_MOST, || match load.requests() {
                now if now >= seen => Ok(()),
                now => Err(now),
            });
            load.mark(what);
            must_exit(&machine, 0, words);
        };
        step("upgrade", &["pump", "upgrade", "--zero-downtime", "--yes", "--bake", "3"]);
        let upgraded = status(&machine);
        assert_eq!(upgraded.workers_build.short(), releases.second);
        assert_eq!(upgraded.pid, begun.pid, "the master goes on");
        // P4: as another build.
        assert_eq!(upgraded.master.short(), releases.second);
        let running = ["sh", "-c", "sha256sum <\"/proc/$0/exe\"", &begun.pid.to_string()];
        let running = machine.must(&running);
        assert!(running.starts_with(&upgraded.master.build), "{running} and {upgraded:?}");

        step("reload", &["systemctl", "reload", "pumpd.service"]);
        let reloaded = status(&machine);
        assert!(reloaded.generation > upgraded.generation, "{reloaded:?}");
        assert!(
            reloaded.workers.iter().all(|worker| worker.build.short() == releases.second),
            "{reloaded:?}"
        );

        for _ in 0..3 {
            let before = status(&machine);
            let kill = ["systemctl", "kill", "--signal=KILL", "--kill-who=main", "pumpd.service"];
            step("kill the master", &kill);
            let after = adopted(&machine, &before);
            assert_eq!(after.master.short(), releases.second, "the last confirmed build");
        }
        step("reload after kills", &["systemctl", "reload", "pumpd.service"]);
        step("rollback", &["pump", "rollback", "--yes"]);
        step("after", &["pump", "status"]);
        let report = load.stop();
        for author in report.ledger().authors() {
            let shown = api.outbox(author).expect("the outbox can be read");
            let audit = report.ledger().check(Some(author), &shown);
            assert!(audit.problems.is_empty(), "{:?}", audit.problems);
        }
        report
    });
    assert_eq!(report.failures(), 0, "{report}\n{}", report.time_line_text());
    let back = status(&machine);
    assert_eq!(back.workers_build.short(), releases.first);
    assert_eq!(back.master.short(), releases.first);
    // State, build, and for each worker its channel, its log and its pidfd. Nothing piles up.
    let kept = machine.must(&["systemctl", "show", "--property=NFileDescriptorStore", "pumpd"]);
    let wanted = 2 + 3 * back.workers.len();
    assert_eq!(kept.trim(), format!("NFileDescriptorStore={wanted}"));

    must_exit(&machine, 0, &["pump", "uninstall", "--purge", "--yes"]);
    assert_eq!(before.differences(&State::of(&machine)), [""; 0]);
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn what_people_wrote_outlives_an_uninstall_and_is_there_after_the_next_install() {
    let (machine, _) = machine("pump-again");
    let installed = json(&must_exit(&machine, 0, &[INSTALL, &["--account", "alice"]].concat()));
    let password = installed["password"].as_str().expect("a password was made").to_owned();
    must_exit(&machine, 0, &["pump", "stop"]);
    assert_eq!(machine.must(&["ss", "-Hltn"]), "", "a stopped server listens nowhere");
    must_exit(&machine, 0, &["pump", "start"]);
    must_exit(&machine, 0, &["pump", "uninstall"]);
    assert!(!machine.path("/opt/pump").exists());
    assert!(!machine.path("/etc/systemd/system/pumpd.service").exists());

    must_exit(&machine, 0, &[PUMP, "install", "--from", "/run/test/first.tar.zst"]);
    machine.within(|| {
        let api = Api::new(LISTEN.parse().expect("an address"), "https://social.example");
        api.sign_in("alice", &password).expect("alice is still there");
    });
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn an_installation_that_is_refused_or_fails_leaves_the_machine_as_it_was() {
    let (machine, _) = machine("pump-refused");
    let before = State::of(&machine);

    let other = machine.within(|| TcpListener::bind(LISTEN)).expect("the port is free");
    let refused = must_exit(&machine, 51, &[INSTALL, &["--listen", LISTEN]].concat());
    assert!(json(&refused)["error"].as_str().is_some_and(|text| text.contains(LISTEN)));
    drop(other);
    assert_eq!(before.differences(&State::of(&machine)), [""; 0]);

    let refused = must_exit(&machine, 50, &[INSTALL, &["--data-dir", "/home/data"]].concat());
    assert!(json(&refused)["error"].as_str().is_some_and(|text| text.contains("/home")));
    assert_eq!(before.differences(&State::of(&machine)), [""; 0]);

    machine.must(&["mkdir", "/srv/data"]);
    let refused = must_exit(&machine, 50, &[INSTALL, &["--data-dir", "/srv/data"]].concat());
    assert!(json(&refused)["error"].as_str().is_some_and(|text| text.contains("/srv/data")));

    // Whoever can write a folder above could have root give something else away.
    machine.must(&["mkdir", "--mode=777", "/srv/open"]);
    let start = State::of(&machine);
    let refused = must_exit(&machine, 50, &[INSTALL, &["--data-dir", "/srv/open/data"]].concat());
    assert!(json(&refused)["error"].as_str().is_some_and(|text| text.contains("`/srv/open` can")));
    assert_eq!(start.differences(&State::of(&machine)), [""; 0]);

    // A service that cannot start: the failure comes when nearly all has been done.
    drop_in(&machine, "pumpd.service", "[Service]\nExecStart=\nExecStart=/bin/false\n");
    machine.must(&["systemd-sysusers", "--inline", "u pump - - - -"]);
    let start = State::of(&machine);
    let output = machine.run(INSTALL).expect("a command can be run");
    assert!(!output.status.success(), "{}", said(&output));
    assert_eq!(start.differences(&State::of(&machine)), [""; 0]);
    let loaded = machine.must(&["systemctl", "show", "--property=LoadState", "pumpd.socket"]);
    assert_eq!(loaded.trim(), "LoadState=not-found");

    // A database that no code of ours has made: the failure comes when much has been done.
    machine.must(&["systemd-sysusers", "--inline", "u pump - - - -"]);
    machine.must(&[
        "sh",
        "-c",
        "mkdir -m 700 /var/lib/pump && echo junk >/var/lib/pump/pump.sqlite3",
    ]);
    machine.must(&["chown", "-R", "pump:pump", "/var/lib/pump"]);
    let before = State::of(&machine);
    let output = machine.run(INSTALL).expect("a command can be run");
    assert!(!output.status.success(), "{}", said(&output));
    let failure = json(&output);
    assert!(
        failure["error"].as_str().is_some_and(|text| text.contains("was removed again")),
        "{failure}"
    );
    assert_eq!(before.differences(&State::of(&machine)), [""; 0]);
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn what_a_package_manager_owns_is_left_to_it() {
    let (machine, _) = machine("pump-packaged");
    machine.must(&[
        "sh",
        "-ec",
        "mkdir -p /run/deb/DEBIAN /run/deb/usr/bin
         printf 'Package: pump\\nVersion: 1\\nArchitecture: all\\nMaintainer: a\\nDescription: b\\n' \
             >/run/deb/DEBIAN/control
         cp /run/test/pump /run/deb/usr/bin/pump
         dpkg-deb --build /run/deb /run/pump.deb
         dpkg --install /run/pump.deb",
    ]);
    let refused = json(&must_exit(&machine, 80, INSTALL));
    assert!(
        refused["hint"].as_str().is_some_and(|hint| hint.contains("apt install pump")),
        "{refused}"
    );
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn the_script_installs_from_a_source_with_nothing_but_a_shell() {
    let (machine, _) = machine("pump-script");
    machine.must(&[
        "sh",
        "/run/test/source/install.sh",
        "/run/test/source",
        "--domain",
        "social.example",
        "--trust-root",
        "/run/test/root.json",
        "--yes",
    ]);
    assert_eq!(machine.must(&["systemctl", "is-active", "pumpd.service"]).trim(), "active");
    // What it recorded is enough for the upgrades to come.
    must_exit(&machine, 0, &["pump", "upgrade", "--check"]);
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn the_timer_s_service_upgrades_by_itself_from_its_own_sandbox() {
    let (machine, releases) = machine("pump-timer");
    must_exit(&machine, 0, &[INSTALL, &["--data-dir", "/srv/people"]].concat());
    // Wherever the data is, it can be copied before an upgrade.
    let copies = "[Service]\nExecStartPre=/opt/pump/current/bin/pump backup\n";
    drop_in(&machine, "pump-upgrade.service", copies);
    machine.must(&["sh", "-c", "echo 'bake_seconds = 3' >>/etc/pump/upgrade.toml"]);
    must_exit(&machine, 0, &["systemctl", "start", "pump-upgrade.service"]);
    let before = status(&machine);
    assert_eq!(before.workers_build.short(), releases.first, "nothing newer is on offer");

    releases.publish(&machine);
    must_exit(&machine, 0, &["systemctl", "start", "pump-upgrade.service"]);
    let after = status(&machine);
    assert_eq!(after.workers_build.short(), releases.second);
    assert_eq!(after.pid, before.pid, "the master goes on");

    let told = json(&must_exit(&machine, 0, &["pump", "auto-upgrade", "status", "--json"]));
    assert_eq!((&told["timer"], &told["last"]["exit"]), (&"on".into(), &0.into()), "{told}");
    assert!(told["next"].is_string(), "systemd says when it looks next: {told}");
    must_exit(&machine, 0, &["pump", "auto-upgrade", "disable"]);
    assert_ne!(
        machine.must(&["systemctl", "show", "-PUnitFileState", "pump-upgrade.timer"]).trim(),
        "enabled"
    );
    must_exit(&machine, 0, &["pump", "auto-upgrade", "enable"]);
    assert_eq!(machine.must(&["systemctl", "is-active", "pump-upgrade.timer"]).trim(), "active");
    must_exit(&machine, 0, &["pump", "doctor"]);
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn edited_units_stay_and_a_changed_address_reaches_the_socket_unit() {
    let (machine, _) = machine("pump-edited");
    must_exit(&machine, 0, INSTALL);
    machine.must(&["sh", "-c", "echo '# mine' >>/etc/systemd/system/pump-upgrade.timer"]);
    machine.must(&["sed", "-i", "s/:8000/:8001/", "/etc/pump/pumpd.toml"]);
    let again = must_exit(&machine, 0, &[PUMP, "install", "--from", "/run/test/first.tar.zst"]);
    assert!(said(&again).contains("pumpd.socket` was written"), "{}", said(&again));
    assert!(said(&again).contains("pump-upgrade.timer` was edited"), "{}", said(&again));
    let timer = machine.must(&["cat", "/etc/systemd/system/pump-upgrade.timer"]);
    assert!(timer.ends_with("# mine\n"), "{timer}");
    must_exit(&machine, 0, &["pump", "stop"]);
    must_exit(&machine, 0, &["pump", "start"]);
    assert_eq!(status(&machine).listen, ["127.0.0.1:8001"]);
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn an_uninstall_ends_a_timed_upgrade_and_leaves_a_typed_one_alone() {
    let (machine, _) = machine("pump-beside");
    must_exit(&machine, 0, INSTALL);
    let records = "/var/lib/pump-upgrade";
    let before = State::of(&machine);
    let refused = must_exit(&machine, 70, &["flock", records, "pump", "uninstall"]);
    assert!(said(&refused).contains("flock"), "{}", said(&refused));
    assert_eq!(before.differences(&State::of(&machine)), [""; 0]);
    assert_eq!(machine.must(&["systemctl", "is-active", "pump-upgrade.timer"]).trim(), "active");
    assert_eq!(machine.must(&["systemctl", "is-active", "pumpd.service"]).trim(), "active");

    let slow = "[Service]\nExecStart=\nExecStart=flock /var/lib/pump-upgrade sleep 600\n";
    drop_in(&machine, "pump-upgrade.service", slow);
    machine.must(&["systemctl", "start", "--no-block", "pump-upgrade.service"]);
    pump_test::eventually(AT_MOST, || {
        let free = machine.run(&["flock", "--nonblock", records, "true"]).expect("it can be run");
        if free.status.success() { Err(said(&free)) } else { Ok(()) }
    });
    must_exit(&machine, 0, &["pump", "uninstall"]);
    assert!(!machine.path("/opt/pump").exists());
    assert_eq!(
        machine.must(&["systemctl", "list-units", "--failed", "--plain", "--no-legend"]),
        ""
    );
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn b15_an_upgrade_on_a_terminal_that_is_lost_goes_on_in_a_unit_of_its_own() {
    let (machine, releases) = machine("pump-terminal");
    must_exit(&machine, 0, INSTALL);
    releases.publish(&machine);
    let version = releases.second.split('+').next().unwrap_or_default();
    let line = format!("{PUMP} upgrade --zero-downtime --bake 20 --to {version}");
    // On a terminal of its own, which goes with script(1).
    let mut terminal = machine
        .command("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("nsenter can be run");
    until_it_is_watched(&machine);
    let kill = r#"for one in /proc/[0-9]*; do
        read -r name <$one/comm && [ "$name" = script ] && kill -9 "${one#/proc/}" || true; done"#;
    machine.must(&["sh", "-c", kill]);
    terminal.wait().expect("our own child");
    let told = said(&must_exit(&machine, 0, &[PUMP, "status"]));
    assert!(told.contains("in the unit pump-run-"), "{told}");
    let followed = said(&must_exit(&machine, 0, &[PUMP, "status", "--follow"]));
    assert!(followed.contains(&format!("{} serves", releases.second)), "{followed}");
    assert_eq!(status(&machine).workers_build.short(), releases.second);
    // The unit goes with the run, when systemd has seen to it.
    pump_test::eventually(AT_MOST, || {
        let left = ["systemctl", "list-units", "--all", "--no-legend", "pump-run-*"];
        let left = machine.must(&left);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

/// The new release's own `pump install` writes them, under the lock of the upgrade that starts it.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn an_upgrade_brings_the_units_of_its_release() {
    let (machine, releases) = machine("pump-units");
    must_exit(&machine, 0, INSTALL);
    let unit = "/etc/systemd/system/pump-upgrade.service";
    let wanted = machine.must(&["cat", unit]);
    machine.must(&["rm", unit]);
    // As if the release that is installed had been made with other units.
    let other = r"/ systemd\//s/ [0-9a-f]\{8\}/ 00000000/";
    machine.must(&["sed", "--in-place", other, "/opt/pump/current/FILES"]);
    releases.publish(&machine);
    let upgraded = must_exit(&machine, 0, &["pump", "upgrade", "--zero-downtime", "--bake", "0"]);
    assert!(!said(&upgraded).contains("stay as they were"), "{}", said(&upgraded));
    assert_eq!(machine.must(&["cat", unit]), wanted);
}

/// Compares what an installation made with `packaging/files.list`.
#[track_caller]
fn made_as_listed(machine: &Machine, new: &[PathBuf]) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/files.list");
    let list = std::fs::read_to_string(path).expect("the list is part of the source");
    let mut listed = Vec::new();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [group, _, mode, owner, path] = words[..] else { continue };
        listed.push(path);
        let elsewhere = ["private", "packaged", "shipped", "deb", "rpm"].contains(&group);
        if mode != "-" && !elsewhere {
            let found = machine.must(&["stat", "--format=%04a %U:%G", path]);
            assert_eq!(found.trim(), format!("{mode} {owner}"), "`{path}`");
        }
    }
    for path in new {
        // What `systemctl enable` made and `disable` removes.
        let enabled = path.ancestors().any(|path| path.to_string_lossy().ends_with(".wants"));
        let known = enabled || listed.iter().any(|listed| path.starts_with(listed));
        assert!(known, "`{}` is not in the list", path.display());
    }
}

/// P5: waits until there is another master, and checks that it has the workers of the one before.
#[track_caller]
fn adopted(machine: &Machine, before: &Status) -> Status {
    let pids = |status: &Status| {
        let mut pids: Vec<u32> = status.workers.iter().map(|worker| worker.pid).collect();
        pids.sort_unstable();
        pids
    };
    let after = pump_test::eventually(AT_MOST, || {
        let output = machine.run(&["pump", "status", "--json"]).expect("a command can be run");
        let status: Option<Status> = serde_json::from_slice(&output.stdout).ok();
        status.filter(|status| status.pid != before.pid).ok_or_else(|| said(&output))
    });
    assert_eq!(pids(&after), pids(before), "{after:?}");
    after
}

/// A machine that has the releases at hand.
fn machine(name: &str) -> (Machine, Releases) {
    let releases = Releases::made();
    let machine = Machine::boot(name).expect("a machine boots");
    releases.carry(&machine);
    never_by_itself(&machine);
    (machine, releases)
}

/// Has the timer of an installation to come elapse in no test that does not ask for it: it is hourly, at a minute of
/// the machine's own. Below `/run`, so that the machine's own tree stays as it was.
#[track_caller]
fn never_by_itself(machine: &Machine) {
    let folder = "/run/systemd/system/pump-upgrade.timer.d";
    machine.must(&["mkdir", "-p", folder]);
    let never = "[Timer]\nOnCalendar=\nOnCalendar=2100-01-01\n";
    let file = machine.path(&format!("{folder}/00-never.conf"));
    std::fs::write(file, never).expect("a file can be put there");
}
