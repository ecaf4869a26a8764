//! A server of releases that lies, stalls and lets go, as it is told.
//!
//! It serves a folder. For a part of a path a [`Deed`] says what it does instead, once or always. It
//! waits for nothing and sleeps for nothing: a stall lasts until the client goes. What it was asked for
//! is kept, so that a test can say who went on where.
//!
//! `server.pem` is for `127.0.0.1` and signed by `authority.pem`, whose key is gone.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};

/// Longest head of a request, in bytes.
const MAX_HEAD: u64 = 64 * 1024;

/// What the server does instead of serving a file.
#[derive(Clone, Debug)]
pub enum Deed {
    /// Promises all and closes after so many bytes of the body.
    CutAfter(usize),
    /// Promises all and says no more after so many bytes.
    StallAfter(usize),
    /// Accepts and says nothing at all.
    Silent,
    /// Says that the body has so many bytes, and sends what it has.
    Claims(u64),
    /// Sends the whole, whatever part was asked for.
    IgnoresRange,
    /// Answers with a part that begins elsewhere than asked for.
    WrongRange,
    /// Serves these bytes, under an `ETag` of their own.
    Serves(Vec<u8>),
    /// Serves these bytes under the `ETag` of the honest file.
    Poses(Vec<u8>),
    /// Never ends.
    Endless,
    /// An answer without a body, with `Retry-After` if it is given.
    Status(u16, Option<&'static str>),
    /// Leads to itself.
    RedirectsToItself,
    /// Leads elsewhere.
    RedirectsTo(String),
    /// Serves what another folder has there.
    ServesFrom(PathBuf),
}

/// What the server was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The path, without the leading slash.
    pub path: String,
    /// `Range`.
    pub range: Option<String>,
    /// `If-Range`.
    pub if_range: Option<String>,
    /// `Proxy-Authorization`, of a proxy.
    pub authorization: Option<String>,
}

struct Rule {
    part: String,
    left: usize,
    deed: Deed,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    asked: Vec<Asked>,
    ended: bool,
}

/// What a connection is served with.
#[derive(Clone)]
enum Kind {
    /// Files of a folder.
    Folder(PathBuf),
    /// Whatever is asked for elsewhere, for who knows this (RFC 7617).
    Proxy(String),
}

/// The server. It ends when it is dropped.
pub struct ReleaseServer {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<Mutex<State>>,
}

impl ReleaseServer {
    /// Serves a folder over HTTP.
    pub fn of(folder: &Path) -> Self {
        Self::start("http", Kind::Folder(folder.to_owned()), None)
    }

    /// Serves a folder over HTTPS, as `127.0.0.1`, by the word of [`ReleaseServer::authority`].
    pub fn encrypted(folder: &Path) -> Self {
        let chain = CertificateDer::pem_slice_iter(include_bytes!("releases/server.pem"))
            .collect::<Result<Vec<_>, _>>()
            .expect("our own file");
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("releases/server.key"));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has all versions")
            .with_no_client_auth()
            .with_single_cert(chain, key.expect("our own file"))
            .expect("our own files");
        Self::start("https", Kind::Folder(folder.to_owned()), Some(Arc::new(config)))
    }

    /// A proxy that asks for a name and a password, `name:password` in base64.
    pub fn proxy(credentials: &str) -> Self {
        Self::start("http", Kind::Proxy(format!("Basic {credentials}")), None)
    }

    /// The authority that vouches for [`ReleaseServer::encrypted`], as PEM.
    pub fn authority() -> &'static str {
        include_str!("releases/authority.pem")
    }

    fn start(scheme: &'static str, kind: Kind, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if locked(&shared).ended {
                    return;
                }
                let (state, kind, tls) = (Arc::clone(&shared), kind.clone(), tls.clone());
                std::thread::spawn(move || {
                    // A client that went away is no failure of the server.
                    let _ = serve(stream, &state, &kind, tls);
                });
            }
        });
        Self { address, scheme, state }
    }

    /// Its address, as `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Its host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on does this to whoever asks for a path with this part in it.
    pub fn always(&self, part: &str, deed: Deed) {
        self.so_often(part, usize::MAX, deed);
    }

    /// Does this the next time somebody asks for a path with this part in it; then what was told
    /// before it.
    pub fn once(&self, part: &str, deed: Deed) {
        self.so_often(part, 1, deed);
    }

    /// As [`ReleaseServer::once`], so many times. What was told first comes first.
    pub fn so_often(&self, part: &str, times: usize, deed: Deed) {
        locked(&self.state).rules.push(Rule { part: part.to_owned(), left: times, deed });
    }

    /// What it was asked for, with this part in the path.
    pub fn asked(&self, part: &str) -> Vec<Asked> {
        locked(&self.state).asked.iter().filter(|it| it.path.contains(part)).cloned().collect()
    }
}

impl Drop for ReleaseServer {
    fn drop(&mut self) {
        locked(&self.state).ended = true;
        // Wakes the thread, which then sees that it has ended.
        let _ = TcpStream::connect(self.address);
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody panics with it")
}

trait Line: Read + Write {}
impl<T: Read + Write> Line for T {}

fn serve(
    tcp: TcpStream,
    state: &Mutex<State>,
    kind: &Kind,
    tls: Option<Arc<ServerConfig>>,
) -> io::Result<()> {
    let mut stream: Box<dyn Line> = match tls {
        None => Box::new(tcp.try_clone()?),
        Some(config) => {
            let session = ServerConnection::new(config).map_err(io::Error::other)?;
            Box::new(StreamOwned::new(session, tcp.try_clone()?))
        }
    };
    let (request, asked) = read_head(&mut stream)?;
    locked(state).asked.push(asked.clone());
    match kind {
        Kind::Proxy(wanted) => pass_on(tcp, &mut stream, &request, &asked, wanted),
        Kind::Folder(folder) => {
            let deed = deed(state, &asked.path);
            answer(&mut stream, folder, &asked, deed)
        }
    }
}

/// The first line and what we want to know of the others. One byte at a time: what follows is not ours.
fn read_head(stream: &mut dyn Line) -> io::Result<(String, Asked)> {
    let mut head = Vec::new();
    let mut one = BufReader::with_capacity(1, stream.take(MAX_HEAD));
    while !head.ends_with(b"\r\n\r\n") {
        if one.read_until(b'\n', &mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let request = lines.next().unwrap_or_default().to_owned();
    let path = request.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
    let mut asked = Asked { path, range: None, if_range: None, authorization: None };
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let value = Some(value.to_owned());
        match name.to_ascii_lowercase().as_str() {
            "range" => asked.range = value,
            "if-range" => asked.if_range = value,
            "proxy-authorization" => asked.authorization = value,
            _ => {}
        }
    }
    Ok((request, asked))
}

fn deed(state: &Mutex<State>, path: &str) -> Option<Deed> {
    let mut state = locked(state);
    let rule = state.rules.iter_mut().find(|it| it.left > 0 && path.contains(&it.part))?;
    rule.left = rule.left.saturating_sub(usize::from(rule.left < usize::MAX));
    Some(rule.deed.clone())
}

fn answer(
    stream: &mut dyn Line,
    folder: &Path,
    asked: &Asked,
    deed: Option<Deed>,
) -> io::Result<()> {
    let honest = fs::read(folder.join(&asked.path)).ok();
    let (body, tag) = match &deed {
        Some(Deed::Serves(bytes)) => (Some(bytes.clone()), tag(bytes)),
        Some(Deed::Poses(bytes)) => {
            (Some(bytes.clone()), honest.as_deref().map(tag).unwrap_or_default())
        }
        Some(Deed::ServesFrom(other)) => {
            let bytes = fs::read(other.join(&asked.path)).ok();
            let tag = bytes.as_deref().map(tag).unwrap_or_default();
            (bytes, tag)
        }
        _ => {
            let tag = honest.as_deref().map(tag).unwrap_or_default();
            (honest, tag)
        }
    };
    match deed {
        Some(Deed::Silent) => return stall(stream),
        Some(Deed::Status(code, after)) => {
            let after = after.map(|it| format!("Retry-After: {it}\r\n")).unwrap_or_default();
            return write!(
                stream,
                "HTTP/1.1 {code} No\r\n{after}Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        Some(Deed::RedirectsToItself) => return redirect(stream, &format!("/{}", asked.path)),
        Some(Deed::RedirectsTo(url)) => return redirect(stream, &url),
        Some(Deed::Endless) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            // Until the client has had enough.
            loop {
                stream.write_all(&[b' '; 64 * 1024])?;
            }
        }
        _ => {}
    }
    let Some(body) = body else {
        let no = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return stream.write_all(no.as_bytes());
    };
    let unchanged = asked.if_range.as_ref().is_none_or(|it| *it == tag);
    let first = asked.range.as_deref().and_then(|it| it.strip_prefix("bytes=")?.strip_suffix('-'));
    let first = first.and_then(|it| it.parse::<usize>().ok()).filter(|_| unchanged);
    let first = first.filter(|_| !matches!(deed, Some(Deed::IgnoresRange)));
    let part = match first {
        Some(at) if at >= body.len() => {
            return stream
                .write_all(b"HTTP/1.1 416 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        Some(at) => &body[at..],
        None => &body[..],
    };
    let length = match deed {
        Some(Deed::Claims(length)) => length,
        _ => part.len() as u64,
    };
    let status = match first {
        None => "200 OK\r\n".to_owned(),
        Some(at) => {
            let at = at + usize::from(matches!(deed, Some(Deed::WrongRange)));
            let last = body.len() - 1;
            format!("206 Partial Content\r\nContent-Range: bytes {at}-{last}/{}\r\n", body.len())
        }
    };
    write!(
        stream,
        "HTTP/1.1 {status}ETag: {tag}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    match deed {
        Some(Deed::CutAfter(count)) => {
            stream.write_all(&part[..count.min(part.len())])?;
            stream.flush()
        }
        Some(Deed::StallAfter(count)) => {
            stream.write_all(&part[..count.min(part.len())])?;
            stall(stream)
        }
        _ => {
            stream.write_all(part)?;
            stream.flush()
        }
    }
}

/// Until the client has had enough.
fn stall(stream: &mut dyn Line) -> io::Result<()> {
    stream.flush()?;
    stream.read(&mut [0]).map(|_| ())
}

fn redirect(stream: &mut dyn Line, to: &str) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

/// A strong validator: the same bytes and no others have it.
fn tag(bytes: &[u8]) -> String {
    let hash: String = Sha256::digest(bytes)[..8].iter().map(|it| format!("{it:02x}")).collect();
    format!("\"{hash}\"")
}

/// What a proxy does: a tunnel for CONNECT, otherwise the request to where it is meant for.
fn pass_on(
    client: TcpStream,
    stream: &mut dyn Line,
    request: &str,
    asked: &Asked,
    wanted: &str,
) -> io::Result<()> {
    if asked.authorization.as_deref() != Some(wanted) {
        let no =
            "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=\"p\"\r\nContent-Length: 0\r\n";
        return stream.write_all(format!("{no}Connection: close\r\n\r\n").as_bytes());
    }
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method == "CONNECT" {
        let server = TcpStream::connect(target)?;
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
        return tunnel(client, server);
    }
    let rest = target.strip_prefix("http://").unwrap_or(target);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut server = TcpStream::connect(host)?;
    let range = asked.range.as_ref().map(|it| format!("Range: {it}\r\n")).unwrap_or_default();
    write!(server, "{method} /{path} HTTP/1.1\r\nHost: {host}\r\n{range}\r\n")?;
    io::copy(&mut server, &mut *stream).map(|_| ())
}

fn tunnel(client: TcpStream, server: TcpStream) -> io::Result<()> {
    let (mut up, mut down) = ((client.try_clone()?, server.try_clone()?), (server, client));
    let there = std::thread::spawn(move || {
        let copied = io::copy(&mut up.0, &mut up.1);
        let _ = up.1.shutdown(Shutdown::Write);
        copied
    });
    let back = io::copy(&mut down.0, &mut down.1);
    let _ = down.1.shutdown(Shutdown::Write);
    let _ = there.join();
    back.map(|_| ())
}
