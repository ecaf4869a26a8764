//! A note, as other programs see it.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use pump_model::{NoteId, Viewer};
use pump_store::NoteState;

use super::{document, negotiated, see_page, wire};
use crate::app::App;
use crate::extract::In;
use crate::negotiate::Form;
use crate::problem::Problem;

/// `GET /notes/{id}`. A deleted note is a `Tombstone` with status 410 (ActivityPub 6.4).
pub(crate) async fn get(
    State(app): State<App>,
    In(id): In<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let form = negotiated(&headers)?;
    let nothing = || Problem::not_found("there is no such note");
    let id: NoteId = id.parse().map_err(|_| nothing())?;
    let state = app.store(move |store| store.note(id, Viewer::Anonymous)).await?;
    match (state.ok_or_else(nothing)?, form) {
        (NoteState::Whole(note), Form::Page) => {
            see_page(&app.site.note_page(&note.author.name, note.id))
        }
        (NoteState::Tombstone { author, .. }, Form::Page) => {
            see_page(&app.site.note_page(&author.name, id))
        }
        (NoteState::Whole(note), form) => {
            Ok(document(form, StatusCode::OK, wire::note(&app.site, note)))
        }
        (NoteState::Tombstone { deleted, .. }, form) => {
            Ok(document(form, StatusCode::GONE, wire::tombstone(&app.site, id, Some(deleted))))
        }
    }
}
