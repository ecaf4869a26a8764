//! The worker's end of the channel to the master.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use pump_control::channel::{FromWorker, Start, ToWorker};
use pump_control::constants::MAX_CHANNEL_LINE;
use pump_control::{Line, Lines, encode};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncWriteExt, Interest};
use tracing::warn;

use crate::inherit::Inherited;

/// The way to the master.
pub(super) struct Channel {
    stream: Either,
    lines: Lines,
    /// What was read and not heard yet: the master may say `drain` before we are ready.
    unheard: VecDeque<Line>,
    /// Descriptors that came with it, in the order of the messages that have one.
    descriptors: VecDeque<OwnedFd>,
}

/// A socket of the standard library becomes tokio's when there is a runtime.
enum Either {
    Before(Option<UnixStream>),
    After(tokio::net::UnixStream),
}

/// What the master wants, or that it is gone.
#[derive(Debug)]
pub(super) enum Heard {
    /// Leave, and hand connections over through this, if there is anybody to take them.
    Drain(Option<OwnedFd>),
    /// Take connections from another worker through this.
    TakeOver(OwnedFd),
    MasterIsGone,
}

impl Channel {
    /// Takes the descriptor and waits for the first message.
    pub(super) fn take(number: i32, inherited: &mut Inherited) -> io::Result<(Self, Start)> {
        let stream = UnixStream::from(inherited.take(number)?);
        let mut lines = Lines::new(MAX_CHANNEL_LINE);
        let mut unheard = VecDeque::new();
        let mut descriptors = VecDeque::new();
        let first = loop {
            if let Some(line) = unheard.pop_front() {
                break line;
            }
            match receive(&stream, &mut descriptors)? {
                bytes if bytes.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => unheard.extend(lines.push(&bytes)),
            }
        };
        let Some(ToWorker::Start(start)) = understand(&first) else {
            let text = "the first message is not `start`";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        };
        stream.set_nonblocking(true)?;
        Ok((Self { stream: Either::Before(Some(stream)), lines, unheard, descriptors }, start))
    }

    /// Says something; a master that is gone does not hear it, which [`Self::hear`] tells.
    pub(super) async fn say(&mut self, message: &FromWorker) {
        if let Ok(stream) = self.stream() {
            // See above.
            let _ = stream.write_all(&encode(message)).await;
        }
    }

    /// Waits until the master wants something, or is gone.
    pub(super) async fn hear(&mut self) -> Heard {
        loop {
            while let Some(line) = self.unheard.pop_front() {
                match understand(&line) {
                    Some(ToWorker::Drain { hand_over: true }) => {
                        return Heard::Drain(self.descriptors.pop_front());
                    }
                    Some(ToWorker::Drain { hand_over: false }) => return Heard::Drain(None),
                    Some(ToWorker::TakeOver) => match self.descriptors.pop_front() {
                        Some(socket) => return Heard::TakeOver(socket),
                        None => warn!("the master sent no descriptor to take over by, ignoring it"),
                    },
                    // Of a later master, or said twice.
                    _ => warn!(
                        "the master said something that this build does not know, ignoring it"
                    ),
                }
            }
            if self.stream().is_err() {
                return Heard::MasterIsGone;
            }
            let Either::After(stream) = &self.stream else { return Heard::MasterIsGone };
            let descriptors = &mut self.descriptors;
            let read = stream.async_io(Interest::READABLE, || receive(stream, descriptors)).await;
            match read {
                Ok(bytes) if !bytes.is_empty() => self.unheard.extend(self.lines.push(&bytes)),
                _ => return Heard::MasterIsGone,
            }
        }
    }

    fn stream(&mut self) -> io::Result<&mut tokio::net::UnixStream> {
        if let Either::Before(stream) = &mut self.stream {
            let stream = stream.take().ok_or(io::ErrorKind::NotConnected)?;
            self.stream = Either::After(tokio::net::UnixStream::from_std(stream)?);
        }
        match &mut self.stream {
            Either::After(stream) => Ok(stream),
            Either::Before(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

fn understand(line: &Line) -> Option<ToWorker> {
    match line {
        Line::Whole(bytes) => serde_json::from_slice(bytes).ok(),
        Line::Oversized => None,
    }
}

/// Reads what is there, with the descriptors that came along. Nothing when the stream has ended.
fn receive(stream: impl AsFd, descriptors: &mut VecDeque<OwnedFd>) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let received = recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            descriptors.extend(came);
        }
    }
    Ok(buffer[..received.bytes].to_vec())
}
