//! Every version of the database, with the three parts of its migration.
//!
//! How to write the next one is in this crate's README.

use super::Schema;

/// One version: what makes it out of the one before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    /// After the expansion.
    pub(crate) schema: Schema,
    /// Adds what the new code needs, so that the old code does not notice. One short transaction.
    pub(crate) expand: &'static str,
    /// Brings old rows along.
    pub(crate) fill: Option<Fill>,
    /// Takes away what only the old code needed.
    pub(crate) contract: Option<Contract>,
}

/// A backfill: a statement for a stretch of one table's keys, run again and again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    /// Selects each `key` after `?1`, in order.
    pub(crate) keys: &'static str,
    /// Brings the rows after `?1` and up to `?2` along. Running it twice changes nothing.
    pub(crate) stretch: &'static str,
    /// Selects the first and the last key, for telling how far it is; nulls when there are none.
    pub(crate) ends: &'static str,
}

/// What is taken away, and whom that cuts off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contract {
    /// The oldest version whose code works on the result.
    pub(crate) compat: u32,
    pub(crate) sql: &'static str,
}

/// Tells what a note of version 1 is written in: Markdown never leaves raw HTML as it is, so a note whose
/// content begins with the very tag that its source begins with was sent as HTML.
macro_rules! guessed_media_type {
    () => {
        "CASE WHEN n.source LIKE '<%' AND substr(n.source, 1, 3) = substr(n.content, 1, 3)
              THEN 'text/html' ELSE 'text/markdown' END"
    };
}
pub(crate) use guessed_media_type;

/// All of them, oldest first; their versions are 1, 2, 3 and so on.
pub(crate) const VERSIONS: &[Version] = &[
    Version {
        schema: Schema { version: 1, compat: 1 },
        expand: include_str!("../../migrations/sqlite/0001_the_feed.sql"),
        fill: None,
        contract: None,
    },
    Version {
        schema: Schema { version: 2, compat: 1 },
        expand: include_str!("../../migrations/sqlite/0002_what_notes_are_written_in.sql"),
        fill: Some(Fill {
            keys: "SELECT id AS key FROM notes WHERE id > ?1 ORDER BY id",
            stretch: concat!(
                "INSERT INTO note_sources (note, media_type) SELECT n.id, ",
                guessed_media_type!(),
                " FROM notes n WHERE n.id > ?1 AND n.id <= ?2 ON CONFLICT (note) DO NOTHING"
            ),
            ends: "SELECT min(id), max(id) FROM notes",
        }),
        // From here on every note has a row, written by whoever writes the note.
        contract: Some(Contract { compat: 2, sql: "DROP TRIGGER notes_by_old_code" }),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_from_one_and_none_asks_for_later_code_than_its_own() {
        for (found, version) in VERSIONS.iter().zip(1..) {
            assert_eq!(found.schema.version, version);
            assert!((1..=version).contains(&found.schema.compat), "{version}");
            let contracted = found.contract.map_or(found.schema.compat, |it| it.compat);
            assert!((found.schema.compat..=version).contains(&contracted), "{version}");
        }
        assert!(VERSIONS.is_sorted_by(|a, b| a.schema.compat <= b.schema.compat));
    }
}
