//! The states of a passage.

use serde::{Deserialize, Serialize};

/// What has been done in a hop. They follow each other in this order; a rollback and a hop whose release
/// lies there already leave some out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// The metadata was read and believed, and there is something to do.
    Checked,
    /// It is known how, and agreed to.
    Planned,
    /// The bundle is here.
    Fetched,
    /// It is what was signed.
    Verified,
    /// There is room, and what runs may be left for it.
    Preflighted,
    /// The database has a copy, where one is needed.
    BackedUp,
    /// The release lies complete beside the others and has said what it is.
    Unpacked,
    /// The database has what the release needs, and still has what the old one needs.
    Expanded,
    /// Every worker and the master run it.
    Rolled,
    /// It serves, and is watched.
    Baking,
    /// It is current: whatever starts from now on is this release.
    Confirmed,
    /// It was found wanting, and the old one is on its way back.
    RollingBack,
    /// The old one serves again and is current.
    RolledBack,
    /// It did not come to that: the old one has served all the time, or the exit status says otherwise.
    Failed,
    /// What a later `pump` writes.
    #[serde(other)]
    Later,
}

impl State {
    /// Every state that this `pump` writes, in order.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 14] = [
        Self::Checked,
        Self::Planned,
        Self::Fetched,
        Self::Verified,
        Self::Preflighted,
        Self::BackedUp,
        Self::Unpacked,
        Self::Expanded,
        Self::Rolled,
        Self::Baking,
        Self::Confirmed,
        Self::RollingBack,
        Self::RolledBack,
        Self::Failed,
    ];

    /// Whether nothing follows in this hop.
    pub(crate) fn is_end(self) -> bool {
        matches!(self, Self::Confirmed | Self::RolledBack | Self::Failed)
    }

    /// For people, after "it was cut when it".
    pub(crate) fn said(self) -> &'static str {
        match self {
            Self::Checked => "had read what is on offer",
            Self::Planned => "was planned",
            Self::Fetched => "had fetched the release",
            Self::Verified => "had verified the release",
            Self::Preflighted => "had checked what can be checked",
            Self::BackedUp => "had copied the database",
            Self::Unpacked => "had unpacked the release",
            Self::Expanded => "had prepared the database",
            Self::Rolled => "had rolled the server onto the release",
            Self::Baking => "watched the release",
            Self::Confirmed => "had made this hop",
            Self::RollingBack => "went back to the release before",
            Self::RolledBack => "had gone back to the release before",
            Self::Failed => "had failed",
            Self::Later => "was in a state that only a later pump knows",
        }
    }
}
