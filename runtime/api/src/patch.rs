//! The four kinds of patches.

use jiff::Timestamp;
use serde_json::Value;
use strake_kinds::apply::{self, ApplyError, Writer};
use strake_kinds::{KindInfo, decode, merge};

use crate::body::{self, MOST_BYTES, MOST_DEPTH, MOST_OPERATIONS};
use crate::server::Call;
use crate::status::{Answer, Cause, Refusal};

/// A patch, read and bounded.
#[derive(Debug)]
pub(crate) enum Patch {
    /// RFC 6902.
    Json(json_patch::Patch),
    /// RFC 7386.
    Merge(Value, Vec<decode::FieldError>),
    /// Strategic merge.
    Strategic(Value, Vec<decode::FieldError>),
    /// Server-side apply.
    Apply { config: Value, manager: String, force: bool },
}

const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";

impl Patch {
    pub(crate) fn read(call: &Call, bytes: &[u8]) -> Answer<Patch> {
        match body::media_type(&call.parts.headers) {
            "application/json-patch+json" => {
                let (value, _) = body::json(bytes)?;
                let count = value.as_array().map_or(0, Vec::len);
                if count > MOST_OPERATIONS {
                    let message = format!("the allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {count}");
                    return Err(Refusal::too_large(message));
                }
                let patch = serde_json::from_value(value).map_err(|error| Refusal::bad_request(format!("not a JSON patch: {error}")))?;
                Ok(Patch::Json(patch))
            }
            "application/merge-patch+json" => body::json(bytes).map(|(value, twice)| Patch::Merge(value, twice)),
            "application/strategic-merge-patch+json" => body::json(bytes).map(|(value, twice)| Patch::Strategic(value, twice)),
            "application/apply-patch+yaml" | "application/apply-patch+json" => {
                let (mut config, _) = body::json(bytes)?;
                body::identify(call.target.kind, &mut config)?;
                strake_kinds::default::fold_write_only(&mut config, call.target.kind);
                let manager = call.query.get("fieldManager").ok_or_else(|| {
                    Refusal::unprocessable("PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch")
                })?;
                Ok(Patch::Apply { config, manager: manager.to_owned(), force: call.query.flag("force") })
            }
            other => Err(Refusal::unsupported_media(other, ACCEPTED)),
        }
    }

    /// Fields that the patch gives twice.
    pub(crate) fn duplicates(&self) -> &[decode::FieldError] {
        match self {
            Patch::Merge(_, twice) | Patch::Strategic(_, twice) => twice,
            Patch::Json(_) | Patch::Apply { .. } => &[],
        }
    }

    /// The object after the patch. For an apply, null means that there is none yet.
    pub(crate) fn on(&self, kind: &KindInfo, old: &Value, subresource: &str, now: Timestamp) -> Answer<Value> {
        match self {
            Patch::Json(patch) => json(patch, old),
            Patch::Merge(patch, _) => {
                let mut object = old.clone();
                merge::json_merge(&mut object, patch);
                Ok(object)
            }
            Patch::Strategic(patch, _) => merge::strategic(old, patch, kind.schema()).map_err(|error| Refusal::bad_request(error.to_string())),
            Patch::Apply { config, manager, force } => {
                let writer = Writer { manager, subresource, now };
                let live = (!old.is_null()).then_some(old);
                apply::server_side_apply(live, config, &writer, *force, kind.schema()).map_err(refusal)
            }
        }
    }
}

/// Applies the operations one by one. Neither copies nor nesting may grow beyond what a body itself may have.
pub(crate) fn json(patch: &json_patch::Patch, old: &Value) -> Answer<Value> {
    use json_patch::PatchOperation::{Add, Copy, Move, Remove, Replace, Test};
    let mut object = old.clone();
    let mut moved_bytes = 0;
    for operation in &patch.0 {
        let (path, value) = match operation {
            Add(add) => (&add.path, Some(&add.value)),
            Replace(replace) => (&replace.path, Some(&replace.value)),
            Copy(copy) => (&copy.path, copy.from.resolve(&object).ok()),
            Move(from) => (&from.path, from.from.resolve(&object).ok()),
            Remove(remove) => (&remove.path, None),
            Test(test) => (&test.path, None),
        };
        if let (Copy(_) | Move(_), Some(value)) = (operation, value) {
            // A patch that copies what it copied grows without bound.
            moved_bytes += value.to_string().len();
            if moved_bytes > MOST_BYTES {
                return Err(Refusal::too_large(format!("the copies of a JSON patch may have {MOST_BYTES} bytes together")));
            }
        }
        if value.is_some_and(|value| path.tokens().count() > MOST_DEPTH || body::deeper_than(value, MOST_DEPTH - path.tokens().count())) {
            return Err(Refusal::unprocessable(format!("the JSON patch nests deeper than {MOST_DEPTH} levels")));
        }
        let operation = std::slice::from_ref(operation);
        json_patch::patch_unsafe(&mut object, operation).map_err(|error| Refusal::unprocessable(format!("the JSON patch does not apply: {error}")))?;
    }
    Ok(object)
}

fn refusal(error: ApplyError) -> Refusal {
    match &error {
        ApplyError::Conflicts(conflicts) => {
            let cause = |conflict: &apply::Conflict, field: &String| Cause {
                reason: "FieldManagerConflict".to_owned(),
                message: conflict.summary(),
                field: field.clone(),
            };
            let causes = conflicts.iter().flat_map(|conflict| conflict.fields.iter().map(move |field| cause(conflict, field)));
            Refusal::field_conflicts(error.to_string(), causes.collect())
        }
        other => Refusal::bad_request(other.to_string()),
    }
}
