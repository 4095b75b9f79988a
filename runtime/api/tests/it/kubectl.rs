//! The real kubectl against the API over plain HTTP, where there is one.

use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::scene::Scene;

/// The dispatcher that some machines have as their kubectl runs the client of the version that the server says it is: so each is a test.
macro_rules! versions {
    ($($module:ident $minor:literal)*) => { $(mod $module {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn looking_around() { super::looking_around($minor).await; }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn config_maps() { super::config_maps($minor).await; }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn deployments() { super::deployments($minor).await; }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn pods() { super::pods($minor).await; }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn rollouts() { super::rollouts($minor).await; }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn nodes() { super::nodes($minor).await; }
    })* };
}

versions! { v1_31 "31" v1_32 "32" v1_33 "33" }

struct Kubectl {
    home: tempfile::TempDir,
    server: String,
    scene: Scene,
}

impl Kubectl {
    /// A server on a free port and a kubectl that knows nothing else; `None`, said loudly, where there is no kubectl.
    async fn new(minor: &str) -> Option<Kubectl> {
        let found = Command::new("kubectl").arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().await.is_ok_and(|status| status.success());
        if !found {
            eprintln!("SKIPPED: there is no kubectl on this machine");
            return None;
        }
        let scene = Scene::of_version(minor).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let router = scene.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Some(Kubectl { home: tempfile::tempdir().unwrap(), server, scene })
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new("kubectl");
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.home.path()).env("KUBECONFIG", "/dev/null").kill_on_drop(true);
        command.arg("--server").arg(&self.server).args(arguments).current_dir(self.home.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        tokio::time::timeout(std::time::Duration::from_secs(300), child.wait_with_output()).await.expect("kubectl ends").unwrap()
    }

    /// Starts kubectl and gives its lines as they come; it ends when they are dropped.
    fn lines(&self, arguments: &[&str]) -> Lines {
        let mut command = Command::new("kubectl");
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.home.path()).env("KUBECONFIG", "/dev/null").kill_on_drop(true);
        let mut child = command.arg("--server").arg(&self.server).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Lines { lines, _child: child }
    }

    /// Runs kubectl, expects it to succeed, and gives what it said.
    async fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input).await;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "kubectl {arguments:?}\n{out}\n{err}");
        out.into_owned()
    }

    /// Runs kubectl, expects this exit code, and gives everything it said.
    async fn fails(&self, code: i32, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input).await;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "kubectl {arguments:?}\n{text}");
        text
    }
}

/// What a kubectl that goes on says.
struct Lines {
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    _child: tokio::process::Child,
}

impl Lines {
    /// Reads until a line has `part` in it.
    async fn until(&mut self, part: &str) {
        let search = async {
            let mut seen = Vec::new();
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line.contains(part) {
                    return;
                }
                seen.push(line);
            }
            panic!("{part} does not come: {seen:?}");
        };
        tokio::time::timeout(std::time::Duration::from_secs(300), search).await.expect("it comes in time");
    }
}

fn words(text: &str) -> String {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n")
}

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {tier: front}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: "example.com/app:1", ports: [{containerPort: 8080}]}
"#;

const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: blue}\n";

async fn looking_around(minor: &str) {
    let Some(kubectl) = Kubectl::new(minor).await else { return };
    assert!(kubectl.ok(&["version"], "").await.contains(&format!("Server Version: v1.{minor}.0+strake")));
    let resources = kubectl.ok(&["api-resources"], "").await;
    assert!(words(&resources).contains("deployments deploy apps/v1 true Deployment"), "{resources}");
    assert!(kubectl.ok(&["api-versions"], "").await.contains("apps/v1"));
    assert_eq!(words(&kubectl.ok(&["get", "ns", "--no-headers"], "").await).matches("Active").count(), 4);
    assert!(kubectl.ok(&["get", "svc"], "").await.contains("10.43.0.1"));
    let all = kubectl.ok(&["get", "all", "-A"], "").await;
    assert!(all.contains("service/kubernetes"), "{all}");
    let explained = kubectl.ok(&["explain", "deployment.spec.replicas"], "").await;
    assert!(explained.contains("FIELD: replicas <integer>"), "{explained}");
    assert!(kubectl.ok(&["explain", "pods", "--recursive"], "").await.contains("terminationGracePeriodSeconds"));
    assert_eq!(kubectl.ok(&["auth", "can-i", "delete", "pods"], "").await.trim(), "yes");
    assert!(kubectl.ok(&["auth", "can-i", "--list"], "").await.contains('*'));
    assert!(kubectl.ok(&["auth", "whoami"], "").await.contains("system:admin"));
    assert_eq!(kubectl.ok(&["get", "--raw", "/readyz"], "").await.trim(), "ok");
    let missing = kubectl.fails(1, &["get", "cm", "none"], "").await;
    assert!(missing.contains("Error from server (NotFound): configmaps \"none\" not found"), "{missing}");
    let unknown = kubectl.fails(1, &["get", "statefulsets"], "").await;
    assert!(unknown.contains("doesn't have a resource type \"statefulsets\""), "{unknown}");
}

async fn config_maps(minor: &str) {
    let Some(kubectl) = Kubectl::new(minor).await else { return };
    assert_eq!(kubectl.ok(&["create", "configmap", "made", "--from-literal=a=b"], "").await.trim(), "configmap/made created");
    assert_eq!(kubectl.ok(&["create", "secret", "generic", "hidden", "--from-literal=a=b"], "").await.trim(), "secret/hidden created");
    assert_eq!(kubectl.ok(&["create", "ns", "team"], "").await.trim(), "namespace/team created");
    assert_eq!(kubectl.ok(&["create", "sa", "robot"], "").await.trim(), "serviceaccount/robot created");
    assert_eq!(kubectl.ok(&["apply", "-f", "-"], CONFIG).await.trim(), "configmap/settings created");
    assert_eq!(kubectl.ok(&["apply", "-f", "-"], CONFIG).await.trim(), "configmap/settings unchanged");
    let green = CONFIG.replace("blue", "green");
    let difference = kubectl.fails(1, &["diff", "-f", "-"], &green).await;
    assert!(difference.contains("-  colour: blue") && difference.contains("+  colour: green"), "{difference}");
    assert_eq!(kubectl.ok(&["apply", "-f", "-"], &green).await.trim(), "configmap/settings configured");
    assert_eq!(kubectl.ok(&["diff", "-f", "-"], &green).await, "");
    assert_eq!(kubectl.ok(&["get", "cm", "settings", "-o", "jsonpath={.data.colour}"], "").await, "green");
    let conflict = kubectl.fails(1, &["apply", "--server-side", "--field-manager=ci", "-f", "-"], CONFIG).await;
    assert!(conflict.contains("conflict with \"kubectl-client-side-apply\"") && conflict.contains(".data.colour"), "{conflict}");
    let forced = kubectl.ok(&["apply", "--server-side", "--field-manager=ci", "--force-conflicts", "-f", "-"], CONFIG).await;
    assert_eq!(forced.trim(), "configmap/settings serverside-applied");
    let wrong = kubectl.fails(1, &["create", "-f", "-"], "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndato: {}\n").await;
    assert!(wrong.contains("unknown field \"dato\""), "{wrong}");
    let table = kubectl.ok(&["get", "cm", "-l", "!none"], "").await;
    assert!(words(&table).starts_with("NAME DATA AGE\nmade 1"), "{table}");
    assert!(kubectl.ok(&["get", "cm", "--sort-by=.metadata.name", "-o", "name"], "").await.starts_with("configmap/made"));
    assert!(kubectl.ok(&["describe", "cm", "settings"], "").await.contains("blue"));
    assert_eq!(kubectl.ok(&["label", "cm", "settings", "a=b"], "").await.trim(), "configmap/settings labeled");
    assert_eq!(kubectl.ok(&["annotate", "cm", "settings", "a=b"], "").await.trim(), "configmap/settings annotated");
    assert_eq!(
        kubectl.ok(&["patch", "cm", "settings", "--type=json", "-p", r#"[{"op":"add","path":"/data/more","value":"1"}]"#], "").await.trim(),
        "configmap/settings patched"
    );
    assert_eq!(kubectl.ok(&["replace", "-f", "-"], CONFIG).await.trim(), "configmap/settings replaced");
    assert_eq!(kubectl.ok(&["apply", "--dry-run=server", "-f", "-"], &green).await.lines().last(), Some("configmap/settings configured (server dry run)"));
    assert_eq!(kubectl.ok(&["delete", "cm", "settings", "made"], "").await, "configmap \"settings\" deleted\nconfigmap \"made\" deleted\n");
    assert_eq!(kubectl.ok(&["delete", "secret", "--all"], "").await.trim(), "secret \"hidden\" deleted");
}

async fn deployments(minor: &str) {
    let Some(kubectl) = Kubectl::new(minor).await else { return };
    assert_eq!(kubectl.ok(&["apply", "-f", "-"], DEPLOYMENT).await.trim(), "deployment.apps/web created");
    assert_eq!(kubectl.ok(&["apply", "-f", "-"], DEPLOYMENT).await.trim(), "deployment.apps/web unchanged");
    assert_eq!(kubectl.ok(&["create", "deployment", "made", "--image=example.com/app:1"], "").await.trim(), "deployment.apps/made created");
    let table = words(&kubectl.ok(&["get", "deploy", "-o", "wide"], "").await);
    assert!(table.starts_with("NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR\nmade 0/1 0 0"), "{table}");
    assert_eq!(kubectl.ok(&["scale", "deploy/web", "--replicas=5"], "").await.trim(), "deployment.apps/web scaled");
    assert_eq!(kubectl.ok(&["scale", "deploy/web", "--current-replicas=5", "--replicas=4"], "").await.trim(), "deployment.apps/web scaled");
    assert_eq!(kubectl.ok(&["get", "deploy", "web", "-o", "jsonpath={.spec.replicas}"], "").await, "4");
    assert_eq!(kubectl.ok(&["set", "image", "deploy/web", "main=example.com/app:2"], "").await.trim(), "deployment.apps/web image updated");
    assert_eq!(kubectl.ok(&["set", "env", "deploy/web", "A=b"], "").await.trim(), "deployment.apps/web env updated");
    assert_eq!(kubectl.ok(&["rollout", "restart", "deploy/web"], "").await.trim(), "deployment.apps/web restarted");
    assert_eq!(kubectl.ok(&["rollout", "pause", "deploy/web"], "").await.trim(), "deployment.apps/web paused");
    let described = kubectl.ok(&["describe", "deploy", "web"], "").await;
    assert!(described.contains("example.com/app:2") && described.contains("Port:       8080/TCP"), "{described}");
    assert_eq!(kubectl.ok(&["expose", "deploy", "web", "--port=80", "--target-port=8080", "--type=NodePort"], "").await.trim(), "service/web exposed");
    let service = words(&kubectl.ok(&["get", "svc", "web", "--no-headers"], "").await);
    assert!(service.starts_with("web NodePort 10.43.") && service.contains("80:3"), "{service}");
    assert!(kubectl.ok(&["describe", "svc", "web"], "").await.contains("app=web"));
    let applied = kubectl.ok(&["apply", "--server-side", "--force-conflicts", "-f", "-"], DEPLOYMENT).await;
    assert_eq!(applied.trim(), "deployment.apps/web serverside-applied");
    let difference = kubectl.fails(1, &["diff", "-f", "-"], &DEPLOYMENT.replace("replicas: 2", "replicas: 3")).await;
    assert!(difference.contains("+  replicas: 3"), "{difference}");
    let impossible = kubectl.fails(1, &["apply", "-f", "-"], &DEPLOYMENT.replace("app: web", "app: other")).await;
    assert!(impossible.contains("is invalid") && impossible.contains("spec.selector"), "{impossible}");
    assert_eq!(kubectl.ok(&["delete", "deploy", "web", "made"], "").await.lines().count(), 2);
    assert_eq!(kubectl.ok(&["get", "deploy", "-o", "name"], "").await, "");
}

async fn pods(minor: &str) {
    let Some(kubectl) = Kubectl::new(minor).await else { return };
    assert_eq!(kubectl.ok(&["run", "p", "--image=example.com/app:1", "--labels=a=b"], "").await.trim(), "pod/p created");
    let table = words(&kubectl.ok(&["get", "po", "-o", "wide", "-L", "a"], "").await);
    assert!(table.starts_with("NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES A\np 0/1 Pending 0"), "{table}");
    assert!(kubectl.ok(&["describe", "po", "p"], "").await.contains("example.com/app:1"));
    kubectl.scene.post("/api/v1/namespaces/default/pods/p/binding", serde_json::json!({"target": {"kind": "Node", "name": "n"}})).await;
    assert_eq!(kubectl.ok(&["logs", "p", "--tail=4"], "").await, "default/p p follow=false tail=Some(4)\nsecond line\n");
    assert_eq!(kubectl.ok(&["exec", "-i", "p", "--", "cat"], "through and back").await, "through and back");
    let failed = kubectl.fails(7, &["exec", "p", "--", "fail", "7"], "").await;
    assert!(failed.contains("exit code 7"), "{failed}");
    let waiting = kubectl.fails(1, &["wait", "--for=condition=Ready", "pod/p", "--timeout=1s"], "").await;
    assert!(waiting.contains("timed out"), "{waiting}");
    let mut watch = kubectl.lines(&["get", "po", "-w"]);
    watch.until("Pending").await;
    kubectl.scene.merge("/api/v1/namespaces/default/pods/p/status", serde_json::json!({"status": {"phase": "Failed"}})).await;
    watch.until("Failed").await;
    assert_eq!(kubectl.ok(&["delete", "po", "p"], "").await.trim(), "pod \"p\" deleted");
    assert!(kubectl.ok(&["get", "events"], "").await.is_empty());
}

/// What a Deployment's controller would write: a ReplicaSet of a revision.
fn replica_set(deployment: &serde_json::Value, revision: u32, image: &str) -> serde_json::Value {
    let mut template = deployment["spec"]["template"].clone();
    template["spec"]["containers"][0]["image"] = image.into();
    let hash = format!("hash{revision}");
    template["metadata"]["labels"]["pod-template-hash"] = hash.as_str().into();
    let owner = serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": deployment["metadata"]["uid"], "controller": true});
    serde_json::json!({
        "metadata": {
            "name": format!("web-{hash}"), "labels": {"app": "web", "pod-template-hash": hash}, "ownerReferences": [owner],
            "annotations": {"deployment.kubernetes.io/revision": revision.to_string()},
        },
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web", "pod-template-hash": hash}}, "template": template},
    })
}

async fn rollouts(minor: &str) {
    let Some(kubectl) = Kubectl::new(minor).await else { return };
    kubectl.ok(&["apply", "-f", "-"], DEPLOYMENT).await;
    let path = "/apis/apps/v1/namespaces/default/deployments/web";
    let (_, deployment) = kubectl.scene.get(path).await;
    for (revision, image) in [(1, "example.com/app:old"), (2, "example.com/app:1")] {
        kubectl.scene.created("/apis/apps/v1/namespaces/default/replicasets", replica_set(&deployment, revision, image)).await;
    }
    kubectl.scene.merge(path, serde_json::json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision": "2"}}})).await;
    let history = words(&kubectl.ok(&["rollout", "history", "deploy/web"], "").await);
    assert!(history.contains("1 <none>\n2 <none>"), "{history}");
    assert!(kubectl.ok(&["get", "rs"], "").await.contains("DESIRED"));
    assert_eq!(kubectl.ok(&["rollout", "undo", "deploy/web"], "").await.trim(), "deployment.apps/web rolled back");
    let (_, undone) = kubectl.scene.get(path).await;
    assert_eq!(undone["spec"]["template"]["spec"]["containers"][0]["image"], "example.com/app:old");

    let generation = undone["metadata"]["generation"].clone();
    let report = async |ready: i32| {
        let counts = serde_json::json!({"observedGeneration": generation, "replicas": 2, "updatedReplicas": 2, "readyReplicas": ready, "availableReplicas": ready,
            "conditions": [{"type": "Available", "status": if ready == 2 { "True" } else { "False" }}]});
        kubectl.scene.merge(&format!("{path}/status"), serde_json::json!({ "status": counts })).await
    };
    report(1).await;
    let mut status = kubectl.lines(&["rollout", "status", "deploy/web"]);
    status.until("1 of 2 updated replicas are available").await;
    report(2).await;
    status.until("successfully rolled out").await;
    let met = kubectl.ok(&["wait", "--for=condition=Available", "deploy/web", "--timeout=10s"], "").await;
    assert_eq!(met.trim(), "deployment.apps/web condition met");
}

async fn nodes(minor: &str) {
    let Some(kubectl) = Kubectl::new(minor).await else { return };
    let node = serde_json::json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}], "capacity": {"cpu": "4"}, "allocatable": {"cpu": "4"}}});
    kubectl.scene.created("/api/v1/nodes", node).await;
    kubectl.scene.created("/api/v1/namespaces/default/pods", crate::scene::pod("p")).await;
    kubectl.scene.post("/api/v1/namespaces/default/pods/p/binding", serde_json::json!({"target": {"kind": "Node", "name": "n"}})).await;
    assert!(words(&kubectl.ok(&["get", "no"], "").await).contains("n Ready <none>"));
    let described = kubectl.ok(&["describe", "no", "n"], "").await;
    assert!(described.contains("Non-terminated Pods:          (1 in total)"), "{described}");
    assert_eq!(kubectl.ok(&["taint", "no", "n", "a=b:NoSchedule"], "").await.trim(), "node/n tainted");
    assert_eq!(kubectl.ok(&["cordon", "n"], "").await.trim(), "node/n cordoned");
    assert!(words(&kubectl.ok(&["get", "no"], "").await).contains("n Ready,SchedulingDisabled"));
    let ends = async {
        // The node that is not there would confirm that the pod has stopped.
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let path = "/api/v1/namespaces/default/pods/p";
            if kubectl.scene.get(path).await.1["metadata"]["deletionTimestamp"].is_string() {
                kubectl.scene.delete(path, serde_json::json!({"gracePeriodSeconds": 0})).await;
                return;
            }
        }
    };
    let (drained, ()) = tokio::join!(kubectl.ok(&["drain", "n", "--force", "--timeout=120s"], ""), ends);
    assert!(drained.contains("pod/p evicted") && drained.contains("node/n drained"), "{drained}");
    assert_eq!(kubectl.ok(&["uncordon", "n"], "").await.trim(), "node/n uncordoned");

    kubectl.ok(&["create", "ns", "team"], "").await;
    let finalize = async {
        // Only a namespace that is being deleted has an end to confirm.
        while !kubectl.scene.get("/api/v1/namespaces/team").await.1["metadata"]["deletionTimestamp"].is_string() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let finalized = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}, "spec": {"finalizers": []}});
        kubectl.scene.put("/api/v1/namespaces/team/finalize", finalized).await
    };
    let (deleted, _) = tokio::join!(kubectl.ok(&["delete", "ns", "team", "--timeout=120s"], ""), finalize);
    assert_eq!(deleted.trim(), "namespace \"team\" deleted");
    assert!(kubectl.ok(&["cluster-info"], "").await.contains("Kubernetes control plane"));
}
