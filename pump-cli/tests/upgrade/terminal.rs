//! A terminal that is lost in the middle changes nothing. Case 15 of the hardest.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pump_test::eventually;
use pump_test::fake::write_executable;

use crate::master::Master;
use crate::place::{Place, version};
use crate::real::Served;

/// `pump` on a terminal of its own, as script(1) makes one. Killing it closes the terminal.
fn on_a_terminal(served: &Served, words: &[&str]) -> Child {
    let line = format!(
        "{} {} --root {}",
        env!("CARGO_BIN_EXE_pump"),
        words.join(" "),
        served.place.root().display()
    );
    Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("every Debian has script(1)")
}

/// Waits until the journal has this state.
fn reaches(served: &Served, state: &str) {
    let path = served.place.path("var/lib/pump-upgrade/journal.jsonl");
    eventually(Duration::from_secs(60), || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if text.contains(&format!(r#""state":"{state}""#)) { Ok(()) } else { Err(text) }
    });
}

#[test]
fn b15_an_upgrade_goes_on_without_its_terminal_and_is_followed_from_another() {
    // New workers are watched for so long that there is time to lose the terminal and to ask.
    let served = Served::with("linger_seconds = 0\nwatch_seconds = 10");
    let place = &served.place;
    place.pump(&["status", "--follow"]).ended(0, "no upgrade and no rollback is under way");
    let new = served.offer_other_build("the next build");
    let version = new.version.to_string();
    let mut terminal = on_a_terminal(&served, &["upgrade", "--zero-downtime", "--to", &version]);
    reaches(&served, "expanded");
    terminal.kill().expect("our own child");
    terminal.wait().expect("our own child");
    assert_ne!(place.link("current"), Some(new.name()), "there was nothing left to be lost");
    place.pump(&["status"]).ended(0, "is under way in process");
    let followed = place.pump(&["status", "--follow"]);
    followed.ended(0, "serves");
    followed.ended(0, "it had rolled the server onto the release");
    assert_eq!(place.link("current"), Some(new.name()));
    place.pump(&["resume"]).ended(0, "nothing to do");
}

#[test]
fn who_follows_ends_as_the_run_does_and_hears_that_it_was_cut() {
    let served = Served::with("linger_seconds = 0\nwatch_seconds = 20");
    let place = &served.place;
    let new = served.offer_other_build("the next build");
    let version = new.version.to_string();
    let mut run = place
        .command(&["upgrade", "--zero-downtime", "--to", &version])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("pump can be run");
    reaches(&served, "expanded");
    run.kill().expect("our own child");
    run.wait().expect("our own child");
    place.pump(&["status", "--follow"]).ended(75, "was cut");
    place.pump(&["resume"]).ended(0, "serves");
    assert_eq!(place.link("current"), Some(new.name()));
}

#[test]
fn who_follows_is_told_of_the_end_when_the_next_command_finds_nobody_at_work() {
    let place = Place::new();
    let _master = Master::of(&place, &version("1.0.0"));
    place.offer(&version("1.1.0"));
    // Whoever is notified takes longer over it than a lock is waited for, and the run has its lock until then.
    let notified = place.folder().join("notified");
    write_executable(&notified, b"#!/bin/sh\nexec sleep 4\n").expect("our own file");
    let config = place.path("etc/pump/upgrade.toml");
    let text = fs::read_to_string(&config).expect("our own file");
    let notify = format!("{text}[notify]\ncommand = [\"{}\"]\n", notified.display());
    fs::write(&config, notify).expect("our own file");
    let mut run = place
        .command(&["upgrade", "--unattended"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("pump can be run");
    let journal = place.path("var/lib/pump-upgrade/journal.jsonl");
    eventually(Duration::from_secs(60), || {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        if text.contains(r#""state":"confirmed""#) { Ok(()) } else { Err(text) }
    });
    place.pump(&["status", "--follow"]).ended(0, "");
    place.pump(&["rollback"]).ended(0, "serves");
    run.wait().expect("our own child");
}

#[test]
fn p5_a_master_that_is_killed_when_an_upgrade_has_ended_serves_the_new_release() {
    let served = Served::with("linger_seconds = 0\nwatch_seconds = 0");
    let place = &served.place;
    let old = place.link("current").expect("there is one");
    let new = served.offer_other_build("the next build");
    let version = new.version.to_string();
    for _ in 0..4 {
        for (words, goal) in
            [(&["upgrade", "--to", &version][..], new.name()), (&["rollback"][..], old.clone())]
        {
            let before = served.master();
            place.pump(words).ended(0, "serves");
            let _ = before.signal(nix::sys::signal::Signal::SIGKILL);
            let status = eventually(Duration::from_secs(60), || {
                let ran = place.pump(&["status", "--json"]);
                match ran.code {
                    Some(0) if ran.json()["pid"] != before.pid => Ok(ran.json()),
                    _ => Err(ran),
                }
            });
            let serves = status["workers_build"]["build"].as_str().expect("text").to_owned();
            assert!(
                goal.ends_with(&serves[..8]),
                "{goal} is current and {serves} serves: {status}"
            );
        }
    }
}

#[test]
fn between_two_masters_an_upgrade_waits_for_the_next_one() {
    let served = Served::with("linger_seconds = 0\nwatch_seconds = 0");
    let place = &served.place;
    let new = served.offer_other_build("the next build");
    let version = new.version.to_string();
    // Each death makes the next pause longer, so that there is no master for a while.
    for _ in 0..4 {
        let last = served.master();
        last.signal(nix::sys::signal::Signal::SIGKILL).expect("it lives");
        place.pump(&["start"]).ended(0, "ready");
    }
    served.master().signal(nix::sys::signal::Signal::SIGKILL).expect("it lives");
    place.pump(&["upgrade", "--zero-downtime", "--to", &version]).ended(0, "serves");
    assert_eq!(served.status()["workers_build"]["build"], new.build.to_string());
    assert_eq!(place.link("current"), Some(new.name()));
}
