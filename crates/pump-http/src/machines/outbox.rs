//! An app does something for somebody (ActivityPub section 6).

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pump_activity::submission::{self, NewNote, Refused, Submission, Undone};
use pump_activity::{ACTIVITY_JSON, PUBLIC};
use pump_model::LocalName;
use pump_store::{Account, Activity, Store};

use super::{document, wire};
use crate::app::{App, now};
use crate::bearer::Bearer;
use crate::extract::{In, Whole};
use crate::negotiate::{Form, is_activity};
use crate::people::compose;
use crate::problem::Problem;
use crate::site::Site;

/// `POST /users/{name}/outbox`: 201, where the activity is, and the activity. What already holds, such
/// as following somebody twice, is answered with the activity that made it so.
pub(crate) async fn post(
    State(app): State<App>,
    In(name): In<String>,
    bearer: Bearer,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<Response, Problem> {
    let owner: LocalName =
        name.parse().map_err(|_| Problem::not_found("there is no account of that name here"))?;
    bearer.must_be(&owner, "outbox")?;
    if !is_activity(headers.get(header::CONTENT_TYPE)) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "an activity has the `Content-Type` `application/activity+json` or \
             `application/ld+json`",
        )
        .with(
            header::HeaderName::from_static("accept-post"),
            HeaderValue::from_static(ACTIVITY_JSON),
        ));
    }
    let wanted = submission::parse(&body, &app.site.actor(&owner))?;
    let (actor, site) = (bearer.0, app.site.clone());
    let published = matches!(wanted, Submission::Create(_) | Submission::Delete { .. });
    let work = move |store: &Store| perform(store, &site, &actor, wanted);
    let done = if published { app.publish(work).await? } else { app.change(work).await? };
    let activity = wire::activity(&app.site, done);
    let location = HeaderValue::try_from(&activity.id)
        .map_err(|error| Problem::internal().because("saying where the activity is", error))?;
    let mut response = document(Form::json(&headers), StatusCode::CREATED, activity);
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

fn perform(
    store: &Store,
    site: &Site,
    actor: &Account,
    wanted: Submission,
) -> Result<Activity, Problem> {
    Ok(match wanted {
        Submission::Create(note) => create(store, site, actor, note)?,
        Submission::Delete { object } => {
            let id = site.note_in(&object).ok_or_else(|| elsewhere("note", &object))?;
            store.delete_note(actor.id, id, now())?.into_activity()
        }
        Submission::Follow { object } => {
            let whom = person(store, site, &object)?;
            store.follow(actor.id, whom.id, now())?.into_activity()
        }
        Submission::Like { object } => {
            let id = site.note_in(&object).ok_or_else(|| elsewhere("note", &object))?;
            store.like(actor.id, id, now())?.into_activity()
        }
        Submission::Undo(Undone::Id(object)) => {
            let id = site.activity_in(&object).ok_or_else(|| elsewhere("activity", &object))?;
            store.undo(actor.id, id, now())?.into_activity()
        }
        Submission::Undo(Undone::Follow { object }) => {
            let whom = person(store, site, &object)?;
            store
                .unfollow(actor.id, whom.id, now())?
                .ok_or_else(|| Problem::not_found(format!("you do not follow `{object}`")))?
        }
        Submission::Undo(Undone::Like { object }) => {
            let id = site.note_in(&object).ok_or_else(|| elsewhere("note", &object))?;
            store
                .unlike(actor.id, id, now())?
                .ok_or_else(|| Problem::not_found(format!("you do not like `{object}`")))?
        }
    })
}

fn create(store: &Store, site: &Site, actor: &Account, note: NewNote) -> Result<Activity, Problem> {
    // Every note here is for everybody. One that is meant for fewer must not be shown to all.
    if !note.recipients.is_empty() && !note.recipients.iter().any(|id| id == PUBLIC) {
        return Err(Problem::unprocessable(format!(
            "the note is addressed to {} and not to everybody; notes for some only are not \
             supported: address `{PUBLIC}`, or nobody",
            note.recipients.len(),
        )));
    }
    let new = compose::note(store, site, note.text)?;
    Ok(store.post_note(actor.id, &new, now())?)
}

fn person(store: &Store, site: &Site, id: &str) -> Result<Account, Problem> {
    let name = site.name_in(id).ok_or_else(|| elsewhere("account", id))?;
    let found = store.account_by_name(&name)?;
    found.ok_or_else(|| Problem::not_found(format!("there is no account `{name}` here")))
}

/// It is no id of ours.
fn elsewhere(what: &str, id: &str) -> Problem {
    let id: String = id.chars().take(200).collect();
    Problem::unprocessable(format!(
        "`{id}` is no {what} of this server, and others are not reached yet"
    ))
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let sentence = refused.to_string();
        match refused {
            Refused::NotYours { .. } => Self::forbidden(sentence),
            Refused::Unsupported { .. } => Self::unprocessable(sentence),
            _ => Self::bad_request(sentence),
        }
    }
}
