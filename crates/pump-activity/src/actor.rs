//! Somebody with an outbox.

use serde::Serialize;

/// A person's actor document (ActivityPub 4.1).
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename = "Person", rename_all = "camelCase")]
pub struct Person {
    /// The actor's id, a URL.
    pub id: String,
    /// The local name: plain text.
    pub preferred_username: String,
    /// The name to show: plain text.
    pub name: String,
    /// About the person: sanitised HTML.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// The profile page.
    pub url: String,
    /// Where others deliver to, and the owner reads.
    pub inbox: String,
    /// Where the owner posts to, and others read.
    pub outbox: String,
    /// Who follows the actor.
    pub followers: String,
    /// Whom the actor follows.
    pub following: String,
    /// Since when there is this account, RFC 3339.
    pub published: String,
    /// What a client needs to sign in.
    pub endpoints: Endpoints,
}

/// Addresses for clients (ActivityPub 4.1, `endpoints`).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Where a client gets a bearer token.
    pub oauth_token_endpoint: String,
}
