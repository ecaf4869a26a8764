//! What an administrator types on a machine, and what is answered.

use std::process::Output;
use std::time::Duration;

use pump_control::control::Status;
use pump_test::machine::{Machine, said};
use serde_json::Value;

/// How long anything may take, clients that nobody stops among them.
pub(crate) const AT_MOST: Duration = Duration::from_secs(300);

#[track_caller]
pub(crate) fn must_exit(machine: &Machine, code: i32, words: &[&str]) -> Output {
    let output = machine.run(words).expect("a command can be run");
    if output.status.code() != Some(code) {
        let journal = machine
            .run(&["journalctl", "--no-pager", "--lines=60", "--unit=pump*"])
            .map_or_else(|error| error.to_string(), |journal| said(&journal));
        panic!("`{}`: {}\n{journal}", words.join(" "), said(&output));
    }
    output
}

#[track_caller]
pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

#[track_caller]
pub(crate) fn status(machine: &Machine) -> Status {
    let output = must_exit(machine, 0, &["pump", "status", "--json"]);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", said(&output)))
}

/// Puts an administrator's drop-in beside a unit, and has systemd read it.
#[track_caller]
pub(crate) fn drop_in(machine: &Machine, unit: &str, text: &str) {
    let folder = format!("/etc/systemd/system/{unit}.d");
    machine.must(&["mkdir", "-p", &folder]);
    let file = machine.path(&format!("{folder}/mine.conf"));
    std::fs::write(file, text).expect("a file can be put there");
    machine.must(&["systemctl", "daemon-reload"]);
}

/// Waits until an upgrade has come so far that the new release serves and is watched.
#[track_caller]
pub(crate) fn until_it_is_watched(machine: &Machine) {
    let journal = machine.path("/var/lib/pump-upgrade/journal.jsonl");
    pump_test::eventually(AT_MOST, || {
        let text = std::fs::read_to_string(&journal).unwrap_or_default();
        if text.contains(r#""state":"baking""#) { Ok(()) } else { Err(text) }
    });
}
