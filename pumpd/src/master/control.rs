//! The control socket: clients, their lines, and who may ask what.
//!
//! Knows nothing of the cluster. It turns bytes into requests for the loop, and replies into bytes;
//! a client that floods, stalls or talks nonsense costs no more than the limits in `constants`.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pump_control::constants::{
    CONTROL_VERSION, MAX_CONTROL_BACKLOG, MAX_CONTROL_CLIENTS, MAX_CONTROL_LINE,
};
use pump_control::control::{Ask, ErrorCode, Reply};
use pump_control::{Line, Lines, encode};
use rustix::event::PollFlags;

use super::cluster::Moment;
use super::listen::{bind_unix, remove_unix};

/// The socket's mode: the group may connect, and so may ask for the status.
const MODE: u32 = 0o660;

/// A pause after nobody could be accepted.
const REST: Duration = Duration::from_millis(500);

/// A client's number, never used again by this master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(u64);

/// The control socket and its clients.
pub(crate) struct Control {
    socket: UnixListener,
    path: PathBuf,
    inode: u64,
    /// Whether the last master left its socket behind, and so perhaps its workers.
    pub(crate) last_was_killed: bool,
    clients: BTreeMap<ClientId, Client>,
    next: u64,
    /// Nobody is accepted before then: the machine was out of descriptors.
    rests_until: Option<Moment>,
}

struct Client {
    stream: UnixStream,
    lines: Lines,
    out: Vec<u8>,
    may_change: bool,
    /// It has said everything; closed when all is written.
    ending: bool,
    /// An answer is still to come, so it is not closed before that.
    waits: bool,
}

impl Control {
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let bound = bind_unix(path, MODE)?;
        bound.socket.set_nonblocking(true)?;
        Ok(Self {
            socket: bound.socket,
            path: path.to_owned(),
            inode: bound.inode,
            last_was_killed: bound.left_over,
            clients: BTreeMap::new(),
            next: 1,
            rests_until: None,
        })
    }

    /// Becomes readable when somebody connects; none while nobody can be accepted.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.rests_until.is_none().then(|| self.socket.as_fd())
    }

    /// When there is a socket again.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.rests_until
    }

    pub(crate) fn expire(&mut self, now: Moment) {
        self.rests_until = self.rests_until.filter(|until| *until > now);
    }

    /// What to wait for on each client.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (ClientId, BorrowedFd<'_>, PollFlags)> {
        self.clients.iter().map(|(id, client)| {
            let write = if client.out.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            let read = if client.ending { PollFlags::empty() } else { PollFlags::IN };
            (*id, client.stream.as_fd(), read | write)
        })
    }

    pub(crate) fn accept(&mut self, now: Moment) {
        loop {
            let stream = match self.socket.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Out of descriptors, say: who knocks stays there, and would wake us for ever.
                Err(_) => {
                    self.rests_until = Some(now + REST);
                    return;
                }
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let mut client = Client {
                may_change: may_change(&stream),
                stream,
                lines: Lines::new(MAX_CONTROL_LINE),
                out: Vec::new(),
                ending: false,
                waits: false,
            };
            if self.clients.len() >= MAX_CONTROL_CLIENTS && !self.make_room() {
                client.say(&busy("are waiting for an answer already"));
                continue;
            }
            self.clients.insert(ClientId(self.next), client);
            self.next += 1;
        }
    }

    /// Sends away whoever has been here the longest without waiting for anything. False when all wait.
    fn make_room(&mut self) -> bool {
        let idle = self.clients.iter().find(|(_, client)| !client.waits && client.out.is_empty());
        let Some(id) = idle.map(|(id, _)| *id) else { return false };
        if let Some(mut client) = self.clients.remove(&id) {
            client.say(&busy("are here, and this one asks nothing"));
        }
        true
    }

    /// Reads what a client has written and returns its requests. What is no request is answered.
    pub(crate) fn read(&mut self, id: ClientId) -> Vec<Ask> {
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        if client.ending {
            // Nothing more is read of it, so what woke us is that it does not hear us either.
            self.clients.remove(&id);
            return Vec::new();
        }
        let mut asks = Vec::new();
        let mut buffer = [0; 4096];
        // One buffer a turn: a client that never stops writing must not keep the loop.
        match client.stream.read(&mut buffer) {
            Ok(0) => client.ending = true,
            Ok(length) => {
                for line in client.lines.push(&buffer[..length]) {
                    match understand(line, client.may_change) {
                        Ok(ask) => asks.push(ask),
                        Err(error) => client.say(&error),
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                client.ending = true;
                client.waits = false;
            }
        }
        self.sweep(id);
        asks
    }

    pub(crate) fn say(&mut self, id: ClientId, reply: &Reply) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.say(reply);
        }
        self.sweep(id);
    }

    /// Says whether a client has an answer to wait for. One that waits may have closed its own half.
    pub(crate) fn waits(&mut self, id: ClientId, waits: bool) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.waits = waits;
        }
        self.sweep(id);
    }

    /// Goes on writing to a client whose buffer was full.
    pub(crate) fn write(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.write();
        }
        self.sweep(id);
    }

    /// Forgets a client that is gone, does not read, or has its last reply.
    fn sweep(&mut self, id: ClientId) {
        let done = |client: &Client| {
            let served = client.ending && client.out.is_empty() && !client.waits;
            served || client.out.len() > MAX_CONTROL_BACKLOG
        };
        if self.clients.get(&id).is_some_and(done) {
            self.clients.remove(&id);
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        remove_unix(&self.path, self.inode);
    }
}

impl Client {
    fn say(&mut self, reply: &Reply) {
        self.out.extend(encode(reply));
        self.write();
    }

    fn write(&mut self) {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(length) => drop(self.out.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.out.clear();
                    self.ending = true;
                    self.waits = false;
                }
            }
        }
    }
}

fn busy(why: &str) -> Reply {
    let message = format!("{MAX_CONTROL_CLIENTS} clients {why}");
    Reply::Error { code: ErrorCode::Busy, message }
}

/// Whether the peer may change anything: root and our own user. Who may connect at all is said by the
/// socket's mode, which is why a member of the group may ask for the status. Under `PrivateUsers=` all
/// other users show as 65534.
fn may_change(stream: &UnixStream) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(stream);
    peer.is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid())
}

/// A request, or what is wrong with the line. Unknown fields are dropped.
fn understand(line: Line, may_change: bool) -> Result<Ask, Reply> {
    let error = |code, message: String| Err(Reply::Error { code, message });
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
            let found = found.map_or("none".to_owned(), |version| version.to_string());
            let message = format!("the request has version {found}; this is {CONTROL_VERSION}");
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
        Ok(request) if request.ask.changes() && !may_change => {
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
        let got = understand(Line::Whole(line.into()), false).map_err(|reply| match reply {
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
                if let Ok(ask) = understand(Line::Whole(line), false) {
                    prop_assert!(!ask.changes(), "{:?}", ask);
                }
            }
        }
    }
}
