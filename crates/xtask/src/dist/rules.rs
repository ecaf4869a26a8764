//! `packaging/releases.toml`: what a human says of releases.
//!
//! A word that is not known is an error and no remark: who misspells `revoked` has revoked nothing.

use std::fs;
use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use pump_release::{MAX_WAVES, Release, Rollout, Rules, Wave};
use semver::{Version, VersionReq};
use serde::Deserialize;

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    #[serde(default)]
    release: Vec<Entry>,
}

/// One release.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    version: Version,
    /// What it was made from.
    #[serde(default)]
    commit: Option<String>,
    security: Option<bool>,
    notes_url: Option<String>,
    upgrade_from: Option<VersionReq>,
    #[serde(default)]
    barrier: bool,
    revoked: Option<String>,
    halted: Option<String>,
    rollout: Option<Waves>,
}

/// When which part of all machines may go to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waves {
    start: Timestamp,
    #[serde(default)]
    waves: Vec<Wave>,
    #[serde(default)]
    halt: bool,
}

impl Told {
    /// Reads the file; one that is missing says nothing.
    ///
    /// # Errors
    /// With the line, when it says what nobody understands, or speaks of a version twice.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => {
                return Err(error).with_context(|| format!("could not read `{}`", path.display()));
            }
        };
        Self::parse(&text).with_context(|| format!("`{}`", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let told: Self = toml::from_str(text)?;
        for (at, entry) in told.release.iter().enumerate() {
            let again = told.release[..at].iter().any(|it| it.version == entry.version);
            anyhow::ensure!(!again, "{} stands twice", entry.version);
            if let Some(rollout) = &entry.rollout {
                rollout.check().with_context(|| format!("the rollout of {}", entry.version))?;
            }
        }
        Ok(told)
    }

    fn of(&self, version: &Version) -> Option<&Entry> {
        self.release.iter().find(|it| it.version.cmp_precedence(version).is_eq())
    }

    /// The versions whose commit it names.
    pub(crate) fn commits(&self) -> Vec<(Version, String)> {
        let of = |it: &Entry| Some((it.version.clone(), it.commit.clone()?));
        self.release.iter().filter_map(of).collect()
    }

    /// What it says about going to a version.
    pub(crate) fn rules(&self, version: &Version) -> Rules {
        let Some(entry) = self.of(version) else { return Rules::default() };
        let mut rules = Rules::default();
        entry.put(&mut rules);
        rules
    }

    /// Whether it says that a version mends a hole.
    pub(crate) fn security(&self, version: &Version) -> bool {
        self.of(version).and_then(|it| it.security).unwrap_or_default()
    }

    /// Where it says that one reads about a version.
    pub(crate) fn notes_url(&self, version: &Version) -> Option<String> {
        self.of(version).and_then(|it| it.notes_url.clone())
    }

    /// Says it of a release that is offered. One that is not listed stays as it was offered.
    pub(crate) fn apply(&self, release: &mut Release) {
        let Some(entry) = self.of(&release.version) else { return };
        entry.put(&mut release.rules);
        release.security = entry.security.unwrap_or(release.security);
        if entry.notes_url.is_some() {
            release.notes_url.clone_from(&entry.notes_url);
        }
    }
}

impl Entry {
    fn put(&self, rules: &mut Rules) {
        rules.upgrade_from.clone_from(&self.upgrade_from);
        rules.barrier = self.barrier;
        rules.revoked.clone_from(&self.revoked);
        rules.halted.clone_from(&self.halted);
        rules.rollout = self.rollout.as_ref().map(|it| Rollout {
            start: it.start,
            waves: it.waves.clone(),
            halt: it.halt,
        });
    }
}

impl Waves {
    /// Refuses what would leave machines without a turn, which nobody writes on purpose: `halt` says that.
    fn check(&self) -> anyhow::Result<()> {
        let count = self.waves.len();
        anyhow::ensure!(count <= MAX_WAVES, "{count} waves are more than {MAX_WAVES}");
        if let Some(Wave(percent, _)) = self.waves.iter().find(|Wave(percent, _)| *percent > 100) {
            anyhow::bail!("{percent} percent of all machines are more than there are");
        }
        let whole = self.waves.is_empty() || self.waves.iter().any(|Wave(of, _)| *of == 100);
        anyhow::ensure!(
            whole,
            "the last wave is not of 100 percent, so some machines never have a turn"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_said_of_that_release_and_of_no_other() {
        let text = r#"
            [[release]]
            version = "1.4.0"
            commit = "0123abc"
            security = true
            upgrade_from = ">=1.2.0"
            barrier = true
            revoked = "loses posts"
            rollout = { start = "2026-12-01T08:00:00Z", waves = [[10, "0h"], [100, "2d"]] }
        "#;
        let told = Told::parse(text).unwrap();
        let rules = told.rules(&Version::new(1, 4, 0));
        assert!(rules.barrier);
        assert_eq!(rules.withdrawn().as_deref(), Some("revoked (loses posts)"));
        let rollout = rules.rollout.unwrap();
        assert_eq!(rollout.waves.len(), 2);
        assert!(!rollout.halt);
        assert_eq!(rules.upgrade_from, Some(">=1.2.0".parse().unwrap()));
        assert!(told.security(&Version::new(1, 4, 0)));
        assert_eq!(told.rules(&Version::new(1, 5, 0)), Rules::default());
    }

    fn rollout(said: &str) -> String {
        let start = r#"start = "2026-12-01T08:00:00Z""#;
        format!("[[release]]\nversion = \"1.0.0\"\nrollout = {{ {start}, {said} }}\n")
    }

    #[test]
    fn what_nobody_understands_is_refused() {
        for text in [
            "[[release]]\nversion = \"1.0.0\"\nrevoke = \"x\"\n",
            "[[release]]\nversion = \"one\"\n",
            "[[release]]\nversion = \"1.0.0\"\nupgrade_from = \"newer\"\n",
            "[[release]]\nversion = \"1.0.0\"\n[[release]]\nversion = \"1.0.0\"\n",
            "[[releases]]\nversion = \"1.0.0\"\n",
            "[[release]]\nbarrier = true\n",
            "[[release]]\nversion = \"1.0.0\"\nrollout = { waves = [[100, \"0h\"]] }\n",
            &rollout("waves = [[100, \"soon\"]]"),
            &rollout("waves = [[10, \"0h\"], [90, \"1d\"]]"),
            &rollout("waves = [[101, \"0h\"]]"),
            &rollout("wave = [[100, \"0h\"]]"),
        ] {
            assert!(Told::parse(text).is_err(), "{text}");
        }
        let ours = crate::workspace().join("packaging/releases.toml");
        Told::read(&ours).expect("our own file is read by everybody who makes a release");
    }
}
