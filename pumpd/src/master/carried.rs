//! The state of a master as the next one gets it: over an exec, or from a keeper after a death.
//!
//! It is JSON in a sealed memfd. Every field has a default and unknown ones are dropped, so builds that
//! differ can read each other's; `MAGIC` says when they cannot. Descriptors are spoken of by name. Over
//! an exec the state has their numbers, from a keeper they come with their names.
//!
//! What is in here are types of their own; the loop's are not `Serialize`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use pump_control::Checked;
use pump_control::constants::{ACCEPTS, MAGIC, MAX_STATE};
use pump_control::control::Build;
use pump_release::ReleaseInfo;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::{Deserialize, Serialize};

use super::cluster::CarriedCluster;
use super::control::Head;
use super::keeper::Kept;
use super::metrics::Totals;
use super::rolls::CarriedRolls;

/// All of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Carried {
    /// What the writer speaks, and beside whom it can run.
    pub(crate) magic: u32,
    pub(crate) accepts: Vec<u32>,
    /// The writer's build.
    pub(crate) own: Build,
    /// What the writer was started by.
    pub(crate) program: PathBuf,
    /// Milliseconds since the first master of this line was started.
    pub(crate) age: u64,
    pub(crate) announced_ready: bool,
    pub(crate) notes: Vec<String>,
    pub(crate) cluster: CarriedCluster,
    pub(crate) generations: Vec<CarriedGeneration>,
    pub(crate) workers: Vec<CarriedWorker>,
    pub(crate) listening: Vec<CarriedListening>,
    pub(crate) kept: Kept,
    /// The writer was about to become this build, with this roll. If it is found by a master that was
    /// started anew, that build has ended by itself.
    pub(crate) becoming: bool,
    /// The latch could not be written down and is nowhere but here.
    pub(crate) latch_unwritten: bool,
    pub(crate) rolls: CarriedRolls,
    pub(crate) totals: Totals,
    /// Over an exec only: what is in nobody's store.
    pub(crate) exec: Option<CarriedExec>,
}

/// What is carried over an exec and dies with a master that is killed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CarriedExec {
    /// Where each descriptor is.
    pub(crate) numbers: BTreeMap<String, i32>,
    /// The build that is to be the master.
    pub(crate) next: Build,
    pub(crate) roll: u64,
    pub(crate) clients: Vec<CarriedClient>,
    pub(crate) control_inode: u64,
}

/// A build with its configuration. Its descriptor is `build-ID`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CarriedGeneration {
    pub(crate) id: u64,
    pub(crate) path: PathBuf,
    pub(crate) config: String,
    pub(crate) info: Option<ReleaseInfo>,
    pub(crate) checked: Option<Checked>,
}

/// A worker's process. Its descriptors are `channel-ID`, `log-ID` and `pid-ID`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CarriedWorker {
    pub(crate) id: u64,
    pub(crate) generation: u64,
    pub(crate) pid: u32,
    /// Over an exec: what was read of an unfinished line, and what could not be written yet.
    pub(crate) heard: Vec<u8>,
    pub(crate) unsaid: Vec<u8>,
    pub(crate) logged: Vec<u8>,
    /// The worker that takes its connections, once it was asked to leave.
    pub(crate) successor: Option<u64>,
}

/// A listening socket. Its descriptor is `listen-NUMBER`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CarriedListening {
    pub(crate) number: u64,
    pub(crate) wanted: String,
    pub(crate) address: String,
    /// The inode of a socket file that goes with it.
    pub(crate) inode: Option<u64>,
    /// It came from systemd, which passes it again.
    pub(crate) passed: bool,
}

/// A client of the control socket. Its descriptor is `client-ID`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CarriedClient {
    pub(crate) id: u64,
    pub(crate) heard: Vec<u8>,
    pub(crate) unsaid: Vec<u8>,
    pub(crate) may_change: bool,
    pub(crate) ending: bool,
    /// Answers that it waits for.
    pub(crate) awaited: u32,
    /// It has said something.
    pub(crate) spoke: bool,
    /// It speaks HTTP, and so much of its request was read.
    pub(crate) head: Option<Head>,
    /// It is neither root nor of our group, and is told so whatever it asks.
    pub(crate) may_not_ask: bool,
}

/// Why a state is not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("it could not be read")]
    Io(#[from] io::Error),
    #[error("it has {0} bytes, and at most {MAX_STATE} are read")]
    TooLarge(u64),
    #[error("it is not the state of a master")]
    NoState(#[from] serde_json::Error),
    #[error("it is of a master that speaks magic {found}, and this one speaks {MAGIC}")]
    Magic { found: u32 },
    #[error("the descriptor `{0}` is missing")]
    Missing(String),
    #[error("{0}")]
    Other(String),
}

impl Carried {
    /// Writes it into a memfd that nobody can change any more.
    pub(crate) fn seal(&self) -> io::Result<OwnedFd> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("pumpd-state", flags)?);
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        file.write_all(&text)?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        fcntl_add_seals(file.as_fd(), seals)?;
        Ok(file.into())
    }

    /// Reads what [`Self::seal`] wrote.
    pub(crate) fn read(state: &OwnedFd) -> Result<Self, StateError> {
        let mut file = File::from(state.try_clone()?);
        let length = file.metadata()?.len();
        if length > MAX_STATE {
            return Err(StateError::TooLarge(length));
        }
        file.seek(SeekFrom::Start(0))?;
        let mut text = Vec::new();
        file.take(MAX_STATE).read_to_end(&mut text)?;
        Self::parse(&text)
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, StateError> {
        let state: Self = serde_json::from_slice(text)?;
        if !state.cluster.is_counted() {
            return Err(StateError::Other("its numbers are of no cluster".to_owned()));
        }
        let follows = state.magic == MAGIC
            || ACCEPTS.contains(&state.magic)
            || state.accepts.contains(&MAGIC);
        if !follows {
            return Err(StateError::Magic { found: state.magic });
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written_and_nobody_can_change_it() {
        let written = Carried { magic: MAGIC, age: 7, ..Carried::default() };
        let sealed = written.seal().expect("there is memory");
        assert_eq!(Carried::read(&sealed).expect("our own").age, 7);
        let mut file = File::from(sealed);
        assert!(file.write_all(b"x").is_err(), "sealed");
    }

    #[test]
    fn what_is_missing_has_a_default_and_what_is_not_known_is_dropped() {
        let text = format!("{{\"magic\":{MAGIC},\"later\":[1],\"workers\":[{{\"id\":3}}]}}");
        let state = Carried::parse(text.as_bytes()).expect("of a later build");
        assert_eq!(state.workers[0].id, 3);
        assert_eq!(state.workers[0].pid, 0);
    }

    #[test]
    fn a_state_of_another_magic_is_not_taken_over() {
        let refused = Carried::parse(br#"{"magic":77}"#);
        assert!(matches!(refused, Err(StateError::Magic { found: 77 })), "{refused:?}");
        assert!(Carried::parse(br#"{"magic":77,"accepts":[2]}"#).is_ok() == (MAGIC == 2));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Carried::parse(&bytes);
        }
    }
}
