//! The listening sockets: taken from systemd, or bound here. Workers inherit them.
//!
//! A socket is shared by inheritance, never by `SO_REUSEPORT`: there is one queue, and no process can
//! take connections with it when it ends. That is also why nothing here ever calls shutdown(2).

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::net::SocketAddrAny;

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
    /// The true address: a port 0 of the configuration has become a number.
    pub(crate) address: Address,
    /// A socket file that we made and that goes with us, by its inode.
    file: Option<(PathBuf, u64)>,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("`{address}` is in use by another program")]
    InUse { address: Address },
    #[error("could not listen on `{address}`")]
    Other { address: Address, source: io::Error },
}

/// Takes what systemd passed and binds what is left. Returns what systemd passed in vain, too.
///
/// With `orphans`, an address in use may be held by workers of a master that was killed. They let go
/// of it when they see that there is a master again.
pub(crate) fn listen(
    wanted: &[Address],
    passed: Vec<OwnedFd>,
    orphans: bool,
) -> Result<(Vec<Listening>, Vec<Address>), ListenError> {
    let mut passed: Vec<(Address, OwnedFd)> =
        passed.into_iter().filter_map(|socket| Some((address_of(&socket)?, socket))).collect();
    let until = Instant::now() + if orphans { LET_GO_WITHIN } else { Duration::ZERO };
    let mut listening = Vec::new();
    for address in wanted {
        let socket = match passed.iter().position(|(known, _)| known == address) {
            // Matched by address: the name that systemd gives is the unit's, the same for all.
            Some(index) => {
                let socket = passed.swap_remove(index).1;
                prepare(&socket).map_err(|source| other(address, source))?;
                Listening { socket, address: address.clone(), file: None }
            }
            None => bind_patiently(address, until)?,
        };
        listening.push(socket);
    }
    Ok((listening, passed.into_iter().map(|(address, _)| address).collect()))
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
            Ok(Listening { socket, address: Address::Tcp(actual), file: None })
        }
        Address::Unix(path) => {
            let bound = bind_unix(path, UNIX_MODE).map_err(|source| other(address, source))?;
            let socket = OwnedFd::from(bound.socket);
            prepare(&socket).map_err(|source| other(address, source))?;
            let file = Some((path.clone(), bound.inode));
            Ok(Listening { socket, address: address.clone(), file })
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
