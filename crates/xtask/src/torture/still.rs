//! A cluster that nobody asks anything: what wakes it?

use std::time::Duration;

use pump_test::census::{growth, wake_ups};

use super::fleet::pause;
use super::verdict::of_still;
use super::{Builds, cluster, say};

/// How long nobody asks.
const QUIET: Duration = Duration::from_secs(10);

/// How long after the start it may still be busy with that: threads that were needed then end after ten
/// seconds.
const SETTLES: Duration = Duration::from_secs(12);

/// How often it is looked, at most: on a machine that is busy what the start has left to do takes longer. What beats
/// goes on beating.
const LOOKS: usize = 6;

/// How often each process was woken in [`QUIET`].
pub(super) struct Still {
    pub(super) seconds: u64,
    pub(super) master: u64,
    pub(super) workers: Vec<u64>,
}

pub(super) fn measure(builds: &Builds) -> anyhow::Result<Still> {
    say("still", "nobody asks anything");
    let cluster = cluster(builds, 2)?;
    cluster.api().call("GET", "/healthz", &[], b"")?;
    pause(SETTLES);
    let master = cluster.master().pid;
    let workers: Vec<u32> = cluster.workers().iter().map(|worker| worker.pid).collect();
    let all = [&[master], &workers[..]].concat();
    let count = || all.iter().map(|pid| wake_ups(*pid)).collect::<Result<Vec<_>, _>>();
    let mut before = count()?;
    for look in 1.. {
        pause(QUIET);
        let after = count()?;
        let mut woken = before.iter().zip(&after).map(|(before, after)| growth(before, after));
        let still = Still {
            seconds: QUIET.as_secs(),
            master: woken.next().unwrap_or_default(),
            workers: woken.collect(),
        };
        if of_still(&still).is_empty() || look == LOOKS {
            return Ok(still);
        }
        before = after;
    }
    unreachable!("the last look is returned")
}
