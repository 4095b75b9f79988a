//! Containers, their resources, and how pods end.

use std::collections::HashMap;

use serde_json::Value;
use strake_words::Reference;

use super::{Example, Level, Out, Rule, View};

macro_rules! job {
    ($spec:literal) => {
        Example::Objects(concat!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec:\n",
            $spec,
            "  template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'c:1'}]}}\n"
        ))
    };
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "latest-tag",
        level: Level::Warning,
        title: "an image under a name whose meaning changes",
        text: "Without a tag, or with `latest`, the same manifest runs another program tomorrow, and a rollback runs the new one. Name a version or a digest.",
        bad: Example::Objects("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: nginx}]}\n"),
        good: Example::Objects("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: 'nginx:1.29'}]}\n"),
        check: latest,
    },
    Rule {
        code: "no-memory-limit",
        level: Level::Off,
        title: "a container may use all memory of the node",
        text: "Without a limit a leak takes the node's memory, and others are ended for it.",
        bad: Example::Container("resources: {}"),
        good: Example::Container("resources: {limits: {memory: 64Mi}}"),
        check: memory_limit,
    },
    Rule {
        code: "no-memory-request",
        level: Level::Off,
        title: "a container does not say how much memory it needs",
        text: "The scheduler places it as if it needed none, and it is among the first to be ended when memory is short.",
        bad: Example::Container("resources: {}"),
        good: Example::Container("resources: {requests: {memory: 64Mi}}"),
        check: memory_request,
    },
    Rule {
        code: "no-cpu-request",
        level: Level::Off,
        title: "a container does not say how much of a processor it needs",
        text: "The scheduler places it as if it needed none, and it gets what others leave over.",
        bad: Example::Container("resources: {}"),
        good: Example::Container("resources: {requests: {cpu: 10m}}"),
        check: cpu_request,
    },
    Rule {
        code: "no-ephemeral-storage-request",
        level: Level::Off,
        title: "a container does not say how much disk it needs",
        text: "A container that writes much can fill the node's disk. Request ephemeral-storage, and limit it.",
        bad: Example::Container("resources: {}"),
        good: Example::Container("resources: {requests: {ephemeral-storage: 1Gi}}"),
        check: storage_request,
    },
    Rule {
        code: "deprecated-service-account",
        level: Level::Warning,
        title: "the old name of serviceAccountName",
        text: "`serviceAccount` is an alias that will go. Write `serviceAccountName`.",
        bad: Example::Pod("serviceAccount: default"),
        good: Example::Pod("serviceAccountName: default"),
        check: old_account,
    },
    Rule {
        code: "bare-pod",
        level: Level::Note,
        title: "a pod that nobody replaces",
        text: "When its node goes, so does the pod. A Deployment, StatefulSet, DaemonSet or Job makes a new one.",
        bad: Example::Objects("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: 'c:1'}]}\n"),
        good: Example::Container("command: [run]"),
        check: bare,
    },
    Rule {
        code: "job-time-to-live",
        level: Level::Note,
        title: "a Job that is never cleaned up",
        text: "A finished Job stays with its pods until somebody deletes it. ttlSecondsAfterFinished does so by itself.",
        bad: job!(""),
        good: job!("  ttlSecondsAfterFinished: 600\n"),
        check: job_ttl,
    },
    Rule {
        code: "cron-job-deadline",
        level: Level::Note,
        title: "a CronJob without a starting deadline",
        text: "After more than 100 missed starts such a CronJob never starts again. Set startingDeadlineSeconds.",
        bad: Example::Objects(
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\nspec:\n  schedule: '0 0 * * *'\n  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'c:1'}]}}}}\n",
        ),
        good: Example::Objects(
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\nspec:\n  schedule: '0 0 * * *'\n  startingDeadlineSeconds: 300\n  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'c:1'}]}}}}\n",
        ),
        check: cron_deadline,
    },
    Rule {
        code: "no-grace",
        level: Level::Warning,
        title: "pods that are ended at once",
        text: "With terminationGracePeriodSeconds 0 a container gets no time to finish what it does, and the pod is forgotten before it is gone.",
        bad: Example::Pod("terminationGracePeriodSeconds: 0"),
        good: Example::Pod("terminationGracePeriodSeconds: 10"),
        check: grace,
    },
    Rule {
        code: "unused-volume",
        level: Level::Warning,
        title: "a volume that no container mounts",
        text: "The pod waits for its volumes although nothing uses this one. Mount it, or take it out.",
        bad: Example::Pod("volumes: [{name: cache, emptyDir: {}}]"),
        good: Example::Objects(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: 'c:1', volumeMounts: [{name: cache, mountPath: /cache}]}], volumes: [{name: cache, emptyDir: {}}]}\n",
        ),
        check: unused_volume,
    },
    Rule {
        code: "default-namespace",
        level: Level::Off,
        title: "an object in the namespace `default`",
        text: "A namespace of its own keeps an application's names, rights and limits apart from others'.",
        bad: Example::Objects("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"),
        good: Example::Objects("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop}\n"),
        check: default_namespace,
    },
];

fn latest(view: &View<'_>, out: &mut Out<'_>) {
    let moves = |reference: Reference| reference.digest.is_none() && reference.tag.as_deref().is_none_or(|tag| tag == "latest");
    // Many containers run few images.
    let mut known: HashMap<&str, bool> = HashMap::new();
    for place in view.containers() {
        let image = place.get("/image").and_then(Value::as_str).unwrap_or_default();
        if *known.entry(image).or_insert_with(|| Reference::parse(image).is_ok_and(moves)) && !view.built.contains_key(image) {
            let message = format!("`{image}` means another image whenever its tag moves, and no Dockerfile here builds it");
            place.report(out, "/image", message, "name a version, or pin it by digest");
        }
    }
}

/// Main containers that lack an amount.
fn without(view: &View<'_>, out: &mut Out<'_>, pointers: &[&str], message: &str) {
    for place in view.containers().filter(|place| place.is_main()) {
        if pointers.iter().all(|pointer| place.get(pointer).is_none()) {
            place.report(out, "/resources", format!("container `{}` {message}", place.name()), "");
        }
    }
}

fn memory_limit(view: &View<'_>, out: &mut Out<'_>) {
    without(view, out, &["/resources/limits/memory"], "has no limit of memory");
}

fn memory_request(view: &View<'_>, out: &mut Out<'_>) {
    without(view, out, &["/resources/requests/memory", "/resources/limits/memory"], "requests no memory");
}

fn cpu_request(view: &View<'_>, out: &mut Out<'_>) {
    without(view, out, &["/resources/requests/cpu", "/resources/limits/cpu"], "requests no part of a processor");
}

fn storage_request(view: &View<'_>, out: &mut Out<'_>) {
    without(view, out, &["/resources/requests/ephemeral-storage", "/resources/limits/ephemeral-storage"], "requests no disk");
}

fn old_account(view: &View<'_>, out: &mut Out<'_>) {
    for (manifest, pointer, spec) in view.pods() {
        if spec.contains_key("serviceAccount") && !spec.contains_key("serviceAccountName") {
            out.at(manifest, &format!("{pointer}/serviceAccount"), "`serviceAccount` is the old name of `serviceAccountName`");
        }
    }
}

fn bare(view: &View<'_>, out: &mut Out<'_>) {
    for pod in view.of("Pod").filter(|pod| !view.is_hook(pod)) {
        out.at(pod, "/kind", format!("nobody makes {} anew when its node goes", pod.id));
    }
}

fn job_ttl(view: &View<'_>, out: &mut Out<'_>) {
    for job in view.of("Job").filter(|job| job.at("/spec/ttlSecondsAfterFinished").is_none()) {
        out.at(job, "/spec", format!("{} stays when it has finished", job.id));
    }
}

fn cron_deadline(view: &View<'_>, out: &mut Out<'_>) {
    for job in view.of("CronJob").filter(|job| job.at("/spec/startingDeadlineSeconds").is_none()) {
        out.at(job, "/spec", format!("{} has no starting deadline", job.id));
    }
}

fn grace(view: &View<'_>, out: &mut Out<'_>) {
    for (manifest, pointer, spec) in view.pods() {
        // What runs to its end by itself is not in the middle of serving anybody.
        if spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64) == Some(0) && !view.is_hook(manifest) {
            out.at(manifest, &format!("{pointer}/terminationGracePeriodSeconds"), format!("the pods of {} are ended at once", manifest.id));
        }
    }
}

fn unused_volume(view: &View<'_>, out: &mut Out<'_>) {
    for (manifest, pointer, _) in view.pods() {
        let containers = manifest.containers();
        let used = |name: &str| {
            let uses = |field: &str, container: &serde_json::Map<String, Value>| {
                container.get(field).and_then(Value::as_array).into_iter().flatten().any(|mount| super::text(mount, "name") == name)
            };
            containers.iter().any(|(_, container)| uses("volumeMounts", container) || uses("volumeDevices", container))
        };
        for (pointer, volume) in super::items(manifest, &format!("{pointer}/volumes")) {
            let name = super::text(volume, "name");
            if !used(name) {
                out.at(manifest, &format!("{pointer}/name"), format!("no container mounts the volume `{name}`"));
            }
        }
    }
}

fn default_namespace(view: &View<'_>, out: &mut Out<'_>) {
    for manifest in view.manifests.iter().filter(|manifest| manifest.id.namespace == "default") {
        out.at(manifest, "/metadata/name", format!("{} is in the namespace that all share", manifest.id));
    }
}
