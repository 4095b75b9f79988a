//! A container's environment: what it says, what it refers to, and the Services of its namespace: pure.

use std::collections::BTreeMap;

use strake_kinds::core::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector, Service};

use crate::quantity;

/// Data of the ConfigMaps and Secrets of a namespace, by name; `None` for one that isn't there.
pub(crate) type Data = BTreeMap<String, Option<BTreeMap<String, Vec<u8>>>>;

/// What references are resolved with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub config_maps: Data,
    pub secrets: Data,
    pub node_name: String,
    pub host_ips: Vec<String>,
    pub pod_ips: Vec<String>,
    /// What a limit is when the container has none: the node's allocatable, in thousandths of a core and bytes.
    pub node_cpu_milli: u64,
    pub node_memory_bytes: u64,
}

/// Which ConfigMaps and Secrets an environment refers to.
pub(crate) fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.iter().map(|reference| reference.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|reference| reference.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.iter().map(|reference| reference.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|reference| reference.name.clone()));
    }
    (config_maps, secrets)
}

/// The environment: the image's, under the Services', under `envFrom`, under `env`.
///
/// # Errors
/// What is missing, in the words of the event.
pub(crate) fn environment(pod: &Pod, container: &Container, image: &[String], services: &[(String, String)], facts: &Facts) -> Result<Vec<String>, String> {
    let mut result = Ordered::default();
    for pair in image {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        result.set(name, value.to_owned());
    }
    // What $(NAME) may refer to does not include the image's own variables.
    let mut known: BTreeMap<String, String> = services.iter().cloned().collect();
    let mut from = Ordered::default();
    add_sources(container, facts, &mut from)?;
    for (name, value) in services {
        result.set(name, value.clone());
    }
    for (name, value) in from.pairs {
        known.insert(name.clone(), value.clone());
        result.set(&name, value);
    }
    for var in container.env.iter().flatten() {
        let Some(value) = value_of(pod, container, var, &known, facts)? else { continue };
        known.insert(var.name.clone(), value.clone());
        result.set(&var.name, value);
    }
    Ok(result.pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

/// Pairs in the order they first came.
#[derive(Default)]
struct Ordered {
    pairs: Vec<(String, String)>,
}

impl Ordered {
    fn set(&mut self, name: &str, value: String) {
        match self.pairs.iter_mut().find(|(known, _)| known == name) {
            Some(pair) => pair.1 = value,
            None => self.pairs.push((name.to_owned(), value)),
        }
    }
}

fn add_sources(container: &Container, facts: &Facts, into: &mut Ordered) -> Result<(), String> {
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.clone().unwrap_or_default();
        let found = if let Some(reference) = &source.config_map_ref {
            (lookup(&facts.config_maps, &reference.name), "configmap", &reference.name, reference.optional)
        } else if let Some(reference) = &source.secret_ref {
            (lookup(&facts.secrets, &reference.name), "secret", &reference.name, reference.optional)
        } else {
            continue;
        };
        match found {
            (Some(data), ..) => {
                for (key, value) in data {
                    let name = format!("{prefix}{key}");
                    // A key that cannot be a variable's name is left out, as everywhere in Kubernetes.
                    if is_name(&name) {
                        into.set(&name, String::from_utf8_lossy(value).into_owned());
                    }
                }
            }
            (None, _, _, Some(true)) => {}
            (None, kind, name, _) => return Err(format!("{kind} \"{name}\" not found")),
        }
    }
    Ok(())
}

fn lookup<'a>(data: &'a Data, name: &str) -> Option<&'a BTreeMap<String, Vec<u8>>> {
    data.get(name)?.as_ref()
}

fn is_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_graphic() && c != '=';
    !name.is_empty() && name.chars().all(fine) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn value_of(pod: &Pod, container: &Container, var: &EnvVar, known: &BTreeMap<String, String>, facts: &Facts) -> Result<Option<String>, String> {
    match &var.value_from {
        None => Ok(Some(expand(var.value.as_deref().unwrap_or_default(), known))),
        Some(source) => value_from(pod, container, source, facts),
    }
}

fn value_from(pod: &Pod, container: &Container, source: &EnvVarSource, facts: &Facts) -> Result<Option<String>, String> {
    if let Some(field) = &source.field_ref {
        return field_value(pod, field, facts).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return resource_value(pod, container, resource, facts).map(Some);
    }
    let (data, kind, name, key, optional) = if let Some(reference) = &source.config_map_key_ref {
        (lookup(&facts.config_maps, &reference.name), "configmap", &reference.name, &reference.key, reference.optional)
    } else if let Some(reference) = &source.secret_key_ref {
        (lookup(&facts.secrets, &reference.name), "secret", &reference.name, &reference.key, reference.optional)
    } else {
        return Err("an environment variable's valueFrom names no source that is supported".to_owned());
    };
    let shown = if kind == "secret" { "Secret" } else { "ConfigMap" };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    match data {
        None if optional == Some(true) => Ok(None),
        None => Err(format!("{kind} \"{name}\" not found")),
        Some(data) => match data.get(key) {
            Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
            None if optional == Some(true) => Ok(None),
            None => Err(format!("couldn't find key {key} in {shown} {namespace}/{name}")),
        },
    }
}

/// A field of the pod, as `fieldRef` names it.
///
/// # Errors
/// When there is no such field.
pub(crate) fn field_value(pod: &Pod, field: &ObjectFieldSelector, facts: &Facts) -> Result<String, String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let path = field.field_path.as_str();
    let subscript = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
    if let Some(key) = subscript("metadata.labels") {
        return Ok(meta.labels.as_ref().and_then(|labels| labels.get(key)).cloned().unwrap_or_default());
    }
    if let Some(key) = subscript("metadata.annotations") {
        return Ok(meta.annotations.as_ref().and_then(|annotations| annotations.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => spec.map(|spec| text(&spec.service_account_name)).filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned()),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// A map as a downward file shows it: `key="value"`, one a line.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let quoted = |value: &str| serde_json::Value::from(value).to_string();
    map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value))).collect::<Vec<_>>().join("\n")
}

/// A request or limit of the container, as `resourceFieldRef` names it.
///
/// # Errors
/// When there is no such resource or the divisor is no quantity.
pub(crate) fn resource_value(pod: &Pod, container: &Container, reference: &ResourceFieldSelector, facts: &Facts) -> Result<String, String> {
    let named = reference.container_name.as_deref().filter(|name| !name.is_empty());
    let spec = pod.spec.as_ref();
    let others = || spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let container = match named {
        None => container,
        Some(name) => others().find(|other| other.name == name).ok_or_else(|| format!("container {name} not found"))?,
    };
    let (list, resource) = reference.resource.split_once('.').ok_or_else(|| format!("unsupported container resource : {}", reference.resource))?;
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let given = match list {
        "limits" => limits.and_then(|limits| limits.get(resource)),
        "requests" => requests.and_then(|requests| requests.get(resource)).or_else(|| limits.and_then(|limits| limits.get(resource))),
        _ => return Err(format!("unsupported container resource : {}", reference.resource)),
    };
    let fallback = if list == "limits" { 1 } else { 0 };
    let milli = match (given, resource) {
        (Some(given), _) => quantity::milli(given)?,
        (None, "cpu") => i128::from(facts.node_cpu_milli) * fallback,
        (None, "memory") => i128::from(facts.node_memory_bytes) * 1000 * fallback,
        (None, _) => 0,
    };
    let divisor = match &reference.divisor {
        Some(divisor) if !matches!(divisor.0.as_str(), "" | "0") => quantity::milli(divisor)?,
        _ => 1000,
    };
    // Rounded up: half a core is one.
    Ok(((milli + divisor - 1) / divisor.max(1)).to_string())
}

/// Puts values in the place of `$(NAME)`; `$$` is a dollar; what isn't known stays as it is.
pub(crate) fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            result.push('$');
            rest = escaped;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match known.get(name) {
                Some(value) => result.push_str(value),
                None => {
                    result.push_str("$(");
                    result.push_str(name);
                    result.push(')');
                }
            }
            rest = tail;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

/// The variables of Services: of the API's always, of the pod's own namespace when it wants them.
pub(crate) fn of_services<'a>(services: impl Iterator<Item = &'a Service>, namespace: &str, wanted: bool) -> Vec<(String, String)> {
    let mut result = Vec::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let place = service.metadata.namespace.as_deref().unwrap_or_default();
        let is_api = place == "default" && name == "kubernetes";
        let is_ours = wanted && place == namespace;
        if !is_api && !is_ours {
            continue;
        }
        let Some(spec) = &service.spec else { continue };
        let Some(address) = spec.cluster_ip.as_deref().filter(|address| !matches!(*address, "" | "None")) else { continue };
        let prefix = name.to_ascii_uppercase().replace('-', "_");
        let ports = spec.ports.as_deref().unwrap_or_default();
        let Some(first) = ports.first() else { continue };
        result.push((format!("{prefix}_SERVICE_HOST"), address.to_owned()));
        result.push((format!("{prefix}_SERVICE_PORT"), first.port.to_string()));
        for port in ports {
            if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                result.push((format!("{prefix}_SERVICE_PORT_{}", port_name.to_ascii_uppercase().replace('-', "_")), port.port.to_string()));
            }
        }
        let url = |port: i32, protocol: &str| format!("{}://{address}:{port}", protocol.to_ascii_lowercase());
        result.push((format!("{prefix}_PORT"), url(first.port, first.protocol.as_deref().unwrap_or("TCP"))));
        for port in ports {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let base = format!("{prefix}_PORT_{}_{protocol}", port.port);
            result.push((base.clone(), url(port.port, protocol)));
            result.push((format!("{base}_PROTO"), protocol.to_ascii_lowercase()));
            result.push((format!("{base}_PORT"), port.port.to_string()));
            result.push((format!("{base}_ADDR"), address.to_owned()));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn pod(container: serde_json::Value) -> Pod {
        let labels = json!({"app": "web", "tier": "a\"b"});
        let metadata = json!({"name": "p", "namespace": "n", "uid": "u", "labels": labels});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": [container]}})).unwrap()
    }

    fn environment_of(container: serde_json::Value, facts: &Facts) -> Result<Vec<String>, String> {
        let pod = pod(container);
        let services = [("S_HOST".to_owned(), "10.43.0.9".to_owned())];
        environment(&pod, &pod.spec.as_ref().unwrap().containers[0], &["PATH=/bin".to_owned(), "A=image".to_owned()], &services, facts)
    }

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn data(entries: &[(&str, Option<Pairs<'_>>)]) -> Data {
        let fields = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
        entries.iter().map(|(name, pairs)| ((*name).to_owned(), pairs.map(fields))).collect()
    }

    #[test]
    fn expansion() {
        let known = known(&[("A", "1"), ("B", "$(A)")]);
        let table = [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(A)"),
            ("$(C)", "$(C)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$", "$"),
            ("$A ${A}", "$A ${A}"),
            ("$(A", "$(A"),
            ("a$", "a$"),
            ("$()", "$()"),
        ];
        for (text, expected) in table {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }

    #[test]
    fn later_sources_win_and_may_refer_to_earlier_ones() {
        let facts = Facts {
            config_maps: data(&[("conf", Some(&[("A", "map"), ("K", "key"), ("1bad", "x")]))]),
            secrets: data(&[("sec", Some(&[("P", "pw")]))]),
            pod_ips: vec!["10.42.0.5".to_owned()],
            ..Facts::default()
        };
        let container = json!({
            "name": "c",
            "envFrom": [{"configMapRef": {"name": "conf"}}, {"prefix": "X_", "secretRef": {"name": "sec"}}],
            "env": [
                {"name": "Q", "value": "$(A)-$(S_HOST)-$(PATH)"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "P"}}},
                {"name": "NOT", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "none", "optional": true}}},
                {"name": "A", "value": "own"}
            ]
        });
        let expected = ["PATH=/bin", "A=own", "S_HOST=10.43.0.9", "K=key", "X_P=pw", "Q=map-10.43.0.9-$(PATH)", "IP=10.42.0.5", "L=web", "PW=pw"];
        assert_eq!(environment_of(container, &facts).unwrap(), expected);
    }

    #[test]
    fn what_is_missing_is_named() {
        let facts = Facts { config_maps: data(&[("conf", Some(&[])), ("gone", None)]), secrets: data(&[("s", None)]), ..Facts::default() };
        let one = |source: serde_json::Value| environment_of(json!({"name": "c", "env": [{"name": "E", "valueFrom": source}]}), &facts).unwrap_err();
        assert_eq!(one(json!({"configMapKeyRef": {"name": "conf", "key": "k"}})), "couldn't find key k in ConfigMap n/conf");
        assert_eq!(one(json!({"configMapKeyRef": {"name": "gone", "key": "k"}})), "configmap \"gone\" not found");
        assert_eq!(one(json!({"secretKeyRef": {"name": "s", "key": "k"}})), "secret \"s\" not found");
        assert_eq!(one(json!({"fieldRef": {"fieldPath": "spec.nonsense"}})), "unsupported fieldPath: spec.nonsense");
        let from = environment_of(json!({"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}), &facts).unwrap_err();
        assert_eq!(from, "secret \"s\" not found");
        assert!(environment_of(json!({"name": "c", "envFrom": [{"secretRef": {"name": "s", "optional": true}}]}), &facts).is_ok());
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let facts = Facts { node_cpu_milli: 2000, node_memory_bytes: 1 << 30, ..Facts::default() };
        let container = json!({"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}}});
        let pod = pod(container);
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let value = |resource: &str, divisor: &str| {
            let reference = serde_json::from_value(json!({"resource": resource, "divisor": divisor})).unwrap();
            resource_value(&pod, container, &reference, &facts).unwrap()
        };
        assert_eq!(value("limits.cpu", "1"), "2");
        assert_eq!(value("limits.cpu", "1m"), "1500");
        assert_eq!(value("requests.memory", "1Mi"), "64", "a request falls back to its limit");
        assert_eq!(value("limits.memory", "0"), (64 << 20).to_string());
        let bare: Container = serde_json::from_value(json!({"name": "bare"})).unwrap();
        let reference = serde_json::from_value(json!({"resource": "limits.cpu"})).unwrap();
        assert_eq!(resource_value(&pod, &bare, &reference, &facts).unwrap(), "2", "the node's, without a limit");
    }

    #[test]
    fn services_become_variables() {
        let service = |namespace: &str, name: &str| -> Service {
            let spec = json!({"clusterIP": "10.43.0.7", "ports": [{"name": "web-ui", "port": 80, "protocol": "TCP"}]});
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec})).unwrap()
        };
        let all = [service("default", "kubernetes"), service("n", "my-db"), service("other", "x")];
        let names: Vec<String> = of_services(all.iter(), "n", true).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert!(names.contains(&"KUBERNETES_SERVICE_HOST=10.43.0.7".to_owned()));
        assert!(names.contains(&"MY_DB_SERVICE_PORT_WEB_UI=80".to_owned()));
        assert!(names.contains(&"MY_DB_PORT_80_TCP=tcp://10.43.0.7:80".to_owned()));
        assert!(!names.iter().any(|name| name.starts_with("X_")));
        assert!(of_services(all.iter(), "n", false).iter().all(|(name, _)| name.starts_with("KUBERNETES_")));
    }
}
