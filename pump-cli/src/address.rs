//! Addresses that pumpd listens on, and who holds one that is taken.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;

use pump_control::ExitStatus;

use crate::report::Failure;

/// One address of `listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `127.0.0.1:8000`.
    Tcp(SocketAddr),
    /// `unix:/run/pump/http.sock`.
    Unix(PathBuf),
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InvalidAddress(String);

impl fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no address: write `127.0.0.1:8000`, `[::]:8000` or `unix:/run/pump/http.sock`",
            self.0
        )
    }
}

impl std::error::Error for InvalidAddress {}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.to_owned());
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') && !path.contains(char::is_whitespace) => {
                Ok(Self::Unix(path.into()))
            }
            Some(_) => Err(invalid()),
            None => text.parse().map(Self::Tcp).map_err(|_| invalid()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// Whether only this machine reaches it.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

/// Refuses when one of these addresses cannot be listened on. All are tried together, so that two of
/// them that exclude each other are found as well.
///
/// # Errors
/// Exit 51 for an address in use, 50 for one that this machine does not have.
pub(crate) fn refuse_taken(addresses: &[Address]) -> Result<(), Failure> {
    let mut held = Vec::new();
    for address in addresses {
        match address {
            Address::Tcp(tcp) => match TcpListener::bind(tcp) {
                Ok(listener) => held.push(listener),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    return Err(taken(address, holder(*tcp)));
                }
                Err(error) => {
                    return Err(Failure::new(
                        ExitStatus::Preflight,
                        format!("this machine cannot listen on `{address}`: {error}"),
                    )
                    .hint("run `ip address` for the addresses it has, and choose another one with `--listen`"));
                }
            },
            // A file that nobody listens on is left over, and is replaced.
            Address::Unix(path) => {
                if UnixStream::connect(path).is_ok() {
                    return Err(taken(address, None));
                }
            }
        }
    }
    Ok(())
}

fn taken(address: &Address, holder: Option<Holder>) -> Failure {
    let by = holder.as_ref().map_or(String::new(), |holder| format!(" by {holder}"));
    let hint = match holder {
        Some(Holder { name, .. }) => {
            format!("stop `{name}`, or choose another address with `--listen`")
        }
        None => "choose another address with `--listen`".to_owned(),
    };
    Failure::new(
        ExitStatus::AddressInUse,
        format!("the address `{address}` is in use{by}, so pumpd could not listen there"),
    )
    .hint(hint)
}

/// The process that holds a socket.
#[derive(Clone, Debug)]
struct Holder {
    name: String,
    pid: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (pid {})", self.name, self.pid)
    }
}

/// Who listens on a port, as far as `/proc` shows it to this user.
fn holder(address: SocketAddr) -> Option<Holder> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| listening_inode(line, address.port()))
    })?;
    let wanted = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let open = fs::read_dir(process.path().join("fd")).ok()?;
        open.flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()))
            .then_some(())?;
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        Some(Holder { name: name.trim().to_owned(), pid })
    })
}

/// The inode of a line of `/proc/net/tcp` (proc(5)) that listens on this port.
fn listening_inode(line: &str, port: u16) -> Option<u64> {
    /// `TCP_LISTEN` of the kernel's `tcp_states.h`.
    const LISTEN: &str = "0A";
    let words: Vec<&str> = line.split_whitespace().collect();
    let local = words.get(1)?.rsplit_once(':')?.1;
    let here = u16::from_str_radix(local, 16).ok()? == port && *words.get(3)? == LISTEN;
    here.then(|| words.get(9)?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_configuration_writes_them() {
        for text in ["127.0.0.1:8000", "[::]:443", "unix:/run/pump/http.sock"] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(text.into()));
        }
        for text in ["", "8000", "localhost:80", "unix:relative", "unix:", "127.0.0.1", "unix:/a b"]
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_refusal_of_a_taken_port_names_who_has_it() {
        let other = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = Address::Tcp(other.local_addr().expect("a bound socket has an address"));
        let failure = refuse_taken(std::slice::from_ref(&address)).expect_err("it is taken");
        assert_eq!(failure.exit, ExitStatus::AddressInUse);
        assert!(failure.error.contains(&address.to_string()), "{failure}");
        assert!(failure.error.contains(&std::process::id().to_string()), "{failure}");
    }
}
