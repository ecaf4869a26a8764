//! HTTP/2 with prior knowledge (RFC 9113, section 3.3): rounds of up to eight streams on one connection.
//!
//! A server that wants the connection to end says GOAWAY, and then takes what was sent before that was
//! heard (section 6.8). So a client that opens no stream after it loses nothing, and every stream that has
//! no answer is a failure.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::clients::{Ask, Begun, Client};
use crate::load::{Failure, Method};
use crate::wire::{Address, Answer};

/// Streams of one round at most.
const STREAMS: u64 = 8;

/// Longest pause between two rounds.
const PAUSE: Duration = Duration::from_millis(80);

/// Whether a server speaks HTTP/2 with prior knowledge. Blocks.
///
/// # Errors
/// When it cannot be asked.
pub fn is_spoken(address: &Address) -> std::io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let Some(mut sender) = connect(address).await else { return Ok(false) };
        let request = Request::get("http://social.example/healthz").body(()).expect("is valid");
        let Ok((response, _)) = sender.send_request(request, true) else { return Ok(false) };
        Ok(timeout(Duration::from_secs(5), response).await.is_ok_and(|answer| answer.is_ok()))
    })
}

async fn connect(address: &Address) -> Option<SendRequest<Bytes>> {
    let Address::Tcp(address) = address else { return None };
    let stream = TcpStream::connect(address).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let (sender, connection) = h2::client::handshake(stream).await.ok()?;
    // How it ends is seen by its streams.
    tokio::spawn(connection);
    sender.ready().await.ok()
}

impl Client {
    pub(super) async fn speak_http2(&mut self) {
        let address = self.plan.address.clone();
        let mut open: Option<SendRequest<Bytes>> = None;
        for turn in 0_u64.. {
            let pause = self.random.between(Duration::ZERO, PAUSE);
            if self.stopped_within(pause).await {
                return;
            }
            // One that has heard GOAWAY is not ready, and nothing was sent on it.
            let ready = match open.take() {
                Some(sender) => sender.ready().await.ok(),
                None => None,
            };
            let sender = match ready {
                Some(sender) => Some(sender),
                None => {
                    if turn > 0 {
                        self.closed();
                    }
                    timeout(self.plan.answer_within, connect(&address)).await.ok().flatten()
                }
            };
            match sender {
                Some(sender) => open = self.round(sender, turn).await,
                None => self.failed(Failure::Refused),
            }
        }
    }

    async fn round(
        &mut self,
        mut sender: SendRequest<Bytes>,
        turn: u64,
    ) -> Option<SendRequest<Bytes>> {
        let count = 1 + self.random.next() % STREAMS;
        let begun = self.begin();
        let mut asked = Vec::new();
        for number in 0..count {
            let post = (turn + number) % 16 == 5;
            let ask = if post { self.post(0) } else { self.get(turn + number, false) };
            // It may have heard GOAWAY since: what was not sent has not failed.
            let Some(response) = send(&mut sender, &ask).await else { break };
            asked.push((ask, response));
        }
        for (ask, response) in asked {
            match timeout(self.plan.answer_within, read(response)).await {
                Ok(Ok(answer)) => drop(self.count(&ask, Ok(answer), begun.again())),
                Ok(Err(error)) if was_not_done(&error) => {
                    self.sent_again();
                    self.once_more(&ask, begun.again()).await;
                }
                Ok(Err(error)) => {
                    self.failed_because(Failure::Stream(ask.method), &error.to_string());
                }
                Err(_) => self.failed(Failure::Timeout),
            }
        }
        Some(sender)
    }

    /// Sends a request that was not done on a connection of its own. This time it has to be.
    async fn once_more(&mut self, ask: &Ask, begun: Begun) {
        let asked = async {
            let mut sender = connect(&self.plan.address.clone()).await?;
            let response = send(&mut sender, ask).await?;
            Some(read(response).await)
        };
        match timeout(self.plan.answer_within, asked).await {
            Ok(Some(Ok(answer))) => drop(self.count(ask, Ok(answer), begun)),
            Ok(Some(Err(error))) => {
                self.failed_because(Failure::Stream(ask.method), &error.to_string());
            }
            Ok(None) => self.failed(Failure::Refused),
            Err(_) => self.failed(Failure::Timeout),
        }
    }
}

/// The server's last GOAWAY excludes this stream: it was not done and may be sent again, whatever its
/// method (RFC 9113, section 6.8). A client may open streams and hear of the end in the same moment.
fn was_not_done(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
}

/// The same request as streams carry it. None when it was not sent.
async fn send(sender: &mut SendRequest<Bytes>, ask: &Ask) -> Option<ResponseFuture> {
    *sender = sender.clone().ready().await.ok()?;
    let end = ask.bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&ask.bytes[..end]).ok()?;
    let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
    let path = lines.next()?.split(' ').nth(1)?;
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let host = headers.iter().find(|(name, _)| *name == "Host").map(|(_, value)| *value)?;
    let method = if ask.method == Method::Get { "GET" } else { "POST" };
    let mut request = Request::builder().method(method).uri(format!("http://{host}{path}"));
    for (name, value) in headers.into_iter().filter(|(name, _)| *name != "Host") {
        request = request.header(name, value);
    }
    let body = Bytes::copy_from_slice(&ask.bytes[end..]);
    let (response, mut stream) =
        sender.send_request(request.body(()).ok()?, body.is_empty()).ok()?;
    if !body.is_empty() {
        // A stream that has ended meanwhile says so in its answer.
        let _ = stream.send_data(body, true);
    }
    Some(response)
}

async fn read(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    let first_byte = std::time::Instant::now();
    let mut body = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part?;
        stream.flow_control().release_capacity(part.len())?;
        body.extend_from_slice(&part);
    }
    let status = head.status.as_u16();
    Ok(Answer { status, headers: texts(&head.headers), body, close: false, first_byte })
}

fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}
