//! A worker process, as the loop holds it: the child and its channel.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use pump_control::channel::{FromWorker, Listener, Start, ToWorker};
use pump_control::constants::MAX_CHANNEL_LINE;
use pump_control::{Line, Lines, encode};
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::carried::CarriedWorker;
use super::child::{Birth, Child, kept, number, printable};
use super::cluster::{GenerationId, WorkerId};
use super::generation::Generation;
use super::listen::Listening;

/// A worker and the way to speak with it.
pub(crate) struct WorkerProcess {
    pub(crate) child: Child,
    pub(crate) generation: GenerationId,
    /// What it last said of its connections, while draining.
    pub(crate) connections: Option<u64>,
    /// How much it had received of uploads when it last said so, while draining.
    pub(crate) uploaded: u64,
    /// Who takes its connections, once it was asked to leave.
    pub(crate) successor: Option<WorkerId>,
    channel: Option<UnixStream>,
    lines: Lines,
    out: Vec<u8>,
}

impl WorkerProcess {
    /// Execs a worker of `generation` and tells it what it is, and whether it serves on a full disk.
    pub(crate) fn start(
        id: WorkerId,
        generation_id: GenerationId,
        generation: &Generation,
        listening: &[&Listening],
        config_path: &std::path::Path,
        master: BorrowedFd<'_>,
        even_if_full: bool,
    ) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut descriptors = vec![theirs.as_fd(), master];
        descriptors.extend(listening.iter().map(|listening| listening.socket.as_fd()));
        let channel = number(theirs.as_fd()).to_string();
        let child = Child::start(&Birth {
            program: generation.program(),
            args: &[OsStr::new("worker"), OsStr::new("--channel"), OsStr::new(&channel)],
            descriptors: &descriptors,
            stdin: None,
            answers: false,
            dies_with_us: false,
        })?;
        // From its execution on nobody can write into it, so this holds for as long as the worker lives.
        if !generation.is_as_it_was() {
            child.end();
            let text = "the program's file was written into after it was inspected";
            return Err(io::Error::other(text));
        }
        let start = Start {
            generation: generation_id.0,
            worker: id.0,
            build: generation.build().build,
            config_path: config_path.to_owned(),
            config: generation.config.clone(),
            listeners: listening
                .iter()
                .map(|listening| Listener {
                    fd: number(listening.socket.as_fd()),
                    address: listening.address.to_string(),
                })
                .collect(),
            master: Some(number(master)),
            even_if_full,
        };
        let mut worker = Self {
            child,
            generation: generation_id,
            connections: None,
            uploaded: 0,
            successor: None,
            channel: Some(ours),
            lines: Lines::new(MAX_CHANNEL_LINE),
            out: Vec::new(),
        };
        worker.say(&ToWorker::Start(start));
        Ok(worker)
    }

    /// A worker that was started by the master before this one, or by this process before it became
    /// another build.
    pub(crate) fn taken(carried: &CarriedWorker, child: Child, channel: Option<OwnedFd>) -> Self {
        let mut lines = Lines::new(MAX_CHANNEL_LINE);
        lines.push(&carried.heard);
        Self {
            child,
            generation: GenerationId(carried.generation),
            connections: None,
            uploaded: 0,
            successor: carried.successor.map(WorkerId),
            channel: channel.map(UnixStream::from),
            lines,
            out: carried.unsaid.clone(),
        }
    }

    /// What another master needs to know of it.
    pub(crate) fn carried(&self, id: WorkerId) -> CarriedWorker {
        CarriedWorker {
            id: id.0,
            generation: self.generation.0,
            pid: self.child.pid,
            heard: self.lines.unfinished().to_vec(),
            unsaid: self.out.clone(),
            logged: self.child.log().1.to_vec(),
            successor: self.successor.map(|successor| successor.0),
        }
    }

    /// Tells an orphan that `master`, a pidfd, is its master now.
    pub(crate) fn adopt(&mut self, master: BorrowedFd<'_>) {
        // The dead master may have been cut off in the middle of a line. What it could not say is lost.
        self.out = b"\n".to_vec();
        self.write();
        self.say_with(&ToWorker::Adopted, master);
    }

    /// The channel, and whether something waits to be written.
    pub(crate) fn channel(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.channel.as_ref().map(|channel| (channel.as_fd(), !self.out.is_empty()))
    }

    pub(crate) fn say(&mut self, message: &ToWorker) {
        // A worker is told two things in its life, so what waits is bounded by them.
        self.out.extend(encode(message));
        self.write();
    }

    /// Says something that may come late, or not at all to a worker that reads nothing.
    pub(crate) fn say_if_it_reads(&mut self, message: &ToWorker) {
        if self.out.len() < MAX_CHANNEL_LINE {
            self.say(message);
        }
    }

    /// Says something that a descriptor belongs to. False when it could not be said at once.
    pub(crate) fn say_with(&mut self, message: &ToWorker, descriptor: BorrowedFd<'_>) -> bool {
        let Some(channel) = &self.channel else { return false };
        if !self.out.is_empty() {
            return false;
        }
        let line = encode(message);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match sendmsg(channel, &[IoSlice::new(&line)], &mut control, flags) {
            Ok(length) => {
                self.out.extend(&line[length..]);
                true
            }
            Err(_) => false,
        }
    }

    pub(crate) fn write(&mut self) {
        let Some(channel) = &mut self.channel else { return };
        while !self.out.is_empty() {
            match channel.write(&self.out) {
                Ok(length) => drop(self.out.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It is dying; its pidfd will say so.
                Err(_) => self.out.clear(),
            }
        }
    }

    /// What the worker says: believed no further than it can be checked.
    pub(crate) fn read(&mut self) -> Vec<Result<FromWorker, Gossip>> {
        let Some(channel) = &self.channel else { return Vec::new() };
        let mut buffer = [0; 4096];
        let length = match receive(channel, &mut buffer) {
            Ok(Ok(0)) => {
                self.channel = None;
                return Vec::new();
            }
            Ok(Ok(length)) => length,
            Ok(Err(lie)) => return vec![Err(lie)],
            Err(_) => return Vec::new(),
        };
        let lines = self.lines.push(&buffer[..length]);
        lines.into_iter().map(|line| understand(line, self.generation)).collect()
    }
}

/// Takes in bytes. A descriptor is never taken in: without room for it the kernel closes it, and says so
/// (`MSG_CTRUNC`, recvmsg(2)).
fn receive(channel: &UnixStream, buffer: &mut [u8]) -> io::Result<Result<usize, Gossip>> {
    let mut no_room = RecvAncillaryBuffer::default();
    let mut into = [IoSliceMut::new(buffer)];
    let received = recvmsg(channel, &mut into, &mut no_room, RecvFlags::DONTWAIT)?;
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Ok(Err(Gossip::Lie("it sent a descriptor".to_owned())));
    }
    Ok(Ok(received.bytes))
}

/// Something that a worker said and that is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gossip {
    /// It may be of a later build: a line for the log.
    Unknown(String),
    /// No sound build says that.
    Lie(String),
}

pub(super) fn understand(line: Line, generation: GenerationId) -> Result<FromWorker, Gossip> {
    let unknown = |text: &str| Gossip::Unknown(format!("said {text}, ignoring it"));
    let Line::Whole(bytes) = line else {
        return Err(unknown("a line that is too long"));
    };
    let said: FromWorker = serde_json::from_slice(&bytes)
        .map_err(|error| unknown(&format!("something that this build does not know ({error})")))?;
    let of = match &said {
        FromWorker::Ready { generation }
        | FromWorker::Refused { generation, .. }
        | FromWorker::Draining { generation, .. }
        | FromWorker::Figures { generation, .. }
        | FromWorker::Probed { generation, .. }
        | FromWorker::Published { generation } => *generation,
        _ => generation.0,
    };
    if of != generation.0 {
        let text = format!("it spoke for generation {of} and is of {}", generation.0);
        return Err(Gossip::Lie(text));
    }
    Ok(match said {
        FromWorker::Refused { generation, reason, exhausted } => {
            let reason = kept(&printable(reason.as_bytes()));
            FromWorker::Refused { generation, reason, exhausted }
        }
        FromWorker::Probed { generation, failure: Some(reason), micros } => {
            let failure = Some(kept(&printable(reason.as_bytes())));
            FromWorker::Probed { generation, failure, micros }
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(line: &str, known: bool) {
        let got = understand(Line::Whole(line.into()), GenerationId(3));
        assert_eq!(got.is_ok(), known, "{line}: {got:?}");
    }

    /// Bug e of the implementation of 2017: a message of another shape ended the master.
    #[test]
    fn e_a_message_that_is_not_known_is_dropped() {
        check(r#"{"say":"ready","generation":3}"#, true);
        check(r#"{"say":"ready","generation":3,"later":[1]}"#, true);
        check(r#"{"say":"ready","generation":2}"#, false);
        check(r#"{"say":"follow","generation":3}"#, false);
        check(r#"{"cmd":"update"}"#, false);
        check("\u{0}\u{1}", false);
        check("", false);
    }

    #[test]
    fn a_descriptor_is_a_lie_and_is_not_taken_in() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let open = || std::fs::read_dir("/proc/self/fd").expect("ours").count();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [theirs.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let line = [IoSlice::new(b"{}\n")];
        let mut buffer = [0; 64];
        // Other tests open descriptors too, so one of many repetitions has to show it.
        let mut grown = Vec::new();
        for _ in 0..3 {
            let before = open();
            for _ in 0..200 {
                sendmsg(&theirs, &line, &mut control, SendFlags::NOSIGNAL).expect("it is sent");
                let got = receive(&ours, &mut buffer).expect("it is there");
                assert_eq!(got, Err(Gossip::Lie("it sent a descriptor".to_owned())));
            }
            grown.push(open().saturating_sub(before));
        }
        assert!(grown.iter().any(|grown| *grown < 200), "{grown:?}");
        sendmsg(&theirs, &line, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
            .expect("it is sent");
        assert_eq!(receive(&ours, &mut buffer).expect("it is there"), Ok(3));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Any bytes, and bytes that are nearly a message, in any pieces.
        #[test]
        fn e_no_gossip_harms(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 0..60usize,
            size in 1..64usize,
        ) {
            let message = br#"{"say":"refused","generation":3,"reason":"\u0007no"}"#;
            let said = [&message[..cut.min(message.len())], &bytes, b"\n", message, b"\n"].concat();
            let mut lines = Lines::new(MAX_CHANNEL_LINE);
            let heard = said.chunks(size).flat_map(|chunk| lines.push(chunk));
            let last = heard.map(|line| understand(line, GenerationId(3))).last();
            let Some(Ok(FromWorker::Refused { reason, .. })) = last else {
                return Err(TestCaseError::fail(format!("{last:?}")));
            };
            prop_assert_eq!(reason, "\u{fffd}no");
        }

        #[test]
        fn what_is_kept_is_short_and_printable(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let kept = kept(&printable(&bytes));
            prop_assert!(kept.len() <= 500);
            prop_assert!(!kept.contains(|c: char| c.is_control() && c != '\t'));
        }
    }
}
