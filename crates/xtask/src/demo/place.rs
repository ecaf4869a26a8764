//! The private place that the demo's server lives in, worked with `pump` as a person would.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use pump_control::Layout;
use pump_control::control::Status;
use pump_test::Control;
use tempfile::TempDir;

use super::{keep, target};
use crate::dist;

/// Pause between two looks at a load.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A private place below the system's folder for temporary files: the path of a unix socket may have
/// 107 bytes, which a checkout deep in somebody's home would use up.
pub(super) struct Place {
    folder: TempDir,
    layout: Layout,
    started: bool,
}

impl Place {
    pub(super) fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("pump-demo-").tempdir()?;
        let layout = Layout::private(folder.path().join("root"));
        std::fs::create_dir(layout.root())?;
        Ok(Self { folder, layout, started: false })
    }

    /// What is given as `--root`.
    pub(super) fn root(&self) -> &Path {
        self.layout.root()
    }

    /// Where the demo's releases are offered.
    pub(super) fn releases(&self) -> PathBuf {
        self.folder.path().join("releases")
    }

    /// Keeps the `pump` that was just built: the next release's build replaces it.
    pub(super) fn keep_tool(&self) -> anyhow::Result<()> {
        keep(&target().join("release/pump"), &self.tool())
    }

    fn tool(&self) -> PathBuf {
        self.folder.path().join("pump")
    }

    /// `pump install`, with every answer as a flag.
    pub(super) fn install(&self, release: &dist::Made) -> anyhow::Result<()> {
        let listen = free_address()?;
        let arguments = [
            "install",
            "--yes",
            "--domain",
            "social.example",
            "--site-name",
            "Pump demo",
            "--public-url",
            &format!("http://{listen}"),
            "--listen",
            &listen,
            "--auto-upgrade=no",
        ];
        let mut command = self.command(&arguments);
        command.arg("--source").arg(&release.source).arg("--from").arg(&release.bundle);
        succeed(&mut command)
    }

    /// Asks for the generation in each answer and for a short canary, and starts the server afresh with that.
    pub(super) fn start(&mut self) -> anyhow::Result<Status> {
        self.started = true;
        succeed(&mut self.command(&["stop"]))?;
        let config = self.layout.config();
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&config)
            .with_context(|| format!("could not open `{}`", config.display()))?;
        let shorter = "\n[roll]\ncanary_seconds = 3\n\n[test]\ngeneration_header = true\n";
        file.write_all(shorter.as_bytes())?;
        succeed(&mut self.command(&["start"]))?;
        self.status()
    }

    /// `pump account create`.
    pub(super) fn account(&self, name: &str, password: &str) -> anyhow::Result<()> {
        let mut command = self.command(&["account", "create", name, "--password-stdin"]);
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("a piped stdin")?;
        writeln!(stdin, "{password}")?;
        drop(stdin);
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "`pump account create {name}`: {}", said(&output));
        Ok(())
    }

    /// `pump upgrade --zero-downtime`, what it says passed on.
    pub(super) fn upgrade(
        &self,
        release: &dist::Made,
        interrupt: &Interrupt,
    ) -> anyhow::Result<()> {
        let mut command = self.command(&["upgrade", "--zero-downtime", "--yes", "--bake", "5"]);
        command.arg("--trust-root").arg(&release.trust_root);
        command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if interrupt.check().is_err() {
                // It leaves the old release or the new one serving, so it may be ended at any time.
                child.kill()?;
                child.wait()?;
                bail!("stopped by a signal within the upgrade");
            }
            interrupt.pause();
        };
        ensure!(status.success(), "`pump upgrade --zero-downtime` ended with {status}");
        Ok(())
    }

    /// The status, over the control socket.
    pub(super) fn status(&self) -> anyhow::Result<Status> {
        Control::at(&self.layout.control_socket()).status()
    }

    /// `pump stop`.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        self.started = false;
        succeed(&mut self.command(&["stop"]))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.tool());
        command.arg("--root").arg(self.root()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Place {
    /// No server is left behind, whatever went wrong.
    fn drop(&mut self) {
        if self.started
            && let Err(error) = self.stop()
        {
            super::print(&format!("could not stop the server: {error:#}"));
        }
    }
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("could not run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, said(&output));
    Ok(())
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// The kernel's choice. Somebody may take it before the server does; then the install says so.
fn free_address() -> anyhow::Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Set by the handler below and never unset: a second Ctrl-C means the same as the first.
static ASKED_TO_STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn ask_to_stop(_signal: i32) {
    ASKED_TO_STOP.store(true, Ordering::SeqCst);
}

/// Ctrl-C and SIGTERM, as something to ask about.
pub(super) struct Interrupt(());

impl Interrupt {
    /// From now on both signals only set a flag. A handler and not a blocked signal, because programs
    /// that the demo runs would inherit the blocking, and a server that hears no SIGTERM is no server.
    pub(super) fn catch() -> anyhow::Result<Self> {
        let handler = SigHandler::Handler(ask_to_stop);
        let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            // SAFETY: the handler does nothing but an atomic store, which signal-safety(7) allows.
            #[expect(unsafe_code, reason = "a signal handler has no safe interface")]
            unsafe {
                sigaction(signal, &action)?;
            }
        }
        Ok(Self(()))
    }

    /// # Errors
    /// When one of the signals has come.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(!ASKED_TO_STOP.load(Ordering::SeqCst), "stopped by a signal");
        Ok(())
    }

    /// A moment between two looks.
    pub(super) fn pause(&self) {
        std::thread::park_timeout(LOOK_EVERY);
    }

    /// Until a signal comes.
    pub(super) fn wait(&self) {
        while self.check().is_ok() {
            self.pause();
        }
    }
}
