//! What a connection may take, and how it is told that it may not.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use pump_control::ExitStatus;
use pump_control::control::Worker;

use crate::client::{REQUEST, answer, connect};
use crate::cluster;

#[test]
fn a_request_that_never_ends_is_given_up_on() {
    let cluster = cluster(2, "[limits]\nheader_seconds = 1\nidle_seconds = 1\n");
    let (mut partial, mut idle) = (connect(&cluster), connect(&cluster));
    partial.write_all(&REQUEST[..20]).expect("open");
    assert_eq!(idle.read(&mut [0]).expect("an orderly close"), 0);
    // A head that was begun and not ended may be answered with 408 or closed.
    let mut rest = Vec::new();
    let _ = partial.read_to_end(&mut rest);
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{rest:?}");
}

/// The time of a pause began at the connection's begin, when each request came and went in one look.
#[test]
fn a_connection_in_use_is_not_closed_as_idle() {
    let cluster = cluster(2, "[limits]\nidle_seconds = 3\n");
    let mut stream = connect(&cluster);
    let begun = Instant::now();
    // Requests follow at once, so whatever the machine's pace no pause is near the limit.
    while begun.elapsed() < Duration::from_secs(5) {
        stream.write_all(REQUEST).expect("still open");
        answer(&mut stream);
    }
}

/// A close with unread bytes makes the kernel send a reset, which can destroy an answer on its way.
#[test]
fn a_client_that_is_refused_early_may_finish_what_it_sends() {
    let cluster = cluster(2, "");
    let mut stream = connect(&cluster);
    stream
        .write_all(
            b"POST /login HTTP/1.1\r\nHost: social.example\r\nContent-Length: 3000000\r\n\r\n",
        )
        .expect("open");
    let text = answer(&mut stream);
    assert!(text.starts_with("http/1.1 4"), "{text}");
    assert_eq!(stream.read(&mut [0]).expect("an orderly close, no reset"), 0);
    // What the client was about to send is read and not answered with a reset.
    for _ in 0..20 {
        stream.write_all(&[b'x'; 5_000]).expect("what is on its way is read");
    }
    stream.shutdown(std::net::Shutdown::Write).expect("connected");
    // When its worker is gone, a reset would be here.
    assert_eq!(cluster.roll(None).outcome.exit, ExitStatus::Done);
    let reset = stream.take_error().expect("a socket option");
    assert!(reset.is_none(), "{reset:?}");
}

#[test]
fn a_worker_takes_no_more_connections_than_it_may() {
    let cluster = cluster(2, "[limits]\nconnections_per_worker = 1\n");
    let mut first = [connect(&cluster), connect(&cluster)];
    for stream in &mut first {
        stream.write_all(REQUEST).expect("open");
        answer(stream);
    }
    // Two workers, one connection each: the third waits in the kernel's queue, and is not refused.
    let mut third = connect(&cluster);
    third.write_all(REQUEST).expect("the kernel takes it");
    third.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket option");
    third.read(&mut [0]).expect_err("nobody has a place for it");
    drop(first);
    third.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket option");
    assert!(answer(&mut third).starts_with("http/1.1 200"));
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let cluster = cluster(2, "[limits]\nhead_bytes = 8192\n");
    let mut stream = connect(&cluster);
    let large = "x".repeat(9_000);
    // It may be refused before all of it is written.
    let _ = write!(stream, "GET / HTTP/1.1\r\nHost: social.example\r\nX-Large: {large}\r\n\r\n");
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    assert!(said.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&said));
}

/// Hyper takes the end of what the client says for the end of the client, if it is not told.
#[test]
fn a_client_that_has_said_everything_is_answered() {
    let cluster = cluster(2, "");
    // A page takes a look into the database; the end of the request is read before its answer is there.
    for path in ["/", "/healthz"] {
        let mut stream = connect(&cluster);
        let request = format!("GET {path} HTTP/1.1\r\nHost: social.example\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("open");
        stream.shutdown(std::net::Shutdown::Write).expect("connected");
        assert!(answer(&mut stream).starts_with("http/1.1 200"), "{path}");
        assert_eq!(stream.read(&mut [0]).expect("an orderly close, no reset"), 0);
    }
}

/// A head had its time and a body none, so a few thousand beginnings of a form took all places.
#[test]
fn a_request_or_an_answer_that_stands_still_is_given_up_on() {
    let cluster = cluster(2, "[limits]\nidle_seconds = 1\n");
    let sockets = |worker: &Worker| {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", worker.pid));
        let links = folder.into_iter().flatten().flatten();
        let links = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    };
    let before = cluster.status().workers.iter().map(sockets).sum::<usize>();
    let mut half = connect(&cluster);
    half.write_all(
        b"POST /oauth/token HTTP/1.1\r\nHost: social.example\r\nContent-Length: 30\r\n\
          Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant_type=",
    )
    .expect("open");
    let mut deaf = connect(&cluster);
    deaf.set_write_timeout(Some(Duration::from_millis(300))).expect("a socket option");
    // Until nothing more is taken, since nothing is read here.
    while deaf.write_all(&REQUEST.repeat(1_000)).is_ok() {}
    // Whether it is told so or not, it is closed.
    let _ = half.read_to_end(&mut Vec::new());
    cluster.eventually(|status| status.workers.iter().map(sockets).sum::<usize>() == before);
}

/// RFC 9112, section 3.2.
#[test]
fn a_request_without_a_host_or_with_two_is_refused() {
    let cluster = cluster(2, "");
    let check = |head: &str, status: &str| {
        let mut stream = connect(&cluster);
        stream.write_all(format!("GET /healthz {head}\r\n\r\n").as_bytes()).expect("open");
        let text = answer(&mut stream);
        assert!(text.contains(&format!(" {status} ")), "{head}: {text}");
    };
    check("HTTP/1.1\r\nHost: social.example", "200");
    check("HTTP/1.1", "400");
    check("HTTP/1.1\r\nHost: social.example\r\nHost: other.example", "400");
    check("HTTP/1.0", "200");
}
