//! One connection, and what became of it.
//!
//! HTTP/1.1 (RFC 9112) from the client's side with nothing in between: no pool, no retry, no
//! redirect. What a library would repair in silence is told here as a [`Fate`]. One request is
//! outstanding at a time; there is no pipelining.
//!
//! Waits for as long as the peer lets it; whoever calls sets the time limit.

mod frame;

use std::fmt;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, UnixStream};

use frame::{Framing, Head};

/// Longest head of an answer, in bytes. A longer one is no answer.
pub const MAX_HEAD: usize = 64 * 1024;

/// Longest body of an answer, in bytes. A longer one is no answer.
pub const MAX_BODY: usize = 32 * 1024 * 1024;

/// Most interim answers (1xx) before the answer itself.
const MAX_INTERIM: usize = 8;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = anyhow::Error;

    /// `127.0.0.1:8000`, `http://127.0.0.1:8000` or `unix:/run/pump/http.sock`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        match address.parse() {
            Ok(address) => Ok(Self::Tcp(address)),
            Err(_) => anyhow::bail!("`{text}` is neither `IP:PORT` nor `unix:PATH`"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why there is no whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody accepted the connection.
    Refused,
    /// Reset before the first byte of an answer.
    Reset,
    /// Closed before the first byte of an answer.
    Eof,
    /// Closed or reset within an answer, in its head or in its body.
    Cut,
    /// What came is no HTTP/1.x answer, or one beyond [`MAX_HEAD`] or [`MAX_BODY`].
    NoHttp,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names as they came, values trimmed.
    pub headers: Vec<(String, String)>,
    /// The body, out of its chunks.
    pub body: Vec<u8>,
    /// Whether the server said, or the framing means, that it closes the connection.
    pub close: bool,
    /// When the first byte came.
    pub first_byte: Instant,
}

impl Answer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(had, _)| had.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// How slowly a client reads.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Most bytes taken at once; the socket's receive buffer is made about as small.
    pub bytes: usize,
    /// The pause before each taking.
    pub pause: Duration,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An open connection.
pub struct Connection {
    io: Box<dyn Io>,
    /// Read and not yet taken.
    buffer: Vec<u8>,
    pace: Option<Pace>,
    /// A write has found the peer gone. The kernel tells a reset once: who hears it while writing
    /// reads nothing but an end afterwards.
    reset: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("unread", &self.buffer.len()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// [`Fate::Refused`] for whatever keeps the connection from being made.
    pub async fn open(address: &Address, pace: Option<Pace>) -> Result<Self, Fate> {
        let io: Box<dyn Io> = match address {
            Address::Tcp(address) => Box::new(connect(*address, pace).await.map_err(refused)?),
            Address::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(refused)?),
        };
        Ok(Self { io, buffer: Vec::new(), pace, reset: false })
    }

    /// Writes a request, or a part of one.
    ///
    /// # Errors
    /// [`Fate::Reset`] when the peer is gone. It may have answered before it went: ask
    /// [`Self::answer`].
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Fate> {
        let sent = self.io.write_all(bytes).await;
        self.reset |= sent.is_err();
        sent.map_err(|_| Fate::Reset)
    }

    /// Waits for the first byte of an answer.
    ///
    /// # Errors
    /// [`Fate::Eof`] or [`Fate::Reset`].
    pub async fn first_byte(&mut self) -> Result<(), Fate> {
        if !self.buffer.is_empty() {
            return Ok(());
        }
        let filled = self.fill().await;
        filled.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof if !self.reset => Fate::Eof,
            _ => Fate::Reset,
        })
    }

    /// Reads the answer to a request.
    ///
    /// # Errors
    /// A [`Fate`] other than `Refused`. The connection is of no use afterwards.
    pub async fn answer(&mut self) -> Result<Answer, Fate> {
        self.first_byte().await?;
        let first_byte = Instant::now();
        for _ in 0..=MAX_INTERIM {
            let head = self.head().await?;
            if head.status >= 200 {
                let body = self.body(head.framing).await?;
                let close = head.close || head.framing == Framing::UntilEof;
                let Head { status, headers, .. } = head;
                return Ok(Answer { status, headers, body, close, first_byte });
            }
        }
        Err(Fate::NoHttp)
    }

    /// Reads the head of an answer that has chunks, and returns its status. For an answer that does not
    /// end, instead of [`Self::answer`].
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub async fn begin(&mut self) -> Result<u16, Fate> {
        self.first_byte().await?;
        let head = self.head().await?;
        match head.framing {
            Framing::Chunked => Ok(head.status),
            _ if head.status != 200 => Ok(head.status),
            _ => Err(Fate::NoHttp),
        }
    }

    /// Reads the next chunk of such an answer; none when it has ended. What was read of a chunk that is
    /// not whole yet is kept when this is not waited for to its end.
    ///
    /// # Errors
    /// [`Fate::Cut`] or [`Fate::NoHttp`].
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Fate> {
        loop {
            match frame::chunk(&self.buffer).ok_or(Fate::NoHttp)? {
                Some((chunk, length)) => {
                    self.buffer.drain(..length);
                    return Ok((!chunk.is_empty()).then_some(chunk));
                }
                None if self.buffer.len() > MAX_BODY => return Err(Fate::NoHttp),
                None => self.fill().await.map_err(within_answer)?,
            }
        }
    }

    async fn head(&mut self) -> Result<Head, Fate> {
        loop {
            if let Some(end) = frame::end_of_head(&self.buffer) {
                let head = Head::parse(&self.buffer[..end]).ok_or(Fate::NoHttp)?;
                self.buffer.drain(..end);
                return Ok(head);
            }
            if self.buffer.len() > MAX_HEAD || !frame::may_be_http(&self.buffer) {
                return Err(Fate::NoHttp);
            }
            self.fill().await.map_err(within_answer)?;
        }
    }

    async fn body(&mut self, framing: Framing) -> Result<Vec<u8>, Fate> {
        match framing {
            Framing::None => Ok(Vec::new()),
            Framing::Length(length) => self.take(length).await,
            Framing::Chunked => self.chunks().await,
            Framing::UntilEof => loop {
                match self.fill().await {
                    Ok(()) if self.buffer.len() > MAX_BODY => return Err(Fate::NoHttp),
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                        return Ok(std::mem::take(&mut self.buffer));
                    }
                    Err(_) => return Err(Fate::Cut),
                }
            },
        }
    }

    /// RFC 9112, section 7.1. Trailers are read and dropped.
    async fn chunks(&mut self) -> Result<Vec<u8>, Fate> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let size = frame::chunk_size(&line).ok_or(Fate::NoHttp)?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(body);
            }
            if body.len().saturating_add(size) > MAX_BODY {
                return Err(Fate::NoHttp);
            }
            body.extend(self.take(size).await?);
            if !self.line().await?.is_empty() {
                return Err(Fate::NoHttp);
            }
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>, Fate> {
        if length > MAX_BODY {
            return Err(Fate::NoHttp);
        }
        while self.buffer.len() < length {
            self.fill().await.map_err(within_answer)?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// A line without its CRLF.
    async fn line(&mut self) -> Result<Vec<u8>, Fate> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let mut line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                line.truncate(end);
                return Ok(line);
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(Fate::NoHttp);
            }
            self.fill().await.map_err(within_answer)?;
        }
    }

    async fn fill(&mut self) -> Result<(), Error> {
        let mut most = 64 * 1024;
        if let Some(pace) = self.pace {
            tokio::time::sleep(pace.pause).await;
            most = pace.bytes;
        }
        let mut limited = (&mut self.io).take(most as u64);
        match limited.read_buf(&mut self.buffer).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

async fn connect(address: SocketAddr, pace: Option<Pace>) -> Result<tokio::net::TcpStream, Error> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(pace) = pace {
        // Else the kernel takes megabytes on the reader's behalf and the server never waits.
        socket.set_recv_buffer_size(u32::try_from(pace.bytes).unwrap_or(u32::MAX))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn refused(_: Error) -> Fate {
    Fate::Refused
}

fn within_answer(_: Error) -> Fate {
    Fate::Cut
}

/// A request as bytes. `Host` and `Content-Length` are added.
pub fn request(
    method: &str,
    path: &str,
    host: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}
