//! The worker's end of the channel to the master.

use std::io::{self, BufRead, BufReader, Read};
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
        let stream = UnixStream::from(inherited.take(number)?);
        let mut line = Vec::new();
        // The master writes nothing after this line until we are ready, so no byte is read too many.
        BufReader::new(&stream).take(MAX_CHANNEL_LINE as u64).read_until(b'\n', &mut line)?;
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let ToWorker::Start(start) = serde_json::from_slice(&line).map_err(invalid)? else {
            return Err(invalid(serde::de::Error::custom("the first message is not `start`")));
        };
        stream.set_nonblocking(true)?;
        let stream = Either::Before(Some(stream));
        Ok((Self { stream, lines: Lines::new(MAX_CHANNEL_LINE) }, start))
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
            let Ok(stream) = self.stream() else { return Heard::MasterIsGone };
            let length = match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return Heard::MasterIsGone,
                Ok(length) => length,
            };
            for line in self.lines.push(&buffer[..length]) {
                match understand(&line) {
                    Some(ToWorker::Drain) => return Heard::Drain,
                    // Of a later master, or said twice.
                    _ => warn!(
                        "the master said something that this build does not know, ignoring it"
                    ),
                }
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
