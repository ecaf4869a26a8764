//! What a client sees of a rolling restart: nothing. Its connection changes hands between two requests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use pump_control::ExitStatus;
use pump_control::control::{Ask, Reply, Restart};
use pump_test::{Setup, TestCluster, fake};

use crate::client::{REQUEST, answer, connect, generation};
use crate::{cluster, pumpd, script};

/// A lame duck would keep its idle connections for longer than any of these tests takes.
const PATIENT: &str = "[roll]\nlinger_seconds = 300\ndrain_seconds = 600\nwatch_seconds = 0\n";

/// An answer on a connection that stays open.
#[track_caller]
fn kept(stream: &mut impl Read) -> u64 {
    let text = answer(stream);
    assert!(text.starts_with("http/1.1 200") && !text.contains("connection: close"), "{text}");
    generation(&text)
}

fn roll(cluster: &TestCluster) {
    let rolled = cluster.roll(None);
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
}

#[test]
fn p1_idle_connections_live_through_rolls_and_are_answered_by_the_new_generation() {
    let cluster = cluster(2, PATIENT);
    let mut used: Vec<TcpStream> = (0..50).map(|_| connect(&cluster)).collect();
    for stream in &mut used {
        stream.write_all(REQUEST).expect("open");
        assert_eq!(kept(stream), 1);
    }
    let mut fresh: Vec<TcpStream> = (0..10).map(|_| connect(&cluster)).collect();
    for round in 2..5 {
        // It ends although nobody closes anything, so nobody is waited for.
        roll(&cluster);
        for stream in used.iter_mut().chain(&mut fresh) {
            stream.write_all(REQUEST).expect("still open");
            assert_eq!(kept(stream), round);
        }
    }
}

#[test]
fn a_request_that_was_half_written_is_read_on_by_the_new_generation() {
    let cluster = cluster(2, PATIENT);
    let mut streams: Vec<TcpStream> = (0..REQUEST.len()).map(|_| connect(&cluster)).collect();
    // Cut at every place; every second connection has had a request before.
    for (cut, stream) in streams.iter_mut().enumerate() {
        if cut % 2 == 0 {
            stream.write_all(REQUEST).expect("open");
            kept(stream);
        }
        stream.write_all(&REQUEST[..cut]).expect("open");
    }
    roll(&cluster);
    for (cut, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&REQUEST[cut..]).expect("still open");
        assert_eq!(kept(stream), 2, "cut at {cut}");
    }
}

#[test]
fn a_long_head_travels_with_its_connection() {
    let cluster = cluster(2, PATIENT);
    let mut stream = connect(&cluster);
    let long =
        format!("GET /healthz HTTP/1.1\r\nHost: social.example\r\nX: {}", "x".repeat(40_000));
    stream.write_all(long.as_bytes()).expect("open");
    roll(&cluster);
    stream.write_all(b"\r\n\r\n").expect("still open");
    assert_eq!(kept(&mut stream), 2);
}

#[test]
fn a_request_in_flight_is_answered_and_then_the_connection_moves() {
    let cluster = cluster(2, PATIENT);
    let mut stream = connect(&cluster);
    stream
        .write_all(
            b"POST /oauth/token HTTP/1.1\r\nHost: social.example\r\nContent-Length: 30\r\n\
              Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant_type=",
        )
        .expect("open");
    // It is with a worker for certain when both have answered somebody who came later.
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        let mut probe = connect(&cluster);
        probe.write_all(REQUEST).expect("open");
        let text = answer(&mut probe);
        seen.insert(text.lines().find(|line| line.starts_with("pump-gen")).map(str::to_owned));
    }
    let accepted = cluster.ask(Ask::Restart(Restart::default()));
    assert!(matches!(accepted, Reply::Accepted { .. }), "{accepted:?}");
    cluster.eventually(|status| {
        status.workers.iter().filter(|one| one.generation == 2).count() == 2
            && status.workers.iter().any(|one| one.connections == Some(1))
    });
    stream.write_all(b"something&a=b123456").expect("still open");
    let text = answer(&mut stream);
    assert!(text.starts_with("http/1.1 400") && !text.contains("connection: close"), "{text}");
    assert_eq!(generation(&text), 1, "whoever has read the request answers it");
    cluster.eventually(|status| status.roll.is_none());
    stream.write_all(REQUEST).expect("still open");
    assert_eq!(kept(&mut stream), 2);
}

#[test]
fn pipelined_requests_are_answered_in_order_by_whoever_has_them() {
    let cluster = cluster(2, PATIENT);
    let mut stream = connect(&cluster);
    let (count, half) = (500, REQUEST.len() / 2);
    let all = REQUEST.repeat(count);
    let cut = all.len() - half;
    let mut writer = stream.try_clone().expect("a socket");
    let (cluster, all) = (&cluster, &all);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(&all[..cut]).expect("open");
            roll(cluster);
            writer.write_all(&all[cut..]).expect("still open");
        });
        let mut latest = 0;
        for _ in 0..count {
            let by = kept(&mut stream);
            assert!(by >= latest, "an old worker answers after a new one");
            latest = by;
        }
        assert_eq!(latest, 2);
    });
}

#[test]
fn a_connection_over_the_unix_socket_moves_too() {
    let listen = vec!["127.0.0.1:0".to_owned(), "unix:run/http.sock".to_owned()];
    let (pumpd, more) = (Some(pumpd().to_owned()), PATIENT.to_owned());
    let cluster = TestCluster::start(Setup { pumpd, listen, more, ..Setup::default() });
    let path = cluster.place().join("run/http.sock");
    let mut stream = UnixStream::connect(path).expect("it listens");
    stream.write_all(REQUEST).expect("open");
    assert_eq!(kept(&mut stream), 1);
    roll(&cluster);
    stream.write_all(REQUEST).expect("still open");
    assert_eq!(kept(&mut stream), 2);
}

#[test]
fn a_failed_roll_closes_nobodys_connection() {
    let cluster = cluster(2, PATIENT);
    let mut stream = connect(&cluster);
    let bad = fake::candidate(pumpd(), cluster.place(), "9.9.9", fake::Fault::Exits(3));
    let rolled = cluster.roll(Some(&bad.expect("a script")));
    assert_eq!(rolled.outcome.exit, ExitStatus::RollFailed, "{rolled:?}");
    stream.write_all(REQUEST).expect("still open");
    assert_eq!(kept(&mut stream), 1);
}

/// The first new worker says that it is ready and then does this instead of taking what it is handed.
#[track_caller]
fn check_untaken(ending: &str) {
    let cluster = cluster(2, "[roll]\nlinger_seconds = 300\ndrain_seconds = 600\n");
    // More than wait in one queue.
    let mut streams: Vec<TcpStream> = (0..300).map(|_| connect(&cluster)).collect();
    for stream in &mut streams {
        stream.write_all(REQUEST).expect("open");
        kept(stream);
    }
    let candidate = cluster.place().join("candidate");
    let real = pumpd().display();
    script(
        &candidate,
        &format!(
            "[ \"$1\" = worker ] || exec '{real}' \"$@\"\n\
             printf '{{\"say\":\"ready\",\"generation\":2}}\\n' >&\"$3\"\n{ending}"
        ),
    );
    let ask = Restart { candidate: Some(candidate), ..Restart::default() };
    assert!(matches!(cluster.ask(Ask::Restart(ask)), Reply::Accepted { .. }));
    pump_test::eventually(std::time::Duration::from_secs(60), || {
        // The master may be the first to notice that it is dead, and go back before anything was passed to it.
        let over = cluster.status().last_roll.is_some_and(|it| it.exit != ExitStatus::Done);
        let log = cluster.log();
        if over || log.contains("no longer takes connections, serving on") {
            Ok(())
        } else {
            Err(log)
        }
    });
    for stream in &mut streams {
        stream.write_all(REQUEST).expect("still open");
        let text = answer(stream);
        assert!(text.starts_with("http/1.1 200") && generation(&text) != 2, "{text}");
    }
    // Those that are left cannot be asked to leave.
    for worker in cluster.status().workers.iter().filter(|worker| worker.generation == 2) {
        if let Ok(process) = pump_test::process::Process::of(worker.pid) {
            // It may be ending by itself.
            let _ = process.signal(Signal::SIGKILL);
        }
    }
}

#[test]
fn connections_that_a_hanging_worker_does_not_take_are_served_on_by_the_old_one() {
    check_untaken("exec sleep 600");
}

#[test]
fn connections_that_a_dying_worker_does_not_take_are_served_on_by_the_old_one() {
    // It closes its channel, and with it what came along unread.
    check_untaken("read -r -t 1 <&\"$3\"; read -r -t 1 <&\"$3\"; exit 1");
}

#[test]
fn a_connection_that_new_workers_have_no_place_for_stays_and_is_told_to_close() {
    let more = "[limits]\nconnections_per_worker = 4\n[roll]\nlinger_seconds = 300\n";
    let cluster = cluster(2, more);
    // All places there are. In a new worker one of four is kept for who comes next.
    let mut streams: Vec<TcpStream> = (0..8).map(|_| connect(&cluster)).collect();
    for stream in &mut streams {
        stream.write_all(REQUEST).expect("open");
        kept(stream);
    }
    let ask = Ask::Restart(Restart::default());
    assert!(matches!(cluster.ask(ask), Reply::Accepted { .. }));
    cluster.eventually(|status| {
        let draining = status.workers.iter().filter(|one| one.generation == 1);
        draining.clone().count() == 2 && draining.clone().all(|one| one.connections == Some(1))
    });
    let mut generations = Vec::new();
    for stream in &mut streams {
        stream.write_all(REQUEST).expect("still open");
        let text = answer(stream);
        let by = generation(&text);
        assert_eq!(text.contains("connection: close"), by == 1, "{text}");
        generations.push(by);
    }
    generations.sort_unstable();
    assert_eq!(generations, [1, 1, 2, 2, 2, 2, 2, 2]);
}
