//! The body of an answer that is an event stream, for connections that hyper writes.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use super::{EventSource, EventStream};

type Turn = Pin<Box<dyn Future<Output = (EventSource, Option<Bytes>)> + Send>>;

/// Polls the source that is in its slot, if it still is.
pub(crate) struct EventBody {
    slot: EventStream,
    turn: Option<Turn>,
}

impl EventBody {
    pub(crate) fn new(slot: EventStream) -> Self {
        Self { slot, turn: None }
    }
}

impl http_body::Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let turn = match &mut this.turn {
            Some(turn) => turn,
            None => {
                let Some(mut source) = this.slot.take() else { return Poll::Ready(None) };
                this.turn.insert(Box::pin(async move {
                    let events = source.next().await;
                    (source, events)
                }))
            }
        };
        let (source, events) = ready!(turn.as_mut().poll(context));
        this.turn = None;
        Poll::Ready(events.map(|events| {
            this.slot.put_back(source);
            Ok(Frame::data(events))
        }))
    }
}
