//! Tokens for apps: the password grant of RFC 6749, 4.3, and taking a token back (RFC 7009).
//!
//! The errors of a grant have the form of RFC 6749, 5.2, which libraries know; all others are problems.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use pump_model::Timestamp;
use pump_store::TokenKind;
use serde::Serialize;

use crate::app::{App, now};
use crate::client::Client;
use crate::extract::Fields;
use crate::problem::Problem;

/// How long a token of an app is valid.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Serialize)]
struct Issued<'a> {
    access_token: &'a str,
    token_type: &'static str,
    scope: &'static str,
    created_at: i64,
    expires_in: u64,
}

#[derive(Serialize)]
struct Refusal<'a> {
    error: &'static str,
    error_description: &'a str,
}

/// `POST /oauth/token`
pub(crate) async fn issue(
    State(app): State<App>,
    client: Client,
    fields: Fields,
) -> Result<Response, Problem> {
    match fields.get("grant_type") {
        Some("password") => {}
        Some(_) => return Ok(refusal("unsupported_grant_type", "only `password` is supported")),
        None => return Ok(refusal("invalid_request", "`grant_type` is missing")),
    }
    let (Some(name), Some(password)) = (fields.get("username"), fields.get("password")) else {
        return Ok(refusal("invalid_request", "`username` and `password` are needed"));
    };
    let found = app.sign_in(client, name.to_owned(), password.to_owned()).await?;
    let Some(account) = found else {
        return Ok(refusal("invalid_grant", "the name or the password is wrong"));
    };
    let at: Timestamp = now();
    let token = app
        .change(move |store| store.new_token(account.id, TokenKind::Bearer, LIFETIME, at))
        .await?;
    Ok(answer(
        StatusCode::OK,
        &Issued {
            access_token: token.as_str(),
            token_type: "Bearer",
            scope: "read write",
            created_at: at.millis() / 1000,
            expires_in: LIFETIME.as_secs(),
        },
    ))
}

/// `POST /oauth/revoke`: a token that is not known is as good as taken back (RFC 7009, 2.2).
pub(crate) async fn revoke(State(app): State<App>, fields: Fields) -> Result<Response, Problem> {
    let Some(token) = fields.get("token") else {
        return Ok(refusal("invalid_request", "`token` is missing"));
    };
    let token = token.to_owned();
    app.publish(move |store| store.delete_token(&token)).await?;
    Ok(answer(StatusCode::OK, &serde_json::json!({})))
}

fn refusal(error: &'static str, error_description: &str) -> Response {
    answer(StatusCode::BAD_REQUEST, &Refusal { error, error_description })
}

fn answer<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let json = serde_json::to_vec(body).expect("wire types have a JSON form");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, json).into_response()
}
