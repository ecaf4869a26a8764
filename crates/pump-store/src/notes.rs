//! Notes, and the feeds made of them.
//!
//! A deleted note stays as a tombstone without its texts, so that asking for it is answered with "gone"
//! and not with "never heard of it". The home feed is put together when it is read: of each account
//! followed, the few newest notes are looked up in an index, so a page costs about accounts times
//! entries, however many notes there are.

use pump_model::{AccountId, Listing, LocalName, NoteId, NoteText, Page, Timestamp, Viewer};
use rusqlite::{Connection, Params, Row, Transaction};

use crate::Store;
use crate::activities::{self, Activity, Deeds, Recorded};
use crate::error::{Error, Fault};
use crate::rows::{Sql, all, bounds, column, fresh, listing, one};

/// Who wrote a note or did something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The account.
    pub id: AccountId,
    /// Its name here.
    pub name: LocalName,
    /// How they call themselves; perhaps empty.
    pub display_name: String,
}

/// What a note is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// `text/markdown`
    Markdown,
    /// `text/html`
    Html,
}

impl MediaType {
    /// Its name (RFC 6838).
    pub fn name(self) -> &'static str {
        match self {
            Self::Markdown => "text/markdown",
            Self::Html => "text/html",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Markdown, Self::Html].into_iter().find(|it| it.name() == name)
    }
}

/// A note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its id.
    pub id: NoteId,
    /// Who wrote it.
    pub author: Author,
    /// As it was written.
    pub source: String,
    /// In what. None for something that a later release knows.
    pub media_type: Option<MediaType>,
    /// As it is shown: HTML, made safe by whoever stored it.
    pub content: String,
    /// When.
    pub published: Timestamp,
    /// How many like it.
    pub likes: u64,
    /// Whether the viewer does.
    pub liked: bool,
}

/// A note that is or was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoteState {
    /// It is there.
    Whole(Note),
    /// It was deleted.
    Tombstone {
        /// Its id.
        id: NoteId,
        /// Who wrote it.
        author: Author,
        /// When it was published.
        published: Timestamp,
        /// When it was deleted.
        deleted: Timestamp,
    },
}

impl NoteState {
    /// Its id.
    pub fn id(&self) -> NoteId {
        match self {
            Self::Whole(note) => note.id,
            Self::Tombstone { id, .. } => *id,
        }
    }
}

/// What a note is made of.
#[derive(Clone, Debug)]
pub struct NewNote {
    /// As it was written.
    pub source: NoteText,
    /// In what.
    pub media_type: MediaType,
    /// As it is to be shown: HTML that is safe.
    pub content: String,
}

/// What the note `n` is written in. One that the backfill has not come to yet is guessed like there.
macro_rules! media_type {
    () => {
        concat!(
            "coalesce((SELECT media_type FROM note_sources w WHERE w.note = n.id), ",
            crate::migrate::guessed_media_type!(),
            ") AS media_type"
        )
    };
}
pub(crate) use media_type;

/// Every query of notes: `?1` is who looks.
const SELECT: &str = concat!(
    "
    SELECT n.id AS id, n.author AS author, a.name AS name, a.display_name AS display_name,
           n.source AS source, n.content AS content, n.published AS published, n.deleted AS deleted,
           ",
    media_type!(),
    ",
           (SELECT count(*) FROM likes l WHERE l.note = n.id) AS likes,
           EXISTS (SELECT 1 FROM likes l WHERE l.note = n.id AND l.account = ?1) AS liked
    FROM notes n JOIN accounts a ON a.id = n.author
    WHERE "
);

/// Reads the columns of a note, which a query of activities has as well.
pub(crate) fn state(row: &Row<'_>) -> rusqlite::Result<NoteState> {
    let deleted: Option<Sql<Timestamp>> = row.get("deleted")?;
    Ok(match deleted {
        None => NoteState::Whole(note(row)?),
        Some(deleted) => NoteState::Tombstone {
            id: column(row, "id")?,
            author: author(row)?,
            published: column(row, "published")?,
            deleted: deleted.0,
        },
    })
}

pub(crate) fn note(row: &Row<'_>) -> rusqlite::Result<Note> {
    Ok(Note {
        id: column(row, "id")?,
        author: author(row)?,
        source: row.get("source")?,
        media_type: MediaType::from_name(row.get_ref("media_type")?.as_str()?),
        content: row.get("content")?,
        published: column(row, "published")?,
        likes: row.get::<_, i64>("likes")?.try_into().unwrap_or(0),
        liked: row.get("liked")?,
    })
}

pub(crate) fn author(row: &Row<'_>) -> rusqlite::Result<Author> {
    Ok(Author {
        id: column(row, "author")?,
        name: column(row, "name")?,
        display_name: row.get("display_name")?,
    })
}

/// A note that is there, with its author.
pub(crate) fn author_of(
    transaction: &Transaction<'_>,
    id: NoteId,
) -> Result<Option<AccountId>, Fault> {
    let sql = "SELECT author FROM notes WHERE id = ?1 AND deleted IS NULL";
    one(transaction, sql, [Sql(id)], |row| column(row, "author"))
}

fn page_of(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    page: Page<NoteId>,
) -> Result<Listing<Note, NoteId>, Fault> {
    Ok(listing(all(connection, sql, params, note)?, page, |note| note.id))
}

impl Store {
    /// Posts a note. Two equal ones are two notes.
    ///
    /// # Errors
    /// Those of writing.
    pub fn post_note(
        &self,
        author: AccountId,
        new: &NewNote,
        now: Timestamp,
    ) -> Result<Activity, Error> {
        self.write(|transaction| {
            let newest = "SELECT coalesce(max(id), 0) FROM notes";
            let id = fresh(transaction, newest, now, NoteId::new)?;
            transaction
                .prepare_cached(
                    "INSERT INTO notes (id, author, source, content, published)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute((Sql(id), Sql(author), new.source.as_str(), &new.content, Sql(now)))?;
            // Until the contract of version 2 there is a row already, by the trigger for old code.
            transaction
                .prepare_cached(
                    "INSERT INTO note_sources (note, media_type) VALUES (?1, ?2)
                     ON CONFLICT (note) DO UPDATE SET media_type = ?2",
                )?
                .execute((Sql(id), new.media_type.name()))?;
            let activity = activities::record(transaction, author, &Deeds::Create(id), now)?;
            activities::existing(transaction, activity, author)
        })
    }

    /// Deletes a note of one's own. Its tombstone stays.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`] for somebody else's, and those of writing.
    pub fn delete_note(
        &self,
        actor: AccountId,
        id: NoteId,
        now: Timestamp,
    ) -> Result<Recorded, Error> {
        self.write(|transaction| {
            let sql = "SELECT author FROM notes WHERE id = ?1";
            let author: AccountId = one(transaction, sql, [Sql(id)], |row| column(row, "author"))?
                .ok_or_else(|| Fault::not_found("note"))?;
            if author != actor {
                return Err(Error::Forbidden { what: "note" }.into());
            }
            let before = "SELECT id FROM activities WHERE note = ?1 AND kind = 'delete'";
            let before = one(transaction, before, [Sql(id)], |row| column(row, "id"))?;
            if let Some(before) = before {
                return Ok(Recorded::Already(activities::existing(transaction, before, actor)?));
            }
            transaction
                .prepare_cached(
                    "UPDATE notes SET source = '', content = '', deleted = ?2 WHERE id = ?1",
                )?
                .execute((Sql(id), Sql(now)))?;
            let activity = activities::record(transaction, actor, &Deeds::Delete(id), now)?;
            Ok(Recorded::New(activities::existing(transaction, activity, actor)?))
        })
    }

    /// The note of this id, or its tombstone.
    ///
    /// # Errors
    /// Those of reading.
    pub fn note(&self, id: NoteId, viewer: Viewer) -> Result<Option<NoteState>, Error> {
        let sql = format!("{SELECT} n.id = ?2");
        let params = (viewer.account().map(Sql), Sql(id));
        self.read(|connection| one(connection, &sql, params, state))
    }

    /// Somebody's notes, newest first.
    ///
    /// # Errors
    /// Those of reading.
    pub fn notes_by(
        &self,
        author: AccountId,
        viewer: Viewer,
        page: Page<NoteId>,
    ) -> Result<Listing<Note, NoteId>, Error> {
        let (before, limit) = bounds(page);
        let sql = format!(
            "{SELECT} n.author = ?2 AND n.deleted IS NULL AND n.id < ?3
             ORDER BY n.id DESC LIMIT ?4"
        );
        let params = (viewer.account().map(Sql), Sql(author), before, limit);
        self.read(|connection| page_of(connection, &sql, params, page))
    }

    /// Everybody's notes on this server, newest first.
    ///
    /// # Errors
    /// Those of reading.
    pub fn latest_notes(
        &self,
        viewer: Viewer,
        page: Page<NoteId>,
    ) -> Result<Listing<Note, NoteId>, Error> {
        let (before, limit) = bounds(page);
        let sql = format!("{SELECT} n.deleted IS NULL AND n.id < ?2 ORDER BY n.id DESC LIMIT ?3");
        let params = (viewer.account().map(Sql), before, limit);
        self.read(|connection| page_of(connection, &sql, params, page))
    }

    /// The home feed: one's own notes and those of everybody one follows now, newest first.
    ///
    /// # Errors
    /// Those of reading.
    pub fn home(
        &self,
        account: AccountId,
        page: Page<NoteId>,
    ) -> Result<Listing<Note, NoteId>, Error> {
        let (before, limit) = bounds(page);
        // CROSS JOIN keeps SQLite from turning the loops round and reading all notes there are.
        let sql = format!(
            "{SELECT} n.id IN (
                 SELECT p.id FROM (
                     SELECT followed AS author FROM follows WHERE follower = ?1
                     UNION ALL SELECT ?1
                 ) w CROSS JOIN notes p ON p.id IN (
                     SELECT id FROM notes
                     WHERE author = w.author AND deleted IS NULL AND id < ?2
                     ORDER BY id DESC LIMIT ?3
                 ) ORDER BY p.id DESC LIMIT ?3
             ) ORDER BY n.id DESC"
        );
        let params = (Sql(account), before, limit);
        self.read(|connection| page_of(connection, &sql, params, page))
    }
}
