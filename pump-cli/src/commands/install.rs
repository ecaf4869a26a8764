//! `pump install`: from an unpacked release to a server that answers.
//!
//! Everything that can be refused is refused before anything is touched; after that every step is
//! noted with its way back, and a failing one takes the earlier ones back. A second run compares what
//! is there with what it would make, and changes nothing where they agree.

mod answers;
mod probe;
pub(super) mod program;
pub(super) mod steps;
mod upgrades;

use std::path::PathBuf;

use pump_control::{Checked, ExitStatus};

use crate::address;
use crate::context::Context;
use crate::daemon::Daemon;
use crate::journal::Action;
use crate::passage::{self, Passage};
use crate::report::{Ended, Failure};
use crate::{lock, ownership, service};

use self::answers::Answers;
use self::program::Release;

/// The answers that can be given as flags.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct InstallArgs {
    /// The name that accounts carry, as in `@alice@DOMAIN`. It cannot change later.
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Where to listen: `127.0.0.1:8000` behind a proxy, `unix:/run/pump/http.sock`. Repeatable.
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// The base of every published id, if not `https://DOMAIN`. It cannot change later.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Where the database goes.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What people call the site.
    #[arg(long, value_name = "NAME")]
    site_name: Option<String>,
    /// The first account to create.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Read the first account's password from a file instead of making one.
    #[arg(long, value_name = "FILE", requires = "account")]
    password_file: Option<PathBuf>,
    /// Whether a timer looks for upgrades and installs those that need no downtime.
    #[arg(long, value_name = "YES|NO", num_args = 0..=1, default_missing_value = "yes")]
    auto_upgrade: Option<YesNo>,
    /// Where releases come from, for `pump upgrade`.
    #[arg(long, value_name = "URL|DIR")]
    source: Option<String>,
    /// The publisher's `root.json`, which upgrades are checked against, if none is compiled in.
    #[arg(long, value_name = "FILE")]
    trust_root: Option<PathBuf>,
    /// The release to install, if not the one that this `pump` belongs to.
    #[arg(long, value_name = "BUNDLE|FOLDER")]
    from: Option<PathBuf>,
    /// Ask nothing: take the default for every answer that is not given.
    #[arg(long)]
    yes: bool,
}

/// An answer to a question of yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum YesNo {
    /// Yes.
    Yes,
    /// No.
    No,
}

pub(crate) fn run(args: InstallArgs, context: &Context<'_>) -> Ended {
    context.need_root("installing")?;
    context.need_systemd()?;
    ownership::refuse_packaged(context, "install")?;
    let release = Release::find(args.from.as_deref(), context)?;
    probe::refuse_strangers(&context.layout)?;
    // One that was cut may have come as far as the configuration and no further.
    let cut = passage::cut_all(&context.layout).is_some_and(|it| it.action == Action::Install);
    if context.layout.config().exists() && !cut {
        again(&args, &release, context)
    } else {
        first(&args, &release, cut, context)
    }
}

/// An installation where none was configured, or where one was cut.
fn first(args: &InstallArgs, release: &Release, cut: bool, context: &Context<'_>) -> Ended {
    let answers = Answers::gather(args, context)?;
    let checked = probe::check(&answers, release, context)?;
    probe::refuse_read_only(&context.layout)?;
    let serves = cut && service::status(context).is_ok();
    if !serves {
        address::refuse_taken(&answers.listen)?;
    }
    // Not before: a person may take any time over the questions.
    let _lock = lock::take(&context.layout)?;
    if !cut {
        refuse_overtaken(context)?;
    }
    let journal = passage::file(&context.layout);
    let is_new = !journal.exists();
    let asked = answers.asked(release.from(), context);
    let made = Passage::begin_all(&context.layout, Action::Install, asked)
        .and_then(|_| steps::first(&answers, &checked, release, context));
    let made = made.inspect_err(|_| {
        // Everything was taken back, and so is what was said about it.
        let _ = if is_new {
            std::fs::remove_file(&journal).map_err(anyhow::Error::from)
        } else {
            Passage::end_all(&context.layout)
        };
    })?;
    noted(Passage::end_all(&context.layout), context);
    made.tell(&answers, context);
    Ok(ExitStatus::Done)
}

fn noted(written: anyhow::Result<()>, context: &Context<'_>) {
    if let Err(error) = written {
        context.report.warn(format_args!("{error:#}"));
    }
}

/// Refuses when another run has installed while this one looked around.
fn refuse_overtaken(context: &Context<'_>) -> Result<(), Failure> {
    let config = context.layout.config();
    if !config.exists() {
        return Ok(());
    }
    Err(Failure::new(
        ExitStatus::Preflight,
        format!("another run has made `{}` in the meantime", config.display()),
    )
    .hint(format!("run `{} install` again to see whether all is there", service::command(context))))
}

/// An installation over one that is configured: a second run, or one after an uninstall that kept the
/// configuration. The file says everything; nothing is asked.
fn again(args: &InstallArgs, release: &Release, context: &Context<'_>) -> Ended {
    let layout = &context.layout;
    let _lock = lock::take(layout)?;
    release.refuse_other_than_current(layout)?;
    let checked = Daemon::at(release.pumpd()).check(&layout.config())?;
    if !checked.data_dir.exists() {
        probe::refuse_open_way(&checked.data_dir, context)?;
    }
    refuse_contradiction(args, &checked, context)?;
    upgrades::refuse_contradiction(args.source.as_deref(), args.trust_root.as_deref(), context)?;
    let asked = steps::Further {
        timer: args.auto_upgrade.map(|answer| answer == YesNo::Yes),
        source: args.source.as_deref().map(upgrades::whole_source).transpose()?,
        trust_root: args.trust_root.clone(),
    };
    let changes = steps::again(&checked, &asked, release, context)?;
    // A removal that was cut is one no more.
    noted(Passage::end_all(layout), context);
    if args.account.is_some() {
        context.report.warn(
            "the first account was made by the first installation; \
             `pump account create NAME` makes another",
        );
    }
    let status = service::status(context).ok();
    context.report.value(&serde_json::json!({
        "changed": changes,
        "release": release.name(),
        "public_url": checked.public_url,
        "listen": checked.listen,
        "running": status.is_some(),
    }));
    if changes.is_empty() {
        context.report.say(format_args!(
            "nothing to do: {} is installed and `{}` was left as it is",
            release.name(),
            layout.config().display()
        ));
    } else {
        for change in &changes {
            context.report.say(change);
        }
    }
    Ok(ExitStatus::Done)
}

/// Refuses flags that say something else than the configuration, which is the administrator's.
fn refuse_contradiction(
    args: &InstallArgs,
    checked: &Checked,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let data_dir = args.data_dir.as_ref().map(|dir| dir.display().to_string());
    let listen = (!args.listen.is_empty()).then(|| args.listen.join(", "));
    for (flag, wanted, found) in [
        ("--domain", args.domain.clone(), checked.domain.clone()),
        ("--public-url", args.public_url.clone(), checked.public_url.clone()),
        ("--site-name", args.site_name.clone(), checked.site_name.clone()),
        ("--data-dir", data_dir, checked.data_dir.display().to_string()),
        ("--listen", listen, checked.listen.join(", ")),
    ] {
        if let Some(wanted) = wanted
            && wanted != found
        {
            let config = context.layout.config();
            return Err(Failure::new(
                ExitStatus::Usage,
                format!(
                    "`{flag} {wanted}` contradicts `{}`, which says `{found}` and stays as it is",
                    config.display()
                ),
            )
            .hint(format!(
                "edit `{}` and run `{} install` without the flag",
                config.display(),
                service::command(context)
            )));
        }
    }
    Ok(())
}
