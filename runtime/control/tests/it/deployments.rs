//! Deployments: rolling, recreating, undoing, scaling, pausing, and what they report.

use serde_json::{Value, json};
use strake_control::{Kind, Propagation};

use crate::bench::{Bench, deployment, id, image_patch};

fn web() -> strake_control::ObjectId {
    id(Kind::DEPLOYMENT, "web")
}

/// Size and revision of each set, the lowest revision first.
fn sets(bench: &Bench) -> Vec<(i64, i64, String)> {
    let mut sets: Vec<_> = bench
        .all(&Kind::REPLICA_SET)
        .iter()
        .map(|set| {
            let revision = set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str().unwrap().parse().unwrap();
            (revision, set["spec"]["replicas"].as_i64().unwrap(), set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned())
        })
        .collect();
    sets.sort();
    sets
}

fn condition(object: &Value, type_: &str) -> (String, String, String) {
    let conditions = object["status"]["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|condition| condition["type"] == type_).unwrap_or_else(|| panic!("{type_} in {conditions:?}"));
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

fn running(replicas: i32) -> Bench {
    let mut bench = Bench::new();
    bench.create(deployment("web", replicas, "web:1"));
    bench.run_pods();
    bench
}

#[test]
fn a_new_deployment_gets_a_set_and_its_pods() {
    let mut bench = Bench::new();
    bench.create(deployment("web", 3, "web:1"));
    let set = bench.all(&Kind::REPLICA_SET).remove(0);
    let hash = set["metadata"]["labels"]["pod-template-hash"].as_str().unwrap();
    assert_eq!(set["metadata"]["name"], format!("web-{hash}"));
    assert_eq!(set["spec"]["selector"]["matchLabels"], json!({"app": "web", "pod-template-hash": hash}));
    assert_eq!(set["metadata"]["ownerReferences"][0]["kind"], "Deployment");
    for pod in bench.pods() {
        let name = pod["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with(&format!("web-{hash}-")), "{name}");
        assert_eq!(name.len(), format!("web-{hash}-").len() + 5);
        assert_eq!(pod["metadata"]["labels"]["pod-template-hash"], hash);
    }
    assert_eq!(bench.pods().len(), 3);
    let before = bench.get(&web());
    assert_eq!(before["status"]["unavailableReplicas"], 3);
    assert_eq!(condition(&before, "Available").1, "MinimumReplicasUnavailable");
    assert_eq!(condition(&before, "Progressing").0, "True");

    bench.run_pods();
    let after = bench.get(&web());
    assert_eq!(after["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    let numbers = &after["status"];
    let counts = ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"].map(|field| numbers[field].as_i64());
    assert_eq!(counts, [Some(3); 4], "{numbers}");
    assert_eq!(numbers["observedGeneration"], after["metadata"]["generation"]);
    let progressing = condition(&after, "Progressing");
    assert_eq!((progressing.0.as_str(), progressing.1.as_str()), ("True", "NewReplicaSetAvailable"));
    assert_eq!(progressing.2, format!("ReplicaSet \"web-{hash}\" has successfully progressed."));
    assert_eq!(condition(&after, "Available").2, "Deployment has minimum availability.");
    assert!(bench.events.contains(&("ScalingReplicaSet".to_owned(), format!("Scaled up replica set web-{hash} from 0 to 3"))));
    bench.assert_nothing_left_to_do();
}

#[test]
fn a_rolling_update_keeps_its_bounds_at_every_step() {
    for (replicas, surge, unavailable, most, least) in [(3, json!(1), json!(0), 4, 3), (10, json!("25%"), json!("25%"), 13, 8), (4, json!(0), json!(2), 4, 2)] {
        let mut bench = running(replicas);
        let rolling = json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}, "type": "RollingUpdate"});
        bench.patch(&web(), json!({"spec": {"strategy": rolling}}));
        bench.patch(&web(), image_patch("web:2"));
        for _ in 0..100 {
            let active = bench.active_pods();
            let ready = active.iter().filter(|pod| pod["status"]["conditions"][0]["status"] == "True").count();
            assert!(active.len() <= most, "{} pods of at most {most}", active.len());
            assert!(ready >= least, "{ready} ready of at least {least}");
            // One pod at a time moves on.
            let next =
                bench.pods().into_iter().find(|pod| pod["metadata"]["deletionTimestamp"].is_string() || pod["status"]["conditions"][0]["status"] != "True");
            match next {
                Some(pod) => bench.run_pod(&pod),
                None => break,
            }
        }
        assert_eq!(sets(&bench), [(1, 0, "web:1".to_owned()), (2, i64::from(replicas), "web:2".to_owned())]);
        assert_eq!(condition(&bench.get(&web()), "Progressing").1, "NewReplicaSetAvailable");
        bench.assert_nothing_left_to_do();
    }
}

#[test]
fn recreate_lets_every_old_pod_go_before_a_new_one_comes() {
    let mut bench = running(3);
    bench.patch(&web(), json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}));
    bench.patch(&web(), image_patch("web:2"));
    let image = |pod: &std::sync::Arc<Value>| pod["spec"]["containers"][0]["image"].clone();
    assert!(bench.pods().iter().all(|pod| image(pod) == "web:1" && pod["metadata"]["deletionTimestamp"].is_string()));
    let names = crate::bench::names(&bench.pods());
    for name in &names[..2] {
        bench.end_pod(name);
        assert!(bench.pods().iter().all(|pod| image(pod) == "web:1"), "an old one is still there");
    }
    bench.end_pod(&names[2]);
    assert!(bench.pods().iter().all(|pod| image(pod) == "web:2"));
    assert_eq!(bench.pods().len(), 3);
}

#[test]
fn a_bad_image_stalls_the_rollout_and_undo_brings_the_old_set_back() {
    let mut bench = running(3);
    bench.patch(&web(), image_patch("web:bad"));
    let bad = sets(&bench);
    assert_eq!(bad, [(1, 3, "web:1".to_owned()), (2, 1, "web:bad".to_owned())]);
    bench.pass(599);
    assert_eq!(condition(&bench.get(&web()), "Progressing").1, "ReplicaSetUpdated");
    bench.pass(2);
    let (status, reason, message) = condition(&bench.get(&web()), "Progressing");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ProgressDeadlineExceeded"));
    assert!(message.ends_with("has timed out progressing."), "{message}");
    assert_eq!(sets(&bench), bad, "a rollout that stalls stays where it is");
    bench.assert_nothing_left_to_do();

    // What `kubectl rollout undo` does: the old template, without its hash, is put back.
    bench.patch(&web(), image_patch("web:1"));
    bench.run_pods();
    assert_eq!(sets(&bench), [(2, 0, "web:bad".to_owned()), (3, 3, "web:1".to_owned())]);
    let deployment = bench.get(&web());
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
    assert_eq!(condition(&deployment, "Progressing").1, "NewReplicaSetAvailable");
    let set = bench.all(&Kind::REPLICA_SET).into_iter().find(|set| set["spec"]["replicas"] == 3).unwrap();
    assert_eq!(set["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"], "1");
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    let mut bench = running(10);
    let rolling = json!({"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}});
    bench.patch(&web(), json!({"spec": {"strategy": rolling}}));
    bench.patch(&web(), image_patch("web:bad"));
    assert_eq!(sets(&bench), [(1, 8, "web:1".to_owned()), (2, 5, "web:bad".to_owned())]);
    bench.patch(&web(), json!({"spec": {"replicas": 15}}));
    assert_eq!(sets(&bench), [(1, 11, "web:1".to_owned()), (2, 7, "web:bad".to_owned())]);
    bench.patch(&web(), json!({"spec": {"replicas": 0}}));
    assert_eq!(sets(&bench), [(1, 0, "web:1".to_owned()), (2, 0, "web:bad".to_owned())]);
    assert_eq!(bench.active_pods().len(), 0);
}

#[test]
fn scaling_up_and_down_does_not_make_a_revision() {
    let mut bench = running(2);
    for replicas in [5, 1, 0, 3] {
        bench.patch(&web(), json!({"spec": {"replicas": replicas}}));
        bench.run_pods();
        assert_eq!(sets(&bench), [(1, replicas, "web:1".to_owned())]);
        assert_eq!(bench.pods().len(), usize::try_from(replicas).unwrap());
        bench.assert_nothing_left_to_do();
    }
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut bench = running(2);
    bench.patch(&web(), json!({"spec": {"paused": true}}));
    bench.patch(&web(), image_patch("web:2"));
    assert_eq!(sets(&bench), [(1, 2, "web:1".to_owned())]);
    assert_eq!(condition(&bench.get(&web()), "Progressing"), ("Unknown".into(), "DeploymentPaused".into(), "Deployment is paused".into()));
    bench.patch(&web(), json!({"spec": {"replicas": 4}}));
    bench.run_pods();
    assert_eq!(sets(&bench), [(1, 4, "web:1".to_owned())]);
    bench.assert_nothing_left_to_do();
    bench.patch(&web(), json!({"spec": {"paused": null}}));
    bench.run_pods();
    assert_eq!(sets(&bench), [(1, 0, "web:1".to_owned()), (2, 4, "web:2".to_owned())]);
}

#[test]
fn old_revisions_beyond_the_limit_are_forgotten() {
    let mut bench = running(1);
    bench.patch(&web(), json!({"spec": {"revisionHistoryLimit": 2}}));
    for version in 2..=5 {
        bench.patch(&web(), image_patch(&format!("web:{version}")));
        bench.run_pods();
    }
    assert_eq!(sets(&bench), [(3, 0, "web:3".to_owned()), (4, 0, "web:4".to_owned()), (5, 1, "web:5".to_owned())]);
}

#[test]
fn min_ready_seconds_hold_the_rollout() {
    let mut bench = running(2);
    bench.patch(&web(), json!({"spec": {"minReadySeconds": 30}}));
    bench.pass(60);
    bench.patch(&web(), image_patch("web:2"));
    bench.run_pods();
    let status = bench.get(&web())["status"].clone();
    assert_eq!(status["updatedReplicas"], 1, "the first new pod is ready and not available: {status}");
    bench.pass(31);
    bench.run_pods();
    bench.pass(31);
    bench.run_pods();
    assert_eq!(sets(&bench)[1].1, 2);
    bench.assert_nothing_left_to_do();
}

#[test]
fn a_name_that_is_taken_raises_the_collision_count() {
    let bench = running(1);
    let name = bench.all(&Kind::REPLICA_SET)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let mut other = Bench::new();
    let mut stranger = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name, "namespace": "default"}});
    stranger["spec"] = json!({"replicas": 0, "selector": {"matchLabels": {"app": "stranger"}},
        "template": {"metadata": {"labels": {"app": "stranger"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}});
    other.create(stranger);
    other.create(deployment("web", 1, "web:1"));
    other.run_pods();
    assert_eq!(other.get(&web())["status"]["collisionCount"], 1);
    assert_eq!(other.active_pods().len(), 1);
    other.assert_nothing_left_to_do();
}

#[test]
fn a_set_of_the_right_template_that_was_left_behind_is_adopted() {
    let mut bench = running(2);
    let pods = crate::bench::names(&bench.pods());
    bench.delete(&web(), Propagation::Orphan);
    assert!(bench.world.get(&web()).is_none());
    assert_eq!(crate::bench::names(&bench.pods()), pods);
    bench.create(deployment("web", 2, "web:1"));
    bench.run_pods();
    assert_eq!(crate::bench::names(&bench.pods()), pods, "the same pods serve the new deployment");
    assert_eq!(sets(&bench).len(), 1);
}
