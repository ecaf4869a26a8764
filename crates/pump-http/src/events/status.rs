//! A note and its author as the entities `Status` and `Account` of the Mastodon client API.
//!
//! What the server does not have is there with the value that says so: clients rely on the fields.
//! What depends on who looks (`favourited` and the like) is left out, as the API allows: one text is
//! written to everybody.

use pump_model::LocalName;
use pump_store::{Note, Poster};
use serde::Serialize;

use crate::assets::ASSETS;
use crate::site::Site;
use crate::text;

#[derive(Serialize)]
pub(super) struct Status {
    id: String,
    created_at: String,
    in_reply_to_id: Option<String>,
    in_reply_to_account_id: Option<String>,
    sensitive: bool,
    spoiler_text: &'static str,
    visibility: &'static str,
    language: Option<String>,
    uri: String,
    url: String,
    replies_count: u64,
    reblogs_count: u64,
    favourites_count: u64,
    edited_at: Option<String>,
    content: String,
    reblog: Option<Nothing>,
    account: Account,
    media_attachments: [Nothing; 0],
    mentions: [Nothing; 0],
    tags: [Nothing; 0],
    emojis: [Nothing; 0],
    card: Option<Nothing>,
    poll: Option<Nothing>,
}

#[derive(Serialize)]
struct Account {
    id: String,
    username: String,
    acct: String,
    display_name: String,
    locked: bool,
    bot: bool,
    discoverable: bool,
    group: bool,
    created_at: String,
    note: String,
    url: String,
    uri: String,
    avatar: String,
    avatar_static: String,
    header: String,
    header_static: String,
    followers_count: u64,
    following_count: u64,
    statuses_count: u64,
    last_status_at: String,
    emojis: [Nothing; 0],
    fields: [Nothing; 0],
}

/// What there is none of.
#[derive(Serialize)]
enum Nothing {}

pub(super) fn of(site: &Site, note: &Note, poster: &Poster) -> Status {
    let name = &note.author.name;
    Status {
        id: note.id.to_string(),
        created_at: note.published.to_string(),
        in_reply_to_id: None,
        in_reply_to_account_id: None,
        sensitive: false,
        spoiler_text: "",
        visibility: "public",
        language: None,
        uri: site.note(note.id),
        url: site.note_page(name, note.id),
        replies_count: 0,
        reblogs_count: 0,
        favourites_count: note.likes,
        edited_at: None,
        content: text::sanitise(&note.content),
        reblog: None,
        account: account(site, name, note, poster),
        media_attachments: [],
        mentions: [],
        tags: [],
        emojis: [],
        card: None,
        poll: None,
    }
}

fn account(site: &Site, name: &LocalName, note: &Note, poster: &Poster) -> Account {
    let picture = site.url(&ASSETS.icon);
    let known = &poster.account;
    Account {
        id: known.id.to_string(),
        username: name.to_string(),
        // Of somebody here, without a domain.
        acct: name.to_string(),
        display_name: known.display_name.clone(),
        locked: false,
        bot: false,
        discoverable: true,
        group: false,
        created_at: known.created.to_string(),
        note: text::from_plain(&known.summary),
        url: site.profile(name),
        uri: site.actor(name),
        avatar: picture.clone(),
        avatar_static: picture.clone(),
        header: picture.clone(),
        header_static: picture,
        followers_count: poster.totals.followers,
        following_count: poster.totals.following,
        statuses_count: poster.totals.notes,
        // A date without a time.
        last_status_at: note.published.to_string().chars().take(10).collect(),
        emojis: [],
        fields: [],
    }
}
