//! Finds web addresses and names of people in plain text.

/// A piece of text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Text as it is.
    Plain(&'a str),
    /// An address, with its scheme.
    Address(&'a str),
    /// `@alice`, with the `@`.
    Mention(&'a str),
}

/// Longest address that is made into a link, in bytes, with what follows it up to the next space.
const MAX_ADDRESS: usize = 2048;

/// Cuts `text` into its pieces. Joined, they are the text again.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let (mut plain, mut at) = (0, 0);
    let mut before = None;
    while let Some(next) = text[at..].chars().next() {
        let length = match next {
            _ if before.is_some_and(continues_a_word) => None,
            'h' => address(&text[at..]).map(|length| (length, true)),
            '@' => mention(&text[at..]).map(|length| (length, false)),
            _ => None,
        };
        let Some((length, is_address)) = length else {
            before = Some(next);
            at += next.len_utf8();
            continue;
        };
        if plain < at {
            found.push(Piece::Plain(&text[plain..at]));
        }
        let piece = &text[at..at + length];
        found.push(if is_address { Piece::Address(piece) } else { Piece::Mention(piece) });
        before = piece.chars().next_back();
        at += length;
        plain = at;
    }
    if plain < text.len() {
        found.push(Piece::Plain(&text[plain..]));
    }
    found
}

/// After such a character neither an address nor a mention begins: `alice@host` is no mention.
fn continues_a_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '@' | '/')
}

fn address(text: &str) -> Option<usize> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    if !host.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let ends = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"' | '`');
    // No further than counts, since whoever calls tries each place where one could begin.
    let end = text.char_indices().find(|&(at, c)| at > MAX_ADDRESS || ends(c));
    let mut address = end.map_or(text, |(end, _)| &text[..end]);
    if address.len() > MAX_ADDRESS {
        return None;
    }
    let count = |bracket: u8| address.bytes().filter(|&byte| byte == bracket).count();
    let (opened, mut closed) = (count(b'('), count(b')'));
    // What ends a sentence does not belong to the address that ends with it.
    while let Some(last) = address.chars().next_back() {
        match last {
            '.' | ',' | ';' | ':' | '!' | '?' | '\'' | '*' => {}
            ')' if opened < closed => closed -= 1,
            _ => break,
        }
        address = &address[..address.len() - 1];
    }
    Some(address.len())
}

fn mention(text: &str) -> Option<usize> {
    let name = &text[1..];
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
    // `@alice@elsewhere.example` is somebody on another server.
    (end > 0 && !name[end..].starts_with('@')).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::Piece::{Address, Mention, Plain};
    use super::*;

    #[test]
    fn addresses_and_mentions_are_found_as_people_write_them() {
        for (text, want) in [
            ("hi @bob!", vec![Plain("hi "), Mention("@bob"), Plain("!")]),
            ("(@bob_2)", vec![Plain("("), Mention("@bob_2"), Plain(")")]),
            (
                "bob@a.example @bob@a.example @ @@x",
                vec![Plain("bob@a.example @bob@a.example @ @@x")],
            ),
            (
                "see https://a.example/x.",
                vec![Plain("see "), Address("https://a.example/x"), Plain(".")],
            ),
            (
                "(https://a.example/x_(y))",
                vec![Plain("("), Address("https://a.example/x_(y)"), Plain(")")],
            ),
            (
                "(https://a.example/x).))",
                vec![Plain("("), Address("https://a.example/x"), Plain(").))")],
            ),
            ("https:// http://<x> ahttps://a.b", vec![Plain("https:// http://<x> ahttps://a.b")]),
            ("héhttps://a.b é @é", vec![Plain("héhttps://a.b é @é")]),
            ("", vec![]),
        ] {
            assert_eq!(pieces(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_too_long_for_an_address_is_text() {
        let fits = format!("https://a.example/{}", "x".repeat(MAX_ADDRESS - 18));
        assert_eq!(pieces(&fits), [Address(&fits)]);
        let long = format!("{fits}é");
        assert_eq!(pieces(&long), [Plain(&long)]);
    }

    /// A moment for each place where one begins, times another for each full stop, would be seconds.
    #[test]
    fn many_beginnings_and_many_ends_cost_no_time() {
        let text = "(http://a".repeat(2_000) + &"é".repeat(MAX_ADDRESS) + &".".repeat(20_000);
        let began = std::time::Instant::now();
        assert!(!pieces(&text).is_empty());
        let took = began.elapsed();
        assert!(took < std::time::Duration::from_secs(2), "{took:?}");
    }
}
