//! What can go wrong with links, addresses, rules and names.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// One variant an action; the kernel's or the file system's answer is the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A network range that isn't `a.b.c.d/n`, or has host bits set.
    #[error("`{text}` is not a range of IPv4 addresses such as 10.42.0.0/16")]
    ReadCidr {
        /// What was given.
        text: String,
    },
    /// No netlink socket: not root, or a kernel without it.
    #[error("cannot open a netlink socket (root is needed)")]
    OpenSocket(#[source] io::Error),
    /// A link could not be made.
    #[error("cannot make the link {name}")]
    CreateLink {
        /// Its name.
        name: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A link exists but an address, route or neighbour could not be set.
    #[error("cannot set {what} on the link {name}")]
    ConfigureLink {
        /// The link.
        name: String,
        /// The thing that was being set.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A link could not be removed.
    #[error("cannot remove the link {name}")]
    DeleteLink {
        /// Its name.
        name: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The links could not be listed.
    #[error("cannot list the links")]
    ListLinks(#[source] io::Error),
    /// A network namespace could not be made.
    #[error("cannot make the network namespace {}", path.display())]
    CreateNamespace {
        /// Where it was to be bound.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A network namespace could not be entered.
    #[error("cannot enter the network namespace {}", path.display())]
    EnterNamespace {
        /// Where it is bound.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing inside a pod takes a connection.
    #[error("cannot connect to port {port} inside the pod")]
    Dial {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A network namespace could not be removed.
    #[error("cannot remove the network namespace {}", path.display())]
    RemoveNamespace {
        /// Where it is bound.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A kernel setting could not be read.
    #[error("cannot read the kernel setting {path}")]
    ReadSysctl {
        /// Its file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What a kernel setting was before could not be noted.
    #[error("cannot note in {} what was set before", path.display())]
    NoteSetting {
        /// The note.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The chains of other firewalls could not be listed or changed.
    #[error("cannot let pods through the firewalls of other programs")]
    OpenPassage(#[source] io::Error),
    /// A kernel setting could not be written.
    #[error("cannot write the kernel setting {path}")]
    WriteSysctl {
        /// Its file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The firewall table could not be written.
    #[error("cannot write the nftables table {table}")]
    WriteTable {
        /// Its name.
        table: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The name server could not bind its address.
    #[error("cannot bind the name server to {address}")]
    BindNames {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A node port could not be bound on localhost.
    #[error("node port {port} of service {service} is in use on 127.0.0.1")]
    BindNodePort {
        /// The port.
        port: u16,
        /// `namespace/name`.
        service: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The pod range has no free address.
    #[error("all {count} pod addresses of {cidr} are taken")]
    AddressesExhausted {
        /// The range.
        cidr: String,
        /// How many pods it holds.
        count: u32,
    },
    /// An address belongs to another pod.
    #[error("the address {address} already belongs to pod {owner}")]
    AddressTaken {
        /// The address.
        address: Ipv4Addr,
        /// The other pod's uid.
        owner: String,
    },
    /// An address outside the pod range.
    #[error("the address {address} is not a pod address of {cidr}")]
    AddressOutside {
        /// The address.
        address: Ipv4Addr,
        /// The range.
        cidr: String,
    },
}
