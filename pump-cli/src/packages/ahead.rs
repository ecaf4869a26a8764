//! A package that is ahead of what serves: it was brought, and may not be rolled onto, or could not.
//!
//! Who installs packages by hand reads the script's words. Where nobody looks on, the status, `pump doctor`,
//! needrestart and the figures have to say it.

use std::path::Path;

use pump_control::Layout;
use pump_control::control::Status;

use super::ROLL_UNIT;
use crate::bundle;
use crate::releases::Releases;
use crate::systemd;

/// What was brought, and what serves in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// The release in the package.
    pub(crate) brought: String,
    /// The release that serves, or would be started.
    pub(crate) serves: String,
}

impl Ahead {
    /// Whether there is such a package. Without an answer of the server it is held against what would be started.
    pub(crate) fn of(layout: &Layout, server: Option<&Status>) -> Option<Self> {
        if !layout.is_packaged() {
            return None;
        }
        let brought = bundle::read_info(Path::new(Layout::PAYLOAD)).ok()?;
        let current = Releases::of(layout).current().ok().flatten()?;
        let serves = match server {
            // It is on its way.
            Some(server) if server.roll.is_some() => return None,
            // While it is watched it serves, and is not current yet.
            Some(server) if server.workers_build.build == brought.build.to_string() => return None,
            Some(server) => server.workers_build.short(),
            None => current.name,
        };
        let brought = brought.name();
        // While another one is rolled onto or watched, it is the next.
        (brought != serves && !systemd::is_busy(ROLL_UNIT)).then_some(Self { brought, serves })
    }

    /// For people.
    pub(crate) fn sentence(&self) -> String {
        format!(
            "the package brought {}, and {} goes on serving; `pump upgrade --dry-run` tells why, and `pump \
             upgrade` goes onto it",
            self.brought, self.serves
        )
    }
}
