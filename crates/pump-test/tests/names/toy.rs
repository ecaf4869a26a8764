//! A server that does one thing wrong.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use pump_test::wire::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Notes on one page of the outbox.
const PAGE: usize = 10;

/// What it does wrong, at every fifth chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misdeed {
    None,
    /// No misdeed: says `Connection: close` in each answer and closes.
    SaysClose,
    ResetBeforeAnswer,
    EofBeforeAnswer,
    CutHead,
    CutBody,
    CutChunks,
    Stall,
    Says503,
    NoHttp,
    ClosesIdle,
    ResetsIdle,
    CutsUpload,
    RefusesUpload,
    LosesPost,
    DoublesPost,
    AltersPost,
    StoresAndGoes,
}

#[derive(Debug)]
struct State {
    misdeed: Misdeed,
    chances: AtomicUsize,
    misdeeds: AtomicUsize,
    connections: AtomicUsize,
    notes: Mutex<Vec<(String, String)>>,
}

#[derive(Debug)]
pub(crate) struct Toy {
    state: Arc<State>,
    address: SocketAddr,
    listening: watch::Sender<bool>,
    _running: watch::Sender<()>,
}

impl Toy {
    pub(crate) fn start(misdeed: Misdeed) -> Self {
        let state = Arc::new(State {
            misdeed,
            chances: AtomicUsize::new(0),
            misdeeds: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            notes: Mutex::default(),
        });
        let (listening, listens) = watch::channel(true);
        let (running, mut runs) = watch::channel(());
        let (told, address) = mpsc::channel();
        let server = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                told.send(listener.local_addr().expect("bound")).expect("the test waits");
                tokio::select! {
                    () = listen(server, listener, listens) => {}
                    _ = runs.changed() => {}
                }
            });
        });
        let address = address.recv().expect("the toy starts");
        Self { state, address, listening, _running: running }
    }

    pub(crate) fn address(&self) -> Address {
        Address::Tcp(self.address)
    }

    pub(crate) fn misdeeds(&self) -> usize {
        self.state.misdeeds.load(SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(SeqCst)
    }

    /// Closes the listening socket; what is connected goes on, and is told to close.
    pub(crate) fn stop_listening(&self) {
        self.listening.send_replace(false);
    }
}

async fn listen(state: Arc<State>, listener: TcpListener, mut listens: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.expect("accepting goes on");
                state.connections.fetch_add(1, SeqCst);
                connections.spawn(serve(Arc::clone(&state), stream, listens.clone()));
            }
            _ = listens.changed() => break,
        }
    }
    // Whoever is in the queue is served still: a toy that refuses does not reset.
    while let Ok(Ok((stream, _))) =
        tokio::time::timeout(Duration::from_millis(1), listener.accept()).await
    {
        connections.spawn(serve(Arc::clone(&state), stream, listens.clone()));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    std::future::pending().await
}

/// A request's first line and its body.
struct Asked {
    line: String,
    body: Vec<u8>,
    close: bool,
}

impl State {
    /// Whether this is the time for the misdeed, at every fifth chance.
    fn now_is_the_time(&self, misdeeds: &[Misdeed]) -> bool {
        let now = misdeeds.contains(&self.misdeed) && self.chances.fetch_add(1, SeqCst) % 5 == 4;
        if now {
            self.misdeeds.fetch_add(1, SeqCst);
        }
        now
    }

    fn post(&self, body: &[u8]) -> String {
        let sent: serde_json::Value = serde_json::from_slice(body).expect("the client sends JSON");
        let content = sent["object"]["content"].as_str().expect("a note has a text");
        let mut notes = self.notes.lock().expect("no panic while it was held");
        let id = format!("http://toy.example/activities/{}", notes.len());
        if self.now_is_the_time(&[Misdeed::LosesPost]) {
            // A hole in the list keeps the ids apart.
            notes.push((format!("{id}-hole"), String::new()));
            return id;
        }
        let altered = self.now_is_the_time(&[Misdeed::AltersPost]);
        let text = if altered { "something else" } else { content };
        notes.push((id.clone(), text.to_owned()));
        if self.now_is_the_time(&[Misdeed::DoublesPost]) {
            notes.push((format!("{id}-again"), content.to_owned()));
        }
        id
    }

    fn outbox(&self, page: Option<usize>) -> String {
        let notes = self.notes.lock().expect("no panic while it was held");
        let outbox = "http://toy.example/users/alice/outbox";
        let Some(page) = page else {
            return format!(r#"{{"type":"OrderedCollection","first":"{outbox}?page=0"}}"#);
        };
        let items = notes.iter().rev().skip(page * PAGE).take(PAGE);
        let items: Vec<String> = items
            .map(|(id, text)| {
                format!(r#"{{"id":"{id}","type":"Create","object":{{"content":"{text}"}}}}"#)
            })
            .collect();
        let more = notes.len() > (page + 1) * PAGE;
        let next =
            if more { format!(r#","next":"{outbox}?page={}""#, page + 1) } else { String::new() };
        format!(r#"{{"orderedItems":[{}]{next}}}"#, items.join(","))
    }

    fn answer(&self, asked: &Asked) -> (u16, String, String) {
        let (_, page) = asked.line.split_once("?page=").unzip();
        let page = page.and_then(|rest| rest.split(' ').next()?.parse().ok());
        if asked.line.starts_with("POST /users/alice/outbox ") {
            let id = self.post(&asked.body);
            (201, format!("Location: {id}\r\n"), "{}".to_owned())
        } else if asked.line.starts_with("GET /users/alice/outbox") {
            (200, String::new(), self.outbox(page))
        } else if asked.line.starts_with("GET /big ") {
            (200, String::new(), "big ".repeat(20_000))
        } else {
            (200, String::new(), "<p>a page</p>".to_owned())
        }
    }
}

async fn serve(state: Arc<State>, mut stream: TcpStream, listens: watch::Receiver<bool>) {
    let mut buffer = Vec::new();
    loop {
        let Some(asked) = read_request(&state, &mut stream, &mut buffer).await else { return };
        // The walk through the outbox afterwards is not part of the load.
        let ledger = asked.line.starts_with("GET /users");
        let time_for = |misdeed| !ledger && state.now_is_the_time(&[misdeed]);
        if time_for(Misdeed::ResetBeforeAnswer) {
            let _ = stream.set_zero_linger();
            return;
        }
        if time_for(Misdeed::EofBeforeAnswer) {
            return;
        }
        if time_for(Misdeed::Stall) {
            let _ = stream.read(&mut [0; 16]).await;
            return;
        }
        if time_for(Misdeed::NoHttp) {
            let _ = stream.write_all(b"SSH-2.0-toy\r\n").await;
            return;
        }
        if time_for(Misdeed::Says503) {
            let _ = stream.write_all(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").await;
            continue;
        }
        let (status, headers, body) = state.answer(&asked);
        if asked.line.starts_with("POST") && time_for(Misdeed::StoresAndGoes) {
            return;
        }
        let close = asked.close || state.misdeed == Misdeed::SaysClose || !*listens.borrow();
        let connection = if close { "Connection: close\r\n" } else { "" };
        let chunked = state.misdeed == Misdeed::CutChunks;
        let framing = match chunked {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {}", body.len()),
        };
        let head = format!(
            "HTTP/1.1 {status} Fine\r\nPump-Generation: 1 0badcafe 42\r\n{headers}{connection}{framing}\r\n\r\n"
        );
        let mut bytes = head.clone().into_bytes();
        match chunked {
            true => bytes.extend(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).bytes()),
            false => bytes.extend(body.bytes()),
        }
        let cut = if time_for(Misdeed::CutHead) {
            Some(20)
        } else if time_for(Misdeed::CutBody) {
            Some(bytes.len() - 1)
        } else if time_for(Misdeed::CutChunks) {
            Some(bytes.len() - 2)
        } else {
            None
        };
        let whole = stream.write_all(&bytes[..cut.unwrap_or(bytes.len())]).await.is_ok();
        if !whole || cut.is_some() || close {
            return;
        }
        if matches!(state.misdeed, Misdeed::ClosesIdle | Misdeed::ResetsIdle) && buffer.is_empty() {
            let idle = tokio::time::timeout(Duration::from_millis(4), stream.readable()).await;
            if idle.is_err() && state.now_is_the_time(&[Misdeed::ClosesIdle, Misdeed::ResetsIdle]) {
                if state.misdeed == Misdeed::ResetsIdle {
                    let _ = stream.set_zero_linger();
                }
                return;
            }
        }
    }
}

async fn read_request(
    state: &State,
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> Option<Asked> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            let line = String::from_utf8_lossy(&buffer[..end]).lines().next()?.to_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(Ok(0), str::parse).ok()?;
            let whole = end + 4 + length;
            if length > 10_000 && buffer.len() > end + 4 && buffer.len() < whole {
                if state.now_is_the_time(&[Misdeed::CutsUpload]) {
                    let _ = stream.set_zero_linger();
                    return None;
                }
                if state.now_is_the_time(&[Misdeed::RefusesUpload]) {
                    let no =
                        b"HTTP/1.1 413 Too much\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                    let _ = stream.write_all(no).await;
                    let _ = stream.shutdown().await;
                    // Reads on for a while, as a server must whose answer is to arrive.
                    while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
                    return None;
                }
            }
            if buffer.len() >= whole {
                let close = head.contains("connection: close");
                let body = buffer[end + 4..whole].to_vec();
                buffer.drain(..whole);
                return Some(Asked { line, body, close });
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
