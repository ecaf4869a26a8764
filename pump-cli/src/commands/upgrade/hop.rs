//! One hop: its steps in their order, each noted in the journal when it is done.
//!
//! Until the roll a journal that cannot be written ends the hop, and nothing was changed. From then on going
//! on is better than stopping halfway, and who comes after a cut sees by the server itself how far it was.

use pump_control::ExitStatus;
use pump_release::{Artifact, ReleaseInfo};

use super::{UpgradeArgs, steps};
use crate::bundle;
use crate::context::Context;
use crate::fetch::Catalogue;
use crate::lock::Lock;
use crate::passage::{Passage, State};
use crate::releases::{Installed, Releases};
use crate::report::Failure;
use crate::switch::Step;

/// What the steps of a hop see.
pub(in crate::commands) struct Hop<'a> {
    pub(in crate::commands) context: &'a Context<'a>,
    pub(in crate::commands) lock: &'a Lock,
    pub(in crate::commands) releases: &'a Releases,
    /// The flags, as they were typed; after a cut those of the run that was cut.
    pub(in crate::commands) args: &'a UpgradeArgs,
    /// The release that is current when the hop begins.
    pub(in crate::commands) from: Installed,
    /// What is signed about the release at its end.
    pub(in crate::commands) candidate: ReleaseInfo,
    /// How it is made.
    pub(in crate::commands) step: Step,
    /// Back to a release that has served before: nothing is expanded, and nothing is watched.
    pub(in crate::commands) is_rollback: bool,
    /// The candidate, where it lies there complete already.
    pub(in crate::commands) present: Option<Installed>,
}

/// Where the release at the end of a hop comes from.
pub(super) struct Offered<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) artifact: &'a Artifact,
}

/// The release of this name, if it lies there as it was unpacked.
pub(super) fn whole(releases: &Releases, name: &str) -> Option<Installed> {
    releases.named(name).filter(|it| bundle::verify(&it.path).is_ok())
}

impl Hop<'_> {
    /// The candidate, where it lies there complete already.
    pub(super) fn present(&self) -> Option<Installed> {
        self.present.clone().filter(|present| present.info == self.candidate)
    }

    /// Makes the hop from its beginning: after it is planned and agreed to. Returns what is current then,
    /// and how it went, as a sentence.
    ///
    /// # Errors
    /// Those of the steps. What served before serves, unless the exit status says otherwise.
    pub(super) fn make(
        &self,
        offered: &Offered<'_>,
        passage: &mut Passage,
    ) -> Result<(Installed, String), Failure> {
        let staged = (|| {
            let bundle = steps::fetch(self, offered)?;
            passage.reach(State::Fetched)?;
            steps::verify(self, offered, bundle.as_ref())?;
            passage.reach(State::Verified)?;
            steps::preflight(self, offered)?;
            passage.reach(State::Preflighted)?;
            steps::backup(self)?;
            passage.reach(State::BackedUp)?;
            let to = steps::unpack(self, offered, bundle)?;
            passage.reach(State::Unpacked)?;
            Ok(to)
        })();
        let to = staged.map_err(|failure| self.failed(passage, failure))?;
        let said = self.forward(&to, passage)?;
        Ok((to, said))
    }

    /// From where a package manager has unpacked the release.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub(super) fn brought(&self, to: &Installed, passage: &mut Passage) -> Result<String, Failure> {
        let kept = (|| {
            steps::backup(self)?;
            passage.reach(State::BackedUp)?;
            passage.reach(State::Unpacked)
        })();
        kept.map_err(|failure| self.failed(passage, failure))?;
        self.forward(to, passage)
    }

    /// From where the release lies there complete.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub(in crate::commands) fn forward(
        &self,
        to: &Installed,
        passage: &mut Passage,
    ) -> Result<String, Failure> {
        let expanded = (|| {
            if !self.is_rollback {
                steps::expand(self, to)?;
            }
            passage.reach(State::Expanded)
        })();
        expanded.map_err(|failure| self.failed(passage, failure))?;
        steps::roll(self, to).map_err(|failure| match failure.exit {
            // It was lost sight of, and may still go on.
            ExitStatus::Temporary => failure,
            _ => self.failed(passage, failure),
        })?;
        self.note(passage.note(State::Rolled));
        self.bake(to, passage)
    }

    /// From where the release serves.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub(super) fn bake(&self, to: &Installed, passage: &mut Passage) -> Result<String, Failure> {
        if !self.is_rollback {
            self.note(passage.note(State::Baking));
            if let Err(failure) = steps::bake(self, to) {
                return Err(self.back(to, passage, failure));
            }
        }
        self.confirm(to, passage)
    }

    /// From where the release is proven.
    ///
    /// # Errors
    /// What the file system says; the passage stays unfinished then.
    pub(super) fn confirm(&self, to: &Installed, passage: &mut Passage) -> Result<String, Failure> {
        let said = steps::confirm(self, to)?;
        self.note(passage.end(State::Confirmed, ExitStatus::Done, &said));
        Ok(said)
    }

    /// Brings the release before back. Returns the failure that is told.
    pub(super) fn back(&self, to: &Installed, passage: &mut Passage, why: Failure) -> Failure {
        self.note(passage.note(State::RollingBack));
        self.context.report.say(format_args!("going back to {}: {}", self.from.name, why.error));
        let failure = steps::back(self, to, why);
        self.failed(passage, failure)
    }

    fn failed(&self, passage: &mut Passage, failure: Failure) -> Failure {
        let state = match failure.exit {
            ExitStatus::RolledBack => State::RolledBack,
            _ => State::Failed,
        };
        self.note(passage.end(state, failure.exit, &failure.error));
        failure
    }

    fn note(&self, written: anyhow::Result<()>) {
        if let Err(error) = written {
            self.context.report.warn(format_args!("{error:#}"));
        }
    }
}
