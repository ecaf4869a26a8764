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
