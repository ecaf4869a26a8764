//! What strangers may send and how often.

use axum::body::Body;
use http::{Request, StatusCode, header};

use crate::server::{AS2, App, PASSWORD, Server};

const WRONG: &str = "grant_type=password&username=alice&password=not+this+one";

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let send = |length: usize| {
        Request::post("/users/alice/outbox")
            .header(header::CONTENT_TYPE, AS2)
            .header(header::AUTHORIZATION, format!("Bearer {}", alice.token))
            .body(Body::from(" ".repeat(length)))
            .unwrap()
    };
    let said = server.send(send(64 * 1024 + 1)).await.problem(413);
    assert_eq!(said, "the body is longer than the 65536 bytes that are taken");
    server.send(send(64 * 1024)).await.problem(400);
    let form = format!("token={}", "x".repeat(64 * 1024));
    server.form("/oauth/revoke", &form).await.problem(413);
    let request = Request::post("/oauth/token").body(Body::from("{}")).unwrap();
    server.send(request).await.problem(415);
}

/// A body of which nothing may be asked for: its sender waits to be told to go on.
struct Unread;

impl http_body::Body for Unread {
    type Data = bytes::Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        panic!("it was read")
    }
}

#[tokio::test]
async fn a_body_that_is_said_to_be_too_long_is_not_read() {
    let server = Server::new();
    let alice = server.app("alice").await;
    for (path, kind) in
        [("/users/alice/outbox", AS2), ("/oauth/token", "application/x-www-form-urlencoded")]
    {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, kind)
            .header(header::CONTENT_LENGTH, 64 * 1024 + 1)
            .header(header::AUTHORIZATION, format!("Bearer {}", alice.token))
            .body(Body::new(Unread))
            .unwrap();
        server.send(request).await.problem(413);
    }
}

/// Fails to sign in until that is too often, and returns how often it was allowed.
async fn guesses(server: &Server, peer: &str, headers: &[(&str, &str)], form: &str) -> usize {
    for tries in 0..100 {
        let answer = server.form_from(peer, headers, "/oauth/token", form).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            answer.problem(429);
            assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
            return tries;
        }
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
    }
    100
}

#[tokio::test]
async fn guessing_one_password_ends_soon_from_wherever() {
    let server = Server::new();
    server.account("alice");
    assert_eq!(guesses(&server, "192.0.2.1", &[], WRONG).await, 10);
    // From elsewhere no further guess either, even the right one.
    let right = WRONG.replace("not+this+one", "correct+horse");
    let answer = server.form_from("192.0.2.2", &[], "/oauth/token", &right).await;
    answer.problem(429);
    // Others are not concerned.
    server.account("bob");
    let bob = right.replace("alice", "bob");
    let answer = server.form_from("192.0.2.2", &[], "/oauth/token", &bob).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn guessing_many_passwords_from_one_place_ends_too() {
    let server = Server::new();
    let form = "grant_type=password&username=not+a+name&password=not+this+one";
    assert_eq!(guesses(&server, "2001:db8:1:2::1", &[], form).await, 20);
    // The whole /64 is one customer; the next one is another.
    let answer = server.form_from("2001:db8:1:2:ffff::9", &[], "/oauth/token", form).await;
    answer.problem(429);
    let answer = server.form_from("2001:db8:1:3::1", &[], "/oauth/token", form).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    // An address that a stranger writes themselves changes nothing; one from a proxy counts.
    let spoofed = [("x-forwarded-for", "198.51.100.7"), ("forwarded", "for=198.51.100.7")];
    let answer = server.form_from("2001:db8:1:2::1", &spoofed, "/oauth/token", form).await;
    answer.problem(429);
    for proxy in ["10.0.0.1", "unix"] {
        let spoofed = [("x-forwarded-for", "198.51.100.7, 2001:db8:1:2::5")];
        server.form_from(proxy, &spoofed, "/oauth/token", form).await.problem(429);
        let honest = [("x-forwarded-for", "198.51.100.7")];
        let answer = server.form_from(proxy, &honest, "/oauth/token", form).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{proxy}");
    }
}

#[tokio::test]
async fn signing_in_rightly_is_never_too_often() {
    let server = Server::new();
    server.account("alice");
    let right = WRONG.replace("not+this+one", "correct+horse");
    for _ in 0..25 {
        let answer = server.form("/oauth/token", &right).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
}

#[tokio::test]
async fn a_long_password_costs_nothing() {
    let server = Server::new();
    server.account("alice");
    let long = format!("grant_type=password&username=alice&password={}", "x".repeat(60_000));
    let answer = server.form("/oauth/token", &long).await;
    assert_eq!(answer.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn accounts_are_made_only_so_often_from_one_place() {
    let server = Server::with(|site| site.open_registration = true);
    for number in 0..6 {
        let mut browser = server.stranger();
        let name = format!("user{number}");
        let fields = [("username", name.as_str()), ("password", "correct horse")];
        let answer = browser.submits("/register", "/register", &fields).await;
        let want = if number < 5 { StatusCode::SEE_OTHER } else { StatusCode::TOO_MANY_REQUESTS };
        assert_eq!(answer.status, want, "{number}: {}", answer.body);
    }
}

/// What a client takes back as fast as it asks for it has its place until it is done (CVE-2023-44487).
#[test]
fn requests_that_are_taken_back_do_not_pile_up_before_the_database() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = Server::new();
        let first = server.app("alice").await;
        let mut tokens = vec![first.token.clone()];
        for _ in 0..4 {
            let form = format!("grant_type=password&username=alice&password={PASSWORD}");
            let answer = server.form("/oauth/token", &form.replace(' ', "+")).await;
            tokens.push(answer.json()["access_token"].as_str().unwrap().to_owned());
        }
        // The only thread there is has something else to do.
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let occupied = tokio::task::spawn_blocking(move || wait.recv());
        for token in &tokens {
            let form = format!("token={token}");
            let mut asked = std::pin::pin!(server.form("/oauth/revoke", &form));
            let answered = std::future::poll_fn(|context| {
                std::task::Poll::Ready(asked.as_mut().poll(context).is_ready())
            });
            assert!(!answered.await);
        }
        go_on.send(()).unwrap();
        occupied.await.unwrap().unwrap();
        let mut valid = 0;
        for token in tokens {
            let app = App { server: &server, name: "alice".to_owned(), token };
            valid += usize::from(app.get("/users/alice/inbox").await.status == StatusCode::OK);
        }
        assert_eq!(valid, 3, "two had a place, and the others had not begun to wait");
    });
}
