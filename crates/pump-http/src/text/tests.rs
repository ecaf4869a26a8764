use proptest::prelude::*;

use super::*;

fn markdown(source: &str) -> String {
    from_markdown(source, |name| (name == "bob").then(|| "https://a.example/@bob".to_owned()))
}

#[test]
fn markdown_keeps_what_a_note_needs() {
    let rel = "rel=\"nofollow noopener noreferrer ugc\"";
    for (source, html) in [
        ("hello", "<p>hello</p>\n".to_owned()),
        ("one\ntwo", "<p>one<br>\ntwo</p>\n".to_owned()),
        (
            "*a* **b** ~~c~~ `d`",
            "<p><em>a</em> <strong>b</strong> <del>c</del> <code>d</code></p>\n".to_owned(),
        ),
        ("# big", "<h3>big</h3>\n".to_owned()),
        (
            "[x](https://b.example/?a=1&b=2 \"t\")",
            format!("<p><a href=\"https://b.example/?a=1&amp;b=2\" title=\"t\" {rel}>x</a></p>\n"),
        ),
        (
            "go https://b.example/a_b_c, now",
            format!(
                "<p>go <a href=\"https://b.example/a_b_c\" {rel}>https://b.example/a_b_c</a>, now</p>\n"
            ),
        ),
        (
            "@bob and @nobody, `@bob`",
            format!(
                "<p><a class=\"mention\" href=\"https://a.example/@bob\" {rel}>@bob</a> and @nobody, <code>@bob</code></p>\n"
            ),
        ),
        (
            "![a cat](https://b.example/cat.png)",
            format!("<p><a href=\"https://b.example/cat.png\" {rel}>a cat</a></p>\n"),
        ),
        ("a <b>bold</b> claim", "<p>a &lt;b&gt;bold&lt;/b&gt; claim</p>\n".to_owned()),
        ("<div>\nblock\n</div>", "<p>&lt;div&gt;\nblock\n&lt;/div&gt;</p>\n".to_owned()),
    ] {
        assert_eq!(markdown(source), html, "{source}");
    }
}

/// Ways that script got into pages elsewhere.
const ATTACKS: &[&str] = &[
    "<script>alert(1)</script>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    "<p onclick=alert(1)>x</p>",
    "<a href=\"javascript:alert(1)\">x</a>",
    "<a href=\" \u{1}java\tscript\n:alert(1)\">x</a>",
    "<a href=\"&#106;avascript&colon;alert(1)\">x</a>",
    "<a href=\"data:text/html,<script>alert(1)</script>\">x</a>",
    "<a href=\"vbscript:x\">x</a>",
    "<a href=\"//evil.example\">x</a>",
    "<a href=\"/logout\">x</a>",
    "<svg onload=alert(1)><animate onbegin=alert(1)></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
    "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<svg></p><style><a id=\"</style><img src=1 onerror=alert(1)>\">",
    "<iframe srcdoc=\"<script>alert(1)</script>\"></iframe>",
    "<object data=x></object><embed src=x><base href=//evil.example>",
    "<meta http-equiv=refresh content=\"0;url=//evil.example\">",
    "<link rel=stylesheet href=//evil.example>",
    "<style>body{display:none}</style>",
    "<p style=\"position:fixed\">x</p>",
    "<template><img src=x onerror=alert(1)></template>",
    "<textarea></textarea><img src=x onerror=alert(1)>",
    "<title></title><img src=x onerror=alert(1)>",
    "<xmp><p title=\"</xmp><img src=x onerror=alert(1)>\">",
    "<select><iframe><select><img src=x onerror=alert(1)></select></iframe></select>",
    "[x](javascript:alert(1))",
    "[x](java\u{0}script:alert(1))",
    "[x](JaVaScRiPt&colon;alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "![x](javascript:alert(1))",
    "![x\" onerror=\"alert(1)](https://b.example/a.png)",
    "<javascript:alert(1)>",
    "<https://b.example/\"onmouseover=\"alert(1)>",
    "https://b.example/\"onmouseover=\"alert(1)",
    "https://b.example/'><script>alert(1)</script>",
    "[x]: javascript:alert(1)\n\n[x]",
    "```html\" onclick=\"alert(1)\n<script>\n```",
];

/// What a browser would make of it: every element and attribute is one of the safe subset's.
fn assert_safe(html: &str, source: &str) {
    const ELEMENTS: &[&str] = &[
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
    ];
    // The serialiser writes `<` for nothing but a tag, and attributes only in double quotes.
    for tag in html.split('<').skip(1) {
        let tag = tag.strip_prefix('/').unwrap_or(tag);
        let (tag, _) = tag.split_once('>').unwrap_or((tag, ""));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(ELEMENTS.contains(&name), "element `{name}` out of {source:?} in {html:?}");
        for (position, part) in attributes.split('"').enumerate() {
            if position % 2 == 0 {
                let name = part.trim().trim_end_matches('=');
                let known = ["", "href", "title", "rel", "class", "start"].contains(&name);
                assert!(known, "attribute `{name}` out of {source:?} in {html:?}");
            }
        }
        if let Some(target) = attributes.split("href=\"").nth(1) {
            let schemes = ["https://", "http://", "mailto:"];
            let good = schemes.iter().any(|scheme| target.to_lowercase().starts_with(scheme));
            assert!(good, "target `{target}` out of {source:?}");
        }
    }
}

#[test]
fn no_known_attack_leaves_anything_active() {
    for attack in ATTACKS {
        assert_safe(&sanitise(attack), attack);
        assert_safe(&markdown(attack), attack);
        assert_safe(&from_plain(attack), attack);
        for first in ATTACKS {
            let both = format!("{first}{attack}");
            assert_safe(&sanitise(&both), &both);
        }
    }
}

#[test]
fn sanitising_what_is_clean_changes_nothing() {
    for text in ATTACKS.iter().copied().chain(["<p>a &amp; b</p>", "a\n\n> b\n\n1. c\n"]) {
        for clean in [sanitise(text), markdown(text), from_plain(text)] {
            assert_eq!(sanitise(&clean), clean, "{text}");
        }
    }
}

#[test]
fn plain_text_stays_what_it_was() {
    assert_eq!(from_plain("a <b> & c\nd"), "<p>a &lt;b&gt; &amp; c<br>d</p>");
    assert_eq!(from_plain("  "), "");
}

#[test]
fn blank_is_what_shows_nothing() {
    for html in ["", " \n", "<p></p>", "<p> <br></p>", "<p>\u{200b}\u{2060}\u{202e}</p>"] {
        assert!(is_blank(html), "{html}");
    }
    assert!(!is_blank("<p>x</p>"));
}

#[test]
fn a_title_has_the_words_and_not_the_marks() {
    for (html, want) in [
        ("<p>a <b>bold</b>er claim<br>or</p><p>more</p>", "a bolder claim or more"),
        ("1 &lt; 2 &amp;amp; 3&nbsp;", "1 < 2 &amp; 3"),
        (&sanitise("<a href='https://a.example/' title='1>2\"3<4'>x</a>y"), "xy"),
        ("\u{202e}gnp.exe\u{2069}", "gnp.exe"),
    ] {
        assert_eq!(read_aloud(html), want, "{html}");
    }
}

proptest! {
    #[test]
    fn whatever_is_written_comes_out_safe(text in "[ -~\\n<>\"'&;:@/\\[\\]()#`*_]{0,200}") {
        assert_safe(&sanitise(&text), &text);
        assert_safe(&markdown(&text), &text);
        prop_assert_eq!(sanitise(&markdown(&text)), markdown(&text));
    }
}

#[test]
fn markdown_is_not_nested_without_end() {
    for source in [">".repeat(4_999), "1. ".repeat(1_600), "- ".repeat(2_400), "*".repeat(4_990)] {
        let html = markdown(&format!("{source}x"));
        assert!(html.len() < MAX_CONTENT, "{} bytes", html.len());
        let closed = html.matches("</").count();
        assert!(closed <= MAX_NESTING, "{closed} elements of {:?}", &source[..9]);
        assert!(html.contains('x'), "the text is kept");
    }
}
