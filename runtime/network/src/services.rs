//! From Services and their endpoints to the elements of the firewall's maps, and from one such set to the next: pure.
//!
//! A connection is steered by two look-ups. `services` (address . protocol . port) names the chain for that number of
//! endpoints; the chain draws a slot below that number and finds the endpoint in `endpoints` (the same key . slot). So a
//! service that changes is a few elements added and removed, never a rule. A node port has the same keys with the address
//! 0.0.0.0.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

/// A transport protocol that a Service may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The number in the IP header.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

/// A Service as the firewall sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRoute {
    /// `namespace/name`, for messages.
    pub name: String,
    /// Its address; `None` for a headless Service, which has no route.
    pub cluster_ip: Option<Ipv4Addr>,
    /// Its ports.
    pub ports: Vec<PortRoute>,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRoute {
    /// The transport.
    pub protocol: Protocol,
    /// The port at the Service's address.
    pub port: u16,
    /// The port at every address of the node.
    pub node_port: Option<u16>,
    /// Who answers; the ready ones only.
    pub endpoints: Vec<SocketAddrV4>,
}

/// What a connection is looked up by; a node port has the address 0.0.0.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Portal {
    /// The Service's address or 0.0.0.0.
    pub address: Ipv4Addr,
    /// The transport.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl Portal {
    /// Whether it is a node port.
    pub fn is_node_port(&self) -> bool {
        self.address.is_unspecified()
    }
}

/// Everything the maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The number of endpoints of each portal that has any.
    pub portals: BTreeMap<Portal, u32>,
    /// The endpoint in each slot.
    pub endpoints: BTreeMap<(Portal, u32), SocketAddrV4>,
    /// Node ports without endpoints: refused rather than left to a program that listens there by chance.
    pub refused: BTreeSet<Portal>,
    /// Endpoint addresses: a pod that reaches itself through a Service needs another source address.
    pub hairpins: BTreeSet<Ipv4Addr>,
}

impl Table {
    /// The table for these Services. Of two that claim the same portal the first in order of name has it.
    pub fn of(services: &[ServiceRoute]) -> Self {
        let mut table = Table::default();
        let mut ordered: Vec<&ServiceRoute> = services.iter().collect();
        ordered.sort_by(|a, b| a.name.cmp(&b.name));
        for service in ordered {
            for port in &service.ports {
                let cluster = service.cluster_ip.map(|address| Portal { address, protocol: port.protocol, port: port.port });
                let node = port.node_port.map(|number| Portal { address: Ipv4Addr::UNSPECIFIED, protocol: port.protocol, port: number });
                for portal in cluster.into_iter().chain(node) {
                    table.put(portal, &port.endpoints);
                }
            }
        }
        table
    }

    fn put(&mut self, portal: Portal, endpoints: &[SocketAddrV4]) {
        if self.portals.contains_key(&portal) || self.refused.contains(&portal) {
            return;
        }
        // A set: the same endpoint may stand in two slices, and an order that doesn't change keeps the difference small.
        let endpoints: BTreeSet<SocketAddrV4> = endpoints.iter().copied().collect();
        if endpoints.is_empty() {
            if portal.is_node_port() {
                self.refused.insert(portal);
            }
            return;
        }
        for (slot, endpoint) in (0..).zip(&endpoints) {
            self.endpoints.insert((portal, slot), *endpoint);
            self.hairpins.insert(*endpoint.ip());
        }
        self.portals.insert(portal, u32::try_from(endpoints.len()).unwrap_or(u32::MAX));
    }

    /// The numbers of endpoints that occur: one chain each, for node ports (`true`) and the others.
    pub fn spreads(&self) -> BTreeSet<(bool, u32)> {
        self.portals.iter().map(|(portal, count)| (portal.is_node_port(), *count)).collect()
    }
}

/// What leads from one table to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Chains to make before elements point at them.
    pub add_spreads: Vec<(bool, u32)>,
    /// Chains that nothing points at any more.
    pub remove_spreads: Vec<(bool, u32)>,
    /// Elements to remove; a changed one is removed and added.
    pub remove: Elements,
    /// Elements to add.
    pub add: Elements,
}

/// Elements of the maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elements {
    /// Of `services` and `node-ports`.
    pub portals: Vec<(Portal, u32)>,
    /// Of `endpoints`.
    pub endpoints: Vec<(Portal, u32, SocketAddrV4)>,
    /// Of `refused`.
    pub refused: Vec<Portal>,
    /// Of `hairpins`.
    pub hairpins: Vec<Ipv4Addr>,
}

impl Difference {
    /// The least change from `old` to `new`.
    pub fn between(old: &Table, new: &Table) -> Self {
        let (old_spreads, new_spreads) = (old.spreads(), new.spreads());
        Difference {
            add_spreads: new_spreads.difference(&old_spreads).copied().collect(),
            remove_spreads: old_spreads.difference(&new_spreads).copied().collect(),
            remove: Elements::of_what_lacks(old, new),
            add: Elements::of_what_lacks(new, old),
        }
    }

    /// The portals that are others afterwards or have other endpoints.
    pub fn touched(&self) -> BTreeSet<Portal> {
        let both = [&self.remove, &self.add];
        let portals = both.into_iter().flat_map(|elements| elements.portals.iter().map(|(portal, _)| *portal));
        let with_endpoints = both.into_iter().flat_map(|elements| elements.endpoints.iter().map(|(portal, ..)| *portal));
        portals.chain(with_endpoints).collect()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Difference::default()
    }
}

impl Elements {
    /// What stands in `here` and doesn't stand so in `there`.
    fn of_what_lacks(here: &Table, there: &Table) -> Self {
        Elements {
            portals: here.portals.iter().filter(|(portal, count)| there.portals.get(portal) != Some(count)).map(|(portal, count)| (*portal, *count)).collect(),
            endpoints: here
                .endpoints
                .iter()
                .filter(|(key, endpoint)| there.endpoints.get(key) != Some(endpoint))
                .map(|((portal, slot), endpoint)| (*portal, *slot, *endpoint))
                .collect(),
            refused: here.refused.difference(&there.refused).copied().collect(),
            hairpins: here.hairpins.difference(&there.hairpins).copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(last: u8) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 42, 0, last), 8080)
    }

    fn service(name: &str, last: u8, node_port: Option<u16>, endpoints: &[u8]) -> ServiceRoute {
        let endpoints = endpoints.iter().map(|last| endpoint(*last)).collect();
        let ports = vec![PortRoute { protocol: Protocol::Tcp, port: 80, node_port, endpoints }];
        ServiceRoute { name: name.to_owned(), cluster_ip: Some(Ipv4Addr::new(10, 43, 0, last)), ports }
    }

    fn apply(table: &mut Table, change: &Difference) {
        for (portal, _) in &change.remove.portals {
            assert!(table.portals.remove(portal).is_some());
        }
        for (portal, slot, _) in &change.remove.endpoints {
            assert!(table.endpoints.remove(&(*portal, *slot)).is_some());
        }
        change.remove.refused.iter().for_each(|portal| assert!(table.refused.remove(portal)));
        change.remove.hairpins.iter().for_each(|address| assert!(table.hairpins.remove(address)));
        for (portal, count) in &change.add.portals {
            assert_eq!(table.portals.insert(*portal, *count), None, "the kernel refuses an element that is there");
        }
        for (portal, slot, endpoint) in &change.add.endpoints {
            assert_eq!(table.endpoints.insert((*portal, *slot), *endpoint), None);
        }
        table.refused.extend(&change.add.refused);
        table.hairpins.extend(&change.add.hairpins);
    }

    #[test]
    fn a_service_becomes_a_portal_and_slots() {
        let table = Table::of(&[service("a/web", 7, Some(30080), &[3, 2, 3]), service("a/none", 8, Some(30081), &[])]);
        assert_eq!(table.portals.values().collect::<Vec<_>>(), [&2, &2]);
        assert_eq!(table.spreads().into_iter().collect::<Vec<_>>(), [(false, 2), (true, 2)]);
        assert_eq!(table.endpoints.len(), 4);
        assert_eq!(table.refused.iter().map(|portal| portal.port).collect::<Vec<_>>(), [30081]);
        assert_eq!(table.hairpins.len(), 2);
    }

    #[test]
    fn headless_and_twice_claimed() {
        let mut headless = service("a/headless", 1, None, &[2]);
        headless.cluster_ip = None;
        assert_eq!(Table::of(&[headless]), Table::default());
        let table = Table::of(&[service("b", 9, Some(30000), &[5]), service("a", 7, Some(30000), &[4])]);
        let node_port = Portal { address: Ipv4Addr::UNSPECIFIED, protocol: Protocol::Tcp, port: 30000 };
        assert_eq!(table.endpoints.get(&(node_port, 0)), Some(&endpoint(4)), "the first by name has the node port");
    }

    #[test]
    fn one_endpoint_less_changes_only_its_service() {
        let old = Table::of(&[service("a", 7, None, &[2, 3, 4]), service("b", 8, None, &[5])]);
        let new = Table::of(&[service("a", 7, None, &[2, 4]), service("b", 8, None, &[5])]);
        let change = Difference::between(&old, &new);
        assert_eq!(change.add_spreads, [(false, 2)]);
        assert_eq!(change.remove_spreads, [(false, 3)]);
        assert_eq!(change.remove.endpoints.len(), 2, "the slot that changed and the one too many");
        assert_eq!(change.remove.portals.len(), 1);
        assert_eq!(change.remove.hairpins, [Ipv4Addr::new(10, 42, 0, 3)]);
        assert_eq!(change.touched().into_iter().map(|portal| portal.address).collect::<Vec<_>>(), [Ipv4Addr::new(10, 43, 0, 7)]);
        assert!(Difference::between(&new, &new).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn a_difference_leads_from_any_table_to_any_other(
            old in proptest::collection::vec((0u8..6, proptest::option::of(30000u16..30004), proptest::collection::vec(2u8..9, 0..5)), 0..6),
            new in proptest::collection::vec((0u8..6, proptest::option::of(30000u16..30004), proptest::collection::vec(2u8..9, 0..5)), 0..6),
        ) {
            let build = |facts: &[(u8, Option<u16>, Vec<u8>)]| {
                Table::of(&facts.iter().map(|(last, port, ends)| service(&format!("n/{last}"), *last, *port, ends)).collect::<Vec<_>>())
            };
            let (mut table, target) = (build(&old), build(&new));
            let change = Difference::between(&table, &target);
            apply(&mut table, &change);
            proptest::prop_assert_eq!(table, target);
        }
    }
}
