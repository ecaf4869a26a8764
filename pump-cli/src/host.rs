//! What `pump` asks of the machine it runs on.
//!
//! Arguments, environment, identity and terminal come from here and from nowhere else, so that a
//! refusal can name the exact command to type.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

/// What tells a run that it is in a session of its own, and who has started it.
pub(crate) const OWN_SESSION: &str = "PUMP_OWN_SESSION";

/// The machine, as one run of `pump` sees it.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// The command line, the program's name first.
    pub(crate) args: Vec<OsString>,
    /// The effective user id.
    pub(crate) uid: u32,
    /// Whether a person can be asked: standard input and standard error are terminals.
    pub(crate) can_ask: bool,
    /// Who typed `sudo`, as it tells (sudo(8)).
    pub(crate) login: Option<String>,
    /// Who has started this run, where it was moved into a session of its own.
    pub(crate) own_session: Option<String>,
    /// The file of this program, with links resolved. `None` where `/proc` cannot be read.
    pub(crate) program: Option<PathBuf>,
}

impl Host {
    /// This machine and this process.
    pub(crate) fn real() -> Self {
        Self {
            args: std::env::args_os().collect(),
            uid: nix::unistd::geteuid().as_raw(),
            can_ask: std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
            login: std::env::var("SUDO_USER").ok(),
            own_session: std::env::var(OWN_SESSION).ok(),
            program: std::env::current_exe().and_then(std::fs::canonicalize).ok(),
        }
    }

    /// Whether this run may change the machine.
    pub(crate) fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Whether the line before parsing asked for JSON, for errors of the line itself.
    pub(crate) fn asks_for_json(&self) -> bool {
        self.args.iter().skip(1).take_while(|arg| *arg != "--").any(|arg| arg == "--json")
    }

    /// This command line, to be typed again as root.
    pub(crate) fn with_sudo(&self) -> String {
        let words: Vec<String> =
            self.args.iter().map(|word| quoted(&word.to_string_lossy())).collect();
        format!("sudo {}", words.join(" "))
    }
}

/// A word as a shell reads it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@+,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        for (word, want) in [
            ("plain", "plain"),
            ("", "''"),
            ("two words", "'two words'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("unix:/run/pump/http.sock", "unix:/run/pump/http.sock"),
        ] {
            assert_eq!(quoted(word), want);
        }
    }
}
