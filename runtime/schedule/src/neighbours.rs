//! Pods that want or refuse each other's company: pod affinity and anti-affinity, and topology spread.

use std::collections::{BTreeMap, BTreeSet};

use strake_kinds::core::{PodAffinityTerm, TopologySpreadConstraint};
use strake_kinds::meta::LabelSelector;

use crate::cluster::{ClusterView, NodeFit};
use crate::labels::selects;
use crate::wanted::Wanted;

/// A term of pod affinity or anti-affinity.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NeighbourTerm {
    selector: Option<LabelSelector>,
    /// `None`: every namespace. Selectors of namespaces other than the empty one are not resolved here: the term then
    /// means the pod's own namespace and those listed.
    namespaces: Option<BTreeSet<String>>,
    pub(crate) topology_key: String,
}

impl NeighbourTerm {
    pub(crate) fn read(term: &PodAffinityTerm, own_namespace: &str, own_labels: &BTreeMap<String, String>) -> Self {
        let listed: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        let everywhere = term.namespace_selector.as_ref().is_some_and(|selector| *selector == LabelSelector::default());
        let namespaces = match (everywhere, listed.is_empty()) {
            (true, _) => None,
            (_, true) => Some([own_namespace.to_owned()].into()),
            _ => Some(listed),
        };
        let selector = with_own_values(term.label_selector.clone(), term.match_label_keys.as_deref(), own_labels);
        Self { selector, namespaces, topology_key: term.topology_key.clone() }
    }

    pub(crate) fn means(&self, pod: &Wanted) -> bool {
        let in_namespace = self.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(&pod.namespace));
        in_namespace && selects(self.selector.as_ref(), &pod.labels)
    }
}

/// A constraint of topology spread.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SpreadTerm {
    selector: Option<LabelSelector>,
    topology_key: String,
    max_skew: i64,
    min_domains: i64,
    pub(crate) required: bool,
}

impl SpreadTerm {
    pub(crate) fn read(term: &TopologySpreadConstraint, own_labels: &BTreeMap<String, String>) -> Self {
        Self {
            selector: with_own_values(term.label_selector.clone(), term.match_label_keys.as_deref(), own_labels),
            topology_key: term.topology_key.clone(),
            max_skew: i64::from(term.max_skew),
            min_domains: i64::from(term.min_domains.unwrap_or(1)),
            required: term.when_unsatisfiable == "DoNotSchedule",
        }
    }
}

/// `matchLabelKeys`: the pod's own values of these labels are part of the selector.
fn with_own_values(selector: Option<LabelSelector>, keys: Option<&[String]>, own: &BTreeMap<String, String>) -> Option<LabelSelector> {
    let mut selector = selector?;
    for key in keys.unwrap_or_default() {
        if let Some(value) = own.get(key) {
            selector.match_labels.get_or_insert_default().insert(key.clone(), value.clone());
        }
    }
    Some(selector)
}

/// What is to be known of the neighbours of every node before one pod is placed: empty for pods that do not ask.
#[derive(Debug, Default)]
pub(crate) struct Neighbourhood {
    /// For each required affinity term: the values of its topology key where such a pod runs.
    near: Vec<BTreeSet<String>>,
    /// A required affinity term that no pod satisfies yet and that the pod itself satisfies lets it be the first.
    first: Vec<bool>,
    /// Topology key and value where a pod runs that this one refuses.
    refused: BTreeSet<(String, String)>,
    /// Topology key and value where a pod runs that refuses this one.
    refusing: BTreeSet<(String, String)>,
    /// For each spread term: pods counted by value of its topology key.
    counts: Vec<BTreeMap<String, i64>>,
    /// For each preferred term: pods counted by value of its topology key.
    pub(crate) liked: Vec<BTreeMap<String, i64>>,
}

impl Neighbourhood {
    pub(crate) fn of(view: &ClusterView, wanted: &Wanted) -> Self {
        let near: Vec<_> = wanted.with.iter().map(|term| places(view, term)).collect();
        let nobody_anywhere = near.iter().all(BTreeSet::is_empty);
        let first = wanted.with.iter().map(|term| nobody_anywhere && term.means(wanted)).collect();
        let refused = wanted.without.iter().flat_map(|term| places(view, term).into_iter().map(|value| (term.topology_key.clone(), value))).collect();
        let counts = wanted.spread.iter().map(|term| spread_counts(view, term, wanted)).collect();
        let liked = wanted.liked.iter().map(|(_, term)| counted(view, term)).collect();
        Self { near, first, refused, refusing: refusing(view, wanted), counts, liked }
    }

    pub(crate) fn lacks_company(&self, node: &NodeFit, wanted: &Wanted) -> bool {
        wanted.with.iter().zip(self.near.iter().zip(&self.first)).any(|(term, (near, first))| match node.labels.get(&term.topology_key) {
            None => true,
            Some(value) => !near.contains(value) && !first,
        })
    }

    pub(crate) fn has_refused_company(&self, node: &NodeFit) -> bool {
        is_in(&self.refused, node)
    }

    pub(crate) fn is_refused(&self, node: &NodeFit) -> bool {
        is_in(&self.refusing, node)
    }

    /// `Some(true)`: a required spread constraint lacks its label on the node; `Some(false)`: it would be violated.
    pub(crate) fn breaks_spread(&self, node: &NodeFit, wanted: &Wanted) -> Option<bool> {
        wanted.spread.iter().zip(&self.counts).filter(|(term, _)| term.required).find_map(|(term, counts)| {
            let Some(value) = node.labels.get(&term.topology_key) else { return Some(true) };
            let own = i64::from(selects(term.selector.as_ref(), &wanted.labels));
            let few = i64::try_from(counts.len()).unwrap_or(i64::MAX) < term.min_domains;
            let least = if few { 0 } else { counts.values().min().copied().unwrap_or(0) };
            let here = counts.get(value).copied().unwrap_or(0);
            (here + own - least > term.max_skew).then_some(false)
        })
    }

    /// Pods that count against this node for the pod's soft spread constraints.
    pub(crate) fn crowd(&self, node: &NodeFit, wanted: &Wanted) -> i64 {
        let terms = wanted.spread.iter().zip(&self.counts).filter(|(term, _)| !term.required);
        terms.map(|(term, counts)| node.labels.get(&term.topology_key).and_then(|value| counts.get(value)).copied().unwrap_or(0)).sum()
    }
}

fn is_in(places: &BTreeSet<(String, String)>, node: &NodeFit) -> bool {
    places.iter().any(|(key, value)| node.labels.get(key) == Some(value))
}

fn places(view: &ClusterView, term: &NeighbourTerm) -> BTreeSet<String> {
    counted(view, term).into_keys().collect()
}

fn counted(view: &ClusterView, term: &NeighbourTerm) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for node in view.nodes() {
        let Some(value) = node.labels.get(&term.topology_key) else { continue };
        let count = node.pods.values().filter(|pod| term.means(pod)).count();
        if count > 0 {
            *counts.entry(value.clone()).or_insert(0) += i64::try_from(count).unwrap_or(i64::MAX);
        }
    }
    counts
}

fn spread_counts(view: &ClusterView, term: &SpreadTerm, wanted: &Wanted) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for node in view.nodes() {
        let Some(value) = node.labels.get(&term.topology_key) else { continue };
        if !crate::filters::selector_allows(node, wanted) {
            continue;
        }
        let counted = node.pods.values().filter(|pod| pod.namespace == wanted.namespace && selects(term.selector.as_ref(), &pod.labels));
        *counts.entry(value.clone()).or_insert(0) += i64::try_from(counted.count()).unwrap_or(i64::MAX);
    }
    counts
}

fn refusing(view: &ClusterView, wanted: &Wanted) -> BTreeSet<(String, String)> {
    let mut places = BTreeSet::new();
    for (uid, name) in &view.choosy {
        let Some((node, pod)) = view.node(name).and_then(|node| Some((node, node.pods.get(uid)?))) else { continue };
        for term in pod.without.iter().filter(|term| term.means(wanted)) {
            if let Some(value) = node.labels.get(&term.topology_key) {
                places.insert((term.topology_key.clone(), value.clone()));
            }
        }
    }
    places
}
