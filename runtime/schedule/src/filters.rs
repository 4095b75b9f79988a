//! The filters: each says why a node will not do.

use std::borrow::Cow;

use crate::amounts::Amounts;
use crate::cluster::NodeFit;
use crate::labels::{term_selects, tolerates};
use crate::neighbours::Neighbourhood;
use crate::wanted::Wanted;

/// Why a node was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// As it stands in the message after the number of nodes: `Insufficient cpu`, `node(s) were unschedulable`.
    pub reason: Cow<'static, str>,
    /// It does not depend on other pods: waiting for one to end will not help.
    pub lasting: bool,
}

/// A filter of the table.
pub struct Filter {
    pub name: &'static str,
    check: fn(&NodeFit, &Wanted, &Neighbourhood, &mut Vec<Rejection>),
}

const FILTERS: &[Filter] = &[
    Filter { name: "Unschedulable", check: unschedulable },
    Filter { name: "NodeName", check: node_name },
    Filter { name: "TaintToleration", check: taints },
    Filter { name: "NodeAffinity", check: node_affinity },
    Filter { name: "NodePorts", check: ports },
    Filter { name: "ResourcesFit", check: resources },
    Filter { name: "TopologySpread", check: spread },
    Filter { name: "InterPodAffinity", check: neighbours },
];

/// The table, in the order in which the filters run.
pub fn filters() -> &'static [Filter] {
    FILTERS
}

/// Runs the filters; the first that objects decides, with all of its reasons.
pub(crate) fn reject(node: &NodeFit, wanted: &Wanted, neighbourhood: &Neighbourhood) -> Vec<Rejection> {
    let mut found = Vec::new();
    for filter in FILTERS {
        (filter.check)(node, wanted, neighbourhood, &mut found);
        if !found.is_empty() {
            break;
        }
    }
    found
}

fn lasting(reason: impl Into<Cow<'static, str>>) -> Rejection {
    Rejection { reason: reason.into(), lasting: true }
}

fn passing(reason: impl Into<Cow<'static, str>>) -> Rejection {
    Rejection { reason: reason.into(), lasting: false }
}

fn unschedulable(node: &NodeFit, wanted: &Wanted, _: &Neighbourhood, found: &mut Vec<Rejection>) {
    const CORDONED: &str = "node.kubernetes.io/unschedulable";
    let taint = || strake_kinds::core::Taint { key: CORDONED.to_owned(), effect: "NoSchedule".to_owned(), ..Default::default() };
    if node.unschedulable && !tolerates(&wanted.tolerations, &taint()) {
        found.push(lasting("node(s) were unschedulable"));
    }
}

fn node_name(node: &NodeFit, wanted: &Wanted, _: &Neighbourhood, found: &mut Vec<Rejection>) {
    if wanted.node_name.as_ref().is_some_and(|name| !name.is_empty() && *name != node.name) {
        found.push(lasting("node(s) didn't match the requested node name"));
    }
}

fn taints(node: &NodeFit, wanted: &Wanted, _: &Neighbourhood, found: &mut Vec<Rejection>) {
    let hard = node.taints.iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    if let Some(taint) = hard.into_iter().find(|taint| !tolerates(&wanted.tolerations, taint)) {
        found.push(lasting(format!("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value.as_deref().unwrap_or_default())));
    }
}

/// The node selector and the required node affinity allow the node.
pub(crate) fn selector_allows(node: &NodeFit, wanted: &Wanted) -> bool {
    let by_selector = wanted.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value));
    let by_terms = wanted.required_terms.as_ref().is_none_or(|terms| terms.iter().any(|term| term_selects(term, &node.name, &node.labels)));
    by_selector && by_terms
}

fn node_affinity(node: &NodeFit, wanted: &Wanted, _: &Neighbourhood, found: &mut Vec<Rejection>) {
    if !selector_allows(node, wanted) {
        found.push(lasting("node(s) didn't match Pod's node affinity/selector"));
    }
}

fn ports(node: &NodeFit, wanted: &Wanted, _: &Neighbourhood, found: &mut Vec<Rejection>) {
    if wanted.ports.iter().any(|port| node.ports.iter().any(|taken| taken.conflicts(port))) {
        found.push(passing("node(s) didn't have free ports for the requested pod ports"));
    }
}

fn resources(node: &NodeFit, wanted: &Wanted, _: &Neighbourhood, found: &mut Vec<Rejection>) {
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.pods_allowed {
        found.push(Rejection { reason: "Too many pods".into(), lasting: node.pods_allowed == 0 });
    }
    if wanted.amounts == Amounts::default() {
        return;
    }
    let mut free = node.allocatable.clone();
    free.subtract(&node.taken);
    let never: Vec<&str> = wanted.amounts.exceeding(&node.allocatable).collect();
    for name in wanted.amounts.exceeding(&free) {
        found.push(Rejection { reason: format!("Insufficient {name}").into(), lasting: never.contains(&name) });
    }
}

fn spread(node: &NodeFit, wanted: &Wanted, neighbourhood: &Neighbourhood, found: &mut Vec<Rejection>) {
    match neighbourhood.breaks_spread(node, wanted) {
        None => {}
        Some(true) => found.push(lasting("node(s) didn't match pod topology spread constraints (missing required label)")),
        Some(false) => found.push(passing("node(s) didn't match pod topology spread constraints")),
    }
}

fn neighbours(node: &NodeFit, wanted: &Wanted, neighbourhood: &Neighbourhood, found: &mut Vec<Rejection>) {
    if neighbourhood.lacks_company(node, wanted) {
        found.push(passing("node(s) didn't match pod affinity rules"));
    } else if neighbourhood.has_refused_company(node) {
        found.push(passing("node(s) didn't match pod anti-affinity rules"));
    } else if neighbourhood.is_refused(node) {
        found.push(passing("node(s) didn't satisfy existing pods anti-affinity rules"));
    }
}
