//! The head of an answer, and where its body ends. Pure.

/// How the body's end is known (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilEof,
}

#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) framing: Framing,
    pub(super) close: bool,
}

/// Whether what has come so far can still become an answer.
pub(super) fn may_be_http(bytes: &[u8]) -> bool {
    let start = b"HTTP/1.";
    let seen = bytes.len().min(start.len());
    bytes[..seen] == start[..seen]
}

/// The length of the head, its empty line included, once all of it is there.
pub(super) fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// The size in a chunk's first line; extensions are dropped.
pub(super) fn chunk_size(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?;
    let digits = text.split(';').next()?.trim();
    usize::from_str_radix(digits, 16).ok()
}

/// The first chunk of what has come so far, and how long it is with its framing; an empty one is the last
/// (trailers are taken for none). `Some(None)` when it is not whole yet, none when it is no chunk.
#[expect(clippy::option_option, reason = "not yet and never are two things")]
pub(super) fn chunk(bytes: &[u8]) -> Option<Option<(Vec<u8>, usize)>> {
    let Some(line) = bytes.windows(2).position(|two| two == b"\r\n") else {
        // A size has sixteen digits at most; extensions are short.
        return (bytes.len() < 256).then_some(None);
    };
    let size = chunk_size(&bytes[..line])?;
    let begin = line + 2;
    let end = begin.checked_add(size)?;
    match bytes.get(end..end + 2) {
        None => Some(None),
        Some(b"\r\n") => Some(Some((bytes[begin..end].to_vec(), end + 2))),
        Some(_) => None,
    }
}

impl Head {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.split("\r\n");
        let mut status_line = lines.next()?.splitn(3, ' ');
        let old = match status_line.next()? {
            "HTTP/1.1" => false,
            "HTTP/1.0" => true,
            _ => return None,
        };
        let status: u16 = status_line.next()?.parse().ok().filter(|code| *code >= 100)?;
        let mut headers = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let says = |name: &str, wanted: &str| {
            let mut of_name = headers.iter().filter(|(had, _)| had.eq_ignore_ascii_case(name));
            of_name
                .any(|(_, value)| value.split(',').any(|v| v.trim().eq_ignore_ascii_case(wanted)))
        };
        let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let framing = if status < 200 || status == 204 || status == 304 {
            Framing::None
        } else if says("transfer-encoding", "chunked") {
            Framing::Chunked
        } else if let Some((_, length)) = length {
            Framing::Length(length.parse().ok()?)
        } else {
            Framing::UntilEof
        };
        let close = says("connection", "close") || (old && !says("connection", "keep-alive"));
        Some(Self { status, framing, close, headers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_taken_when_it_is_whole() {
        let check = |bytes: &[u8], want: Option<Option<(&[u8], usize)>>| {
            let got = chunk(bytes);
            let want = want.map(|whole| whole.map(|(chunk, length)| (chunk.to_vec(), length)));
            assert_eq!(got, want, "{}", String::from_utf8_lossy(bytes));
        };
        check(b"", Some(None));
        check(b"5\r\nhel", Some(None));
        check(b"5\r\nhello\r", Some(None));
        check(b"5\r\nhello\r\n3\r\n", Some(Some((b"hello", 10))));
        check(b"0\r\n\r\n", Some(Some((b"", 5))));
        check(b"5\r\nhello!!", None);
        check(b"five\r\n", None);
        check(b"ffffffffffffffff\r\n", None);
    }

    #[test]
    fn heads_are_read_as_rfc_9112_says() {
        let framing =
            |head: &str| Head::parse(head.as_bytes()).map(|head| (head.framing, head.close));
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Some((Framing::Length(5), false))),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n",
                Some((Framing::Chunked, false)),
            ),
            ("HTTP/1.1 204\r\nConnection: x, Close\r\n\r\n", Some((Framing::None, true))),
            ("HTTP/1.0 200 OK\r\n\r\n", Some((Framing::UntilEof, true))),
            ("HTTP/2 200\r\n\r\n", None),
            ("HTTP/1.1 20x\r\n\r\n", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", None),
        ];
        for (head, wanted) in cases {
            assert_eq!(framing(head), wanted, "{head:?}");
        }
    }
}
