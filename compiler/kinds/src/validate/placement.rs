//! Where a pod may run, and how it finds others: affinity, spreading, tolerations, DNS and host names.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::{Findings, child, items, names, number, selector, text};
use crate::path::At;

/// At most so many name servers, as `resolv.conf` has.
const NAME_SERVERS_MAX: usize = 3;
/// At most so many search domains, and so many characters of them together.
const SEARCHES_MAX: (usize, usize) = (32, 2048);

pub(super) fn placement(spec: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    affinity(spec, at, findings);
    tolerations(spec, at, findings);
    spreading(spec, at, findings);
    dns(spec, at, findings);
    let list_at = at.field("hostAliases");
    for (index, alias) in items(spec, "hostAliases") {
        let at = list_at.index(index);
        address(text(alias, "ip"), &at.field("ip"), findings);
        for (index, name) in texts(alias, "hostnames") {
            findings.check(&at.field("hostnames").index(index), name, names::dns_subdomain);
        }
    }
}

/// The texts of a list with their places.
fn texts<'a>(map: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = (usize, &'a str)> + use<'a> {
    let list = map.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
    list.map(|(index, value)| (index, value.as_str().unwrap_or_default()))
}

fn address(text: &str, at: &At<'_>, findings: &mut Findings) {
    if text.parse::<IpAddr>().is_err() {
        findings.invalid(at, text, "must be an IP address");
    }
}

fn affinity(spec: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let at = at.field("affinity");
    let Some(affinity) = child(spec, "affinity") else { return };
    if let Some(node) = child(affinity, "nodeAffinity") {
        let at = at.field("nodeAffinity");
        if let Some(required) = child(node, REQUIRED) {
            let (at, field) = (at.field(REQUIRED), "nodeSelectorTerms");
            if required.get(field).and_then(Value::as_array).is_none_or(Vec::is_empty) {
                findings.required(&at.field(field), "one term must be given at least");
            }
            for (index, term) in items(required, field) {
                node_term(term, &at.field(field).index(index), findings);
            }
        }
        for (index, preferred) in items(node, PREFERRED) {
            let at = at.field(PREFERRED);
            let at = at.index(index);
            weight(preferred, &at, findings);
            if let Some(term) = child(preferred, "preference") {
                node_term(term, &at.field("preference"), findings);
            }
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = child(affinity, kind) else { continue };
        let at = at.field(kind);
        for (index, term) in items(pods, REQUIRED) {
            pod_term(term, &at.field(REQUIRED).index(index), findings);
        }
        for (index, preferred) in items(pods, PREFERRED) {
            let at = at.field(PREFERRED);
            let at = at.index(index);
            weight(preferred, &at, findings);
            let empty = Map::new();
            pod_term(child(preferred, "podAffinityTerm").unwrap_or(&empty), &at.field("podAffinityTerm"), findings);
        }
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn weight(preferred: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let weight = number(preferred, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        findings.invalid(&at.field("weight"), weight, "must be between 1 and 100");
    }
}

fn node_term(term: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let list_at = at.field("matchExpressions");
    for (index, wanted) in items(term, "matchExpressions") {
        let at = list_at.index(index);
        findings.check(&at.field("key"), text(wanted, "key"), names::qualified);
        let count = texts(wanted, "values").count();
        match text(wanted, "operator") {
            "In" | "NotIn" if count == 0 => findings.required(&at.field("values"), "In and NotIn need values"),
            "Exists" | "DoesNotExist" if count > 0 => findings.forbidden(&at.field("values"), "Exists and DoesNotExist take no values"),
            "Gt" | "Lt" if count != 1 => findings.required(&at.field("values"), "Gt and Lt need a single value"),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => findings.invalid(&at.field("operator"), other, "expected one of In, NotIn, Exists, DoesNotExist, Gt, Lt"),
        }
        for (index, value) in texts(wanted, "values") {
            findings.check(&at.field("values").index(index), value, names::label_value);
        }
    }
    let list_at = at.field("matchFields");
    for (index, wanted) in items(term, "matchFields") {
        let at = list_at.index(index);
        if text(wanted, "key") != "metadata.name" {
            findings.invalid(&at.field("key"), text(wanted, "key"), "only metadata.name can be asked for");
        }
        match text(wanted, "operator") {
            "In" | "NotIn" if texts(wanted, "values").count() != 1 => findings.required(&at.field("values"), "a single value must be given"),
            "In" | "NotIn" => {}
            other => findings.invalid(&at.field("operator"), other, "expected one of In, NotIn"),
        }
    }
}

fn pod_term(term: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    for field in ["labelSelector", "namespaceSelector"] {
        if let Some(inner) = child(term, field) {
            selector::syntax(inner, &at.field(field), findings);
        }
    }
    for (index, name) in texts(term, "namespaces") {
        findings.check(&at.field("namespaces").index(index), name, names::dns_label);
    }
    let at = at.field("topologyKey");
    if text(term, "topologyKey").is_empty() {
        findings.required(&at, "what is apart (a node, a zone) must be named by a node's label");
    }
    findings.check(&at, text(term, "topologyKey"), names::qualified);
}

fn tolerations(spec: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let list_at = at.field("tolerations");
    for (index, toleration) in items(spec, "tolerations") {
        let at = list_at.index(index);
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        if !key.is_empty() {
            findings.check(&at.field("key"), key, names::qualified);
        }
        match operator {
            "" | "Equal" if key.is_empty() => findings.invalid(&at.field("operator"), operator, "must be Exists when there is no key"),
            "" | "Equal" => findings.check(&at.field("operator"), text(toleration, "value"), names::label_value),
            "Exists" if !text(toleration, "value").is_empty() => {
                findings.invalid(&at.field("operator"), text(toleration, "value"), "the value must be empty when operator is Exists")
            }
            operator => findings.one_of(&at.field("operator"), operator, &["Equal", "Exists"]),
        }
        if !text(toleration, "effect").is_empty() {
            findings.one_of(&at.field("effect"), text(toleration, "effect"), &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        }
        if number(toleration, "tolerationSeconds").is_some() && text(toleration, "effect") != "NoExecute" {
            findings.invalid(&at.field("effect"), text(toleration, "effect"), "must be NoExecute when tolerationSeconds is given");
        }
    }
}

fn spreading(spec: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    let list_at = at.field("topologySpreadConstraints");
    for (index, constraint) in items(spec, "topologySpreadConstraints") {
        let at = list_at.index(index);
        let skew = number(constraint, "maxSkew").unwrap_or(0);
        if skew < 1 {
            findings.invalid(&at.field("maxSkew"), skew, "must be greater than zero");
        }
        let (key, when) = (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
        if key.is_empty() {
            findings.required(&at.field("topologyKey"), "what pods are spread over must be named by a node's label");
        }
        if !matches!(when, "DoNotSchedule" | "ScheduleAnyway") {
            findings.not_supported(&at.field("whenUnsatisfiable"), when, "expected one of DoNotSchedule, ScheduleAnyway");
        }
        if !seen.insert((key, when)) {
            findings.duplicate(&at.field("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {when}}}"));
        }
        if let Some(domains) = number(constraint, "minDomains") {
            if domains < 1 {
                findings.invalid(&at.field("minDomains"), domains, "must be greater than zero");
            }
            if when != "DoNotSchedule" {
                findings.invalid(&at.field("minDomains"), domains, "counts only where whenUnsatisfiable is DoNotSchedule");
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let policy = text(constraint, field);
            if !matches!(policy, "" | "Ignore" | "Honor") {
                findings.not_supported(&at.field(field), policy, "expected one of Ignore, Honor");
            }
        }
        if let Some(inner) = child(constraint, "labelSelector") {
            selector::syntax(inner, &at.field("labelSelector"), findings);
        }
    }
}

fn dns(spec: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let at = at.field("dnsConfig");
    let Some(config) = child(spec, "dnsConfig") else {
        if text(spec, "dnsPolicy") == "None" {
            findings.required(&at, "dnsPolicy None needs name servers");
        }
        return;
    };
    let servers_at = at.field("nameservers");
    let servers = texts(config, "nameservers").count();
    if servers == 0 && text(spec, "dnsPolicy") == "None" {
        findings.required(&servers_at, "dnsPolicy None needs a name server");
    }
    if servers > NAME_SERVERS_MAX {
        findings.invalid(&servers_at, servers, format!("must be no more than {NAME_SERVERS_MAX}"));
    }
    for (index, server) in texts(config, "nameservers") {
        address(server, &servers_at.index(index), findings);
    }
    let searches_at = at.field("searches");
    let (count, characters) = (texts(config, "searches").count(), texts(config, "searches").map(|(_, name)| name.len() + 1).sum::<usize>());
    if count > SEARCHES_MAX.0 {
        findings.invalid(&searches_at, count, format!("must be no more than {}", SEARCHES_MAX.0));
    }
    if characters.saturating_sub(1) > SEARCHES_MAX.1 {
        findings.invalid(&searches_at, characters - 1, format!("must be no more than {} characters together", SEARCHES_MAX.1));
    }
    for (index, name) in texts(config, "searches").filter(|(_, name)| *name != ".") {
        // Names of service records have underscores.
        let plain = name.strip_suffix('.').unwrap_or(name).replace('_', "a");
        if let Err(problem) = names::dns_subdomain(&plain) {
            findings.invalid(&searches_at.index(index), name, problem);
        }
    }
    for (index, option) in items(config, "options") {
        if text(option, "name").is_empty() {
            findings.required(&at.field("options").index(index), "an option needs a name");
        }
    }
}
