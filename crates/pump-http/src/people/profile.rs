//! Somebody: who they are, what they posted, and whether one follows them.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use pump_model::{AccountId, LocalName, NoteId, Page, Timestamp};
use pump_store::{Account, Error, Store, Totals};

use super::posted::Posted;
use super::shown::{Person, ShownNote};
use super::visitor::Visitor;
use super::{Frame, go_to, page};
use crate::app::{App, now};
use crate::extract::{Fields, In};
use crate::problem::Problem;
use crate::text;

/// How the visitor stands to the person.
enum Stance {
    Stranger,
    Own,
    Follows,
    DoesNotFollow,
}

#[derive(Template)]
#[template(path = "profile.html")]
struct Profile {
    frame: Frame,
    person: Person,
    domain: String,
    actor: String,
    /// Sanitised HTML.
    summary: String,
    stance: Stance,
    totals: Totals,
    first_page: bool,
    notes: Vec<ShownNote>,
    next: Option<String>,
}

/// The account with the name that stands in a path.
pub(super) async fn named(app: &App, name: &str) -> Result<Account, Problem> {
    let nobody = || Problem::not_found("there is nobody of that name here");
    let name: LocalName = name.parse().map_err(|_| nobody())?;
    app.store(move |store| store.account_by_name(&name)).await?.ok_or_else(nobody)
}

/// `GET /@{name}`
pub(crate) async fn get(
    State(app): State<App>,
    In(name): In<String>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Problem> {
    let account = named(&app, &name).await?;
    let wanted: Page<NoteId> = Fields::of(&uri).page()?;
    let (id, viewer) = (account.id, visitor.viewer());
    let (totals, follows, listing) = app
        .store(move |store| {
            let follows = match viewer.account() {
                Some(viewer) => store.is_following(viewer, id)?,
                None => false,
            };
            Ok::<_, Error>((store.totals(id)?, follows, store.notes_by(id, viewer, wanted)?))
        })
        .await?;
    let stance = match &visitor.account {
        None => Stance::Stranger,
        Some(viewer) if viewer.id == id => Stance::Own,
        Some(_) if follows => Stance::Follows,
        Some(_) => Stance::DoesNotFollow,
    };
    let (person, now) = (Person::from(&account), now());
    let notes = listing.items.iter().map(|note| ShownNote::new(&app.site, &visitor, note, now));
    page(
        StatusCode::OK,
        &Profile {
            frame: Frame::new(&app.site, &visitor, person.href.clone(), &uri),
            domain: app.site.domain.to_string(),
            actor: app.site.actor(&account.name),
            summary: text::from_plain(&account.summary),
            stance,
            totals,
            first_page: wanted.starts_after().is_none(),
            notes: notes.collect(),
            next: listing.next.map(|id| format!("{}?before={id}", person.href)),
            person,
        },
    )
}

/// `POST /@{name}/follow`
pub(crate) async fn follow(
    State(app): State<App>,
    In(name): In<String>,
    posted: Posted,
) -> Result<Response, Problem> {
    change(&app, &name, &posted, |store, me, them, now| store.follow(me, them, now).map(drop)).await
}

/// `POST /@{name}/unfollow`
pub(crate) async fn unfollow(
    State(app): State<App>,
    In(name): In<String>,
    posted: Posted,
) -> Result<Response, Problem> {
    change(&app, &name, &posted, |store, me, them, now| store.unfollow(me, them, now).map(drop))
        .await
}

async fn change(
    app: &App,
    name: &str,
    posted: &Posted,
    work: fn(&Store, AccountId, AccountId, Timestamp) -> Result<(), Error>,
) -> Result<Response, Problem> {
    let Some(me) = &posted.visitor.account else { return Ok(go_to("/login")) };
    let them = named(app, name).await?;
    let (me, id) = (me.id, them.id);
    app.change(move |store| work(store, me, id, now())).await?;
    Ok(posted.back(&format!("/@{}", them.name)))
}
