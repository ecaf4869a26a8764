//! What people write, made into HTML that is safe to show.
//!
//! The safe subset, and nothing else, leaves this module: text, emphasis, links, lists, quotes, code,
//! small headings. No images, no styles, no raw HTML out of Markdown. It runs twice over the same
//! note: when it is stored, and again each time it is shown, so that a rule that becomes stricter holds
//! for old notes too.

mod links;
mod markdown;
mod nesting;

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};

pub(crate) use markdown::from_markdown;
pub(crate) use nesting::{MAX_NESTING, is_too_deep};

/// What every link says about itself: it is the user's, not ours, and the target learns nothing.
const REL: &str = "nofollow noopener noreferrer ugc";

/// Longest HTML of a note, in bytes. Any text of the longest note fits that is not made to swell.
pub(crate) const MAX_CONTENT: usize = 64 * 1024;

/// HTML of unknown origin, reduced to the safe subset. What is dropped keeps its text, except for
/// scripts and styles.
pub(crate) fn sanitise(html: &str) -> String {
    static RULES: LazyLock<Builder<'static>> = LazyLock::new(rules);
    RULES.clean(html).to_string()
}

fn rules() -> Builder<'static> {
    let tags: HashSet<&str> = [
        "a",
        "abbr",
        "b",
        "blockquote",
        "br",
        "code",
        "del",
        "em",
        "h3",
        "h4",
        "h5",
        "hr",
        "i",
        "li",
        "ol",
        "p",
        "pre",
        "rp",
        "rt",
        "ruby",
        "s",
        "strong",
        "sub",
        "sup",
        "u",
        "ul",
    ]
    .into();
    let attributes = HashMap::from([
        ("a", HashSet::from(["href", "title"])),
        ("abbr", HashSet::from(["title"])),
        ("ol", HashSet::from(["start"])),
    ]);
    let mut rules = Builder::empty();
    rules
        .tags(tags)
        .clean_content_tags(HashSet::from(["script", "style"]))
        .tag_attributes(attributes)
        .allowed_classes(HashMap::from([("a", HashSet::from(["mention"]))]))
        .url_schemes(HashSet::from(["http", "https", "mailto"]))
        // A relative link would mean one page here and another one on the server that shows the note.
        .url_relative(UrlRelative::Deny)
        .link_rel(Some(REL));
    rules
}

/// Whether there is anything to read in it.
pub(crate) fn is_blank(html: &str) -> bool {
    let mut within_tag = false;
    let mut text = html.chars().filter(|&c| {
        match c {
            '<' => within_tag = true,
            '>' => {
                within_tag = false;
                return false;
            }
            _ => {}
        }
        !within_tag
    });
    text.all(leaves_no_mark)
}

/// Whether plain text has nothing to be seen in it.
pub(crate) fn is_unseen(text: &str) -> bool {
    text.chars().all(leaves_no_mark)
}

fn leaves_no_mark(c: char) -> bool {
    c.is_whitespace() || is_invisible(c)
}

/// Characters that leave no mark: joiners, marks of direction, fillers (Unicode, `Default_Ignorable`,
/// and the empty Braille pattern).
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

/// Elements that begin on a new line.
const BLOCKS: &[&str] = &["blockquote", "br", "h3", "h4", "h5", "hr", "li", "ol", "p", "pre", "ul"];

/// What there is to read in our own HTML, on one line: for a title.
pub(crate) fn read_aloud(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    for piece in html.split('<') {
        // The sanitiser writes `<` for nothing but a tag, and `>` in an attribute as a reference.
        let (tag, after) = piece.split_once('>').unwrap_or(("", piece));
        let name = tag.trim_start_matches('/').split(' ').next().unwrap_or("");
        if BLOCKS.contains(&name) {
            text.push(' ');
        }
        text.push_str(after);
    }
    // The four that it writes in text, the ampersand last.
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", " ");
    let text = without_turns(&text.replace("&amp;", "&"));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Without the characters that turn the direction of what follows (Unicode TR9, explicit formatting).
/// Where an element cannot hold them in, such as in a title, they would turn our own words.
pub(crate) fn without_turns(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|&c| !turns(c)).collect()
}

/// Plain text as HTML: escaped, and with its lines kept.
pub(crate) fn from_plain(text: &str) -> String {
    let escaped = ammonia::clean_text(text.trim());
    if escaped.is_empty() {
        return escaped;
    }
    // `clean_text` writes a line feed as a reference, since it escapes for attributes as well.
    let lines = escaped.replace("&#13;", "").replace("&#10;", "<br>").replace("&#32;", " ");
    sanitise(&format!("<p>{lines}</p>"))
}

#[cfg(test)]
mod tests;
