//! The schema table and the table of kinds.

use strake_kinds::schema::{self, ListKind, Type};
use strake_kinds::{by_kind, by_name, by_resource, table};

#[test]
fn each_kind_has_its_schema_and_each_supported_kind_its_list() {
    for kind in table() {
        let message = schema::message(kind.message);
        assert!(message.is_some(), "{} has no schema", kind.message);
        if kind.supported {
            assert!(schema::message(&format!("{}List", kind.message)).is_some(), "{} has no list", kind.message);
        }
        let status = message.is_some_and(|message| message.field("status").is_some());
        assert!(status || !kind.status_subresource, "{} has no status", kind.message);
    }
}

#[test]
fn kinds_are_found_by_what_people_and_urls_say() {
    assert_eq!(by_kind("apps/v1", "Deployment").map(|kind| kind.plural), Some("deployments"));
    assert_eq!(by_kind("v1", "Deployment"), None);
    assert_eq!(by_resource("", "v1", "pods").map(|kind| kind.kind), Some("Pod"));
    for name in ["po", "pods", "Pod", "pod"] {
        assert_eq!(by_name(name).map(|kind| kind.kind), Some("Pod"), "{name}");
    }
    assert_eq!(by_name("deployments.v1.apps").map(|kind| kind.kind), Some("Deployment"));
    assert_eq!(by_name("events").map(|kind| kind.group), Some(""));
    assert_eq!(by_name("events.events.k8s.io").map(|kind| kind.group), Some("events.k8s.io"));
    assert_eq!(by_name("sts").map(|kind| kind.supported), Some(false));
    assert_eq!(by_name("nothing"), None);
}

#[test]
fn facts_of_fields() {
    let spec = schema::message("io.k8s.api.core.v1.PodSpec").expect("it is in the table");
    let containers = spec.field("containers").expect("it is in the table");
    assert!(containers.required);
    assert_eq!(containers.tag, 2);
    assert_eq!(containers.list, ListKind::Map(&["name"]));
    let patch = spec.field("volumes").and_then(|field| field.patch).expect("volumes are merged");
    assert!(patch.merge() && patch.retain_keys());
    assert_eq!(patch.key, Some("name"));
    let container = containers.ty.message().expect("containers are messages");
    let ports = container.field("ports").expect("it is in the table");
    assert_eq!(ports.list, ListKind::Map(&["containerPort", "protocol"]));
    assert_eq!(ports.patch.and_then(|patch| patch.key), Some("containerPort"));
    let protocol = ports.ty.message().and_then(|port| port.field("protocol")).expect("it is in the table");
    assert_eq!(protocol.default, Some("\"TCP\""));
}

#[test]
fn inlined_messages_are_fields_of_their_parent() {
    let volume = schema::message("io.k8s.api.core.v1.Volume").expect("it is in the table");
    assert!(volume.field("emptyDir").is_some_and(|field| field.inlined));
    let probe = schema::message("io.k8s.api.core.v1.Probe").expect("it is in the table");
    assert!(probe.field("httpGet").is_some());
    let ephemeral = schema::message("io.k8s.api.core.v1.EphemeralContainer").expect("it is in the table");
    assert!(matches!(ephemeral.field("image").map(|field| field.ty), Some(Type::String)));
    assert!(schema::message("io.k8s.api.core.v1.LabelSelector").is_none());
    assert!(schema::message("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector").is_some_and(|message| message.atomic));
}

#[test]
fn reading_the_table_takes_no_noticeable_time() {
    let start = std::time::Instant::now();
    assert!(schema::messages().len() > 500);
    // Milliseconds in an optimised build; the bound allows for a loaded machine without optimisation.
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}
