//! What refers to something that is not there.

use serde_json::Value;
use strake_deploy::{Manifest, Reference, ReferenceKind, references};
use strake_source::{Diagnostic, nearest};

use super::{Example, Level, Out, Rule, View, items, text};

macro_rules! with_pods {
    ($text:literal) => {
        Example::Objects(concat!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n",
            "    spec: {containers: [{name: web, image: 'web:1'}]}\n---\n",
            $text
        ))
    };
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "dangling-service",
        level: Level::Warning,
        title: "a Service selects no pods",
        text: "No pods of the set have the labels of the Service's selector: connections to it will fail. Compare the selector with the labels of the pod template.",
        bad: with_pods!("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: wep}, ports: [{port: 80}]}\n"),
        good: with_pods!("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n"),
        check: dangling_service,
    },
    Rule {
        code: "dangling-ingress",
        level: Level::Warning,
        title: "an Ingress leads to a Service that is not there",
        text: "The set has no Service of that name in the Ingress' namespace, or the Service has no such port: requests are answered with an error.",
        bad: Example::Objects(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: in}\nspec: {defaultBackend: {service: {name: web, port: {number: 80}}}}\n",
        ),
        good: Example::Objects(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: in}\nspec: {defaultBackend: {service: {name: web, port: {number: 80}}}}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n",
        ),
        check: dangling_ingress,
    },
    Rule {
        code: "dangling-autoscaler",
        level: Level::Warning,
        title: "a HorizontalPodAutoscaler scales something that is not there",
        text: "The set has no object of the kind and name of scaleTargetRef in its namespace.",
        bad: Example::Objects(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: s}\nspec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}\n",
        ),
        good: with_pods!(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: s}\nspec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}\n"
        ),
        check: dangling_autoscaler,
    },
    Rule {
        code: "dangling-network-policy",
        level: Level::Warning,
        title: "a NetworkPolicy selects no pods",
        text: "No pods of the set have the labels of the policy's podSelector: it protects nothing.",
        bad: with_pods!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {matchLabels: {app: wep}}}\n"),
        good: with_pods!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {matchLabels: {app: web}}}\n"),
        check: dangling_policy,
    },
    Rule {
        code: "dangling-disruption-budget",
        level: Level::Warning,
        title: "a PodDisruptionBudget selects no pods",
        text: "No pods of the set have the labels of the budget's selector: it protects nothing.",
        bad: with_pods!(
            "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: b}\nspec: {maxUnavailable: 1, selector: {matchLabels: {app: wep}}}\n"
        ),
        good: with_pods!(
            "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: b}\nspec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}\n"
        ),
        check: dangling_policy_of_disruption,
    },
    Rule {
        code: "missing-reference",
        level: Level::Warning,
        title: "a pod needs an object that is not in the set",
        text: "Pods wait until the ConfigMap, Secret or ServiceAccount exists. If something else makes it, all is well; otherwise add it or mend the name.",
        bad: Example::Container("envFrom: [{configMapRef: {name: settings}}]"),
        good: Example::Container("envFrom: [{configMapRef: {name: settings, optional: true}}]"),
        check: missing_reference,
    },
    Rule {
        code: "missing-key",
        level: Level::Warning,
        title: "a ConfigMap or Secret does not have the key",
        text: "The object is in the set, but without that key: the container does not start. Add the key, mend its name, or mark it as optional.",
        bad: Example::Objects(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {title: x}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: 'c:1', env: [{name: A, valueFrom: {configMapKeyRef: {name: c, key: titel}}}]}]}\n",
        ),
        good: Example::Objects(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {title: x}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: 'c:1', env: [{name: A, valueFrom: {configMapKeyRef: {name: c, key: title}}}]}]}\n",
        ),
        check: missing_key,
    },
    Rule {
        code: "stateful-set-service",
        level: Level::Warning,
        title: "the Service of a StatefulSet is not there, or has an address",
        text: "The names of a StatefulSet's pods come from the headless Service that serviceName names: one with `clusterIP: None`.",
        bad: Example::Objects(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  serviceName: db\n  selector: {matchLabels: {app: db}}\n  template:\n    metadata: {labels: {app: db}}\n    spec: {containers: [{name: db, image: 'db:1'}]}\n",
        ),
        good: Example::Objects(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  serviceName: db\n  selector: {matchLabels: {app: db}}\n  template:\n    metadata: {labels: {app: db}}\n    spec: {containers: [{name: db, image: 'db:1'}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {clusterIP: None, selector: {app: db}, ports: [{port: 5432}]}\n",
        ),
        check: stateful_service,
    },
];

fn dangling_service(view: &View<'_>, out: &mut Out<'_>) {
    for service in view.of("Service") {
        let selector = service.at("/spec/selector").and_then(Value::as_object).filter(|selector| !selector.is_empty());
        let Some(selector) = selector.filter(|_| view.selected(service).is_empty() && !view.has_unsound_pods(&service.id.namespace)) else { continue };
        let shown: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
        let message = format!("{} selects {}, but no pods of this set have these labels", service.id, shown.join(","));
        let near = view.manifests.iter().filter(|other| other.id.namespace == service.id.namespace && other.pod_pointer().is_some());
        let near = near.filter_map(|other| Some((other, other.pod_labels()?))).find(|(_, labels)| selector.keys().any(|key| labels.contains_key(key)));
        out.with(service, "/spec/selector", message, |finding| match near {
            Some((other, _)) => {
                let pointer = format!("{}/labels", other.pod_metadata().unwrap_or_default());
                finding.related(other.span(&pointer), format!("the labels of the pods of {}", other.id))
            }
            None => finding,
        });
    }
}

/// Every backend of an Ingress: the pointer to its `service`.
fn backends(ingress: &Manifest) -> Vec<String> {
    let mut found = Vec::new();
    if ingress.at("/spec/defaultBackend/service").is_some() {
        found.push("/spec/defaultBackend/service".to_owned());
    }
    for (rule, _) in items(ingress, "/spec/rules") {
        let paths = items(ingress, &format!("{rule}/http/paths"));
        found.extend(paths.into_iter().map(|(path, _)| format!("{path}/backend/service")).filter(|pointer| ingress.at(pointer).is_some()));
    }
    found
}

fn dangling_ingress(view: &View<'_>, out: &mut Out<'_>) {
    for ingress in view.of("Ingress") {
        for pointer in backends(ingress) {
            let Some(backend) = ingress.at(&pointer) else { continue };
            let name = text(backend, "name");
            let Some(service) = view.of("Service").find(|service| service.id.namespace == ingress.id.namespace && service.id.name == name) else {
                if !view.exists("Service", &ingress.id.namespace, name) {
                    let names: Vec<&str> = view.of("Service").map(|service| service.id.name.as_str()).collect();
                    out.with(ingress, &format!("{pointer}/name"), format!("there is no Service `{name}` in this set"), |finding| {
                        near(finding, name, names.into_iter())
                    });
                }
                continue;
            };
            let ports = service.at("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
            let wanted = backend.get("port");
            let fits = |port: &Value| match (wanted.and_then(|port| port.get("number")), wanted.and_then(|port| port.get("name"))) {
                (Some(number), _) => port.get("port") == Some(number),
                (None, Some(name)) => port.get("name") == Some(name),
                (None, None) => true,
            };
            if service.at("/spec/type").and_then(Value::as_str) != Some("ExternalName") && !ports.iter().any(fits) {
                let message = format!("{} has no such port", service.id);
                out.with(ingress, &format!("{pointer}/port"), message, |finding| finding.related(service.span("/spec/ports"), "its ports"));
            }
        }
    }
}

fn near<'a>(finding: Diagnostic, name: &str, names: impl Iterator<Item = &'a str>) -> Diagnostic {
    match nearest(name, names) {
        Some(near) => finding.label(format!("did you mean `{near}`?")),
        None => finding,
    }
}

fn dangling_autoscaler(view: &View<'_>, out: &mut Out<'_>) {
    for scaler in view.of("HorizontalPodAutoscaler") {
        let Some(target) = scaler.at("/spec/scaleTargetRef") else { continue };
        let (kind, name) = (text(target, "kind"), text(target, "name"));
        if !view.exists(kind, &scaler.id.namespace, name) {
            let names = view.manifests.iter().filter(|other| other.kind.kind == kind).map(|other| other.id.name.as_str());
            let message = format!("{} scales {kind} `{name}`, which is not in this set", scaler.id);
            out.with(scaler, "/spec/scaleTargetRef/name", message, |finding| near(finding, name, names));
        }
    }
}

fn dangling_policy(view: &View<'_>, out: &mut Out<'_>) {
    selector_without_pods(view, "NetworkPolicy", "/spec/podSelector", out);
}

fn dangling_policy_of_disruption(view: &View<'_>, out: &mut Out<'_>) {
    selector_without_pods(view, "PodDisruptionBudget", "/spec/selector", out);
}

fn selector_without_pods(view: &View<'_>, kind: &'static str, pointer: &str, out: &mut Out<'_>) {
    for policy in view.of(kind) {
        let selector = policy.at(pointer);
        let plain = selector.is_some_and(|selector| selector.get("matchExpressions").is_none());
        let labels = selector.and_then(|selector| selector.get("matchLabels")).and_then(Value::as_object).filter(|labels| !labels.is_empty() && plain);
        let Some(labels) = labels else { continue };
        if view.with_labels(&policy.id.namespace, labels).is_empty() && !view.has_unsound_pods(&policy.id.namespace) {
            out.at(policy, pointer, format!("{} selects no pods of this set", policy.id));
        }
    }
}

fn each_reference<'a>(view: &View<'a>) -> impl Iterator<Item = (&'a Manifest, Reference)> {
    view.manifests.iter().flat_map(|manifest| references(manifest).into_iter().filter(|reference| !reference.optional).map(|reference| (*manifest, reference)))
}

fn missing_reference(view: &View<'_>, out: &mut Out<'_>) {
    for (manifest, reference) in each_reference(view) {
        let kind = reference.kind.kind();
        if view.exists(kind, &manifest.id.namespace, &reference.name) {
            continue;
        }
        let names = view.all.iter().filter(|other| other.kind.kind == kind && other.id.namespace == manifest.id.namespace).map(|other| other.id.name.as_str());
        let message = format!("{} needs {kind} `{}`, which is not in this set", manifest.id, reference.name);
        out.with(manifest, &reference.pointer, message, |finding| match nearest(&reference.name, names) {
            Some(near) => finding.label(format!("did you mean `{near}`?")),
            None => finding.label("its pods wait until it exists"),
        });
    }
}

fn missing_key(view: &View<'_>, out: &mut Out<'_>) {
    for (manifest, reference) in each_reference(view) {
        let Some(key) = reference.key.as_deref() else { continue };
        let fields: &[&str] = match reference.kind {
            ReferenceKind::ConfigMap => &["data", "binaryData"],
            ReferenceKind::Secret => &["data", "stringData"],
            ReferenceKind::ServiceAccount => continue,
        };
        let target = view.of(reference.kind.kind()).find(|other| other.id.namespace == manifest.id.namespace && other.id.name == reference.name);
        let Some(target) = target else { continue };
        let maps = fields.iter().filter_map(|field| target.value.get(*field).and_then(Value::as_object));
        let keys: Vec<&str> = maps.flat_map(|map| map.keys().map(String::as_str)).collect();
        if keys.contains(&key) {
            continue;
        }
        out.with(manifest, &reference.pointer, format!("{} has no key `{key}`", target.id), |finding| {
            let finding = finding.related(target.span("/metadata/name"), "this one is meant");
            match nearest(key, keys) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding,
            }
        });
    }
}

fn stateful_service(view: &View<'_>, out: &mut Out<'_>) {
    for set in view.of("StatefulSet") {
        let name = set.at("/spec/serviceName").and_then(Value::as_str).unwrap_or_default();
        if name.is_empty() {
            continue;
        }
        let service = view.of("Service").find(|service| service.id.namespace == set.id.namespace && service.id.name == name);
        match service {
            Some(service) if service.at("/spec/clusterIP").and_then(Value::as_str) != Some("None") => {
                let message = format!("{} has an address of its own: the pods of {} get no names", service.id, set.id);
                out.with(set, "/spec/serviceName", message, |finding| finding.related(service.span("/spec"), "write `clusterIP: None` here"));
            }
            None if !view.exists("Service", &set.id.namespace, name) => {
                out.at(set, "/spec/serviceName", format!("there is no Service `{name}` in this set: the pods of {} get no names", set.id));
            }
            _ => {}
        }
    }
}
