//! Connected sockets, TCP and unix alike, as hyper wants them.
//!
//! A [`Stream`] ends a connection the way RFC 9112 section 9.6 asks for: it closes its writing half,
//! reads on until the client has closed too, and only then lets go. A close with unread bytes would
//! make the kernel send a reset, which can destroy an answer that is still on its way. A client that has said
//! that it will send nothing more, and of which nothing is there, is not waited for: nothing can come that
//! would make a reset.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use pump_http::Peer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;

/// How long a client has, after our half of the connection is closed, to close its own.
const LINGER_FOR: Duration = Duration::from_secs(5);

/// How much it may still send in that time, in bytes.
const LINGER_BYTES: usize = 256 * 1024;

/// GOAWAY with the greatest stream there is and no error: RFC 9113, sections 6.8 and 4.1.
const LEAVING_SOON: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0";

/// A connection's socket.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    traffic: Arc<Traffic>,
    /// Read by whoever had the connection before, and to be read again.
    carried: Bytes,
    /// Our own word between two of hyper's, as far as it is not written yet.
    aside: &'static [u8],
    closing: Option<Closing>,
}

/// What went over a connection, for who decides whether it is idle.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Bytes read from the client so far.
    read: AtomicU64,
    /// Bytes that the client, or the kernel for it, took so far.
    written: AtomicU64,
    /// Whether something that hyper wrote may still be in its buffer.
    unflushed: AtomicBool,
    /// Whether [`LEAVING_SOON`] is to be written.
    says_goaway: AtomicBool,
    /// Whether the client has said all that it will say.
    said_all: AtomicBool,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

#[derive(Debug)]
struct Closing {
    until: Pin<Box<Sleep>>,
    bytes: usize,
}

impl Traffic {
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// All bytes of both directions. What stands still does not count.
    pub(super) fn moved(&self) -> u64 {
        self.read().wrapping_add(self.written.load(Ordering::Relaxed))
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(length)) = written {
            self.written.fetch_add(*length as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn is_flushed(&self) -> bool {
        !self.unflushed.load(Ordering::Relaxed)
    }

    /// The client has said `close` with a request that has no body, so it must not send another one: RFC 9112,
    /// section 9.6.
    pub(super) fn has_said_all(&self) {
        self.said_all.store(true, Ordering::Relaxed);
    }

    /// In HTTP/2: the client is told that there will be an end, with the next flush.
    pub(super) fn say_goaway(&self) {
        self.says_goaway.store(true, Ordering::Relaxed);
    }
}

impl Stream {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, traffic: Arc::default(), carried: Bytes::new(), aside: b"", closing: None }
    }

    /// A connection that another worker had, with what it had read of the next request.
    pub(super) fn taken(descriptor: OwnedFd, peer: Peer, carried: Bytes) -> io::Result<Self> {
        // It is so already; tokio panics when it is not.
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        let socket = match peer {
            Peer::Tcp(_) => Socket::Tcp(TcpStream::from_std(descriptor.into())?),
            Peer::Unix => Socket::Unix(UnixStream::from_std(descriptor.into())?),
        };
        Ok(Self { carried, ..Self::new(socket) })
    }

    /// The same connection out of hyper's hands, with what hyper had read of the next request.
    pub(super) fn again(self, read: Bytes) -> Self {
        // What hyper has read came before what it has not.
        let carried = [&read[..], &self.carried[..]].concat().into();
        Self { carried, closing: None, ..self }
    }

    pub(super) fn carried(&self) -> &Bytes {
        &self.carried
    }

    /// Reads something that will be read again, after all that is there already. Nothing at the end.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); 8 * 1024];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(self.socket.poll_read(cx, &mut buffer))?;
        let read = buffer.filled();
        self.carried = match self.carried.is_empty() {
            true => Bytes::copy_from_slice(read),
            false => [&self.carried[..], read].concat().into(),
        };
        Poll::Ready(Ok(read.len()))
    }

    /// Writes our own word to its end. Whatever comes next would otherwise stand in the middle of it.
    fn poll_aside(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.aside.is_empty() {
            let written = ready!(self.socket.poll_write(cx, self.aside))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.aside = &self.aside[written..];
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what the client takes, past hyper.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_write(cx, bytes)
    }

    /// Ends the connection in good order.
    pub(super) async fn close(&mut self) {
        // A client that is gone already has nothing to be told.
        let _ = poll_fn(|cx| Pin::new(&mut *self).poll_shutdown(cx)).await;
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

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn shut_down(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.carried.is_empty() {
            let length = cursor.remaining().min(self.carried.len());
            self.traffic.read.fetch_add(length as u64, Ordering::Relaxed);
            cursor.put_slice(&self.carried[..length]);
            self.carried.advance(length);
            return Poll::Ready(Ok(()));
        }
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
        ready!(self.poll_aside(cx))?;
        let written = self.socket.poll_write(cx, bytes);
        self.traffic.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.traffic.unflushed.store(true, Ordering::Relaxed);
        ready!(self.poll_aside(cx))?;
        let written = match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Socket::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
        };
        self.traffic.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Called by hyper only when its own buffer is empty (with `pipeline_flush` off), and in HTTP/2 so only
    /// between two frames.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.traffic.unflushed.store(false, Ordering::Relaxed);
        if self.traffic.says_goaway.swap(false, Ordering::Relaxed) {
            self.aside = LEAVING_SOON;
        }
        self.poll_aside(cx)
    }

    /// Closes our half, then reads what the client still sends until it closes its half.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut *self;
        if stream.closing.is_none() {
            ready!(stream.socket.shut_down(cx))?;
            if stream.traffic.said_all.load(Ordering::Relaxed) {
                let mut space = [MaybeUninit::uninit(); 1];
                let mut buffer = ReadBuf::uninit(&mut space);
                let more = stream.socket.poll_read(cx, &mut buffer);
                if more.is_pending() || buffer.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
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
