//! Carries files from where an address says, and from nowhere else.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tough::{FilesystemTransport, Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

use super::http::Web;
use crate::report::Failure;
use crate::source::{Address, Patience};

/// Most that is read of a file whose size nobody has signed, in bytes: tough's largest limit, and enough
/// more that it notices.
const MAX_METADATA: usize = 10 * 1024 * 1024 + 64 * 1024;

/// Carries files of one address.
#[derive(Clone, Debug)]
pub(super) struct Carrier {
    web: Option<Web>,
    /// Why a root could not be fetched, other than that there is none.
    root: Arc<Mutex<Option<String>>>,
}

impl Carrier {
    pub(super) fn new(address: &Address, patience: &Patience) -> Result<Self, Failure> {
        let web = match address {
            Address::Folder(_) | Address::Bundle { .. } => None,
            Address::Web(_) => Some(Web::new(patience)?),
        };
        Ok(Self { web, root: Arc::default() })
    }

    /// The web client, unless it is a folder.
    pub(super) fn web(&self) -> Option<&Web> {
        self.web.as_ref()
    }

    /// Why the chain of roots may go on although it was not followed.
    pub(super) fn failed_on_a_root(&self) -> Option<String> {
        self.root.lock().expect("nobody panics with it").clone()
    }
}

#[tough::async_trait]
impl Transport for Carrier {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let fetched = match &self.web {
            None => FilesystemTransport.fetch(url.clone()).await,
            Some(web) => web.whole(&url, MAX_METADATA).await.map(stream),
        };
        if let Err(error) = &fetched
            && error.kind() != TransportErrorKind::FileNotFound
            && url.path().ends_with(".root.json")
        {
            let why = std::error::Error::source(error)
                .map_or_else(|| error.to_string(), super::refusal::chain);
            *self.root.lock().expect("nobody panics with it") = Some(why);
        }
        fetched
    }
}

/// What was read, in one part.
fn stream(bytes: Vec<u8>) -> TransportStream {
    Box::pin(Once(Some(Bytes::from(bytes))))
}

struct Once(Option<Bytes>);

impl futures_core::Stream for Once {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.take().map(Ok))
    }
}
