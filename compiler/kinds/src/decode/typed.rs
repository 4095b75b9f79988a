//! Typed objects from JSON values and back. The conversions of the common kinds are compiled here once.

use serde::Deserialize as _;
use serde_json::Value;

/// A value that is not an object of the wanted type.
#[derive(Debug, thiserror::Error)]
#[error("cannot read a {kind}")]
pub struct DecodeError {
    kind: &'static str,
    #[source]
    source: serde_json::Error,
}

/// A kind that this package converts.
pub trait Typed: Sized {
    /// The object as the type's fields have it; unknown fields are ignored.
    fn from_value(value: &Value) -> Result<Self, DecodeError>;
    /// The object as JSON.
    fn to_value(&self) -> Value;
}

/// A typed object of a value.
pub fn typed<T: Typed>(value: &Value) -> Result<T, DecodeError> {
    T::from_value(value)
}

/// The value of a typed object, with `apiVersion` and `kind`.
pub fn encode<T: Typed>(object: &T) -> Value {
    object.to_value()
}

macro_rules! typed {
    ($($ty:path = $name:literal),* $(,)?) => {
        $(impl Typed for $ty {
            fn from_value(value: &Value) -> Result<Self, DecodeError> {
                Self::deserialize(value).map_err(|source| DecodeError { kind: $name, source })
            }

            fn to_value(&self) -> Value {
                serde_json::to_value(self).unwrap_or_default()
            }
        })*
    };
}

typed! {
    crate::core::Pod = "Pod",
    crate::core::PodSpec = "PodSpec",
    crate::core::PodTemplateSpec = "PodTemplateSpec",
    crate::core::PodStatus = "PodStatus",
    crate::core::Container = "Container",
    crate::core::Service = "Service",
    crate::core::Node = "Node",
    crate::core::NodeStatus = "NodeStatus",
    crate::core::ConfigMap = "ConfigMap",
    crate::core::Secret = "Secret",
    crate::core::ServiceAccount = "ServiceAccount",
    crate::core::Namespace = "Namespace",
    crate::core::Event = "Event",
    crate::apps::Deployment = "Deployment",
    crate::apps::DeploymentStatus = "DeploymentStatus",
    crate::apps::ReplicaSet = "ReplicaSet",
    crate::apps::ReplicaSetStatus = "ReplicaSetStatus",
    crate::batch::Job = "Job",
    crate::batch::JobSpec = "JobSpec",
    crate::batch::JobStatus = "JobStatus",
    crate::batch::CronJob = "CronJob",
    crate::batch::CronJobStatus = "CronJobStatus",
    crate::discovery::EndpointSlice = "EndpointSlice",
    crate::coordination::Lease = "Lease",
    crate::meta::ObjectMeta = "ObjectMeta",
    crate::meta::LabelSelector = "LabelSelector",
    crate::meta::OwnerReference = "OwnerReference",
}
