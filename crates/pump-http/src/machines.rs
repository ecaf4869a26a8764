//! For programs: other servers, apps, and whoever watches the process.

pub(crate) mod activity;
pub(crate) mod actor;
pub(crate) mod collections;
pub(crate) mod health;
pub(crate) mod nodeinfo;
pub(crate) mod note;
pub(crate) mod outbox;
pub(crate) mod streaming;
pub(crate) mod token;
pub(crate) mod webfinger;
mod wire;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pump_activity::Document;
use pump_model::LocalName;
use pump_store::Account;
use serde::Serialize;

use crate::app::App;
use crate::finish::vary;
use crate::negotiate::Form;
use crate::problem::Problem;

/// An ActivityStreams document, in the JSON type that was asked for.
fn document<T: Serialize>(form: Form, status: StatusCode, body: T) -> Response {
    let json = serde_json::to_vec(&Document::new(body)).expect("wire types have a JSON form");
    let mut response = (status, json).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, form.content_type());
    vary(response.headers_mut(), "Accept");
    response
}

/// JSON of another kind, for anybody, from any page.
fn open_json<T: Serialize>(kind: &'static str, body: &T) -> Response {
    let json = serde_json::to_vec(body).expect("wire types have a JSON form");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    ];
    (headers, json).into_response()
}

/// Whoever wants a page finds it there.
fn see_page(target: &str) -> Result<Response, Problem> {
    let target = HeaderValue::try_from(target)
        .map_err(|error| Problem::internal().because("pointing to a page", error))?;
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, target)]).into_response();
    vary(response.headers_mut(), "Accept");
    Ok(response)
}

/// The form that is preferred, or 406.
fn negotiated(headers: &HeaderMap) -> Result<Form, Problem> {
    Form::preferred(headers).ok_or_else(|| {
        let mut problem = Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            "this can be had as `application/activity+json`, as `application/ld+json` with the \
             ActivityStreams profile, or as `text/html`",
        );
        problem = problem.with(header::VARY, HeaderValue::from_static("Accept"));
        problem
    })
}

/// The account with the name that stands in a path.
async fn account(app: &App, name: &str) -> Result<Account, Problem> {
    let nobody = || Problem::not_found("there is no account of that name here");
    let name: LocalName = name.parse().map_err(|_| nobody())?;
    app.store(move |store| store.account_by_name(&name)).await?.ok_or_else(nobody)
}
