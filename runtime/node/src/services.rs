//! Services and their endpoints, told to the network: routes, node ports and names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use strake_client::{Change, Client, ListParams, Resource};
use strake_kinds::core::{Service, ServicePort};
use strake_kinds::discovery::EndpointSlice;
use strake_network::{Network, NetworkError, PortRoute, Protocol, ServiceRoute, ZoneEndpoint, ZonePort, ZoneService};

use crate::events::Events;

type Key = (String, String);

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Every Service and every slice.
#[derive(Default)]
struct View {
    services: BTreeMap<Key, Service>,
    slices: HashMap<Key, EndpointSlice>,
}

/// Keeps the network as the API says, until the runtime ends or the task is aborted.
pub(crate) async fn run(client: Client, network: Arc<Network>, events: Events) {
    let mut services = client.reflect(&Resource::SERVICES, None, &ListParams::all());
    let mut slices = client.reflect(&Resource::ENDPOINT_SLICES, None, &ListParams::all());
    let mut view = View::default();
    let mut synced = (false, false);
    let mut told = BTreeSet::new();
    loop {
        tokio::select! {
            change = services.next() => match change {
                Some(change) => synced.0 |= apply(&mut view.services, change),
                None => return,
            },
            change = slices.next() => match change {
                Some(change) => synced.1 |= apply_slice(&mut view.slices, change),
                None => return,
            },
        }
        // Whatever else has come meanwhile is one change of the rules.
        while let Some(change) = services.try_next() {
            synced.0 |= apply(&mut view.services, change);
        }
        while let Some(change) = slices.try_next() {
            synced.1 |= apply_slice(&mut view.slices, change);
        }
        if synced == (true, true) {
            told = program(&view, &network, &events, told).await;
        }
    }
}

fn key(object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

fn typed<T: DeserializeOwned>(object: &Value) -> Option<T> {
    T::deserialize(object).inspect_err(|error| tracing::warn!(%error, "an object of the API could not be read")).ok()
}

/// Gives whether the list is complete now.
fn apply(services: &mut BTreeMap<Key, Service>, change: Change) -> bool {
    match change {
        Change::Synced => return true,
        Change::Applied(object) => {
            services.extend(typed(&object).map(|service| (key(&object), service)));
        }
        Change::Deleted(object) => {
            services.remove(&key(&object));
        }
    }
    false
}

fn apply_slice(slices: &mut HashMap<Key, EndpointSlice>, change: Change) -> bool {
    match change {
        Change::Synced => return true,
        Change::Applied(object) => slices.extend(typed(&object).map(|slice| (key(&object), slice))),
        Change::Deleted(object) => {
            slices.remove(&key(&object));
        }
    }
    false
}

/// Writes rules and names; gives what people were told of, so that they are told once.
async fn program(view: &View, network: &Arc<Network>, events: &Events, before: BTreeSet<(Key, String)>) -> BTreeSet<(Key, String)> {
    let by_service = by_service(view);
    let routes: Vec<ServiceRoute> = view.services.iter().filter_map(|(key, service)| route(key, service, by_service.get(key))).collect();
    let mut zone = network.zone_builder();
    for (key, service) in &view.services {
        zone.service(&names(key, service, by_service.get(key)));
    }
    network.set_zone(zone.finish());
    let owner = Arc::clone(network);
    let programmed = tokio::task::spawn_blocking(move || owner.program(&routes)).await;
    let mut told: BTreeSet<(Key, String)> = view.services.iter().flat_map(|(key, service)| unsupported(service).map(|text| (key.clone(), text))).collect();
    match programmed {
        Ok(Ok(failed)) => told.extend(failed.iter().filter_map(|error| match error {
            NetworkError::BindNodePort { service, .. } => {
                let (namespace, name) = service.split_once('/')?;
                Some(((namespace.to_owned(), name.to_owned()), error.to_string()))
            }
            _ => None,
        })),
        Ok(Err(error)) => tracing::error!(error = %crate::images::text(&error), "services could not be routed"),
        Err(error) => tracing::error!(%error, "routing services panicked"),
    }
    for ((namespace, name), message) in told.difference(&before) {
        tracing::warn!(%namespace, service = %name, "{message}");
        let reason = if message.contains("in use") { "NodePortInUse" } else { "UnsupportedField" };
        events.service(namespace, name, reason, message.clone());
    }
    told
}

/// What a Service asks for that isn't done, said rather than passed over in silence.
fn unsupported(service: &Service) -> impl Iterator<Item = String> {
    let spec = service.spec.as_ref();
    let affinity = spec.and_then(|spec| spec.session_affinity.as_deref()) == Some("ClientIP");
    let external = spec.is_some_and(|spec| spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()));
    let first = affinity.then(|| "sessionAffinity ClientIP is not supported: every connection may reach another endpoint".to_owned());
    let second = external.then(|| "externalIPs are refused: they would let a Service take over other machines' addresses".to_owned());
    first.into_iter().chain(second)
}

fn by_service(view: &View) -> HashMap<Key, Vec<&EndpointSlice>> {
    let mut found: HashMap<Key, Vec<&EndpointSlice>> = HashMap::new();
    for ((namespace, _), slice) in &view.slices {
        let name = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
        if let Some(name) = name {
            found.entry((namespace.clone(), name.clone())).or_default().push(slice);
        }
    }
    found
}

fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

fn cluster_ip(service: &Service) -> Option<Ipv4Addr> {
    service.spec.as_ref()?.cluster_ip.as_deref()?.parse().ok()
}

fn route(key: &Key, service: &Service, slices: Option<&Vec<&EndpointSlice>>) -> Option<ServiceRoute> {
    let cluster_ip = Some(cluster_ip(service)?);
    let ports = service.spec.as_ref()?.ports.as_deref().unwrap_or_default();
    let ports = ports.iter().filter_map(|port| {
        Some(PortRoute {
            protocol: protocol(port.protocol.as_deref())?,
            port: u16::try_from(port.port).ok()?,
            node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
            endpoints: slices.into_iter().flatten().flat_map(|slice| endpoints(slice, port)).collect(),
        })
    });
    Some(ServiceRoute { name: format!("{}/{}", key.0, key.1), cluster_ip, ports: ports.collect() })
}

/// The ready endpoints of a slice for one port of the Service: its port of the same name.
fn endpoints(slice: &EndpointSlice, port: &ServicePort) -> Vec<SocketAddrV4> {
    let name = port.name.as_deref().unwrap_or_default();
    let own = slice.ports.iter().flatten().find(|candidate| candidate.name.as_deref().unwrap_or_default() == name);
    let Some(number) = own.and_then(|port| u16::try_from(port.port?).ok()) else { return Vec::new() };
    ready(slice).map(|(address, _)| SocketAddrV4::new(address, number)).collect()
}

fn ready(slice: &EndpointSlice) -> impl Iterator<Item = (Ipv4Addr, Option<String>)> {
    let ready = slice.endpoints.iter().filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false));
    ready.filter_map(|endpoint| Some((endpoint.addresses.first()?.parse().ok()?, endpoint.hostname.clone())))
}

fn names(key: &Key, service: &Service, slices: Option<&Vec<&EndpointSlice>>) -> ZoneService {
    let spec = service.spec.as_ref();
    let external = spec.filter(|spec| spec.type_.as_deref() == Some("ExternalName")).and_then(|spec| spec.external_name.clone());
    let headless = cluster_ip(service).is_none();
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let ports = ports.iter().filter_map(|port| {
        let number = u16::try_from(port.port).ok()?;
        Some(ZonePort { name: port.name.clone().unwrap_or_default(), protocol: protocol(port.protocol.as_deref())?, port: number })
    });
    let endpoints = slices.into_iter().flatten().filter(|_| headless).flat_map(|slice| ready(slice));
    ZoneService {
        namespace: key.0.clone(),
        name: key.1.clone(),
        cluster_ip: cluster_ip(service),
        external_name: external,
        ports: ports.collect(),
        endpoints: endpoints.map(|(address, hostname)| ZoneEndpoint { address, hostname }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: serde_json::Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n"}, "spec": spec})).unwrap()
    }

    fn slice(ports: serde_json::Value) -> EndpointSlice {
        let endpoints = json!([
            {"addresses": ["10.42.0.5"], "conditions": {"ready": true}, "hostname": "web-0"},
            {"addresses": ["10.42.0.6"], "conditions": {"ready": false}},
            {"addresses": ["10.42.0.7"]}
        ]);
        serde_json::from_value(json!({"addressType": "IPv4", "metadata": {"name": "s"}, "ports": ports, "endpoints": endpoints})).unwrap()
    }

    fn key() -> Key {
        ("n".to_owned(), "web".to_owned())
    }

    #[test]
    fn ports_meet_by_name_and_only_ready_endpoints_count() {
        let ports = json!([{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 90, "protocol": "UDP"}]);
        let slice = slice(json!([{"name": "b", "port": 9090, "protocol": "UDP"}, {"name": "a", "port": 8080}]));
        let route = route(&key(), &service(json!({"clusterIP": "10.43.0.9", "ports": ports})), Some(&vec![&slice])).unwrap();
        let shown: Vec<(u16, Option<u16>, Vec<String>)> =
            route.ports.iter().map(|port| (port.port, port.node_port, port.endpoints.iter().map(ToString::to_string).collect())).collect();
        let both = |port: u16| vec![format!("10.42.0.5:{port}"), format!("10.42.0.7:{port}")];
        assert_eq!(shown, [(80, Some(30080), both(8080)), (90, None, both(9090))]);
    }

    #[test]
    fn headless_and_external_services_have_names_only() {
        let slice = slice(json!([{"name": "", "port": 1}]));
        let headless = service(json!({"clusterIP": "None", "ports": [{"port": 1}]}));
        assert!(route(&key(), &headless, Some(&vec![&slice])).is_none());
        let known = names(&key(), &headless, Some(&vec![&slice]));
        assert_eq!(known.endpoints.len(), 2);
        assert_eq!(known.endpoints[0].hostname.as_deref(), Some("web-0"));
        let external = service(json!({"type": "ExternalName", "externalName": "example.org"}));
        assert_eq!(names(&key(), &external, None).external_name.as_deref(), Some("example.org"));
    }

    #[test]
    fn what_is_not_done_is_said() {
        let service = service(json!({"clusterIP": "10.43.0.9", "sessionAffinity": "ClientIP", "externalIPs": ["192.0.2.1"]}));
        assert_eq!(unsupported(&service).count(), 2);
    }
}
