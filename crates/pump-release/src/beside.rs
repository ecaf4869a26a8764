//! Which builds may run beside which, and how to get from one to the other.
//!
//! Three numbers decide. *Magic*: two builds may serve together when their magics are equal or either
//! accepts the other's. *Unit*: a process keeps its sandbox over an exec, so a build that needs more
//! than the running one was given has to be started afresh. *Schema*: in a roll the candidate migrates
//! the database while the old code still serves, so the old code must work on the result.

use std::fmt;

use crate::{ReleaseInfo, Schema};

/// Two builds that may not run side by side, because their magics differ and neither accepts the
/// other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the running build speaks magic {running} and the other one {candidate}, and neither accepts \
     the other's"
)]
pub struct Incompatible {
    /// The magic of the running build.
    pub running: u32,
    /// The magic of the other build.
    pub candidate: u32,
}

/// Whether two builds may serve at the same time. Symmetric.
pub fn may_run_beside(running: &ReleaseInfo, candidate: &ReleaseInfo) -> Result<(), Incompatible> {
    if running.magic == candidate.magic
        || running.accepts.contains(&candidate.magic)
        || candidate.accepts.contains(&running.magic)
    {
        Ok(())
    } else {
        Err(Incompatible { running: running.magic, candidate: candidate.magic })
    }
}

/// A database that a build may not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the database has schema {} and needs code of schema {} or later; this build has {code}",
    database.version,
    database.compat
)]
pub struct SchemaTooNew {
    /// What the database was migrated to.
    pub database: Schema,
    /// The schema version of the build.
    pub code: u32,
}

/// Whether code may open a database: only a stored compat greater than the code's own version is
/// refused. A newer database whose compat allows it is read and written.
pub fn may_open(database: Schema, code: Schema) -> Result<(), SchemaTooNew> {
    if database.compat > code.version {
        Err(SchemaTooNew { database, code: code.version })
    } else {
        Ok(())
    }
}

/// The gentlest way from the running build to a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Worker by worker; no client sees it.
    Roll,
    /// One stop and start, in which connections wait.
    RestartConnectionsWait {
        /// Why they may not serve together.
        reason: Reason,
    },
    /// Not at all: the candidate could not open the database.
    Refused(SchemaTooNew),
}

/// Why two builds may not serve together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Their processes do not understand each other.
    Magic(Incompatible),
    /// The candidate may need more than the running sandbox grants.
    Unit {
        /// The number of the running build.
        running: u32,
        /// The number of the candidate.
        candidate: u32,
    },
    /// The running code could not work on the database that the candidate makes.
    Schema {
        /// The schema version of the running code.
        running: u32,
        /// The oldest version that the candidate's database allows.
        needs: u32,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic(incompatible) => incompatible.fmt(f),
            Self::Unit { running, candidate } => write!(
                f,
                "the release needs unit {candidate} and the service was started with unit \
                 {running}, whose sandbox may lack what it needs"
            ),
            Self::Schema { running, needs } => write!(
                f,
                "the release changes the database so that only code of schema {needs} or later \
                 works on it, and the running build has {running}"
            ),
        }
    }
}

/// The gentlest way from `running` to `candidate` that keeps every rule.
///
/// The database is taken to be as the running build left it.
pub fn way(running: &ReleaseInfo, candidate: &ReleaseInfo) -> Way {
    if let Err(refused) = may_open(running.schema, candidate.schema) {
        return Way::Refused(refused);
    }
    if let Err(incompatible) = may_run_beside(running, candidate) {
        return Way::RestartConnectionsWait { reason: Reason::Magic(incompatible) };
    }
    if candidate.unit > running.unit {
        let reason = Reason::Unit { running: running.unit, candidate: candidate.unit };
        return Way::RestartConnectionsWait { reason };
    }
    if let Err(refused) = may_open(candidate.schema, running.schema) {
        let reason = Reason::Schema { running: refused.code, needs: refused.database.compat };
        return Way::RestartConnectionsWait { reason };
    }
    Way::Roll
}
