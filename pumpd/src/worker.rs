//! A worker: takes the sockets it was given, opens the database, serves, drains, ends.
//!
//! The order of the end is the rule of 2017: first the listener, then what is in flight, then the
//! database; the channel to the master goes with the process. `accept` takes connections, `connection`
//! serves one, `drain` is the signal that all of them hear.

mod accept;
mod channel;
mod connection;
mod drain;
mod hand_over;
mod head;
mod stream;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use pump_control::ExitStatus;
use pump_control::channel::{FromWorker, Start};
use pump_control::constants::ORPHAN_LIVES;
use pump_store::Store;
use rustix::fs::OFlags;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::admin::{self, Failed};
use crate::config::Config;
use crate::faults;
use crate::inherit::Inherited;
use crate::release_info::VERSION;
use accept::Listener;
use channel::{Channel, Heard};
use connection::Serving;
use drain::{Drain, Stage};

/// Threads for calls that block: as many as the site makes at a time, and one to close the database.
const BLOCKING_THREADS: usize = pump_http::BLOCKING_CALLS + 1;

/// How often a draining worker says what is still open, at most.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// How often an orphan looks whether there is a master again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// `pumpd worker`
pub(crate) fn run(channel: i32, mut inherited: Inherited) -> Result<ExitStatus, Failed> {
    let failed = |error: anyhow::Error| Failed::new(ExitStatus::Failed, error);
    faults::worker_starts();
    prepare_process().map_err(|error| failed(error.into()))?;
    let (channel, start) =
        Channel::take(channel, &mut inherited).map_err(|error| failed(error.into()))?;
    crate::log::begin();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|error| failed(error.into()))?;
    runtime.block_on(work(channel, start, inherited))
}

/// What has to be so before there is a second thread.
fn prepare_process() -> std::io::Result<()> {
    // The name is otherwise the number of the descriptor that was exec'ed.
    rustix::thread::set_name(c"pumpd-worker")?;
    // Ctrl-C at a terminal and `pkill -HUP` reach the whole group: they are meant for the master.
    let mut masters = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2] {
        masters.add(signal);
    }
    masters.thread_block()?;
    // Our log is a pipe to the master. If the master stops reading, lines are lost and nobody waits.
    let stderr = std::io::stderr();
    let flags = rustix::fs::fcntl_getfl(&stderr)?;
    rustix::fs::fcntl_setfl(&stderr, flags | OFlags::NONBLOCK)?;
    Ok(())
}

async fn work(
    mut channel: Channel,
    start: Start,
    mut inherited: Inherited,
) -> Result<ExitStatus, Failed> {
    let generation = start.generation;
    let (store, config, listeners, service) = match open(&start, &mut inherited).await {
        Ok(opened) => opened,
        Err(failed) => {
            let reason = format!("{:#}", failed.error);
            channel.say(&FromWorker::Refused { generation, reason }).await;
            return Err(failed);
        }
    };
    let terminate = signal(SignalKind::terminate());
    let mut terminate = terminate.map_err(|error| Failed::new(ExitStatus::Failed, error.into()))?;

    let permits = config.limits.connections_per_worker;
    let connections = Arc::new(Semaphore::new(permits));
    let drain = Drain::new();
    let serving = Serving::new(service, &config, drain.subscribe(config.roll.linger));
    for listener in listeners {
        tokio::spawn(listener.accept(serving.clone(), Arc::clone(&connections)));
    }
    channel.say(&FromWorker::Ready { generation }).await;
    faults::worker_is_ready();

    // From here on the worker serves until somebody wants it to leave.
    let hand_over_to = loop {
        tokio::select! {
            heard = channel.hear() => match heard {
                Heard::TakeOver(socket) => {
                    let connections = Arc::clone(&connections);
                    tokio::spawn(hand_over::take(socket, serving.clone(), connections));
                }
                Heard::Drain(to) => break to,
                Heard::MasterIsGone => {
                    let worker = start.worker;
                    warn!("worker {worker}: the master is gone, serving for another {ORPHAN_LIVES:?}");
                    // The one wait for a time: nobody may come who could tell us.
                    let control = config.control_socket();
                    tokio::select! {
                        () = tokio::time::sleep(ORPHAN_LIVES) => {}
                        () = next_master(&control) => {}
                        _ = terminate.recv() => {}
                    }
                    break None;
                }
            },
            _ = terminate.recv() => break None,
        }
    };
    faults::worker_leaves().await;
    let given = hand_over_to.map(|to| hand_over::give(to, serving.clone(), drain.clone()));
    if !matches!(given, Some(Ok(()))) {
        drain.begin(Stage::LameDuck);
    }
    let emptied = empty(&connections, permits, &mut channel, generation);
    // The master kills us then; an orphan has to do it itself.
    let in_time = tokio::time::timeout(config.roll.drain, emptied).await.is_ok();
    if !in_time {
        warn!("worker {}: connections are cut after {:?}", start.worker, config.roll.drain);
    }
    let closed = tokio::task::spawn_blocking(move || store.close()).await;
    match closed {
        Ok(Ok(())) => info!("worker {}: ended", start.worker),
        Ok(Err(error)) => warn!("worker {}: {error}", start.worker),
        Err(error) => warn!("worker {}: closing the database failed: {error}", start.worker),
    }
    Ok(ExitStatus::Done)
}

/// Waits until a master listens where ours did. It cannot bind the addresses that we hold.
async fn next_master(control: &Path) {
    loop {
        // First of all: the kernel may close our channel a moment before the dead master's socket.
        tokio::time::sleep(LOOK_EVERY).await;
        if UnixStream::connect(control).await.is_ok() {
            return;
        }
    }
}

type Opened = (Store, Config, Vec<Listener>, pump_http::Service);

/// Everything that can refuse.
async fn open(start: &Start, inherited: &mut Inherited) -> Result<Opened, Failed> {
    let config = Config::parse(&start.config, &start.config_path)
        .map_err(|error| Failed::new(ExitStatus::Configuration, error.into()))?;
    let listeners = start
        .listeners
        .iter()
        .map(|listener| Listener::take(listener, inherited))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failed::new(ExitStatus::Preflight, error.into()))?;
    let store = Store::open(&config.data_dir)
        .and_then(|store| store.check_public_url(&config.public_url()).map(|()| store))
        .map_err(|error| admin::store(error, &config))?;
    let build = start.build.get(..8).unwrap_or(&start.build);
    let header = format!("{} {build} {}", start.generation, std::process::id());
    let site = pump_http::Site {
        public_url: config.public_url(),
        domain: config.domain.clone(),
        name: config.site_name.clone(),
        open_registration: config.open_registration,
        body_bytes: config.limits.body_bytes,
        trusted_proxies: config.trusted_proxies.clone(),
        generation_header: config.generation_header.then_some(header),
        version: VERSION.to_owned(),
    };
    let service = pump_http::service(site, store.clone());
    // Ready is said when a request would be answered, so one is.
    pump_http::probe(&service).await.map_err(|why| {
        Failed::new(ExitStatus::Preflight, anyhow::anyhow!("a first request fails: {why}"))
    })?;
    Ok((store, config, listeners, service))
}

/// Waits until no connection is left, and tells the master how many there still are.
async fn empty(connections: &Semaphore, permits: usize, channel: &mut Channel, generation: u64) {
    let mut told = None;
    loop {
        let open = permits - connections.available_permits();
        if told != Some(open) {
            told = Some(open);
            let connections = open as u64;
            let classes = pump_control::channel::Classes::default();
            let said = FromWorker::Draining { generation, connections, classes, uploaded: 0 };
            channel.say(&said).await;
        }
        let all = connections.acquire_many(permits as u32);
        // Looked at again now and then, for the sake of the report only.
        if let Ok(Ok(_all)) = tokio::time::timeout(REPORT_EVERY, all).await {
            return;
        }
    }
}
