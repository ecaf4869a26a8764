//! Who is at the other end of the control socket, and what that may ask.
//!
//! The socket's mode lets the group connect. It is no more than a file's mode, which a careless hand or a
//! copied folder changes, so the kernel is asked as well who has connected: socket(7), `SO_PEERCRED`, and
//! `SO_PEERGROUPS` for the groups beside the first. Under `PrivateUsers=` all users but root and our own
//! show as 65534, and groups show as they are.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::net::sockopt::socket_peercred;
use rustix::process::{getegid, geteuid};

/// Most groups that a process may have: `NGROUPS_MAX`, credentials(7).
const MAX_GROUPS: usize = 65_536;

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum May {
    /// It is neither root, nor our own user, nor of our group.
    Nothing,
    /// Ask how things are.
    Ask,
    Change,
}

/// What the peer of a connection may do. Who cannot be known may do nothing.
pub(super) fn may(stream: impl AsFd) -> May {
    let Ok(peer) = socket_peercred(&stream) else { return May::Nothing };
    if peer.uid.is_root() || peer.uid == geteuid() {
        return May::Change;
    }
    let own = getegid();
    let groups = || groups(&stream).unwrap_or_default();
    match peer.gid == own || groups().contains(&own.as_raw()) {
        true => May::Ask,
        false => May::Nothing,
    }
}

/// The peer's groups beside its first, as they were when it connected.
#[allow(unsafe_code, reason = "a socket option that neither rustix nor nix knows")]
fn groups(stream: impl AsFd) -> io::Result<Vec<libc::gid_t>> {
    let size = size_of::<libc::gid_t>();
    let mut groups: Vec<libc::gid_t> = vec![0; 32];
    loop {
        let mut length = (groups.len() * size) as libc::socklen_t;
        // SAFETY: the memory is ours and of that length, and nothing is written beyond it.
        let done = unsafe {
            libc::getsockopt(
                stream.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let error = io::Error::last_os_error();
        let needed = length as usize / size;
        match done {
            0 => {
                groups.truncate(needed);
                return Ok(groups);
            }
            // It says how many there are.
            _ if error.raw_os_error() == Some(libc::ERANGE)
                && (groups.len() + 1..=MAX_GROUPS).contains(&needed) =>
            {
                groups.resize(needed, 0);
            }
            _ => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_kernel_tells_our_own_groups() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        let mut told = groups(&one).expect("the kernel tells");
        let mut own: Vec<_> = nix::unistd::getgroups()
            .expect("ours")
            .into_iter()
            .map(|group| group.as_raw())
            .collect();
        told.sort_unstable();
        own.sort_unstable();
        assert_eq!(told, own);
        assert_eq!(may(&one), May::Change, "it is ourselves");
        assert_eq!(may(std::fs::File::open("/dev/null").expect("there")), May::Nothing);
    }
}
