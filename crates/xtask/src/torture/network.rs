//! Two networks of our own: the server's, in which nobody else sends anything, and its clients', so that
//! the kernel counts for each what it alone has sent.
//!
//! A network namespace belongs to a thread. The main thread enters the server's before there is any other,
//! so all children are born into it; the fleet's thread enters one of its own, and a pair of virtual
//! interfaces is the cable between the two.

use std::fs;
use std::io;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that ten thousand connections need, on both sides.
const DESCRIPTORS: u64 = 65_536;

/// Where the server listens in its own network, so that we reach it there without the cable, too.
const SERVER: &str = "10.99.0.1";

/// The two ends of the cable.
const SERVERS_END: &str = "10.99.1.1";
const CLIENTS_END: &str = "10.99.1.2";

/// Where the server is and how to get there.
#[derive(Clone)]
pub(super) struct Network {
    /// Why there is no network of our own.
    pub(super) missing: Option<String>,
}

impl Network {
    /// Enters a new network with nothing in it, and raises the limit of descriptors.
    ///
    /// # Errors
    /// When the network was made and cannot be used.
    pub(super) fn enter() -> anyhow::Result<Self> {
        descriptors();
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            let missing = Some(format!("a network namespace cannot be made: {error}"));
            return Ok(Self { missing });
        }
        run("ip", &["link", "set", "lo", "up"])?;
        run("ip", &["address", "add", &format!("{SERVER}/32"), "dev", "lo"])?;
        ports()?;
        fs::write("/proc/sys/net/core/somaxconn", "4096")?;
        Ok(Self { missing: None })
    }

    /// What a server listens on.
    pub(super) fn listen(&self) -> String {
        let host = if self.missing.is_none() { SERVER } else { "127.0.0.1" };
        format!("{host}:0")
    }

    /// Lays the cable from a network of the calling thread's own.
    pub(super) fn enter_as_client(&self) -> io::Result<()> {
        if self.missing.is_some() {
            return Ok(());
        }
        unshare(CloneFlags::CLONE_NEWNET)?;
        let server = std::process::id().to_string();
        let net = format!("--net=/proc/{server}/ns/net");
        let pair = ["link", "add", "clients", "type", "veth", "peer", "name", "server", "netns"];
        run("ip", &[&pair[..], &[server.as_str()]].concat())?;
        let address = format!("{SERVERS_END}/24");
        run("nsenter", &[&net, "ip", "address", "add", &address, "dev", "server"])?;
        run("nsenter", &[&net, "ip", "link", "set", "server", "up"])?;
        run("ip", &["address", "add", &format!("{CLIENTS_END}/24"), "dev", "clients"])?;
        run("ip", &["link", "set", "clients", "up"])?;
        run("ip", &["route", "add", "default", "via", SERVERS_END])?;
        ports()?;
        fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1")
    }
}

/// New connections by the thousand use up the usual range of ports within a minute.
fn ports() -> io::Result<()> {
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "2048 65000")
}

fn run(program: &str, words: &[&str]) -> io::Result<()> {
    let output = Command::new(program).args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("`{program} {}`: {}", words.join(" "), said.trim())))
}

fn descriptors() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    // Who is not root cannot raise the hard limit; what it has may do.
    if setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.max(hard), DESCRIPTORS.max(hard)).is_err() {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.max(soft), hard);
    }
}
