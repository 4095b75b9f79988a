//! Pod addresses, service routing and names.
//!
//! Pods are routed, not bridged: each has a veth pair whose far end is made inside its namespace, an address with the prefix
//! /32, and permanent neighbour entries both ways, so that nothing is ever asked by ARP. Services are elements of nftables
//! maps. Names are answered at the DNS Service's address, which a link of ours holds. Everything goes through netlink.

mod address;
mod conntrack;
mod dns;
mod error;
mod firewall;
mod forwarding;
mod links;
mod names;
mod namespace;
mod netlink;
mod network;
mod passage;
mod proxy;
mod rule;
mod services;
mod watch;

pub use address::{AddressPool, Cidr};
pub use dns::{Answer, Data, Question, Upstreams, Zone, ZoneBuilder, ZoneEndpoint, ZonePort, ZoneService, read_resolv_conf};
pub use error::NetworkError;
pub use names::Names;
pub use network::{Attachment, KnownPod, Network, Options, Repair};
pub use passage::Hindrance;
pub use services::{Difference, Elements, PortRoute, Portal, Protocol, ServiceRoute, Table};
