//! `pump status --follow`: an upgrade or a rollback that is under way, until it has ended.
//!
//! Everything comes from the journal and from the server's status, so it does not matter who started the run, or
//! whether its terminal is still there. It ends when the run is gone and its lock with it: whoever is told of the
//! end may give the next command.

use std::time::Duration;

use anyhow::Context as _;
use pump_control::ExitStatus;
use serde_json::json;

use crate::context::Context;
use crate::control;
use crate::passage::{self, Last, Transition};
use crate::report::{Ended, Failure};
use crate::service;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Shows what is under way until it has ended, and ends as it does.
///
/// # Errors
/// How the run has failed; exit 75 when it was cut.
pub(super) fn follow(context: &Context<'_>) -> Ended {
    context.need_root("following an upgrade")?;
    let path = passage::file(&context.layout);
    let last = passage::last(&context.layout)
        .with_context(|| format!("could not read `{}`", path.display()))?;
    let leaving = || {
        passage::leaving(&context.layout)
            .with_context(|| format!("could not read `{}`", path.display()))
    };
    // The next command would find the lock of a run held that has ended and is still there.
    let leaves = |passage: &str| -> Result<bool, Failure> {
        Ok(leaving()?.is_some_and(|it| it.passage == passage))
    };
    let begun = match (last, leaving()?) {
        (Last::Ended, Some(leaving)) => leaving,
        (Last::Ended, None) => {
            let text = "no upgrade and no rollback is under way";
            context.report.say(text);
            context.report.value(&json!({ "result": "nothing", "text": text, "exit": 0 }));
            return Ok(ExitStatus::Done);
        }
        (Last::Later, _) => return Err(passage::later(&context.layout)),
        (Last::Unfinished(last), _) => *last,
    };
    context.report.say(format_args!("{} from {} to {}", begun.what(), begun.from, begun.goal));
    let mut shown = 0;
    let mut rolling = String::new();
    loop {
        // Before the lines are read: whoever is gone then writes no more of them.
        let mut lives = begun.owner.lives();
        let lines = passage::of(&context.layout, &begun.passage)
            .with_context(|| format!("could not read `{}`", path.display()))?;
        for line in lines.iter().skip(shown) {
            context.report.value(line);
            if !line.state.is_end() {
                context.report.say(format_args!("it {}", line.state.said()));
            }
        }
        shown = lines.len();
        if let Some(last) = lines.last() {
            if let Some(ended) = ended(last)
                && !leaves(&begun.passage)?
            {
                return tell(context, ended, last);
            }
            lives = lives || last.owner.lives();
        }
        if !lives {
            let text = lines.last().map_or_else(|| begun.cut(), Transition::cut);
            return Err(Failure::new(ExitStatus::Temporary, text)
                .hint(format!("run `{} resume`", service::command(context))));
        }
        let status = control::status(&context.layout.control_socket()).ok();
        let sentence = status.and_then(|status| status.roll).map(|roll| roll.sentence);
        if let Some(sentence) = sentence.filter(|sentence| *sentence != rolling) {
            context.report.say(&sentence);
            context.report.value(&json!({ "roll": sentence }));
            rolling = sentence;
        }
        #[expect(clippy::disallowed_methods, reason = "nothing tells that a file has grown")]
        std::thread::sleep(LOOK_EVERY);
    }
}

/// How the whole passage has ended, if it has.
fn ended(last: &Transition) -> Option<ExitStatus> {
    last.is_over().then_some(last.exit.unwrap_or(ExitStatus::Failed))
}

fn tell(context: &Context<'_>, exit: ExitStatus, last: &Transition) -> Ended {
    let result = last.result.clone().unwrap_or_default();
    if exit == ExitStatus::Done {
        context.report.say(result);
        return Ok(exit);
    }
    Err(Failure::new(exit, result).hint(format!("`{} history` has it", service::command(context))))
}
