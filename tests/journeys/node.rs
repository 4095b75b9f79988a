//! What a pod's container finds: its environment, its volumes, its neighbours.

use strake_tests::{World, needs, pod};

const ENVIRONMENT: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: hello, other: two}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: s3cret}
---
apiVersion: v1
kind: Pod
metadata: {name: env, labels: {app: env}, annotations: {note: written}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: busybox:1
      command: [sh, -c, \"echo args $(LITERAL) $0 $1; sleep 3600\"]
      args: [$(JOINED), $$(LITERAL)$(NOPE)]
      envFrom:
        - prefix: CM_
          configMapRef: {name: settings}
        - secretRef: {name: keys}
        - configMapRef: {name: absent, optional: true}
      env:
        - {name: LITERAL, value: plain}
        - {name: token, value: over}
        - name: GREETING
          valueFrom: {configMapKeyRef: {name: settings, key: greeting}}
        - name: TOKEN
          valueFrom: {secretKeyRef: {name: keys, key: token}}
        - name: ABSENT
          valueFrom: {configMapKeyRef: {name: settings, key: absent, optional: true}}
        - {name: JOINED, value: $(LITERAL)-$(GREETING)-$$(LITERAL)-$(NOPE)-$(CM_other)}
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: POD_NAMESPACE
          valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
        - name: POD_IP
          valueFrom: {fieldRef: {fieldPath: status.podIP}}
        - name: NODE
          valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
        - name: LABEL
          valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}
        - name: NOTE
          valueFrom: {fieldRef: {fieldPath: \"metadata.annotations['note']\"}}
        - name: MEMORY
          valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}
      resources: {limits: {memory: 64Mi}}
";

#[test]
fn the_environment_comes_from_everywhere() {
    needs!("busybox");
    let world = World::with_busybox();
    world.apply("env", ENVIRONMENT).ok();
    let env = world.sh("env", "env").ok().stdout;
    let ip = world.get("pod", "env")["status"]["podIP"].as_str().expect("an address").to_owned();
    let node = world.node()["metadata"]["name"].as_str().expect("a node").to_owned();
    let expected = [
        "LITERAL=plain".to_owned(),
        "CM_greeting=hello".to_owned(),
        "CM_other=two".to_owned(),
        "token=over".to_owned(),
        "GREETING=hello".to_owned(),
        "TOKEN=s3cret".to_owned(),
        "JOINED=plain-hello-$(LITERAL)-$(NOPE)-two".to_owned(),
        "POD_NAME=env".to_owned(),
        "POD_NAMESPACE=default".to_owned(),
        format!("POD_IP={ip}"),
        format!("NODE={node}"),
        "LABEL=env".to_owned(),
        "NOTE=written".to_owned(),
        "MEMORY=64".to_owned(),
        "HOSTNAME=env".to_owned(),
        "KUBERNETES_SERVICE_HOST=10.43.0.1".to_owned(),
        "KUBERNETES_SERVICE_PORT=443".to_owned(),
    ];
    for line in expected {
        assert!(env.lines().any(|found| found == line), "{line} in:\n{env}");
    }
    assert!(!env.contains("ABSENT="), "{env}");
    let log = || world.strake(&["logs", "env"]).ok().stdout;
    world.eventually("it speaks", || log().ends_with('\n'));
    assert_eq!(log().trim(), "args plain plain-hello-$(LITERAL)-$(NOPE)-two $(LITERAL)$(NOPE)");
    world.stop();
}

#[test]
fn a_missing_object_is_named_and_waited_for() {
    needs!("busybox");
    let world = World::with_busybox();
    let more = "      env:\n        - name: A\n          valueFrom: {configMapKeyRef: {name: later, key: a}}\n";
    world.apply_no_wait("one", &(pod("wants", "sleep 3600", "") + more));
    let waiting = || world.container("wants", "main")["state"]["waiting"].clone();
    world.eventually("the reason", || waiting()["reason"] == "CreateContainerConfigError");
    world.eventually("the name", || waiting()["message"].as_str().is_some_and(|text| text.contains("later")));
    world.eventually("it is listed", || world.strake(&["get", "pods"]).ok().stdout.contains("CreateContainerConfigError"));
    world.apply("two", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: later}\ndata: {a: b}\n").ok();
    world.phase("wants", "Running");
    assert_eq!(world.sh("wants", "echo $A").ok().stdout, "b\n");
    // An image that nobody has.
    world.apply_no_wait("three", &pod("unknown", "true", "").replace("busybox:1", "localhost:1/nobody/has:this"));
    world.eventually("the image is refused", || world.events("Failed").contains("nobody/has"));
    let reason = || world.container("unknown", "main")["state"]["waiting"]["reason"].clone();
    world.eventually("the reason", || reason() == "ErrImagePull" || reason() == "ImagePullBackOff");
    world.stop();
}

const VOLUMES: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a.txt: one, b.txt: bee}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: s3cret}
---
apiVersion: v1
kind: Pod
metadata: {name: volumes}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: busybox:1
      command: [sleep, \"3600\"]
      volumeMounts:
        - {name: disk, mountPath: /disk}
        - {name: memory, mountPath: /memory}
        - {name: all, mountPath: /all}
        - {name: some, mountPath: /some}
        - {name: keys, mountPath: /keys, readOnly: true}
        - {name: host, mountPath: /host}
        - {name: all, mountPath: /etc/one.conf, subPath: a.txt}
        - {name: disk, mountPath: /part, subPath: deep/part}
        - {name: described, mountPath: /described}
    - name: side
      image: busybox:1
      command: [sleep, \"3600\"]
      volumeMounts:
        - {name: disk, mountPath: /mine}
  volumes:
    - name: disk
      emptyDir: {}
    - name: memory
      emptyDir: {medium: Memory, sizeLimit: 1Mi}
    - name: all
      configMap: {name: settings}
    - name: some
      configMap: {name: settings, defaultMode: 0400, items: [{key: b.txt, path: sub/bee, mode: 0440}, {key: a.txt, path: ay}]}
    - name: keys
      secret: {secretName: keys, defaultMode: 0400}
    - name: host
      hostPath: {path: HOST, type: DirectoryOrCreate}
    - name: described
      downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}
";

#[test]
fn volumes_of_every_kind() {
    needs!("busybox");
    let world = World::with_busybox();
    let host = world.path("from-host").display().to_string();
    let manifests = VOLUMES.replace("HOST", &host);
    world.apply("volumes", &manifests).ok();
    let sh = |script: &str| world.sh("volumes", script).ok().stdout.trim().to_owned();
    let side = |script: &str| world.strake(&["exec", "volumes", "-c", "side", "--", "sh", "-c", script]).ok().stdout.trim().to_owned();
    assert_eq!(sh("cat /all/a.txt /all/b.txt; ls /all | wc -l"), "onebee2");
    assert_eq!(sh("cat /some/sub/bee /some/ay; stat -L -c %a /some/sub/bee /some/ay"), "beeone440\n400");
    assert_eq!(sh("cat /keys/token; stat -L -c %a /keys/token"), "s3cret400");
    assert!(sh("grep ' /keys ' /proc/mounts").starts_with("tmpfs"), "a secret is never on a disk");
    assert!(sh("grep ' /memory ' /proc/mounts").starts_with("tmpfs"));
    assert!(!sh("grep ' /disk ' /proc/mounts").starts_with("tmpfs"));
    world.sh("volumes", "dd if=/dev/zero of=/memory/big bs=1M count=2 2>&1; rm /memory/big").ok();
    assert_ne!(world.sh("volumes", "dd if=/dev/zero of=/memory/big bs=1M count=2").code, 0, "the memory volume has a size");
    assert_ne!(world.sh("volumes", "touch /keys/other").code, 0, "it is read-only");
    assert_ne!(world.sh("volumes", "echo x > /all/a.txt").code, 0, "a ConfigMap is never written");
    assert_eq!(sh("cat /described/name"), "volumes");
    // Shared by the pod's containers, and whole below a part of it.
    sh("echo shared > /disk/file; echo part > /part/file");
    assert_eq!(side("cat /mine/file /mine/deep/part/file"), "shared\npart");
    sh("echo out > /host/written");
    assert_eq!(std::fs::read_to_string(world.path("from-host/written")).expect("written"), "out\n");
    // A changed ConfigMap is seen without a restart; a part mounted by itself stays as it was.
    world.apply("volumes", &manifests.replace("a.txt: one", "a.txt: new")).ok();
    world.eventually("the file follows", || sh("cat /all/a.txt") == "new");
    world.eventually("in every volume", || sh("cat /some/ay /etc/one.conf") == "newone");
    assert_eq!(world.container("volumes", "main")["restartCount"], 0);
    world.strake(&["delete", "pod", "volumes"]).ok();
    assert!(world.path("from-host/written").exists(), "the host's directory is not the pod's");
    world.stop();
}

#[test]
fn containers_of_a_pod_share_network_and_come_in_order() {
    needs!("busybox");
    let world = World::with_busybox();
    let manifests = "apiVersion: v1
kind: Pod
metadata: {name: order}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: work, emptyDir: {}}]
  initContainers:
    - {name: first, image: 'busybox:1', command: [sh, -c, 'echo first >> /work/log; sleep 0.3; echo first-done >> /work/log'], volumeMounts: [{name: work, mountPath: /work}]}
    - {name: second, image: 'busybox:1', command: [sh, -c, 'echo second >> /work/log'], volumeMounts: [{name: work, mountPath: /work}]}
    - {name: helper, image: 'busybox:1', restartPolicy: Always, command: [sh, -c, 'echo helper >> /work/log; sleep 3600'], startupProbe: {exec: {command: [grep, helper, /work/log]}, periodSeconds: 1, failureThreshold: 300}, volumeMounts: [{name: work, mountPath: /work}]}
  containers:
    - {name: web, image: 'busybox:1', command: [sh, -c, 'echo web >> /work/log; httpd -f -p 127.0.0.1:8080 -h /work'], volumeMounts: [{name: work, mountPath: /work}]}
    - {name: side, image: 'busybox:1', command: [sleep, '3600']}
";
    world.apply("order", manifests).ok();
    let fetch = || world.strake(&["exec", "order", "-c", "side", "--", "wget", "-q", "-O", "-", "http://localhost:8080/log"]).stdout;
    world.eventually("localhost is shared", || !fetch().is_empty());
    assert_eq!(fetch(), "first\nfirst-done\nsecond\nhelper\nweb\n");
    let pod = world.get("pod", "order");
    let inits = pod["status"]["initContainerStatuses"].as_array().expect("init containers");
    let reasons: Vec<_> = inits.iter().map(|one| one["state"]["terminated"]["reason"].as_str().unwrap_or("runs")).collect();
    assert_eq!(reasons, ["Completed", "Completed", "runs"]);
    assert!(world.strake(&["get", "pods"]).ok().stdout.contains("3/3"), "a restartable init container counts");
    // An init container that fails holds the pod back and says so.
    let failing = pod_with_failing_init();
    world.apply_no_wait("failing", &failing);
    world.eventually("Init:", || world.strake(&["get", "pods"]).ok().stdout.contains("Init:"));
    world.eventually("failed again", || world.container("failing", "bad")["restartCount"].as_i64() >= Some(1));
    assert_eq!(world.container("failing", "bad")["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(world.container("failing", "main")["state"]["waiting"]["reason"], "PodInitializing");
    world.stop();
}

fn pod_with_failing_init() -> String {
    pod("failing", "sleep 3600", "  initContainers:\n    - {name: bad, image: 'busybox:1', command: [sh, -c, 'exit 3']}\n")
}
