//! Who is at the other end: the address that limits are counted by, and the scheme the browser sees.
//!
//! A proxy tells them in `X-Forwarded-For` and `X-Forwarded-Proto`, or in `Forwarded` (RFC 7239).
//! Anybody can write these, so they are believed only when the peer of the connection is a trusted
//! proxy or came over the unix socket. Of a list, the address furthest to the right that is no trusted
//! proxy counts: all to the left of it is what that client claims.
//!
//! When both kinds are there, `X-Forwarded-For` counts: nginx and Caddy write it and hand a client's
//! `Forwarded` on untouched.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// The peer of a connection. The accept loop puts it into the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP, from there.
    Tcp(SocketAddr),
    /// Over a unix socket: only a proxy on this machine can reach it.
    Unix,
}

/// Most hops that are read in a forwarding header, from the right.
const MAX_HOPS: usize = 20;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// The address, if anybody said.
    pub(crate) address: Option<IpAddr>,
    /// Whether a believed proxy says that the client came over HTTPS.
    pub(crate) https: bool,
}

impl Client {
    /// Works it out for one request. Without a peer nothing is believed.
    pub(crate) fn of(peer: Option<Peer>, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let (own, believed) = match peer {
            Some(Peer::Tcp(address)) => {
                let address = address.ip().to_canonical();
                (Some(address), is_trusted(address, trusted))
            }
            Some(Peer::Unix) => (None, true),
            None => (None, false),
        };
        if !believed {
            return Self { address: own, https: false };
        }
        let forwarded = if headers.contains_key("x-forwarded-for") {
            x_forwarded_for(headers)
        } else {
            forwarded_for(headers)
        };
        let mut address = own;
        for hop in forwarded {
            // From here on to the left it is guesswork; the last proxy that we know stays.
            let Some(hop) = hop else { break };
            address = Some(hop);
            if !is_trusted(hop, trusted) {
                break;
            }
        }
        let scheme = last_value(headers, "x-forwarded-proto").or_else(|| {
            last_value(headers, "forwarded").and_then(|element| parameter(element, "proto"))
        });
        Self { address, https: scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) }
    }

    /// What limits are counted by: an IPv4 address, or the /64 that an IPv6 customer has whole.
    pub(crate) fn network(&self) -> Option<IpAddr> {
        self.address.map(|address| match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        })
    }
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// The addresses from the right to the left; `None` where something else stands.
fn x_forwarded_for(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    values_from_the_right(headers, "x-forwarded-for").map(address).collect()
}

fn forwarded_for(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    values_from_the_right(headers, "forwarded")
        .map(|element| parameter(element, "for").and_then(address))
        .collect()
}

/// The elements of a list that may stand in several headers.
fn values_from_the_right<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> impl Iterator<Item = &'a str> {
    let all: Vec<&str> = headers.get_all(name).iter().map(|v| v.to_str().unwrap_or("")).collect();
    all.into_iter().rev().flat_map(|line| line.rsplit(',')).map(str::trim).take(MAX_HOPS)
}

fn last_value<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
    values_from_the_right(headers, name).next()
}

/// One parameter of an element such as `for="[2001:db8::1]:4711";proto=https`.
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = match bare.parse::<IpAddr>() {
        Ok(address) => Some(address),
        Err(_) => text.parse::<SocketAddr>().ok().map(|address| address.ip()),
    };
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[(&'static str, &str)]) -> Client {
        let peer = match peer {
            "unix" => Peer::Unix,
            address => Peer::Tcp(SocketAddr::new(address.parse().unwrap(), 4711)),
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        Client::of(Some(peer), &map, &trusted)
    }

    #[test]
    fn forwarded_addresses_are_believed_only_from_a_proxy() {
        const XFF: &str = "x-forwarded-for";
        for (peer, headers, want) in [
            ("192.0.2.9", &[][..], "192.0.2.9"),
            ("192.0.2.9", &[(XFF, "198.51.100.1")], "192.0.2.9"),
            ("192.0.2.9", &[("forwarded", "for=198.51.100.1")], "192.0.2.9"),
            ("10.1.1.1", &[(XFF, "198.51.100.1")], "198.51.100.1"),
            ("::ffff:10.1.1.1", &[(XFF, "::ffff:198.51.100.1")], "198.51.100.1"),
            ("unix", &[(XFF, "198.51.100.1")], "198.51.100.1"),
            // What the client itself wrote stands to the left of what the proxies wrote.
            ("10.1.1.1", &[(XFF, "203.0.113.7, 198.51.100.1, 10.2.2.2")], "198.51.100.1"),
            ("10.1.1.1", &[(XFF, "203.0.113.7"), (XFF, "198.51.100.1")], "198.51.100.1"),
            ("10.1.1.1", &[(XFF, "10.3.3.3, 10.2.2.2")], "10.3.3.3"),
            ("10.1.1.1", &[(XFF, "198.51.100.1, unknown")], "10.1.1.1"),
            ("10.1.1.1", &[(XFF, "")], "10.1.1.1"),
            ("10.1.1.1", &[(XFF, "198.51.100.1:1234")], "198.51.100.1"),
            ("10.1.1.1", &[("forwarded", "for=\"[2001:db8::1]:4711\";proto=https")], "2001:db8::1"),
            ("10.1.1.1", &[("forwarded", "for=203.0.113.7, For=198.51.100.1")], "198.51.100.1"),
            ("10.1.1.1", &[("forwarded", "for=_hidden")], "10.1.1.1"),
            (
                "10.1.1.1",
                &[("forwarded", "for=203.0.113.7"), (XFF, "198.51.100.1")],
                "198.51.100.1",
            ),
        ] {
            let got = client(peer, headers).address;
            assert_eq!(got, Some(want.parse().unwrap()), "{peer} {headers:?}");
        }
        assert_eq!(client("unix", &[]).address, None);
    }

    #[test]
    fn the_scheme_is_what_the_nearest_proxy_says() {
        const PROTO: &str = "x-forwarded-proto";
        assert!(client("10.1.1.1", &[(PROTO, "https")]).https);
        assert!(client("unix", &[("forwarded", "for=198.51.100.1;proto=HTTPS")]).https);
        assert!(!client("10.1.1.1", &[(PROTO, "https, http")]).https);
        assert!(!client("192.0.2.9", &[(PROTO, "https")]).https);
    }

    #[test]
    fn a_customer_with_many_addresses_is_one() {
        let network = |address| client(address, &[]).network().unwrap().to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.9"), "192.0.2.9");
    }
}
