//! P7: old and new code share a database, and nothing is taken away before it is finalized.

use std::path::Path;
use std::time::Instant;

use pump_model::{AccountId, NoteId, Page, Timestamp, Viewer};
use pump_store::{
    Error, MediaType, NewNote, NoteState, Pace, SCHEMA, Store, database, expand, fill, finalize,
    migrate, state,
};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::old::OldCode;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn count(data: &Path, sql: &str) -> i64 {
    let connection = Connection::open(database(data)).expect("opened");
    connection.query_row(sql, (), |row| row.get(0)).expect("counted")
}

fn written_in(store: &Store, id: i64) -> Option<MediaType> {
    match store.note(NoteId::try_from(id).expect("an id"), Viewer::Anonymous) {
        Ok(Some(NoteState::Whole(note))) => note.media_type,
        other => panic!("looked for a note and found {other:?}"),
    }
}

/// What an account of version 1 posts with new code.
fn posts(store: &Store, text: &str, media_type: MediaType) {
    let new = NewNote { media_type, ..crate::note(text) };
    let author = AccountId::try_from(7).expect("an id");
    store.post_note(author, &new, Timestamp::from_millis(1_795_285_800_000)).expect("posted");
}

fn shown(store: &Store) -> Vec<String> {
    crate::texts(store.latest_notes(Viewer::Anonymous, Page::first()).expect("notes"))
}

#[test]
fn p7_old_and_new_code_write_side_by_side_and_no_write_is_lost() {
    let folder = folder();
    let old = OldCode::new(folder.path());
    old.posts(10, "*before*", "<p><em>before</em></p>");
    old.posts(11, "<p>sent</p>", "<p>sent</p>");
    assert_eq!(expand(folder.path()).expect("expanded").from, 1);

    // Before the backfill, beside it and after it.
    let new = Store::open(folder.path()).expect("opened");
    assert_eq!(written_in(&new, 10), Some(MediaType::Markdown));
    assert_eq!(written_in(&new, 11), Some(MediaType::Html));
    old.posts(12, "by old code", "<p>by old code</p>");
    posts(&new, "<b>by new code</b>", MediaType::Html);
    fill(folder.path(), &Pace::unhindered(), |_| ()).expect("filled");
    // A worker of the old release may come up at any time until it is finalized.
    let back = OldCode::open(folder.path()).expect("version 1 may go on");
    back.posts(2_000_000_000_000_000, "after a rollback", "<p>after a rollback</p>");
    back.deletes(12);
    posts(&new, "and forth again", MediaType::Markdown);

    let want =
        ["and forth again", "after a rollback", "<b>by new code</b>", "<p>sent</p>", "*before*"];
    for found in [shown(&new), old.sources(), back.sources()] {
        let mut found = found;
        let mut want = want.map(str::to_owned).to_vec();
        found.sort();
        want.sort();
        assert_eq!(found, want);
    }
    assert_eq!(written_in(&new, 2_000_000_000_000_000), Some(MediaType::Markdown));
    let untold = "SELECT count(*) FROM notes WHERE id NOT IN (SELECT note FROM note_sources)";
    assert_eq!(count(folder.path(), untold), 0);
}

#[test]
fn b12_a_backfill_that_is_cut_goes_on_where_it_was() {
    let folder = folder();
    let old = OldCode::new(folder.path());
    old.posts_many(30_000);
    expand(folder.path()).expect("expanded");
    let before = state(folder.path()).expect("a state");
    assert_eq!(before.filling.expect("nothing is brought along yet").rows, 0);

    let mut told = Vec::new();
    let cut = Pace { hold: std::time::Duration::from_millis(1), ..Pace::unhindered() };
    let mut runs = 0;
    loop {
        // Each time for at least one stretch.
        let soon = cut.until(Instant::now() + std::time::Duration::from_millis(20));
        let done = fill(folder.path(), &soon, |progress| told.push(*progress)).expect("filled");
        let rows = count(folder.path(), "SELECT count(*) FROM note_sources");
        let mark = count(folder.path(), "SELECT filled_rows FROM migrations WHERE version = 2");
        assert_eq!(rows, mark, "no row is lost or done twice");
        runs += 1;
        assert!(runs < 3000, "no end in sight: {mark} rows");
        if done.complete {
            break;
        }
    }
    assert!(runs > 1, "it was to be cut at least once");
    assert_eq!(told.last().map(|last| (last.rows, last.share)), Some((30_000, 1.0)));
    assert_eq!(state(folder.path()).expect("a state").filling, None);
    let again = fill(folder.path(), &Pace::unhindered(), |_| ()).expect("nothing to do");
    assert_eq!((again.rows, again.complete), (0, true));
}

#[test]
fn b12_a_backfill_lets_others_write() {
    let folder = folder();
    OldCode::new(folder.path()).posts_many(20_000);
    expand(folder.path()).expect("expanded");
    std::thread::scope(|scope| {
        let two = [(), ()].map(|()| {
            scope.spawn(|| fill(folder.path(), &Pace::unhindered(), |_| ()).expect("filled"))
        });
        let new = Store::open(folder.path()).expect("opened");
        let old = OldCode::open(folder.path()).expect("opened");
        for number in 0..50 {
            posts(&new, "new", MediaType::Html);
            old.posts(30_000 + number, "old", "<p>old</p>");
        }
        let rows: u64 = two.map(|it| it.join().expect("no panic").rows).iter().sum();
        assert!(rows >= 20_000, "{rows}");
    });
    let both = "SELECT count(*) FROM notes n JOIN note_sources s ON s.note = n.id";
    assert_eq!(count(folder.path(), both), 20_100);
    let html = "SELECT count(*) FROM note_sources WHERE media_type = 'text/html'";
    assert_eq!(count(folder.path(), html), 50);
}

#[test]
fn what_is_finalized_refuses_old_code_and_keeps_every_note() {
    let folder = folder();
    let old = OldCode::new(folder.path());
    old.posts_many(5_000);
    expand(folder.path()).expect("expanded");
    assert_eq!(state(folder.path()).expect("a state").finalized_compat, 2);

    // With the backfill still to do: it is done first.
    let done = finalize(folder.path(), &Pace::unhindered(), |_| ()).expect("finalized");
    assert_eq!((done.from, done.to), (1, 2));
    assert_eq!(OldCode::open(folder.path()).err(), Some(2));
    assert_eq!(count(folder.path(), "SELECT count(*) FROM note_sources"), 5_000);
    let new = Store::open(folder.path()).expect("this code goes on");
    posts(&new, "<p>later</p>", MediaType::Markdown);
    assert_eq!(
        new.latest_notes(Viewer::Anonymous, Page::first()).expect("notes").items[0].media_type,
        Some(MediaType::Markdown),
        "nobody guesses any more"
    );

    let found = state(folder.path()).expect("a state");
    assert!(found.finalized && found.filling.is_none() && found.found.compat == 2, "{found:?}");
    let again = finalize(folder.path(), &Pace::unhindered(), |_| ()).expect("nothing to do");
    assert_eq!((again.from, again.to), (2, 2));
    assert_eq!(migrate(folder.path()).expect("nothing to do").from, SCHEMA.version);
    assert_eq!(state(folder.path()).expect("a state").found.compat, 2, "it is never lowered");
}

#[test]
fn what_a_later_release_has_begun_is_not_finalized_by_this_one() {
    let folder = folder();
    migrate(folder.path()).expect("migrated");
    let later = Connection::open(database(folder.path())).expect("opened");
    later.execute("UPDATE schema SET version = ?1", [SCHEMA.version + 1]).expect("numbered");
    let refused = finalize(folder.path(), &Pace::unhindered(), |_| ());
    assert!(matches!(refused, Err(Error::Later { .. })), "{refused:?}");
    assert!(!state(folder.path()).expect("a state").finalized);
    fill(folder.path(), &Pace::unhindered(), |_| ()).expect("that does no harm");
}

#[test]
fn a_database_that_is_not_there_is_told_as_none() {
    let folder = folder();
    let found = state(folder.path()).expect("a state");
    assert_eq!((found.found.version, found.bytes), (0, 0));
    let refused = fill(folder.path(), &Pace::gentle(), |_| ());
    assert!(matches!(refused, Err(Error::NotMigrated { found_version: 0, .. })), "{refused:?}");
}
