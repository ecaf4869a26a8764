//! An actor's collections: what they did, what concerns them, who follows them and whom they follow.
//!
//! The collection itself tells how many there are and where the first page is. A page is asked for
//! with `?page=true`, and each names the next, `…&before=ID`, until there is none.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use pump_activity::{Collection, CollectionPage};
use pump_model::limits::MAX_PAGE;
use pump_model::{ActivityId, Listing, Page, Viewer};
use pump_store::{Account, Error, Store, Totals};
use serde::Serialize;

use super::{account, document, wire};
use crate::app::App;
use crate::bearer::Bearer;
use crate::extract::{Fields, In};
use crate::negotiate::Form;
use crate::problem::Problem;

/// `GET /users/{name}/inbox`, for its owner only (ActivityPub 5.2).
pub(crate) async fn inbox(
    State(app): State<App>,
    In(name): In<String>,
    Bearer(owner): Bearer,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let account = account(&app, &name).await?;
    let bearer = Bearer(owner);
    bearer.must_be(&account.name, "inbox")?;
    let id = account.id;
    let of = Of { name: "inbox", account, total: |_| None };
    of.answer(
        &app,
        &uri,
        &headers,
        move |store, page| store.inbox(id, page),
        |app, activity| wire::activity(&app.site, activity),
    )
    .await
}

/// `GET /users/{name}/outbox`
pub(crate) async fn outbox(
    State(app): State<App>,
    In(name): In<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let account = account(&app, &name).await?;
    let id = account.id;
    let of = Of { name: "outbox", account, total: |totals| Some(totals.activities) };
    of.answer(
        &app,
        &uri,
        &headers,
        move |store, page| store.outbox(id, Viewer::Anonymous, page),
        |app, activity| wire::activity(&app.site, activity),
    )
    .await
}

/// `GET /users/{name}/followers`
pub(crate) async fn followers(
    State(app): State<App>,
    In(name): In<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let account = account(&app, &name).await?;
    let id = account.id;
    let of = Of { name: "followers", account, total: |totals| Some(totals.followers) };
    let list = move |store: &Store, page| store.followers(id, page);
    of.answer(&app, &uri, &headers, list, |app, who: Account| app.site.actor(&who.name)).await
}

/// `GET /users/{name}/following`
pub(crate) async fn following(
    State(app): State<App>,
    In(name): In<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let account = account(&app, &name).await?;
    let id = account.id;
    let of = Of { name: "following", account, total: |totals| Some(totals.following) };
    let list = move |store: &Store, page| store.following(id, page);
    of.answer(&app, &uri, &headers, list, |app, who: Account| app.site.actor(&who.name)).await
}

/// Which collection of whom.
struct Of {
    name: &'static str,
    account: Account,
    total: fn(&Totals) -> Option<u64>,
}

impl Of {
    /// The collection, or the page of it that the query asks for.
    async fn answer<T: Send + 'static, W: Serialize>(
        self,
        app: &App,
        uri: &Uri,
        headers: &HeaderMap,
        list: impl FnOnce(&Store, Page<ActivityId>) -> Result<Listing<T, ActivityId>, Error>
        + Send
        + 'static,
        write: impl Fn(&App, T) -> W,
    ) -> Result<Response, Problem> {
        let form = Form::json(headers);
        let fields = Fields::of(uri);
        let id = app.site.collection(&self.account.name, self.name);
        let account = self.account.id;
        if fields.get("page").is_none() && fields.get("before").is_none() {
            let totals = app.store(move |store| store.totals(account)).await?;
            let first = format!("{id}?page=true");
            let whole = Collection { id, total_items: (self.total)(&totals), first };
            return Ok(document(form, StatusCode::OK, whole));
        }
        let page: Page<ActivityId> = fields.page()?.of(MAX_PAGE);
        let link = |before: &ActivityId| format!("{id}?page=true&before={before}");
        let this = page.starts_after().map_or_else(|| format!("{id}?page=true"), link);
        let (totals, listing) = app
            .store(move |store| Ok::<_, Error>((store.totals(account)?, list(store, page)?)))
            .await?;
        let page = CollectionPage {
            id: this,
            ordered_items: listing.items.into_iter().map(|item| write(app, item)).collect(),
            next: listing.next.as_ref().map(link),
            part_of: id,
            total_items: (self.total)(&totals),
        };
        Ok(document(form, StatusCode::OK, page))
    }
}
