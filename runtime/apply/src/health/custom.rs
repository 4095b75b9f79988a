//! The health of kinds that Kubernetes does not know: by the conditions that controllers agree on, or by what the user says about them in CEL.
//!
//! ```yaml
//! metadata:
//!   annotations:
//!     strake.dev/health-current: status.phase == "Running"
//!     strake.dev/health-failed: status.phase == "Error"
//!     strake.dev/health-in-progress: status.phase in ["Pending", "Creating"]
//! ```
//!
//! `object`, `metadata`, `spec` and `status` are the object's. The first that is true counts, in the order failed, in progress, current; with `health-current` alone, an
//! object is in progress until it is true.

use serde_json::Value;
use strake_kinds::health::{CURRENT, FAILED, IN_PROGRESS, holds};

use super::{Health, because, condition};

/// By conditions, as kstatus reads them.
pub(super) fn generic(object: &Value) -> Health {
    if let Some(("True", reason, message)) = condition(object, "Stalled") {
        return Health::Failed(because(reason, message));
    }
    if let Some(("True", reason, message)) = condition(object, "Reconciling") {
        return Health::InProgress(because(reason, message));
    }
    match condition(object, "Ready") {
        Some(("False", reason, message)) => Health::InProgress(because(reason, message)),
        Some(("Unknown", reason, message)) => Health::InProgress(because(reason, message)),
        _ => Health::Current,
    }
}

/// By the object's annotations; `None` when it has none of them.
pub(super) fn stated(object: &Value) -> Option<Health> {
    let annotations = object["metadata"]["annotations"].as_object()?;
    let expression = |name: &str| annotations.get(name).and_then(Value::as_str);
    let (failed, progress, current) = (expression(FAILED), expression(IN_PROGRESS), expression(CURRENT));
    if failed.is_none() && progress.is_none() && current.is_none() {
        return None;
    }
    let said = |name: &str, text: &str| Health::Unknown(format!("the expression of {name} cannot be used: {text}"));
    let shown = |expression: &str| format!("`{expression}` is true");
    for (name, text) in [(FAILED, failed), (IN_PROGRESS, progress), (CURRENT, current)] {
        let Some(text) = text else { continue };
        match (holds(text, object), name) {
            (Err(why), _) => return Some(said(name, &why)),
            (Ok(false), _) => {}
            (Ok(true), FAILED) => return Some(Health::Failed(shown(text))),
            (Ok(true), IN_PROGRESS) => return Some(Health::InProgress(shown(text))),
            (Ok(true), _) => return Some(Health::Current),
        }
    }
    Some(match current {
        Some(text) => Health::InProgress(format!("`{text}` is not true yet")),
        None => generic(object),
    })
}
