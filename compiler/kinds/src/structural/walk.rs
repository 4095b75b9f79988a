//! An object and its schema, walked side by side.

use std::collections::HashSet;

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::{Found, Left, formats, rules};
use crate::decode::{self, FieldError, Problem, found};
use crate::path::{At, FieldPath, Segment};
use crate::validate::{Invalid, Reason};

/// Memory that a compiled pattern may take; those of schemas are small.
const PATTERN_BYTES: usize = 1 << 20;
/// What every object has, beside what its schema names.
const OWN: [&str; 3] = ["apiVersion", "kind", "metadata"];

pub(super) fn check(object: &Value, old: Option<&Value>, schema: &Value) -> Found {
    let mut walk = Walk { found: Found::default(), values_only: false };
    walk.value((object, old), schema, &At::root(), true);
    walk.found
}

pub(super) fn part(value: &Value, schema: &Value) -> Found {
    let mut walk = Walk { found: Found::default(), values_only: false };
    walk.value((value, None), schema, &At::root(), false);
    walk.found
}

/// A value, and the one that stands for it in the object as it was.
type Pair<'a> = (&'a Value, Option<&'a Value>);

struct Walk {
    found: Found,
    /// Inside `allOf` and its like, where fields and defaults are not named again.
    values_only: bool,
}

/// Compiles a pattern as the server's language has it, as nearly as is possible.
pub(crate) fn pattern(text: &str) -> Option<Regex> {
    RegexBuilder::new(text).size_limit(PATTERN_BYTES).build().ok()
}

fn whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

/// What a type expects, when a value is of another one.
fn mismatch(value: &Value, schema: &Value) -> Option<&'static str> {
    if schema["x-kubernetes-int-or-string"] == true {
        return (!value.is_string() && !whole(value)).then_some("an integer or a string");
    }
    let (fits, expected) = match schema["type"].as_str()? {
        "object" => (value.is_object(), "an object"),
        "array" => (value.is_array(), "a list"),
        "string" => (value.is_string(), "a string"),
        "integer" => (whole(value), "an integer"),
        "number" => (value.is_number(), "a number"),
        "boolean" => (value.is_boolean(), "a boolean"),
        _ => return None,
    };
    (!fits).then_some(expected)
}

/// Equal as JSON: `1` is `1.0`.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

impl Walk {
    fn field(&mut self, at: &At<'_>, problem: Problem) {
        self.found.fields.push(FieldError { path: at.path(), problem });
    }

    fn invalid(&mut self, at: &At<'_>, reason: Reason, value: Option<&Value>, message: impl Into<String>) {
        let value = value.filter(|value| !value.is_array() && !value.is_object()).cloned();
        self.found.invalid.push(Invalid { path: at.path(), reason, value, message: message.into() });
    }

    fn value(&mut self, (value, old): Pair<'_>, schema: &Value, at: &At<'_>, root: bool) {
        if value.is_null() && schema["nullable"] == true {
            return;
        }
        if let Some(expected) = mismatch(value, schema) {
            return self.field(at, Problem::WrongType { found: found(value), expected });
        }
        match value {
            Value::Object(map) => self.object((map, old), schema, at, root),
            Value::Array(items) => self.list((items, old), schema, at),
            Value::String(text) => self.text(text, value, schema, at),
            Value::Number(number) => self.number(number.as_f64().unwrap_or_default(), value, schema, at),
            _ => {}
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.iter().any(|one| same(one, value))
        {
            let shown: Vec<String> = allowed.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
            let near = value.as_str().and_then(|text| strake_source::nearest(text, allowed.iter().filter_map(Value::as_str)));
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            self.invalid(at, Reason::NotSupported, Some(value), format!("expected one of {}{near}", shown.join(", ")));
        }
        if let Some(expected) = schema["format"].as_str().and_then(|format| formats::unfit(value, format)) {
            self.invalid(at, Reason::Invalid, Some(value), format!("must be {expected}"));
        }
        self.combined(value, schema, at);
        self.rules((value, old), schema, at, root);
    }

    fn object(&mut self, (map, old): (&Map<String, Value>, Option<&Value>), schema: &Value, at: &At<'_>, root: bool) {
        // What is replaced as a whole has no parts that could be told to be the same.
        let whole = schema["x-kubernetes-map-type"] == "atomic";
        let before = |name: &str| old.filter(|_| !whole).and_then(|old| old.get(name));
        let own = root || schema["x-kubernetes-embedded-resource"] == true;
        let properties = schema["properties"].as_object();
        let others = schema.get("additionalProperties");
        let open = self.values_only || schema["x-kubernetes-preserve-unknown-fields"] == true || others.is_some_and(|others| *others != false);
        for (name, value) in map {
            let is_own = own && OWN.contains(&name.as_str());
            match properties.and_then(|properties| properties.get(name)) {
                Some(schema) => self.value((value, before(name)), schema, &at.field(name), false),
                None if is_own => {}
                None => match others.filter(|others| others.is_object()) {
                    Some(schema) => self.value((value, before(name)), schema, &at.key(name), false),
                    None if open => {}
                    None => {
                        let own = OWN.into_iter().filter(|_| own);
                        let names = properties.into_iter().flatten().map(|(name, _)| name.as_str()).chain(own);
                        let nearest = strake_source::nearest(name, names).map(|near| near.to_owned().into());
                        self.field(&at.field(name), Problem::Unknown { nearest, belongs: None });
                    }
                },
            }
            if is_own && !self.values_only {
                self.own(name, value, &at.field(name));
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let embedded = own && !root && !self.values_only;
        let own = ["apiVersion", "kind"].into_iter().filter(|_| embedded);
        for name in required.chain(own) {
            if !map.contains_key(name) {
                self.field(&at.field(name), Problem::MissingRequired);
            }
        }
        self.counted(map.len(), schema, at, "Properties", "fields");
    }

    /// What every object has, checked as it is in every object.
    fn own(&mut self, name: &str, value: &Value, at: &At<'_>) {
        if name != "metadata" {
            if !value.is_string() {
                self.field(at, Problem::WrongType { found: found(value), expected: "a string" });
            }
            return;
        }
        let Some(message) = crate::schema::message("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta") else { return };
        let above = at.path();
        for error in decode::check(value, message) {
            let below = |path: &FieldPath| FieldPath(above.0.iter().chain(&path.0).cloned().collect::<Vec<Segment>>());
            let problem = match error.problem {
                Problem::Unknown { nearest, belongs } => Problem::Unknown { nearest, belongs: belongs.as_ref().map(below) },
                other => other,
            };
            self.found.fields.push(FieldError { path: below(&error.path), problem });
        }
    }

    fn list(&mut self, (items, old): (&[Value], Option<&Value>), schema: &Value, at: &At<'_>) {
        let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        // Only items with keys are the same as before; of other lists nobody can say which item is which.
        let known = old.and_then(Value::as_array).filter(|_| schema["x-kubernetes-list-type"] == "map");
        let same = |one: &Value, other: &Value| keys.iter().all(|key| one.get(key) == other.get(key));
        if let Some(of) = schema.get("items").filter(|of| of.is_object()) {
            for (index, item) in items.iter().enumerate() {
                let before = known.and_then(|known| known.iter().find(|one| same(one, item)));
                self.value((item, before), of, &at.index(index), false);
            }
        }
        self.counted(items.len(), schema, at, "Items", "items");
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let (what, shown) = match schema["x-kubernetes-list-type"].as_str() {
                Some("set") => (item.to_string(), String::new()),
                Some("map") => {
                    let parts: Vec<String> = keys.iter().filter_map(|key| Some(format!("{key}={}", item.get(key)?))).collect();
                    (parts.join(","), parts.join(", "))
                }
                _ => return,
            };
            if !seen.insert(what) {
                let message = if shown.is_empty() { shown } else { format!("an item before it has {shown}") };
                self.invalid(&at.index(index), Reason::Duplicate, Some(item), message);
            }
        }
    }

    /// `minItems` and its like.
    fn counted(&mut self, count: usize, schema: &Value, at: &At<'_>, what: &str, shown: &str) {
        let limit = |side: &str| schema[format!("{side}{what}")].as_u64().and_then(|limit| usize::try_from(limit).ok());
        if let Some(least) = limit("min").filter(|least| count < *least) {
            self.invalid(at, Reason::Invalid, None, format!("has {count} {shown}, must have at least {least}"));
        }
        if let Some(most) = limit("max").filter(|most| count > *most) {
            self.invalid(at, Reason::Invalid, None, format!("has {count} {shown}, may have at most {most}"));
        }
    }

    fn text(&mut self, text: &str, value: &Value, schema: &Value, at: &At<'_>) {
        self.counted(text.chars().count(), schema, at, "Length", "characters");
        let Some(wanted) = schema["pattern"].as_str() else { return };
        match pattern(wanted) {
            Some(regex) if !regex.is_match(text) => self.invalid(at, Reason::Invalid, Some(value), format!("must match `{wanted}`")),
            Some(_) => {}
            None => self.found.left.push(Left { path: at.path(), rule: wanted.to_owned(), why: "the pattern cannot be read here".to_owned() }),
        }
    }

    fn number(&mut self, number: f64, value: &Value, schema: &Value, at: &At<'_>) {
        let limit = |name: &str| schema[name].as_f64();
        if let Some(least) = limit("minimum") {
            let open = schema["exclusiveMinimum"] == true;
            if number < least || (open && number <= least) {
                self.invalid(at, Reason::Invalid, Some(value), format!("must be {} {least}", if open { "greater than" } else { "at least" }));
            }
        }
        if let Some(most) = limit("maximum") {
            let open = schema["exclusiveMaximum"] == true;
            if number > most || (open && number >= most) {
                self.invalid(at, Reason::Invalid, Some(value), format!("must be {} {most}", if open { "less than" } else { "at most" }));
            }
        }
        if let Some(step) = limit("multipleOf").filter(|step| *step > 0.0) {
            let times = number / step;
            if (times - times.round()).abs() > 1e-9 {
                self.invalid(at, Reason::Invalid, Some(value), format!("must be a multiple of {step}"));
            }
        }
    }

    fn combined(&mut self, value: &Value, schema: &Value, at: &At<'_>) {
        let forms = |name: &str| schema[name].as_array().filter(|forms| !forms.is_empty());
        for form in forms("allOf").into_iter().flatten() {
            let before = std::mem::replace(&mut self.values_only, true);
            self.value((value, None), form, at, false);
            self.values_only = before;
        }
        let fits = |form: &Value| {
            let mut walk = Walk { found: Found::default(), values_only: true };
            walk.value((value, None), form, at, false);
            walk.found.fields.is_empty() && walk.found.invalid.is_empty()
        };
        if let Some(forms) = forms("anyOf")
            && !forms.iter().any(fits)
        {
            self.invalid(at, Reason::Invalid, Some(value), none_fits(forms));
        }
        if let Some(forms) = forms("oneOf") {
            match forms.iter().filter(|form| fits(form)).count() {
                0 => self.invalid(at, Reason::Invalid, Some(value), none_fits(forms)),
                1 => {}
                count => {
                    let message = format!("is of {count} of the possible forms{}, and may be of one only", listed(forms));
                    self.invalid(at, Reason::Invalid, Some(value), message);
                }
            }
        }
        if let Some(form) = schema.get("not").filter(|form| form.is_object())
            && fits(form)
        {
            self.invalid(at, Reason::Invalid, Some(value), format!("is of a form that is ruled out{}", listed(std::slice::from_ref(form))));
        }
    }

    fn rules(&mut self, (value, old): Pair<'_>, schema: &Value, at: &At<'_>, root: bool) {
        for validation in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let Some(rule) = validation["rule"].as_str() else { continue };
            let optional = validation["optionalOldSelf"] == true;
            match rules::holds(rule, (value, old), schema, root, optional) {
                None | Some(Ok(true)) => {}
                Some(Ok(false)) => {
                    let message =
                        validation["message"].as_str().map_or_else(|| format!("the rule `{}` is not met", rule.trim()), |text| text.trim().to_owned());
                    let mut path = at.path();
                    let below = validation["fieldPath"].as_str().unwrap_or_default();
                    // Only plain fields: one in brackets stays with the value that the rule is about.
                    if !below.contains('[') {
                        path.0.extend(FieldPath::fields(below).0);
                    }
                    let reason = match validation["reason"].as_str() {
                        Some("FieldValueRequired") => Reason::Required,
                        Some("FieldValueForbidden") => Reason::Forbidden,
                        Some("FieldValueDuplicate") => Reason::Duplicate,
                        _ => Reason::Invalid,
                    };
                    let shown = Some(value).filter(|value| below.is_empty() && !value.is_array() && !value.is_object()).cloned();
                    self.found.invalid.push(Invalid { path, reason, value: shown, message });
                }
                Some(Err(why)) => self.found.left.push(Left { path: at.path(), rule: rule.trim().to_owned(), why }),
            }
        }
    }
}

fn none_fits(forms: &[Value]) -> String {
    format!("is of none of the {} possible forms{}", forms.len(), listed(forms))
}

/// What forms want, where they only name fields.
fn listed(forms: &[Value]) -> String {
    let wants = |form: &Value| {
        let names: Vec<&str> = form["required"].as_array()?.iter().filter_map(Value::as_str).collect();
        Some(names.join(" and "))
    };
    let all: Option<Vec<String>> = forms.iter().map(wants).collect();
    all.filter(|all| !all.is_empty()).map(|all| format!(" ({})", all.join("; "))).unwrap_or_default()
}
