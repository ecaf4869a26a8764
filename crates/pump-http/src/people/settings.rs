//! How somebody presents themselves.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use pump_model::limits::{MAX_DISPLAY_NAME, MAX_SUMMARY};
use pump_model::{DisplayName, Summary};

use super::posted::Posted;
use super::visitor::Visitor;
use super::{Frame, go_to, page};
use crate::app::App;
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "settings.html")]
struct Settings {
    frame: Frame,
    alert: Option<String>,
    display_name: String,
    summary: String,
    longest_name: usize,
    longest_summary: usize,
}

/// `GET /settings`
pub(crate) async fn form(
    State(app): State<App>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Problem> {
    let Some(account) = &visitor.account else { return Ok(go_to("/login")) };
    page(
        StatusCode::OK,
        &Settings {
            frame: Frame::new(&app.site, &visitor, "settings", &uri),
            alert: None,
            display_name: account.display_name.clone(),
            summary: account.summary.clone(),
            longest_name: MAX_DISPLAY_NAME,
            longest_summary: MAX_SUMMARY,
        },
    )
}

/// `POST /settings`
pub(crate) async fn save(
    State(app): State<App>,
    uri: Uri,
    Posted { visitor, fields }: Posted,
) -> Result<Response, Problem> {
    let Some(account) = &visitor.account else { return Ok(go_to("/login")) };
    let name = fields.text("display_name").to_owned();
    let summary = fields.text("summary").replace("\r\n", "\n");
    let checked = DisplayName::new(&name).and_then(|name| Ok((name, Summary::new(&summary)?)));
    let (display_name, about) = match checked {
        Ok(checked) => checked,
        Err(invalid) => {
            return page(
                StatusCode::UNPROCESSABLE_ENTITY,
                &Settings {
                    frame: Frame::new(&app.site, &visitor, "settings", &uri),
                    alert: Some(format!("Nothing was saved: {invalid}.")),
                    display_name: name,
                    summary,
                    longest_name: MAX_DISPLAY_NAME,
                    longest_summary: MAX_SUMMARY,
                },
            );
        }
    };
    let id = account.id;
    let saved = app.change(move |store| store.set_profile(id, &display_name, &about)).await?;
    Ok(go_to(&format!("/@{}", saved.name)))
}
