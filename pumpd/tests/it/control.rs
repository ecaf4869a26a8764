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

#[test]
fn a_line_that_ends_with_the_connection_is_a_line() {
    let cluster = cluster(2, "");
    let check = |line: &str, want: &str| {
        let path = cluster.place().join("run/control.sock");
        let mut client = UnixStream::connect(path).expect("it listens");
        client.write_all(line.as_bytes()).expect("it reads");
        client.shutdown(std::net::Shutdown::Write).expect("connected");
        let mut told = String::new();
        client.read_to_string(&mut told).expect("it answers and closes");
        assert!(told.ends_with('\n') && told.contains(want), "{line}: {told}");
    };
    check("{\"v\":1,\"ask\":\"status\"}", "\"reply\":\"status\"");
    check("{\"ask\":\"restart\"}", "\"version\"");
    check("{\"ask\":\"restart\",\"wait\":true}\n", "no version");
    check("{\"v\":1,\"ask\":\"restart\"", "\"malformed\"");
    assert_eq!(cluster.status().generation, 1, "none of them asked for a roll");
}

/// Connects as somebody else: the kernel remembers who that was (socket(7), `SO_PEERCRED`). A thread of Linux
/// may be another user than its process.
fn connect_as(path: &std::path::Path, user: u32, groups: &[u32]) -> UnixStream {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    std::thread::scope(|scope| {
        let connected = scope.spawn(|| {
            let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
            set_thread_groups(&groups)?;
            set_thread_res_gid(group, group, group)?;
            set_thread_res_uid(user, user, user)?;
            UnixStream::connect(path)
        });
        connected.join().expect("no panic").expect("the socket's mode lets everybody connect")
    })
}

#[test]
fn p9_a_stranger_is_told_nothing_and_the_group_may_ask_and_not_change() {
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let cluster = cluster(2, "");
    let path = cluster.place().join("run/control.sock");
    // As a careless hand may leave it.
    for (path, mode) in
        [(cluster.place(), 0o755), (&cluster.place().join("run"), 0o755), (&path, 0o666)]
    {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("ours");
    }
    let check = |groups: &[u32], text: &str, want: &str| {
        let mut client = connect_as(&path, 65_534, groups);
        client.write_all(text.as_bytes()).expect("it reads");
        client.shutdown(std::net::Shutdown::Write).expect("connected");
        let mut told = String::new();
        client.read_to_string(&mut told).expect("it answers and closes");
        assert!(told.contains(want), "{groups:?} {text}: {told}");
    };
    let own = rustix::process::getegid().as_raw();
    let many: Vec<u32> = (100_000..100_200).chain([own]).collect();
    let scrape = "GET /metrics HTTP/1.1\r\n\r\n";
    for strange in [&[][..], &[65_533]] {
        check(strange, "{\"v\":1,\"ask\":\"status\"}\n", "\"forbidden\"");
        check(strange, "{\"v\":1,\"ask\":\"stop\"}\n", "\"forbidden\"");
        check(strange, scrape, "HTTP/1.1 403");
    }
    for member in [&[own][..], &many] {
        check(member, "{\"v\":1,\"ask\":\"status\"}\n", "\"reply\":\"status\"");
        check(member, "{\"v\":1,\"ask\":\"stop\"}\n", "\"forbidden\"");
        check(member, scrape, "HTTP/1.1 200");
    }
}
