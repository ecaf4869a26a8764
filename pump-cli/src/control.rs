//! The client's end of the control socket.
//!
//! One request a connection. Replies are read one line at a time, and a line longer than the protocol
//! allows ends the conversation.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pump_control::constants::MAX_CONTROL_BACKLOG;
use pump_control::control::{Ask, ErrorCode, Reply, Request, Status};
use pump_control::{Line, Lines, encode};

/// How long a master may take over a reply that needs no roll.
const REPLY_WITHIN: Duration = Duration::from_secs(10);

/// Why a conversation with the master failed.
#[derive(Debug)]
pub(crate) enum ControlError {
    /// Nobody listens: the server does not run.
    NotRunning(PathBuf),
    /// This user may not ask that.
    Denied(String),
    /// The conversation broke off or made no sense.
    Broken(String),
}

impl std::fmt::Display for ControlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotRunning(path) => {
                write!(f, "pumpd does not run: nobody answers on `{}`", path.display())
            }
            Self::Denied(why) | Self::Broken(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ControlError {}

/// A conversation in which one request was asked.
#[derive(Debug)]
pub(crate) struct Conversation {
    stream: UnixStream,
    lines: Lines,
    waiting: std::collections::VecDeque<Line>,
}

impl Conversation {
    /// Connects and asks.
    ///
    /// # Errors
    /// When nobody listens or this user may not ask.
    pub(crate) fn open(socket: &Path, ask: Ask) -> Result<Self, ControlError> {
        let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ControlError::NotRunning(socket.to_owned())
            }
            io::ErrorKind::PermissionDenied => ControlError::Denied(format!(
                "this user may not ask pumpd: `{}` is open to root and to the group `pump`",
                socket.display()
            )),
            _ => ControlError::Broken(format!(
                "could not connect to `{}`: {error}",
                socket.display()
            )),
        })?;
        let asked = (&stream).write_all(&encode(&Request::from(ask)));
        asked.map_err(|error| broken(&error))?;
        Ok(Self { stream, lines: Lines::new(MAX_CONTROL_BACKLOG), waiting: Default::default() })
    }

    /// The next reply, within `limit`; `None` waits for as long as it takes.
    ///
    /// # Errors
    /// When the master goes away, takes too long, or says what is no reply.
    pub(crate) fn next(&mut self, limit: Option<Duration>) -> Result<Reply, ControlError> {
        self.stream.set_read_timeout(limit).map_err(|error| broken(&error))?;
        let mut buffer = [0; 4096];
        loop {
            match self.waiting.pop_front() {
                Some(Line::Whole(line)) => {
                    return serde_json::from_slice(&line).map_err(|error| {
                        ControlError::Broken(format!("pumpd answered what is no reply: {error}"))
                    });
                }
                Some(Line::Oversized) => {
                    return Err(ControlError::Broken("pumpd answered an overlong line".into()));
                }
                None => {}
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    return Err(ControlError::Broken("pumpd closed the control socket".into()));
                }
                Ok(count) => self.waiting.extend(self.lines.push(&buffer[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(&error)),
            }
        }
    }
}

/// Asks what has one reply.
///
/// # Errors
/// As [`Conversation::open`] and [`Conversation::next`].
pub(crate) fn ask(socket: &Path, ask: Ask) -> Result<Reply, ControlError> {
    Conversation::open(socket, ask)?.next(Some(REPLY_WITHIN))
}

/// How the cluster is.
///
/// # Errors
/// As [`ask`], and when the master answers with an error.
pub(crate) fn status(socket: &Path) -> Result<Status, ControlError> {
    match ask(socket, Ask::Status)? {
        Reply::Status(status) => Ok(*status),
        other => Err(unexpected(&other)),
    }
}

/// The error for a reply that does not belong here.
pub(crate) fn unexpected(reply: &Reply) -> ControlError {
    match reply {
        Reply::Error { code: ErrorCode::Forbidden, message } => {
            ControlError::Denied(message.clone())
        }
        Reply::Error { message, .. } => ControlError::Broken(format!("pumpd answered: {message}")),
        Reply::Refused(outcome) => ControlError::Broken(format!("pumpd refused: {}", outcome.text)),
        other => ControlError::Broken(format!("pumpd answered out of turn: {other:?}")),
    }
}

fn broken(error: &io::Error) -> ControlError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            ControlError::Broken("pumpd did not answer in time".into())
        }
        _ => ControlError::Broken(format!("the control socket failed: {error}")),
    }
}
