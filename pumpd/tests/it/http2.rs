//! HTTP/2 with prior knowledge (RFC 9113), as it is on the wire.

use std::io::{Read, Write};
use std::net::TcpStream;

use pump_control::channel::{FromWorker, ToWorker};

use crate::client::{REQUEST, answer};
use crate::cluster;
use crate::fake_master::{Place, StandIn, TestWorker};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames: section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// What is the first step of a GOAWAY: section 6.8.
const NO_LAST: [u8; 4] = [0x7f, 0xff, 0xff, 0xff];

#[derive(Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A client that writes its frames itself.
struct Client {
    socket: TcpStream,
}

impl Client {
    fn new(mut socket: TcpStream) -> Self {
        socket.write_all(PREFACE).expect("open");
        Self::after_preface(socket)
    }

    fn after_preface(socket: TcpStream) -> Self {
        let mut client = Self { socket };
        client.send(SETTINGS, 0, 0, &[]);
        client
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.socket.write_all(&[&head, payload].concat()).expect("open");
    }

    /// Headers as RFC 7541 writes them without a table of its own.
    fn ask(&mut self, stream: u32, method: &str, path: &str, more: &[(&str, &str)], ends: bool) {
        let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        let mut block = vec![0x86];
        for (name, value) in [(2, method), (4, path), (1, "social.example")] {
            block.extend([&[name][..], &text(value)].concat());
        }
        for (name, value) in more {
            block.extend([&[0][..], &text(name), &text(value)].concat());
        }
        self.send(HEADERS, END_HEADERS | if ends { END_STREAM } else { 0 }, stream, &block);
    }

    /// The next frame that is not about settings or windows; none at the end.
    #[track_caller]
    fn frame(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            match self.socket.read(&mut head[..1]).expect("an orderly close, no reset") {
                0 => return None,
                _ => self.socket.read_exact(&mut head[1..]).expect("the rest of it"),
            }
            let [_, a, b, c] = [0, head[0], head[1], head[2]];
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.socket.read_exact(&mut payload).expect("the rest of it");
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            match kind {
                SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]),
                SETTINGS | WINDOW_UPDATE => {}
                _ => return Some(Frame { kind, flags, stream, payload }),
            }
        }
    }

    /// The whole answer to a request: its status as it is written, and its body.
    #[track_caller]
    fn answer(&mut self, stream: u32) -> (u8, String) {
        let head = self.frame().expect("an answer");
        assert_eq!((head.kind, head.stream), (HEADERS, stream), "{head:?}");
        let mut body = String::new();
        let mut ended = head.flags & END_STREAM != 0;
        while !ended {
            let frame = self.frame().expect("the rest of it");
            assert_eq!((frame.kind, frame.stream), (DATA, stream), "{frame:?}");
            body += &String::from_utf8_lossy(&frame.payload);
            ended = frame.flags & END_STREAM != 0;
        }
        (head.payload[0], body)
    }

    /// Opens a form that is answered with 400 when it has come.
    fn begin_upload(&mut self, stream: u32) {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        self.ask(stream, "POST", "/oauth/token", &form, false);
        self.send(DATA, 0, stream, b"grant_type=");
    }
}

/// `:status` 200 and 400 in the table of RFC 7541, appendix A.
const OK: u8 = 0x88;
const BAD_REQUEST: u8 = 0x8c;

#[test]
fn a_client_that_knows_is_served_in_http_2() {
    let cluster = cluster(2, "");
    let mut client = Client::new(crate::client::connect(&cluster));
    for stream in [1, 3, 5] {
        client.ask(stream, "GET", "/healthz", &[], true);
    }
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < 3 {
        let frame = client.frame().expect("three answers");
        if frame.kind == HEADERS {
            assert_eq!(frame.payload[0], OK, "{frame:?}");
        }
        if frame.flags & END_STREAM != 0 {
            assert_eq!((frame.kind, frame.payload), (DATA, b"alive\n".to_vec()));
            answered.insert(frame.stream);
        }
    }
    // A host under both names, and not the same: section 8.3.1.
    client.ask(7, "GET", "/healthz", &[("host", "other.example")], true);
    assert_eq!(client.answer(7).0, BAD_REQUEST);
    client.ask(9, "GET", "/healthz", &[("host", "social.example")], true);
    assert_eq!(client.answer(9).0, OK);
}

#[test]
fn a_connection_that_has_sent_a_part_of_the_preface_moves_like_any_other() {
    let cluster =
        cluster(2, "[roll]\nlinger_seconds = 300\ndrain_seconds = 600\ncanary_seconds = 0\n");
    let cuts = 0..PREFACE.len();
    let mut sockets: Vec<TcpStream> =
        cuts.clone().map(|_| crate::client::connect(&cluster)).collect();
    for (cut, socket) in cuts.clone().zip(&mut sockets) {
        socket.write_all(&PREFACE[..cut]).expect("open");
    }
    let rolled = cluster.roll(None);
    assert_eq!(rolled.outcome.exit, pump_control::ExitStatus::Done, "{rolled:?}");
    for (cut, mut socket) in cuts.zip(sockets) {
        socket.write_all(&PREFACE[cut..]).expect("still open");
        let mut client = Client::after_preface(socket);
        client.ask(1, "GET", "/healthz", &[], true);
        assert_eq!(client.answer(1).0, OK, "cut at {cut}");
    }
}

/// A proxy in front of us that passes on what it does not understand would open a door otherwise.
#[test]
fn a_connection_that_was_used_does_not_become_http_2() {
    let cluster = cluster(2, "[roll]\nlinger_seconds = 300\ncanary_seconds = 0\n");
    let mut socket = crate::client::connect(&cluster);
    socket.write_all(REQUEST).expect("open");
    answer(&mut socket);
    // Whoever has it next knows that, too.
    let rolled = cluster.roll(None);
    assert_eq!(rolled.outcome.exit, pump_control::ExitStatus::Done, "{rolled:?}");
    socket.write_all(PREFACE).expect("open");
    let mut rest = Vec::new();
    // What is refused may be closed with something unread.
    let _ = socket.read_to_end(&mut rest);
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{rest:?}");
}

/// Section 6.8: what a client sends before it has heard the first step is answered. The first step is said
/// twice, and only the second time with a question: a client that hears both at once answers the question
/// before it writes what was on its way out.
#[test]
fn p1_a_worker_that_leaves_says_goaway_in_two_steps() {
    let place = Place::new("[roll]\nlinger_seconds = 300\ndrain_seconds = 600\n");
    let master = StandIn::new();
    let mut worker = TestWorker::start(&place, 1, &master);
    let mut client = Client::new(place.connect());
    client.begin_upload(1);
    worker.eventually(|figures| figures.open.upload == 1);
    worker.say(&ToWorker::Drain { hand_over: false });

    for _ in 0..2 {
        let first = client.frame().expect("the first step");
        assert_eq!((first.kind, &first.payload[..4]), (GOAWAY, &NO_LAST[..]), "{first:?}");
        assert_eq!((first.stream, &first.payload[4..]), (0, &[0; 4][..]), "without an error");
    }
    let ping = client.frame().expect("a question whether it was heard");
    assert_eq!((ping.kind, ping.flags), (PING, 0), "{ping:?}");
    client.ask(3, "GET", "/healthz", &[], true);
    assert_eq!(client.answer(3).0, OK);
    client.send(PING, ACK, 0, &ping.payload);
    let second = client.frame().expect("the second step");
    assert_eq!((second.kind, &second.payload[..4]), (GOAWAY, &3_u32.to_be_bytes()[..]));

    client.send(DATA, END_STREAM, 1, b"nothing");
    assert_eq!(client.answer(1).0, BAD_REQUEST);
    assert_eq!(client.frame(), None);
    drop(client);
    assert_eq!(worker.ended(), Some(0));
}

#[test]
fn requests_in_http_2_are_counted_by_what_they_do() {
    let (place, master) = (Place::new(""), StandIn::new());
    let mut worker = TestWorker::start(&place, 1, &master);
    let mut client = Client::new(place.connect());
    client.ask(1, "GET", "/healthz", &[], true);
    client.answer(1);
    worker.eventually(|figures| figures.open.idle == 1 && figures.requests == 1);
    client.begin_upload(3);
    worker.eventually(|figures| figures.open.upload == 1 && figures.open.idle == 0);
    client.send(DATA, END_STREAM, 3, b"nothing");
    assert_eq!(client.answer(3).0, BAD_REQUEST);
    let figures = worker.eventually(|figures| figures.open.idle == 1);
    assert_eq!((figures.requests, figures.connections), (2, 1));
    drop(client);
    worker.eventually(|figures| figures.open == Default::default());
}

#[test]
fn a_connection_that_is_idle_for_too_long_is_told_so() {
    let cluster = cluster(2, "[limits]\nidle_seconds = 1\n");
    let mut client = Client::new(crate::client::connect(&cluster));
    let first = client.frame().expect("the first step");
    assert_eq!((first.kind, &first.payload[..4]), (GOAWAY, &NO_LAST[..]), "{first:?}");
    // Whoever does not take note is let go of all the same.
    while client.frame().is_some() {}
}

#[test]
fn an_upload_in_http_2_that_stands_still_is_given_up_on() {
    let (place, master) = (Place::new("[limits]\nidle_seconds = 1\n"), StandIn::new());
    let mut worker = TestWorker::start(&place, 1, &master);
    let mut client = Client::new(place.connect());
    client.begin_upload(1);
    worker.eventually(|figures| figures.open.upload == 1);
    worker.eventually(|figures| figures.open == Default::default());
}

#[test]
fn an_event_stream_in_http_2_is_told_to_come_back() {
    let (place, master) = (Place::new(""), StandIn::new());
    let mut worker = TestWorker::start(&place, 1, &master);
    let evan = place.account("evan");
    let mut client = Client::new(place.connect());
    let token = format!("Bearer {}", evan.bearer);
    client.ask(1, "GET", "/api/v1/streaming/user", &[("authorization", &token)], true);
    worker.eventually(|figures| figures.open.stream == 1);
    worker.say(&ToWorker::Drain { hand_over: false });
    let mut said = String::new();
    loop {
        let frame = client.frame().expect("it is ended first");
        if frame.kind == DATA {
            said += &String::from_utf8_lossy(&frame.payload);
            if frame.flags & END_STREAM != 0 {
                break;
            }
        } else if frame.kind == PING {
            client.send(PING, ACK, 0, &frame.payload);
        }
    }
    assert!(said.contains("\nretry: "), "{said}");
    while client.frame().is_some() {}
    drop(client);
    assert_eq!(worker.ended(), Some(0));
    let said = worker.hear();
    assert!(matches!(said, FromWorker::Draining { .. }), "{said:?}");
}

/// Each request in HTTP/2 may have an answer in memory that its client does not take.
#[test]
fn what_connections_in_http2_may_cost_has_a_limit_for_all_of_them_together() {
    let (place, master) = (Place::new(""), StandIn::new());
    let mut worker = TestWorker::start(&place, 1, &master);
    // SETTINGS_MAX_CONCURRENT_STREAMS (section 6.5.2), which is the first thing that a server says.
    let given = |client: &mut Client| -> Option<u32> {
        let mut head = [0; 9];
        client.socket.read_exact(&mut head).expect("its settings");
        assert_eq!(head[3], SETTINGS);
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        client.socket.read_exact(&mut payload).expect("the rest of it");
        let streams = payload.chunks_exact(6).find(|setting| setting[..2] == [0, 3])?;
        Some(u32::from_be_bytes([streams[2], streams[3], streams[4], streams[5]]))
    };
    let (mut clients, mut all) = (Vec::new(), 0);
    let mut refused = loop {
        let mut client = Client::new(place.connect());
        match given(&mut client) {
            Some(streams) => all += streams,
            None => break client,
        }
        clients.push(client);
        assert!(clients.len() < 1000, "{all} requests at a time");
    };
    assert!(clients.len() > 100 && all <= 8192, "{}: {all}", clients.len());
    let goaway = refused.frame().expect("it is told why");
    // Before the first request, because too much is asked: section 7.
    assert_eq!((goaway.kind, goaway.payload), (GOAWAY, vec![0, 0, 0, 0, 0, 0, 0, 0x0b]));
    assert_eq!(refused.frame(), None);
    // All others are served, and who comes when some have gone.
    let last = clients.last_mut().expect("many");
    last.ask(1, "GET", "/healthz", &[], true);
    assert_eq!(last.answer(1).0, OK);
    let mut one = place.connect();
    one.write_all(REQUEST).expect("open");
    assert!(answer(&mut one).starts_with("http/1.1 200"));
    let before = worker.figures().open.all();
    clients.truncate(10);
    worker.eventually(|figures| figures.open.all() + 50 < before);
    let mut next = Client::new(place.connect());
    next.ask(1, "GET", "/healthz", &[], true);
    assert_eq!(next.answer(1).0, OK);
}
