//! "I post something and my followers see it."

use std::time::Duration;

use pump_model::{Page, Viewer};
use pump_store::{Account, Deed, Error, NoteState, Recorded, Undoable};

use crate::World;

impl World {
    /// What an inbox says, one word for each entry.
    fn inbox(&self, account: &Account) -> Vec<String> {
        let page = self.store.inbox(account.id, Page::first()).expect("an inbox");
        page.items
            .into_iter()
            .map(|activity| {
                let what = match activity.deed {
                    Deed::Create(NoteState::Whole(note)) => format!("posted {}", note.source),
                    Deed::Create(NoteState::Tombstone { .. }) => "posted something gone".into(),
                    Deed::Delete(_) => "deleted".into(),
                    Deed::Follow(name) => format!("followed {name}"),
                    Deed::Like(_) => "liked".into(),
                    Deed::Undo { deed: Undoable::Follow(name), .. } => format!("unfollowed {name}"),
                    Deed::Undo { deed: Undoable::Like(_), .. } => "unliked".into(),
                };
                format!("{} {what}", activity.actor.name)
            })
            .collect()
    }
}

#[test]
fn a_note_reaches_followers_and_nobody_else() {
    let world = World::new();
    let [ada, bob, eve] = ["ada", "bob", "eve"].map(|name| world.person(name));
    world.follows(&bob, &ada);
    world.posts(&ada, "hello");
    world.posts(&bob, "hi");
    assert_eq!(world.home(&bob), ["hi", "hello"]);
    assert_eq!(world.home(&ada), ["hello"]);
    assert_eq!(world.home(&eve), [""; 0]);
    assert_eq!(world.profile(&ada), ["hello"]);
    assert_eq!(world.inbox(&bob), ["ada posted hello"]);
    assert_eq!(world.inbox(&ada), ["bob followed ada"]);
    assert_eq!(world.inbox(&eve), [""; 0]);
}

#[test]
fn everybodys_notes_are_listed_newest_first() {
    let world = World::new();
    let [ada, bob] = ["ada", "bob"].map(|name| world.person(name));
    world.posts(&ada, "one");
    world.posts(&bob, "two");
    let latest = world.store.latest_notes(Viewer::Anonymous, Page::first()).expect("notes");
    assert_eq!(crate::texts(latest), ["two", "one"]);
}

#[test]
fn posting_the_same_twice_makes_two_notes() {
    let world = World::new();
    let ada = world.person("ada");
    let now = world.now();
    let posts = || world.store.post_note(ada.id, &crate::note("same"), now).expect("posted");
    let ids: std::collections::HashSet<_> = (0..1000).map(|_| posts().id).collect();
    // All in one millisecond: some of the random bits met, and were drawn again.
    assert_eq!(ids.len(), 1000);
    assert_eq!(world.store.totals(ada.id).expect("totals").notes, 1000);
}

#[test]
fn a_deleted_note_leaves_a_tombstone_without_its_text() {
    let world = World::new();
    let [ada, bob] = ["ada", "bob"].map(|name| world.person(name));
    world.follows(&bob, &ada);
    let id = world.posts(&ada, "a secret slipped");
    let first = world.store.delete_note(ada.id, id, world.now()).expect("deleted");
    assert!(matches!(&first, Recorded::New(it) if it.deed == Deed::Delete(id)), "{first:?}");

    assert!(matches!(
        world.store.note(id, Viewer::Anonymous),
        Ok(Some(NoteState::Tombstone { id: same, .. })) if same == id
    ));
    assert_eq!(world.home(&bob), [""; 0]);
    assert_eq!(world.profile(&ada), [""; 0]);
    assert_eq!(world.inbox(&bob), ["ada deleted", "ada posted something gone"]);
    assert_eq!(world.store.totals(ada.id).expect("totals").notes, 0);

    let second = world.store.delete_note(ada.id, id, world.now()).expect("deleted already");
    assert_eq!(second, Recorded::Already(first.into_activity()));
    let like = world.store.like(bob.id, id, world.now());
    assert!(matches!(like, Err(Error::NotFound { .. })), "{like:?}");
}

/// A backup or a stolen disk has none of it either.
#[test]
fn what_was_deleted_is_no_longer_in_the_file() {
    let world = World::new();
    let ada = world.person("ada");
    // In a row of its own page, and over several.
    for text in ["a secret slipped".to_owned(), "a secret slipped ".repeat(200)] {
        let id = world.posts(&ada, &text);
        world.store.delete_note(ada.id, id, world.now()).expect("deleted");
    }
    let path = world.store.path().to_owned();
    world.store.close().expect("closed");
    // Closing folded the log into the database.
    let bytes = std::fs::read(path).expect("the file is there");
    let secret: &[u8] = b"secret slipped";
    assert!(!bytes.windows(secret.len()).any(|found| found == secret), "it is in the file");
}

#[test]
fn nobody_touches_what_is_somebody_elses() {
    let world = World::new();
    let [ada, eve] = ["ada", "eve"].map(|name| world.person(name));
    let id = world.posts(&ada, "mine");
    let like = world.store.like(ada.id, id, world.now()).expect("liked").into_activity();

    let delete = world.store.delete_note(eve.id, id, world.now());
    assert!(matches!(delete, Err(Error::Forbidden { what: "note" })), "{delete:?}");
    let undo = world.store.undo(eve.id, like.id, world.now());
    assert!(matches!(undo, Err(Error::Forbidden { what: "activity" })), "{undo:?}");
    assert_eq!(world.profile(&ada), ["mine"]);
    assert_eq!(world.sees(id, Viewer::Anonymous).likes, 1);
    assert_eq!(world.store.totals(eve.id).expect("totals").activities, 0);
}

#[test]
fn what_is_not_there_is_not_found() {
    let world = World::new();
    let ada = world.person("ada");
    let note = "1".parse().expect("an id");
    let activity = "1".parse().expect("an id");
    assert!(matches!(world.store.note(note, Viewer::Anonymous), Ok(None)));
    assert!(matches!(world.store.activity(activity, Viewer::Anonymous), Ok(None)));
    let now = world.now();
    for refused in [
        world.store.delete_note(ada.id, note, now),
        world.store.like(ada.id, note, now),
        world.store.undo(ada.id, activity, now),
        world.store.follow(ada.id, "1".parse().expect("an id"), now),
    ] {
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    }
}

#[test]
fn following_is_done_once_and_can_be_taken_back() {
    let world = World::new();
    let [ada, bob] = ["ada", "bob"].map(|name| world.person(name));
    let first = world.store.follow(bob.id, ada.id, world.now()).expect("followed");
    let again = world.store.follow(bob.id, ada.id, world.now()).expect("followed already");
    assert_eq!(again, Recorded::Already(first.activity().clone()));
    assert_eq!(world.store.totals(ada.id).expect("totals").followers, 1);
    assert!(world.store.is_following(bob.id, ada.id).expect("asked"));
    assert!(!world.store.is_following(ada.id, bob.id).expect("asked"));

    let undone = world.store.undo(bob.id, first.activity().id, world.now()).expect("undone");
    assert!(matches!(&undone, Recorded::New(it) if matches!(it.deed, Deed::Undo { .. })));
    let again = world.store.undo(bob.id, first.activity().id, world.now()).expect("undone already");
    assert_eq!(again, Recorded::Already(undone.into_activity()));
    assert!(!world.store.is_following(bob.id, ada.id).expect("asked"));
    assert_eq!(world.inbox(&ada), ["bob unfollowed ada", "bob followed ada"]);

    // Following anew is a new follow, and taking the old one back again does not end it.
    world.follows(&bob, &ada);
    world.store.undo(bob.id, first.activity().id, world.now()).expect("undone already");
    assert!(world.store.is_following(bob.id, ada.id).expect("asked"));
    assert!(world.store.unfollow(bob.id, ada.id, world.now()).expect("unfollowed").is_some());
    assert!(world.store.unfollow(bob.id, ada.id, world.now()).expect("not followed").is_none());
}

#[test]
fn nobody_follows_themselves() {
    let world = World::new();
    let ada = world.person("ada");
    assert!(matches!(world.store.follow(ada.id, ada.id, world.now()), Err(Error::OwnFollow)));
}

#[test]
fn a_like_counts_once_and_can_be_taken_back() {
    let world = World::new();
    let [ada, bob] = ["ada", "bob"].map(|name| world.person(name));
    let id = world.posts(&ada, "likeable");
    world.store.like(bob.id, id, world.now()).expect("liked");
    let again = world.store.like(bob.id, id, world.now()).expect("liked already");
    assert!(matches!(again, Recorded::Already(_)));
    world.store.like(ada.id, id, world.now()).expect("liked by its author");

    let seen = world.sees(id, Viewer::Known(bob.id));
    assert_eq!((seen.likes, seen.liked), (2, true));
    assert!(!world.sees(id, Viewer::Anonymous).liked);
    // Nobody is told of what they did themselves.
    assert_eq!(world.inbox(&ada), ["bob liked"]);

    assert!(world.store.unlike(bob.id, id, world.now()).expect("unliked").is_some());
    assert!(world.store.unlike(bob.id, id, world.now()).expect("not liked").is_none());
    assert_eq!(world.sees(id, Viewer::Known(bob.id)).likes, 1);
    assert_eq!(world.inbox(&ada), ["bob unliked", "bob liked"]);
}

#[test]
fn only_a_follow_or_a_like_is_undone() {
    let world = World::new();
    let [ada, bob] = ["ada", "bob"].map(|name| world.person(name));
    let posted = world.store.post_note(ada.id, &crate::note("stays"), world.now()).expect("posted");
    let follow = world.store.follow(ada.id, bob.id, world.now()).expect("followed");
    let undo = world.store.undo(ada.id, follow.activity().id, world.now()).expect("undone");
    for id in [posted.id, undo.activity().id] {
        let refused = world.store.undo(ada.id, id, world.now());
        assert!(matches!(refused, Err(Error::NotUndoable)), "{refused:?}");
    }
    assert_eq!(world.profile(&ada), ["stays"]);
}

#[test]
fn the_outbox_has_everything_somebody_did() {
    let world = World::new();
    let [ada, bob] = ["ada", "bob"].map(|name| world.person(name));
    let note = world.posts(&bob, "from bob");
    world.posts(&ada, "from ada");
    world.follows(&ada, &bob);
    world.store.like(ada.id, note, world.now()).expect("liked");
    world.store.unlike(ada.id, note, world.now()).expect("unliked");

    let outbox = world.store.outbox(ada.id, Viewer::Anonymous, Page::first()).expect("an outbox");
    let [undo, like, follow, create] = &outbox.items[..] else { panic!("{outbox:?}") };
    assert_eq!(undo.deed, Deed::Undo { activity: like.id, deed: Undoable::Like(note) });
    assert_eq!(like.deed, Deed::Like(note));
    assert_eq!(follow.deed, Deed::Follow(bob.name));
    assert!(matches!(&create.deed, Deed::Create(NoteState::Whole(it)) if it.author.id == ada.id));
    assert_eq!(outbox.next, None);
    assert_eq!(world.store.totals(ada.id).expect("totals").activities, 4);
    for activity in &outbox.items {
        let found = world.store.activity(activity.id, Viewer::Anonymous).expect("looked");
        assert_eq!(found.as_ref(), Some(activity));
    }
}

#[test]
fn what_was_written_later_stands_above_also_in_one_millisecond_and_when_the_clock_goes_back() {
    let world = World::new();
    let ada = world.person("ada");
    let moment = world.now();
    let texts: Vec<String> = (0..20).map(|number| format!("note {number}")).collect();
    for (number, text) in texts.iter().enumerate() {
        let back = Duration::from_secs(if number > 10 { 3600 } else { 0 });
        let at = moment.before(back);
        world.store.post_note(ada.id, &crate::note(text), at).expect("posted");
    }
    let newest_first: Vec<String> = texts.into_iter().rev().collect();
    assert_eq!(world.profile(&ada), newest_first);
}
