//! Probes.

use serde_json::Value;

use super::{Example, Level, Out, Place, Rule, View};

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "no-readiness-probe",
        level: Level::Note,
        title: "a container gets traffic before it says that it is ready",
        text: "Without a readinessProbe a container is ready as soon as it runs: a rollout goes on, and requests arrive, before it answers.",
        bad: Example::Objects(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {app: p}}\nspec: {containers: [{name: c, image: 'c:1', ports: [{containerPort: 80}]}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {app: p}, ports: [{port: 80}]}\n",
        ),
        good: Example::Objects(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {app: p}}\nspec: {containers: [{name: c, image: 'c:1', ports: [{containerPort: 80}], readinessProbe: {tcpSocket: {port: 80}}}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {app: p}, ports: [{port: 80}]}\n",
        ),
        check: no_readiness,
    },
    Rule {
        code: "no-liveness-probe",
        level: Level::Off,
        title: "a container that hangs is not restarted",
        text: "A livenessProbe restarts a container that no longer answers. Give it one that fails only when a restart helps.",
        bad: Example::Container("ports: [{containerPort: 80}]"),
        good: Example::Container("livenessProbe: {tcpSocket: {port: 80}}"),
        check: no_liveness,
    },
    Rule {
        code: "same-probes",
        level: Level::Note,
        title: "readiness and liveness ask the same",
        text: "A container that is busy is then restarted instead of spared. Let the livenessProbe ask less, or fail later.",
        bad: Example::Container("readinessProbe: {tcpSocket: {port: 80}}\nlivenessProbe: {tcpSocket: {port: 80}}"),
        good: Example::Container("readinessProbe: {tcpSocket: {port: 80}}\nlivenessProbe: {tcpSocket: {port: 80}, failureThreshold: 10}"),
        check: same,
    },
    Rule {
        code: "probe-port",
        level: Level::Warning,
        title: "a probe asks a port that the container does not declare",
        text: "The container declares its ports, and this one is not among them: the probe most likely fails for ever.",
        bad: Example::Container("ports: [{containerPort: 8080}]\nreadinessProbe: {httpGet: {port: 8081}}"),
        good: Example::Container("ports: [{containerPort: 8080}]\nreadinessProbe: {httpGet: {port: 8080}}"),
        check: port,
    },
];

const PROBES: [&str; 3] = ["readinessProbe", "livenessProbe", "startupProbe"];

fn no_readiness(view: &View<'_>, out: &mut Out<'_>) {
    let mut seen = Vec::new();
    for service in view.of("Service") {
        for manifest in view.selected(service) {
            for (pointer, container) in manifest.containers() {
                let place = Place { manifest, pointer, container };
                let listens = container.get("ports").and_then(Value::as_array).is_some_and(|ports| !ports.is_empty());
                let span = manifest.span(&format!("{}/name", place.pointer));
                if !place.is_main() || !listens || container.contains_key("readinessProbe") || seen.contains(&span) {
                    continue;
                }
                seen.push(span);
                let message = format!("container `{}` gets traffic of {} as soon as it starts: it has no readinessProbe", place.name(), service.id);
                place.report(out, "/name", message, "a readinessProbe keeps traffic away until it answers");
            }
        }
    }
}

fn no_liveness(view: &View<'_>, out: &mut Out<'_>) {
    for place in view.containers().filter(|place| place.is_main() && !matches!(place.manifest.kind.kind, "Job" | "CronJob")) {
        if !place.container.contains_key("livenessProbe") {
            place.report(out, "/name", format!("container `{}` has no livenessProbe", place.name()), "");
        }
    }
}

fn same(view: &View<'_>, out: &mut Out<'_>) {
    for place in view.containers() {
        if let (Some(ready), Some(live)) = (place.container.get("readinessProbe"), place.container.get("livenessProbe"))
            && ready == live
        {
            place.report(out, "/livenessProbe", "liveness and readiness are the same", "let the livenessProbe fail later: a higher failureThreshold");
        }
    }
}

fn port(view: &View<'_>, out: &mut Out<'_>) {
    for place in view.containers() {
        let ports = place.container.get("ports").and_then(Value::as_array).into_iter().flatten();
        let declared: Vec<i64> = ports.filter_map(|port| port.get("containerPort")?.as_i64()).collect();
        for probe in PROBES {
            for way in ["httpGet", "tcpSocket", "grpc"] {
                let pointer = format!("/{probe}/{way}/port");
                let asked = place.get(&pointer).and_then(Value::as_i64);
                // An address of its own need not be the container's.
                let elsewhere = place.get(&format!("/{probe}/{way}/host")).is_some();
                if let Some(asked) = asked.filter(|asked| !declared.is_empty() && !declared.contains(asked) && !elsewhere) {
                    let shown: Vec<String> = declared.iter().map(i64::to_string).collect();
                    place.report(out, &pointer, format!("the {probe} asks port {asked}; the container declares {}", shown.join(", ")), "");
                }
            }
        }
    }
}
