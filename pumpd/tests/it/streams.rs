//! Event streams while workers come and go.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use pump_control::ExitStatus;
use pump_test::{Account, Setup, TestCluster};

use crate::client::{REQUEST, answer, connect, generation};
use crate::{cluster, pumpd};

/// A lame duck would keep its connections for longer than any of these tests takes.
const PATIENT: &str =
    "[roll]\nlinger_seconds = 300\ndrain_seconds = 600\nwatch_seconds = 0\ncanary_seconds = 0\n";

/// A client that reads the home feed as it happens.
pub(crate) struct Reader<S> {
    pub(crate) socket: S,
    /// What was read of the body and is not yet a whole chunk.
    raw: Vec<u8>,
    /// What was read of events and is not yet a whole one.
    text: String,
    /// The last chunk came.
    pub(crate) ended: bool,
}

/// An event, or a comment without a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: String,
    pub(crate) retry: Option<u64>,
}

impl<S: Read + Write> Reader<S> {
    /// Opens a stream; `more` are headers.
    pub(crate) fn open(mut socket: S, who: &Account, more: &str) -> Self {
        let request = format!(
            "GET /api/v1/streaming/user HTTP/1.1\r\nHost: social.example\r\n\
             Authorization: Bearer {}\r\n{more}\r\n",
            who.bearer
        );
        socket.write_all(request.as_bytes()).expect("open");
        let mut raw = Vec::new();
        let mut byte = [0];
        while !raw.ends_with(b"\r\n\r\n") {
            socket.read_exact(&mut byte).expect("an answer");
            raw.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&raw).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        Self { socket, raw: Vec::new(), text: String::new(), ended: false }
    }

    /// The next event with a name, or nothing at the end of the answer.
    #[track_caller]
    pub(crate) fn event(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let event = parse(block);
                self.text = rest.to_owned();
                if !event.name.is_empty() {
                    return Some(event);
                }
                continue;
            }
            if self.ended {
                assert_eq!(self.text, "", "an event that is cut");
                return None;
            }
            self.chunk().expect("the answer goes on");
        }
    }

    /// Reads one chunk: RFC 9112, section 7.1.
    fn chunk(&mut self) -> io::Result<()> {
        loop {
            if let Some(end) = self.raw.windows(2).position(|two| two == b"\r\n") {
                let size = std::str::from_utf8(&self.raw[..end]).expect("a size");
                let size = usize::from_str_radix(size, 16).expect("a size and nothing else");
                if self.raw.len() >= end + size + 4 {
                    assert_eq!(&self.raw[end + 2 + size..end + 4 + size], b"\r\n");
                    let data = &self.raw[end + 2..end + 2 + size];
                    self.text += std::str::from_utf8(data).expect("events are text");
                    self.raw.drain(..end + size + 4);
                    self.ended = size == 0;
                    return Ok(());
                }
            }
            let mut buffer = [0; 4096];
            match self.socket.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => self.raw.extend_from_slice(&buffer[..length]),
            }
        }
    }

    /// The text of the next note.
    #[track_caller]
    pub(crate) fn note(&mut self) -> String {
        loop {
            let event = self.event().expect("the stream goes on");
            if event.name == "update" {
                let status: serde_json::Value = serde_json::from_str(&event.data).expect("JSON");
                let html = status["content"].as_str().expect("a text");
                return html.trim().trim_start_matches("<p>").trim_end_matches("</p>").to_owned();
            }
            assert_eq!(event.name, "position", "{event:?}");
        }
    }
}

fn parse(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("event", name)) => event.name = name.to_owned(),
            Some(("id", id)) => event.id = id.to_owned(),
            Some(("data", data)) => event.data = data.to_owned(),
            Some(("retry", millis)) => event.retry = Some(millis.parse().expect("a number")),
            _ => assert!(line.starts_with(':'), "{line}"),
        }
    }
    event
}

fn roll(cluster: &TestCluster) {
    let rolled = cluster.roll(None);
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
}

fn post(cluster: &TestCluster, who: &Account, text: &str) {
    cluster.api().post(who, text).expect("posted");
}

#[test]
fn p1_event_streams_live_through_rolls_on_the_same_connection() {
    let cluster = cluster(2, PATIENT);
    let evan = cluster.account("evan");
    let mut readers: Vec<Reader<TcpStream>> =
        (0..10).map(|_| Reader::open(connect(&cluster), &evan, "")).collect();
    for round in 0..4 {
        for note in 0..3 {
            post(&cluster, &evan, &format!("note {round}.{note}"));
        }
        // Some have read it when the worker leaves, some have not.
        for reader in &mut readers[..5] {
            for note in 0..3 {
                assert_eq!(reader.note(), format!("note {round}.{note}"));
            }
        }
        roll(&cluster);
        for reader in &mut readers[5..] {
            for note in 0..3 {
                assert_eq!(reader.note(), format!("note {round}.{note}"));
            }
        }
    }
    // What they ask meanwhile, in part before a roll and in part after it, is answered in the end.
    for reader in &mut readers {
        reader.socket.write_all(&[REQUEST, &REQUEST[..20]].concat()).expect("open");
    }
    roll(&cluster);
    for reader in &mut readers {
        reader.socket.write_all(&REQUEST[20..]).expect("open");
    }
    let token = format!("token={}", evan.bearer);
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let revoked = cluster.api().call("POST", "/oauth/revoke", &form, token.as_bytes());
    assert_eq!(revoked.expect("answered").status, 200);
    for reader in &mut readers {
        assert_eq!(reader.event(), None, "a token that is no more ends the stream");
        let mut rest = reader.raw.as_slice().chain(&mut reader.socket);
        for _ in 0..2 {
            let text = answer(&mut rest);
            assert!(text.starts_with("http/1.1 200"), "{text}");
            assert_eq!(generation(&text), 6);
        }
    }
}

#[test]
fn a_stream_whose_client_reads_slowly_moves_in_the_middle_of_an_event() {
    let listen = vec!["127.0.0.1:0".to_owned(), "unix:run/http.sock".to_owned()];
    let (pumpd, more) = (Some(pumpd().to_owned()), PATIENT.to_owned());
    let cluster = TestCluster::start(Setup { pumpd, listen, more, ..Setup::default() });
    let evan = cluster.account("evan");
    // The kernel keeps less for a unix socket than for TCP.
    let socket = UnixStream::connect(cluster.place().join("run/http.sock")).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket option");
    let mut reader = Reader::open(socket, &evan, "");
    let long = "x".repeat(2000);
    let text = |number: usize| format!("{number} {long}");
    for number in 0..120 {
        post(&cluster, &evan, &text(number));
    }
    roll(&cluster);
    for number in 120..140 {
        post(&cluster, &evan, &text(number));
    }
    roll(&cluster);
    for number in 0..140 {
        assert_eq!(reader.note(), text(number));
    }
}

/// What a client says during a stream is kept for later, and not without an end.
#[test]
fn a_client_that_talks_into_its_stream_waits_in_the_end() {
    let listen = vec!["127.0.0.1:0".to_owned(), "unix:run/http.sock".to_owned()];
    let (pumpd, more) = (Some(pumpd().to_owned()), PATIENT.to_owned());
    let cluster = TestCluster::start(Setup { pumpd, listen, more, ..Setup::default() });
    let evan = cluster.account("evan");
    let socket = UnixStream::connect(cluster.place().join("run/http.sock")).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket option");
    socket.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket option");
    let mut reader = Reader::open(socket, &evan, "");
    let said = reader.socket.write_all(&vec![b'x'; 4 << 20]);
    assert_eq!(said.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
    post(&cluster, &evan, "hello");
    assert_eq!(reader.note(), "hello");
}

#[test]
fn a_server_that_stops_tells_its_streams_to_come_back() {
    let cluster = cluster(2, "[roll]\nlinger_seconds = 60\ndrain_seconds = 120\n");
    let evan = cluster.account("evan");
    let mut reader = Reader::open(connect(&cluster), &evan, "");
    post(&cluster, &evan, "hello");
    assert_eq!(reader.note(), "hello");
    cluster.signal(Signal::SIGTERM);
    let last = reader.event().expect("last words");
    assert!(last.retry.is_some(), "{last:?}");
    assert_eq!(reader.event(), None);
    assert_eq!(reader.socket.read(&mut [0]).expect("an orderly close, no reset"), 0);
}

#[test]
fn a_client_that_says_close_is_closed_after_its_stream() {
    let cluster = cluster(2, PATIENT);
    let evan = cluster.account("evan");
    let mut reader = Reader::open(connect(&cluster), &evan, "Connection: close\r\n");
    roll(&cluster);
    let token = format!("token={}", evan.bearer);
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    cluster.api().call("POST", "/oauth/revoke", &form, token.as_bytes()).expect("answered");
    assert_eq!(reader.event().expect("where it begins").name, "position");
    assert_eq!(reader.event(), None);
    assert_eq!(reader.socket.read(&mut [0]).expect("an orderly close, no reset"), 0);
}

/// Chunks are not of HTTP/1.0, and after a body that has not come there is no next request.
#[test]
fn a_stream_that_is_not_ours_to_write_is_an_answer_all_the_same() {
    let cluster = cluster(2, PATIENT);
    let evan = cluster.account("evan");
    let opened = |version: &str, more: &str| {
        let mut socket = connect(&cluster);
        let request = format!(
            "GET /api/v1/streaming/user HTTP/{version}\r\nHost: social.example\r\n{more}\
             Authorization: Bearer {}\r\n\r\n",
            evan.bearer
        );
        socket.write_all(request.as_bytes()).expect("open");
        socket
    };
    let mut sockets = [opened("1.0", ""), opened("1.1", "Content-Length: 5\r\n")];
    for socket in &mut sockets {
        let mut text = String::new();
        let mut buffer = [0; 1024];
        while !text.contains("event: position") {
            let length = socket.read(&mut buffer).expect("an answer");
            assert!(length > 0, "{text}");
            text += std::str::from_utf8(&buffer[..length]).expect("text");
        }
        assert!(text.contains(" 200 "), "{text}");
    }
    let rolled = std::thread::scope(|scope| {
        let rolled = scope.spawn(|| cluster.roll(None));
        for socket in &mut sockets {
            let mut rest = String::new();
            // That one has not said all it was about to say does not matter to us.
            let _ = socket.read_to_string(&mut rest);
            assert!(rest.contains("retry: "), "{rest}");
        }
        rolled.join().expect("no panic")
    });
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
}

#[test]
fn a_client_that_leaves_its_stream_is_let_go_of() {
    let cluster = cluster(1, "");
    let evan = cluster.account("evan");
    let reader = Reader::open(connect(&cluster), &evan, "");
    let worker = cluster.workers().remove(0);
    let sockets = || {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", worker.pid)).expect("it lives");
        folder.count()
    };
    let with = sockets();
    drop(reader);
    pump_test::eventually(Duration::from_secs(30), || {
        let now = sockets();
        if now < with { Ok(()) } else { Err(now) }
    });
}
