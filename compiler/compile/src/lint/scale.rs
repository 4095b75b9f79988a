//! How many pods there are, and how many may be away.

use serde_json::{Map, Value};
use strake_deploy::Manifest;

use super::{Example, Level, Out, Rule, View};

macro_rules! deployment {
    ($spec:literal, $more:literal) => {
        Example::Objects(concat!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n",
            $spec,
            "  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: web, image: 'web:1'}]}\n",
            $more
        ))
    };
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "budget-blocks-eviction",
        level: Level::Warning,
        title: "a PodDisruptionBudget lets no pod go",
        text: "With maxUnavailable 0, or with as many pods wanted as there are, a node can never be drained. Let at least one pod be away.",
        bad: deployment!(
            "  replicas: 2\n",
            "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: b}\nspec: {minAvailable: 2, selector: {matchLabels: {app: web}}}\n"
        ),
        good: deployment!(
            "  replicas: 2\n",
            "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: b}\nspec: {minAvailable: 1, selector: {matchLabels: {app: web}}}\n"
        ),
        check: budget,
    },
    Rule {
        code: "budget-above-autoscaler",
        level: Level::Warning,
        title: "a PodDisruptionBudget wants as many pods as an autoscaler may leave",
        text: "When the autoscaler is at its minReplicas, no pod may go, and a node can never be drained. Let minReplicas be greater than minAvailable.",
        bad: deployment!(
            "",
            "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: b}\nspec: {minAvailable: 2, selector: {matchLabels: {app: web}}}\n---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: s}\nspec: {maxReplicas: 5, minReplicas: 2, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}\n"
        ),
        good: deployment!(
            "",
            "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: b}\nspec: {minAvailable: 2, selector: {matchLabels: {app: web}}}\n---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: s}\nspec: {maxReplicas: 5, minReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}\n"
        ),
        check: budget_above_autoscaler,
    },
    Rule {
        code: "budget-keeps-unhealthy",
        level: Level::Off,
        title: "a PodDisruptionBudget protects pods that are not healthy",
        text: "Without `unhealthyPodEvictionPolicy: AlwaysAllow` a pod that crashes keeps its node from being drained.",
        bad: Example::Objects(
            "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: b}\nspec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}\n",
        ),
        good: Example::Objects(
            "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: b}\nspec: {maxUnavailable: 1, unhealthyPodEvictionPolicy: AlwaysAllow, selector: {matchLabels: {app: web}}}\n",
        ),
        check: unhealthy,
    },
    Rule {
        code: "replicas-with-autoscaler",
        level: Level::Warning,
        title: "replicas are set although an autoscaler sets them too",
        text: "Every apply would take the number back. Leave spec.replicas out of what a HorizontalPodAutoscaler scales.",
        bad: deployment!(
            "  replicas: 2\n",
            "---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: s}\nspec: {maxReplicas: 5, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}\n"
        ),
        good: deployment!(
            "",
            "---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: s}\nspec: {maxReplicas: 5, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}\n"
        ),
        check: replicas_with_autoscaler,
    },
    Rule {
        code: "autoscaler-minimum",
        level: Level::Off,
        title: "an autoscaler that goes below three pods",
        text: "One or two pods do not survive the loss of a node without a gap. Set minReplicas to 3 where that matters.",
        bad: Example::Objects(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: s}\nspec: {maxReplicas: 5, minReplicas: 1, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}\n",
        ),
        good: Example::Objects(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: s}\nspec: {maxReplicas: 5, minReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}\n",
        ),
        check: autoscaler_minimum,
    },
    Rule {
        code: "few-replicas",
        level: Level::Off,
        title: "a Deployment with less than three pods",
        text: "One or two pods do not survive the loss of a node without a gap. Set replicas to 3 where that matters.",
        bad: deployment!("  replicas: 2\n", ""),
        good: deployment!("  replicas: 3\n", ""),
        check: few_replicas,
    },
    Rule {
        code: "no-rolling-update",
        level: Level::Note,
        title: "a Deployment that stops before it starts anew",
        text: "With the strategy Recreate nothing answers while a new version starts. It is right where two versions must not run together.",
        bad: deployment!("  replicas: 3\n  strategy: {type: Recreate}\n", ""),
        good: deployment!("  replicas: 3\n", ""),
        check: no_rolling_update,
    },
    Rule {
        code: "no-anti-affinity",
        level: Level::Off,
        title: "all pods may be on one node",
        text: "Pod anti-affinity or topologySpreadConstraints keep the pods of one Deployment on different nodes.",
        bad: deployment!("  replicas: 3\n", ""),
        good: Example::Objects(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 3\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}]\n      containers: [{name: web, image: 'web:1'}]\n",
        ),
        check: no_anti_affinity,
    },
    Rule {
        code: "no-topology-spread",
        level: Level::Off,
        title: "nothing is said about how pods are spread",
        text: "topologySpreadConstraints spread pods over zones and nodes also where there are more pods than nodes, which anti-affinity alone does not.",
        bad: deployment!("  replicas: 3\n", ""),
        good: Example::Objects(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 3\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}]\n      containers: [{name: web, image: 'web:1'}]\n",
        ),
        check: no_topology_spread,
    },
];

fn replicas(manifest: &Manifest) -> i64 {
    manifest.at("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

/// A number, or the part of a whole in percent, rounded up.
fn amount(value: &Value, whole: i64) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            Some((percent * whole + 99) / 100)
        }
        _ => None,
    }
}

fn budget(view: &View<'_>, out: &mut Out<'_>) {
    for budget in view.of("PodDisruptionBudget") {
        let labels = budget.at("/spec/selector/matchLabels").and_then(Value::as_object);
        let targets = labels.map(|labels: &Map<String, Value>| view.with_labels(&budget.id.namespace, labels)).unwrap_or_default();
        let pods: i64 = targets.iter().map(|manifest| replicas(manifest)).sum();
        if let Some(away) = budget.at("/spec/maxUnavailable").and_then(|value| amount(value, pods.max(1)))
            && away == 0
        {
            out.at(budget, "/spec/maxUnavailable", format!("{} lets no pod go: a node can never be drained", budget.id));
        }
        if let Some(wanted) = budget.at("/spec/minAvailable").and_then(|value| amount(value, pods))
            && pods > 0
            && wanted >= pods
            && !targets.iter().any(|target| least(view, target).is_some())
        {
            out.at(budget, "/spec/minAvailable", format!("{} wants {wanted} of {pods} pods: a node can never be drained", budget.id));
        }
    }
}

/// The least that autoscalers leave of an object, when one scales it.
fn least(view: &View<'_>, target: &Manifest) -> Option<i64> {
    let scales = |scaler: &&Manifest| {
        let reference = |field: &str| scaler.at(&format!("/spec/scaleTargetRef/{field}")).and_then(Value::as_str).unwrap_or_default();
        target.kind.kind == reference("kind") && target.id.name == reference("name") && target.id.namespace == scaler.id.namespace
    };
    let scaler = view.of("HorizontalPodAutoscaler").find(scales)?;
    Some(scaler.at("/spec/minReplicas").and_then(Value::as_i64).unwrap_or(1))
}

fn budget_above_autoscaler(view: &View<'_>, out: &mut Out<'_>) {
    for budget in view.of("PodDisruptionBudget") {
        let labels = budget.at("/spec/selector/matchLabels").and_then(Value::as_object);
        let targets = labels.map(|labels: &Map<String, Value>| view.with_labels(&budget.id.namespace, labels)).unwrap_or_default();
        let [target] = targets.as_slice() else { continue };
        let (Some(least), Some(wanted)) = (least(view, target), budget.at("/spec/minAvailable")) else { continue };
        if let Some(wanted) = amount(wanted, least).filter(|wanted| *wanted >= least) {
            out.at(budget, "/spec/minAvailable", format!("{} wants {wanted} pods of {}, and its autoscaler may leave {least}", budget.id, target.id));
        }
    }
}

fn unhealthy(view: &View<'_>, out: &mut Out<'_>) {
    for budget in view.of("PodDisruptionBudget") {
        if budget.at("/spec/unhealthyPodEvictionPolicy").and_then(Value::as_str) != Some("AlwaysAllow") {
            out.at(budget, "/spec", format!("{} keeps pods that are not healthy", budget.id));
        }
    }
}

fn replicas_with_autoscaler(view: &View<'_>, out: &mut Out<'_>) {
    for scaler in view.of("HorizontalPodAutoscaler") {
        let reference = |field: &str| scaler.at(&format!("/spec/scaleTargetRef/{field}")).and_then(Value::as_str).unwrap_or_default();
        let scaled =
            |other: &&&Manifest| other.kind.kind == reference("kind") && other.id.name == reference("name") && other.id.namespace == scaler.id.namespace;
        for target in view.manifests.iter().filter(scaled).filter(|target| target.at("/spec/replicas").is_some()) {
            let message = format!("{} is scaled by {}: every apply takes the number back", target.id, scaler.id);
            out.with(target, "/spec/replicas", message, |finding| finding.related(scaler.span("/spec/scaleTargetRef"), "this scales it"));
        }
    }
}

fn autoscaler_minimum(view: &View<'_>, out: &mut Out<'_>) {
    for scaler in view.of("HorizontalPodAutoscaler") {
        if scaler.at("/spec/minReplicas").and_then(Value::as_i64).unwrap_or(1) < 3 {
            out.at(scaler, "/spec/minReplicas", format!("{} goes below three pods", scaler.id));
        }
    }
}

fn few_replicas(view: &View<'_>, out: &mut Out<'_>) {
    for deployment in view.of("Deployment").filter(|deployment| replicas(deployment) < 3) {
        out.at(deployment, "/spec/replicas", format!("{} has {} pods", deployment.id, replicas(deployment)));
    }
}

fn no_rolling_update(view: &View<'_>, out: &mut Out<'_>) {
    for deployment in view.of("Deployment").filter(|deployment| replicas(deployment) > 1) {
        if deployment.at("/spec/strategy/type").and_then(Value::as_str) == Some("Recreate") {
            out.at(deployment, "/spec/strategy/type", format!("{} stops all its pods before it starts new ones", deployment.id));
        }
    }
}

fn no_topology_spread(view: &View<'_>, out: &mut Out<'_>) {
    for deployment in view.of("Deployment").filter(|deployment| replicas(deployment) > 1) {
        if !deployment.pod_spec().is_some_and(|spec| spec.contains_key("topologySpreadConstraints")) {
            out.at(deployment, "/spec/template/spec", format!("nothing says how the pods of {} are spread", deployment.id));
        }
    }
}

fn no_anti_affinity(view: &View<'_>, out: &mut Out<'_>) {
    for deployment in view.of("Deployment").filter(|deployment| replicas(deployment) > 1) {
        let spec = deployment.pod_spec();
        let spread = spec.is_some_and(|spec| spec.contains_key("topologySpreadConstraints"));
        let apart = deployment.at("/spec/template/spec/affinity/podAntiAffinity").is_some();
        if !spread && !apart {
            out.at(deployment, "/spec/template/spec", format!("the pods of {} may all be on one node", deployment.id));
        }
    }
}
