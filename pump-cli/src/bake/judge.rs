//! Whether a release that serves is found wanting. Pure.
//!
//! Without old workers beside it there is nothing to compare times with, so the bounds are about what is
//! wrong whatever the load: errors, panics, deaths, probes that fail, memory that only grows. What the
//! builds before did over their whole life is the measure for errors.

use std::collections::BTreeMap;
use std::fmt;

use pump_control::control::{Phase, Status, WorkerState};
use serde_json::{Value, json};

/// Share of answers with 5xx that a release may have beyond what the builds before had.
const ERROR_SLACK: f64 = 0.01;

/// Errors below this number are no evidence: one or two say nothing about a share.
const LEAST_ERRORS: u64 = 4;

/// How sure the share of errors has to be: 99 % of the normal distribution, two-sided, as it is looked at
/// every second and chance has as many tries.
const SURE: f64 = 2.576;

/// Processes that may die: somebody may have killed one, and the machine may have been out of memory.
const DEATHS: u64 = 1;

/// Probes in a row that have to fail: one may have met a busy database.
const FAILED_PROBES: u32 = 2;

/// Bytes that one worker may grow by while it is watched.
const GROWTH: u64 = 512 << 20;

/// Looks in a row that may find fewer ready workers than there should be. A look is a second, and a worker
/// that died is replaced sooner.
const LOOKS_WITH_TOO_FEW: u32 = 60;

/// What the builds before have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Before {
    requests: u64,
    errors: u64,
    panics: u64,
}

impl Before {
    /// From the sums over all workers there have been, without those of the release that is watched.
    pub(super) fn of(metrics: &str, status: &Status, build: &str) -> Self {
        let mut seen = Seen::default();
        seen.look(status, build);
        let sum = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or_default()
        };
        Self {
            requests: sum("pump_requests_total").saturating_sub(seen.requests()),
            errors: sum("pump_server_errors_total").saturating_sub(seen.errors()),
            panics: sum("pump_panics_total").saturating_sub(seen.panics()),
        }
    }
}

/// What was seen of the release that is watched.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    workers: BTreeMap<u64, Worker>,
    master: Option<u32>,
    deaths: u64,
    looks_with_too_few: u32,
    ready: (usize, usize),
    probes: (u64, u64),
    failed_in_a_row: u32,
    why: String,
}

#[derive(Clone, Copy, Debug, Default)]
struct Worker {
    requests: u64,
    errors: u64,
    panics: u64,
    first_resident: u64,
    resident: u64,
    there: bool,
    leaves: bool,
    generation: u64,
}

impl Seen {
    /// The server as it is now.
    pub(super) fn look(&mut self, status: &Status, build: &str) {
        if self.master.replace(status.pid).is_some_and(|pid| pid != status.pid) {
            self.deaths += 1;
        }
        let mut here = BTreeMap::new();
        for worker in status.workers.iter().filter(|one| one.build.build == build) {
            here.insert(worker.worker, worker);
        }
        let rolling = status.phase != Phase::Running;
        for (number, known) in &mut self.workers {
            if known.there && !here.contains_key(number) {
                // One that was asked to leave has ended as it should, also in a restart between two looks.
                let replaced = known.leaves || rolling || known.generation < status.generation;
                self.deaths += u64::from(!replaced);
                known.there = false;
            }
        }
        for (number, worker) in here {
            let known = self.workers.entry(number).or_default();
            known.there = true;
            known.generation = worker.generation;
            known.leaves |= matches!(worker.state, WorkerState::Draining) || rolling;
            // A worker that has not answered this time has said nothing; sums only grow.
            let grow = |sum: &mut u64, said: Option<u64>| *sum = (*sum).max(said.unwrap_or(0));
            grow(&mut known.requests, worker.requests);
            grow(&mut known.errors, worker.server_errors);
            grow(&mut known.panics, worker.panics);
            known.resident = worker.resident.unwrap_or(known.resident);
            if known.first_resident == 0 {
                known.first_resident = known.resident;
            }
        }
        let is_ready = |one: &&pump_control::control::Worker| one.state == WorkerState::Ready;
        let ready = status.workers.iter().filter(is_ready).count();
        self.ready = (ready, status.wanted as usize);
        let too_few = self.ready.0 < self.ready.1;
        self.looks_with_too_few = if too_few { self.looks_with_too_few + 1 } else { 0 };
    }

    /// How a probe went; none where it could not be asked for. After the last one no other follows, so
    /// it has been tried twice.
    pub(super) fn probed(&mut self, result: Option<Result<(), String>>, last: bool) {
        match result {
            None => {}
            Some(Ok(())) => {
                self.probes.0 += 1;
                self.failed_in_a_row = 0;
            }
            Some(Err(why)) => {
                self.probes.1 += 1;
                self.failed_in_a_row += if last { FAILED_PROBES } else { 1 };
                self.why = why;
            }
        }
    }

    fn sum(&self, of: impl Fn(&Worker) -> u64) -> u64 {
        self.workers.values().map(of).fold(0, u64::saturating_add)
    }

    fn requests(&self) -> u64 {
        self.sum(|worker| worker.requests)
    }

    fn errors(&self) -> u64 {
        self.sum(|worker| worker.errors)
    }

    fn panics(&self) -> u64 {
        self.sum(|worker| worker.panics)
    }

    /// The most that a worker has grown by, in bytes.
    fn growth(&self) -> u64 {
        let grown = |worker: &Worker| worker.resident.saturating_sub(worker.first_resident);
        self.workers.values().map(grown).max().unwrap_or_default()
    }

    /// For programs.
    pub(super) fn figures(&self) -> Value {
        json!({
            "requests": self.requests(), "server_errors": self.errors(), "panics": self.panics(),
            "deaths": self.deaths, "grown_bytes": self.growth(),
            "probes_well": self.probes.0, "probes_failed": self.probes.1,
        })
    }
}

/// What was seen, for people.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (well, failed) = self.probes;
        write!(
            f,
            "{} of {} answers were 5xx, {well} of {} probes went well",
            self.errors(),
            self.requests(),
            well + failed
        )?;
        match self.deaths {
            0 => Ok(()),
            1 => write!(f, ", 1 process died"),
            deaths => write!(f, ", {deaths} processes died"),
        }
    }
}

/// Why the release is found wanting, if it is.
pub(super) fn worse(seen: &Seen, before: Option<&Before>) -> Option<String> {
    let before = before.copied().unwrap_or_default();
    let (requests, errors, panics) = (seen.requests(), seen.errors(), seen.panics());
    if seen.failed_in_a_row >= FAILED_PROBES {
        let (well, failed) = seen.probes;
        let all = well + failed;
        return Some(format!(
            "{failed} of {all} probes, which do what a person does, failed: {}",
            seen.why
        ));
    }
    if seen.deaths > DEATHS {
        return Some(format!("{} processes of it died", seen.deaths));
    }
    if panics > 0 && before.panics == 0 {
        return Some(format!(
            "{panics} of {requests} requests panicked, none of {} before it",
            before.requests
        ));
    }
    let was = share(before.errors, before.requests);
    if errors >= LEAST_ERRORS && surely(errors, requests) > was + ERROR_SLACK {
        return Some(format!(
            "{errors} of {requests} answers were 5xx ({:.1} %), {} of {} before it ({:.1} %)",
            share(errors, requests) * 100.0,
            before.errors,
            before.requests,
            was * 100.0
        ));
    }
    if seen.looks_with_too_few > LOOKS_WITH_TOO_FEW {
        let (ready, wanted) = seen.ready;
        return Some(format!(
            "{ready} of {wanted} workers are ready, and that for more than {LOOKS_WITH_TOO_FEW} s"
        ));
    }
    if seen.growth() > GROWTH {
        return Some(format!("a worker has grown by {} MiB", seen.growth() >> 20));
    }
    None
}

fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

/// The share that the true one is hardly below (Wilson's score interval, lower end).
fn surely(part: u64, all: u64) -> f64 {
    let (n, p, z) = (all.max(part).max(1) as f64, share(part, all.max(part)), SURE);
    let middle = p + z * z / (2.0 * n);
    let spread = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((middle - spread) / (1.0 + z * z / n)).max(0.0)
}

#[cfg(test)]
mod tests {
    use pump_control::control::{Build, Worker as Told};

    use super::*;

    fn told(worker: u64, requests: u64, errors: u64) -> Told {
        Told {
            worker,
            build: Build { build: "new".to_owned(), ..Build::default() },
            state: WorkerState::Ready,
            requests: Some(requests),
            server_errors: Some(errors),
            panics: Some(0),
            resident: Some(20 << 20),
            ..Told::default()
        }
    }

    fn status(workers: Vec<Told>) -> Status {
        Status { pid: 7, phase: Phase::Running, wanted: 2, workers, ..Status::default() }
    }

    fn seen(looks: &[Status]) -> Seen {
        let mut seen = Seen::default();
        looks.iter().for_each(|status| seen.look(status, "new"));
        seen
    }

    #[track_caller]
    fn check(seen: &Seen, before: Before, says: Option<&str>) {
        let found = worse(seen, Some(&before));
        assert_eq!(found.is_some(), says.is_some(), "{found:?}");
        if let (Some(found), Some(says)) = (found, says) {
            assert!(found.contains(says), "{found}");
        }
    }

    #[test]
    fn a_share_of_errors_is_measured_by_what_was_before_and_by_chance() {
        let fine = Before { requests: 10_000, ..Before::default() };
        let poor = Before { requests: 10_000, errors: 3_000, panics: 0 };
        let of = |requests, errors| seen(&[status(vec![told(1, requests, errors), told(2, 0, 0)])]);
        check(&of(1000, 0), fine, None);
        check(&of(10, 3), fine, None);
        check(&of(1000, 15), fine, None);
        check(&of(1000, 100), fine, Some("100 of 1000 answers were 5xx (10.0 %), 0 of 10000"));
        check(&of(1000, 300), poor, None);
        check(&of(1000, 400), poor, Some("3000 of 10000 before it (30.0 %)"));
        // A machine that was just started has no past.
        check(&of(40, 40), Before::default(), Some("40 of 40"));
    }

    #[test]
    fn one_death_may_be_somebody_else_s_doing_and_two_are_not() {
        let both = status(vec![told(1, 5, 0), told(2, 5, 0)]);
        let one_new = status(vec![told(2, 5, 0), told(3, 0, 0)]);
        check(&seen(&[both.clone(), one_new.clone()]), Before::default(), None);
        let two_new = status(vec![told(3, 0, 0), told(4, 0, 0)]);
        let died = seen(&[both.clone(), one_new, two_new]);
        check(&died, Before::default(), Some("2 processes of it died"));
        assert_eq!(died.requests(), 10, "what the dead have answered counts");
        // The master counts too.
        let next = Status { pid: 8, ..both.clone() };
        let next_again = Status { pid: 9, ..both.clone() };
        check(&seen(&[both.clone(), next, next_again]), Before::default(), Some("died"));
        // Whoever was asked to leave has not died.
        let mut leaving = both.clone();
        leaving.workers.iter_mut().for_each(|worker| worker.state = WorkerState::Draining);
        let leave = [both.clone(), leaving, status(vec![told(5, 0, 0)])];
        check(&seen(&leave), Before::default(), None);
        // Nor has one that a restart has replaced since the last look.
        let mut restarted = status(vec![told(5, 0, 0), told(6, 0, 0)]);
        restarted.generation = both.generation + 1;
        check(&seen(&[both, restarted]), Before::default(), None);
    }

    #[test]
    fn probes_panics_missing_workers_and_memory() {
        let fine = status(vec![told(1, 5, 0), told(2, 5, 0)]);
        let mut probed = seen(std::slice::from_ref(&fine));
        probed.probed(Some(Err("busy".to_owned())), false);
        check(&probed, Before::default(), None);
        probed.probed(Some(Ok(())), false);
        probed.probed(Some(Err("GET / was answered with 500".to_owned())), false);
        check(&probed, Before::default(), None);
        probed.probed(Some(Err("GET / was answered with 500".to_owned())), false);
        check(
            &probed,
            Before::default(),
            Some("3 of 4 probes, which do what a person does, failed: GET /"),
        );

        let mut panics = fine.clone();
        panics.workers[0].panics = Some(1);
        check(&seen(&[panics.clone()]), Before::default(), Some("1 of 10 requests panicked"));
        let always = Before { requests: 9, panics: 1, errors: 0 };
        check(&seen(&[panics]), always, None);

        let few = status(vec![told(1, 5, 0)]);
        check(&seen(&vec![few.clone(); 60]), Before::default(), None);
        check(&seen(&vec![few; 61]), Before::default(), Some("1 of 2 workers are ready"));

        let mut large = fine.clone();
        large.workers[1].resident = Some(600 << 20);
        check(&seen(&[large.clone()]), Before::default(), None);
        check(&seen(&[fine, large]), Before::default(), Some("grown by 580 MiB"));
    }

    #[test]
    fn the_past_is_what_all_did_without_the_release_itself() {
        let metrics = "# TYPE pump_requests counter\npump_requests_total 1000\n\
                       pump_server_errors_total 7\npump_panics_total 1\n# EOF\n";
        let now = status(vec![told(1, 40, 2), told(2, 60, 0)]);
        let before = Before::of(metrics, &now, "new");
        assert_eq!(before, Before { requests: 900, errors: 5, panics: 1 });
        assert_eq!(Before::of("", &now, "new"), Before::default());
    }
}
