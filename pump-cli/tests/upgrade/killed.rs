//! A master that is killed in a private place, where `pump start` has left a holder behind it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use pump_test::eventually;
use pump_test::process::Process;
use serde_json::Value;

use crate::real::Served;

fn workers(status: &Value) -> Vec<u64> {
    let workers = status["workers"].as_array().expect("a list");
    workers.iter().filter_map(|worker| worker["pid"].as_u64()).collect()
}

/// The status of the next master, once it is there.
fn next(served: &Served, killed: u32) -> Value {
    eventually(Duration::from_secs(30), || {
        let ran = served.place.pump(&["status", "--json"]);
        match ran.code {
            Some(0) if ran.json()["pid"] != killed => Ok(ran.json()),
            _ => Err(ran),
        }
    })
}

fn parent(pid: u32) -> Process {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let (_, rest) = stat.rsplit_once(')').expect("its name is in parentheses");
    let parent = rest.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    Process::of(parent.expect("a number")).expect("it lives")
}

#[test]
fn p5_a_killed_master_is_started_again_with_its_workers_and_stop_ends_all_of_it() {
    let served = Served::with("linger_seconds = 0");
    let (before, master) = (served.status(), served.master());
    let holder = parent(master.pid);
    master.signal(Signal::SIGKILL).expect("it lives");
    let after = next(&served, master.pid);
    assert_eq!(workers(&after), workers(&before), "they serve on: {after}");
    served.place.pump(&["stop"]).ended(0, "has stopped");
    assert!(!holder.lives(), "`pump stop` left the holder behind");
    served.place.pump(&["status"]).ended(75, "does not run");
    served.place.pump(&["start"]).ended(0, "");
}

#[test]
fn between_two_masters_start_starts_no_second_one_and_stop_stops() {
    let served = Served::with("linger_seconds = 0");
    let master = served.master();
    let holder = parent(master.pid);
    // Each death makes the next pause longer, so that there is no master for a while.
    for _ in 0..4 {
        let last = served.master();
        last.signal(Signal::SIGKILL).expect("it lives");
        served.place.pump(&["start"]).ended(0, "ready");
        assert_eq!(parent(served.master().pid).pid, holder.pid);
    }
    served.master().signal(Signal::SIGKILL).expect("it lives");
    served.place.pump(&["stop"]).ended(0, "has stopped");
    assert!(!holder.lives(), "the holder would have started the next one");
}

#[test]
fn who_waits_for_a_roll_hears_that_its_master_was_killed() {
    // New workers are watched for so long that there is time to kill it.
    let served = Served::with("linger_seconds = 0\nwatch_seconds = 60");
    let master = served.master();
    let mut waits = served.place.command(&["restart", "--wait", "--json"]);
    let mut waits = waits.stdout(Stdio::piped()).spawn().expect("pump can be run");
    let mut lines = BufReader::new(waits.stdout.take().expect("it is piped")).lines();
    let mut kinds = lines.by_ref().map(|line| {
        let line: Value = serde_json::from_str(&line.expect("text")).expect("JSON");
        line["event"]["kind"].as_str().unwrap_or_default().to_owned()
    });
    assert!(kinds.any(|kind| kind == "watching"), "the roll ended before it was watched");
    master.signal(Signal::SIGKILL).expect("it lives");
    let rest: Vec<Value> =
        lines.map(|line| serde_json::from_str(&line.expect("text")).expect("JSON")).collect();
    assert_eq!(waits.wait().expect("it ends").code(), Some(62), "{rest:?}");
    let last = rest.last().expect("it says how it ended");
    let error = last["error"].as_str().expect("a sentence");
    assert!(error.contains("restarted in the middle of the roll"), "{last}");
    let after = next(&served, master.pid);
    assert_eq!(after["generation"], 1, "the last confirmed build: {after}");
}
