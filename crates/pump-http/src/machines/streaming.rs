//! The home feed as it happens, for apps (the streaming part of the Mastodon client API).

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Uri, header};

use crate::Body;
use crate::app::App;
use crate::bearer::StreamBearer;
use crate::events::{EventBody, EventSource, EventStream};
use crate::extract::Fields;
use crate::problem::Problem;

/// `GET /api/v1/streaming/health`
pub(crate) async fn health() -> &'static str {
    "OK"
}

/// `GET /api/v1/streaming?stream=user`
pub(crate) async fn named(
    app: State<App>,
    uri: Uri,
    headers: HeaderMap,
    bearer: StreamBearer,
) -> Result<Response, Problem> {
    if Fields::of(&uri).get("stream") != Some("user") {
        return Err(Problem::bad_request("`stream` has to be `user`: there is no other one yet"));
    }
    user(app, headers, bearer).await
}

/// `GET /api/v1/streaming/user`
pub(crate) async fn user(
    State(app): State<App>,
    headers: HeaderMap,
    StreamBearer { account, token }: StreamBearer,
) -> Result<Response, Problem> {
    // What is no text is no id of ours.
    let last = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?"));
    let source = EventSource::open(&app, (account.id, token), last).await?;
    let stream = EventStream::new(source);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        // The token may stand in the address, where `finish` does not look for it.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        // nginx would keep events until it has a buffer full of them.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let mut response = (headers, Body::new(EventBody::new(stream.clone()))).into_response();
    response.extensions_mut().insert(stream);
    Ok(response)
}
