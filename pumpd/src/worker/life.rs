//! A worker's life: what it hears from the master, what it tells it, when it leaves and when it gives up.
//!
//! One loop: wait for the next thing that happens, do what follows from it. Nothing in it waits for the
//! master to read, so a master that hangs or is dead holds up nobody.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use pump_control::channel::FromWorker;
use pump_control::constants::ORPHAN_LIVES;
use tokio::signal::unix::Signal;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

use super::channel::{Channel, Heard};
use super::connection::Serving;
use super::drain::Drain;
use super::hand_over;
use super::leaving::{Leaving, REPORT_EVERY, Report};
use super::master::{Master, News};
use crate::config::{self, Config};
use crate::faults;

/// How often it says that something was published, at most.
const PUBLISHED_EVERY: Duration = Duration::from_millis(5);

/// How long a probe may take.
const PROBE_WITHIN: Duration = Duration::from_secs(5);

/// A worker that serves.
pub(super) struct Life {
    channel: Channel,
    master: Master,
    terminate: Signal,
    generation: u64,
    worker: u64,
    serving: Serving,
    drain: Drain,
    connections: Arc<Semaphore>,
    permits: usize,
    roll: config::Roll,
    nudges: pump_http::Nudges,
    /// Until then nothing is said of what was published.
    quiet_until: Instant,
    probe: Option<JoinHandle<FromWorker>>,
    leaving: Option<Leaving>,
}

/// What happens to a worker.
enum Event {
    Heard(Heard),
    Master(News),
    Terminate,
    Probed(FromWorker),
    /// Something was published here.
    Published,
    /// A draining worker looks around.
    Look,
    /// No connection is left.
    Empty,
}

impl Life {
    pub(super) fn new(
        channel: Channel,
        master: Master,
        terminate: Signal,
        (generation, worker): (u64, u64),
        (serving, drain): (Serving, Drain),
        connections: Arc<Semaphore>,
        config: &Config,
    ) -> Self {
        Self {
            channel,
            master,
            terminate,
            generation,
            worker,
            nudges: serving.service.nudges(),
            quiet_until: Instant::now(),
            serving,
            drain,
            connections,
            permits: config.limits.connections_per_worker,
            roll: config.roll,
            probe: None,
            leaving: None,
        }
    }

    /// Lives until no connection is left after the worker was told to leave, or until those that are left
    /// have had their time.
    pub(super) async fn live(&mut self) {
        self.channel.say(&FromWorker::Ready { generation: self.generation });
        faults::worker_is_ready(self.worker);
        loop {
            match self.next().await {
                Event::Heard(heard) => self.heard(heard).await,
                Event::Master(News::Died) => self.warn_of_orphan(),
                Event::Master(News::LeaveNow) | Event::Terminate => self.leave(None).await,
                Event::Probed(probed) => self.channel.say(&probed),
                Event::Published => {
                    self.quiet_until = Instant::now() + PUBLISHED_EVERY;
                    self.channel.say(&FromWorker::Published { generation: self.generation });
                }
                Event::Look if self.is_out_of_time() => {
                    let worker = self.worker;
                    warn!("worker {worker}: connections are cut that made no progress in time");
                    return;
                }
                Event::Look => self.report(),
                Event::Empty => {
                    self.report();
                    // A master that does not read it sees our end instead.
                    let _ = tokio::time::timeout(REPORT_EVERY, self.channel.written()).await;
                    return;
                }
            }
        }
    }

    async fn next(&mut self) -> Event {
        let leaves = self.leaving.is_some();
        let look = async {
            match &mut self.leaving {
                Some(leaving) => leaving.look().await,
                None => std::future::pending().await,
            }
        };
        let probed = async {
            match &mut self.probe {
                Some(probe) => probe.await,
                None => std::future::pending().await,
            }
        };
        let (nudges, quiet_until) = (&self.nudges, self.quiet_until);
        let published = async {
            tokio::time::sleep_until(quiet_until).await;
            nudges.published().await;
        };
        let all = self.connections.acquire_many(self.permits as u32);
        let may_be_heard = self.master.may_be_heard();
        tokio::select! {
            _ = all, if leaves => Event::Empty,
            heard = self.channel.hear(), if may_be_heard => Event::Heard(heard),
            news = self.master.news(), if !leaves => Event::Master(news),
            _ = self.terminate.recv() => Event::Terminate,
            probed = probed => {
                self.probe = None;
                let generation = self.generation;
                Event::Probed(probed.unwrap_or_else(|error| {
                    FromWorker::Probed { generation, failure: Some(error.to_string()), micros: 0 }
                }))
            }
            () = published => Event::Published,
            _ = look => Event::Look,
        }
    }

    async fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Drain(to) => self.leave(to).await,
            // Who leaves takes nothing; the other worker sees the closed socket and serves on.
            Heard::TakeOver(_) if self.leaving.is_some() => {}
            Heard::TakeOver(from) => {
                let connections = Arc::clone(&self.connections);
                drop(tokio::spawn(hand_over::take(from, self.serving.clone(), connections)));
            }
            Heard::Adopted(pidfd) => {
                self.master.adopts(pidfd);
                match &mut self.leaving {
                    None => self.channel.say(&FromWorker::Ready { generation: self.generation }),
                    Some(leaving) => {
                        leaving.tell_anew();
                        self.report();
                    }
                }
            }
            Heard::Figures => {
                let (generation, figures) = (self.generation, self.serving.counters.asked());
                self.channel.say(&FromWorker::Figures { generation, figures });
            }
            // One at a time: whoever asks while one is under way hears how it went.
            Heard::Probe => {
                let (service, generation) = (self.serving.service.clone(), self.generation);
                self.probe.get_or_insert_with(|| tokio::spawn(probe(service, generation)));
            }
            Heard::Nudge => self.nudges.nudge(),
            Heard::Closed => {
                if self.master.closed() && self.leaving.is_none() {
                    self.warn_of_orphan();
                }
            }
        }
    }

    fn warn_of_orphan(&self) {
        let worker = self.worker;
        warn!("worker {worker}: the master is gone, serving for another {ORPHAN_LIVES:?}");
    }

    /// Begins to leave, or tries once more to hand over what could not be handed over.
    async fn leave(&mut self, to: Option<OwnedFd>) {
        let again = self.leaving.is_some();
        if !again {
            faults::worker_leaves().await;
        }
        let given = match to {
            // Also in the place of one that still takes: it was asked to leave, too, and what has not gone
            // there yet does not have to move twice.
            Some(to) => hand_over::give(to, self.serving.clone(), self.drain.clone()),
            None if again => return,
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        if given.is_err() && !self.drain.is_handing_over() {
            self.drain.be_lame();
        }
        // Those that are on their way to another worker have heard that first.
        self.serving.service.end_streams();
        if !again {
            self.leaving = Some(Leaving::new(self.serving.counters.uploaded()));
        }
    }

    /// Tells the master what is open, if that is news.
    fn report(&mut self) {
        let Some(leaving) = &mut self.leaving else { return };
        let open = (self.permits - self.connections.available_permits()) as u64;
        let counters = &self.serving.counters;
        if let Some(report) = leaving.report(open, counters.open(), counters.uploaded()) {
            let Report { connections, classes, uploaded } = report;
            let generation = self.generation;
            self.channel.say(&FromWorker::Draining { generation, connections, classes, uploaded });
        }
    }

    fn is_out_of_time(&mut self) -> bool {
        let uploaded = self.serving.counters.uploaded();
        let leaving = self.leaving.as_mut();
        leaving.is_some_and(|leaving| leaving.is_out_of_time(uploaded, &self.roll))
    }
}

/// Does what a person does.
async fn probe(service: pump_http::Service, generation: u64) -> FromWorker {
    let begun = Instant::now();
    let failure = match tokio::time::timeout(
        PROBE_WITHIN,
        pump_http::probe_as_person(&service, faults::answering),
    )
    .await
    {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(_) => Some(format!("it did not come to its end within {PROBE_WITHIN:?}")),
    };
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    FromWorker::Probed { generation, failure, micros }
}
