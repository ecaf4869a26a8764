//! People and notes, as the pages show them.

use pump_model::{NoteId, Timestamp};
use pump_store::{Account, Author, Note};

use super::Visitor;
use crate::site::Site;
use crate::text;

/// Colours that badges come in; `.tint-0` and so on in the style sheet.
const TINTS: u32 = 8;

/// Somebody.
pub(super) struct Person {
    pub(super) name: String,
    /// The name to show: what they call themselves, else their name.
    pub(super) shown: String,
    /// The letter on their badge.
    pub(super) initial: String,
    /// The colour of their badge.
    pub(super) tint: u32,
    /// The path of their profile.
    pub(super) href: String,
}

impl Person {
    fn new(name: &str, display_name: &str) -> Self {
        let display_name = text::without_turns(display_name);
        let shown = if text::is_unseen(&display_name) { name } else { &display_name };
        let letter = shown.chars().find(|c| c.is_alphanumeric()).or_else(|| name.chars().next());
        Self {
            name: name.to_owned(),
            shown: shown.to_owned(),
            initial: letter.into_iter().flat_map(char::to_uppercase).take(1).collect(),
            tint: name.bytes().fold(7_u32, |sum, b| sum.wrapping_mul(31) + u32::from(b)) % TINTS,
            href: format!("/@{name}"),
        }
    }
}

impl From<&Account> for Person {
    fn from(account: &Account) -> Self {
        Self::new(account.name.as_str(), &account.display_name)
    }
}

impl From<&Author> for Person {
    fn from(author: &Author) -> Self {
        Self::new(author.name.as_str(), &author.display_name)
    }
}

/// A note.
pub(super) struct ShownNote {
    pub(super) id: NoteId,
    pub(super) author: Person,
    /// Sanitised HTML, the only thing that a template may take as it is.
    pub(super) content: String,
    /// The path of its page.
    pub(super) href: String,
    /// Its id.
    pub(super) uri: String,
    /// RFC 3339.
    pub(super) published: String,
    /// `21 November 2026, 18:30 UTC`
    pub(super) moment: String,
    /// `5 min`, `3 h`, `21 Nov`
    pub(super) ago: String,
    pub(super) likes: u64,
    pub(super) liked: bool,
    pub(super) mine: bool,
}

impl ShownNote {
    pub(super) fn new(site: &Site, visitor: &Visitor, note: &Note, now: Timestamp) -> Self {
        let author = Person::from(&note.author);
        Self {
            id: note.id,
            content: text::sanitise(&note.content),
            href: format!("{}/{}", author.href, note.id),
            uri: site.note(note.id),
            published: note.published.to_string(),
            moment: moment(note.published),
            ago: ago(note.published, now),
            likes: note.likes,
            liked: note.liked,
            mine: visitor.account.as_ref().is_some_and(|account| account.id == note.author.id),
            author,
        }
    }
}

fn moment(at: Timestamp) -> String {
    formatted(at, "%-d %B %Y, %H:%M UTC")
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;

    match now.millis() - at.millis() {
        // A clock of another worker may be a little ahead.
        ..MINUTE => "now".to_owned(),
        past @ MINUTE..HOUR => format!("{} min", past / MINUTE),
        past @ HOUR..DAY => format!("{} h", past / HOUR),
        past if past < 300 * DAY => formatted(at, "%-d %b"),
        _ => formatted(at, "%-d %b %Y"),
    }
}

fn formatted(at: Timestamp, form: &str) -> String {
    jiff::Timestamp::from_millisecond(at.millis())
        .map_or_else(|_| at.to_string(), |at| at.strftime(form).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_as_people_tell_it() {
        let now = Timestamp::from_millis(1_795_285_800_042);
        let since = |millis| ago(Timestamp::from_millis(now.millis() - millis), now);
        assert_eq!(moment(now), "21 November 2026, 18:30 UTC");
        assert_eq!(since(-5_000), "now");
        assert_eq!(since(59_999), "now");
        assert_eq!(since(60_000), "1 min");
        assert_eq!(since(3 * 3_600_000), "3 h");
        assert_eq!(since(40 * 86_400_000), "12 Oct");
        assert_eq!(since(400 * 86_400_000), "17 Oct 2025");
    }

    #[test]
    fn a_badge_has_a_letter_whatever_the_name() {
        assert_eq!(Person::new("alice", "").initial, "A");
        assert_eq!(Person::new("alice", "«élodie»").initial, "É");
        assert_eq!(Person::new("bob", "🙂").initial, "B");
        assert_eq!(Person::new("_", "").initial, "_");
    }

    #[test]
    fn a_name_can_be_seen_and_turns_nothing_around() {
        assert_eq!(Person::new("bob", "\u{200b}\u{3164}").shown, "bob");
        assert_eq!(Person::new("bob", "\u{202e}ecila\u{202c}").shown, "ecila");
        assert_eq!(Person::new("bob", "<bob>").shown, "<bob>");
    }
}
