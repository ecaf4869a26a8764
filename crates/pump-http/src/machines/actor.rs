//! Somebody, as other programs see them.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};

use super::{account, document, negotiated, see_page, wire};
use crate::app::App;
use crate::extract::In;
use crate::negotiate::Form;
use crate::problem::Problem;

/// `GET /users/{name}`
pub(crate) async fn get(
    State(app): State<App>,
    In(name): In<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let form = negotiated(&headers)?;
    let account = account(&app, &name).await?;
    match form {
        Form::Page => see_page(&app.site.profile(&account.name)),
        form => Ok(document(form, StatusCode::OK, wire::person(&app.site, account))),
    }
}
