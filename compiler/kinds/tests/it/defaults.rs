//! Defaults, against what an API server answers for the same objects.

use serde_json::{Value, json};
use strake_kinds::{by_kind, default};

fn defaulted(api_version: &str, kind: &str, mut value: Value) -> Value {
    let kind = by_kind(api_version, kind).expect("a known kind");
    default::apply(&mut value, kind);
    let once = value.clone();
    default::apply(&mut value, kind);
    assert_eq!(value, once, "a second call changes nothing");
    value
}

#[test]
fn a_pod_gets_its_policies() {
    let pod = defaulted(
        "v1",
        "Pod",
        json!({ "spec": {
            "serviceAccountName": "robot",
            "containers": [{
                "name": "c", "image": "web:1", "ports": [{ "containerPort": 80 }],
                "readinessProbe": { "httpGet": { "port": 80 } },
                "env": [{ "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } }],
                "resources": { "limits": { "cpu": "1", "memory": "1Gi" }, "requests": { "cpu": "500m" } },
            }],
            "volumes": [{ "name": "a" }, { "name": "b", "configMap": { "name": "b" } }, { "name": "c", "hostPath": { "path": "/" } }],
        } }),
    );
    let expected = json!({
        "spec": {
            "serviceAccountName": "robot", "serviceAccount": "robot", "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
            "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "enableServiceLinks": true,
            "containers": [{
                "name": "c", "image": "web:1", "imagePullPolicy": "IfNotPresent",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "ports": [{ "containerPort": 80, "protocol": "TCP" }],
                "readinessProbe": {
                    "httpGet": { "port": 80, "path": "/", "scheme": "HTTP" },
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                },
                "env": [{ "name": "IP", "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "status.podIP" } } }],
                "resources": { "limits": { "cpu": "1", "memory": "1Gi" }, "requests": { "cpu": "500m", "memory": "1Gi" } },
            }],
            "volumes": [
                { "name": "a", "emptyDir": {} },
                { "name": "b", "configMap": { "name": "b", "defaultMode": 420 } },
                { "name": "c", "hostPath": { "path": "/", "type": "" } },
            ],
        },
        "status": { "phase": "Pending", "qosClass": "Burstable" },
    });
    assert_eq!(pod, expected);
}

#[test]
fn images_that_can_move_are_always_pulled() {
    let cases = [
        ("web", "Always"),
        ("web:latest", "Always"),
        ("web:1", "IfNotPresent"),
        ("localhost:5000/web", "Always"),
        ("web@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "IfNotPresent"),
    ];
    for (image, policy) in cases {
        let pod = defaulted("v1", "Pod", json!({ "spec": { "containers": [{ "image": image }] } }));
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn classes_of_service() {
    let cases = [
        (json!({}), "BestEffort"),
        (json!({ "requests": { "cpu": "1" } }), "Burstable"),
        (json!({ "limits": { "cpu": "1", "memory": "1Gi" } }), "Guaranteed"),
        (json!({ "limits": { "cpu": "1", "memory": "1Gi" }, "requests": { "cpu": "500m" } }), "Burstable"),
        (json!({ "limits": { "cpu": "1" } }), "Burstable"),
    ];
    for (resources, class) in cases {
        let pod = defaulted("v1", "Pod", json!({ "spec": { "containers": [{ "resources": resources }] } }));
        assert_eq!(pod["status"]["qosClass"], class, "{resources}");
    }
}

#[test]
fn a_deployment_rolls_by_quarters_and_its_template_is_not_yet_a_pod() {
    let deployment = defaulted("apps/v1", "Deployment", json!({ "spec": { "template": { "spec": { "containers": [{ "image": "a:1" }] } } } }));
    let spec = &deployment["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["strategy"], json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "25%", "maxSurge": "25%" } }));
    assert_eq!((&spec["revisionHistoryLimit"], &spec["progressDeadlineSeconds"]), (&json!(10), &json!(600)));
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Always");
    assert_eq!(pod.get("enableServiceLinks"), None);
    let recreate = defaulted("apps/v1", "Deployment", json!({ "spec": { "strategy": { "type": "Recreate" }, "replicas": 0 } }));
    assert_eq!(recreate["spec"]["strategy"], json!({ "type": "Recreate" }));
    assert_eq!(recreate["spec"]["replicas"], 0);
}

#[test]
fn services_by_type() {
    let plain = defaulted("v1", "Service", json!({ "spec": { "ports": [{ "port": 80 }] } }));
    let expected = json!({
        "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "ports": [{ "port": 80, "protocol": "TCP", "targetPort": 80 }],
    });
    assert_eq!(plain["spec"], expected);
    assert_eq!(plain["status"], json!({ "loadBalancer": {} }));
    let node = defaulted("v1", "Service", json!({ "spec": { "type": "NodePort", "clusterIP": "10.43.0.7", "ports": [{ "port": 80, "targetPort": "http" }] } }));
    assert_eq!(node["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(node["spec"]["clusterIPs"], json!(["10.43.0.7"]));
    assert_eq!(node["spec"]["ports"][0]["targetPort"], "http");
    let external = defaulted("v1", "Service", json!({ "spec": { "type": "ExternalName", "externalName": "example.com" } }));
    assert_eq!(external["spec"].get("internalTrafficPolicy"), None);
    let sticky = defaulted("v1", "Service", json!({ "spec": { "sessionAffinity": "ClientIP" } }));
    assert_eq!(sticky["spec"]["sessionAffinityConfig"], json!({ "clientIP": { "timeoutSeconds": 10_800 } }));
}

#[test]
fn secrets_and_namespaces() {
    let row = strake_kinds::table().iter().find(|row| row.kind == "Secret").expect("a row");
    let mut folded = json!({ "stringData": { "a": "new" }, "data": { "b": "Yg==" } });
    strake_kinds::default::fold_write_only(&mut folded, row);
    assert_eq!(folded, json!({ "data": { "a": "bmV3", "b": "Yg==" } }));
    let mut wrong = json!({ "stringData": { "a": 1 } });
    strake_kinds::default::fold_write_only(&mut wrong, row);
    assert_eq!(wrong, json!({ "stringData": { "a": 1 } }), "validation says what is wrong with it");
    let secret = defaulted("v1", "Secret", json!({ "stringData": { "a": "new", "b": "b" }, "data": { "a": "b2xk" } }));
    assert_eq!(secret, json!({ "type": "Opaque", "data": { "a": "bmV3", "b": "Yg==" } }));
    let namespace = defaulted("v1", "Namespace", json!({ "metadata": { "name": "shop" } }));
    let expected = json!({
        "metadata": { "name": "shop", "labels": { "kubernetes.io/metadata.name": "shop" } },
        "spec": { "finalizers": ["kubernetes"] },
        "status": { "phase": "Active" },
    });
    assert_eq!(namespace, expected);
}
