//! Listening sockets: taken over from the master, accepted on until the drain begins.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use pump_control::channel;
use pump_http::Peer;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tracing::warn;

use super::connection::{At, Connection, Serving};
use super::stream::{Socket, Stream};
use crate::config::Address;
use crate::inherit::Inherited;

/// A pause after the machine is out of descriptors or memory, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Why an inherited socket cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("could not take over the socket of `{address}`")]
pub(super) struct TakeError {
    address: String,
    source: io::Error,
}

/// A socket that connections are accepted on.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(super) fn take(
        listener: &channel::Listener,
        inherited: &mut Inherited,
    ) -> Result<Self, TakeError> {
        let mut taken = || {
            let socket = inherited.take(listener.fd)?;
            match listener.address.parse() {
                Ok(Address::Tcp(_)) => Ok(Self::Tcp(TcpListener::from_std(socket.into())?)),
                Ok(Address::Unix(_)) => Ok(Self::Unix(UnixListener::from_std(socket.into())?)),
                Err(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not an address")),
            }
        };
        taken().map_err(|source| TakeError { address: listener.address.clone(), source })
    }

    /// Accepts until the drain begins. What waits in the kernel's queue then is for other workers.
    pub(super) async fn accept(self, serving: Serving, connections: Arc<Semaphore>) {
        let mut leaving = pin!(serving.draining.clone().begun());
        loop {
            // At the limit nobody is turned away: the queue belongs to all workers.
            let next = async {
                let permit = Arc::clone(&connections).acquire_owned().await;
                (permit, self.accept_one().await)
            };
            let (permit, accepted) = tokio::select! {
                biased;
                () = &mut leaving => return,
                next = next => next,
            };
            let Ok(permit) = permit else { return };
            match accepted {
                Ok((stream, peer)) => {
                    let connection =
                        Connection::new(stream, peer, permit, &serving.counters, At::Fresh);
                    tokio::spawn(serving.clone().serve(connection));
                }
                Err(error) if belongs_to_client(&error) => {}
                Err(error) => {
                    warn!("could not accept a connection, trying again in {PAUSE:?}: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn accept_one(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, address) = listener.accept().await?;
                // An answer is written in one piece; waiting for more only delays it.
                socket.set_nodelay(true)?;
                Ok((Stream::new(Socket::Tcp(socket)), Peer::Tcp(address)))
            }
            Self::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                Ok((Stream::new(Socket::Unix(socket)), Peer::Unix))
            }
        }
    }
}

/// The client went away before it was accepted: accept(2).
fn belongs_to_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotConnected
    )
}
