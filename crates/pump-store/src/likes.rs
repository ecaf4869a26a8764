//! Likes that hold, each known by the activity that made it.

use pump_model::{AccountId, ActivityId, NoteId, Timestamp};
use rusqlite::Transaction;

use crate::Store;
use crate::activities::{self, Activity, Deeds, Recorded};
use crate::error::{Error, Fault};
use crate::notes;
use crate::rows::{Sql, column, one};

fn standing(
    transaction: &Transaction<'_>,
    account: AccountId,
    note: NoteId,
) -> Result<Option<ActivityId>, Fault> {
    let sql = "SELECT activity FROM likes WHERE note = ?1 AND account = ?2";
    one(transaction, sql, (Sql(note), Sql(account)), |row| column(row, "activity"))
}

pub(crate) fn end(transaction: &Transaction<'_>, activity: ActivityId) -> Result<(), Fault> {
    transaction
        .prepare_cached("DELETE FROM likes WHERE activity = ?1")?
        .execute([Sql(activity)])?;
    Ok(())
}

impl Store {
    /// Likes a note.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a note that is not or no longer there, and those of writing.
    pub fn like(
        &self,
        account: AccountId,
        note: NoteId,
        now: Timestamp,
    ) -> Result<Recorded, Error> {
        self.write(|transaction| {
            let author =
                notes::author_of(transaction, note)?.ok_or_else(|| Fault::not_found("note"))?;
            if let Some(before) = standing(transaction, account, note)? {
                let before = activities::existing(transaction, before, account)?;
                return Ok(Recorded::Already(before));
            }
            let deed = Deeds::Like { note, author };
            let activity = activities::record(transaction, account, &deed, now)?;
            transaction
                .prepare_cached("INSERT INTO likes (activity, account, note) VALUES (?1, ?2, ?3)")?
                .execute((Sql(activity), Sql(account), Sql(note)))?;
            Ok(Recorded::New(activities::existing(transaction, activity, account)?))
        })
    }

    /// Takes a like back. Nothing when there was none.
    ///
    /// # Errors
    /// Those of writing.
    pub fn unlike(
        &self,
        account: AccountId,
        note: NoteId,
        now: Timestamp,
    ) -> Result<Option<Activity>, Error> {
        self.write(|transaction| match standing(transaction, account, note)? {
            None => Ok(None),
            Some(id) => activities::undo_standing(transaction, account, id, now).map(Some),
        })
    }
}
