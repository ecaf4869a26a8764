//! How one request ended, and who answered it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::wire::Fate;

/// A class of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A new connection for each request.
    New,
    /// A connection that is used again after a long think time.
    Keepalive,
    /// A connection that is used again after a short one.
    Brisk,
    /// A body sent slowly.
    SlowUpload,
    /// An answer read slowly.
    SlowReader,
}

impl Class {
    /// All of them, in the order they are told.
    pub const ALL: [Self; 5] =
        [Self::New, Self::Keepalive, Self::Brisk, Self::SlowUpload, Self::SlowReader];
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::New => "new",
            Self::Keepalive => "keepalive",
            Self::Brisk => "keepalive-brisk",
            Self::SlowUpload => "slow-upload",
            Self::SlowReader => "slow-reader",
        })
    }
}

/// What was asked: POST is the one that nobody may simply send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// A page.
    Get,
    /// A note.
    Post,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Ok,
    /// In any other way.
    Failed(Failure),
}

/// The ways in which a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// Answered with a status other than the one the request is to have.
    Status(u16),
    /// The connection was not made.
    Refused,
    /// A fresh connection was reset before any byte of an answer.
    ResetBeforeAnswer,
    /// A fresh connection was closed before any byte of an answer.
    EofBeforeAnswer,
    /// The answer ended before its end.
    CutBody,
    /// A connection that had answered before was found closed or reset, with no byte of an answer.
    StaleReuse(Method),
    /// No answer within the limit.
    Timeout,
    /// An answer that is no HTTP, or a 201 that does not say what was made.
    WrongAnswer,
    /// A stream of HTTP/2 that was reset, refused or left without an answer.
    Stream(Method),
}

impl Failure {
    /// The failure that a socket's fate is, on a connection that `answered` before or did not.
    pub(crate) fn of(fate: Fate, method: Method, answered: bool) -> Self {
        match fate {
            Fate::Refused => Self::Refused,
            Fate::Reset | Fate::Eof if answered => Self::StaleReuse(method),
            Fate::Reset => Self::ResetBeforeAnswer,
            Fate::Eof => Self::EofBeforeAnswer,
            Fate::Cut => Self::CutBody,
            Fate::NoHttp => Self::WrongAnswer,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "status-{code}"),
            Self::Refused => f.write_str("refused"),
            Self::ResetBeforeAnswer => f.write_str("reset-before-answer"),
            Self::EofBeforeAnswer => f.write_str("eof-before-answer"),
            Self::CutBody => f.write_str("cut-body"),
            Self::StaleReuse(Method::Get) => f.write_str("stale-reuse-GET"),
            Self::StaleReuse(Method::Post) => f.write_str("stale-reuse-POST"),
            Self::Timeout => f.write_str("timeout"),
            Self::WrongAnswer => f.write_str("wrong-answer"),
            Self::Stream(Method::Get) => f.write_str("stream-lost-GET"),
            Self::Stream(Method::Post) => f.write_str("stream-lost-POST"),
        }
    }
}

/// Who answered, as `Pump-Generation: GENERATION BUILD8 PID` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    /// The generation.
    pub generation: u64,
    /// The first eight hexadecimal digits of the build.
    pub build: u32,
    /// The worker's process.
    pub pid: u32,
}

impl FromStr for Server {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split_ascii_whitespace();
        let (Some(generation), Some(build), Some(pid)) = (words.next(), words.next(), words.next())
        else {
            return Err(());
        };
        Ok(Self {
            generation: generation.parse().map_err(drop)?,
            build: u32::from_str_radix(build, 16).map_err(drop)?,
            pid: pid.parse().map_err(drop)?,
        })
    }
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Which client sent it.
    pub class: Class,
    /// When it was asked, since the load's start: when the connect began (`new`, `slow-reader`), the
    /// request was sent (`keepalive`), its last byte was (`slow-upload`).
    pub asked: Duration,
    /// When it ended, since the load's start.
    pub ended: Duration,
    /// How long the server let the client wait: from `asked` to the whole answer; to its first byte
    /// for `slow-reader`.
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// Who answered, if the answer says so.
    pub by: Option<Server>,
}

/// One note that was sent, whatever became of it.
#[derive(Clone, Debug)]
pub struct Post {
    /// What its text has that no other text has.
    pub token: String,
    /// The name of the account.
    pub author: String,
    /// The activity's id when the server answered 201; else nothing is known.
    pub acknowledged: Option<String>,
}
