//! "I post something and my followers see it."

use http::StatusCode;
use serde_json::{Value, json};

use crate::server::{AS2, HTML, Server, URL};

#[tokio::test]
async fn what_i_post_my_followers_see() {
    let server = Server::new();
    let (alice, bob, carol) =
        (server.app("alice").await, server.app("bob").await, server.app("carol").await);
    let follow = bob.sends(json!({"type": "Follow", "object": alice.id()})).await;
    assert_eq!(follow["object"], alice.id());

    let note = alice.posts("hello *there*").await;
    assert_eq!(note["content"], "<p>hello <em>there</em></p>\n");
    assert_eq!(note["source"], json!({"content": "hello *there*", "mediaType": "text/markdown"}));

    let inbox = bob.walk("inbox").await;
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox[0]["object"]["id"], note["id"]);
    assert!(carol.walk("inbox").await.is_empty(), "who follows nobody sees nothing");
    assert_eq!(bob.walk("following").await, [json!(alice.id())]);
    assert_eq!(alice.walk("followers").await, [json!(bob.id())]);
    // Somebody is told of their follower.
    assert_eq!(alice.walk("inbox").await[0]["type"], "Follow");

    // The same on the pages.
    let mut browser = server.stranger();
    browser.sign_in("bob", crate::server::PASSWORD).await;
    assert!(browser.sees("/").await.contains("hello <em>there</em>"));
    let mut browser = server.stranger();
    browser.sign_in("carol", crate::server::PASSWORD).await;
    assert!(!browser.sees("/").await.contains("hello"));
}

#[tokio::test]
async fn what_is_shown_in_json_is_what_was_posted() {
    let server = Server::new();
    let alice = server.app("alice").await;
    for text in
        ["plain", "a < b & c > d", "línea\n\n* uno\n* dos", "<script>alert(1)</script>", " x "]
    {
        let note = alice.posts(text).await;
        let id = note["id"].as_str().unwrap();
        assert_eq!(server.get(id, AS2).await.json()["source"]["content"], text);
    }
    // As apps send it that know nothing of Markdown.
    let note = json!({"type": "Note", "content": "load 2 * 3 * 4 _x_", "to": "as:Public"});
    let note = alice.sends(note).await["object"].clone();
    assert_eq!(note["content"], "<p>load 2 * 3 * 4 _x_</p>");
    let source = json!({"content": "load 2 * 3 * 4 _x_", "mediaType": "text/html"});
    assert_eq!(note["source"], source);
}

#[tokio::test]
async fn a_mention_leads_to_the_profile() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let note = alice.posts("@Alice and @nobody").await;
    let link = format!(
        "<p><a class=\"mention\" href=\"{URL}/@alice\" rel=\"nofollow noopener noreferrer ugc\">@Alice</a> and @nobody</p>\n"
    );
    assert_eq!(note["content"], link);
}

#[tokio::test]
async fn a_deleted_note_leaves_a_tombstone() {
    let server = Server::new();
    let (alice, bob) = (server.app("alice").await, server.app("bob").await);
    let note = alice.posts("to be regretted").await;
    let id = note["id"].as_str().unwrap().to_owned();

    let refused = bob.try_send(&json!({"type": "Delete", "object": id})).await;
    assert_eq!(refused.problem(403), "this note is somebody else's");

    let delete = alice.sends(json!({"type": "Delete", "object": id})).await;
    assert_eq!(delete["object"]["type"], "Tombstone");
    let gone = server.get(&id, AS2).await;
    assert_eq!(gone.status, StatusCode::GONE);
    assert_eq!(gone.json()["type"], "Tombstone");
    assert_eq!(gone.json()["formerType"], "Note");
    let page = server.get(note["url"].as_str().unwrap(), HTML).await;
    assert_eq!(page.status, StatusCode::GONE);
    assert!(page.body.contains("deleted by its author"));

    // Nowhere is its text left, and deleting again says the same.
    let again = alice.sends(json!({"type": "Delete", "object": {"id": id}})).await;
    assert_eq!(again["id"], delete["id"]);
    let outbox = Value::from(alice.walk("outbox").await).to_string();
    assert!(!outbox.contains("regretted"), "{outbox}");
    assert!(!server.get("/@alice", HTML).await.body.contains("regretted"));
}

#[tokio::test]
async fn a_follow_and_a_like_can_be_taken_back() {
    let server = Server::new();
    let (alice, bob) = (server.app("alice").await, server.app("bob").await);
    let note = alice.posts("hello").await;
    let follow = bob.sends(json!({"type": "Follow", "object": alice.id()})).await;
    let twice = bob.sends(json!({"type": "Follow", "object": alice.id()})).await;
    assert_eq!(follow["id"], twice["id"], "following twice is following once");

    let undo = bob.sends(json!({"type": "Undo", "object": follow["id"]})).await;
    assert_eq!(undo["type"], "Undo");
    assert_eq!(undo["object"]["type"], "Follow");
    assert!(alice.walk("followers").await.is_empty());

    bob.sends(json!({"type": "Follow", "object": alice.id()})).await;
    let undo = json!({"type": "Undo", "object": {"type": "Follow", "object": alice.id()}});
    bob.sends(undo.clone()).await;
    assert!(alice.walk("followers").await.is_empty());
    assert!(bob.try_send(&undo).await.problem(404).contains("you do not follow"));

    let like = bob.sends(json!({"type": "Like", "object": note["id"]})).await;
    assert!(server.get("/@alice", HTML).await.body.contains("1<span class=\"unseen\"> likes"));
    let refused = alice.try_send(&json!({"type": "Undo", "object": like["id"]})).await;
    assert_eq!(refused.problem(403), "this activity is somebody else's");
    bob.sends(json!({"type": "Undo", "object": like})).await;
    assert!(!server.get("/@alice", HTML).await.body.contains(" likes"));
}

#[tokio::test]
async fn every_page_of_a_collection_shows_every_item_once() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let bob = server.app("bob").await;
    bob.sends(json!({"type": "Follow", "object": alice.id()})).await;
    let mut posted = Vec::new();
    for number in 0..95 {
        posted.push(alice.posts(&format!("note {number}")).await["id"].clone());
    }
    // Of two notes within one millisecond either may come first, so they are compared in one order.
    let newest_first = |mut ids: Vec<Value>| {
        ids.sort_by_key(|id| std::cmp::Reverse(id.as_str().unwrap().to_owned()));
        ids
    };
    let ids = |items: Vec<Value>| -> Vec<Value> {
        items.iter().map(|item| item["object"]["id"].clone()).collect()
    };
    let posted = newest_first(posted);
    assert_eq!(newest_first(ids(alice.walk("outbox").await)), posted);
    assert_eq!(newest_first(ids(bob.walk("inbox").await)), posted);

    // And of the pages.
    let mut browser = server.stranger();
    browser.sign_in("bob", crate::server::PASSWORD).await;
    for start in ["/", "/@alice"] {
        let (mut seen, mut next) = (Vec::new(), Some(start.to_owned()));
        while let Some(path) = next {
            let page = browser.sees(&path).await;
            let found = page.split("id=\"note-").skip(1);
            seen.extend(found.map(|rest| rest.split('"').next().unwrap().to_owned()));
            next = page
                .split("<a class=\"button quiet\" href=\"")
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap().to_owned())
                .find(|link| link.contains("before="));
        }
        let want: Vec<&str> =
            posted.iter().map(|id| id.as_str().unwrap().rsplit('/').next().unwrap()).collect();
        assert_eq!(seen, want, "{start}");
    }
}
