//! What manifests and the images that are built here say of each other.

use serde_json::Value;
use strake_plan::{BuildPlan, Image, Op, StepIndex};

use super::secrets::is_secret;
use super::{Example, Level, Out, Place, Rule, View};

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "port-not-exposed",
        level: Level::Note,
        title: "a port that the image does not expose",
        text: "The Dockerfile lists the ports that its program listens on with EXPOSE, and the container's port is not among them. One of the two is most likely wrong.",
        bad: Example::Image("FROM scratch\nEXPOSE 8080\nCMD [\"/x\"]\n", "ports: [{containerPort: 80}]"),
        good: Example::Image("FROM scratch\nEXPOSE 8080\nCMD [\"/x\"]\n", "ports: [{containerPort: 8080}]"),
        check: port,
    },
    Rule {
        code: "no-command",
        level: Level::Warning,
        title: "neither the image nor the container says what to run",
        text: "The image has no CMD and no ENTRYPOINT, and the container no command: it cannot start.",
        bad: Example::Image("FROM scratch\nENV A=1\n", ""),
        good: Example::Image("FROM scratch\nENV A=1\n", "command: [/x]"),
        check: command,
    },
    Rule {
        code: "command-not-in-image",
        level: Level::Warning,
        title: "a program that the image does not have",
        text: "The image is built from nothing, and none of its COPYs can have brought the program that is to run: the container cannot start. In shell form (CMD a b) the program is /bin/sh, which such an image has not either. Where a base image or a RUN may have brought it, nothing is said.",
        bad: Example::Image("FROM scratch\nCOPY app /app\nCMD [\"/ap\"]\n", ""),
        good: Example::Image("FROM scratch\nCOPY app /app\nCMD [\"/app\"]\n", ""),
        check: program,
    },
    Rule {
        code: "image-platform",
        level: Level::Warning,
        title: "an image for other machines than the pods ask for",
        text: "The nodeSelector chooses machines on which the image that is built here cannot run. Build it for their platform (FROM --platform), or choose other nodes.",
        bad: Example::PodImage("FROM --platform=linux/riscv64 scratch\nCMD [\"/x\"]\n", "nodeSelector: {kubernetes.io/arch: s390x}"),
        good: Example::PodImage("FROM --platform=linux/s390x scratch\nCMD [\"/x\"]\n", "nodeSelector: {kubernetes.io/arch: s390x}"),
        check: platform,
    },
    Rule {
        code: "user-not-numeric",
        level: Level::Warning,
        title: "runAsNonRoot with a user who has a name",
        text: "A kubelet cannot know that a name is not root's: the container does not start. Write the number in the Dockerfile's USER, or runAsUser.",
        bad: Example::Image("FROM scratch\nUSER app\nCMD [\"/x\"]\n", "securityContext: {runAsNonRoot: true}"),
        good: Example::Image("FROM scratch\nUSER 1000\nCMD [\"/x\"]\n", "securityContext: {runAsNonRoot: true}"),
        check: user,
    },
    Rule {
        code: "root-against-policy",
        level: Level::Warning,
        title: "runAsNonRoot with an image that runs as root",
        text: "The image's user is root, so that the container does not start. Add USER with a number to the Dockerfile, or runAsUser to the container.",
        bad: Example::Image("FROM scratch\nCMD [\"/x\"]\n", "securityContext: {runAsNonRoot: true}"),
        good: Example::Image("FROM scratch\nCMD [\"/x\"]\n", "securityContext: {runAsNonRoot: true, runAsUser: 1000}"),
        check: root,
    },
    Rule {
        code: "shell-keeps-signals",
        level: Level::Warning,
        title: "a shell stands between the program and its end",
        text: "The image's ENTRYPOINT or CMD is in shell form: the shell gets SIGTERM and does not pass it on, so that every stop takes the whole grace period. Write the JSON form, or `exec` in front.",
        bad: Example::Image("FROM scratch\nCMD /x --serve\n", ""),
        good: Example::Image("FROM scratch\nCMD [\"/x\", \"--serve\"]\n", ""),
        check: shell,
    },
    Rule {
        code: "secret-in-image",
        level: Level::Warning,
        title: "a password in the image",
        text: "ENV is a part of the image: whoever can pull it can read the value. Use a Secret at run time, and RUN --mount=type=secret while building.",
        bad: Example::Image("FROM scratch\nENV DB_PASSWORD=hunter2\nCMD [\"/x\"]\n", ""),
        good: Example::Image("FROM scratch\nENV DB_HOST=db\nCMD [\"/x\"]\n", ""),
        check: secret,
    },
    Rule {
        code: "healthcheck-not-used",
        level: Level::Note,
        title: "the image's HEALTHCHECK is not used",
        text: "Kubernetes does not run HEALTHCHECK. Give the container a readinessProbe or a livenessProbe that asks the same.",
        bad: Example::Image("FROM scratch\nHEALTHCHECK CMD [\"/x\", \"--ok\"]\nCMD [\"/x\"]\n", ""),
        good: Example::Image("FROM scratch\nHEALTHCHECK CMD [\"/x\", \"--ok\"]\nCMD [\"/x\"]\n", "livenessProbe: {exec: {command: [/x, --ok]}}"),
        check: health,
    },
    Rule {
        code: "volume-in-read-only-root",
        level: Level::Warning,
        title: "a directory that the image writes to is read-only",
        text: "The image declares a VOLUME, which Kubernetes does not mount, and the root file system is read-only. Mount an emptyDir or a claim there.",
        bad: Example::Image("FROM scratch\nVOLUME /data\nCMD [\"/x\"]\n", "securityContext: {readOnlyRootFilesystem: true}"),
        good: Example::Image("FROM scratch\nVOLUME /data\nCMD [\"/x\"]\n", "securityContext: {readOnlyRootFilesystem: false}"),
        check: volume,
    },
    Rule {
        code: "needless-pull",
        level: Level::Warning,
        title: "an image that is always fetched although it is built here",
        text: "With imagePullPolicy Always the node asks a registry for an image that was just built. Leave it out: the digest says which image is meant.",
        bad: Example::Image("FROM scratch\nCMD [\"/x\"]\n", "imagePullPolicy: Always"),
        good: Example::Image("FROM scratch\nCMD [\"/x\"]\n", "imagePullPolicy: IfNotPresent"),
        check: pull,
    },
];

/// Containers of images that are built here.
fn built<'v, 'a>(view: &'v View<'a>) -> Vec<(&'v Place<'a>, &'a Image)> {
    let found = view.containers().filter_map(|place| {
        let image = (*view.built.get(place.get("/image")?.as_str()?)?)?;
        Some((place, image))
    });
    found.collect()
}

fn related(place: &Place<'_>, out: &mut Out<'_>, pointer: &str, message: String, image: &Image) {
    let help = format!("the image comes from {}", image.origin.file);
    place.report(out, pointer, message, &help);
}

fn port(view: &View<'_>, out: &mut Out<'_>) {
    for (place, image) in built(view) {
        let exposed = &image.config.config.exposed_ports;
        for (pointer, port) in super::items(place.manifest, &format!("{}/ports", place.pointer)) {
            let Some(number) = port.get("containerPort").and_then(Value::as_i64) else { continue };
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP").to_lowercase();
            if !exposed.is_empty() && !exposed.contains_key(&format!("{number}/{protocol}")) {
                let ports: Vec<&str> = exposed.keys().map(String::as_str).collect();
                let message = format!("the image exposes {}, not {number}/{protocol}", ports.join(", "));
                let inner = pointer.strip_prefix(&place.pointer).unwrap_or_default();
                related(place, out, &format!("{inner}/containerPort"), message, image);
            }
        }
    }
}

fn command(view: &View<'_>, out: &mut Out<'_>) {
    for (place, image) in built(view) {
        let says = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
        let config = &image.config.config;
        if !says(&config.entrypoint) && !says(&config.cmd) && !place.container.contains_key("command") && !place.container.contains_key("args") {
            related(place, out, "/image", format!("container `{}` has nothing to run: its image has neither CMD nor ENTRYPOINT", place.name()), image);
        }
    }
}

/// Whether the container must not be root, and the user it is told to be.
fn identity(place: &Place<'_>) -> (bool, Option<i64>) {
    let pod = place.manifest.pod_pointer().unwrap_or_default();
    let field = |name: &str| {
        let own = place.get(&format!("/securityContext/{name}"));
        own.or_else(|| place.manifest.at(&format!("{pod}/securityContext/{name}")))
    };
    (field("runAsNonRoot").and_then(Value::as_bool) == Some(true), field("runAsUser").and_then(Value::as_i64))
}

fn user_of(image: &Image) -> &str {
    image.config.config.user.split(':').next().unwrap_or_default()
}

fn user(view: &View<'_>, out: &mut Out<'_>) {
    for (place, image) in built(view) {
        let (not_root, told) = identity(place);
        let user = user_of(image);
        if not_root && told.is_none() && !user.is_empty() && user != "root" && user.parse::<u64>().is_err() {
            related(place, out, "/securityContext/runAsNonRoot", format!("nobody can tell whether user `{user}` of the image is root"), image);
        }
    }
}

fn root(view: &View<'_>, out: &mut Out<'_>) {
    for (place, image) in built(view) {
        let (not_root, told) = identity(place);
        if not_root && told.is_none() && matches!(user_of(image), "" | "root" | "0") {
            related(place, out, "/securityContext/runAsNonRoot", "the image runs as root: the container will not start".to_owned(), image);
        }
    }
}

fn shell(view: &View<'_>, out: &mut Out<'_>) {
    for (place, image) in built(view) {
        let config = &image.config.config;
        let words = config.entrypoint.as_ref().filter(|words| !words.is_empty()).or(config.cmd.as_ref());
        let Some([program, flag, line, ..]) = words.map(Vec::as_slice) else { continue };
        let shell = matches!(program.rsplit('/').next(), Some("sh" | "bash" | "ash" | "dash")) && flag == "-c";
        let simple = !line.trim_start().starts_with("exec ");
        let replaced = place.container.contains_key("command") || (config.entrypoint.is_none() && place.container.contains_key("args"));
        let grace = place.manifest.pod_spec().and_then(|spec| spec.get("terminationGracePeriodSeconds")).and_then(Value::as_i64).unwrap_or(30);
        if shell && simple && !replaced && grace > 2 && place.is_main() {
            let message = format!("container `{}` takes {grace} s to stop: a shell stands between it and SIGTERM", place.name());
            related(place, out, "/image", message, image);
        }
    }
}

/// Each image once, at the first container that runs it.
fn once<'v, 'a>(view: &'v View<'a>) -> Vec<(&'v Place<'a>, &'a Image)> {
    let mut seen: Vec<*const Image> = Vec::new();
    let mut found = built(view);
    found.retain(|(_, image)| {
        let new = !seen.contains(&std::ptr::from_ref(*image));
        seen.push(std::ptr::from_ref(*image));
        new
    });
    found
}

fn secret(view: &View<'_>, out: &mut Out<'_>) {
    for (place, image) in once(view) {
        for variable in &image.config.config.env {
            if let Some((name, value)) = variable.split_once('=')
                && is_secret(name)
                && !value.is_empty()
            {
                related(place, out, "/image", format!("the value of `{name}` is in the image: whoever pulls it can read it"), image);
            }
        }
    }
}

fn health(view: &View<'_>, out: &mut Out<'_>) {
    for (place, image) in built(view) {
        let checks = image.config.config.healthcheck.as_ref().is_some_and(|check| check.test.first().is_some_and(|word| word != "NONE"));
        let probes = ["readinessProbe", "livenessProbe", "startupProbe"].iter().any(|probe| place.container.contains_key(*probe));
        if checks && !probes && place.is_main() {
            related(place, out, "/name", format!("container `{}` has no probe, and the image's HEALTHCHECK is not run", place.name()), image);
        }
    }
}

fn volume(view: &View<'_>, out: &mut Out<'_>) {
    for (place, image) in built(view) {
        if place.get("/securityContext/readOnlyRootFilesystem").and_then(Value::as_bool) != Some(true) {
            continue;
        }
        let mounts = super::items(place.manifest, &format!("{}/volumeMounts", place.pointer));
        for path in image.config.config.volumes.keys() {
            let inside = |at: &str| path == at || path.strip_prefix(at).is_some_and(|rest| rest.starts_with('/') || at.ends_with('/'));
            if !mounts.iter().any(|(_, mount)| inside(super::text(mount, "mountPath"))) {
                let message = format!("the image writes to {path}, which is read-only here");
                related(place, out, "/securityContext/readOnlyRootFilesystem", message, image);
            }
        }
    }
}

/// Whether the file system of a step may have a file at this absolute path, as far as the steps alone say.
fn may_hold(plan: &BuildPlan, mut step: StepIndex, path: &str) -> bool {
    loop {
        let Some(found) = plan.steps.get(step.0) else { return true };
        step = match &found.op {
            Op::Scratch => return false,
            Op::Base { .. } | Op::Run(_) => return true,
            Op::Mkdir(made) => made.parent,
            Op::Copy(copy) => {
                // A directory brings its files under the destination; an archive, or a path that is kept, any.
                let dest = copy.dest.trim_end_matches('/');
                let below = path.strip_prefix(dest).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                if below || copy.add.is_some() || copy.parents {
                    return true;
                }
                copy.parent
            }
        };
    }
}

fn program(view: &View<'_>, out: &mut Out<'_>) {
    for (place, image) in built(view) {
        let config = &image.config.config;
        let given = |field: &str| place.get(&format!("/{field}/0")).and_then(Value::as_str).map(|word| (word.to_owned(), format!("/{field}/0")));
        let own = |list: &Option<Vec<String>>| list.as_ref().and_then(|list| list.first()).map(|word| (word.clone(), "/image".to_owned()));
        let Some((word, pointer)) = given("command").or_else(|| own(&config.entrypoint)).or_else(|| given("args")).or_else(|| own(&config.cmd)) else {
            continue;
        };
        let mounts = super::items(place.manifest, &format!("{}/volumeMounts", place.pointer));
        let mounted = mounts.iter().any(|(_, mount)| word.starts_with(super::text(mount, "mountPath")));
        if word.starts_with('/') && !word.contains("$(") && !mounted && !may_hold(view.plan, image.step, &word) {
            let message = format!("container `{}` is to run {word}, which its image does not have", place.name());
            related(place, out, &pointer, message, image);
        }
    }
}

fn platform(view: &View<'_>, out: &mut Out<'_>) {
    for (place, image) in built(view) {
        let (Some(pointer), Some(spec)) = (place.manifest.pod_pointer(), place.manifest.pod_spec()) else { continue };
        let chosen = |name: &str| spec.get("nodeSelector").and_then(|labels| labels.get(name)).and_then(Value::as_str);
        for (name, found) in [("kubernetes.io/arch", &image.config.architecture), ("kubernetes.io/os", &image.config.os)] {
            if let Some(wanted) = chosen(name).filter(|wanted| *wanted != found.as_str() && !found.is_empty()) {
                let at = format!("{pointer}/nodeSelector/{}", name.replace('/', "~1"));
                let message =
                    format!("container `{}` runs an image for {}/{}, on nodes that are {wanted}", place.name(), image.config.os, image.config.architecture);
                out.with(place.manifest, &at, message, |finding| finding.related(place.manifest.span(&format!("{}/image", place.pointer)), "this image"));
            }
        }
    }
}

fn pull(view: &View<'_>, out: &mut Out<'_>) {
    for (place, image) in built(view) {
        if place.get("/imagePullPolicy").and_then(Value::as_str) == Some("Always") {
            related(place, out, "/imagePullPolicy", format!("container `{}` asks a registry for an image that is built here", place.name()), image);
        }
    }
}
