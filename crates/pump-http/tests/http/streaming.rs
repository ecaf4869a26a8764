//! The home feed as it happens, as an app sees it and as a worker passes it on.

use std::time::{Duration, SystemTime};

use axum::body::Body;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use pump_http::{EventSource, EventStream, Service};
use pump_model::{NoteText, Timestamp};
use pump_store::NewNote;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::server::{App, Server, URL};

/// Longer than anything here takes. When it ends, something is missing.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
    retry: Option<u64>,
}

/// An app that listens, on a connection that the worker writes itself.
pub(crate) struct Stream {
    pub(crate) source: EventSource,
    events: Vec<Event>,
}

pub(crate) async fn open(
    service: &Service,
    token: &str,
    last: Option<&str>,
) -> http::Response<Body> {
    let mut request = Request::get("/api/v1/streaming/user")
        .header(header::HOST, "social.example")
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

impl Stream {
    pub(crate) async fn open(service: &Service, token: &str, last: Option<&str>) -> Self {
        let answer = open(service, token, last).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let stream = answer.extensions().get::<EventStream>().unwrap();
        Self::of(stream.take().expect("nobody took it"))
    }

    fn of(source: EventSource) -> Self {
        Self { source, events: Vec::new() }
    }

    /// The next event, whatever it is; none when the stream has ended.
    pub(crate) async fn any(&mut self) -> Option<Event> {
        let read = async {
            while self.events.is_empty() {
                let text = self.source.next().await?;
                self.events = parse(std::str::from_utf8(&text).unwrap());
            }
            Some(self.events.remove(0))
        };
        tokio::time::timeout(PATIENCE, read).await.expect("nothing happens")
    }

    /// The next event but where the stream begins.
    pub(crate) async fn event(&mut self) -> Event {
        loop {
            let event = self.any().await.expect("the stream goes on");
            if event.name != "position" {
                return event;
            }
        }
    }

    /// The text of the next note.
    pub(crate) async fn note(&mut self) -> String {
        let event = self.event().await;
        assert_eq!(event.name, "update", "{event:?}");
        words(&event)
    }

    /// Goes on in another worker.
    fn moved(self, to: &Service) -> Self {
        let state = self.source.state();
        assert!(state.len() <= 1024);
        drop(self.source);
        Self { source: EventSource::resume(to, &state).unwrap(), events: self.events }
    }
}

/// Whole events. Whatever is no event is a comment.
fn parse(text: &str) -> Vec<Event> {
    let blocks = text.strip_suffix("\n\n").expect("events are whole").split("\n\n");
    let events = blocks.filter(|block| *block != ":thump").map(|block| {
        let field = |name: &str| {
            let lines = block.lines().filter_map(|line| line.split_once(": "));
            let found: Vec<&str> = lines.filter(|(key, _)| *key == name).map(|(_, v)| v).collect();
            assert!(found.len() <= 1, "{block}");
            found.first().map(|value| (*value).to_owned())
        };
        Event {
            name: field("event").expect(block),
            id: field("id").expect(block),
            data: serde_json::from_str(&field("data").expect(block)).unwrap(),
            retry: field("retry").map(|retry| retry.parse().unwrap()),
        }
    });
    events.collect()
}

fn words(event: &Event) -> String {
    let html = event.data["content"].as_str().unwrap();
    html.trim().trim_start_matches("<p>").trim_end_matches("</p>").to_owned()
}

async fn follow(who: &App<'_>, whom: &App<'_>) {
    who.sends(json!({"type": "Follow", "object": whom.id()})).await;
}

async fn post_in(service: &Service, app: &App<'_>, text: &str) {
    let activity = json!({"type": "Create", "object": {"type": "Note", "content": text}});
    let request = Request::post(format!("/users/{}/outbox", app.name))
        .header(header::HOST, "social.example")
        .header(header::CONTENT_TYPE, crate::server::AS2)
        .header(header::AUTHORIZATION, format!("Bearer {}", app.token));
    let request = request.body(Body::from(activity.to_string())).unwrap();
    let answer = service.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_note_reaches_its_author_and_those_who_follow_them_and_nobody_else() {
    let server = Server::new();
    let (alice, bob, carol) =
        (server.app("alice").await, server.app("bob").await, server.app("carol").await);
    follow(&bob, &alice).await;
    let mut streams = Vec::new();
    for app in [&alice, &bob, &carol] {
        streams.push(Stream::open(&server.service, &app.token, None).await);
    }
    alice.posts("from alice").await;
    carol.posts("from carol").await;
    alice.posts("and again").await;
    for stream in &mut streams[..2] {
        assert_eq!(stream.note().await, "from alice");
        assert_eq!(stream.note().await, "and again");
    }
    assert_eq!(streams[2].note().await, "from carol", "and nothing before it");

    // Who follows from now on is told from now on.
    follow(&carol, &alice).await;
    alice.posts("hello carol").await;
    assert_eq!(streams[2].note().await, "hello carol");
    carol.sends(json!({"type": "Undo", "object": {"type": "Follow", "object": alice.id()}})).await;
    alice.posts("not for carol").await;
    carol.posts("alone").await;
    assert_eq!(streams[2].note().await, "alone");
}

#[tokio::test]
async fn a_note_is_a_status_and_its_end_a_delete() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let mut stream = Stream::open(&server.service, &alice.token, None).await;
    let note = alice.posts("*hello*").await;
    let id = note["id"].as_str().unwrap().rsplit('/').next().unwrap();
    let event = stream.event().await;
    assert_eq!(event.name, "update");
    let status = event.data;
    assert_eq!(status["id"], id);
    assert_eq!(status["content"], note["content"]);
    assert_eq!(status["created_at"], note["published"]);
    assert_eq!(status["uri"], note["id"]);
    assert_eq!(status["url"], note["url"]);
    assert_eq!(status["visibility"], "public");
    assert_eq!(status["account"]["acct"], "alice");
    assert_eq!(status["account"]["url"], format!("{URL}/@alice"));
    assert_eq!(status["account"]["statuses_count"], 1);
    let lists = ["media_attachments", "mentions", "tags", "emojis"];
    assert!(lists.iter().all(|list| status[list] == json!([])), "{status}");
    for nothing in ["in_reply_to_id", "reblog", "poll", "card", "edited_at", "language"] {
        assert_eq!(status.get(nothing), Some(&Value::Null), "{nothing}");
    }

    let object = json!({"type": "Tombstone", "id": note["id"]});
    alice.sends(json!({"type": "Delete", "object": object})).await;
    let event = stream.event().await;
    assert_eq!((event.name.as_str(), event.data.to_string().as_str()), ("delete", id));
}

#[tokio::test]
async fn pages_publish_too() {
    let server = Server::new();
    let mut browser = server.browser("alice").await;
    let form = "grant_type=password&username=alice&password=correct+horse";
    let token = server.form("/oauth/token", form).await.json();
    let mut stream =
        Stream::open(&server.service, token["access_token"].as_str().unwrap(), None).await;
    browser.submits("/", "/post", &[("text", "by hand")]).await;
    let event = stream.event().await;
    assert_eq!(words(&event), "by hand");
    let page = event.data["url"].as_str().unwrap().trim_start_matches(URL).to_owned();
    browser.submits(&page, &format!("{page}/delete"), &[]).await;
    assert_eq!(stream.event().await.name, "delete");
}

#[tokio::test]
async fn the_answer_says_what_it_is_and_that_nobody_keeps_it() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let get = async |path: String| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        server.service.clone().oneshot(request).await.unwrap()
    };
    let token = &alice.token;
    for path in ["user?", "?stream=user&"] {
        let answer =
            get(format!("/api/v1/streaming/{path}access_token={token}").replace("/?", "?"));
        let answer = answer.await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert_eq!(answer.headers()["x-accel-buffering"], "no");
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    }
    let other = get(format!("/api/v1/streaming?stream=public&access_token={token}")).await;
    assert_eq!(other.status(), StatusCode::BAD_REQUEST);
    let wrong = get("/api/v1/streaming/user?access_token=0123".to_owned()).await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(server.get("/api/v1/streaming/health", "*/*").await.body, "OK");
    // Everywhere else a token in the address is none.
    let elsewhere = get(format!("/users/alice/inbox?access_token={token}")).await;
    assert_eq!(elsewhere.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_stream_that_nobody_takes_is_the_body_of_the_answer() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let answer = open(&server.service, &alice.token, None).await;
    let stream = answer.extensions().get::<EventStream>().unwrap().clone();
    let mut body = answer.into_body();
    let mut frame = async || {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("a frame");
        frame.map(|frame| String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
    };
    assert!(frame().await.unwrap().starts_with(":thump\n\n"));
    alice.posts("hello").await;
    assert_eq!(words(&parse(&frame().await.unwrap())[0]), "hello");
    // Whoever takes it later ends the body.
    assert!(stream.take().is_some());
    assert_eq!(frame().await, None);
}

#[tokio::test]
async fn a_client_that_comes_back_misses_nothing_and_sees_nothing_twice() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let mut stream = Stream::open(&server.service, &alice.token, None).await;
    let begin = stream.any().await.unwrap();
    assert_eq!((begin.name.as_str(), &begin.data), ("position", &json!({})));
    alice.posts("1").await;
    let first = stream.event().await;
    drop(stream);
    // More than one reading.
    for number in 2..=100 {
        post_in(&server.service, &alice, &number.to_string()).await;
    }
    let gone = alice.posts("a slip").await;
    alice.sends(json!({"type": "Delete", "object": gone["id"]})).await;
    for (last, seen) in [(&begin.id, 1), (&first.id, 2)] {
        let mut again = Stream::open(&server.worker(), &alice.token, Some(last)).await;
        for number in seen..=100 {
            assert_eq!(again.note().await, number.to_string());
        }
        let event = again.event().await;
        assert_eq!(event.name, "delete", "what is gone is not shown, and that it is gone is told");
    }
    // More than is written at a time.
    let long = "x".repeat(4_000);
    let mut again = Stream::open(&server.service, &alice.token, None).await;
    let begin = again.any().await.unwrap();
    for _ in 0..39 {
        post_in(&server.service, &alice, &long).await;
    }
    let mut again = Stream::open(&server.worker(), &alice.token, Some(&begin.id)).await;
    for number in 0..39 {
        assert_eq!(again.note().await.len(), long.len(), "{number}");
    }

    let mut again = Stream::open(&server.service, &alice.token, Some(&first.id)).await;
    alice.posts("live").await;
    let mut all = vec![];
    while all.last().is_none_or(|last| last != "live") {
        let event = again.event().await;
        if event.name == "update" {
            all.push(words(&event));
        }
    }
    assert_eq!(all.len(), 139, "{all:?}");
}

/// The worker has looked for others meanwhile, and kept nothing for who was not there.
#[tokio::test]
async fn who_was_away_while_others_listened_misses_nothing() {
    let server = Server::new();
    let (alice, bob, carol) =
        (server.app("alice").await, server.app("bob").await, server.app("carol").await);
    follow(&bob, &carol).await;
    let mut beside = Stream::open(&server.service, &alice.token, None).await;
    let mut stream = Stream::open(&server.service, &bob.token, None).await;
    let begin = stream.any().await.unwrap();
    drop(stream);
    // Few are looked up again for all who listen, many for the one who was away.
    let mut seen = 0;
    for many in [10, 150] {
        for number in seen..many {
            post_in(&server.service, &carol, &number.to_string()).await;
        }
        seen = many;
        alice.posts("beside").await;
        assert_eq!(beside.note().await, "beside");
        let mut again = Stream::open(&server.service, &bob.token, Some(&begin.id)).await;
        for number in 0..many {
            assert_eq!(again.note().await, number.to_string());
        }
    }
}

#[tokio::test]
async fn who_missed_too_much_is_told_so_and_goes_on_from_now() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let account = server.store.account_by_name(&"alice".parse().unwrap()).unwrap().unwrap();
    let before = server.store.position().unwrap().to_string();
    let write = |text: &str| {
        let source = NoteText::new(text).unwrap();
        let note = NewNote {
            content: source.as_str().to_owned(),
            source,
            media_type: pump_store::MediaType::Markdown,
        };
        server.store.post_note(account.id, &note, Timestamp::from(SystemTime::now())).unwrap();
    };
    for number in 0..400 {
        write(&number.to_string());
    }
    let mut stream = Stream::open(&server.service, &alice.token, Some(&before)).await;
    for number in 0..400 {
        assert_eq!(stream.note().await, number.to_string());
    }
    write("one too many");
    let future = i64::MAX.to_string();
    for last in [before.as_str(), "", "none", "-1", &future] {
        let mut stream = Stream::open(&server.service, &alice.token, Some(last)).await;
        let event = stream.event().await;
        assert_eq!(event.name, "gap", "{last}");
        assert_eq!(event.id, server.store.position().unwrap().to_string());
        alice.posts(&format!("now {last}!")).await;
        assert_eq!(stream.note().await, format!("now {last}!"));
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let elsewhere = server.worker();
    let mut here = Stream::open(&server.service, &alice.token, None).await;
    let mut there = Stream::open(&elsewhere, &alice.token, None).await;
    assert_eq!(there.any().await.unwrap().name, "position");
    alice.posts("hello").await;
    assert_eq!(here.note().await, "hello");
    server.form("/oauth/revoke", &format!("token={}", alice.token)).await;
    assert_eq!(here.any().await, None);
    assert_eq!(here.any().await, None, "and stays so");
    // Only now the other worker hears of both; what was posted before is not shown any more either.
    elsewhere.nudges().nudge();
    assert_eq!(there.any().await, None);
    assert_eq!(open(&elsewhere, &alice.token, None).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_stream_that_moves_ends_with_its_token_as_well() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let stream = Stream::open(&server.service, &alice.token, None).await;
    assert!(server.store.delete_token(&alice.token).unwrap());
    let mut stream = stream.moved(&server.worker());
    assert_eq!(stream.any().await.map(|event| event.name), Some("position".to_owned()));
    assert_eq!(stream.any().await, None);
}

#[tokio::test]
async fn what_one_worker_publishes_the_others_show_once_they_are_nudged() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let (one, other) = (server.worker(), server.worker());
    let mut stream = Stream::open(&other, &alice.token, None).await;
    assert_eq!(stream.any().await.unwrap().name, "position");
    for text in ["1", "2", "3"] {
        post_in(&one, &alice, text).await;
    }
    one.nudges().published().await;
    other.nudges().nudge();
    for text in ["1", "2", "3"] {
        assert_eq!(stream.note().await, text);
    }
    assert!(!has_published(&one), "three were told at once");
}

/// Whether the worker would tell the others now.
fn has_published(worker: &Service) -> bool {
    let nudges = worker.nudges();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::pin!(nudges.published()).poll(&mut context).is_ready()
}

#[tokio::test]
async fn what_shows_in_streams_is_told_when_it_is_answered_and_nothing_else_is() {
    let server = Server::new();
    let (alice, bob) = (server.app("alice").await, server.app("bob").await);
    let mut carol = server.browser("carol").await;
    let published = || has_published(&server.service);
    assert!(!published());
    let note = alice.posts("hello").await;
    assert!(published());
    follow(&bob, &alice).await;
    bob.sends(json!({"type": "Like", "object": note["id"]})).await;
    bob.try_send(&json!({"type": "Delete", "object": note["id"]})).await.problem(403);
    assert!(!published());
    alice.sends(json!({"type": "Delete", "object": note["id"]})).await;
    assert!(published());
    carol.submits("/", "/post", &[("text", "by hand")]).await;
    assert!(published());
    let outbox = server.get("/users/carol/outbox?page=true", crate::server::AS2).await.json();
    let page = outbox["orderedItems"][0]["object"]["url"].as_str().unwrap();
    let page = page.trim_start_matches(URL);
    carol.submits(page, &format!("{page}/like"), &[]).await;
    assert!(!published());
    carol.submits(page, &format!("{page}/delete"), &[]).await;
    assert!(published());
    server.form("/oauth/revoke", &format!("token={}", bob.token)).await;
    assert!(published(), "streams have to end");
}

#[tokio::test]
async fn a_stream_moves_between_workers_without_a_gap_and_without_a_repeat() {
    let server = Server::new();
    let (alice, bob) = (server.app("alice").await, server.app("bob").await);
    follow(&bob, &alice).await;
    let workers = [server.worker(), server.worker(), server.worker()];
    // Others listen too, and come and go.
    let mut beside = Vec::new();
    let mut stream = Stream::open(&workers[0], &bob.token, None).await;
    let mut seen = Vec::new();
    for number in 0..120_usize {
        post_in(&workers[number % 3], &alice, &number.to_string()).await;
        for worker in &workers {
            worker.nudges().nudge();
        }
        match number % 4 {
            // Some are read where they are, some only after the move.
            0 => seen.push(stream.note().await),
            1 => beside.push(Stream::open(&workers[number % 2], &alice.token, None).await),
            2 => beside.truncate(3),
            _ => {}
        }
        if number % 3 > 0 {
            stream = stream.moved(&workers[(number + number / 7) % 3]);
        }
    }
    while seen.len() < 120 {
        seen.push(stream.note().await);
    }
    let want: Vec<String> = (0..120).map(|number| number.to_string()).collect();
    assert_eq!(seen, want);
}

/// What two processes write at the same moment comes in the order in which it was kept, to streams that
/// are dropped in the middle of waiting and that move.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_write_at_once_and_every_stream_sees_all_of_it_in_one_order() {
    const NOTES: usize = 60;
    let server = Server::new();
    let (alice, bob, carol) =
        (server.app("alice").await, server.app("bob").await, server.app("carol").await);
    follow(&carol, &alice).await;
    follow(&carol, &bob).await;
    let workers = [server.worker(), server.worker()];
    let mut streams = Vec::new();
    for number in 0..6 {
        streams.push(Stream::open(&workers[number % 2], &carol.token, None).await);
    }
    let writers = async {
        let write = async |app: &App<'_>, worker: &Service| {
            for number in 0..NOTES {
                post_in(worker, app, &format!("{} {number}", app.name)).await;
            }
        };
        tokio::join!(write(&alice, &workers[0]), write(&bob, &workers[1]));
    };
    let pass_on = async |from: &Service, to: &Service| {
        loop {
            from.nudges().published().await;
            to.nudges().nudge();
        }
    };
    let read = async |mut stream: Stream, number: usize| {
        let mut seen = Vec::new();
        let mut turns = 0_usize;
        while seen.len() < 2 * NOTES {
            turns += 1;
            if number == 0 && turns.is_multiple_of(5) {
                stream = stream.moved(&workers[turns / 5 % 2]);
            }
            if number == 1 {
                // Polled now and then, and dropped.
                let step = tokio::time::timeout(Duration::from_millis(1), stream.source.next());
                if let Ok(text) = step.await {
                    stream.events.extend(parse(std::str::from_utf8(&text.unwrap()).unwrap()));
                }
                let events = std::mem::take(&mut stream.events);
                seen.extend(events.iter().filter(|it| it.name == "update").map(words));
            } else {
                seen.push(stream.note().await);
            }
        }
        seen
    };
    let all = async {
        let mut reads = Vec::new();
        for (number, stream) in streams.into_iter().enumerate() {
            reads.push(Box::pin(read(stream, number)));
        }
        let mut seen = Vec::new();
        let (one, two) = {
            let mut reads = reads.into_iter();
            let mut next = || reads.next().unwrap();
            let (a, b, c, d, e, f) = (next(), next(), next(), next(), next(), next());
            let (a, b, c, d, e, f) = tokio::join!(a, b, c, d, e, f);
            seen.extend([a, b, c, d, e, f]);
            (seen[0].clone(), seen.clone())
        };
        (one, two)
    };
    let (one, seen) = tokio::select! {
        seen = async { tokio::join!(all, writers).0 } => seen,
        () = pass_on(&workers[0], &workers[1]) => unreachable!(),
        () = pass_on(&workers[1], &workers[0]) => unreachable!(),
    };
    assert!(seen.iter().all(|it| *it == one), "{seen:#?}");
    let mut sorted = one;
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), 2 * NOTES);
}

#[tokio::test]
async fn an_account_has_so_many_streams_and_no_more() {
    let server = Server::new();
    let (alice, bob) = (server.app("alice").await, server.app("bob").await);
    let mut streams = Vec::new();
    for _ in 0..32 {
        streams.push(Stream::open(&server.service, &alice.token, None).await);
    }
    let refused = open(&server.service, &alice.token, None).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    Stream::open(&server.service, &bob.token, None).await;
    // One that comes from another worker has its place.
    let moved = Stream::open(&server.worker(), &alice.token, None).await.moved(&server.service);
    streams.push(moved);
    streams.truncate(31);
    streams.push(Stream::open(&server.service, &alice.token, None).await);
    alice.posts("hello").await;
    for stream in &mut streams {
        assert_eq!(stream.note().await, "hello");
    }
}

#[tokio::test]
async fn what_cannot_move_says_where_to_go_on_and_ends() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let leaving = server.worker();
    let mut stream = Stream::open(&leaving, &alice.token, None).await;
    assert_eq!(stream.any().await.unwrap().retry, None);
    let mut waiting = Stream::open(&leaving, &alice.token, None).await;
    assert_eq!(waiting.any().await.unwrap().name, "position");
    let (last, ()) = tokio::join!(waiting.any(), async { leaving.end_streams() });
    assert_eq!(last.unwrap().name, "position");
    leaving.end_streams();
    let last = stream.any().await.unwrap();
    assert_eq!(last.name, "position");
    assert!(last.retry.is_some_and(|retry| (100..1_000).contains(&retry)), "{last:?}");
    alice.posts("in between").await;
    assert_eq!(stream.any().await, None);
    let mut again = Stream::open(&server.service, &alice.token, Some(&last.id)).await;
    assert_eq!(again.note().await, "in between");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_says_that_it_is_there_and_looks_for_itself() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let account = server.store.account_by_name(&"alice".parse().unwrap()).unwrap().unwrap();
    let mut stream = Stream::open(&server.service, &alice.token, None).await;
    let begun = tokio::time::Instant::now();
    assert!(stream.source.next().await.unwrap().starts_with(b":thump\n\n"));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    for thump in 1..=3 {
        assert_eq!(stream.source.next().await.unwrap(), ":thump\n\n");
        assert_eq!(begun.elapsed().as_secs(), thump * 15);
    }
    // By a build that knows no nudges.
    let source = NoteText::new("long ago").unwrap();
    let note = NewNote {
        content: source.as_str().to_owned(),
        source,
        media_type: pump_store::MediaType::Markdown,
    };
    server.store.post_note(account.id, &note, Timestamp::from(SystemTime::now())).unwrap();
    assert_eq!(stream.note().await, "long ago");
    assert!(begun.elapsed().as_secs() <= 60);
}

#[tokio::test]
async fn no_state_breaks_a_worker() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let stream = Stream::open(&server.service, &alice.token, None).await;
    let state = stream.source.state();
    for cut in 0..state.len() {
        assert!(EventSource::resume(&server.service, &state[..cut]).is_none(), "{cut}");
    }
    assert!(EventSource::resume(&server.service, &[b' '; 2_000]).is_none());
    // Of an account that is not here, or with a token of another: ended at once.
    let text = String::from_utf8(state).unwrap();
    let other = text.replacen("\"account\":", "\"account\":1", 1);
    let source = EventSource::resume(&server.service, other.as_bytes()).unwrap();
    let mut stream = Stream::of(source);
    assert_eq!(stream.any().await.map(|event| event.name), Some("position".to_owned()));
    assert_eq!(stream.any().await, None);
}

#[tokio::test]
async fn streams_end_when_the_database_is_closed() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let mut stream = Stream::open(&server.service, &alice.token, None).await;
    assert_eq!(stream.any().await.unwrap().name, "position");
    server.store.close().unwrap();
    server.service.nudges().nudge();
    assert_eq!(stream.any().await, None);
}
