//! Whether what is built twice is the same, where nothing but the source is.
//!
//! The other build happens in a folder with another name, with another umask, time zone and locale, and with modes
//! as somebody else's checkout has them (reproducible-builds.org: the variations that most packages fall over).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::said;

/// Where and how a package is built.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings {
    /// How the folder is called that it is built in.
    pub(super) folder: &'static str,
    umask: &'static str,
    time_zone: &'static str,
    locale: &'static str,
    /// What is done to the modes of the tree (chmod(1)).
    modes: Option<&'static str>,
    /// Whether there is no network, not even its loopback interface.
    offline: bool,
}

impl Surroundings {
    /// As most do.
    pub(super) const fn usual(offline: bool) -> Self {
        Self {
            folder: ".build-",
            umask: "022",
            time_zone: "UTC",
            locale: "C.UTF-8",
            modes: None,
            offline,
        }
    }

    /// As somebody else might.
    const fn other(offline: bool) -> Self {
        Self {
            folder: ".build-somewhere-else-with-a-longer-name-",
            umask: "077",
            time_zone: "Pacific/Kiritimati",
            locale: "C",
            modes: Some("go-rwx"),
            offline,
        }
    }

    /// A command in these surroundings.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(if self.offline { "unshare" } else { "sh" });
        if self.offline {
            command.args(["--net", "sh"]);
        }
        command.args(["-c", "umask \"$1\"; shift; exec \"$@\"", program, self.umask, program]);
        command.env("TZ", self.time_zone).env("LC_ALL", self.locale);
        command
    }

    /// Gives a tree the modes that it has here.
    ///
    /// # Errors
    /// What chmod says.
    pub(super) fn settle(&self, tree: &Path) -> anyhow::Result<()> {
        let Some(modes) = self.modes else { return Ok(()) };
        said(Command::new("chmod").args(["--recursive", modes]).arg(tree)).map(drop)
    }
}

/// Builds a second time with `make`, which is told where and how, and holds each file of `first` against what was
/// made then.
///
/// # Errors
/// When it cannot be built, or is not the same: which files are not.
pub(super) fn same(
    first: &[PathBuf],
    offline: bool,
    make: impl FnOnce(&Path, Surroundings) -> anyhow::Result<Vec<PathBuf>>,
) -> anyhow::Result<()> {
    let above = first.first().and_then(|path| path.parent()).context("nothing was made")?;
    let folder = tempfile::Builder::new().prefix(".again-").tempdir_in(above)?;
    make(folder.path(), Surroundings::other(offline))?;
    let mut different = Vec::new();
    for path in first {
        let name = path.file_name().context("a package has a name")?;
        // What was built and where is what these two are about.
        if path.extension().is_some_and(|it| it == "buildinfo" || it == "changes") {
            continue;
        }
        let again = folder.path().join(name);
        let [one, other] =
            [path, &again].map(|path| fs::read(path).ok().map(|it| pump_repository::sha256(&it)));
        if one.is_none() || one != other {
            // Kept, for diffoscope(1).
            let kept = above.join(format!("again-{}", name.to_string_lossy()));
            let _ = fs::rename(&again, &kept);
            different.push(format!("`{}`", path.display()));
        }
    }
    anyhow::ensure!(
        different.is_empty(),
        "the second build is not the first one in {}; the other is beside it as `again-…`",
        different.join(", ")
    );
    Ok(())
}
