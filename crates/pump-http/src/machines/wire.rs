//! What is stored, as ActivityStreams.

use pump_activity::{
    Activity, ActivityType, Endpoints, Note, Object, PUBLIC, Person, Source, Tombstone,
};
use pump_model::{LocalName, NoteId, Timestamp};
use pump_store::{Account, Deed, NoteState, Undoable};

use crate::site::Site;
use crate::text;

pub(super) fn person(site: &Site, account: Account) -> Person {
    let name = &account.name;
    let shown = if text::is_unseen(&account.display_name) {
        name.to_string()
    } else {
        account.display_name.clone()
    };
    Person {
        id: site.actor(name),
        preferred_username: name.to_string(),
        name: shown,
        summary: text::from_plain(&account.summary),
        url: site.profile(name),
        inbox: site.collection(name, "inbox"),
        outbox: site.collection(name, "outbox"),
        followers: site.collection(name, "followers"),
        following: site.collection(name, "following"),
        published: account.created.to_string(),
        endpoints: Endpoints { oauth_token_endpoint: site.url("/oauth/token") },
    }
}

pub(super) fn note(site: &Site, note: pump_store::Note) -> Note {
    let author = &note.author.name;
    Note {
        id: site.note(note.id),
        attributed_to: site.actor(author),
        content: text::sanitise(&note.content),
        source: note.media_type.map(|media_type| Source {
            content: note.source,
            media_type: media_type.name().to_owned(),
        }),
        published: note.published.to_string(),
        url: site.note_page(author, note.id),
        to: vec![PUBLIC.to_owned()],
        cc: vec![site.collection(author, "followers")],
    }
}

pub(super) fn tombstone(site: &Site, id: NoteId, deleted: Option<Timestamp>) -> Tombstone {
    Tombstone {
        id: site.note(id),
        former_type: "Note",
        deleted: deleted.map(|deleted| deleted.to_string()),
    }
}

pub(super) fn activity(site: &Site, activity: pump_store::Activity) -> Activity {
    let actor = site.actor(&activity.actor.name);
    let everybody = || vec![PUBLIC.to_owned()];
    let followers = || vec![site.collection(&activity.actor.name, "followers")];
    let (kind, object, to, cc) = match activity.deed {
        Deed::Create(NoteState::Whole(whole)) => {
            let object = Object::Note(Box::new(note(site, whole)));
            (ActivityType::Create, object, everybody(), followers())
        }
        Deed::Create(NoteState::Tombstone { id, deleted, .. }) => {
            let object = Object::Tombstone(tombstone(site, id, Some(deleted)));
            (ActivityType::Create, object, everybody(), followers())
        }
        Deed::Delete(id) => {
            let object = Object::Tombstone(tombstone(site, id, None));
            (ActivityType::Delete, object, everybody(), followers())
        }
        Deed::Follow(name) => {
            let (kind, object) = follow(site, &name);
            (kind, object, vec![site.actor(&name)], vec![])
        }
        Deed::Like(id) => {
            let (kind, object) = like(site, id);
            (kind, object, everybody(), vec![])
        }
        Deed::Undo { activity: undone, deed } => {
            let (kind, object) = match &deed {
                Undoable::Follow(name) => follow(site, name),
                Undoable::Like(id) => like(site, *id),
            };
            let undone = Activity {
                id: site.activity(undone),
                kind,
                actor: actor.clone(),
                object,
                published: None,
                to: vec![],
                cc: vec![],
            };
            let to = match deed {
                Undoable::Follow(name) => vec![site.actor(&name)],
                Undoable::Like(_) => everybody(),
            };
            (ActivityType::Undo, Object::Activity(Box::new(undone)), to, vec![])
        }
    };
    let published = Some(activity.published.to_string());
    Activity { id: site.activity(activity.id), kind, actor, object, published, to, cc }
}

fn follow(site: &Site, name: &LocalName) -> (ActivityType, Object) {
    (ActivityType::Follow, Object::Id(site.actor(name)))
}

fn like(site: &Site, id: NoteId) -> (ActivityType, Object) {
    (ActivityType::Like, Object::Id(site.note(id)))
}
