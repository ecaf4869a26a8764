//! Is it there, and can it work?

use std::time::Duration;

use axum::extract::State;
use pump_store::Error;

use crate::app::App;
use crate::problem::Problem;

/// When to ask again whether it can.
const RETRY: Duration = Duration::from_secs(2);

/// `GET /healthz`: the process answers.
pub(crate) async fn alive() -> &'static str {
    "alive\n"
}

/// `GET /readyz`: it can write to its database.
pub(crate) async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    app.store(|store| {
        store.can_write().map_err(|error| match error {
            // What anybody is told who wants to save something now.
            Error::Full { .. } | Error::NotWritable { .. } => Problem::from(error),
            error => {
                let detail = "nothing can be written to the database at the moment";
                Problem::unavailable(detail, RETRY).because("writing to the database", error)
            }
        })
    })
    .await?;
    Ok("ready\n")
}
