//! A file of JSON lines in which each line has a hash of everything before it.
//!
//! `,"chain":"…"` at the end of a line is the SHA-256 of the last hash before it (in hex), of what was written since
//! without one (a torn line, or lines of an older `pump`), and of the line itself without this key. So a line that
//! is changed, removed or put in between is found by its successor, and the last one by itself. It is a seal and
//! no signature: whoever can write the file can make all of it anew, and lines that are cut off at the end are
//! missed by nobody who does not know the last hash.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::json_lines;

/// What stands between a line and its hash.
const KEY: &[u8] = b",\"chain\":\"";

/// How a chained line ends.
const END: &[u8] = b"\"}";

/// A SHA-256 in hex.
const HASH: usize = 64;

/// How much of the end of a file is read for its last hash; all of it where there is none.
const TAIL: u64 = 256 * 1024;

/// What was found of a whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Lines that have a hash, and it is right.
    pub(crate) sealed: usize,
    /// Lines without one that a later hash covers.
    pub(crate) covered: usize,
    /// Lines at the end that none covers so far.
    pub(crate) open: usize,
    /// The last hash.
    pub(crate) last: Option<String>,
    /// The first line that is not as it was written, counted from 1.
    pub(crate) changed: Option<usize>,
}

/// Appends a line with its hash. It is on disk afterwards. Whoever calls has the lock.
///
/// # Errors
/// What the file system says.
pub(crate) fn append(path: &Path, line: &impl Serialize) -> io::Result<()> {
    let mut body = serde_json::to_vec(line)?;
    let (last, mut since) = end_of(path)?;
    if since.last().is_some_and(|byte| *byte != b'\n') {
        // `json_lines` begins a line of its own then.
        since.push(b'\n');
    }
    let hash = hash(&last, &since, &body);
    body.pop();
    body.extend_from_slice(KEY);
    body.extend_from_slice(hash.as_bytes());
    body.extend_from_slice(END);
    json_lines::append_bytes(path, body)
}

/// Holds a file against its hashes. One that is not there is in order.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn verify(path: &Path) -> io::Result<Verdict> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Verdict::default()),
        other => other?,
    };
    let (mut verdict, mut last, mut since) = (Verdict::default(), String::new(), Vec::new());
    for (number, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
        let Some((body, said)) = line.strip_suffix(b"\n").and_then(chained) else {
            verdict.open += usize::from(line != b"\n");
            since.extend_from_slice(line);
            continue;
        };
        if hash(&last, &since, &body) != said {
            // Lines before it that have no hash of their own may be it as well.
            verdict.changed = Some(number);
            return Ok(verdict);
        }
        verdict.sealed += 1;
        verdict.covered += std::mem::take(&mut verdict.open);
        since.clear();
        last = said;
        verdict.last = Some(last.clone());
    }
    Ok(verdict)
}

/// The last hash of a file, and what was written after its line.
fn end_of(path: &Path) -> io::Result<(String, Vec<u8>)> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        other => other?,
    };
    let size = file.metadata()?.len();
    for begin in [size.saturating_sub(TAIL), 0] {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(begin))?;
        file.read_to_end(&mut bytes)?;
        let mut since = bytes.len();
        for line in bytes.split_inclusive(|byte| *byte == b'\n').rev() {
            // The first line of a tail may be half a line, and is none that is chained then.
            if let Some((_, said)) = line.strip_suffix(b"\n").and_then(chained) {
                return Ok((said, bytes.split_off(since)));
            }
            since -= line.len();
        }
        if begin == 0 {
            return Ok((String::new(), bytes));
        }
    }
    Ok(Default::default())
}

/// A line without its hash, and the hash.
fn chained(line: &[u8]) -> Option<(Vec<u8>, String)> {
    let rest = line.strip_suffix(END)?;
    let (rest, said) = rest.split_at(rest.len().checked_sub(HASH)?);
    let said = std::str::from_utf8(said).ok()?;
    let body = rest.strip_suffix(KEY)?;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    said.bytes().all(hex).then(|| ([body, b"}"].concat(), said.to_owned()))
}

fn hash(last: &str, since: &[u8], body: &[u8]) -> String {
    let hash = Sha256::new().chain_update(last).chain_update(since).chain_update(body).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use serde_json::json;

    use super::*;

    fn file_of(lines: usize) -> (tempfile::TempDir, std::path::PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("history.jsonl");
        (0..lines).for_each(|number| append(&path, &json!({ "run": number, "to": "1" })).unwrap());
        (place, path)
    }

    fn raw(path: &Path, bytes: &[u8]) {
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(bytes).unwrap();
    }

    #[test]
    fn whatever_byte_is_changed_its_line_is_named() {
        let (_place, path) = file_of(4);
        let verdict = verify(&path).unwrap();
        assert_eq!((verdict.sealed, verdict.open, verdict.changed), (4, 0, None));
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).filter(|at| whole[*at] != b'\n') {
            let mut changed = whole.clone();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            fs::write(&path, &changed).unwrap();
            let line = 1 + whole[..at].iter().filter(|byte| **byte == b'\n').count();
            let verdict = verify(&path).unwrap();
            // One whose hash is no hash any more is found by the line after it; the last by nobody.
            let found = verdict.changed.unwrap_or(5);
            assert!(found == line || found == line + 1, "byte {at} of line {line}: {verdict:?}");
            assert!(verdict.changed.is_some() || verdict.open == 1, "{verdict:?}");
        }
    }

    #[test]
    fn a_line_that_is_removed_or_put_in_between_is_noticed() {
        let (_place, path) = file_of(3);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        fs::write(&path, format!("{}\n{}\n", lines[0], lines[2])).unwrap();
        assert_eq!(verify(&path).unwrap().changed, Some(2));
        fs::write(&path, format!("{}\n{{\"run\":9}}\n{}\n{}\n", lines[0], lines[1], lines[2]))
            .unwrap();
        assert_eq!(verify(&path).unwrap().changed, Some(3));
    }

    #[test]
    fn lines_of_an_older_pump_and_torn_ones_are_covered_by_the_next() {
        let (_place, path) = file_of(0);
        raw(&path, b"{\"run\":0}\n{\"run\":1}\n");
        append(&path, &json!({ "run": 2 })).unwrap();
        raw(&path, b"{\"run\":");
        append(&path, &json!({ "run": 3 })).unwrap();
        raw(&path, b"{\"run\":4}\n");
        let verdict = verify(&path).unwrap();
        assert_eq!((verdict.sealed, verdict.covered, verdict.open), (2, 3, 1));
        assert_eq!(verdict.changed, None);
        let text = fs::read_to_string(&path).unwrap().replacen("{\"run\":0}", "{\"run\":7}", 1);
        fs::write(&path, text).unwrap();
        assert_eq!(verify(&path).unwrap().changed, Some(3));
    }

    #[test]
    fn the_chain_goes_on_after_more_than_the_tail_without_a_hash() {
        let (_place, path) = file_of(2);
        raw(&path, &[&vec![b' '; TAIL as usize + 10][..], b"\n"].concat());
        append(&path, &json!({ "run": 3 })).unwrap();
        let verdict = verify(&path).unwrap();
        assert_eq!((verdict.sealed, verdict.covered, verdict.changed), (3, 1, None));
    }
}
