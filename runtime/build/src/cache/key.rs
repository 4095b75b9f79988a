//! Cache keys: a step's definition with its inputs named by their results, so that a rebuilt input with the same result changes nothing after it.

use serde_json::Value;
use strake_oci::{Digest, Hasher};
use strake_plan::{Op, StepIndex, forget_cache_names};
use strake_solve::Chain;

/// Changes when the same definition would make another layer than before.
const VERSION: &[u8] = b"strake result 1";

/// What the files that a step reads from elsewhere are known by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reads<'a> {
    /// Build contexts by content, other steps by their results.
    ByResult { contexts: Option<&'a Digest> },
    /// Everything by content.
    ByContent { contexts: Option<&'a Digest>, stages: &'a Digest },
}

/// The key of a step. `chain` gives the results of its inputs.
pub(crate) fn key(op: &Op, source_date_epoch: i64, chain: &dyn Fn(StepIndex) -> Chain, reads: Reads<'_>) -> Digest {
    let mut definition = serde_json::to_value(op).unwrap_or_default();
    if let Some(map) = definition.as_object_mut() {
        // Proxies are given to the process and say nothing about the result.
        map.remove("proxy_env");
    }
    forget_cache_names(&mut definition);
    let by_content = matches!(reads, Reads::ByContent { .. });
    name_inputs(&mut definition, chain, by_content);
    let mut hasher = Hasher::default();
    hasher.field(VERSION);
    hasher.field(&source_date_epoch.to_le_bytes());
    hasher.field(definition.to_string().as_bytes());
    let (contexts, stages) = match reads {
        Reads::ByResult { contexts } => (contexts, None),
        Reads::ByContent { contexts, stages } => (contexts, Some(stages)),
    };
    for part in [contexts, stages] {
        hasher.field(part.map_or(&[][..], |digest| digest.as_bytes()));
    }
    hasher.finish()
}

/// Replaces places in the plan by results. The selected files of a stage are known by content instead, when that is asked for.
fn name_inputs(value: &mut Value, chain: &dyn Fn(StepIndex) -> Chain, by_content: bool) {
    match value {
        Value::Object(map) => {
            // A context is its content, whatever it is called.
            if map.get("from").is_some_and(|from| from == "context") {
                map.shift_remove("name");
            }
            for (name, value) in map {
                match (name.as_str(), value.as_u64()) {
                    ("step", Some(_)) if by_content => *value = Value::from("content"),
                    ("parent" | "step", Some(place)) => *value = chain(StepIndex(place as usize)).map_or(Value::Null, |chain| chain.to_string().into()),
                    _ => name_inputs(value, chain, by_content),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| name_inputs(item, chain, by_content)),
        _ => {}
    }
}
