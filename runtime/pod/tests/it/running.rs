//! From nothing to ready: order, phases, conditions, events.

use serde_json::json;
use strake_pod::rehearsal::Behaviour;

use crate::bench::{Bench, simple, with};

#[test]
fn a_plain_pod_is_ready_in_the_time_its_parts_take() {
    let mut bench = Bench::new(simple(), &[]);
    bench.turn();
    assert_eq!(bench.phase(), "Pending");
    assert_eq!(bench.waiting("app").0, "ContainerCreating");
    assert_eq!(bench.condition("PodScheduled").0, "True");
    assert_eq!(bench.condition("PodReadyToStartContainers").0, "False");
    let ms = bench.run_to_ready(5000);
    assert!(ms <= 20, "{ms} ms");
    assert_eq!(bench.deeds(), ["sandbox", "pull app", "create app 0", "start app 0"]);
    assert_eq!(bench.phase(), "Running");
    let status = bench.pod.status.as_ref().unwrap();
    assert_eq!(status.pod_ip.as_deref(), Some("10.42.0.9"));
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    assert!(status.start_time.is_some());
    let container = bench.container("app");
    assert_eq!((container.ready, container.started, container.restart_count), (true, Some(true), 0));
    assert_eq!(container.container_id.as_deref(), Some("strake://app-0"));
    assert!(container.image_id.starts_with("web:1@sha256:"));
    for type_ in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
        assert_eq!(bench.condition(type_).0, "True", "{type_}");
    }
    let events: Vec<_> = bench.events().into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(events, ["Created", "Started"]);
}

#[test]
fn init_containers_run_one_after_the_other_before_the_others() {
    let mut spec = simple();
    spec["initContainers"] = json!([{"name": "one", "image": "i:1"}, {"name": "two", "image": "i:2"}]);
    let ends = Behaviour { exit: Some((100, 0)), ..Behaviour::default() };
    let mut bench = Bench::new(spec, &[("one", ends.clone()), ("two", ends)]);
    bench.run_to(50);
    assert_eq!(bench.waiting("app").0, "PodInitializing");
    assert_eq!(bench.phase(), "Pending");
    let (status, reason, message) = bench.condition("Initialized");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ContainersNotInitialized"));
    assert_eq!(message, "containers with incomplete status: [one two]");
    bench.run_to_ready(5000);
    let order: Vec<String> = bench.deeds().into_iter().filter(|deed| deed.starts_with("start")).collect();
    assert_eq!(order, ["start one 0", "start two 0", "start app 0"]);
    let starts = bench.starts();
    assert!(starts[1] >= starts[0] + 100 && starts[2] >= starts[1] + 100, "{starts:?}");
    assert_eq!(bench.condition("Initialized").0, "True");
    assert_eq!(bench.container("one").state.as_ref().unwrap().terminated.as_ref().unwrap().reason.as_deref(), Some("Completed"));
    assert!(bench.container("one").ready);
}

#[test]
fn side_containers_start_first_and_stay() {
    let mut spec = simple();
    spec["initContainers"] = json!([
        {"name": "proxy", "image": "p:1", "restartPolicy": "Always", "startupProbe": {"periodSeconds": 1, "tcpSocket": {"port": 1}}},
        {"name": "setup", "image": "s:1"}
    ]);
    let proxy = Behaviour { ready_after_ms: Some(200), ..Behaviour::default() };
    let setup = Behaviour { exit: Some((10, 0)), ..Behaviour::default() };
    let mut bench = Bench::new(spec, &[("proxy", proxy), ("setup", setup)]);
    bench.run_to_ready(5000);
    let starts = bench.starts();
    assert_eq!(starts.len(), 3);
    assert!(starts[1] >= starts[0] + 200, "setup waits for the proxy's startup probe: {starts:?}");
    assert!(bench.container("proxy").ready);
    // It is restarted like a main container, and the pod is not ready meanwhile.
    bench.node.end("proxy", 1, bench.now);
    bench.turn();
    assert_eq!(bench.condition("Ready").2, "containers with unready status: [proxy]");
    bench.run_to_ready(10_000);
    assert_eq!(bench.container("proxy").restart_count, 1);
}

#[test]
fn a_pod_that_does_its_work_succeeds() {
    let mut spec = simple();
    spec["restartPolicy"] = json!("Never");
    let mut bench = Bench::new(spec, &[("app", Behaviour { exit: Some((500, 0)), ..Behaviour::default() })]);
    bench.run_to(5000);
    assert_eq!(bench.phase(), "Succeeded");
    assert_eq!(bench.condition("Ready"), ("False".into(), "PodCompleted".into(), String::new()));
    assert_eq!(bench.condition("Initialized").1, "PodCompleted");
    assert_eq!(bench.deeds().last().map(String::as_str), Some("teardown"), "the address is given back, the log stays");
    assert_eq!(bench.pod.status.as_ref().unwrap().pod_ip.as_deref(), Some("10.42.0.9"), "and is still told");
    // The node restarts: what is over stays over.
    bench.node.restart_node();
    bench.memory = strake_pod::PodMemory::default();
    let done = bench.log.len();
    bench.run_to(20_000);
    assert_eq!((bench.phase(), bench.log.len()), ("Succeeded", done));
}

#[test]
fn a_deadline_ends_the_pod() {
    let mut spec = simple();
    spec["activeDeadlineSeconds"] = json!(5);
    let mut bench = Bench::new(spec, &[]);
    bench.run_to(4900);
    assert_eq!(bench.phase(), "Running");
    bench.run_to(6000);
    assert_eq!(bench.phase(), "Failed");
    assert_eq!(bench.pod.status.as_ref().unwrap().reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(bench.deeds()[4..], ["stop app".to_owned(), "teardown".to_owned()]);
}

#[test]
fn readiness_gates_hold_the_pod_but_not_its_containers() {
    let mut spec = simple();
    spec["readinessGates"] = json!([{"conditionType": "example.com/warm"}]);
    let mut bench = Bench::new(spec, &[]);
    bench.run_to(1000);
    assert_eq!(bench.condition("ContainersReady").0, "True");
    assert_eq!(bench.condition("Ready").1, "ReadinessGatesNotReady");
    let conditions = bench.pod.status.as_mut().unwrap().conditions.as_mut().unwrap();
    conditions.push(serde_json::from_value(json!({"type": "example.com/warm", "status": "True"})).unwrap());
    bench.turn();
    assert_eq!(bench.condition("Ready").0, "True");
    assert_eq!(bench.condition("example.com/warm").0, "True", "others' conditions stay");
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    let class = |resources| strake_pod::qos_class(crate::bench::pod(with(json!({"resources": resources}))).spec.as_ref().unwrap());
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"requests": {"cpu": "100m"}})), "Burstable");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}})), "Guaranteed");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "0.5"}})), "Burstable");
    assert_eq!(class(json!({"limits": {"memory": "1Gi"}})), "Burstable");
}
