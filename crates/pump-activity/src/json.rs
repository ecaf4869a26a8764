//! JSON from a stranger, with a limit on what it may grow into.
//!
//! A parsed value takes some thirty bytes where the text took two, so size of the text alone is no
//! bound. Depth and number of values are counted while reading, and reading stops at the limit. A key
//! that stands twice is refused: two readers would see two different documents.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 64;

/// Most values, scalars included, in one document.
pub const MAX_VALUES: usize = 10_000;

/// Reads one JSON document. The error is a sentence that says what is wrong and where.
pub(crate) fn read(body: &[u8]) -> Result<Value, String> {
    let left = Cell::new(MAX_VALUES);
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = Bounded { left: &left, depth: 0 }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| error.to_string())
}

#[derive(Clone, Copy)]
struct Bounded<'a> {
    left: &'a Cell<usize>,
    depth: usize,
}

impl Bounded<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("more than {MAX_DEPTH} levels deep")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => {
                return Err(D::Error::custom(format_args!("more than {MAX_VALUES} values")));
            }
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                let key: String = key.chars().take(40).collect();
                return Err(A::Error::custom(format_args!("the key `{key}` stands twice")));
            }
            object.insert(key, entries.next_value_seed(inner)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_the_limits_is_read_as_it_stands() {
        let text = r#"{"a":[1,-2,3.5,true,null,"ü\u0000"],"b":{"c":{}}}"#;
        assert_eq!(read(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn what_is_not_is_refused_with_a_reason() {
        let deep = "[".repeat(MAX_DEPTH + 1);
        let bomb = "[".repeat(500_000);
        let wide = format!("[{}1]", "1,".repeat(MAX_VALUES));
        for (body, reason) in [
            (deep.as_bytes(), "more than 64 levels deep"),
            (bomb.as_bytes(), "more than 64 levels deep"),
            (wide.as_bytes(), "more than 10000 values"),
            (br#"{"to":1,"to":2}"#, "the key `to` stands twice"),
            (b"{} {}", "trailing characters"),
            (b"", "EOF"),
            (b"{\"a\":\xff}", "expected value"),
            (b"{\"a\":\"\xff\"}", "unicode"),
            (br#""\ud800""#, "hex escape"),
            (b"1e9999", "out of range"),
            (b"NaN", "expected value"),
            (b"\xef\xbb\xbf{}", "expected value"),
        ] {
            let got = read(body).unwrap_err();
            assert!(got.contains(reason), "`{got}` should say `{reason}`");
        }
        let nearly = "[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH);
        assert!(read(nearly.as_bytes()).is_ok());
    }
}
