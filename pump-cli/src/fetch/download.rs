//! A bundle on its way: a file that a cut leaves behind and the next run goes on with.
//!
//! The file is named for the hash that it must have in the end, so what it becomes is decided by that
//! and by nothing a server says; the server's `ETag` only spares a transfer that would come to nothing.
//! What does not fit is thrown away, and once more everything is fetched before that is called a
//! forgery: the part may have been of something else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pump_control::ExitStatus;
use pump_release::Digest;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, ETAG};
use tough::{TransportError, TransportErrorKind};
use url::Url;

use super::carrier::Carrier;
use super::http::{self, TRIES, Web, header};
use super::progress::Progress;
use crate::atomic_file;
use crate::bundle;
use crate::report::Failure;

/// How often one bundle is gone on with in one run. A server that sends a byte a time has had enough.
const MAX_RESUMES: u32 = 50;

/// How often a bundle is fetched that was put together and is no good.
const MAX_AGAIN: u32 = 3;

/// Longest `ETag` that is kept, in bytes.
const MAX_ETAG: usize = 1024;

/// What went wrong.
pub(super) enum Fault {
    /// The server or the way to it.
    Carried(TransportError),
    /// The same, in the middle: what has come is of use.
    Cut(TransportError),
    /// It is not what was signed.
    Wrong(String),
    /// This machine's disk.
    Disk(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// A bundle, or a part of one.
#[derive(Debug)]
pub(crate) struct Fetched {
    path: PathBuf,
    file: File,
    sha256: Digest,
    have: u64,
    etag: Option<String>,
    /// It was put together from several answers.
    joined: bool,
}

impl Fetched {
    /// The file for the bundle with this hash, with what an earlier run has left of it. Parts of others
    /// go.
    pub(super) fn open(folder: &Path, sha256: Digest) -> io::Result<Self> {
        if !folder.is_dir() {
            atomic_file::new_folder(folder, 0o700)?;
        }
        let path = folder.join(sha256.to_string());
        for entry in fs::read_dir(folder)? {
            let other = entry?.path();
            if other != path && other != path.with_extension("etag") {
                fs::remove_file(other)?;
            }
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32).open(&path)?;
        let have = file.metadata()?.len();
        let etag = fs::read_to_string(path.with_extension("etag")).ok();
        let etag = etag.filter(|it| it.len() <= MAX_ETAG);
        Ok(Self { path, file, sha256, have, etag, joined: have > 0 })
    }

    /// The whole bundle, from its beginning.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Removes it: it has been unpacked.
    pub(crate) fn used(self) {
        // What stays is removed when the next bundle comes.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(self.path.with_extension("etag"));
    }

    /// Fetches what is missing and checks the whole.
    pub(super) async fn fetch(
        &mut self,
        carrier: &Carrier,
        url: &Url,
        size: u64,
        bar: &Progress,
    ) -> Result<(), Fault> {
        for _ in 0..MAX_AGAIN {
            bar.at(self.have);
            match carrier.web() {
                Some(web) => self.over_web(web, url, size, bar).await?,
                None => self.out_of_folder(url, size, bar)?,
            }
            self.file.sync_all()?;
            self.file.rewind()?;
            let found = bundle::hash(&self.file)?;
            self.file.rewind()?;
            if found == self.sha256 && self.have == size {
                return Ok(());
            }
            let joined = self.joined;
            self.discard()?;
            if !joined {
                break;
            }
        }
        let name = url.path().rsplit('/').next().unwrap_or_default();
        Err(Fault::Wrong(format!("`{name}` has another hash")))
    }

    async fn over_web(
        &mut self,
        web: &Web,
        url: &Url,
        size: u64,
        bar: &Progress,
    ) -> Result<(), Fault> {
        let (mut tries, mut most) = (1, self.have);
        for _ in 0..MAX_RESUMES {
            if self.have > size {
                self.discard()?;
            }
            if self.have == size {
                return Ok(());
            }
            let failed = match self.go_on(web, url, size, bar).await {
                Ok(()) if self.have == size => return Ok(()),
                Ok(()) => http::other(url, format!("it ended after {} bytes of {size}", self.have)),
                Err(Fault::Cut(error)) => error,
                Err(fault) => return Err(fault),
            };
            if self.have > most {
                (tries, most) = (1, self.have);
            } else if tries == TRIES {
                return Err(Fault::Carried(failed));
            } else {
                tries += 1;
            }
            http::pause(tries).await;
        }
        let error = format!("the line was cut {MAX_RESUMES} times");
        Err(Fault::Carried(http::other(url, error)))
    }

    /// One request: the rest, or all of it.
    async fn go_on(
        &mut self,
        web: &Web,
        url: &Url,
        size: u64,
        bar: &Progress,
    ) -> Result<(), Fault> {
        let from = http::From { at: self.have, etag: self.etag.clone() };
        let mut response =
            web.get(url, (self.have > 0).then_some(&from)).await.map_err(Fault::Carried)?;
        let tag = header(response.headers(), &ETAG)
            // A weak one does not say that the bytes are the same (RFC 9110, section 8.8.1).
            .filter(|it| !it.starts_with("W/") && it.len() <= MAX_ETAG)
            .map(str::to_owned);
        let goes_on = match response.status() {
            StatusCode::PARTIAL_CONTENT if self.have > 0 => {
                let same = tag.is_none() || self.etag.is_none() || tag == self.etag;
                let range = header(response.headers(), &CONTENT_RANGE).unwrap_or_default();
                same && begins_at(range, self.have, size)
            }
            StatusCode::OK => {
                // The server knows no ranges, or has something else there by now.
                self.discard()?;
                true
            }
            _ => false,
        };
        if !goes_on {
            self.discard()?;
            return Err(Fault::Cut(http::other(url, "what it has there does not fit our part")));
        }
        let whole = response.content_length().map_or(size, |rest| self.have + rest);
        if whole != size {
            self.discard()?;
            let less_or_more = if whole < size { "less" } else { "more" };
            return Err(Fault::Wrong(format!("a file has {less_or_more} than its {size} bytes")));
        }
        self.joined |= self.have > 0;
        if tag != self.etag {
            self.remember(tag)?;
        }
        self.file.seek(SeekFrom::Start(self.have))?;
        loop {
            let part = response.chunk().await;
            let Some(part) = part.map_err(|error| Fault::Cut(http::other(url, error)))? else {
                return Ok(());
            };
            if self.have + part.len() as u64 > size {
                self.discard()?;
                return Err(Fault::Wrong(format!("a file has more than its {size} bytes")));
            }
            self.file.write_all(&part)?;
            self.have += part.len() as u64;
            bar.at(self.have);
        }
    }

    fn out_of_folder(&mut self, url: &Url, size: u64, bar: &Progress) -> Result<(), Fault> {
        if self.have == size {
            return Ok(());
        }
        self.discard()?;
        let failed = |error: io::Error| {
            let kind = match error.kind() {
                io::ErrorKind::NotFound => TransportErrorKind::FileNotFound,
                _ => TransportErrorKind::Other,
            };
            Fault::Carried(TransportError::new_with_cause(kind, url, error))
        };
        let path = url.to_file_path().map_err(|()| {
            Fault::Carried(TransportError::new(TransportErrorKind::UnsupportedUrlScheme, url))
        })?;
        let mut from = File::open(path).map_err(failed)?.take(size + 1);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                return Ok(());
            }
            if self.have + count as u64 > size {
                self.discard()?;
                return Err(Fault::Wrong(format!("a file has more than its {size} bytes")));
            }
            self.file.write_all(&buffer[..count])?;
            self.have += count as u64;
            bar.at(self.have);
        }
    }

    fn discard(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        (self.have, self.joined) = (0, false);
        self.remember(None)
    }

    fn remember(&mut self, etag: Option<String>) -> io::Result<()> {
        let path = self.path.with_extension("etag");
        match &etag {
            Some(etag) => fs::write(&path, etag)?,
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            },
        }
        self.etag = etag;
        Ok(())
    }
}

/// Whether a `Content-Range` (RFC 9110, section 14.4) is of our file and begins where our part ends.
fn begins_at(range: &str, have: u64, size: u64) -> bool {
    let Some((span, whole)) = range.strip_prefix("bytes ").and_then(|it| it.split_once('/')) else {
        return false;
    };
    let first = span.split_once('-').and_then(|(first, _)| first.parse().ok());
    first == Some(have) && (whole == "*" || whole.parse() == Ok(size))
}

/// Nothing was changed, and what helps.
pub(super) fn no_room(folder: &Path, error: &io::Error) -> Failure {
    Failure::new(
        ExitStatus::Preflight,
        format!("could not keep the bundle: {error}; nothing was changed"),
    )
    .hint(format!("make room in `{}` and run it again", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rest_of_the_same_file_is_taken() {
        for (range, fits) in [
            ("bytes 5-9/10", true),
            ("bytes 5-9/*", true),
            ("bytes 0-9/10", false),
            ("bytes 5-9/11", false),
            ("bytes */10", false),
            ("lines 5-9/10", false),
            ("", false),
        ] {
            assert_eq!(begins_at(range, 5, 10), fits, "{range}");
        }
    }
}
