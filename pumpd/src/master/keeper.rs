//! Who keeps descriptors for a master that dies: systemd's file descriptor store, or `pumpd hold`.
//!
//! What has a name is sent once (`FDSTORE=1`, `sd_pid_notify_with_fds(3)`) and taken back when it is
//! no longer needed (`FDSTOREREMOVE=1`), so that entries do not pile up. Names are never used again, so
//! two lists of names are all that has to be compared. The state itself is one of the descriptors: a
//! new memfd for each change, and the old one goes only when the new one is there.
//!
//! systemd polls what it keeps and drops what has hung up, which the channel of a dead worker has;
//! `FDPOLL=0` leaves that to us. It refuses `O_PATH` descriptors, so all of ours are readable.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use pump_control::constants::KEPT_PREFIX;
use serde::{Deserialize, Serialize};

use super::notify::Notify;
use crate::inherit::{FIRST_PASSED, Inherited, MOST_PASSED};

/// The names of what is kept for us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    names: BTreeSet<String>,
    /// The number of the last state that was given away.
    state: u64,
}

/// Descriptors that were kept for us, by name, and those that have none of ours: the sockets of the
/// socket unit.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    pub(crate) sockets: Vec<OwnedFd>,
    pub(crate) kept: BTreeMap<String, OwnedFd>,
}

impl Kept {
    /// Makes what is kept equal to `descriptors` and `state`. What cannot be sent now is sent with the
    /// next change, and so is all that would follow: no state may speak of what is not kept, and a keeper
    /// that does not listen shall hold us up once and not for each descriptor. False then.
    pub(crate) fn bring_up_to_date(
        &mut self,
        notify: &Notify,
        descriptors: &[(String, BorrowedFd<'_>)],
        state: BorrowedFd<'_>,
    ) -> bool {
        for (name, descriptor) in descriptors {
            if self.names.contains(name) {
                continue;
            }
            if !notify.store(&full(name), *descriptor) {
                return false;
            }
            self.names.insert(name.clone());
        }
        // After the descriptors that it speaks of, and before those go that it no longer speaks of.
        let last = state_name(self.state);
        if !notify.store(&full(&state_name(self.state + 1)), state) {
            return false;
        }
        self.state += 1;
        self.names.insert(state_name(self.state));
        self.remove(notify, &last);
        let current: BTreeSet<&str> = descriptors.iter().map(|(name, _)| name.as_str()).collect();
        let gone = |name: &&String| !current.contains(name.as_str()) && !is_state(name);
        let gone: Vec<String> = self.names.iter().filter(gone).cloned().collect();
        for name in gone {
            self.remove(notify, &name);
        }
        true
    }

    /// Nobody is to find anything.
    pub(crate) fn clear(&mut self, notify: &Notify) {
        for name in std::mem::take(&mut self.names) {
            notify.forget(&full(&name));
        }
    }

    fn remove(&mut self, notify: &Notify, name: &str) {
        if self.names.remove(name) {
            notify.forget(&full(name));
        }
    }
}

impl Passed {
    /// From `LISTEN_FDS`, `LISTEN_FDNAMES` and `LISTEN_PID` (`sd_listen_fds_with_names(3)`), or from
    /// the numbers and names that `pumpd hold` passes in `PUMP_KEPT`.
    pub(crate) fn take(
        inherited: &mut Inherited,
        get: impl Fn(&str) -> Option<OsString>,
    ) -> io::Result<Self> {
        let text = |name: &str| get(name).and_then(|value| value.into_string().ok());
        let number = |name: &str| text(name)?.parse::<i32>().ok();
        let mut passed = Self::default();
        if let Some(kept) = text("PUMP_KEPT") {
            for one in kept.split(',').filter(|one| !one.is_empty()) {
                let Some((number, name)) = one.split_once(':') else { continue };
                if let Ok(number) = number.parse() {
                    passed.put(name, inherited.take(number)?);
                }
            }
        }
        if number("LISTEN_PID") == i32::try_from(std::process::id()).ok() {
            let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, MOST_PASSED);
            let names = text("LISTEN_FDNAMES").unwrap_or_default();
            let mut names = names.split(':');
            for number in FIRST_PASSED..FIRST_PASSED + count {
                passed.put(names.next().unwrap_or_default(), inherited.take(number)?);
            }
        }
        Ok(passed)
    }

    fn put(&mut self, name: &str, descriptor: OwnedFd) {
        match name.strip_prefix(KEPT_PREFIX) {
            Some(name) => drop(self.kept.insert(name.to_owned(), descriptor)),
            None => self.sockets.push(descriptor),
        }
    }

    /// The states among what was kept, the newest first. There are two if the last master died between
    /// giving one and taking the other back.
    pub(crate) fn states(&self) -> Vec<&OwnedFd> {
        let number = |name: &String| name.strip_prefix(STATE)?.parse::<u64>().ok();
        let mut states: Vec<(u64, &OwnedFd)> =
            self.kept.iter().filter_map(|(name, fd)| Some((number(name)?, fd))).collect();
        states.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        states.into_iter().map(|(_, fd)| fd).collect()
    }

    /// All names, so that the next change removes what is not needed any more.
    pub(crate) fn names(&self) -> Kept {
        let names: BTreeSet<String> = self.kept.keys().cloned().collect();
        let state = names.iter().filter_map(|name| name.strip_prefix(STATE)?.parse().ok()).max();
        Kept { names, state: state.unwrap_or(0) }
    }
}

const STATE: &str = "state-";

fn state_name(number: u64) -> String {
    format!("{STATE}{number}")
}

fn is_state(name: &str) -> bool {
    name.starts_with(STATE)
}

/// The name with its prefix: the socket unit's sockets have the unit's name.
fn full(name: &str) -> String {
    format!("{KEPT_PREFIX}{name}")
}
