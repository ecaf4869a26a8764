//! Listening and connected sockets, TCP and unix alike, as hyper wants them.
//!
//! A [`Stream`] ends a connection the way RFC 9112 section 9.6 asks for: it closes its writing half,
//! reads on until the client has closed too, and only then lets go. A close with unread bytes would
//! make the kernel send a reset, which can destroy an answer that is still on its way.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use pump_control::channel;
use pump_http::Peer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tracing::warn;

use super::connection::Serving;
use crate::config::Address;
use crate::inherit::Inherited;

/// How long a client has, after our half of the connection is closed, to close its own.
const LINGER_FOR: Duration = Duration::from_secs(2);

/// How much it may still send in that time, in bytes.
const LINGER_BYTES: usize = 256 * 1024;

/// A pause after the machine is out of descriptors or memory, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Why an inherited socket cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("could not take over the socket of `{address}`")]
pub(super) struct TakeError {
    address: String,
    source: io::Error,
}

/// A socket that connections are accepted on.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(super) fn take(
        listener: &channel::Listener,
        inherited: &mut Inherited,
    ) -> Result<Self, TakeError> {
        let mut taken = || {
            let socket = inherited.take(listener.fd)?;
            match listener.address.parse() {
                Ok(Address::Tcp(_)) => Ok(Self::Tcp(TcpListener::from_std(socket.into())?)),
                Ok(Address::Unix(_)) => Ok(Self::Unix(UnixListener::from_std(socket.into())?)),
                Err(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not an address")),
            }
        };
        taken().map_err(|source| TakeError { address: listener.address.clone(), source })
    }

    /// Accepts until the drain begins. What waits in the kernel's queue then is for other workers.
    pub(super) async fn accept(self, serving: Serving, connections: Arc<Semaphore>) {
        loop {
            // At the limit nobody is turned away: the queue belongs to all workers.
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = self.accept_one() => accepted,
                () = serving.draining().begun() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let serving = serving.clone();
                    tokio::spawn(async move {
                        serving.serve(stream, peer).await;
                        drop(permit);
                    });
                }
                Err(error) if belongs_to_client(&error) => {}
                Err(error) => {
                    warn!("could not accept a connection, trying again in {PAUSE:?}: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn accept_one(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, address) = listener.accept().await?;
                // An answer is written in one piece; waiting for more only delays it.
                socket.set_nodelay(true)?;
                Ok((Stream::new(Socket::Tcp(socket)), Peer::Tcp(address)))
            }
            Self::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                Ok((Stream::new(Socket::Unix(socket)), Peer::Unix))
            }
        }
    }
}

/// The client went away before it was accepted: accept(2).
fn belongs_to_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotConnected
    )
}

/// A connection's socket.
pub(super) struct Stream {
    socket: Socket,
    traffic: Arc<Traffic>,
    closing: Option<Closing>,
}

/// What went over a connection, for who decides whether it is idle.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Bytes read from the client so far.
    read: AtomicU64,
    /// Whether something that hyper wrote may still be in its buffer.
    unflushed: AtomicBool,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

struct Closing {
    until: Pin<Box<Sleep>>,
    bytes: usize,
}

impl Traffic {
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(super) fn is_flushed(&self) -> bool {
        !self.unflushed.load(Ordering::Relaxed)
    }
}

impl Stream {
    fn new(socket: Socket) -> Self {
        Self { socket, traffic: Arc::default(), closing: None }
    }

    pub(super) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }
}

impl Socket {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, into),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, into),
        }
    }

    fn shut_down(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // Through a buffer of our own: 8 KiB copied is cheaper than an unsafe block is to keep.
        let mut space = [MaybeUninit::uninit(); 8 * 1024];
        let room = cursor.remaining().min(space.len());
        let mut buffer = ReadBuf::uninit(&mut space[..room]);
        ready!(self.socket.poll_read(cx, &mut buffer))?;
        self.traffic.read.fetch_add(buffer.filled().len() as u64, Ordering::Relaxed);
        cursor.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.traffic.unflushed.store(true, Ordering::Relaxed);
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.traffic.unflushed.store(true, Ordering::Relaxed);
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Socket::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Called by hyper only when its own buffer is empty (with `pipeline_flush` off).
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.traffic.unflushed.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    /// Closes our half, then reads what the client still sends until it closes its half.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut *self;
        if stream.closing.is_none() {
            ready!(stream.socket.shut_down(cx))?;
        }
        let closing = stream.closing.get_or_insert_with(|| Closing {
            until: Box::pin(tokio::time::sleep(LINGER_FOR)),
            bytes: 0,
        });
        loop {
            if closing.until.as_mut().poll(cx).is_ready() || closing.bytes >= LINGER_BYTES {
                return Poll::Ready(Ok(()));
            }
            let mut space = [MaybeUninit::uninit(); 4 * 1024];
            let mut buffer = ReadBuf::uninit(&mut space);
            ready!(stream.socket.poll_read(cx, &mut buffer))?;
            match buffer.filled().len() {
                0 => return Poll::Ready(Ok(())),
                length => closing.bytes += length,
            }
        }
    }
}
