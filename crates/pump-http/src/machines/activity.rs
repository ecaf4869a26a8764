//! One activity by itself.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use pump_model::{ActivityId, Viewer};

use super::{document, wire};
use crate::app::App;
use crate::extract::In;
use crate::negotiate::Form;
use crate::problem::Problem;

/// `GET /activities/{id}`
pub(crate) async fn get(
    State(app): State<App>,
    In(id): In<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let nothing = || Problem::not_found("there is no such activity");
    let id: ActivityId = id.parse().map_err(|_| nothing())?;
    let found = app.store(move |store| store.activity(id, Viewer::Anonymous)).await?;
    let activity = wire::activity(&app.site, found.ok_or_else(nothing)?);
    Ok(document(Form::json(&headers), StatusCode::OK, activity))
}
