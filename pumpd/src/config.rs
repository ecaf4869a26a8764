//! The configuration: text in, types out, before anything is opened.
//!
//! [`Config::parse`] takes bytes, never a path, so that the master can hand a worker the very bytes
//! it validated. Each error names the file, the line, the key, what was found and what is allowed.

mod error;
mod listen;
mod raw;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use pump_model::Domain;
use rustix::fs::OFlags;
use url::Url;

pub(crate) use error::ConfigError;
pub(crate) use listen::Address;

use error::Source;
use pump_control::constants::MAX_CONFIG;
use raw::Raw;

/// What the daemon was told to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The name in handles: `@name@domain`.
    pub(crate) domain: Domain,
    /// The base of every id that is ever published. Without a slash at its end.
    pub(crate) public_url: Url,
    pub(crate) site_name: String,
    pub(crate) listen: Vec<Address>,
    /// Who may say for whom it speaks (`X-Forwarded-For`, `Forwarded`).
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) data_dir: PathBuf,
    pub(crate) runtime_dir: PathBuf,
    pub(crate) workers: usize,
    pub(crate) open_registration: bool,
    pub(crate) limits: Limits,
    pub(crate) roll: Roll,
    /// Answers carry their generation. For tests and the demo.
    pub(crate) generation_header: bool,
}

/// What a client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Largest request body, in bytes.
    pub(crate) body_bytes: usize,
    /// Largest request head, in bytes.
    pub(crate) head_bytes: usize,
    /// From the first byte of a request's head to its last.
    pub(crate) header: Duration,
    /// From one answer to the next request on the same connection.
    pub(crate) idle: Duration,
    pub(crate) connections_per_worker: usize,
}

/// How patient a rolling restart is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Roll {
    /// From a worker's start until it is ready.
    pub(crate) ready: Duration,
    /// Longest time without progress after the request to drain; SIGKILL follows.
    pub(crate) drain: Duration,
    /// From the request to drain until SIGKILL, for uploads that do make progress.
    pub(crate) hard_stop: Duration,
    /// How long a worker that leaves keeps idle connections open which nobody takes over.
    pub(crate) linger: Duration,
    /// How long new workers are watched before a roll counts as done.
    pub(crate) watch: Duration,
    /// How long the first new worker is compared with the old ones; zero for not at all.
    pub(crate) canary: Duration,
    /// How many workers are replaced at a time.
    pub(crate) parallel: usize,
}

impl Config {
    /// Reads and parses a file. Returns the text too, which is what a generation is made of.
    pub(crate) fn read(path: &Path) -> Result<(Self, String), ConfigError> {
        let text = Self::text(path)?;
        Ok((Self::parse(&text, path)?, text))
    }

    /// Reads a file without judging it.
    pub(crate) fn text(path: &Path) -> Result<String, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        // Opening a pipe waits for its writer, and the master reads this while it serves.
        let mut options = File::options();
        options.read(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
        let file = options.open(path).map_err(unreadable)?;
        let found = file.metadata().map_err(unreadable)?;
        if !found.is_file() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it is not a file");
            return Err(unreadable(error));
        }
        let length = found.len();
        if length > MAX_CONFIG as u64 {
            return Err(ConfigError::TooLarge { path: path.to_owned(), length });
        }
        let mut text = String::new();
        file.take(MAX_CONFIG as u64).read_to_string(&mut text).map_err(unreadable)?;
        Ok(text)
    }

    /// Parses a text that was read from `path`, which is only named in errors.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let source = Source { text, path };
        let raw: Raw = toml::from_str(text).map_err(|error| source.invalid(&error))?;
        raw.check(&source)
    }

    /// The base of every id, as it is published: without a slash at its end.
    pub(crate) fn public_url(&self) -> String {
        self.public_url.as_str().trim_end_matches('/').to_owned()
    }

    /// Where `pump` asks.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.runtime_dir.join("control.sock")
    }

    /// What differs between two configurations, by key: with the next roll, or only with a restart.
    pub(crate) fn changes(&self, new: &Self) -> (Vec<String>, Vec<String>) {
        let mut roll = Vec::new();
        let mut restart = Vec::new();
        let note = |list: &mut Vec<String>, key: &str, differs: bool| {
            if differs {
                list.push(key.to_owned());
            }
        };
        note(&mut roll, "domain", self.domain != new.domain);
        note(&mut roll, "public_url", self.public_url != new.public_url);
        note(&mut roll, "site_name", self.site_name != new.site_name);
        note(&mut roll, "listen", self.listen != new.listen);
        note(&mut roll, "trusted_proxies", self.trusted_proxies != new.trusted_proxies);
        note(&mut roll, "workers", self.workers != new.workers);
        note(&mut roll, "open_registration", self.open_registration != new.open_registration);
        note(&mut roll, "limits", self.limits != new.limits);
        note(&mut roll, "roll", self.roll != new.roll);
        note(&mut roll, "test", self.generation_header != new.generation_header);
        note(&mut restart, "data_dir", self.data_dir != new.data_dir);
        note(&mut restart, "runtime_dir", self.runtime_dir != new.runtime_dir);
        (roll, restart)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, want: &str) {
        let path = Path::new("/etc/pump/pumpd.toml");
        let got = Config::parse(text, path).expect_err(text).to_string();
        assert_eq!(got, want, "for:\n{text}");
    }

    #[test]
    fn a_domain_is_enough() {
        let config = Config::parse("domain = \"Social.Example\"", Path::new("x")).expect("valid");
        assert_eq!(config.public_url.as_str(), "https://social.example/");
        assert_eq!(config.site_name, "social.example");
        assert!(config.workers >= 2);
    }

    #[test]
    fn each_mistake_is_told_with_its_place() {
        check(
            "domain = \"a.example\"\nworker = 2\n",
            "`/etc/pump/pumpd.toml` line 2: unknown key `worker`, expected one of `domain`, \
             `public_url`, `site_name`, `listen`, `trusted_proxies`, `data_dir`, `runtime_dir`, \
             `workers`, `open_registration`, `limits`, `roll`, `test`",
        );
        check(
            "domain = \"a.example\"\nworkers = \"two\"\n",
            "`/etc/pump/pumpd.toml` line 2: `workers`: invalid type: string \"two\", expected a whole number",
        );
        check(
            "domain = \"a.example\"\nopen_registration = \"yes\"\n",
            "`/etc/pump/pumpd.toml` line 2: `open_registration`: invalid type: string \"yes\", \
             expected `true` or `false`",
        );
        check("", "`/etc/pump/pumpd.toml` line 1: missing key `domain`");
        check(
            "domain = \"a.example\"\n\n[limits]\nbody_bytes = 5\n",
            "`/etc/pump/pumpd.toml` line 4: `limits.body_bytes` is 5, and 1024 to 1073741824 is \
             allowed",
        );
        check(
            "domain = \"a.example\"\nlisten = [\"0.0.0.0:80\", \"localhost:80\"]\n",
            "`/etc/pump/pumpd.toml` line 2: `listen` has `localhost:80`, and an IP address with a \
             port (`127.0.0.1:8000`, `[::1]:8000`) or `unix:/path` is allowed",
        );
        check(
            "domain = \"a.example\"\n[roll]\ndrain_seconds = 60\nhard_stop_seconds = 59\n",
            "`/etc/pump/pumpd.toml` line 4: `roll.hard_stop_seconds` is 59, and 60 to 86400 is \
             allowed",
        );
        check(
            "domain = \"a.example\"\n[roll]\nparallel = 0\n",
            "`/etc/pump/pumpd.toml` line 3: `roll.parallel` is 0, and 1 to 256 is allowed",
        );
        check(
            "domain = \"https://a.example\"\n",
            "`/etc/pump/pumpd.toml` line 1: `domain` is `https://a.example`, and a host name such as \
             `social.example` is allowed",
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever a hand slips to, it is a configuration or a mistake that can be told.
        #[test]
        fn no_text_is_too_strange(
            keys in proptest::collection::vec((0..KEYS.len(), 0..VALUES.len(), ".{0,12}"), 0..8),
            cut in 0..400usize,
        ) {
            let lines = keys.iter().map(|(key, value, text)| {
                let value = VALUES[*value].replace('@', text);
                format!("{} {value}\n", KEYS[*key])
            });
            let mut text: String = lines.collect();
            text.truncate(text.floor_char_boundary(cut));
            if let Err(error) = Config::parse(&text, Path::new("x")) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    const KEYS: &[&str] = &[
        "domain",
        "public_url",
        "site_name",
        "listen",
        "trusted_proxies",
        "data_dir",
        "runtime_dir",
        "workers",
        "open_registration",
        "limits.idle_seconds",
        "roll.drain_seconds",
        "[limits]",
        "body_bytes",
        "[roll]",
        "[test]",
        "#",
        "",
    ];

    const VALUES: &[&str] = &[
        "= \"@\"",
        "= @",
        "= \"https://@\"",
        "= [\"unix:/@\"]",
        "= [\"@:8000\", \"127.0.0.1:0\"]",
        "= [\"10.0.0.0/@\"]",
        "= 5",
        "= -1",
        "= 99999999999999999999",
        "= true",
        "= \"/@\"",
        "",
        "@",
        "= {}",
        "= \"social.example\"",
        "= 1e309",
        "= 1979-05-27",
    ];
}
