//! In which order objects go. Pure: what needs others goes before what it needs, and kapp's rules about deletions are obeyed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use strake_plan::{DeployPlan, ObjectId, kapp};

use crate::inventory::group_kind;

/// Objects that go together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wave {
    /// Their places in the list.
    pub members: Vec<usize>,
    /// A rule says that they are gone before what follows begins.
    pub is_awaited: bool,
}

/// The waves in which these objects go, where `applied` is what was deployed last. Rules that contradict each other are left out.
pub fn waves(objects: &[(&ObjectId, &Value)], applied: &DeployPlan) -> Vec<Wave> {
    let depths = depths(applied);
    let steps: Vec<usize> = objects.iter().map(|(id, _)| step(id, &depths)).collect();
    let mut before = predecessors(objects);
    let mut left: BTreeSet<usize> = (0..objects.len()).collect();
    let mut waves = Vec::new();
    while !left.is_empty() {
        let free: Vec<usize> = left.iter().copied().filter(|place| before[*place].is_disjoint(&left)).collect();
        if free.is_empty() {
            // A circle: the rules of those that are left say nothing.
            left.iter().for_each(|place| before[*place].clear());
            continue;
        }
        let next = free.iter().map(|place| steps[*place]).min();
        let members: Vec<usize> = free.into_iter().filter(|place| Some(steps[*place]) == next).collect();
        left.retain(|place| !members.contains(place));
        let is_awaited = left.iter().any(|place| members.iter().any(|member| before[*place].contains(member)));
        waves.push(Wave { members, is_awaited });
    }
    waves
}

/// What must be gone before each object, by kapp's rules.
fn predecessors(objects: &[(&ObjectId, &Value)]) -> Vec<BTreeSet<usize>> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (place, (id, object)) in objects.iter().enumerate() {
        for group in kapp::groups(id, object) {
            groups.entry(group).or_default().push(place);
        }
    }
    let mut before = vec![BTreeSet::new(); objects.len()];
    for (place, (id, object)) in objects.iter().enumerate() {
        for rule in kapp::delete_rules(id, object) {
            for other in groups.get(&rule.group).into_iter().flatten().copied().filter(|other| *other != place) {
                let (first, second) = if rule.before { (place, other) } else { (other, place) };
                before[second].insert(first);
            }
        }
    }
    before
}

/// How many others an object of the plan stands on, one above another, by kind, namespace and name.
fn depths(plan: &DeployPlan) -> BTreeMap<(String, String, String), usize> {
    let mut depths: Vec<usize> = Vec::with_capacity(plan.changes.len());
    for change in &plan.changes {
        // What comes before has a lower place.
        let below = change.after.iter().filter_map(|edge| depths.get(edge.change.0)).max();
        depths.push(below.map_or(0, |depth| depth + 1));
    }
    plan.changes.iter().zip(depths).map(|(change, depth)| (key(&change.id), depth)).collect()
}

fn key(id: &ObjectId) -> (String, String, String) {
    (group_kind(id), id.namespace.clone(), id.name.clone())
}

/// When an object goes: what stands on most goes first; namespaces and definitions of kinds go last, whatever the plan says.
fn step(id: &ObjectId, depths: &BTreeMap<(String, String, String), usize>) -> usize {
    let deepest = depths.values().max().copied().unwrap_or(0);
    let depth = depths.get(&key(id)).copied();
    rank(&id.kind) * (deepest + 2) + depth.map_or(0, |depth| deepest + 1 - depth)
}

/// Workloads go before what they use; namespaces go last.
pub(crate) fn rank(kind: &str) -> usize {
    match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" | "CronJob" | "Pod" => 0,
        "Service" | "Ingress" => 1,
        "CustomResourceDefinition" => 3,
        "Namespace" => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use strake_plan::{Change, ChangeId, Edge, Wanted};

    use super::*;

    fn change(kind: &str, name: &str, after: &[usize], rules: &[(&str, &str)]) -> Change {
        let id = ObjectId { kind: kind.into(), name: name.into(), ..ObjectId::default() };
        let annotations: BTreeMap<String, &str> = rules.iter().map(|(key, text)| (format!("kapp.k14s.io/{key}"), *text)).collect();
        let object = json!({"metadata": {"annotations": annotations}});
        Change { id, object, after: after.iter().map(|place| Edge { change: ChangeId(*place), state: Wanted::Present }).collect(), ..Change::default() }
    }

    /// The waves by name; awaited ones end with `!`.
    fn order(changes: Vec<Change>, others: &[Change]) -> Vec<String> {
        let plan = DeployPlan { changes, ..DeployPlan::default() };
        let objects: Vec<(&ObjectId, &Value)> = plan.changes.iter().chain(others).map(|change| (&change.id, &change.object)).collect();
        let name = |place: &usize| objects[*place].0.to_string();
        let told = |wave: &Wave| format!("{}{}", wave.members.iter().map(name).collect::<Vec<_>>().join(" "), if wave.is_awaited { "!" } else { "" });
        waves(&objects, &plan).iter().map(told).collect()
    }

    #[test]
    fn what_needs_others_goes_before_what_it_needs() {
        let changes = vec![
            change("Namespace", "n", &[], &[]),
            change("ConfigMap", "c", &[0], &[]),
            change("Deployment", "db", &[0], &[]),
            change("Deployment", "web", &[0, 1, 2], &[]),
            change("Service", "web", &[0], &[]),
        ];
        let found = order(changes, &[change("Deployment", "old", &[], &[])]);
        assert_eq!(found, ["deployment/old", "deployment/web", "deployment/db", "service/web", "configmap/c", "namespace/n"]);
    }

    #[test]
    fn the_rules_of_kapp_count_more_than_kinds() {
        let changes = vec![
            change("Deployment", "db", &[], &[("change-group", "db")]),
            change("ConfigMap", "first", &[], &[("change-rule", "delete before deleting db")]),
            change("Service", "last", &[], &[("change-rule", "delete after deleting change-groups.kapp.k14s.io/pod-related")]),
            change("Secret", "word", &[], &[]),
        ];
        assert_eq!(order(changes, &[]), ["configmap/first secret/word!", "deployment/db", "service/last"]);
    }

    #[test]
    fn a_circle_of_rules_keeps_nothing_from_going() {
        let a = change("ConfigMap", "a", &[], &[("change-group", "a"), ("change-rule", "delete before deleting b")]);
        let b = change("ConfigMap", "b", &[], &[("change-group", "b"), ("change-rule", "delete before deleting a")]);
        assert_eq!(order(vec![a, b], &[]), ["configmap/a configmap/b"]);
    }
}
