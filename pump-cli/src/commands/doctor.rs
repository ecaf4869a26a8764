//! `pump doctor`: checks everything that installing and upgrading rely on.
//!
//! It changes nothing. With `--fix` it repairs what cannot make anything worse (modes and owners of our own
//! files, links to our own program, what was left unfinished) and looks again; the rest is left to whoever
//! reads the next command. It ends with 50 when something is broken, and with 0 when there are only remarks.

mod drop_ins;
mod files;
mod program;
mod server;
mod upgrades;

use pump_control::ExitStatus;
use serde_json::json;

use crate::context::Context;
use crate::lock;
use crate::report::{Ended, Failure};
use crate::service;

/// Flags of `pump doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Repair what is safe to repair.
    #[arg(long)]
    pub(crate) fix: bool,
}

/// How it is with something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// As it should be.
    Fine,
    /// Worth knowing, and nothing is broken.
    Remark,
    /// Something will fail, or has.
    Broken,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Remark => "remark",
            Self::Broken => "broken",
        }
    }
}

type Repair = Box<dyn FnOnce() -> anyhow::Result<()>>;

/// What a check has found.
struct Finding {
    /// The check, in one word that stays.
    check: &'static str,
    level: Level,
    /// What was found.
    found: String,
    /// Why it matters.
    why: &'static str,
    /// The next command.
    hint: Option<String>,
    repair: Option<Repair>,
}

impl Finding {
    fn fine(check: &'static str, found: impl Into<String>) -> Self {
        let found = found.into();
        Self { check, level: Level::Fine, found, why: "", hint: None, repair: None }
    }

    fn remark(check: &'static str, found: impl Into<String>, why: &'static str) -> Self {
        Self { level: Level::Remark, why, ..Self::fine(check, found) }
    }

    fn broken(check: &'static str, found: impl Into<String>, why: &'static str) -> Self {
        Self { level: Level::Broken, why, ..Self::fine(check, found) }
    }

    /// A refusal that another command would meet.
    fn of(check: &'static str, failure: &Failure, why: &'static str) -> Self {
        let hint = failure.hint.clone();
        Self { hint, ..Self::broken(check, failure.error.clone(), why) }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// What `--fix` does about it.
    fn repair(self, by: impl FnOnce() -> anyhow::Result<()> + 'static) -> Self {
        Self { repair: Some(Box::new(by)), ..self }
    }
}

pub(crate) fn run(args: DoctorArgs, context: &Context<'_>) -> Ended {
    context.need_root("checking an installation")?;
    if !context.layout.current().symlink_metadata().is_ok_and(|link| link.is_symlink())
        && !context.layout.releases().is_dir()
    {
        return Err(context.not_installed(&context.layout.current()));
    }
    let mut findings = all(context);
    let mut repaired = Vec::new();
    if args.fix {
        repaired = repair(context, findings)?;
        findings = all(context);
    }
    tell(context, &findings, &repaired);
    let broken = findings.iter().filter(|one| one.level == Level::Broken).count();
    let remarks = findings.iter().filter(|one| one.level == Level::Remark).count();
    let exit = if broken == 0 { ExitStatus::Done } else { ExitStatus::Preflight };
    context.report.value(&json!({
        "result": "doctor", "checks": findings.len(), "broken": broken, "remarks": remarks,
        "repaired": repaired, "exit": exit,
    }));
    context.report.result(match (broken, remarks) {
        (0, 0) => format!("{} checks, nothing is wrong", findings.len()),
        (0, remarks) => format!("{} checks, nothing is broken, {remarks} to know", findings.len()),
        (broken, _) => format!("{} checks, {broken} broken", findings.len()),
    });
    let repairable = findings.iter().any(|one| one.repair.is_some());
    if repairable && !args.fix {
        let pump = service::command(context);
        context
            .report
            .say(format_args!("`{pump} doctor --fix` repairs what has `--fix` behind it"));
    }
    Ok(exit)
}

/// Every check, in the order in which one relies on the other.
fn all(context: &Context<'_>) -> Vec<Finding> {
    let mut all = program::check(context);
    all.extend(files::check(context));
    all.extend(drop_ins::check(context));
    all.extend(server::check(context));
    all.extend(upgrades::check(context));
    all
}

/// Repairs what can be, under the lock. Returns what was.
fn repair(context: &Context<'_>, findings: Vec<Finding>) -> Result<Vec<String>, Failure> {
    let mut repaired = Vec::new();
    if findings.iter().all(|one| one.repair.is_none()) {
        return Ok(repaired);
    }
    let _lock = lock::take(&context.layout)?;
    for Finding { found, repair, .. } in findings {
        let Some(repair) = repair else { continue };
        match repair() {
            Ok(()) => repaired.push(found),
            Err(error) => {
                context.report.warn(format_args!("could not repair that {found}: {error:#}"));
            }
        }
    }
    Ok(repaired)
}

fn tell(context: &Context<'_>, findings: &[Finding], repaired: &[String]) {
    let report = context.report;
    for found in repaired {
        report.result(format_args!("repaired: {found}"));
    }
    for one in findings {
        report.value(&json!({
            "check": one.check, "level": one.level.word(), "found": one.found,
            "why": Some(one.why).filter(|why| !why.is_empty()), "hint": one.hint,
            "can_fix": one.repair.is_some(),
        }));
        if one.level == Level::Fine {
            report.say(format_args!("{:6}  {}", one.level.word(), one.found));
            continue;
        }
        let fix = if one.repair.is_some() { " (--fix)" } else { "" };
        report.result(format_args!("{:6}  {}: {}{fix}", one.level.word(), one.found, one.why));
        if let Some(hint) = &one.hint {
            report.result(format_args!("        hint: {hint}"));
        }
    }
}
