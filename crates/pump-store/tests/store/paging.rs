//! Pages, while others post.

use proptest::prelude::*;
use pump_model::{NoteId, Page, Viewer};

use crate::World;

/// What happens between one page and the next.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    AdaPosts,
    BobPosts,
    AdaDeletesOldest,
}

fn meanwhile() -> impl Strategy<Value = Meanwhile> {
    use Meanwhile::{AdaDeletesOldest, AdaPosts, BobPosts};
    prop_oneof![3 => Just(AdaPosts), 3 => Just(BobPosts), 1 => Just(AdaDeletesOldest)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..Default::default() })]

    /// Every note that was there all the time is on exactly one page, and they are in order.
    #[test]
    fn a_reader_misses_nothing_and_sees_nothing_twice(
        before in 1usize..12,
        size in 1usize..5,
        events in prop::collection::vec(prop::collection::vec(meanwhile(), 0..3), 12),
    ) {
        let world = World::new();
        let [ada, bob] = ["ada", "bob"].map(|name| world.person(name));
        world.follows(&bob, &ada);
        let mut adas: Vec<NoteId> = (0..before).map(|_| world.posts(&ada, "before")).collect();
        let mut lasting = adas.clone();

        let (mut seen, mut page) = (Vec::new(), Some(Page::first().of(size)));
        let mut events = events.into_iter();
        while let Some(asked) = page {
            prop_assert!(seen.len() < 100, "no end: {seen:?}");
            let home = world.store.home(bob.id, asked).expect("a home feed");
            prop_assert!(home.items.len() <= size);
            seen.extend(home.items.iter().map(|note| note.id));
            page = home.next.map(|id| Page::before(id).of(size));
            for event in events.next().unwrap_or_default() {
                match event {
                    Meanwhile::AdaPosts => adas.push(world.posts(&ada, "meanwhile")),
                    Meanwhile::BobPosts => drop(world.posts(&bob, "meanwhile")),
                    Meanwhile::AdaDeletesOldest if adas.is_empty() => (),
                    Meanwhile::AdaDeletesOldest => {
                        let gone = adas.remove(0);
                        lasting.retain(|id| *id != gone);
                        world.store.delete_note(ada.id, gone, world.now()).expect("deleted");
                    }
                }
            }
        }
        prop_assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
        for id in lasting {
            prop_assert!(seen.contains(&id), "{id} is on no page: {seen:?}");
        }
    }
}

#[test]
fn every_listing_goes_on_to_its_end() {
    let world = World::new();
    let ada = world.person("ada");
    let others: Vec<_> = (0..5).map(|n| world.person(&format!("fan{n}"))).collect();
    for fan in &others {
        world.follows(fan, &ada);
        world.follows(&ada, fan);
        world.posts(&ada, "another");
        world.posts(fan, "echo");
    }
    macro_rules! pages {
        (|$page:ident| $listing:expr) => {{
            let (mut sizes, mut next) = (Vec::new(), Some(Page::first().of(2)));
            while let Some($page) = next {
                assert!(sizes.len() < 20, "no end: {sizes:?}");
                let listing = $listing.expect("a page");
                sizes.push(listing.items.len());
                next = listing.next.map(|id| Page::before(id).of(2));
            }
            sizes
        }};
    }
    let (store, anybody) = (&world.store, Viewer::Anonymous);
    assert_eq!(pages!(|page| store.followers(ada.id, page)), [2, 2, 1]);
    assert_eq!(pages!(|page| store.following(ada.id, page)), [2, 2, 1]);
    assert_eq!(pages!(|page| store.notes_by(ada.id, anybody, page)), [2, 2, 1]);
    assert_eq!(pages!(|page| store.home(ada.id, page)), [2, 2, 2, 2, 2]);
    assert_eq!(pages!(|page| store.latest_notes(anybody, page)), [2, 2, 2, 2, 2]);
    assert_eq!(pages!(|page| store.outbox(ada.id, anybody, page)), [2, 2, 2, 2, 2]);
    assert_eq!(pages!(|page| store.inbox(ada.id, page)), [2, 2, 2, 2, 2]);
    assert_eq!(pages!(|page| store.accounts(page)), [2, 2, 2]);

    let latest = store.followers(ada.id, Page::first()).expect("a page");
    assert_eq!(latest.items[0].name, others[4].name, "the latest follower comes first");
}
