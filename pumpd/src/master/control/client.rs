//! One client of the control socket: what it has asked, and what is still to be written to it.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use pump_control::constants::{
    CONTROL_VERSION, MAX_CONTROL_BACKLOG, MAX_CONTROL_CLIENTS, MAX_CONTROL_LINE,
};
use pump_control::control::{Ask, ErrorCode, Reply};
use pump_control::{Line, Lines, encode};

use super::http::{self, Head, Wanted};
use super::peer::{self, May};
use crate::master::carried::CarriedClient;

/// Requests of one client that wait for an answer. Until it has had one it is not read any more.
const MAX_AWAITED: u32 = 8;

/// A client and what is known of it.
pub(super) struct Client {
    stream: UnixStream,
    lines: Lines,
    speaks: Speaks,
    out: Vec<u8>,
    may: May,
    /// It has said everything; closed when all is written.
    ending: bool,
    /// Answers that are still to come, so it is not closed before them.
    awaited: u32,
}

/// Which language a client has chosen with its first line.
enum Speaks {
    /// It has said nothing yet.
    Nothing,
    Json,
    Http(Head),
}

impl Client {
    /// Takes a connection, which must not block.
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            may: peer::may(&stream),
            stream,
            lines: Lines::new(MAX_CONTROL_LINE),
            speaks: Speaks::Nothing,
            out: Vec::new(),
            ending: false,
            awaited: 0,
        }
    }

    /// A client that this process had before it became another build.
    pub(super) fn taken(carried: &CarriedClient, stream: OwnedFd) -> Self {
        let mut lines = Lines::new(MAX_CONTROL_LINE);
        lines.push(&carried.heard);
        Self {
            stream: UnixStream::from(stream),
            lines,
            speaks: match &carried.head {
                Some(head) => Speaks::Http(head.clone()),
                None if carried.spoke => Speaks::Json,
                None => Speaks::Nothing,
            },
            out: carried.unsaid.clone(),
            may: match (carried.may_change, carried.may_not_ask) {
                (true, _) => May::Change,
                (false, false) => May::Ask,
                (false, true) => May::Nothing,
            },
            ending: carried.ending,
            awaited: carried.awaited,
        }
    }

    /// What another master needs to know of it.
    pub(super) fn carried(&self, id: u64) -> CarriedClient {
        CarriedClient {
            id,
            heard: self.lines.unfinished().to_vec(),
            unsaid: self.out.clone(),
            may_change: self.may == May::Change,
            ending: self.ending,
            awaited: self.awaited,
            spoke: matches!(self.speaks, Speaks::Json),
            head: match &self.speaks {
                Speaks::Http(head) => Some(head.clone()),
                Speaks::Nothing | Speaks::Json => None,
            },
            may_not_ask: self.may == May::Nothing,
        }
    }

    pub(super) fn stream(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// It has something to be written.
    pub(super) fn is_behind(&self) -> bool {
        !self.out.is_empty()
    }

    /// Nothing more is read of it.
    pub(super) fn is_ending(&self) -> bool {
        self.ending
    }

    /// It may say something now.
    pub(super) fn is_heard(&self) -> bool {
        !self.ending && self.awaited < MAX_AWAITED
    }

    /// It waits for nothing and has read everything, so nobody would miss it.
    pub(super) fn is_idle(&self) -> bool {
        self.awaited == 0 && self.out.is_empty()
    }

    /// It has its last reply, or does not read what it has asked for.
    pub(super) fn is_done(&self) -> bool {
        let served = self.ending && self.out.is_empty() && self.awaited == 0;
        served || self.out.len() > MAX_CONTROL_BACKLOG
    }

    /// One request has its last reply.
    pub(super) fn has_heard(&mut self) {
        self.awaited = self.awaited.saturating_sub(1);
    }

    /// Reads what is there and returns what it asks: for each there is a [`Self::has_heard`] to come.
    /// What is no request is answered.
    pub(super) fn read(&mut self) -> Vec<Ask> {
        let mut asks = Vec::new();
        let mut buffer = [0; 4096];
        // One buffer a turn: a client that never stops writing must not keep the loop.
        match self.stream.read(&mut buffer) {
            Ok(0) => {
                // Whoever says no more has ended its last line, too.
                let rest = self.lines.rest();
                if !rest.is_empty() {
                    asks.extend(self.line(Line::Whole(rest)));
                }
                self.ending = true;
            }
            Ok(length) => {
                for line in self.lines.push(&buffer[..length]) {
                    // After a request over HTTP nothing more is heard.
                    if !self.ending {
                        asks.extend(self.line(line));
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.is_deaf(),
        }
        self.awaited = self.awaited.saturating_add(asks.len() as u32);
        asks
    }

    fn line(&mut self, line: Line) -> Option<Ask> {
        if let (Speaks::Nothing, Line::Whole(first)) = (&self.speaks, &line) {
            self.speaks = match Head::begins(first) {
                Some(head) => Speaks::Http(head),
                None => Speaks::Json,
            };
            if matches!(self.speaks, Speaks::Http(_)) {
                return None;
            }
        }
        let Speaks::Http(head) = &mut self.speaks else {
            return match understand(line, self.may) {
                Ok(ask) => Some(ask),
                Err(error) => {
                    self.say(&error);
                    None
                }
            };
        };
        let wanted = head.line(&line)?;
        self.ending = true;
        let wanted = if self.may == May::Nothing { Wanted::Forbidden } else { wanted };
        if wanted == Wanted::Metrics {
            return Some(Ask::Metrics);
        }
        self.out.extend(http::refused(wanted));
        self.write();
        None
    }

    pub(super) fn say(&mut self, reply: &Reply) {
        let bytes = match (&self.speaks, reply) {
            (Speaks::Http(_), Reply::Metrics { text }) => http::metrics(text),
            (Speaks::Http(_), Reply::Error { message, .. }) => http::unavailable(message),
            _ => encode(reply),
        };
        self.out.extend(bytes);
        self.write();
    }

    pub(super) fn write(&mut self) {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(length) => drop(self.out.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.is_deaf(),
            }
        }
    }

    /// It is gone: what it waits for is told to nobody.
    fn is_deaf(&mut self) {
        self.out.clear();
        self.ending = true;
        self.awaited = 0;
    }
}

/// Why a client is sent away.
pub(super) fn busy(why: &str) -> Reply {
    let message = format!("{MAX_CONTROL_CLIENTS} clients {why}");
    Reply::Error { code: ErrorCode::Busy, message }
}

/// A request, or what is wrong with the line. Unknown fields are dropped.
pub(super) fn understand(line: Line, may: May) -> Result<Ask, Reply> {
    let error = |code, message: String| Err(Reply::Error { code, message });
    if may == May::Nothing {
        let message = "only root, the daemon's own user and members of its group may ask anything";
        return error(ErrorCode::Forbidden, message.to_owned());
    }
    let Line::Whole(bytes) = line else {
        let message = format!("the line is longer than {MAX_CONTROL_LINE} bytes");
        return error(ErrorCode::Oversized, message);
    };
    let value: serde_json::Value = match serde_json::from_slice(&bytes) {
        Ok(value @ serde_json::Value::Object(_)) => value,
        _ => {
            let message = "the line is not a JSON object, such as {\"v\":1,\"ask\":\"status\"}";
            return error(ErrorCode::Malformed, message.to_owned());
        }
    };
    match value.get("v").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(CONTROL_VERSION) => {}
        found => {
            let found = found.map_or("no version".to_owned(), |found| format!("version {found}"));
            let message =
                format!("the request has {found}; this understands \"v\":{CONTROL_VERSION}");
            return error(ErrorCode::Version, message);
        }
    }
    match value.get("ask").and_then(serde_json::Value::as_str) {
        Some(name) if Ask::NAMES.contains(&name) => {}
        found => {
            let names = Ask::NAMES.join("`, `");
            // A stranger's word is shown short.
            let found: String = found.unwrap_or("nothing").chars().take(40).collect();
            let message = format!("the request asks for `{found}`; there are `{names}`");
            return error(ErrorCode::UnknownAsk, message);
        }
    }
    match serde_json::from_value::<pump_control::control::Request>(value) {
        Ok(request) if request.ask.changes() && may != May::Change => {
            let message = "only root and the daemon's own user may ask for that".to_owned();
            error(ErrorCode::Forbidden, message)
        }
        Ok(request) => Ok(request.ask),
        Err(source) => error(ErrorCode::Malformed, format!("the request has a fault: {source}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(line: &str, want: Result<Ask, ErrorCode>) {
        let got = understand(Line::Whole(line.into()), May::Ask).map_err(|reply| match reply {
            Reply::Error { code, .. } => code,
            other => panic!("{other:?} is no error"),
        });
        assert_eq!(got, want, "for {line}");
    }

    #[test]
    fn a_line_is_a_request_or_has_a_typed_error() {
        check(r#"{"v":1,"ask":"status","later":true}"#, Ok(Ask::Status));
        check("status", Err(ErrorCode::Malformed));
        check("[1]", Err(ErrorCode::Malformed));
        check("", Err(ErrorCode::Malformed));
        check(r#"{"ask":"status"}"#, Err(ErrorCode::Version));
        check(r#"{"v":2,"ask":"status"}"#, Err(ErrorCode::Version));
        check(r#"{"v":1,"ask":"dance"}"#, Err(ErrorCode::UnknownAsk));
        check(r#"{"v":1}"#, Err(ErrorCode::UnknownAsk));
        check(r#"{"v":1,"ask":"restart","wait":"yes"}"#, Err(ErrorCode::Malformed));
        check(r#"{"v":1,"ask":"restart"}"#, Err(ErrorCode::Forbidden));
        check(r#"{"v":1,"ask":"stop"}"#, Err(ErrorCode::Forbidden));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Who may change nothing changes nothing, whatever the line.
        #[test]
        fn no_line_harms(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            ask in 0..Ask::NAMES.len(),
            field in ".{0,20}",
            value in 0..6usize,
        ) {
            let name = Ask::NAMES[ask];
            let value = ["null", "-1", "[[]]", "{\"a\":1e999}", "\"\\ud800\"", "true"][value];
            let nearly = format!("{{\"v\":1,\"ask\":\"{name}\",\"{field}\":{value}}}");
            for line in [bytes, nearly.into_bytes()] {
                if let Ok(ask) = understand(Line::Whole(line), May::Ask) {
                    prop_assert!(!ask.changes(), "{:?}", ask);
                }
            }
        }

        /// Nor does a connection, whatever comes over it in whatever pieces: JSON, HTTP, or neither. It
        /// asks for nothing that changes anything, and what it is answered has a bound.
        #[test]
        fn no_client_harms(
            pieces in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..300),
                    "(GET|POST|PRI) /?[a-z*]{0,8} HTTP/[12].[01]\r?\n(a: b\r\n){0,3}(\r\n)?"
                        .prop_map(String::into_bytes),
                    Just(b"{\"v\":1,\"ask\":\"stop\"}\n".to_vec()),
                    Just(b"{\"v\":1,\"ask\":\"metrics\"}\n".to_vec()),
                ],
                0..8,
            ),
        ) {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            ours.set_nonblocking(true).expect("a socket option");
            let mut client = Client { may: May::Ask, ..Client::new(ours) };
            for piece in pieces {
                // It may have been answered and be done.
                if (&theirs).write_all(&piece).is_err() || client.is_ending() {
                    break;
                }
                for ask in client.read() {
                    prop_assert!(!ask.changes(), "{:?}", ask);
                    client.has_heard();
                    client.say(&Reply::Metrics { text: "# EOF\n".to_owned() });
                }
                prop_assert!(client.out.len() <= MAX_CONTROL_BACKLOG);
            }
        }
    }
}
