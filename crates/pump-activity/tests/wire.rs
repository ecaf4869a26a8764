//! What goes out, as other programs read it.

use pump_activity::{
    Activity, ActivityType, Collection, CollectionPage, Document, Endpoints, Note, Object, PUBLIC,
    Person, Source, Tombstone,
};
use serde_json::{json, to_value};

const ALICE: &str = "https://a.example/users/alice";

#[test]
fn a_create_carries_its_note_and_one_context() {
    let note = Note {
        id: "https://a.example/notes/1".to_owned(),
        attributed_to: ALICE.to_owned(),
        content: "<p>hi</p>".to_owned(),
        source: Some(Source { content: "hi".to_owned(), media_type: "text/markdown".to_owned() }),
        published: "2026-11-21T12:00:00Z".to_owned(),
        url: "https://a.example/@alice/1".to_owned(),
        to: vec![PUBLIC.to_owned()],
        cc: vec![],
    };
    let create = Activity {
        id: "https://a.example/activities/2".to_owned(),
        kind: ActivityType::Create,
        actor: ALICE.to_owned(),
        object: Object::Note(Box::new(note)),
        published: None,
        to: vec![PUBLIC.to_owned()],
        cc: vec![],
    };
    assert_eq!(
        to_value(Document::new(create)).unwrap(),
        json!({
            "@context": "https://www.w3.org/ns/activitystreams",
            "id": "https://a.example/activities/2",
            "type": "Create",
            "actor": ALICE,
            "to": [PUBLIC],
            "object": {
                "id": "https://a.example/notes/1",
                "type": "Note",
                "attributedTo": ALICE,
                "content": "<p>hi</p>",
                "source": {"content": "hi", "mediaType": "text/markdown"},
                "published": "2026-11-21T12:00:00Z",
                "url": "https://a.example/@alice/1",
                "to": [PUBLIC],
                "cc": [],
            },
        })
    );
}

#[test]
fn an_undo_carries_what_it_takes_back() {
    let follow = Activity {
        id: "https://a.example/activities/1".to_owned(),
        kind: ActivityType::Follow,
        actor: ALICE.to_owned(),
        object: Object::Id("https://a.example/users/bob".to_owned()),
        published: None,
        to: vec![],
        cc: vec![],
    };
    let undo = Activity {
        id: "https://a.example/activities/2".to_owned(),
        kind: ActivityType::Undo,
        object: Object::Activity(Box::new(follow.clone())),
        ..follow
    };
    let undo = to_value(undo).unwrap();
    assert_eq!(undo["type"], "Undo");
    assert_eq!(undo["object"]["type"], "Follow");
    assert_eq!(undo["object"]["object"], "https://a.example/users/bob");
    assert!(undo["object"].get("@context").is_none());
}

#[test]
fn the_other_documents_have_their_names() {
    let person = Person {
        id: ALICE.to_owned(),
        preferred_username: "alice".to_owned(),
        name: "Alice".to_owned(),
        summary: String::new(),
        url: "https://a.example/@alice".to_owned(),
        inbox: format!("{ALICE}/inbox"),
        outbox: format!("{ALICE}/outbox"),
        followers: format!("{ALICE}/followers"),
        following: format!("{ALICE}/following"),
        published: "2026-11-21T12:00:00Z".to_owned(),
        endpoints: Endpoints { oauth_token_endpoint: "https://a.example/oauth/token".to_owned() },
    };
    let person = to_value(Document::new(person)).unwrap();
    assert_eq!(person["type"], "Person");
    assert_eq!(person["preferredUsername"], "alice");
    assert_eq!(person["endpoints"]["oauthTokenEndpoint"], "https://a.example/oauth/token");

    let gone = Tombstone {
        id: "https://a.example/notes/1".to_owned(),
        former_type: "Note",
        deleted: Some("2026-11-21T12:00:00Z".to_owned()),
    };
    let gone = to_value(gone).unwrap();
    assert_eq!(gone["type"], "Tombstone");
    assert_eq!(gone["formerType"], "Note");

    let whole =
        Collection { id: "c".to_owned(), total_items: Some(3), first: "c?page=true".to_owned() };
    assert_eq!(
        to_value(whole).unwrap(),
        json!({"type": "OrderedCollection", "id": "c", "totalItems": 3, "first": "c?page=true"})
    );
    let page = CollectionPage {
        id: "c?page=true".to_owned(),
        part_of: "c".to_owned(),
        ordered_items: vec!["a".to_owned()],
        next: None,
        total_items: Some(1),
    };
    assert_eq!(
        to_value(page).unwrap(),
        json!({"type": "OrderedCollectionPage", "id": "c?page=true", "partOf": "c",
            "orderedItems": ["a"], "totalItems": 1})
    );
}
