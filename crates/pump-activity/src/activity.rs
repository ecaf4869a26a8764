//! Something somebody did.

use serde::Serialize;

use crate::{Note, Tombstone};

/// An activity, as it stands in a collection or as a document.
#[derive(Clone, Debug, Serialize)]
pub struct Activity {
    /// The activity's id, a URL.
    pub id: String,
    /// What was done.
    #[serde(rename = "type")]
    pub kind: ActivityType,
    /// Who did it.
    pub actor: String,
    /// To what.
    pub object: Object,
    /// When, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
    /// For whom.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// And for whom besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cc: Vec<String>,
}

/// The activities that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ActivityType {
    /// Something new is there.
    Create,
    /// Something is gone.
    Delete,
    /// The actor wants to see what another one posts.
    Follow,
    /// The actor likes it.
    Like,
    /// An earlier activity of the same actor no longer holds.
    Undo,
}

impl ActivityType {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Create, Self::Delete, Self::Follow, Self::Like, Self::Undo];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::Delete => "Delete",
            Self::Follow => "Follow",
            Self::Like => "Like",
            Self::Undo => "Undo",
        }
    }

    /// The activity with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What an activity is about: an id, or the thing itself.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Object {
    /// Only its id.
    Id(String),
    /// A note.
    Note(Box<Note>),
    /// What is left of a note.
    Tombstone(Tombstone),
    /// Another activity, in an `Undo`.
    Activity(Box<Activity>),
}
