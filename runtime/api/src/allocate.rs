//! Addresses and ports that Services hold: each at most once.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use strake_state::State;

use crate::meta;
use crate::server::ApiOptions;
use crate::status::{Answer, Cause, Refusal};
use crate::target::{builtin, key, prefix};

/// What is held by whom (a Service's key in the state).
#[derive(Debug)]
pub(crate) struct Allocations {
    held: Mutex<Held>,
    first: u32,
    /// Addresses of the range, the network's own and the broadcast one included.
    size: u32,
    ports: std::ops::RangeInclusive<u16>,
}

#[derive(Debug, Default)]
struct Held {
    addresses: HashMap<Ipv4Addr, String>,
    ports: HashMap<u16, String>,
}

/// Addresses below this offset are left to those who ask for them by name, such as the cluster's DNS.
const ASKED_BY_NAME: u32 = 256;

/// What a Service holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    addresses: Vec<Ipv4Addr>,
    ports: Vec<u16>,
}

fn holding(service: &Value) -> Holding {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().into_iter().flatten();
    let mut ports: Vec<u16> =
        ports.filter_map(|port| port["nodePort"].as_u64()).filter_map(|port| u16::try_from(port).ok()).filter(|port| *port != 0).collect();
    ports.extend(spec["healthCheckNodePort"].as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0));
    ports.sort_unstable();
    ports.dedup();
    Holding { addresses: spec["clusterIP"].as_str().and_then(|text| text.parse().ok()).into_iter().collect(), ports }
}

impl Allocations {
    /// What the Services of `state` hold.
    pub(crate) fn of_state(state: &dyn State, options: &ApiOptions) -> Allocations {
        let (network, length) = options.service_cidr;
        let size = 1_u32.checked_shl(32 - u32::from(length.clamp(8, 30))).unwrap_or(u32::MAX);
        let mut held = Held::default();
        for entry in state.list(&prefix(builtin("Service"), ""), None, 0).entries {
            let Ok(service) = meta::parse(&entry) else { continue };
            let Holding { addresses, ports } = holding(&service);
            held.addresses.extend(addresses.into_iter().map(|address| (address, entry.key.to_string())));
            held.ports.extend(ports.into_iter().map(|port| (port, entry.key.to_string())));
        }
        Allocations { held: Mutex::new(held), first: u32::from(network) & !(size - 1), size, ports: options.node_port_range.clone() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address of the API itself: the first of the range.
    pub(crate) fn api_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.first + 1)
    }

    /// Fills in what a Service needs and holds it. Give what it returns to [`Allocations::release`] if the write then fails.
    pub(crate) fn take(&self, service: &mut Value, old: Option<&Value>) -> Answer<Holding> {
        let owner = key(builtin("Service"), meta::text(service, "namespace"), meta::text(service, "name"));
        let name = meta::text(service, "name").to_owned();
        let mut held = self.held();
        let mut taken = Holding::default();
        let outcome = self.take_all(&mut held, service, old, &owner, &name, &mut taken);
        if let Err(refusal) = outcome {
            free(&mut held, &taken, &owner);
            return Err(refusal);
        }
        Ok(taken)
    }

    fn take_all(&self, held: &mut Held, service: &mut Value, old: Option<&Value>, owner: &str, name: &str, taken: &mut Holding) -> Answer<()> {
        let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
        if kind == "ExternalName" {
            return Ok(());
        }
        let asked = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
        let kept = old.and_then(|old| old["spec"]["clusterIP"].as_str()).unwrap_or_default();
        if asked != "None" {
            let asked = if asked.is_empty() { kept.to_owned() } else { asked };
            let address = self.take_address(held, &asked, owner, name, taken)?;
            service["spec"]["clusterIP"] = address.to_string().into();
        }
        service["spec"]["clusterIPs"] = Value::from(vec![service["spec"]["clusterIP"].clone()]);
        let wants_ports = kind == "NodePort" || (kind == "LoadBalancer" && service["spec"]["allocateLoadBalancerNodePorts"] != Value::Bool(false));
        let empty = Vec::new();
        let before = old.and_then(|old| old["spec"]["ports"].as_array()).unwrap_or(&empty);
        for (index, port) in service.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
            let given = port["nodePort"].as_u64().filter(|given| *given != 0);
            if !wants_ports && given.is_none() {
                continue;
            }
            let same = |other: &&Value| other["port"] == port["port"] && other["protocol"] == port["protocol"];
            let wanted = given.or_else(|| before.iter().find(same).and_then(|port| port["nodePort"].as_u64()));
            let field = format!("spec.ports[{index}].nodePort");
            port["nodePort"] = self.take_port(held, wanted, owner, name, &field, taken)?.into();
        }
        Ok(())
    }

    fn take_address(&self, held: &mut Held, asked: &str, owner: &str, name: &str, taken: &mut Holding) -> Answer<Ipv4Addr> {
        let refuse = |why: String| Refusal::invalid_field(builtin("Service"), name, "spec.clusterIPs", format!("Invalid value: [{asked:?}]: {why}"));
        if !asked.is_empty() {
            let address: Ipv4Addr = asked.parse().map_err(|_| refuse("must be an IPv4 address, \"None\" or empty".to_owned()))?;
            if !(1..self.size - 1).contains(&u32::from(address).wrapping_sub(self.first)) {
                return Err(refuse(format!("the provided IP is not in the valid range {}/{}", Ipv4Addr::from(self.first), 32 - self.size.trailing_zeros())));
            }
            match held.addresses.get(&address) {
                Some(holder) if holder == owner => return Ok(address),
                Some(_) => return Err(refuse("failed to allocate IP: provided IP is already allocated".to_owned())),
                None => {}
            }
            held.addresses.insert(address, owner.to_owned());
            taken.addresses.push(address);
            return Ok(address);
        }
        let low = if self.size > 4 * ASKED_BY_NAME { ASKED_BY_NAME } else { 2 };
        let count = self.size - 1 - low;
        let start = meta::random_below(count)?;
        let free = (0..count).map(|step| Ipv4Addr::from(self.first + low + (start + step) % count)).find(|address| !held.addresses.contains_key(address));
        let address = free.ok_or_else(|| Refusal::internal("failed to allocate a serviceIP: range is full"))?;
        held.addresses.insert(address, owner.to_owned());
        taken.addresses.push(address);
        Ok(address)
    }

    fn take_port(&self, held: &mut Held, wanted: Option<u64>, owner: &str, name: &str, field: &str, taken: &mut Holding) -> Answer<u16> {
        if let Some(wanted) = wanted {
            let refuse = |why: String| {
                let cause = Cause { reason: "FieldValueInvalid".to_owned(), message: format!("Invalid value: {wanted}: {why}"), field: field.to_owned() };
                Refusal::invalid(builtin("Service"), name, vec![cause])
            };
            let range = format!("provided port is not in the valid range. The range of valid ports is {}-{}", self.ports.start(), self.ports.end());
            let port = u16::try_from(wanted).ok().filter(|port| self.ports.contains(port)).ok_or_else(|| refuse(range))?;
            match held.ports.get(&port) {
                Some(holder) if holder == owner => return Ok(port),
                Some(_) => return Err(refuse("provided port is already allocated".to_owned())),
                None => {}
            }
            held.ports.insert(port, owner.to_owned());
            taken.ports.push(port);
            return Ok(port);
        }
        let count = u32::from(self.ports.end() - self.ports.start()) + 1;
        let start = meta::random_below(count)?;
        let candidates = (0..count).map(|step| self.ports.start() + u16::try_from((start + step) % count).unwrap_or_default());
        let port = candidates
            .into_iter()
            .find(|port| !held.ports.contains_key(port))
            .ok_or_else(|| Refusal::internal("failed to allocate a nodePort: range is full"))?;
        held.ports.insert(port, owner.to_owned());
        taken.ports.push(port);
        Ok(port)
    }

    /// Gives back what a failed write took.
    pub(crate) fn release(&self, service: &Value, taken: &Holding) {
        let owner = key(builtin("Service"), meta::text(service, "namespace"), meta::text(service, "name"));
        free(&mut self.held(), taken, &owner);
    }

    /// Gives back what a Service held and does not hold any more (`now` is `None` when it is gone).
    pub(crate) fn settle(&self, before: &Value, now: Option<&Value>) {
        let owner = key(builtin("Service"), meta::text(before, "namespace"), meta::text(before, "name"));
        let kept = now.map(holding).unwrap_or_default();
        let mut gone = holding(before);
        gone.addresses.retain(|address| !kept.addresses.contains(address));
        gone.ports.retain(|port| !kept.ports.contains(port));
        free(&mut self.held(), &gone, &owner);
    }
}

fn free(held: &mut Held, gone: &Holding, owner: &str) {
    for address in &gone.addresses {
        if held.addresses.get(address).is_some_and(|holder| holder == owner) {
            held.addresses.remove(address);
        }
    }
    for port in &gone.ports {
        if held.ports.get(port).is_some_and(|holder| holder == owner) {
            held.ports.remove(port);
        }
    }
}
