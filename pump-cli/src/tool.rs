//! Other programs, run the same whoever types the command.
//!
//! `pump` runs as root with whatever environment its caller has. What it starts finds programs where
//! the system has them, speaks the language that is parsed, and gets nothing else.

use std::ffi::OsStr;
use std::process::Command;

/// Where programs are looked for: the system's own folders, without those of an administrator.
const SEARCH_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A command with an environment of our own. Its working folder is `/`: the caller's may be one that
/// the service's user cannot enter.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", SEARCH_PATH).env("LC_ALL", "C").current_dir("/");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_our_environment_and_nothing_of_the_caller_s() {
        let output = command("env").output().expect("every system has env(1)");
        let text = String::from_utf8(output.stdout).expect("it is ours");
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["LC_ALL=C", &format!("PATH={SEARCH_PATH}")]);
    }
}
