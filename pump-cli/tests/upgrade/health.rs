//! Whether a release is taken, by whom and when, and what becomes of one that is found wanting.

use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use pump_control::ExitStatus;
use pump_release::{Channel, Rollout, Rules, TARGET};
use pump_repository::{Expiry, Offer};
use pump_test::fake::write_executable;

use crate::master::Master;
use crate::place::{Place, Wanted, version};

const TIMER: &[&str] = &["upgrade", "--unattended", "--zero-downtime"];

/// Adds lines to `upgrade.toml`.
fn say(place: &Place, lines: &str) {
    let path = place.path("etc/pump/upgrade.toml");
    let text = fs::read_to_string(&path).expect("our own file");
    fs::write(&path, format!("{text}{lines}\n")).expect("our own file");
}

fn in_hours(hours: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(hours)
}

/// A window that opens in so many hours, for an hour.
fn window(hours: i64) -> String {
    let at = |hours| in_hours(hours).strftime("%H:%M").to_string();
    format!("window = \"{}-{}\"\ntime_zone = \"UTC\"", at(hours), at(hours + 1))
}

fn waves(json: &str) -> Rules {
    let rollout: Rollout = serde_json::from_str(json).expect("a rollout");
    Rules { rollout: Some(rollout), ..Rules::default() }
}

#[test]
fn b10_a_release_that_is_found_wanting_is_gone_back_from_and_left_alone_and_a_newer_one_is_taken() {
    let place = Place::new();
    let (old, bad) = (version("1.0.0"), version("1.1.0"));
    let master = Master::of(&place, &old);
    place.offer(&bad);
    master.fails_probes("GET / was answered with 500");
    let ran = place.pump(&["upgrade", "--bake", "60"]);
    ran.ended(
        60,
        "2 of 2 probes, which do what a person does, failed: GET / was answered with 500",
    );
    ran.ended(60, &format!("{} serves again", old.info().name()));
    assert_eq!(place.link("current"), Some(old.info().name()));
    assert_eq!(master.status().workers_build.build, old.info().build.to_string());
    let rolls: Vec<_> = master.asked().into_iter().filter_map(|roll| roll.candidate).collect();
    assert_eq!(rolls.len(), 2, "there and back: {rolls:?}");
    assert!(rolls[1].to_string_lossy().contains("1.0.0+"), "{rolls:?}");
    place.pump(&["history"]).ended(0, "exit 60");

    for who in [TIMER, &["upgrade"]] {
        let refused = place.pump(who);
        refused.ended(20, "is left alone, since on").ended(20, "GET / was answered with 500");
        refused.ended(20, "pump --root");
    }
    assert_eq!(master.asked().len(), 2);
    place.offer(&version("1.1.1"));
    place.pump(&["upgrade"]).ended(0, "1.1.1");
    // By name it is tried again.
    place.pump(&["rollback"]).ended(0, "1.0.0");
    place.pump(&["upgrade", "--to", "1.1.0"]).ended(0, "serves");
}

#[test]
fn b10_one_that_holds_is_current_afterwards_with_its_figures() {
    let place = Place::new();
    let _master = Master::of(&place, &version("1.0.0"));
    let new = version("1.1.0");
    place.offer(&new);
    let ran = place.pump(&["upgrade", "--bake", "1"]);
    ran.ended(0, "was watched for 1 s: 0 of 0 answers were 5xx, 2 of 2 probes went well");
    assert_eq!(place.link("current"), Some(new.info().name()));
    place.pump(&["upgrade", "--bake", "86401"]).ended(2, "86400");
}

#[test]
fn b11_where_going_back_fails_it_is_told_and_what_serves_goes_on() {
    let place = Place::new();
    let (old, bad) = (version("1.0.0"), version("1.1.0"));
    let master = Master::of(&place, &old);
    place.offer(&bad);
    master.fails_probes("GET / was answered with 500");
    master.fails_after(1, ExitStatus::RollFailed, "worker 5 ended with exit 9");
    let ran = place.pump(&["upgrade", "--bake", "60"]);
    ran.ended(61, "and going back failed: worker 5 ended with exit 9").ended(61, "hint: run `pump");
    // The unit runs the new release, degraded and not dead, and says so.
    assert_eq!(master.status().workers_build.build, bad.info().build.to_string());
    place.pump(TIMER).ended(20, "left alone");
    // What the hint says tries the way back again, and does not stay: the master is left to its `current`.
    place.pump(&["restart", "--wait"]).ended(62, "worker 5 ended with exit 9");
    assert_eq!(master.asked().last().expect("it was asked").candidate, None);
}

#[test]
fn a_hold_stops_every_upgrade_until_it_is_lifted_and_not_the_way_back() {
    let place = Place::new();
    let _master = Master::of(&place, &version("1.0.0"));
    fs::write(place.path("etc/pump/pumpd.toml"), "").expect("our own file");
    place.offer(&version("1.1.0"));
    place.pump(&["upgrade"]).ended(0, "serves");
    place.offer(&version("1.2.0"));
    place.pump(&["hold", "--until", "1999-12-31"]).ended(2, "is over already");
    place.pump(&["hold", "--until", "3d", "--reason", "the fair"]).ended(0, "the fair");
    for who in [TIMER, &["upgrade"], &["upgrade", "--to", "1.2.0"], &["upgrade", "--now"]] {
        let refused = place.pump(who);
        refused
            .ended(20, "upgrades are held since")
            .ended(20, "the fair")
            .ended(20, "unhold` to go on");
    }
    place.pump(&["upgrade", "--check"]).ended(10, "1.2.0");
    place.pump(&["rollback"]).ended(0, "1.0.0");
    place.pump(&["unhold"]).ended(0, "not held any more");
    place.pump(&["unhold"]).ended(0, "nothing to do");
    place.pump(&["upgrade"]).ended(0, "1.2.0");
    // What cannot be read is taken for a hold.
    fs::write(place.path("var/lib/pump-upgrade/hold.json"), "{").expect("our own file");
    place.offer(&version("1.3.0"));
    place.pump(&["upgrade"]).ended(50, "hold.json");
}

#[test]
fn a_timer_keeps_to_its_window_and_a_person_need_not() {
    let place = Place::new();
    let master = Master::of(&place, &version("1.0.0"));
    say(&place, &window(2));
    place.offer(&version("1.1.0"));
    place.pump(TIMER).ended(21, "is closed; it opens");
    assert!(master.asked().is_empty());
    place.pump(&["upgrade"]).ended(0, "1.1.0");
    place.offer(&version("1.2.0"));
    place.pump(TIMER).ended(21, "");
    place.pump(&[TIMER, &["--now"]].concat()).ended(0, "1.2.0");
    // Open now.
    let open = Place::new();
    let _master = Master::of(&open, &version("1.0.0"));
    say(&open, "window = [\"Mon-Sun 00:00-24:00\"]\ntime_zone = \"Pacific/Kiritimati\"");
    open.offer(&version("1.1.0"));
    open.pump(TIMER).ended(0, "1.1.0");
}

#[test]
fn what_mends_a_hole_comes_first_outside_of_the_window_and_before_the_waves_of_others() {
    let place = Place::new();
    let _master = Master::of(&place, &version("1.0.0"));
    say(&place, &format!("{}\nsecurity_any_time = true", window(2)));
    place.offer(&version("1.1.0"));
    place.pump(TIMER).ended(21, "is closed");
    let mended = version("1.0.1");
    let (info, bundle) = (mended.info(), mended.bundle());
    let offer = Offer {
        channel: Channel::Stable,
        info: &info,
        target: TARGET,
        bundle: &bundle,
        rules: Rules::default(),
        security: true,
        notes_url: None,
    };
    let later = waves(&format!(r#"{{"start":"{}"}}"#, in_hours(3)));
    place.offer(&Wanted { rules: later, ..version("1.1.0") });
    let now = Timestamp::now();
    place.source.offer(&offer, now, Expiry::usual(now)).expect("a release can be offered");
    place.pump(TIMER).ended(0, "1.0.1");
    place.pump(TIMER).ended(21, "1.1.0 is rolled out in waves, and this machine has its turn on");
}

#[test]
fn a_pin_keeps_to_its_versions_and_takes_the_newest_of_them() {
    let place = Place::new();
    let _master = Master::of(&place, &version("1.0.0"));
    say(&place, "pin = \"1.0\"");
    place.offer(&version("2.0.0"));
    let refused = place.pump(&["upgrade"]);
    refused.ended(20, "2.0.0 is none of the versions `1.0`").ended(20, "upgrade --to 2.0.0");
    place.pump(&["upgrade", "--check"]).ended(20, "");
    place.offer(&version("1.0.5"));
    place.pump(TIMER).ended(0, "1.0.5");
    place.pump(&["upgrade", "--to", "2.0.0"]).ended(0, "2.0.0");
}

#[test]
fn a_machine_waits_for_its_turn_unless_somebody_does_not() {
    let place = Place::new();
    let master = Master::of(&place, &version("1.0.0"));
    // This id is in bucket 1000 and more for 1.1.0, whatever else is on the machine.
    let id = "0123456789abcdef0123456789abcdef\n";
    fs::write(place.path("etc/machine-id"), id).expect("our own file");
    let rules = waves(&format!(r#"{{"start":"{}","waves":[[0,"0h"],[100,"3d"]]}}"#, in_hours(-1)));
    place.offer(&Wanted { rules, ..version("1.1.0") });
    for who in [TIMER, &["upgrade"], &["upgrade", "--check"]] {
        place.pump(who).ended(21, "1.1.0 is rolled out in waves, and this machine has its turn on");
    }
    let none = waves(&format!(r#"{{"start":"{}","waves":[[0,"0h"]]}}"#, in_hours(-1)));
    place.offer(&Wanted { rules: none, ..version("1.1.0") });
    place.pump(TIMER).ended(21, "in none of its waves so far");
    assert!(master.asked().is_empty());
    place.pump(&["upgrade", "--now"]).ended(0, "1.1.0");

    let now = waves(&format!(r#"{{"start":"{}","waves":[[100,"1h"]]}}"#, in_hours(-2)));
    place.offer(&Wanted { rules: now, ..version("1.2.0") });
    place.pump(TIMER).ended(0, "1.2.0");
    // Stopped by its publisher it is nobody's.
    let halted = waves(&format!(r#"{{"start":"{}","halt":true}}"#, in_hours(-2)));
    place.offer(&Wanted { rules: halted, ..version("1.3.0") });
    place.pump(&["upgrade", "--now"]).ended(0, "nothing to do");
    place.pump(&["upgrade", "--to", "1.3.0"]).ended(20, "its publisher has stopped the rollout");
}

/// A program that notes what it is told.
fn teller(place: &Place) -> String {
    let path = place.folder().join("tell");
    let told = place.folder().join("told");
    let script = format!(
        "#!/bin/sh\necho \"$1|$PUMP_EVENT|$PUMP_FROM|$PUMP_TO|$PUMP_EXIT|$PUMP_TEXT|$HOME\" >>{}\n",
        told.display()
    );
    write_executable(&path, script.as_bytes()).expect("our own file");
    format!("[notify]\ncommand = [\"{}\", \"a $b\"]", path.display())
}

fn told(place: &Place) -> Vec<String> {
    let text = fs::read_to_string(place.folder().join("told")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_administrators_command_is_told_once_what_has_happened() {
    let place = Place::new();
    let (old, new) = (version("1.0.0"), version("1.1.0"));
    let master = Master::of(&place, &old);
    fs::write(place.path("etc/pump/pumpd.toml"), "").expect("our own file");
    say(&place, &teller(&place));
    place.offer(&new);
    place.pump(&["hold"]).ended(0, "");
    for _ in 0..3 {
        place.pump(TIMER).ended(20, "");
    }
    let held = told(&place);
    assert_eq!(held.len(), 1, "{held:?}");
    // Neither a shell nor the caller's environment has a part in it.
    let begins = format!("a $b|held|{}||20|upgrades are held", old.info().name());
    assert!(held[0].starts_with(&begins) && held[0].ends_with('|'), "{held:?}");
    place.pump(&["unhold"]).ended(0, "");
    master.fails_probes("it is ill");
    place.pump(&[TIMER, &["--bake", "30"]].concat()).ended(60, "it is ill");
    let back = told(&place).pop().expect("it was told");
    assert!(back.starts_with("a $b|rolled-back|1.0.0+") && back.contains("|60|"), "{back}");
    place.offer(&version("1.2.0"));
    place.pump(TIMER).ended(0, "");
    let done = told(&place).pop().expect("it was told");
    assert!(done.contains("|confirmed|") && done.contains("|1.2.0+"), "{done}");
    let count = told(&place).len();
    place.pump(TIMER).ended(0, "");
    assert_eq!(told(&place).len(), count, "nothing to do is no news");
}

#[test]
fn a_command_that_fails_or_is_not_there_changes_nothing_about_the_upgrade() {
    let place = Place::new();
    let _master = Master::of(&place, &version("1.0.0"));
    say(&place, "[notify]\ncommand = [\"/nowhere/tell\"]");
    place.offer(&version("1.1.0"));
    place
        .pump(&["upgrade"])
        .ended(0, "warning: nobody was notified: could not run `/nowhere/tell`");
    let wrong = Place::new();
    say(&wrong, "[notify]\ncommand = [\"tell\"]");
    wrong.pump(&["upgrade"]).ended(78, "`tell` is no absolute path");
}

#[test]
fn auto_upgrade_status_says_why_nothing_happens() {
    let place = Place::new();
    let _master = Master::of(&place, &version("1.0.0"));
    fs::write(place.path("etc/pump/pumpd.toml"), "").expect("our own file");
    say(&place, &window(2));
    let status = &["auto-upgrade", "status"];
    place.pump(status).ended(0, "it was never looked so far").ended(0, "is closed and opens");
    place.pump(&["auto-upgrade", "enable"]).ended(52, "a private place has no timer");
    place.pump(&["hold", "--reason", "the fair"]).ended(0, "");
    place.pump(TIMER).ended(20, "");
    let json = place.pump(&["auto-upgrade", "status", "--json"]).ended(0, "").json();
    assert_eq!(json["hold"]["reason"], "the fair", "{json}");
    assert_eq!(json["window"]["state"], "closed", "{json}");
    assert_eq!(json["last"]["exit"], 20, "{json}");
    assert!(json["in_the_way"].as_array().is_some_and(|all| all.len() == 3), "{json}");
    place.pump(&["unhold"]).ended(0, "");
    place.offer(&Wanted { magic: 9, ..version("2.0.0") });
    place.pump(&[TIMER, &["--now"]].concat()).ended(30, "");
    place.pump(status).ended(0, "the last look ended with exit 30: 2.0.0");
    place.pump(&["auto-upgrade", "status", "--why"]).ended(0, "a private place has no timer");
}

#[test]
fn figures_of_upgrades_are_written_where_a_collector_reads_them() {
    let place = Place::new();
    let _master = Master::of(&place, &version("1.0.0"));
    fs::write(place.path("etc/pump/pumpd.toml"), "").expect("our own file");
    let file = place.folder().join("pump.prom");
    say(&place, &format!("metrics_file = \"{}\"", file.display()));
    place.offer(&version("1.1.0"));
    place.pump(TIMER).ended(0, "");
    place.pump(&["hold"]).ended(0, "");
    place.pump(TIMER).ended(20, "");
    let text = fs::read_to_string(&file).expect("it was written");
    for line in [
        "pump_upgrade_checks_total{exit=\"0\"} 1",
        "pump_upgrade_checks_total{exit=\"20\"} 1",
        "pump_upgrade_held 1",
        "pump_upgrade_window_open 1",
        "pump_upgrade_last_exit 20",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    assert!(text.contains(&format!("installed=\"{}\"", version("1.1.0").info().name())), "{text}");
    let mode = fs::metadata(&file).expect("ours").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o644);
    let shown = place.pump(&["metrics", "--upgrades"]);
    assert_eq!(shown.ended(0, "").out.lines().count(), text.lines().count());
    assert!(!Path::new(&format!("{}.new", file.display())).exists());
}
