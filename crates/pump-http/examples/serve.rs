//! The pages on a laptop, with a few people and notes to look at.
//!
//!     cargo run -p pump-http --example serve
//!
//! Prints its address and serves until it is stopped. Everybody's password is `correct horse`. The
//! database lies in a temporary folder and is gone afterwards. It is no daemon: `pumpd` is.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use pump_http::{Peer, Service, Site, service};
use pump_model::{DisplayName, NoteText, Password, Summary, Timestamp};
use pump_store::{Account, MediaType, NewAccount, NewNote, Store};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "it tells its address to whoever started it")]
async fn main() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    pump_store::migrate(folder.path())?;
    let store = Store::open(folder.path())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let public_url = format!("http://{address}");
    people(&store, &public_url)?;
    let site = Site {
        public_url: public_url.clone(),
        domain: address.to_string().parse()?,
        name: "Harbour Lane".to_owned(),
        open_registration: true,
        body_bytes: 1024 * 1024,
        trusted_proxies: Vec::new(),
        generation_header: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let service = service(site, store);
    pump_http::probe(&service).await?;
    println!("{public_url}");
    loop {
        let (stream, peer) = listener.accept().await?;
        tokio::spawn(serve(service.clone(), stream, peer));
    }
}

async fn serve(service: Service, stream: TcpStream, peer: SocketAddr) {
    let answer = hyper::service::service_fn(move |mut request: http::Request<_>| {
        request.extensions_mut().insert(Peer::Tcp(peer));
        tower::Service::call(&mut service.clone(), request)
    });
    let connection = hyper::server::conn::http1::Builder::new();
    // Somebody who goes away in the middle is nothing to tell.
    let _gone = connection.serve_connection(Io(stream), answer).await;
}

fn people(store: &Store, public_url: &str) -> Outcome<()> {
    let now = Timestamp::from(SystemTime::now());
    let mut hours = 30;
    let account = |name: &str, shown: &str, about: &str| -> Outcome<Account> {
        let new = NewAccount {
            name: name.parse()?,
            display_name: DisplayName::new(shown)?,
            password: Password::new("correct horse")?,
        };
        let account = store.create_account(&new, public_url, now)?;
        Ok(store.set_profile(account.id, &DisplayName::new(shown)?, &Summary::new(about)?)?)
    };
    let ada = account(
        "ada",
        "Ada Lindqvist",
        "Boats, bread and a very old radio.\nOn the water most weekends.",
    )?;
    let bo = account("bo", "Bo", "")?;
    let mina = account("mina_k", "Mina Kariuki", "Librarian. Asks for overdue books, gently.")?;
    for other in [&bo, &mina] {
        store.follow(ada.id, other.id, now)?;
        store.follow(other.id, ada.id, now)?;
    }
    let mut post = |author: &Account, source: &str, html: &str| -> Outcome<_> {
        hours -= 5;
        let (source, content) = (NoteText::new(source)?, html.to_owned());
        let new = NewNote { source, media_type: MediaType::Markdown, content };
        Ok(store.post_note(author.id, &new, now.before(Duration::from_secs(hours * 3600)))?)
    };
    post(
        &mina,
        "x",
        "<p>The reading room opens an hour earlier this week. There will be <strong>tea</strong>, and there will be a quiet corner for those who would rather not talk yet.</p>",
    )?;
    post(
        &bo,
        "x",
        "<p>A note to myself, since I ask every autumn:</p><ul><li>oil the hinges</li><li>drain the garden tap</li><li>find the other glove</li></ul>",
    )?;
    post(
        &ada,
        "x",
        "<p>Got the receiver working again. It was the <em>second</em> capacitor, as it always is.</p><pre><code>7.5 MHz  fading after dusk\n9.4 MHz  clear\n</code></pre>",
    )?;
    post(
        &mina,
        "x",
        "<blockquote><p>A town is its paths, not its walls.</p></blockquote><p>Found on the inside of a cover, in pencil. No name. More at <a href=\"https://example.org/marginalia/found-in-the-stacks\">https://example.org/marginalia/found-in-the-stacks</a></p>",
    )?;
    let last = post(&ada, "x", "<p>Low tide at four. Who comes along?</p>")?;
    if let pump_store::Deed::Create(note) = last.deed {
        store.like(bo.id, note.id(), now)?;
        store.like(mina.id, note.id(), now)?;
    }
    Ok(())
}

/// A stream of tokio as hyper wants it.
struct Io(TcpStream);

impl hyper::rt::Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 8192];
        let room = bytes.len().min(into.remaining());
        let mut buffer = ReadBuf::new(&mut bytes[..room]);
        ready!(Pin::new(&mut self.0).poll_read(context, &mut buffer))?;
        into.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
