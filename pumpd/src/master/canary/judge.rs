//! Whether a new build is worse than the old one, from what both did over the same time. Pure.
//!
//! [`worse`] is asked every second and looks for what is clearly worse; [`verdict`] is asked once at the
//! end and also wants to have seen something. A difference has to be larger than chance and larger than
//! what a fresh process shows that is as good as the old one: its caches are cold and its memory still
//! grows. So each bound is a factor and a slack, and a reason names the figures.

use std::time::Duration;

use super::side::{Side, Times};

/// Share of answers with 5xx that a build may have beyond the old one's.
const ERROR_SLACK: f64 = 0.01;

/// Errors below this number are no evidence: one or two say nothing about a share.
const LEAST_ERRORS: u64 = 4;

/// How sure the share of errors has to be: 99 % of the normal distribution, two-sided. Not 95 %, because
/// it is looked at every second and chance has as many tries.
const SURE: f64 = 2.576;

/// Requests on both sides below which quantiles are not compared: the 99th of fewer is their largest.
const LEAST_REQUESTS: u64 = 50;
/// …and before the end: the first answers of a fresh process are slow, for its caches are cold.
const LEAST_REQUESTS_EARLY: u64 = 200;

/// Half of the answers may take this many times as long…
const P50_FACTOR: f64 = 1.7;
/// …and so much longer, in microseconds: what is fast enough for anybody may differ…
const P50_SLACK: f64 = 3_000.0;
/// …if the mean differs so much too. The places of the histogram are a factor of two wide, so that a
/// small difference may look like a large one; the mean is exact, but a few slow answers can make it.
const P50_MEAN_FACTOR: f64 = 1.6;
/// Whatever the mean says, half of the answers may not take this many times as long: that is more than
/// two places of the histogram can feign.
const P50_SURE_FACTOR: f64 = 4.0;

/// The slowest answers may take this many times as long…
const P99_FACTOR: f64 = 2.0;
/// …and so much longer, in microseconds: one pause of the machine is in them…
const P99_SLACK: f64 = 20_000.0;
/// …if surely so many are slower than that, since of two hundred answers the 99th of a hundred is the second or third…
const P99_SHARE: f64 = 0.01;
/// …if half of all answers take this much longer too…
const P99_P50_FACTOR: f64 = 1.5;
/// …and so does the mean.
const P99_MEAN_FACTOR: f64 = 1.2;

/// An event loop may be late this many times as long…
const LAG_FACTOR: f64 = 4.0;
/// …and so long, in microseconds: shorter pauses nobody notices. It has to happen twice.
const LAG_SLACK: f64 = 100_000.0;

/// A worker may grow by so many bytes while it is compared: a fresh one fills its caches.
const GROWTH_SLACK: f64 = (32 << 20) as f64;
/// It leaks if at least this part of it came steadily, the same every second. Caches fill in jumps, and
/// connections are taken over all at once.
const STEADY_PART: f64 = 0.5;
/// The old workers may grow too, with the same load; so many times as much is worse.
const GROWTH_FACTOR: f64 = 4.0;

/// Probes on both sides below which their times are not compared.
const LEAST_PROBES: usize = 3;
/// A probe may take this many times as long…
const PROBE_FACTOR: f64 = 3.0;
/// …and so much longer, in microseconds: it hashes a password and writes to the disk.
const PROBE_SLACK: f64 = 200_000.0;
/// So many probes have to fail before the end: one may have met a busy database.
const FAILED_PROBES: usize = 2;

/// With fewer requests only a probe that went well is evidence.
pub(super) const ENOUGH_REQUESTS: u64 = 30;

/// What an old build that cannot say its figures is taken for: a server that is slow, but well.
const ANY_P50: f64 = 250_000.0;
const ANY_P99: f64 = 1_000_000.0;
const ANY_LAG: f64 = 250_000.0;

/// What the new build is compared with.
struct Bounds {
    error_share: f64,
    panics: u64,
    /// None where there are too few requests to say.
    times: Option<Times>,
    lag: f64,
    growth: f64,
}

/// Why the new build is clearly worse, if it is. Without `old` the old workers cannot say their figures.
pub(super) fn worse(new: &Side, old: Option<&Side>) -> Option<String> {
    is_worse(new, old, LEAST_REQUESTS_EARLY)
}

fn is_worse(new: &Side, old: Option<&Side>, least_requests: u64) -> Option<String> {
    let bounds = old.map_or_else(any_build, |old| bounds(old, least_requests));
    panics(new, old, &bounds)
        .or_else(|| errors(new, old, &bounds))
        .or_else(|| slow(new, old, &bounds, least_requests))
        .or_else(|| late(new, &bounds))
        .or_else(|| leaks(new, &bounds))
        .or_else(|| probes_fail(new, old, FAILED_PROBES))
        .or_else(|| probes_slow(new, old))
}

/// The last word: what was seen, in figures, if the new build is no worse; why it may not go on if it is,
/// or if nothing was seen.
pub(super) fn verdict(new: &Side, old: Option<&Side>) -> Result<String, String> {
    let worse = is_worse(new, old, LEAST_REQUESTS);
    if let Some(reason) = worse.or_else(|| probes_fail(new, old, 1)) {
        return Err(reason);
    }
    let failure = new.probes.iter().rev().find_map(|probe| probe.as_ref().err());
    if new.requests < ENOUGH_REQUESTS && !new.probes.iter().any(Result::is_ok) {
        let seen = format!("nobody asked it for more than {} answers", new.requests);
        return Err(match failure {
            Some(failure) => format!("{seen}, and a probe fails in both builds: {failure}"),
            None => format!("{seen}, and no probe came to its end"),
        });
    }
    Ok(summary(new, old))
}

fn bounds(old: &Side, least_requests: u64) -> Bounds {
    Bounds {
        error_share: share(old.server_errors, old.requests),
        panics: old.panics,
        times: old.times(least_requests),
        lag: old.lags.iter().copied().max().unwrap_or(0) as f64,
        growth: old.growths().map(|(_, steady)| steady).fold(0.0, f64::max),
    }
}

fn any_build() -> Bounds {
    let times = Times { p50: ANY_P50, p99: ANY_P99, mean: ANY_P50 };
    Bounds { error_share: 0.0, panics: 0, times: Some(times), lag: ANY_LAG, growth: 0.0 }
}

fn panics(new: &Side, old: Option<&Side>, bounds: &Bounds) -> Option<String> {
    (new.panics > 0 && bounds.panics == 0).then(|| {
        let old = old.map_or_else(unknown, |old| format!("none in {}", old.requests));
        format!(
            "the new build panicked {} times in {} requests, the old one {old}",
            new.panics, new.requests
        )
    })
}

fn errors(new: &Side, old: Option<&Side>, bounds: &Bounds) -> Option<String> {
    let surely = at_least(new.server_errors, new.requests);
    (new.server_errors >= LEAST_ERRORS && surely > bounds.error_share + ERROR_SLACK).then(|| {
        let told = |side: &Side| {
            let share = 100.0 * share(side.server_errors, side.requests);
            format!("{share:.1} % of {}", side.requests)
        };
        let old = old.map_or_else(unknown, told);
        format!("the new build answers {} requests with 5xx, the old one {old}", told(new))
    })
}

fn slow(new: &Side, old: Option<&Side>, bounds: &Bounds, least_requests: u64) -> Option<String> {
    let (was, is) = (bounds.times?, new.times(least_requests)?);
    let surely = is.p50 > P50_SURE_FACTOR * was.p50 + P50_SLACK;
    let median = is.p50 > P50_FACTOR * was.p50 + P50_SLACK && is.mean > P50_MEAN_FACTOR * was.mean;
    let slower = new.slower_than(P99_FACTOR * was.p99 + P99_SLACK);
    let slowest = at_least(slower, new.requests) > P99_SHARE
        && is.p50 > P99_P50_FACTOR * was.p50
        && is.mean > P99_MEAN_FACTOR * was.mean;
    (surely || median || slowest).then(|| {
        let told = |times: Times| {
            format!(
                "half of the answers in {} and 99 % in {}",
                millis(times.p50),
                millis(times.p99)
            )
        };
        let old = old.map_or_else(unknown, |_| told(was));
        format!("the new build gives {}, the old one {old}", told(is))
    })
}

fn late(new: &Side, bounds: &Bounds) -> Option<String> {
    let lag = new.second_lag() as f64;
    (lag > LAG_SLACK && lag > LAG_FACTOR * bounds.lag).then(|| {
        let (is, was) = (millis(lag), millis(bounds.lag));
        format!("the new build's event loop was late by {is} more than once, the old one's by {was} at most")
    })
}

fn leaks(new: &Side, bounds: &Bounds) -> Option<String> {
    new.growths().find_map(|(all, steady)| {
        let leaks = all > GROWTH_SLACK
            && steady > STEADY_PART * GROWTH_SLACK
            && steady > GROWTH_FACTOR * bounds.growth;
        leaks.then(|| {
            let (is, was) = (mebibytes(all), mebibytes(bounds.growth));
            format!(
                "the new build grew steadily by {is} in {} requests, the old one by {was}",
                new.requests
            )
        })
    })
}

/// A probe that fails says something where the old build's works, or cannot be asked.
fn probes_fail(new: &Side, old: Option<&Side>, least: usize) -> Option<String> {
    let failures: Vec<&String> =
        new.probes.iter().filter_map(|probe| probe.as_ref().err()).collect();
    let works = |old: &Side| !old.probes.is_empty() && old.probes.iter().all(Result::is_ok);
    let last = failures.last()?;
    (failures.len() >= least && old.is_none_or(works)).then(|| {
        let old = old.map_or_else(unknown, |_| "works".to_owned());
        format!("a probe of the new build fails, and one of the old build {old}: {last}")
    })
}

fn probes_slow(new: &Side, old: Option<&Side>) -> Option<String> {
    let middle = |side: &Side| {
        let mut times: Vec<u64> =
            side.probes.iter().filter_map(|probe| probe.as_ref().ok().copied()).collect();
        times.sort_unstable();
        (times.len() >= LEAST_PROBES).then(|| times[times.len() / 2] as f64)
    };
    let (is, was) = (middle(new)?, middle(old?)?);
    (is > PROBE_FACTOR * was + PROBE_SLACK).then(|| {
        format!("a probe of the new build takes {}, of the old one {}", millis(is), millis(was))
    })
}

fn summary(new: &Side, old: Option<&Side>) -> String {
    let told = |side: &Side| {
        let times = side.times(1).map_or_else(String::new, |times| {
            format!(", half in {} and 99 % in {}", millis(times.p50), millis(times.p99))
        });
        let well = side.probes.iter().filter(|probe| probe.is_ok()).count();
        let (requests, errors, probes) = (side.requests, side.server_errors, side.probes.len());
        format!(
            "{requests} requests, {errors} answered with 5xx{times}, {well} of {probes} probes went well"
        )
    };
    let old = old.map_or_else(unknown, told);
    format!("new: {}; old: {old}", told(new))
}

fn unknown() -> String {
    "is a build that cannot say (bounds for any build were applied)".to_owned()
}

fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

/// The smallest share that can be meant by so many of so many: the lower end of Wilson's interval
/// (E. B. Wilson, Probable inference, 1927), which is sound for small numbers too.
fn at_least(part: u64, all: u64) -> f64 {
    if all == 0 {
        return 0.0;
    }
    let (n, p, z) = (all as f64, share(part.min(all), all), SURE);
    let middle = p + z * z / (2.0 * n);
    let spread = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((middle - spread) / (1.0 + z * z / n)).max(0.0)
}

fn millis(micros: f64) -> String {
    let time = Duration::from_micros(micros as u64);
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / f64::from(1 << 20))
}
