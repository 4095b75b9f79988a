//! Where pods may run, what is said when nowhere, and what the cluster keeps in order by itself.

use strake_tests::{World, needs, pod};

fn told(world: &World, pod: &str, message: &str) {
    let condition = || {
        let pod = world.get("pod", pod);
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|one| one["type"] == "PodScheduled").unwrap_or_default()
    };
    let said = || condition()["message"].as_str().is_some_and(|text| text.contains(message));
    world.eventually(&format!("{pod} is told: {message}; {}", condition()), said);
    assert_eq!((&condition()["status"], &condition()["reason"]), (&"False".into(), &"Unschedulable".into()));
    assert_eq!(world.get("pod", pod)["status"]["phase"], "Pending");
    world.eventually("an event", || world.events("FailedScheduling").contains(message));
}

#[test]
fn pods_wait_for_a_place() {
    needs!("busybox", "kubectl");
    let world = World::with_busybox();
    let node = world.node()["metadata"]["name"].as_str().expect("a node").to_owned();
    let manifests = [
        pod("picky", "sleep 3600", "  nodeSelector: {disk: fast}\n"),
        pod("huge", "sleep 3600", "") + "      resources: {requests: {cpu: \"1000\"}}\n",
        pod("fits", "sleep 3600", "") + "      resources: {requests: {cpu: 100m}}\n",
    ];
    world.apply_no_wait("places", &manifests.concat());
    told(&world, "picky", "node(s) didn't match Pod's node affinity/selector");
    told(&world, "huge", "Insufficient cpu");
    world.phase("fits", "Running");
    world.kubectl(&["label", "node", &node, "disk=fast"]).ok();
    world.phase("picky", "Running");
    world.eventually("it is told", || world.events("Scheduled").contains("Successfully assigned default/picky"));
    world.strake(&["delete", "pod", "huge"]).ok();
    // A taint keeps new pods away but not those that tolerate it.
    world.kubectl(&["taint", "node", &node, "only=mine:NoSchedule"]).ok();
    let tolerant = pod("tolerant", "sleep 3600", "  tolerations: [{key: only, value: mine, effect: NoSchedule}]\n");
    world.apply_no_wait("taints", &[pod("kept-away", "sleep 3600", ""), tolerant].concat());
    world.phase("tolerant", "Running");
    told(&world, "kept-away", "untolerated taint {only: mine}");
    world.kubectl(&["taint", "node", &node, "only-"]).ok();
    world.phase("kept-away", "Running");
    world.phase("fits", "Running");
    world.kubectl(&["cordon", &node]).ok();
    assert!(world.strake(&["get", "nodes"]).ok().stdout.contains("SchedulingDisabled"));
    world.apply_no_wait("cordoned", &pod("late", "sleep 3600", ""));
    told(&world, "late", "unschedulable");
    world.kubectl(&["uncordon", &node]).ok();
    world.phase("late", "Running");
    world.stop();
}

#[test]
fn the_node_tells_of_itself() {
    needs!("busybox", "kubectl");
    let world = World::with_busybox();
    let node = world.node();
    let name = node["metadata"]["name"].as_str().expect("a name").to_owned();
    let condition = |node: &serde_json::Value, kind: &str| {
        node["status"]["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == kind).map(|one| one["status"].clone()).unwrap_or_default()
    };
    assert_eq!(condition(&node, "Ready"), "True");
    for pressure in ["MemoryPressure", "DiskPressure", "PIDPressure"] {
        assert_eq!(condition(&node, pressure), "False", "{pressure}");
    }
    for field in ["cpu", "memory", "pods", "ephemeral-storage"] {
        assert!(node["status"]["capacity"][field].is_string() && node["status"]["allocatable"][field].is_string(), "{field} of {}", node["status"]);
    }
    assert!(node["status"]["nodeInfo"]["kubeletVersion"].as_str().is_some_and(|version| version.contains("strake")));
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], name.as_str());
    let lease = || {
        let text = world.kubectl(&["get", "lease", "-n", "kube-node-lease", &name, "-o", "jsonpath={.spec.renewTime} {.spec.holderIdentity}"]).ok().stdout;
        let (time, holder) = text.split_once(' ').map(|(time, holder)| (time.to_owned(), holder.to_owned())).unwrap_or_default();
        assert_eq!(holder, name);
        time
    };
    let first = lease();
    assert!(first.starts_with("20"), "{first}");
    let described = world.strake(&["describe", "node", &name]).ok().stdout;
    assert!(described.contains("Ready"), "{described}");
    world.eventually("the lease is renewed", || lease() > first);
    world.stop();
}

#[test]
fn what_belongs_to_something_goes_with_it() {
    needs!("busybox", "kubectl");
    let world = World::with_busybox();
    let deployment = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: away}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: 'busybox:1', command: [sleep, '3600']}]
";
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: away}\n---\n";
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: away}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n";
    world.apply("away", &[namespace, deployment, service].concat()).ok();
    let left = || world.kubectl(&["get", "pods,replicasets,deployments,services,endpointslices", "-n", "away", "-o", "name"]).ok().stdout;
    for kind in ["pod/", "replicaset.apps/", "deployment.apps/", "service/", "endpointslice.discovery.k8s.io/"] {
        world.eventually(kind, || left().contains(kind));
    }
    // A ReplicaSet's pods are made again, and orphans are left alone.
    world.kubectl(&["delete", "deployment", "web", "-n", "away", "--cascade=orphan"]).ok();
    assert_eq!(left().matches("pod/").count(), 2, "{}", left());
    world.kubectl(&["delete", "replicaset", "-n", "away", "--all"]).ok();
    world.eventually("garbage is collected", || !left().contains("pod/"));
    world.write("again.yaml", deployment);
    world.kubectl(&["apply", "-f", "again.yaml"]).ok();
    world.eventually("it is back", || left().matches("pod/").count() == 2);
    world.strake(&["delete", "namespace", "away"]).ok();
    world.eventually("the namespace is gone", || world.strake(&["get", "namespace", "away"]).code == 1);
    assert_eq!(left(), "", "with all that was in it");
    world.kubectl(&["create", "configmap", "late", "-n", "away"]).fails(1, "not found");
    world.stop();
}
