//! How to get from what runs to a release, over others where it cannot be done in one hop.
//!
//! A plan never breaks a rule: those of [`way`] between the two sides of each hop, that each release can
//! open the database as the hops before left it, and what the publisher says in [`Rules`](crate::Rules).
//! It never goes beyond the wanted release nor behind what runs. The fewest hops win, then the fewest in
//! which connections wait, then the newest releases, compared from the first hop on.

mod missing;
mod search;

use serde::Serialize;

use crate::{
    Artifact, Index, Reason, Release, ReleaseInfo, Schema, SchemaTooNew, Way, may_open, way,
};

pub use missing::{Blocked, Missing, NoPlan};

/// Most hops of a plan. A way that needs more is not gone by itself.
pub const MAX_HOPS: usize = 16;

/// What a plan starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The build of the workers, or of the installed release when nothing runs.
    pub workers: ReleaseInfo,
    /// The build of the master, or of the installed release when nothing runs.
    pub master: ReleaseInfo,
    /// What the database was migrated to.
    pub database: Schema,
    /// Whether it runs.
    pub runs: bool,
}

impl Standing {
    /// A server that runs. The database is taken to be as its workers left it.
    pub fn running(master: ReleaseInfo, workers: ReleaseInfo) -> Self {
        Self { database: workers.schema, workers, master, runs: true }
    }

    /// A server that does not run.
    pub fn stopped(installed: ReleaseInfo) -> Self {
        Self { runs: false, ..Self::running(installed.clone(), installed) }
    }

    /// After a hop: a roll and a restart both end with the master, and migrations only go up.
    fn after(&self, to: &ReleaseInfo) -> Schema {
        if to.schema.version > self.database.version { to.schema } else { self.database }
    }
}

/// What a hop does to whoever is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gait {
    /// Nothing runs, or the release runs already: only the links change.
    Links,
    /// Worker by worker; no client sees it.
    ZeroDowntime,
    /// One stop and start, in which connections wait.
    ConnectionsWait(Reason),
}

impl Gait {
    /// Whether connections wait.
    pub fn waits(&self) -> bool {
        matches!(self, Self::ConnectionsWait(_))
    }
}

/// The gentlest way of one hop, by the numbers of the builds and of the database.
///
/// # Errors
/// When the candidate could not open the database.
pub fn gait(standing: &Standing, candidate: &ReleaseInfo) -> Result<Gait, SchemaTooNew> {
    if standing.runs && standing.workers.build == candidate.build {
        return Ok(Gait::Links);
    }
    may_open(standing.database, candidate.schema)?;
    if !standing.runs {
        return Ok(Gait::Links);
    }
    // Workers of the candidate live beside the old workers and under the old master.
    for side in [&standing.workers, &standing.master] {
        match way(side, candidate) {
            Way::Roll => {}
            Way::RestartConnectionsWait { reason } => return Ok(Gait::ConnectionsWait(reason)),
            Way::Refused(error) => return Err(error),
        }
    }
    Ok(Gait::ZeroDowntime)
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop<'a> {
    /// What is gone to.
    pub to: ReleaseInfo,
    /// Its bundle.
    pub artifact: &'a Artifact,
    /// What it does to whoever is connected.
    pub gait: Gait,
}

/// How to get from what runs to a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// What it was made from. It holds for nothing else.
    pub standing: Standing,
    /// In this order; one at least, [`MAX_HOPS`] at most.
    pub hops: Vec<Hop<'a>>,
}

impl Plan<'_> {
    /// Whether connections wait in any hop.
    pub fn waits(&self) -> bool {
        self.hops.iter().any(|hop| hop.gait.waits())
    }

    /// All that the plan is, in one line: two plans with the same line are the same plan made from the
    /// same state. Its hash is the plan's id.
    pub fn canonical(&self) -> String {
        let hops = self.hops.iter().map(|hop| {
            // A gait follows from the standing and the releases; that it waits is what was agreed to.
            (&hop.to, &hop.artifact.sha256, hop.gait.waits())
        });
        let hops: Vec<_> = hops.collect();
        serde_json::to_string(&(&self.standing, hops)).expect("our own values have a JSON form")
    }
}

/// The best plan from `standing` to `wanted`, a release of `index`, on machines of `target`.
///
/// With `zero_downtime`, only hops in which nothing waits.
///
/// # Errors
/// [`NoPlan`] says what is missing.
pub fn plan<'a>(
    index: &'a Index,
    standing: &Standing,
    wanted: &Release,
    target: &str,
    zero_downtime: bool,
) -> Result<Plan<'a>, NoPlan> {
    if let Some(why) = wanted.rules.withdrawn() {
        return Err(NoPlan::Withdrawn { version: wanted.version.clone(), why });
    }
    // Where nothing runs, nothing waits.
    let zero_downtime = zero_downtime && standing.runs;
    let road = search::Road::new(index, standing, &wanted.version, target, zero_downtime);
    if !road.ends_at(wanted) {
        return Err(NoPlan::NotOffered(wanted.version.clone()));
    }
    // A release that does not run migrates nothing: over others a server that is down has no way.
    let most = if standing.runs { MAX_HOPS } else { 1 };
    if let Some(hops) = road.shortest(most) {
        return Ok(Plan { standing: standing.clone(), hops });
    }
    if !standing.runs {
        let running = Standing { runs: true, ..standing.clone() };
        if let Ok(plan) = plan(index, &running, wanted, target, false) {
            let over = plan.hops.iter().map(|hop| hop.to.version.clone()).collect();
            return Err(NoPlan::Stopped { over });
        }
    }
    Err(missing::explain(&road))
}
