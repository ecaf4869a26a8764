//! What a worker tells its master, and what it does when its master dies.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use pump_control::channel::{FromWorker, ToWorker};
use pump_test::fake;

use crate::client::{REQUEST, answer};
use crate::fake_master::{Place, StandIn, TestWorker};
use crate::pumpd;

/// A form that is answered with 400 when it has come, but for its last bytes.
const HALF: &[u8] =
    b"POST /oauth/token HTTP/1.1\r\nHost: social.example\r\nContent-Length: 1000\r\n\
      Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant_type=";

#[test]
fn a_worker_counts_what_it_does() {
    let (place, master) = (Place::new(""), StandIn::new());
    let mut worker = TestWorker::start(&place, 3, &master);
    let before = worker.figures();
    assert_eq!((before.requests, before.connections, before.latency.len()), (0, 0, 32));
    let mut streams = [place.connect(), place.connect(), place.connect()];
    for _ in 0..5 {
        streams[0].write_all(REQUEST).expect("open");
        answer(&mut streams[0]);
    }
    streams[1].write_all(HALF).expect("open");
    streams[2].write_all(&REQUEST[..20]).expect("open");
    let figures = worker.eventually(|figures| figures.open.upload == 1);
    let figures = if figures.open.in_flight == 1 {
        figures
    } else {
        worker.eventually(|figures| figures.open.in_flight == 1)
    };
    assert_eq!((figures.open.idle, figures.open.stream), (1, 0), "{figures:?}");
    assert_eq!((figures.requests, figures.server_errors, figures.panics), (5, 0, 0));
    assert_eq!(figures.latency.iter().sum::<u64>(), 5);
    assert!(figures.latency_sum > 0 && figures.resident > 1 << 20, "{figures:?}");
    assert_eq!(figures.connections, 3);

    streams[1].write_all(&[b'x'; 989]).expect("open");
    answer(&mut streams[1]);
    drop(streams);
    let after = worker.eventually(|figures| figures.open == Default::default());
    assert_eq!(after.requests, 6);
}

#[test]
fn a_worker_is_probed_through_its_own_service() {
    let (place, master) = (Place::new(""), StandIn::new());
    let mut worker = TestWorker::start(&place, 1, &master);
    worker.say(&ToWorker::Probe);
    let FromWorker::Probed { generation: 1, failure: None, micros } = worker.hear() else {
        panic!("not probed");
    };
    assert!(micros > 0);
}

#[test]
fn an_upload_that_goes_on_may_take_longer_than_the_rest() {
    let place = Place::new("[roll]\nlinger_seconds = 0\ndrain_seconds = 2\n");
    let master = StandIn::new();
    let mut worker = TestWorker::start(&place, 1, &master);
    let mut upload = place.connect();
    upload.write_all(HALF).expect("open");
    worker.eventually(|figures| figures.open.upload == 1);
    worker.say(&ToWorker::Drain { hand_over: false });
    let begun = Instant::now();
    let mut last = 0;
    for _ in 0..20 {
        upload.write_all(b"x").expect("still open");
        // It says so each time, so it is waited for and nothing else.
        loop {
            let FromWorker::Draining { classes, uploaded, .. } = worker.hear() else { continue };
            assert_eq!(classes.upload, 1);
            if uploaded > last {
                last = uploaded;
                break;
            }
        }
        if begun.elapsed() > Duration::from_secs(5) {
            break;
        }
    }
    assert!(begun.elapsed() > Duration::from_secs(3), "twice as long as nothing may stand still");
    upload.write_all(&[b'x'; 989]).expect("still open");
    assert!(answer(&mut upload).starts_with("http/1.1 400"));
    drop(upload);
    assert_eq!(worker.ended(), Some(0));
    assert!(!worker.log().contains("connections are cut"), "{}", worker.log());
}

#[test]
fn an_upload_that_stands_still_is_cut() {
    let place = Place::new("[roll]\nlinger_seconds = 0\ndrain_seconds = 1\n");
    let master = StandIn::new();
    let mut worker = TestWorker::start(&place, 1, &master);
    let mut upload = place.connect();
    upload.write_all(HALF).expect("open");
    worker.eventually(|figures| figures.open.upload == 1);
    worker.say(&ToWorker::Drain { hand_over: false });
    assert_eq!(worker.ended(), Some(0));
    assert!(worker.log().contains("connections are cut"), "{}", worker.log());
}

#[test]
fn p5_a_worker_whose_master_was_killed_serves_on_and_is_adopted_by_the_next() {
    let (place, mut master) = (Place::new(""), StandIn::new());
    let mut worker = TestWorker::start(&place, 4, &master);
    let mut stream = place.connect();
    for _ in 0..2 {
        // The channel stays open all the time, as when somebody keeps its other end.
        master.die();
        pump_test::eventually(Duration::from_secs(30), || {
            let orphaned = worker.log().matches("the master is gone").count();
            if orphaned > 0 { Ok(()) } else { Err(worker.log()) }
        });
        stream.write_all(REQUEST).expect("open");
        assert!(answer(&mut stream).starts_with("http/1.1 200"));
        master = StandIn::new();
        worker.say_with(&ToWorker::Adopted, master.pidfd());
        assert_eq!(worker.hear(), FromWorker::Ready { generation: 4 });
        std::fs::write(place.path().join("worker-4.log"), "").expect("ours");
    }
    stream.write_all(REQUEST).expect("open");
    assert!(!answer(&mut stream).contains("connection: close"));
}

#[test]
fn a_worker_that_leaves_says_so_to_the_master_that_adopts_it() {
    let place = Place::new("[roll]\nlinger_seconds = 0\ndrain_seconds = 600\n");
    let mut master = StandIn::new();
    let mut worker = TestWorker::start(&place, 1, &master);
    let mut upload = place.connect();
    upload.write_all(HALF).expect("open");
    worker.eventually(|figures| figures.open.upload == 1);
    worker.say(&ToWorker::Drain { hand_over: false });
    let first = worker.hear();
    assert!(matches!(first, FromWorker::Draining { connections: 1, .. }), "{first:?}");
    master.die();
    let next = StandIn::new();
    worker.say_with(&ToWorker::Adopted, next.pidfd());
    assert_eq!(worker.hear(), first, "it is told anew");
    upload.write_all(&[b'x'; 989]).expect("still open");
    assert!(answer(&mut upload).contains("connection: close"));
    drop(upload);
    assert_eq!(worker.ended(), Some(0));
}

/// As it is when nobody keeps the dead master's end of the channel.
#[test]
fn a_worker_whose_channel_is_closed_leaves_when_there_is_a_master_again() {
    let place = Place::new("[roll]\nlinger_seconds = 0\n");
    let mut master = StandIn::new();
    let mut worker = TestWorker::start(&place, 1, &master);
    master.die();
    worker.eventually_logs("the master is gone");
    worker.close_channel();
    let mut stream = place.connect();
    stream.write_all(REQUEST).expect("open");
    assert!(answer(&mut stream).starts_with("http/1.1 200"));
    let control = std::os::unix::net::UnixListener::bind(place.path().join("run/control.sock"));
    let control = control.expect("nobody has it");
    assert_eq!(worker.ended(), Some(0));
    assert_eq!(stream.read(&mut [0]).expect("an orderly close, no reset"), 0);
    drop(control);
}

#[test]
fn a_handler_that_panics_is_an_answer_and_is_counted() {
    let faults = fake::Faults { panics_percent: 100, ..Default::default() };
    let (place, master) = (Place::new(""), StandIn::new());
    let program = fake::faulty(pumpd(), place.path(), "panics", &faults).expect("a copy");
    let mut worker = TestWorker::start_program(&program, &place, 1, &master);
    let mut stream = place.connect();
    for _ in 0..3 {
        stream.write_all(REQUEST).expect("open");
        assert!(answer(&mut stream).starts_with("http/1.1 500"));
    }
    let figures = worker.figures();
    assert_eq!((figures.panics, figures.server_errors, figures.requests), (3, 3, 3));
    assert!(worker.log().contains("told to panic"), "{}", worker.log());
}

/// What is published here is told to the master, which tells the other workers.
#[test]
fn what_is_published_is_told_to_the_master() {
    let (place, master) = (Place::new(""), StandIn::new());
    let mut worker = TestWorker::start(&place, 1, &master);
    let evan = place.account("evan");
    place.api().post(&evan, "hello").expect("posted");
    assert_eq!(worker.hear(), FromWorker::Published { generation: 1 });
    worker.say(&ToWorker::Nudge);
    // It is heard, and answered by nothing.
    assert_eq!(worker.figures().requests, 2);
}
