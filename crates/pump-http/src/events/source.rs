//! Where the events of one stream come from.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use pump_model::{AccountId, Position};
use pump_store::{Events, TokenHash, Unheard};
use tokio::sync::watch;
use tokio::time::Instant;

use super::frame;
use super::hub::{Failed, Full, Hub, Listening};
use super::recent::{BYTES_PER_READ, EVENTS_PER_READ, Taken};
use super::state::{Greeting, State};
use crate::Service;
use crate::app::{App, now};
use crate::problem::Problem;

/// How often a stream says that it is there.
const THUMP_EVERY: Duration = Duration::from_secs(15);

/// Events that a client is told which it missed while it was away. Who missed more is told that there is
/// a gap, and goes on from now.
const MAX_REPLAY: usize = 400;

/// How long a stream waits after the database could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// When clients come back after a stream ended that could not be handed over: each at a moment of its
/// own between these, in milliseconds.
const COME_BACK: std::ops::Range<u64> = 100..1_000;

/// The events of one stream, in order, each once.
pub struct EventSource {
    listening: Listening,
    nudges: watch::Receiver<u64>,
    ended: watch::Receiver<bool>,
    greeting: Greeting,
    /// The place right after what was returned last, or a later one before which there is nothing.
    position: Position,
    thump_at: Instant,
    /// Whether to look without a nudge.
    refresh: bool,
    over: bool,
}

impl EventSource {
    /// Opens a stream for whoever shows this token, which is valid. After `last` nothing is missing, if
    /// it can be told; otherwise the stream begins now.
    pub(crate) async fn open(
        app: &App,
        who: (AccountId, TokenHash),
        last: Option<&str>,
    ) -> Result<Self, Problem> {
        let full = |full| match full {
            Full::Account => {
                Problem::too_many("this account has too many streams open", THUMP_EVERY)
            }
            Full::Worker => {
                let detail = "too many streams are open at the moment, try again";
                Problem::unavailable(detail, THUMP_EVERY)
            }
        };
        let here = app.store(|store| store.position()).await?;
        let (position, greeting) = match last.map(str::parse) {
            None => (here, Greeting::Position),
            Some(Ok(last)) if last <= here => (last, Greeting::Thump),
            // No id of ours, or one of a database that is not there any more.
            Some(_) => (here, Greeting::Gap),
        };
        let listening = Hub::listen(app, who, position, false).map_err(full)?;
        Ok(Self::new(listening, position, greeting))
    }

    fn new(listening: Listening, position: Position, greeting: Greeting) -> Self {
        let nudges = listening.app.nudges.watch();
        let ended = listening.app.hub.watch_end();
        let thump_at = Instant::now() + THUMP_EVERY;
        let (refresh, over) = (false, false);
        Self { listening, nudges, ended, greeting, position, thump_at, refresh, over }
    }

    /// The next bytes of the stream: one event or several, each of them whole, or a sign of life.
    /// Nothing when the stream has ended, because its token is not valid any more, because
    /// [`Service::end_streams`] was called, or because the store was closed. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Option<Bytes> {
        // Between a change of `self` and the return nothing is awaited, so a future that is dropped has
        // taken nothing.
        while !self.over && !self.listening.who.is_signed_out() {
            if let Some(greeting) = self.greeting.take(self.position) {
                return Some(greeting.into());
            }
            if *self.ended.borrow_and_update() {
                self.over = true;
                return Some(frame::come_back(self.position, self.come_back_after()).into());
            }
            let nudges = *self.nudges.borrow_and_update();
            let Listening { app, who, .. } = &self.listening;
            let looked = if !who.is_known() || app.hub.is_behind(nudges) {
                app.hub.look(app, who, nudges).await
            } else if self.refresh {
                let looked = app.hub.refresh(app).await;
                self.refresh = false;
                looked
            } else {
                match app.hub.take(who, self.position) {
                    Taken::Events(events, position) => {
                        self.position = position;
                        return Some(events);
                    }
                    Taken::Nothing(position) => {
                        self.position = position;
                        if let Some(thump) = self.wait().await {
                            return Some(thump);
                        }
                        Ok(())
                    }
                    Taken::Behind => match self.catch_up().await {
                        Ok(events) if events.is_empty() => Ok(()),
                        Ok(events) => return Some(events),
                        Err(failed) => Err(failed),
                    },
                }
            };
            match looked {
                Ok(()) => continue,
                Err(Failed::Closed) => self.over = true,
                Err(Failed::Problem(problem)) => problem.log(&Method::GET, super::ROUTE),
                Err(Failed::Again) => {}
            }
            tokio::time::sleep(READ_AGAIN).await;
        }
        None
    }

    /// Waits until there may be something. A sign of life when there is nothing for long.
    async fn wait(&mut self) -> Option<Bytes> {
        tokio::select! {
            biased;
            // Neither of these fails while there is an app.
            _ = self.ended.changed() => None,
            _ = self.nudges.changed() => None,
            () = tokio::time::sleep_until(self.thump_at) => {
                self.thump_at = Instant::now() + THUMP_EVERY;
                self.refresh = true;
                Some(Bytes::from_static(frame::THUMP.as_bytes()))
            }
        }
    }

    /// Reads for this stream alone. Nothing when what there was is gone again.
    async fn catch_up(&mut self) -> Result<Bytes, Failed> {
        let Listening { app, who, .. } = &self.listening;
        let turn = Arc::clone(&app.hub.catching_up).acquire_owned().await;
        let turn = turn.expect("the semaphore is never closed");
        let (site, who, after) = (app.clone(), (who.account, who.token), self.position);
        let read = app.events(move |store| {
            // Until it is read, also when this future is dropped meanwhile.
            let _turn = turn;
            let events = store.home_events(who, after, EVENTS_PER_READ, MAX_REPLAY, now())?;
            Ok(events.map(|events| written(&site, &events)))
        });
        match read.await? {
            Ok((events, until)) => {
                self.position = until;
                Ok(events)
            }
            Err(Unheard::Lost { now }) => {
                self.position = now;
                Ok(frame::gap(now).into())
            }
            Err(Unheard::SignedOut) => {
                self.over = true;
                Ok(Bytes::new())
            }
        }
    }

    /// Not all at once: the position differs from stream to stream no more than the clock does, the
    /// hash of a token does.
    fn come_back_after(&self) -> u64 {
        let [one, two, ..] = self.listening.who.token.bytes();
        let spread = COME_BACK.end - COME_BACK.start;
        COME_BACK.start + u64::from(u16::from_be_bytes([one, two])) % spread
    }

    /// Whose stream this is and what [`Self::next`] has returned so far, in at most 1 KiB. What it
    /// returned has to be written to the end by whoever asked for it.
    pub fn state(&self) -> Vec<u8> {
        let who = &self.listening.who;
        State {
            account: who.account,
            token: who.token,
            position: self.position,
            greeting: self.greeting,
        }
        .write()
    }

    /// Goes on with a stream of another worker of this site, whose word is believed. Nothing for a state
    /// that this build does not understand, or when it has as many streams as it may have. Whether the
    /// token is still valid is seen by the first [`Self::next`].
    pub fn resume(service: &Service, state: &[u8]) -> Option<Self> {
        let State { account, token, position, greeting } = State::read(state)?;
        let who = (account, token);
        let listening = Hub::listen(&service.app, who, position, true).ok()?;
        Some(Self::new(listening, position, greeting))
    }
}

/// Events as they are written, and the place they lead to.
fn written(app: &App, events: &Events) -> (Bytes, Position) {
    let (mut text, mut place) = (BytesMut::new(), None);
    for event in &events.events {
        if text.len() >= BYTES_PER_READ {
            return (text.freeze(), place.unwrap_or(events.until));
        }
        let written = frame::event(&app.site, event, &events.posters);
        text.extend_from_slice(written.unwrap_or_default().as_bytes());
        place = Some(event.position);
    }
    (text.freeze(), events.until)
}

impl fmt::Debug for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSource").field("position", &self.position).finish_non_exhaustive()
    }
}
