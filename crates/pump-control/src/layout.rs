//! Where things are: the same names everywhere, below `/` or below the root of a private place.

use std::path::{Path, PathBuf};

/// The user and the group that pumpd runs as.
pub const USER: &str = "pump";

/// The paths of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The machine's own installation.
    pub fn system() -> Self {
        Self { root: PathBuf::from("/") }
    }

    /// A private place: everything below `root`, no root user, no systemd.
    pub fn private(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Whether this is a private place.
    pub fn is_private(&self) -> bool {
        self.root != Path::new("/")
    }

    /// `/`, or the private place's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path such as `/etc/pump`, below this root.
    pub fn under(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Our own tree: `releases/`, `current`, `previous`.
    pub fn program(&self) -> PathBuf {
        self.under("/opt/pump")
    }

    /// One folder for each unpacked release.
    pub fn releases(&self) -> PathBuf {
        self.program().join("releases")
    }

    /// Link to the release that is proven and starts at boot.
    pub fn current(&self) -> PathBuf {
        self.program().join("current")
    }

    /// Link to the release that `pump rollback` goes back to.
    pub fn previous(&self) -> PathBuf {
        self.program().join("previous")
    }

    /// The daemon of a release folder or of the links above.
    pub fn pumpd_in(release: &Path) -> PathBuf {
        release.join("bin/pumpd")
    }

    /// What the administrator types.
    pub fn pump_link(&self) -> PathBuf {
        self.under("/usr/local/bin/pump")
    }

    /// The daemon's configuration.
    pub fn config(&self) -> PathBuf {
        self.under("/etc/pump/pumpd.toml")
    }

    /// Where releases come from, and when.
    pub fn upgrade_config(&self) -> PathBuf {
        self.under("/etc/pump/upgrade.toml")
    }

    /// The daemon's data, unless the configuration says otherwise.
    pub fn data(&self) -> PathBuf {
        self.under("/var/lib/pump")
    }

    /// Root's own records: history, what was seen, trusted metadata.
    pub fn upgrade_data(&self) -> PathBuf {
        self.under("/var/lib/pump-upgrade")
    }

    /// Sockets and other things that end with the boot.
    pub fn runtime(&self) -> PathBuf {
        self.under("/run/pump")
    }

    /// Where pumpd listens for `pump`.
    pub fn control_socket(&self) -> PathBuf {
        self.runtime().join("control.sock")
    }

    /// Generated systemd units.
    pub fn units(&self) -> PathBuf {
        self.under("/etc/systemd/system")
    }

    /// The log of a daemon that was started without systemd.
    pub fn log(&self) -> PathBuf {
        self.under("/var/log/pump/pumpd.log")
    }
}
