//! Laws: the incremental view is the view made anew; what was placed fits and stays placed; many nodes are no burden.

use proptest::prelude::*;
use serde_json::{Value, json};
use strake_kinds::core::{Node, Pod};
use strake_schedule::{ClusterView, Wanted, place};

use crate::made::{asking, bound, node, read, view};

#[derive(Clone, Debug)]
enum Event {
    Bind(u8, u8),
    End(u8),
    Remove(u8),
    Node(u8, u8),
    RemoveNode(u8),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..12u8, 0..4u8).prop_map(|(pod, node)| Event::Bind(pod, node)),
        1 => (0..12u8).prop_map(Event::End),
        2 => (0..12u8).prop_map(Event::Remove),
        2 => (0..4u8, 1..4u8).prop_map(|(node, cpu)| Event::Node(node, cpu)),
        1 => (0..4u8).prop_map(Event::RemoveNode),
    ];
    prop::collection::vec(event, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_one_by_one_lead_where_a_fresh_look_leads(events in events()) {
        let mut nodes: std::collections::BTreeMap<u8, Value> = std::collections::BTreeMap::new();
        let mut pods: std::collections::BTreeMap<u8, Value> = std::collections::BTreeMap::new();
        let mut kept = ClusterView::default();
        for event in &events {
            match event {
                Event::Bind(pod, to) => {
                    // A binding never changes.
                    let known = pods.entry(*pod).or_insert_with(|| bound(asking(&format!("p{pod}"), "300m", "256Mi"), &format!("n{to}")));
                    kept.apply_pod(&read::<Pod>(known));
                }
                Event::End(pod) => if let Some(pod) = pods.get_mut(pod) {
                    pod["status"] = json!({"phase": "Failed"});
                    kept.apply_pod(&read::<Pod>(pod));
                },
                Event::Remove(pod) => if let Some(pod) = pods.remove(pod) {
                    kept.remove_pod(pod["metadata"]["uid"].as_str().unwrap());
                },
                Event::Node(number, cpu) => {
                    let made = node(&format!("n{number}"), &cpu.to_string(), "4Gi");
                    kept.apply_node(&read::<Node>(&made));
                    nodes.insert(*number, made);
                }
                Event::RemoveNode(number) => if nodes.remove(number).is_some() {
                    kept.remove_node(&format!("n{number}"));
                },
            }
        }
        let fresh = view(&nodes.values().cloned().collect::<Vec<_>>(), &pods.values().cloned().collect::<Vec<_>>());
        for cpu in ["100m", "900m", "2"] {
            let candidate: Pod = read(&asking("candidate", cpu, "128Mi"));
            prop_assert_eq!(place(&kept, &candidate), place(&fresh, &candidate));
            prop_assert_eq!(place(&kept, &candidate), place(&kept, &candidate));
        }
        for node in fresh.nodes() {
            prop_assert_eq!(&kept.node(&node.name).unwrap().taken, &node.taken);
        }
    }

    #[test]
    fn nothing_is_ever_overcommitted(asks in prop::collection::vec((1..20i64, 1..20i64), 1..80)) {
        let mut cluster = view(&[node("n1", "4", "4Gi"), node("n2", "2", "8Gi"), node("n3", "8", "2Gi")], &[]);
        for (number, (cpu, memory)) in asks.iter().enumerate() {
            let candidate: Pod = read(&asking(&format!("p{number}"), &format!("{cpu}00m"), &format!("{memory}00Mi")));
            match place(&cluster, &candidate) {
                Ok(placement) => cluster.assume(Wanted::of(&candidate), &placement.node),
                Err(why) => prop_assert!(why.to_string().starts_with("0/3 nodes are available: "), "{}", why),
            }
        }
        for node in cluster.nodes() {
            prop_assert!(node.taken.cpu_milli <= node.allocatable.cpu_milli && node.taken.memory_bytes <= node.allocatable.memory_bytes);
        }
    }
}

#[test]
fn thousands_of_nodes_are_filled_evenly() {
    let nodes: Vec<Node> = (0..2000).map(|number| read(&node(&format!("n{number:04}"), "8", "32Gi"))).collect();
    let mut cluster = ClusterView::new(&nodes, &[]);
    for number in 0..400 {
        let candidate: Pod = read(&asking(&format!("p{number}"), "4", "8Gi"));
        let placement = place(&cluster, &candidate).unwrap();
        cluster.assume(Wanted::of(&candidate), &placement.node);
    }
    assert_eq!(cluster.nodes().map(|node| node.pod_count()).max(), Some(1), "no node has two while others have none");
}
