//! `GET /metrics` on the control socket, for a scraper that speaks HTTP and no JSON.
//!
//! So little of HTTP/1.1 (RFC 9112) as that takes: one request head of at most [`MAX_HEAD`] bytes, which
//! is skipped but for its first line, one answer, and the end of the connection. A body is not read.

use pump_control::Line;
use serde::{Deserialize, Serialize};

/// Largest head of a request, in bytes. A scraper's has a few hundred.
const MAX_HEAD: usize = 8 * 1024;

/// What `OpenMetrics` 1.0 is sent as.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A request whose first line was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    wanted: Wanted,
    read: usize,
}

/// What a head asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wanted {
    Metrics,
    NotAllowed,
    TooLarge,
    /// Who asks is nobody to be told.
    Forbidden,
    #[serde(other)]
    NotFound,
}

impl Head {
    /// Whether a client's first line begins an HTTP request, and not our own language.
    pub(crate) fn begins(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?.trim_end_matches('\r');
        let mut words = text.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if !version.starts_with("HTTP/1.") || words.next().is_some() {
            return None;
        }
        let path = target.split('?').next().unwrap_or_default();
        let wanted = match (method, path) {
            ("GET", "/metrics") => Wanted::Metrics,
            (_, "/metrics") => Wanted::NotAllowed,
            _ => Wanted::NotFound,
        };
        Some(Self { wanted, read: line.len() })
    }

    /// Takes a line of the rest. At the empty line, and beyond the limit, it says what is wanted.
    pub(crate) fn line(&mut self, line: &Line) -> Option<Wanted> {
        let Line::Whole(bytes) = line else { return Some(Wanted::TooLarge) };
        self.read += bytes.len() + 1;
        match bytes.as_slice() {
            _ if self.read > MAX_HEAD => Some(Wanted::TooLarge),
            b"" | b"\r" => Some(self.wanted),
            _ => None,
        }
    }
}

/// The answer with the metrics.
pub(crate) fn metrics(text: &str) -> Vec<u8> {
    answer("200 OK", OPENMETRICS, "", text)
}

/// The answer to what is not the metrics.
pub(crate) fn refused(wanted: Wanted) -> Vec<u8> {
    let (status, more, text) = match wanted {
        Wanted::NotAllowed => ("405 Method Not Allowed", "Allow: GET\r\n", "ask with GET\n"),
        Wanted::TooLarge => ("431 Request Header Fields Too Large", "", "the head is too large\n"),
        Wanted::Forbidden => {
            ("403 Forbidden", "", "this is for root and the group of the daemon\n")
        }
        Wanted::NotFound | Wanted::Metrics => ("404 Not Found", "", "there is /metrics here\n"),
    };
    answer(status, "text/plain; charset=utf-8", more, text)
}

/// The answer when there are too many clients.
pub(crate) fn unavailable(text: &str) -> Vec<u8> {
    answer("503 Service Unavailable", "text/plain; charset=utf-8", "Retry-After: 1\r\n", text)
}

fn answer(status: &str, kind: &str, more: &str, text: &str) -> Vec<u8> {
    let length = text.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}\
         Connection: close\r\n\r\n{text}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &str, want: Option<Wanted>) {
        let mut lines =
            head.split_terminator('\n').map(|line| Line::Whole(line.as_bytes().to_vec()));
        let Some(Line::Whole(first)) = lines.next() else { panic!("there is a first line") };
        let got = Head::begins(&first).and_then(|mut head| lines.find_map(|line| head.line(&line)));
        assert_eq!(got, want, "for {head:?}");
    }

    #[test]
    fn a_head_asks_for_the_metrics_or_is_refused() {
        check("GET /metrics HTTP/1.1\r\nHost: pump\r\n\r\n", Some(Wanted::Metrics));
        check("GET /metrics?x=1 HTTP/1.0\n\n", Some(Wanted::Metrics));
        check("GET / HTTP/1.1\r\n\r\n", Some(Wanted::NotFound));
        check("POST /metrics HTTP/1.1\r\n\r\n", Some(Wanted::NotAllowed));
        check(
            &format!("GET /metrics HTTP/1.1\r\n{}", "a: b\r\n".repeat(2000)),
            Some(Wanted::TooLarge),
        );
        // Not whole yet, and not HTTP at all.
        check("GET /metrics HTTP/1.1\r\nHost: pump\r\n", None);
        for line in ["{\"v\":1,\"ask\":\"status\"}", "GET /metrics", "PRI * HTTP/2.0", ""] {
            assert!(Head::begins(line.as_bytes()).is_none(), "{line}");
        }
    }
}
