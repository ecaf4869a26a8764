//! What `pump` tells the master of upgrades, so that whoever reads the server's figures finds theirs beside them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How upgrades are. Times are seconds since 1970. What is missing has a default, what is not known is dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upgrades {
    /// Looks of the timer, by their exit status.
    pub checks: BTreeMap<String, u64>,
    /// When it looked last.
    pub last_check: Option<i64>,
    /// How that ended.
    pub last_exit: Option<u8>,
    /// When it last looked without a fault.
    pub last_success: Option<i64>,
    /// Whether upgrades are held.
    pub held: bool,
    /// When a release last became current by an upgrade.
    pub last_upgrade: Option<i64>,
    /// How long that took, in seconds.
    pub last_upgrade_seconds: Option<u64>,
    /// What is on offer and was not taken; nothing if empty.
    pub target: String,
}

impl Upgrades {
    /// Most exit statuses that are kept. There are fewer.
    pub const MAX_CHECKS: usize = 64;

    /// Longest name of a release that is kept, in characters.
    pub const MAX_TARGET: usize = 100;

    /// The same, no larger than the limits allow.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.checks = self.checks.into_iter().take(Self::MAX_CHECKS).collect();
        self.checks.retain(|exit, _| exit.len() <= Self::MAX_TARGET);
        self.target = self.target.chars().take(Self::MAX_TARGET).collect();
        self
    }
}
