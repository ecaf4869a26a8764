//! Reads the properties of a submission out of JSON.

use serde_json::{Map, Value};

use super::{MAX_ID, MAX_RECIPIENTS, NewNote, Refused, Text, Undone};
use crate::{ActivityType, PUBLIC, is_public};

const ACTIVITIES: &str =
    "allowed are `Create`, `Delete`, `Follow`, `Like`, `Undo`, or a `Note` by itself";

/// A JSON object that is being read.
#[derive(Clone, Copy)]
pub(super) struct Object<'a>(&'a Map<String, Value>);

impl<'a> Object<'a> {
    pub(super) fn from_document(value: &'a Value) -> Result<Self, Refused> {
        value.as_object().map(Self).ok_or_else(|| Refused::Property {
            field: "the body",
            found: describe(Some(value)),
            allowed: "it must be one activity, as a JSON object",
        })
    }

    /// A property; `null` and an empty array are the same as none.
    fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| match value {
            Value::Null => false,
            Value::Array(items) => !items.is_empty(),
            _ => true,
        })
    }

    /// A property with an array of one taken as that one.
    fn single(self, name: &str) -> Option<&'a Value> {
        match self.get(name) {
            Some(Value::Array(items)) if items.len() == 1 => items.first(),
            other => other,
        }
    }

    /// Whether one of the types is this one.
    pub(super) fn is(self, name: &str) -> bool {
        self.types().any(|kind| kind == name)
    }

    fn types(self) -> impl Iterator<Item = &'a str> {
        many(self.get("type")).filter_map(Value::as_str)
    }

    pub(super) fn activity_type(self) -> Result<ActivityType, Refused> {
        self.types().find_map(ActivityType::from_name).ok_or_else(|| Refused::Unsupported {
            field: "`type`",
            found: describe(self.get("type")),
            allowed: ACTIVITIES,
        })
    }

    /// That `actor` or `attributedTo`, if it stands there, is the owner of the outbox and nobody else.
    pub(super) fn must_be_by(self, name: &'static str, owner: &str) -> Result<(), Refused> {
        let value = self.single(name);
        match value {
            None => Ok(()),
            Some(value) if id_of(value) == Some(owner) => Ok(()),
            Some(_) => Err(Refused::NotYours {
                field: if name == "actor" { "`actor`" } else { "`attributedTo`" },
                found: describe(value),
                owner: owner.to_owned(),
            }),
        }
    }

    pub(super) fn embedded_note(self) -> Result<Self, Refused> {
        let value = self.single("object");
        let object = value.and_then(Value::as_object).map(Self);
        match object {
            Some(object) if object.is("Note") => Ok(object),
            Some(object) => Err(Refused::Unsupported {
                field: "the `type` of `object`",
                found: describe(object.get("type")),
                allowed: "only a `Note` can be created",
            }),
            None => Err(Refused::Property {
                field: "`object`",
                found: describe(value),
                allowed: "a `Create` needs the new `Note` itself",
            }),
        }
    }

    /// The id of `object`, whether it stands there alone or with the object.
    pub(super) fn target(self) -> Result<String, Refused> {
        let value = self.single("object");
        value.and_then(id_of).map(str::to_owned).ok_or_else(|| Refused::Property {
            field: "`object`",
            found: describe(value),
            allowed: "it must be one id, or one object with an `id`",
        })
    }
}

pub(super) fn note(
    note: &Object<'_>,
    activity: Option<&Object<'_>>,
    owner: &str,
) -> Result<NewNote, Refused> {
    note.must_be_by("attributedTo", owner)?;
    if note.get("inReplyTo").is_some() {
        return Err(unsupported("`inReplyTo`", note.get("inReplyTo"), "replies are not supported"));
    }
    if note.get("attachment").is_some() {
        let found = note.get("attachment");
        return Err(unsupported("`attachment`", found, "attachments are not supported"));
    }
    let recipients = recipients(std::iter::once(note).chain(activity))?;
    Ok(NewNote { text: text(*note)?, recipients })
}

/// The text of a note: `source` where it is in a language we read, else `content`.
fn text(note: Object<'_>) -> Result<Text, Refused> {
    if let Some(source) = note.single("source").and_then(Value::as_object).map(Object)
        && let Some(content) = source.get("content").and_then(Value::as_str)
        && matches!(media_type(source), Some("text/markdown" | "text/plain"))
    {
        return Ok(Text::Markdown(content.to_owned()));
    }
    let content = note.single("content");
    let Some(Value::String(content)) = content else {
        return Err(Refused::Property {
            field: "`content`",
            found: describe(content),
            allowed: "it must be a string",
        });
    };
    match media_type(note) {
        None | Some("text/html") => Ok(Text::Html(content.clone())),
        Some("text/markdown" | "text/plain") => Ok(Text::Markdown(content.clone())),
        Some(_) => Err(unsupported(
            "`mediaType`",
            note.get("mediaType"),
            "allowed are `text/html`, `text/markdown` and `text/plain`",
        )),
    }
}

/// `mediaType` without its parameters.
fn media_type<'a>(object: Object<'a>) -> Option<&'a str> {
    let value = object.get("mediaType")?.as_str()?;
    Some(value.split(';').next().unwrap_or(value).trim())
}

/// Everyone whom note and activity name, each once, in order.
fn recipients<'a>(from: impl Iterator<Item = &'a Object<'a>>) -> Result<Vec<String>, Refused> {
    let mut list: Vec<String> = Vec::new();
    for object in from {
        for hidden in ["bto", "bcc"] {
            if object.get(hidden).is_some() {
                let found = object.get(hidden);
                return Err(unsupported(
                    "`bto` or `bcc`",
                    found,
                    "hidden recipients are not supported",
                ));
            }
        }
        for value in ["to", "cc", "audience"].into_iter().flat_map(|name| many(object.get(name))) {
            let id = id_of(value).ok_or_else(|| Refused::Property {
                field: "a recipient",
                found: describe(Some(value)),
                allowed: "each of `to` and `cc` must be an id",
            })?;
            let id = if is_public(id) { PUBLIC } else { id };
            if list.iter().any(|known| known == id) {
                continue;
            }
            if list.len() == MAX_RECIPIENTS {
                return Err(Refused::Property {
                    field: "the list of recipients",
                    found: format!("longer than {MAX_RECIPIENTS}"),
                    allowed: "address fewer, or a collection",
                });
            }
            list.push(id.to_owned());
        }
    }
    Ok(list)
}

pub(super) fn undone(undo: &Object<'_>, owner: &str) -> Result<Undone, Refused> {
    let value = undo.single("object");
    let Some(inner) = value.and_then(Value::as_object).map(Object) else {
        return undo.target().map(Undone::Id);
    };
    inner.must_be_by("actor", owner)?;
    if let Some(id) = value.and_then(id_of) {
        return Ok(Undone::Id(id.to_owned()));
    }
    match inner.activity_type() {
        Ok(ActivityType::Follow) => Ok(Undone::Follow { object: inner.target()? }),
        Ok(ActivityType::Like) => Ok(Undone::Like { object: inner.target()? }),
        _ => Err(unsupported(
            "the `type` of `object`",
            inner.get("type"),
            "an `Undo` takes back a `Follow` or a `Like`",
        )),
    }
}

/// None, one or many as a sequence.
fn many(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    match value {
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    }
    .iter()
}

/// An id, whether it stands there alone or within an object.
fn id_of(value: &Value) -> Option<&str> {
    let id = match value {
        Value::String(id) => id,
        Value::Object(object) => object.get("id")?.as_str()?,
        _ => return None,
    };
    let written = |c: char| !c.is_whitespace() && !c.is_control();
    (!id.is_empty() && id.len() <= MAX_ID && id.chars().all(written)).then_some(id)
}

fn unsupported(field: &'static str, value: Option<&Value>, allowed: &'static str) -> Refused {
    Refused::Unsupported { field, found: describe(value), allowed }
}

/// What stands there, short enough for a sentence.
fn describe(value: Option<&Value>) -> String {
    match value {
        None => "missing".to_owned(),
        Some(Value::Null) => "`null`".to_owned(),
        Some(Value::Bool(_) | Value::Number(_)) => "neither text nor an object".to_owned(),
        Some(Value::String(text)) => format!("`{}`", excerpt(text)),
        Some(Value::Array(items)) => format!("a list of {}", items.len()),
        Some(Value::Object(object)) => match object.get("id").and_then(Value::as_str) {
            Some(id) => format!("an object with the id `{}`", excerpt(id)),
            None => "an object without an `id`".to_owned(),
        },
    }
}

fn excerpt(text: &str) -> String {
    const LONGEST: usize = 80;
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(LONGEST).map(clean).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}
