//! A note, and what is left of one.

use serde::Serialize;

/// A short text.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub struct Note {
    /// The note's id, a URL.
    pub id: String,
    /// The author's id.
    pub attributed_to: String,
    /// Sanitised HTML.
    pub content: String,
    /// What the author wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// When it was posted, RFC 3339 in UTC.
    pub published: String,
    /// The page that shows it.
    pub url: String,
    /// To whom.
    pub to: Vec<String>,
    /// And to whom besides.
    pub cc: Vec<String>,
}

/// What content was made from (ActivityPub 3.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// As the author typed it.
    pub content: String,
    /// `text/markdown`, for one.
    pub media_type: String,
}

/// What is left of a deleted object (ActivityPub 6.4).
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub struct Tombstone {
    /// The id of what was there.
    pub id: String,
    /// What it was.
    pub former_type: &'static str,
    /// When it was deleted, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<String>,
}
