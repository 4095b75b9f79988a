//! Which comes first: edges of three strengths and stages to one order. Knows numbers only, so that anything can be tried on it.
//!
//! Nodes are numbered in the order in which they come where nothing else decides. Cycles of edges that must hold are found and returned; an edge that is only
//! good to have is left out where it would close one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use strake_plan::{Phase, Wanted};
use strake_source::Span;

/// How much an edge counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Strength {
    /// Good to have: what refers to something comes after it.
    Soft,
    /// A person has said so.
    Explicit,
    /// It cannot be otherwise: a namespace and what lives in it.
    Hard,
}

/// `from` comes after `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub from: usize,
    pub to: usize,
    pub state: Wanted,
    pub strength: Strength,
    /// Where it is said.
    pub span: Span,
    /// Why, as words that follow `because`.
    pub why: String,
}

/// A part of an apply: everything of one is healthy before the next begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stage {
    pub phase: Phase,
    pub wave: i64,
}

/// A stage that somebody has asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    pub stage: Stage,
    pub span: Span,
    /// As it is written: `sync-wave 3`.
    pub words: String,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sorted {
    /// All nodes, each after everything it depends on.
    pub order: Vec<usize>,
    /// By node, counted from 0 without holes.
    pub stages: Vec<usize>,
    /// The edges that hold, one for each pair.
    pub edges: Vec<Edge>,
    /// Edges that were left out.
    pub dropped: Vec<Edge>,
    /// Contradictions: each edge leads to the node at which the next begins, the last one back to the first.
    pub cycles: Vec<Vec<Edge>>,
}

/// Sorts nodes, each given with the stage that was asked for.
pub(crate) fn sort(pins: &[Option<Pin>], edges: Vec<Edge>) -> Sorted {
    let count = pins.len();
    let (soft, firm): (Vec<Edge>, Vec<Edge>) = unique(edges).into_iter().partition(|edge| edge.strength == Strength::Soft);
    let mut kept = firm;
    let mut cycles = Vec::new();
    while let Some(cycle) = cycle(count, &kept) {
        // One is enough to break it: what else is wrong is found too.
        kept.retain(|edge| cycle.last().is_none_or(|last| (last.from, last.to) != (edge.from, edge.to)));
        cycles.push(cycle);
    }
    let mut dropped = Vec::new();
    kept = with_soft(count, kept, soft, &mut dropped);
    let stages = stages(pins, &kept);
    let late = |edge: &Edge| stages[edge.to] > stages[edge.from];
    for edge in kept.iter().filter(|edge| late(edge) && edge.strength != Strength::Soft) {
        cycles.push(contradiction(pins, edge));
    }
    let (against, kept): (Vec<Edge>, Vec<Edge>) = kept.into_iter().partition(late);
    // What gave way to an edge that has itself given way to a stage may hold after all.
    let (mut left_out, again): (Vec<Edge>, Vec<Edge>) = std::mem::take(&mut dropped).into_iter().partition(late);
    let kept = with_soft(count, kept, again, &mut left_out);
    dropped.extend(left_out);
    dropped.extend(against.into_iter().filter(|edge| edge.strength == Strength::Soft));
    dropped.sort_by_key(|edge| (edge.from, edge.to));
    let order = topological(count, &kept, &stages);
    let distinct: BTreeSet<Stage> = stages.iter().copied().collect();
    let compact = stages.iter().map(|stage| distinct.range(..stage).count()).collect();
    Sorted { order, stages: compact, edges: kept, dropped, cycles }
}

/// One edge for each pair: the strongest, wanting the most.
fn unique(edges: Vec<Edge>) -> Vec<Edge> {
    let mut found: BTreeMap<(usize, usize), Edge> = BTreeMap::new();
    for edge in edges {
        match found.get_mut(&(edge.from, edge.to)) {
            Some(other) => {
                let state = other.state.max(edge.state);
                let order = |edge: &Edge| (std::cmp::Reverse(edge.strength), edge.span.file, edge.span.start);
                if order(&edge) < order(other) {
                    *other = edge;
                }
                other.state = state;
            }
            None => {
                found.insert((edge.from, edge.to), edge);
            }
        }
    }
    found.into_values().collect()
}

fn outgoing(count: usize, edges: &[Edge]) -> Vec<Vec<usize>> {
    let mut out = vec![Vec::new(); count];
    edges.iter().enumerate().for_each(|(index, edge)| out[edge.from].push(index));
    out
}

/// Nodes on cycles, and nodes that need those.
fn stuck(count: usize, edges: &[Edge]) -> Vec<bool> {
    let mut needs = vec![0usize; count];
    let mut needed_by = vec![Vec::new(); count];
    for edge in edges {
        needs[edge.from] += 1;
        needed_by[edge.to].push(edge.from);
    }
    let mut free: Vec<usize> = (0..count).filter(|node| needs[*node] == 0).collect();
    let mut stuck = vec![true; count];
    while let Some(node) = free.pop() {
        stuck[node] = false;
        for other in &needed_by[node] {
            needs[*other] -= 1;
            if needs[*other] == 0 {
                free.push(*other);
            }
        }
    }
    stuck
}

/// A shortest cycle through the first node that is on one.
fn cycle(count: usize, edges: &[Edge]) -> Option<Vec<Edge>> {
    let stuck = stuck(count, edges);
    let out = outgoing(count, edges);
    (0..count)
        .filter(|node| stuck[*node])
        .find_map(|start| way(start, start, edges, &out))
        .map(|way| way.into_iter().map(|index| edges[index].clone()).collect())
}

/// The edges of a shortest way of at least one step.
fn way(start: usize, end: usize, edges: &[Edge], out: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut came: BTreeMap<usize, usize> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for index in &out[node] {
            let next = edges[*index].to;
            if came.contains_key(&next) {
                continue;
            }
            came.insert(next, *index);
            if next == end {
                let mut steps = vec![*index];
                let mut at = node;
                while at != start {
                    let index = came[&at];
                    steps.push(index);
                    at = edges[index].from;
                }
                steps.reverse();
                return Some(steps);
            }
            queue.push_back(next);
        }
    }
    None
}

/// Adds the soft edges that close no cycle.
fn with_soft(count: usize, firm: Vec<Edge>, soft: Vec<Edge>, dropped: &mut Vec<Edge>) -> Vec<Edge> {
    let all: Vec<Edge> = firm.iter().chain(&soft).cloned().collect();
    let stuck = stuck(count, &all);
    // An edge on a cycle has both its ends among the stuck.
    let (doubtful, fine): (Vec<Edge>, Vec<Edge>) = soft.into_iter().partition(|edge| stuck[edge.from] && stuck[edge.to]);
    let mut kept = firm;
    kept.extend(fine);
    for edge in doubtful {
        let closes = edge.from == edge.to || way(edge.to, edge.from, &kept, &outgoing(count, &kept)).is_some();
        if closes { dropped.push(edge) } else { kept.push(edge) }
    }
    kept.sort_by_key(|edge| (edge.from, edge.to));
    kept
}

/// The stage of each node: the one that was asked for; of what nobody has asked about, the usual one, or as early as those who need it, or as late as what it
/// needs. What must be there for others (a namespace, a definition) goes with the first of them whatever was asked for.
fn stages(pins: &[Option<Pin>], edges: &[Edge]) -> Vec<Stage> {
    let count = pins.len();
    let ground: BTreeSet<usize> = edges.iter().filter(|edge| edge.strength == Strength::Hard).map(|edge| edge.to).collect();
    let pin = |node: usize| pins[node].as_ref().filter(|_| !ground.contains(&node)).map(|pin| pin.stage);
    let order = topological(count, edges, &vec![Stage::default(); count]);
    let out = outgoing(count, edges);
    let mut earliest: Vec<Option<Stage>> = (0..count).map(pin).collect();
    let mut latest = earliest.clone();
    for node in order.iter().copied().filter(|node| pin(*node).is_none()) {
        let firm = out[node].iter().map(|index| &edges[*index]).filter(|edge| edge.strength != Strength::Soft);
        earliest[node] = firm.filter_map(|edge| earliest[edge.to]).max();
    }
    let wish = |node: usize| pins[node].as_ref().map(|pin| pin.stage).unwrap_or_default();
    for node in order.iter().rev().copied() {
        let own = pin(node).or_else(|| Some(latest[node].map_or(wish(node), |latest| latest.min(wish(node)))));
        let own = own.max(earliest[node]);
        for edge in out[node].iter().map(|index| &edges[*index]).filter(|edge| pin(edge.to).is_none()) {
            latest[edge.to] = latest[edge.to].map_or(own, |latest| Some(latest).min(own));
        }
    }
    let stage = |node: usize| {
        pin(node).unwrap_or_else(|| {
            let usual = latest[node].map_or(wish(node), |latest| latest.min(wish(node)));
            earliest[node].map_or(usual, |earliest| earliest.max(usual))
        })
    };
    (0..count).map(stage).collect()
}

/// An edge that says the opposite of the stages that were asked for.
fn contradiction(pins: &[Option<Pin>], edge: &Edge) -> Vec<Edge> {
    let words = |node: usize| pins[node].as_ref().map_or("no stage of its own", |pin| pin.words.as_str());
    let span = pins[edge.to].as_ref().or(pins[edge.from].as_ref()).map_or(edge.span, |pin| pin.span);
    let why = format!("{} comes after {}", words(edge.to), words(edge.from));
    vec![edge.clone(), Edge { from: edge.to, to: edge.from, state: Wanted::Ready, strength: Strength::Explicit, span, why }]
}

/// All nodes by stage and number, as far as edges allow. What is on a cycle comes last.
fn topological(count: usize, edges: &[Edge], stages: &[Stage]) -> Vec<usize> {
    let mut needs = vec![0usize; count];
    let mut needed_by = vec![Vec::new(); count];
    for edge in edges {
        needs[edge.from] += 1;
        needed_by[edge.to].push(edge.from);
    }
    let mut free: BTreeSet<(Stage, usize)> = (0..count).filter(|node| needs[*node] == 0).map(|node| (stages[node], node)).collect();
    let mut order = Vec::with_capacity(count);
    while let Some((_, node)) = free.pop_first() {
        order.push(node);
        for other in &needed_by[node] {
            needs[*other] -= 1;
            if needs[*other] == 0 {
                free.insert((stages[*other], *other));
            }
        }
    }
    let placed: BTreeSet<usize> = order.iter().copied().collect();
    order.extend((0..count).filter(|node| !placed.contains(node)));
    order
}

#[cfg(test)]
#[path = "graph/tests.rs"]
mod tests;
