//! `pump upgrade`, `pump rollback` and `pump history`, through the command itself, against sources as
//! honest and as hostile as the publisher's own code can make them.

#[path = "upgrade/master.rs"]
mod master;
#[path = "upgrade/place.rs"]
mod place;

#[path = "upgrade/attacks.rs"]
mod attacks;
#[path = "upgrade/baked.rs"]
mod baked;
#[path = "upgrade/bundles.rs"]
mod bundles;
#[path = "upgrade/carriers.rs"]
mod carriers;
#[path = "upgrade/cuts.rs"]
mod cuts;
#[path = "upgrade/data.rs"]
mod data;
#[path = "upgrade/health.rs"]
mod health;
#[path = "upgrade/killed.rs"]
mod killed;
#[path = "upgrade/kills.rs"]
mod kills;
#[path = "upgrade/numbered.rs"]
mod numbered;
#[path = "upgrade/plans.rs"]
mod plans;
#[path = "upgrade/portable.rs"]
mod portable;
#[path = "upgrade/real.rs"]
mod real;
#[path = "upgrade/records.rs"]
mod records;
#[path = "upgrade/refusals.rs"]
mod refusals;
#[path = "upgrade/resume.rs"]
mod resume;
#[path = "upgrade/roots.rs"]
mod roots;
#[path = "upgrade/sources.rs"]
mod sources;
#[path = "upgrade/standalone.rs"]
mod standalone;
#[path = "upgrade/terminal.rs"]
mod terminal;
#[path = "upgrade/verify.rs"]
mod verify;
#[path = "upgrade/waits.rs"]
mod waits;
#[path = "upgrade/ways.rs"]
mod ways;
