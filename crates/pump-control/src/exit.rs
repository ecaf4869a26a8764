//! How a program ends: one table, from which the manual and the tests are made.

use std::process::{ExitCode, Termination};

/// Exit status of `pump` and `pumpd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done, or nothing to do.
    Done = 0,
    /// Something went wrong that no other status names.
    Failed = 1,
    /// Wrong usage or a missing setting.
    Usage = 2,
    /// An update is available (`--check`).
    UpdateAvailable = 10,
    /// Upgrades are held.
    Held = 20,
    /// Outside the window or the wave.
    OutsideWindow = 21,
    /// The other build has another magic number.
    OtherMagic = 30,
    /// A path over other releases is needed.
    PathNeeded = 31,
    /// One worker only.
    OneWorker = 32,
    /// A roll is in progress.
    RollInProgress = 33,
    /// Latched after a failed roll.
    Latched = 34,
    /// A signature or a hash is wrong.
    Signature = 40,
    /// The metadata has expired.
    Expired = 41,
    /// Older than what was seen before.
    Older = 42,
    /// A check before the work failed.
    Preflight = 50,
    /// An address is in use.
    AddressInUse = 51,
    /// There is no systemd here.
    NoSystemd = 52,
    /// Failed and rolled back.
    RolledBack = 60,
    /// The rollback failed.
    RollbackFailed = 61,
    /// The roll failed; the old build serves.
    RollFailed = 62,
    /// Another run holds the lock.
    Locked = 70,
    /// A temporary fault, such as the network: try again.
    Temporary = 75,
    /// Needs root.
    NeedsRoot = 77,
    /// The configuration is wrong.
    Configuration = 78,
    /// A package manager owns the program.
    PackageManager = 80,
}

impl ExitStatus {
    /// Every status with the words the manual uses for it, in order of their codes.
    pub const TABLE: &[(Self, &str)] = &[
        (Self::Done, "done, or nothing to do"),
        (Self::Failed, "failed in a way that no other code names"),
        (Self::Usage, "usage, or a missing setting"),
        (Self::UpdateAvailable, "an update is available (--check)"),
        (Self::Held, "held"),
        (Self::OutsideWindow, "outside the window or the wave"),
        (Self::OtherMagic, "other magic: the two builds may not run side by side"),
        (Self::PathNeeded, "a path over other releases is needed"),
        (Self::OneWorker, "one worker only"),
        (Self::RollInProgress, "a roll is in progress"),
        (Self::Latched, "latched after a failed roll"),
        (Self::Signature, "wrong signature or hash"),
        (Self::Expired, "expired metadata"),
        (Self::Older, "older than what was seen before"),
        (Self::Preflight, "a check before the work failed; nothing was changed"),
        (Self::AddressInUse, "address in use"),
        (Self::NoSystemd, "no systemd"),
        (Self::RolledBack, "failed and rolled back"),
        (Self::RollbackFailed, "the rollback failed"),
        (Self::RollFailed, "the roll failed; the old build serves"),
        (Self::Locked, "another run holds the lock"),
        (Self::Temporary, "a temporary fault: try again"),
        (Self::NeedsRoot, "needs root"),
        (Self::Configuration, "the configuration is wrong"),
        (Self::PackageManager, "a package manager owns the program"),
    ];

    /// The number the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The status with this code, if the table has it.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::TABLE.iter().map(|(status, _)| *status).find(|status| status.code() == code)
    }

    /// The words the manual uses for it.
    pub fn meaning(self) -> &'static str {
        Self::TABLE.iter().find(|(status, _)| *status == self).map_or("", |(_, meaning)| meaning)
    }
}

impl Termination for ExitStatus {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}

/// On the wire a status is its number, so that a reader who knows fewer of them still has a code.
impl serde::Serialize for ExitStatus {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.code())
    }
}

impl<'de> serde::Deserialize<'de> for ExitStatus {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = u8::deserialize(deserializer)?;
        Ok(Self::from_code(code).unwrap_or(Self::Failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_and_in_order() {
        let codes: Vec<u8> = ExitStatus::TABLE.iter().map(|(status, _)| status.code()).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        for code in codes {
            assert_eq!(ExitStatus::from_code(code).map(ExitStatus::code), Some(code));
        }
    }
}
