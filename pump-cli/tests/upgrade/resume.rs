//! What was cut is finished or undone by whichever command comes next, and `pump status` says so until then.
//! Cases 1 and 19 of the hardest.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::master::Master;
use crate::place::{Place, version};
use crate::real::Served;

/// The last line of the journal.
fn last(place: &Place) -> Value {
    let text = fs::read_to_string(place.path("var/lib/pump-upgrade/journal.jsonl"));
    let text = text.expect("there is a journal");
    serde_json::from_str(text.lines().last().expect("it has a line")).expect("JSON")
}

/// Leaves the journal as a run has that was killed when it had come to this state.
fn cut_at(place: &Place, state: &str, change: impl Fn(&mut Value)) {
    let path = place.path("var/lib/pump-upgrade/journal.jsonl");
    let mut line = last(place);
    line["state"] = json!(state);
    line["exit"] = Value::Null;
    line["result"] = Value::Null;
    line["owner"]["pid"] = json!(1);
    line["owner"]["start"] = json!(0);
    change(&mut line);
    let text = fs::read_to_string(&path).expect("there is a journal");
    fs::write(&path, format!("{text}{line}\n")).expect("our own file");
}

#[test]
fn where_nothing_was_cut_there_is_nothing_to_resume() {
    let place = Place::new();
    let before = place.program();
    place.pump(&["resume"]).ended(0, "nothing to do");
    assert_eq!(place.pump(&["resume", "--json"]).ended(0, "").json()["result"], "nothing-to-do");
    place.is_untouched(&before);
    let empty = tempfile::tempdir().expect("a temporary folder can be made");
    let root = empty.path().to_str().expect("text");
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_pump"))
        .args(["resume", "--root", root])
        .output()
        .expect("pump can be run");
    assert_eq!(ran.status.code(), Some(50), "{ran:?}");
}

#[test]
fn every_transition_is_noted_in_its_order() {
    let place = Place::new();
    let _master = Master::of(&place, &version("1.0.0"));
    place.offer(&version("1.1.0"));
    place.pump(&["upgrade"]).ended(0, "");
    let text = fs::read_to_string(place.path("var/lib/pump-upgrade/journal.jsonl"));
    let text = text.expect("there is a journal");
    let states: Vec<String> = text
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            line["state"].as_str().expect("a word").to_owned()
        })
        .collect();
    let wanted = [
        "checked",
        "planned",
        "fetched",
        "verified",
        "preflighted",
        "backed-up",
        "unpacked",
        "expanded",
        "rolled",
        "baking",
        "confirmed",
    ];
    assert_eq!(states, wanted);
}

#[test]
fn b01_whatever_state_it_was_cut_in_resume_brings_it_to_an_end() {
    let served = Served::with("linger_seconds = 0\nwatch_seconds = 0");
    let place = &served.place;
    let old = place.link("current").expect("there is one");
    let new = served.offer_other_build("the next build");
    let version = new.version.to_string();
    place.pump(&["upgrade", "--zero-downtime", "--to", &version]).ended(0, "");
    place.pump(&["rollback"]).ended(0, "");
    for state in ["checked", "fetched", "unpacked", "expanded", "rolled", "baking", "rolling-back"]
    {
        // As an upgrade that was cut: the old release serves and is current, or in the later states the new
        // one serves already.
        let rolled = ["rolled", "baking", "rolling-back"].contains(&state);
        if rolled {
            let candidate = place.path("opt/pump/releases").join(new.name()).join("bin/pumpd");
            served.roll_onto(&candidate);
        }
        cut_at(place, state, |line| {
            (line["action"], line["way"]) = (json!("upgrade"), json!("roll"));
            (line["from"], line["to"], line["goal"]) =
                (json!(old), json!(new.name()), json!(new.name()));
            line["asked"]["words"] = json!(["upgrade", "--zero-downtime"]);
        });
        place.pump(&["status"]).ended(0, "`pump --root");
        place.pump(&["status"]).ended(0, "was cut");
        assert_eq!(place.pump(&["status", "--json"]).json()["upgrade"]["at_work"], false);
        let undone = state == "rolling-back";
        place.pump(&["resume"]).ended(if undone { 60 } else { 0 }, "was cut");
        let goal = if undone { old.clone() } else { new.name() };
        assert_eq!(place.link("current"), Some(goal.clone()), "cut at {state}");
        assert!(
            goal.ends_with(&served.status()["workers_build"]["build"].as_str().expect("text")[..8])
        );
        let before = place.program();
        place.pump(&["resume"]).ended(0, "nothing to do");
        place.is_untouched(&before);
        if !undone {
            place.pump(&["rollback"]).ended(0, "");
        }
        assert_eq!(place.link("current"), Some(old.clone()));
    }
}

#[test]
fn who_wants_to_go_back_undoes_what_was_cut_and_goes_no_further() {
    let served = Served::with("linger_seconds = 0\nwatch_seconds = 0");
    let place = &served.place;
    let old = place.link("current").expect("there is one");
    let new = served.offer_other_build("the next build");
    let version = new.version.to_string();
    place.pump(&["upgrade", "--zero-downtime", "--to", &version]).ended(0, "");
    place.pump(&["rollback"]).ended(0, "");
    let candidate = place.path("opt/pump/releases").join(new.name()).join("bin/pumpd");
    for serves_new in [true, false] {
        if serves_new {
            served.roll_onto(&candidate);
        }
        cut_at(place, if serves_new { "baking" } else { "unpacked" }, |line| {
            (line["action"], line["way"]) = (json!("upgrade"), json!("roll"));
            (line["from"], line["to"], line["goal"]) =
                (json!(old), json!(new.name()), json!(new.name()));
        });
        place.pump(&["rollback"]).ended(0, &old);
        assert_eq!(place.link("current"), Some(old.clone()));
        let serves = served.status()["workers_build"]["build"].as_str().expect("text").to_owned();
        assert!(old.ends_with(&serves[..8]), "{serves} serves");
        place.pump(&["resume"]).ended(0, "nothing to do");
    }
}

#[test]
fn what_a_later_pump_has_begun_is_left_to_it() {
    let place = Place::new();
    place.offer(&version("1.1.0"));
    place.pump(&["upgrade"]).ended(0, "");
    cut_at(&place, "teleported", |_| {});
    let before = place.program();
    for command in ["resume", "upgrade", "rollback"] {
        place.pump(&[command]).ended(50, "a later pump");
    }
    place.is_untouched(&before);
}

#[test]
fn b19_of_fifty_at_once_one_works_and_the_others_say_who() {
    let place = Place::new();
    place.offer(&version("1.1.0"));
    // Somebody is at work until all of them have been refused.
    let folder = fs::File::open(place.path("var/lib/pump-upgrade"));
    let folder = folder.or_else(|_| {
        fs::create_dir_all(place.path("var/lib/pump-upgrade"))?;
        fs::File::open(place.path("var/lib/pump-upgrade"))
    });
    let folder = folder.expect("our own folder");
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).expect("it is ours");
    let ran = place.pump(&["upgrade"]);
    ran.ended(70, &format!("process {}", std::process::id()));
    ran.ended(70, " since 20");
    drop(folder);
    let start = || {
        let mut command = place.command(&["upgrade", "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pump can be run")
    };
    let runs: Vec<_> = (0..50).map(|_| start()).collect();
    let mut won = 0;
    for run in runs {
        let output = run.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.code() {
            Some(0) if said.contains(r#""result":"upgraded""#) => won += 1,
            // Who came when the winner had ended finds nothing to do.
            Some(0) => assert!(said.contains("nothing-to-do"), "{said}"),
            Some(70) => assert!(said.contains("process "), "{said}"),
            other => panic!("{other:?}: {output:?}"),
        }
    }
    assert_eq!(won, 1, "one makes the upgrade");
    assert_eq!(place.link("current"), Some(version("1.1.0").info().name()));
}
