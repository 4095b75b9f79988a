//! Building actions: merge patches from what is and what should be, owner references, events.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};
use strake_kinds::core::ObjectReference;
use strake_kinds::meta::{OwnerReference, Time};

use crate::action::{Action, EventType};
use crate::object::Object;

/// The JSON merge patch that makes `new` of `old`; `None` when they are the same.
pub(crate) fn difference(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(old_map), Value::Object(new_map)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for (key, value) in new_map {
        match old_map.get(key) {
            Some(before) => patch.extend(difference(before, value).map(|inner| (key.clone(), inner))),
            None => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    let gone = old_map.keys().filter(|key| !new_map.contains_key(*key));
    patch.extend(gone.map(|key| (key.clone(), Value::Null)));
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// The patch that brings an object's status from `old` to `new`, if they differ. Its precondition is the uid: a status is told
/// from other objects, and stays true when somebody changes the specification meanwhile.
pub(crate) fn status<T: Serialize>(object: &Object, old: Option<&T>, new: &T, reason: impl Into<Cow<'static, str>>) -> Option<Action> {
    let old = old.map_or_else(|| json!({}), |old| serde_json::to_value(old).unwrap_or_default());
    let difference = difference(&old, &serde_json::to_value(new).unwrap_or_default())?;
    let patch = json!({"metadata": {"uid": object.uid()}, "status": difference});
    Some(Action::Patch { id: object.id.clone(), subresource: Some("status"), patch, reason: reason.into() })
}

/// A patch of an object, on condition that nobody has changed the object since it was looked at.
pub(crate) fn patch(object: &Object, mut patch: Value, reason: impl Into<Cow<'static, str>>) -> Action {
    if let Value::Object(fields) = &mut patch {
        let meta = fields.entry("metadata").or_insert_with(|| json!({}));
        meta["uid"] = json!(object.uid());
        meta["resourceVersion"] = json!(object.meta.resource_version);
    }
    Action::Patch { id: object.id.clone(), subresource: None, patch, reason: reason.into() }
}

/// The reference by which `owner` controls what it makes.
pub(crate) fn owner_reference(owner: &Object) -> OwnerReference {
    OwnerReference {
        api_version: owner.id.kind.api_version.to_string(),
        kind: owner.id.kind.kind.to_string(),
        name: owner.id.name.clone(),
        uid: owner.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Makes `owner` the controller of an object that has none.
pub(crate) fn adopt(owner: &Object, object: &Object) -> Action {
    let mut owners = object.meta.owner_references.clone().unwrap_or_default();
    owners.retain(|known| known.uid != owner.uid());
    owners.push(owner_reference(owner));
    let reason = format!("{} has no controller and is selected by {}", object.id, owner.id);
    patch(object, json!({"metadata": {"ownerReferences": owners}}), reason)
}

/// Takes one owner out of an object's owners.
pub(crate) fn release(object: &Object, owner_uid: &str, reason: impl Into<Cow<'static, str>>) -> Action {
    let owners: Vec<_> = object.meta.owner_references.iter().flatten().filter(|known| known.uid != owner_uid).collect();
    patch(object, json!({"metadata": {"ownerReferences": owners}}), reason)
}

/// An event about an object.
pub(crate) fn event(about: &Object, event_type: EventType, reason: &'static str, message: String) -> Action {
    let reference = ObjectReference {
        api_version: Some(about.id.kind.api_version.to_string()),
        kind: Some(about.id.kind.kind.to_string()),
        namespace: (!about.id.namespace.is_empty()).then(|| about.id.namespace.clone()),
        name: Some(about.id.name.clone()),
        uid: about.meta.uid.clone(),
        resource_version: about.meta.resource_version.clone(),
        field_path: None,
    };
    Action::RecordEvent { about: Box::new(reference), event_type, reason: reason.into(), message }
}

/// An object as JSON, with its `apiVersion` and `kind`.
pub(crate) fn to_value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// A time as the API keeps it: to the second.
pub(crate) fn time(now: jiff::Timestamp) -> Time {
    Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_holds_what_changed_and_nulls_for_what_is_gone() {
        let old = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [1, 2]});
        let new = json!({"a": 1, "b": {"c": 3}, "e": [2], "f": true});
        assert_eq!(difference(&old, &new), Some(json!({"b": {"c": 3, "d": null}, "e": [2], "f": true})));
        assert_eq!(difference(&old, &old), None);
    }
}
