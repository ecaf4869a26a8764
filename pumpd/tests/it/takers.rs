//! Two workers, or one and a test in the place of the other: connections that change hands when something
//! goes wrong in that very moment.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};

use pump_control::channel::{FromWorker, ToWorker};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::client::{REQUEST, answer, generation};
use crate::fake_master::{Place, StandIn, TestWorker};
use crate::streams::Reader;

/// A lame duck would keep its connections for longer than any of these tests takes.
const PATIENT: &str = "[roll]\nlinger_seconds = 300\ndrain_seconds = 600\n";

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket pair")
}

/// Connections with a worker, of which every second has begun a request.
fn connected(place: &Place) -> Vec<TcpStream> {
    let mut streams: Vec<TcpStream> = (0..30).map(|_| place.connect()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(REQUEST).expect("open");
        answer(stream);
        stream.write_all(&REQUEST[..number]).expect("open");
    }
    streams
}

/// Tells `from` to hand its connections to `to`.
fn hand_over(from: &TestWorker, to: &TestWorker) {
    let (one, other) = pair();
    to.say_with(&ToWorker::TakeOver, other);
    from.say_with(&ToWorker::Drain { hand_over: true }, one);
}

#[test]
fn p1_a_worker_that_is_killed_while_it_takes_connections_takes_none_of_them_along() {
    let (place, master) = (Place::new(PATIENT), StandIn::new());
    let mut serving = TestWorker::start(&place, 1, &master);
    let mut streams = connected(&place);
    for round in 1..8 {
        let mut victim = TestWorker::start(&place, round * 10, &master);
        let (one, other) = pair();
        let watched = other.try_clone().expect("a socket");
        victim.say_with(&ToWorker::TakeOver, other);
        victim.figures();
        // A connection is sent to it and it does nothing with it: as near to the instant as can be.
        victim.stop();
        serving.say_with(&ToWorker::Drain { hand_over: true }, one);
        let mut polled = [PollFd::new(&watched, PollFlags::IN)];
        assert_eq!(poll(&mut polled, None), Ok(1));
        drop(watched);
        victim.kill();
        serving.eventually_logs("no longer takes connections");

        let next = TestWorker::start(&place, round * 10 + 1, &master);
        hand_over(&serving, &next);
        assert_eq!(serving.ended(), Some(0));
        serving = next;
        for (number, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&REQUEST[number..]).expect("still open");
            let text = answer(stream);
            assert!(text.starts_with("http/1.1 200") && !text.contains("connection: close"));
            // One answer too many would be of an earlier worker.
            assert_eq!(generation(&text), round * 10 + 1);
            stream.write_all(&REQUEST[..number]).expect("still open");
        }
    }
}

/// What a fake taker hears: the message and its descriptor.
fn receive(socket: &OwnedFd) -> (Vec<u8>, Option<OwnedFd>) {
    let mut buffer = vec![0; 1 << 20];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let received = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC);
    let length = received.expect("a message").bytes;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    buffer.truncate(length);
    (buffer, descriptor)
}

fn send(socket: &OwnedFd, bytes: &[u8], descriptor: Option<&impl AsFd>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.map(AsFd::as_fd).into_iter().collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let parts = [IoSlice::new(bytes)];
    sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL).expect("it takes it");
}

/// A worker of an earlier release.
#[test]
fn who_takes_only_the_first_version_gets_what_can_be_said_in_it() {
    let (place, master) = (Place::new(PATIENT), StandIn::new());
    let mut worker = TestWorker::start(&place, 1, &master);
    let evan = place.account("evan");
    let mut streaming = Reader::open(place.connect(), &evan, "");
    let mut used = place.connect();
    used.write_all(REQUEST).expect("open");
    answer(&mut used);
    used.write_all(&REQUEST[..10]).expect("open");
    let fresh = place.connect();
    worker.eventually(|figures| figures.connections >= 4 && figures.open.stream == 1);

    let (ours, theirs) = pair();
    worker.say_with(&ToWorker::Drain { hand_over: true }, theirs);
    let mut taken = Vec::new();
    let mut refused = 0;
    while taken.len() < 2 {
        let (message, descriptor) = receive(&ours);
        if message[0] == 1 {
            send(&ours, b"+", None::<&OwnedFd>);
            taken.push((message, descriptor.expect("it comes along")));
        } else {
            send(&ours, b"-", None::<&OwnedFd>);
            refused += 1;
        }
    }
    assert!((2..=3).contains(&refused), "each is not offered twice once it is known: {refused}");
    for client in [&used, &fresh] {
        let peer = client.local_addr().expect("connected").to_string();
        let rest = taken.iter().find_map(|(message, _)| {
            message.strip_prefix(&[&[1, peer.len() as u8], peer.as_bytes()].concat()[..])
        });
        let carried = rest.expect("it was offered");
        assert!(carried == &REQUEST[..10] || carried.is_empty());
    }
    // The stream cannot be said in it.
    let last = loop {
        match streaming.event().expect("last words") {
            event if event.name == "position" && event.retry.is_none() => {}
            event => break event,
        }
    };
    assert!(last.retry.is_some(), "{last:?}");
    assert_eq!(streaming.event(), None);
    assert_eq!(streaming.socket.read(&mut [0]).expect("an orderly close, no reset"), 0);
    drop(streaming);
    assert_eq!(worker.ended(), Some(0));
}

#[test]
fn event_streams_are_counted_by_what_became_of_them() {
    let (place, master) = (Place::new(PATIENT), StandIn::new());
    let mut old = TestWorker::start(&place, 1, &master);
    let evan = place.account("evan");
    let mut readers: Vec<_> = (0..5).map(|_| Reader::open(place.connect(), &evan, "")).collect();
    // One of them is not ours to write, and is told to come back.
    let mut left = place.connect();
    let request = format!(
        "GET /api/v1/streaming/user HTTP/1.0\r\nHost: social.example\r\n\
         Authorization: Bearer {}\r\n\r\n",
        evan.bearer
    );
    left.write_all(request.as_bytes()).expect("open");
    old.eventually(|figures| figures.open.stream == 5 && figures.open.in_flight == 1);
    let mut new = TestWorker::start(&place, 2, &master);
    // A request that goes on keeps the old one alive until it was asked.
    let mut upload = place.connect();
    upload
        .write_all(
            b"POST /oauth/token HTTP/1.1\r\nHost: social.example\r\nContent-Length: 30\r\n\
              Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant_type=",
        )
        .expect("open");
    let by_old = old.figures().open.upload == 1;
    hand_over(&old, &new);
    let figures = new.eventually(|figures| figures.open.stream == 5);
    assert_eq!(figures.streams_sent_back, 0);
    if by_old {
        let figures = old.eventually(|figures| figures.streams_sent_back == 1);
        assert_eq!((figures.streams_handed_over, figures.open.stream), (5, 0), "{figures:?}");
    }
    place.api().post(&evan, "hello").expect("posted");
    for reader in &mut readers {
        assert_eq!(reader.note(), "hello");
    }
}

/// What comes from another process is looked at before it is believed.
#[test]
fn a_worker_takes_nothing_that_it_does_not_understand() {
    let (place, master) = (Place::new(PATIENT), StandIn::new());
    let mut worker = TestWorker::start(&place, 1, &master);
    let (ours, theirs) = pair();
    worker.say_with(&ToWorker::TakeOver, theirs);
    let (client, server) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
    let said = |bytes: &[u8], descriptor: Option<&OwnedFd>| {
        send(&ours, bytes, descriptor);
        receive(&ours).0
    };
    let server = OwnedFd::from(server);
    let long = vec![2; 200_000];
    for bad in [
        &b"\x04\x00\x04unix"[..],
        b"\x01",
        b"\x01\x04uni",
        b"\x01\x04unax",
        b"\x02\x09\x04unix\0\0\0\0\0\0",
        b"\x02\x00\x04unix\0\0\0\0\0",
        b"\x02\x00\x04unix\xff\xff\0\0\0\0",
        b"\x02\x00\x04unix\0\0\xff\xff\xff\xff",
        b"\x02\x02\x04unix\0\x04\x99\x99\x99\x99\0\0\0\0",
        &long,
    ] {
        assert_eq!(said(bad, Some(&server)), b"-", "{:?}", &bad[..bad.len().min(30)]);
    }
    assert_eq!(said(b"\x01\x04unix", None), b"-", "without a descriptor");
    // Who knows the third version hears more.
    for bad in [&b"\x03"[..], b"\x03\x00\x04unix", b"\x03\x09\x04unix\0\0\0\0\0\0"] {
        assert_eq!(said(bad, Some(&server)), b"?", "{bad:?}");
    }
    assert_eq!(said(b"\x02\x01\x04unix\0\0\0\0\0\0", Some(&server)), b"+");
    let mut client = client;
    client.write_all(REQUEST).expect("open");
    assert!(answer(&mut client).starts_with("http/1.1 200"));
    assert!(matches!(worker.figures().connections, 1));
    drop(ours);
    worker.say(&ToWorker::Probe);
    assert!(matches!(worker.hear(), FromWorker::Probed { failure: None, .. }));
}

/// A place that comes free between two offers looks like a worker that knows the first version only, and its
/// streams were sent away.
#[test]
fn a_worker_that_has_no_place_at_the_moment_is_not_taken_for_an_old_one() {
    let (place, master) = (Place::new(PATIENT), StandIn::new());
    let mut worker = TestWorker::start(&place, 1, &master);
    let evan = place.account("evan");
    let streaming = Reader::open(place.connect(), &evan, "");
    let mut used = place.connect();
    used.write_all(REQUEST).expect("open");
    answer(&mut used);
    worker.eventually(|figures| figures.open.stream == 1);
    let (ours, theirs) = pair();
    worker.say_with(&ToWorker::Drain { hand_over: true }, theirs);
    // Whichever comes first finds no place, and that is all there is to say about it.
    let mut streams = 0;
    for turn in 0..2 {
        let (message, descriptor) = receive(&ours);
        assert_eq!(message[0], 3, "in the newest version, and once");
        let is_stream = message[1] >= 2;
        streams += usize::from(is_stream);
        send(&ours, if is_stream { b"+" } else { b"0" }, None::<&OwnedFd>);
        assert!(descriptor.is_some(), "{turn}");
    }
    assert_eq!(streams, 1);
    // Who found no place is served where it is, for the last time.
    used.write_all(REQUEST).expect("open");
    assert!(answer(&mut used).contains("connection: close"));
    assert_eq!(used.read(&mut [0]).expect("an orderly close, no reset"), 0);
    drop(streaming);
    assert_eq!(worker.ended(), Some(0));
    assert_eq!(receive(&ours).0, b"", "nothing was offered in an older version");
}

/// A worker of the last release knows the second version, and says no to the third once.
#[test]
fn who_knows_the_second_version_is_offered_the_third_once() {
    let (place, master) = (Place::new(PATIENT), StandIn::new());
    let worker = TestWorker::start(&place, 1, &master);
    let streams = connected(&place);
    let (ours, theirs) = pair();
    worker.say_with(&ToWorker::Drain { hand_over: true }, theirs);
    let (mut taken, mut refused) = (0, 0);
    while taken < streams.len() {
        let (message, _descriptor) = receive(&ours);
        let known = message[0] == 2;
        (taken, refused) = (taken + usize::from(known), refused + usize::from(!known));
        send(&ours, if known { b"+" } else { b"-" }, None::<&OwnedFd>);
    }
    assert_eq!(refused, 1);
}

/// The first one is asked to leave as well, or hangs: nobody waits for it, and nobody is a lame duck's.
#[test]
fn p1_whoever_is_given_another_taker_uses_that_one_from_then_on() {
    let (place, master) = (Place::new(PATIENT), StandIn::new());
    let mut old = TestWorker::start(&place, 1, &master);
    let mut streams = connected(&place);
    let (ours, theirs) = pair();
    old.say_with(&ToWorker::Drain { hand_over: true }, theirs);
    // It is offered one and says nothing to that.
    let (_message, _descriptor) = receive(&ours);
    let mut new = TestWorker::start(&place, 2, &master);
    hand_over(&old, &new);
    let all = streams.len() as u64;
    new.eventually(|figures| figures.connections >= all);
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&REQUEST[number..]).expect("still open");
        let text = answer(stream);
        assert!(text.starts_with("http/1.1 200") && !text.contains("connection: close"), "{text}");
        assert_eq!(generation(&text), 2);
    }
    assert_eq!(old.ended(), Some(0));
}
