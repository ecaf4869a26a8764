//! What a client POSTs to its outbox (ActivityPub section 6).
//!
//! Read with tolerance where writers differ: `type`, `to` and `object` may be one or many, an object
//! may be its id or stand there itself, `actor` may be left out, and a bare `Note` is wrapped into a
//! `Create`. Without tolerance where a guess could show something to the wrong people or make it look
//! as if somebody else had done it.
//!
//! Ids and dates that a client gives to a new object are ignored (ActivityPub 6: the server sets them).

mod read;

use crate::ActivityType;

/// Most recipients of one activity.
pub const MAX_RECIPIENTS: usize = 100;

/// Longest id that is read, in bytes.
pub const MAX_ID: usize = 2048;

/// What the client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submission {
    /// Post a note.
    Create(NewNote),
    /// Delete the object with this id.
    Delete {
        /// The object's id.
        object: String,
    },
    /// Follow the actor with this id.
    Follow {
        /// The actor's id.
        object: String,
    },
    /// Like the object with this id.
    Like {
        /// The object's id.
        object: String,
    },
    /// Take back an earlier activity.
    Undo(Undone),
}

/// A note to post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNote {
    /// Its text.
    pub text: Text,
    /// The ids it is addressed to, `to` and `cc` of note and activity together, each once.
    /// [`crate::PUBLIC`] stands in its full spelling.
    pub recipients: Vec<String>,
}

/// A text and what it is written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// `text/markdown`, or `text/plain`, which Markdown shows nearly as it is.
    Markdown(String),
    /// `text/html`, the default for `content` (ActivityStreams vocabulary, `content`).
    Html(String),
}

/// Which activity is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// The one with this id.
    Id(String),
    /// The actor's own activity of this type about this object.
    Like {
        /// The id of what was liked.
        object: String,
    },
    /// The actor's own activity of this type about this object.
    Follow {
        /// The id of who was followed.
        object: String,
    },
}

/// Why a submission is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// No JSON, or beyond its limits.
    #[error("the body is not acceptable JSON: {0}")]
    NotJson(String),
    /// A property is missing or is not what it has to be.
    #[error("{field} is {found}; {allowed}")]
    Property {
        /// Which one, with backticks.
        field: &'static str,
        /// What stands there.
        found: String,
        /// What may stand there, as a clause.
        allowed: &'static str,
    },
    /// An activity or object that is not understood.
    #[error("{field} is {found}; {allowed}")]
    Unsupported {
        /// Which property, with backticks.
        field: &'static str,
        /// What stands there.
        found: String,
        /// What may stand there, as a clause.
        allowed: &'static str,
    },
    /// It claims to be by somebody else than the owner of the outbox.
    #[error("{field} is {found}, and this is the outbox of `{owner}`")]
    NotYours {
        /// Which property, with backticks.
        field: &'static str,
        /// What stands there.
        found: String,
        /// The id of the outbox's owner.
        owner: String,
    },
}

/// Reads a submission to the outbox of the actor with the id `owner`.
///
/// # Errors
/// [`Refused`], whose sentence says what was found and what is allowed.
pub fn parse(body: &[u8], owner: &str) -> Result<Submission, Refused> {
    let value = crate::json::read(body).map_err(Refused::NotJson)?;
    let object = read::Object::from_document(&value)?;
    if object.is("Note") {
        return read::note(&object, None, owner).map(Submission::Create);
    }
    object.must_be_by("actor", owner)?;
    Ok(match object.activity_type()? {
        ActivityType::Create => {
            let note = object.embedded_note()?;
            Submission::Create(read::note(&note, Some(&object), owner)?)
        }
        ActivityType::Delete => Submission::Delete { object: object.target()? },
        ActivityType::Follow => Submission::Follow { object: object.target()? },
        ActivityType::Like => Submission::Like { object: object.target()? },
        ActivityType::Undo => Submission::Undo(read::undone(&object, owner)?),
    })
}
