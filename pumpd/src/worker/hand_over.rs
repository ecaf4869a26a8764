//! Handing connections to another worker, and taking them.
//!
//! The two share a socket pair that the master made, and one message is one connection: its descriptor,
//! who its peer is, and the bytes of the next request that were read already. What is unread travels with
//! the descriptor, so there is no moment at which a byte could be lost, and a close(2) of one of two
//! copies says nothing to the client. The giver keeps its copy until the taker has answered, and the taker
//! reads nothing before that. If it dies or hangs, the giver serves on, as a lame duck.

mod message;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use pump_http::EventSource;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tracing::{info, warn};

use super::connection::{At, Connection, Serving};
use super::drain::Drain;
use super::event_stream::Events;
use super::stream::Stream;
use message::{Kind, MAX_MESSAGE, Message};

/// Connections that wait to be handed over, at most; the others wait where they are.
const QUEUE: usize = 64;

/// How long the other worker has to answer. It does nothing but answer at that moment.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What the taker says to a message, in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It has the connection.
    Taken,
    /// To a message of the third version: it has no place for any.
    NoPlace,
    /// To one of the third version: it can do nothing with this one.
    NotThis,
    /// Any of that, or it does not know the message's version. To the third it is this alone.
    Refused,
}

impl Answer {
    fn byte(self) -> u8 {
        match self {
            Self::Taken => b'+',
            Self::NoPlace => b'0',
            Self::NotThis => b'?',
            Self::Refused => b'-',
        }
    }

    fn of(byte: u8) -> Option<Self> {
        let all = [Self::Taken, Self::NoPlace, Self::NotThis, Self::Refused];
        all.into_iter().find(|answer| answer.byte() == byte)
    }
}

/// Reads a message, for `crate::fuzz`. What is understood is said again and understood the same way.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn decode(bytes: &[u8]) {
    if let Some(message) = Message::decode(bytes)
        && let Some(again) = message.encode(2)
    {
        assert_eq!(Message::decode(&again), Some(message));
    }
}

/// Begins to hand connections over through `socket`.
///
/// # Errors
/// When the socket cannot be watched. Nothing has been said to any connection then.
pub(super) fn give(socket: OwnedFd, serving: Serving, drain: Drain) -> io::Result<()> {
    let socket = watched(socket)?;
    let (sender, queue) = mpsc::channel(QUEUE);
    let number = drain.hand_over(sender, QUEUE);
    tokio::spawn(Giver { socket, number, version: NEWEST }.give(queue, serving, drain));
    Ok(())
}

/// The newest version of a message.
const NEWEST: u8 = 3;

struct Giver {
    socket: UnixDatagram,
    /// Which of all takers there have been this is.
    number: u64,
    /// The newest version that the other worker is not known not to know.
    version: u8,
}

impl Giver {
    async fn give(mut self, mut queue: mpsc::Receiver<Connection>, serving: Serving, drain: Drain) {
        let serve = |connection| drop(tokio::spawn(serving.clone().serve(connection)));
        let mut given = 0_u64;
        while let Some(connection) = queue.recv().await {
            match self.pass(&connection).await {
                Ok(true) => {
                    given += 1;
                    serving.counters.handed_over(matches!(connection.at, At::Events(_)));
                }
                // Where there is another taker by now, it may do better.
                Ok(false) => serve(Connection { stays: drain.goes_to(self.number), ..connection }),
                Err(error) => {
                    warn!("the other worker no longer takes connections, serving on: {error}");
                    drain.lose(self.number);
                    queue.close();
                    serve(connection);
                    // Waits for those who were given a place in the queue and are about to take it.
                    while let Some(connection) = queue.recv().await {
                        serve(connection);
                    }
                    break;
                }
            }
        }
        info!("{given} connections were handed over");
    }

    /// Offers one connection. True when the other worker has it, false when it does not want it.
    async fn pass(&mut self, connection: &Connection) -> io::Result<bool> {
        let kind = match &connection.at {
            At::Fresh => Kind::Fresh,
            At::Between { .. } => Kind::Between,
            At::Events(events) => Kind::Events {
                closes: events.closes,
                state: events.source.state(),
                unsent: events.unsent.clone(),
            },
        };
        let carried = connection.stream.carried().clone();
        let message = Message { peer: connection.peer, kind, carried };
        for version in (1..=self.version).rev() {
            // More than a message may have, or what could not be said then: this one stays.
            let Some(message) = message.encode(version) else { return Ok(false) };
            match (self.offer(connection, &message).await?, version) {
                // Who has a place for the first version only, and refused the second, knows no second.
                (Answer::Taken, version) => {
                    self.version = version;
                    return Ok(true);
                }
                (Answer::NoPlace | Answer::NotThis, _) => return Ok(false),
                (Answer::Refused, NEWEST) => self.version = NEWEST - 1,
                (Answer::Refused, _) => {}
            }
        }
        Ok(false)
    }

    async fn offer(&self, connection: &Connection, message: &[u8]) -> io::Result<Answer> {
        let socket = &self.socket;
        let sent = socket
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                let descriptors = [connection.stream.as_fd()];
                control.push(SendAncillaryMessage::ScmRights(&descriptors));
                let parts = [IoSlice::new(message)];
                match sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL) {
                    // More than this machine lets a message have: this one stays.
                    Err(Errno::MSGSIZE) => Ok(false),
                    sent => Ok(sent.map(|_| true)?),
                }
            })
            .await?;
        if !sent {
            return Ok(Answer::NotThis);
        }
        match tokio::time::timeout(ANSWER_WITHIN, answer(socket)).await {
            Ok(answered) => answered,
            // From here on the other worker cannot answer, and without an answer it takes nothing. It may
            // have answered in this very moment, though.
            Err(_) => {
                rustix::net::shutdown(socket, Shutdown::Both)?;
                match read_answer(socket) {
                    Ok(Answer::Taken) => Ok(Answer::Taken),
                    _ => Err(io::ErrorKind::TimedOut.into()),
                }
            }
        }
    }
}

async fn answer(socket: &UnixDatagram) -> io::Result<Answer> {
    socket.async_io(Interest::READABLE, || read_answer(socket)).await
}

fn read_answer(socket: &UnixDatagram) -> io::Result<Answer> {
    let mut answer = [0];
    let read = rustix::io::read(socket, &mut answer)?;
    let known = Answer::of(answer[0]).filter(|_| read == 1);
    known.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Takes what comes through `socket` until its other end is closed.
pub(super) async fn take(socket: OwnedFd, serving: Serving, connections: Arc<Semaphore>) {
    let taking = async {
        let socket = watched(socket)?;
        let mut buffer = vec![0; MAX_MESSAGE];
        while let Some((length, descriptor)) = receive(&socket, &mut buffer).await? {
            let message = &buffer[..length];
            let permit = Arc::clone(&connections).try_acquire_owned().ok();
            let no_place = permit.is_none();
            let understood = permit.and_then(|permit| {
                let message = Message::decode(message)?;
                understand(message, descriptor?, permit, &serving)
            });
            let answer = match (&understood, message.first() == Some(&NEWEST)) {
                (Some(_), _) => Answer::Taken,
                (None, false) => Answer::Refused,
                (None, true) if no_place => Answer::NoPlace,
                (None, true) => Answer::NotThis,
            };
            // Answered before the first byte is read here: until then the giver could still take it back.
            socket
                .async_io(Interest::WRITABLE, || Ok(rustix::io::write(&socket, &[answer.byte()])?))
                .await?;
            if let Some(connection) = understood {
                tokio::spawn(serving.clone().serve(connection));
            }
        }
        Ok::<(), io::Error>(())
    };
    if let Err(error) = taking.await {
        warn!("could not go on taking connections from another worker: {error}");
    }
}

/// The length of the next message and its descriptor; none when the other end is closed.
async fn receive(
    socket: &UnixDatagram,
    buffer: &mut [u8],
) -> io::Result<Option<(usize, Option<OwnedFd>)>> {
    let received = socket
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(buffer)];
            let received = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let descriptor = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
                _ => None,
            });
            Ok((received.bytes, descriptor))
        })
        .await?;
    Ok((received.0 > 0).then_some(received))
}

/// A connection out of a message, or none if this build can do nothing with it.
fn understand(
    message: Message,
    descriptor: OwnedFd,
    permit: OwnedSemaphorePermit,
    serving: &Serving,
) -> Option<Connection> {
    let at = match message.kind {
        Kind::Fresh => At::Fresh,
        Kind::Between => At::Between { since: Instant::now() },
        Kind::Events { closes, state, unsent } => {
            let source = EventSource::resume(&serving.service, &state)?;
            At::Events(Box::new(Events { source, unsent, closes }))
        }
    };
    let stream = Stream::taken(descriptor, message.peer, message.carried).ok()?;
    Some(Connection::new(stream, message.peer, permit, &serving.counters, at))
}

/// The socket, as tokio waits for it. It keeps the bounds of messages and tells the end of the other
/// side (`SOCK_SEQPACKET`); tokio has no type for that, and a datagram's is close enough to wait with.
fn watched(socket: OwnedFd) -> io::Result<UnixDatagram> {
    let socket = std::os::unix::net::UnixDatagram::from(socket);
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}
