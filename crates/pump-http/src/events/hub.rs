//! What all event streams of a worker share: who listens, and what was published lately.
//!
//! One nudge costs one look into the database, however many streams are open: whoever of them comes
//! first looks for all, and what it finds is written once and kept for a while, with the accounts it
//! is for. A stream whose place lies before what is kept reads for itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pump_model::{AccountId, Position};
use pump_store::{Error, Heard, Store, TokenHash};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::frame;
use super::recent::{Entry, Recent, Taken};
use crate::app::{App, now};
use crate::nudges::Nudges;
use crate::problem::Problem;

/// Event streams of one account at one time in one worker. One more is refused with 429.
pub(super) const MAX_STREAMS_OF_ONE: usize = 32;

/// Event streams at one time in one worker. One more is refused.
const MAX_STREAMS: usize = 20_000;

/// Events that one look takes from the database at a time.
const EVENTS_PER_LOOK: usize = 100;

/// Events that the first look of somebody new takes at most, from the place where they start. What is for nobody
/// costs next to nothing, and a stream of a worker that left is behind by what was published meanwhile. Whoever
/// is further behind reads for themselves.
const EVENTS_PER_FIRST_LOOK: usize = 400;

/// How old a look may be when a stream gives its sign of life. What is published by a build that does
/// not know nudges, and a token that expires, are noticed by then.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long nobody looks after a look has failed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Streams of one worker that read for themselves at one time. The rest of the places for reading are
/// for requests.
const MAX_CATCHING_UP: usize = 2;

/// One for each worker.
pub(crate) struct Hub {
    nudges: Nudges,
    ended: watch::Sender<bool>,
    listeners: Mutex<Listeners>,
    recent: Mutex<Option<Recent>>,
    /// Held by who looks.
    looking: tokio::sync::Mutex<Looks>,
    /// How many nudges there were when the latest look at everything began.
    done: AtomicU64,
    pub(super) catching_up: Arc<Semaphore>,
}

/// When the latest look ended that went well, and the latest that did not.
#[derive(Default)]
struct Looks {
    well: Option<Instant>,
    badly: Option<Instant>,
}

#[derive(Default)]
struct Listeners {
    next: u64,
    all: BTreeMap<u64, Arc<Listener>>,
    by_account: HashMap<AccountId, usize>,
}

/// Somebody who listens.
pub(super) struct Listener {
    pub(super) account: AccountId,
    pub(super) token: TokenHash,
    /// The place they start from.
    start: Position,
    /// The place from which on what is kept says what is for them; set by the first look that knows
    /// them.
    known: OnceLock<Position>,
    signed_out: AtomicBool,
}

impl Listener {
    pub(super) fn is_known(&self) -> bool {
        self.known.get().is_some()
    }

    pub(super) fn is_signed_out(&self) -> bool {
        self.signed_out.load(Ordering::Relaxed)
    }
}

/// Somebody's place among those who listen, until it is dropped.
pub(super) struct Listening {
    pub(super) app: App,
    pub(super) who: Arc<Listener>,
    key: u64,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let hub = &self.app.hub;
        let mut listeners = lock(&hub.listeners);
        listeners.all.remove(&self.key);
        if let Some(streams) = listeners.by_account.get_mut(&self.who.account) {
            *streams -= 1;
            if *streams == 0 {
                listeners.by_account.remove(&self.who.account);
            }
        }
        if listeners.all.is_empty() {
            // Nobody looks from now on, so it would only grow old.
            *lock(&hub.recent) = None;
        }
    }
}

/// Why one more cannot listen.
#[derive(Debug)]
pub(super) enum Full {
    /// The account has as many streams as it may have.
    Account,
    /// The worker has.
    Worker,
}

// Held for a few instructions that do not panic, so that what a panic elsewhere leaves is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a look came to nothing.
pub(super) enum Failed {
    /// This process is ending.
    Closed,
    /// For the log.
    Problem(Problem),
    /// Somebody else's look has failed a moment ago.
    Again,
}

impl Hub {
    pub(crate) fn new(nudges: Nudges) -> Self {
        Self {
            nudges,
            ended: watch::Sender::new(false),
            listeners: Mutex::default(),
            recent: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            done: AtomicU64::new(0),
            catching_up: Arc::new(Semaphore::new(MAX_CATCHING_UP)),
        }
    }

    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    pub(super) fn watch_end(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    /// Adds somebody, who starts from this place. `moved` is for a stream that was let in before, by
    /// another worker.
    pub(super) fn listen(
        app: &App,
        (account, token): (AccountId, TokenHash),
        start: Position,
        moved: bool,
    ) -> Result<Listening, Full> {
        let mut listeners = lock(&app.hub.listeners);
        if listeners.all.len() >= MAX_STREAMS {
            return Err(Full::Worker);
        }
        let streams = listeners.by_account.entry(account).or_default();
        if *streams >= MAX_STREAMS_OF_ONE && !moved {
            return Err(Full::Account);
        }
        *streams += 1;
        let (known, signed_out) = (OnceLock::new(), AtomicBool::new(false));
        let who = Arc::new(Listener { account, token, start, known, signed_out });
        let key = listeners.next;
        listeners.next += 1;
        listeners.all.insert(key, Arc::clone(&who));
        Ok(Listening { app: app.clone(), who, key })
    }

    /// What somebody who is at this place has missed.
    pub(super) fn take(&self, who: &Listener, after: Position) -> Taken {
        match (who.known.get(), &*lock(&self.recent)) {
            (Some(known), Some(recent)) if after >= *known => recent.take(who.account, after),
            _ => Taken::Behind,
        }
    }

    /// Whether nobody has looked since this many nudges.
    pub(super) fn is_behind(&self, nudges: u64) -> bool {
        self.done.load(Ordering::Relaxed) < nudges
    }

    /// Looks, unless somebody else did since this many nudges and knows `who`.
    pub(super) async fn look(&self, app: &App, who: &Listener, nudges: u64) -> Result<(), Failed> {
        let mut looks = self.looking.lock().await;
        if self.is_behind(nudges) || !who.is_known() {
            self.look_now(app, &mut looks).await?;
        }
        Ok(())
    }

    /// Looks, unless somebody did a moment ago.
    pub(super) async fn refresh(&self, app: &App) -> Result<(), Failed> {
        let mut looks = self.looking.lock().await;
        if looks.well.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            // As if there had been a nudge. So everybody wakes and takes what is found.
            self.nudges.nudge();
            self.look_now(app, &mut looks).await?;
        }
        Ok(())
    }

    async fn look_now(&self, app: &App, looks: &mut Looks) -> Result<(), Failed> {
        if looks.badly.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return Err(Failed::Again);
        }
        let nudges = self.nudges.count();
        let everything = self.is_behind(nudges);
        loop {
            match self.read(app, everything).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(failed) => {
                    looks.badly = Some(Instant::now());
                    return Err(failed);
                }
            }
        }
        self.done.store(nudges, Ordering::Relaxed);
        looks.well = Some(Instant::now());
        Ok(())
    }

    /// Reads what is new, and whether there is more. Who listens is looked up before the database is, so
    /// nothing that is kept lacks somebody who is known.
    async fn read(&self, app: &App, everything: bool) -> Result<bool, Failed> {
        let listening: Vec<Arc<Listener>> = lock(&self.listeners).all.values().cloned().collect();
        let after = lock(&self.recent).as_ref().map(Recent::latest);
        let new = || listening.iter().filter(|who| !who.is_known());
        let start = new().map(|who| who.start).min();
        let accounts: BTreeSet<AccountId> = listening.iter().map(|who| who.account).collect();
        // A token that was ended has nudged us.
        let tokens: HashMap<TokenHash, AccountId> = listening
            .iter()
            .filter(|who| everything || !who.is_known())
            .map(|who| (who.token, who.account))
            .collect();
        let site = app.clone();
        let (news, signed_out) = app
            .events(move |store| {
                let news = news(store, &site, after, start, &accounts)?;
                // Afterwards: who was signed out before something was posted does not see it.
                let tokens: Vec<_> =
                    tokens.into_iter().map(|(token, account)| (account, token)).collect();
                Ok((news, store.signed_out(&tokens, now())?))
            })
            .await?;
        let signed_out: HashSet<TokenHash> = signed_out.into_iter().collect();
        for who in listening.iter().filter(|who| signed_out.contains(&who.token)) {
            who.signed_out.store(true, Ordering::Relaxed);
        }
        // When nobody listens any more there is nothing to keep it for.
        if !lock(&self.listeners).all.is_empty() {
            let mut recent = lock(&self.recent);
            let recent = recent.get_or_insert_with(|| Recent::from(news.from));
            recent.replace(news.from, news.entries, news.until);
        }
        for who in new() {
            // Set here only, and one looks at a time.
            let _ = who.known.set(news.from);
        }
        Ok(news.more)
    }
}

/// Everything between two places.
struct News {
    from: Position,
    entries: Vec<Entry>,
    until: Position,
    more: bool,
}

/// What there is after what is known, or from where the earliest starts who is new if it is not much.
fn news(
    store: &Store,
    app: &App,
    after: Option<Position>,
    start: Option<Position>,
    listeners: &BTreeSet<AccountId>,
) -> Result<News, Error> {
    if let Some(start) = start.filter(|start| after.is_none_or(|after| *start < after))
        && let Some(heard) = store.hear_all(start, EVENTS_PER_FIRST_LOOK, listeners)?
    {
        return Ok(written(app, start, heard));
    }
    match after {
        Some(after) => Ok(written(app, after, store.hear(after, EVENTS_PER_LOOK, listeners)?)),
        None => {
            let here = store.position()?;
            Ok(News { from: here, entries: Vec::new(), until: here, more: false })
        }
    }
}

fn written(app: &App, from: Position, heard: Heard) -> News {
    let audiences: BTreeMap<AccountId, Arc<BTreeSet<AccountId>>> =
        heard.audiences.into_iter().map(|(actor, all)| (actor, Arc::new(all))).collect();
    let mut entries = Vec::new();
    for event in &heard.events.events {
        let audience = audiences.get(&event.actor).filter(|audience| !audience.is_empty());
        if let Some(audience) = audience
            && let Some(text) = frame::event(&app.site, event, &heard.events.posters)
        {
            let (position, audience) = (event.position, Arc::clone(audience));
            entries.push(Entry { position, text: text.into(), audience });
        }
    }
    News { from, entries, until: heard.events.until, more: heard.events.more }
}

impl App {
    /// Reads something for event streams, of which nobody is told when it fails.
    pub(super) async fn events<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Failed> {
        match self.store(move |store| Ok::<_, Problem>(work(store))).await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(Error::Closed { .. })) => Err(Failed::Closed),
            Ok(Err(error)) => Err(Failed::Problem(error.into())),
            Err(problem) => Err(Failed::Problem(problem)),
        }
    }
}
