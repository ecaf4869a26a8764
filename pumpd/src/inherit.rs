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

/// The descriptors of socket activation, `sd_listen_fds(3)`: from 3 on, `LISTEN_FDS` of them, when
/// `LISTEN_PID` is this process.
pub(crate) fn from_systemd(
    inherited: &mut Inherited,
    get: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> io::Result<Vec<OwnedFd>> {
    const FIRST: RawFd = 3;
    /// More than any unit has.
    const MOST: RawFd = 1024;
    let number = |name| get(name)?.to_str()?.parse::<RawFd>().ok();
    if number("LISTEN_PID") != i32::try_from(std::process::id()).ok() {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, MOST);
    (FIRST..FIRST + count).map(|number| inherited.take(number)).collect()
}

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

    #[test]
    fn systemd_means_only_the_process_it_names() {
        let mut inherited = Inherited::at_start();
        let other = |name: &str| Some(if name == "LISTEN_PID" { "1" } else { "3" }.into());
        assert_eq!(from_systemd(&mut inherited, other).expect("not for us").len(), 0);
    }
}
