use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Parses a JSON object with no member twice, at any depth, and at most [`MAX_DEPTH`] levels.
///
/// Of two members with one name some parsers take the first and some the last: whoever checks must
/// not read another one than whoever uses the token. Names are compared after unescaping.
pub(crate) fn parse_object(text: &str) -> Option<Map<String, Value>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict { levels: MAX_DEPTH }
        .deserialize(&mut deserializer)
        .ok()?;
    deserializer.end().ok()?;
    match value {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

/// No registered claim nests deeper than four levels (Keycloak's `resource_access` has three).
const MAX_DEPTH: u8 = 16;

struct Strict {
    levels: u8,
}

// === impl Strict ===

impl Strict {
    fn below<E: Error>(&self) -> Result<u8, E> {
        self.levels
            .checked_sub(1)
            .ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
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
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let levels = self.below()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(Strict { levels })? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let levels = self.below()?;
        let mut members = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom("a member twice"));
            }
            members.insert(name, entries.next_value_seed(Strict { levels })?);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{MAX_DEPTH, parse_object};

    #[test]
    fn reads_what_json_says() {
        let text = r#"{"a":[1,-2,3.5,true,null,"x\u0041"],"b":{"c":{}}}"#;
        let wanted: Value = serde_json::from_str(text).unwrap();
        assert_eq!(parse_object(text).map(Value::Object), Some(wanted));
    }

    #[test]
    fn refuses_a_member_twice_at_any_depth_and_in_any_spelling() {
        for text in [
            r#"{"sub":"a","sub":"a"}"#,
            r#"{"sub":"a","s\u0075b":"b"}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"a":[{"b":1,"b":1}]}"#,
        ] {
            assert!(parse_object(text).is_none(), "{text}");
        }
        assert!(
            parse_object(r#"{"a":{"b":1},"b":1}"#).is_some(),
            "other objects may use the name"
        );
    }

    #[test]
    fn refuses_what_is_not_one_object() {
        for text in [
            "",
            "null",
            "[]",
            "\"a\"",
            "{} {}",
            "{}x",
            "{",
            "{\"a\":1,}",
            "\u{feff}{}",
        ] {
            assert!(parse_object(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn the_depth_is_bounded() {
        let nested =
            |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        let most = usize::from(MAX_DEPTH) - 1;
        assert!(parse_object(&nested(most)).is_some());
        assert!(parse_object(&nested(most + 1)).is_none());
        assert!(parse_object(&nested(10_000)).is_none());
    }

    #[test]
    fn refuses_numbers_beyond_the_range() {
        assert!(parse_object(r#"{"exp":1e400}"#).is_none());
        assert!(parse_object(r#"{"exp":NaN}"#).is_none());
    }

    proptest! {
        #[test]
        fn never_panics_and_agrees_with_serde_json(text in ".{0,64}") {
            if let Some(members) = parse_object(&text) {
                let wanted: Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(Value::Object(members), wanted);
            }
        }
    }
}
