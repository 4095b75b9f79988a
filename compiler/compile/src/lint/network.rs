//! Ports, Services and what can be reached.

use serde_json::{Map, Value};
use strake_deploy::Manifest;
use strake_source::{Diagnostic, nearest};

use super::{Example, Level, Out, Rule, View, items, text};

macro_rules! served {
    ($ports:literal, $service:literal) => {
        Example::Objects(concat!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n",
            "    spec: {containers: [{name: web, image: 'web:1', ports: ",
            $ports,
            "}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [",
            $service,
            "]}\n"
        ))
    };
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "unknown-port",
        level: Level::Warning,
        title: "a port's name that no container has",
        text: "A Service's targetPort or a probe names a port that no container of the pods declares. Name the port there, or use its number.",
        bad: served!("[{name: http, containerPort: 80}]", "{port: 80, targetPort: htpp}"),
        good: served!("[{name: http, containerPort: 80}]", "{port: 80, targetPort: http}"),
        check: unknown_port,
    },
    Rule {
        code: "undeclared-port",
        level: Level::Note,
        title: "a Service sends to a port that no container declares",
        text: "Containers may listen on ports that they don't declare, but a declared list without the number that a Service sends to is most often a mistake.",
        bad: served!("[{containerPort: 8080}]", "{port: 80, targetPort: 8081}"),
        good: served!("[{containerPort: 8080}]", "{port: 80, targetPort: 8080}"),
        check: undeclared_port,
    },
    Rule {
        code: "ssh-port",
        level: Level::Note,
        title: "a container listens for SSH",
        text: "A shell in a container is given by `strake exec` or `kubectl exec`, with the cluster's own authentication. Leave port 22 out.",
        bad: Example::Container("ports: [{containerPort: 22}]"),
        good: Example::Container("ports: [{containerPort: 2022}]"),
        check: ssh_port,
    },
    Rule {
        code: "host-port",
        level: Level::Note,
        title: "a port of the node itself",
        text: "hostPort lets one pod a node use the port, and goes around network policies. A Service of type NodePort or LoadBalancer does not.",
        bad: Example::Container("ports: [{containerPort: 80, hostPort: 80}]"),
        good: Example::Container("ports: [{containerPort: 80}]"),
        check: host_port,
    },
    Rule {
        code: "privileged-port",
        level: Level::Off,
        title: "a port below 1024",
        text: "A process that is not root cannot listen there without a capability. Listen on a higher port: the Service's port is another number.",
        bad: Example::Container("ports: [{containerPort: 80}]"),
        good: Example::Container("ports: [{containerPort: 8080}]"),
        check: privileged_port,
    },
    Rule {
        code: "ingress-without-tls",
        level: Level::Note,
        title: "an Ingress without TLS",
        text: "What goes through it is readable on the way. Give it `tls` with a Secret, or say that TLS ends before it with the annotation strake.dev/allow.",
        bad: Example::Objects("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: in}\nspec: {rules: [{host: a.example}]}\n"),
        good: Example::Objects(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: in}\nspec: {rules: [{host: a.example}], tls: [{hosts: [a.example], secretName: t}]}\n",
        ),
        check: ingress_tls,
    },
    Rule {
        code: "external-ips",
        level: Level::Warning,
        title: "a Service takes addresses of others",
        text: "With externalIPs a Service receives what is sent to any address, which can be used to listen to others (CVE-2020-8554). Use NodePort or LoadBalancer.",
        bad: Example::Objects("apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {externalIPs: [192.0.2.1], ports: [{port: 80}]}\n"),
        good: Example::Objects("apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {type: NodePort, ports: [{port: 80}]}\n"),
        check: external_ips,
    },
];

fn port_names<'a>(container: &'a Map<String, Value>) -> impl Iterator<Item = &'a str> + use<'a> {
    let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
    ports.filter_map(|port| port.get("name")?.as_str())
}

fn unknown_port(view: &View<'_>, out: &mut Out<'_>) {
    view.of("Service").for_each(|service| targets(view, service, out));
    for place in view.containers() {
        let names: Vec<&str> = port_names(place.container).collect();
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            for way in ["httpGet", "tcpSocket"] {
                let Some(port) = place.get(&format!("/{probe}/{way}/port")).and_then(Value::as_str).filter(|port| !names.contains(port)) else { continue };
                let message = format!("the {probe} asks port `{port}`, but the container has no port of this name");
                out.with(place.manifest, &format!("{}/{probe}/{way}/port", place.pointer), message, |finding| hint(finding, port, &names));
            }
        }
    }
}

fn targets(view: &View<'_>, service: &Manifest, out: &mut Out<'_>) {
    let selected = view.selected(service);
    if selected.is_empty() {
        return;
    }
    let containers: Vec<_> = selected.iter().flat_map(|manifest| manifest.containers()).collect();
    let names: Vec<&str> = containers.iter().flat_map(|(_, container)| port_names(container)).collect();
    for (pointer, port) in items(service, "/spec/ports") {
        let target = text(port, "targetPort");
        if target.is_empty() || names.contains(&target) {
            continue;
        }
        let message = format!("{} sends to port `{target}`, but no container it selects has a port of this name", service.id);
        out.with(service, &format!("{pointer}/targetPort"), message, |finding| hint(finding, target, &names));
    }
}

fn hint(finding: Diagnostic, name: &str, names: &[&str]) -> Diagnostic {
    match nearest(name, names.iter().copied()) {
        Some(near) => finding.label(format!("did you mean `{near}`?")),
        None if names.is_empty() => finding.help("give the port a name, or use its number"),
        None => finding.help(format!("ports with a name: {}", names.join(", "))),
    }
}

fn undeclared_port(view: &View<'_>, out: &mut Out<'_>) {
    for service in view.of("Service") {
        let selected = view.selected(service);
        let containers: Vec<_> = selected.iter().flat_map(|manifest| manifest.containers()).collect();
        let ports = containers.iter().flat_map(|(_, container)| container.get("ports").and_then(Value::as_array).into_iter().flatten());
        let declared: Vec<i64> = ports.filter_map(|port| port.get("containerPort")?.as_i64()).collect();
        if declared.is_empty() {
            continue;
        }
        for (pointer, port) in items(service, "/spec/ports") {
            let (field, target) = match port.get("targetPort") {
                Some(target) => ("targetPort", target.as_i64()),
                None => ("port", port.get("port").and_then(Value::as_i64)),
            };
            if let Some(target) = target.filter(|target| !declared.contains(target)) {
                let shown: Vec<String> = declared.iter().map(i64::to_string).collect();
                let message = format!("{} sends to port {target}; the containers it selects declare {}", service.id, shown.join(", "));
                out.at(service, &format!("{pointer}/{field}"), message);
            }
        }
    }
}

/// Each declared port of each container, with its number in `field`.
fn each_port(view: &View<'_>, field: &str, mut report: impl FnMut(&Manifest, String, i64)) {
    for place in view.containers() {
        for (pointer, port) in items(place.manifest, &format!("{}/ports", place.pointer)) {
            if let Some(number) = port.get(field).and_then(Value::as_i64).filter(|number| *number != 0) {
                report(place.manifest, format!("{pointer}/{field}"), number);
            }
        }
    }
}

fn ssh_port(view: &View<'_>, out: &mut Out<'_>) {
    each_port(view, "containerPort", |manifest, pointer, number| {
        if number == 22 {
            out.at(manifest, &pointer, "the container listens for SSH");
        }
    });
}

fn host_port(view: &View<'_>, out: &mut Out<'_>) {
    each_port(view, "hostPort", |manifest, pointer, number| out.at(manifest, &pointer, format!("port {number} of the node is taken by one pod")));
}

fn privileged_port(view: &View<'_>, out: &mut Out<'_>) {
    each_port(view, "containerPort", |manifest, pointer, number| {
        if number < 1024 {
            out.at(manifest, &pointer, format!("port {number} is for root only"));
        }
    });
}

fn ingress_tls(view: &View<'_>, out: &mut Out<'_>) {
    for ingress in view.of("Ingress").filter(|ingress| items(ingress, "/spec/tls").is_empty()) {
        out.at(ingress, "/spec", format!("{} has no TLS", ingress.id));
    }
}

fn external_ips(view: &View<'_>, out: &mut Out<'_>) {
    for service in view.of("Service").filter(|service| !items(service, "/spec/externalIPs").is_empty()) {
        out.at(service, "/spec/externalIPs", format!("{} takes addresses that may be others'", service.id));
    }
}
