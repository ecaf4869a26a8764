//! Who may use which route: one line for each there is.

use std::collections::BTreeSet;

use axum::body::Body;
use http::{Request, StatusCode, header};
use tower::ServiceExt;

use crate::server::{AS2, HTML, Server, csrf_in};

/// Who a route is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum For {
    /// Anybody.
    All,
    /// Anybody; what is sent decides (a password, a token to end).
    Sender,
    /// A page for those who are signed in: others are led to sign in.
    SignedIn,
    /// A form: refused without its hidden value, whoever sends it.
    Form,
    /// The owner's app: 401 without a token, 403 with somebody else's.
    Owner,
    /// Anybody's app, each for its own account: 401 without a token.
    App,
    /// Nobody while registration is closed.
    Open,
}

const CASES: &[(&str, &str, For)] = &[
    ("GET", "/healthz", For::All),
    ("GET", "/readyz", For::All),
    ("GET", "/.well-known/webfinger", For::All),
    ("GET", "/.well-known/nodeinfo", For::All),
    ("GET", "/nodeinfo/2.0", For::All),
    ("GET", "/nodeinfo/2.1", For::All),
    ("GET", "/users/{name}", For::All),
    ("GET", "/users/{name}/inbox", For::Owner),
    ("GET", "/users/{name}/outbox", For::All),
    ("GET", "/users/{name}/followers", For::All),
    ("GET", "/users/{name}/following", For::All),
    ("GET", "/notes/{id}", For::All),
    ("GET", "/activities/{id}", For::All),
    ("POST", "/users/{name}/outbox", For::Owner),
    ("POST", "/oauth/token", For::Sender),
    ("POST", "/oauth/revoke", For::Sender),
    ("GET", "/api/v1/streaming", For::App),
    ("GET", "/api/v1/streaming/health", For::All),
    ("GET", "/api/v1/streaming/user", For::App),
    ("GET", "/static/{file}", For::All),
    ("GET", "/", For::All),
    ("POST", "/post", For::Form),
    ("GET", "/login", For::All),
    ("POST", "/login", For::Form),
    ("POST", "/logout", For::Form),
    ("GET", "/register", For::Open),
    ("POST", "/register", For::Form),
    ("GET", "/settings", For::SignedIn),
    ("POST", "/settings", For::Form),
    ("GET", "/people", For::SignedIn),
    ("GET", "/@{name}", For::All),
    ("GET", "/@{name}/followers", For::All),
    ("GET", "/@{name}/following", For::All),
    ("POST", "/@{name}/follow", For::Form),
    ("POST", "/@{name}/unfollow", For::Form),
    ("GET", "/@{name}/{id}", For::All),
    ("POST", "/@{name}/{id}/like", For::Form),
    ("POST", "/@{name}/{id}/unlike", For::Form),
    ("POST", "/@{name}/{id}/delete", For::Form),
];

#[test]
fn every_route_says_who_it_is_for() {
    let cases: BTreeSet<(String, &str)> =
        CASES.iter().map(|(method, path, _)| ((*method).to_owned(), *path)).collect();
    let routes: BTreeSet<(String, &str)> =
        pump_http::routes().into_iter().map(|(method, path)| (method.to_string(), path)).collect();
    assert_eq!(cases, routes);
    assert_eq!(cases.len(), CASES.len(), "no case stands twice");
}

#[tokio::test]
async fn every_route_keeps_to_it() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let bob = server.app("bob").await;
    let mut browser = server.browser("carol").await;
    let note = alice.posts("hello").await;
    let activity = alice.walk("outbox").await[0]["id"].as_str().unwrap().to_owned();
    let id = note["id"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let page = server.get("/", HTML).await.body;
    let style = page.split("/static/").nth(1).unwrap().split('"').next().unwrap().to_owned();

    for (method, pattern, whom) in CASES {
        let path = match *pattern {
            "/activities/{id}" => activity.trim_start_matches("https://social.example").to_owned(),
            "/.well-known/webfinger" => {
                format!("{pattern}?resource=acct:alice@social.example")
            }
            "/api/v1/streaming" => format!("{pattern}?stream=user"),
            _ => pattern.replace("{name}", "alice").replace("{id}", &id).replace("{file}", &style),
        };
        let accept =
            if pattern.starts_with("/users") || pattern.starts_with("/notes") { AS2 } else { HTML };
        let request = |token: Option<&str>, cookie: Option<&str>, body: &str| {
            let kind = match *whom {
                For::Owner => AS2,
                _ => "application/x-www-form-urlencoded",
            };
            let mut request = Request::builder()
                .method(*method)
                .uri(&path)
                .header(header::ACCEPT, accept)
                .header(header::CONTENT_TYPE, kind);
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            if let Some(cookie) = cookie {
                request = request.header(header::COOKIE, format!("__Host-pump={cookie}"));
            }
            request.body(Body::from(body.to_owned())).unwrap()
        };
        let session = browser.cookies["__Host-pump"].clone();
        let stranger = server.send(request(None, None, "")).await;
        let case = format!("{method} {path}: {}", stranger.status);
        match whom {
            For::All => assert_eq!(stranger.status, StatusCode::OK, "{case}"),
            For::Sender => assert_eq!(stranger.status, StatusCode::BAD_REQUEST, "{case}"),
            For::SignedIn => {
                assert_eq!(stranger.status, StatusCode::SEE_OTHER, "{case}");
                assert_eq!(stranger.header("location"), "/login", "{case}");
                let known = server.send(request(None, Some(&session), "")).await;
                assert_eq!(known.status, StatusCode::OK, "{case}");
                // A token of an app is no session, in whichever place it stands.
                for (token, cookie) in
                    [(Some(alice.token.as_str()), None), (None, Some(&alice.token))]
                {
                    let other = server.send(request(token, cookie.map(|c| c.as_str()), "")).await;
                    assert_eq!(other.status, StatusCode::SEE_OTHER, "{case}");
                }
            }
            For::Form => {
                assert_eq!(stranger.status, StatusCode::FORBIDDEN, "{case}");
                for body in ["text=x", "csrf=&text=x", "csrf=00&text=x"] {
                    let without = server.send(request(None, Some(&session), body)).await;
                    assert_eq!(without.status, StatusCode::FORBIDDEN, "{case} {body}");
                }
            }
            For::Owner | For::App => {
                assert_eq!(stranger.status, StatusCode::UNAUTHORIZED, "{case}");
                assert!(stranger.header("www-authenticate").starts_with("Bearer"), "{case}");
                let wrong = server.send(request(Some("0123"), None, "")).await;
                assert_eq!(wrong.status, StatusCode::UNAUTHORIZED, "{case}");
                assert!(wrong.header("www-authenticate").contains("invalid_token"), "{case}");
                if *whom == For::Owner {
                    let other = server.send(request(Some(&bob.token), None, "")).await;
                    assert_eq!(other.status, StatusCode::FORBIDDEN, "{case}");
                }
                // A session of a browser is no token, in whichever place it stands.
                for (token, cookie) in [(Some(session.as_str()), None), (None, Some(&session))] {
                    let other = server.send(request(token, cookie.map(|c| c.as_str()), "")).await;
                    assert_eq!(other.status, StatusCode::UNAUTHORIZED, "{case}");
                }
                // The head only: an event stream has no end.
                let own = server.service.clone().oneshot(request(Some(&alice.token), None, ""));
                let own = own.await.unwrap().status();
                assert!(!own.is_server_error(), "{case}: {own}");
                assert!(own != StatusCode::FORBIDDEN && own != StatusCode::UNAUTHORIZED, "{case}");
            }
            For::Open => assert_eq!(stranger.status, StatusCode::FORBIDDEN, "{case}"),
        }
    }

    // After all the refusals: nothing of it was done.
    assert_eq!(server.get(note["id"].as_str().unwrap(), AS2).await.status, StatusCode::OK);
    assert!(csrf_in(&browser.sees("/").await).is_some(), "still signed in");
}

#[tokio::test]
async fn a_stranger_with_a_form_of_their_own_is_led_to_sign_in_or_refused() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let note = alice.posts("hello").await;
    let path =
        note["url"].as_str().unwrap().trim_start_matches("https://social.example").to_owned();
    for target in ["/post", "/settings", "/@alice/follow", "/@alice/unfollow"] {
        let answer = server.stranger().submits("/login", target, &[("text", "x")]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{target}");
        assert_eq!(answer.header("location"), "/login", "{target}");
    }
    for verb in ["like", "unlike", "delete"] {
        let answer = server.stranger().submits("/login", &format!("{path}/{verb}"), &[]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{verb}");
    }
    assert_eq!(alice.walk("outbox").await.len(), 1);
}

#[tokio::test]
async fn a_method_that_is_not_there_is_told_which_are() {
    let server = Server::new();
    let request = Request::delete("/oauth/token").body(Body::empty()).unwrap();
    let answer = server.send(request).await;
    answer.problem(405);
    assert_eq!(answer.header("allow"), "POST");
    assert_eq!(server.get("/nowhere", "*/*").await.problem(404), "there is no such page");
}
