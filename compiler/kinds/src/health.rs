//! What an object's annotations say about its health, in CEL: read by whoever waits for it, checked where they are written.

use serde_json::{Value, json};

use crate::expression::{self, Limits, Unclear};

/// True: it will not get there.
pub const FAILED: &str = "strake.dev/health-failed";
/// True: it is on its way.
pub const IN_PROGRESS: &str = "strake.dev/health-in-progress";
/// True: it is as it should be.
pub const CURRENT: &str = "strake.dev/health-current";
/// All of them, in the order in which they count.
pub const ALL: [&str; 3] = [FAILED, IN_PROGRESS, CURRENT];

/// What an expression may be at most.
const LIMITS: Limits = Limits { length: 512, depth: 16, loops: 2 };

/// Whether an expression is true of an object. What the object does not have yet makes it false, as a status that nobody has written.
///
/// # Errors
/// What is wrong with the expression, for the person who wrote it.
pub fn holds(expression: &str, object: &Value) -> Result<bool, String> {
    let empty = json!({});
    let part = |name: &str| object.get(name).filter(|part| part.is_object()).unwrap_or(&empty);
    let variables = [("metadata", part("metadata")), ("spec", part("spec")), ("status", part("status")), ("object", object)];
    match expression::holds(expression, &variables, LIMITS) {
        Ok(truth) => Ok(truth),
        Err(Unclear::Missing) => Ok(false),
        Err(Unclear::Unusable(why)) => Err(why),
    }
}

/// Whether an expression can be used at all, as far as that can be said without an object.
///
/// # Errors
/// What is wrong with it.
pub fn check(expression: &str) -> Result<(), String> {
    expression::readable(expression, LIMITS).map(drop)
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn what_cannot_be_read_is_known_without_an_object() {
        assert_eq!(check("status.phase == \"Up\" && size(spec.nodes) > 2"), Ok(()));
        assert!(check("status.phase ==").is_err() && check("").is_err());
        assert!(check(&"(".repeat(40)).is_err_and(|why| why.contains("nested")));
    }
}
