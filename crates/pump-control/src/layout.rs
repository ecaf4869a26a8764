//! Where things are: the same names everywhere, below `/` or below the root of a private place.
//!
//! Only the program lies elsewhere where a package manager brought it: see [`Layout::packaged`].

use std::path::{Path, PathBuf};

/// The user and the group that pumpd runs as.
pub const USER: &str = "pump";

/// The paths of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
    packaged: bool,
}

impl Layout {
    /// The machine's own installation.
    pub fn system() -> Self {
        Self { root: PathBuf::from("/"), packaged: false }
    }

    /// The machine's own installation, whose program a package manager owns. What it unpacked is
    /// [`Self::PAYLOAD`]; the service runs a copy of the last build that was proven, out of its reach, so
    /// that unpacking the next one changes nothing that runs or that a crash would start.
    pub fn packaged() -> Self {
        Self { packaged: true, ..Self::system() }
    }

    /// The release that a package brings: an unpacked one, with `RELEASE.json` and `FILES`.
    pub const PAYLOAD: &'static str = "/usr/lib/pump";

    /// A private place: everything below `root`, no root user, no systemd.
    pub fn private(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), packaged: false }
    }

    /// Whether a package manager owns the program.
    pub fn is_packaged(&self) -> bool {
        self.packaged
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
        self.under(self.program_path())
    }

    /// The same, as it is on a machine: `/opt` is for what no package manager knows (FHS 3.13).
    pub fn program_path(&self) -> &'static str {
        if self.packaged { "/var/lib/pump-releases" } else { "/opt/pump" }
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
        self.under(if self.packaged { "/usr/bin/pump" } else { "/usr/local/bin/pump" })
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

    /// Copies of the database, root's own.
    pub fn backups(&self) -> PathBuf {
        self.upgrade_data().join("backups")
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
