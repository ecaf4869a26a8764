//! Asks this worker as a client would, without a connection: is it ready, and could a person use it?
//!
//! What a person does is done on an account of a database of its own, which lies beside the real one and
//! has its shape and nothing in it (`Store::trial`). So nobody ever sees the account or its notes, by
//! whichever release they are served, two probes do not meet, and nothing is left over. The real
//! database is asked for what anybody may read.

use std::convert::Infallible;

use axum::body::to_bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use pump_activity::ACTIVITY_JSON;
use pump_model::Page;
use serde_json::{Value, json};
use tower::{Service as _, ServiceExt};

use crate::problem::Problem;
use crate::site::Site;
use crate::{Body, Service};

/// Longest answer that is read, in bytes.
const LONGEST: usize = 4 * 1024 * 1024;

/// Bytes of an answer that are repeated in a sentence.
const REPEATED: usize = 500;

/// Most pieces of an event stream that are read for one event.
const PIECES: usize = 10;

/// Random bytes in the password and in the note.
const SECRET_BYTES: usize = 16;

/// The account of a probe, in a database where it is the only one.
const NAME: &str = "probe";

const HTML: &str = "text/html";
const FORM: &str = "application/x-www-form-urlencoded";

/// Whether requests would be answered: asks `/readyz` as anybody would.
///
/// # Errors
/// A sentence with the status and what the answer said.
pub async fn probe(service: &Service) -> Result<(), String> {
    let request = Request::get("/readyz").body(Body::empty()).expect("a fixed request is valid");
    let Ok(answer) = service.clone().oneshot(request).await;
    if answer.status().is_success() {
        return Ok(());
    }
    let status = answer.status();
    let body = to_bytes(answer.into_body(), LONGEST).await.unwrap_or_default();
    Err(format!("`/readyz` answered {status}: {}", beginning(&body)))
}

/// Whether somebody who has an account could use it: signs in, reads the home feed, posts, sees it
/// there and in an event stream, deletes it and signs out, all by the routes that clients use. Reads
/// what strangers may read of the real database, and writes there what `/readyz` writes.
///
/// `around` is put around each answer, as it is where connections are served.
///
/// # Errors
/// A sentence with the request, the status and what the answer said.
pub async fn probe_as_person<F>(
    service: &Service,
    around: impl Fn(<Service as tower::Service<Request<Body>>>::Future) -> F,
) -> Result<(), String>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    let app = &service.app;
    let here = Client { service, around: &around };
    here.reads_what_is_there().await?;

    let trial = app.change(|store| store.trial()).await.map_err(|problem| told(&problem))?;
    let site = Site { open_registration: true, ..app.site.clone() };
    let beside = crate::service(site, trial.store().clone());
    let beside = Client { service: &beside, around: &around };
    let lived = beside.lives().await;
    let removed = app.change(move |_| trial.end()).await;
    lived.and(removed.map_err(|problem| told(&problem)))
}

struct Client<'a, A> {
    service: &'a Service,
    around: &'a A,
}

/// An answer, all of it.
struct Answer {
    response: Response<()>,
    body: Vec<u8>,
}

impl Answer {
    fn says(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(text)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The cookies that were set and not taken back, as they are sent again.
    fn cookies(&self) -> String {
        let all = self.response.headers().get_all(header::SET_COOKIE).iter();
        let set = all.filter_map(|cookie| cookie.to_str().ok()?.split(';').next());
        let set: Vec<&str> = set.filter(|cookie| !cookie.ends_with('=')).collect();
        set.join("; ")
    }
}

/// What a request carries.
#[derive(Clone, Copy, Default)]
struct With<'a> {
    token: Option<&'a str>,
    cookies: Option<&'a str>,
    body: Option<(&'static str, &'a str)>,
}

impl<A, F> Client<'_, A>
where
    A: Fn(<Service as tower::Service<Request<Body>>>::Future) -> F,
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    /// The parts of the site that are for everybody, on the real database.
    async fn reads_what_is_there(&self) -> Result<(), String> {
        self.asks(Method::GET, "/readyz", HTML, With::default(), &[StatusCode::OK]).await?;
        self.asks(Method::GET, "/", HTML, With::default(), &[StatusCode::OK]).await?;
        let newest = |store: &pump_store::Store| store.accounts(Page::first().of(1));
        let newest = self.service.app.store(newest).await.map_err(|problem| told(&problem))?;
        for account in newest.items {
            let name = account.name;
            for (path, accept) in [
                (format!("/@{name}"), HTML),
                (format!("/users/{name}"), ACTIVITY_JSON),
                (format!("/users/{name}/outbox?page=true"), ACTIVITY_JSON),
            ] {
                // It may just be gone.
                let fine = [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::GONE];
                self.asks(Method::GET, &path, accept, With::default(), &fine).await?;
            }
        }
        Ok(())
    }

    /// All that somebody does, from making an account to signing out.
    async fn lives(&self) -> Result<(), String> {
        let (password, text) = (secret()?, secret()?);
        let session = self.registers(&password).await?;
        let page = With { cookies: Some(&session), ..With::default() };
        self.asks(Method::GET, "/", HTML, page, &[StatusCode::OK]).await?;

        let form = format!("grant_type=password&username={NAME}&password={password}");
        let form = With { body: Some((FORM, &form)), ..With::default() };
        let issued =
            self.asks(Method::POST, "/oauth/token", "*/*", form, &[StatusCode::OK]).await?;
        let issued = issued.json();
        let token = issued["access_token"].as_str().ok_or("`/oauth/token` gave no token")?;
        let signed_in = With { token: Some(token), ..With::default() };

        let path = "/api/v1/streaming/user";
        let stream = self.sends(Method::GET, path, "*/*", signed_in).await?;
        if stream.status() != StatusCode::OK {
            return Err(format!("GET {path} was answered with {}", stream.status()));
        }
        let mut stream = stream.into_body();
        until(&mut stream, "event: position\n").await?;

        let note = json!({"type": "Create", "object": {"type": "Note", "content": text}});
        let note = self.acts(token, &note).await?.json();
        let id = note["object"]["id"].as_str().ok_or("the note that was posted has no id")?;
        until(&mut stream, &text).await?;
        for (path, accept, with) in
            [("/", HTML, page), ("/users/probe/outbox?page=true", ACTIVITY_JSON, With::default())]
        {
            let answer = self.asks(Method::GET, path, accept, with, &[StatusCode::OK]).await?;
            if !answer.says(&text) {
                return Err(format!("GET {path} does not show the note that was posted"));
            }
        }

        self.acts(token, &json!({"type": "Delete", "object": id})).await?;
        until(&mut stream, "event: delete\n").await?;
        let path = id.strip_prefix(&self.service.app.site.public_url).unwrap_or(id);
        let gone = [StatusCode::GONE];
        self.asks(Method::GET, path, ACTIVITY_JSON, With::default(), &gone).await?;

        let form = format!("token={token}");
        let form = With { body: Some((FORM, &form)), ..With::default() };
        self.asks(Method::POST, "/oauth/revoke", "*/*", form, &[StatusCode::OK]).await?;
        let path = "/users/probe/inbox";
        let refused = [StatusCode::UNAUTHORIZED];
        self.asks(Method::GET, path, ACTIVITY_JSON, signed_in, &refused).await?;
        Ok(())
    }

    /// Makes the account in the page that is there for it. The cookie of the session.
    async fn registers(&self, password: &str) -> Result<String, String> {
        let (path, ok) = ("/register", [StatusCode::OK]);
        let shown = self.asks(Method::GET, path, HTML, With::default(), &ok).await?;
        let html = String::from_utf8_lossy(&shown.body);
        let csrf = html.split("name=\"csrf\" value=\"").nth(1).and_then(|it| it.split('"').next());
        let csrf = csrf.ok_or("GET /register shows no form")?;
        let form = format!("csrf={csrf}&username={NAME}&password={password}");
        let cookies = shown.cookies();
        let with = With { token: None, cookies: Some(&cookies), body: Some((FORM, &form)) };
        let made = self.asks(Method::POST, path, HTML, with, &[StatusCode::SEE_OTHER]).await?;
        Ok(made.cookies())
    }

    /// Posts an activity.
    async fn acts(&self, token: &str, activity: &Value) -> Result<Answer, String> {
        let (path, text) = ("/users/probe/outbox", activity.to_string());
        let body = Some((ACTIVITY_JSON, text.as_str()));
        let with = With { token: Some(token), cookies: None, body };
        self.asks(Method::POST, path, ACTIVITY_JSON, with, &[StatusCode::CREATED]).await
    }

    async fn asks(
        &self,
        method: Method,
        path: &str,
        accept: &'static str,
        with: With<'_>,
        fine: &[StatusCode],
    ) -> Result<Answer, String> {
        let answer = self.sends(method.clone(), path, accept, with).await?;
        let (parts, body) = answer.into_parts();
        let body = to_bytes(body, LONGEST)
            .await
            .map_err(|error| format!("{method} {path}: the answer breaks off: {error}"))?;
        if !fine.contains(&parts.status) {
            let body = beginning(&body);
            return Err(format!("{method} {path} was answered with {}: {body}", parts.status));
        }
        Ok(Answer { response: Response::from_parts(parts, ()), body: body.to_vec() })
    }

    async fn sends(
        &self,
        method: Method,
        path: &str,
        accept: &'static str,
        with: With<'_>,
    ) -> Result<Response<Body>, String> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::ACCEPT, HeaderValue::from_static(accept));
        if let Some(token) = with.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(cookies) = with.cookies {
            request = request.header(header::COOKIE, cookies);
        }
        let body = match with.body {
            Some((kind, text)) => {
                request = request.header(header::CONTENT_TYPE, kind);
                Body::from(text.to_owned())
            }
            None => Body::empty(),
        };
        let request = request.body(body).map_err(|error| format!("{path}: {error}"))?;
        let Ok(answer) = (self.around)(self.service.clone().call(request)).await;
        Ok(answer)
    }
}

/// Reads a stream until this has come.
async fn until(stream: &mut Body, text: &str) -> Result<(), String> {
    for _ in 0..PIECES {
        let frame = stream.frame().await.and_then(Result::ok).and_then(|it| it.into_data().ok());
        let Some(frame) = frame else { break };
        if String::from_utf8_lossy(&frame).contains(text) {
            return Ok(());
        }
    }
    Err(format!("the event stream does not show `{}`", text.trim_end()))
}

fn secret() -> Result<String, String> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random bits: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn beginning(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..REPEATED).unwrap_or(body)).into_owned()
}

fn told(problem: &Problem) -> String {
    match &problem.cause {
        Some((doing, cause)) => format!("{}: {doing}: {cause}", problem.detail),
        None => problem.detail.to_string(),
    }
}
