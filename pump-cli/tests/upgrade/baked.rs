//! The bake, and `pump doctor`, with the real daemon.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use pump_release::ReleaseInfo;
use pump_test::fake::{Faults, faulty, write_executable};
use serde_json::Value;

use crate::place::Ran;
use crate::real::Served;

const QUICK: &str = "linger_seconds = 0\nwatch_seconds = 0";

/// Offers a build that fails as it is told, as 9.0.0.
fn offer_faulty(served: &Served, faults: Faults) -> ReleaseInfo {
    let real = served.place.path("opt/pump/current/bin/pumpd");
    let faults = Faults { version: Some("9.0.0".to_owned()), ..faults };
    let path = faulty(&real, served.place.folder(), "faulty", &faults).expect("it is made");
    let told = Command::new(&path).arg("release-info").output().expect("it can be run");
    let info: ReleaseInfo = serde_json::from_slice(&told.stdout).expect("release information");
    served.offer(&info, fs::read(&path).expect("our own file"));
    info
}

#[track_caller]
fn is_gone_back_from(faults: Faults, says: &str) {
    let served = Served::with(QUICK);
    let began = served.status();
    let bad = offer_faulty(&served, faults);
    let ran = served.place.pump(&["upgrade", "--zero-downtime", "--bake", "300"]);
    ran.ended(60, says).ended(60, "9.0.0+").ended(60, "serves again");
    let now = served.status();
    assert_eq!(now["workers_build"]["build"], began["workers_build"]["build"], "{now}");
    assert_eq!(now["master"]["build"], began["master"]["build"], "the master went back, too");
    assert_eq!(now["pid"], began["pid"]);
    assert!(served.place.link("current").is_some_and(|name| name != bad.name()));
    served.place.pump(&["history"]).ended(0, "exit 60");
    served.account("alice");
}

#[test]
fn b10_a_release_that_is_ready_and_answers_500_is_gone_back_from() {
    let faults = Faults { errors_percent: 100, ..Faults::default() };
    is_gone_back_from(faults, "of 2 probes, which do what a person does, failed");
}

#[test]
fn b10_a_release_whose_workers_die_after_a_while_is_gone_back_from() {
    let faults = Faults { dies_after_requests: Some(5), ..Faults::default() };
    is_gone_back_from(faults, "was found wanting");
}

#[test]
fn b10_a_good_release_is_probed_by_each_worker_and_kept() {
    let served = Served::with(QUICK);
    let new = served.offer_other_build("the next build");
    let version = new.version.to_string();
    let words = ["upgrade", "--zero-downtime", "--to", &version, "--bake", "1", "--json"];
    let ran = served.place.pump(&words);
    ran.ended(0, "");
    let lines = ran.lines();
    let seen = lines.iter().rev().find_map(|line| line["bake"]["seen"].as_object());
    let seen = seen.expect("what was seen is told");
    assert_eq!((&seen["probes_well"], &seen["probes_failed"]), (&2.into(), &0.into()), "{seen:?}");
    assert_eq!(served.place.link("current"), Some(new.name()));
}

/// As needrestart does after an `apt upgrade` that brought a library and the package, or whoever edits the
/// configuration in that time.
#[test]
fn a_restart_while_a_release_is_watched_gives_it_new_workers_and_does_not_go_back() {
    let served = Served::with(QUICK);
    let (began, new) = (served.status(), served.offer_other_build("the next build"));
    let version = new.version.to_string();
    let words = ["upgrade", "--zero-downtime", "--to", &version, "--bake", "20", "--json"];
    let upgrade = served.place.command(&words).stdout(Stdio::piped()).spawn();
    let upgrade = upgrade.expect("pump can be run");
    let journal = served.place.path("var/lib/pump-upgrade/journal.jsonl");
    pump_test::eventually(Duration::from_secs(60), || {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        if text.contains(r#""state":"baking""#) { Ok(()) } else { Err(text) }
    });
    let watched = served.status();
    assert!(served.place.link("current").is_some_and(|name| name != new.name()));
    served.place.pump(&["restart", "--wait", "--canary", "0"]).ended(0, "");
    let now = served.status();
    assert_eq!(now["workers_build"], watched["workers_build"], "{now}");
    assert_ne!(now["workers_build"]["build"], began["workers_build"]["build"], "{now}");
    assert!(now["generation"].as_u64() > watched["generation"].as_u64(), "{now}");
    let ended = upgrade.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(served.place.link("current"), Some(new.name()));
}

fn found<'a>(lines: &'a [Value], check: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["check"] == check).collect()
}

fn broken(ran: &Ran) -> Vec<String> {
    let lines = ran.lines();
    let broken = lines.iter().filter(|line| line["level"] == "broken");
    broken.map(|line| line["check"].as_str().expect("a word").to_owned()).collect()
}

#[test]
fn the_doctor_finds_what_is_wrong_and_repairs_what_is_safe() {
    let served = Served::with(QUICK);
    let place = &served.place;
    let mode = |path: &str, mode| {
        fs::set_permissions(place.path(path), Permissions::from_mode(mode)).expect("ours");
    };
    // The place was made by hand, and not quite as `pump install` does.
    fs::create_dir_all(place.path("var/lib/pump-upgrade")).expect("our own folder");
    place.pump(&["doctor", "--fix", "--quiet"]).ended(0, "");
    let ran = place.pump(&["doctor", "--json"]);
    let lines = ran.ended(0, "").lines();
    assert_eq!(broken(&ran), [""; 0], "{lines:?}");
    for check in ["current", "configuration", "server", "clock", "source", "trust", "room", "modes"]
    {
        assert!(
            found(&lines, check).iter().any(|one| one["level"] == "fine"),
            "{check}: {lines:?}"
        );
    }
    let before = place.program();
    place.pump(&["doctor", "--fix", "--json"]).ended(0, r#""repaired":[]"#);
    place.is_untouched(&before);

    mode("opt/pump/releases", 0o777);
    mode("var/lib/pump-upgrade", 0o755);
    fs::create_dir(place.path("opt/pump/releases/.tmp-7")).expect("our own folder");
    place.pump(&["hold"]).ended(0, "");
    let ran = place.pump(&["doctor", "--json"]);
    let lines = ran.ended(50, "").lines();
    assert_eq!(broken(&ran), ["modes", "modes"], "{lines:?}");
    assert_eq!(found(&lines, "leftovers").len(), 1, "{lines:?}");
    assert_eq!(found(&lines, "hold")[0]["level"], "remark", "{lines:?}");
    for line in lines.iter().filter(|line| line["level"] != "fine" && line["check"].is_string()) {
        assert!(line["why"].is_string(), "it matters, and is not said why: {line}");
    }
    place.pump(&["doctor"]).ended(50, "hint: run `chmod 0700 ");
    let fixed = place.pump(&["doctor", "--fix"]);
    fixed.ended(0, "repaired: ").ended(0, "nothing is broken");
    assert!(!place.path("opt/pump/releases/.tmp-7").exists());
    let now = fs::metadata(place.path("opt/pump/releases")).expect("ours").permissions().mode();
    assert_eq!(now & 0o7777, 0o755);

    // What is nobody's to repair by itself is told with the next command.
    let config = place.path("etc/pump/pumpd.toml");
    let right = fs::read_to_string(&config).expect("our own file");
    fs::write(&config, format!("{right}\nnonsense = 1\n")).expect("our own file");
    let ran = place.pump(&["doctor", "--fix", "--json"]);
    ran.ended(50, "nonsense");
    assert_eq!(broken(&ran), ["configuration"]);
    fs::write(&config, right).expect("our own file");

    let file = place.path("opt/pump/current/bin/pumpd");
    let program = fs::read(&file).expect("our own file");
    write_executable(&file, &[&program[..], b"x"].concat()).expect("our own file");
    let ran = place.pump(&["doctor"]);
    ran.ended(50, "it is what starts after a crash or a reboot").ended(50, "to fetch it again");
    write_executable(&file, &program).expect("our own file");

    place.pump(&["stop"]).ended(0, "");
    place.pump(&["doctor"]).ended(50, "pumpd does not run: nobody is served").ended(50, "start`");
    place.pump(&["start"]).ended(0, "");
    place.pump(&["doctor"]).ended(0, "");
}
