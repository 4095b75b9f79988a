//! Label selectors of objects.

use serde_json::{Map, Value};

use super::{Findings, child, items, names, text};
use crate::path::At;

/// The syntax of a `LabelSelector`.
pub(super) fn syntax(selector: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let labels_at = at.field("matchLabels");
    for (key, value) in child(selector, "matchLabels").into_iter().flatten() {
        findings.check(&labels_at, key, names::qualified);
        findings.check(&labels_at, value.as_str().unwrap_or_default(), names::label_value);
    }
    let list_at = at.field("matchExpressions");
    for (index, expression) in items(selector, "matchExpressions") {
        let at = list_at.index(index);
        findings.check(&at.field("key"), text(expression, "key"), names::qualified);
        let values = expression.get("values").and_then(Value::as_array).map_or(0, Vec::len);
        match text(expression, "operator") {
            "In" | "NotIn" if values == 0 => findings.required(&at.field("values"), "In and NotIn need values"),
            "Exists" | "DoesNotExist" if values > 0 => findings.forbidden(&at.field("values"), "Exists and DoesNotExist take no values"),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            operator => findings.invalid(&at.field("operator"), operator, "expected one of In, NotIn, Exists, DoesNotExist"),
        }
        for (index, value) in expression.get("values").and_then(Value::as_array).into_iter().flatten().enumerate() {
            findings.check(&at.field("values").index(index), value.as_str().unwrap_or_default(), names::label_value);
        }
    }
}

/// True when it selects nothing in particular.
pub(super) fn is_empty(selector: &Map<String, Value>) -> bool {
    let labels = child(selector, "matchLabels").is_none_or(Map::is_empty);
    labels && selector.get("matchExpressions").and_then(Value::as_array).is_none_or(Vec::is_empty)
}

/// True when labels fit it.
pub fn matches(selector: &Map<String, Value>, labels: Option<&Map<String, Value>>) -> bool {
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
    let equal = child(selector, "matchLabels").into_iter().flatten().all(|(key, value)| label(key) == value.as_str());
    equal
        && items(selector, "matchExpressions").all(|(_, expression)| {
            let found = label(text(expression, "key"));
            let listed = |found: &str| expression.get("values").and_then(Value::as_array).is_some_and(|values| values.iter().any(|value| value == found));
            match text(expression, "operator") {
                "In" => found.is_some_and(listed),
                "NotIn" => !found.is_some_and(listed),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}
