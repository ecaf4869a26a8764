//! A client of the control socket. Blocks.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use pump_control::constants::MAX_CONTROL_BACKLOG;
use pump_control::control::{Ask, Event, Outcome, Reply, Request, Restart, Status};
use pump_control::encode;

/// Longest wait for one line. A roll says something at least as often: its longest step is a drain.
const LINE_WITHIN: Duration = Duration::from_secs(120);

/// A control socket's path.
#[derive(Clone, Debug)]
pub struct Control {
    path: PathBuf,
}

/// A roll that was asked for with `wait`, from its begin to its end.
#[derive(Clone, Debug)]
pub struct Rolled {
    /// Its number; none when it was refused.
    pub roll: Option<u64>,
    /// What was told on the way.
    pub steps: Vec<String>,
    /// The same as events, with the milliseconds since the roll was accepted.
    pub events: Vec<(u64, Event)>,
    /// How it ended, or why it was refused.
    pub outcome: Outcome,
}

impl Control {
    /// The control socket at this path.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Asks, and returns the first reply.
    ///
    /// # Errors
    /// When nobody listens, and when the reply is none.
    pub fn ask(&self, ask: Ask) -> Result<Reply> {
        read(&mut self.say(&encode(&Request::from(ask)))?)
    }

    /// Sends any bytes and returns the first reply, for requests that are none.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_raw(&self, bytes: &[u8]) -> Result<Reply> {
        read(&mut self.say(bytes)?)
    }

    /// The status.
    ///
    /// # Errors
    /// As [`Self::ask`], and for any other reply.
    pub fn status(&self) -> Result<Status> {
        match self.ask(Ask::Status)? {
            Reply::Status(status) => Ok(*status),
            other => bail!("asked for the status and was told {other:?}"),
        }
    }

    /// Asks for a roll and waits for its end; `on_step` hears each step as it is told.
    ///
    /// # Errors
    /// When the connection ends before the roll does, and for a reply that does not belong here.
    pub fn restart(&self, ask: Restart, mut on_step: impl FnMut(&str)) -> Result<Rolled> {
        let ask = Ask::Restart(Restart { wait: true, ..ask });
        let mut replies = self.say(&encode(&Request::from(ask)))?;
        let (mut number, mut steps, mut events) = (None, Vec::new(), Vec::new());
        loop {
            match read(&mut replies)? {
                Reply::Accepted { roll } => number = Some(roll),
                Reply::Step { text, event, millis, .. } => {
                    on_step(&text);
                    events.push((millis, *event));
                    steps.push(text);
                }
                Reply::Ended { roll, outcome } => {
                    ensure!(number == Some(roll), "roll {number:?} was accepted, {roll} ended");
                    return Ok(Rolled { roll: number, steps, events, outcome });
                }
                Reply::Refused(outcome) => {
                    return Ok(Rolled { roll: None, steps, events, outcome });
                }
                other => bail!("asked for a roll and was told {other:?}"),
            }
        }
    }

    fn say(&self, bytes: &[u8]) -> Result<BufReader<UnixStream>> {
        let at = || format!("the control socket `{}`", self.path.display());
        let mut socket = UnixStream::connect(&self.path).with_context(at)?;
        socket.set_read_timeout(Some(LINE_WITHIN))?;
        socket.write_all(bytes).with_context(at)?;
        Ok(BufReader::new(socket))
    }
}

fn read(replies: &mut BufReader<UnixStream>) -> Result<Reply> {
    let mut line = Vec::new();
    let limit = MAX_CONTROL_BACKLOG as u64;
    replies.by_ref().take(limit).read_until(b'\n', &mut line).context("waiting for a reply")?;
    ensure!(line.ends_with(b"\n"), "the control socket was closed before a whole reply");
    let text = || format!("no reply: {}", String::from_utf8_lossy(&line).trim());
    serde_json::from_slice(&line).with_context(text)
}
