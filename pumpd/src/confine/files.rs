//! Files, addresses and signals, by Landlock: what is not named is refused.
//!
//! Rules are about folders as they are now. One that is renamed keeps its rule; another one that comes in its
//! place has none. Descriptors that are open stay so.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus,
    PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    Scope,
};

/// The newest interface that we know the meaning of. A kernel with an older one gives what it has.
const NEWEST: ABI = ABI::V6;

/// What a process may open.
pub(super) struct Files {
    beneath: Vec<PathBeneath<PathFd>>,
}

impl Files {
    pub(super) fn none() -> Self {
        Self { beneath: Vec::new() }
    }

    /// Files may be read there.
    pub(super) fn read_within(&mut self, folder: &Path) {
        self.add(folder, AccessFs::ReadFile | AccessFs::ReadDir);
    }

    /// This file may be read.
    pub(super) fn read(&mut self, file: &Path) {
        self.add(file, AccessFs::ReadFile.into());
    }

    /// Plain files may be made, read, written and removed there: what SQLite does.
    pub(super) fn use_within(&mut self, folder: &Path) {
        let plain = AccessFs::ReadFile
            | AccessFs::ReadDir
            | AccessFs::WriteFile
            | AccessFs::Truncate
            | AccessFs::MakeReg
            | AccessFs::RemoveFile;
        self.add(folder, plain);
    }

    /// Folders as well, and files may be moved between them.
    pub(super) fn own(&mut self, folder: &Path) {
        self.use_within(folder);
        self.add(folder, AccessFs::MakeDir | AccessFs::RemoveDir | AccessFs::Refer);
    }

    /// What is not there cannot be opened anyway.
    fn add(&mut self, path: &Path, access: BitFlags<AccessFs>) {
        self.beneath.extend(PathFd::new(path).map(|path| PathBeneath::new(path, access)));
    }

    /// Refuses everything else from now on: files, TCP, abstract unix sockets of others, signals to others.
    /// Returns the version of the interface that is in force, 0 where the kernel has none.
    ///
    /// # Errors
    /// When the kernel has it and refuses our rules.
    pub(super) fn seal(self) -> Result<u32, RulesetError> {
        let status = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?
            .add_rules(self.beneath.into_iter().map(Ok::<_, RulesetError>))?
            .restrict_self()?;
        Ok(version(&status))
    }
}

fn version(status: &RestrictionStatus) -> u32 {
    match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as u32,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    }
}
