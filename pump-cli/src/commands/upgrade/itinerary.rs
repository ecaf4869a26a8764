//! The plan of an upgrade, as an operator sees it: its id, its words, what has to be agreed to, and the
//! refusals when there is none or when it does not hold any more.

use std::fmt;
use std::str::FromStr;

use pump_control::ExitStatus;
use pump_release::{Blocked, Hop, Index, NoPlan, Plan, Reason, Release, Standing, TARGET, plan};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::UpgradeArgs;
use crate::context::Context;
use crate::releases::Installed;
use crate::report::Failure;
use crate::service;
use crate::switch::{self, Consent, Step};

/// How many hex digits an id has. It tells two plans of one machine apart; it proves nothing.
const ID_DIGITS: usize = 16;

/// The id of a plan: a hash of what it was made from and of what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlanId(String);

impl FromStr for PlanId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() == ID_DIGITS && text.bytes().all(digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("an id is the {ID_DIGITS} hex digits that `--dry-run` shows"))
        }
    }
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A plan with what is around it.
pub(super) struct Itinerary<'a> {
    plan: Plan<'a>,
    id: PlanId,
    /// The installed release.
    from: String,
    /// The way without a wait, where this one has waits and is shorter.
    gentler: Option<Plan<'a>>,
}

impl<'a> Itinerary<'a> {
    /// The plan from what runs to `wanted`.
    ///
    /// # Errors
    /// Exit 20 for a release that was withdrawn, exit 30 when it cannot be had without a wait, exit 31
    /// when releases in between are missing, exit 50 when it could not open the database.
    pub(super) fn plan(
        args: &UpgradeArgs,
        context: &Context<'_>,
        index: &'a Index,
        standing: &Standing,
        wanted: &Release,
        current: &Installed,
    ) -> Result<Self, Failure> {
        let find = |zero_downtime| plan(index, standing, wanted, TARGET, zero_downtime);
        let found = match (find(args.zero_downtime), args.zero_downtime) {
            (Ok(found), _) => found,
            (Err(missing), true) => match find(false) {
                // Looking agrees to nothing: it says what there is.
                Ok(waiting) if args.check => waiting,
                Ok(waiting) => return Err(refuse_to_wait(context, &missing, &waiting)),
                Err(missing) => return Err(refuse(context, &missing)),
            },
            (Err(missing), false) => return Err(refuse(context, &missing)),
        };
        let gentler = if found.waits() { find(true).ok() } else { None };
        let bound = format!("{} {}", current.name, found.canonical());
        let hash = pump_release::Digest::from(<[u8; 32]>::from(Sha256::digest(bound)));
        let id = PlanId(hash.to_string()[..ID_DIGITS].to_owned());
        Ok(Self { plan: found, id, from: current.name.clone(), gentler })
    }

    pub(super) fn id(&self) -> &PlanId {
        &self.id
    }

    pub(super) fn hops(&self) -> &[Hop<'a>] {
        &self.plan.hops
    }

    /// The release at its end.
    pub(super) fn to(&self) -> String {
        self.hops().last().map(|hop| hop.to.name()).unwrap_or_default()
    }

    /// The hardest of its steps, for programs.
    pub(super) fn word(&self) -> &'static str {
        let steps: Vec<Step> = self.hops().iter().map(|hop| hop.gait.into()).collect();
        let hardest = steps.iter().max_by_key(|step| match step {
            Step::Links => 0,
            Step::Roll => 1,
            Step::Restart(_) => 2,
        });
        hardest.unwrap_or(&Step::Links).word()
    }

    /// For people, after "the release".
    pub(super) fn sentence(&self) -> String {
        match self.hops() {
            [hop] => Step::from(hop.gait).sentence(),
            hops if self.plan.waits() => {
                format!("is reached {}; connections wait on the way", over(hops))
            }
            hops => format!("is reached {}; no client will see it", over(hops)),
        }
    }

    /// Prints it.
    pub(super) fn tell(&self, context: &Context<'_>, args: &UpgradeArgs) {
        let (name, report) = (self.to(), context.report);
        report.result(format_args!("{name}, after {}, {}", self.from, self.sentence()));
        if self.hops().len() > 1 {
            for (number, hop) in (1..).zip(self.hops()) {
                report.result(format_args!("  {}", self.heading(number, hop)));
            }
        }
        if let Some(told) = self.gentler_told() {
            report.result(told);
        }
        let mut command = format!("{} upgrade", service::command(context));
        if let Some(version) = &args.to {
            command.push_str(&format!(" --to {version}"));
        }
        if args.zero_downtime {
            command.push_str(" --zero-downtime");
        }
        report.result(format_args!("to do this and nothing else: `{command} --plan {}`", self.id));
        let mut before = self.from.clone();
        let hops = self.hops().iter().map(|hop| {
            let step = Step::from(hop.gait);
            let reason = match &step {
                Step::Restart(reason) => Some(reason.to_string()),
                Step::Links | Step::Roll => None,
            };
            let from = std::mem::replace(&mut before, hop.to.name());
            json!({ "from": from, "to": hop.to.name(), "way": step.word(), "reason": reason })
        });
        let hops: Vec<_> = hops.collect();
        report.value(&json!({
            "result": "dry-run", "from": self.from, "to": name, "way": self.word(),
            "plan": self.id.to_string(), "hops": hops, "exit": 0,
        }));
    }

    /// One hop, before it is done.
    pub(super) fn heading(&self, number: usize, hop: &Hop<'_>) -> String {
        let step = Step::from(hop.gait);
        let (of, name) = (self.hops().len(), hop.to.name());
        format!("hop {number} of {of}: {name} {}", step.sentence())
    }

    fn gentler_told(&self) -> Option<String> {
        let plan = self.gentler.as_ref()?;
        Some(format!(
            "with `--zero-downtime` it is reached {}, and no connection waits",
            over(&plan.hops)
        ))
    }

    /// Refuses when this is not the plan that somebody has seen.
    ///
    /// # Errors
    /// Exit 50.
    pub(super) fn refuse_another(&self, seen: Option<&PlanId>) -> Result<(), Failure> {
        match seen {
            Some(seen) if *seen != self.id => Err(Failure::new(
                ExitStatus::Preflight,
                format!(
                    "plan {seen} does not hold any more: what runs, what is installed or what is on \
                     offer has changed, or the flags are others; nothing was changed"
                ),
            )
            .hint("run it with `--dry-run` instead of `--plan` to see the plan as it is now")),
            _ => Ok(()),
        }
    }

    /// Refuses what the operator has not agreed to.
    ///
    /// # Errors
    /// Exit 31 for a way over others that is not wanted, and those of [`switch::agree`].
    pub(super) fn agree(&self, context: &Context<'_>, args: &UpgradeArgs) -> Result<(), Failure> {
        if self.hops().len() > 1 && (args.unattended || args.one_hop) {
            let hint = if args.unattended {
                "run `pump upgrade` by hand; with `--dry-run` it shows the plan"
            } else {
                "leave `--one-hop` away to go it"
            };
            let error = format!("{} {}; nothing was changed", self.to(), self.sentence());
            return Err(Failure::new(ExitStatus::PathNeeded, error).hint(hint));
        }
        if let Some(told) = self.gentler_told() {
            context.report.say(told);
        }
        let consent =
            Consent { zero_downtime: args.zero_downtime, yes: args.yes, may_ask: !args.unattended };
        // All of them now: what waits at the third hop is no news for the third hop.
        self.hops()
            .iter()
            .try_for_each(|hop| switch::agree(context, &hop.gait.into(), &hop.to, consent))
    }

    /// Refuses a hop that has become another one than was planned and agreed to.
    ///
    /// # Errors
    /// Exit 50.
    pub(super) fn refuse_worse(
        &self,
        number: usize,
        hop: &Hop<'_>,
        step: &Step,
    ) -> Result<(), Failure> {
        let planned = Step::from(hop.gait);
        let why = match (step, &planned) {
            (Step::Restart(reason), Step::Roll | Step::Links) => {
                format!("needs a restart: {reason}")
            }
            (Step::Links, Step::Roll | Step::Restart(_)) => {
                "would do nothing, as the server does not run any more or runs it already"
                    .to_owned()
            }
            _ => return Ok(()),
        };
        Err(Failure::new(
            ExitStatus::Preflight,
            format!("hop {number} is not as planned: {} {why}", hop.to.name()),
        )
        .hint("run `pump upgrade --dry-run` for a plan from here"))
    }

    /// A failure on the way: where it has left the server.
    pub(super) fn stranded(&self, number: usize, at: &Installed, failure: Failure) -> Failure {
        if number == 1 {
            return failure;
        }
        let (of, name) = (self.hops().len(), &at.name);
        let error = format!(
            "{} (in hop {number} of {of}; {name} stays the current release)",
            failure.error
        );
        Failure { error, ..failure }
    }
}

/// Over which releases, and in how many hops.
fn over(hops: &[Hop<'_>]) -> String {
    let between: Vec<String> =
        hops.iter().rev().skip(1).rev().map(|hop| hop.to.version.to_string()).collect();
    format!("over {} in {} hops", between.join(" and "), hops.len())
}

/// What is in the way where a link is missing.
fn blocked(missing: &NoPlan) -> Option<&Blocked> {
    match missing {
        NoPlan::Missing(link) => Some(&link.blocked),
        _ => None,
    }
}

/// There is a way, but connections would wait in it.
fn refuse_to_wait(context: &Context<'_>, missing: &NoPlan, waiting: &Plan<'_>) -> Failure {
    let reasons = waiting.hops.iter().filter_map(|hop| match hop.gait.into() {
        Step::Restart(reason) => Some((hop.to.name(), reason)),
        Step::Links | Step::Roll => None,
    });
    let mut error: Vec<String> =
        reasons.map(|(name, why)| format!("{name} cannot be rolled onto: {why}")).take(1).collect();
    let blocked = blocked(missing);
    let told = matches!(blocked, Some(Blocked::Waits(Reason::Unit { .. })));
    if !told {
        error.push(missing.to_string());
    }
    error.push("nothing was changed".to_owned());
    Failure::new(ExitStatus::OtherMagic, error.join("; ")).hint(format!(
        "run it without `--zero-downtime` for a restart in which {}",
        switch::waits(context)
    ))
}

/// There is no way.
fn refuse(context: &Context<'_>, missing: &NoPlan) -> Failure {
    let pump = service::command(context);
    let (exit, hint) = match missing {
        NoPlan::Withdrawn { .. } => {
            (ExitStatus::Held, "choose another one with `pump upgrade --to VERSION`".to_owned())
        }
        NoPlan::Stopped { .. } => {
            (ExitStatus::PathNeeded, format!("run `{pump} start`, and then this again"))
        }
        NoPlan::Missing(_) if matches!(blocked(missing), Some(Blocked::Database(_))) => (
            ExitStatus::Preflight,
            "choose a later version with `pump upgrade --to VERSION`".to_owned(),
        ),
        NoPlan::TooFar => (
            ExitStatus::PathNeeded,
            "go a part of the way with `pump upgrade --to VERSION`".to_owned(),
        ),
        NoPlan::Missing(_) | NoPlan::NotOffered(_) => {
            (ExitStatus::PathNeeded, "ask the publisher for it".to_owned())
        }
    };
    Failure::new(exit, format!("{missing}; nothing was changed")).hint(hint)
}
