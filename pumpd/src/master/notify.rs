//! What systemd is told: `sd_notify(3)`, without a library.
//!
//! Outside systemd every call does nothing. A message that cannot be sent is lost: systemd's own
//! time-outs decide then, and the cluster serves on.

use std::ffi::OsStr;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr, sendto,
};
use rustix::time::{ClockId, clock_gettime};

/// How long a message may wait for systemd to read the ones before it.
const SENT_WITHIN: Duration = Duration::from_millis(100);

/// The way to systemd.
pub(crate) struct Notify {
    socket: Option<(UnixDatagram, SocketAddrUnix)>,
    /// How often systemd wants to hear of us, halved, so that one late message does no harm.
    pub(crate) watchdog: Option<Duration>,
    status: String,
}

impl Notify {
    /// From `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(crate) fn from_environment(get: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let socket = get("NOTIFY_SOCKET").and_then(|path| {
            let address = address(&path)?;
            let socket = UnixDatagram::unbound().ok()?;
            // Its queue may be full while systemd itself is held up, and we have other things to do.
            socket.set_write_timeout(Some(SENT_WITHIN)).ok()?;
            Some((socket, address))
        });
        let number = |name| get(name)?.to_str()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC")
            .filter(|_| ours && socket.is_some())
            .map(|microseconds| Duration::from_micros(microseconds / 2));
        Self { socket, watchdog, status: String::new() }
    }

    pub(crate) fn ready(&self) {
        self.send("READY=1");
    }

    /// A roll has begun; [`Self::ready`] ends it.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    pub(crate) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// Gives a descriptor away to be kept under a name. False when it could not be sent, or nobody keeps
    /// anything.
    pub(crate) fn store(&self, name: &str, descriptor: BorrowedFd<'_>) -> bool {
        let message = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
        let Some((socket, address)) = &self.socket else { return false };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let parts = [IoSlice::new(message.as_bytes())];
        sendmsg_addr(socket, address, &parts, &mut control, SendFlags::NOSIGNAL).is_ok()
    }

    /// Takes back what was given away under a name.
    pub(crate) fn forget(&self, name: &str) {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    }

    /// Whether there is anybody who might keep something.
    pub(crate) fn is_heard(&self) -> bool {
        self.socket.is_some()
    }

    /// The sentence that `systemctl status` shows; sent when it has changed.
    pub(crate) fn status(&mut self, sentence: &str) {
        if self.status != sentence {
            sentence.clone_into(&mut self.status);
            self.send(&format!("STATUS={sentence}"));
        }
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket {
            // Nothing better to do with a failure: see the head of this file.
            let _ = sendto(socket, message.as_bytes(), SendFlags::NOSIGNAL, address);
        }
    }
}

fn address(path: &OsStr) -> Option<SocketAddrUnix> {
    match path.as_bytes() {
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name).ok(),
        [b'/', ..] => SocketAddrUnix::new(path).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    use super::*;

    #[test]
    fn systemd_hears_each_sentence_once() {
        let name = format!("pumpd-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let systemd = UnixDatagram::bind_addr(&address).expect("nobody else has this name");
        let mut notify = Notify::from_environment(|variable| match variable {
            "NOTIFY_SOCKET" => Some(format!("@{name}").into()),
            "WATCHDOG_USEC" => Some("4000000".into()),
            _ => None,
        });
        assert_eq!(notify.watchdog, Some(Duration::from_secs(2)));
        notify.status("2 workers on 0.1.0, ready");
        notify.status("2 workers on 0.1.0, ready");
        notify.ready();
        let heard = |want: &str| {
            let mut buffer = [0; 200];
            let length = systemd.recv(&mut buffer).expect("a datagram is there");
            assert_eq!(String::from_utf8_lossy(&buffer[..length]), want);
        };
        heard("STATUS=2 workers on 0.1.0, ready");
        heard("READY=1");
    }

    /// The thread of the test would be stuck here, as the master's was.
    #[test]
    fn a_systemd_that_does_not_listen_holds_up_nobody() {
        let name = format!("pumpd-notify-deaf-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let _systemd = UnixDatagram::bind_addr(&address).expect("nobody else has this name");
        let filler = UnixDatagram::unbound().expect("a socket");
        filler.set_nonblocking(true).expect("a socket option");
        while filler.send_to_addr(b"WATCHDOG=1", &address).is_ok() {}
        let wanted =
            |variable: &str| (variable == "NOTIFY_SOCKET").then(|| format!("@{name}").into());
        Notify::from_environment(wanted).ready();
    }
}
