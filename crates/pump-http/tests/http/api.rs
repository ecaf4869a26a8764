//! The parts that programs depend on, to the letter.

use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Request, StatusCode, header};
use serde_json::json;

use crate::server::{AS2, HTML, PASSWORD, Server, URL};

const LD: &str = "application/ld+json; profile=\"https://www.w3.org/ns/activitystreams\"";

#[tokio::test]
async fn each_form_of_an_actor_and_a_note_is_had_by_asking_for_it() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let note = alice.posts("hello").await["id"].as_str().unwrap().to_owned();
    for id in [alice.id(), note] {
        for (accept, kind) in [
            (AS2, AS2),
            (LD, LD),
            ("application/ld+json", LD),
            ("application/json", AS2),
            ("*/*", AS2),
        ] {
            let answer = server.get(&id, accept).await;
            assert_eq!(answer.status, StatusCode::OK, "{id} {accept}");
            assert_eq!(answer.header("content-type"), kind, "{id} {accept}");
            assert_eq!(answer.header("vary"), "Accept", "{id} {accept}");
            let json = answer.json();
            assert_eq!(json["id"], *id);
            assert_eq!(json["@context"], "https://www.w3.org/ns/activitystreams");
        }
        let page = server.get(&id, HTML).await;
        assert_eq!(page.status, StatusCode::SEE_OTHER);
        assert!(page.header("location").starts_with(&format!("{URL}/@alice")), "{id}");
        assert_eq!(page.header("vary"), "Accept");
        let neither = server.get(&id, "image/png").await;
        neither.problem(406);
        assert!(neither.header("vary").contains("Accept"));
    }
}

#[tokio::test]
async fn an_actor_names_where_everything_is() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let actor = server.get(&alice.id(), AS2).await.json();
    assert_eq!(actor["type"], "Person");
    assert_eq!(actor["preferredUsername"], "alice");
    assert_eq!(actor["name"], "alice");
    assert_eq!(actor["url"], format!("{URL}/@alice"));
    assert_eq!(actor["endpoints"]["oauthTokenEndpoint"], format!("{URL}/oauth/token"));
    for collection in ["inbox", "outbox", "followers", "following"] {
        assert_eq!(actor[collection], format!("{}/{collection}", alice.id()));
        let answer = alice.get(actor[collection].as_str().unwrap()).await;
        assert_eq!(answer.json()["id"], actor[collection]);
        assert_eq!(answer.header("content-type"), AS2);
    }
    assert_eq!(
        alice.get(&format!("{}/inbox", alice.id())).await.header("cache-control"),
        "no-store"
    );
    for path in
        ["/users/nobody", "/users/a.b", "/users/%ff", "/notes/0", "/notes/12", "/activities/x"]
    {
        server.get(path, AS2).await.problem(404);
    }
}

#[tokio::test]
async fn what_an_outbox_refuses_it_explains() {
    let server = Server::new();
    let alice = server.app("alice").await;
    server.account("bob");
    let public = "https://www.w3.org/ns/activitystreams#Public";
    for (activity, status, sentence) in [
        (json!({"type": "Announce", "object": "x"}), 422, "`type` is `Announce`; allowed are"),
        (json!({"type": "Note"}), 400, "`content` is missing"),
        (json!([1]), 400, "the body is a list of 1"),
        (
            json!({"type": "Like", "actor": format!("{URL}/users/bob"), "object": "x"}),
            403,
            "`actor` is `https://social.example/users/bob`, and this is the outbox of",
        ),
        (
            json!({"type": "Note", "content": "x", "to": format!("{}/followers", alice.id())}),
            422,
            "notes for some only are not supported",
        ),
        (json!({"type": "Note", "content": "<p> </p>"}), 422, "nothing to read"),
        (json!({"type": "Note", "content": " "}), 422, "a note needs some text"),
        (json!({"type": "Note", "content": "a\u{0}b"}), 422, "control character"),
        (json!({"type": "Note", "content": "x".repeat(5001)}), 422, "at most 5000 are taken"),
        (
            json!({"type": "Follow", "object": "https://b.example/users/x"}),
            422,
            "others are not reached",
        ),
        (json!({"type": "Follow", "object": format!("{URL}/users/zoe")}), 404, "no account `zoe`"),
        (json!({"type": "Follow", "object": alice.id()}), 422, "nobody can follow themselves"),
        (
            json!({"type": "Like", "object": format!("{URL}/notes/12")}),
            404,
            "there is no such note",
        ),
        (json!({"type": "Delete", "object": alice.id()}), 422, "is no note of this server"),
        (json!({"type": "Undo", "object": format!("{URL}/activities/9")}), 404, "no such activity"),
    ] {
        let said = alice.try_send(&activity).await.problem(status);
        assert!(said.contains(sentence), "{activity}: {said}");
    }
    let create = alice.sends(json!({"type": "Note", "content": "x", "cc": public})).await;
    let undo = alice.try_send(&json!({"type": "Undo", "object": create["id"]})).await;
    assert_eq!(undo.problem(422), "only a follow or a like can be undone");

    // Not JSON, and not of the type.
    let send = |kind: &'static str, body: &'static str| {
        Request::post("/users/alice/outbox")
            .header(header::CONTENT_TYPE, kind)
            .header(header::AUTHORIZATION, format!("Bearer {}", alice.token))
            .body(Body::from(body))
            .unwrap()
    };
    let bad = server.send(send(AS2, "{\"type\": ")).await;
    assert!(bad.problem(400).starts_with("the body is not acceptable JSON"));
    let wrong = server.send(send("text/plain", "{}")).await;
    wrong.problem(415);
    assert_eq!(wrong.header("accept-post"), AS2);
}

#[tokio::test]
async fn webfinger_finds_people_by_each_of_their_addresses() {
    let server = Server::new();
    server.account("alice");
    let ask = async |resource: &str| {
        let resource: String = url::form_urlencoded::byte_serialize(resource.as_bytes()).collect();
        server.get(&format!("/.well-known/webfinger?resource={resource}"), "*/*").await
    };
    for resource in [
        "acct:alice@social.example",
        "acct:Alice@Social.Example",
        "https://social.example/users/alice",
        "https://social.example/@alice",
    ] {
        let answer = ask(resource).await;
        assert_eq!(answer.status, StatusCode::OK, "{resource}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/jrd+json");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let found = answer.json();
        assert_eq!(found["subject"], "acct:alice@social.example");
        assert_eq!(found["links"][0]["rel"], "self");
        assert_eq!(found["links"][0]["type"], AS2);
        assert_eq!(found["links"][0]["href"], format!("{URL}/users/alice"));
    }
    for resource in [
        "acct:zoe@social.example",
        "acct:alice@elsewhere.example",
        "https://elsewhere.example/users/alice",
        "https://social.example/notes/1",
    ] {
        ask(resource).await.problem(404);
    }
    for resource in ["", "alice", "acct:alice", "acct:@", "mailto:alice@social.example"] {
        ask(resource).await.problem(400);
    }
    server.get("/.well-known/webfinger", "*/*").await.problem(400);
    let chosen = "/.well-known/webfinger?resource=acct:alice@social.example&rel=self";
    assert_eq!(server.get(chosen, "*/*").await.json()["links"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn nodeinfo_tells_what_this_is() {
    let server = Server::new();
    let alice = server.app("alice").await;
    alice.posts("hello").await;
    let links = server.get("/.well-known/nodeinfo", "*/*").await.json();
    for link in links["links"].as_array().unwrap() {
        let answer = server.get(link["href"].as_str().unwrap(), "*/*").await;
        let version = link["rel"].as_str().unwrap().rsplit('/').next().unwrap();
        assert!(answer.header("content-type").contains(&format!("schema/{version}#")));
        let info = answer.json();
        assert_eq!(info["version"], *version);
        assert_eq!(info["software"]["name"], "pump");
        assert_eq!(info["software"]["version"], "1.2.3");
        assert_eq!(info["protocols"], json!(["activitypub"]));
        assert_eq!(info["openRegistrations"], false);
        assert_eq!(info["usage"]["localPosts"], 1);
        assert_eq!(info["usage"]["users"]["total"], 1);
    }
}

#[tokio::test]
async fn a_token_is_given_for_a_password_and_can_be_taken_back() {
    let server = Server::new();
    server.account("alice");
    let refused = async |form: &str, error: &str| {
        let answer = server.form("/oauth/token", form).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{form}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.json()["error"], *error, "{form}");
    };
    refused("", "invalid_request").await;
    refused("grant_type=client_credentials", "unsupported_grant_type").await;
    refused("grant_type=password&username=alice", "invalid_request").await;
    refused("grant_type=password&username=alice&password=wrong+one", "invalid_grant").await;
    refused("grant_type=password&username=nobody&password=wrong+one", "invalid_grant").await;

    let form = "grant_type=password&username=Alice&password=correct+horse";
    let answer = server.form("/oauth/token", form).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.header("cache-control"), "no-store");
    let token = answer.json();
    assert_eq!(token["token_type"], "Bearer");
    assert!(token["created_at"].as_i64().unwrap() > 1_700_000_000);
    let token = token["access_token"].as_str().unwrap().to_owned();
    let app = crate::server::App { server: &server, name: "alice".to_owned(), token };
    assert_eq!(app.get("/users/alice/inbox").await.status, StatusCode::OK);

    for _ in 0..2 {
        let answer = server.form("/oauth/revoke", &format!("token={}", app.token)).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    app.get("/users/alice/inbox").await.problem(401);
    assert_eq!(PASSWORD, "correct horse");
}

#[tokio::test]
async fn ready_is_who_can_write() {
    let server = Server::new();
    assert_eq!(server.get("/healthz", "*/*").await.status, StatusCode::OK);
    assert_eq!(server.get("/readyz", "*/*").await.status, StatusCode::OK);
    pump_http::probe(&server.service).await.unwrap();
    server.store.close().unwrap();
    // A write within the last second is proof enough, so it may take as long to be noticed.
    let until = Instant::now() + Duration::from_secs(20);
    let mut answer = server.get("/readyz", "*/*").await;
    while answer.status == StatusCode::OK && Instant::now() < until {
        tokio::task::yield_now().await;
        answer = server.get("/readyz", "*/*").await;
    }
    assert!(answer.problem(503).contains("nothing can be written"));
    assert!(!answer.header("retry-after").is_empty());
    assert!(!answer.body.contains("pump.sqlite3"), "a stranger learns no paths");
    assert_eq!(server.get("/healthz", "*/*").await.status, StatusCode::OK);
    let why = pump_http::probe(&server.service).await.unwrap_err();
    assert!(why.contains("503"), "{why}");
}

#[tokio::test]
async fn answers_carry_their_generation_when_asked_to() {
    let server = Server::with(|site| site.generation_header = Some("7 0a1b2c3d 99".to_owned()));
    for path in ["/", "/healthz", "/nowhere", "/users/alice/inbox"] {
        assert_eq!(server.get(path, "*/*").await.header("pump-generation"), "7 0a1b2c3d 99");
    }
    assert_eq!(Server::new().get("/", "*/*").await.header("pump-generation"), "");
}
