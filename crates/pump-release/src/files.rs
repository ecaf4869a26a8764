//! `FILES`: what a bundle holds.
//!
//! A line a file: `MODE SHA256 PATH`, sorted by path, such as `0755 9f86…0a08 bin/pump`. Only regular
//! files are listed; folders follow from their paths and have mode 0755. `FILES` itself is not listed:
//! the signed metadata has the hash of the whole bundle. Two columns of it are what `sha256sum --check`
//! reads.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::Digest;

/// Most files that a bundle may hold.
pub const MAX_FILES: usize = 1000;

/// Longest path in a bundle, in bytes.
pub const MAX_PATH: usize = 200;

/// The files of a bundle, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileList {
    files: BTreeMap<String, ListedFile>,
}

/// One file of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// Permission bits, of 0o777.
    pub mode: u32,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
}

/// Why a text is no list of files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of `FILES`: {fault}")]
pub struct InvalidFileList {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: String,
}

impl FileList {
    /// Adds a file. The path is one that [`safe_path`] takes.
    pub fn insert(&mut self, path: impl Into<String>, file: ListedFile) {
        self.files.insert(path.into(), file);
    }

    /// The entry of a path.
    pub fn get(&self, path: &str) -> Option<&ListedFile> {
        self.files.get(path)
    }

    /// Every file, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ListedFile)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Reads a list.
    pub fn parse(text: &str) -> Result<Self, InvalidFileList> {
        let mut list = Self::default();
        for (at, line) in text.lines().enumerate() {
            let wrong = |fault: &str| InvalidFileList { line: at + 1, fault: fault.to_owned() };
            let mut words = line.splitn(3, ' ');
            let (Some(mode), Some(sha256), Some(path)) = (words.next(), words.next(), words.next())
            else {
                return Err(wrong("not `MODE SHA256 PATH`"));
            };
            let mode = match u32::from_str_radix(mode, 8) {
                Ok(bits) if mode.len() == 4 && bits <= 0o777 => bits,
                _ => return Err(wrong("the mode is not of 0000 to 0777")),
            };
            let sha256 = sha256.parse().map_err(|_| wrong("the hash is no SHA-256"))?;
            if !safe_path(path) {
                return Err(wrong("the path leads out of the release, or has odd characters"));
            }
            if list.files.len() == MAX_FILES {
                return Err(wrong("too many files"));
            }
            if list.files.insert(path.to_owned(), ListedFile { mode, sha256 }).is_some() {
                return Err(wrong("the same path twice"));
            }
        }
        Ok(list)
    }
}

impl fmt::Display for FileList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (path, file) in &self.files {
            writeln!(text, "{:04o} {} {path}", file.mode, file.sha256)?;
        }
        f.write_str(&text)
    }
}

/// Whether a path of a bundle may be unpacked: relative, inside, in plain characters, not too long.
pub fn safe_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= MAX_PATH
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@+/".contains(&byte))
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
