//! What a page must not let anybody do.

use http::StatusCode;
use serde_json::json;

use crate::server::{AS2, HTML, Server, csrf_in};

/// What people try to get into a page.
const ATTACKS: &[&str] = &[
    "<script>alert(1)</script>",
    "</textarea></title><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<a href=\"java\tscript:alert(1)\">x</a>",
    "<a href=\"data:text/html,<script>\">x</a>",
    "<p onclick=\"alert(1)\">x</p>",
    "\" onmouseover=\"alert(1)\" x=\"",
    "'><svg/onload=alert(1)>",
    "[x](javascript:alert(1))",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
    "{{ 7 * 7 }}{% raw %}",
    "\u{202e}gnp.exe",
];

/// That a browser would make no element or attribute of it that our templates do not write.
fn assert_inert(html: &str, what: &str) {
    for tag in html.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or((tag, ""));
        let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        let name = name.to_ascii_lowercase();
        assert!(
            !["script", "style", "iframe", "object", "math"].contains(&name.as_str()),
            "{what}: <{tag}>"
        );
        // Only what stands outside of quotes is the name of an attribute.
        let names: String = tag.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        for attribute in names.split_whitespace().skip(1) {
            assert!(!attribute.to_ascii_lowercase().starts_with("on"), "{what}: <{tag}>");
        }
        if let Some(target) = tag.split("href=\"").nth(1) {
            let safe = ["/", "https://", "http://", "#"];
            assert!(safe.iter().any(|start| target.starts_with(start)), "{what}: <{tag}>");
        }
        assert!(name != "img" || tag.contains("src=\"/static/pump-"), "{what}: <{tag}>");
    }
}

#[tokio::test]
async fn nothing_that_is_written_becomes_a_part_of_the_page() {
    let server = Server::new();
    let mut alice = server.browser("alice").await;
    let form = "grant_type=password&username=alice&password=correct+horse";
    let token = server.form("/oauth/token", form).await.json()["access_token"].clone();
    let token = token.as_str().unwrap().to_owned();
    let app = crate::server::App { server: &server, name: "alice".to_owned(), token };
    for attack in ATTACKS {
        let name: String = attack.chars().filter(|c| !c.is_control()).take(60).collect();
        let about = [("display_name", name.as_str()), ("summary", *attack)];
        let saved = alice.submits("/settings", "/settings", &about).await;
        assert_eq!(saved.status, StatusCode::SEE_OTHER, "{attack}: {}", saved.body);
        let plain = alice.submits("/", "/post", &[("text", attack)]).await;
        assert_eq!(plain.status, StatusCode::SEE_OTHER, "{attack}");
        let html = json!({"type": "Note", "content": format!("seen {attack}")});
        let note = app.sends(html).await["object"].clone();
        assert_inert(note["content"].as_str().unwrap(), attack);
        assert_eq!(note["source"]["content"], format!("seen {attack}"));

        let page = note["url"].as_str().unwrap().trim_start_matches("https://social.example");
        for path in ["/", "/@alice", "/settings", "/people", page] {
            assert_inert(&alice.sees(path).await, &format!("{path} {attack}"));
        }
        let actor = server.get("/users/alice", AS2).await.json();
        assert_eq!(actor["name"], name.trim());
        assert_inert(actor["summary"].as_str().unwrap(), attack);
        let wrong = [("username", *attack), ("password", "wrong one")];
        let shown = server.stranger().submits("/login", "/login", &wrong).await;
        assert_inert(&shown.body, attack);
    }
}

#[tokio::test]
async fn what_an_older_release_stored_is_sanitised_when_it_is_shown() {
    let server = Server::new();
    let alice = server.account("alice");
    let new = pump_store::NewNote {
        media_type: pump_store::MediaType::Markdown,
        source: pump_model::NoteText::new("x").unwrap(),
        content: "<p>kept</p><script>alert(1)</script><img src=x onerror=alert(1)>".to_owned(),
    };
    let now = pump_model::Timestamp::from(std::time::SystemTime::now());
    server.store.post_note(alice.id, &new, now).unwrap();
    let page = server.get("/@alice", HTML).await.body;
    assert!(page.contains("<p>kept</p>"));
    assert_inert(&page, "a page");
    let outbox = server.get("/users/alice/outbox?page=true", AS2).await;
    assert_eq!(outbox.json()["orderedItems"][0]["object"]["content"], "<p>kept</p>");
}

#[tokio::test]
async fn a_form_from_elsewhere_is_refused() {
    let server = Server::new();
    let mut alice = server.browser("alice").await;
    let csrf = csrf_in(&alice.sees("/").await).unwrap();
    let good = [("csrf", csrf.as_str()), ("text", "hello")];
    for headers in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", "https://social.example.evil.example")],
        &[("origin", "https://evil.example"), ("host", "social.example")],
    ] {
        let answer = alice.posts("/post", &good, headers).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{headers:?}");
    }
    // The value of somebody else, and one that a stranger has before signing in.
    let mut bob = server.browser("bob").await;
    let theirs = csrf_in(&bob.sees("/").await).unwrap();
    let strangers = csrf_in(&server.stranger().sees("/login").await).unwrap();
    for csrf in [theirs.as_str(), strangers.as_str(), ""] {
        let answer = alice.posts("/post", &[("csrf", csrf), ("text", "x")], &[]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
    assert!(!alice.sees("/").await.contains("class=\"note\""), "nothing was posted");
    for headers in [
        &[("sec-fetch-site", "same-origin"), ("origin", "https://social.example")][..],
        &[("origin", "http://127.0.0.1:8000"), ("host", "127.0.0.1:8000")],
        &[],
    ] {
        let answer = alice.posts("/post", &good, headers).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{headers:?}");
    }
}

#[tokio::test]
async fn every_answer_ties_the_browser_down() {
    let server = Server::new();
    for path in ["/", "/login", "/nowhere", "/healthz", "/users/nobody"] {
        let answer = server.get(path, HTML).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "same-origin");
        assert!(!answer.header("cache-control").is_empty());
    }
}

#[tokio::test]
async fn a_session_cookie_is_out_of_reach() {
    let server = Server::new();
    server.account("alice");
    let mut browser = server.stranger();
    let shown = browser.get("/login").await;
    assert!(shown.header("set-cookie").starts_with("__Host-pump-form="));
    let fields = [("username", "alice"), ("password", "correct horse")];
    let answer = browser.submits("/login", "/login", &fields).await;
    let cookie = answer.header("set-cookie").to_owned();
    assert!(cookie.starts_with("__Host-pump="), "{cookie}");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Secure", "; Max-Age="] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    assert_eq!(browser.get("/").await.header("cache-control"), "no-store");

    // On a laptop without HTTPS a browser would not take such a cookie.
    let plain = Server::with(|site| site.public_url = "http://127.0.0.1:8000".to_owned());
    let cookie = plain.get("/login", HTML).await.header("set-cookie").to_owned();
    assert!(cookie.starts_with("pump-form=") && !cookie.contains("Secure"), "{cookie}");
}

/// The rules by which browsers read HTML open what was left open again in every block, so that a few
/// kilobytes come out as megabytes, for everybody who looks at the page.
#[tokio::test]
async fn a_note_that_swells_is_refused() {
    let server = Server::new();
    let app = server.app("alice").await;
    let open: String = (0..450).map(|n| format!("<b a{n}>")).collect();
    // Within what may be nested, and still too much in the end.
    let some: String = (0..20).map(|n| format!("<strong a{n}>")).collect();
    let marked = format!("<p>{some}{}", "<p>x</p>".repeat(500));
    for html in [format!("<p>{open}{}", "<p>x".repeat(300)), marked, "<ul>".repeat(1_200) + "x"] {
        let html: String = html.chars().take(5_000).collect();
        let answer = app.try_send(&json!({"type": "Note", "content": html})).await;
        answer.problem(422);
    }
    let page = server.get("/@alice", HTML).await;
    assert!(page.body.len() < 64 * 1024, "{} bytes", page.body.len());
}
