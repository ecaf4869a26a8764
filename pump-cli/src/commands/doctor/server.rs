//! The server: its configuration, whether it answers, and what it says of itself.

use std::net::TcpListener;

use pump_control::channel::Confinement;
use pump_control::control::{Phase, Status};

use super::Finding;
use crate::address::Address;
use crate::context::Context;
use crate::control::{self, ControlError};
use crate::daemon::Daemon;
use crate::passage::{self, Last};
use crate::releases::Releases;
use crate::service;
use crate::systemd;
use crate::units::SERVING;

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let layout = &context.layout;
    let checked = Daemon::current(layout).check(&layout.config());
    let mut all = vec![match &checked {
        Ok(_) => {
            Finding::fine("configuration", format!("`{}` is right", layout.config().display()))
        }
        Err(failure) => Finding::of(
            "configuration",
            failure,
            "the server does not start with it; what runs goes on with the one before",
        ),
    }];
    match control::status(&layout.control_socket()) {
        Ok(status) => all.extend(running(context, &status)),
        Err(ControlError::NotRunning(_)) => {
            let listen = checked.map(|checked| checked.listen).unwrap_or_default();
            all.extend(stopped(context, &listen));
        }
        Err(error) => all.push(Finding::of(
            "server",
            &service::told(error, context),
            "nothing can be rolled onto a server that does not answer",
        )),
    }
    all.extend(enabled(context));
    all
}

fn running(context: &Context<'_>, status: &Status) -> Vec<Finding> {
    let pump = service::command(context);
    let mut all = vec![match status.phase {
        Phase::Running => Finding::fine("server", status.sentence.clone()),
        _ => Finding::remark("server", status.sentence.clone(), "it is about to change")
            .hint(format!("run `{pump} status`")),
    }];
    if let Some(latch) = &status.latch {
        let found =
            format!("{} failed and is not tried again: {}", latch.build.short(), latch.reason);
        let finding = Finding::remark("latch", found, "the build before serves");
        all.push(match &latch.hint {
            Some(hint) => finding.hint(hint.clone()),
            None => finding,
        });
    }
    all.push(confinement(status));
    let current = Releases::of(&context.layout).current().ok().flatten();
    if let Some(current) = current
        && current.info.build.to_string() != status.workers_build.build
        && status.phase == Phase::Running
    {
        all.push(not_current(context, &status.workers_build.short(), &current.name));
    }
    all.extend(
        status
            .notes
            .iter()
            .map(|note| Finding::remark("server", note.clone(), "the server says so itself")),
    );
    all
}

/// Another release serves than the one that starts: as it has to be while it is watched, and not otherwise.
fn not_current(context: &Context<'_>, serves: &str, starts: &str) -> Finding {
    let pump = service::command(context);
    let next = match passage::last(&context.layout) {
        Ok(Last::Unfinished(last)) if last.owner.lives() => {
            let text =
                format!("{serves} serves and is watched, {starts} is current until that is over");
            return Finding::fine("serves", text);
        }
        Ok(Last::Unfinished(_)) => "resume",
        _ => "upgrade",
    };
    Finding::broken(
        "serves",
        format!("{serves} serves and {starts} is current"),
        "another release than the one that serves would start after a crash",
    )
    .hint(format!("run `{pump} {next}`"))
}

/// What workers have given up on top of the units' sandbox.
fn confinement(status: &Status) -> Finding {
    let said: Vec<Confinement> =
        status.workers.iter().filter_map(|worker| worker.confinement).collect();
    let landlock = said.iter().map(|one| one.landlock).min().unwrap_or(0);
    let all = said.len() == status.workers.len() && !said.is_empty();
    let lacking = match (all, landlock, said.iter().all(|one| one.seccomp)) {
        (false, ..) => "not all workers have said what they have given up",
        (_, _, false) => "workers' system calls are not filtered",
        (_, 0, _) => {
            "this kernel has no Landlock, so that files are kept from workers by their modes alone"
        }
        (_, version, _) => {
            let text = format!(
                "workers open their data only, by Landlock {version}, and reach nobody, by seccomp"
            );
            return Finding::fine("confinement", text);
        }
    };
    Finding::remark("confinement", lacking, "whoever breaks into a worker may do what the service may")
        .hint(
            "`systemctl restart pumpd.service` takes newer units into use; Landlock needs Linux 5.13 with \
             `landlock` among `lsm=`",
        )
}

fn stopped(context: &Context<'_>, listen: &[String]) -> Vec<Finding> {
    let pump = service::command(context);
    let mut all = vec![
        Finding::broken("server", "pumpd does not run", "nobody is served")
            .hint(format!("run `{pump} start`")),
    ];
    if !context.layout.is_private() && systemd::is_active(SERVING[0]) {
        // systemd has the addresses for it.
        return all;
    }
    for text in listen {
        let Ok(Address::Tcp(address)) = text.parse::<Address>() else { continue };
        // Port 0 is any that is free. It is closed again at once, and nobody was accepted.
        if let Err(error) = TcpListener::bind(address) {
            all.push(
                Finding::broken(
                    "address",
                    format!("nothing can listen on `{text}`: {error}"),
                    "the server would not start",
                )
                .hint(format!("`ss -ltnp sport = :{}` tells who does", address.port())),
            );
        }
    }
    all
}

fn enabled(context: &Context<'_>) -> Option<Finding> {
    if context.layout.is_private() {
        return None;
    }
    let missing: Vec<&str> =
        SERVING.into_iter().filter(|unit| !systemd::is_enabled(unit)).collect();
    Some(match missing[..] {
        [] => Finding::fine("enabled", "the server starts with the machine"),
        _ => Finding::remark(
            "enabled",
            format!("{} are not enabled", missing.join(" and ")),
            "the server does not start with the machine",
        )
        .hint(format!("run `systemctl enable {}`", missing.join(" "))),
    })
}
