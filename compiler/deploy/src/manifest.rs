//! One object as it was written.

use serde_json::{Map, Value};
use strake_kinds::KindInfo;
use strake_plan::ObjectId;
use strake_source::Span;
use strake_yaml::Node;

/// What the plan is made for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The set's name: the inventory's.
    pub set: String,
    /// The namespace of objects that name none.
    pub namespace: String,
    /// The plan is for a cluster that may serve more kinds than strake's own.
    pub foreign: bool,
    /// Kinds of custom resources that the cluster knows.
    pub definitions: Vec<strake_kinds::structural::Definition>,
    /// Parameters of the project; `None` leaves `${{ … }}` in manifests alone.
    pub values: Option<std::collections::BTreeMap<String, Node>>,
    /// Changed configuration restarts nothing.
    pub keep_pods: bool,
    /// Objects that the project's file calls hooks, as `KIND/NAME`, in the order in which they run.
    pub hooks: Vec<(strake_plan::Phase, strake_source::Spanned<String>)>,
    /// What the project's file says of the health of kinds.
    pub health: Vec<crate::HealthRule>,
    /// How many revisions stay in the set's history, when the project's file says it.
    pub keep_revisions: Option<usize>,
}

/// An object that has been read: its value, and the tree it was read from.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What names it.
    pub id: ObjectId,
    /// Its kind.
    pub kind: &'static KindInfo,
    /// As the user wrote it, with the namespace filled in.
    pub value: Value,
    /// The tree with spans.
    pub node: Node,
    /// False when a finding says that it cannot be applied.
    pub sound: bool,
}

impl Manifest {
    /// The value at a JSON pointer.
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        find(&self.value, pointer)
    }

    /// JSON pointer to the pod spec, for kinds that have one.
    pub fn pod_pointer(&self) -> Option<&'static str> {
        match (self.kind.group, self.kind.kind) {
            ("", "Pod") => Some("/spec"),
            ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") | ("batch", "Job") | ("", "ReplicationController") => {
                Some("/spec/template/spec")
            }
            ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template/spec"),
            ("", "PodTemplate") => Some("/template/spec"),
            _ => None,
        }
    }

    /// JSON pointer to the metadata of the pods that it is or makes.
    pub fn pod_metadata(&self) -> Option<String> {
        Some(format!("{}/metadata", self.pod_pointer()?.strip_suffix("/spec")?))
    }

    /// The pod spec, for kinds that have one.
    pub fn pod_spec(&self) -> Option<&Map<String, Value>> {
        self.at(self.pod_pointer()?)?.as_object()
    }

    /// The labels of the pods that it is or makes.
    pub fn pod_labels(&self) -> Option<&Map<String, Value>> {
        self.at(&format!("{}/labels", self.pod_metadata()?))?.as_object()
    }

    /// The containers with JSON pointers to each, init containers first.
    pub fn containers(&self) -> Vec<(String, &Map<String, Value>)> {
        let Some((base, spec)) = self.pod_pointer().zip(self.pod_spec()) else { return Vec::new() };
        let list = |name: &'static str| {
            let items = spec.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
            items.filter_map(move |(index, item)| Some((format!("{base}/{name}/{index}"), item.as_object()?)))
        };
        ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(list).collect()
    }

    /// The place of a value, or of what is nearest to it when it was not written.
    pub fn span(&self, pointer: &str) -> Span {
        self.node.span_at(pointer).unwrap_or_else(|| self.node.nearest_span(pointer))
    }
}

/// As [`Value::pointer`], which copies every name on the way: rules look up tens of thousands of values.
pub fn find<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    if pointer.is_empty() {
        return Some(value);
    }
    pointer.strip_prefix('/')?.split('/').try_fold(value, |value, token| match value {
        Value::Object(map) if token.contains('~') => map.get(&token.replace("~1", "/").replace("~0", "~")),
        Value::Object(map) => map.get(token),
        // A number in one way only: neither `+1` nor `01`.
        Value::Array(items) if token == "0" || !token.starts_with(['+', '0']) => items.get(token.parse::<usize>().ok()?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::find;

    #[test]
    fn pointers_lead_where_those_of_the_library_lead() {
        let value = json!({"a": [{"b": 1}, [2]], "": {"": 3}, "c/d": {"e~f": 4}, "0": "5"});
        for pointer in
            ["", "/", "//", "/a", "/a/0/b", "/a/1/0", "/a/01", "/a/+1", "/a/-1", "/a/2", "/a/x", "/a/", "/c~1d/e~0f", "/c~1d", "/0", "a", "/a/0/b/c", "/c~01d"]
        {
            assert_eq!(find(&value, pointer), value.pointer(pointer), "{pointer}");
        }
    }
}
