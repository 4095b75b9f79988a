//! Rows of Deployments and ReplicaSets.

use serde_json::Value;

use super::{AGE, Column, NAME, column, number, of_containers, selector, wide};

const CONTAINERS: Column = wide("Containers", |object, _| of_containers(&object["spec"]["template"]["spec"], "name"));
const IMAGES: Column = wide("Images", |object, _| of_containers(&object["spec"]["template"]["spec"], "image"));
const SELECTOR: Column = wide("Selector", |object, _| selector(&object["spec"]["selector"]));

pub(super) const DEPLOYMENTS: &[Column] = &[
    NAME,
    column("Ready", |object, _| format!("{}/{}", count(&object["status"]["readyReplicas"]), count(&object["spec"]["replicas"])).into()),
    number("Up-to-date", |object, _| count(&object["status"]["updatedReplicas"]).into()),
    number("Available", |object, _| count(&object["status"]["availableReplicas"]).into()),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) const REPLICA_SETS: &[Column] = &[
    NAME,
    number("Desired", |object, _| count(&object["spec"]["replicas"]).into()),
    number("Current", |object, _| count(&object["status"]["replicas"]).into()),
    number("Ready", |object, _| count(&object["status"]["readyReplicas"]).into()),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn count(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}
