//! What reads bytes that others wrote, as functions that take any bytes and may not panic.
//!
//! `fuzz/` throws bytes at them for as long as somebody lets it; what it has found lies in `fuzz/corpus`,
//! and the test below reads all of that on every run.

use pump_control::Lines;
use pump_control::constants::{MAX_CHANNEL_LINE, MAX_CONTROL_LINE};

use crate::config::Config;

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// Each with the name of its corpus.
pub const TARGETS: [(&str, Target); 6] = [
    ("from_worker", from_worker),
    ("to_worker", to_worker),
    ("control", control),
    ("hand_over", hand_over),
    ("state", state),
    ("configuration", configuration),
];

/// What a worker says to the master.
pub fn from_worker(bytes: &[u8]) {
    let mut lines = Lines::new(MAX_CHANNEL_LINE);
    for line in pieces(bytes).flat_map(|piece| lines.push(piece)) {
        crate::master::fuzz::from_worker(line);
    }
}

/// What a master says to its worker.
pub fn to_worker(bytes: &[u8]) {
    let mut lines = Lines::new(MAX_CHANNEL_LINE);
    for line in pieces(bytes).flat_map(|piece| lines.push(piece)) {
        crate::worker::fuzz::to_worker(&line);
    }
}

/// What a client of the control socket says, in our language or in HTTP.
pub fn control(bytes: &[u8]) {
    let mut lines = Lines::new(MAX_CONTROL_LINE);
    let all: Vec<_> = pieces(bytes).flat_map(|piece| lines.push(piece)).collect();
    crate::master::fuzz::control(all);
}

/// A connection that another worker hands over.
pub fn hand_over(bytes: &[u8]) {
    crate::worker::fuzz::hand_over(bytes);
}

/// What the master before this one has left behind.
pub fn state(bytes: &[u8]) {
    crate::master::fuzz::state(bytes);
}

/// The configuration.
pub fn configuration(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        // A mistake is told with its line, and telling is a part of reading.
        if let Err(error) = Config::parse(text, std::path::Path::new("pumpd.toml")) {
            let _told = error.to_string();
        }
    }
}

/// As they may come from a socket: now much at once, now little. The first byte says how.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (size, rest) = bytes.split_first().map_or((1, bytes), |(first, rest)| (*first, rest));
    rest.chunks(usize::from(size).max(1))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn what_fuzzing_has_found_harms_nobody() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, target) in TARGETS {
            let folder = corpus.join(name);
            let mut read = 0;
            for entry in fs::read_dir(&folder).expect("every target has a corpus") {
                let path = entry.expect("the folder can be read").path();
                target(&fs::read(&path).expect("the file can be read"));
                read += 1;
            }
            assert!(read > 0, "`{}` is empty", folder.display());
        }
    }
}
