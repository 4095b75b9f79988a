//! The node with containers that only pretend: what it asks of them, in which order.

use std::sync::Arc;

use serde_json::json;
use strake_container::{Call, ContainerId, Recorder, Script};

use crate::Test;
use crate::stage::{Stage, waits_for};

pub const TESTS: &[Test] = &[("a_stop_runs_the_hook_first", a_stop_runs_the_hook_first), ("a_refused_container_says_why", a_refused_container_says_why)];

fn a_stop_runs_the_hook_first(stage: Stage) {
    stage.runtime.block_on(async {
        let recorder = Arc::new(Recorder::new());
        recorder.script("serve", Script::Run);
        recorder.script_exec("goodbye", 0, b"");
        let running = stage.node_with(Arc::clone(&recorder) as _).await;
        let lifecycle = json!({"preStop": {"exec": {"command": ["goodbye"]}}});
        let container = json!({"name": "c", "image": "box:1", "command": ["serve"], "args": ["$(FROM_IMAGE)", "$(MY_IP)"], "lifecycle": lifecycle,
            "env": [{"name": "MY_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]});
        let pod = running.pod("p", json!({"containers": [container]})).await;
        running.ready("p").await;
        let id = ContainerId(format!("{}_c_0", pod["metadata"]["uid"].as_str().unwrap()));
        let spec = recorder.spec(&id).unwrap();
        assert_eq!(spec.args, ["serve", "yes", "10.42.0.2"], "the runtime's variables are known to arguments");
        assert!(spec.env.contains(&"KUBERNETES_SERVICE_HOST=10.43.0.1".to_owned()), "{:?}", spec.env);
        let _ = recorder.take_calls();
        running.delete("p").await;
        running.gone("p").await;
        let calls: Vec<Call> = recorder.take_calls();
        let expected = [Call::Exec(id.clone(), vec!["goodbye".to_owned()]), Call::Signal(id.clone(), 15), Call::Remove(id)];
        assert_eq!(calls, expected);
        running.node.leave().await;
        running.network.teardown().await.unwrap();
    });
}

fn a_refused_container_says_why(stage: Stage) {
    stage.runtime.block_on(async {
        let recorder = Arc::new(Recorder::new());
        recorder.fail_create("serve", "the mount is broken");
        recorder.script("serve", Script::Run);
        let running = stage.node_with(Arc::clone(&recorder) as _).await;
        running.pod("p", json!({"containers": [{"name": "c", "image": "box:1", "command": ["serve"]}]})).await;
        let pod = running.until("p", "refused", |pod| waits_for(pod) == "CreateContainerError").await;
        assert!(pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap().contains("the mount is broken"), "{}", pod["status"]);
        recorder.fail_create("serve", "");
        running.ready("p").await;
        running.told("p", |event| event.starts_with("Failed: Error: ") && event.contains("the mount is broken")).await;
        running.node.stop_all().await.unwrap();
        running.network.teardown().await.unwrap();
    });
}
