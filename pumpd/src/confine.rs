//! What a process of ours gives up for good, before it does its work.
//!
//! Beneath systemd's sandbox, which is one for the whole service, each role has one of its own: a web worker
//! opens its data folder and nothing else, starts no program, and reaches nobody; what works on data for an
//! operator reaches nobody either; the master, from which all of them come, gives up what none will ever
//! need. It is the same without systemd.
//!
//! `files` is Landlock (landlock(7)), `calls` is seccomp (seccomp(2)). A kernel that lacks something, or a
//! unit that forbids it, leaves that out: the process serves, says so, and `pump status` and `pump doctor`
//! tell it. Neither can be taken back, and whatever is started inherits both.

mod calls;
mod files;

use std::path::Path;

use pump_control::channel::Confinement;
use tracing::warn;

use crate::config::Config;
use files::Files;

/// In the environment of a master that another one has become: it is confined by now. Layers of it add up over
/// upgrades in place, and the kernel takes sixteen.
pub(crate) const MASTER_IS: &str = "PUMP_CONFINED";

/// Confines this process to what a web worker does. What it was born with stays open: listening sockets, the
/// channel, the log.
///
/// To be called before there is a second thread.
pub(crate) fn worker(config: &Config) -> Confinement {
    let data = &config.data_dir;
    let database = pump_store::database(data);
    let mut files = Files::none();
    // A probe posts in a database of its own, in a folder that it makes there.
    files.own(data);
    // A link to another disk: SQLite's other files are beside what it leads to.
    if let Some(folder) = std::fs::canonicalize(database).ok().as_deref().and_then(Path::parent) {
        files.use_within(folder);
    }
    // Its own figures, and SQLite's first random bytes.
    files.read_within(Path::new("/proc/self"));
    files.read(Path::new("/dev/urandom"));
    Confinement { landlock: in_force(files.seal(), "files"), seccomp: filtered(calls::worker()) }
}

/// Confines this process to work on the data folder, and on a file that it was given.
pub(crate) fn helper(data: &Path, file: Option<&Path>) -> Confinement {
    let mut files = Files::none();
    files.own(data);
    files.read_within(Path::new("/proc/self"));
    files.read(Path::new("/dev/urandom"));
    if let Some(file) = file {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        files.own(folder.unwrap_or(Path::new(".")));
    }
    Confinement { landlock: in_force(files.seal(), "files"), seccomp: filtered(calls::helper()) }
}

/// Gives up what neither the master nor anything that it starts will ever do. Files it leaves alone: whatever
/// it may not open, no later build that it starts could.
pub(crate) fn master() -> Confinement {
    let was = std::env::var_os(MASTER_IS).is_some();
    Confinement { landlock: 0, seccomp: was || filtered(calls::master()) }
}

fn in_force(sealed: Result<u32, landlock::RulesetError>, what: &str) -> u32 {
    match sealed {
        Ok(0) => {
            warn!(
                "this kernel has no Landlock: only systemd and modes keep {what} from this process"
            );
            0
        }
        Ok(version) => version,
        Err(error) => {
            warn!("Landlock could not be used, going on without it: {error}");
            0
        }
    }
}

fn filtered(filtered: Result<(), calls::FilterError>) -> bool {
    if let Err(error) = &filtered {
        warn!("{error}, going on with what systemd leaves");
    }
    filtered.is_ok()
}
