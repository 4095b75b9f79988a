//! Label and field selectors of lists and watches.

use std::borrow::Cow;

use serde_json::Value;
use strake_kinds::KindInfo;
use strake_words::{FieldSelector, LabelSelector};

use crate::meta;
use crate::query::Query;
use crate::status::{Answer, Refusal};

/// Which objects of a collection are meant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    /// Whether a field outside `metadata` is asked for.
    deep: bool,
}

/// The fields that can be selected by, besides `metadata.name` and `metadata.namespace`.
fn selectable(kind: &KindInfo) -> &'static [&'static str] {
    match (kind.group, kind.kind) {
        ("", "Pod") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "Event") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("", "Secret") => &["type"],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("", "Namespace") => &["status.phase", "name"],
        ("", "Node") => &["spec.unschedulable"],
        ("apps", "ReplicaSet") => &["status.replicas"],
        _ => &[],
    }
}

fn field<'a>(object: &'a Value, path: &str) -> Cow<'a, str> {
    let path = match path {
        "source" => "source.component",
        "name" => "metadata.name",
        other => other,
    };
    let value = path.split('.').fold(object, |value, step| &value[step]);
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Null => Cow::Borrowed(if matches!(path, "spec.unschedulable" | "spec.hostNetwork") { "false" } else { "" }),
        other => Cow::Owned(other.to_string()),
    }
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`.
    pub(crate) fn parse(kind: &KindInfo, query: &Query) -> Answer<Selection> {
        let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or_default());
        let labels = labels.map_err(|error| Refusal::bad_request(format!("unable to parse requirement: {error}")))?;
        let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default()).map_err(|error| Refusal::bad_request(error.to_string()))?;
        let mut deep = false;
        for term in &fields.terms {
            match term.path.as_str() {
                "metadata.name" | "metadata.namespace" => {}
                path if selectable(kind).contains(&path) => deep = true,
                path => return Err(Refusal::bad_request(format!("field label not supported: {path}"))),
            }
        }
        Ok(Selection { labels, fields, deep })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.requirements.is_empty() && self.fields.terms.is_empty()
    }

    /// The one name that is asked for, if so.
    pub(crate) fn name(&self) -> Option<&str> {
        self.fields.terms.iter().find(|term| term.equal && term.path == "metadata.name").map(|term| term.value.as_str())
    }

    /// Whether an object is meant.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.matches_with(|key| labels[key].as_str()) && self.fields.terms.iter().all(|term| (field(object, &term.path) == term.value) == term.equal)
    }

    /// Whether an object is meant, from its bytes; reads no more of them than it must.
    pub(crate) fn matches_bytes(&self, bytes: &[u8]) -> Answer<bool> {
        if self.is_everything() {
            return Ok(true);
        }
        if self.deep {
            return Ok(self.matches(&meta::parse_bytes(bytes)?));
        }
        let brief = meta::brief(bytes)?;
        let label = |key: &str| brief.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
        let field = |path: &str| Some(if path == "metadata.name" { brief.name.as_str() } else { brief.namespace.as_str() });
        Ok(self.labels.matches_with(label) && self.fields.matches_with(field))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Selection;
    use crate::query::Query;
    use crate::target::builtin;

    #[test]
    fn selectors() {
        let pod = json!({"metadata": {"name": "a", "namespace": "n", "labels": {"app": "web"}}, "spec": {"nodeName": "x"}, "status": {"phase": "Running"}});
        let bytes = pod.to_string();
        for (query, expected) in [
            ("", true),
            ("labelSelector=app%3Dweb", true),
            ("labelSelector=app%20in%20(db,web),!tier", true),
            ("labelSelector=app!%3Dweb", false),
            ("fieldSelector=metadata.name%3Da", true),
            ("fieldSelector=metadata.name%3Db", false),
            ("fieldSelector=spec.nodeName%3Dx,status.phase!%3DFailed", true),
            ("fieldSelector=spec.nodeName%3D", false),
            ("fieldSelector=spec.hostNetwork%3Dfalse", true),
            ("fieldSelector=metadata.namespace%3Dn&labelSelector=app", true),
        ] {
            let selection = Selection::parse(builtin("Pod"), &Query::parse(Some(query))).unwrap();
            assert_eq!(selection.matches(&pod), expected, "{query}");
            assert_eq!(selection.matches_bytes(bytes.as_bytes()).unwrap(), expected, "{query}");
        }
        for query in ["fieldSelector=spec.image%3Da", "labelSelector=a%3D%3D%3D"] {
            assert_eq!(Selection::parse(builtin("Pod"), &Query::parse(Some(query))).unwrap_err().code, 400, "{query}");
        }
    }
}
