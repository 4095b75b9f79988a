//! The EndpointSlice controller: where the pods behind a Service can be reached, and whether they are ready.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use strake_kinds::IntOrString;
use strake_kinds::core::{ObjectReference, Pod, Service, ServicePort, ServiceSpec};
use strake_kinds::discovery::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use strake_kinds::meta::{LabelSelector, ObjectMeta};

use crate::action::{Action, Decision};
use crate::object::{Body, Kind, Object};
use crate::view::{Change, View};
use crate::{Controller, Key, names, pods, replicaset, write};

/// The label that says whose slice it is.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that says which controller writes it.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// The label of slices of Services without a cluster address.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Endpoints in one slice at most.
const MOST_ENDPOINTS: usize = 1000;

/// See the module.
pub struct EndpointSlices;

impl Controller for EndpointSlices {
    fn name(&self) -> &'static str {
        "endpointslice-controller"
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::SERVICE, Kind::POD, Kind::ENDPOINT_SLICE]
    }

    fn keys_for(&self, view: &View, change: &Change) -> Vec<Key> {
        let namespace = &change.id.namespace;
        if change.id.kind == Kind::SERVICE {
            return vec![change.id.clone()];
        }
        if change.id.kind == Kind::ENDPOINT_SLICE {
            let owners = change.sides().filter(|side| is_ours(side)).filter_map(|side| side.meta.labels.as_ref()?.get(SERVICE_NAME));
            let names: BTreeSet<&String> = owners.collect();
            return names.into_iter().map(|name| Key::new(Kind::SERVICE, namespace, name)).collect();
        }
        if !matters(change) {
            return Vec::new();
        }
        let selects = |service: &&Arc<Object>| {
            let selector = service_spec(service).and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty());
            selector.is_some_and(|selector| change.sides().any(|side| has_labels(side, selector)))
        };
        view.in_namespace(&Kind::SERVICE, namespace).filter(selects).map(|service| service.id.clone()).collect()
    }

    fn reconcile(&self, view: &View, key: &Key, _now: Timestamp) -> Decision {
        let Some(object) = view.get(key) else { return Decision::default() };
        let Body::Service(service) = &object.body else { return Decision::default() };
        let Some(spec) = service.spec.as_ref().filter(|spec| is_for_us(object, spec)) else { return Decision::default() };
        let selector = LabelSelector { match_labels: spec.selector.clone(), match_expressions: None };
        let mut groups: BTreeMap<Vec<PortKey>, Vec<Endpoint>> = BTreeMap::new();
        for pod in view.pods_matching(&object.id.namespace, &selector).filter_map(|pod| pods::pod(pod)) {
            if let Some(endpoint) = endpoint(pod, service) {
                groups.entry(ports(spec, pod)).or_default().push(endpoint);
            }
        }
        if groups.is_empty() {
            groups.insert(Vec::new(), Vec::new());
        }
        let mut wanted = Vec::new();
        for (ports, endpoints) in groups {
            for part in parts(endpoints) {
                wanted.push(slice(object, spec, &ports, part, wanted.len()));
            }
        }
        Decision { actions: compare(view, object, wanted), requeue_after: None }
    }
}

/// Something of a pod has changed that an endpoint shows.
fn matters(change: &Change) -> bool {
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return true };
    let (Some(was), Some(is)) = (pods::pod(before), pods::pod(after)) else { return true };
    let facts = |pod: &Pod| {
        let ips = pod.status.as_ref().and_then(|status| status.pod_ips.clone());
        (ips, pods::is_ready(pod), pods::is_over(pod), pod.metadata.deletion_timestamp.is_some(), pods::node(pod).map(str::to_owned))
    };
    before.meta.labels != after.meta.labels || facts(was) != facts(is)
}

fn service_spec(object: &Object) -> Option<&ServiceSpec> {
    match &object.body {
        Body::Service(service) => service.spec.as_ref(),
        _ => None,
    }
}

fn has_labels(object: &Object, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| object.meta.labels.as_ref().and_then(|labels| labels.get(key)) == Some(value))
}

fn is_ours(object: &Object) -> bool {
    object.meta.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|manager| manager == MANAGER)
}

/// A Service without a selector is filled by somebody else, one of an external name by nobody.
fn is_for_us(object: &Object, spec: &ServiceSpec) -> bool {
    let selects = spec.selector.as_ref().is_some_and(|selector| !selector.is_empty());
    selects && spec.type_.as_deref() != Some("ExternalName") && !object.is_terminating()
}

/// A port as slices are grouped by: name, number, protocol, application protocol.
type PortKey = (Option<String>, i32, String, Option<String>);

/// The Service's ports as this pod has them. A named target port that the pod lacks is left out.
fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<PortKey> {
    let found = spec.ports.iter().flatten().filter_map(|port| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        let number = target(port, &protocol, pod)?;
        Some((Some(port.name.clone().unwrap_or_default()), number, protocol, port.app_protocol.clone()))
    });
    found.collect()
}

fn target(port: &ServicePort, protocol: &str, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let side = spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut ports = spec.containers.iter().chain(side).flat_map(|container| container.ports.iter().flatten());
    let found = ports.find(|port| port.name.as_ref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol);
    found.map(|port| port.container_port)
}

/// The endpoint of a pod: none before it has an address and none once it is over.
fn endpoint(pod: &Pod, service: &Service) -> Option<Endpoint> {
    let status = pod.status.as_ref()?;
    let address = status.pod_ip.clone().filter(|ip| !ip.is_empty())?;
    if pods::is_over(pod) {
        return None;
    }
    let meta = &pod.metadata;
    let terminating = meta.deletion_timestamp.is_some();
    let serving = pods::is_ready(pod);
    let publishes_all = service.spec.as_ref().is_some_and(|spec| spec.publish_not_ready_addresses == Some(true));
    let spec = pod.spec.as_ref();
    let hostname = spec.and_then(|spec| {
        let in_domain = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
        spec.hostname.clone().filter(|_| in_domain)
    });
    Some(Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(publishes_all || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname,
        node_name: pods::node(pod).map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

/// At most so many endpoints in each part; no endpoints make one empty part.
fn parts(mut endpoints: Vec<Endpoint>) -> Vec<Vec<Endpoint>> {
    endpoints.sort_by(|one, other| one.target_ref.as_ref().map(|pod| &pod.name).cmp(&other.target_ref.as_ref().map(|pod| &pod.name)));
    if endpoints.is_empty() {
        return vec![endpoints];
    }
    endpoints.chunks(MOST_ENDPOINTS).map(<[Endpoint]>::to_vec).collect()
}

fn slice(service: &Object, spec: &ServiceSpec, ports: &[PortKey], endpoints: Vec<Endpoint>, number: usize) -> EndpointSlice {
    let mut labels = service.meta.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), service.id.name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if spec.cluster_ip.as_deref() == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let name = names::dependent(&service.id.name, service.uid(), u64::try_from(number).unwrap_or(u64::MAX));
    let address_type = if endpoints.first().is_some_and(|endpoint| endpoint.addresses[0].contains(':')) { "IPv6" } else { "IPv4" };
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(name),
            generate_name: Some(format!("{}-", service.id.name)),
            namespace: Some(service.id.namespace.clone()),
            labels: Some(labels),
            owner_references: Some(vec![write::owner_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: address_type.to_owned(),
        endpoints,
        ports: Some(ports.iter().map(port_of).collect()),
    }
}

fn port_of((name, port, protocol, app_protocol): &PortKey) -> EndpointPort {
    EndpointPort { name: name.clone(), port: Some(*port), protocol: Some(protocol.clone()), app_protocol: app_protocol.clone() }
}

/// Creates what is missing, replaces what differs, deletes what is too much.
fn compare(view: &View, service: &Object, wanted: Vec<EndpointSlice>) -> Vec<Action> {
    let mut present: BTreeMap<&str, &Arc<Object>> = view
        .owned(service.uid())
        .filter(|owned| owned.id.kind == Kind::ENDPOINT_SLICE && is_ours(owned) && !owned.is_terminating())
        .map(|slice| (slice.id.name.as_str(), slice))
        .collect();
    let mut actions = Vec::new();
    for mut slice in wanted {
        let name = slice.metadata.name.clone().unwrap_or_default();
        let Some(object) = present.remove(name.as_str()) else {
            actions.push(Action::Create { object: write::to_value(&slice), reason: "the Service has no such slice".into() });
            continue;
        };
        let Body::EndpointSlice(known) = &object.body else { continue };
        let same_ports = known.ports.as_deref().unwrap_or_default() == slice.ports.as_deref().unwrap_or_default();
        let same_labels = known.metadata.labels == slice.metadata.labels;
        if same_ports && same_labels && known.endpoints == slice.endpoints && known.address_type == slice.address_type {
            continue;
        }
        let labels = slice.metadata.labels.take();
        slice.metadata = ObjectMeta { labels, ..known.metadata.clone() };
        actions.push(Action::Update { object: write::to_value(&slice), reason: "the pods behind the Service have changed".into() });
    }
    actions.extend(present.into_values().map(|extra| replicaset::delete(extra, "the Service needs fewer slices".to_owned())));
    actions
}
