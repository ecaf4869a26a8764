//! A site to ask, an app that asks it, and a browser.

use std::collections::BTreeMap;
use std::time::SystemTime;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use pump_http::{Peer, Service, Site};
use pump_model::{DisplayName, Password, Timestamp};
use pump_store::{Account, NewAccount, Store};
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) const URL: &str = "https://social.example";
pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const AS2: &str = "application/activity+json";
pub(crate) const HTML: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

pub(crate) struct Server {
    pub(crate) service: Service,
    pub(crate) store: Store,
    site: Site,
    folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Site)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        pump_store::migrate(folder.path()).unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut site = Site {
            public_url: URL.to_owned(),
            domain: "social.example".parse().unwrap(),
            name: "Example".to_owned(),
            open_registration: false,
            body_bytes: 64 * 1024,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            generation_header: None,
            version: "1.2.3".to_owned(),
        };
        change(&mut site);
        let service = pump_http::service(site.clone(), store.clone());
        Self { service, store, site, folder }
    }

    /// Another worker on the same database.
    pub(crate) fn worker(&self) -> Service {
        let store = Store::open(self.folder.path()).unwrap();
        pump_http::service(self.site.clone(), store)
    }

    pub(crate) fn data(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn account(&self, name: &str) -> Account {
        let new = NewAccount {
            name: name.parse().unwrap(),
            display_name: DisplayName::default(),
            password: Password::new(PASSWORD).unwrap(),
        };
        let now = Timestamp::from(SystemTime::now());
        self.store.create_account(&new, URL, now).unwrap()
    }

    /// An account and an app that is signed in to it.
    pub(crate) async fn app(&self, name: &str) -> App<'_> {
        self.account(name);
        let form = format!("grant_type=password&username={name}&password=correct+horse");
        let answer = self.form("/oauth/token", &form).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        App { server: self, name: name.to_owned(), token }
    }

    /// An account and a browser that is signed in to it.
    pub(crate) async fn browser(&self, name: &str) -> Browser<'_> {
        self.account(name);
        let mut browser = self.stranger();
        browser.sign_in(name, PASSWORD).await;
        browser
    }

    pub(crate) fn stranger(&self) -> Browser<'_> {
        Browser { server: self, cookies: BTreeMap::new() }
    }

    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        let host = HeaderValue::from_static("social.example");
        request.headers_mut().entry(header::HOST).or_insert(host);
        let answer = self.service.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, 1 << 24).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str, accept: &str) -> Answer {
        let path = path.strip_prefix(URL).unwrap_or(path);
        let request = Request::get(path).header(header::ACCEPT, accept);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn form(&self, path: &str, form: &str) -> Answer {
        self.form_from("192.0.2.1", &[], path, form).await
    }

    /// A form from a peer with this address.
    pub(crate) async fn form_from(
        &self,
        peer: &str,
        headers: &[(&str, &str)],
        path: &str,
        form: &str,
    ) -> Answer {
        let peer = match peer {
            "unix" => Peer::Unix,
            address => Peer::Tcp((address.parse::<std::net::IpAddr>().unwrap(), 4711).into()),
        };
        let mut request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .extension(peer);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(form.to_owned())).unwrap()).await
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// That it is a problem of this status, and its sentence.
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert!(!problem["title"].as_str().unwrap().is_empty());
        problem["detail"].as_str().unwrap().to_owned()
    }
}

pub(crate) struct App<'a> {
    pub(crate) server: &'a Server,
    pub(crate) name: String,
    pub(crate) token: String,
}

impl App<'_> {
    pub(crate) fn id(&self) -> String {
        format!("{URL}/users/{}", self.name)
    }

    pub(crate) async fn try_send(&self, activity: &Value) -> Answer {
        let request = Request::post(format!("/users/{}/outbox", self.name))
            .header(header::CONTENT_TYPE, AS2)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        self.server.send(request.body(Body::from(activity.to_string())).unwrap()).await
    }

    /// Sends an activity and returns what came of it.
    pub(crate) async fn sends(&self, activity: Value) -> Value {
        let answer = self.try_send(&activity).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{activity}: {}", answer.body);
        assert_eq!(answer.header("location"), answer.json()["id"]);
        answer.json()
    }

    /// Posts Markdown and returns the note.
    pub(crate) async fn posts(&self, text: &str) -> Value {
        let source = json!({"content": text, "mediaType": "text/markdown"});
        let note = json!({"type": "Note", "content": "", "source": source});
        self.sends(json!({"type": "Create", "object": note})).await["object"].clone()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let path = path.strip_prefix(URL).unwrap_or(path);
        let request = Request::get(path)
            .header(header::ACCEPT, AS2)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        self.server.send(request.body(Body::empty()).unwrap()).await
    }

    /// Every item of one of the actor's collections, in order.
    pub(crate) async fn walk(&self, collection: &str) -> Vec<Value> {
        let whole = self.get(&format!("{}/{collection}", self.id())).await.json();
        assert_eq!(whole["type"], "OrderedCollection");
        let (mut items, mut next) = (Vec::new(), whole["first"].clone());
        while let Some(link) = next.as_str() {
            let page = self.get(link).await.json();
            assert_eq!(page["type"], "OrderedCollectionPage");
            assert_eq!(page["id"], *link);
            assert_eq!(page["partOf"], whole["id"]);
            items.extend(page["orderedItems"].as_array().unwrap().iter().cloned());
            next = page["next"].clone();
        }
        if let Some(total) = whole.get("totalItems") {
            assert_eq!(*total, items.len(), "{collection} has as many as it says");
        }
        items
    }
}

pub(crate) struct Browser<'a> {
    pub(crate) server: &'a Server,
    pub(crate) cookies: BTreeMap<String, String>,
}

impl Browser<'_> {
    async fn send(&mut self, request: http::request::Builder, body: String) -> Answer {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = request.header(header::ACCEPT, HTML);
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        let answer = self.server.send(request.body(Body::from(body)).unwrap()).await;
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path), String::new()).await
    }

    /// The page that is there; a 200.
    pub(crate) async fn sees(&mut self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        answer.body
    }

    /// Sends a form with the hidden value of the page on which it stands.
    pub(crate) async fn submits(
        &mut self,
        page: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Answer {
        let html = self.get(page).await.body;
        let csrf = csrf_in(&html).unwrap_or_else(|| panic!("no form on {page}: {html}"));
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend_from_slice(fields);
        self.posts(path, &all, &[]).await
    }

    /// Sends a form with these fields and headers and nothing else.
    pub(crate) async fn posts(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request, form.finish()).await
    }

    pub(crate) async fn sign_in(&mut self, name: &str, password: &str) {
        let fields = [("username", name), ("password", password)];
        let answer = self.submits("/login", "/login", &fields).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        assert!(self.cookies.contains_key("__Host-pump"), "{:?}", self.cookies);
    }
}

pub(crate) fn csrf_in(html: &str) -> Option<String> {
    let value = html.split("name=\"csrf\" value=\"").nth(1)?;
    Some(value.split('"').next()?.to_owned())
}
