//! The listening sockets: taken from systemd, or bound here. Workers inherit them.
//!
//! A socket is shared by inheritance, never by `SO_REUSEPORT`: there is one queue, and no process can
//! take connections with it when it ends. That is also why nothing here ever calls shutdown(2).

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::net::SocketAddrAny;

use super::carried::{CarriedListening, StateError};
use crate::config::Address;

/// Connections that may wait to be accepted, on each address. The kernel's own limit
/// (`net.core.somaxconn`) may be lower.
const BACKLOG: i32 = 4096;

/// How long the workers of a master that was killed may take to let go of an address.
const LET_GO_WITHIN: Duration = Duration::from_secs(5);

/// How often a held address is tried. Until it is bound again, clients are refused.
const TRY_EVERY: Duration = Duration::from_millis(5);

/// Who may connect to a unix socket: the daemon's user and group. A proxy is put into the group.
const UNIX_MODE: u32 = 0o660;

/// A socket that workers accept on.
pub(crate) struct Listening {
    pub(crate) socket: OwnedFd,
    /// As the configuration writes it.
    pub(crate) wanted: Address,
    /// The true address: a port 0 of the configuration has become a number.
    pub(crate) address: Address,
    /// Never used again, so that a keeper can tell it from one that had the same address.
    number: u64,
    /// It is systemd's, which listens on it for as long as the socket unit is there.
    passed: bool,
    /// A socket file that we made and that goes with us, by its inode.
    file: Option<(PathBuf, u64)>,
}

/// All sockets that there are. A generation is told of those that its configuration has.
#[derive(Default)]
pub(crate) struct Listeners {
    list: Vec<Listening>,
    /// Sockets of systemd that no generation wants.
    spare: Vec<(Address, OwnedFd)>,
    next: u64,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("`{address}` is in use by another program")]
    InUse { address: Address },
    #[error("could not listen on `{address}`")]
    Other { address: Address, source: io::Error },
}

impl Listeners {
    /// Takes what systemd passed and binds what is left of `wanted`.
    ///
    /// With `orphans`, an address in use may be held by workers of a master that was killed. They let go
    /// of it when they see that there is a master again.
    pub(crate) fn begin(
        wanted: &[Address],
        passed: Vec<OwnedFd>,
        orphans: bool,
    ) -> Result<Self, ListenError> {
        let mut listeners = Self::default();
        listeners.passed(passed);
        let until = Instant::now() + if orphans { LET_GO_WITHIN } else { Duration::ZERO };
        listeners.have(wanted, until)?;
        Ok(listeners)
    }

    /// Takes what systemd passed. It is matched by address: the name that systemd gives is the unit's,
    /// the same for all.
    fn passed(&mut self, sockets: Vec<OwnedFd>) {
        for socket in sockets {
            if let Some(address) = address_of(&socket) {
                self.spare.push((address, socket));
            }
        }
    }

    /// Sees to it that all of these are listened on. Nothing has changed when that cannot be.
    pub(crate) fn add(&mut self, wanted: &[Address]) -> Result<(), ListenError> {
        self.have(wanted, Instant::now())
    }

    fn have(&mut self, wanted: &[Address], until: Instant) -> Result<(), ListenError> {
        let before = self.list.len();
        for address in wanted {
            if self.list.iter().any(|known| known.wanted == *address) {
                continue;
            }
            match self.one(address, until) {
                Ok(listening) => self.list.push(listening),
                Err(error) => {
                    self.give_up(|place, _| place >= before);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn one(&mut self, address: &Address, until: Instant) -> Result<Listening, ListenError> {
        let passed = self.spare.iter().position(|(known, _)| known == address);
        let mut listening = match passed {
            Some(index) => {
                prepare(&self.spare[index].1).map_err(|source| other(address, source))?;
                let (_, socket) = self.spare.swap_remove(index);
                let (wanted, address) = (address.clone(), address.clone());
                Listening { socket, wanted, address, number: 0, passed: true, file: None }
            }
            None => bind_patiently(address, until)?,
        };
        listening.number = self.next;
        self.next += 1;
        Ok(listening)
    }

    /// Lets go of what nobody wants any more. The socket unit goes on listening on what is its own.
    pub(crate) fn keep_only(&mut self, wanted: &[Address]) {
        self.give_up(|_, listening| !wanted.contains(&listening.wanted));
    }

    fn give_up(&mut self, goes: impl Fn(usize, &Listening) -> bool) {
        let list = std::mem::take(&mut self.list);
        for (place, mut listening) in list.into_iter().enumerate() {
            if !goes(place, &listening) {
                self.list.push(listening);
            } else if listening.passed
                && let Ok(socket) = listening.socket.try_clone()
            {
                listening.file = None;
                self.spare.push((listening.address.clone(), socket));
            }
        }
    }

    /// Those of a configuration.
    pub(crate) fn of(&self, wanted: &[Address]) -> Vec<&Listening> {
        self.list.iter().filter(|listening| wanted.contains(&listening.wanted)).collect()
    }

    pub(crate) fn all(&self) -> &[Listening] {
        &self.list
    }

    /// Addresses on which systemd listens and nobody answers.
    pub(crate) fn in_vain(&self) -> impl Iterator<Item = &Address> {
        self.spare.iter().map(|(address, _)| address)
    }

    /// What another master needs to know of them.
    pub(crate) fn carried(&self) -> Vec<CarriedListening> {
        let carried = |listening: &Listening| CarriedListening {
            number: listening.number,
            wanted: listening.wanted.to_string(),
            address: listening.address.to_string(),
            inode: listening.file.as_ref().map(|(_, inode)| *inode),
            passed: listening.passed,
        };
        self.list.iter().map(carried).collect()
    }

    /// Sockets with the names that they are carried by: with those of systemd, or without.
    pub(crate) fn named(&self, passed: bool) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        let wanted = move |listening: &&Listening| passed || !listening.passed;
        let used = self.list.iter().filter(wanted);
        // systemd gives them to this process once.
        let spare = self.spare.iter().filter(move |_| passed).enumerate();
        used.map(|listening| (name(listening.number), listening.socket.as_fd()))
            .chain(spare.map(|(place, (_, socket))| (spare_name(place), socket.as_fd())))
    }

    /// Takes over what another master had. What came from systemd may come by its name or, from a new
    /// start of the service, among the sockets that were passed.
    pub(crate) fn taken(
        carried: &[CarriedListening],
        passed: Vec<OwnedFd>,
        mut take: impl FnMut(&str) -> Option<OwnedFd>,
    ) -> Result<Self, StateError> {
        let mut listeners = Self::default();
        listeners.passed(passed);
        listeners.passed((0..).map_while(|place| take(&spare_name(place))).collect());
        for one in carried {
            let missing = || StateError::Missing(name(one.number));
            let parse = |text: &str| text.parse::<Address>().map_err(|_| missing());
            let (wanted, address) = (parse(&one.wanted)?, parse(&one.address)?);
            let socket = match take(&name(one.number)) {
                Some(socket) => socket,
                None => {
                    let place = listeners.spare.iter().position(|(known, _)| *known == address);
                    listeners.spare.swap_remove(place.ok_or_else(missing)?).1
                }
            };
            // A keeper may have changed what workers count on.
            prepare(&socket)?;
            // Another master's, until `own`.
            let (number, passed, file) = (one.number, one.passed, None);
            listeners.next = listeners.next.max(number + 1);
            listeners.list.push(Listening { socket, wanted, address, number, passed, file });
        }
        Ok(listeners)
    }

    /// From now on the socket files are ours to remove.
    pub(crate) fn own(&mut self, carried: &[CarriedListening]) {
        for listening in &mut self.list {
            let one = carried.iter().find(|one| one.number == listening.number);
            let inode = one.and_then(|one| one.inode);
            if let (Address::Unix(path), Some(inode)) = (&listening.address, inode) {
                listening.file = Some((path.clone(), inode));
            }
        }
    }
}

fn name(number: u64) -> String {
    format!("listen-{number}")
}

fn spare_name(place: usize) -> String {
    format!("spare-{place}")
}

fn other(address: &Address, source: io::Error) -> ListenError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address: address.clone() },
        _ => ListenError::Other { address: address.clone(), source },
    }
}

fn bind_patiently(address: &Address, until: Instant) -> Result<Listening, ListenError> {
    loop {
        match bind(address) {
            Err(ListenError::InUse { .. }) if Instant::now() < until => {
                // Nothing announces it, and nothing else is there to be done.
                std::thread::park_timeout(TRY_EVERY);
            }
            bound => return bound,
        }
    }
}

fn bind(address: &Address) -> Result<Listening, ListenError> {
    match address {
        Address::Tcp(wanted) => {
            let socket = TcpListener::bind(wanted).map_err(|source| other(address, source))?;
            let actual = socket.local_addr().map_err(|source| other(address, source))?;
            let socket = OwnedFd::from(socket);
            prepare(&socket).map_err(|source| other(address, source))?;
            let (wanted, address) = (address.clone(), Address::Tcp(actual));
            Ok(Listening { socket, wanted, address, number: 0, passed: false, file: None })
        }
        Address::Unix(path) => {
            let bound = bind_unix(path, UNIX_MODE).map_err(|source| other(address, source))?;
            let socket = OwnedFd::from(bound.socket);
            prepare(&socket).map_err(|source| other(address, source))?;
            let file = Some((path.clone(), bound.inode));
            let (wanted, address) = (address.clone(), address.clone());
            Ok(Listening { socket, wanted, address, number: 0, passed: false, file })
        }
    }
}

/// A unix socket that was bound.
pub(crate) struct Bound {
    pub(crate) socket: UnixListener,
    pub(crate) inode: u64,
    /// Whether a file was in its place that nobody listened on any more.
    pub(crate) left_over: bool,
}

/// Binds a unix socket, over a file that nobody listens on any more.
pub(crate) fn bind_unix(path: &Path, mode: u32) -> io::Result<Bound> {
    let mut left_over = false;
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file is in its place"));
        }
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)?;
                left_over = true;
            }
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) => return Err(error),
        }
    }
    let socket = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(Bound { socket, inode: fs::symlink_metadata(path)?.ino(), left_over })
}

/// Removes a socket file if it is still the one we made.
pub(crate) fn remove_unix(path: &Path, inode: u64) {
    if fs::symlink_metadata(path).is_ok_and(|found| found.ino() == inode) {
        // Gone in this very moment is as good as removed.
        let _ = fs::remove_file(path);
    }
}

fn prepare(socket: &OwnedFd) -> io::Result<()> {
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
    // Several workers wake for one connection, and only one gets it.
    let flags = rustix::fs::fcntl_getfl(socket)?;
    rustix::fs::fcntl_setfl(socket, flags | OFlags::NONBLOCK)?;
    rustix::net::listen(socket, BACKLOG)?;
    Ok(())
}

fn address_of(socket: &OwnedFd) -> Option<Address> {
    let found: SocketAddrAny = rustix::net::getsockname(socket.as_fd()).ok()?;
    if let Ok(address) = std::net::SocketAddr::try_from(found.clone()) {
        return Some(Address::Tcp(address));
    }
    let unix = rustix::net::SocketAddrUnix::try_from(found).ok()?;
    let path = unix.path()?.to_string_lossy().into_owned();
    Some(Address::Unix(PathBuf::from(path)))
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some((path, inode)) = &self.file {
            remove_unix(path, *inode);
        }
    }
}
