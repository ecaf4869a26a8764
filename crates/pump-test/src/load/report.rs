//! What the clients saw, counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::ops::Range;
use std::time::Duration;

use super::outcome::{Class, Failure, Outcome, Post, Record, Server};
use crate::ledger::Ledger;

/// Width of one line of the time line.
const SLICE: Duration = Duration::from_millis(500);

/// All that a load saw.
#[derive(Debug, Default)]
pub struct Report {
    /// Every request, in the order they ended.
    pub records: Vec<Record>,
    /// Every note that was sent.
    pub posts: Vec<Post>,
    /// The moments that were marked.
    pub marks: Vec<(Duration, String)>,
}

/// How long clients waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// Half of them at most this long.
    pub p50: Duration,
    /// Ninety-nine of a hundred at most this long.
    pub p99: Duration,
    /// The longest.
    pub worst: Duration,
}

/// Half a second of the time line.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// Answers by build.
    pub answers: BTreeMap<u32, usize>,
    /// Failures.
    pub failures: usize,
    /// The longest wait of the class `new`.
    pub worst: Duration,
}

impl Report {
    pub(super) fn new(
        mut records: Vec<Record>,
        posts: Vec<Post>,
        marks: Vec<(Duration, String)>,
    ) -> Self {
        records.sort_by_key(|record| record.ended);
        Self { records, posts, marks }
    }

    /// Requests in all.
    pub fn requests(&self) -> usize {
        self.records.len()
    }

    /// Requests that did not end as they should.
    pub fn failures(&self) -> usize {
        self.records.iter().filter(|record| record.outcome != Outcome::Ok).count()
    }

    /// Failures by class and kind.
    pub fn failures_by_kind(&self) -> BTreeMap<(Class, Failure), usize> {
        let mut kinds = BTreeMap::new();
        for record in &self.records {
            if let Outcome::Failed(failure) = record.outcome {
                *kinds.entry((record.class, failure)).or_insert(0) += 1;
            }
        }
        kinds
    }

    /// The notes to look for on the server.
    pub fn ledger(&self) -> Ledger<'_> {
        Ledger::new(&self.posts)
    }

    /// Waits of the good answers that ended in `window`, of one class or of all.
    pub fn quantiles(&self, class: Option<Class>, window: Range<Duration>) -> Option<Quantiles> {
        let mut took: Vec<Duration> = self
            .records
            .iter()
            .filter(|record| class.is_none_or(|class| record.class == class))
            .filter(|record| record.outcome == Outcome::Ok && window.contains(&record.ended))
            .map(|record| record.took)
            .collect();
        took.sort_unstable();
        let at = |share: usize| took.get((took.len() * share).div_ceil(100).max(1) - 1).copied();
        Some(Quantiles { p50: at(50)?, p99: at(99)?, worst: at(100)? })
    }

    /// Everyone who answered.
    pub fn servers(&self) -> BTreeSet<Server> {
        self.records.iter().filter_map(|record| record.by).collect()
    }

    /// Everyone who answered what was asked within `window`. Not what ended within it: a slow reader
    /// still reads what a worker wrote that has long gone.
    pub fn servers_within(&self, window: Range<Duration>) -> BTreeSet<Server> {
        let within = self.records.iter().filter(|record| window.contains(&record.asked));
        within.filter_map(|record| record.by).collect()
    }

    /// When the first answer of each build came.
    pub fn first_answers(&self) -> BTreeMap<u32, Duration> {
        let mut first = BTreeMap::new();
        for record in &self.records {
            if let Some(server) = record.by {
                first.entry(server.build).or_insert(record.ended);
            }
        }
        first
    }

    /// The first answer at or after `since` of a generation above `generation`.
    pub fn first_above(&self, generation: u64, since: Duration) -> Option<Duration> {
        let newer = |record: &&Record| {
            record.ended >= since && record.by.is_some_and(|by| by.generation > generation)
        };
        self.records.iter().find(newer).map(|record| record.ended)
    }

    /// The time line, half a second each.
    pub fn time_line(&self) -> Vec<Slice> {
        let mut slices: Vec<Slice> = Vec::new();
        for record in &self.records {
            let number = (record.ended.as_millis() / SLICE.as_millis()) as usize;
            if slices.len() <= number {
                slices.resize_with(number + 1, Slice::default);
            }
            let slice = &mut slices[number];
            match (record.outcome, record.by) {
                (Outcome::Failed(_), _) => slice.failures += 1,
                (Outcome::Ok, by) => {
                    *slice.answers.entry(by.map_or(0, |by| by.build)).or_insert(0) += 1;
                }
            }
            if record.class == Class::New {
                slice.worst = slice.worst.max(record.took);
            }
        }
        slices
    }

    /// The time line as text: which build answered when, failures, and what was marked.
    pub fn time_line_text(&self) -> String {
        let builds: BTreeSet<u32> =
            self.time_line().iter().flat_map(|slice| slice.answers.keys().copied()).collect();
        let mut first: Vec<u32> = builds.into_iter().collect();
        let firsts = self.first_answers();
        first.sort_by_key(|build| firsts.get(build).copied());
        let mut text = String::from("  second");
        for build in &first {
            let name = if *build == 0 { "unnamed".to_owned() } else { format!("{build:08x}") };
            let _ = write!(text, "  {name:>8}");
        }
        text.push_str("  failed  worst new\n");
        for (number, slice) in self.time_line().iter().enumerate() {
            let begins = SLICE * u32::try_from(number).unwrap_or(u32::MAX);
            let _ = write!(text, "  {:>6.1}", begins.as_secs_f64());
            for build in &first {
                match slice.answers.get(build) {
                    Some(count) => drop(write!(text, "  {count:>8}")),
                    None => text.push_str("         ."),
                }
            }
            let _ = write!(text, "  {:>6}  {:>9}", slice.failures, Millis(slice.worst).to_string());
            let marked = self.marks.iter().filter(|(at, _)| (begins..begins + SLICE).contains(at));
            for (at, what) in marked {
                let _ = write!(text, "  <- {:.2} {what}", at.as_secs_f64());
            }
            text.push('\n');
        }
        text
    }
}

/// The small table: a line for each class, then the kinds of failure.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {:<16} {:>9} {:>7} {:>9} {:>9} {:>9}",
            "class", "requests", "failed", "p50 ms", "p99 ms", "worst ms"
        )?;
        let lines = Class::ALL.map(Some).into_iter().chain([None]);
        for class in lines {
            let of_class = |record: &&Record| class.is_none_or(|class| record.class == class);
            let requests = self.records.iter().filter(of_class).count();
            if requests == 0 {
                continue;
            }
            let failed = |record: &&Record| record.outcome != Outcome::Ok;
            let failed = self.records.iter().filter(of_class).filter(failed).count();
            let name = class.map_or("all".to_owned(), |class| class.to_string());
            let waits = self.quantiles(class, Duration::ZERO..Duration::MAX).unwrap_or_default();
            writeln!(
                f,
                "  {name:<16} {requests:>9} {failed:>7} {:>9} {:>9} {:>9}",
                Millis(waits.p50).to_string(),
                Millis(waits.p99).to_string(),
                Millis(waits.worst).to_string()
            )?;
        }
        for ((class, kind), count) in self.failures_by_kind() {
            writeln!(f, "  failed: {count} x {class} {kind}")?;
        }
        Ok(())
    }
}

/// A duration in milliseconds with one digit after the point.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}", self.0.as_secs_f64() * 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(ended: u64, took: u64, outcome: Outcome, generation: u64) -> Record {
        let by = Some(Server { generation, build: 0xa0 + generation as u32, pid: 7 });
        let [ended, took] = [ended, took].map(Duration::from_millis);
        Record { class: Class::New, asked: ended.saturating_sub(took), ended, took, outcome, by }
    }

    #[test]
    fn a_report_counts_and_tells_generations_apart() {
        let bad = Outcome::Failed(Failure::Status(503));
        let records = (1..=100).map(|n| record(n * 10, n, Outcome::Ok, u64::from(n > 60) + 1));
        let records: Vec<Record> = records.chain([record(5, 900, bad, 1)]).collect();
        let report =
            Report::new(records, Vec::new(), vec![(Duration::from_millis(600), "go".into())]);

        assert_eq!((report.requests(), report.failures()), (101, 1));
        let all = Duration::ZERO..Duration::MAX;
        let waits = report.quantiles(Some(Class::New), all).expect("there are answers");
        assert_eq!([waits.p50, waits.p99, waits.worst].map(|d| d.as_millis()), [50, 99, 100]);
        assert_eq!(report.first_above(1, Duration::ZERO), Some(Duration::from_millis(610)));
        let text = report.time_line_text();
        assert!(text.contains("<- 0.60 go"), "{text}");
        assert!(
            text.lines()
                .nth(1)
                .is_some_and(|line| line.contains("000000a1") || line.contains("49"))
        );
        assert!(report.to_string().contains("1 x new status-503"), "{report}");
    }
}
