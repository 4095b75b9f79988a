//! The kinds of Kubernetes 1.33's stable groups, and strake's own: names, scope, verbs, and which of them this cluster serves.

/// One kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindInfo {
    /// API group; empty is the core group.
    pub group: &'static str,
    /// Version in the group.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Kind of a list.
    pub list_kind: &'static str,
    /// Resource name, as in URLs.
    pub plural: &'static str,
    /// Resource name of one.
    pub singular: &'static str,
    /// Short resource names: `po`.
    pub short_names: &'static [&'static str],
    /// Categories: `all`.
    pub categories: &'static [&'static str],
    /// Lives in a namespace.
    pub namespaced: bool,
    /// Verbs of the resource.
    pub verbs: &'static [&'static str],
    /// The schema's name: `io.k8s.api.apps.v1.Deployment`.
    pub message: &'static str,
    /// Has `/status`.
    pub status_subresource: bool,
    /// Has `/scale`.
    pub scale_subresource: bool,
    /// Served by this cluster now; the others are known by name only.
    pub supported: bool,
}

impl KindInfo {
    /// `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Its schema; without a field for a kind of custom resources, which nobody should check against it.
    pub fn schema(&self) -> &'static crate::schema::Message {
        if self.is_custom() {
            return &crate::schema::OPEN;
        }
        crate::schema::message(self.message).expect("a test holds that each kind's message is in the schema")
    }

    /// Defined by a CustomResourceDefinition, and not by Kubernetes.
    pub fn is_custom(&self) -> bool {
        self.message.is_empty()
    }
}

/// A kind of custom resources. The same words give the same kind; each is kept for as long as the program runs.
pub fn custom(group: &str, version: &str, kind: &str, plural: &str, namespaced: bool) -> &'static KindInfo {
    static KNOWN: std::sync::Mutex<Vec<&'static KindInfo>> = std::sync::Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let same = |row: &&&KindInfo| (row.group, row.version, row.kind, row.plural, row.namespaced) == (group, version, kind, plural, namespaced);
    if let Some(row) = known.iter().find(same) {
        return row;
    }
    let keep = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let row = KindInfo {
        group: keep(group.to_owned()),
        version: keep(version.to_owned()),
        kind: keep(kind.to_owned()),
        list_kind: keep(format!("{kind}List")),
        plural: keep(plural.to_owned()),
        singular: keep(kind.to_lowercase()),
        short_names: &[],
        categories: &[],
        namespaced,
        verbs: ALL_VERBS,
        message: "",
        status_subresource: false,
        scale_subresource: false,
        supported: false,
    };
    let row: &'static KindInfo = Box::leak(Box::new(row));
    known.push(row);
    row
}

const NAMESPACED: u8 = 1;
const STATUS: u8 = 2;
const SCALE: u8 = 4;
const SUPPORTED: u8 = 8;
const CREATE_ONLY: u8 = 16;
const READ_ONLY: u8 = 32;

const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

const fn verbs(flags: u8) -> &'static [&'static str] {
    if flags & CREATE_ONLY != 0 {
        &["create"]
    } else if flags & READ_ONLY != 0 {
        &["get", "list"]
    } else {
        ALL_VERBS
    }
}

macro_rules! row {
    ($group:literal, $version:literal, $kind:literal, $plural:literal, $singular:literal, $short:expr, $categories:expr, $flags:expr, $message:literal) => {
        KindInfo {
            group: $group,
            version: $version,
            kind: $kind,
            list_kind: concat!($kind, "List"),
            plural: $plural,
            singular: $singular,
            short_names: $short,
            categories: $categories,
            namespaced: $flags & NAMESPACED != 0,
            verbs: verbs($flags),
            message: $message,
            status_subresource: $flags & STATUS != 0,
            scale_subresource: $flags & SCALE != 0,
            supported: $flags & SUPPORTED != 0,
        }
    };
}

/// All known kinds, by group, then version, then kind.
pub fn table() -> &'static [KindInfo] {
    TABLE
}

/// The kind of an `apiVersion` and `kind`.
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static KindInfo> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    TABLE.iter().find(|row| row.kind == kind && row.version == version && row.group == group)
}

/// The kind of a URL's group, version and resource.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static KindInfo> {
    TABLE.iter().find(|row| row.plural == plural && row.version == version && row.group == group)
}

/// The kind a person means by `po`, `pod`, `pods`, `Pod`, `deployments.apps`: supported kinds first, the core group before others.
pub fn by_name(name: &str) -> Option<&'static KindInfo> {
    let lower = name.to_lowercase();
    let (resource, group) = lower.split_once('.').map_or((lower.as_str(), None), |(resource, group)| (resource, Some(group)));
    let named = |row: &&KindInfo| {
        let names = row.plural == resource || row.singular == resource || row.short_names.contains(&resource);
        names && group.is_none_or(|group| row.group == group || group.strip_prefix(row.version).is_some_and(|rest| rest.strip_prefix('.') == Some(row.group)))
    };
    TABLE.iter().filter(|row| row.supported).find(named).or_else(|| TABLE.iter().find(named))
}

const TABLE: &[KindInfo] = &[
    row!("", "v1", "Binding", "bindings", "binding", &[], &[], NAMESPACED | CREATE_ONLY, "io.k8s.api.core.v1.Binding"),
    row!("", "v1", "ComponentStatus", "componentstatuses", "componentstatus", &["cs"], &[], READ_ONLY, "io.k8s.api.core.v1.ComponentStatus"),
    row!("", "v1", "ConfigMap", "configmaps", "configmap", &["cm"], &[], NAMESPACED | SUPPORTED, "io.k8s.api.core.v1.ConfigMap"),
    row!("", "v1", "Endpoints", "endpoints", "endpoints", &["ep"], &[], NAMESPACED, "io.k8s.api.core.v1.Endpoints"),
    row!("", "v1", "Event", "events", "event", &["ev"], &[], NAMESPACED | SUPPORTED, "io.k8s.api.core.v1.Event"),
    row!("", "v1", "LimitRange", "limitranges", "limitrange", &["limits"], &[], NAMESPACED, "io.k8s.api.core.v1.LimitRange"),
    row!("", "v1", "Namespace", "namespaces", "namespace", &["ns"], &[], STATUS | SUPPORTED, "io.k8s.api.core.v1.Namespace"),
    row!("", "v1", "Node", "nodes", "node", &["no"], &[], STATUS | SUPPORTED, "io.k8s.api.core.v1.Node"),
    row!("", "v1", "PersistentVolume", "persistentvolumes", "persistentvolume", &["pv"], &[], STATUS, "io.k8s.api.core.v1.PersistentVolume"),
    row!(
        "",
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        "persistentvolumeclaim",
        &["pvc"],
        &[],
        NAMESPACED | STATUS,
        "io.k8s.api.core.v1.PersistentVolumeClaim"
    ),
    row!("", "v1", "Pod", "pods", "pod", &["po"], &["all"], NAMESPACED | STATUS | SUPPORTED, "io.k8s.api.core.v1.Pod"),
    row!("", "v1", "PodTemplate", "podtemplates", "podtemplate", &[], &[], NAMESPACED, "io.k8s.api.core.v1.PodTemplate"),
    row!(
        "",
        "v1",
        "ReplicationController",
        "replicationcontrollers",
        "replicationcontroller",
        &["rc"],
        &["all"],
        NAMESPACED | STATUS | SCALE,
        "io.k8s.api.core.v1.ReplicationController"
    ),
    row!("", "v1", "ResourceQuota", "resourcequotas", "resourcequota", &["quota"], &[], NAMESPACED | STATUS, "io.k8s.api.core.v1.ResourceQuota"),
    row!("", "v1", "Secret", "secrets", "secret", &[], &[], NAMESPACED | SUPPORTED, "io.k8s.api.core.v1.Secret"),
    row!("", "v1", "Service", "services", "service", &["svc"], &["all"], NAMESPACED | STATUS | SUPPORTED, "io.k8s.api.core.v1.Service"),
    row!("", "v1", "ServiceAccount", "serviceaccounts", "serviceaccount", &["sa"], &[], NAMESPACED | SUPPORTED, "io.k8s.api.core.v1.ServiceAccount"),
    row!(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        "mutatingwebhookconfiguration",
        &[],
        &["api-extensions"],
        0,
        "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration"
    ),
    row!(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        "validatingadmissionpolicy",
        &[],
        &["api-extensions"],
        STATUS,
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy"
    ),
    row!(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        "validatingadmissionpolicybinding",
        &[],
        &["api-extensions"],
        0,
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding"
    ),
    row!(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        "validatingwebhookconfiguration",
        &[],
        &["api-extensions"],
        0,
        "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration"
    ),
    row!(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        "customresourcedefinition",
        &["crd", "crds"],
        &["api-extensions"],
        STATUS,
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"
    ),
    row!("apps", "v1", "ControllerRevision", "controllerrevisions", "controllerrevision", &[], &[], NAMESPACED, "io.k8s.api.apps.v1.ControllerRevision"),
    row!("apps", "v1", "DaemonSet", "daemonsets", "daemonset", &["ds"], &["all"], NAMESPACED | STATUS, "io.k8s.api.apps.v1.DaemonSet"),
    row!(
        "apps",
        "v1",
        "Deployment",
        "deployments",
        "deployment",
        &["deploy"],
        &["all"],
        NAMESPACED | STATUS | SCALE | SUPPORTED,
        "io.k8s.api.apps.v1.Deployment"
    ),
    row!("apps", "v1", "ReplicaSet", "replicasets", "replicaset", &["rs"], &["all"], NAMESPACED | STATUS | SCALE | SUPPORTED, "io.k8s.api.apps.v1.ReplicaSet"),
    row!("apps", "v1", "StatefulSet", "statefulsets", "statefulset", &["sts"], &["all"], NAMESPACED | STATUS | SCALE, "io.k8s.api.apps.v1.StatefulSet"),
    row!(
        "authentication.k8s.io",
        "v1",
        "SelfSubjectReview",
        "selfsubjectreviews",
        "selfsubjectreview",
        &[],
        &[],
        CREATE_ONLY,
        "io.k8s.api.authentication.v1.SelfSubjectReview"
    ),
    row!("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", "tokenreview", &[], &[], CREATE_ONLY, "io.k8s.api.authentication.v1.TokenReview"),
    row!(
        "authorization.k8s.io",
        "v1",
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
        &[],
        &[],
        NAMESPACED | CREATE_ONLY,
        "io.k8s.api.authorization.v1.LocalSubjectAccessReview"
    ),
    row!(
        "authorization.k8s.io",
        "v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
        &[],
        &[],
        CREATE_ONLY,
        "io.k8s.api.authorization.v1.SelfSubjectAccessReview"
    ),
    row!(
        "authorization.k8s.io",
        "v1",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
        &[],
        &[],
        CREATE_ONLY,
        "io.k8s.api.authorization.v1.SelfSubjectRulesReview"
    ),
    row!(
        "authorization.k8s.io",
        "v1",
        "SubjectAccessReview",
        "subjectaccessreviews",
        "subjectaccessreview",
        &[],
        &[],
        CREATE_ONLY,
        "io.k8s.api.authorization.v1.SubjectAccessReview"
    ),
    row!(
        "autoscaling",
        "v1",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        "horizontalpodautoscaler",
        &["hpa"],
        &["all"],
        NAMESPACED | STATUS,
        "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler"
    ),
    row!(
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        "horizontalpodautoscaler",
        &["hpa"],
        &["all"],
        NAMESPACED | STATUS,
        "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler"
    ),
    row!("batch", "v1", "CronJob", "cronjobs", "cronjob", &["cj"], &["all"], NAMESPACED | STATUS | SUPPORTED, "io.k8s.api.batch.v1.CronJob"),
    row!("batch", "v1", "Job", "jobs", "job", &[], &["all"], NAMESPACED | STATUS | SUPPORTED, "io.k8s.api.batch.v1.Job"),
    row!(
        "certificates.k8s.io",
        "v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
        "certificatesigningrequest",
        &["csr"],
        &[],
        STATUS,
        "io.k8s.api.certificates.v1.CertificateSigningRequest"
    ),
    row!("coordination.k8s.io", "v1", "Lease", "leases", "lease", &[], &[], NAMESPACED | SUPPORTED, "io.k8s.api.coordination.v1.Lease"),
    row!(
        "discovery.k8s.io",
        "v1",
        "EndpointSlice",
        "endpointslices",
        "endpointslice",
        &[],
        &[],
        NAMESPACED | SUPPORTED,
        "io.k8s.api.discovery.v1.EndpointSlice"
    ),
    row!("events.k8s.io", "v1", "Event", "events", "event", &["ev"], &[], NAMESPACED | SUPPORTED, "io.k8s.api.events.v1.Event"),
    row!("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema", "flowschemas", "flowschema", &[], &[], STATUS, "io.k8s.api.flowcontrol.v1.FlowSchema"),
    row!(
        "flowcontrol.apiserver.k8s.io",
        "v1",
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
        "prioritylevelconfiguration",
        &[],
        &[],
        STATUS,
        "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration"
    ),
    row!("networking.k8s.io", "v1", "Ingress", "ingresses", "ingress", &["ing"], &[], NAMESPACED | STATUS, "io.k8s.api.networking.v1.Ingress"),
    row!("networking.k8s.io", "v1", "IngressClass", "ingressclasses", "ingressclass", &[], &[], 0, "io.k8s.api.networking.v1.IngressClass"),
    row!("networking.k8s.io", "v1", "IPAddress", "ipaddresses", "ipaddress", &[], &[], 0, "io.k8s.api.networking.v1.IPAddress"),
    row!(
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        "networkpolicies",
        "networkpolicy",
        &["netpol"],
        &[],
        NAMESPACED,
        "io.k8s.api.networking.v1.NetworkPolicy"
    ),
    row!("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", "servicecidr", &[], &[], STATUS, "io.k8s.api.networking.v1.ServiceCIDR"),
    row!("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "runtimeclass", &[], &[], 0, "io.k8s.api.node.v1.RuntimeClass"),
    row!(
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        "poddisruptionbudget",
        &["pdb"],
        &[],
        NAMESPACED | STATUS,
        "io.k8s.api.policy.v1.PodDisruptionBudget"
    ),
    row!("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "clusterrole", &[], &[], 0, "io.k8s.api.rbac.v1.ClusterRole"),
    row!(
        "rbac.authorization.k8s.io",
        "v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        "clusterrolebinding",
        &[],
        &[],
        0,
        "io.k8s.api.rbac.v1.ClusterRoleBinding"
    ),
    row!("rbac.authorization.k8s.io", "v1", "Role", "roles", "role", &[], &[], NAMESPACED, "io.k8s.api.rbac.v1.Role"),
    row!("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "rolebinding", &[], &[], NAMESPACED, "io.k8s.api.rbac.v1.RoleBinding"),
    row!("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "priorityclass", &["pc"], &[], 0, "io.k8s.api.scheduling.v1.PriorityClass"),
    row!("storage.k8s.io", "v1", "CSIDriver", "csidrivers", "csidriver", &[], &[], 0, "io.k8s.api.storage.v1.CSIDriver"),
    row!("storage.k8s.io", "v1", "CSINode", "csinodes", "csinode", &[], &[], 0, "io.k8s.api.storage.v1.CSINode"),
    row!(
        "storage.k8s.io",
        "v1",
        "CSIStorageCapacity",
        "csistoragecapacities",
        "csistoragecapacity",
        &[],
        &[],
        NAMESPACED,
        "io.k8s.api.storage.v1.CSIStorageCapacity"
    ),
    row!("storage.k8s.io", "v1", "StorageClass", "storageclasses", "storageclass", &["sc"], &[], 0, "io.k8s.api.storage.v1.StorageClass"),
    row!("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", "volumeattachment", &[], &[], STATUS, "io.k8s.api.storage.v1.VolumeAttachment"),
    // The one kind that is strake's own.
    row!("strake.dev", "v1", "Sync", "syncs", "sync", &[], &[], NAMESPACED | STATUS | SUPPORTED, "dev.strake.v1.Sync"),
];
