//! The steps of an installation, each with its way back.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pump_control::{Checked, ExitStatus, Layout};
use serde_json::json;

use super::answers::Answers;
use super::program::Release;
use super::upgrades;
use crate::address::Address;
use crate::context::Context;
use crate::daemon::{DATABASE, Daemon, Identity};
use crate::journal::{self, Journal};
use crate::manifest::{self, Entry};
use crate::releases::Releases;
use crate::report::Failure;
use crate::systemd::{self, systemctl};
use crate::transaction::Transaction;
use crate::units::{Needed, SERVING, SYSUSERS, TIMER, TIMER_STAMP, drop_ins, is_untouched, units};
use crate::{address, backups, service};

/// What an installation made, to be told.
#[derive(Debug)]
pub(super) struct Made {
    release: String,
    from: PathBuf,
    public_url: String,
    listen: Vec<String>,
    /// The password of the first account, when it was made up.
    password: Option<String>,
    /// Whether the server was started.
    started: bool,
}

/// Installs, and takes back what it did when a step fails.
///
/// # Errors
/// The failing step's, with what could not be taken back.
pub(super) fn first(
    answers: &Answers,
    checked: &Checked,
    release: &Release,
    context: &Context<'_>,
) -> Result<Made, Failure> {
    let mut transaction = Transaction::default();
    match all(answers, checked, release, context, &mut transaction) {
        Ok(made) => {
            transaction.keep();
            Ok(made)
        }
        Err(failure) => Err(taken_back(failure, transaction)),
    }
}

/// What a further run may be asked for besides what the configuration says.
#[derive(Debug, Default)]
pub(super) struct Further {
    /// Whether a timer looks for upgrades; as it is without an answer.
    pub(super) timer: Option<bool>,
    /// What goes into `upgrade.toml` if there is none.
    pub(super) source: Option<String>,
    /// What is recorded as the trust root if none is.
    pub(super) trust_root: Option<PathBuf>,
}

/// Brings an installation to what its configuration says and what was asked. Returns what was changed, as
/// sentences.
///
/// # Errors
/// The failing step's, with what could not be taken back.
pub(super) fn again(
    checked: &Checked,
    asked: &Further,
    release: &Release,
    context: &Context<'_>,
) -> Result<Vec<String>, Failure> {
    let mut transaction = Transaction::default();
    match mend(checked, asked, release, context, &mut transaction) {
        Ok(changes) => {
            transaction.keep();
            Ok(changes)
        }
        Err(failure) => Err(taken_back(failure, transaction)),
    }
}

fn taken_back(failure: Failure, transaction: Transaction) -> Failure {
    if transaction.is_empty() {
        return failure;
    }
    let left = transaction.undo();
    let told = if left.is_empty() {
        "everything this run had made was removed again".to_owned()
    } else {
        format!("what this run had made was removed again, except: {}", left.join("; "))
    };
    Failure { error: format!("{}; {told}", failure.error), ..failure }
}

fn all(
    answers: &Answers,
    checked: &Checked,
    release: &Release,
    context: &Context<'_>,
    transaction: &mut Transaction,
) -> Result<Made, Failure> {
    let layout = &context.layout;
    let begun = Timestamp::now();
    context.report.say(format_args!("installing {}", release.name()));
    users(context)?;
    program(release, layout, transaction)?;
    folder("/etc/pump", layout, transaction)?;
    transaction.file(
        manifest::entry("/etc/pump/pumpd.toml"),
        layout,
        &configuration(answers, layout),
    )?;
    upgrades::write(answers.source.as_deref(), answers.trust_root.as_deref(), layout, transaction)?;
    let old_database = data_folders(&checked.data_dir, layout, transaction)?;
    let identity = Identity::of_data(layout);
    let daemon = Daemon::current(layout);
    if old_database {
        before_first(context)?;
    }
    daemon.migrate(identity, &layout.config())?;
    let password = account(answers, &daemon, identity, old_database, context)?;
    if !layout.is_private() {
        unit_files(checked, context, transaction)?;
        enable(transaction)?;
        if answers.auto_upgrade {
            enable_timer(transaction)?;
        }
        transaction.note("started the service", || {
            systemctl(&["stop", SERVING[0], SERVING[1]])?;
            // A failed start would otherwise be remembered, and count against the next one.
            let _ = systemctl(&["reset-failed", SERVING[0], SERVING[1]]);
            Ok(())
        });
        service::start(context)?;
    }
    record(&release.name(), begun, layout)?;
    Ok(Made {
        release: release.name(),
        from: release.from().to_owned(),
        public_url: checked.public_url.clone(),
        listen: checked.listen.clone(),
        password,
        started: !layout.is_private(),
    })
}

fn mend(
    checked: &Checked,
    asked: &Further,
    release: &Release,
    context: &Context<'_>,
    transaction: &mut Transaction,
) -> Result<Vec<String>, Failure> {
    let layout = &context.layout;
    let mut changes = Vec::new();
    users(context)?;
    if program(release, layout, transaction)? {
        changes.push(format!("{} was installed", release.name()));
    }
    data_folders(&checked.data_dir, layout, transaction)?;
    if service::status(context).is_err() {
        before_first(context)?;
    }
    let (source, root) = (asked.source.as_deref(), asked.trust_root.as_deref());
    let written = upgrades::write(source, root, layout, transaction)?;
    changes.extend(written.iter().map(|path| format!("`{}` was written", path.display())));
    if layout.is_private() {
        return Ok(changes);
    }
    let running = systemd::is_active(SERVING[1]);
    let written = unit_files(checked, context, transaction)?;
    changes.extend(written.iter().map(|path| format!("`{path}` was written")));
    if !SERVING.iter().all(|unit| systemd::is_enabled(unit)) {
        enable(transaction)?;
        changes.push("the service was enabled".into());
    }
    match asked.timer {
        Some(true) if !systemd::is_enabled(TIMER) => {
            enable_timer(transaction)?;
            changes.push("upgrades are looked for every hour".into());
        }
        Some(false) if systemd::is_enabled(TIMER) => {
            transaction
                .note("disabled the timer", || systemctl(&["--quiet", "enable", "--now", TIMER]));
            systemctl(&["--quiet", "disable", "--now", TIMER])?;
            changes.push("upgrades are no longer looked for".into());
        }
        _ => {}
    }
    if !running {
        let listen: Result<Vec<Address>, _> =
            checked.listen.iter().map(|text| text.parse()).collect();
        if !systemd::is_active(SERVING[0]) {
            address::refuse_taken(&listen.map_err(anyhow::Error::from)?)?;
        }
        service::start(context)?;
        changes.push("the service was started".into());
    } else if !written.is_empty() {
        changes
            .push("run `pump stop` and `pump start` for the changed units to take effect".into());
    }
    Ok(changes)
}

fn users(context: &Context<'_>) -> anyhow::Result<()> {
    if context.layout.is_private() || context.layout.is_packaged() {
        return Ok(());
    }
    // Not taken back when a later step fails: a user that once owned files is not removed.
    systemd::make_users(SYSUSERS)
}

fn program(
    release: &Release,
    layout: &Layout,
    transaction: &mut Transaction,
) -> Result<bool, Failure> {
    let places = match layout.is_packaged() {
        false => ["/opt/pump", "/opt/pump/releases"],
        true => ["/var/lib/pump-releases", "/var/lib/pump-releases/releases"],
    };
    for place in places {
        folder(place, layout, transaction)?;
    }
    release.put(layout, transaction)
}

/// Makes the data folders. True when a database was there before.
fn data_folders(
    data: &Path,
    layout: &Layout,
    transaction: &mut Transaction,
) -> anyhow::Result<bool> {
    let entry = manifest::entry("/var/lib/pump");
    transaction.folder(data, entry, layout)?;
    folder("/var/lib/pump-upgrade", layout, transaction)?;
    if layout.is_private() {
        folder("/run/pump", layout, transaction)?;
    }
    Ok(data.join(DATABASE).exists())
}

/// Copies what a release that was uninstalled has left, before this one is started on it.
fn before_first(context: &Context<'_>) -> Result<(), Failure> {
    let current = context.need_current(&Releases::of(&context.layout))?;
    backups::before_first(context, &current).map(drop)
}

fn folder(
    path: &'static str,
    layout: &Layout,
    transaction: &mut Transaction,
) -> anyhow::Result<bool> {
    let entry: Entry = manifest::entry(path);
    transaction.folder(&entry.at(layout), entry, layout)
}

/// The first line of the history.
fn record(name: &str, begun: Timestamp, layout: &Layout) -> anyhow::Result<()> {
    let seconds = Timestamp::now().duration_since(begun).as_secs();
    Journal::of(layout).append(&journal::Entry {
        at: begun,
        who: journal::who(),
        action: journal::Action::Install,
        from: None,
        to: Some(name.to_owned()),
        exit: ExitStatus::Done,
        result: format!("{name} was installed"),
        seconds: seconds.try_into().unwrap_or(0),
    })
}

/// Makes the first account and returns the password that was made for it.
fn account(
    answers: &Answers,
    daemon: &Daemon,
    identity: Identity,
    old_database: bool,
    context: &Context<'_>,
) -> Result<Option<String>, Failure> {
    let Some(name) = &answers.account else { return Ok(None) };
    let config = context.layout.config();
    match daemon.create_account(identity, &config, name, answers.password.as_deref()) {
        Ok(made) => Ok(made.password),
        // Kept data of an earlier installation: its accounts are as good as new ones.
        Err(failure) if old_database => {
            context.report.warn(format_args!("no account was created: {failure}"));
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// Writes the units that are missing or were made by an earlier release. Returns which.
///
/// # Errors
/// What the file system or systemd says.
pub(in crate::commands) fn unit_files(
    checked: &Checked,
    context: &Context<'_>,
    transaction: &mut Transaction,
) -> anyhow::Result<Vec<&'static str>> {
    let layout = &context.layout;
    let mut pending = Vec::new();
    let wanted = match layout.is_packaged() {
        false => units(checked).into_iter().map(|unit| (unit, Needed(true))).collect(),
        true => Vec::from(drop_ins(checked)),
    };
    for (unit, needed) in wanted {
        let entry = manifest::entry(unit.path);
        match fs::read_to_string(entry.at(layout)) {
            Ok(before) if before == unit.text => {}
            Err(error) if error.kind() == ErrorKind::NotFound && !needed.0 => {}
            Ok(before) if !is_untouched(&before) => context.report.warn(format_args!(
                "`{}` was edited and stays as it is; a drop-in would outlive upgrades",
                unit.path
            )),
            _ => pending.push((entry, unit)),
        }
    }
    if pending.is_empty() {
        return Ok(Vec::new());
    }
    // Noted first, so that it is done last when the files are taken back.
    transaction.note("told systemd about the units", || systemctl(&["daemon-reload"]));
    let mut written = Vec::new();
    for (entry, unit) in pending {
        transaction.file(entry, layout, &unit.text)?;
        written.push(unit.path);
    }
    systemctl(&["daemon-reload"])?;
    if !layout.is_packaged() {
        systemd::make_runtime_folders("/etc/tmpfiles.d/pump.conf")?;
    }
    Ok(written)
}

fn enable(transaction: &mut Transaction) -> anyhow::Result<()> {
    transaction
        .note("enabled the service", || systemctl(&["--quiet", "disable", SERVING[0], SERVING[1]]));
    systemctl(&["--quiet", "enable", SERVING[0], SERVING[1]])
}

fn enable_timer(transaction: &mut Transaction) -> anyhow::Result<()> {
    transaction.note("enabled the timer", || {
        systemctl(&["--quiet", "disable", "--now", TIMER])?;
        // What systemd wrote when the timer started. It may not have come to that.
        let _ = fs::remove_file(manifest::entry(TIMER_STAMP).path);
        Ok(())
    });
    systemctl(&["--quiet", "enable", "--now", TIMER])
}

/// The text of `pumpd.toml`.
pub(super) fn configuration(answers: &Answers, layout: &Layout) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let listen: Vec<String> =
        answers.listen.iter().map(|address| quoted(&address.to_string())).collect();
    let mut text = String::from(
        "# Configuration of pumpd. `pumpd check --config FILE` reads it and touches nothing. Changes\n\
         # take effect with `pump restart`; those of `listen`, `data_dir` and `runtime_dir` with\n\
         # `pump install`, `pump stop` and `pump start`. Unknown keys are refused.\n\n",
    );
    let mut line = |key: &str, value: &str| {
        text.push_str(key);
        text.push_str(" = ");
        text.push_str(value);
        text.push('\n');
    };
    line("domain", &quoted(&answers.domain));
    if let Some(url) = &answers.public_url {
        line("public_url", &quoted(url));
    }
    line("site_name", &quoted(&answers.site_name));
    line("listen", &format!("[{}]", listen.join(", ")));
    line("data_dir", &path(&answers.data_dir));
    line("runtime_dir", &path(&layout.runtime()));
    // Whoever can reach a local port is this machine's, and a proxy is what stands there.
    let proxied = answers.listen.iter().all(Address::is_local) && !layout.is_private();
    line(if proxied { "trusted_proxies" } else { "# trusted_proxies" }, r#"["127.0.0.1", "::1"]"#);
    line("# workers", "2");
    line("# open_registration", "false");
    text
}

impl Made {
    /// Shows where the server is and how to do the same again.
    pub(super) fn tell(&self, answers: &Answers, context: &Context<'_>) {
        let report = &context.report;
        let pump = service::command(context);
        let command = answers.command(&self.from, context);
        report.value(&json!({
            "changed": [format!("{} was installed", self.release)],
            "release": self.release,
            "public_url": self.public_url,
            "listen": self.listen,
            "running": self.started,
            "account": answers.account,
            "password": self.password,
            "command": command,
        }));
        if self.started {
            report.say(format_args!(
                "{} serves {} on {}",
                self.release,
                self.public_url,
                self.listen.join(" and ")
            ));
        } else {
            report.say(format_args!("{} is installed; `{pump} start` starts it", self.release));
        }
        if let (Some(name), Some(password)) = (&answers.account, &self.password) {
            report.say(format_args!(
                "account `{name}` has the password below; it is shown this once"
            ));
            report.result(password);
        }
        report.say(format_args!("to install the same without questions: {command}"));
    }
}
