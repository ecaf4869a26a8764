//! A database of version 1, and the code that made it: what its release did, statement by statement.

use std::path::Path;

use pump_store::database;
use rusqlite::{Connection, params};

const MADE_BY: &str = include_str!("../../migrations/sqlite/0001_the_feed.sql");

/// The code of version 1, as far as notes go.
pub(crate) struct OldCode(Connection);

impl OldCode {
    /// Makes the database, with one account.
    pub(crate) fn new(data: &Path) -> Self {
        let old = Connection::open(database(data)).expect("opened");
        old.pragma_update(None, "journal_mode", "WAL").expect("a write-ahead log");
        old.execute_batch(MADE_BY).expect("made");
        old.execute("INSERT INTO schema (only, version, compat) VALUES (1, 1, 1)", ()).expect("ok");
        old.execute(
            "INSERT INTO accounts (id, name, display_name, summary, password_hash, created)
             VALUES (7, 'ada', 'Ada', '', '', 0)",
            (),
        )
        .expect("an account");
        Self(old)
    }

    /// Another worker of it. Refuses as that release does.
    pub(crate) fn open(data: &Path) -> Result<Self, u32> {
        let old = Connection::open(database(data)).expect("opened");
        old.busy_timeout(std::time::Duration::from_secs(15)).expect("set");
        old.pragma_update(None, "foreign_keys", true).expect("set");
        old.pragma_update(None, "trusted_schema", false).expect("set");
        let compat = old.query_row("SELECT version, compat FROM schema", (), |row| row.get(1));
        match compat.expect("the numbers") {
            compat if compat > 1 => Err(compat),
            _ => Ok(Self(old)),
        }
    }

    /// Posts a note, as Markdown or as HTML: it did not keep which.
    pub(crate) fn posts(&self, id: i64, source: &str, content: &str) {
        self.0.execute_batch("BEGIN IMMEDIATE").expect("begun");
        let sql = "INSERT INTO notes (id, author, source, content, published)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        self.0.execute(sql, params![id, 7, source, content, 0]).expect("posted");
        let sql =
            "INSERT INTO activities (id, actor, kind, note, target, undone, recipient, published)
                   VALUES (?1, ?2, 'create', ?3, NULL, NULL, NULL, ?4)";
        self.0.execute(sql, params![id, 7, id, 0]).expect("recorded");
        self.0.execute_batch("COMMIT").expect("committed");
    }

    /// Deletes one.
    pub(crate) fn deletes(&self, id: i64) {
        let sql = "UPDATE notes SET source = '', content = '', deleted = ?2 WHERE id = ?1";
        assert_eq!(self.0.execute(sql, (id, 1)).expect("deleted"), 1);
    }

    /// What it shows, newest first.
    pub(crate) fn sources(&self) -> Vec<String> {
        let sql = "SELECT n.source FROM notes n WHERE n.deleted IS NULL ORDER BY n.id DESC";
        let mut statement = self.0.prepare(sql).expect("prepared");
        let rows = statement.query_map((), |row| row.get(0)).expect("read");
        rows.map(|row| row.expect("a text")).collect()
    }

    /// Many notes at once, with ids from 1.
    pub(crate) fn posts_many(&self, count: i64) {
        let sql = "WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < ?1)
                   INSERT INTO notes (id, author, source, content, published)
                   SELECT id, 7, 'note ' || id, '<p>note ' || id || '</p>', 0 FROM n";
        self.0.execute(sql, [count]).expect("posted");
    }
}
