//! Package managers, driven: what they offer of our packages, and having them install it.
//!
//! `pump` never writes over what a package manager owns. It asks that manager, of our packages and no others,
//! with what the administrator has told it: holds, pins, its own lock. What a package brings is only unpacked
//! then; going onto it is the upgrade's business ([`DRIVEN`] tells the package's scripts so). Whatever else a
//! manager would have to do for it is an administrator's to decide.

mod ahead;
mod apt;
mod dnf;

use std::path::Path;
use std::time::Duration;

use pump_control::{ExitStatus, Layout};
use pump_release::ReleaseInfo;

use crate::ownership;
use crate::report::{Failure, Report};

pub(crate) use ahead::Ahead;
pub(crate) use apt::UNATTENDED as APT_UNATTENDED;
pub(crate) use dnf::provides;

/// The packages that are ours.
const OURS: [&str; 2] = ["pumpd", "pump"];

/// Those that may come with them.
const WITH_OURS: [&str; 1] = ["pump-archive-keyring"];

/// The unit in which a roll outlives the script that asked for it.
pub(crate) const ROLL_UNIT: &str = "pump-package-upgrade.service";

/// Tells the scripts of a package that whoever has it installed goes on with what it brings.
pub(crate) const DRIVEN: &str = "PUMP_UPGRADE_GOES_ON";

/// The last lines of a manager that are shown when it fails.
const LAST_LINES: usize = 20;

/// A newer version that a package manager would install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Package and version, of each that is newer than what is installed.
    pub(crate) packages: Vec<(String, String)>,
    /// The version of the daemon's package that is installed.
    pub(crate) installed: String,
    /// For how many machines of a hundred it is meant so far.
    pub(crate) percent: Option<u32>,
}

impl Offer {
    /// `pumpd 0.1.1`.
    pub(crate) fn name(&self) -> String {
        let (name, version) = &self.packages[0];
        format!("{name} {version}")
    }
}

/// A package manager, as far as it is driven.
pub(crate) trait Manager {
    /// Its name, at the beginning of a sentence too.
    fn name(&self) -> &'static str;

    /// What an administrator types to have it done without `pump`.
    fn command(&self) -> String;

    /// Waits until nobody else works with it, refuses what is held, and mends what it has left half done of our
    /// packages.
    ///
    /// # Errors
    /// Exit 70 when somebody else is still at work, exit 20 when our packages are held, exit 50 when other
    /// packages are half done.
    fn ready(&self, report: Report) -> Result<(), Failure>;

    /// Has our sources read anew, and asks for what is newer.
    ///
    /// # Errors
    /// Exit 40 and 41 when the source is not who it should be or has expired, exit 70 when somebody else is at
    /// work, exit 75 when it cannot be reached.
    fn offer(&self, report: Report) -> Result<Option<Offer>, Failure>;

    /// Fetches an offer and looks what is in it, where that can be seen before it is unpacked.
    ///
    /// # Errors
    /// Exit 80 when other packages would have to change with it, and those of [`Self::offer`].
    fn inside(&self, offer: &Offer) -> Result<Option<ReleaseInfo>, Failure>;

    /// Installs an offer.
    ///
    /// # Errors
    /// What the manager says, with its last lines.
    fn install(&self, offer: &Offer) -> Result<(), Failure>;
}

/// The package manager that owns the program here. None where nobody does.
pub(crate) fn manager(patience: Duration) -> Option<Box<dyn Manager>> {
    let owner = ownership::owner_of(&Path::new(Layout::PAYLOAD).join("RELEASE.json"))?;
    let there = |program: &str| Path::new(program).exists();
    Some(match owner.manager {
        "dpkg" if there(apt::APT_GET) => Box::new(apt::Apt { patience }),
        "rpm" if there(dnf::DNF) => Box::new(dnf::Dnf { patience }),
        "dpkg" => Box::new(ByHand("sudo dpkg --install pump_VERSION.deb pumpd_VERSION.deb")),
        _ => Box::new(ByHand("sudo rpm --upgrade pump-VERSION.rpm pumpd-VERSION.rpm")),
    })
}

/// Packages that somebody installs from files.
struct ByHand(&'static str);

impl Manager for ByHand {
    fn name(&self) -> &'static str {
        "the package manager"
    }

    fn command(&self) -> String {
        self.0.to_owned()
    }

    fn ready(&self, _report: Report) -> Result<(), Failure> {
        Ok(())
    }

    fn offer(&self, _report: Report) -> Result<Option<Offer>, Failure> {
        Err(Failure::new(
            ExitStatus::PackageManager,
            "the program belongs to packages here, and there is neither apt nor dnf to ask for newer ones",
        )
        .hint(format!("run `{}`; the server goes onto what they bring", self.0)))
    }

    fn inside(&self, _offer: &Offer) -> Result<Option<ReleaseInfo>, Failure> {
        Ok(None)
    }

    fn install(&self, _offer: &Offer) -> Result<(), Failure> {
        Ok(())
    }
}

/// Whether a package may change in a run of ours.
fn is_ours(package: &str) -> bool {
    OURS.contains(&package) || WITH_OURS.contains(&package)
}

/// The refusal where others would have to change, too.
fn others_change(manager: &str, others: &[String], command: &str) -> Failure {
    let some: Vec<&str> = others.iter().take(5).map(String::as_str).collect();
    let more = if others.len() > some.len() { ", …" } else { "" };
    Failure::new(
        ExitStatus::PackageManager,
        format!(
            "{manager} would have to change other packages for it ({}{more}), which is not for pump to \
             decide; nothing was changed",
            some.join(", ")
        ),
    )
    .hint(format!("run `{command}`; the server goes onto what it brings"))
}

/// The end of what a manager said.
fn last_lines(said: &str) -> Vec<String> {
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| (*line).to_owned()).collect()
}
