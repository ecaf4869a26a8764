//! The control socket, from the side of who knows no manners.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use pump_control::constants::{MAX_CONTROL_CLIENTS, MAX_CONTROL_LINE};
use pump_control::control::{Ask, ErrorCode, Reply};

use crate::cluster;

#[test]
fn nonsense_has_a_typed_error_and_the_next_line_is_heard() {
    let cluster = cluster(2, "");
    let check = |line: &str, want: ErrorCode| {
        let reply = cluster.control().ask_raw(line.as_bytes()).expect("an answer");
        assert!(
            matches!(&reply, Reply::Error { code, .. } if *code == want),
            "{line:.60}: {reply:?}"
        );
    };
    check("status\n", ErrorCode::Malformed);
    check("\n", ErrorCode::Malformed);
    check("{\"v\":1,\"ask\":\"dance\"}\n", ErrorCode::UnknownAsk);
    check("{\"v\":9,\"ask\":\"status\"}\n", ErrorCode::Version);
    check(&format!("{}\n", "x".repeat(MAX_CONTROL_LINE)), ErrorCode::Oversized);
    let reply = cluster.control().ask_raw(b"\xff\xfe\n").expect("an answer");
    assert!(matches!(reply, Reply::Error { code: ErrorCode::Malformed, .. }), "{reply:?}");

    // An error costs a client nothing but the line.
    let mut client =
        UnixStream::connect(cluster.place().join("run/control.sock")).expect("it listens");
    client.write_all(b"what?\n{\"v\":1,\"ask\":\"status\"}\n").expect("it reads");
    client.shutdown(std::net::Shutdown::Write).expect("connected");
    let mut answers = String::new();
    client.read_to_string(&mut answers).expect("it answers and closes");
    let kinds: Vec<bool> = answers.lines().map(|line| line.contains("\"status\"")).collect();
    assert_eq!(kinds, [false, true], "{answers}");
}

#[test]
fn silent_clients_keep_nobody_out() {
    let cluster = cluster(2, "");
    let path = cluster.place().join("run/control.sock");
    let mut silent: Vec<UnixStream> =
        (0..MAX_CONTROL_CLIENTS).map(|_| UnixStream::connect(&path).expect("it listens")).collect();
    assert_eq!(cluster.status().workers.len(), 2);
    // The one that had said nothing for the longest time has made room, and was told why.
    let mut told = String::new();
    silent.remove(0).read_to_string(&mut told).expect("it is told and closed");
    assert!(told.contains("\"busy\""), "{told}");
}

#[test]
fn a_socket_that_is_not_ours_is_not_taken_over() {
    let cluster = cluster(2, "");
    let config = cluster.config();
    let second = std::process::Command::new(crate::pumpd())
        .args(["master", "--config"])
        .arg(config)
        .output()
        .expect("it runs");
    assert_eq!(second.status.code(), Some(51), "{second:?}");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("control.sock"), "{said}");
    assert!(matches!(cluster.ask(Ask::Status), Reply::Status(_)), "the first one is as it was");
}

#[test]
fn a_client_that_has_said_everything_hears_how_the_roll_ended() {
    let cluster = cluster(2, "[roll]\nlinger_seconds = 0\n");
    let path = cluster.place().join("run/control.sock");
    let mut client = UnixStream::connect(&path).expect("it listens");
    client.write_all(b"{\"v\":1,\"ask\":\"restart\",\"wait\":true}\n").expect("it reads");
    client.shutdown(std::net::Shutdown::Write).expect("connected");
    let mut replies = String::new();
    client.read_to_string(&mut replies).expect("it answers and closes");
    let last = replies.lines().last().unwrap_or_default();
    assert!(last.contains("\"ended\""), "{replies}");
    // One that is gone altogether is not waited for.
    let mut gone = UnixStream::connect(&path).expect("it listens");
    gone.write_all(b"{\"v\":1,\"ask\":\"restart\",\"wait\":true}\n").expect("it reads");
    drop(gone);
    cluster.eventually(|status| status.generation == 3 && status.roll.is_none());
}
