//! Events: what appears in home feeds and disappears from them, in the order in which it was kept.
//!
//! No table is theirs. A note that is posted or deleted is an activity, also when an older release does
//! it, and activities are numbered in the order of their commits: a number is drawn with the write lock
//! held, is greater than all before, and no activity is ever removed. So the number of an activity is a
//! [`Position`] that means the same to every process, and who remembers one position can be told
//! everything after it, once.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use pump_model::{AccountId, NoteId, Position, Timestamp};
use rusqlite::{Connection, Row};

use crate::Store;
use crate::accounts::{self, Account, Totals};
use crate::error::{Error, Fault};
use crate::notes::{self, Note};
use crate::rows::{Sql, all, column, count, one};
use crate::tokens::{self, TokenHash};

/// Something that happened in home feeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The place right after it.
    pub position: Position,
    /// Who did it.
    pub actor: AccountId,
    /// What.
    pub happened: Happened,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A note was posted, and is still there.
    Posted(Note),
    /// A note was deleted.
    Deleted(NoteId),
}

/// Somebody who posted something, as their profile has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poster {
    /// The account.
    pub account: Account,
    /// What its profile counts.
    pub totals: Totals,
}

/// Some events, as all of them are seen at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// Everybody who posted one of the notes.
    pub posters: BTreeMap<AccountId, Poster>,
    /// The place that these events lead to: nothing before it is missing.
    pub until: Position,
    /// Whether there are more after it.
    pub more: bool,
}

/// What is new for those who listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What happened that is for one of those who listen.
    pub events: Events,
    /// For each actor in it, who of those who listen has them in their home feed: they follow them, or
    /// are them.
    pub audiences: BTreeMap<AccountId, BTreeSet<AccountId>>,
}

/// Why somebody cannot be told what happened after a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// Their token is not valid, or not any more.
    SignedOut,
    /// More happened than they can be told, or the place lies in the future: the database is another one
    /// than the one they remember.
    Lost {
        /// The place they can start again from.
        now: Position,
    },
}

fn latest(connection: &Connection) -> Result<Position, Fault> {
    let sql = "SELECT max(id) AS id FROM activities";
    let id = one(connection, sql, (), |row| row.get::<_, Option<Sql<_>>>("id"))?.flatten();
    Ok(id.map_or(Position::START, |Sql::<pump_model::ActivityId>(id)| id.into()))
}

/// The event that this activity was; none when what was posted has been deleted since.
fn event(row: &Row<'_>) -> rusqlite::Result<Option<Event>> {
    let id: pump_model::ActivityId = column(row, "activity")?;
    let happened = match row.get_ref("kind")?.as_str()? {
        "create" if row.get::<_, Option<i64>>("id")?.is_none() => return Ok(None),
        "create" => Happened::Posted(notes::note(row)?),
        _ => Happened::Deleted(column(row, "about")?),
    };
    Ok(Some(Event { position: id.into(), actor: column(row, "author")?, happened }))
}

fn by_ids(connection: &Connection, ids: &[i64]) -> Result<Vec<Event>, Fault> {
    let sql = concat!(
        "
        SELECT v.id AS activity, v.kind AS kind, v.note AS about, v.actor AS author,
               a.name AS name, a.display_name AS display_name, n.id AS id, n.source AS source,
               n.content AS content, n.published AS published,
               ",
        notes::media_type!(),
        ",
               (SELECT count(*) FROM likes l WHERE l.note = n.id) AS likes, 0 AS liked
        FROM activities v JOIN accounts a ON a.id = v.actor
        LEFT JOIN notes n ON n.id = v.note AND v.kind = 'create' AND n.deleted IS NULL
        WHERE v.id = ?1"
    );
    let mut events = Vec::with_capacity(ids.len());
    for id in ids {
        events.extend(one(connection, sql, [id], event)?.flatten());
    }
    Ok(events)
}

/// How far a page goes of which these ids, in order, are to be `most`: whether there are more, and its end.
fn reach(ids: &[i64], most: usize, latest: Position) -> (bool, Position) {
    let more = ids.len() > most;
    let last = ids[..ids.len().min(most)].last();
    let last = last.and_then(|id| pump_model::ActivityId::try_from(*id).ok());
    (more, last.filter(|_| more).map_or(latest, Position::from))
}

/// Makes a page of the events with these ids.
fn page(
    connection: &Connection,
    ids: &[i64],
    (more, until): (bool, Position),
) -> Result<Events, Fault> {
    let events = by_ids(connection, ids)?;
    let mut posters = BTreeMap::new();
    for event in &events {
        if matches!(event.happened, Happened::Posted(_)) && !posters.contains_key(&event.actor) {
            let account = accounts::by_id(connection, event.actor)?
                .ok_or(Fault::Damaged("an activity is nobody's"))?;
            let totals = accounts::totals(connection, event.actor)?;
            posters.insert(event.actor, Poster { account, totals });
        }
    }
    Ok(Events { events, posters, until, more })
}

/// The activities that are events, and whose: one more than asked for, if there are more.
fn ids_after(
    connection: &Connection,
    after: Position,
    most: usize,
) -> Result<Vec<(i64, AccountId)>, Fault> {
    let sql = "SELECT id, actor FROM activities WHERE id > ?1 AND kind IN ('create', 'delete')
               ORDER BY id LIMIT ?2";
    all(connection, sql, (after.get(), most as i64 + 1), |row| {
        Ok((row.get("id")?, column(row, "actor")?))
    })
}

/// Who of those who listen has in their home feed what this account does.
fn audience(
    connection: &Connection,
    actor: AccountId,
    listeners: &BTreeSet<AccountId>,
) -> Result<BTreeSet<AccountId>, Fault> {
    // Whichever are fewer, followers or listeners.
    let sql = "SELECT follower FROM follows WHERE followed = ?1 LIMIT ?2";
    let params = (Sql(actor), listeners.len() as i64 + 1);
    let followers: BTreeSet<AccountId> =
        all(connection, sql, params, |row| column(row, "follower"))?.into_iter().collect();
    let mut audience: BTreeSet<AccountId> = if followers.len() <= listeners.len() {
        followers.intersection(listeners).copied().collect()
    } else {
        let sql = "SELECT count(*) FROM follows WHERE follower = ?1 AND followed = ?2";
        let mut found = BTreeSet::new();
        for listener in listeners {
            if count(connection, sql, (Sql(*listener), Sql(actor)))? > 0 {
                found.insert(*listener);
            }
        }
        found
    };
    audience.extend(listeners.get(&actor));
    Ok(audience)
}

fn heard(
    connection: &Connection,
    found: &[(i64, AccountId)],
    most: usize,
    listeners: &BTreeSet<AccountId>,
) -> Result<Heard, Fault> {
    let (ids, actors): (Vec<i64>, Vec<AccountId>) = found.iter().copied().unzip();
    let reach = reach(&ids, most, latest(connection)?);
    let mut audiences = BTreeMap::new();
    let mut for_somebody = Vec::new();
    for (id, actor) in ids.into_iter().zip(actors).take(most) {
        let whose = match audiences.entry(actor) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(audience(connection, actor, listeners)?),
        };
        // What nobody hears is not even read: on a server where many post, that is most of it.
        if !whose.is_empty() {
            for_somebody.push(id);
        }
    }
    audiences.retain(|_, whose| !whose.is_empty());
    let events = page(connection, &for_somebody, reach)?;
    Ok(Heard { events, audiences })
}

impl Store {
    /// The place right after the latest activity.
    ///
    /// # Errors
    /// Those of reading.
    pub fn position(&self) -> Result<Position, Error> {
        self.read(latest)
    }

    /// The first `most` events in the home feed of `account` after a place, for whoever shows `token`.
    /// At most `lost` of them can be caught up with.
    ///
    /// # Errors
    /// Those of reading.
    pub fn home_events(
        &self,
        (account, token): (AccountId, TokenHash),
        after: Position,
        most: usize,
        lost: usize,
        now: Timestamp,
    ) -> Result<Result<Events, Unheard>, Error> {
        // A few from the beginning of each one's, as for the home feed: see `notes`.
        let sql = "
            SELECT p.id FROM (
                SELECT followed AS author FROM follows WHERE follower = ?1
                UNION ALL SELECT ?1
            ) w CROSS JOIN activities p ON p.id IN (
                SELECT id FROM activities
                WHERE actor = w.author AND kind IN ('create', 'delete') AND id > ?2
                ORDER BY id LIMIT ?3
            ) ORDER BY p.id LIMIT ?3";
        self.read(|connection| {
            if !tokens::is_valid(connection, token, account, now)? {
                return Ok(Err(Unheard::SignedOut));
            }
            let latest = latest(connection)?;
            if after > latest {
                return Ok(Err(Unheard::Lost { now: latest }));
            }
            let params = (Sql(account), after.get(), lost as i64 + 1);
            let ids: Vec<i64> = all(connection, sql, params, |row| row.get(0))?;
            if ids.len() > lost {
                return Ok(Err(Unheard::Lost { now: latest }));
            }
            page(connection, &ids[..ids.len().min(most)], reach(&ids, most, latest)).map(Ok)
        })
    }

    /// Of the first `most` events after a place those that are for somebody, and whom of `listeners`.
    ///
    /// # Errors
    /// Those of reading.
    pub fn hear(
        &self,
        after: Position,
        most: usize,
        listeners: &BTreeSet<AccountId>,
    ) -> Result<Heard, Error> {
        self.read(|connection| {
            let found = ids_after(connection, after, most)?;
            heard(connection, &found, most, listeners)
        })
    }

    /// The same, when `most` are all there are; nothing when there are more, or when the place lies in
    /// the future.
    ///
    /// # Errors
    /// Those of reading.
    pub fn hear_all(
        &self,
        after: Position,
        most: usize,
        listeners: &BTreeSet<AccountId>,
    ) -> Result<Option<Heard>, Error> {
        self.read(|connection| {
            let found = ids_after(connection, after, most)?;
            if found.len() > most || after > latest(connection)? {
                return Ok(None);
            }
            heard(connection, &found, most, listeners).map(Some)
        })
    }

    /// Which of these tokens for programs are not valid, or not any more.
    ///
    /// # Errors
    /// Those of reading.
    pub fn signed_out(
        &self,
        tokens: &[(AccountId, TokenHash)],
        now: Timestamp,
    ) -> Result<Vec<TokenHash>, Error> {
        self.read(|connection| {
            let mut ended = Vec::new();
            for (account, token) in tokens {
                if !tokens::is_valid(connection, *token, *account, now)? {
                    ended.push(*token);
                }
            }
            Ok(ended)
        })
    }
}
