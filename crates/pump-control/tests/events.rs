//! Builds of `pump` and `pumpd` that differ understand each other's steps.

use pump_control::channel::{Classes, Confinement};
use pump_control::constants::MAX_CONTROL_BACKLOG;
use pump_control::control::{Build, Event, Reply, Status, Worker, WorkerState};
use pump_control::encode;

fn step(line: &str) -> (String, Event, u64) {
    match serde_json::from_str(line) {
        Ok(Reply::Step { text, event, millis, .. }) => (text, *event, millis),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_step_of_a_build_without_events_is_a_sentence() {
    let (text, event, millis) = step(r#"{"reply":"step","roll":1,"text":"worker 1 is gone"}"#);
    assert_eq!((text.as_str(), event, millis), ("worker 1 is gone", Event::Other, 0));
}

#[test]
fn an_event_of_a_later_build_is_other_and_what_it_adds_is_dropped() {
    let later = r#"{"reply":"step","roll":1,"text":"t","event":{"kind":"danced","with":[1]}}"#;
    assert_eq!(step(later).1, Event::Other);
    let more = r#"{"reply":"step","roll":1,"text":"t","event":
        {"kind":"worker-ready","worker":3,"pid":7,"generation":2,"later":{"x":1}}}"#;
    let Event::WorkerReady(who) = step(more).1 else { panic!("it is known") };
    assert_eq!((who.worker, who.pid, who.generation), (3, 7, 2));
    let flat = r#"{"reply":"step","roll":1,"text":"t","event":
        {"kind":"worker-lost","worker":3,"failure":"it died"}}"#;
    let Event::WorkerLost { who, failure } = step(flat).1 else { panic!("it is known") };
    assert_eq!((who.worker, failure.as_str()), (3, "it died"));
}

#[test]
fn a_status_of_an_earlier_build_is_understood() {
    let build = r#"{"version":"0.1.0","build":"00","path":"/p"}"#;
    let earlier = format!(
        r#"{{"pid":1,"sentence":"s","phase":"rolling","master":{build},"workers_build":{build},
        "generation":1,"wanted":2,"workers":[{{"worker":1,"pid":2,"generation":1,"build":{build},
        "state":"ready"}}],"public_url":"","listen":[],"config":"/c","up_seconds":3,
        "roll":{{"roll":1,"sentence":"s","candidate":{build}}},
        "latch":{{"build":{build},"reason":"r"}}}}"#
    );
    let status: Status = serde_json::from_str(&earlier).expect("all that is new has a default");
    assert_eq!(status.workers[0].classes, None);
    let later = earlier.replacen('{', r#"{"later":[1],"#, 1);
    assert!(serde_json::from_str::<Status>(&later).is_ok());
}

#[test]
fn the_status_of_the_largest_cluster_is_a_reply() {
    let build = "a".repeat(64);
    let path = format!("/opt/pump/releases/{}/bin/pumpd", "a".repeat(40)).into();
    let worker = Worker {
        worker: u64::from(u32::MAX),
        pid: 4_194_304,
        generation: u64::from(u32::MAX),
        build: Build { version: "10.10.10-beta.10".to_owned(), build, path },
        state: WorkerState::Starting,
        connections: Some(4096),
        classes: Some(Classes { idle: 4096, in_flight: 4096, upload: 4096, stream: 4096 }),
        age_seconds: 100_000_000,
        resident: Some(1 << 34),
        requests: Some(1 << 40),
        server_errors: Some(1 << 40),
        panics: Some(1 << 40),
        confinement: Some(Confinement { landlock: 7, seccomp: true }),
    };
    // The largest number that a configuration may ask for, old and new, and some that are stuck.
    let status = Status { workers: vec![worker; 2 * 256 + 64], ..Status::default() };
    let length = encode(&Reply::Status(Box::new(status))).len();
    assert!(length < MAX_CONTROL_BACKLOG, "{length}");
}
