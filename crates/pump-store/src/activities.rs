//! Activities: what somebody did, kept for good. The outbox lists them by actor, the inbox by whom they
//! concern.
//!
//! An activity is written in the transaction of its effect, by the nouns: `notes`, `follows`, `likes`.
//! A kind that a later release writes beside us is left out by every query here.

use pump_model::{AccountId, ActivityId, Listing, LocalName, NoteId, Page, Timestamp, Viewer};
use rusqlite::{Connection, Row, Transaction};

use crate::error::{Error, Fault};
use crate::notes::{self, Author, NoteState};
use crate::rows::{Sql, all, bounds, column, fresh, listing, one};
use crate::{Store, follows, likes};

/// What somebody did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Its id.
    pub id: ActivityId,
    /// Who did it.
    pub actor: Author,
    /// What.
    pub deed: Deed,
    /// When.
    pub published: Timestamp,
}

/// What an activity was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Posted a note, as it is now.
    Create(NoteState),
    /// Deleted their note.
    Delete(NoteId),
    /// Followed the account of this name here.
    Follow(LocalName),
    /// Liked a note.
    Like(NoteId),
    /// Took an activity of their own back.
    Undo {
        /// Which.
        activity: ActivityId,
        /// What it was.
        deed: Undoable,
    },
}

/// What can be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undoable {
    /// A follow of the account of this name here.
    Follow(LocalName),
    /// A like of a note.
    Like(NoteId),
}

/// What came of something that holds or does not hold, however often it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It was done now, by this activity.
    New(Activity),
    /// It had been done before, by this activity, and nothing was changed.
    Already(Activity),
}

impl Recorded {
    /// The activity that did it.
    pub fn activity(&self) -> &Activity {
        match self {
            Self::New(activity) | Self::Already(activity) => activity,
        }
    }

    /// The same, to keep.
    pub fn into_activity(self) -> Activity {
        match self {
            Self::New(activity) | Self::Already(activity) => activity,
        }
    }
}

/// An activity on its way in.
pub(crate) enum Deeds {
    Create(NoteId),
    Delete(NoteId),
    Follow(AccountId),
    Like { note: NoteId, author: AccountId },
    Undo { activity: ActivityId, recipient: Option<AccountId> },
}

/// Every query of activities: `?1` is who looks. A note's author is the actor who created it.
const SELECT: &str = concat!(
    "
    SELECT v.id AS activity, v.kind AS kind, v.published AS at, v.note AS about,
           t.name AS target_name, v.undone AS undone, u.kind AS undone_kind,
           u.note AS undone_note, ut.name AS undone_target_name,
           v.actor AS author, actor.name AS name, actor.display_name AS display_name,
           n.id AS id, n.source AS source, n.content AS content,
           n.published AS published, n.deleted AS deleted,
           ",
    notes::media_type!(),
    ",
           (SELECT count(*) FROM likes l WHERE l.note = n.id) AS likes,
           EXISTS (SELECT 1 FROM likes l WHERE l.note = n.id AND l.account = ?1) AS liked
    FROM activities v
    JOIN accounts actor ON actor.id = v.actor
    LEFT JOIN accounts t ON t.id = v.target
    LEFT JOIN notes n ON n.id = v.note AND v.kind = 'create'
    LEFT JOIN activities u ON u.id = v.undone
    LEFT JOIN accounts ut ON ut.id = u.target
    WHERE v.kind IN ('create', 'delete', 'follow', 'like', 'undo') AND "
);

fn activity(row: &Row<'_>) -> rusqlite::Result<Activity> {
    let kind = row.get_ref("kind")?.as_str()?;
    let deed = match kind {
        "create" => Deed::Create(notes::state(row)?),
        "delete" => Deed::Delete(column(row, "about")?),
        "follow" => Deed::Follow(column(row, "target_name")?),
        "like" => Deed::Like(column(row, "about")?),
        _ => Deed::Undo {
            activity: column(row, "undone")?,
            deed: match row.get_ref("undone_kind")?.as_str()? {
                "follow" => Undoable::Follow(column(row, "undone_target_name")?),
                _ => Undoable::Like(column(row, "undone_note")?),
            },
        },
    };
    Ok(Activity {
        id: column(row, "activity")?,
        actor: notes::author(row)?,
        deed,
        published: column(row, "at")?,
    })
}

/// Writes an activity and reads it back, as its actor sees it.
pub(crate) fn record(
    transaction: &Transaction<'_>,
    actor: AccountId,
    deed: &Deeds,
    now: Timestamp,
) -> Result<ActivityId, Fault> {
    let (kind, note, target, undone, recipient) = match *deed {
        Deeds::Create(note) => ("create", Some(note), None, None, None),
        Deeds::Delete(note) => ("delete", Some(note), None, None, None),
        Deeds::Follow(target) => ("follow", None, Some(target), None, Some(target)),
        Deeds::Like { note, author } => ("like", Some(note), None, None, Some(author)),
        Deeds::Undo { activity, recipient } => ("undo", None, None, Some(activity), recipient),
    };
    // Nobody is told what they did themselves.
    let recipient = recipient.filter(|recipient| *recipient != actor);
    let newest = "SELECT coalesce(max(id), 0) FROM activities";
    let id = fresh(transaction, newest, now, ActivityId::new)?;
    transaction
        .prepare_cached(
            "INSERT INTO activities (id, actor, kind, note, target, undone, recipient, published)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            Sql(id),
            Sql(actor),
            kind,
            note.map(Sql),
            target.map(Sql),
            undone.map(Sql),
            recipient.map(Sql),
            Sql(now),
        ))?;
    // Once a day, so that posting often does not write the account often.
    let day = now.millis() - now.millis() % (24 * 3600 * 1000);
    transaction
        .prepare_cached("UPDATE accounts SET active = ?2 WHERE id = ?1 AND active < ?2")?
        .execute((Sql(actor), day))?;
    Ok(id)
}

pub(crate) fn by_id(
    connection: &Connection,
    id: ActivityId,
    viewer: Viewer,
) -> Result<Option<Activity>, Fault> {
    let sql = format!("{SELECT} v.id = ?2");
    one(connection, &sql, (viewer.account().map(Sql), Sql(id)), activity)
}

/// An activity that was just written or found.
pub(crate) fn existing(
    connection: &Connection,
    id: ActivityId,
    viewer: AccountId,
) -> Result<Activity, Fault> {
    by_id(connection, id, Viewer::Known(viewer))?.ok_or_else(|| Fault::not_found("activity"))
}

impl Store {
    /// The activity of this id.
    ///
    /// # Errors
    /// Those of reading.
    pub fn activity(&self, id: ActivityId, viewer: Viewer) -> Result<Option<Activity>, Error> {
        self.read(|connection| by_id(connection, id, viewer))
    }

    /// What somebody did, newest first. [`crate::Totals::activities`] counts it.
    ///
    /// # Errors
    /// Those of reading.
    pub fn outbox(
        &self,
        actor: AccountId,
        viewer: Viewer,
        page: Page<ActivityId>,
    ) -> Result<Listing<Activity, ActivityId>, Error> {
        let (before, limit) = bounds(page);
        let sql = format!("{SELECT} v.actor = ?2 AND v.id < ?3 ORDER BY v.id DESC LIMIT ?4");
        let params = (viewer.account().map(Sql), Sql(actor), before, limit);
        let found = self.read(|connection| all(connection, &sql, params, activity))?;
        Ok(listing(found, page, |activity| activity.id))
    }

    /// What others did that concerns somebody, newest first: notes posted and deleted by those they
    /// follow now, follows of them, likes of their notes, and these taken back.
    ///
    /// # Errors
    /// Those of reading.
    pub fn inbox(
        &self,
        account: AccountId,
        page: Page<ActivityId>,
    ) -> Result<Listing<Activity, ActivityId>, Error> {
        let (before, limit) = bounds(page);
        // A few from the end of each one's, as for the home feed: see `notes`.
        let sql = format!(
            "{SELECT} v.id IN (
                 SELECT p.id FROM follows f CROSS JOIN activities p ON p.id IN (
                     SELECT id FROM activities
                     WHERE actor = f.followed AND kind IN ('create', 'delete') AND id < ?2
                     ORDER BY id DESC LIMIT ?3
                 ) WHERE f.follower = ?1
                 UNION
                 SELECT id FROM (
                     SELECT id FROM activities WHERE recipient = ?1 AND id < ?2
                     ORDER BY id DESC LIMIT ?3
                 )
                 ORDER BY 1 DESC LIMIT ?3
             ) ORDER BY v.id DESC"
        );
        let params = (Sql(account), before, limit);
        let found = self.read(|connection| all(connection, &sql, params, activity))?;
        Ok(listing(found, page, |activity| activity.id))
    }

    /// Takes a follow or a like back, by the activity that made it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`] for somebody else's, [`Error::NotUndoable`] for
    /// anything but a follow or a like, and those of writing.
    pub fn undo(
        &self,
        actor: AccountId,
        id: ActivityId,
        now: Timestamp,
    ) -> Result<Recorded, Error> {
        self.write(|transaction| {
            let found = by_id(transaction, id, Viewer::Anonymous)?
                .ok_or_else(|| Fault::not_found("activity"))?;
            if found.actor.id != actor {
                return Err(Error::Forbidden { what: "activity" }.into());
            }
            if !matches!(found.deed, Deed::Follow(_) | Deed::Like(_)) {
                return Err(Error::NotUndoable.into());
            }
            let before = "SELECT id FROM activities WHERE undone = ?1";
            let before = one(transaction, before, [Sql(id)], |row| column(row, "id"))?;
            if let Some(before) = before {
                return Ok(Recorded::Already(existing(transaction, before, actor)?));
            }
            Ok(Recorded::New(undo_standing(transaction, actor, id, now)?))
        })
    }
}

/// Takes back a follow or a like that holds.
pub(crate) fn undo_standing(
    transaction: &Transaction<'_>,
    actor: AccountId,
    id: ActivityId,
    now: Timestamp,
) -> Result<Activity, Fault> {
    follows::end(transaction, id)?;
    likes::end(transaction, id)?;
    // Whoever was told is told of this as well.
    let told = "SELECT recipient FROM activities WHERE id = ?1";
    let told = one(transaction, told, [Sql(id)], |row| row.get::<_, Option<Sql<AccountId>>>(0))?;
    let recipient = told.flatten().map(|recipient| recipient.0);
    let deed = Deeds::Undo { activity: id, recipient };
    let undo = record(transaction, actor, &deed, now)?;
    existing(transaction, undo, actor)
}
