//! Objects as controllers see them: an identity, metadata, and a typed body for the kinds that some controller reads.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use strake_kinds::meta::{ObjectMeta, OwnerReference};
use strake_kinds::{apps, batch, coordination, core, discovery};

/// A kind of object: its `apiVersion` and its `kind`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    pub api_version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
}

macro_rules! kinds {
    ($($name:ident = $api_version:literal $kind:literal;)*) => {
        impl Kind {
            $(#[doc = concat!("`", $api_version, "` `", $kind, "`.")]
            pub const $name: Kind = Kind { api_version: Cow::Borrowed($api_version), kind: Cow::Borrowed($kind) };)*
        }
    };
}

kinds! {
    POD = "v1" "Pod";
    SERVICE = "v1" "Service";
    NAMESPACE = "v1" "Namespace";
    NODE = "v1" "Node";
    SERVICE_ACCOUNT = "v1" "ServiceAccount";
    CONFIG_MAP = "v1" "ConfigMap";
    EVENT = "v1" "Event";
    DEPLOYMENT = "apps/v1" "Deployment";
    REPLICA_SET = "apps/v1" "ReplicaSet";
    JOB = "batch/v1" "Job";
    CRON_JOB = "batch/v1" "CronJob";
    ENDPOINT_SLICE = "discovery.k8s.io/v1" "EndpointSlice";
    LEASE = "coordination.k8s.io/v1" "Lease";
}

impl Kind {
    /// A kind by its two names.
    pub fn new(api_version: &str, kind: &str) -> Self {
        Self { api_version: Cow::Owned(api_version.to_owned()), kind: Cow::Owned(kind.to_owned()) }
    }

    /// The group: empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)
    }
}

/// Which object: its kind, its namespace (empty for cluster-scoped kinds) and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

impl ObjectId {
    /// An object by kind, namespace and name.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// One object in the view.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub id: ObjectId,
    pub meta: ObjectMeta,
    pub body: Body,
}

/// The typed contents of an object. Its metadata stands in [`Object::meta`] too.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Pod(Arc<core::Pod>),
    Service(Arc<core::Service>),
    Namespace(Arc<core::Namespace>),
    Node(Arc<core::Node>),
    ConfigMap(Arc<core::ConfigMap>),
    Deployment(Arc<apps::Deployment>),
    ReplicaSet(Arc<apps::ReplicaSet>),
    Job(Arc<batch::Job>),
    CronJob(Arc<batch::CronJob>),
    EndpointSlice(Arc<discovery::EndpointSlice>),
    Lease(Arc<coordination::Lease>),
    /// Any other kind: no controller looks further than its metadata.
    Metadata,
}

impl Object {
    /// Reads an object from its JSON form. `None` when it has no `apiVersion`, `kind` or name, or its body is not of its
    /// kind (which the API never lets through).
    pub fn from_value(value: &Value) -> Option<Self> {
        use serde::Deserialize as _;
        let kind = Kind::known(value.get("apiVersion")?.as_str()?, value.get("kind")?.as_str()?);
        let meta = ObjectMeta::deserialize(value.get("metadata")?).ok()?;
        let id = ObjectId { kind, namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone()? };
        let body = Body::from_value(&id.kind, value)?;
        Some(Self { id, meta, body })
    }

    /// The uid; empty if the object has none, which only happens in tests.
    pub fn uid(&self) -> &str {
        self.meta.uid.as_deref().unwrap_or_default()
    }

    /// The revision as a number, 0 where it is not one.
    pub fn revision(&self) -> u64 {
        self.meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Deletion was asked for.
    pub fn is_terminating(&self) -> bool {
        self.meta.deletion_timestamp.is_some()
    }

    /// The owner that controls it.
    pub fn controller(&self) -> Option<&OwnerReference> {
        controller_of(&self.meta)
    }
}

/// The owner reference with `controller: true`.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

impl Kind {
    /// The constant for a known kind, so that no text is allocated for it.
    pub(crate) fn known(api_version: &str, kind: &str) -> Self {
        const KNOWN: [Kind; 13] = [
            Kind::POD,
            Kind::EVENT,
            Kind::REPLICA_SET,
            Kind::ENDPOINT_SLICE,
            Kind::DEPLOYMENT,
            Kind::SERVICE,
            Kind::CONFIG_MAP,
            Kind::LEASE,
            Kind::NODE,
            Kind::SERVICE_ACCOUNT,
            Kind::NAMESPACE,
            Kind::JOB,
            Kind::CRON_JOB,
        ];
        KNOWN.iter().find(|known| known.kind == kind && known.api_version == api_version).cloned().unwrap_or_else(|| Self::new(api_version, kind))
    }
}

impl Body {
    fn from_value(kind: &Kind, value: &Value) -> Option<Self> {
        fn read<'de, T: serde::Deserialize<'de>>(value: &'de Value) -> Option<Arc<T>> {
            T::deserialize(value).ok().map(Arc::new)
        }
        Some(match (&*kind.api_version, &*kind.kind) {
            ("v1", "Pod") => Self::Pod(read(value)?),
            ("v1", "Service") => Self::Service(read(value)?),
            ("v1", "Namespace") => Self::Namespace(read(value)?),
            ("v1", "Node") => Self::Node(read(value)?),
            ("v1", "ConfigMap") => Self::ConfigMap(read(value)?),
            ("apps/v1", "Deployment") => Self::Deployment(read(value)?),
            ("apps/v1", "ReplicaSet") => Self::ReplicaSet(read(value)?),
            ("batch/v1", "Job") => Self::Job(read(value)?),
            ("batch/v1", "CronJob") => Self::CronJob(read(value)?),
            ("discovery.k8s.io/v1", "EndpointSlice") => Self::EndpointSlice(read(value)?),
            ("coordination.k8s.io/v1", "Lease") => Self::Lease(read(value)?),
            _ => Self::Metadata,
        })
    }
}
