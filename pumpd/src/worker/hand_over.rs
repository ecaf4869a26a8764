//! Handing connections to another worker, and taking them.
//!
//! The two share a socket pair that the master made, and one message is one connection: its descriptor,
//! who its peer is, and the bytes of the next request that were read already. What is unread travels with
//! the descriptor, so there is no moment at which a byte could be lost, and a close(2) of one of two
//! copies says nothing to the client. The giver keeps its copy until the taker has answered, and the taker
//! reads nothing before that. If it dies or hangs, the giver serves on, as a lame duck.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use pump_http::Peer;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{info, warn};

use super::activity::Activity;
use super::connection::Serving;
use super::drain::{Drain, Stage};
use super::stream::Stream;

/// What these messages look like. Another number is not taken, and the giver keeps the connection.
const VERSION: u8 = 1;

/// Bytes of a next request that travel at most. A connection with more of them stays where it is.
const MAX_CARRIED: usize = 128 * 1024;

/// Connections that wait to be handed over, at most; the others wait where they are.
const QUEUE: usize = 64;

/// How long the other worker has to answer. It does nothing but answer at that moment.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The taker's answers.
const TAKEN: u8 = b'+';
const REFUSED: u8 = b'-';

/// A connection between two requests, out of hyper's hands.
#[derive(Debug)]
pub(super) struct Moving {
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) activity: Arc<Activity>,
}

/// Begins to hand connections over through `socket`.
///
/// # Errors
/// When the socket cannot be watched. Nothing has been said to any connection then.
pub(super) fn give(socket: OwnedFd, serving: Serving, drain: Drain) -> io::Result<()> {
    let socket = watched(socket)?;
    let (sender, queue) = mpsc::channel(QUEUE);
    drain.begin(Stage::HandingOver(sender));
    tokio::spawn(giving(socket, queue, serving, drain));
    Ok(())
}

async fn giving(
    socket: UnixDatagram,
    mut queue: mpsc::Receiver<Moving>,
    serving: Serving,
    drain: Drain,
) {
    let mut given = 0_u64;
    while let Some(moving) = queue.recv().await {
        match pass(&socket, &moving).await {
            Ok(true) => {
                given += 1;
                serving.counters.handed_over.fetch_add(1, Ordering::Relaxed);
            }
            Ok(false) => drop(tokio::spawn(serving.clone().stay(moving))),
            Err(error) => {
                warn!("the other worker no longer takes connections, serving on: {error}");
                drain.begin(Stage::LameDuck);
                queue.close();
                drop(tokio::spawn(serving.clone().stay(moving)));
                // Waits for those who were given a place in the queue and are about to take it.
                while let Some(moving) = queue.recv().await {
                    drop(tokio::spawn(serving.clone().stay(moving)));
                }
                break;
            }
        }
    }
    info!("{given} connections were handed over");
}

/// Offers one connection. True when the other worker has it, false when it does not want it.
async fn pass(socket: &UnixDatagram, moving: &Moving) -> io::Result<bool> {
    let carried = moving.stream.carried();
    if carried.len() > MAX_CARRIED {
        return Ok(false);
    }
    let peer = match moving.peer {
        Peer::Tcp(address) => address.to_string(),
        Peer::Unix => "unix".to_owned(),
    };
    // An address with its port has less than 60 characters.
    let head = [&[VERSION, peer.len() as u8], peer.as_bytes()].concat();
    socket
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let descriptors = [moving.stream.as_fd()];
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            let parts = [IoSlice::new(&head), IoSlice::new(carried)];
            Ok(sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL)?)
        })
        .await?;
    match tokio::time::timeout(ANSWER_WITHIN, answer(socket)).await {
        Ok(answered) => answered,
        // From here on the other worker cannot answer, and without an answer it takes nothing. It may
        // have answered in this very moment, though.
        Err(_) => {
            rustix::net::shutdown(socket, Shutdown::Both)?;
            match read_answer(socket) {
                Ok(true) => Ok(true),
                _ => Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }
}

async fn answer(socket: &UnixDatagram) -> io::Result<bool> {
    socket.async_io(Interest::READABLE, || read_answer(socket)).await
}

fn read_answer(socket: &UnixDatagram) -> io::Result<bool> {
    let mut answer = [0];
    match (rustix::io::read(socket, &mut answer)?, answer[0]) {
        (1, TAKEN) => Ok(true),
        (1, REFUSED) => Ok(false),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Takes what comes through `socket` until its other end is closed.
pub(super) async fn take(socket: OwnedFd, serving: Serving, connections: Arc<Semaphore>) {
    let taking = async {
        let socket = watched(socket)?;
        while let Some(message) = receive(&socket).await? {
            let permit = Arc::clone(&connections).try_acquire_owned().ok();
            let moving = permit.and_then(|permit| {
                let (stream, peer) = understand(message)?;
                let activity = Activity::begin(&serving.counters);
                Some(Moving { stream, peer, permit, activity })
            });
            let answer = if moving.is_some() { TAKEN } else { REFUSED };
            // Answered before the first byte is read here: until then the giver could still take it back.
            socket
                .async_io(Interest::WRITABLE, || Ok(rustix::io::write(&socket, &[answer])?))
                .await?;
            if let Some(moving) = moving {
                tokio::spawn(serving.clone().serve(moving));
            }
        }
        Ok::<(), io::Error>(())
    };
    if let Err(error) = taking.await {
        warn!("could not go on taking connections from another worker: {error}");
    }
}

/// One message with its descriptor.
struct Message {
    bytes: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

/// The next message; none when the other end is closed.
async fn receive(socket: &UnixDatagram) -> io::Result<Option<Message>> {
    let mut bytes = vec![0; MAX_CARRIED + 256];
    let (length, descriptor) = socket
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let received = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let descriptor = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
                _ => None,
            });
            Ok((received.bytes, descriptor))
        })
        .await?;
    bytes.truncate(length);
    Ok((length > 0).then_some(Message { bytes, descriptor }))
}

/// A connection out of a message, or none if this build does not understand it.
fn understand(message: Message) -> Option<(Stream, Peer)> {
    let [VERSION, length, rest @ ..] = &message.bytes[..] else { return None };
    let (peer, carried) = rest.split_at_checked(usize::from(*length))?;
    let peer = match std::str::from_utf8(peer).ok()? {
        "unix" => Peer::Unix,
        address => Peer::Tcp(address.parse().ok()?),
    };
    let stream = Stream::taken(message.descriptor?, peer, Bytes::copy_from_slice(carried)).ok()?;
    Some((stream, peer))
}

/// The socket, as tokio waits for it. It keeps the bounds of messages and tells the end of the other
/// side (`SOCK_SEQPACKET`); tokio has no type for that, and a datagram's is close enough to wait with.
fn watched(socket: OwnedFd) -> io::Result<UnixDatagram> {
    let socket = std::os::unix::net::UnixDatagram::from(socket);
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}
