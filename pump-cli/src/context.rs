//! What every command is given: the machine, the installation it is about, and where to print.

use std::path::Path;

use pump_control::{ExitStatus, Layout};

use crate::host::Host;
use crate::report::{Failure, Report};

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
    /// Refuses with the command to type when this run may not change the machine. A private place
    /// needs no root.
    ///
    /// # Errors
    /// Exit 77.
    pub(crate) fn need_root(&self, to: &str) -> Result<(), Failure> {
        if self.layout.is_private() || self.host.is_root() {
            return Ok(());
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

    /// Refuses where systemd is not the running init, since our units would start nothing. A private
    /// place does without.
    ///
    /// # Errors
    /// Exit 52.
    pub(crate) fn need_systemd(&self) -> Result<(), Failure> {
        // What sd_booted(3) looks at.
        if self.layout.is_private() || Path::new("/run/systemd/system").is_dir() {
            return Ok(());
        }
        Err(Failure::new(
            ExitStatus::NoSystemd,
            "systemd does not run here: there is no `/run/systemd/system`, so no unit would start",
        )
        .hint("run `pump install --root DIR` and `pump start --root DIR` for a private place without it"))
    }
}
