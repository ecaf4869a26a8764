//! What must hold for the demo to have succeeded.

use std::collections::BTreeSet;
use std::time::Duration;

use pump_control::control::Status;
use pump_test::load::{Class, Report};

use super::people::People;

/// Requests below which "none failed" says too little.
pub(super) const MIN_REQUESTS: u64 = 20_000;

/// Problems with notes that are told one by one.
const TOLD_PROBLEMS: usize = 10;

/// All that was seen.
pub(super) struct Evidence {
    pub(super) report: Report,
    pub(super) begins: Duration,
    pub(super) ends: Duration,
    pub(super) before: Status,
    pub(super) after: Status,
    /// Each worker's pid and the hash of what it runs, after the upgrade.
    pub(super) workers: Vec<(u32, Option<String>)>,
    /// The hash of what the master runs after the upgrade.
    pub(super) master: Option<String>,
    pub(super) new_build: String,
}

/// One line of the verdict.
pub(super) struct Line {
    pub(super) holds: bool,
    pub(super) text: String,
}

impl Evidence {
    /// Holds what was seen against what must be.
    ///
    /// # Errors
    /// When the public API does not answer.
    pub(super) fn judge(&self, people: &People) -> anyhow::Result<Vec<Line>> {
        let report = &self.report;
        let mut lines = vec![line(
            report.failures() == 0 && report.requests() as u64 >= MIN_REQUESTS,
            format!(
                "{} of {} requests failed (at least {MIN_REQUESTS} asked for)",
                report.failures(),
                report.requests()
            ),
        )];
        self.judge_notes(people, &mut lines)?;
        self.judge_builds(&mut lines);
        let (old, new) = (self.before.pid, self.after.pid);
        lines.push(line(old == new, format!("the master's pid was {old} and is {new}")));
        let follows = self.master.as_deref() == Some(&*self.new_build);
        lines.push(line(follows, "the master runs the new build (/proc/PID/exe)".to_owned()));
        lines.push(self.tell_times());
        Ok(lines)
    }

    /// Every author's outbox, and the home feed of who follows them all.
    fn judge_notes(&self, people: &People, lines: &mut Vec<Line>) -> anyhow::Result<()> {
        let ledger = self.report.ledger();
        let mut audits = Vec::new();
        for author in ledger.authors() {
            let outbox = people.api.outbox(author)?;
            audits.push((format!("{author}'s outbox"), ledger.check(Some(author), &outbox)));
        }
        let feed = people.api.feed(&people.listener)?;
        audits.push(("a follower's home feed".to_owned(), ledger.check(None, &feed)));
        for (place, audit) in audits {
            let wrong = audit.problems.len();
            lines.push(line(
                wrong == 0 && audit.acknowledged > 0,
                format!("{wrong} of {} notes lost or doubled in {place}", audit.acknowledged),
            ));
            let told = audit.problems.iter().take(TOLD_PROBLEMS);
            lines.extend(told.map(|problem| line(false, format!("  {problem}"))));
        }
        Ok(())
    }

    fn judge_builds(&self, lines: &mut Vec<Line>) {
        let new = u32::from_str_radix(self.new_build.get(..8).unwrap_or_default(), 16).ok();
        let after = self.report.servers_within(self.ends..Duration::MAX);
        let all_new = !after.is_empty() && after.iter().all(|server| Some(server.build) == new);
        let text = "whatever was asked after the upgrade was answered by the new build";
        lines.push(line(all_new, text.to_owned()));

        let wanted = self.after.wanted as usize;
        let count = self
            .workers
            .iter()
            .filter(|(_, build)| build.as_deref().is_some_and(|build| build == self.new_build));
        let count = count.count();
        lines.push(line(
            count == self.workers.len() && count >= wanted,
            format!("{count} of {} workers run the new build (/proc/PID/exe)", self.workers.len()),
        ));
        let old: BTreeSet<u32> = self.before.workers.iter().map(|worker| worker.pid).collect();
        let kept = self.workers.iter().filter(|(pid, _)| old.contains(pid)).count();
        lines.push(line(kept == 0, format!("{kept} old workers are left")));
    }

    fn tell_times(&self) -> Line {
        let seconds = (self.ends - self.begins).as_secs_f64();
        let first = self.report.first_above(self.before.generation, self.begins);
        let first = first.map(|first| (first - self.begins).as_secs_f64());
        let waits = self.report.quantiles(Some(Class::New), self.begins..self.ends);
        let worst = waits.unwrap_or_default().worst.as_secs_f64() * 1000.0;
        let text = match first {
            Some(first) => format!(
                "the upgrade took {seconds:.1} s, its first answer came after {first:.2} s; \
                 the longest wait of a new connection meanwhile was {worst:.0} ms"
            ),
            None => "no answer came from a new generation".to_owned(),
        };
        line(first.is_some(), text)
    }
}

fn line(holds: bool, text: String) -> Line {
    Line { holds, text }
}

#[cfg(test)]
mod tests {
    use pump_test::load::{Outcome, Record, Server};

    use super::*;

    const OLD: &str = "0000000a";

    fn evidence(after: &[(u64, u32)], workers: &[(u32, &str)]) -> Evidence {
        let status = serde_json::json!({
            "pid": 10, "sentence": "", "phase": "running", "master": {}, "workers_build": {},
            "generation": 1, "wanted": 2, "public_url": "", "listen": [], "config": "",
            "up_seconds": 1, "workers": [{ "worker": 1, "pid": 11, "generation": 1, "build": {},
            "state": "ready" }],
        });
        let status: Status = serde_json::from_value(status).expect("a status");
        let record = |(generation, build): &(u64, u32)| Record {
            class: Class::New,
            asked: Duration::from_secs(9),
            ended: Duration::from_secs(9),
            took: Duration::from_millis(1),
            outcome: Outcome::Ok,
            by: Some(Server { generation: *generation, build: *build, pid: 12 }),
        };
        let workers = workers.iter().map(|(pid, build)| (*pid, Some((*build).to_owned())));
        Evidence {
            report: Report { records: after.iter().map(record).collect(), ..Report::default() },
            begins: Duration::from_secs(3),
            ends: Duration::from_secs(8),
            before: status.clone(),
            after: status,
            workers: workers.collect(),
            master: None,
            new_build: "0000000b5e".to_owned(),
        }
    }

    fn failing(evidence: &Evidence) -> usize {
        let mut lines = Vec::new();
        evidence.judge_builds(&mut lines);
        lines.push(evidence.tell_times());
        lines.iter().filter(|line| !line.holds).count()
    }

    #[test]
    fn an_old_build_anywhere_after_the_upgrade_fails_the_demo() {
        let new = "0000000b5e";
        assert_eq!(failing(&evidence(&[(2, 11)], &[(21, new), (22, new)])), 0);
        assert_eq!(failing(&evidence(&[(2, 11), (1, 10)], &[(21, new), (22, new)])), 1, "answer");
        assert_eq!(failing(&evidence(&[(2, 11)], &[(21, new), (22, OLD)])), 1, "worker");
        assert_eq!(failing(&evidence(&[(2, 11)], &[(21, new)])), 1, "too few workers");
        assert_eq!(failing(&evidence(&[(2, 11)], &[(21, new), (11, new)])), 1, "an old worker");
        assert_eq!(failing(&evidence(&[], &[(21, new), (22, new)])), 2, "no answer at all");
    }
}
