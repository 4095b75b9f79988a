//! Whose an object is, and whose its fields are. Pure: what is to be done about each conflict; the sending is in [`crate::send`].

use serde::Serialize;
use serde_json::Value;
use strake_client::ClientError;
use strake_kinds::apply::{self, Owned, Owner};
use strake_plan::{Change, DeployPlan, ObjectId};

use crate::applier::MANAGER;
use crate::changes::FieldOwner;
use crate::inventory;

/// An object's annotation: fields, by comma, that are taken from whoever owns them.
pub const TAKE: &str = "strake.dev/take-fields";
/// An object's annotation: fields, by comma, that are left to whoever owns them, once the object exists.
pub const LEAVE: &str = "strake.dev/leave-fields";

/// A field that is left to somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Left {
    /// Such as `spec.replicas`.
    pub path: String,
    /// Whom, and why.
    pub reason: String,
}

/// A field that is disputed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispute {
    /// Such as `spec.template.spec.containers[web].image`.
    pub path: String,
    /// Its steps in the managed fields; none when they do not have it.
    pub steps: Vec<String>,
    /// Who owns it.
    pub owner: FieldOwner,
    /// What is done about it.
    pub verdict: Verdict,
}

/// What is done about a disputed field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken from a person: the directory is the truth. The apply tells of it.
    TakeBack,
    /// It is taken without a word: its owner has given it up, or the object's own annotation says so.
    Take,
    /// It is left to a controller whose business it is.
    Leave(&'static str),
    /// Nobody has said whose it is.
    Stop,
}

/// Tools that people drive by hand.
pub(crate) fn is_human(manager: &str) -> bool {
    ["kubectl", "strake-cli", "k9s", "rancher", "lens", "freelens", "headlamp", "oc"]
        .iter()
        .any(|tool| manager == *tool || manager.strip_prefix(tool).is_some_and(|rest| rest.starts_with('-')))
}

/// Tools whose hold on an object ends when strake applies it: kubectl's client-side apply, as kubectl's own server-side apply does it, and Helm. What only they
/// own is given up with them, or what a manifest no longer has would stay for ever.
pub(crate) fn is_former(owner: &Owner) -> bool {
    owner.operation == "Update" && owner.subresource.is_empty() && (owner.manager == "kubectl-client-side-apply" || owner.manager.eq_ignore_ascii_case("helm"))
}

/// Controllers whose business some fields are: who, which field (a part of its path, or its end), and why. An empty name is anybody but a person.
const CONTROLLERS: [(&str, &str, &str); 12] = [
    ("", "caBundle", "an injector writes the certificates"),
    ("kube-controller-manager", "spec.replicas", "an autoscaler sets it"),
    ("horizontal-pod-autoscaler", "spec.replicas", "an autoscaler sets it"),
    ("keda", "spec.replicas", "an autoscaler sets it"),
    ("vpa-", "resources", "an autoscaler sets it"),
    ("kube-controller-manager", "deployment.kubernetes.io/revision", "the cluster counts revisions there"),
    ("clusterrole-aggregation-controller", "rules", "the cluster gathers them from other roles"),
    ("kube-controller-manager", "spec.volumeName", "the cluster binds the claim"),
    ("kube-controller-manager", "pv.kubernetes.io/", "the cluster binds the claim"),
    ("cloud-controller-manager", "", "the cloud's controller sets it"),
    ("cert-manager", "", "the certificates' controller sets it"),
    ("cainjector", "", "an injector writes the certificates"),
];

/// Why a field is a controller's business; nothing when it is not.
fn business(owner: &FieldOwner, path: &str) -> Option<&'static str> {
    if path == "spec.replicas" && owner.subresource == "scale" {
        return Some("an autoscaler sets it");
    }
    let is = |name: &str| {
        name.is_empty() || owner.manager == name || owner.manager.strip_prefix(name).is_some_and(|rest| rest.starts_with(['-', '.']) || name.ends_with('-'))
    };
    let row = CONTROLLERS
        .iter()
        .find(|(name, field, _)| is(name) && (path.ends_with(field) || path.contains(&format!("{field}.")) || path.contains(field) && field.ends_with('/')));
    row.map(|(_, _, why)| *why)
}

/// Whether a field is the cluster's own book-keeping, or strake's: nothing that somebody has added.
pub(crate) fn is_of_the_cluster(owner: &Owner, path: &str) -> bool {
    let books = ["kube-controller-manager", "strake-controller-manager", "kube-scheduler", "strake-scheduler", "kubelet", "kube-apiserver"];
    let ours = owner.manager == MANAGER || owner.manager == crate::progressive::MANAGER;
    ours || books.contains(&owner.manager.as_str()) || owner.subresource == "status" || business(&owner.clone().into(), path).is_some()
}

/// A path as people write it: `.spec.containers[name="web"].image` is `spec.containers[web].image`.
pub(crate) fn plain(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path.trim_start_matches('.');
    while let Some(open) = rest.find('[') {
        out.push_str(&rest[..=open]);
        let inner = &rest[open + 1..];
        // A key's value may have a bracket in it only inside of quotes.
        let mut quoted = false;
        let close = inner.char_indices().find(|(_, character)| {
            quoted ^= *character == '"';
            *character == ']' && !quoted
        });
        let Some((close, _)) = close else { break };
        let keys: Vec<&str> = inner[..close].split(',').map(|key| key.split_once('=').map_or(key, |(_, value)| value).trim_matches('"')).collect();
        out.push_str(&keys.join("/"));
        rest = &inner[close..];
    }
    out.push_str(rest);
    out
}

/// Whether a pattern of an annotation means a path: itself, or what it is in.
fn means(pattern: &str, path: &str) -> bool {
    path.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The fields that an annotation of the object names.
pub(crate) fn patterns(object: &Value, annotation: &str) -> Vec<String> {
    let text = object["metadata"]["annotations"][annotation].as_str().unwrap_or_default();
    text.split(',').map(|word| plain(word.trim())).filter(|word| !word.is_empty()).collect()
}

/// What an apply was refused for, field by field, and what is done about it; nothing when it is no conflict of owners.
pub fn judge(error: &ClientError, live: &Value, wanted: &Value) -> Vec<Dispute> {
    let causes = error.status().filter(|_| error.is_conflict()).and_then(|status| status.details.as_ref()).map(|details| details.causes.as_slice());
    let owned = apply::owned(live);
    let taken = patterns(wanted, TAKE);
    let each = causes.unwrap_or_default().iter().filter_map(|cause| {
        let manager = cause.message.split('"').nth(1)?;
        let found: Option<&Owned> =
            owned.iter().filter(|owned| owned.owner.manager == manager && owned.path == cause.field).max_by_key(|owned| owned.owner.time.clone());
        let owner = found.map_or_else(
            || FieldOwner { manager: manager.to_owned(), operation: "Update".to_owned(), ..FieldOwner::default() },
            |found| found.owner.clone().into(),
        );
        let path = plain(&cause.field);
        let verdict = if manager == crate::progressive::MANAGER {
            let is_switched = live["metadata"]["annotations"][crate::rollout::SWITCHED].is_string();
            if is_switched { Verdict::Leave("a rollout switches it") } else { Verdict::Take }
        } else if found.is_some_and(|found| is_former(&found.owner)) || taken.iter().any(|pattern| means(pattern, &path)) {
            Verdict::Take
        } else if is_human(manager) {
            Verdict::TakeBack
        } else {
            business(&owner, &path).filter(|_| found.is_some()).map_or(Verdict::Stop, Verdict::Leave)
        };
        Some(Dispute { path, steps: found.map(|found| found.steps.clone()).unwrap_or_default(), owner, verdict })
    });
    each.collect()
}

/// The fields of an object that are left to others before anything is disputed: those that its annotation names, and the replicas of what an autoscaler of the
/// plan scales. Each with the reason.
pub fn left_alone(plan: &DeployPlan, change: &Change) -> Vec<Left> {
    let mut left: Vec<Left> = patterns(&change.object, LEAVE).into_iter().map(|path| Left { path, reason: format!("{LEAVE} says so") }).collect();
    if change.object["spec"].get("replicas").is_some()
        && let Some(scaler) = plan.changes.iter().find(|other| other.id.namespace == change.id.namespace && scales(&other.object, &change.id))
    {
        left.push(Left { path: "spec.replicas".to_owned(), reason: format!("{} scales it", scaler.id) });
    }
    left
}

/// Whether an object is an autoscaler (of Kubernetes or KEDA) for another.
pub(crate) fn scales(object: &Value, target: &ObjectId) -> bool {
    let kind = object["kind"].as_str().unwrap_or_default();
    let scaled = &object["spec"]["scaleTargetRef"];
    // KEDA scales Deployments when it says nothing else.
    let of = scaled["kind"].as_str().or_else(|| (kind == "ScaledObject").then_some("Deployment"));
    matches!(kind, "HorizontalPodAutoscaler" | "ScaledObject") && of == Some(target.kind.as_str()) && scaled["name"] == target.name.as_str()
}

/// Puts what is left alone as it is in the cluster: the value that is there where nobody else owns it (left out it would be taken away), nothing where somebody does.
/// Gives what was changed by that.
pub fn leave(config: &mut Value, live: &Value, left: Vec<Left>) -> Vec<Left> {
    let owned = apply::owned(live);
    let mut done = Vec::new();
    for field in left {
        let wanted = find(config, &field.path).cloned();
        let there = find(live, &field.path).cloned();
        if wanted.is_none() || wanted == there {
            continue;
        }
        let foreign = owned.iter().any(|owned| owned.owner.manager != MANAGER && means(&field.path, &plain(&owned.path)));
        match there.filter(|_| !foreign) {
            Some(value) => put(config, &field.path, value),
            None => drop(cut(config, &field.path)),
        }
        done.push(field);
    }
    done
}

/// The next part of a path below a value: the longest name that is there, or an item.
fn step<'a>(value: &Value, path: &'a str) -> Option<(Place, &'a str)> {
    let path = path.strip_prefix('.').unwrap_or(path);
    match value {
        Value::Object(map) => {
            let fits = |name: &&String| path.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
            let name = map.keys().filter(fits).max_by_key(|name| name.len())?;
            Some((Place::Name(name.clone()), &path[name.len()..]))
        }
        Value::Array(items) => {
            let (label, rest) = path.strip_prefix('[')?.split_once(']')?;
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let named = |item: &Value| ["name", "containerPort", "port", "key", "mountPath", "ip"].iter().find_map(|key| item.get(*key).map(text));
            let place =
                items.iter().position(|item| named(item).as_deref() == Some(label)).or_else(|| label.parse().ok().filter(|place| *place < items.len()))?;
            Some((Place::Item(place), rest))
        }
        _ => None,
    }
}

enum Place {
    Name(String),
    Item(usize),
}

fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(value);
    }
    match step(value, path)? {
        (Place::Name(name), rest) => find(value.get(&name)?, rest),
        (Place::Item(place), rest) => find(value.get(place)?, rest),
    }
}

fn put(value: &mut Value, path: &str, new: Value) {
    if path.is_empty() {
        *value = new;
        return;
    }
    let inner = match step(value, path) {
        Some((Place::Name(name), rest)) => value.get_mut(&name).map(|inner| (inner, rest)),
        Some((Place::Item(place), rest)) => value.get_mut(place).map(|inner| (inner, rest)),
        None => None,
    };
    if let Some((inner, rest)) = inner {
        put(inner, rest, new);
    }
}

fn cut(value: &mut Value, path: &str) -> Option<Value> {
    match step(value, path)? {
        (Place::Name(name), "") => value.as_object_mut()?.shift_remove(&name),
        (Place::Item(place), "") => value.as_array_mut().map(|items| items.remove(place)),
        (Place::Name(name), rest) => cut(value.get_mut(&name)?, rest),
        (Place::Item(place), rest) => cut(value.get_mut(place)?, rest),
    }
}

/// The set, release or application of another tool that an object is a part of, in words; nothing when the manifest itself says the same, or nobody has it.
pub fn claim(live: &Value, wanted: &Value) -> Option<String> {
    const MARKS: [(&str, &str, &str); 7] = [
        ("annotations", "meta.helm.sh/release-name", "the Helm release"),
        ("annotations", "config.k8s.io/owning-inventory", "the inventory"),
        ("annotations", "argocd.argoproj.io/tracking-id", "the Argo CD application"),
        ("labels", "kustomize.toolkit.fluxcd.io/name", "the Flux Kustomization"),
        ("labels", "helm.toolkit.fluxcd.io/name", "the Flux HelmRelease"),
        ("labels", "kapp.k14s.io/app", "the kapp application"),
        ("labels", inventory::PART_OF, "the set with the id"),
    ];
    let mark = |object: &Value, place: &str, name: &str| object["metadata"][place][name].as_str().map(str::to_owned);
    MARKS.iter().take(6).find_map(|(place, name, what)| {
        let found = mark(live, place, name)?;
        (mark(wanted, place, name).as_deref() != Some(found.as_str())).then(|| format!("{what} `{}`", found.split(':').next().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn people_are_overruled_and_controllers_are_not() {
        for human in ["kubectl", "kubectl-client-side-apply", "kubectl-edit", "strake-cli", "k9s"] {
            assert!(is_human(human), "{human}");
        }
        for controller in ["kube-controller-manager", "horizontal-pod-autoscaler", "strake", "strake-controller-manager", "kubectlish"] {
            assert!(!is_human(controller), "{controller}");
        }
    }

    #[test]
    fn paths_are_written_as_people_write_them() {
        assert_eq!(plain(".spec.template.spec.containers[name=\"web\"].image"), "spec.template.spec.containers[web].image");
        assert_eq!(plain(".spec.ports[port=53,protocol=\"UDP\"].nodePort"), "spec.ports[53/UDP].nodePort");
        assert_eq!(plain("spec.replicas"), "spec.replicas");
        assert_eq!(plain(".metadata.finalizers[=\"a]b\"]"), "metadata.finalizers[a]b]");
    }

    fn conflict(causes: &[(&str, &str)]) -> ClientError {
        let causes: Vec<Value> = causes
            .iter()
            .map(|(manager, field)| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager:?} using apps/v1"), "field": field}))
            .collect();
        let status = json!({"status": "Failure", "code": 409, "reason": "Conflict", "message": "x", "metadata": {}, "details": {"causes": causes}});
        ClientError::Api(Box::new(serde_json::from_value(status).expect("a status")))
    }

    fn entry(manager: &str, subresource: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": "Update", "apiVersion": "apps/v1", "subresource": subresource, "time": "2026-01-01T00:00:00Z", "fieldsV1": fields})
    }

    #[test]
    fn each_conflict_has_its_verdict() {
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        let paused = json!({"f:spec": {"f:paused": {}}});
        let bundle = json!({"f:webhooks": {"k:{\"name\":\"a\"}": {"f:clientConfig": {"f:caBundle": {}}}}});
        let rows = [
            ("kubectl-edit", "", &paused, ".spec.paused", Verdict::TakeBack),
            ("kubectl", "scale", &replicas, ".spec.replicas", Verdict::TakeBack),
            ("kubectl-client-side-apply", "", &paused, ".spec.paused", Verdict::Take),
            ("helm", "", &paused, ".spec.paused", Verdict::Take),
            ("kube-controller-manager", "scale", &replicas, ".spec.replicas", Verdict::Leave("an autoscaler sets it")),
            ("keda-operator", "scale", &replicas, ".spec.replicas", Verdict::Leave("an autoscaler sets it")),
            ("some-injector", "", &bundle, ".webhooks[name=\"a\"].clientConfig.caBundle", Verdict::Leave("an injector writes the certificates")),
            ("kube-controller-manager", "", &paused, ".spec.paused", Verdict::Stop),
            ("argocd-controller", "", &paused, ".spec.paused", Verdict::Stop),
        ];
        for (manager, subresource, fields, path, verdict) in rows {
            let live = json!({"metadata": {"managedFields": [entry(manager, subresource, fields.clone())]}});
            let found = judge(&conflict(&[(manager, path)]), &live, &json!({}));
            assert_eq!(found.iter().map(|dispute| &dispute.verdict).collect::<Vec<_>>(), [&verdict], "{manager} {path}");
            assert_eq!(found[0].owner.time.as_deref(), Some("2026-01-01T00:00:00Z"), "{manager}");
            let wanted = json!({"metadata": {"annotations": {TAKE: plain(path)}}});
            assert_eq!(judge(&conflict(&[(manager, path)]), &live, &wanted)[0].verdict, Verdict::Take, "the object's own annotation");
        }
    }

    #[test]
    fn replicas_are_left_to_an_autoscaler_without_being_lost() {
        let id = |kind: &str| ObjectId { kind: kind.into(), name: "web".into(), namespace: "n".into(), ..ObjectId::default() };
        let change = |kind: &str, object: Value| Change { id: id(kind), object, ..Change::default() };
        let web = change("Deployment", json!({"kind": "Deployment", "spec": {"replicas": 3}}));
        for scaler in [
            json!({"kind": "HorizontalPodAutoscaler", "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}}}),
            json!({"kind": "ScaledObject", "spec": {"scaleTargetRef": {"name": "web"}}}),
        ] {
            let plan = DeployPlan { changes: vec![web.clone(), change("X", scaler)], ..DeployPlan::default() };
            let left = left_alone(&plan, &plan.changes[0]);
            assert_eq!(left.iter().map(|left| left.path.as_str()).collect::<Vec<_>>(), ["spec.replicas"]);
            // Nobody else owns it yet: left out, the server would take it away.
            let mut config = web.object.clone();
            let live = json!({"metadata": {"managedFields": [entry(MANAGER, "", json!({"f:spec": {"f:replicas": {}}}))]}, "spec": {"replicas": 7}});
            assert_eq!(leave(&mut config, &live, left.clone()).len(), 1);
            assert_eq!(config["spec"]["replicas"], 7);
            // The autoscaler owns it.
            let mut config = web.object.clone();
            let live = json!({"metadata": {"managedFields": [entry("kube-controller-manager", "scale", json!({"f:spec": {"f:replicas": {}}}))]}, "spec": {"replicas": 7}});
            leave(&mut config, &live, left);
            assert!(config["spec"].get("replicas").is_none());
        }
        let alone = DeployPlan { changes: vec![web], ..DeployPlan::default() };
        assert_eq!(left_alone(&alone, &alone.changes[0]), []);
    }

    #[test]
    fn fields_of_the_annotation_are_left_wherever_they_stand() {
        let object = json!({"metadata": {"annotations": {LEAVE: "spec.template.spec.containers[web].image, data.a.b"}}});
        let change = Change { object, ..Change::default() };
        let left = left_alone(&DeployPlan::default(), &change);
        let mut config =
            json!({"data": {"a.b": "1"}, "spec": {"template": {"spec": {"containers": [{"name": "x", "image": "x"}, {"name": "web", "image": "1"}]}}}});
        let live = json!({"data": {"a.b": "2"}, "spec": {"template": {"spec": {"containers": [{"name": "web", "image": "2"}]}}}});
        assert_eq!(leave(&mut config, &live, left).len(), 2);
        assert_eq!(config["spec"]["template"]["spec"]["containers"], json!([{"name": "x", "image": "x"}, {"name": "web", "image": "2"}]));
        assert_eq!(config["data"]["a.b"], "2");
    }

    #[test]
    fn marks_of_other_tools_are_claims() {
        let live = json!({"metadata": {"annotations": {"meta.helm.sh/release-name": "shop"}, "labels": {"app": "x"}}});
        assert_eq!(claim(&live, &json!({})).as_deref(), Some("the Helm release `shop`"));
        assert_eq!(claim(&live, &live), None, "the manifest says so itself");
        assert_eq!(claim(&json!({"metadata": {}}), &json!({})), None);
    }
}
