//! Signals in, events out.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What the master is asked for by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGTERM, SIGINT: drain and end.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR2: a rolling restart.
    Restart,
}

/// The signals that the master listens to, as a descriptor.
pub(crate) struct Signals {
    descriptor: SignalFd,
}

impl Signals {
    /// Blocks the signals and takes them from a descriptor instead. Called first of all, before a
    /// second thread or a child could miss it.
    pub(crate) fn take() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2] {
            set.add(signal);
        }
        // Set and not only added to: who comes back out of a signal handler begins with that signal
        // blocked.
        set.thread_set_mask()?;
        let descriptor =
            SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { descriptor })
    }

    /// What has come in since the last call.
    pub(crate) fn read(&self) -> Vec<Asked> {
        let mut asked = Vec::new();
        while let Ok(Some(info)) = self.descriptor.read_signal() {
            asked.push(match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGHUP) => Asked::Reload,
                Ok(Signal::SIGUSR2) => Asked::Restart,
                _ => Asked::Stop,
            });
        }
        asked
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
