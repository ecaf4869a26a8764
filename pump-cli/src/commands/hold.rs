//! `pump hold` and `pump unhold`: no upgrade until a time, or until it is lifted.

use jiff::civil::{Date, DateTime};
use jiff::{Span, Timestamp, Zoned};
use pump_control::ExitStatus;
use serde_json::json;

use crate::context::Context;
use crate::figures;
use crate::hold::{self, Hold, MAX_REASON};
use crate::journal;
use crate::lock;
use crate::report::{Ended, Failure};

/// Flags of `pump hold`.
#[derive(Debug, clap::Args)]
pub(crate) struct HoldArgs {
    /// Until when: a day (`2026-12-24`), a time (`2026-12-24T08:00`), or how long (`3d`, `12h`). Without it,
    /// until `pump unhold`.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Why, for whoever meets the hold.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// `pump unhold` has no flags of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct UnholdArgs {}

pub(crate) fn run(args: HoldArgs, context: &Context<'_>) -> Ended {
    context.need_root("holding upgrades")?;
    context.need_installed()?;
    let now = Zoned::now();
    let until = args.until.map(|text| until(&text, &now)).transpose()?;
    if let Some(reason) = &args.reason
        && reason.chars().count() > MAX_REASON
    {
        return Err(Failure::new(
            ExitStatus::Usage,
            format!("the reason is longer than {MAX_REASON} characters"),
        )
        .hint("say it shorter"));
    }
    // An upgrade that is under way is not stopped; it is said who is at it.
    let _lock = lock::take(&context.layout)?;
    let hold = Hold { since: now.timestamp(), until, who: journal::who(), reason: args.reason };
    hold::put(&context.layout, &hold)?;
    figures::tell(&context.layout);
    context.report.say(format_args!("upgrades are {}", hold.sentence()));
    context.report.value(&json!({ "result": "held", "hold": hold, "exit": 0 }));
    Ok(ExitStatus::Done)
}

pub(crate) fn lift(_args: UnholdArgs, context: &Context<'_>) -> Ended {
    context.need_root("lifting a hold")?;
    context.need_installed()?;
    let _lock = lock::take(&context.layout)?;
    let was = hold::lift(&context.layout)?;
    figures::tell(&context.layout);
    context.report.say(match was {
        true => "upgrades are not held any more".to_owned(),
        false => "upgrades were not held, nothing to do".to_owned(),
    });
    context.report.value(&json!({ "result": "not-held", "was_held": was, "exit": 0 }));
    Ok(ExitStatus::Done)
}

/// A time to come, as people write it.
fn until(text: &str, now: &Zoned) -> Result<Timestamp, Failure> {
    let local = |at: DateTime| at.to_zoned(now.time_zone().clone()).ok().map(|at| at.timestamp());
    let found = text
        .parse::<Timestamp>()
        .ok()
        .or_else(|| text.parse::<DateTime>().ok().and_then(local))
        .or_else(|| text.parse::<Date>().ok().and_then(|day| local(day.at(0, 0, 0, 0))))
        .or_else(|| {
            let span = text.parse::<Span>().ok()?;
            now.checked_add(span).ok().map(|at| at.timestamp())
        });
    let wrong = |why: &str| {
        Err(Failure::new(ExitStatus::Usage, format!("`--until {text}` {why}"))
            .hint("`--until 2026-12-24`, `--until 2026-12-24T08:00` and `--until 3d` are times"))
    };
    match found {
        None => wrong("is no time"),
        Some(at) if at <= now.timestamp() => wrong("is over already"),
        Some(at) => Ok(at),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn a_time_to_come_is_written_as_a_day_a_time_or_a_span() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let now: DateTime = "2026-12-20T12:00".parse().unwrap();
        let now = now.to_zoned(zone).unwrap();
        for (text, want) in [
            ("2026-12-24", "2026-12-23T23:00:00Z"),
            ("2026-12-24T08:00", "2026-12-24T07:00:00Z"),
            ("2026-12-24T08:00:00Z", "2026-12-24T08:00:00Z"),
            ("3d", "2026-12-23T11:00:00Z"),
            ("12h", "2026-12-20T23:00:00Z"),
        ] {
            assert_eq!(until(text, &now).unwrap().to_string(), want, "{text}");
        }
        for text in ["", "soon", "2026-12-19", "2026-13-01", "-3d", "0h"] {
            assert_eq!(until(text, &now).unwrap_err().exit, ExitStatus::Usage, "{text}");
        }
    }
}
