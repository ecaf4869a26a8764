//! Signing in and out.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, StatusCode, Uri, header};
use pump_store::{Account, TokenKind};

use super::posted::Posted;
use super::visitor::{SESSION_SECONDS, Visitor, no_session_cookie, session_cookie};
use super::{Frame, go_to, page};
use crate::app::{App, now};
use crate::problem::Problem;

/// Longest name that is shown again after it was wrong, in characters.
const LONGEST_NAME: usize = 64;

#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    frame: Frame,
    alert: Option<&'static str>,
    name: String,
    open: bool,
}

/// `GET /login`
pub(crate) async fn form(
    State(app): State<App>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Problem> {
    if visitor.account.is_some() {
        return Ok(go_to("/"));
    }
    let (visitor, key) = visitor.with_key(&app.site)?;
    let shown = page(
        StatusCode::OK,
        &Login {
            frame: Frame::new(&app.site, &visitor, "login", &uri),
            alert: None,
            name: String::new(),
            open: app.site.open_registration,
        },
    )?;
    Ok(with_key_cookie(shown, key))
}

/// `POST /login`
pub(crate) async fn sign_in(
    State(app): State<App>,
    uri: Uri,
    Posted { visitor, fields }: Posted,
) -> Result<Response, Problem> {
    let (name, password) = (fields.text("username").trim(), fields.text("password"));
    let found = app.sign_in(visitor.client, name.to_owned(), password.to_owned()).await?;
    match found {
        Some(account) => begin_session(&app, &account).await,
        None => page(
            StatusCode::FORBIDDEN,
            &Login {
                frame: Frame::new(&app.site, &visitor, "login", &uri),
                alert: Some("The name or the password is wrong."),
                name: name.chars().take(LONGEST_NAME).collect(),
                open: app.site.open_registration,
            },
        ),
    }
}

/// Signs somebody in who has shown who they are.
pub(super) async fn begin_session(app: &App, account: &Account) -> Result<Response, Problem> {
    let (id, lifetime) = (account.id, Duration::from_secs(SESSION_SECONDS));
    let token =
        app.change(move |store| store.new_token(id, TokenKind::Session, lifetime, now())).await?;
    let mut response = go_to("/");
    let cookie = session_cookie(&app.site, token.as_str());
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// The answer with the cookie of a stranger's key, if one was made.
pub(super) fn with_key_cookie(mut response: Response, key: Option<HeaderValue>) -> Response {
    if let Some(key) = key {
        response.headers_mut().append(header::SET_COOKIE, key);
        // The value in the form is this visitor's alone.
        let private = HeaderValue::from_static("no-store");
        response.headers_mut().insert(header::CACHE_CONTROL, private);
    }
    response
}

/// `POST /logout`
pub(crate) async fn sign_out(
    State(app): State<App>,
    Posted { visitor, .. }: Posted,
) -> Result<Response, Problem> {
    if let Some(token) = visitor.session().map(str::to_owned) {
        app.change(move |store| store.delete_token(&token)).await?;
    }
    let mut response = go_to("/");
    response.headers_mut().append(header::SET_COOKIE, no_session_cookie(&app.site));
    Ok(response)
}
