//! JSON text to a value, with duplicate keys found instead of lost.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{FieldError, Problem};
use crate::path::{FieldPath, Segment};

/// Text that is not JSON.
#[derive(Debug, thiserror::Error)]
#[error("cannot read JSON")]
pub struct StrictError(#[source] serde_json::Error);

/// Reads JSON; a key given twice in one object keeps its last value, as on a server, and is reported.
pub fn parse_strict(bytes: &[u8]) -> Result<(Value, Vec<FieldError>), StrictError> {
    let state = State { path: RefCell::default(), errors: RefCell::default() };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Seed(&state).deserialize(&mut reader).map_err(StrictError)?;
    reader.end().map_err(StrictError)?;
    Ok((value, state.errors.into_inner()))
}

struct State {
    path: RefCell<Vec<Segment>>,
    errors: RefCell<Vec<FieldError>>,
}

struct Seed<'a>(&'a State);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            self.0.path.borrow_mut().push(Segment::Index(list.len()));
            let item = items.next_element_seed(Seed(self.0))?;
            self.0.path.borrow_mut().pop();
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.len() > 1_000_000 {
                return Err(A::Error::custom("an object has more than a million keys"));
            }
            self.0.path.borrow_mut().push(Segment::Field(key.clone()));
            let value = entries.next_value_seed(Seed(self.0))?;
            if map.insert(key, value).is_some() {
                let path = FieldPath(self.0.path.borrow().clone());
                self.0.errors.borrow_mut().push(FieldError { path, problem: Problem::Duplicate });
            }
            self.0.path.borrow_mut().pop();
        }
        Ok(Value::Object(map))
    }
}
