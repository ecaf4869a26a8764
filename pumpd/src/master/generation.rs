//! A build and the configuration it was validated with, pinned.
//!
//! The build is an open descriptor, so it can be started again when its file is gone. The
//! configuration is its text: a respawn never reads the file again, so a typo, or a key of the next
//! release, cannot take a running generation down.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pump_control::constants::{MAX_CANARY, MAX_PARALLEL};
use pump_control::{Checked, control};
use pump_release::ReleaseInfo;
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use crate::config::Address;

use super::carried::CarriedGeneration;
use super::cluster::{GenerationId, Key, Settings};

/// What workers are started from.
pub(crate) struct Generation {
    program: File,
    /// Its length and when it was last written into, as it was pinned.
    written: Option<(u64, SystemTime)>,
    /// Where the build was found. The file may be gone since.
    pub(crate) path: PathBuf,
    pub(crate) config: String,
    /// What the build says of itself and of the configuration, once it was asked.
    pub(crate) inspected: Option<Inspected>,
}

/// What `release-info` and `check` of a build said.
#[derive(Clone, Debug)]
pub(crate) struct Inspected {
    pub(crate) info: ReleaseInfo,
    pub(crate) checked: Checked,
}

impl Generation {
    /// Pins the build at `path`.
    pub(crate) fn open(path: &Path, config: String) -> io::Result<Self> {
        let path = std::fs::canonicalize(path)?;
        // Anybody who may ask for a roll may name a pipe, and to open one waits for its writer.
        let program =
            File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(&path)?;
        if !program.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        let written = written(&program);
        Ok(Self { program, written, path, config, inspected: None })
    }

    /// Pins the build that is running here. `path` is what it was started by.
    pub(crate) fn own(path: &Path, config: String) -> io::Result<Self> {
        let program = File::open("/proc/self/exe")?;
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let written = written(&program);
        Ok(Self { program, written, path, config, inspected: None })
    }

    /// A build that another master has pinned.
    pub(crate) fn taken(carried: CarriedGeneration, program: OwnedFd) -> Self {
        let inspected = match (carried.info, carried.checked) {
            (Some(info), Some(checked)) => Some(Inspected { info, checked }),
            _ => None,
        };
        let program = File::from(program);
        let written = written(&program);
        Self { program, written, path: carried.path, config: carried.config, inspected }
    }

    /// What another master needs to know of it.
    pub(crate) fn carried(&self, id: GenerationId) -> CarriedGeneration {
        let inspected = self.inspected.as_ref();
        CarriedGeneration {
            id: id.0,
            path: self.path.clone(),
            config: self.config.clone(),
            info: inspected.map(|found| found.info.clone()),
            checked: inspected.map(|found| found.checked.clone()),
        }
    }

    /// Whether the file still holds what was inspected. The kernel keeps a program from being written into
    /// while it is executed, but not between two executions, and a pinned file is the same file then.
    pub(crate) fn is_as_it_was(&self) -> bool {
        written(&self.program) == self.written
    }

    pub(crate) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// The addresses that its workers accept on. Empty before it was asked.
    pub(crate) fn listen(&self) -> Vec<Address> {
        let listen = self.inspected.as_ref().map(|found| &found.checked.listen[..]);
        let listen = listen.unwrap_or_default().iter();
        listen.filter_map(|address| address.parse().ok()).collect()
    }

    /// What tells it from others.
    pub(crate) fn key(&self) -> Key {
        let build = self.inspected.as_ref().map(|found| found.info.build.to_string());
        let digest = Sha256::digest(self.config.as_bytes());
        let config = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Key { build: build.unwrap_or_default(), config }
    }

    /// For messages.
    pub(crate) fn build(&self) -> control::Build {
        let mut build = control::Build { path: self.path.clone(), ..Default::default() };
        if let Some(found) = &self.inspected {
            build.version = found.info.version.to_string();
            build.build = found.info.build.to_string();
        }
        build
    }
}

/// Not when its name or its permissions were changed: it may be removed and still be started.
fn written(program: &File) -> Option<(u64, SystemTime)> {
    let found = program.metadata().ok()?;
    Some((found.len(), found.modified().ok()?))
}

/// What a configuration asks of the policy.
pub(crate) fn settings(checked: &Checked) -> Settings {
    let seconds = std::time::Duration::from_secs;
    Settings {
        // What another build says is bounded here too: it is multiplied later.
        workers: checked.workers.clamp(1, 1024),
        ready_within: seconds(checked.ready_seconds.clamp(1, 3600)),
        drain_within: seconds(checked.drain_seconds.clamp(1, 3600)),
        hard_stop: seconds(
            checked.hard_stop_seconds.clamp(checked.drain_seconds.min(3600), 86_400),
        ),
        watched_for: seconds(checked.watch_seconds.min(3600)),
        canary: seconds(checked.canary_seconds).min(MAX_CANARY),
        parallel: checked.parallel.clamp(1, MAX_PARALLEL),
    }
}
