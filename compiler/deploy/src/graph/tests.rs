//! Random graphs: what must hold of any of them.

use proptest::prelude::*;
use strake_plan::{Phase, Wanted};
use strake_source::{FileId, Span};

use super::{Edge, Pin, Sorted, Stage, Strength, sort};

const MOST: usize = 12;

fn edge(from: usize, to: usize, strength: Strength) -> Edge {
    Edge { from, to, state: Wanted::Ready, strength, span: Span::new(FileId(0), 0, 0), why: String::new() }
}

fn pin(phase: Phase, wave: i64) -> Option<Pin> {
    Some(Pin { stage: Stage { phase, wave }, span: Span::new(FileId(0), 0, 0), words: format!("wave {wave}") })
}

fn strength() -> impl Strategy<Value = Strength> {
    prop_oneof![Just(Strength::Soft), Just(Strength::Explicit), Just(Strength::Hard)]
}

fn graph() -> impl Strategy<Value = (Vec<Option<Pin>>, Vec<Edge>)> {
    let node = prop_oneof![3 => Just(None), 1 => (-2i64..3).prop_map(|wave| pin(Phase::Main, wave)), 1 => Just(pin(Phase::Before, 0)), 1 => Just(pin(Phase::After, 0))];
    let nodes = prop::collection::vec(node, 1..MOST);
    nodes.prop_flat_map(|nodes| {
        let count = nodes.len();
        let edges = prop::collection::vec((0..count, 0..count, strength()).prop_map(|(from, to, strength)| edge(from, to, strength)), 0..24);
        (Just(nodes), edges)
    })
}

/// Whether `from` needs `to`, by the plain way: trying everything.
fn reaches(edges: &[Edge], from: usize, to: usize) -> bool {
    let mut seen = vec![from];
    let mut place = 0;
    while place < seen.len() {
        let node = seen[place];
        for edge in edges.iter().filter(|edge| edge.from == node) {
            if edge.to == to {
                return true;
            }
            if !seen.contains(&edge.to) {
                seen.push(edge.to);
            }
        }
        place += 1;
    }
    false
}

fn places(sorted: &Sorted) -> Vec<usize> {
    let mut places = vec![usize::MAX; sorted.order.len()];
    sorted.order.iter().enumerate().for_each(|(place, node)| places[*node] = place);
    places
}

proptest! {
    #[test]
    fn every_node_has_one_place_and_no_edge_or_stage_goes_backwards((pins, edges) in graph()) {
        let sorted = sort(&pins, edges);
        let mut nodes = sorted.order.clone();
        nodes.sort_unstable();
        prop_assert_eq!(nodes, (0..pins.len()).collect::<Vec<_>>());
        let places = places(&sorted);
        for edge in &sorted.edges {
            prop_assert!(places[edge.to] < places[edge.from], "{:?}", edge);
            prop_assert!(sorted.stages[edge.to] <= sorted.stages[edge.from], "{:?}", edge);
        }
        for pair in sorted.order.windows(2) {
            prop_assert!(sorted.stages[pair[0]] <= sorted.stages[pair[1]]);
        }
    }

    #[test]
    fn nothing_is_left_out_in_silence((pins, edges) in graph()) {
        let sorted = sort(&pins, edges.clone());
        let has = |list: &[Edge], edge: &Edge| list.iter().any(|other| (other.from, other.to) == (edge.from, edge.to));
        for edge in &edges {
            let told = sorted.cycles.iter().any(|cycle| has(cycle, edge)) || has(&sorted.dropped, edge);
            prop_assert!(has(&sorted.edges, edge) || told, "{:?}", edge);
        }
        // Only what is good to have is dropped, and only where it would close a cycle or break a stage.
        for edge in &sorted.dropped {
            prop_assert_eq!(edge.strength, Strength::Soft);
            let early = sorted.stages[edge.from] < sorted.stages[edge.to];
            prop_assert!(edge.from == edge.to || early || reaches(&sorted.edges, edge.to, edge.from) || !sorted.cycles.is_empty(), "{:?}", edge);
        }
    }

    #[test]
    fn a_cycle_is_told_exactly_when_there_is_one((_, edges) in graph(), count in Just(MOST)) {
        let none = vec![None; count];
        let sorted = sort(&none, edges.clone());
        let firm: Vec<Edge> = edges.iter().filter(|edge| edge.strength != Strength::Soft).cloned().collect();
        let cyclic = (0..count).any(|node| reaches(&firm, node, node));
        prop_assert_eq!(!sorted.cycles.is_empty(), cyclic);
        for cycle in &sorted.cycles {
            for (place, edge) in cycle.iter().enumerate() {
                prop_assert_eq!(edge.to, cycle[(place + 1) % cycle.len()].from, "{:?}", cycle);
            }
        }
    }

    #[test]
    fn the_order_of_edges_does_not_matter((pins, edges) in graph()) {
        let turned: Vec<Edge> = edges.iter().rev().cloned().collect();
        prop_assert_eq!(sort(&pins, edges), sort(&pins, turned));
    }

    #[test]
    fn stages_that_were_asked_for_are_kept((pins, edges) in graph()) {
        let edges: Vec<Edge> = edges.into_iter().filter(|edge| edge.strength != Strength::Hard).collect();
        let sorted = sort(&pins, edges);
        for (a, first) in pins.iter().enumerate() {
            for (b, second) in pins.iter().enumerate() {
                if let (Some(first), Some(second)) = (first, second) {
                    prop_assert_eq!(first.stage.cmp(&second.stage), sorted.stages[a].cmp(&sorted.stages[b]));
                }
            }
        }
    }
}

#[test]
fn what_a_hook_needs_goes_ahead_with_it_and_the_rest_does_not() {
    // 0 is a namespace, 1 a setting that the hook needs, 2 the hook, 3 a workload that needs the setting too, 4 another one.
    let pins = [None, None, pin(Phase::Before, 0), None, None];
    let edges = vec![
        edge(1, 0, Strength::Hard),
        edge(2, 0, Strength::Hard),
        edge(2, 1, Strength::Soft),
        edge(3, 1, Strength::Soft),
        edge(3, 0, Strength::Hard),
        edge(4, 0, Strength::Hard),
    ];
    let sorted = sort(&pins, edges);
    assert_eq!(sorted.order, [0, 1, 2, 3, 4]);
    assert_eq!(sorted.stages, [0, 0, 0, 1, 1]);
    assert!(sorted.dropped.is_empty() && sorted.cycles.is_empty());
}

#[test]
fn a_wish_against_the_waves_is_a_contradiction_and_a_reference_gives_way() {
    let pins = [pin(Phase::Main, 0), pin(Phase::Main, 5)];
    let wish = sort(&pins, vec![edge(0, 1, Strength::Explicit)]);
    assert_eq!(wish.cycles.len(), 1);
    assert_eq!(wish.cycles[0][1].why, "wave 5 comes after wave 0");
    let reference = sort(&pins, vec![edge(0, 1, Strength::Soft)]);
    assert_eq!((reference.cycles.len(), reference.dropped.len()), (0, 1));
}
