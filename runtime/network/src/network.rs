//! The network of one node: what other packages use.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::address::{AddressPool, Cidr};
use crate::dns::{NameServer, Upstreams, Zone, ZoneBuilder};
use crate::firewall::{Facts, Firewall};
use crate::links::{self, Mac, Route, Veth};
use crate::names::{ALIAS, Names};
use crate::netlink::Socket;
use crate::passage::{Hindrance, Passage};
use crate::proxy::LocalPorts;
use crate::services::{ServiceRoute, Table};
use crate::{NetworkError, forwarding, namespace, passage, watch};

/// Every pod's gateway: not a real machine's address, the host end of the pod's link answers for it.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The host end of every pod's link. Links are point to point, so they may share it.
const HOST_MAC: Mac = [0x02, 0x73, 0x74, 0x6b, 0x00, 0x01];
const POD_LINK: &str = "eth0";
const USUAL_MTU: u32 = 1500;
/// How long a connection inside a pod may take: over loopback only one that nobody accepts does.
const DIAL: Duration = Duration::from_secs(10);

/// What a network is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node's part of the pod range: its pods' addresses; the first is the node's own.
    pub pod_cidr: Cidr,
    /// The range of all pods.
    pub cluster_cidr: Cidr,
    /// The range of Service addresses.
    pub service_cidr: Cidr,
    /// Where names are asked: inside the Service range.
    pub dns_address: Ipv4Addr,
    /// The domain, `cluster.local`.
    pub domain: String,
    /// Tells instances on one machine apart; empty for the only one.
    pub tag: String,
    /// Where namespaces are bound and notes are kept: `<root>/run`.
    pub run_dir: PathBuf,
    /// The machine's resolvers.
    pub resolv_conf: PathBuf,
}

impl Options {
    /// The usual cluster: pods 10.42.0.0/24 of 10.42.0.0/16, Services 10.43.0.0/16, names at 10.43.0.10.
    pub fn usual(run_dir: PathBuf) -> Self {
        Options {
            pod_cidr: Cidr::new(Ipv4Addr::new(10, 42, 0, 0), 24),
            cluster_cidr: Cidr::new(Ipv4Addr::new(10, 42, 0, 0), 16),
            service_cidr: Cidr::new(Ipv4Addr::new(10, 43, 0, 0), 16),
            dns_address: Ipv4Addr::new(10, 43, 0, 10),
            domain: "cluster.local".to_owned(),
            tag: String::new(),
            run_dir,
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
        }
    }
}

/// A pod that is on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its address.
    pub address: Ipv4Addr,
    /// Where its network namespace is bound.
    pub namespace: PathBuf,
}

/// A pod known from before, for [`Network::repair`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPod {
    /// Its uid.
    pub uid: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// What [`Network::repair`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Pods whose namespace and link stand: they go on as if nothing had happened.
    pub whole: Vec<String>,
    /// Known pods whose namespace or link is gone (a reboot): they have to start anew.
    pub broken: Vec<String>,
    /// Links and namespaces of nobody, removed.
    pub removed: Vec<String>,
}

/// The network of one node. Its methods block for about a millisecond; call them where that is fine.
pub struct Network {
    options: Options,
    names: Names,
    internal: Ipv4Addr,
    mtu: u32,
    route: Mutex<Socket>,
    firewall: Arc<Mutex<Firewall>>,
    passage: Arc<Mutex<Passage>>,
    hindrances: Vec<Hindrance>,
    watcher: AbortHandle,
    pool: Mutex<AddressPool>,
    ports: Mutex<LocalPorts>,
    server: NameServer,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Network {
    /// Makes the node's link with its addresses and routes and answers names. The firewall's table is written with the first
    /// [`Network::program`], so that connections of an earlier life are never without rules.
    ///
    /// # Errors
    /// Without root, or when an address is taken by something else.
    pub async fn open(options: Options) -> Result<Self, NetworkError> {
        let names = Names::new(&options.tag);
        let pool = AddressPool::new(options.pod_cidr);
        let node = pool.node_address();
        let mut route = Socket::route().map_err(NetworkError::OpenSocket)?;
        forwarding::allow(&options.run_dir)?;
        set_up_node(&mut route, &names, &options, node)?;
        let outward = links::outward(&mut route).map_err(NetworkError::ListLinks)?;
        let facts = Facts { names: names.clone(), pods: options.cluster_cidr, services: options.service_cidr, node };
        let firewall = Arc::new(Mutex::new(Firewall::new(facts)?));
        let mut passage = Passage::new(options.cluster_cidr, &names.table).map_err(NetworkError::OpenSocket)?;
        let hindrances = passage.open().map_err(NetworkError::OpenPassage)?;
        hindrances.iter().for_each(|hindrance| tracing::warn!("{hindrance}"));
        if let Some(words) = passage::old_interface(options.cluster_cidr) {
            tracing::warn!("{words}");
        }
        let passage = Arc::new(Mutex::new(passage));
        let watcher = watch::tables(&firewall, &passage).map_err(NetworkError::OpenSocket)?;
        let zone = ZoneBuilder::new(&options.domain, options.cluster_cidr, options.service_cidr).finish();
        let upstreams = Upstreams::new(options.resolv_conf.clone(), options.dns_address);
        let server = NameServer::start(NameServer::socket(options.dns_address), zone, upstreams, options.pod_cidr).await?;
        Ok(Network {
            internal: outward.map_or(node, |(address, _)| address),
            mtu: outward.map_or(USUAL_MTU, |(_, mtu)| mtu),
            options,
            names,
            route: Mutex::new(route),
            firewall,
            passage,
            hindrances,
            watcher,
            pool: Mutex::new(pool),
            ports: Mutex::new(LocalPorts::new(tokio::runtime::Handle::current())),
            server,
        })
    }

    /// What it was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The node's address among the pods.
    pub fn node_address(&self) -> Ipv4Addr {
        lock(&self.pool).node_address()
    }

    /// The node's address to the outside; the one among the pods when there is no way outside.
    pub fn internal_address(&self) -> Ipv4Addr {
        self.internal
    }

    /// Other programs' firewalls that keep pods from each other and could not be changed, as found when this was opened.
    pub fn hindrances(&self) -> &[Hindrance] {
        &self.hindrances
    }

    /// Where a pod's network namespace is bound.
    pub fn namespace_path(&self, pod: &str) -> PathBuf {
        self.options.run_dir.join("netns").join(pod)
    }

    /// Puts a pod on the network: a namespace, a link, an address. A pod that is on it already gets the same answer.
    ///
    /// # Errors
    /// When an address, the namespace or the link cannot be had; what was made is removed.
    pub fn attach(&self, pod: &str) -> Result<Attachment, NetworkError> {
        let had = lock(&self.pool).of(pod);
        let address = lock(&self.pool).allocate(pod)?;
        let namespace = self.namespace_path(pod);
        if had.is_some() && namespace::is_bound(&namespace) && links::index(&mut lock(&self.route), &self.names.link(pod)).is_ok() {
            return Ok(Attachment { address, namespace });
        }
        match self.connect(pod, address, &namespace) {
            Ok(()) => Ok(Attachment { address, namespace }),
            Err(error) => {
                if let Err(left) = self.detach(pod) {
                    tracing::warn!(pod, error = %left, "a pod's half-made network could not be removed");
                }
                Err(error)
            }
        }
    }

    fn connect(&self, pod: &str, address: Ipv4Addr, path: &Path) -> Result<(), NetworkError> {
        let name = self.names.link(pod);
        let failed = |what: &'static str| {
            let name = name.clone();
            move |source| NetworkError::ConfigureLink { name, what, source }
        };
        let mut inner = namespace::create(path, || {
            write_sysctl("/proc/sys/net/ipv6/conf/default/accept_ra", "0", Needed::IfThere)?;
            write_sysctl("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1", Needed::IfThere)?;
            // Containers have no NET_RAW: ping goes by ICMP sockets.
            write_sysctl("/proc/sys/net/ipv4/ping_group_range", "0 2147483647", Needed::IfThere)?;
            Socket::route().map_err(NetworkError::OpenSocket)
        })?;
        let opened = File::open(path).map_err(|source| NetworkError::EnterNamespace { path: path.to_owned(), source })?;
        let mac = pod_mac(address);
        let alias = format!("{ALIAS}{pod}");
        let veth = Veth { name: &name, host_mac: HOST_MAC, pod_mac: mac, pod_name: POD_LINK, pod_namespace: opened.as_fd(), mtu: self.mtu };
        let host = {
            let mut route = lock(&self.route);
            // One left by an attempt that was cut off.
            links::remove(&mut route, &name).map_err(|source| NetworkError::DeleteLink { name: name.clone(), source })?;
            links::add_veth(&mut route, &veth).map_err(|source| NetworkError::CreateLink { name: name.clone(), source })?;
            links::index(&mut route, &name).map_err(NetworkError::ListLinks)?
        };
        harden(&name)?;
        let inside = links::index(&mut inner, POD_LINK).map_err(NetworkError::ListLinks)?;
        let loopback = links::index(&mut inner, "lo").map_err(NetworkError::ListLinks)?;
        links::set_up(&mut inner, loopback).map_err(failed("loopback up"))?;
        links::add_address(&mut inner, inside, address).map_err(failed("the pod's address"))?;
        links::set_up(&mut inner, inside).map_err(failed("the pod's end up"))?;
        links::add_neighbour(&mut inner, inside, GATEWAY, HOST_MAC).map_err(failed("the gateway's neighbour entry"))?;
        let gateway = Route { to: GATEWAY, prefix: 32, via: None, link: inside, source: None };
        links::add_route(&mut inner, gateway).map_err(failed("the route to the gateway"))?;
        let default = Route { to: Ipv4Addr::UNSPECIFIED, prefix: 0, via: Some(GATEWAY), link: inside, source: None };
        links::add_route(&mut inner, default).map_err(failed("the default route"))?;
        let node = self.node_address();
        let mut route = lock(&self.route);
        links::set_up_for(&mut route, host, &alias).map_err(failed("the host end up"))?;
        links::add_neighbour(&mut route, host, address, mac).map_err(failed("the pod's neighbour entry"))?;
        let to_pod = Route { to: address, prefix: 32, via: None, link: host, source: Some(node) };
        links::add_route(&mut route, to_pod).map_err(failed("the route to the pod"))?;
        drop(route);
        links::wait_until_sending(&mut inner, POD_LINK).map_err(failed("the pod's end sending"))
    }

    /// Takes a pod off the network; one that isn't on it is fine.
    ///
    /// # Errors
    /// When its link or namespace cannot be removed.
    pub fn detach(&self, pod: &str) -> Result<(), NetworkError> {
        let name = self.names.link(pod);
        // The routes and neighbour entries go with the link.
        links::remove(&mut lock(&self.route), &name).map_err(|source| NetworkError::DeleteLink { name, source })?;
        namespace::remove(&self.namespace_path(pod))?;
        lock(&self.pool).release(pod);
        Ok(())
    }

    /// Connects to a port on the loopback of a pod, as a process inside it would. Blocks until the connection stands, for at most [`DIAL`].
    ///
    /// # Errors
    /// When the pod isn't on the network, or nothing there takes the connection.
    pub fn dial(&self, pod: &str, port: u16) -> Result<TcpStream, NetworkError> {
        let address = (Ipv4Addr::LOCALHOST, port).into();
        namespace::enter(&self.namespace_path(pod), || TcpStream::connect_timeout(&address, DIAL).map_err(|source| NetworkError::Dial { port, source }))
    }

    /// A pod's address.
    pub fn address(&self, pod: &str) -> Option<Ipv4Addr> {
        lock(&self.pool).of(pod)
    }

    /// After a start: takes up the pods known from before and removes what belongs to nobody.
    ///
    /// # Errors
    /// When the links cannot be listed or a leftover cannot be removed.
    pub fn repair(&self, known: &[KnownPod]) -> Result<Repair, NetworkError> {
        let mut repair = Repair::default();
        let standing: BTreeSet<String> = self.own_links()?.into_iter().map(|(_, pod)| pod).collect();
        for pod in known {
            let whole = standing.contains(&pod.uid) && namespace::is_bound(&self.namespace_path(&pod.uid));
            if whole && lock(&self.pool).adopt(&pod.uid, pod.address).is_ok() {
                repair.whole.push(pod.uid.clone());
            } else {
                self.detach(&pod.uid)?;
                repair.broken.push(pod.uid.clone());
            }
        }
        let wanted: BTreeSet<&str> = repair.whole.iter().map(String::as_str).collect();
        for (name, pod) in self.own_links()? {
            if !wanted.contains(pod.as_str()) {
                links::remove(&mut lock(&self.route), &name).map_err(|source| NetworkError::DeleteLink { name: name.clone(), source })?;
                repair.removed.push(name);
            }
        }
        for pod in self.bound_namespaces() {
            if !wanted.contains(pod.as_str()) {
                let path = self.namespace_path(&pod);
                namespace::remove(&path)?;
                repair.removed.push(path.display().to_string());
            }
        }
        Ok(repair)
    }

    /// (link, pod) of every host end that is ours.
    fn own_links(&self) -> Result<Vec<(String, String)>, NetworkError> {
        let links = links::list(&mut lock(&self.route)).map_err(NetworkError::ListLinks)?;
        let ours = links.into_iter().filter(|link| link.name.starts_with(&self.names.link_prefix));
        let with_pod = ours.map(|link| {
            let pod = link.alias.strip_prefix(ALIAS).unwrap_or_default().to_owned();
            (link.name, pod)
        });
        Ok(with_pod.collect())
    }

    fn bound_namespaces(&self) -> Vec<String> {
        let entries = fs::read_dir(self.options.run_dir.join("netns")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Routes exactly these Services: one transaction with what differs. Gives the node ports that could not be bound on
    /// localhost; their Services work all the same from elsewhere.
    ///
    /// # Errors
    /// When the kernel refuses the transaction: nothing has changed then.
    pub fn program(&self, services: &[ServiceRoute]) -> Result<Vec<NetworkError>, NetworkError> {
        // The name server stands at its Service's address itself: a rule for it, without endpoints, would shut it off.
        let dns = Some(self.options.dns_address);
        let routed: Vec<ServiceRoute> = services.iter().filter(|service| service.cluster_ip != dns).cloned().collect();
        lock(&self.firewall).program(Table::of(&routed))?;
        Ok(lock(&self.ports).program(&routed))
    }

    /// Answers names from another zone from now on.
    pub fn set_zone(&self, zone: Zone) {
        self.server.set_zone(zone);
    }

    /// A builder for a zone of this network.
    pub fn zone_builder(&self) -> ZoneBuilder {
        ZoneBuilder::new(&self.options.domain, self.options.cluster_cidr, self.options.service_cidr)
    }

    /// Stops answering names and node ports on localhost; pods keep their network, and connections go on.
    pub async fn close(&self) {
        self.watcher.abort();
        self.server.stop().await;
        lock(&self.ports).program(&[]);
    }

    /// Removes everything: pods' links and namespaces, the node's link with its addresses and routes, the table, our rules in other tables. The kernel's
    /// switch for forwarding is put back.
    ///
    /// # Errors
    /// The first thing that could not be removed; the rest is tried all the same.
    pub async fn teardown(&self) -> Result<(), NetworkError> {
        self.close().await;
        let mut results = vec![lock(&self.firewall).remove()];
        match self.own_links() {
            Ok(own) => results.extend(own.into_iter().map(|(name, _)| self.remove_link(name))),
            Err(error) => results.push(Err(error)),
        }
        results.extend(self.bound_namespaces().iter().map(|pod| namespace::remove(&self.namespace_path(pod))));
        results.push(self.remove_link(self.names.holder.clone()));
        results.push(lock(&self.passage).close().map_err(NetworkError::OpenPassage));
        results.push(forwarding::restore(&self.options.run_dir));
        let _ = fs::remove_dir(self.options.run_dir.join("netns"));
        *lock(&self.pool) = AddressPool::new(self.options.pod_cidr);
        results.into_iter().collect()
    }

    fn remove_link(&self, name: String) -> Result<(), NetworkError> {
        links::remove(&mut lock(&self.route), &name).map_err(|source| NetworkError::DeleteLink { name, source })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// The node's link: its address among the pods, the name server's, and a route that covers the Services: without one a
/// program of this machine could not even begin to connect.
fn set_up_node(route: &mut Socket, names: &Names, options: &Options, node: Ipv4Addr) -> Result<(), NetworkError> {
    let name = names.holder.clone();
    let failed = |what: &'static str| {
        let name = name.clone();
        move |source| NetworkError::ConfigureLink { name, what, source }
    };
    let link = links::add_holder(route, &name).map_err(|source| NetworkError::CreateLink { name: name.clone(), source })?;
    links::add_address(route, link, node).map_err(failed("the node's address"))?;
    links::add_address(route, link, options.dns_address).map_err(failed("the name server's address"))?;
    let services = Route { to: options.service_cidr.base(), prefix: options.service_cidr.prefix(), via: None, link, source: Some(node) };
    links::add_route(route, services).map_err(failed("the route to the Services"))
}

/// A source address that isn't the pod's is dropped; no IPv6, so nothing to be spoofed by it.
fn harden(link: &str) -> Result<(), NetworkError> {
    write_sysctl(&format!("/proc/sys/net/ipv4/conf/{link}/rp_filter"), "1", Needed::Always)?;
    write_sysctl(&format!("/proc/sys/net/ipv6/conf/{link}/accept_ra"), "0", Needed::IfThere)?;
    write_sysctl(&format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1", Needed::IfThere)
}

fn pod_mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x02, 0x73, a, b, c, d]
}

/// Whether a setting may be missing: a kernel without IPv6 has none of its settings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed {
    Always,
    IfThere,
}

fn write_sysctl(path: &str, value: &str, needed: Needed) -> Result<(), NetworkError> {
    match fs::write(path, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && needed == Needed::IfThere => Ok(()),
        Err(source) => Err(NetworkError::WriteSysctl { path: path.to_owned(), source }),
        Ok(()) => Ok(()),
    }
}
