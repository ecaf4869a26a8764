//! Lists of people: everybody here, who follows somebody, whom somebody follows.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use pump_model::{AccountId, ActivityId, Listing, Page};
use pump_store::{Account, Error, Store};

use super::profile::named;
use super::shown::Person;
use super::visitor::Visitor;
use super::{Frame, go_to, page};
use crate::app::App;
use crate::extract::{Fields, In};
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "people.html")]
struct People {
    frame: Frame,
    title: String,
    about: Option<Person>,
    first_page: bool,
    people: Vec<Person>,
    next: Option<String>,
}

/// `GET /people`, for those who are here themselves.
pub(crate) async fn everybody(
    State(app): State<App>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Problem> {
    if visitor.account.is_none() {
        return Ok(go_to("/login"));
    }
    let wanted: Page<AccountId> = Fields::of(&uri).page()?;
    let listing = app.store(move |store| store.accounts(wanted)).await?;
    page(
        StatusCode::OK,
        &People {
            frame: Frame::new(&app.site, &visitor, "people", &uri),
            title: "People here".to_owned(),
            about: None,
            first_page: wanted.starts_after().is_none(),
            people: listing.items.iter().map(Person::from).collect(),
            next: listing.next.map(|id| format!("/people?before={id}")),
        },
    )
}

/// `GET /@{name}/followers`
pub(crate) async fn followers(
    State(app): State<App>,
    In(name): In<String>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Problem> {
    around(&app, &name, &visitor, &uri, "followers", "Followers", Store::followers).await
}

/// `GET /@{name}/following`
pub(crate) async fn following(
    State(app): State<App>,
    In(name): In<String>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Problem> {
    around(&app, &name, &visitor, &uri, "following", "Following", Store::following).await
}

type Lister =
    fn(&Store, AccountId, Page<ActivityId>) -> Result<Listing<Account, ActivityId>, Error>;

async fn around(
    app: &App,
    name: &str,
    visitor: &Visitor,
    uri: &Uri,
    path: &str,
    title: &str,
    list: Lister,
) -> Result<Response, Problem> {
    let account = named(app, name).await?;
    let wanted: Page<ActivityId> = Fields::of(uri).page()?;
    let id = account.id;
    let listing = app.store(move |store| list(store, id, wanted)).await?;
    let about = Person::from(&account);
    page(
        StatusCode::OK,
        &People {
            frame: Frame::new(&app.site, visitor, path, uri),
            title: title.to_owned(),
            first_page: wanted.starts_after().is_none(),
            people: listing.items.iter().map(Person::from).collect(),
            next: listing.next.map(|id| format!("{}/{path}?before={id}", about.href)),
            about: Some(about),
        },
    )
}
