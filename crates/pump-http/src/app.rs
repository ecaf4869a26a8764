//! What every handler has at hand: the site, the store, and the limits on what strangers may try.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use pump_model::{LocalName, Timestamp};
use pump_store::{Store, Usage};
use tokio::sync::Semaphore;

use crate::client::Client;
use crate::events::Hub;
use crate::nudges::Nudges;
use crate::problem::Problem;
use crate::site::Site;
use crate::throttle::{Throttle, TooMany};

/// Calls of the store at one time in one worker, by kind. Each takes a thread while it waits: for the
/// disk, for the one writing connection, for a core. So each kind has places of its own, and whoever
/// reads waits neither behind a queue of writers nor behind passwords.
const MAX_READS: usize = 8;
const MAX_CHANGES: usize = 2;
const MAX_HASHES: usize = 2;

/// Threads that may block, for all places to be taken at once. With fewer, one kind waits for another.
pub const BLOCKING_CALLS: usize = MAX_READS + MAX_CHANGES + MAX_HASHES;

/// How long a change waits for its place. As long again it may wait for the database.
const PLACE_WITHIN: Duration = Duration::from_secs(15);

/// Passwords being checked or waiting for it at one time in one worker. One more is turned away.
const MAX_PASSWORDS: usize = 8;

/// Failed sign-ins from one network: so many at once, and then one each [`NETWORK_EVERY`].
const NETWORK_BURST: u32 = 20;
const NETWORK_EVERY: Duration = Duration::from_secs(15);

/// Failed sign-ins to one account, from wherever: so many at once, and then one each [`NAME_EVERY`].
const NAME_BURST: u32 = 10;
const NAME_EVERY: Duration = Duration::from_secs(60);

/// New accounts from one network: so many at once, and then one each [`REGISTER_EVERY`].
const REGISTER_BURST: u32 = 5;
const REGISTER_EVERY: Duration = Duration::from_secs(1800);

/// How long the counts of NodeInfo may be old.
const USAGE_HOLDS: Duration = Duration::from_secs(60);

/// Shared by all requests of a worker.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) site: Site,
    pub(crate) nudges: Nudges,
    pub(crate) hub: Hub,
    store: Store,
    reads: Arc<Semaphore>,
    changes: Arc<Semaphore>,
    passwords: Arc<Semaphore>,
    hashes: Arc<Semaphore>,
    by_network: Throttle<Option<IpAddr>>,
    by_name: Throttle<LocalName>,
    registrations: Throttle<Option<IpAddr>>,
    usage: Mutex<Option<(Instant, Usage)>>,
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    pub(crate) fn new(site: Site, store: Store) -> Self {
        let nudges = Nudges::new();
        Self(Arc::new(Inner {
            site,
            hub: Hub::new(nudges.clone()),
            nudges,
            store,
            reads: Arc::new(Semaphore::new(MAX_READS)),
            changes: Arc::new(Semaphore::new(MAX_CHANGES)),
            passwords: Arc::new(Semaphore::new(MAX_PASSWORDS)),
            hashes: Arc::new(Semaphore::new(MAX_HASHES)),
            by_network: Throttle::new(NETWORK_BURST, NETWORK_EVERY),
            by_name: Throttle::new(NAME_BURST, NAME_EVERY),
            registrations: Throttle::new(REGISTER_BURST, REGISTER_EVERY),
            usage: Mutex::new(None),
        }))
    }

    /// Reads something from the store, on a thread that may block.
    pub(crate) async fn store<T, E>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + Send + 'static,
    {
        let turn = Arc::clone(&self.reads).acquire_owned().await;
        self.blocking(turn.expect("the semaphore is never closed"), work).await
    }

    /// The same for work that writes.
    pub(crate) async fn change<T, E>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + Send + 'static,
    {
        let turn =
            tokio::time::timeout(PLACE_WITHIN, Arc::clone(&self.changes).acquire_owned()).await;
        let turn = turn
            .map_err(|_| {
                let wait = Duration::from_secs(2);
                Problem::unavailable("there is a lot to do at the moment, try again", wait)
            })?
            .expect("the semaphore is never closed");
        self.blocking(turn, work).await
    }

    /// The same for work that publishes something, or ends somebody's token. Event streams are told
    /// once it is in the database, also when whoever asked for it is gone by then.
    pub(crate) async fn publish<T, E>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + Send + 'static,
    {
        let nudges = self.nudges.clone();
        self.change(move |store| work(store).inspect(|_| nudges.publish())).await
    }

    /// The same for work that hashes a password, which takes long and much memory.
    async fn hashing<T, E>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + Send + 'static,
    {
        let turn = Arc::clone(&self.passwords).try_acquire_owned().map_err(|_| {
            let wait = Duration::from_secs(2);
            Problem::unavailable("too many people are signing in at the moment, try again", wait)
        })?;
        let place = Arc::clone(&self.hashes).acquire_owned().await;
        self.blocking((turn, place.expect("the semaphore is never closed")), work).await
    }

    /// `place` goes along: the work takes it until it is done, also when whoever asked for it is gone by
    /// then. Otherwise a client that resets its requests as fast as it sends them has any number of them
    /// waiting for a thread (CVE-2023-44487).
    async fn blocking<T, E>(
        &self,
        place: impl Send + 'static,
        work: impl FnOnce(&Store) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + Send + 'static,
    {
        let store = self.store.clone();
        let work = move || {
            let _place = place;
            work(&store).map_err(Into::into)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|panic| Err(Problem::panicked("using the store", panic)))
    }

    /// The account that has this name and password; none when there is none. A success costs nothing,
    /// failures are limited by where they come from and by the account they are aimed at.
    pub(crate) async fn sign_in(
        &self,
        client: Client,
        name: String,
        password: String,
    ) -> Result<Option<pump_store::Account>, Problem> {
        let network = client.network();
        let aimed_at = name.parse::<LocalName>().ok();
        let now = Instant::now();
        self.by_network.take(network, now).map_err(too_many_tries)?;
        if let Some(aimed_at) = &aimed_at
            && let Err(wait) = self.by_name.take(aimed_at.clone(), now)
        {
            self.by_network.give_back(&network);
            return Err(too_many_tries(wait));
        }
        let found = self.hashing(move |store| store.sign_in(&name, &password)).await;
        // Being turned away for want of room was no try either.
        if !matches!(found, Ok(None)) {
            self.by_network.give_back(&network);
            if let Some(aimed_at) = aimed_at {
                self.by_name.give_back(&aimed_at);
            }
        }
        found
    }

    /// Makes an account for somebody who asked for one.
    pub(crate) async fn register(
        &self,
        client: Client,
        new: pump_store::NewAccount,
    ) -> Result<pump_store::Account, Problem> {
        let network = client.network();
        self.registrations.take(network, Instant::now()).map_err(|TooMany(wait)| {
            Problem::too_many("too many accounts were made from your network, try later", wait)
        })?;
        let url = self.site.public_url.clone();
        let made = self.hashing(move |store| store.create_account(&new, &url, now())).await;
        if made.is_err() {
            self.registrations.give_back(&network);
        }
        made
    }

    /// The counts of NodeInfo, at most [`USAGE_HOLDS`] old.
    pub(crate) async fn usage(&self) -> Result<Usage, Problem> {
        let kept = *self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, usage)) = kept
            && at.elapsed() < USAGE_HOLDS
        {
            return Ok(usage);
        }
        let usage = self.store(|store| store.usage(now())).await?;
        let counted = Some((Instant::now(), usage));
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = counted;
        Ok(usage)
    }
}

fn too_many_tries(TooMany(wait): TooMany) -> Problem {
    Problem::too_many("too many failed sign-ins, wait a little before the next one", wait)
}

/// The moment that is written into the database.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::mpsc;

    use super::*;

    type Done<T> = Result<T, Problem>;

    pub(crate) fn app(folder: &std::path::Path) -> App {
        pump_store::migrate(folder).unwrap();
        let site = Site {
            public_url: "https://social.example".to_owned(),
            domain: "social.example".parse().unwrap(),
            name: "Example".to_owned(),
            open_registration: false,
            body_bytes: 1024,
            trusted_proxies: Vec::new(),
            generation_header: None,
            version: "1.2.3".to_owned(),
        };
        App::new(site, Store::open(folder).unwrap())
    }

    /// Another process may hold the lock for long, and passwords take long anyway.
    #[test]
    fn who_reads_waits_neither_for_writers_nor_for_passwords() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_CALLS)
            .build()
            .unwrap();
        let (held, until) = mpsc::channel::<()>();
        let until = Arc::new(Mutex::new(until));
        runtime.block_on(async {
            let app = app(folder.path());
            let mut waiting = Vec::new();
            for turn in 0..100 {
                let (app, until) = (app.clone(), Arc::clone(&until));
                let stuck = move |_: &Store| -> Done<()> {
                    // Ends with an error when the other end is dropped.
                    let _ended = until.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    Ok(())
                };
                waiting.push(tokio::spawn(async move {
                    if turn % 2 == 0 { app.change(stuck).await } else { app.hashing(stuck).await }
                }));
            }
            // Each has taken its place, or stands in the queue.
            while app.changes.available_permits() + app.hashes.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
            let read = app.store(|store| store.accounts(pump_model::Page::first()));
            let read = tokio::time::timeout(Duration::from_secs(10), read).await;
            drop(held);
            assert!(read.expect("nobody waits behind a writer").unwrap().items.is_empty());
            for it in waiting {
                // Of the passwords most were turned away.
                let _done = it.await.unwrap();
            }
        });
    }
}
