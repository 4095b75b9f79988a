//! The cluster's everyday behaviour, with its own verbs.

use strake_tests::{PATIENCE, World, needs, until};

const APP: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: hello, file.txt: from a file}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: s3cret}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - name: web
          image: web
          env:
            - {name: LITERAL, value: plain}
            - name: GREETING
              valueFrom: {configMapKeyRef: {name: settings, key: greeting}}
            - name: TOKEN
              valueFrom: {secretKeyRef: {name: keys, key: token}}
          readinessProbe:
            httpGet: {path: /healthz, port: 8080}
          livenessProbe:
            tcpSocket: {port: 8080}
          resources:
            limits: {memory: 64Mi, cpu: 200m}
          volumeMounts:
            - {name: settings, mountPath: /settings}
            - {name: keys, mountPath: /keys, readOnly: true}
            - {name: scratch, mountPath: /scratch}
        - name: side
          image: web
          args: [store]
          env:
            - {name: PORT, value: \"9090\"}
          volumeMounts:
            - {name: scratch, mountPath: /scratch}
      volumes:
        - name: settings
          configMap: {name: settings}
        - name: keys
          secret: {secretName: keys}
        - name: scratch
          emptyDir: {}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
";

fn served() -> World {
    let world = World::new();
    world.program("app/guestbook");
    world.write("app/Dockerfile", "# image: web\nFROM scratch\nCOPY guestbook /guestbook\nENTRYPOINT [\"/guestbook\"]\nSTOPSIGNAL SIGKILL\nCMD [\"store\"]\n");
    world.write("app/app.yaml", APP);
    world.serve();
    world.strake(&["apply", "app"]).ok();
    world
}

#[test]
fn everyday_verbs() {
    needs!();
    let world = served();
    let wide = world.strake(&["get", "pods", "-o", "wide"]).ok().stdout;
    assert_eq!(wide.matches("2/2").count(), 2, "{wide}");
    assert!(wide.contains("10.42."), "{wide}");
    let yaml = world.strake(&["get", "deployment/web", "-o", "yaml"]).ok().stdout;
    assert!(yaml.contains("revisionHistoryLimit: 10"), "defaults are there: {yaml}");
    assert!(world.strake(&["get", "pods", "-l", "app=other"]).ok().all().contains("No resources found"));
    assert!(world.strake(&["get", "pods", "-A"]).ok().stdout.contains("NAMESPACE"));
    let described = || world.strake(&["describe", "deployment", "web"]).ok().stdout;
    assert!(until(PATIENCE, || described().contains("Events") && described().contains("ScalingReplicaSet")), "{}", described());
    let logs = world.strake(&["logs", "deployment/web", "-c", "web"]).ok().stdout;
    assert!(logs.contains("listening on port 8080"), "{logs}");
    let pod = world.strake(&["get", "pods", "-o", "name"]).ok().stdout.lines().next().expect("a pod").trim_start_matches("pod/").to_owned();
    // exec: the exit code comes back.
    world.strake(&["exec", &pod, "-c", "web", "--", "/guestbook", "render", "/scratch/site"]).ok();
    let failed = world.strake(&["exec", &pod, "-c", "web", "--", "/guestbook", "sing"]);
    assert_eq!(failed.code, 1, "{}", failed.all());
    assert!(failed.stderr.contains("usage: guestbook"), "{}", failed.all());
    // The volume is shared between the pod's containers.
    world.strake(&["exec", &pod, "-c", "side", "--", "/guestbook", "render", "/scratch/site"]).ok();

    world.strake(&["scale", "deployment/web", "--replicas", "3"]).ok();
    let three = || world.strake(&["get", "pods"]).ok().stdout.matches("2/2").count() == 3;
    assert!(until(PATIENCE, three), "{}", world.strake(&["get", "pods"]).stdout);
    world.strake(&["rollout", "restart", "deployment/web"]).ok();
    world.strake(&["rollout", "status", "deployment/web"]).ok();
    let history = world.strake(&["rollout", "history", "deployment/web"]).ok().stdout;
    assert!(history.contains('2'), "{history}");
    let gone = || world.strake(&["get", "pod", &pod]).code == 1;
    assert!(until(PATIENCE, gone));
    world.strake(&["delete", "pod", &pod]).fails(1, "not found");
    world.strake(&["delete", "deployment", "web"]).ok();
    let none = || !world.strake(&["get", "pods"]).ok().stdout.contains("web-");
    assert!(until(PATIENCE, none), "{}", world.strake(&["get", "pods"]).stdout);
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn a_deleted_pod_is_replaced_and_state_is_durable() {
    needs!();
    let world = served();
    let names = || world.strake(&["get", "pods", "-o", "name"]).ok().stdout;
    let first = names().lines().next().expect("a pod").to_owned();
    world.strake(&["delete", &first]).ok();
    let replaced = || !names().contains(&first) && world.strake(&["get", "pods"]).ok().stdout.matches("2/2").count() == 2;
    assert!(until(PATIENCE, replaced), "{}", names());
    world.stop();
    world.serve();
    let deployments = world.strake(&["get", "deployments"]).ok().stdout;
    assert!(deployments.contains("web"), "{deployments}");
    let back = || world.strake(&["get", "pods"]).ok().stdout.matches("2/2").count() == 2;
    assert!(until(PATIENCE, back), "{}", world.strake(&["get", "pods"]).stdout);
    world.strake(&["down", "app"]).ok();
    world.stop();
}
