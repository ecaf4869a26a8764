//! What several nouns need to read and make rows: ids of the types they have, and ids that are new.

use pump_model::{AccountId, ActivityId, Listing, LocalName, NoteId, Page, Timestamp};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Params, Row};

use crate::error::Fault;

/// A type of the model as a column. The model knows no SQL and SQL no model, hence this between them.
#[derive(Clone, Copy)]
pub(crate) struct Sql<T>(pub(crate) T);

macro_rules! id_column {
    ($($id:ident)*) => {$(
        impl ToSql for Sql<$id> {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.0.get().into())
            }
        }

        impl FromSql for Sql<$id> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                $id::try_from(value.as_i64()?).map(Self).map_err(FromSqlError::other)
            }
        }

        impl Id for $id {
            fn number(&self) -> i64 {
                self.get()
            }
        }
    )*};
}

id_column!(AccountId ActivityId NoteId);

impl ToSql for Sql<Timestamp> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.millis().into())
    }
}

impl FromSql for Sql<Timestamp> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Self(Timestamp::from_millis(value.as_i64()?)))
    }
}

impl ToSql for Sql<&LocalName> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_str().into())
    }
}

impl FromSql for Sql<LocalName> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map(Self).map_err(FromSqlError::other)
    }
}

/// Reads one column as a type of the model.
pub(crate) fn column<T>(row: &Row<'_>, at: &str) -> rusqlite::Result<T>
where
    Sql<T>: FromSql,
{
    row.get::<_, Sql<T>>(at).map(|found| found.0)
}

/// Something a page can start after.
pub(crate) trait Id: Copy {
    fn number(&self) -> i64;
}

/// The bound that a page's query compares ids with, and the number of rows it asks for: one more than
/// the page has, which tells whether there is another page.
pub(crate) fn bounds<I: Id>(page: Page<I>) -> (i64, i64) {
    // A page's limit is at most `MAX_PAGE`.
    (page.starts_after().map_or(i64::MAX, Id::number), page.limit() as i64 + 1)
}

/// Cuts what a query with these bounds found to the page.
pub(crate) fn listing<T, I: Id>(
    mut items: Vec<T>,
    page: Page<I>,
    id: impl Fn(&T) -> I,
) -> Listing<T, I> {
    let more = items.len() > page.limit();
    items.truncate(page.limit());
    let next = if more { items.last().map(id) } else { None };
    Listing { items, next }
}

/// All rows of a query.
pub(crate) fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params, read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The row of a query, if there is one.
pub(crate) fn one<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    Ok(rows.next()?.map(read).transpose()?)
}

/// A number that a query counts.
pub(crate) fn count(connection: &Connection, sql: &str, params: impl Params) -> Result<u64, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let counted: i64 = statement.query_row(params, |row| row.get(0))?;
    Ok(u64::try_from(counted).unwrap_or(0))
}

/// An id above all that a table has. `newest` selects the greatest, or 0.
///
/// Ids never go down, whatever the clock does, so what one author wrote later stands later, in one
/// millisecond too. The caller has the write lock, so nobody else makes one in between.
pub(crate) fn fresh<I: Id + TryFrom<i64>>(
    connection: &Connection,
    newest: &str,
    now: Timestamp,
    make: impl Fn(Timestamp, u16) -> I,
) -> Result<I, Fault> {
    let mut bits = [0; 2];
    getrandom::fill(&mut bits)?;
    let drawn = make(now, u16::from_ne_bytes(bits));
    let newest = count(connection, newest, [])?;
    let next = i64::try_from(newest).unwrap_or(i64::MAX).saturating_add(1);
    // Never zero or less, so always an id.
    Ok(if drawn.number() < next { I::try_from(next).unwrap_or(drawn) } else { drawn })
}
