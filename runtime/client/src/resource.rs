//! What identifies a resource on the wire.

use std::borrow::Cow;

/// A resource: what kind its objects are, and where they live in the API.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// The version: `v1`.
    pub version: Cow<'static, str>,
    /// The name in paths: `deployments`.
    pub plural: Cow<'static, str>,
    /// The kind of its objects: `Deployment`.
    pub kind: Cow<'static, str>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

macro_rules! known {
    ($($name:ident: $group:literal $version:literal $plural:literal $kind:literal $namespaced:literal;)*) => {
        $(#[doc = concat!("`", $plural, "`")]
        pub const $name: Resource = Resource::fixed($group, $version, $plural, $kind, $namespaced);)*
        /// The resources that strake's own parts speak of.
        pub const KNOWN: &'static [Resource] = &[$(Resource::$name),*];
    };
}

impl Resource {
    const fn fixed(group: &'static str, version: &'static str, plural: &'static str, kind: &'static str, namespaced: bool) -> Resource {
        Resource { group: Cow::Borrowed(group), version: Cow::Borrowed(version), plural: Cow::Borrowed(plural), kind: Cow::Borrowed(kind), namespaced }
    }

    known! {
        NAMESPACES: "" "v1" "namespaces" "Namespace" false;
        NODES: "" "v1" "nodes" "Node" false;
        PODS: "" "v1" "pods" "Pod" true;
        SERVICES: "" "v1" "services" "Service" true;
        CONFIG_MAPS: "" "v1" "configmaps" "ConfigMap" true;
        SECRETS: "" "v1" "secrets" "Secret" true;
        SERVICE_ACCOUNTS: "" "v1" "serviceaccounts" "ServiceAccount" true;
        EVENTS: "" "v1" "events" "Event" true;
        DEPLOYMENTS: "apps" "v1" "deployments" "Deployment" true;
        REPLICA_SETS: "apps" "v1" "replicasets" "ReplicaSet" true;
        ENDPOINT_SLICES: "discovery.k8s.io" "v1" "endpointslices" "EndpointSlice" true;
        LEASES: "coordination.k8s.io" "v1" "leases" "Lease" true;
    }

    /// A resource by its parts.
    pub fn new(group: &str, version: &str, plural: &str, kind: &str, namespaced: bool) -> Resource {
        let own = |text: &str| Cow::Owned(text.to_owned());
        Resource { group: own(group), version: own(version), plural: own(plural), kind: own(kind), namespaced }
    }

    /// The known resource of an `apiVersion` and `kind`.
    pub fn of_kind(api_version: &str, kind: &str) -> Option<Resource> {
        Resource::KNOWN.iter().find(|resource| resource.kind == kind && resource.api_version() == api_version).cloned()
    }

    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The path of the collection, of one object, or of its subresource. A cluster-scoped resource has no namespace in it; for a namespaced one
    /// `None` means all namespaces.
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>, subresource: Option<&str>) -> String {
        let mut path = match &*self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path.push_str("/namespaces/");
            crate::query::escape(namespace, &mut path);
        }
        path.push('/');
        path.push_str(&self.plural);
        for part in [name, subresource].into_iter().flatten() {
            path.push('/');
            crate::query::escape(part, &mut path);
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::Resource;

    #[test]
    fn paths() {
        assert_eq!(Resource::PODS.path(None, None, None), "/api/v1/pods");
        assert_eq!(Resource::PODS.path(Some("a"), Some("b"), Some("log")), "/api/v1/namespaces/a/pods/b/log");
        assert_eq!(Resource::NODES.path(Some("ignored"), Some("n"), None), "/api/v1/nodes/n");
        assert_eq!(Resource::DEPLOYMENTS.path(Some("a"), Some("b/c?"), None), "/apis/apps/v1/namespaces/a/deployments/b%2Fc%3F");
        assert_eq!(Resource::of_kind("apps/v1", "Deployment"), Some(Resource::DEPLOYMENTS));
        assert_eq!(Resource::of_kind("v1", "Deployment"), None);
    }
}
