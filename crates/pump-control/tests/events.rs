//! Builds of `pump` and `pumpd` that differ understand each other's steps.

use pump_control::control::{Event, Reply, Status};

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
