//! One note on its own page, and what can be done with it.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use pump_model::{AccountId, NoteId, Timestamp, Viewer};
use pump_store::{Error, Note, NoteState, Store};

use super::posted::Posted;
use super::shown::ShownNote;
use super::visitor::Visitor;
use super::{Frame, go_to, page};
use crate::app::{App, now};
use crate::extract::In;
use crate::problem::Problem;
use crate::text;

/// Characters of a note that its page's title shows.
const EXCERPT: usize = 60;

#[derive(Template)]
#[template(path = "note.html")]
struct NotePage {
    frame: Frame,
    note: ShownNote,
    excerpt: String,
}

/// `GET /@{name}/{id}`
pub(crate) async fn get(
    State(app): State<App>,
    In((name, id)): In<(String, String)>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Problem> {
    let note = found(&app, &name, &id, visitor.viewer()).await?;
    page(
        StatusCode::OK,
        &NotePage {
            frame: Frame::new(&app.site, &visitor, "note", &uri),
            excerpt: excerpt(&note.content),
            note: ShownNote::new(&app.site, &visitor, &note, now()),
        },
    )
}

/// The note of a path, which names its author as well.
async fn found(app: &App, name: &str, id: &str, viewer: Viewer) -> Result<Note, Problem> {
    let nothing = || Problem::not_found("there is no such note");
    let id: NoteId = id.parse().map_err(|_| nothing())?;
    let state = app.store(move |store| store.note(id, viewer)).await?.ok_or_else(nothing)?;
    let author = match &state {
        NoteState::Whole(note) => &note.author,
        NoteState::Tombstone { author, .. } => author,
    };
    if !author.name.as_str().eq_ignore_ascii_case(name) {
        return Err(nothing());
    }
    match state {
        NoteState::Whole(note) => Ok(note),
        NoteState::Tombstone { .. } => {
            Err(Problem::new(StatusCode::GONE, "this note was deleted by its author"))
        }
    }
}

fn excerpt(content: &str) -> String {
    let line = text::read_aloud(&text::sanitise(content));
    match line.char_indices().nth(EXCERPT) {
        None => line,
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

/// `POST /@{name}/{id}/like`
pub(crate) async fn like(
    State(app): State<App>,
    In(path): In<(String, String)>,
    posted: Posted,
) -> Result<Response, Problem> {
    change(&app, &path, &posted, |store, me, id, now| store.like(me, id, now).map(drop)).await?;
    Ok(after(&posted, &path))
}

/// `POST /@{name}/{id}/unlike`
pub(crate) async fn unlike(
    State(app): State<App>,
    In(path): In<(String, String)>,
    posted: Posted,
) -> Result<Response, Problem> {
    change(&app, &path, &posted, |store, me, id, now| store.unlike(me, id, now).map(drop)).await?;
    Ok(after(&posted, &path))
}

/// `POST /@{name}/{id}/delete`
pub(crate) async fn delete(
    State(app): State<App>,
    In(path): In<(String, String)>,
    posted: Posted,
) -> Result<Response, Problem> {
    let (me, note) = concerned(&app, &path, &posted).await?;
    app.publish(move |store| store.delete_note(me, note, now())).await?;
    // Its own page is gone.
    let page_of_it = format!("/@{}/{}", path.0, path.1);
    let back = posted.fields.text("back");
    Ok(if back.starts_with(&page_of_it) { go_to("/") } else { posted.back("/") })
}

async fn change(
    app: &App,
    path: &(String, String),
    posted: &Posted,
    work: fn(&Store, AccountId, NoteId, Timestamp) -> Result<(), Error>,
) -> Result<(), Problem> {
    let (me, note) = concerned(app, path, posted).await?;
    app.change(move |store| work(store, me, note, now())).await
}

/// Who sent the form, and the note that it is about.
async fn concerned(
    app: &App,
    (name, id): &(String, String),
    posted: &Posted,
) -> Result<(AccountId, NoteId), Problem> {
    let Some(me) = &posted.visitor.account else {
        return Err(Problem::forbidden("sign in first"));
    };
    let note = found(app, name, id, Viewer::Known(me.id)).await?;
    Ok((me.id, note.id))
}

fn after(posted: &Posted, (name, id): &(String, String)) -> Response {
    posted.back(&format!("/@{name}/{id}"))
}
