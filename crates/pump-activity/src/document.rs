//! The outermost object of an answer, which alone carries `@context`.

use serde::Serialize;

use crate::CONTEXT;

/// `body` with a context.
#[derive(Clone, Debug, Serialize)]
pub struct Document<T> {
    #[serde(rename = "@context")]
    context: &'static str,
    /// The object itself; its properties stand beside the context.
    #[serde(flatten)]
    pub body: T,
}

impl<T> Document<T> {
    /// Puts an object into a document of its own.
    pub fn new(body: T) -> Self {
        Self { context: CONTEXT, body }
    }
}
