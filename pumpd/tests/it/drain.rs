//! What a client sees of a worker that leaves while nobody is there to take its connections: a server
//! that stops. What it sees of a roll is in `hand_over`.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pump_control::ExitStatus;
use pump_control::control::{Ask, Phase, Reply, Restart, Status, Worker};
use pump_test::{Setup, TestCluster};

use crate::client::{REQUEST, answer, connect};
use crate::{cluster, pumpd};

/// Longer than any of these tests takes: what is closed before it is closed too early.
const PATIENT: &str = "[roll]\nlinger_seconds = 60\ndrain_seconds = 120\n";

/// Sees to it that whoever is connected is with a worker: who comes later is accepted later.
fn accepted(cluster: &TestCluster) {
    let mut probe = connect(cluster);
    probe.write_all(REQUEST).expect("open");
    answer(&mut probe);
}

/// Nothing can come of them any more, so there is nothing to wait for; of somebody who has not said so there is.
#[test]
fn connections_whose_clients_have_said_that_this_was_all_are_closed_at_once() {
    const MANY: usize = 300;
    const LAST: &[u8] =
        b"GET /healthz HTTP/1.1\r\nHost: social.example\r\nConnection: close\r\n\r\n";

    let cluster = cluster(1, PATIENT);
    accepted(&cluster);
    let [worker] = &cluster.workers()[..] else { panic!("one worker") };
    let open = || worker.descriptors().expect("it lives");
    let before = open();
    let done: Vec<_> = (0..MANY)
        .map(|_| {
            let mut client = connect(&cluster);
            client.write_all(LAST).expect("open");
            let mut text = String::new();
            client.read_to_string(&mut text).expect("an orderly close, no reset");
            assert!(text.ends_with("alive\n"), "{text}");
            client
        })
        .collect();
    // The clients' ends are open still.
    assert!(open() < before + MANY / 3, "{} descriptors, {before} before", open());
    drop(done);
}

/// Asks the server to stop and waits until it has heard.
fn begin_stop(cluster: &TestCluster) {
    cluster.signal(Signal::SIGTERM);
    cluster.eventually(|status| status.phase == Phase::Stopping);
}

#[test]
fn an_idle_connection_is_answered_once_more_and_told_to_close() {
    let cluster = cluster(2, PATIENT);
    let mut used = connect(&cluster);
    used.write_all(REQUEST).expect("open");
    assert!(!answer(&mut used).contains("connection: close"));
    let mut fresh = connect(&cluster);
    accepted(&cluster);
    begin_stop(&cluster);
    for stream in [&mut used, &mut fresh] {
        stream.write_all(REQUEST).expect("still open");
        let text = answer(stream);
        assert!(text.starts_with("http/1.1 200") && text.contains("connection: close"), "{text}");
        assert_eq!(stream.read(&mut [0]).expect("an orderly close, no reset"), 0);
    }
}

#[test]
fn an_idle_connection_that_stays_idle_is_closed_after_the_linger_time_only() {
    let cluster = cluster(2, "[roll]\nlinger_seconds = 3\n");
    let mut idle = connect(&cluster);
    idle.write_all(REQUEST).expect("open");
    answer(&mut idle);
    let begun = Instant::now();
    begin_stop(&cluster);
    assert_eq!(idle.read(&mut [0]).expect("an orderly close, no reset"), 0);
    // A lower bound only: a machine that is busy makes it later and never earlier.
    assert!(begun.elapsed() >= Duration::from_secs(3), "closed after {:?}", begun.elapsed());
    drop(idle);
}

#[test]
fn a_request_that_was_begun_is_answered() {
    // Idle connections are closed at once here, and these are not idle.
    let cluster = cluster(2, "[roll]\nlinger_seconds = 0\n");
    let (mut head, mut body) = (connect(&cluster), connect(&cluster));
    head.write_all(REQUEST).expect("open");
    answer(&mut head);
    head.write_all(&REQUEST[..20]).expect("open");
    body.write_all(
        b"POST /oauth/token HTTP/1.1\r\nHost: social.example\r\nContent-Length: 30\r\n\
          Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant_type=",
    )
    .expect("open");
    accepted(&cluster);
    begin_stop(&cluster);
    head.write_all(&REQUEST[20..]).expect("still open");
    assert!(answer(&mut head).starts_with("http/1.1 200"));
    body.write_all(b"something&a=b123456").expect("still open");
    assert!(answer(&mut body).starts_with("http/1.1 400"), "an answer, if not a kind one");
    drop((head, body));
}

#[test]
fn pipelined_requests_are_answered_up_to_the_one_that_closes() {
    let cluster = cluster(2, PATIENT);
    let mut stream = connect(&cluster);
    stream.write_all(&[REQUEST, REQUEST].concat()).expect("open");
    answer(&mut stream);
    answer(&mut stream);
    begin_stop(&cluster);
    // More than the worker reads at once, so that something is unread when it closes.
    stream.write_all(&REQUEST.repeat(3_000)).expect("still open");
    assert!(answer(&mut stream).contains("connection: close"));
    // What came after it is not answered, and the close is no reset, which would eat the answer.
    assert_eq!(stream.read(&mut [0]).expect("an orderly close, no reset"), 0);
    drop(stream);
}

#[test]
fn a_worker_that_does_not_empty_is_killed_and_the_roll_goes_on() {
    let cluster = cluster(2, "[roll]\nlinger_seconds = 60\ndrain_seconds = 1\n");
    let mut unfinished = connect(&cluster);
    unfinished
        .write_all(
            b"POST /oauth/token HTTP/1.1\r\nHost: social.example\r\nContent-Length: 30\r\n\
              Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant_type=",
        )
        .expect("open");
    let rolled = cluster.roll(None);
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
}

#[test]
fn a_unix_socket_serves_and_outlives_rolls() {
    let listen = vec!["127.0.0.1:0".to_owned(), "unix:run/http.sock".to_owned()];
    let more = "[roll]\nlinger_seconds = 0\n".to_owned();
    let pumpd = Some(pumpd().to_owned());
    let mut cluster =
        TestCluster::start(Setup { pumpd, workers: 2, listen, more, ..Setup::default() });
    let path = cluster.place().join("run/http.sock");
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).expect("there"));
    let before = inode();
    for _ in 0..2 {
        assert_eq!(cluster.roll(None).outcome.exit, ExitStatus::Done);
        let mut client = UnixStream::connect(&path).expect("it listens");
        client.write_all(REQUEST).expect("open");
        assert!(answer(&mut client).starts_with("http/1.1 200"));
    }
    assert_eq!(inode(), before, "the file of the socket is the same");
    cluster.end().expect("it ends");
    assert!(!path.exists(), "a socket that we made goes with us");
}

/// The head of an upload that a worker takes, and answers with 400 when its body has come.
const UPLOAD: &[u8] = b"POST /oauth/token HTTP/1.1\r\nHost: social.example\r\n\
    Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\n";

/// Feeds an upload until `enough`, a byte for each time that the status is asked for, and returns how many
/// it took.
fn feed(
    cluster: &TestCluster,
    upload: &mut std::net::TcpStream,
    mut enough: impl FnMut(&Status) -> bool,
) -> usize {
    let begun = Instant::now();
    for sent in 0..400 {
        // Every worker is asked, and answers when it has time to: that is often enough, and not too often.
        while begun.elapsed() < Duration::from_millis(50) * sent {
            if enough(&cluster.status()) {
                return sent as usize;
            }
        }
        if upload.write_all(b"x").is_err() {
            return sent as usize;
        }
    }
    panic!("it never came to that");
}

/// Case 6: longer than anything may stand still, and the roll does not wait for it.
#[test]
fn an_upload_that_goes_on_outlives_a_roll_that_does_not_wait_for_it() {
    let more = "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\ndrain_seconds = 1\n";
    let cluster = cluster(2, more);
    let before = cluster.workers();
    let mut upload = connect(&cluster);
    upload.write_all(UPLOAD).expect("open");
    let uploads = |one: &Worker| one.classes.is_some_and(|classes| classes.upload == 1);
    cluster.eventually(|status| status.workers.iter().any(uploads));
    let new = pump_test::fake::other_build(pumpd(), cluster.place(), "new").expect("a copy");
    let control = cluster.control();
    let rolls = std::thread::spawn(move || {
        let ask = Restart { candidate: Some(new), ..Restart::default() };
        control.restart(ask, |_| ()).expect("the master tells the end")
    });
    let sent = feed(&cluster, &mut upload, |_| rolls.is_finished());
    let rolled = rolls.join().expect("no panic");
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    let left =
        |before: &[pump_test::process::Process]| before.iter().filter(|one| one.lives()).count();
    assert_eq!(left(&before), 1, "one of them is still busy");
    assert!(!rolled.steps.iter().any(|step| step.contains("is killed")), "{rolled:?}");
    // Another roll goes through meanwhile, and still nobody is cut.
    let next = pump_test::fake::other_build(pumpd(), cluster.place(), "next").expect("a copy");
    let control = cluster.control();
    let rolls = std::thread::spawn(move || {
        let ask = Restart { candidate: Some(next), ..Restart::default() };
        control.restart(ask, |_| ()).expect("the master tells the end")
    });
    let more = feed(&cluster, &mut upload, |_| rolls.is_finished());
    assert_eq!(rolls.join().expect("no panic").outcome.exit, ExitStatus::Done);
    upload.write_all(&vec![b'x'; 1000 - sent - more]).expect("still open");
    assert!(answer(&mut upload).starts_with("http/1.1 4"), "it was heard to its end");
    drop(upload);
    cluster.eventually(|status| status.workers.len() == 2);
}

#[test]
fn an_upload_without_an_end_is_cut_at_the_hard_stop() {
    let more = "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\ndrain_seconds = 1\n\
                hard_stop_seconds = 3\n";
    let cluster = cluster(2, more);
    let mut upload = connect(&cluster);
    upload.write_all(UPLOAD).expect("open");
    let uploads = |one: &Worker| one.classes.is_some_and(|classes| classes.upload == 1);
    cluster.eventually(|status| status.workers.iter().any(uploads));
    let new = pump_test::fake::other_build(pumpd(), cluster.place(), "new").expect("a copy");
    let ask = Restart { candidate: Some(new), ..Restart::default() };
    let begun = Instant::now();
    assert!(matches!(cluster.ask(Ask::Restart(ask)), Reply::Accepted { .. }));
    feed(&cluster, &mut upload, |status| {
        status.roll.is_none() && status.last_roll.is_some() && status.workers.len() == 2
    });
    assert!(begun.elapsed() >= Duration::from_secs(3), "cut after {:?}", begun.elapsed());
    let last = cluster.status().last_roll.expect("it has ended");
    assert_eq!(last.exit, ExitStatus::Done, "{last:?}");
}
