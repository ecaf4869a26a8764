//! Whether there is a master, as its worker sees it.
//!
//! A master that dies may leave its end of the channel with somebody who gives it to the next one
//! (systemd's store of descriptors, a holder). So the end of the channel does not tell that it is dead,
//! and a pidfd does. Whoever lost its master serves on for a while. If the channel is still open, the next
//! master can adopt the worker through it. Once it is closed nobody can, and the worker makes room as soon
//! as a next master is there. A worker connects to nobody, so it sees that by the control socket's file,
//! which each master makes anew.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pump_control::constants::ORPHAN_LIVES;
use tokio::net::unix::pipe;
use tokio::time::{Instant, Interval};
use tracing::warn;

/// How often an orphan that nobody can adopt looks whether there is a master again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The master of a worker.
pub(super) struct Master {
    state: State,
    /// Where the next one will listen.
    control: PathBuf,
    /// The file that this one has made there.
    made: Option<Made>,
}

/// What tells a file from another one that had the same name before: number and time of its making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Made {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Made {
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::symlink_metadata(path).ok()?;
        let changed = (found.ctime(), found.ctime_nsec());
        Some(Self { device: found.dev(), inode: found.ino(), changed })
    }
}

enum State {
    /// With its pidfd, if the worker was given one. Without it, only the channel tells. Tokio has no type
    /// for it that asks for nothing `unsafe`; nothing is ever read from it, so a pipe's will do.
    Here(Option<pipe::Receiver>),
    /// Dead, and somebody may keep its end of the channel.
    Dead { until: Instant },
    /// Its end of the channel is closed.
    Gone { until: Instant, look: Interval },
}

/// What happened to the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It died. The channel may still be open.
    Died,
    /// The worker has waited long enough, or is in the way of a next master that cannot adopt it.
    LeaveNow,
}

impl Master {
    /// `pidfd` is the master's, if there is one.
    pub(super) fn new(pidfd: Option<OwnedFd>, control: PathBuf) -> Self {
        let made = Made::of(&control);
        let mut master = Self { state: State::Here(None), control, made };
        if let Some(pidfd) = pidfd {
            master.adopts(pidfd);
        }
        master
    }

    /// A new master is here.
    pub(super) fn adopts(&mut self, pidfd: OwnedFd) {
        let watched = pipe::Receiver::from_owned_fd_unchecked(pidfd);
        if let Err(error) = &watched {
            warn!("could not watch the master, the end of its channel has to do: {error}");
        }
        self.state = State::Here(watched.ok());
        self.made = Made::of(&self.control);
    }

    /// Whether a master has made its socket where ours did. It cannot bind the addresses that we hold.
    fn is_followed(control: &Path, made: Option<Made>) -> bool {
        Made::of(control).is_some_and(|found| Some(found) != made)
    }

    /// The channel has come to its end. Returns whether the worker is an orphan only since now.
    pub(super) fn closed(&mut self) -> bool {
        let fresh = matches!(self.state, State::Here(_));
        let until = match self.state {
            State::Dead { until } | State::Gone { until, .. } => until,
            State::Here(_) => Instant::now() + ORPHAN_LIVES,
        };
        // First of all a pause: the kernel may close our channel before the dead master's socket.
        let look = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        self.state = State::Gone { until, look };
        fresh
    }

    /// Whether there is still something to be heard on the channel.
    pub(super) fn may_be_heard(&self) -> bool {
        !matches!(self.state, State::Gone { .. })
    }

    /// Waits for news. Nothing is lost when this is given up.
    pub(super) async fn news(&mut self) -> News {
        match &mut self.state {
            State::Here(None) => std::future::pending().await,
            State::Here(Some(pidfd)) => {
                // It becomes readable when the process has died: pidfd_open(2).
                if let Err(error) = pidfd.readable().await {
                    warn!("could not watch the master any more: {error}");
                    self.state = State::Here(None);
                    return std::future::pending().await;
                }
                self.state = State::Dead { until: Instant::now() + ORPHAN_LIVES };
                News::Died
            }
            State::Dead { until } => {
                tokio::time::sleep_until(*until).await;
                News::LeaveNow
            }
            State::Gone { until, look } => {
                while Instant::now() < *until {
                    look.tick().await;
                    if Self::is_followed(&self.control, self.made) {
                        break;
                    }
                }
                News::LeaveNow
            }
        }
    }
}
