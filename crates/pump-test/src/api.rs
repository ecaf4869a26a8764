//! The public API as an app uses it: sign in, post, follow, read collections.
//!
//! One connection for each call, so that a call needs nothing of the one before. Calls block.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::ledger::Shown;
use crate::wire::{Address, Answer, Connection, request};

/// Time limit for one call.
const WITHIN: Duration = Duration::from_secs(30);

/// Most pages of one collection.
const MAX_PAGES: usize = 20_000;

/// Someone who is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name, without the server's.
    pub name: String,
    /// The bearer token.
    pub bearer: String,
}

/// A server's API.
#[derive(Clone, Debug)]
pub struct Api {
    address: Address,
    public_url: String,
}

impl Api {
    /// The API of the server at `address` whose ids begin with `public_url`.
    pub fn new(address: Address, public_url: impl Into<String>) -> Self {
        let public_url = public_url.into().trim_end_matches('/').to_owned();
        Self { address, public_url }
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What stands in `Host`: the public URL's authority.
    pub fn host(&self) -> &str {
        self.public_url.split_once("://").map_or(self.public_url.as_str(), |(_, host)| host)
    }

    /// The id of an actor.
    pub fn actor(&self, name: &str) -> String {
        format!("{}/users/{name}", self.public_url)
    }

    /// One request, and its answer whatever the status.
    ///
    /// # Errors
    /// When there is no whole answer within 30 s.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        let mut all = vec![("Connection", "close")];
        all.extend_from_slice(headers);
        let bytes = request(method, path, self.host(), &all, body);
        let answer = block_on(async {
            tokio::time::timeout(WITHIN, async {
                let mut connection = Connection::open(&self.address, None).await?;
                // A server that refuses early may have answered and gone.
                let _ = connection.send(&bytes).await;
                connection.answer().await
            })
            .await
        })?;
        let what = || format!("{method} {path} at {}", self.address);
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(fate)) => bail!("{}: {fate:?}", what()),
            Err(_) => bail!("{}: no answer within {WITHIN:?}", what()),
        }
    }

    /// GET as JSON.
    ///
    /// # Errors
    /// As [`Self::call`], for another status than 200, and for what is no JSON.
    pub fn get(&self, id: &str, who: Option<&Account>) -> Result<Value> {
        let path = id.strip_prefix(&self.public_url).unwrap_or(id);
        let bearer = who.map(|who| format!("Bearer {}", who.bearer));
        let mut headers = vec![("Accept", "application/activity+json")];
        if let Some(bearer) = &bearer {
            headers.push(("Authorization", bearer));
        }
        let answer = self.call("GET", path, &headers, b"")?;
        ensure!(answer.status == 200, "GET {path}: {}", told(&answer));
        serde_json::from_slice(&answer.body).with_context(|| format!("GET {path} is no JSON"))
    }

    /// Signs in.
    ///
    /// # Errors
    /// When the server says no.
    pub fn sign_in(&self, name: &str, password: &str) -> Result<Account> {
        let form = format!("grant_type=password&username={name}&password={}", escaped(password));
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let answer = self.call("POST", "/oauth/token", &headers, form.as_bytes())?;
        ensure!(answer.status == 200, "could not sign `{name}` in: {}", told(&answer));
        let token: Value = serde_json::from_slice(&answer.body)?;
        let bearer = token["access_token"].as_str().context("the answer has no `access_token`")?;
        Ok(Account { name: name.to_owned(), bearer: bearer.to_owned() })
    }

    /// Sends an activity or a note to one's outbox and returns the activity.
    ///
    /// # Errors
    /// For another status than 201.
    pub fn send(&self, who: &Account, activity: &Value) -> Result<Value> {
        let bearer = format!("Bearer {}", who.bearer);
        let headers =
            [("Content-Type", "application/activity+json"), ("Authorization", bearer.as_str())];
        let path = format!("/users/{}/outbox", who.name);
        let answer = self.call("POST", &path, &headers, activity.to_string().as_bytes())?;
        ensure!(answer.status == 201, "POST {path}: {}", told(&answer));
        serde_json::from_slice(&answer.body).with_context(|| format!("POST {path} is no JSON"))
    }

    /// Posts a public note and returns the activity.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn post(&self, who: &Account, text: &str) -> Result<Value> {
        let public = "https://www.w3.org/ns/activitystreams#Public";
        self.send(who, &json!({
            "@context": "https://www.w3.org/ns/activitystreams", "type": "Create", "to": [public],
            "object": { "type": "Note", "content": text, "to": [public] },
        }))
    }

    /// Follows.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn follow(&self, who: &Account, whom: &str) -> Result<Value> {
        self.send(
            who,
            &json!({
                "@context": "https://www.w3.org/ns/activitystreams", "type": "Follow",
                "object": self.actor(whom),
            }),
        )
    }

    /// Everything someone posted, newest first.
    ///
    /// # Errors
    /// As [`Self::items`].
    pub fn outbox(&self, name: &str) -> Result<Vec<Shown>> {
        self.notes(&format!("{}/outbox", self.actor(name)), None)
    }

    /// Someone's home feed, newest first.
    ///
    /// # Errors
    /// As [`Self::items`].
    pub fn feed(&self, who: &Account) -> Result<Vec<Shown>> {
        self.notes(&format!("{}/inbox", self.actor(&who.name)), Some(who))
    }

    fn notes(&self, collection: &str, who: Option<&Account>) -> Result<Vec<Shown>> {
        let mut notes = Vec::new();
        for item in self.items(collection, who)? {
            if item["type"] == "Create" {
                let activity = item["id"].as_str().context("an activity without an id")?.to_owned();
                let content = item["object"]["content"].as_str().unwrap_or_default().to_owned();
                notes.push(Shown { activity, content });
            }
        }
        Ok(notes)
    }

    /// Every item of a collection, page by page.
    ///
    /// # Errors
    /// As [`Self::get`], and for pages that go round in a circle.
    pub fn items(&self, collection: &str, who: Option<&Account>) -> Result<Vec<Value>> {
        let whole = self.get(collection, who)?;
        let mut items = Vec::new();
        let mut seen = BTreeSet::new();
        let mut next = whole.get("first").cloned();
        while let Some(page) = next {
            let page = match page {
                Value::String(id) => {
                    ensure!(seen.insert(id.clone()), "`{collection}` shows its page `{id}` again");
                    ensure!(seen.len() <= MAX_PAGES, "`{collection}` has over {MAX_PAGES} pages");
                    self.get(&id, who)?
                }
                inline => inline,
            };
            for field in ["orderedItems", "items"] {
                items.extend(page[field].as_array().into_iter().flatten().cloned());
            }
            next = page.get("next").filter(|next| !next.is_null()).cloned();
        }
        Ok(items)
    }
}

/// An answer in few words, for a message.
fn told(answer: &Answer) -> String {
    let body = String::from_utf8_lossy(&answer.body);
    let body: String = body.chars().take(300).collect();
    format!("{} {body}", answer.status)
}

fn escaped(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let escape = |byte: u8| match plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// Runs to the end in a thread of its own, so it may be called from an async test as well.
fn block_on<T: Send>(work: impl Future<Output = T> + Send) -> Result<T> {
    let run = || -> std::io::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(work))
    };
    let done = std::thread::scope(|scope| scope.spawn(run).join());
    Ok(done.expect("a call does not panic")?)
}
