//! The keys that repositories of packages are signed with.
//!
//! Two of them, in a home of `GnuPG`: one signs, the other is the next one. Machines get both from a package, so
//! the first can be retired by signing with the second. Where there are none they are made, for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::said;

/// Name and comment of the keys that are made here. Those of a publisher are made elsewhere.
const KEY_NAME: &str = "pump archive, for tests only";

/// Two keys of a home of `GnuPG`: the one that signs now and the one that will.
pub(crate) struct Keys {
    home: PathBuf,
    fingerprints: Vec<String>,
}

impl Keys {
    /// Those of a folder, or new ones in it.
    ///
    /// # Errors
    /// What gpg says.
    pub(crate) fn open_or_make(home: &Path) -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        fs::create_dir_all(home)?;
        let home = fs::canonicalize(home)?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        let mut keys = Self { home, fingerprints: Vec::new() };
        keys.read()?;
        for which in ["", ", next"].iter().skip(keys.fingerprints.len()) {
            let name = format!("{KEY_NAME}{which}");
            said(keys.gpg().args([
                "--passphrase",
                "",
                "--quick-generate-key",
                &name,
                "ed25519",
                "sign",
                "2y",
            ]))?;
        }
        keys.read()?;
        anyhow::ensure!(keys.fingerprints.len() >= 2, "there are fewer than two keys to sign with");
        Ok(keys)
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let listed = said(self.gpg().args(["--with-colons", "--list-secret-keys"]))?;
        let lines = listed.lines().filter(|line| line.starts_with("fpr:"));
        self.fingerprints =
            lines.filter_map(|line| line.split(':').nth(9)).map(str::to_owned).collect();
        Ok(())
    }

    /// The folder they are in.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Which of them signs.
    pub(crate) fn fingerprint(&self, next: bool) -> &str {
        &self.fingerprints[usize::from(next)]
    }

    /// Signs a file: `--clear-sign` or `--detach-sign`.
    ///
    /// # Errors
    /// What gpg says.
    pub(crate) fn sign(&self, next: bool, how: &str, from: &Path, to: &Path) -> anyhow::Result<()> {
        let key = self.fingerprint(next);
        let words = ["--yes", "--armor", "--digest-algo", "SHA512", "--local-user", key];
        said(self.gpg().args(words).arg("--output").arg(to).arg(how).arg(from)).map(drop)
    }

    /// Both, as apt reads them.
    ///
    /// # Errors
    /// What gpg says.
    pub(crate) fn public(&self) -> anyhow::Result<Vec<u8>> {
        self.export(&["--export"])
    }

    /// One of them, as rpm reads it: 0 signs now, 1 is the next.
    ///
    /// # Errors
    /// What gpg says.
    pub(crate) fn armored(&self, number: usize) -> anyhow::Result<Vec<u8>> {
        self.export(&["--armor", "--export", &self.fingerprints[number]])
    }

    fn export(&self, words: &[&str]) -> anyhow::Result<Vec<u8>> {
        let output = self.gpg().args(words).output().context("could not run `gpg`")?;
        anyhow::ensure!(output.status.success(), "`gpg --export` failed");
        Ok(output.stdout)
    }

    fn gpg(&self) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.args(["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--homedir"]);
        gpg.arg(&self.home);
        gpg
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // The agent that gpg started for this home.
        let kill = ["--kill", "gpg-agent"];
        let _ = Command::new("gpgconf").arg("--homedir").arg(&self.home).args(kill).output();
    }
}
