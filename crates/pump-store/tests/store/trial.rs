//! A place to try something in.

use std::fs;

use pump_store::{SCHEMA, Store, database};
use rusqlite::Connection;

use crate::{URL, World, new_account};

fn shape(folder: &std::path::Path) -> Vec<String> {
    let database = Connection::open(database(folder)).expect("opened");
    let mut rows =
        database.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").expect("prepared");
    let rows = rows.query_map((), |row| row.get(0)).expect("read");
    rows.map(|row| row.expect("a text")).collect()
}

#[test]
fn it_has_the_shape_of_the_database_and_nothing_in_it_and_goes() {
    let world = World::new();
    let ada = world.person("ada");
    world.posts(&ada, "hello");
    // As a later release may have left it.
    let later = Connection::open(database(world.data())).expect("opened");
    later
        .execute_batch(
            "ALTER TABLE notes ADD COLUMN language TEXT;
             CREATE TABLE boosts (activity INTEGER PRIMARY KEY, note INTEGER NOT NULL) STRICT;
             CREATE INDEX boosts_note ON boosts (note);
             ANALYZE;",
        )
        .expect("expanded");
    later.execute("UPDATE schema SET version = ?1", [SCHEMA.version + 1]).expect("numbered");
    drop(later);

    let trial = world.store.trial().expect("made");
    let folder = trial.store().path().parent().expect("a folder").to_owned();
    assert!(folder.starts_with(world.data()), "on the same disk");
    assert_eq!(
        shape(&folder),
        shape(world.data())
            .into_iter()
            .filter(|it| !it.contains("sqlite_stat"))
            .collect::<Vec<_>>()
    );
    assert_eq!(trial.store().account_by_name(&ada.name).expect("read"), None);
    let tried = trial.store().create_account(&new_account("ada"), URL, world.now());
    let tried = tried.expect("nobody is there");
    trial.store().post_note(tried.id, &crate::note("tried"), world.now()).expect("posted");
    assert_eq!(world.profile(&ada), ["hello"]);
    trial.end().expect("ended");
    assert!(!folder.exists());
    Store::open(world.data()).expect("the real one is as it was");
}

#[test]
fn it_goes_with_whoever_forgets_it() {
    let world = World::new();
    drop(world.store.trial().expect("made"));
    let folders = || {
        fs::read_dir(world.data())
            .expect("read")
            .filter(|it| it.as_ref().is_ok_and(|it| it.path().is_dir()))
    };
    assert_eq!(folders().count(), 0);
}
