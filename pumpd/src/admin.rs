//! The commands that do one thing and end: `release-info`, `check`, `account`, and those on data.
//!
//! `pump` and the master run them as the service user. What they print on standard output is JSON or
//! a password; a failure is a sentence on standard error and a code.

pub(crate) mod copies;
pub(crate) mod data;

use std::io::{Read, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use pump_control::constants::MAX_CONFIG;
use pump_control::{Checked, Created, ExitStatus};
use pump_model::limits::MAX_PASSWORD;
use pump_model::{DisplayName, LocalName, Password, Timestamp};
use pump_store::{NewAccount, Store};

use crate::cli::{Account, Configured};
use crate::config::Config;
use crate::confine;
use crate::release_info;

/// A failure with the code to exit with.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) exit: ExitStatus,
    pub(crate) error: anyhow::Error,
    pub(crate) hint: Option<String>,
}

impl Failed {
    pub(crate) fn new(exit: ExitStatus, error: anyhow::Error) -> Self {
        Self { exit, error, hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

type Done = Result<ExitStatus, Failed>;

/// `pumpd release-info`
pub(crate) fn release_info() -> Done {
    let info = release_info::of_file()
        .context("could not read the own program")
        .map_err(|error| Failed::new(ExitStatus::Failed, error))?;
    print_json(&info)
}

/// `pumpd check`
pub(crate) fn check(configured: &Configured) -> Done {
    let config = read(configured)?;
    print_json(&Checked {
        public_url: config.public_url(),
        domain: config.domain.to_string(),
        site_name: config.site_name,
        listen: config.listen.iter().map(ToString::to_string).collect(),
        data_dir: config.data_dir,
        runtime_dir: config.runtime_dir,
        workers: config.workers,
        ready_seconds: config.roll.ready.as_secs(),
        drain_seconds: config.roll.drain.as_secs(),
        hard_stop_seconds: config.roll.hard_stop.as_secs(),
        watch_seconds: config.roll.watch.as_secs(),
        canary_seconds: config.roll.canary.as_secs(),
        parallel: config.roll.parallel,
    })
}

/// `pumpd account …`
pub(crate) fn account(account: &Account) -> Done {
    let Account::Create { name, configured, password_stdin } = account;
    let usage = |error: anyhow::Error| Failed::new(ExitStatus::Usage, error);
    let name = LocalName::for_new_account(name).map_err(|error| usage(error.into()))?;
    let (password, generated) = match password_stdin {
        true => (password_from_stdin()?, None),
        false => {
            let text = generated_password()?;
            (text.clone(), Some(text))
        }
    };
    let password = Password::new(password).map_err(|error| usage(error.into()))?;
    let config = read(configured)?;
    let database = Store::open(&config.data_dir).map_err(|error| store(error, &config))?;
    let display_name = DisplayName::new(name.as_str()).map_err(|error| usage(error.into()))?;
    let new = NewAccount { name, display_name, password };
    database
        .create_account(&new, &config.public_url(), now())
        .map_err(|error| store(error, &config))?;
    database.close().map_err(|error| store(error, &config))?;
    let handle = format!("@{}@{}", new.name, config.domain);
    print_json(&Created { handle, password: generated })
}

/// The configuration. From here on nothing but its data folder is opened.
fn read(configured: &Configured) -> Result<Config, Failed> {
    let config = match configured.stdin {
        false => read_file(&configured.config)?,
        true => Config::parse(&stdin(MAX_CONFIG)?, &configured.config)
            .map_err(|error| refused(&configured.config, error))?,
    };
    confine::helper(&config.data_dir, None);
    Ok(config)
}

fn read_file(path: &Path) -> Result<Config, Failed> {
    Config::read(path).map(|(config, _)| config).map_err(|error| refused(path, error))
}

fn refused(path: &Path, error: impl Into<anyhow::Error>) -> Failed {
    let hint = format!("mend `{}`; `pumpd check` tells whether it is right", path.display());
    Failed::new(ExitStatus::Configuration, error.into()).hint(hint)
}

/// What went wrong with the database, and the next command.
pub(crate) fn store(error: pump_store::Error, config: &Config) -> Failed {
    use pump_store::Error;

    let folder = config.data_dir.display();
    let (exit, hint) = match &error {
        Error::TooNew { .. } => (
            ExitStatus::Preflight,
            Some(
                "go forward again: `pump upgrade`; this build cannot read what the later one wrote"
                    .to_owned(),
            ),
        ),
        Error::Later { .. } => {
            (ExitStatus::Preflight, Some("let the later release do it: `pump upgrade`".to_owned()))
        }
        Error::NotWritable { .. } => (
            ExitStatus::Preflight,
            Some(format!("`{folder}` must be there and belong to the user that pumpd runs as")),
        ),
        Error::Full { .. } => {
            (ExitStatus::Preflight, Some(format!("make room on the disk of `{folder}`")))
        }
        Error::PublicUrlChanged { stored, .. } => {
            (ExitStatus::Configuration, Some(format!("set `public_url = \"{stored}\"` again")))
        }
        Error::Busy { .. } => (ExitStatus::Temporary, None),
        Error::NameTaken(_) | Error::NameReserved(_) => {
            (ExitStatus::Usage, Some("choose another name".to_owned()))
        }
        _ => (ExitStatus::Preflight, None),
    };
    Failed { exit, error: error.into(), hint }
}

/// A password nobody has to think of: 120 bits, in letters that are not mistaken for each other.
fn generated_password() -> Result<String, Failed> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";
    let mut bytes = [0u8; 24];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failed::new(ExitStatus::Failed, anyhow::anyhow!("no randomness: {error}"))
    })?;
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect())
}

fn password_from_stdin() -> Result<String, Failed> {
    let text = stdin(MAX_PASSWORD + 2)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Standard input up to `limit` bytes, as text.
fn stdin(limit: usize) -> Result<String, Failed> {
    let mut text = String::new();
    std::io::stdin()
        .take(limit as u64 + 1)
        .read_to_string(&mut text)
        .context("could not read standard input")
        .map_err(|error| Failed::new(ExitStatus::Usage, error))?;
    if text.len() > limit {
        let error = anyhow::anyhow!("standard input has more than {limit} bytes");
        return Err(Failed::new(ExitStatus::Usage, error));
    }
    Ok(text)
}

fn print_json<T: serde::Serialize>(value: &T) -> Done {
    let line = pump_control::encode(value);
    std::io::stdout()
        .write_all(&line)
        .context("could not write to standard output")
        .map_err(|error| Failed::new(ExitStatus::Failed, error))?;
    Ok(ExitStatus::Done)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
