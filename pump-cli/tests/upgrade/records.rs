//! What is written of upgrades: by whoever has whatever umask, and sealed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::place::{Place, Ran, program, version};
use crate::real::Served;

/// A place in which two upgrades were made.
fn upgraded_twice() -> Place {
    let place = Place::new();
    for next in ["1.1.0", "1.2.0"] {
        place.offer(&version(next));
        place.pump(&["upgrade"]).ended(0, "is the current release");
    }
    place
}

#[test]
fn a_changed_line_of_the_history_is_named() {
    let place = upgraded_twice();
    let ran = place.pump(&["history", "--verify", "--json"]);
    assert_eq!((&ran.ended(0, "").json()["sealed"], &ran.json()["open"]), (&2.into(), &0.into()));
    let path = place.path("var/lib/pump-upgrade/history.jsonl");
    let text = fs::read_to_string(&path).expect("it was written");
    fs::write(&path, text.replacen("1.1.0", "1.0.9", 1)).expect("ours");
    place.pump(&["history", "--verify"]).ended(40, "line 1 of");
    place.pump(&["doctor"]).ended(50, "line 1 of");
    // Whoever goes on from there seals what is there, and the line stays named.
    place.offer(&version("1.3.0"));
    place.pump(&["upgrade"]).ended(0, "is the current release");
    place.pump(&["history", "--verify"]).ended(40, "line 1 of");
}

#[test]
fn a_history_of_an_older_pump_is_gone_on_with() {
    let place = Place::new();
    fs::create_dir_all(place.path("var/lib/pump-upgrade")).expect("ours");
    let old = "{\"at\":\"2026-11-01T00:00:00Z\",\"who\":\"root\",\"action\":\"install\",\"to\":\"1.0.0\",\
               \"exit\":0,\"result\":\"so it went\",\"seconds\":1}\n";
    fs::write(place.path("var/lib/pump-upgrade/history.jsonl"), old).expect("ours");
    place.pump(&["history", "--verify"]).ended(0, "no line has a hash so far");
    place.offer(&version("1.1.0"));
    place.pump(&["upgrade"]).ended(0, "is the current release");
    place.pump(&["history", "--verify"]).ended(0, "2 lines are as they were written");
    assert_eq!(place.pump(&["history", "--json"]).lines().len(), 2);
}

#[test]
fn b17_no_umask_makes_records_that_their_owner_cannot_read() {
    for umask in ["0777", "0000"] {
        let place = Place::new();
        place.offer(&version("1.1.0"));
        let line = format!("umask {umask}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &line]).arg(program()).arg("upgrade").arg("--root").arg(place.root());
        Ran::of(&command.output().expect("a shell can be run")).ended(0, "is the current release");
        for name in ["history.jsonl", "journal.jsonl"] {
            let path = place.path("var/lib/pump-upgrade").join(name);
            let mode = fs::metadata(&path).expect("it was written").permissions().mode();
            assert_eq!(mode & 0o7777, 0o600, "{name} under {umask}");
        }
    }
}

#[test]
fn the_server_s_own_figures_tell_of_upgrades() {
    let served = Served::with("linger_seconds = 0\nwatch_seconds = 0");
    let place = &served.place;
    place.pump(&["hold"]).ended(0, "");
    place.pump(&["metrics"]).ended(0, "pump_upgrade_held 1");
    place.pump(&["unhold"]).ended(0, "");
    place.pump(&["metrics"]).ended(0, "pump_upgrade_held 0");
    let version = served.offer_other_build("the next build").version.to_string();
    place.pump(&["upgrade", "--zero-downtime", "--to", &version]).ended(0, "serves");
    let told = place.pump(&["metrics"]);
    told.ended(0, "pump_upgrade_last_upgrade_timestamp_seconds ");
}
