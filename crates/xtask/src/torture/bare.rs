//! What our accept loop, our connections and our routes cost: a worker beside two servers that are
//! nothing but hyper. One has the same site behind it, so the difference is the loop's; the other gives
//! the same bytes and thinks of nothing, so the difference is all of it.
//!
//! Each is one process with one thread that serves, each is asked in turn by the same clients, and both
//! what came through and what it cost the server's processor are told: on a machine with two cores
//! the first is about the clients as well.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pump_test::census::{growth, on_processor};
use pump_test::wire::{Address, Connection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Builds, cluster, say};

/// Connections that ask.
const CONNECTIONS: usize = 32;

/// How long each server is asked at a time.
const TURN: Duration = Duration::from_secs(2);

/// How often each has its turn.
const TURNS: usize = 3;

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: social.example\r\n\r\n";
const LAST_REQUEST: &[u8] =
    b"GET /healthz HTTP/1.1\r\nHost: social.example\r\nConnection: close\r\n\r\n";

/// Flags of the server.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server whose `/healthz` it repeats.
    like: SocketAddr,
    /// Put the whole site behind it instead.
    #[arg(long)]
    site: bool,
}

/// Requests a second, and microseconds of the server's processor for each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    pub(super) per_second: f64,
    pub(super) micros: f64,
}

/// The worker, hyper with the same site, and hyper with the same bytes, in the two ways to ask.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Compared {
    /// On connections that are kept.
    pub(super) kept: [Rate; 3],
    /// On a new connection each.
    pub(super) anew: [Rate; 3],
}

/// Serves until it is killed, and writes its address first.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match args.site {
        true => runtime.block_on(serve_site())?,
        false => runtime.block_on(serve(args.like))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The site as a worker has it, with a database of its own and nothing in it.
#[expect(clippy::print_stdout, reason = "whoever started it reads its address")]
async fn serve_site() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    pump_store::migrate(folder.path())?;
    let site = pump_http::Site {
        public_url: "https://social.example".to_owned(),
        domain: "social.example".parse()?,
        name: "social.example".to_owned(),
        open_registration: false,
        body_bytes: 1 << 20,
        trusted_proxies: Vec::new(),
        generation_header: Some("1 00000000 1000".to_owned()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let service = pump_http::service(site, pump_store::Store::open(folder.path())?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |mut request: http::Request<_>| {
                request.extensions_mut().insert(pump_http::Peer::Tcp(peer));
                tower::Service::call(&mut service.clone(), request)
            });
            // Somebody who goes away in the middle is nothing to tell.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

#[expect(clippy::print_stdout, reason = "whoever started it reads its address")]
async fn serve(like: SocketAddr) -> anyhow::Result<()> {
    let mut connection = Connection::open(&Address::Tcp(like), None).await.map_err(unanswered)?;
    connection.send(REQUEST).await.map_err(unanswered)?;
    let answer = connection.answer().await.map_err(unanswered)?;
    let mut head = Response::builder().status(StatusCode::from_u16(answer.status)?);
    for (name, value) in &answer.headers {
        // Hyper makes these two itself, as it does for the worker.
        if !["date", "content-length"].contains(&name.to_ascii_lowercase().as_str()) {
            head = head.header(name, value);
        }
    }
    let like = head.body(Full::new(Bytes::from(answer.body)))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let like = like.clone();
        tokio::spawn(async move {
            let answer = service_fn(|_| {
                let like = like.clone();
                async move { Ok::<_, Infallible>(like) }
            });
            // Somebody who goes away in the middle is nothing to tell.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

fn unanswered(fate: pump_test::wire::Fate) -> anyhow::Error {
    anyhow::anyhow!("the server to repeat does not answer: {fate:?}")
}

/// The bare server's process.
struct Bare(Child);

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

pub(super) fn compare(builds: &Builds) -> anyhow::Result<Compared> {
    say("throughput", "one worker beside bare hyper servers");
    let cluster = cluster(builds, 1)?;
    let Address::Tcp(ours) = cluster.address() else { anyhow::bail!("no TCP address") };
    let worker = cluster.workers().first().context("no worker runs")?.pid;
    let (site, same_site) = start(ours, &["--site"])?;
    let (bare, same_bytes) = start(ours, &[])?;
    let servers = [(ours, worker), (same_site, site.0.id()), (same_bytes, bare.0.id())];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut compared = Compared::default();
    for anew in [false, true] {
        let mut rates = [Rate::default(); 3];
        for _ in 0..TURNS {
            for (rate, (address, pid)) in rates.iter_mut().zip(servers) {
                let turn = runtime.block_on(turn(address, pid, anew))?;
                rate.per_second += turn.per_second / TURNS as f64;
                rate.micros += turn.micros / TURNS as f64;
            }
        }
        *(if anew { &mut compared.anew } else { &mut compared.kept }) = rates;
    }
    Ok(compared)
}

/// Starts a bare server and waits for its address.
fn start(like: SocketAddr, words: &[&str]) -> anyhow::Result<(Bare, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare").arg(like.to_string()).args(words).stdout(Stdio::piped());
    let mut bare = Bare(command.spawn()?);
    let mut line = String::new();
    BufReader::new(bare.0.stdout.take().context("a piped output")?).read_line(&mut line)?;
    let address = line.trim().parse().context("the bare server tells no address")?;
    Ok((bare, address))
}

async fn turn(address: SocketAddr, pid: u32, anew: bool) -> anyhow::Result<Rate> {
    let length = length_of_answer(address, anew).await?;
    let (begun, before) = (Instant::now(), on_processor(pid)?);
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        clients.spawn(ask(address, anew, length, begun + TURN));
    }
    let mut requests = 0;
    while let Some(asked) = clients.join_next().await {
        requests += asked??;
    }
    let spent = growth(&before, &on_processor(pid)?);
    Ok(Rate {
        per_second: requests as f64 / begun.elapsed().as_secs_f64(),
        micros: spent as f64 / 1000.0 / requests as f64,
    })
}

async fn ask(
    address: SocketAddr,
    anew: bool,
    length: usize,
    until: Instant,
) -> anyhow::Result<u64> {
    let mut buffer = [0; 4096];
    let mut requests = 0;
    let mut open = None;
    while Instant::now() < until {
        let mut stream = match open.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(if anew { LAST_REQUEST } else { REQUEST }).await?;
        stream.read_exact(&mut buffer[..length]).await.context("the answer has another length")?;
        requests += 1;
        open = (!anew).then_some(stream);
    }
    Ok(requests)
}

async fn length_of_answer(address: SocketAddr, anew: bool) -> anyhow::Result<usize> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(if anew { LAST_REQUEST } else { REQUEST }).await?;
    let mut buffer = [0; 4096];
    let mut length = 0;
    loop {
        let read = stream.read(&mut buffer[length..]).await?;
        ensure!(read > 0, "no whole answer");
        length += read;
        let text = String::from_utf8_lossy(&buffer[..length]).to_ascii_lowercase();
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        let size = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let whole = head.len() + 4 + size.context("no length")?.parse::<usize>()?;
        ensure!(whole <= buffer.len(), "a small answer was expected");
        if length >= whole {
            return Ok(whole);
        }
    }
}
