//! Files to objects.

use std::collections::{BTreeSet, HashMap, HashSet};

use rayon::prelude::*;
use serde_json::Value;
use strake_kinds::KindInfo;
use strake_kinds::structural::Definition;
use strake_plan::ObjectId;
use strake_source::{Diagnostic, FileId, Sources, nearest};
use strake_yaml::{Kind, Node};

use crate::check;
use crate::manifest::{Manifest, Options, find};
use crate::values;

/// Reads all objects of the files, in the order of files and documents, then those that an overlay made. An object with errors is returned too, marked as not
/// sound, so that what refers to it is not reported as well. Files, and then objects, are looked at on all cores; what comes out is in their order.
pub fn read(sources: &Sources, files: &[FileId], made: Vec<Node>, options: &Options) -> (Vec<Manifest>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut nodes = Vec::new();
    let parsed: Vec<_> = files.par_iter().map(|file| strake_yaml::parse_file(sources, *file)).collect();
    for (documents, findings) in parsed {
        diagnostics.extend(findings);
        nodes.extend(documents.into_iter().map(|document| document.root));
    }
    nodes.extend(made);
    if let Some(values) = &options.values {
        let mut used = BTreeSet::new();
        nodes.iter_mut().for_each(|node| values::substitute(sources, node, values, &mut used, &mut diagnostics));
        for (name, value) in values.iter().filter(|(name, _)| !used.contains(*name)) {
            diagnostics.push(Diagnostic::note("unused-value", format!("no manifest uses the value `{name}`")).at(value.span));
        }
    }
    // What is among the inputs is what will be; what the cluster has may be older.
    let definitions: Vec<Definition> = nodes.iter().filter_map(definition).chain(options.definitions.iter().cloned()).collect();
    let one = |node: Node| {
        let mut reader = Reader { definitions: &definitions, sources, options, manifests: Vec::new(), findings: Vec::new() };
        reader.object(node);
        (reader.manifests, reader.findings)
    };
    let looked: Vec<(Vec<Manifest>, Vec<Found>)> = nodes.into_par_iter().map(one).collect();
    let mut manifests = Vec::with_capacity(looked.len());
    // A rule that is the server's is told once for a kind.
    let mut told = HashSet::new();
    for (more, findings) in looked {
        manifests.extend(more);
        diagnostics.extend(findings.into_iter().filter(|found| found.rule.as_ref().is_none_or(|rule| told.insert(rule.clone()))).map(|found| found.finding));
    }
    duplicates(&manifests, &mut diagnostics);
    (manifests, diagnostics)
}

/// Versions that Kubernetes no longer serves, and what took their place.
const REMOVED: &[((&str, &str), &str)] = &[
    (("extensions/v1beta1", "Deployment"), "write `apps/v1`, with spec.selector (removed in 1.16)"),
    (("apps/v1beta1", "Deployment"), "write `apps/v1`, with spec.selector (removed in 1.16)"),
    (("apps/v1beta2", "Deployment"), "write `apps/v1` (removed in 1.16)"),
    (("extensions/v1beta1", "DaemonSet"), "write `apps/v1`, with spec.selector (removed in 1.16)"),
    (("apps/v1beta2", "DaemonSet"), "write `apps/v1` (removed in 1.16)"),
    (("extensions/v1beta1", "ReplicaSet"), "write `apps/v1`, with spec.selector (removed in 1.16)"),
    (("apps/v1beta2", "ReplicaSet"), "write `apps/v1` (removed in 1.16)"),
    (("apps/v1beta1", "StatefulSet"), "write `apps/v1`, with spec.selector (removed in 1.16)"),
    (("apps/v1beta2", "StatefulSet"), "write `apps/v1` (removed in 1.16)"),
    (("extensions/v1beta1", "NetworkPolicy"), "write `networking.k8s.io/v1` (removed in 1.16)"),
    (("extensions/v1beta1", "Ingress"), "write `networking.k8s.io/v1`, with pathType and backend.service (removed in 1.22)"),
    (("networking.k8s.io/v1beta1", "Ingress"), "write `networking.k8s.io/v1`, with pathType and backend.service (removed in 1.22)"),
    (("networking.k8s.io/v1beta1", "IngressClass"), "write `networking.k8s.io/v1` (removed in 1.22)"),
    (("extensions/v1beta1", "PodSecurityPolicy"), "there is no successor: label namespaces for Pod Security Admission (removed in 1.16)"),
    (("policy/v1beta1", "PodSecurityPolicy"), "there is no successor: label namespaces for Pod Security Admission (removed in 1.25)"),
    (("policy/v1beta1", "PodDisruptionBudget"), "write `policy/v1` (removed in 1.25)"),
    (("batch/v1beta1", "CronJob"), "write `batch/v1` (removed in 1.25)"),
    (("batch/v2alpha1", "CronJob"), "write `batch/v1` (removed in 1.21)"),
    (("autoscaling/v2beta1", "HorizontalPodAutoscaler"), "write `autoscaling/v2` (removed in 1.25)"),
    (("autoscaling/v2beta2", "HorizontalPodAutoscaler"), "write `autoscaling/v2` (removed in 1.26)"),
    (("discovery.k8s.io/v1beta1", "EndpointSlice"), "write `discovery.k8s.io/v1` (removed in 1.25)"),
    (("events.k8s.io/v1beta1", "Event"), "write `events.k8s.io/v1` (removed in 1.25)"),
    (("coordination.k8s.io/v1beta1", "Lease"), "write `coordination.k8s.io/v1` (removed in 1.22)"),
    (("node.k8s.io/v1beta1", "RuntimeClass"), "write `node.k8s.io/v1` (removed in 1.25)"),
    (("scheduling.k8s.io/v1beta1", "PriorityClass"), "write `scheduling.k8s.io/v1` (removed in 1.22)"),
    (("storage.k8s.io/v1beta1", "StorageClass"), "write `storage.k8s.io/v1` (removed in 1.22)"),
    (("storage.k8s.io/v1beta1", "CSIDriver"), "write `storage.k8s.io/v1` (removed in 1.22)"),
    (("storage.k8s.io/v1beta1", "CSINode"), "write `storage.k8s.io/v1` (removed in 1.22)"),
    (("storage.k8s.io/v1beta1", "VolumeAttachment"), "write `storage.k8s.io/v1` (removed in 1.22)"),
    (("storage.k8s.io/v1beta1", "CSIStorageCapacity"), "write `storage.k8s.io/v1` (removed in 1.27)"),
    (("rbac.authorization.k8s.io/v1beta1", "Role"), "write `rbac.authorization.k8s.io/v1` (removed in 1.22)"),
    (("rbac.authorization.k8s.io/v1beta1", "RoleBinding"), "write `rbac.authorization.k8s.io/v1` (removed in 1.22)"),
    (("rbac.authorization.k8s.io/v1beta1", "ClusterRole"), "write `rbac.authorization.k8s.io/v1` (removed in 1.22)"),
    (("rbac.authorization.k8s.io/v1beta1", "ClusterRoleBinding"), "write `rbac.authorization.k8s.io/v1` (removed in 1.22)"),
    (("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition"), "write `apiextensions.k8s.io/v1`, with a schema for each version (removed in 1.22)"),
    (("apiregistration.k8s.io/v1beta1", "APIService"), "write `apiregistration.k8s.io/v1` (removed in 1.22)"),
    (("admissionregistration.k8s.io/v1beta1", "ValidatingWebhookConfiguration"), "write `admissionregistration.k8s.io/v1` (removed in 1.22)"),
    (("admissionregistration.k8s.io/v1beta1", "MutatingWebhookConfiguration"), "write `admissionregistration.k8s.io/v1` (removed in 1.22)"),
    (("flowcontrol.apiserver.k8s.io/v1beta1", "FlowSchema"), "write `flowcontrol.apiserver.k8s.io/v1` (removed in 1.26)"),
    (("flowcontrol.apiserver.k8s.io/v1beta2", "FlowSchema"), "write `flowcontrol.apiserver.k8s.io/v1` (removed in 1.29)"),
    (("flowcontrol.apiserver.k8s.io/v1beta3", "FlowSchema"), "write `flowcontrol.apiserver.k8s.io/v1` (removed in 1.32)"),
    (("flowcontrol.apiserver.k8s.io/v1beta3", "PriorityLevelConfiguration"), "write `flowcontrol.apiserver.k8s.io/v1` (removed in 1.32)"),
];

/// What the resource of a kind is most likely called; a cluster says it for sure.
fn plural(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.strip_suffix('y') {
        Some(stem) if !lower.ends_with("ay") && !lower.ends_with("ey") && !lower.ends_with("oy") => format!("{stem}ies"),
        _ if lower.ends_with('s') || lower.ends_with('x') || lower.ends_with("ch") => format!("{lower}es"),
        _ => format!("{lower}s"),
    }
}

fn definition(node: &Node) -> Option<Definition> {
    let is_one = node.get("kind").and_then(Node::as_str) == Some("CustomResourceDefinition");
    is_one.then(|| Definition::of(&node.to_json())).flatten()
}

/// A finding; one about a rule that is left to the server has the kind and the rule with it.
pub(crate) struct Found {
    pub finding: Diagnostic,
    pub rule: Option<(&'static str, String)>,
}

impl From<Diagnostic> for Found {
    fn from(finding: Diagnostic) -> Found {
        Found { finding, rule: None }
    }
}

/// Looks at one document; a list has several objects.
struct Reader<'a> {
    definitions: &'a [Definition],
    sources: &'a Sources,
    options: &'a Options,
    manifests: Vec<Manifest>,
    findings: Vec<Found>,
}

impl Reader<'_> {
    fn tell(&mut self, finding: Diagnostic) {
        self.findings.push(finding.into());
    }

    fn object(&mut self, node: Node) {
        if !matches!(node.kind, Kind::Mapping(_)) {
            let found = node.kind_name();
            return self.tell(Diagnostic::error("not-an-object", format!("found {found}, expected a Kubernetes object")).at(node.span));
        }
        let text = |name: &str| node.get(name).and_then(Node::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let (api_version, kind) = match (text("apiVersion"), text("kind")) {
            (Some(api_version), Some(kind)) => (api_version, kind),
            (None, None) => return self.foreign(&node),
            (None, Some(_)) => return self.lacks(&node, "apiVersion"),
            (Some(_), None) => return self.lacks(&node, "kind"),
        };
        if let Some(items) = list_items(&api_version, &kind, &node) {
            return items.iter().cloned().for_each(|item| self.object(item));
        }
        match strake_kinds::by_kind(&api_version, &kind) {
            Some(info) if info.supported || self.options.foreign => self.known(node, info, None),
            Some(info) => {
                let message = format!("strake's own cluster does not run {kind} ({api_version}) yet");
                let supported: BTreeSet<&str> = strake_kinds::table().iter().filter(|kind| kind.supported).map(|kind| kind.kind).collect();
                let help = format!("it runs: {}", supported.into_iter().collect::<Vec<_>>().join(", "));
                let finding = Diagnostic::error("unsupported-kind", message).at(self.place(&node, "kind")).label("known, but nothing here runs it");
                self.tell(finding.help("for another cluster, name it: --context NAME").help(help));
                // What else is wrong with it is told in the same run.
                self.known(node, info, None);
                self.manifests.iter_mut().last().into_iter().for_each(|manifest| manifest.sound = false);
            }
            None => self.unknown(node, &api_version, &kind),
        }
    }

    /// A mapping that does not claim to be an object: other tools keep their files here too.
    fn foreign(&mut self, node: &Node) {
        let message = "this is not a Kubernetes object: it has neither apiVersion nor kind; it is left out";
        let json = self.sources.get(node.span.file).name.ends_with(".json");
        let finding = if json { Diagnostic::note("not-an-object", message) } else { Diagnostic::warning("not-an-object", message) };
        self.tell(finding.at(first_line(node)));
    }

    fn lacks(&mut self, node: &Node, field: &str) {
        self.tell(Diagnostic::error("missing-field", format!("the object has no `{field}`")).at(first_line(node)));
    }

    /// A kind that is not Kubernetes' own: of a custom resource whose definition is among the inputs, or a mistake, or of one that the cluster knows.
    fn unknown(&mut self, node: Node, api_version: &str, kind: &str) {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        if let Some(defined) = self.definitions.iter().find(|defined| defined.group == group && defined.kind == kind) {
            let Some(known) = defined.version(version).filter(|version| version.served) else {
                let message = format!("{kind} has no version `{version}`");
                let finding = Diagnostic::error("unknown-kind", message).at(self.place(&node, "apiVersion"));
                let served: Vec<&str> = defined.versions.iter().filter(|version| version.served).map(|version| version.name.as_str()).collect();
                return self.tell(finding.help(format!("versions of its definition: {}", served.join(", "))));
            };
            let info = strake_kinds::custom(group, version, kind, &defined.plural, defined.namespaced);
            return self.custom(node, info, known.schema.as_ref());
        }
        let elsewhere = strake_kinds::table().iter().filter(|row| row.kind == kind).max_by_key(|row| row.supported);
        // Only Kubernetes itself has groups without a dot or with its own name behind it.
        let own = !group.contains('.') || group.ends_with(".k8s.io");
        if self.options.foreign && !own {
            let message = format!("{kind} ({api_version}) is defined by nothing here: its fields are not checked");
            self.tell(Diagnostic::warning("custom-resource", message).at(self.place(&node, "kind")));
            let info = strake_kinds::custom(group, version, kind, &plural(kind), true);
            return self.known(node, info, None);
        }
        let mut finding = Diagnostic::error("unknown-kind", format!("there is no kind `{kind}` in `{api_version}`")).at(self.place(&node, "kind"));
        let names = strake_kinds::table().iter().map(|row| row.kind);
        if let Some((_, successor)) = REMOVED.iter().find(|(removed, _)| *removed == (api_version, kind)) {
            let message = format!("`{api_version}` of {kind} was removed from Kubernetes");
            finding = Diagnostic::error("removed-version", message).at(self.place(&node, "apiVersion")).help(*successor);
        } else if let Some(row) = elsewhere {
            finding = finding.at(self.place(&node, "apiVersion")).help(format!("{kind} is in `{}`", row.api_version()));
        } else if let Some(near) = nearest(kind, names).filter(|_| own) {
            finding = finding.help(format!("did you mean `{near}`?"));
        } else {
            finding = finding.help("strake's own cluster serves no custom resources yet; for another cluster, name it: --context NAME");
        }
        self.tell(finding);
    }

    fn custom(&mut self, node: Node, info: &'static KindInfo, schema: Option<&Value>) {
        if !self.options.foreign {
            let message = format!("strake's own cluster serves no custom resources yet, such as {}", info.kind);
            let finding = Diagnostic::error("unsupported-kind", message).at(self.place(&node, "kind"));
            self.tell(finding.help("for another cluster, name it: --context NAME"));
        }
        if schema.is_none() {
            let message = format!("the definition of {} has no schema here: its fields are not checked", info.kind);
            self.tell(Diagnostic::warning("custom-resource", message).at(self.place(&node, "kind")));
        }
        self.known(node, info, schema);
    }

    fn place(&self, node: &Node, field: &str) -> strake_source::Span {
        node.span_at(&format!("/{field}")).unwrap_or(node.span)
    }

    /// Takes an object in; the schema is a custom resource's.
    fn known(&mut self, node: Node, kind: &'static KindInfo, schema: Option<&Value>) {
        let mut value = node.to_json();
        if kind.namespaced {
            fill_namespace(&mut value, &self.options.namespace);
        }
        let text = |pointer: &str| find(&value, pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let id = ObjectId {
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            kind: kind.kind.to_owned(),
            resource: kind.plural.to_owned(),
            namespace: if kind.namespaced { text("/metadata/namespace") } else { String::new() },
            name: text("/metadata/name"),
        };
        let mut manifest = Manifest { id, kind, value, node, sound: true };
        let mut findings: Vec<Found> = check::check(&manifest, self.sources).into_iter().map(Found::from).collect();
        if let Some(schema) = schema {
            findings.extend(check::custom(&manifest, schema, self.sources));
        }
        manifest.sound = !findings.iter().any(|found| found.finding.is_error());
        self.findings.extend(findings);
        self.manifests.push(manifest);
    }
}

fn duplicates(manifests: &[Manifest], diagnostics: &mut Vec<Diagnostic>) {
    let mut first: HashMap<(&str, &str, &str, &str), &Manifest> = HashMap::new();
    for manifest in manifests.iter().filter(|manifest| !manifest.id.name.is_empty()) {
        let id = &manifest.id;
        let key = (id.group.as_str(), id.kind.as_str(), id.namespace.as_str(), id.name.as_str());
        if let Some(other) = first.get(&key) {
            let message = format!("{id} is there twice");
            let (here, there) = (manifest.span("/metadata/name"), other.span("/metadata/name"));
            diagnostics.push(Diagnostic::error("duplicate-object", message).at(here).label("again here").related(there, "first here"));
        } else {
            first.insert(key, manifest);
        }
    }
}

/// The items of a `List` or of a `PodList` and its like.
fn list_items<'a>(api_version: &str, kind: &str, node: &'a Node) -> Option<&'a [Node]> {
    let of_kind = || strake_kinds::table().iter().any(|row| row.list_kind == kind && row.api_version() == api_version);
    let is_list = (api_version == "v1" && kind == "List") || (kind.ends_with("List") && of_kind());
    is_list.then(|| node.get("items").map(Node::items).unwrap_or_default())
}

/// Where a whole object is meant, its first key is enough to point at.
fn first_line(node: &Node) -> strake_source::Span {
    node.entries().first().map_or(node.span, |(key, _)| key.span)
}

fn fill_namespace(value: &mut Value, namespace: &str) {
    let Some(root) = value.as_object_mut() else { return };
    let metadata = root.entry("metadata").or_insert_with(|| Value::Object(serde_json::Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(serde_json::Map::new());
    }
    let Some(metadata) = metadata.as_object_mut() else { return };
    let empty = metadata.get("namespace").is_none_or(|value| value.is_null() || value.as_str() == Some(""));
    if empty {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
}
