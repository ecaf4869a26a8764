//! What clients POST to an outbox, and what is made of it.

use proptest::prelude::*;
use pump_activity::PUBLIC;
use pump_activity::submission::{NewNote, Refused, Submission, Text, Undone, parse};
use serde_json::{Value, json};

const ALICE: &str = "https://a.example/users/alice";

fn submit(value: &Value) -> Result<Submission, Refused> {
    parse(value.to_string().as_bytes(), ALICE)
}

fn note(text: Text, recipients: &[&str]) -> Submission {
    let recipients = recipients.iter().map(|&id| id.to_owned()).collect();
    Submission::Create(NewNote { text, recipients })
}

#[test]
fn a_note_may_come_in_many_shapes() {
    let markdown = || Text::Markdown("*hi*".to_owned());
    let html = || Text::Html("<p>hi</p>".to_owned());
    let followers = "https://a.example/users/alice/followers";
    for (value, want) in [
        (json!({"type": "Note", "content": "<p>hi</p>"}), note(html(), &[])),
        (json!({"type": ["Note"], "content": ["<p>hi</p>"], "to": null}), note(html(), &[])),
        (
            json!({"type": "Note", "content": "*hi*", "mediaType": "text/markdown; charset=utf-8"}),
            note(markdown(), &[]),
        ),
        (
            json!({"type": "Note", "content": "<p><em>hi</em></p>",
                "source": {"content": "*hi*", "mediaType": "text/markdown"}}),
            note(markdown(), &[]),
        ),
        (
            json!({"type": "Note", "content": "<p>hi</p>",
                "source": {"content": ".hi", "mediaType": "text/troff"}}),
            note(html(), &[]),
        ),
        (
            json!({"@context": "https://www.w3.org/ns/activitystreams", "type": "Create",
                "id": "https://elsewhere.example/1", "actor": ALICE, "to": "as:Public",
                "cc": [followers, {"id": followers}],
                "object": {"type": "Note", "attributedTo": [{"id": ALICE}],
                    "content": "<p>hi</p>", "to": ["Public"]}}),
            note(html(), &[PUBLIC, followers]),
        ),
        (
            json!({"type": ["x:Post", "Create"], "object": [{"type": "Note", "content": "<p>hi</p>"}]}),
            note(html(), &[]),
        ),
    ] {
        assert_eq!(submit(&value), Ok(want), "{value}");
    }
}

#[test]
fn an_object_is_named_by_its_id_or_stands_there() {
    let bob = "https://a.example/users/bob";
    let id = bob.to_owned();
    for object in [json!(bob), json!([bob]), json!({"id": bob, "type": "Person"})] {
        let object = |kind: &str| submit(&json!({"type": kind, "object": object})).unwrap();
        assert_eq!(object("Follow"), Submission::Follow { object: id.clone() });
        assert_eq!(object("Like"), Submission::Like { object: id.clone() });
        assert_eq!(object("Delete"), Submission::Delete { object: id.clone() });
        assert_eq!(object("Undo"), Submission::Undo(Undone::Id(id.clone())));
    }
    let undo = json!({"type": "Undo", "object": {"type": "Follow", "actor": ALICE, "object": bob}});
    assert_eq!(submit(&undo), Ok(Submission::Undo(Undone::Follow { object: id })));
}

#[test]
fn nobody_speaks_for_somebody_else() {
    let other = "https://a.example/users/mallory";
    for actor in [
        json!(other),
        json!({"id": other}),
        json!([ALICE, other]),
        json!([other, ALICE]),
        json!({"id": {"id": ALICE}}),
        json!({}),
        json!(1),
        json!(format!("{ALICE} ")),
    ] {
        for value in [
            json!({"type": "Like", "actor": actor, "object": "https://a.example/notes/1"}),
            json!({"type": "Note", "attributedTo": actor, "content": "hi"}),
            json!({"type": "Create", "object": {"type": "Note", "attributedTo": actor, "content": "hi"}}),
            json!({"type": "Undo", "object": {"type": "Like", "actor": actor, "object": "x"}}),
        ] {
            let got = submit(&value);
            assert!(matches!(got, Err(Refused::NotYours { .. })), "{value} gave {got:?}");
        }
    }
}

#[test]
fn a_refusal_says_what_was_found_and_what_is_allowed() {
    let many: Vec<String> = (0..101).map(|n| format!("https://a.example/users/u{n}")).collect();
    for (value, sentence) in [
        (json!([]), "the body is a list of 0; it must be one activity, as a JSON object"),
        (
            json!({"type": "Announce", "object": "x"}),
            "`type` is `Announce`; allowed are `Create`, `Delete`, `Follow`, `Like`, `Undo`, or a `Note` by itself",
        ),
        (
            json!({"object": "x"}),
            "`type` is missing; allowed are `Create`, `Delete`, `Follow`, `Like`, `Undo`, or a `Note` by itself",
        ),
        (
            json!({"type": "Create", "object": "https://a.example/notes/1"}),
            "`object` is `https://a.example/notes/1`; a `Create` needs the new `Note` itself",
        ),
        (
            json!({"type": "Create", "object": {"type": "Question"}}),
            "the `type` of `object` is `Question`; only a `Note` can be created",
        ),
        (json!({"type": "Note"}), "`content` is missing; it must be a string"),
        (
            json!({"type": "Note", "content": "x", "bcc": "https://a.example/users/bob"}),
            "`bto` or `bcc` is `https://a.example/users/bob`; hidden recipients are not supported",
        ),
        (
            json!({"type": "Note", "content": "x", "inReplyTo": "https://a.example/notes/1"}),
            "`inReplyTo` is `https://a.example/notes/1`; replies are not supported",
        ),
        (
            json!({"type": "Follow", "object": ["a", "b"]}),
            "`object` is a list of 2; it must be one id, or one object with an `id`",
        ),
        (
            json!({"type": "Follow", "object": "a\r\nb"}),
            "`object` is `a\u{fffd}\u{fffd}b`; it must be one id, or one object with an `id`",
        ),
        (
            json!({"type": "Note", "content": "x", "to": many}),
            "the list of recipients is longer than 100; address fewer, or a collection",
        ),
        (
            json!({"type": "Like", "actor": "https://b.example/users/bob", "object": "x"}),
            "`actor` is `https://b.example/users/bob`, and this is the outbox of `https://a.example/users/alice`",
        ),
    ] {
        assert_eq!(submit(&value).unwrap_err().to_string(), sentence);
    }
}

/// Any JSON, often with the words that matter.
fn anything() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "Create",
        "Note",
        "Delete",
        "Follow",
        "Undo",
        "Like",
        "text/markdown",
        ALICE,
        PUBLIC,
        "",
        "\u{0}",
        "https://a.example/notes/1",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "type",
        "actor",
        "object",
        "to",
        "cc",
        "bto",
        "content",
        "source",
        "mediaType",
        "id",
        "attributedTo",
        "name",
    ]);
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..8).prop_map(|entries| {
                Value::Object(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_it_panic(value in anything()) {
        if let Err(refused) = submit(&value) {
            let sentence = refused.to_string();
            prop_assert!(sentence.len() < 1000, "a sentence stays a sentence: {}", sentence);
            prop_assert!(!sentence.contains('\n') || matches!(refused, Refused::NotJson(_)));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _refused_or_not = parse(&bytes, ALICE);
    }
}
