//! How deep HTML is nested, counted before it is parsed.
//!
//! A parser opens formatting again in every block after the one in which it was left open (HTML, 13.2.4.3,
//! the list of active formatting elements). A few hundred `<b>` and a few hundred `<p>` in a small note
//! come out as megabytes, which are made again whenever somebody looks at it. So what is left open counts
//! here until it is closed, in order, and a note may not have much of it.

/// Most elements within each other in a note.
pub(crate) const MAX_NESTING: usize = 24;

/// Elements whose inside is not read as HTML, or not by the usual rules.
const OPAQUE: &[&str] = &[
    "iframe",
    "math",
    "noembed",
    "noframes",
    "noscript",
    "plaintext",
    "script",
    "select",
    "style",
    "svg",
    "template",
    "textarea",
    "title",
    "xmp",
];

/// Elements that have no inside.
const VOID: &[&str] = &["br", "hr", "img", "input", "link", "meta", "source", "wbr"];

/// Whether so many elements may be open at one time that the note is not worth its work. In doubt it is
/// so: after a comment or an element with rules of its own nothing counts as closed any more.
pub(crate) fn is_too_deep(html: &str) -> bool {
    let mut open: Vec<&str> = Vec::new();
    let (mut rest, mut sure) = (html, true);
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let (closes, tag) = match rest.strip_prefix('/') {
            Some(tag) => (true, tag),
            None => (false, rest),
        };
        if !tag.starts_with(|c: char| c.is_ascii_alphabetic()) {
            sure &= !(closes || tag.starts_with(['!', '?']));
            continue;
        }
        let end = tag.find(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>'));
        let (name, attributes) = tag.split_at(end.unwrap_or(tag.len()));
        let is = |known: &&str| known.eq_ignore_ascii_case(name);
        if !closes {
            sure &= !OPAQUE.iter().any(is);
            if !VOID.iter().any(is) {
                open.push(name);
            }
        } else if sure && open.last().is_some_and(is) {
            open.pop();
        }
        if open.len() > MAX_NESTING {
            return true;
        }
        rest = after_attributes(attributes);
    }
    false
}

/// What follows the `>` of a tag: one within quotes after a `=` is not it.
fn after_attributes(attributes: &str) -> &str {
    let mut characters = attributes.char_indices();
    let mut after_equals = false;
    while let Some((at, c)) = characters.next() {
        match c {
            '>' => return &attributes[at + 1..],
            '"' | '\'' if after_equals => {
                characters.by_ref().find(|(_, end)| *end == c);
                after_equals = false;
            }
            '=' => after_equals = true,
            c if c.is_ascii_whitespace() => {}
            _ => after_equals = false,
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_not_too_deep() {
        let paragraphs = "<p>a <b>b</b> <i class=\"x>y\">c</i><br>d</p>".repeat(100);
        let list = "<ul><li>".repeat(10) + &"</li></ul>".repeat(10);
        for html in ["", "a < b, a <3 b", &paragraphs, &list] {
            assert!(!is_too_deep(html), "{html}");
        }
    }

    #[test]
    fn what_is_left_open_adds_up_however_it_is_hidden() {
        for piece in [
            "<b>",
            "<B/>",
            "<p>x",
            "<b a=\"</b>\">",
            "<b a=' ></b>'>",
            "<b a = '></b>'>",
            "<b><!-- </b> -->",
            "<b><? </b> >",
            "<b></ </b> >",
            "<b><textarea></b></textarea>",
            "<b><i></b></i>",
        ] {
            assert!(is_too_deep(&piece.repeat(MAX_NESTING + 1)), "{piece}");
        }
    }
}
