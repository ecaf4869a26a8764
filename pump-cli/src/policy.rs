//! What the administrator has said about upgrades in `/etc/pump/upgrade.toml`, besides where they come from.
//!
//! ```toml
//! window = ["Mon-Fri 02:00-05:00", "Sat,Sun 00:00-08:00"]  # when the timer may upgrade
//! time_zone = "Europe/Berlin"       # of the window; the machine's own without it
//! security_any_time = true          # what mends a hole does not wait for the window
//! pin = "1.4"                       # stay on 1.4.x
//! bake_seconds = 900                # how long a new release is watched; 0 for not at all
//! lock_seconds = 120                # how long another run of the package manager is waited for
//! metrics_file = "/var/lib/prometheus/node-exporter/pump.prom"
//!
//! [notify]
//! command = ["/usr/local/bin/tell-me", "--about", "pump"]
//! ```
//!
//! `source` reads the file; here is what its words mean.

mod window;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::bake;

pub(crate) use window::{Window, at};

/// Most windows that are read.
const MAX_WINDOWS: usize = 32;

/// How long another run of the package manager is waited for, in seconds, unless the file says otherwise.
const LOCK_SECONDS: u64 = 120;

/// The longest that it may be told to wait: an hour.
const MAX_LOCK_SECONDS: u64 = 3600;

/// What the administrator has said.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// When the timer may upgrade; always if there is none.
    pub(crate) windows: Vec<Window>,
    /// Where it is that time.
    pub(crate) zone: Zone,
    /// Whether what mends a hole waits for the window.
    pub(crate) security_any_time: bool,
    /// Which versions may be taken.
    pub(crate) pin: Option<Pin>,
    /// How long a new release is watched; none for the usual time.
    pub(crate) bake: Option<Duration>,
    /// How long another run of the package manager is waited for.
    pub(crate) lock: Duration,
    /// What is run when something has happened, with its arguments; nothing if empty.
    pub(crate) notify: Vec<String>,
    /// Where figures of upgrades are written for a collector.
    pub(crate) metrics_file: Option<PathBuf>,
}

/// As it is written. The keys of `upgrade.toml` that are ours.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) window: Option<Windows>,
    pub(crate) time_zone: Option<Zone>,
    pub(crate) security_any_time: bool,
    pub(crate) pin: Option<Pin>,
    pub(crate) bake_seconds: Option<BakeSeconds>,
    pub(crate) lock_seconds: Option<LockSeconds>,
    pub(crate) metrics_file: Option<AbsolutePath>,
    pub(crate) notify: Option<Notify>,
}

impl From<Written> for Policy {
    fn from(written: Written) -> Self {
        Self {
            windows: written.window.map(Vec::from).unwrap_or_default(),
            zone: written.time_zone.unwrap_or_else(Zone::of_the_machine),
            security_any_time: written.security_any_time,
            pin: written.pin,
            bake: written.bake_seconds.map(|seconds| Duration::from_secs(seconds.0)),
            lock: Duration::from_secs(written.lock_seconds.map_or(LOCK_SECONDS, |it| it.0)),
            notify: written.notify.map(|notify| notify.command.0).unwrap_or_default(),
            metrics_file: written.metrics_file.map(|path| path.0),
        }
    }
}

/// Whether the timer may upgrade now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// There is no window: always.
    Always,
    /// Until then.
    Open(Zoned),
    /// Not before then.
    Closed(Zoned),
}

impl Policy {
    /// Whether the timer may upgrade at a time.
    pub(crate) fn gate(&self, now: Timestamp) -> Gate {
        if self.windows.is_empty() {
            return Gate::Always;
        }
        window::gate(&self.windows, &now.to_zoned(self.zone.zone.clone()))
    }

    /// The windows, for people.
    pub(crate) fn windows_told(&self) -> String {
        let windows: Vec<String> = self.windows.iter().map(ToString::to_string).collect();
        format!("{} ({})", windows.join(" and "), self.zone.name)
    }
}

/// One window or a list of them.
#[derive(Debug, Deserialize)]
#[serde(try_from = "OneOrMany")]
pub(crate) struct Windows(Vec<Window>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a window such as \"02:00-05:00\", or a list of them")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl TryFrom<OneOrMany> for Windows {
    type Error = String;

    fn try_from(written: OneOrMany) -> Result<Self, String> {
        let texts = match written {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        };
        if texts.len() > MAX_WINDOWS {
            return Err(format!("{} windows, and at most {MAX_WINDOWS} are read", texts.len()));
        }
        texts.iter().map(|text| text.parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl From<Windows> for Vec<Window> {
    fn from(windows: Windows) -> Self {
        windows.0
    }
}

/// A time zone of the IANA database, by its name.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// The machine's own (`/etc/localtime`), or UTC where it does not say.
    fn of_the_machine() -> Self {
        let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
        let name = zone.iana_name().unwrap_or("the machine's time zone").to_owned();
        Self { name, zone }
    }
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let zone = TimeZone::get(&name);
        let zone = zone.map_err(|_| format!("`{name}` is no time zone such as `Europe/Berlin`"))?;
        Ok(Self { name, zone })
    }
}

/// Versions that may be taken. A bare version stands for what begins with it: `1.4` is 1.4.x; with an
/// operator it is read as in Cargo.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Pin {
    /// As it is written.
    pub(crate) text: String,
    requirement: VersionReq,
}

impl Pin {
    /// Whether a version may be taken.
    pub(crate) fn allows(&self, version: &Version) -> bool {
        self.requirement.matches(version)
    }
}

impl TryFrom<String> for Pin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bare = text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains([',', '*']);
        let whole = if bare { Version::from_str(&text).ok() } else { None };
        let requirement = match (bare, whole) {
            (_, Some(version)) => VersionReq::parse(&format!("={version}")),
            (true, None) => VersionReq::parse(&format!("~{text}")),
            (false, None) => VersionReq::parse(&text),
        };
        let requirement = requirement.map_err(|why| {
            format!("`{text}` names no versions ({why}); `1.4` and `>=1.4, <1.6` do")
        })?;
        Ok(Self { text, requirement })
    }
}

/// How long a new release is watched.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u64")]
pub(crate) struct BakeSeconds(u64);

impl TryFrom<u64> for BakeSeconds {
    type Error = String;

    fn try_from(seconds: u64) -> Result<Self, String> {
        if seconds <= bake::MAX_SECONDS {
            return Ok(Self(seconds));
        }
        Err(format!("{seconds} s, and {} are the most", bake::MAX_SECONDS))
    }
}

/// How long another run of the package manager is waited for.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u64")]
pub(crate) struct LockSeconds(u64);

impl TryFrom<u64> for LockSeconds {
    type Error = String;

    fn try_from(seconds: u64) -> Result<Self, String> {
        if seconds <= MAX_LOCK_SECONDS {
            return Ok(Self(seconds));
        }
        Err(format!("{seconds} s, and {MAX_LOCK_SECONDS} are the most"))
    }
}

/// A path that means the same wherever `pump` is run.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct AbsolutePath(PathBuf);

impl TryFrom<String> for AbsolutePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.starts_with('/') {
            true => Ok(Self(PathBuf::from(text))),
            false => Err(format!("`{text}` is no absolute path")),
        }
    }
}

/// `[notify]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Notify {
    command: CommandLine,
}

/// A program by its absolute path, and its arguments.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<String>")]
struct CommandLine(Vec<String>);

impl TryFrom<Vec<String>> for CommandLine {
    type Error = String;

    fn try_from(words: Vec<String>) -> Result<Self, String> {
        match words.first() {
            Some(program) if !program.starts_with('/') => Err(format!(
                "`{program}` is no absolute path; it is run without a shell and without a search path"
            )),
            _ => Ok(Self(words)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_what_begins_with_it_or_what_its_operators_say() {
        for (pin, version, allowed) in [
            ("1.4", "1.4.9", true),
            ("1.4", "1.5.0", false),
            ("1.4", "1.3.9", false),
            ("1", "1.9.0", true),
            ("1", "2.0.0", false),
            ("1.4.2", "1.4.2", true),
            ("1.4.2", "1.4.3", false),
            (">=1.4, <1.6", "1.5.7", true),
            (">=1.4, <1.6", "1.6.0", false),
            ("^1.4", "1.9.0", true),
        ] {
            let pin = Pin::try_from(pin.to_owned()).unwrap();
            assert_eq!(pin.allows(&version.parse().unwrap()), allowed, "{pin:?} {version}");
        }
        for text in ["", "one", "1.4.x.y", ">="] {
            // No text at all would allow everything, and says the opposite of a pin.
            let pin = Pin::try_from(text.to_owned());
            assert!(pin.is_err(), "{text}: {pin:?}");
        }
    }
}
