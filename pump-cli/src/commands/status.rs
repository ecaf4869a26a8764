//! `pump status`: how the server is, a sentence first.
//!
//! `table` shows the processes, wide or narrow; `--json` has everything.

mod follow;
mod table;

use anyhow::Context as _;
use pump_control::ExitStatus;
use pump_control::control::{Canary, Compared, Latch, Outcome, Phase, Roll, Status};
use serde_json::json;

use crate::context::Context;
use crate::packages::Ahead;
use crate::passage::{self, Last, Transition};
use crate::report::{Ended, Failure};
use crate::service;

/// How wide it is where nobody can say.
const USUAL_WIDTH: usize = 100;

/// Flags of `pump status`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Show an upgrade or a rollback that is under way until it has ended, and end as it does.
    #[arg(long)]
    pub(crate) follow: bool,
}

pub(crate) fn run(args: StatusArgs, context: &Context<'_>) -> Ended {
    if args.follow {
        return follow::follow(context);
    }
    let cut = unfinished(context);
    let status = service::status(context).map_err(|failure| match &cut {
        // What has to be done first comes first.
        Some(cut) => Failure { error: format!("{}; {}", failure.error, cut.text), ..failure },
        None => failure,
    })?;
    let mut value = serde_json::to_value(&status).context("a status has a JSON form")?;
    if let Some(cut) = &cut {
        value["upgrade"] = json!({ "at_work": cut.at_work, "text": cut.text, "last": cut.last });
    }
    let ahead = Ahead::of(&context.layout, Some(&status)).filter(|_| cut.is_none());
    if let Some(ahead) = &ahead {
        value["package"] = json!({ "brought": ahead.brought, "text": ahead.sentence() });
    }
    context.report.value(&value);
    let size = dialoguer::console::Term::stdout().size_checked();
    let width = size.map_or(USUAL_WIDTH, |(_, columns)| usize::from(columns));
    for line in lines(&status, width) {
        context.report.result(line);
    }
    if let Some(cut) = cut {
        context.report.result(cut.text);
    }
    if let Some(ahead) = ahead {
        context.report.result(ahead.sentence());
    }
    Ok(match status.phase {
        Phase::Running | Phase::Rolling => ExitStatus::Done,
        Phase::Starting | Phase::Stopping => ExitStatus::Temporary,
    })
}

/// An upgrade or a rollback that has not ended.
struct Unfinished {
    last: Transition,
    at_work: bool,
    text: String,
}

/// The one that there is, as far as this user may know.
fn unfinished(context: &Context<'_>) -> Option<Unfinished> {
    let Ok(Last::Unfinished(last)) = passage::last(&context.layout) else { return None };
    let at_work = last.owner.lives();
    let (what, pump) = (last.what(), service::command(context));
    let text = if at_work {
        let unit = last.owner.unit.as_ref().map(|unit| format!(" in the unit {unit}"));
        let (pid, unit) = (last.owner.pid, unit.unwrap_or_default());
        format!(
            "{what} from {} to {} is under way in process {pid}{unit}; it {}",
            last.from,
            last.to,
            last.state.said()
        )
    } else {
        format!("{}; `{pump} resume` finishes it", last.cut())
    };
    Some(Unfinished { last: *last, at_work, text })
}

/// All that is shown.
fn lines(status: &Status, width: usize) -> Vec<String> {
    let mut lines = vec![
        status.sentence.clone(),
        format!("  {} on {}", status.public_url, status.listen.join(" and ")),
        format!("  generation {}, {} workers wanted", status.generation, status.wanted),
    ];
    lines.extend(table::lines(status, width).into_iter().map(|line| format!("  {line}")));
    if let Some(roll) = &status.roll {
        lines.extend(rolling(roll));
    }
    if let Some(outcome) = &status.last_roll {
        lines.extend(last_roll(outcome, status));
    }
    if let Some(latch) = &status.latch {
        lines.extend(latched(latch));
    }
    lines.extend(status.notes.iter().map(|note| format!("note: {note}")));
    lines
}

fn rolling(roll: &Roll) -> Vec<String> {
    let mut lines = vec![format!(
        "roll {} onto {}, for {}: {}",
        roll.roll,
        roll.candidate.short(),
        seconds(roll.millis),
        roll.sentence
    )];
    if let Some(canary) = &roll.canary {
        lines.extend(compared(canary));
    }
    lines
}

/// The first new worker beside the old ones.
fn compared(canary: &Canary) -> Vec<String> {
    let row = |name: &str, one: &Compared| {
        let share = one.server_errors as f64 * 100.0 / one.requests.max(1) as f64;
        format!(
            "  {name}  {} requests, {share:.1} % errors, p50 {}, p99 {}, lag {}, {} panics, grown by {}{}",
            one.requests,
            milliseconds(one.p50_micros),
            milliseconds(one.p99_micros),
            milliseconds(one.lag_micros),
            one.panics,
            table::bytes(one.grown_bytes),
            match one.probes {
                (0, 0) => String::new(),
                (well, failed) => format!(", {well} of {} probes went well", well + failed),
            }
        )
    };
    let time = format!(
        "  the first new worker is compared with the old ones, {} of {}",
        seconds(canary.elapsed_millis),
        seconds(canary.lasts_millis)
    );
    vec![time, row("new", &canary.new), row("old", &canary.old)]
}

fn last_roll(outcome: &Outcome, status: &Status) -> Vec<String> {
    let took = status.last_roll_millis.map(|millis| format!(", {}", seconds(millis)));
    let number =
        status.last_roll_number.map(|number| format!(" ({number}{})", took.unwrap_or_default()));
    let mut lines = vec![format!("last roll{}: {}", number.unwrap_or_default(), outcome.text)];
    // With a latch its own lines say the same and more.
    if status.latch.is_none() {
        lines.extend(outcome.output.iter().map(|text| format!("  | {text}")));
        let failed = outcome.exit != ExitStatus::Done;
        lines.extend(outcome.hint.iter().filter(|_| failed).map(|hint| format!("  hint: {hint}")));
    }
    lines
}

fn latched(latch: &Latch) -> Vec<String> {
    let mut lines = vec![format!(
        "latched: {} failed and is not tried again: {}",
        latch.build.short(),
        latch.reason
    )];
    lines.extend(latch.output.iter().map(|text| format!("  | {text}")));
    lines.extend(latch.hint.iter().map(|hint| format!("  hint: {hint}")));
    lines
}

/// Milliseconds as seconds: `1.2 s`.
fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

/// Microseconds as milliseconds: `0.8 ms`.
fn milliseconds(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use pump_control::control::Build;

    use super::*;

    #[test]
    fn a_failed_roll_is_shown_with_its_last_words_and_the_next_command() {
        let build = "abcdef0123".to_owned();
        let build = Build { version: "2.0.0".to_owned(), build, ..Build::default() };
        let outcome = Outcome {
            exit: ExitStatus::RolledBack,
            text: "it was slow".to_owned(),
            hint: Some("`pump status`".to_owned()),
            output: vec!["no good".to_owned()],
        };
        let mut status = Status {
            sentence: "2 workers on 1.0.0, ready".to_owned(),
            last_roll: Some(outcome),
            last_roll_number: Some(4),
            last_roll_millis: Some(10_250),
            ..Status::default()
        };
        let shown = lines(&status, 100).join("\n");
        assert!(shown.starts_with("2 workers on 1.0.0, ready\n"), "{shown}");
        let last = "last roll (4, 10.2 s): it was slow\n  | no good\n  hint: `pump status`";
        assert!(shown.ends_with(last), "{shown}");
        status.latch = Some(Latch {
            build,
            reason: "it was slow".to_owned(),
            output: vec!["no good".to_owned()],
            hint: Some("`pump upgrade`".to_owned()),
        });
        let shown = lines(&status, 100).join("\n");
        assert_eq!(shown.matches("no good").count(), 1, "{shown}");
        assert!(shown.contains("latched: 2.0.0+abcdef01 failed"), "{shown}");
        assert!(shown.ends_with("  hint: `pump upgrade`"), "{shown}");
    }

    #[test]
    fn a_canary_is_shown_with_both_sides() {
        let new =
            Compared { requests: 400, server_errors: 20, p99_micros: 3400, ..Default::default() };
        let canary =
            Canary { elapsed_millis: 4000, lasts_millis: 10_000, new, ..Default::default() };
        let roll = Roll { canary: Some(canary), ..Roll::default() };
        let shown = rolling(&roll).join("\n");
        assert!(shown.contains("4.0 s of 10.0 s"), "{shown}");
        assert!(
            shown.contains("new  400 requests, 5.0 % errors, p50 0.0 ms, p99 3.4 ms"),
            "{shown}"
        );
        assert!(shown.contains("old  0 requests, 0.0 % errors"), "{shown}");
    }
}
