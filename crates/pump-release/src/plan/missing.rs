//! Why there is no plan: the shortest missing link, in words.
//!
//! Of all gaps between a release that can be reached and one from which it goes on, the one that leaves
//! the fewest hops is told: whoever publishes can close it, and whoever upgrades can wait for that.

use std::fmt;

use semver::{Version, VersionReq};

use super::MAX_HOPS;
use super::search::Road;
use crate::{Reason, SchemaTooNew};

/// What is in the way of a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// Connections would wait, and may not.
    Waits(Reason),
    /// The release could not open the database.
    Database(SchemaTooNew),
    /// It may be gone to from other versions only.
    From(VersionReq),
    /// A barrier lies between.
    Barrier {
        /// Its version.
        version: Version,
        /// Whether it may itself be gone to.
        open: bool,
        /// Why it was withdrawn, if it was.
        why: Option<String>,
    },
}

impl From<SchemaTooNew> for Blocked {
    fn from(error: SchemaTooNew) -> Self {
        Self::Database(error)
    }
}

/// The shortest missing link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What can be reached.
    pub from: Version,
    /// From where it goes on.
    pub to: Version,
    /// What lies between them.
    pub blocked: Blocked,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// The wanted release was withdrawn.
    #[error("{version} is {why}")]
    Withdrawn {
        /// Its version.
        version: Version,
        /// That it is revoked or halted, and why.
        why: String,
    },
    /// It is not on offer, or not for this machine.
    #[error("{0} is not on offer for this machine")]
    NotOffered(Version),
    /// There is a way over others, but nothing runs that could go it.
    #[error("the way leads over {}, and the server does not run, so that they would do nothing",
        over.iter().map(Version::to_string).collect::<Vec<_>>().join(" and "))]
    Stopped {
        /// The releases, the wanted one last.
        over: Vec<Version>,
    },
    /// No release on offer closes the gap.
    #[error("{0}")]
    Missing(Box<Missing>),
    /// There is a way, of too many hops.
    #[error("the way over other releases has more than {MAX_HOPS} hops")]
    TooFar,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, blocked } = self;
        match blocked {
            Blocked::Waits(Reason::Magic(magic)) => {
                let (old, new) = (magic.running, magic.candidate);
                write!(
                    f,
                    "from {from} (magic {old}) nothing on offer leads to {to} (magic {new}) without \
                     a wait; a release that speaks {new} and accepts {old} is missing"
                )
            }
            Blocked::Waits(Reason::Unit { running, candidate }) => write!(
                f,
                "{to} needs unit {candidate} and the service was started with unit {running}; no \
                 release in between can spare that restart"
            ),
            Blocked::Waits(Reason::Schema { running, needs }) => write!(
                f,
                "from {from} (schema {running}) nothing on offer leads to {to} without a wait; a \
                 release of schema {needs} or later on whose database code of schema {running} \
                 still works is missing"
            ),
            Blocked::Database(error) => {
                write!(f, "{to} cannot follow {from}: {error}; no release in between changes that")
            }
            Blocked::From(wanted) => write!(
                f,
                "{to} may be gone to from `{wanted}` only; a release of such a version that can be \
                 reached from {from} is missing"
            ),
            Blocked::Barrier { version, open, why } => {
                write!(f, "no upgrade from {from} to {to} may leap over {version}, which ")?;
                match (open, why) {
                    (true, _) => write!(f, "cannot be reached"),
                    (false, Some(why)) => write!(f, "is {why}"),
                    (false, None) => write!(f, "is not made for this machine"),
                }
            }
        }
    }
}

/// Why there is no way to the end of the road.
pub(super) fn explain(road: &Road<'_>) -> NoPlan {
    let reached = road.reached();
    let wanted = road.stops.len() - 1;
    if reached.iter().any(|(place, _)| place.stop == Some(wanted)) {
        return NoPlan::TooFar;
    }
    let leads_on = road.leads_on();
    let mut best: Option<((bool, usize, bool), Missing)> = None;
    for (place, hops) in reached {
        let standing = road.standing(place);
        for (to, info, gait) in road.ahead(place, &standing) {
            let (Err(blocked), Some(on)) = (gait, leads_on[to]) else { continue };
            // A barrier is told where nothing else is in the way; that no bridge helps, likewise.
            let barrier = matches!(blocked, Blocked::Barrier { .. });
            let hopeless = matches!(blocked, Blocked::Waits(Reason::Unit { .. }));
            let cost = (barrier, hops + on, hopeless);
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                let from = standing.workers.version.clone();
                best = Some((cost, Missing { from, to: info.version.clone(), blocked }));
            }
        }
    }
    let (_, missing) = best.expect("from the start to the wanted release something is in the way");
    NoPlan::Missing(Box::new(missing))
}
