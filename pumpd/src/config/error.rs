//! What is wrong with a configuration, and where.

use std::ops::Range;
use std::path::{Path, PathBuf};

use pump_control::constants::MAX_CONFIG;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("could not read the configuration `{}`", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("`{}` has {length} bytes, and {MAX_CONFIG} are allowed", path.display())]
    TooLarge { path: PathBuf, length: u64 },
    #[error("`{}` line {line}: {text}", path.display())]
    Invalid { path: PathBuf, line: usize, text: String },
}

/// The text that is being parsed, to find the line of a place in it.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    pub(super) path: &'a Path,
}

impl Source<'_> {
    /// An error at a place in the text.
    pub(super) fn at(&self, place: Range<usize>, text: String) -> ConfigError {
        let before = self.text.get(..place.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        ConfigError::Invalid { path: self.path.to_owned(), line, text }
    }

    /// What the TOML parser or serde found, in our words.
    pub(super) fn invalid(&self, error: &toml::de::Error) -> ConfigError {
        let place = error.span().unwrap_or(0..0);
        // Serde speaks of fields and Rust's types; an operator does not.
        let message = error
            .message()
            .replace("unknown field", "unknown key")
            .replace("missing field", "missing key")
            .replace("expected usize", "expected a whole number")
            .replace("expected u64", "expected a whole number")
            .replace("expected a boolean", "expected `true` or `false`")
            .replace("expected a sequence", "expected a list, as in `[\"…\"]`")
            .replace('\n', ", ");
        let text = match self.key_at(&place) {
            Some(key) if message.starts_with("invalid") => format!("`{key}`: {message}"),
            _ => message,
        };
        self.at(place, text)
    }

    /// The key on the line of a value.
    fn key_at(&self, place: &Range<usize>) -> Option<&str> {
        let before = self.text.get(..place.start)?;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let (key, _) = self.text.get(start..)?.lines().next()?.split_once('=')?;
        Some(key.trim())
    }
}
