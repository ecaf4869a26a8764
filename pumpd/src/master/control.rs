//! The control socket: who is connected to it, and who makes room for whom.
//!
//! Knows nothing of the cluster. It turns bytes into requests for the loop, and replies into bytes;
//! a client that floods, stalls or talks nonsense costs no more than the limits in `constants`. `client`
//! has their lines and who may ask what, `http` the one request that a scraper may make instead.

mod client;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod http;
mod peer;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pump_control::constants::MAX_CONTROL_CLIENTS;
use pump_control::control::{Ask, Reply};
use rustix::event::PollFlags;

use client::{Client, busy};
pub(crate) use http::Head;

use super::carried::CarriedClient;
use super::cluster::Moment;
use super::listen::{bind_unix, remove_unix};

/// The socket's mode: the group may connect, and so may ask for the status.
const MODE: u32 = 0o660;

/// A pause after nobody could be accepted.
const REST: Duration = Duration::from_millis(500);

/// A client's number, never used again by this master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(pub(crate) u64);

/// The control socket and its clients.
pub(crate) struct Control {
    socket: UnixListener,
    path: PathBuf,
    /// None while the file is another master's.
    inode: Option<u64>,
    /// Whether the last master left its socket behind, and so perhaps its workers.
    pub(crate) last_was_killed: bool,
    clients: BTreeMap<ClientId, Client>,
    next: u64,
    /// Nobody is accepted before then: the machine was out of descriptors.
    rests_until: Option<Moment>,
}

impl Control {
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let bound = bind_unix(path, MODE)?;
        bound.socket.set_nonblocking(true)?;
        Ok(Self {
            socket: bound.socket,
            path: path.to_owned(),
            inode: Some(bound.inode),
            last_was_killed: bound.left_over,
            clients: BTreeMap::new(),
            next: 1,
            rests_until: None,
        })
    }

    /// The socket and the clients that this process had before it became another build. The socket file
    /// is left alone until [`Self::own`].
    pub(crate) fn taken(
        path: &Path,
        socket: OwnedFd,
        carried: &[CarriedClient],
        mut take: impl FnMut(&str) -> Option<OwnedFd>,
    ) -> Self {
        let client = |one: &CarriedClient| {
            Some((ClientId(one.id), Client::taken(one, take(&client_name(one.id))?)))
        };
        let clients: BTreeMap<ClientId, Client> = carried.iter().filter_map(client).collect();
        let next = clients.keys().next_back().map_or(1, |last| last.0 + 1);
        Self {
            socket: UnixListener::from(socket),
            path: path.to_owned(),
            inode: None,
            last_was_killed: false,
            clients,
            next,
            rests_until: None,
        }
    }

    /// From now on the socket file is ours to remove.
    pub(crate) fn own(&mut self, inode: u64) {
        self.inode = Some(inode);
    }

    pub(crate) fn inode(&self) -> u64 {
        self.inode.unwrap_or(0)
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The clients' sockets with the names that they are carried by.
    pub(crate) fn client_descriptors(&self) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        self.clients.iter().map(|(id, client)| (client_name(id.0), client.stream()))
    }

    /// What another master needs to know of the clients.
    pub(crate) fn carried_clients(&self) -> Vec<CarriedClient> {
        self.clients.iter().map(|(id, client)| client.carried(id.0)).collect()
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
            let write = if client.is_behind() { PollFlags::OUT } else { PollFlags::empty() };
            let read = if client.is_heard() { PollFlags::IN } else { PollFlags::empty() };
            (*id, client.stream(), read | write)
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
            let mut client = Client::new(stream);
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
        let idle = self.clients.iter().find(|(_, client)| client.is_idle());
        let Some(id) = idle.map(|(id, _)| *id) else { return false };
        if let Some(mut client) = self.clients.remove(&id) {
            client.say(&busy("are here, and this one asks nothing"));
        }
        true
    }

    /// Reads what a client has written and returns its requests, each of which gets one
    /// [`Self::answer`]. What is no request is answered here.
    pub(crate) fn read(&mut self, id: ClientId) -> Vec<Ask> {
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        if client.is_ending() {
            // Nothing more is read of it, so what woke us is that it does not hear us either.
            self.clients.remove(&id);
            return Vec::new();
        }
        let asks = client.read();
        self.sweep(id);
        asks
    }

    /// The last reply to a request. A client may have closed its own half before it.
    pub(crate) fn answer(&mut self, id: ClientId, reply: &Reply) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.has_heard();
        }
        self.say(id, reply);
    }

    /// A reply that others follow.
    pub(crate) fn say(&mut self, id: ClientId, reply: &Reply) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.say(reply);
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
        if self.clients.get(&id).is_some_and(Client::is_done) {
            self.clients.remove(&id);
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(inode) = self.inode {
            remove_unix(&self.path, inode);
        }
    }
}

fn client_name(id: u64) -> String {
    format!("client-{id}")
}
