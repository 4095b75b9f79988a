//! Objects to ordered changes.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde_json::Value;
use strake_kinds::KindInfo;
use strake_plan::{Change, ChangeId, DeployPlan, Edge, External, Hook, HookRun, ImageEdge, ObjectId, OccasionalHook, Phase, Wanted};
use strake_source::{Diagnostic, Sources, Span, Spanned, nearest};

use crate::graph::{self, Pin, Stage, Strength};
use crate::health;
use crate::manifest::{Manifest, Options};
use crate::mentions::mentions;
use crate::references::images;
use crate::restart::Configuration;
use crate::wishes::{Need, Wishes, has_hook, need, wishes};

/// Kinds in the order in which they are applied where nothing else decides: what others refer to comes first.
const ORDER: &[&str] = &[
    "Namespace",
    "CustomResourceDefinition",
    "Node",
    "PriorityClass",
    "RuntimeClass",
    "StorageClass",
    "IngressClass",
    "ResourceQuota",
    "LimitRange",
    "NetworkPolicy",
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Service",
    "Endpoints",
    "EndpointSlice",
    "Lease",
    "PodTemplate",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "DaemonSet",
    "Deployment",
    "StatefulSet",
    "Job",
    "CronJob",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "Ingress",
    "APIService",
];
/// What decides about other objects comes after them: its own servers must run before it is asked.
const LAST: &[&str] =
    &["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "Event"];

fn rank(id: &ObjectId) -> usize {
    let last = || LAST.iter().position(|kind| *kind == id.kind).map(|place| ORDER.len() + 1 + place);
    ORDER.iter().position(|kind| *kind == id.kind).or_else(last).unwrap_or(ORDER.len())
}

/// The plan of these objects. `built` tells which image of the build half, if any, an image reference means.
///
/// The order depends on the objects alone, not on the order of files. Objects that are not sound are part of it: the caller refuses a plan with errors. Objects that are
/// not for an apply (a hook that runs at another occasion) are left out.
pub fn plan(sources: &Sources, manifests: &[Manifest], options: &Options, built: &dyn Fn(&str) -> Option<usize>) -> (DeployPlan, Vec<Diagnostic>) {
    let wishes: Vec<Wishes> = manifests.par_iter().map(wishes).collect();
    let mut members: Vec<usize> = (0..manifests.len()).filter(|index| !wishes[*index].left_out).collect();
    let key = |index: &usize| {
        let id = &manifests[*index].id;
        (rank(id), id.namespace.clone(), id.kind.clone(), id.name.clone(), id.group.clone())
    };
    members.sort_by_cached_key(key);
    let occasions = occasions(sources, manifests, &wishes, built);
    let mut ordering = Ordering::new(manifests, members, wishes);
    ordering.hooks(&options.hooks);
    let edges = ordering.edges();
    let pins: Vec<Option<Pin>> = ordering.wishes.iter().map(|wishes| wishes.pin.clone()).collect();
    let sorted = graph::sort(&pins, edges);
    ordering.tell(&sorted);

    let mut place_of = vec![None; manifests.len()];
    sorted.order.iter().enumerate().for_each(|(place, node)| place_of[ordering.members[*node]] = Some(ChangeId(place)));
    let mut after: Vec<Vec<Edge>> = vec![Vec::new(); sorted.order.len()];
    for edge in &sorted.edges {
        if let Some(change) = place_of[ordering.members[edge.to]] {
            after[edge.from].push(Edge { change, state: edge.state });
        }
    }
    after.iter_mut().for_each(|edges| edges.sort_unstable());
    let configuration = (!options.keep_pods).then(|| Configuration::of(manifests));
    ordering.findings.extend(health::check(manifests, &options.health));
    let sealed = sources.secrets().next().is_some();
    let take = |node: &usize| (*node, std::mem::take(&mut after[*node]), std::mem::take(&mut ordering.external[*node]));
    let parts: Vec<(usize, Vec<Edge>, Vec<External>)> = sorted.order.iter().map(take).collect();
    let change = |(node, after, external): (usize, Vec<Edge>, Vec<External>)| {
        let manifest = &manifests[ordering.members[node]];
        let mut findings = Vec::new();
        let change = Change {
            id: manifest.id.clone(),
            object: {
                let object = configuration.as_ref().map_or_else(|| manifest.value.clone(), |configuration| configuration.stamp(manifest));
                health::stated(object, manifest, &options.health)
            },
            after,
            external,
            stage: sorted.stages[node],
            hook: ordering.wishes[node].hook,
            rollout: crate::rollout::rollout(manifest, manifests, &mut findings),
            origin: origin(sources, manifest),
            places: crate::places::places(sources, manifest),
            sensitive: if sealed { crate::sensitive::pointers(sources, manifest) } else { Vec::new() },
        };
        (change, findings)
    };
    let made: Vec<(Change, Vec<Diagnostic>)> = parts.into_par_iter().map(change).collect();
    let (changes, findings): (Vec<Change>, Vec<Vec<Diagnostic>>) = made.into_iter().unzip();
    ordering.findings.extend(findings.into_iter().flatten());
    let edges = images(manifests).into_iter().filter_map(|image| {
        let change = place_of[image.manifest]?;
        built(&image.image).map(|index| ImageEdge { change, pointer: image.pointer, image: index })
    });
    let mut edges: Vec<ImageEdge> = edges.collect();
    edges.sort_by(|a, b| (a.change, &a.pointer).cmp(&(b.change, &b.pointer)));
    let plan = DeployPlan {
        set: options.set.clone(),
        namespace: options.namespace.clone(),
        keep_revisions: options.keep_revisions,
        changes,
        images: edges,
        occasions,
    };
    (plan, ordering.findings)
}

/// The hooks that run at other occasions, in their order: by weight, then by kind and name.
fn occasions(sources: &Sources, manifests: &[Manifest], wishes: &[Wishes], built: &dyn Fn(&str) -> Option<usize>) -> Vec<OccasionalHook> {
    let uses = images(manifests);
    let mut found = Vec::new();
    for (index, (manifest, wishes)) in manifests.iter().zip(wishes).enumerate() {
        let own = || uses.iter().filter(|used| used.manifest == index).filter_map(|used| Some((used.pointer.clone(), built(&used.image)?)));
        found.extend(wishes.occasions.iter().map(|(when, weight, hook)| OccasionalHook {
            when: *when,
            weight: *weight,
            change: Change {
                id: manifest.id.clone(),
                object: manifest.value.clone(),
                hook: Some(*hook),
                origin: origin(sources, manifest),
                places: crate::places::places(sources, manifest),
                sensitive: crate::sensitive::pointers(sources, manifest),
                ..Change::default()
            },
            images: own().collect(),
        }));
    }
    let key = |hook: &OccasionalHook| {
        let id = &hook.change.id;
        (hook.when, hook.weight, rank(id), id.namespace.clone(), id.kind.clone(), id.name.clone(), id.group.clone())
    };
    found.sort_by_cached_key(key);
    found
}

/// Group, kind, namespace and name of an object.
type Key<'a> = (&'a str, &'a str, &'a str, &'a str);

fn key_of(manifest: &Manifest) -> Key<'_> {
    let id = &manifest.id;
    (id.group.as_str(), id.kind.as_str(), id.namespace.as_str(), id.name.as_str())
}

/// The objects of a plan on their way to an order; nodes are places in `members`.
struct Ordering<'a> {
    manifests: &'a [Manifest],
    /// Places in `manifests`, in the order in which they come where nothing else decides.
    members: Vec<usize>,
    /// By node.
    wishes: Vec<Wishes>,
    /// By node.
    external: Vec<Vec<External>>,
    nodes: BTreeMap<Key<'a>, usize>,
    /// RoleBindings and ClusterRoleBindings.
    binders: Vec<usize>,
    findings: Vec<Diagnostic>,
}

impl<'a> Ordering<'a> {
    fn new(manifests: &'a [Manifest], members: Vec<usize>, mut wishes: Vec<Wishes>) -> Self {
        let findings = wishes.iter_mut().flat_map(|wishes| std::mem::take(&mut wishes.findings)).collect();
        let wishes = members.iter().map(|index| std::mem::take(&mut wishes[*index])).collect();
        let nodes = members.iter().enumerate().map(|(node, index)| (key_of(&manifests[*index]), node)).collect();
        let is_binder = |node: &usize| matches!(manifests[members[*node]].kind.kind, "RoleBinding" | "ClusterRoleBinding");
        let binders = (0..members.len()).filter(is_binder).collect();
        Ordering { manifests, external: vec![Vec::new(); members.len()], members, wishes, nodes, binders, findings }
    }

    fn manifest(&self, node: usize) -> &'a Manifest {
        &self.manifests[self.members[node]]
    }

    /// The hooks that the project's file names, in its order.
    fn hooks(&mut self, hooks: &[(Phase, Spanned<String>)]) {
        for (wave, (phase, word)) in (0..).zip(hooks) {
            let need = match need(&word.value) {
                Ok(need) => need,
                Err(message) => {
                    self.findings.push(Diagnostic::error("order-annotation", message).at(word.span));
                    continue;
                }
            };
            let same = |node: &usize| self.is(&need, *node) && need.namespace.as_ref().is_none_or(|namespace| *namespace == self.manifest(*node).id.namespace);
            let Some(node) = (0..self.members.len()).find(same) else {
                let finding = Diagnostic::error("unknown-dependency", format!("the set has no {}/{}", need.kind, need.name)).at(word.span);
                let finding = match self.near(&need, None) {
                    Some(near) => finding.label(format!("did you mean `{near}`?")),
                    None => finding,
                };
                self.findings.push(finding);
                continue;
            };
            let words = if *phase == Phase::Before { "hook before" } else { "hook after" };
            let wishes = &mut self.wishes[node];
            let hook = Hook { phase: *phase, run: HookRun::Changed, delete_succeeded: false, delete_failed: false };
            wishes.hook = Some(Hook { phase: *phase, ..wishes.hook.unwrap_or(hook) });
            wishes.pin = Some(Pin { stage: Stage { phase: *phase, wave }, span: word.span, words: words.to_owned() });
        }
    }

    /// Whether a node has the kind and the name.
    fn is(&self, need: &Need, node: usize) -> bool {
        let manifest = self.manifest(node);
        is_kind(need, manifest.kind) && manifest.id.name == need.name
    }

    /// An object of the set that is called almost like this, as it would be written.
    fn near(&self, need: &Need, namespace: Option<&str>) -> Option<String> {
        let all = || (0..self.members.len()).map(|node| self.manifest(node));
        let of_kind: Vec<&Manifest> = all().filter(|manifest| is_kind(need, manifest.kind)).collect();
        let names = of_kind.iter().filter(|manifest| namespace.is_none_or(|namespace| manifest.id.namespace == namespace));
        if let Some(name) = nearest(&need.name, names.map(|manifest| manifest.id.name.as_str())) {
            return Some(format!("{}/{name}", need.kind));
        }
        // The same name in another namespace, or of another kind.
        let elsewhere =
            of_kind.iter().find(|manifest| manifest.id.name == need.name).map(|manifest| format!("{}/{}/{}", manifest.id.namespace, need.kind, need.name));
        let known_kind = all().any(|manifest| is_kind(need, manifest.kind)) || strake_kinds::table().iter().any(|row| is_kind(need, row));
        let other =
            || all().find(|manifest| manifest.id.name == need.name && !known_kind).map(|manifest| format!("{}/{}", manifest.kind.singular, manifest.id.name));
        elsewhere.or_else(other)
    }

    fn edges(&mut self) -> Vec<graph::Edge> {
        let mut edges = Vec::new();
        for node in 0..self.members.len() {
            self.ground(node, &mut edges);
            self.inferred(node, &mut edges);
            self.explicit(node, &mut edges);
        }
        self.groups(&mut edges);
        edges
    }

    fn find(&self, group: &str, kind: &str, namespace: &str, name: &str) -> Option<usize> {
        self.nodes.get(&(group, kind, namespace, name)).copied()
    }

    /// What it cannot be without: its namespace, and the definition of its kind.
    fn ground(&self, node: usize, edges: &mut Vec<graph::Edge>) {
        let manifest = self.manifest(node);
        let mut hard = |to: Option<usize>, state, span, why: &str| {
            edges.extend(to.map(|to| graph::Edge { from: node, to, state, strength: Strength::Hard, span, why: why.to_owned() }));
        };
        if !manifest.id.namespace.is_empty() {
            hard(self.find("", "Namespace", "", &manifest.id.namespace), Wanted::Present, manifest.span("/metadata/namespace"), "it lives in that namespace");
        }
        if manifest.kind.is_custom() {
            let name = format!("{}.{}", manifest.id.resource, manifest.id.group);
            let definition = self.find("apiextensions.k8s.io", "CustomResourceDefinition", "", &name);
            hard(definition, Wanted::Ready, manifest.span("/kind"), "that defines its kind");
        }
    }

    /// What it names.
    fn inferred(&self, node: usize, edges: &mut Vec<graph::Edge>) {
        let manifest = self.manifest(node);
        for mention in mentions(manifest) {
            let Some(to) = self.find(&mention.group, &mention.kind, &mention.namespace, &mention.name) else { continue };
            let span = manifest.span(&mention.pointer);
            edges.push(graph::Edge { from: node, to, state: mention.state, strength: Strength::Soft, span, why: "it names that".to_owned() });
            if mention.state == Wanted::Ready && mention.kind == "Service" {
                self.behind(node, to, span, edges);
            }
        }
        // Who may do what is settled before pods ask for it.
        if let Some(account) = manifest.pod_spec().map(|spec| spec.get("serviceAccountName").and_then(Value::as_str).unwrap_or("default")) {
            for to in self.bindings(&manifest.id.namespace, account) {
                let span = manifest.span("/metadata/name");
                edges.push(graph::Edge {
                    from: node,
                    to,
                    state: Wanted::Present,
                    strength: Strength::Soft,
                    span,
                    why: "that binds its service account".to_owned(),
                });
            }
        }
    }

    /// The workloads that answer for a Service.
    fn behind(&self, node: usize, service: usize, span: Span, edges: &mut Vec<graph::Edge>) {
        let service = self.manifest(service);
        let Some(selector) = service.at("/spec/selector").and_then(Value::as_object).filter(|selector| !selector.is_empty()) else { return };
        for to in 0..self.members.len() {
            let workload = self.manifest(to);
            let serves = |labels: &serde_json::Map<String, Value>| selector.iter().all(|(key, value)| labels.get(key) == Some(value));
            if workload.id.namespace == service.id.namespace && workload.pod_labels().is_some_and(serves) {
                edges.push(graph::Edge { from: node, to, state: Wanted::Ready, strength: Strength::Soft, span, why: "that answers its requests".to_owned() });
            }
        }
    }

    fn bindings(&self, namespace: &str, account: &str) -> Vec<usize> {
        let binds = |node: &usize| {
            let manifest = self.manifest(*node);
            let meant = |subject: &Value| {
                let home = subject["namespace"].as_str().unwrap_or(manifest.id.namespace.as_str());
                subject["kind"] == "ServiceAccount" && subject["name"] == account && home == namespace
            };
            let mut subjects = manifest.at("/subjects").and_then(Value::as_array).into_iter().flatten();
            (manifest.id.namespace.is_empty() || manifest.id.namespace == namespace) && subjects.any(meant)
        };
        self.binders.iter().copied().filter(binds).collect()
    }

    /// What somebody has said.
    fn explicit(&mut self, node: usize, edges: &mut Vec<graph::Edge>) {
        let manifest = self.manifest(node);
        for (need, span) in self.wishes[node].needs.clone() {
            let namespace = need.namespace.clone().unwrap_or_else(|| manifest.id.namespace.clone());
            let here = |other: &usize| {
                let id = &self.manifest(*other).id;
                self.is(&need, *other) && (id.namespace.is_empty() || id.namespace == namespace)
            };
            match (0..self.members.len()).find(here) {
                Some(to) => {
                    let state = if need.state == Wanted::Complete && !can_complete(self.manifest(to).kind) {
                        let message = format!("{} never completes: only Jobs and Pods do", self.manifest(to).id);
                        self.findings.push(Diagnostic::error("order-annotation", message).at(span).help("write `=ready`"));
                        Wanted::Ready
                    } else {
                        need.state
                    };
                    edges.push(graph::Edge { from: node, to, state, strength: Strength::Explicit, span, why: "it says so".to_owned() });
                }
                None => self.outside(node, &need, &namespace, span),
            }
        }
    }

    /// A dependency that is not in the set: of the cluster, when its kind is known.
    fn outside(&mut self, node: usize, need: &Need, namespace: &str, span: Span) {
        let near = self.near(need, Some(namespace));
        let row = strake_kinds::table().iter().filter(|row| is_kind(need, row)).max_by_key(|row| (row.supported, std::cmp::Reverse(row.group.len())));
        let custom = || self.manifests.iter().map(|manifest| manifest.kind).find(|kind| is_kind(need, kind));
        let Some(kind) = row.or_else(custom) else {
            let finding = Diagnostic::error("unknown-dependency", format!("there is no `{}/{}` in the set, and no kind `{}`", need.kind, need.name, need.kind));
            let kinds = strake_kinds::table().iter().flat_map(|row| [row.singular, row.kind]);
            let kind = || nearest(&need.kind, kinds).map(|kind| format!("{kind}/{}", need.name));
            let finding = finding.at(span);
            self.findings.push(match near.or_else(kind) {
                Some(near) => finding.label(format!("did you mean `{near}`?")),
                None => finding.help("write KIND/NAME, such as deployment/web"),
            });
            return;
        };
        if need.state == Wanted::Complete && !can_complete(kind) {
            let message = format!("a {} never completes: only Jobs and Pods do", kind.kind);
            self.findings.push(Diagnostic::error("order-annotation", message).at(span).help("write `=ready`"));
        }
        let id = ObjectId {
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            kind: kind.kind.to_owned(),
            resource: kind.plural.to_owned(),
            namespace: if kind.namespaced { namespace.to_owned() } else { String::new() },
            name: need.name.clone(),
        };
        if let Some(near) = near {
            let message = format!("{id} is not in the set: it is looked for in the cluster");
            self.findings.push(Diagnostic::warning("external-dependency", message).at(span).label(format!("did you mean `{near}`?")));
        }
        self.external[node].push(External { id, state: need.state });
    }

    /// The rules of kapp's groups.
    fn groups(&mut self, edges: &mut Vec<graph::Edge>) {
        let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (node, wishes) in self.wishes.iter().enumerate() {
            wishes.groups.iter().for_each(|group| members.entry(group).or_default().push(node));
        }
        let mut findings = Vec::new();
        for (node, wishes) in self.wishes.iter().enumerate() {
            for rule in &wishes.rules {
                let others: Vec<usize> = members.get(rule.group.as_str()).into_iter().flatten().copied().filter(|other| *other != node).collect();
                if others.is_empty() {
                    findings.push(Diagnostic::note("order-annotation", format!("no other object is in the group `{}`", rule.group)).at(rule.span));
                }
                edges.extend(others.into_iter().map(|other| {
                    let (from, to) = if rule.before { (other, node) } else { (node, other) };
                    graph::Edge { from, to, state: Wanted::Ready, strength: Strength::Explicit, span: rule.span, why: "a change rule says so".to_owned() }
                }));
            }
        }
        self.findings.extend(findings);
    }

    /// What does not work out.
    fn tell(&mut self, sorted: &graph::Sorted) {
        for cycle in &sorted.cycles {
            let name = |node: usize| self.manifest(node).id.to_string();
            let Some(first) = cycle.first() else { continue };
            let way: Vec<String> = cycle.iter().map(|edge| name(edge.from)).chain([name(first.from)]).collect();
            let message = if cycle.len() == 1 { format!("{} depends on itself", way[0]) } else { format!("these come after each other: {}", way.join(" -> ")) };
            let words = |edge: &graph::Edge| format!("{} comes after {}: {}", name(edge.from), name(edge.to), edge.why);
            let mut finding = Diagnostic::error("dependency-cycle", message).at(first.span).label(words(first));
            for edge in &cycle[1..] {
                finding = finding.related(edge.span, words(edge));
            }
            self.findings.push(finding.help("take one of these dependencies away"));
        }
        for edge in &sorted.dropped {
            let (from, to) = (&self.manifest(edge.from).id, &self.manifest(edge.to).id);
            if from != to {
                let message = format!("{from} may be applied before {to}, although {}: the other order would contradict what must hold", edge.why);
                self.findings.push(Diagnostic::note("dropped-dependency", message).at(edge.span));
            }
        }
    }
}

/// Whether a kind is the one that a person means.
/// Whether an object is a hook: by an annotation, or because the project's file calls it one.
pub fn is_hook(manifest: &Manifest, hooks: &[(Phase, Spanned<String>)]) -> bool {
    let same = |need: &Need| {
        is_kind(need, manifest.kind) && manifest.id.name == need.name && need.namespace.as_ref().is_none_or(|namespace| *namespace == manifest.id.namespace)
    };
    has_hook(manifest) || hooks.iter().any(|(_, word)| need(&word.value).is_ok_and(|need| same(&need)))
}

fn is_kind(need: &Need, kind: &KindInfo) -> bool {
    let word = need.kind.to_lowercase();
    let named = word == kind.kind.to_lowercase() || word == kind.plural || word == kind.singular || kind.short_names.contains(&word.as_str());
    named && need.group.as_ref().is_none_or(|group| group == kind.group)
}

fn can_complete(kind: &KindInfo) -> bool {
    matches!((kind.group, kind.kind), ("batch", "Job") | ("", "Pod"))
}

fn origin(sources: &Sources, manifest: &Manifest) -> String {
    let span = manifest.node.span;
    let file = sources.get(span.file);
    format!("{}:{}", file.name, file.line_column(span.start).line)
}
