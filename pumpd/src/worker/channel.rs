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
use tokio::io::Interest;
use tracing::warn;

use crate::inherit::Inherited;

/// Bytes that wait for the master to read them, at most. All messages of a worker together that are not
/// answers are told anew when something changes.
const MAX_UNWRITTEN: usize = 64 * 1024;

/// The way to the master.
pub(super) struct Channel {
    stream: Either,
    lines: Lines,
    /// What was read and not heard yet: the master may say `drain` before we are ready.
    unheard: VecDeque<Line>,
    /// Descriptors that came with it, in the order of the messages that have one.
    descriptors: VecDeque<OwnedFd>,
    /// What is said and not written yet.
    unwritten: Vec<u8>,
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
    /// This is the pidfd of the new master.
    Adopted(OwnedFd),
    Figures,
    Probe,
    Nudge,
    /// The other end of the channel is closed for good.
    Closed,
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
        let stream = Either::Before(Some(stream));
        Ok((Self { stream, lines, unheard, descriptors, unwritten: Vec::new() }, start))
    }

    /// Says something, in the time that [`Self::hear`] and [`Self::written`] are given. A master that is
    /// dead while its end is kept for the next one reads nothing: what is too much then is not said.
    pub(super) fn say(&mut self, message: &FromWorker) {
        let line = encode(message);
        if self.unwritten.len() + line.len() <= MAX_UNWRITTEN {
            self.unwritten.extend(line);
        }
    }

    /// Waits until all is written that was said.
    pub(super) async fn written(&mut self) -> io::Result<()> {
        self.stream()?;
        let Either::After(stream) = &self.stream else { return Ok(()) };
        while !self.unwritten.is_empty() {
            stream.writable().await?;
            match stream.try_write(&self.unwritten) {
                Ok(length) => drop(self.unwritten.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until the master wants something, or is gone. Nothing is lost when this is given up.
    pub(super) async fn hear(&mut self) -> Heard {
        loop {
            while let Some(line) = self.unheard.pop_front() {
                // A new master ends with it what a dead one may have begun.
                if line == Line::Whole(Vec::new()) {
                    continue;
                }
                if let Some(heard) = self.meant(&line) {
                    return heard;
                }
            }
            if self.stream().is_err() {
                return Heard::Closed;
            }
            let Either::After(stream) = &self.stream else { return Heard::Closed };
            let descriptors = &mut self.descriptors;
            let read = tokio::select! {
                read = stream.async_io(Interest::READABLE, || receive(stream, descriptors)) => read,
                _ = stream.writable(), if !self.unwritten.is_empty() => {
                    match stream.try_write(&self.unwritten) {
                        Ok(length) => drop(self.unwritten.drain(..length)),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        // Nobody will ever read it. Whether there is something to hear is seen next.
                        Err(_) => self.unwritten.clear(),
                    }
                    continue;
                }
            };
            match read {
                Ok(bytes) if !bytes.is_empty() => self.unheard.extend(self.lines.push(&bytes)),
                _ => return Heard::Closed,
            }
        }
    }

    /// What a line means, or nothing.
    fn meant(&mut self, line: &Line) -> Option<Heard> {
        let message = understand(line);
        let carries = match &message {
            Some(ToWorker::Drain { hand_over }) => *hand_over,
            Some(ToWorker::TakeOver | ToWorker::Adopted) => true,
            _ => false,
        };
        let descriptor = if carries { self.descriptors.pop_front() } else { None };
        match (message, descriptor) {
            (Some(ToWorker::Drain { .. }), to) => return Some(Heard::Drain(to)),
            (Some(ToWorker::TakeOver), Some(from)) => return Some(Heard::TakeOver(from)),
            (Some(ToWorker::Adopted), Some(master)) => return Some(Heard::Adopted(master)),
            (Some(ToWorker::TakeOver | ToWorker::Adopted), None) => {
                warn!("the master sent no descriptor with its message, ignoring it");
            }
            (Some(ToWorker::Figures), _) => return Some(Heard::Figures),
            (Some(ToWorker::Probe), _) => return Some(Heard::Probe),
            (Some(ToWorker::Nudge), _) => return Some(Heard::Nudge),
            // Of a later master, or said twice. A descriptor that came with it is nobody else's.
            _ => {
                warn!("the master said something that this build does not know, ignoring it");
                if self.unheard.is_empty() {
                    self.descriptors.clear();
                }
            }
        }
        None
    }

    fn stream(&mut self) -> io::Result<()> {
        if let Either::Before(stream) = &mut self.stream {
            let stream = stream.take().ok_or(io::ErrorKind::NotConnected)?;
            self.stream = Either::After(tokio::net::UnixStream::from_std(stream)?);
        }
        Ok(())
    }
}

pub(super) fn understand(line: &Line) -> Option<ToWorker> {
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
