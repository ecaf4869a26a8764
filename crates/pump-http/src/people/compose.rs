//! A text somebody wrote, made into a note: the same for a form and for an app.

use pump_activity::submission::Text;
use pump_model::{InvalidText, NoteText};
use pump_store::{MediaType, NewNote, Store};

use crate::problem::Problem;
use crate::site::Site;
use crate::text;

/// Checks the length first, since everything after it takes time that grows with it.
pub(crate) fn note(store: &Store, site: &Site, text: Text) -> Result<NewNote, Problem> {
    let (source, media_type, content) = match text {
        Text::Markdown(source) => {
            let source = NoteText::new(source)?;
            let content = from_markdown(store, site, source.as_str())?;
            (source, MediaType::Markdown, content)
        }
        Text::Html(source) => {
            let source = NoteText::new(source)?;
            // Many an app sends plain text as `content`.
            let content = if text::is_too_deep(source.as_str()) {
                return Err(Problem::unprocessable(format!(
                    "the HTML has more than {} elements open within each other, or left open",
                    text::MAX_NESTING,
                )));
            } else if source.as_str().contains(['<', '&']) {
                text::sanitise(source.as_str())
            } else {
                text::from_plain(source.as_str())
            };
            (source, MediaType::Html, content)
        }
    };
    if text::is_blank(&content) {
        return Err(Problem::unprocessable("there is nothing to read in the note"));
    }
    if content.len() > text::MAX_CONTENT {
        return Err(Problem::unprocessable(format!(
            "the note is {} bytes of HTML, and at most {} are taken: use less formatting",
            content.len(),
            text::MAX_CONTENT,
        )));
    }
    Ok(NewNote { source, media_type, content })
}

fn from_markdown(store: &Store, site: &Site, source: &str) -> Result<String, Problem> {
    let mut failed = None;
    let html = text::from_markdown(source, |name| {
        let name = name.parse().ok()?;
        match store.account_by_name(&name) {
            Ok(found) => found.map(|account| site.profile(&account.name)),
            Err(error) => {
                failed = Some(error);
                None
            }
        }
    });
    match failed {
        None => Ok(html),
        Some(error) => Err(error.into()),
    }
}

impl From<InvalidText> for Problem {
    fn from(invalid: InvalidText) -> Self {
        Self::unprocessable(invalid.to_string())
    }
}
