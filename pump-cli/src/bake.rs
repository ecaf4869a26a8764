//! The bake: a release that was rolled onto is watched for a while longer, before it becomes current.
//!
//! The canary of the roll compares the first worker with the old ones for seconds. What breaks after a
//! minute, or only with all workers, is seen here. Every second the master is asked how its workers are and
//! what they answered, and every few seconds one of them does what a person does (`Ask::Probe`). `judge`
//! says what is too much; it is pure. Whoever calls this rolls back.

mod judge;

use std::time::{Duration, Instant};

use pump_control::ExitStatus;
use pump_control::control::{Ask, ErrorCode, Phase, Reply, Status};
use serde_json::json;

use crate::context::Context;
use crate::control::{self, ControlError};
use crate::releases::Installed;
use crate::report::Failure;
use crate::service;
use judge::{Before, Seen};

/// How long it is watched when somebody looks on.
pub(crate) const ATTENDED: Duration = Duration::from_secs(120);

/// How long it is watched when nobody does.
pub(crate) const UNATTENDED: Duration = Duration::from_secs(15 * 60);

/// Longest time that may be asked for, in seconds: a day.
pub(crate) const MAX_SECONDS: u64 = 24 * 60 * 60;

/// How often the master is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a worker is probed.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// How long nobody may answer: a master that was killed is started again sooner.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// How often it is told that it goes on.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Watches a release that serves. Returns what was seen, as a sentence.
///
/// # Errors
/// Exit 60 where the release is found wanting: the figures are the reason, and it still serves. Exit 62
/// where it does not serve any more because somebody has rolled onto another one.
pub(crate) fn watch(
    context: &Context<'_>,
    to: &Installed,
    lasts: Duration,
) -> Result<String, Failure> {
    let (name, seconds) = (&to.name, lasts.as_secs());
    context.report.say(format_args!("{name} serves, and is watched for {seconds} s"));
    let mut watch = Watch::begin(context, to, lasts);
    loop {
        if watch.look()? {
            return watch.verdict();
        }
        // Nothing tells that a worker has answered badly.
        std::thread::park_timeout(watch.pause());
    }
}

struct Watch<'a> {
    context: &'a Context<'a>,
    to: &'a Installed,
    began: Instant,
    lasts: Duration,
    heard: Instant,
    next_probe: Instant,
    next_told: Instant,
    /// Whether the master knows how to have a worker probed.
    probes: bool,
    before: Option<Before>,
    seen: Seen,
}

impl<'a> Watch<'a> {
    fn begin(context: &'a Context<'a>, to: &'a Installed, lasts: Duration) -> Self {
        let now = Instant::now();
        Self {
            context,
            to,
            began: now,
            lasts,
            heard: now,
            next_probe: now,
            next_told: now + TELL_EVERY,
            probes: true,
            before: None,
            seen: Seen::default(),
        }
    }

    /// Looks once. True when the time is over.
    fn look(&mut self) -> Result<bool, Failure> {
        match control::status(&self.context.layout.control_socket()) {
            Ok(status) => {
                self.heard = Instant::now();
                self.is_served_by(&status)?;
                self.seen.look(&status, &self.to.info.build.to_string());
                self.compare_with_what_was(&status);
            }
            Err(ControlError::Denied(why)) => {
                return Err(service::told(ControlError::Denied(why), self.context));
            }
            Err(error) if self.heard.elapsed() >= BACK_WITHIN => {
                let seconds = BACK_WITHIN.as_secs();
                return Err(self.wanting(&format!("nobody has answered for {seconds} s: {error}")));
            }
            Err(_) => return Ok(false),
        }
        let over = self.began.elapsed() >= self.lasts;
        if Instant::now() >= self.next_probe || over {
            self.probe(over);
        }
        if let Some(reason) = judge::worse(&self.seen, self.before.as_ref()) {
            return Err(self.wanting(&reason));
        }
        self.tell();
        Ok(over)
    }

    /// Somebody else may have rolled onto something else meanwhile.
    fn is_served_by(&self, status: &Status) -> Result<(), Failure> {
        let ours = status.workers_build.build == self.to.info.build.to_string();
        if ours || status.phase == Phase::Starting {
            return Ok(());
        }
        Err(Failure::new(
            ExitStatus::RollFailed,
            format!(
                "{} does not serve any more: while it was watched, the server went to {}",
                self.to.name,
                status.workers_build.short()
            ),
        )
        .hint(format!("run `{} status`", service::command(self.context))))
    }

    /// What the builds before did, from the figures that outlive a roll. Asked once.
    fn compare_with_what_was(&mut self, status: &Status) {
        if self.before.is_none()
            && let Ok(Reply::Metrics { text }) =
                control::ask(&self.context.layout.control_socket(), Ask::Metrics)
        {
            let build = self.to.info.build.to_string();
            self.before = Some(Before::of(&text, status, &build));
        }
    }

    fn probe(&mut self, last: bool) {
        if !self.probes {
            return;
        }
        let mut ask = || match control::ask(&self.context.layout.control_socket(), Ask::Probe) {
            Ok(Reply::Probed { failure: None, .. }) => Some(Ok(())),
            Ok(Reply::Probed { failure: Some(why), .. }) => Some(Err(why)),
            Ok(Reply::Error { code: ErrorCode::UnknownAsk, .. }) => {
                self.probes = false;
                None
            }
            // A master that went away is seen by the next look.
            Ok(_) | Err(ControlError::NotRunning(_) | ControlError::Denied(_)) => None,
            Err(ControlError::Broken(why)) => Some(Err(why)),
        };
        let mut result = ask();
        if last && matches!(result, Some(Err(_))) {
            // It may have met a busy database, and there is no next time.
            result = ask();
        }
        // One that failed is asked again at once: a second failure in a row counts.
        let soon = matches!(result, Some(Err(_)));
        self.seen.probed(result, last);
        self.next_probe = Instant::now() + if soon { LOOK_EVERY } else { PROBE_EVERY };
    }

    fn tell(&mut self) {
        if Instant::now() < self.next_told {
            return;
        }
        self.next_told += TELL_EVERY;
        let (elapsed, lasts) = (self.began.elapsed().as_secs(), self.lasts.as_secs());
        self.context.report.say(format_args!("watched for {elapsed} of {lasts} s: {}", self.seen));
        self.context.report.value(&json!({
            "bake": { "elapsed": elapsed, "lasts": lasts, "seen": self.seen.figures() },
        }));
    }

    fn pause(&self) -> Duration {
        LOOK_EVERY.min(self.lasts.saturating_sub(self.began.elapsed()))
    }

    fn verdict(&self) -> Result<String, Failure> {
        let seconds = self.lasts.as_secs();
        let text = format!("{} was watched for {seconds} s: {}", self.to.name, self.seen);
        self.context.report.say(&text);
        self.context.report.value(&json!({
            "bake": { "elapsed": seconds, "lasts": seconds, "seen": self.seen.figures() },
        }));
        Ok(text)
    }

    fn wanting(&self, reason: &str) -> Failure {
        let (elapsed, lasts) = (self.began.elapsed().as_secs(), self.lasts.as_secs());
        Failure::new(
            ExitStatus::RolledBack,
            format!("{} was found wanting after {elapsed} of {lasts} s: {reason}", self.to.name),
        )
        .hint(format!(
            "a newer release is taken; to try this one again, run `{} upgrade --to {}`",
            service::command(self.context),
            self.to.info.version
        ))
    }
}
