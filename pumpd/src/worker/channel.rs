//! The worker's end of the channel to the master.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use pump_control::channel::{FromWorker, Start, ToWorker};
use pump_control::constants::MAX_CHANNEL_LINE;
use pump_control::{Line, Lines, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::warn;

use crate::inherit::Inherited;

/// The way to the master.
pub(super) struct Channel {
    stream: Either,
    lines: Lines,
    /// What was read and not heard yet: the master may say `drain` before we are ready.
    unheard: VecDeque<Line>,
}

/// A socket of the standard library becomes tokio's when there is a runtime.
enum Either {
    Before(Option<UnixStream>),
    After(tokio::net::UnixStream),
}

/// Why the worker stops waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Drain,
    MasterIsGone,
}

impl Channel {
    /// Takes the descriptor and waits for the first message.
    pub(super) fn take(number: i32, inherited: &mut Inherited) -> io::Result<(Self, Start)> {
        let mut stream = UnixStream::from(inherited.take(number)?);
        let mut lines = Lines::new(MAX_CHANNEL_LINE);
        let mut unheard = VecDeque::new();
        let mut buffer = [0; 4096];
        let first = loop {
            if let Some(line) = unheard.pop_front() {
                break line;
            }
            match stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => unheard.extend(lines.push(&buffer[..length])),
            }
        };
        let Some(ToWorker::Start(start)) = understand(&first) else {
            let text = "the first message is not `start`";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        };
        stream.set_nonblocking(true)?;
        Ok((Self { stream: Either::Before(Some(stream)), lines, unheard }, start))
    }

    /// Says something; a master that is gone does not hear it, which [`Self::hear`] tells.
    pub(super) async fn say(&mut self, message: &FromWorker) {
        if let Ok(stream) = self.stream() {
            // See above.
            let _ = stream.write_all(&encode(message)).await;
        }
    }

    /// Waits until the master wants the worker to leave, or is gone.
    pub(super) async fn hear(&mut self) -> Heard {
        let mut buffer = [0; 1024];
        loop {
            while let Some(line) = self.unheard.pop_front() {
                match understand(&line) {
                    Some(ToWorker::Drain) => return Heard::Drain,
                    // Of a later master, or said twice.
                    _ => warn!(
                        "the master said something that this build does not know, ignoring it"
                    ),
                }
            }
            let Ok(stream) = self.stream() else { return Heard::MasterIsGone };
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return Heard::MasterIsGone,
                Ok(length) => self.unheard.extend(self.lines.push(&buffer[..length])),
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
