//! What somebody with a browser can do.

use http::StatusCode;

use crate::server::{HTML, PASSWORD, Server};

#[tokio::test]
async fn somebody_signs_in_posts_follows_and_signs_out() {
    let server = Server::new();
    server.account("bob");
    let mut alice = server.browser("alice").await;
    let posted = alice.submits("/", "/post", &[("text", "first\r\nlines & *more*")]).await;
    assert_eq!(posted.status, StatusCode::SEE_OTHER);
    assert_eq!(posted.header("location"), "/");
    let home = alice.sees("/").await;
    assert!(home.contains("first<br>\nlines &amp; <em>more</em>"), "{home}");

    let mut bob = server.stranger();
    bob.sign_in("bob", PASSWORD).await;
    assert!(bob.sees("/people").await.contains("href=\"/@alice\""));
    assert!(bob.sees("/@alice").await.contains(">Follow</button>"));
    let followed = bob.submits("/@alice", "/@alice/follow", &[]).await;
    assert_eq!(followed.header("location"), "/@alice");
    assert!(bob.sees("/@alice").await.contains(">Unfollow</button>"));
    assert!(bob.sees("/").await.contains("<em>more</em>"));
    assert!(bob.sees("/@alice/followers").await.contains("href=\"/@bob\""));
    assert!(bob.sees("/@bob/following").await.contains("href=\"/@alice\""));

    let home = bob.sees("/").await;
    let note = home.split("class=\"when\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    let liked = bob.submits("/", &format!("{note}/like"), &[("back", "/#note-1")]).await;
    assert_eq!(liked.header("location"), "/#note-1");
    assert!(bob.sees(note).await.contains("aria-pressed=\"true\""));
    bob.submits("/", &format!("{note}/unlike"), &[("back", "//evil.example")]).await;
    assert!(bob.sees(note).await.contains("aria-pressed=\"false\""));
    assert!(!bob.sees(note).await.contains("/delete"), "only the author may delete");
    let refused = bob.submits("/", &format!("{note}/delete"), &[]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let deleted = alice.submits("/", &format!("{note}/delete"), &[("back", note)]).await;
    assert_eq!(deleted.header("location"), "/");
    assert_eq!(alice.get(note).await.status, StatusCode::GONE);

    bob.submits("/@alice", "/@alice/unfollow", &[]).await;
    assert!(bob.sees("/@alice").await.contains(">Follow</button>"));

    let session = alice.cookies["__Host-pump"].clone();
    let out = alice.submits("/@alice", "/logout", &[]).await;
    assert_eq!(out.status, StatusCode::SEE_OTHER);
    alice.cookies.insert("__Host-pump".to_owned(), session);
    let after = alice.get("/settings").await;
    assert_eq!(after.header("location"), "/login", "the old session is worth nothing");
}

#[tokio::test]
async fn a_wrong_password_says_so_and_keeps_the_name() {
    let server = Server::new();
    server.account("alice");
    for name in ["alice", "nobody"] {
        let fields = [("username", name), ("password", "wrong one")];
        let mut browser = server.stranger();
        let answer = browser.submits("/login", "/login", &fields).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.body.contains("The name or the password is wrong."));
        assert!(answer.body.contains(&format!("value=\"{name}\"")));
        assert!(!browser.cookies.contains_key("__Host-pump"));
    }
}

#[tokio::test]
async fn a_note_that_cannot_be_posted_is_not_lost() {
    let server = Server::new();
    let mut alice = server.browser("alice").await;
    let long = format!("<b>{}", "x".repeat(5000));
    let answer = alice.submits("/", "/post", &[("text", &long)]).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.body.contains("at most 5000 are taken"));
    assert!(answer.body.contains("&#60;b&#62;xxx"), "the draft is there again, escaped");
}

#[tokio::test]
async fn a_profile_is_what_its_owner_says() {
    let server = Server::new();
    let mut alice = server.browser("alice").await;
    let fields = [("display_name", "Alice A."), ("summary", "one\r\ntwo")];
    let saved = alice.submits("/settings", "/settings", &fields).await;
    assert_eq!(saved.header("location"), "/@alice");
    let page = alice.sees("/@alice").await;
    assert!(page.contains("<bdi>Alice A.</bdi>") && page.contains("<p>one<br>two</p>"), "{page}");
    let long = "x".repeat(61);
    let refused = alice.submits("/settings", "/settings", &[("display_name", &long)]).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.contains("Nothing was saved"));
}

#[tokio::test]
async fn an_open_site_lets_people_in() {
    let server = Server::with(|site| site.open_registration = true);
    server.account("alice");
    let mut browser = server.stranger();
    assert!(browser.sees("/").await.contains("Make an account"));
    for (name, password, sentence) in [
        ("alice", "correct horse", "the name `alice` is taken"),
        ("admin", "correct horse", "kept for the server itself"),
        ("a b", "correct horse", "a name is made of"),
        ("bob", "short", "at least 8 are needed"),
    ] {
        let fields = [("username", name), ("password", password)];
        let answer = browser.submits("/register", "/register", &fields).await;
        assert!(answer.status.is_client_error(), "{name}");
        assert!(answer.body.contains(sentence), "{name}: {}", answer.body);
    }
    let fields = [("username", "Bob"), ("password", "correct horse")];
    let answer = browser.submits("/register", "/register", &fields).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    assert!(browser.sees("/@bob").await.contains("Edit profile"));
    assert!(!Server::new().get("/", HTML).await.body.contains("Make an account"));
}

#[tokio::test]
async fn a_problem_is_a_page_for_a_browser() {
    let server = Server::new();
    let answer = server.get("/@nobody", HTML).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    assert!(answer.body.contains("There is nobody of that name here."));
}

#[tokio::test]
async fn the_sheet_is_kept_for_ever_and_never_missing() {
    let server = Server::new();
    let page = server.get("/", HTML).await.body;
    let ours = page.split("href=\"/static/").nth(1).unwrap().split('"').next().unwrap();
    let ours = server.get(&format!("/static/{ours}"), "text/css").await;
    assert_eq!(ours.status, StatusCode::OK);
    assert_eq!(ours.header("content-type"), "text/css; charset=utf-8");
    assert_eq!(ours.header("cache-control"), "public, max-age=31536000, immutable");
    // The page of another build, in the middle of an upgrade.
    let other = server.get("/static/pump-0123456789ab.css", "text/css").await;
    assert_eq!(other.status, StatusCode::OK);
    assert_eq!(other.header("cache-control"), "no-store");
    server.get("/static/pump.css", "text/css").await.problem(404);
    server.get("/static/..%2fCargo.toml", "*/*").await.problem(404);
}
