//! The first page: what those one follows have posted, or for a stranger what this site is.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use pump_activity::submission::Text;
use pump_model::limits::MAX_NOTE;
use pump_model::{NoteId, Page, Viewer};
use pump_store::Account;

use super::posted::Posted;
use super::shown::ShownNote;
use super::visitor::Visitor;
use super::{Frame, compose, go_to, page};
use crate::app::{App, now};
use crate::extract::Fields;
use crate::problem::Problem;

/// Notes that a stranger is shown.
const LATEST: usize = 10;

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    frame: Frame,
    first_page: bool,
    alert: Option<String>,
    draft: String,
    longest: usize,
    notes: Vec<ShownNote>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "landing.html")]
struct Landing {
    frame: Frame,
    open: bool,
    notes: Vec<ShownNote>,
}

/// `GET /`
pub(crate) async fn get(
    State(app): State<App>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Problem> {
    match visitor.account.clone() {
        Some(account) => home(&app, &visitor, &account, &uri, None).await,
        None => landing(&app, &visitor, &uri).await,
    }
}

/// What was wrong with a note, and the note.
struct Draft {
    alert: String,
    text: String,
}

async fn home(
    app: &App,
    visitor: &Visitor,
    account: &Account,
    uri: &Uri,
    draft: Option<Draft>,
) -> Result<Response, Problem> {
    let wanted: Page<NoteId> = Fields::of(uri).page()?;
    let id = account.id;
    let listing = app.store(move |store| store.home(id, wanted)).await?;
    let now = now();
    let status = if draft.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let (alert, text) = draft.map(|draft| (draft.alert, draft.text)).unzip();
    let notes = listing.items.iter().map(|note| ShownNote::new(&app.site, visitor, note, now));
    page(
        status,
        &Home {
            frame: Frame::new(&app.site, visitor, "home", uri),
            first_page: wanted.starts_after().is_none(),
            alert,
            draft: text.unwrap_or_default(),
            longest: MAX_NOTE,
            notes: notes.collect(),
            next: listing.next.map(|id| format!("/?before={id}")),
        },
    )
}

async fn landing(app: &App, visitor: &Visitor, uri: &Uri) -> Result<Response, Problem> {
    let latest = Page::first().of(LATEST);
    let listing = app.store(move |store| store.latest_notes(Viewer::Anonymous, latest)).await?;
    let now = now();
    let notes = listing.items.iter().map(|note| ShownNote::new(&app.site, visitor, note, now));
    page(
        StatusCode::OK,
        &Landing {
            frame: Frame::new(&app.site, visitor, "landing", uri),
            open: app.site.open_registration,
            notes: notes.collect(),
        },
    )
}

/// `POST /post`
pub(crate) async fn post(
    State(app): State<App>,
    Posted { visitor, fields }: Posted,
) -> Result<Response, Problem> {
    let Some(account) = visitor.account.clone() else { return Ok(go_to("/login")) };
    // A browser sends every line feed of a form as two characters (HTML, form submission).
    let text = fields.text("text").replace("\r\n", "\n");
    let (source, site, author) = (text.clone(), app.site.clone(), account.id);
    let posted = app
        .publish(move |store| {
            let new = compose::note(store, &site, Text::Markdown(source))?;
            store.post_note(author, &new, now()).map_err(Problem::from)
        })
        .await;
    match posted {
        Ok(_) => Ok(go_to("/")),
        Err(problem) if problem.status == StatusCode::UNPROCESSABLE_ENTITY => {
            let alert = format!("This was not posted: {}.", problem.detail);
            let first = Uri::from_static("/");
            home(&app, &visitor, &account, &first, Some(Draft { alert, text })).await
        }
        Err(problem) => Err(problem),
    }
}
