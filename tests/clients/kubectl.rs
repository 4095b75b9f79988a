//! The real kubectl, in the version that matches what the server advertises.

use strake_tests::{Follow, PATIENCE, World, find, needs, repository, until};

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: web
          imagePullPolicy: IfNotPresent
          readinessProbe: {httpGet: {path: /healthz, port: 8080}}
";

fn served() -> World {
    let world = World::new();
    world.program("app/guestbook");
    world.write("app/Dockerfile", "FROM scratch\nCOPY guestbook /guestbook\nENTRYPOINT [\"/guestbook\"]\nSTOPSIGNAL SIGKILL\nCMD [\"store\"]\n");
    world.strake(&["build", "-q", "-t", "web", "app"]).ok();
    world.write("web.yaml", WEB);
    world.serve();
    world
}

fn ready(world: &World, count: usize) -> bool {
    until(PATIENCE, || world.kubectl(&["get", "pods"]).stdout.matches("1/1").count() == count)
}

#[test]
fn reads() {
    needs!("kubectl");
    let world = served();
    let version = world.kubectl(&["version"]).ok().stdout;
    assert!(version.contains("Server Version: v1.33"), "{version}");
    let resources = world.kubectl(&["api-resources"]).ok().stdout;
    for part in ["deployments", "apps/v1", "endpointslices", "leases", "svc"] {
        assert!(resources.contains(part), "{part} in {resources}");
    }
    world.kubectl(&["apply", "-f", "web.yaml"]).ok();
    assert!(ready(&world, 2), "{}", world.kubectl(&["get", "pods"]).all());
    let wide = world.kubectl(&["get", "pods", "-o", "wide", "-l", "app=web"]).ok().stdout;
    assert!(wide.contains("NODE") && wide.contains("10.42."), "{wide}");
    assert!(world.kubectl(&["get", "deploy", "web", "-o", "yaml"]).ok().stdout.contains("progressDeadlineSeconds: 600"));
    assert!(world.kubectl(&["get", "all", "-A"]).ok().stdout.contains("deployment.apps/web"));
    let described = || world.kubectl(&["describe", "pods", "-l", "app=web"]).ok().stdout;
    for part in ["Started", "Ready", "ContainersReady", "Controlled By:  ReplicaSet/web-", "Scheduled"] {
        assert!(until(PATIENCE, || described().contains(part)), "{part} in {}", described());
    }
    let nodes = world.kubectl(&["get", "nodes"]).ok().stdout;
    assert!(nodes.contains(" Ready "), "{nodes}");
    let watch = Follow::start(world.kubectl_command(&["get", "pods", "-w"]));
    watch.says("the pods", |said| said.matches("web-").count() >= 2);
    watch.kill();
    world.kubectl(&["delete", "deployment", "web"]).ok();
    world.stop();
}

#[test]
fn writes() {
    needs!("kubectl");
    let world = served();
    world.kubectl(&["create", "namespace", "shop"]).ok();
    world.kubectl(&["create", "deployment", "web", "--image=web", "--replicas=1"]).ok();
    let patch = r#"[{"op":"add","path":"/spec/template/spec/containers/0/imagePullPolicy","value":"IfNotPresent"}]"#;
    world.kubectl(&["patch", "deployment", "web", "--type=json", "-p", patch]).ok();
    world.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]).ok();
    world.kubectl(&["expose", "deployment", "web", "--port=80", "--target-port=8080"]).ok();
    let slices = || world.kubectl(&["get", "endpointslices", "-l", "kubernetes.io/service-name=web"]).ok().stdout;
    assert!(until(PATIENCE, || slices().contains("10.42.")), "{}", slices());
    world.kubectl(&["scale", "deployment/web", "--replicas=3"]).ok();
    assert!(ready(&world, 3), "{}", world.kubectl(&["get", "pods"]).all());
    world.kubectl(&["set", "env", "deployment/web", "A=b"]).ok();
    world.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]).ok();
    let history = world.kubectl(&["rollout", "history", "deployment/web"]).ok().stdout;
    assert!(history.contains('3'), "{history}");
    world.kubectl(&["rollout", "undo", "deployment/web"]).ok();
    world.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]).ok();
    assert!(!world.kubectl(&["get", "deployment", "web", "-o", "yaml"]).ok().stdout.contains("name: A\n"));
    world.kubectl(&["label", "deployment", "web", "tier=front"]).ok();
    world.kubectl(&["annotate", "deployment", "web", "note=x"]).ok();
    world.kubectl(&["delete", "deployment,service", "web"]).ok();
    world.kubectl(&["delete", "namespace", "shop"]).ok();
    world.stop();
}

#[test]
fn applies_both_ways() {
    needs!("kubectl");
    let world = served();
    world.kubectl(&["apply", "-f", "web.yaml"]).ok();
    assert!(world.kubectl(&["apply", "-f", "web.yaml"]).ok().stdout.contains("unchanged"));
    world.write("web.yaml", WEB.replace("replicas: 2", "replicas: 1"));
    let diff = world.kubectl(&["diff", "-f", "web.yaml"]);
    assert_eq!(diff.code, 1, "{}", diff.all());
    assert!(world.kubectl(&["apply", "-f", "web.yaml"]).ok().stdout.contains("configured"));
    world.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "web.yaml"]).ok();
    assert!(world.kubectl(&["apply", "--server-side", "-f", "web.yaml"]).ok().stdout.contains("serverside-applied"));
    world.write("web.yaml", WEB.replace("replicas:", "replicsa:"));
    world.kubectl(&["apply", "-f", "web.yaml"]).fails(1, "replicsa");
    world.kubectl(&["delete", "deployment", "web"]).ok();
    world.stop();
}

#[test]
fn the_demos_manifests_apply_and_go_in_one_pass() {
    needs!("kubectl");
    let world = served();
    let manifests = repository().join("examples/guestbook/manifests").display().to_string();
    let applied = world.kubectl(&["apply", "-f", &manifests]).ok().stdout;
    assert_eq!(applied.matches(" created").count(), 7, "{applied}");
    // What is written as stringData is managed as data: there is no conflict between the two ways to apply.
    let again = world.kubectl(&["apply", "--server-side", "-f", &manifests]).ok().stdout;
    assert_eq!(again.matches(" serverside-applied").count(), 7, "{again}");
    let gone = world.kubectl(&["delete", "-f", &manifests]).ok().stdout;
    assert_eq!(gone.matches(" deleted").count(), 7, "{gone}");
    world.kubectl(&["get", "namespace", "guestbook"]).fails(1, "NotFound");
    world.stop();
}

#[test]
fn logs_and_exec_stream() {
    needs!("kubectl");
    let world = served();
    world.kubectl(&["apply", "-f", "web.yaml"]).ok();
    assert!(ready(&world, 2));
    assert!(world.kubectl(&["logs", "deployment/web"]).ok().stdout.contains("listening on port 8080"));
    let kubeconfig = world.root().join("cluster/kubeconfig").display().to_string();
    let follow = Follow::start(world.kubectl_command(&["logs", "-f", "deployment/web"]));
    follow.says("what it says", |said| said.contains("listening"));
    follow.kill();
    world.kubectl(&["exec", "deployment/web", "--", "/guestbook", "render", "/tmp"]).ok();
    let failed = world.kubectl(&["exec", "deployment/web", "--", "/guestbook", "sing"]);
    assert_eq!(failed.code, 1, "{}", failed.all());
    assert!(failed.stderr.contains("usage: guestbook"), "{}", failed.all());
    if find("script").is_some() {
        let command = format!("kubectl --kubeconfig {kubeconfig} exec -it deployment/web -- /guestbook render /tmp/tty");
        world.run("script", &["-qec", &command, "/dev/null"]).ok();
    }
    world.kubectl(&["delete", "deployment", "web"]).ok();
    world.stop();
}

#[test]
fn ports_are_forwarded() {
    needs!("kubectl", "curl");
    let world = served();
    world.kubectl(&["apply", "-f", "web.yaml"]).ok();
    assert!(ready(&world, 2));
    let curl = |arguments: &[&str]| world.run("curl", &[&["-s", "-S", "-m", "60"], arguments].concat());
    // Inside a websocket, and on the connection itself, as older ones do.
    for (websockets, port) in [("true", "18080"), ("false", "18081")] {
        let mut command = world.kubectl_command(&["port-forward", "deployment/web", &format!("{port}:8080"), "19999:9"]);
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets);
        let forward = Follow::start(command);
        forward.says("that it forwards", |said| said.contains(&format!("Forwarding from 127.0.0.1:{port}")) && said.contains("127.0.0.1:19999"));
        let url = format!("http://127.0.0.1:{port}");
        assert_eq!(curl(&[&format!("{url}/healthz")]).ok().stdout, "ok\n");
        // More than a frame, both ways, and several connections at once.
        let entry = format!("{port} {}", "x".repeat(60_000));
        world.write("entry", &entry);
        curl(&["--data-binary", "@entry", &format!("{url}/entries")]).ok();
        let health = format!("{url}/healthz");
        let all = curl(&[&["-Z", "--parallel-immediate"][..], &[health.as_str(); 12]].concat()).ok().stdout;
        assert_eq!(all, "ok\n".repeat(12));
        assert!(curl(&[&format!("{url}/entries")]).ok().stdout.contains(&entry));
        // Nobody has this port: its connection ends, the others go on.
        assert_ne!(curl(&["http://127.0.0.1:19999/"]).code, 0);
        forward.says("why", |said| said.contains("cannot connect to port 9"));
        forward.kill();
    }
    world.kubectl(&["expose", "deployment", "web", "--port=80", "--target-port=8080"]).ok();
    let forward = Follow::start(world.kubectl_command(&["port-forward", "service/web", ":80"]));
    let mut local = String::new();
    forward.says("where", |said| {
        local = said.lines().find_map(|line| line.strip_prefix("Forwarding from ")?.split(' ').next()).unwrap_or_default().to_owned();
        !local.is_empty()
    });
    assert_eq!(curl(&[&format!("http://{local}/healthz")]).ok().stdout, "ok\n");
    forward.kill();

    // Ours, to the same server; a pod that goes is not missed.
    let forward = Follow::start(world.strake_command(&["port-forward", "service/web", "18090:80"]));
    forward.says("that it forwards", |said| said.contains("forwarding 127.0.0.1:18090"));
    assert_eq!(curl(&["http://127.0.0.1:18090/healthz"]).ok().stdout, "ok\n");
    world.kubectl(&["delete", "pods", "-l", "app=web", "--wait=false"]).ok();
    assert_eq!(curl(&["http://127.0.0.1:18090/healthz"]).ok().stdout, "ok\n");
    forward.kill();
    world.strake(&["port-forward", "service/web", "81"]).fails(1, "it has 80");
    world.strake(&["port-forward", "service/web", "x:y:z"]).fails(2, "[LOCAL:]PORT");
    world.kubectl(&["delete", "deployment,service", "web"]).ok();
    world.stop();
}
