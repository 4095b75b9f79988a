//! The names of a cluster and their answers, after the Kubernetes DNS specification: pure.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use crate::address::Cidr;
use crate::services::Protocol;

/// A Service as the name server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its address; `None` when headless.
    pub cluster_ip: Option<Ipv4Addr>,
    /// The name it stands for, when it is of type ExternalName.
    pub external_name: Option<String>,
    /// Its ports.
    pub ports: Vec<ZonePort>,
    /// Who answers; only a headless Service's are named one by one.
    pub endpoints: Vec<ZoneEndpoint>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZonePort {
    /// Its name; a port without one has no SRV record.
    pub name: String,
    /// The transport.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
}

/// An endpoint of a headless Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneEndpoint {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its host name, when its pod has one and names the Service as its subdomain.
    pub hostname: Option<String>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Data {
    /// An address.
    Address(Ipv4Addr),
    /// A port at a host.
    Service {
        /// The port.
        port: u16,
        /// The host's full name.
        target: String,
    },
    /// The name of an address.
    Pointer(String),
    /// Another name for the same.
    Alias(String),
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// A.
    Address,
    /// SRV.
    Service,
    /// PTR.
    Pointer,
    /// CNAME.
    Alias,
    /// ANY.
    All,
    /// A type that no name here has, such as AAAA.
    Other,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These records.
    Records(Vec<Data>),
    /// The name exists, with nothing of that type.
    NoData,
    /// No such name below the cluster's domain.
    NoName,
    /// Not ours: to be asked elsewhere.
    Elsewhere,
}

/// Every name of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    domain: String,
    pods: Cidr,
    services: Cidr,
    records: HashMap<String, Vec<Data>>,
    /// Names that exist only because names below them do.
    parents: HashSet<String>,
}

/// Collects a zone.
#[derive(Clone, Debug)]
pub struct ZoneBuilder {
    zone: Zone,
}

impl ZoneBuilder {
    /// A zone without Services: below it only pods have names.
    pub fn new(domain: &str, pods: Cidr, services: Cidr) -> Self {
        let domain = domain.trim_matches('.').to_ascii_lowercase();
        let zone = Zone { domain, pods, services, records: HashMap::new(), parents: HashSet::new() };
        let mut builder = ZoneBuilder { zone };
        for branch in ["svc", "pod"] {
            let name = format!("{branch}.{}", builder.zone.domain);
            builder.note_parents(&name);
            builder.zone.parents.insert(name);
        }
        let version = format!("dns-version.{}", builder.zone.domain);
        builder.note_parents(&version);
        builder.zone.parents.insert(version);
        builder
    }

    /// Adds a Service.
    pub fn service(&mut self, service: &ZoneService) -> &mut Self {
        let name = format!("{}.{}.svc.{}", service.name, service.namespace, self.zone.domain).to_ascii_lowercase();
        if let Some(external) = &service.external_name {
            self.put(&name, Data::Alias(external.trim_end_matches('.').to_ascii_lowercase()));
            return self;
        }
        match service.cluster_ip {
            Some(address) => {
                self.put(&name, Data::Address(address));
                self.put(&reverse(address), Data::Pointer(name.clone()));
                self.ports(&name, &service.ports, &name);
            }
            None => self.headless(&name, service),
        }
        self
    }

    fn headless(&mut self, name: &str, service: &ZoneService) {
        // A headless Service whose pods aren't ready yet exists all the same.
        self.note_parents(name);
        self.zone.parents.insert(name.to_owned());
        for endpoint in &service.endpoints {
            let label = endpoint.hostname.clone().unwrap_or_else(|| endpoint.address.to_string().replace('.', "-"));
            let host = format!("{label}.{name}").to_ascii_lowercase();
            self.put(name, Data::Address(endpoint.address));
            self.put(&host, Data::Address(endpoint.address));
            self.put(&reverse(endpoint.address), Data::Pointer(host.clone()));
            self.ports(name, &service.ports, &host);
        }
    }

    fn ports(&mut self, name: &str, ports: &[ZonePort], target: &str) {
        for port in ports.iter().filter(|port| !port.name.is_empty()) {
            let protocol = match port.protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Sctp => "sctp",
            };
            let record = Data::Service { port: port.port, target: target.to_owned() };
            self.put(&format!("_{}._{protocol}.{name}", port.name.to_ascii_lowercase()), record);
        }
    }

    fn put(&mut self, name: &str, data: Data) {
        self.note_parents(name);
        let records = self.zone.records.entry(name.to_owned()).or_default();
        if !records.contains(&data) {
            records.push(data);
        }
    }

    fn note_parents(&mut self, name: &str) {
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if parent.len() < self.zone.domain.len() || !self.zone.parents.insert(parent.to_owned()) {
                break;
            }
            rest = parent;
        }
    }

    /// The zone.
    pub fn finish(self) -> Zone {
        self.zone
    }
}

impl Zone {
    /// The cluster's domain, without a dot at either end.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Answers a question about a name (any case, with or without the last dot).
    pub fn answer(&self, name: &str, question: Question) -> Answer {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(records) = self.records.get(&name) {
            return choose(records, question);
        }
        if let Some(address) = self.pod(&name) {
            return choose(&[Data::Address(address)], question);
        }
        if name == self.domain || self.parents.contains(&name) {
            return Answer::NoData;
        }
        let below = name.strip_suffix(&self.domain).is_some_and(|rest| rest.ends_with('.'));
        if below || address_of_reverse(&name).is_some_and(|address| self.pods.contains(address) || self.services.contains(address)) {
            return Answer::NoName;
        }
        Answer::Elsewhere
    }

    /// `10-42-0-7.namespace.pod.cluster.local`: the address stands in the name; it has to be a pod's.
    fn pod(&self, name: &str) -> Option<Ipv4Addr> {
        let rest = name.strip_suffix(&self.domain)?.strip_suffix(".pod.")?;
        let (label, namespace) = rest.split_once('.')?;
        let address: Ipv4Addr = label.replace('-', ".").parse().ok()?;
        (!namespace.is_empty() && !namespace.contains('.') && self.pods.contains(address)).then_some(address)
    }
}

fn choose(records: &[Data], question: Question) -> Answer {
    let fits = |data: &&Data| match (question, data) {
        // Whoever asks for an address of an alias follows it.
        (Question::All, _) | (Question::Address | Question::Alias | Question::Service | Question::Other, Data::Alias(_)) => true,
        (Question::Address, Data::Address(_)) | (Question::Service, Data::Service { .. }) | (Question::Pointer, Data::Pointer(_)) => true,
        _ => false,
    };
    let chosen: Vec<Data> = records.iter().filter(fits).cloned().collect();
    if chosen.is_empty() { Answer::NoData } else { Answer::Records(chosen) }
}

fn reverse(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa")
}

fn address_of_reverse(name: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut labels = name.strip_suffix(".in-addr.arpa")?.split('.');
    for place in octets.iter_mut().rev() {
        *place = labels.next()?.parse().ok()?;
    }
    labels.next().is_none().then(|| Ipv4Addr::from(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        let mut builder = ZoneBuilder::new("cluster.local", "10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap());
        let port = ZonePort { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80 };
        let web = ZoneService {
            namespace: "demo".to_owned(),
            name: "web".to_owned(),
            cluster_ip: Some(Ipv4Addr::new(10, 43, 1, 2)),
            external_name: None,
            ports: vec![port],
            endpoints: vec![],
        };
        let first = ZoneEndpoint { address: Ipv4Addr::new(10, 42, 0, 5), hostname: Some("db-0".to_owned()) };
        let second = ZoneEndpoint { address: Ipv4Addr::new(10, 42, 0, 6), hostname: None };
        let db = ZoneService { name: "db".to_owned(), cluster_ip: None, endpoints: vec![first, second], ..web.clone() };
        let out = ZoneService { name: "out".to_owned(), external_name: Some("example.org.".to_owned()), ..web.clone() };
        let none = ZoneService { name: "none".to_owned(), cluster_ip: None, endpoints: vec![], ..web.clone() };
        builder.service(&web).service(&db).service(&out).service(&none);
        builder.finish()
    }

    fn addresses(zone: &Zone, name: &str) -> Vec<Ipv4Addr> {
        match zone.answer(name, Question::Address) {
            Answer::Records(records) => records.iter().filter_map(|data| if let Data::Address(address) = data { Some(*address) } else { None }).collect(),
            _ => vec![],
        }
    }

    #[test]
    fn services_and_pods_have_addresses() {
        let zone = zone();
        assert_eq!(addresses(&zone, "web.demo.svc.cluster.local."), [Ipv4Addr::new(10, 43, 1, 2)]);
        assert_eq!(addresses(&zone, "WEB.Demo.svc.cluster.local"), [Ipv4Addr::new(10, 43, 1, 2)]);
        assert_eq!(addresses(&zone, "db.demo.svc.cluster.local").len(), 2);
        assert_eq!(addresses(&zone, "db-0.db.demo.svc.cluster.local"), [Ipv4Addr::new(10, 42, 0, 5)]);
        assert_eq!(addresses(&zone, "10-42-0-6.db.demo.svc.cluster.local"), [Ipv4Addr::new(10, 42, 0, 6)]);
        assert_eq!(addresses(&zone, "10-42-3-4.demo.pod.cluster.local"), [Ipv4Addr::new(10, 42, 3, 4)]);
    }

    #[test]
    fn ports_pointers_and_aliases() {
        let zone = zone();
        let target = "web.demo.svc.cluster.local".to_owned();
        let srv = Data::Service { port: 80, target: target.clone() };
        assert_eq!(zone.answer("_http._tcp.web.demo.svc.cluster.local", Question::Service), Answer::Records(vec![srv]));
        assert_eq!(zone.answer("2.1.43.10.in-addr.arpa", Question::Pointer), Answer::Records(vec![Data::Pointer(target)]));
        assert_eq!(zone.answer("out.demo.svc.cluster.local", Question::Address), Answer::Records(vec![Data::Alias("example.org".to_owned())]));
        let Answer::Records(of_headless) = zone.answer("_http._tcp.db.demo.svc.cluster.local", Question::Service) else { panic!("records") };
        assert_eq!(of_headless.len(), 2, "one an endpoint");
    }

    #[test]
    fn what_is_not_there_is_said_in_the_right_way() {
        let zone = zone();
        let table = [
            ("web.demo.svc.cluster.local", Question::Other, Answer::NoData),
            ("none.demo.svc.cluster.local", Question::Address, Answer::NoData),
            ("demo.svc.cluster.local", Question::Address, Answer::NoData),
            ("svc.cluster.local", Question::Address, Answer::NoData),
            ("cluster.local", Question::Address, Answer::NoData),
            ("_tcp.web.demo.svc.cluster.local", Question::Address, Answer::NoData),
            ("nothing.demo.svc.cluster.local", Question::Address, Answer::NoName),
            ("web.other.svc.cluster.local", Question::Address, Answer::NoName),
            ("example.org.demo.svc.cluster.local", Question::Address, Answer::NoName),
            ("10-0-0-1.demo.pod.cluster.local", Question::Address, Answer::NoName),
            ("9.9.43.10.in-addr.arpa", Question::Pointer, Answer::NoName),
            ("1.0.0.127.in-addr.arpa", Question::Pointer, Answer::Elsewhere),
            ("example.org", Question::Address, Answer::Elsewhere),
            ("notcluster.local", Question::Address, Answer::Elsewhere),
            ("local", Question::Address, Answer::Elsewhere),
        ];
        for (name, question, answer) in table {
            assert_eq!(zone.answer(name, question), answer, "{name}");
        }
    }
}
