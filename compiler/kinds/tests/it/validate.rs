//! Validation of objects and of changes.

use serde_json::{Value, json};
use strake_kinds::{by_kind, default, validate};

fn findings(api_version: &str, kind: &str, value: &Value) -> Vec<String> {
    let kind = by_kind(api_version, kind).expect("a known kind");
    let mut value = value.clone();
    default::apply(&mut value, kind);
    validate::object(&value, kind).iter().map(ToString::to_string).collect()
}

fn pod() -> Value {
    json!({
        "metadata": { "name": "p", "namespace": "default" },
        "spec": { "containers": [{ "name": "c", "image": "web:1" }] },
    })
}

fn deployment() -> Value {
    json!({
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "c", "image": "web:1" }] } },
        },
    })
}

fn service() -> Value {
    json!({ "metadata": { "name": "web", "namespace": "default" }, "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } })
}

/// Sets a field, making objects on the way.
fn set(value: &mut Value, pointer: &str, new: &Value) {
    let mut at = value;
    for token in pointer.split('/').skip(1) {
        at = match token.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[token],
        };
    }
    *at = new.clone();
}

#[test]
fn fine_objects_pass() {
    assert_eq!(findings("v1", "Pod", &pod()), [""; 0]);
    assert_eq!(findings("apps/v1", "Deployment", &deployment()), [""; 0]);
    assert_eq!(findings("v1", "Service", &service()), [""; 0]);
    assert_eq!(findings("v1", "Namespace", &json!({ "metadata": { "name": "shop" } })), [""; 0]);
}

type Row = (&'static str, Value, &'static str);

fn pod_rows() -> Vec<Row> {
    vec![
        ("/metadata/name", json!("My_Pod"), "metadata.name: Invalid value"),
        ("/metadata/name", json!(""), "metadata.name: Required value"),
        ("/metadata/namespace", json!(""), "metadata.namespace: Required value"),
        ("/metadata/labels", json!({ "a b": "x" }), "metadata.labels: Invalid value"),
        ("/metadata/labels", json!({ "app": "-x" }), "metadata.labels[app]: Invalid value"),
        ("/spec/containers", json!([]), "spec.containers: Required value"),
        ("/spec/containers/0/name", json!("C"), "spec.containers[0].name: Invalid value"),
        ("/spec/containers/0/image", json!(""), "spec.containers[0].image: Required value"),
        ("/spec/initContainers", json!([{ "name": "c", "image": "i" }]), "spec.containers[0].name: Duplicate value"),
        ("/spec/containers/0/ports", json!([{ "containerPort": 0 }]), "spec.containers[0].ports[0].containerPort: Invalid value"),
        ("/spec/containers/0/ports", json!([{ "containerPort": 80, "name": "a-name-too-long-x" }]), "spec.containers[0].ports[0].name: Invalid value"),
        ("/spec/containers/0/ports", json!([{ "containerPort": 80, "protocol": "tcp" }]), "spec.containers[0].ports[0].protocol: Unsupported value"),
        ("/spec/containers/0/env", json!([{ "name": "A=B" }]), "spec.containers[0].env[0].name: Invalid value"),
        (
            "/spec/containers/0/env",
            json!([{ "name": "A", "value": "x", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }]),
            "spec.containers[0].env[0].valueFrom: Invalid value",
        ),
        ("/spec/containers/0/volumeMounts", json!([{ "name": "v", "mountPath": "/v" }]), "spec.containers[0].volumeMounts[0].name: Not found"),
        (
            "/spec/containers/0/resources",
            json!({ "requests": { "cpu": "2" }, "limits": { "cpu": "1" } }),
            "spec.containers[0].resources.requests[cpu]: Invalid value",
        ),
        ("/spec/containers/0/livenessProbe", json!({}), "spec.containers[0].livenessProbe: Required value"),
        (
            "/spec/containers/0/livenessProbe",
            json!({ "exec": { "command": ["a"] }, "tcpSocket": { "port": 1 } }),
            "spec.containers[0].livenessProbe.tcpSocket: Forbidden",
        ),
        ("/spec/containers/0/livenessProbe", json!({ "httpGet": { "port": "" } }), "spec.containers[0].livenessProbe.httpGet.port: Required value"),
        ("/spec/containers/0/imagePullPolicy", json!("always"), "spec.containers[0].imagePullPolicy: Unsupported value"),
        ("/spec/restartPolicy", json!("never"), "spec.restartPolicy: Unsupported value"),
        ("/spec/volumes", json!([{ "name": "a", "emptyDir": {}, "hostPath": { "path": "/" } }]), "spec.volumes[0].hostPath: Forbidden"),
        ("/spec/volumes", json!([{ "name": "a", "secret": {} }]), "spec.volumes[0].secret.secretName: Required value"),
        ("/spec/tolerations", json!([{ "operator": "Equal" }]), "spec.tolerations[0].operator: Invalid value"),
        ("/spec/nodeSelector", json!({ "disk": "fast!" }), "spec.nodeSelector[disk]: Invalid value"),
    ]
}

/// Where a pod may run, as whom, and what it is told.
fn placed_rows() -> Vec<Row> {
    vec![
        ("/spec/tolerations", json!([{ "key": "a", "value": "b!" }]), "spec.tolerations[0].operator: Invalid value"),
        ("/spec/hostAliases", json!([{ "ip": "host" }]), "spec.hostAliases[0].ip: Invalid value"),
        ("/spec/dnsConfig", json!({ "nameservers": ["dns"] }), "spec.dnsConfig.nameservers[0]: Invalid value"),
        ("/spec/dnsConfig", json!({ "options": [{ "value": "2" }] }), "spec.dnsConfig.options[0]: Required value"),
        (
            "/spec/affinity",
            json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [] } } }),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value",
        ),
        (
            "/spec/affinity",
            json!({ "podAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 101, "podAffinityTerm": { "topologyKey": "zone" } }] } }),
            "spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value",
        ),
        (
            "/spec/topologySpreadConstraints",
            json!([{ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "Never" }]),
            "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value",
        ),
        ("/spec/securityContext", json!({ "runAsUser": -1 }), "spec.securityContext.runAsUser: Invalid value"),
        ("/spec/securityContext", json!({ "seccompProfile": { "type": "Localhost" } }), "spec.securityContext.seccompProfile.localhostProfile: Required value"),
        ("/spec/securityContext", json!({ "sysctls": [{ "name": "Kernel", "value": "1" }] }), "spec.securityContext.sysctls[0].name: Invalid value"),
        (
            "/spec/containers/0/securityContext",
            json!({ "privileged": true, "allowPrivilegeEscalation": false }),
            "spec.containers[0].securityContext: Invalid value",
        ),
        ("/spec/containers/0/envFrom", json!([{ "secretRef": {} }]), "spec.containers[0].envFrom[0].secretRef.name: Required value"),
        (
            "/spec/containers/0/env",
            json!([{ "name": "A", "valueFrom": { "resourceFieldRef": { "resource": "limits.cpu", "divisor": "2" } } }]),
            "spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value",
        ),
        ("/spec/containers/0/lifecycle", json!({ "preStop": { "sleep": { "seconds": 31 } } }), "spec.containers[0].lifecycle.preStop.sleep: Invalid value"),
        (
            "/spec/containers/0/resizePolicy",
            json!([{ "resourceName": "disk", "restartPolicy": "NotRequired" }]),
            "spec.containers[0].resizePolicy: Unsupported value",
        ),
        ("/spec/volumes", json!([{ "name": "a", "hostPath": { "path": "/a", "type": "Dir" } }]), "spec.volumes[0].hostPath.type: Unsupported value"),
        (
            "/spec/volumes",
            json!([{ "name": "a", "downwardAPI": { "items": [{ "path": "p", "fieldRef": { "fieldPath": "metadata.color" } }] } }]),
            "spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath: Invalid value",
        ),
    ]
}

#[test]
fn pods() {
    for (pointer, value, expected) in pod_rows().into_iter().chain(placed_rows()) {
        let mut pod = pod();
        set(&mut pod, pointer, &value);
        let found = findings("v1", "Pod", &pod);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer} {value}: {found:?}, expected {expected}");
    }
}

#[test]
fn workloads() {
    let rows: &[Row] = &[
        ("/spec/replicas", json!(-1), "spec.replicas: Invalid value"),
        ("/spec/selector", json!({}), "spec.selector: Invalid value"),
        ("/spec/selector/matchLabels/app", json!("other"), "spec.template.metadata.labels: Invalid value"),
        ("/spec/strategy", json!({ "type": "Recreate", "rollingUpdate": {} }), "spec.strategy.rollingUpdate: Forbidden"),
        ("/spec/strategy", json!({ "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 0 } }), "spec.strategy.rollingUpdate.maxUnavailable: Invalid value"),
        ("/spec/strategy", json!({ "rollingUpdate": { "maxSurge": "half" } }), "spec.strategy.rollingUpdate.maxSurge: Invalid value"),
        ("/spec/template/spec/restartPolicy", json!("OnFailure"), "spec.template.spec.restartPolicy: Unsupported value"),
        ("/spec/template/spec/containers/0/image", json!(""), "spec.template.spec.containers[0].image: Required value"),
        ("/spec/progressDeadlineSeconds", json!(0), "spec.progressDeadlineSeconds: Invalid value"),
    ];
    for (pointer, value, expected) in rows {
        let mut object = deployment();
        set(&mut object, pointer, value);
        let found = findings("apps/v1", "Deployment", &object);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer} {value}: {found:?}, expected {expected}");
    }
}

#[test]
fn services() {
    let rows: &[Row] = &[
        ("/metadata/name", json!("1web"), "metadata.name: Invalid value"),
        ("/spec/type", json!("loadBalancer"), "spec.type: Unsupported value"),
        ("/spec/ports", json!([]), "spec.ports: Required value"),
        ("/spec/ports", json!([{ "port": 1 }, { "port": 2, "name": "b" }]), "spec.ports[0].name: Required value"),
        ("/spec/ports", json!([{ "port": 1, "name": "a" }, { "port": 1, "name": "b" }]), "spec.ports[1]: Duplicate value"),
        ("/spec/ports", json!([{ "port": 70_000, "targetPort": 1 }]), "spec.ports[0].port: Invalid value"),
        ("/spec/ports", json!([{ "port": 80, "nodePort": 30_080 }]), "spec.ports[0].nodePort: Forbidden"),
        ("/spec/clusterIP", json!("ten"), "spec.clusterIP: Invalid value"),
    ];
    for (pointer, value, expected) in rows {
        let mut object = service();
        set(&mut object, pointer, value);
        let found = findings("v1", "Service", &object);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer} {value}: {found:?}, expected {expected}");
    }
    let mut node = service();
    node["spec"]["type"] = json!("NodePort");
    node["spec"]["ports"][0]["nodePort"] = json!(80);
    assert_eq!(findings("v1", "Service", &node), ["spec.ports[0].nodePort: Invalid value: 80: must be between 30000 and 32767"]);
    let near = {
        let mut service = service();
        service["spec"]["type"] = json!("nodeport");
        findings("v1", "Service", &service)
    };
    assert_eq!(near, [r#"spec.type: Unsupported value: "nodeport": expected one of ClusterIP, NodePort, LoadBalancer, ExternalName; did you mean NodePort?"#]);
}

#[test]
fn data_and_events() {
    let meta = json!({ "name": "x", "namespace": "default" });
    let config = json!({ "metadata": meta, "data": { "a/b": "1", "ok": "2" }, "binaryData": { "ok": "AA==" } });
    let found = findings("v1", "ConfigMap", &config);
    assert_eq!(found.len(), 2, "{found:?}");
    let tls = json!({ "metadata": meta, "type": "kubernetes.io/tls", "data": { "tls.crt": "AA==" } });
    assert_eq!(findings("v1", "Secret", &tls), ["data[tls.key]: Required value: a Secret of type kubernetes.io/tls must have it"]);
    let event = json!({ "metadata": meta, "involvedObject": { "namespace": "other" } });
    assert!(findings("v1", "Event", &event)[0].starts_with("involvedObject.namespace"));
    assert!(findings("v1", "Namespace", &json!({ "metadata": { "name": "a", "namespace": "b" } }))[0].starts_with("metadata.namespace: Forbidden"));
}

#[test]
fn changes() {
    let change = |api_version: &str, kind: &str, old: &Value, pointer: &str, value: Value| -> Vec<String> {
        let kind = by_kind(api_version, kind).expect("a known kind");
        let mut new = old.clone();
        set(&mut new, pointer, &value);
        validate::update(old, &new, kind).iter().map(|finding| finding.path.to_string()).collect()
    };
    let web = deployment();
    assert_eq!(change("apps/v1", "Deployment", &web, "/spec/replicas", json!(3)), [""; 0]);
    assert_eq!(change("apps/v1", "Deployment", &web, "/spec/selector/matchLabels/app", json!("b")), ["spec.selector"]);
    assert_eq!(change("apps/v1", "Deployment", &web, "/metadata/name", json!("b")), ["metadata.name"]);
    let mut with_address = service();
    with_address["spec"]["clusterIP"] = json!("10.43.0.9");
    assert_eq!(change("v1", "Service", &with_address, "/spec/clusterIP", json!("10.43.0.8")), ["spec.clusterIP"]);
    assert_eq!(change("v1", "Service", &service(), "/spec/clusterIP", json!("10.43.0.8")), [""; 0]);
    let frozen = json!({ "metadata": { "name": "c" }, "immutable": true, "data": { "a": "1" } });
    assert_eq!(change("v1", "ConfigMap", &frozen, "/data/a", json!("2")), ["data"]);
    assert_eq!(change("v1", "ConfigMap", &frozen, "/immutable", json!(false)), ["immutable"]);
    assert_eq!(change("v1", "Secret", &json!({ "type": "Opaque" }), "/type", json!("other")), ["type"]);
    assert_eq!(change("v1", "Pod", &pod(), "/spec/containers/0/image", json!("web:2")), [""; 0]);
    assert_eq!(change("v1", "Pod", &pod(), "/spec/nodeName", json!("n1")), [""; 0]);
    assert_eq!(change("v1", "Pod", &pod(), "/spec/containers/0/command", json!(["x"])), ["spec.containers"]);
}
