//! One run of `pump upgrade` or `pump rollback`, and what the history says of it.

use std::time::Instant;

use jiff::Timestamp;
use pump_control::ExitStatus;

use crate::checks::{self, Check};
use crate::context::Context;
use crate::journal::{self, Action, Entry, Journal};
use crate::notify::{self, Event, Facts};
use crate::report::{Ended, Failure};
use crate::{figures, source};

/// One run, for the history.
pub(in crate::commands) struct Run<'a> {
    context: &'a Context<'a>,
    began: Instant,
    at: Timestamp,
    action: Action,
    from: String,
    /// The release that it is about, once that is known.
    pub(in crate::commands) to: Option<String>,
    /// What was waived for it, as a sentence.
    pub(in crate::commands) waived: Option<String>,
    /// Nobody looks on.
    pub(in crate::commands) unattended: bool,
}

impl<'a> Run<'a> {
    pub(in crate::commands) fn begin(action: Action, from: &str, context: &'a Context<'a>) -> Self {
        let (began, at) = (Instant::now(), Timestamp::now());
        Self {
            context,
            began,
            at,
            action,
            from: from.to_owned(),
            to: None,
            waived: None,
            unattended: false,
        }
    }

    /// A hop of several is done: it is told and written, and the next one begins.
    pub(super) fn arrived(&mut self, result: String) {
        self.context.report.say(&result);
        self.write(ExitStatus::Done, result);
        if let Some(to) = self.to.take() {
            self.from = to;
        }
        (self.began, self.at) = (Instant::now(), Timestamp::now());
    }

    fn write(&self, exit: ExitStatus, result: String) {
        let entry = Entry {
            at: self.at,
            who: journal::who(),
            action: self.action,
            from: Some(self.from.clone()),
            to: self.to.clone(),
            exit,
            result: match &self.waived {
                Some(waived) => format!("{result}; {waived}"),
                None => result,
            },
            seconds: self.began.elapsed().as_secs(),
        };
        if let Err(error) = Journal::of(&self.context.layout).append_unless_repeated(&entry) {
            self.context.report.warn(format_args!("the history lacks this run: {error:#}"));
        }
    }

    /// Writes that it was given up, and that nothing is left of it.
    pub(super) fn given_up(self, text: &str) -> Ended {
        self.write(ExitStatus::Failed, text.to_owned());
        self.context.report.say(text);
        Ok(ExitStatus::Done)
    }

    /// Writes how it ended, unless it was to look only, and prints what happened.
    pub(in crate::commands) fn end(
        self,
        ended: Result<Option<String>, Failure>,
        looked: bool,
    ) -> Ended {
        if !looked {
            self.tell_others(&ended);
        }
        let (exit, result) = match &ended {
            Ok(None) => {
                if !looked {
                    // After the history has this run.
                    figures::publish(&self.context.layout, self.context.report);
                }
                return Ok(ExitStatus::Done);
            }
            Ok(Some(text)) => (ExitStatus::Done, text.clone()),
            Err(failure) => (failure.exit, failure.error.clone()),
        };
        // A network that is down every hour is no history; that somebody forged something is.
        let told = looked
            || matches!(
                exit,
                ExitStatus::Temporary
                    | ExitStatus::Held
                    | ExitStatus::OutsideWindow
                    | ExitStatus::Configuration
                    | ExitStatus::Usage
            );
        if !told {
            self.write(exit, result.clone());
        }
        if !looked {
            // As above.
            figures::publish(&self.context.layout, self.context.report);
        }
        match ended {
            // Has been told as a result.
            Err(failure) if failure.exit == ExitStatus::UpdateAvailable => Ok(failure.exit),
            Err(failure) => Err(failure),
            Ok(_) => {
                self.context.report.say(result);
                Ok(exit)
            }
        }
    }

    /// Tells whoever wants to know without being here: the last check of the timer, the administrator's
    /// command, and figures. What fails of that is no failure of the run.
    fn tell_others(&self, ended: &Result<Option<String>, Failure>) {
        let layout = &self.context.layout;
        let (exit, text) = match ended {
            Ok(None) => (ExitStatus::Done, "there was nothing newer to take"),
            Ok(Some(text)) => (ExitStatus::Done, text.as_str()),
            Err(failure) => (failure.exit, failure.error.as_str()),
        };
        let mut news = true;
        if self.unattended {
            let to = self.to.clone();
            let installed = match (exit, &to) {
                (ExitStatus::Done, Some(to)) => to.clone(),
                _ => self.from.clone(),
            };
            let check = Check {
                at: Timestamp::now(),
                exit,
                text: text.to_owned(),
                hint: ended.as_ref().err().and_then(|failure| failure.hint.clone()),
                installed,
                target: to.filter(|_| exit != ExitStatus::Done),
            };
            news = checks::note(layout, check).unwrap_or_else(|error| {
                self.context.report.warn(format_args!("this look is not noted: {error:#}"));
                true
            });
        }
        // A file that is wrong names nobody to tell; the run itself has told that.
        let Ok(policy) = source::policy(layout) else { return };
        let event = match Event::of(exit, self.unattended) {
            // What is met every hour is told once.
            Some(event) if news || exit == ExitStatus::Done => Some(event),
            _ => None,
        };
        if let Some(event) = event.filter(|_| !matches!(ended, Ok(None))) {
            let facts = Facts { from: &self.from, to: self.to.as_deref(), exit, text };
            if let Err(error) = notify::tell(&policy, event, &facts) {
                self.context.report.warn(format_args!("nobody was notified: {error:#}"));
            }
        }
    }
}
