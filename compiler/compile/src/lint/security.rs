//! What a pod may do to its node and to others.

use serde_json::Value;

use super::{Example, Level, Out, Place, Rule, View, items, text};

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "privileged",
        level: Level::Warning,
        title: "a container with all rights of the node",
        text: "A privileged container can do what root can do on the node. Give it the capabilities or the devices that it needs instead.",
        bad: Example::Container("securityContext: {privileged: true}"),
        good: Example::Container("securityContext: {privileged: false}"),
        check: privileged,
    },
    Rule {
        code: "privilege-escalation",
        level: Level::Note,
        title: "a process may get more rights than its parent",
        text: "With `allowPrivilegeEscalation: false` programs with a setuid bit give nothing.",
        bad: Example::Container("securityContext: {allowPrivilegeEscalation: true}"),
        good: Example::Container("securityContext: {allowPrivilegeEscalation: false}"),
        check: escalation,
    },
    Rule {
        code: "run-as-root",
        level: Level::Off,
        title: "a container may run as root",
        text: "Say runAsNonRoot, or a user other than 0: what breaks out of the container is then nobody on the node.",
        bad: Example::Container("securityContext: {}"),
        good: Example::Container("securityContext: {runAsNonRoot: true}"),
        check: root,
    },
    Rule {
        code: "writable-root",
        level: Level::Off,
        title: "a container may change its own programs",
        text: "With `readOnlyRootFilesystem: true` and an emptyDir for what has to be written, an intruder can leave nothing behind.",
        bad: Example::Container("securityContext: {}"),
        good: Example::Container("securityContext: {readOnlyRootFilesystem: true}"),
        check: writable_root,
    },
    Rule {
        code: "net-raw",
        level: Level::Off,
        title: "a container may forge packets",
        text: "Drop the capability NET_RAW, or ALL: hardly a program needs it. strake's own cluster does not give it.",
        bad: Example::Container("securityContext: {}"),
        good: Example::Container("securityContext: {capabilities: {drop: [ALL]}}"),
        check: net_raw,
    },
    Rule {
        code: "dangerous-capability",
        level: Level::Warning,
        title: "a capability that is nearly all of them",
        text: "With this capability a process can take over the node or look at all others.",
        bad: Example::Container("securityContext: {capabilities: {add: [SYS_ADMIN]}}"),
        good: Example::Container("securityContext: {capabilities: {add: [NET_BIND_SERVICE]}}"),
        check: capability,
    },
    Rule {
        code: "host-network",
        level: Level::Warning,
        title: "a pod in the node's network",
        text: "It can listen on the node's addresses, reach what only the node may reach, and is outside of network policies.",
        bad: Example::Pod("hostNetwork: true"),
        good: Example::Pod("hostNetwork: false"),
        check: host_network,
    },
    Rule {
        code: "host-pid",
        level: Level::Warning,
        title: "a pod that sees all processes of the node",
        text: "It can read their environments and memory, and end them.",
        bad: Example::Pod("hostPID: true"),
        good: Example::Pod("hostPID: false"),
        check: host_pid,
    },
    Rule {
        code: "host-ipc",
        level: Level::Warning,
        title: "a pod in the node's shared memory",
        text: "It can read and change what processes of the node share.",
        bad: Example::Pod("hostIPC: true"),
        good: Example::Pod("hostIPC: false"),
        check: host_ipc,
    },
    Rule {
        code: "runtime-socket",
        level: Level::Warning,
        title: "a pod that can start any container",
        text: "Who reaches the socket of the container runtime is root on the node.",
        bad: Example::Pod("volumes: [{name: s, hostPath: {path: /var/run/docker.sock}}]"),
        good: Example::Pod("volumes: [{name: s, emptyDir: {}}]"),
        check: socket,
    },
    Rule {
        code: "sensitive-host-path",
        level: Level::Warning,
        title: "a directory of the node that holds its secrets",
        text: "From this directory a pod reads or changes the node itself. Use a volume, or a directory made for the purpose.",
        bad: Example::Pod("volumes: [{name: e, hostPath: {path: /etc}}]"),
        good: Example::Pod("volumes: [{name: e, hostPath: {path: /srv/data}}]"),
        check: host_path,
    },
    Rule {
        code: "writable-host-path",
        level: Level::Off,
        title: "a directory of the node that a container writes to",
        text: "Mount it with `readOnly: true` where it is only read.",
        bad: Example::Objects(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: 'c:1', volumeMounts: [{name: d, mountPath: /d}]}], volumes: [{name: d, hostPath: {path: /srv}}]}\n",
        ),
        good: Example::Objects(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: 'c:1', volumeMounts: [{name: d, mountPath: /d, readOnly: true}]}], volumes: [{name: d, hostPath: {path: /srv}}]}\n",
        ),
        check: writable_host_path,
    },
    Rule {
        code: "unsafe-sysctl",
        level: Level::Warning,
        title: "a kernel setting that reaches beyond the pod",
        text: "These settings are not the pod's alone: a kubelet refuses them unless it was told otherwise.",
        bad: Example::Pod("securityContext: {sysctls: [{name: kernel.msgmax, value: '1'}]}"),
        good: Example::Pod("securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: '1'}]}"),
        check: sysctl,
    },
    Rule {
        code: "unmasked-proc",
        level: Level::Warning,
        title: "the kernel's files without a mask",
        text: "procMount Unmasked shows a container what is otherwise hidden from it, such as the memory of the kernel.",
        bad: Example::Container("securityContext: {procMount: Unmasked}"),
        good: Example::Container("securityContext: {procMount: Default}"),
        check: proc_mount,
    },
    Rule {
        code: "unconfined",
        level: Level::Warning,
        title: "a container without a filter of system calls",
        text: "The profile RuntimeDefault refuses what containers have no use for. Unconfined lets everything through.",
        bad: Example::Container("securityContext: {seccompProfile: {type: Unconfined}}"),
        good: Example::Container("securityContext: {seccompProfile: {type: RuntimeDefault}}"),
        check: unconfined,
    },
    Rule {
        code: "default-service-account",
        level: Level::Off,
        title: "a pod with the account that all have",
        text: "What is once given to the account `default` is given to every pod of the namespace. Make a ServiceAccount for the workload.",
        bad: Example::Pod("terminationGracePeriodSeconds: 5"),
        good: Example::Pod("automountServiceAccountToken: false"),
        check: default_account,
    },
    Rule {
        code: "token-mounted",
        level: Level::Off,
        title: "a pod with a token for the API that it may not need",
        text: "Every container of the pod can act as its ServiceAccount. Most programs never speak to the API: say automountServiceAccountToken: false in the pod or its ServiceAccount.",
        bad: Example::Pod("serviceAccountName: web"),
        good: Example::Pod("serviceAccountName: web\nautomountServiceAccountToken: false"),
        check: token,
    },
];

fn flag(view: &View<'_>, out: &mut Out<'_>, field: &str, message: &str) {
    for (manifest, pointer, spec) in view.pods() {
        if spec.get(field).and_then(Value::as_bool) == Some(true) {
            out.at(manifest, &format!("{pointer}/{field}"), message);
        }
    }
}

fn host_network(view: &View<'_>, out: &mut Out<'_>) {
    flag(view, out, "hostNetwork", "the pods are in the node's network");
}

fn host_pid(view: &View<'_>, out: &mut Out<'_>) {
    flag(view, out, "hostPID", "the pods see all processes of the node");
}

fn host_ipc(view: &View<'_>, out: &mut Out<'_>) {
    flag(view, out, "hostIPC", "the pods share the memory of the node's processes");
}

/// A field of the container's security context, or of its pod's where it has none.
fn context<'a>(place: &Place<'a>, field: &str) -> Option<&'a Value> {
    let pod = || place.manifest.at(&format!("{}/securityContext/{field}", place.manifest.pod_pointer()?));
    place.get(&format!("/securityContext/{field}")).or_else(pod)
}

fn privileged(view: &View<'_>, out: &mut Out<'_>) {
    for place in view.containers() {
        if place.get("/securityContext/privileged").and_then(Value::as_bool) == Some(true) {
            place.report(out, "/securityContext/privileged", format!("container `{}` has all rights of the node", place.name()), "");
        }
    }
}

fn escalation(view: &View<'_>, out: &mut Out<'_>) {
    for place in view.containers() {
        if place.get("/securityContext/allowPrivilegeEscalation").and_then(Value::as_bool) == Some(true) {
            place.report(out, "/securityContext/allowPrivilegeEscalation", "programs with a setuid bit give more rights", "");
        }
    }
}

fn root(view: &View<'_>, out: &mut Out<'_>) {
    for place in view.containers() {
        let not_root = context(place, "runAsNonRoot").and_then(Value::as_bool) == Some(true);
        let user = context(place, "runAsUser").and_then(Value::as_i64);
        if user == Some(0) || (!not_root && user.is_none()) {
            place.report(out, "/securityContext", format!("container `{}` may run as root", place.name()), "say `runAsNonRoot: true`");
        }
    }
}

fn writable_root(view: &View<'_>, out: &mut Out<'_>) {
    for place in view.containers() {
        if place.get("/securityContext/readOnlyRootFilesystem").and_then(Value::as_bool) != Some(true) {
            place.report(out, "/securityContext", format!("container `{}` may change its own programs", place.name()), "");
        }
    }
}

fn words<'a>(place: &Place<'a>, pointer: &str) -> Vec<&'a str> {
    place.get(pointer).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn net_raw(view: &View<'_>, out: &mut Out<'_>) {
    for place in view.containers() {
        let dropped = words(place, "/securityContext/capabilities/drop");
        if !dropped.iter().any(|name| matches!(name.to_uppercase().as_str(), "ALL" | "NET_RAW")) {
            place.report(out, "/securityContext", format!("container `{}` may forge packets", place.name()), "drop NET_RAW, or ALL");
        }
    }
}

fn capability(view: &View<'_>, out: &mut Out<'_>) {
    let dangerous = ["ALL", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "SYS_RAWIO", "DAC_READ_SEARCH", "BPF", "NET_ADMIN", "SYS_BOOT"];
    for place in view.containers() {
        for (index, name) in words(place, "/securityContext/capabilities/add").into_iter().enumerate() {
            if dangerous.contains(&name.to_uppercase().trim_start_matches("CAP_")) {
                let message = format!("container `{}` has {name}", place.name());
                place.report(out, &format!("/securityContext/capabilities/add/{index}"), message, "");
            }
        }
    }
}

/// Directories of the node that pods mount: the object, the pointer, the path, the volume's name.
fn host_paths<'a>(view: &View<'a>) -> Vec<(&'a strake_deploy::Manifest, String, &'a str, &'a str)> {
    let mut found = Vec::new();
    for (manifest, pointer, _) in view.pods() {
        for (pointer, volume) in items(manifest, &format!("{pointer}/volumes")) {
            if let Some(path) = volume.pointer("/hostPath/path").and_then(Value::as_str) {
                found.push((manifest, format!("{pointer}/hostPath/path"), path, text(volume, "name")));
            }
        }
    }
    found
}

fn is_socket(path: &str) -> bool {
    ["docker.sock", "containerd.sock", "crio.sock", "cri-dockerd.sock"].iter().any(|name| path.ends_with(name))
}

fn socket(view: &View<'_>, out: &mut Out<'_>) {
    for (manifest, pointer, path, _) in host_paths(view).into_iter().filter(|(_, _, path, _)| is_socket(path)) {
        out.at(manifest, &pointer, format!("who reaches `{path}` is root on the node"));
    }
}

fn host_path(view: &View<'_>, out: &mut Out<'_>) {
    let top = ["/", "/boot", "/dev", "/etc", "/lib", "/proc", "/root", "/sys", "/usr", "/var", "/var/lib", "/var/run", "/run", "/home"];
    let below = ["/etc/", "/boot/", "/root/", "/proc/", "/var/lib/kubelet", "/var/lib/strake", "/var/lib/docker"];
    for (manifest, pointer, path, _) in host_paths(view) {
        let clean = if path == "/" { path } else { path.trim_end_matches('/') };
        let harmless = matches!(clean, "/etc/localtime" | "/etc/timezone" | "/etc/ssl/certs") || is_socket(path);
        if !harmless && (top.contains(&clean) || below.iter().any(|start| path.starts_with(start))) {
            out.at(manifest, &pointer, format!("`{path}` is the node's own"));
        }
    }
}

fn writable_host_path(view: &View<'_>, out: &mut Out<'_>) {
    for (manifest, _, path, name) in host_paths(view) {
        for (container, _) in manifest.containers() {
            for (pointer, mount) in items(manifest, &format!("{container}/volumeMounts")) {
                if text(mount, "name") == name && mount.get("readOnly").and_then(Value::as_bool) != Some(true) {
                    out.at(manifest, &pointer, format!("`{path}` of the node can be written to"));
                }
            }
        }
    }
}

fn sysctl(view: &View<'_>, out: &mut Out<'_>) {
    let safe = [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    ];
    for (manifest, pointer, _) in view.pods() {
        for (pointer, sysctl) in items(manifest, &format!("{pointer}/securityContext/sysctls")) {
            let name = text(sysctl, "name").replace('/', ".");
            if !safe.contains(&name.as_str()) {
                out.at(manifest, &format!("{pointer}/name"), format!("`{name}` is not the pod's alone"));
            }
        }
    }
}

fn proc_mount(view: &View<'_>, out: &mut Out<'_>) {
    for place in view.containers() {
        if place.get("/securityContext/procMount").and_then(Value::as_str) == Some("Unmasked") {
            place.report(out, "/securityContext/procMount", "the kernel's files are shown without a mask", "");
        }
    }
}

fn unconfined(view: &View<'_>, out: &mut Out<'_>) {
    for place in view.containers() {
        if context(place, "seccompProfile/type").and_then(Value::as_str) == Some("Unconfined") {
            place.report(out, "/securityContext/seccompProfile/type", format!("container `{}` may make any system call", place.name()), "");
        }
    }
}

fn token(view: &View<'_>, out: &mut Out<'_>) {
    for (manifest, pointer, spec) in view.pods() {
        let name = spec.get("serviceAccountName").and_then(Value::as_str).unwrap_or("default");
        let mut accounts = view.of("ServiceAccount").filter(|account| account.id.name == name && account.id.namespace == manifest.id.namespace);
        let of_account = accounts.find_map(|account| account.value.get("automountServiceAccountToken").and_then(Value::as_bool));
        // The pod's own word counts more than its account's.
        let mounted = spec.get("automountServiceAccountToken").and_then(Value::as_bool).or(of_account).unwrap_or(true);
        if mounted {
            out.at(manifest, pointer, format!("the pods of {} get a token of the account `{name}`", manifest.id));
        }
    }
}

fn default_account(view: &View<'_>, out: &mut Out<'_>) {
    for (manifest, pointer, spec) in view.pods() {
        let named = spec.get("serviceAccountName").and_then(Value::as_str).is_some_and(|name| !matches!(name, "" | "default"));
        let hidden = spec.get("automountServiceAccountToken").and_then(Value::as_bool) == Some(false);
        if !named && !hidden {
            out.at(manifest, pointer, format!("the pods of {} use the account that all have", manifest.id));
        }
    }
}
