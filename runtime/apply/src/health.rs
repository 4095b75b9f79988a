//! Is an object as it should be? Pure functions of the object alone, by kind (reference: kstatus, with the stricter rules where it is too lenient).
//!
//! Nothing here asks which cluster the object came from: objects of kinds that strake's own cluster does not serve are judged as well. A custom resource is judged by
//! its conditions or by the CEL expressions that its annotations give ([`custom`]).

mod custom;
mod kinds;

use serde_json::Value;

/// An object's health with its reason, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is not there.
    Missing,
    /// As it should be.
    Current,
    /// On its way; says what is missing.
    InProgress(String),
    /// It will not get there by itself.
    Failed(String),
    /// It is there and does not do all of its work; it may recover by itself.
    Degraded(String),
    /// Somebody has stopped it, and it waits to be resumed.
    Suspended(String),
    /// It is being deleted.
    Terminating(String),
    /// Nothing can be said about it.
    Unknown(String),
}

impl Health {
    /// Why, for people; empty for what needs no reason.
    pub fn reason(&self) -> &str {
        match self {
            Health::Missing => "does not exist",
            Health::Current => "",
            Health::InProgress(reason)
            | Health::Failed(reason)
            | Health::Degraded(reason)
            | Health::Suspended(reason)
            | Health::Terminating(reason)
            | Health::Unknown(reason) => reason,
        }
    }

    /// One word for a table: `Current`.
    pub fn word(&self) -> &'static str {
        match self {
            Health::Missing => "Missing",
            Health::Current => "Current",
            Health::InProgress(_) => "InProgress",
            Health::Failed(_) => "Failed",
            Health::Degraded(_) => "Degraded",
            Health::Suspended(_) => "Suspended",
            Health::Terminating(_) => "Terminating",
            Health::Unknown(_) => "Unknown",
        }
    }

    /// Waiting longer changes nothing, and nothing is wrong: it is as it should be, or stopped on purpose.
    pub fn is_settled(&self) -> bool {
        matches!(self, Health::Current | Health::Suspended(_))
    }
}

/// The health of an object that may be missing.
pub fn of(object: Option<&Value>) -> Health {
    object.map_or(Health::Missing, health)
}

/// The health of `object`.
pub fn health(object: &Value) -> Health {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return Health::Terminating(terminating(object));
    }
    let generation = object["metadata"]["generation"].as_i64();
    let observed = object["status"]["observedGeneration"].as_i64();
    if let (Some(generation), Some(observed)) = (generation, observed)
        && observed < generation
    {
        return Health::InProgress("the controller has not seen the change yet".to_owned());
    }
    if let Some(stated) = custom::stated(object) {
        return stated;
    }
    let group = object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
    kinds::rule(group, object["kind"].as_str().unwrap_or_default()).map_or_else(|| custom::generic(object), |rule| rule(object))
}

/// What a person should know about an object that is fine: nothing runs because nothing is asked for.
pub fn note(object: &Value) -> Option<&'static str> {
    let zero = |field: &str| object["spec"][field].as_i64() == Some(0);
    match object["kind"].as_str()? {
        "DaemonSet" if object["status"]["desiredNumberScheduled"].as_i64() == Some(0) => Some("no node matches"),
        "Deployment" | "StatefulSet" | "ReplicaSet" if zero("replicas") => Some("no replica is asked for"),
        "PersistentVolumeClaim" if object["status"]["phase"] == "Pending" => Some("waits for its first consumer"),
        _ => None,
    }
}

/// An apply should wait until the object is current. A load balancer's address may be an hour away, or never come where nothing provides one, and an autoscaler
/// without metrics harms nobody yet: they are waited for only where the annotation `strake.dev/wait: "true"` says so. `strake.dev/wait: "false"` waits for nothing.
pub fn is_waited_for(object: &Value) -> bool {
    match object["metadata"]["annotations"][WAIT].as_str() {
        Some("true") => true,
        Some("false") => false,
        _ => match object["kind"].as_str() {
            Some("Service") => object["spec"]["type"] != "LoadBalancer",
            kind => kind != Some("HorizontalPodAutoscaler"),
        },
    }
}

/// Whether an apply waits for the object's health.
pub const WAIT: &str = "strake.dev/wait";

fn terminating(object: &Value) -> String {
    let finalizers: Vec<&str> = object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match finalizers[..] {
        [] => "is being deleted".to_owned(),
        _ => format!("is being deleted; {} must let it go first", finalizers.join(", ")),
    }
}

fn count(object: &Value, field: &str) -> i64 {
    object["status"][field].as_i64().unwrap_or(0)
}

/// The condition of a type: status, reason, message.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default();
    Some((text("status"), text("reason"), text("message")))
}

/// `reason: message`, without the colon where one of them is missing.
fn because(reason: &str, message: &str) -> String {
    match (reason, message) {
        ("", text) | (text, "") => text.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

#[cfg(test)]
#[path = "health/tests.rs"]
mod tests;
