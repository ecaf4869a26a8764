//! The store, through its public methods, on real files.

mod accounts;
mod copies;
mod events;
mod feed;
mod keeping;
mod old;
mod paging;
mod schema;
mod site;
mod trial;
mod versions;

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use pump_model::{Listing, LocalName, NoteId, NoteText, Page, Password, Timestamp, Viewer};
use pump_store::{Account, Deed, MediaType, NewAccount, NewNote, Note, NoteState, Store, migrate};
use tempfile::TempDir;

const URL: &str = "https://social.example";

/// A server's data, in a folder of its own, and a clock that moves a second whenever it is asked.
struct World {
    folder: TempDir,
    store: Store,
    clock: AtomicI64,
}

impl World {
    fn new() -> Self {
        Self::within(tempfile::tempdir().expect("a temporary folder"))
    }

    fn within(folder: TempDir) -> Self {
        migrate(folder.path()).expect("migrated");
        let store = Store::open(folder.path()).expect("opened");
        Self { folder, store, clock: AtomicI64::new(1_795_285_800_000) }
    }

    fn data(&self) -> &Path {
        self.folder.path()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.fetch_add(1000, Ordering::Relaxed))
    }

    fn person(&self, name: &str) -> Account {
        self.store.create_account(&new_account(name), URL, self.now()).expect("an account")
    }

    fn posts(&self, author: &Account, text: &str) -> NoteId {
        let posted = self.store.post_note(author.id, &note(text), self.now()).expect("posted");
        assert_eq!(posted.actor.id, author.id);
        match posted.deed {
            Deed::Create(NoteState::Whole(note)) => note.id,
            other => panic!("posted a note, and it became {other:?}"),
        }
    }

    fn follows(&self, follower: &Account, followed: &Account) {
        self.store.follow(follower.id, followed.id, self.now()).expect("followed");
    }

    fn home(&self, account: &Account) -> Vec<String> {
        texts(self.store.home(account.id, Page::first()).expect("a home feed"))
    }

    fn profile(&self, account: &Account) -> Vec<String> {
        let page = self.store.notes_by(account.id, Viewer::Anonymous, Page::first());
        texts(page.expect("a profile"))
    }

    fn sees(&self, id: NoteId, viewer: Viewer) -> Note {
        match self.store.note(id, viewer) {
            Ok(Some(NoteState::Whole(note))) => note,
            other => panic!("looked for a note and found {other:?}"),
        }
    }
}

fn name(text: &str) -> LocalName {
    text.parse().expect("a name")
}

fn new_account(text: &str) -> NewAccount {
    let password = Password::new(format!("{text}s password")).expect("a password");
    NewAccount { name: name(text), display_name: Default::default(), password }
}

fn note(text: &str) -> NewNote {
    let source = NoteText::new(text).expect("a note's text");
    NewNote {
        content: format!("<p>{}</p>", source.as_str()),
        source,
        media_type: MediaType::Markdown,
    }
}

fn texts(listing: Listing<Note, NoteId>) -> Vec<String> {
    listing.items.into_iter().map(|note| note.source).collect()
}
