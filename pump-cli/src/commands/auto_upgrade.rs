//! `pump auto-upgrade`: whether upgrades happen by themselves, and why nothing happens if nothing does.
//!
//! Where a package manager owns the program, it is not our timer that looks: see `packaged`.

mod packaged;

use jiff::{Timestamp, Zoned};
use pump_control::{ExitStatus, Layout};
use serde_json::{Value, json};

use crate::checks::{self, Check, Checks};
use crate::context::Context;
use crate::hold::{self, Hold};
use crate::policy::{self, Gate, Policy};
use crate::report::{Ended, Failure};
use crate::systemd::{self, systemctl};
use crate::units::TIMER;
use crate::{service, source};

/// What to do.
#[derive(Debug, clap::Args)]
pub(crate) struct AutoUpgradeArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Look for upgrades every hour, and take them.
    Enable,
    /// Do so no longer.
    Disable,
    /// Show when it was looked, when it will be, and what is in the way.
    Status {
        /// Only the first thing that is in the way.
        #[arg(long)]
        why: bool,
    },
}

pub(crate) fn run(args: AutoUpgradeArgs, context: &Context<'_>) -> Ended {
    match args.what {
        What::Enable => switch(context, true),
        What::Disable => switch(context, false),
        What::Status { why } => status(context, why),
    }
}

/// Enables or disables the timer.
fn switch(context: &Context<'_>, on: bool) -> Ended {
    context.need_root("switching upgrades by themselves")?;
    if context.layout.is_packaged() {
        return packaged::switch(context, on);
    }
    refuse_without_timer(context)?;
    context.need_systemd()?;
    context.need_installed()?;
    if on {
        // A timer that would fail each hour is told now.
        source::wish(&context.layout, None, None)?;
        source::policy(&context.layout)?;
    }
    let was = systemd::is_enabled(TIMER) && systemd::is_active(TIMER);
    if was != on {
        systemctl(&[if on { "enable" } else { "disable" }, "--now", TIMER])?;
    }
    context.report.say(match (on, was) {
        (true, false) => "upgrades happen by themselves from now on".to_owned(),
        (false, true) => "upgrades do not happen by themselves any more".to_owned(),
        (true, true) => "upgrades happen by themselves already, nothing to do".to_owned(),
        (false, false) => "upgrades do not happen by themselves, nothing to do".to_owned(),
    });
    context.report.value(&json!({ "result": "auto-upgrade", "enabled": on, "exit": 0 }));
    Ok(ExitStatus::Done)
}

fn refuse_without_timer(context: &Context<'_>) -> Result<(), Failure> {
    if context.layout.is_private() {
        return Err(Failure::new(
            ExitStatus::NoSystemd,
            "a private place has no timer: nothing of it is known to systemd",
        )
        .hint(format!(
            "run `{} upgrade --unattended --zero-downtime` from a timer of your own",
            service::command(context)
        )));
    }
    Ok(())
}

/// Everything that decides whether something happens.
struct Now {
    timer: Timer,
    /// The program belongs to packages: no source of ours is looked at.
    packaged: bool,
    checks: Checks,
    hold: Result<Option<Hold>, Failure>,
    policy: Result<Policy, Failure>,
    source: Result<String, Failure>,
    at: Timestamp,
}

/// Whether something looks by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Timer {
    /// Next at that time, where systemd can say it.
    On(Option<Timestamp>),
    Off,
    /// unattended-upgrades does, next at that time.
    Apt(Option<Timestamp>),
    /// None does in this kind of installation, why, and the words after `pump` that change it.
    None(&'static str, Option<&'static str>),
}

impl Now {
    fn of(context: &Context<'_>) -> Self {
        let layout = &context.layout;
        let at = Timestamp::now();
        Self {
            timer: Timer::of(layout),
            packaged: layout.is_packaged(),
            checks: checks::read(layout),
            hold: hold::in_force(layout, at),
            policy: source::policy(layout),
            source: source::wish(layout, None, None).map(|wish| wish.address.to_string()),
            at,
        }
    }

    /// What is in the way, the first thing first, each a sentence and what to type.
    fn hindrances(&self, pump: &str) -> Vec<(String, Option<String>)> {
        let mut all = Vec::new();
        match &self.timer {
            Timer::On(_) | Timer::Apt(_) => {}
            Timer::Off => all.push((
                "upgrades do not happen by themselves: the timer is not enabled".to_owned(),
                Some(format!("{pump} auto-upgrade enable")),
            )),
            Timer::None(why, hint) => {
                all.push(((*why).to_owned(), hint.map(|hint| format!("{pump} {hint}"))));
            }
        }
        let told = |failure: &Failure| (failure.error.clone(), failure.hint.clone());
        let source = self.source.as_ref().err().filter(|_| !self.packaged);
        all.extend(source.map(told));
        all.extend(self.policy.as_ref().err().map(told));
        match &self.hold {
            Ok(Some(hold)) => {
                all.push((
                    format!("upgrades are {}", hold.sentence()),
                    Some(format!("{pump} unhold")),
                ));
            }
            Ok(None) => {}
            Err(failure) => all.push(told(failure)),
        }
        if let Ok(policy) = &self.policy
            && let Gate::Closed(opens) = policy.gate(self.at)
        {
            all.push((
                format!(
                    "the window {} is closed and opens {}",
                    policy.windows_told(),
                    policy::at(&opens)
                ),
                Some(format!("{pump} upgrade")),
            ));
        }
        if let Some(last) = self.checks.last.as_ref().filter(|last| last.exit != ExitStatus::Done) {
            // A hold and a window of that time are told as they are now.
            let passing = last.target.is_none()
                && matches!(last.exit, ExitStatus::Held | ExitStatus::OutsideWindow);
            if !passing {
                let text =
                    format!("the last look ended with exit {}: {}", last.exit.code(), last.text);
                all.push((text, last.hint.clone()));
            }
        }
        all
    }
}

impl Timer {
    fn of(layout: &Layout) -> Self {
        if layout.is_packaged() {
            return packaged::timer();
        }
        if layout.is_private() {
            let why = "a private place has no timer; somebody has to run `pump upgrade`";
            return Self::None(why, None);
        }
        match systemd::is_enabled(TIMER) && systemd::is_active(TIMER) {
            true => Self::On(systemd::next_elapse(TIMER)),
            false => Self::Off,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::On(_) => "on",
            Self::Off => "off",
            Self::Apt(_) => "apt",
            Self::None(..) => "none",
        }
    }
}

fn status(context: &Context<'_>, why: bool) -> Ended {
    context.need_root("reading how upgrades are")?;
    context.need_installed()?;
    let now = Now::of(context);
    let pump = service::command(context);
    let hindrances = now.hindrances(&pump);
    context.report.value(&value(&now, &hindrances));
    let text = match why {
        true => vec![match hindrances.first() {
            Some(first) => told(first),
            None => "nothing is in the way; there is nothing newer".to_owned(),
        }],
        false => lines(&now, &hindrances),
    };
    text.iter().for_each(|line| context.report.result(line));
    Ok(ExitStatus::Done)
}

fn told((text, hint): &(String, Option<String>)) -> String {
    match hint {
        Some(hint) if hint.starts_with("pump ") => format!("{text}; `{hint}`"),
        Some(hint) => format!("{text}; {hint}"),
        None => text.clone(),
    }
}

fn local(at: Timestamp) -> String {
    policy::at(&Zoned::new(at, jiff::tz::TimeZone::system()))
}

fn lines(now: &Now, hindrances: &[(String, Option<String>)]) -> Vec<String> {
    let mut lines = Vec::new();
    match &now.timer {
        Timer::On(Some(next)) => {
            lines.push(format!("it is looked for upgrades next {}", local(*next)))
        }
        Timer::On(None) => lines.push("it is looked for upgrades every hour".to_owned()),
        Timer::Apt(next) => lines.push(match next {
            Some(next) => format!("unattended-upgrades looks for packages next {}", local(*next)),
            None => "unattended-upgrades looks for packages".to_owned(),
        }),
        Timer::Off | Timer::None(..) => {}
    }
    if let Ok(source) = &now.source {
        lines.push(format!("releases come from {source}"));
    }
    match &now.checks.last {
        Some(Check { at, exit: ExitStatus::Done, text, .. }) => {
            lines.push(format!("last looked {}: {text}", local(*at)));
        }
        Some(Check { at, exit, .. }) => {
            lines.push(format!("last looked {}: exit {}, see below", local(*at), exit.code()));
        }
        None => lines.push("it was never looked so far".to_owned()),
    }
    if let Ok(policy) = &now.policy {
        match policy.gate(now.at) {
            Gate::Always => lines.push("there is no window: at any time".to_owned()),
            Gate::Open(until) => lines.push(format!(
                "the window {} is open until {}",
                policy.windows_told(),
                policy::at(&until)
            )),
            Gate::Closed(_) => {}
        }
        if let Some(pin) = &policy.pin {
            lines.push(format!("only versions of `{}` are taken", pin.text));
        }
    }
    match hindrances {
        [] => lines.push("nothing is in the way".to_owned()),
        some => lines.extend(some.iter().map(|one| format!("in the way: {}", told(one)))),
    }
    lines
}

fn value(now: &Now, hindrances: &[(String, Option<String>)]) -> Value {
    let policy = now.policy.as_ref().ok();
    let window = policy.map(|policy| match policy.gate(now.at) {
        Gate::Always => json!({ "state": "always" }),
        Gate::Open(until) => json!({ "state": "open", "until": until.timestamp() }),
        Gate::Closed(opens) => json!({ "state": "closed", "opens": opens.timestamp() }),
    });
    let next = match &now.timer {
        Timer::On(next) | Timer::Apt(next) => *next,
        Timer::Off | Timer::None(..) => None,
    };
    let hindrances: Vec<Value> =
        hindrances.iter().map(|(text, hint)| json!({ "text": text, "hint": hint })).collect();
    json!({
        "timer": now.timer.word(), "next": next, "last": now.checks.last, "well": now.checks.well,
        "source": now.source.as_ref().ok(), "hold": now.hold.as_ref().ok(), "window": window,
        "pin": policy.and_then(|policy| policy.pin.as_ref()).map(|pin| &pin.text),
        "in_the_way": hindrances,
    })
}
