//! Generations of configuration: a ConfigMap or Secret whose name ends in a hash of its content is replaced by another one at each change. What pods and earlier revisions
//! use is never taken away; of the others a few stay, for who goes back further than the cluster remembers. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use strake_plan::ObjectId;

/// Old generations that are kept of each name.
const KEPT: usize = 5;
/// Letters and digits of the hash that kustomize appends to a generated name, and how many there are.
const HASH_LETTERS: &str = "2456789bcdfghkmt";
const HASH_LENGTH: usize = 10;

/// Kind, namespace, and name without the hash.
type Named<'a> = (&'a str, &'a str, &'a str);
/// When it was made, the youngest first, and its name.
type Dated<'a> = (Reverse<&'a str>, &'a str);

/// Who the youngest generations are kept for.
pub(crate) const USER: &str = "going back: it is one of the last generations of its configuration";

/// The name without the hash of its content: `settings-7f2c8b4kkd` is a generation of `settings`.
pub(crate) fn base(name: &str) -> Option<&str> {
    let (base, hash) = name.rsplit_once('-')?;
    (hash.len() == HASH_LENGTH && hash.chars().all(|letter| HASH_LETTERS.contains(letter)) && !base.is_empty()).then_some(base)
}

/// Of the members that left a set, the youngest generations of each name, as `kind/namespace/name`. A name of which the plan has no generation any more is of the past.
pub(crate) fn youngest<'a>(planned: impl Iterator<Item = &'a ObjectId>, members: impl Iterator<Item = (&'a ObjectId, &'a Value)>) -> Vec<String> {
    let alive: BTreeSet<Named<'_>> = planned.filter_map(|id| Some((id.kind.as_str(), id.namespace.as_str(), base(&id.name)?))).collect();
    let mut generations: BTreeMap<Named<'_>, Vec<Dated<'_>>> = BTreeMap::new();
    for (id, object) in members.filter(|(id, _)| id.group.is_empty() && matches!(id.kind.as_str(), "ConfigMap" | "Secret")) {
        if let Some(base) = base(&id.name) {
            let created = object["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
            generations.entry((&id.kind, &id.namespace, base)).or_default().push((Reverse(created), &id.name));
        }
    }
    let keep = |((kind, namespace, _), mut list): (Named<'_>, Vec<Dated<'_>>)| {
        list.sort_unstable();
        list.into_iter().take(KEPT).map(move |(_, name)| format!("{kind}/{namespace}/{name}")).collect::<Vec<_>>()
    };
    generations.into_iter().filter(|(key, _)| alive.contains(key)).flat_map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::{base, youngest};
    use serde_json::{Value, json};
    use strake_plan::ObjectId;

    fn map(name: &str, minute: u32) -> (ObjectId, Value) {
        let id = ObjectId {
            kind: "ConfigMap".into(),
            version: "v1".into(),
            resource: "configmaps".into(),
            namespace: "shop".into(),
            name: name.into(),
            ..ObjectId::default()
        };
        (id, json!({"metadata": {"creationTimestamp": format!("2026-01-01T00:{minute:02}:00Z")}}))
    }

    #[test]
    fn only_names_that_end_in_a_hash_have_generations() {
        for (name, expected) in [("web-5h7k2m9b4t", Some("web")), ("web-settings", None), ("web-production", None), ("web", None), ("-5h7k2m9b4t", None)] {
            assert_eq!(base(name), expected, "{name}");
        }
    }

    #[test]
    fn the_last_five_of_each_name_stay() {
        let names: Vec<String> = ["2", "4", "5", "6", "7", "8", "9", "b"].iter().map(|first| format!("web-{first}b4t5h7k2m")).collect();
        let mut members: Vec<(ObjectId, Value)> = names.iter().zip(0..).map(|(name, minute)| map(name, minute)).collect();
        members.extend([map("plain", 9), map("api-2b4t5h7k2m", 0), map("gone-2b4t5h7k2m", 0)]);
        let planned = [map("web-cb4t5h7k2m", 20).0, map("api-cb4t5h7k2m", 20).0, map("gone", 20).0];
        let mut kept = youngest(planned.iter(), members.iter().map(|(id, object)| (id, object)));
        kept.sort();
        let mut expected: Vec<String> = names[3..].iter().map(|name| format!("ConfigMap/shop/{name}")).collect();
        expected.push("ConfigMap/shop/api-2b4t5h7k2m".to_owned());
        expected.sort();
        assert_eq!(kept, expected);
    }
}
