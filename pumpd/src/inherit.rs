//! What this process was born with: descriptors, and what was decided for it about signals.
//!
//! The one place that turns numbers into owned descriptors. A number is believed only while it names
//! an open descriptor, and each is taken once: [`Inherited`] is made once, by `main`.
#![allow(unsafe_code, reason = "what was inherited has a number and no owner")]

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::signal::{SigHandler, Signal, signal};
use rustix::io::FdFlags;

/// The right to take inherited descriptors.
pub(crate) struct Inherited {
    taken: BTreeSet<RawFd>,
}

impl Inherited {
    /// To be made once, at the beginning of `main`, before anything else is opened.
    pub(crate) fn at_start() -> Self {
        // Ignored by a parent, it would stay ignored, and nobody could learn how a child ended: wait(2).
        // SAFETY: the default has no handler that could run.
        let defaulted = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
        debug_assert!(defaulted.is_ok(), "SIGCHLD may be set");
        // The standard streams have their owner in the standard library.
        Self { taken: BTreeSet::from([0, 1, 2]) }
    }

    /// Takes an inherited descriptor and keeps it from being inherited further.
    ///
    /// # Errors
    /// When there is no such descriptor, or it was taken before.
    pub(crate) fn take(&mut self, number: RawFd) -> io::Result<OwnedFd> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no such inherited descriptor");
        if number < 0 || !self.taken.insert(number) {
            return Err(missing());
        }
        // SAFETY: the borrow lives for this one call, in which nothing closes a descriptor, and the
        // call reports a number that is not open.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC).map_err(|_| missing())?;
        // SAFETY: it is open, as the call above has shown; the parent passed it for us to own; and
        // it was not taken before.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }
}

impl Inherited {
    /// A copy of an inherited descriptor, which stays where it is for whoever this process may have to
    /// become again.
    ///
    /// # Errors
    /// When there is no such descriptor, or no room for another one.
    pub(crate) fn copy(&self, number: RawFd) -> io::Result<OwnedFd> {
        if number < 0 || self.taken.contains(&number) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such inherited descriptor"));
        }
        // SAFETY: the borrow lives for this one call, which reports a number that is not open.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        Ok(rustix::io::fcntl_dupfd_cloexec(borrowed, FIRST_PASSED)?)
    }
}

/// The number of the first descriptor that systemd passes: `SD_LISTEN_FDS_START` of `sd_listen_fds(3)`.
pub(crate) const FIRST_PASSED: RawFd = 3;

/// More than any unit has sockets and any cluster has descriptors in the store.
pub(crate) const MOST_PASSED: RawFd = 8192;

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use super::*;

    #[test]
    fn a_descriptor_is_taken_once_and_only_if_it_is_there() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
        let number = one.into_raw_fd();
        let mut inherited = Inherited::at_start();
        let taken = inherited.take(number).expect("it is open and was not taken");
        assert!(inherited.take(number).is_err(), "taken twice");
        assert!(inherited.take(-1).is_err());
        assert!(inherited.take(1).is_err(), "standard output has an owner");
        assert!(inherited.take(1_000_000).is_err(), "never opened");
        drop(taken);
    }
}
