//! Waiting for a roll whose master goes away in the middle of it.

use pump_control::ExitStatus;
use pump_control::control::{Outcome, Phase, Roll, Status};

use crate::master::Master;
use crate::place::{Place, version};

/// What the next master says while the roll goes on, and then.
fn goes_on_to(master: &Master, then: Status) -> [Status; 2] {
    let roll = Some(Roll { roll: 1, ..Roll::default() });
    [Status { phase: Phase::Rolling, roll, ..master.status() }, then]
}

fn ended(exit: ExitStatus, text: &str) -> Option<Outcome> {
    Some(Outcome { exit, text: text.to_owned(), hint: None, output: Vec::new() })
}

#[test]
fn a_roll_that_the_next_master_goes_on_with_is_waited_for() {
    let place = Place::new();
    let master = Master::of(&place, &version("1.0.0"));
    let done = Status {
        last_roll: ended(ExitStatus::Done, "all are new"),
        last_roll_number: Some(1),
        ..master.status()
    };
    master.dies_in_the_roll(&goes_on_to(&master, done));
    let waited = place.pump(&["restart", "--wait"]);
    waited.ended(0, "asking what became of roll 1").ended(0, "all are new");
}

#[test]
fn a_roll_that_failed_while_nobody_saw_it_is_told_as_it_ended() {
    let place = Place::new();
    let master = Master::of(&place, &version("1.0.0"));
    let back = Status {
        last_roll: ended(ExitStatus::RolledBack, "the new build answers 5 % with errors"),
        last_roll_number: Some(1),
        ..master.status()
    };
    master.dies_in_the_roll(&goes_on_to(&master, back));
    place.pump(&["restart", "--wait"]).ended(60, "answers 5 % with errors");
}

#[test]
fn a_roll_that_nobody_knows_any_more_is_no_success() {
    let place = Place::new();
    let master = Master::of(&place, &version("1.0.0"));
    // What the last roll was like is not what this one is like.
    let forgot = Status {
        last_roll: ended(ExitStatus::Done, "all are new"),
        last_roll_number: Some(7),
        ..master.status()
    };
    master.dies_in_the_roll(&[forgot]);
    let waited = place.pump(&["restart", "--wait", "--json"]);
    waited.ended(62, "the last confirmed build, 1.0.0");
    let lines = waited.lines();
    let kinds: Vec<&str> = lines.iter().filter_map(|line| line["reply"].as_str()).collect();
    assert_eq!(kinds, ["accepted", "step", "ended"], "{lines:?}");
    assert_eq!(lines.last().and_then(|line| line["exit"].as_i64()), Some(62), "{lines:?}");

    // An upgrade asks once more, and leaves the links where they are when that is lost as well.
    place.offer(&version("1.1.0"));
    let again = [master.status()];
    master.dies_in_the_roll(&again);
    master.dies_in_the_roll(&again);
    place.pump(&["upgrade"]).ended(62, "the last confirmed build, 1.0.0");
    assert_eq!(master.asked().len(), 3);
    assert_eq!(place.link("current"), Some(version("1.0.0").info().name()));

    master.dies_in_the_roll(&again);
    place.pump(&["upgrade"]).ended(0, "asking for the roll once more");
    assert_eq!(master.asked().len(), 5);
    assert_eq!(place.link("current"), Some(version("1.1.0").info().name()));
}

#[test]
fn what_a_roll_is_asked_for_with_arrives() {
    let place = Place::new();
    let master = Master::of(&place, &version("1.0.0"));
    master.fails(ExitStatus::RollFailed, "no");
    let words = ["restart", "--wait", "--clear-latch", "--canary", "0", "--parallel", "3"];
    place.pump(&words).ended(62, "no");
    let asked = master.asked().remove(0);
    assert_eq!((asked.canary, asked.parallel), (Some(0), Some(3)), "{asked:?}");
    assert!(asked.clear_latch && asked.wait && !asked.one_worker, "{asked:?}");
    place.pump(&["restart", "--parallel", "0"]).ended(2, "--parallel");
}
