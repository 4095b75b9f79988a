//! What kapp's annotations say of an object: the groups that it belongs to, and when it is deleted.

use serde_json::Value;

use crate::ObjectId;

/// A group that an object belongs to (with any suffix after a dot).
pub const CHANGE_GROUP: &str = "kapp.k14s.io/change-group";
/// When it is applied or deleted (with any suffix after a dot).
pub const CHANGE_RULE: &str = "kapp.k14s.io/change-rule";

/// A rule about a deletion: this object goes before or after those of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRule {
    /// It goes first; else the others do.
    pub before: bool,
    /// The group.
    pub group: String,
}

/// The annotations of an object that are called `base`, or `base` with a suffix after a dot; their placeholders are filled in.
pub fn texts(id: &ObjectId, object: &Value, base: &str) -> Vec<(String, String)> {
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    let is = |key: &str| key == base || key.strip_prefix(base).is_some_and(|rest| rest.starts_with('.'));
    let each = annotations.into_iter().flatten().filter(|(key, _)| is(key));
    each.map(|(key, value)| (key.clone(), filled(id, object, value.as_str().unwrap_or_default()))).collect()
}

/// A text with its placeholders filled in.
fn filled(id: &ObjectId, object: &Value, text: &str) -> String {
    let text = text.trim().replace("{api-group}", &id.group).replace("{kind}", &id.kind).replace("{name}", &id.name);
    let defined = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    text.replace("{namespace}", &id.namespace).replace("{crd-group}", &defined("/spec/group")).replace("{crd-kind}", &defined("/spec/names/kind"))
}

/// The groups of an object: those that it names, and those that kapp puts it into by itself.
pub fn groups(id: &ObjectId, object: &Value) -> Vec<String> {
    let mut groups: Vec<String> = texts(id, object, CHANGE_GROUP).into_iter().map(|(_, text)| text).collect();
    let names: Vec<String> = match id.kind.as_str() {
        "CustomResourceDefinition" => vec!["crds".to_owned(), filled(id, object, "crds-{crd-group}-{crd-kind}")],
        "Namespace" => vec!["namespaces".to_owned(), format!("namespaces-{}", id.name)],
        "StorageClass" => vec!["storage-class".to_owned()],
        "PersistentVolume" | "PersistentVolumeClaim" => vec!["storage".to_owned()],
        "ClusterRole" | "Role" => vec!["rbac-roles".to_owned(), "rbac".to_owned()],
        "ClusterRoleBinding" | "RoleBinding" => vec!["rbac-role-bindings".to_owned(), "rbac".to_owned()],
        "ServiceAccount" => vec!["serviceaccount".to_owned(), "pod-related".to_owned()],
        "NetworkPolicy" | "ResourceQuota" | "LimitRange" | "PodDisruptionBudget" | "PriorityClass" | "RuntimeClass" | "Secret" | "ConfigMap" => {
            vec!["pod-related".to_owned()]
        }
        _ => Vec::new(),
    };
    groups.extend(names.into_iter().map(|name| format!("change-groups.kapp.k14s.io/{name}")));
    groups
}

/// When an object is deleted. Rules that tie a deletion to an apply are none of these.
pub fn delete_rules(id: &ObjectId, object: &Value) -> Vec<DeleteRule> {
    let rule = |(_, text): (String, String)| match text.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["delete", side @ ("before" | "after"), "deleting", group] => Some(DeleteRule { before: *side == "before", group: (*group).to_owned() }),
        _ => None,
    };
    texts(id, object, CHANGE_RULE).into_iter().filter_map(rule).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn groups_and_rules_have_their_placeholders_filled_in() {
        let id = ObjectId { kind: "Secret".into(), namespace: "shop".into(), name: "word".into(), ..ObjectId::default() };
        let object = json!({"metadata": {"annotations": {
            "kapp.k14s.io/change-group": "{namespace}/words", "kapp.k14s.io/change-group.more": "{kind}-{name}", "kapp.k14s.io/change-groups": "no",
            "kapp.k14s.io/change-rule": "delete after deleting change-groups.kapp.k14s.io/pod-related",
            "kapp.k14s.io/change-rule.2": "upsert after upserting a", "kapp.k14s.io/change-rule.3": "delete before deleting {namespace}/x"}}});
        assert_eq!(groups(&id, &object), ["shop/words", "Secret-word", "change-groups.kapp.k14s.io/pod-related"]);
        let rule = |before: bool, group: &str| DeleteRule { before, group: group.to_owned() };
        assert_eq!(delete_rules(&id, &object), [rule(false, "change-groups.kapp.k14s.io/pod-related"), rule(true, "shop/x")]);
    }
}
