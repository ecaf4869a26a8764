//! Markdown to HTML.

use pulldown_cmark::{CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd};
use pulldown_cmark::{TextMergeStream, html};

use super::links::{Piece, pieces};
use super::{MAX_NESTING, sanitise};

/// Most names in one note that are looked up to make a link.
const MAX_MENTIONS: usize = 20;

/// The note's text as HTML. `profile_of` gives the address of the profile of somebody here with that
/// name, if there is anybody.
///
/// Different from plain Markdown: HTML is text, an image is a link to it, a line ends where its
/// author ended it, headings are small, bare addresses and `@names` become links, and what is nested
/// deeper than [`MAX_NESTING`] is shown without its marks.
pub(crate) fn from_markdown(
    source: &str,
    mut profile_of: impl FnMut(&str) -> Option<String>,
) -> String {
    let parser = TextMergeStream::new(Parser::new_ext(source, Options::ENABLE_STRIKETHROUGH));
    let mut events = Vec::new();
    let (mut within_link, mut within_code, mut lookups) = (0_usize, false, 0);
    let mut depth = 0;
    for event in parser {
        match &event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth -= 1,
            _ => {}
        }
        let hidden = match &event {
            Event::Start(_) => depth > MAX_NESTING,
            Event::End(_) => depth >= MAX_NESTING,
            _ => false,
        };
        if hidden {
            continue;
        }
        match event {
            Event::Html(html) | Event::InlineHtml(html) => events.push(Event::Text(html)),
            Event::SoftBreak => events.push(Event::HardBreak),
            Event::Start(Tag::HtmlBlock) => events.push(Event::Start(Tag::Paragraph)),
            Event::End(TagEnd::HtmlBlock) => events.push(Event::End(TagEnd::Paragraph)),
            Event::Start(Tag::Heading { level, .. }) => {
                events.push(Event::Start(Tag::Heading {
                    level: smaller(level),
                    id: None,
                    classes: Vec::new(),
                    attrs: Vec::new(),
                }));
            }
            Event::End(TagEnd::Heading(level)) => {
                events.push(Event::End(TagEnd::Heading(smaller(level))));
            }
            Event::Start(Tag::Image { dest_url, .. }) => {
                // Within a link there is one link already.
                if within_link == 0 {
                    events.push(start_of_link(dest_url));
                }
                within_link += 1;
            }
            Event::Start(tag @ Tag::Link { .. }) => {
                within_link += 1;
                events.push(Event::Start(tag));
            }
            Event::End(TagEnd::Image) => {
                within_link = within_link.saturating_sub(1);
                if within_link == 0 {
                    events.push(Event::End(TagEnd::Link));
                }
            }
            Event::End(TagEnd::Link) => {
                within_link = within_link.saturating_sub(1);
                events.push(Event::End(TagEnd::Link));
            }
            Event::Start(tag @ Tag::CodeBlock(_)) => {
                within_code = true;
                events.push(Event::Start(tag));
            }
            Event::End(TagEnd::CodeBlock) => {
                within_code = false;
                events.push(Event::End(TagEnd::CodeBlock));
            }
            Event::Text(text) if within_link == 0 && !within_code => {
                for piece in pieces(&text) {
                    let link = match piece {
                        Piece::Plain(_) => None,
                        Piece::Address(address) => Some((address, address.to_owned(), false)),
                        Piece::Mention(mention) if lookups < MAX_MENTIONS => {
                            lookups += 1;
                            profile_of(&mention[1..]).map(|profile| (mention, profile, true))
                        }
                        Piece::Mention(_) => None,
                    };
                    match (link, piece) {
                        (Some((text, target, is_mention)), _) => {
                            push_link(&mut events, text, &target, is_mention);
                        }
                        (
                            None,
                            Piece::Plain(text) | Piece::Address(text) | Piece::Mention(text),
                        ) => events.push(Event::Text(text.to_owned().into())),
                    }
                }
            }
            other => events.push(other),
        }
    }
    let mut out = String::with_capacity(source.len() * 2);
    html::push_html(&mut out, events.into_iter());
    sanitise(&out)
}

fn smaller(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H3,
        HeadingLevel::H2 => HeadingLevel::H4,
        _ => HeadingLevel::H5,
    }
}

fn start_of_link(target: CowStr<'_>) -> Event<'_> {
    let (title, id) = (CowStr::from(""), CowStr::from(""));
    Event::Start(Tag::Link { link_type: LinkType::Inline, dest_url: target, title, id })
}

fn push_link(events: &mut Vec<Event<'_>>, text: &str, target: &str, is_mention: bool) {
    if is_mention {
        // The writer has no way to give a link a class; a name has only letters, digits and `_`.
        let target = ammonia::clean_text(target);
        let link = format!("<a class=\"mention\" href=\"{target}\">{text}</a>");
        events.push(Event::InlineHtml(link.into()));
    } else {
        events.push(start_of_link(target.to_owned().into()));
        events.push(Event::Text(text.to_owned().into()));
        events.push(Event::End(TagEnd::Link));
    }
}
