//! What the cluster has done, summed over its workers and not reset by a roll.
//!
//! A worker counts from its own start and says its figures when it is asked, and once more before it
//! ends. What it said last is kept, and added to a base when its process is gone; so a sum never falls,
//! also where a worker lied or was killed before it could say its last figures. Nobody is asked
//! periodically: `asked` asks when somebody wants to know. `openmetrics` writes it down.

mod openmetrics;

use std::collections::BTreeMap;
use std::time::Duration;

use pump_control::ExitStatus;
use pump_control::channel::{Classes, Figures};
use pump_control::constants::LATENCY_PLACES;
use pump_control::control::Upgrades;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::cluster::WorkerId;

pub(super) use openmetrics::text;

/// Figures of all workers there have been.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    totals: Totals,
}

/// The figures as one master carries them to the next. What is missing has a default, what is not known
/// is dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Totals {
    /// The sums of all workers that are gone.
    pub(crate) ended: Figures,
    /// What is known of each living worker, by its number.
    pub(crate) living: BTreeMap<u64, Living>,
    /// How many rolls have ended, by the words of [`outcome`].
    pub(crate) rolls: BTreeMap<String, u64>,
    /// How long the last roll took, in milliseconds.
    pub(crate) last_roll_millis: Option<u64>,
    /// How often a master has taken another one's place.
    pub(crate) masters_replaced: u64,
    /// How upgrades are, as `pump` told last.
    pub(crate) upgrades: Option<Upgrades>,
}

/// What is known of a living worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Living {
    /// When it was started, in milliseconds of `CLOCK_MONOTONIC`, which masters of one boot share.
    pub(crate) started: u64,
    /// What it said last.
    pub(crate) figures: Figures,
}

impl Metrics {
    /// What the next master has to know.
    pub(crate) fn carried(&self) -> Totals {
        self.totals.clone()
    }

    /// Goes on from what the last master knew. Workers that do not live any more are added up.
    pub(crate) fn resume(totals: Totals, lives: impl Fn(WorkerId) -> bool) -> Self {
        let mut metrics = Self { totals };
        let known: Vec<WorkerId> = metrics.totals.living.keys().copied().map(WorkerId).collect();
        for worker in known.into_iter().filter(|worker| !lives(*worker)) {
            metrics.gone(worker);
        }
        metrics
    }

    /// A worker was started.
    pub(crate) fn started(&mut self, worker: WorkerId) {
        self.totals.living.entry(worker.0).or_default().started = monotonic();
    }

    /// A worker said its figures. It is believed no further than that its sums grow.
    pub(crate) fn heard(&mut self, worker: WorkerId, said: Figures) {
        let known = &mut self.totals.living.entry(worker.0).or_default().figures;
        let sums = pairs(&said, known, u64::max);
        // What it is and has now is no sum.
        let Figures { lag, resident, open, confinement, .. } = said;
        *known = Figures { lag, resident, open, confinement, ..sums };
    }

    /// A worker that leaves said what it still has open.
    pub(crate) fn has_open(&mut self, worker: WorkerId, open: Classes) {
        self.totals.living.entry(worker.0).or_default().figures.open = open;
    }

    /// A worker's process is gone.
    pub(crate) fn gone(&mut self, worker: WorkerId) {
        if let Some(last) = self.totals.living.remove(&worker.0) {
            self.totals.ended = pairs(&self.totals.ended, &last.figures, u64::saturating_add);
        }
    }

    /// What a living worker said last.
    pub(crate) fn of(&self, worker: WorkerId) -> Option<&Figures> {
        self.totals.living.get(&worker.0).map(|living| &living.figures)
    }

    /// How long a worker has lived.
    pub(crate) fn age(&self, worker: WorkerId) -> Duration {
        let living = self.totals.living.get(&worker.0);
        let millis = living.map(|living| monotonic().saturating_sub(living.started));
        Duration::from_millis(millis.unwrap_or_default())
    }

    /// The sums over all workers there have been.
    pub(crate) fn sums(&self) -> Figures {
        let add = |sum: Figures, one: &Living| pairs(&sum, &one.figures, u64::saturating_add);
        self.totals.living.values().fold(self.totals.ended.clone(), add)
    }

    /// A roll has ended.
    pub(crate) fn roll_ended(&mut self, exit: ExitStatus, millis: u64) {
        let count = self.totals.rolls.entry(outcome(exit).to_owned()).or_default();
        *count = count.saturating_add(1);
        self.totals.last_roll_millis = Some(millis);
    }

    /// `pump` says how upgrades are.
    pub(crate) fn upgrades_told(&mut self, told: Upgrades) {
        self.totals.upgrades = Some(told.bounded());
    }

    /// This master has taken another one's place.
    pub(crate) fn master_replaced(&mut self) {
        self.totals.masters_replaced = self.totals.masters_replaced.saturating_add(1);
    }
}

/// Milliseconds of `CLOCK_MONOTONIC`.
fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1000 + now.tv_nsec / 1_000_000).unwrap_or_default()
}

/// Every word for how a roll ended.
const OUTCOMES: [&str; 5] = ["done", "not-begun", "failed", "rolled-back", "rollback-failed"];

/// How a roll ended, in one word.
fn outcome(exit: ExitStatus) -> &'static str {
    match exit {
        ExitStatus::Done => "done",
        ExitStatus::RollFailed => "failed",
        ExitStatus::RolledBack => "rolled-back",
        ExitStatus::RollbackFailed => "rollback-failed",
        // The candidate was asked, and no worker was touched.
        _ => "not-begun",
    }
}

/// The sums of two figures, pair by pair. What is no sum is left out.
fn pairs(a: &Figures, b: &Figures, both: impl Fn(u64, u64) -> u64) -> Figures {
    let place = |of: &Figures, place| of.latency.get(place).copied().unwrap_or_default();
    Figures {
        requests: both(a.requests, b.requests),
        server_errors: both(a.server_errors, b.server_errors),
        panics: both(a.panics, b.panics),
        latency: (0..LATENCY_PLACES).map(|i| both(place(a, i), place(b, i))).collect(),
        latency_sum: both(a.latency_sum, b.latency_sum),
        connections: both(a.connections, b.connections),
        handed_over: both(a.handed_over, b.handed_over),
        streams_handed_over: both(a.streams_handed_over, b.streams_handed_over),
        streams_sent_back: both(a.streams_sent_back, b.streams_sent_back),
        ..Figures::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a worker said, requests and latency; none when it ended.
    type Said = Option<(u64, Vec<u64>)>;

    /// What workers may do to the figures.
    fn history() -> impl Strategy<Value = Vec<(u64, Said)>> {
        let said = (any::<u64>(), proptest::collection::vec(any::<u64>(), 0..40));
        proptest::collection::vec((0..4u64, proptest::option::of(said)), 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever workers say, die of, or whenever the master is replaced.
        #[test]
        fn a_sum_never_falls(history in history(), cut in 0..40usize) {
            let mut metrics = Metrics::default();
            let mut before = Figures::default();
            for (at, (worker, said)) in history.into_iter().enumerate() {
                match said {
                    Some((requests, latency)) => {
                        let said = Figures { requests, latency, ..Figures::default() };
                        metrics.heard(WorkerId(worker), said);
                    }
                    None => metrics.gone(WorkerId(worker)),
                }
                if at == cut {
                    let json = serde_json::to_string(&metrics.carried()).expect("plain data");
                    let totals = serde_json::from_str(&json).expect("its own form");
                    metrics = Metrics::resume(totals, |worker| worker.0 % 2 == 0);
                }
                let now = metrics.sums();
                prop_assert!(now.requests >= before.requests);
                let places = now.latency.iter().zip(&before.latency);
                prop_assert!(places.into_iter().all(|(now, before)| now >= before));
                prop_assert!(now.latency.len() <= LATENCY_PLACES);
                before = now;
            }
        }
    }

    #[test]
    fn what_a_worker_did_outlives_it() {
        let mut metrics = Metrics::default();
        let said = |requests, resident| Figures { requests, resident, ..Figures::default() };
        metrics.heard(WorkerId(1), said(10, 100));
        metrics.heard(WorkerId(2), said(5, 100));
        metrics.heard(WorkerId(1), said(12, 90));
        assert_eq!(metrics.of(WorkerId(1)).map(|one| one.resident), Some(90), "memory may fall");
        metrics.gone(WorkerId(1));
        assert_eq!(metrics.sums().requests, 17);
        // The next master knows it too, and that a worker ended in between.
        let next = Metrics::resume(metrics.carried(), |_| false);
        assert_eq!((next.sums().requests, next.of(WorkerId(2))), (17, None));
    }

    #[test]
    fn totals_of_another_build_are_understood() {
        let later = r#"{"ended":{"requests":3,"later":1},"living":{"7":{}},"dances":[1]}"#;
        let totals: Totals = serde_json::from_str(later).expect("what is not known is dropped");
        assert_eq!((totals.ended.requests, totals.living.len()), (3, 1));
        assert_eq!(serde_json::from_str::<Totals>("{}").expect("defaults"), Totals::default());
    }
}
