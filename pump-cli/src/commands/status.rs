//! `pump status`: how the server is, a sentence first.

use pump_control::ExitStatus;
use pump_control::control::{Phase, Status, Worker, WorkerState};

use crate::context::Context;
use crate::report::{Ended, Report};
use crate::service;

/// `pump status` has no flags of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {}

pub(crate) fn run(_args: StatusArgs, context: &Context<'_>) -> Ended {
    let status = service::status(context)?;
    context.report.value(&status);
    print(&status, &context.report);
    Ok(match status.phase {
        Phase::Running | Phase::Rolling => ExitStatus::Done,
        Phase::Starting | Phase::Stopping => ExitStatus::Temporary,
    })
}

fn print(status: &Status, report: &Report) {
    report.result(&status.sentence);
    report.result(format_args!("  {} on {}", status.public_url, status.listen.join(" and ")));
    report.result(format_args!(
        "  master  pid {:<8} {:<20} up {}",
        status.pid,
        status.master.short(),
        duration(status.up_seconds)
    ));
    for worker in &status.workers {
        report.result(format_args!("  worker  {}", line(worker)));
    }
    if let Some(roll) = &status.roll {
        let to = roll.candidate.short();
        report.result(format_args!("roll {} to {to}: {}", roll.roll, roll.sentence));
    }
    if let Some(outcome) = &status.last_roll {
        report.result(format_args!("last roll: {}", outcome.text));
    }
    if let Some(latch) = &status.latch {
        report.result(format_args!(
            "latched: {} failed and is not tried again: {}",
            latch.build.short(),
            latch.reason
        ));
        for text in &latch.output {
            report.result(format_args!("  | {text}"));
        }
    }
    for note in &status.notes {
        report.result(format_args!("note: {note}"));
    }
}
fn line(worker: &Worker) -> String {
    let state = match worker.state {
        WorkerState::Starting => "starting",
        WorkerState::Ready => "ready",
        WorkerState::Draining => "draining",
        WorkerState::Killed => "killed",
        WorkerState::Stuck => "stuck after SIGKILL",
    };
    let open = worker.connections.map_or(String::new(), |count| format!(", {count} connections"));
    format!(
        "pid {:<8} {:<20} {state}{open}, generation {}",
        worker.pid,
        worker.build.short(),
        worker.generation
    )
}

/// Seconds as a person says them.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86400, seconds / 3600 % 24),
    }
}
