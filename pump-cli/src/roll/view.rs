//! A roll on a terminal: a line for each step, and below them one that lives.
//!
//! Without a terminal there are the lines alone, and with `--json` nothing: there each step is a value.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use pump_control::control::{Canary, Event, Status, Who, WorkerState};

use crate::report::{Report, printable};

/// How often the living line is drawn, so that its seconds go on while nothing happens.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// What a terminal shows of a roll.
#[derive(Debug)]
pub(super) struct View {
    line: ProgressBar,
    seen: Seen,
}

/// What is known of the roll.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Each worker's generation and state, by its number.
    workers: BTreeMap<u64, (u64, WorkerState)>,
    /// The generation that is rolled onto; everything else is old.
    generation: Option<u64>,
    onto: String,
    doing: String,
}

impl View {
    /// Begins with what the cluster was like before.
    pub(super) fn begin(report: &Report, before: Option<Status>) -> Self {
        let mut seen =
            Seen { doing: "the candidate is asked what it is".into(), ..Seen::default() };
        for worker in before.iter().flat_map(|status| &status.workers) {
            seen.workers.insert(worker.worker, (worker.generation, worker.state));
        }
        let line = match report.json || report.quiet {
            true => ProgressBar::hidden(),
            // Draws on standard error, and only when that is a terminal.
            false => ProgressBar::new_spinner(),
        };
        let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}");
        line.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        line.enable_steady_tick(DRAW_EVERY);
        let view = Self { line, seen };
        view.draw();
        view
    }

    /// Shows a step.
    pub(super) fn step(&mut self, report: &Report, text: &str, event: &Event) {
        self.seen.take(event);
        // It is said once a second, and the living line has it.
        let passing = matches!(event, Event::Canary(_)) && !self.line.is_hidden();
        if !passing {
            self.line.suspend(|| report.say(text));
        }
        self.draw();
    }

    /// Shows how far a roll is whose steps are not told any more.
    pub(super) fn status(&mut self, status: &Status) {
        self.seen.workers.clear();
        for worker in &status.workers {
            self.seen.workers.insert(worker.worker, (worker.generation, worker.state));
        }
        if let Some(roll) = &status.roll {
            self.seen.doing.clone_from(&roll.sentence);
        }
        self.draw();
    }

    fn draw(&self) {
        self.line.set_message(printable(&self.seen.line()));
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}

impl Seen {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Inspected { candidate, generation, .. } => {
                self.generation = Some(*generation);
                self.onto = candidate.short();
                self.doing = "the candidate prepares the database".to_owned();
            }
            Event::Prepared => self.doing = "its master is rehearsed".to_owned(),
            Event::Rehearsed => self.doing = "its master would take over".to_owned(),
            Event::WorkerStarted(who) => {
                self.is(who, WorkerState::Starting);
                self.doing = "new workers come up".to_owned();
            }
            Event::WorkerReady(who) => self.is(who, WorkerState::Ready),
            Event::WorkerDraining { who, .. } => self.is(who, WorkerState::Draining),
            Event::WorkerKilled(who) => self.is(who, WorkerState::Killed),
            Event::WorkerStuck(who) => self.is(who, WorkerState::Stuck),
            Event::WorkerGone(who) | Event::WorkerLost { who, .. } => {
                self.workers.remove(&who.worker);
            }
            Event::Canary(canary) => self.doing = compared(canary),
            Event::Watching { millis } => {
                self.doing = format!("all are new and are watched for {} s", millis.div_ceil(1000));
            }
            Event::ReplacingMaster { .. } => self.doing = "the master is replaced".to_owned(),
            Event::MasterReplaced { .. } => self.doing = "the master is new".to_owned(),
            Event::GoingBack { .. } => self.doing = "going back to the old build".to_owned(),
            _ => {}
        }
    }

    fn is(&mut self, who: &Who, state: WorkerState) {
        self.workers.insert(who.worker, (who.generation, state));
    }

    /// `2 old, 1 new and 1 starting → 0.2.0+1a2b3c4d: what it is doing`.
    fn line(&self) -> String {
        let is_new = |generation: &u64| Some(*generation) == self.generation;
        let count = |new: bool, wanted: WorkerState| {
            let all = self.workers.values();
            all.filter(|(generation, state)| is_new(generation) == new && *state == wanted).count()
        };
        let coming = count(true, WorkerState::Starting) + count(false, WorkerState::Starting);
        let leaving = self.workers.values().filter(|(_, state)| {
            matches!(state, WorkerState::Draining | WorkerState::Killed | WorkerState::Stuck)
        });
        let mut parts = vec![
            format!("{} old", count(false, WorkerState::Ready)),
            format!("{} new", count(true, WorkerState::Ready)),
        ];
        for (count, word) in [(coming, "starting"), (leaving.count(), "leaving")] {
            if count > 0 {
                parts.push(format!("{count} {word}"));
            }
        }
        let onto = if self.onto.is_empty() { String::new() } else { format!(" → {}", self.onto) };
        format!("{}{onto}: {}", parts.join(", "), self.doing)
    }
}

/// The figures of a canary, short.
fn compared(canary: &Canary) -> String {
    let share = |part: u64, all: u64| part as f64 * 100.0 / all.max(1) as f64;
    format!(
        "compared for {} of {} s: {} requests, {:.1} % errors (old {:.1} %), p99 {} ms (old {} ms)",
        canary.elapsed_millis / 1000,
        canary.lasts_millis / 1000,
        canary.new.requests,
        share(canary.new.server_errors, canary.new.requests),
        share(canary.old.server_errors, canary.old.requests),
        canary.new.p99_micros / 1000,
        canary.old.p99_micros / 1000,
    )
}

#[cfg(test)]
mod tests {
    use pump_control::control::{Build, Worker};

    use super::*;

    #[test]
    fn the_living_line_follows_the_steps() {
        let old = |worker| Worker {
            worker,
            generation: 1,
            state: WorkerState::Ready,
            ..Worker::default()
        };
        let before = Status { workers: vec![old(1), old(2)], ..Status::default() };
        let report = Report { json: true, quiet: false };
        let mut view = View::begin(&report, Some(before));
        let who = |worker, generation| Who { worker, generation, ..Who::default() };
        let mut check = |event: Event, want: &str| {
            view.step(&report, "", &event);
            assert_eq!(view.seen.line(), want, "{event:?}");
        };
        let build = "1a2b3c4d5e".to_owned();
        let candidate = Build { version: "2.0.0".to_owned(), build, ..Build::default() };
        let inspected = Event::Inspected { candidate, generation: 2, workers: 2, parallel: 1 };
        check(inspected, "2 old, 0 new → 2.0.0+1a2b3c4d: the candidate prepares the database");
        let up = "→ 2.0.0+1a2b3c4d: new workers come up";
        check(Event::Prepared, "2 old, 0 new → 2.0.0+1a2b3c4d: its master is rehearsed");
        check(Event::WorkerStarted(who(3, 2)), &format!("2 old, 0 new, 1 starting {up}"));
        check(Event::WorkerReady(who(3, 2)), &format!("2 old, 1 new {up}"));
        let draining = Event::WorkerDraining {
            who: who(1, 1),
            connections: Default::default(),
            successor: None,
        };
        check(draining, &format!("1 old, 1 new, 1 leaving {up}"));
        check(Event::WorkerGone(who(1, 1)), &format!("1 old, 1 new {up}"));
        let lost = Event::WorkerLost { who: who(3, 2), failure: "it died".to_owned() };
        check(lost, &format!("1 old, 0 new {up}"));
    }
}
