//! Lines to standard error.
//!
//! The master is one thread, and a log that is read slowly, or by nobody, must not keep it from its
//! work: what would have to wait is lost instead.

use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How much may be written at once where there is room at all: `PIPE_BUF`, pipe(7).
const PIECE: usize = 4096;

/// Standard error, as a writer that never waits.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut errors = io::stderr();
        // Not by making it non-blocking: a terminal would be so for the shell too.
        let mut room = [PollFd::new(&errors, PollFlags::OUT)];
        poll(&mut room, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        if !room[0].revents().contains(PollFlags::OUT) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        errors.write(&bytes[..bytes.len().min(PIECE)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins the log: with the time, unless a journal adds it.
pub(crate) fn begin() {
    // What cannot be written is no reason to end: without this the subscriber says so with `eprintln!`,
    // which panics. It is how every orphaned worker writes.
    let builder = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_writer(|| Log)
        .with_ansi(false)
        .with_target(false);
    match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => builder.without_time().init(),
        None => builder.init(),
    }
}
