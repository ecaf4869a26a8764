//! A worker: takes the sockets it was given, opens the database, serves, drains, ends.
//!
//! The order of the end is the rule of 2017: first the listener, then what is in flight, then the
//! database; the channel to the master goes with the process. `life` is the loop that hears the master,
//! `accept` takes connections, `connection` serves one, `drain` is the signal that all of them hear.

mod accept;
mod activity;
mod body;
mod channel;
mod connection;
mod drain;
mod event_stream;
mod figures;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod hand_over;
mod handler;
mod head;
mod http1;
mod http2;
mod leaving;
mod life;
mod master;
mod stream;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use pump_control::ExitStatus;
use pump_control::channel::{FromWorker, Start};
use pump_store::Store;
use rustix::fs::OFlags;
use rustix::process::{Resource, getrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::admin::{self, Failed};
use crate::config::Config;
use crate::confine;
use crate::exhausted;
use crate::faults;
use crate::inherit::Inherited;
use crate::release_info::VERSION;
use accept::Listener;
use channel::Channel;
use connection::Serving;
use drain::Drain;
use life::Life;
use master::Master;

/// Threads for calls that block: as many as the site makes at a time, and one to close the database.
const BLOCKING_THREADS: usize = pump_http::BLOCKING_CALLS + 1;

/// How long a thread stays that has nothing to do: for good. Where no more may be started, those that there
/// are go on answering, one call after the other.
const THREADS_STAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// Descriptors that no connection may take, beside those that are open when the worker begins: for the
/// database's connections, for what is handed over, for what the system's libraries open.
const RESERVED_DESCRIPTORS: usize = 64;

/// How long the master has to read why a worker cannot serve.
const SAID_WITHIN: Duration = Duration::from_secs(5);

/// `pumpd worker`
pub(crate) fn run(channel: i32, mut inherited: Inherited) -> Result<ExitStatus, Failed> {
    let failed = |error: anyhow::Error| Failed::new(ExitStatus::Failed, error);
    faults::worker_starts();
    prepare_process().map_err(|error| failed(error.into()))?;
    let (channel, start) =
        Channel::take(channel, &mut inherited).map_err(|error| failed(error.into()))?;
    crate::log::begin();
    figures::count_panics();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(THREADS_STAY)
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
    let (store, mut config, listeners, service) = match open(&start, &mut inherited).await {
        Ok(opened) => opened,
        Err(failed) => {
            let reason = format!("{:#}", failed.error);
            let exhausted = exhausted::is_why(&failed.error);
            channel.say(&FromWorker::Refused { generation, reason, exhausted });
            // A master that does not read it sees our end instead.
            let _ = tokio::time::timeout(SAID_WITHIN, channel.written()).await;
            return Err(failed);
        }
    };
    let terminate = signal(SignalKind::terminate());
    let terminate = terminate.map_err(|error| Failed::new(ExitStatus::Failed, error.into()))?;
    let pidfd = start.master.and_then(|number| {
        let refused = |error| warn!("could not take the master's pidfd, doing without: {error}");
        inherited.take(number).map_err(refused).ok()
    });
    let master = Master::new(pidfd, config.control_socket());

    let wanted = config.limits.connections_per_worker;
    let places = room().map_or(wanted, |room| room.min(wanted));
    if places < wanted {
        let worker = start.worker;
        warn!(
            "worker {worker}: {places} connections have a place at a time, and not {wanted}: there are no \
             more descriptors (`LimitNOFILE=`)"
        );
        config.limits.connections_per_worker = places;
    }
    let connections = Arc::new(Semaphore::new(places));
    let drain = Drain::new();
    let serving = Serving::new(service, &config, drain.subscribe(config.roll.linger));
    for listener in listeners {
        tokio::spawn(listener.accept(serving.clone(), Arc::clone(&connections)));
    }
    let names = (generation, start.worker);
    let site = (serving, drain);
    Life::new(channel, master, terminate, names, site, connections, &config).live().await;

    let closed = tokio::task::spawn_blocking(move || store.close()).await;
    match closed {
        Ok(Ok(())) => info!("worker {}: ended", start.worker),
        Ok(Err(error)) => warn!("worker {}: {error}", start.worker),
        Err(error) => warn!("worker {}: closing the database failed: {error}", start.worker),
    }
    Ok(ExitStatus::Done)
}

type Opened = (Store, Config, Vec<Listener>, pump_http::Service);

/// Everything that can refuse.
async fn open(start: &Start, inherited: &mut Inherited) -> Result<Opened, Failed> {
    let config = Config::parse(&start.config, &start.config_path)
        .map_err(|error| Failed::new(ExitStatus::Configuration, error.into()))?;
    // Before anything of a stranger is read, and before there is a second thread.
    figures::is_confined(confine::worker(&config));
    let listeners = start
        .listeners
        .iter()
        .map(|listener| Listener::take(listener, inherited))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failed::new(ExitStatus::Preflight, error.into()))?;
    has_room().map_err(|error| Failed::new(ExitStatus::Preflight, error))?;
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
    // Asked of the database itself first: it knows what is the matter, where a request is told to wait.
    let asked = store.clone();
    let can_write = tokio::task::spawn_blocking(move || asked.can_write()).await;
    let can_write = can_write.map_err(|error| Failed::new(ExitStatus::Failed, error.into()))?;
    let full = match can_write {
        Err(error @ pump_store::Error::Full { .. }) if start.even_if_full => {
            warn!("worker {}: {error}: it serves what can be read", start.worker);
            true
        }
        other => other.map(|()| false).map_err(|error| admin::store(error, &config))?,
    };
    let service = pump_http::service(site, store.clone());
    // Ready is said when a request would be answered, so one is.
    if !full {
        pump_http::probe(&service).await.map_err(|why| {
            Failed::new(ExitStatus::Preflight, anyhow::anyhow!("a first request fails: {why}"))
        })?;
    }
    Ok((store, config, listeners, service))
}

/// Whether there is room for a worker's threads, one at the least, and for one connection.
fn has_room() -> Result<(), anyhow::Error> {
    let thread = std::thread::Builder::new().spawn(|| ());
    let ended = thread.map_err(|error| {
        // pthread_create(3) says the same for both.
        let what = match exhausted::what(&error) {
            Some(_) => {
                "there are no more threads (`TasksMax=`, `LimitNPROC=`), or no memory for one"
            }
            None => "a thread could not be started",
        };
        anyhow::Error::new(error).context(what)
    })?;
    // It has nothing to do that could panic.
    let _ = ended.join();
    match room() {
        Some(0) => {
            let error = std::io::Error::from(rustix::io::Errno::MFILE);
            let what = exhausted::what(&error).unwrap_or_default();
            let needs = format!(
                "{what}: a worker needs {RESERVED_DESCRIPTORS} and one for each connection"
            );
            Err(anyhow::Error::new(error).context(needs))
        }
        _ => Ok(()),
    }
}

/// How many connections there are descriptors for. None where there is no limit, or none that can be seen.
fn room() -> Option<usize> {
    let limit = getrlimit(Resource::Nofile).current?;
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Some(limit.saturating_sub(open).saturating_sub(RESERVED_DESCRIPTORS))
}
