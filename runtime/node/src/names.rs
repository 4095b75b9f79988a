//! The files that tell a pod who it is and whom to ask: /etc/hosts, /etc/hostname, /etc/resolv.conf: pure.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use strake_kinds::core::{Pod, PodSpec};

/// What the files are made from.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings<'a> {
    pub pod_ips: &'a [String],
    pub dns: Ipv4Addr,
    pub domain: &'a str,
    pub node_name: &'a str,
    /// The machine's own files, for pods on its network.
    pub host_hosts: &'a str,
    pub host_resolv_conf: &'a str,
}

/// A resolver asks at most so many servers.
const MOST_NAMESERVERS: usize = 3;
const MOST_HOSTNAME: usize = 63;

/// The pod's host name: its own word, otherwise its name; the node's on the node's network.
pub(crate) fn hostname(pod: &Pod, node_name: &str) -> String {
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.host_network) == Some(true) {
        return node_name.to_owned();
    }
    let own = spec.and_then(|spec| spec.hostname.as_deref()).filter(|name| !name.is_empty());
    let name = own.or(pod.metadata.name.as_deref()).unwrap_or("pod");
    let cut: String = name.chars().take(MOST_HOSTNAME).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// The full name, when the pod names a subdomain.
fn full_name(pod: &Pod, hostname: &str, domain: &str) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_deref().filter(|name| !name.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    Some(format!("{hostname}.{subdomain}.{namespace}.svc.{domain}"))
}

/// /etc/hosts.
pub(crate) fn hosts(pod: &Pod, around: &Surroundings<'_>) -> String {
    let mut text = String::from("# Written by strake for this pod.\n");
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.host_network) == Some(true) {
        text.push_str(around.host_hosts);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    } else {
        text.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
        text.push_str("fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
        let hostname = hostname(pod, around.node_name);
        let full = full_name(pod, &hostname, around.domain);
        for address in around.pod_ips {
            let _ = match &full {
                Some(full) => writeln!(text, "{address}\t{full}\t{hostname}"),
                None => writeln!(text, "{address}\t{hostname}"),
            };
        }
    }
    let aliases = spec.and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# hostAliases of the pod.\n");
    }
    for alias in aliases {
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
    }
    text
}

/// What a resolver is told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// /etc/resolv.conf, by the pod's DNS policy.
pub(crate) fn resolv_conf(pod: &Pod, around: &Surroundings<'_>) -> String {
    let spec = pod.spec.as_ref();
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let on_host = spec.and_then(|spec| spec.host_network) == Some(true);
    let mut resolver = match policy {
        "None" => Resolver::default(),
        "Default" => read(around.host_resolv_conf),
        "ClusterFirst" if on_host => read(around.host_resolv_conf),
        _ => cluster_first(pod, around),
    };
    if let Some(spec) = spec {
        add_own(spec, &mut resolver);
    }
    let mut text = String::new();
    if !resolver.searches.is_empty() {
        let _ = writeln!(text, "search {}", resolver.searches.join(" "));
    }
    for server in resolver.nameservers.iter().take(MOST_NAMESERVERS) {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !resolver.options.is_empty() {
        let _ = writeln!(text, "options {}", resolver.options.join(" "));
    }
    text
}

fn cluster_first(pod: &Pod, around: &Surroundings<'_>) -> Resolver {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let domain = around.domain;
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    // The machine's own searches come after: a name known there is known in pods too.
    searches.extend(read(around.host_resolv_conf).searches.into_iter().filter(|search| search != "."));
    Resolver { nameservers: vec![around.dns.to_string()], searches, options: vec!["ndots:5".to_owned()] }
}

fn add_own(spec: &PodSpec, resolver: &mut Resolver) {
    let Some(own) = &spec.dns_config else { return };
    let add = |list: &mut Vec<String>, more: &Option<Vec<String>>| {
        for item in more.iter().flatten() {
            if !list.contains(item) {
                list.push(item.clone());
            }
        }
    };
    add(&mut resolver.nameservers, &own.nameservers);
    add(&mut resolver.searches, &own.searches);
    for option in own.options.iter().flatten() {
        let name = option.name.clone().unwrap_or_default();
        resolver.options.retain(|known| known.split(':').next() != Some(name.as_str()));
        resolver.options.push(option.value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}:{value}")));
    }
}

fn read(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => resolver.nameservers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => resolver.searches = words.map(str::to_owned).collect(),
            Some("options") => resolver.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    resolver
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "demo"}, "spec": spec})).unwrap()
    }

    fn around(ips: &[String]) -> Surroundings<'_> {
        Surroundings {
            pod_ips: ips,
            dns: Ipv4Addr::new(10, 43, 0, 10),
            domain: "cluster.local",
            node_name: "node-a",
            host_hosts: "127.0.0.1 localhost\n192.0.2.7 box",
            host_resolv_conf: "nameserver 192.0.2.53\nsearch corp.example\noptions edns0\n",
        }
    }

    #[test]
    fn a_pod_knows_itself() {
        let ips = ["10.42.0.7".to_owned()];
        let aliases = json!([{"ip": "192.0.2.1", "hostnames": ["a", "b"]}]);
        let text = hosts(&pod(json!({"containers": [], "subdomain": "db", "hostAliases": aliases})), &around(&ips));
        assert!(text.contains("127.0.0.1\tlocalhost\n"));
        assert!(text.contains("10.42.0.7\tweb-0.db.demo.svc.cluster.local\tweb-0\n"), "{text}");
        assert!(text.ends_with("192.0.2.1\ta\tb\n"));
        let on_host = hosts(&pod(json!({"containers": [], "hostNetwork": true})), &around(&ips));
        assert!(on_host.contains("192.0.2.7 box\n") && !on_host.contains("10.42.0.7"));
    }

    #[test]
    fn names_are_asked_as_the_policy_says() {
        let ips = ["10.42.0.7".to_owned()];
        let table = [
            (json!({}), "search demo.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.43.0.10\noptions ndots:5\n"),
            (json!({"dnsPolicy": "Default"}), "search corp.example\nnameserver 192.0.2.53\noptions edns0\n"),
            (json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), "search corp.example\nnameserver 192.0.2.53\noptions edns0\n"),
            (
                json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}),
                "search demo.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.43.0.10\noptions ndots:5\n",
            ),
            (json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.9"], "searches": ["x"]}}), "search x\nnameserver 192.0.2.9\n"),
            (
                json!({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}, {"name": "single-request"}]}}),
                "search demo.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.43.0.10\noptions ndots:2 single-request\n",
            ),
        ];
        for (mut spec, expected) in table {
            spec["containers"] = json!([]);
            assert_eq!(resolv_conf(&pod(spec.clone()), &around(&ips)), expected, "{spec}");
        }
    }

    #[test]
    fn host_names_are_cut_to_what_the_kernel_takes() {
        let mut long = pod(json!({"containers": []}));
        long.metadata.name = Some(format!("{}-x", "a".repeat(62)));
        assert_eq!(hostname(&long, "n"), "a".repeat(62));
        assert_eq!(hostname(&pod(json!({"containers": [], "hostname": "own"})), "n"), "own");
        assert_eq!(hostname(&pod(json!({"containers": [], "hostNetwork": true})), "n"), "n");
    }
}
