//! The view against notifications that are late, doubled, out of order or lost.

use serde_json::{Value, json};
use strake_control::{Kind, View};

use crate::bench::id;

fn pod(uid: &str, revision: u64, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "namespace": "default", "uid": uid, "resourceVersion": revision.to_string(), "labels": {"app": "web"}},
        "spec": {"nodeName": node, "containers": []}})
}

#[test]
fn revisions_only_move_forward_and_the_removed_stays_removed() {
    let mut view = View::new();
    assert!(view.apply(&pod("u1", 5, "n1")).is_some());
    assert!(view.apply(&pod("u1", 5, "n1")).is_none(), "doubled");
    assert!(view.apply(&pod("u1", 4, "n0")).is_none(), "late");
    assert_eq!(view.pods_on("n1").count(), 1);
    assert!(view.apply(&pod("u1", 6, "n2")).is_some());
    assert_eq!((view.pods_on("n1").count(), view.pods_on("n2").count()), (0, 1));
    assert!(view.remove(&id(Kind::POD, "a"), "u0").is_none(), "another object of that name");
    assert!(view.remove(&id(Kind::POD, "a"), "u1").is_some());
    assert!(view.apply(&pod("u1", 7, "n1")).is_none(), "it was removed");
    assert!(view.apply(&pod("u2", 8, "n1")).is_some());
    assert!(view.apply(&pod("u1", 6, "n1")).is_none());
    assert_eq!(view.len(), 1);
    let selector = serde_json::from_value(json!({"matchLabels": {"app": "web"}})).unwrap();
    assert_eq!(view.pods_matching("default", &selector).count(), 1);
    assert_eq!(view.pods_matching("other", &selector).count(), 0);
}

#[test]
fn a_full_list_removes_what_it_does_not_hold() {
    let mut view = View::new();
    view.apply(&pod("u1", 5, "n1"));
    let mut other = pod("u2", 6, "n1");
    other["metadata"]["name"] = json!("b");
    let changes = view.replace(&Kind::POD, &[other]);
    assert_eq!(changes.len(), 2);
    assert!(view.by_uid("u1").is_none() && view.by_uid("u2").is_some());
}
