//! The scores: each says how well a node that passed the filters would do, from 0 to 100.

use crate::cluster::NodeFit;
use crate::labels::{term_selects, tolerates};
use crate::neighbours::Neighbourhood;
use crate::wanted::Wanted;

/// The best score of one row of the table.
pub(crate) const BEST: i64 = 100;
/// Images smaller than this do not count, larger ones than the next count fully.
const SMALL_IMAGES: i64 = 23 * 1024 * 1024;
const LARGE_IMAGES: i64 = 1000 * 1024 * 1024;

/// A score of the table.
pub struct Score {
    pub name: &'static str,
    pub weight: i64,
    raw: fn(&NodeFit, &Wanted, &Neighbourhood) -> i64,
    scale: Scale,
}

/// How raw values become 0 to 100.
enum Scale {
    /// They already are.
    AsIs,
    /// The largest raw value is the best, none is the worst.
    MoreIsBetter,
    /// The smallest raw value is the best.
    LessIsBetter,
}

const SCORES: &[Score] = &[
    Score { name: "TaintToleration", weight: 3, raw: soft_taints, scale: Scale::LessIsBetter },
    Score { name: "NodeAffinity", weight: 2, raw: preferred, scale: Scale::MoreIsBetter },
    Score { name: "InterPodAffinity", weight: 2, raw: liked, scale: Scale::MoreIsBetter },
    Score { name: "TopologySpread", weight: 2, raw: crowd, scale: Scale::LessIsBetter },
    Score { name: "SiblingSpread", weight: 2, raw: siblings, scale: Scale::LessIsBetter },
    Score { name: "LeastAllocated", weight: 1, raw: least_allocated, scale: Scale::AsIs },
    Score { name: "BalancedAllocation", weight: 1, raw: balanced, scale: Scale::AsIs },
    Score { name: "ImageLocality", weight: 1, raw: images, scale: Scale::AsIs },
];

/// The table.
pub fn scores() -> &'static [Score] {
    SCORES
}

/// The weighted sum for each node.
pub(crate) fn total(nodes: &[&NodeFit], wanted: &Wanted, neighbourhood: &Neighbourhood) -> Vec<i64> {
    let mut totals = vec![0; nodes.len()];
    for score in SCORES {
        let raw: Vec<i64> = nodes.iter().map(|node| (score.raw)(node, wanted, neighbourhood)).collect();
        let (least, most) = (raw.iter().min().copied().unwrap_or(0), raw.iter().max().copied().unwrap_or(0));
        for (total, raw) in totals.iter_mut().zip(raw) {
            *total += score.weight
                * match score.scale {
                    Scale::AsIs => raw,
                    _ if least == most => BEST,
                    Scale::MoreIsBetter => (raw - least) * BEST / (most - least),
                    Scale::LessIsBetter => (most - raw) * BEST / (most - least),
                };
        }
    }
    totals
}

fn soft_taints(node: &NodeFit, wanted: &Wanted, _: &Neighbourhood) -> i64 {
    let soft = node.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule" && !tolerates(&wanted.tolerations, taint));
    i64::try_from(soft.count()).unwrap_or(i64::MAX)
}

fn preferred(node: &NodeFit, wanted: &Wanted, _: &Neighbourhood) -> i64 {
    let chosen = wanted.preferred_terms.iter().filter(|term| term_selects(&term.preference, &node.name, &node.labels));
    chosen.map(|term| i64::from(term.weight)).sum()
}

fn liked(node: &NodeFit, wanted: &Wanted, neighbourhood: &Neighbourhood) -> i64 {
    let terms = wanted.liked.iter().zip(&neighbourhood.liked);
    terms.map(|((weight, term), counts)| weight * node.labels.get(&term.topology_key).and_then(|value| counts.get(value)).copied().unwrap_or(0)).sum()
}

fn crowd(node: &NodeFit, wanted: &Wanted, neighbourhood: &Neighbourhood) -> i64 {
    neighbourhood.crowd(node, wanted)
}

fn siblings(node: &NodeFit, wanted: &Wanted, _: &Neighbourhood) -> i64 {
    wanted.owner.as_ref().and_then(|owner| node.by_owner.get(owner)).map_or(0, |count| i64::from(*count))
}

/// What would be taken of cpu and memory with this pod, in hundredths; `None` where the node has none.
fn shares(node: &NodeFit, wanted: &Wanted) -> [Option<i64>; 2] {
    let share = |taken: i64, asked: i64, has: i64| {
        (has > 0).then(|| i64::try_from(((i128::from(taken) + i128::from(asked)) * 100 / i128::from(has)).min(100)).unwrap_or(100))
    };
    let (taken, asked, has) = (&node.taken_for_comparison, &wanted.amounts_for_comparison, &node.allocatable);
    [share(taken.cpu_milli, asked.cpu_milli, has.cpu_milli), share(taken.memory_bytes, asked.memory_bytes, has.memory_bytes)]
}

fn least_allocated(node: &NodeFit, wanted: &Wanted, _: &Neighbourhood) -> i64 {
    let free = shares(node, wanted).map(|share| share.map_or(0, |share| BEST - share));
    free.iter().sum::<i64>() / 2
}

fn balanced(node: &NodeFit, wanted: &Wanted, _: &Neighbourhood) -> i64 {
    match shares(node, wanted) {
        [Some(cpu), Some(memory)] => BEST - (cpu - memory).abs() / 2,
        _ => 0,
    }
}

fn images(node: &NodeFit, wanted: &Wanted, _: &Neighbourhood) -> i64 {
    let bytes: i64 = wanted.images.iter().filter_map(|image| node.images.get(image)).sum();
    (bytes.clamp(SMALL_IMAGES, LARGE_IMAGES) - SMALL_IMAGES) * BEST / (LARGE_IMAGES - SMALL_IMAGES)
}
