//! From a pod's container, its image and its surroundings to a container specification: pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use strake_container::{BindMount, ContainerId, ContainerSpec, Limits, NetworkNamespace, Output, ResolvedUser, RootFs, Security, User, VolumeMount};
use strake_kinds::core::{Container, Pod, PodSecurityContext, SecurityContext};
use strake_oci::ImageConfig;

use crate::{env, quantity};

/// Processes and threads of one container: a fork bomb ends here, not in the whole machine.
const MOST_PIDS: u64 = 4096;
const LOG_MAX_BYTES: u64 = 10 << 20;
const LOG_MAX_FILES: u32 = 5;
const USUAL_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a specification is made from.
pub(crate) struct Input<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub attempt: u32,
    pub image: &'a ImageConfig,
    pub rootfs: RootFs,
    pub user: ResolvedUser,
    pub env: Vec<String>,
    /// Of the container's volumes.
    pub mounts: Vec<VolumeMount>,
    pub hostname: String,
    pub network: NetworkNamespace,
    pub cgroup_parent: String,
    /// Where the pod's hosts, hostname and resolv.conf are.
    pub etc: &'a Path,
    pub log: PathBuf,
    pub termination_log: Option<PathBuf>,
    pub node_memory_bytes: u64,
}

/// The name of one attempt of a pod's container.
pub(crate) fn container_id(uid: &str, container: &str, attempt: u32) -> ContainerId {
    ContainerId(format!("{uid}_{container}_{attempt}"))
}

/// The parts of such a name.
pub(crate) fn parse_id(id: &ContainerId) -> Option<(&str, &str, u32)> {
    let (rest, attempt) = id.0.rsplit_once('_')?;
    let (uid, container) = rest.split_once('_')?;
    Some((uid, container, attempt.parse().ok()?))
}

fn pod_security(pod: &Pod) -> Option<&PodSecurityContext> {
    pod.spec.as_ref()?.security_context.as_ref()
}

/// Who the container runs as, in the words of `USER`: the pod's number before the image's name.
pub(crate) fn user_text(pod: &Pod, container: &Container, image: &ImageConfig) -> String {
    let own = container.security_context.as_ref();
    let uid = own.and_then(|own| own.run_as_user).or_else(|| pod_security(pod)?.run_as_user);
    let gid = own.and_then(|own| own.run_as_group).or_else(|| pod_security(pod)?.run_as_group);
    let base = uid.map_or_else(|| image.config.user.clone(), |uid| uid.to_string());
    match gid {
        None => base,
        Some(gid) => format!("{}:{gid}", base.split(':').next().filter(|name| !name.is_empty()).unwrap_or("0")),
    }
}

/// Whether a resolved user may run.
///
/// # Errors
/// When the pod forbids root and it is root.
pub(crate) fn check_user(pod: &Pod, container: &Container, user: &User) -> Result<(), String> {
    let own = container.security_context.as_ref().and_then(|own| own.run_as_non_root);
    let forbidden = own.or_else(|| pod_security(pod)?.run_as_non_root) == Some(true);
    if !forbidden || user.uid != 0 {
        return Ok(());
    }
    let label = format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or("default"), pod.metadata.name.as_deref().unwrap_or_default());
    Err(format!("container has runAsNonRoot and image will run as root (pod: \"{label}\", container: {})", container.name))
}

/// What a pod asks for that is not done here, for an event: passed over, but not in silence.
pub(crate) fn unsupported(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let all = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let on_host = spec.host_network == Some(true);
    let host_port = !on_host && all().any(|container| container.ports.iter().flatten().any(|port| port.host_port.is_some_and(|port| port > 0)));
    let fields = [
        ("hostPID", spec.host_pid == Some(true)),
        ("hostIPC", spec.host_ipc == Some(true)),
        ("shareProcessNamespace", spec.share_process_namespace == Some(true)),
        ("runtimeClassName", spec.runtime_class_name.is_some()),
        ("imagePullSecrets", spec.image_pull_secrets.as_ref().is_some_and(|secrets| !secrets.is_empty())),
        ("securityContext.sysctls", pod_security(pod).is_some_and(|security| security.sysctls.as_ref().is_some_and(|list| !list.is_empty()))),
        ("containers[].ports[].hostPort", host_port),
        ("containers[].volumeDevices", all().any(|container| container.volume_devices.as_ref().is_some_and(|list| !list.is_empty()))),
    ];
    fields.into_iter().filter(|(_, asked)| *asked).map(|(field, _)| format!("spec.{field} is not supported and has no effect")).collect()
}

/// The specification.
///
/// # Errors
/// What the pod asks for and cannot have, in words for its status.
pub(crate) fn container_spec(input: Input<'_>) -> Result<ContainerSpec, String> {
    let Input { pod, container, image, .. } = input;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let security = security(pod, container)?;
    let mut env = input.env;
    let terminal = container.tty == Some(true);
    fill_env(&mut env, &input.hostname, &input.user.home, terminal);
    let args = args(container, image, &env)?;
    let own_dir = container.working_dir.as_deref().filter(|dir| !dir.is_empty());
    let cwd = own_dir.or(Some(image.config.working_dir.as_str()).filter(|dir| !dir.is_empty())).unwrap_or("/").to_owned();
    let mut user = input.user.user;
    add_groups(pod, &mut user);
    let mut mounts = input.mounts;
    add_own_files(container, input.etc, input.termination_log.as_deref(), &mut mounts);
    Ok(ContainerSpec {
        id: container_id(uid, &container.name, input.attempt),
        rootfs: input.rootfs,
        args,
        env,
        cwd,
        user,
        hostname: input.hostname,
        network: input.network,
        mounts,
        limits: limits(pod, container, input.node_memory_bytes)?,
        rlimits: Vec::new(),
        security,
        cgroup_parent: input.cgroup_parent,
        output: Output::Log { path: input.log, max_bytes: LOG_MAX_BYTES, max_files: LOG_MAX_FILES },
        terminal,
        stdin: container.stdin == Some(true),
        dies_with_creator: false,
    })
}

fn fill_env(env: &mut Vec<String>, hostname: &str, home: &str, terminal: bool) {
    let mut add = |name: &str, pair: String| {
        if !env.iter().any(|known| known.split('=').next() == Some(name)) {
            env.push(pair);
        }
    };
    add("PATH", USUAL_PATH.to_owned());
    add("HOSTNAME", format!("HOSTNAME={hostname}"));
    add("HOME", format!("HOME={home}"));
    if terminal {
        add("TERM", "TERM=xterm".to_owned());
    }
}

/// `command` and `args` against ENTRYPOINT and CMD: a command of one's own silences both, arguments of one's own only CMD.
fn args(container: &Container, image: &ImageConfig, env: &[String]) -> Result<Vec<String>, String> {
    let known: BTreeMap<String, String> = env.iter().filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let given = |list: &Option<Vec<String>>| -> Vec<String> { list.iter().flatten().map(|word| env::expand(word, &known)).collect() };
    let (command, arguments) = (given(&container.command), given(&container.args));
    let entrypoint = image.config.entrypoint.clone().unwrap_or_default();
    let cmd = image.config.cmd.clone().unwrap_or_default();
    let all = match (command.is_empty(), arguments.is_empty()) {
        (true, true) => [entrypoint, cmd].concat(),
        (true, false) => [entrypoint, arguments].concat(),
        (false, _) => [command, arguments].concat(),
    };
    if all.is_empty() {
        return Err(format!("no command specified: neither container {} nor its image says what to run", container.name));
    }
    Ok(all)
}

fn add_groups(pod: &Pod, user: &mut User) {
    let Some(security) = pod_security(pod) else { return };
    let more = security.fs_group.iter().chain(security.supplemental_groups.iter().flatten());
    for group in more.filter_map(|group| u32::try_from(*group).ok()) {
        if group != user.gid && !user.groups.contains(&group) {
            user.groups.push(group);
        }
    }
}

/// The pod's own files, unless one of its volumes takes their place.
fn add_own_files(container: &Container, etc: &Path, termination_log: Option<&Path>, mounts: &mut Vec<VolumeMount>) {
    let taken = |target: &str| container.volume_mounts.iter().flatten().any(|mount| mount.mount_path.trim_end_matches('/') == target);
    let read_only = container.security_context.as_ref().and_then(|own| own.read_only_root_filesystem) == Some(true);
    let mut own: Vec<VolumeMount> = Vec::new();
    for name in ["hosts", "hostname", "resolv.conf"] {
        let target = format!("/etc/{name}");
        if !taken(&target) && !taken("/etc") {
            own.push(VolumeMount::Bind(BindMount { source: etc.join(name), target, read_only }));
        }
    }
    if let Some(source) = termination_log {
        let target = container.termination_message_path.as_deref().filter(|path| path.starts_with('/')).unwrap_or("/dev/termination-log").to_owned();
        own.push(VolumeMount::Bind(BindMount { source: source.to_owned(), target, read_only: false }));
    }
    // Before the volumes: a volume at /etc would otherwise hide them.
    mounts.splice(0..0, own);
}

fn security(pod: &Pod, container: &Container) -> Result<Security, String> {
    let empty = SecurityContext::default();
    let own = container.security_context.as_ref().unwrap_or(&empty);
    let privileged = own.privileged == Some(true);
    let profile = own.seccomp_profile.as_ref().or_else(|| pod_security(pod)?.seccomp_profile.as_ref()).map(|profile| profile.type_.as_str());
    let seccomp = match profile {
        None | Some("RuntimeDefault") => !privileged,
        Some("Unconfined") => false,
        Some(other) => return Err(format!("seccomp profile of type {other} is not supported: RuntimeDefault and Unconfined are")),
    };
    let names = |list: Option<&Vec<String>>| -> Vec<String> { list.into_iter().flatten().map(|name| name.trim_start_matches("CAP_").to_owned()).collect() };
    let capabilities = own.capabilities.as_ref();
    Ok(Security {
        privileged,
        add_capabilities: names(capabilities.and_then(|capabilities| capabilities.add.as_ref())),
        drop_capabilities: names(capabilities.and_then(|capabilities| capabilities.drop.as_ref())),
        // Safer than Kubernetes, whose default is to allow: who needs setuid programs says so.
        no_new_privileges: !privileged && own.allow_privilege_escalation != Some(true),
        seccomp,
        read_only_root: own.read_only_root_filesystem == Some(true),
    })
}

fn limits(pod: &Pod, container: &Container, node_memory_bytes: u64) -> Result<Limits, String> {
    let resources = container.resources.as_ref();
    let limit = |name: &str| resources?.limits.as_ref()?.get(name);
    let request = |name: &str| resources?.requests.as_ref()?.get(name).or_else(|| limit(name));
    let milli = |found: Option<&strake_kinds::Quantity>| found.map(quantity::milli).transpose().map(|milli| milli.and_then(|milli| u64::try_from(milli).ok()));
    let bytes = |found: Option<&strake_kinds::Quantity>| found.map(quantity::units).transpose();
    let requested = bytes(request("memory"))?.unwrap_or(0);
    let none = strake_kinds::core::PodSpec::default();
    let oom_score_adj = match strake_pod::qos_class(pod.spec.as_ref().unwrap_or(&none)) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let share = u128::from(requested) * 1000 / u128::from(node_memory_bytes.max(1));
            (1000 - i32::try_from(share).unwrap_or(1000)).clamp(3, 999)
        }
    };
    Ok(Limits {
        memory_bytes: bytes(limit("memory"))?.filter(|bytes| *bytes > 0),
        cpu_milli: milli(limit("cpu"))?.filter(|milli| *milli > 0),
        cpu_request_milli: milli(request("cpu"))?.or(Some(0)),
        pids: Some(MOST_PIDS),
        oom_score_adj: Some(oom_score_adj),
        below_parent: false,
        niceness: 0,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn image(entrypoint: &[&str], cmd: &[&str], user: &str) -> ImageConfig {
        let mut image = ImageConfig::default();
        let words = |list: &[&str]| (!list.is_empty()).then(|| list.iter().map(|word| (*word).to_owned()).collect());
        image.config.entrypoint = words(entrypoint);
        image.config.cmd = words(cmd);
        image.config.user = user.to_owned();
        image.config.working_dir = "/srv".to_owned();
        image
    }

    fn made(pod: serde_json::Value, image: &ImageConfig) -> Result<ContainerSpec, String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u-1", "name": "p", "namespace": "n"}, "spec": pod})).unwrap();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let input = Input {
            pod: &pod,
            container,
            attempt: 2,
            image,
            rootfs: RootFs { lowers: vec![], upper: "/u".into(), work: "/w".into() },
            user: ResolvedUser { user: User { uid: 5, gid: 6, groups: vec![] }, home: "/home/x".to_owned(), name: "x".to_owned() },
            env: vec!["A=1".to_owned()],
            mounts: vec![],
            hostname: "p".to_owned(),
            network: NetworkNamespace::Host,
            cgroup_parent: "strake/pod-u-1".to_owned(),
            etc: Path::new("/etc-of-pod"),
            log: "/log".into(),
            termination_log: Some("/term".into()),
            node_memory_bytes: 1 << 30,
        };
        container_spec(input)
    }

    #[test]
    fn command_and_args_against_entrypoint_and_cmd() {
        let image = image(&["/entry", "e"], &["c"], "");
        let table: [(serde_json::Value, &[&str]); 5] = [
            (json!({}), &["/entry", "e", "c"]),
            (json!({"args": ["x"]}), &["/entry", "e", "x"]),
            (json!({"command": ["/own"]}), &["/own"]),
            (json!({"command": ["/own", "$(A)"], "args": ["$(B)", "$$(A)"]}), &["/own", "1", "$(B)", "$(A)"]),
            (json!({"args": ["$(HOSTNAME)"]}), &["/entry", "e", "p"]),
        ];
        for (mut container, expected) in table {
            container["name"] = json!("c");
            assert_eq!(made(json!({"containers": [container]}), &image).unwrap().args, expected);
        }
        let empty = made(json!({"containers": [{"name": "c"}]}), &super::tests::image(&[], &[], "")).unwrap_err();
        assert!(empty.contains("no command specified"), "{empty}");
    }

    #[test]
    fn the_safe_default_and_what_loosens_it() {
        let image = image(&["/x"], &[], "");
        let of = |security: serde_json::Value| made(json!({"containers": [{"name": "c", "securityContext": security}]}), &image).map(|spec| spec.security);
        assert_eq!(of(json!({})).unwrap(), Security::default());
        assert!(!of(json!({"allowPrivilegeEscalation": true})).unwrap().no_new_privileges);
        assert!(!of(json!({"seccompProfile": {"type": "Unconfined"}})).unwrap().seccomp);
        let privileged = of(json!({"privileged": true})).unwrap();
        assert!(privileged.privileged && !privileged.seccomp && !privileged.no_new_privileges);
        let capabilities = of(json!({"capabilities": {"add": ["CAP_NET_RAW"], "drop": ["ALL"]}})).unwrap();
        assert_eq!((capabilities.add_capabilities, capabilities.drop_capabilities), (vec!["NET_RAW".to_owned()], vec!["ALL".to_owned()]));
        assert!(of(json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "x"}})).unwrap_err().contains("Localhost"));
    }

    #[test]
    fn resources_become_limits() {
        let image = image(&["/x"], &[], "");
        let of = |resources: serde_json::Value| made(json!({"containers": [{"name": "c", "resources": resources}]}), &image).unwrap().limits;
        let limits = of(json!({"limits": {"cpu": "250m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "512Mi"}}));
        assert_eq!((limits.cpu_milli, limits.cpu_request_milli, limits.memory_bytes), (Some(250), Some(100), Some(64 << 20)));
        assert_eq!(limits.oom_score_adj, Some(500), "half the node's memory requested");
        assert_eq!(of(json!({})).oom_score_adj, Some(1000));
        assert_eq!(of(json!({"limits": {"cpu": "1", "memory": "1Mi"}})).oom_score_adj, Some(-997));
    }

    #[test]
    fn users_and_groups() {
        let image = image(&["/x"], &[], "web:staff");
        let text = |pod: serde_json::Value, own: serde_json::Value| {
            let spec = json!({"securityContext": pod, "containers": [{"name": "c", "securityContext": own}]});
            let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            user_text(&pod, &pod.spec.as_ref().unwrap().containers[0], &image)
        };
        assert_eq!(text(json!({}), json!({})), "web:staff");
        assert_eq!(text(json!({"runAsUser": 7}), json!({})), "7");
        assert_eq!(text(json!({"runAsUser": 7}), json!({"runAsUser": 8, "runAsGroup": 9})), "8:9");
        assert_eq!(text(json!({"runAsGroup": 9}), json!({})), "web:9");
        let spec = made(json!({"securityContext": {"fsGroup": 42, "supplementalGroups": [6, 43]}, "containers": [{"name": "c"}]}), &image).unwrap();
        assert_eq!(spec.user.groups, [42, 43]);
        assert_eq!(spec.cwd, "/srv");
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {}, "spec": {"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c"}]}})).unwrap();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        assert!(check_user(&pod, container, &User::default()).unwrap_err().contains("runAsNonRoot"));
        assert!(check_user(&pod, container, &User { uid: 1, ..User::default() }).is_ok());
    }

    #[test]
    fn a_volume_may_take_the_place_of_our_files() {
        let image = image(&["/x"], &[], "");
        let targets = |mounts: serde_json::Value| -> Vec<String> {
            let spec = made(json!({"containers": [{"name": "c", "volumeMounts": mounts}]}), &image).unwrap();
            spec.mounts.into_iter().map(|mount| if let VolumeMount::Bind(bind) = mount { bind.target } else { String::new() }).collect()
        };
        assert_eq!(targets(json!([])), ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log"]);
        assert_eq!(targets(json!([{"name": "v", "mountPath": "/etc/hosts"}])), ["/etc/hostname", "/etc/resolv.conf", "/dev/termination-log"]);
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let of = |spec: serde_json::Value| unsupported(&serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap());
        assert!(of(json!({"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]})).is_empty());
        let ports = json!([{"containerPort": 80, "hostPort": 80}]);
        let said = of(json!({"hostPID": true, "containers": [{"name": "c", "ports": ports}]}));
        assert_eq!(said, ["spec.hostPID is not supported and has no effect", "spec.containers[].ports[].hostPort is not supported and has no effect"]);
        assert!(of(json!({"hostNetwork": true, "containers": [{"name": "c", "ports": ports}]})).is_empty(), "there it is simply so");
    }

    #[test]
    fn ids_are_read_back() {
        let id = container_id("u-1", "web", 3);
        assert_eq!(parse_id(&id), Some(("u-1", "web", 3)));
        assert_eq!(parse_id(&ContainerId("build-77".to_owned())), None);
    }
}
