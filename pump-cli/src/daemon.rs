//! Work that `pump` has the daemon's binary do: check a configuration, migrate, make an account.
//!
//! What touches data runs as the service's user, and the identity is dropped before the program is
//! started, so nothing of root's is open in it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::Context as _;
use nix::unistd::User;
use pump_control::answers::{Copied, Database, Filling, Migrated};
use pump_control::constants::KEPT_OUTPUT_LINES;
use pump_control::{Checked, Created, ExitStatus, Layout, USER};

use crate::report::Failure;
use crate::tool;

/// The database's file in a data folder.
pub(crate) const DATABASE: &str = "pump.sqlite3";

/// One build of pumpd.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    program: PathBuf,
}

/// As whom the daemon's binary runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// As whoever runs `pump`: for what opens nothing but a configuration, and in a private place.
    Own,
    /// As the service's user.
    Service,
}

impl Identity {
    /// The one that may touch an installation's data.
    pub(crate) fn of_data(layout: &Layout) -> Self {
        if layout.is_private() { Self::Own } else { Self::Service }
    }
}

impl Daemon {
    /// The build at this path.
    pub(crate) fn at(program: PathBuf) -> Self {
        Self { program }
    }

    /// The installation's proven build.
    pub(crate) fn current(layout: &Layout) -> Self {
        Self::at(Layout::pumpd_in(&layout.current()))
    }

    /// Reads and validates a configuration; opens nothing else.
    ///
    /// # Errors
    /// Exit 78 with the daemon's own sentence.
    pub(crate) fn check(&self, config: &Path) -> Result<Checked, Failure> {
        let output = self.run(Identity::Own, &["check"], config, None)?;
        self.parse(&output.stdout)
    }

    /// Whether this build has a command. One that cannot be run has none.
    pub(crate) fn knows(&self, command: &str) -> bool {
        let output = tool::command(&self.program).args([command, "--help"]).output();
        output.is_ok_and(|output| output.status.success())
    }

    /// Validates the text of a configuration that is to be written to `config`.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn check_text(&self, config: &Path, text: &str) -> Result<Checked, Failure> {
        let output = self.run(Identity::Own, &["check", "--stdin"], config, Some(text))?;
        self.parse(&output.stdout)
    }

    /// Creates or migrates the database.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn migrate(&self, identity: Identity, config: &Path) -> Result<(), Failure> {
        self.run(identity, &["migrate"], config, None).map(drop)
    }

    /// What the database is, and what is left to do there.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn database(&self, identity: Identity, config: &Path) -> Result<Database, Failure> {
        let output = self.run(identity, &["database"], config, None)?;
        self.parse(&output.stdout)
    }

    /// Expands the database and brings old rows along, or contracts it as well. Each line of progress is
    /// told as it comes.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn migrate_slowly(
        &self,
        layout: &Layout,
        contract: bool,
        mut tell: impl FnMut(Filling),
    ) -> Result<Migrated, Failure> {
        let words: &[&str] = if contract { &["migrate", "--contract"] } else { &["migrate"] };
        let mut command = self.command(Identity::of_data(layout), words, &layout.config())?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn(&mut command)?;
        let mut done = None;
        if let Some(output) = child.stdout.take() {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                match serde_json::from_value(value["filling"].clone()) {
                    Ok(filling) => tell(filling),
                    Err(_) => done = serde_json::from_value(value).ok(),
                }
            }
        }
        let output = child.wait_with_output().context("could not wait for pumpd")?;
        if !output.status.success() {
            return Err(self.failure(words, &output));
        }
        let silent = || format!("`{}` did not say what it has done", self.program.display());
        Ok(done.with_context(silent)?)
    }

    /// Copies the database into a file that is open for writing.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn backup(&self, layout: &Layout, to: File) -> Result<Copied, Failure> {
        let words = ["backup", "-"];
        let mut command = self.command(Identity::of_data(layout), &words, &layout.config())?;
        command.stdin(Stdio::null()).stdout(to).stderr(Stdio::piped());
        let child = self.spawn(&mut command)?;
        // Its words on the way are few.
        let output = child.wait_with_output().context("could not wait for pumpd")?;
        if !output.status.success() {
            return Err(self.failure(&words, &output));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        self.parse(said.lines().rev().find(|line| line.starts_with('{')).unwrap_or("").as_bytes())
    }

    /// Has the daemon do something with a copy of the database that is open for reading: `verify-backup`,
    /// `restore`, `rehearse`.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn with_copy<T: serde::de::DeserializeOwned>(
        &self,
        layout: &Layout,
        what: &str,
        copy: File,
    ) -> Result<T, Failure> {
        let words = [what, "-"];
        let mut command = self.command(Identity::of_data(layout), &words, &layout.config())?;
        command.stdin(copy).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.spawn(&mut command)?;
        let output = child.wait_with_output().context("could not wait for pumpd")?;
        if !output.status.success() {
            return Err(self.failure(&words, &output));
        }
        self.parse(&output.stdout)
    }

    /// Makes an account, with this password or one that is made up.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn create_account(
        &self,
        identity: Identity,
        config: &Path,
        name: &str,
        password: Option<&str>,
    ) -> Result<Created, Failure> {
        let mut words = vec!["account", "create", name];
        if password.is_some() {
            words.push("--password-stdin");
        }
        let output = self.run(identity, &words, config, password)?;
        self.parse(&output.stdout)
    }

    fn command(
        &self,
        identity: Identity,
        words: &[&str],
        config: &Path,
    ) -> Result<Command, Failure> {
        let mut command = tool::command(&self.program);
        command.args(words).arg("--config").arg(config);
        if identity == Identity::Service {
            let user = User::from_name(USER)
                .context("could not look up the service's user")?
                .with_context(|| format!("there is no user `{USER}`"))?;
            // Supplementary groups go too: std empties them when root gives a uid.
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        Ok(command)
    }

    fn spawn(&self, command: &mut Command) -> Result<Child, Failure> {
        let spawned = command.spawn();
        Ok(spawned.with_context(|| format!("could not run `{}`", self.program.display()))?)
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, printed: &[u8]) -> Result<T, Failure> {
        let parsed = serde_json::from_slice(printed)
            .with_context(|| format!("`{}` answered what it should not", self.program.display()))?;
        Ok(parsed)
    }

    fn run(
        &self,
        identity: Identity,
        words: &[&str],
        config: &Path,
        input: Option<&str>,
    ) -> Result<Output, Failure> {
        let mut command = self.command(identity, words, config)?;
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn(&mut command)?;
        if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
            // A daemon that refused without reading says why on its standard error.
            let _ = pipe.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().context("could not wait for pumpd")?;
        if output.status.success() {
            return Ok(output);
        }
        Err(self.failure(words, &output))
    }

    /// The daemon's own words, without its labels; its hint stays a hint.
    fn failure(&self, words: &[&str], output: &Output) -> Failure {
        let text = String::from_utf8_lossy(&output.stderr);
        let mut error = None;
        let mut hint = None;
        let mut rest = Vec::new();
        // Progress is no reason.
        for line in text.lines().filter(|line| !line.starts_with('{')) {
            if let Some(found) = line.strip_prefix("hint: ") {
                hint = Some(found.to_owned());
            } else if error.is_none() {
                error = Some(line.strip_prefix("error: ").unwrap_or(line).to_owned());
            } else {
                rest.push(line.to_owned());
            }
        }
        let code = output.status.code().and_then(|code| u8::try_from(code).ok());
        let exit = code.and_then(ExitStatus::from_code).unwrap_or(ExitStatus::Failed);
        let error = error.unwrap_or_else(|| {
            format!("`{} {}` ended with {}", self.program.display(), words[0], output.status)
        });
        rest.drain(..rest.len().saturating_sub(KEPT_OUTPUT_LINES));
        Failure { exit, error, hint, output: rest }
    }
}
