//! What every answer has in common, put on at the very end: the body of a problem, and the headers
//! that tell a browser what it may do with the page.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};

use crate::app::App;
use crate::negotiate::is_browser;
use crate::people;
use crate::problem::Problem;
use crate::{Body, Peer};

/// Nothing but our own sheet, images and forms; nobody frames us. No script at all.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";

/// On every answer.
static HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // Not `no-referrer`: with that a browser sends `Origin: null` with our own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// Whether a request that came over a connection names its host as RFC 9112, section 3.2 asks: two
/// programs that read it must not take it for requests to two hosts. HTTP/1.0 knows no such header.
fn is_addressed(request: &Request) -> bool {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    let needed = usize::from(request.version() >= Version::HTTP_11);
    request.extensions().get::<Peer>().is_none() || (needed..=1).contains(&hosts)
}

/// Among the extensions of an answer: a handler panicked, and this is the 500 that was made of it.
#[derive(Clone, Copy, Debug)]
pub struct Panicked;

pub(crate) async fn finish(State(app): State<App>, request: Request, next: Next) -> Response {
    let browser = is_browser(request.headers());
    let personal = request.headers().contains_key(header::COOKIE)
        || request.headers().contains_key(header::AUTHORIZATION);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = if is_addressed(&request) {
        caught(next.run(request)).await
    } else {
        Problem::new(StatusCode::BAD_REQUEST, "a request names its host, and only one")
            .into_response()
    };
    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        problem.log(&method, route.as_ref().map_or("an unknown path", MatchedPath::as_str));
        give_body(&mut response, &problem, &app, browser);
        if problem.panicked {
            response.extensions_mut().insert(Panicked);
        }
    }
    let headers = response.headers_mut();
    for (name, value) in &HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What somebody saw who was signed in is kept by nobody; the rest is asked for anew each time.
    if !headers.contains_key(header::CACHE_CONTROL) {
        let caching = if personal { "no-store" } else { "no-cache" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    }
    if let Some(generation) = &app.site.generation_header
        && let Ok(value) = HeaderValue::from_str(generation)
    {
        headers.insert("pump-generation", value);
    }
    response
}

/// A bug in one handler is one answer with 500 and a line in the log, not a connection that breaks off.
async fn caught(work: impl Future<Output = Response>) -> Response {
    let mut work = pin!(work);
    let done = poll_fn(|context| {
        // After a panic the future is not polled again, so nothing sees what it left half done.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    });
    done.await.unwrap_or_else(|panic| {
        Problem::panicked("a handler panicked", words(&*panic)).into_response()
    })
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without words").to_owned()
}

fn give_body(response: &mut Response, problem: &Problem, app: &App, browser: bool) {
    let page = browser.then(|| people::problem_page(&app.site, problem)).flatten();
    let (kind, body) = match page {
        Some(page) => ("text/html; charset=utf-8", Body::from(page)),
        None => ("application/problem+json", Body::from(problem.json())),
    };
    *response.body_mut() = body;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    vary(response.headers_mut(), "Accept");
}

/// Adds a request header that the answer depends on.
pub(crate) fn vary(headers: &mut HeaderMap, on: &'static str) {
    headers.append(header::VARY, HeaderValue::from_static(on));
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_is_an_answer() {
        let answer = caught(async { panic!("half way") }).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let problem = answer.extensions().get::<Arc<Problem>>().unwrap();
        assert_eq!(problem.cause.as_ref().unwrap().1.to_string(), "half way");
    }

    async fn breaks_in_the_handler() -> Response {
        panic!("here")
    }

    async fn breaks_in_the_store(State(app): State<App>) -> Result<(), Problem> {
        app.store(|_| -> Result<(), Problem> { panic!("there") }).await
    }

    async fn fails() -> Problem {
        Problem::internal()
    }

    #[tokio::test]
    async fn an_answer_that_was_made_of_a_panic_says_so_to_who_counts() {
        let folder = tempfile::tempdir().unwrap();
        let app = crate::app::tests::app(folder.path());
        let router = Router::new()
            .route("/handler", get(breaks_in_the_handler))
            .route("/store", get(breaks_in_the_store))
            .route("/fails", get(fails))
            .layer(from_fn_with_state(app.clone(), finish))
            .with_state(app);
        for (path, panicked) in [("/handler", true), ("/store", true), ("/fails", false)] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR, "{path}");
            assert_eq!(answer.extensions().get::<Panicked>().is_some(), panicked, "{path}");
        }
    }
}
