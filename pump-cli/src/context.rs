//! What every command is given: the machine, the installation it is about, and where to print.

use std::path::Path;

use anyhow::Context as _;
use pump_control::{ExitStatus, Layout};

use crate::host::Host;
use crate::passage::Asked;
use crate::releases::{Installed, Releases};
use crate::report::{Failure, Report};
use crate::{others, ownership, service, systemd};

/// One run of `pump`.
#[derive(Clone, Debug)]
pub(crate) struct Context<'a> {
    /// The machine.
    pub(crate) host: &'a Host,
    /// The installation that the command is about.
    pub(crate) layout: Layout,
    /// Where to print.
    pub(crate) report: Report,
}

impl Context<'_> {
    /// What was typed, for whoever has to begin it anew.
    pub(crate) fn asked(&self) -> Asked {
        let words = self.host.args.iter().skip(1);
        let words = words.map(|word| word.to_string_lossy().into_owned()).collect();
        // A folder that is gone has no paths in it either.
        Asked { words, folder: std::env::current_dir().unwrap_or_default() }
    }

    /// Refuses with the command to type when this run may not change the machine. A private place
    /// needs no root, and takes root only where nobody else can write: root would run what they put
    /// there, and write where their links lead.
    ///
    /// # Errors
    /// Exit 77, and exit 50 for root in somebody else's place.
    pub(crate) fn need_root(&self, to: &str) -> Result<(), Failure> {
        match (self.layout.is_private(), self.host.is_root()) {
            (true, true) => return self.refuse_foreign_place(to),
            (true, false) | (false, true) => return Ok(()),
            (false, false) => {}
        }
        Err(Failure::new(
            ExitStatus::NeedsRoot,
            format!(
                "{to} needs root: this user (uid {}) may not change the machine",
                self.host.uid
            ),
        )
        .hint(format!("run `{}`", self.host.with_sudo())))
    }

    fn refuse_foreign_place(&self, to: &str) -> Result<(), Failure> {
        let root = self.layout.root();
        let found = others::open_to_others(root)
            .with_context(|| format!("could not look at the way to `{}`", root.display()))?;
        let Some(open) = found else { return Ok(()) };
        Err(Failure::new(
            ExitStatus::Preflight,
            format!(
                "{to} as root in `{}` would run and write what somebody else decides: {open}",
                root.display()
            ),
        )
        .hint(
            "run it as the user whose place it is, or give root a folder that only root can write",
        ))
    }

    /// Refuses where there is no release, or none that is configured.
    ///
    /// # Errors
    /// Exit 50.
    pub(crate) fn need_installed(&self) -> Result<(), Failure> {
        for path in [Layout::pumpd_in(&self.layout.current()), self.layout.config()] {
            if !path.exists() {
                return Err(self.not_installed(&path));
            }
        }
        Ok(())
    }

    /// The release that is current.
    ///
    /// # Errors
    /// Exit 50 where there is none.
    pub(crate) fn need_current(&self, releases: &Releases) -> Result<Installed, Failure> {
        releases.current()?.ok_or_else(|| self.not_installed(&self.layout.current()))
    }

    /// The refusal where this file of an installation is missing.
    pub(crate) fn not_installed(&self, missing: &Path) -> Failure {
        Failure::new(
            ExitStatus::Preflight,
            format!("pump is not installed here: there is no `{}`", missing.display()),
        )
        .hint(match ownership::without_daemon(&self.layout) {
            Some(command) => format!("run `{command}`, which brings the server"),
            None => format!("run `{} install`", service::command(self)),
        })
    }

    /// Refuses where systemd is not the running init, since our units would start nothing. A private
    /// place does without.
    ///
    /// # Errors
    /// Exit 52.
    pub(crate) fn need_systemd(&self) -> Result<(), Failure> {
        if self.layout.is_private() || systemd::is_booted() {
            return Ok(());
        }
        Err(Failure::new(
            ExitStatus::NoSystemd,
            "systemd does not run here: there is no `/run/systemd/system`, so no unit would start",
        )
        .hint("run `pump install --root DIR` and `pump start --root DIR` for a private place without it"))
    }
}
