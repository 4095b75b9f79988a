//! A request's query, read once.

use std::collections::HashMap;

use crate::status::{Answer, Refusal};

/// Decoded query parameters. A name may come several times.
#[derive(Debug, Default)]
pub(crate) struct Query(HashMap<String, Vec<String>>);

/// What to do about fields that the schema does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl Query {
    pub(crate) fn parse(text: Option<&str>) -> Query {
        let mut map: HashMap<String, Vec<String>> = HashMap::new();
        for (name, value) in form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            map.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        Query(map)
    }

    /// The first value, unless it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|values| values.first()).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// `?follow`, `?follow=true` and `?follow=1` all mean yes.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(|values| values.first()).is_some_and(|value| matches!(value.as_str(), "" | "1" | "t" | "T" | "true" | "True" | "TRUE"))
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Answer<Option<T>> {
        self.get(name)
            .map(|text| text.parse().map_err(|_| Refusal::bad_request(format!("query parameter {name}: {text:?} is not a number in its range"))))
            .transpose()
    }

    pub(crate) fn dry_run(&self) -> Answer<bool> {
        match self.all("dryRun") {
            [] => Ok(false),
            values if values.iter().all(|value| value == "All") => Ok(true),
            values => Err(Refusal::bad_request(format!("dryRun: {values:?} is not supported; the only value is All"))),
        }
    }

    pub(crate) fn field_validation(&self) -> Answer<FieldValidation> {
        match self.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some(other) => Err(Refusal::bad_request(format!("fieldValidation: {other:?} is none of Ignore, Warn, Strict"))),
        }
    }
}
