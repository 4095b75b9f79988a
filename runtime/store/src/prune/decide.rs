//! Which claims are given up, and so what goes. Pure: facts in, a decision out.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use strake_oci::Digest;

use super::claims::Claim;
use super::usage::What;
use super::{PruneOptions, Reason};

/// What is to happen.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// For each item that stays: who needs it, by the claim's place.
    pub kept: HashMap<What, Vec<usize>>,
    /// Names of images that go.
    pub untagged: Vec<String>,
    /// Claims that were given up to come below the cap, or because of their age.
    pub given_up: HashSet<usize>,
}

/// The facts.
pub(super) struct Facts<'a> {
    pub claims: &'a [Claim],
    pub sizes: &'a HashMap<What, u64>,
    /// The diff id of every layer that is here.
    pub diff_ids: &'a HashMap<Digest, Digest>,
    pub now: SystemTime,
}

/// Decides.
pub(super) fn decide(facts: &Facts<'_>, options: &PruneOptions) -> Decision {
    let mut going = Going { facts, alive: vec![true; facts.claims.len()], counts: HashMap::new(), total: 0 };
    for claim in facts.claims {
        claim.items.iter().for_each(|item| going.add(item));
    }
    for (place, claim) in facts.claims.iter().enumerate() {
        if too_old(claim, facts.now, options) {
            going.give_up(place);
        }
    }
    going.forget_packed();
    if let Some(cap) = options.cap_bytes {
        going.shrink(cap, options);
    }
    going.decision()
}

fn too_old(claim: &Claim, now: SystemTime, options: &PruneOptions) -> bool {
    let Some(used) = claim.used else { return false };
    let age = now.duration_since(used).unwrap_or(Duration::ZERO);
    match &claim.reason {
        Reason::Image { in_use, .. } => options.unused_images && !in_use && age >= options.keep_images,
        // Made again at the cost of time only, and of use for as long as its layer: the cap decides, or the wish to have no cache at all.
        Reason::Packed => options.keep_cache.is_zero(),
        _ => age >= options.keep_cache,
    }
}

/// A decision in the making: how many claims hold each item.
struct Going<'a> {
    facts: &'a Facts<'a>,
    alive: Vec<bool>,
    counts: HashMap<&'a What, usize>,
    total: u64,
}

impl<'a> Going<'a> {
    fn size(&self, item: &What) -> u64 {
        self.facts.sizes.get(item).copied().unwrap_or(0)
    }

    fn add(&mut self, item: &'a What) {
        let count = self.counts.entry(item).or_insert(0);
        *count += 1;
        if *count == 1 {
            self.total += self.size(item);
        }
    }

    /// Says whether a layer lost its last claim.
    fn give_up(&mut self, place: usize) -> bool {
        let mut layer_gone = false;
        if std::mem::replace(&mut self.alive[place], false) {
            for item in &self.facts.claims[place].items {
                let Some(count) = self.counts.get_mut(item) else { continue };
                *count -= 1;
                if *count == 0 {
                    self.total -= self.size(item);
                    layer_gone |= matches!(item, What::Layer(_));
                }
            }
        }
        layer_gone
    }

    /// Packed forms of layers that go are of no use.
    fn forget_packed(&mut self) {
        let is_kept = |(item, count): (&&'a What, &usize)| if let (What::Layer(chain), 1..) = (item, *count) { Some(*chain) } else { None };
        let kept: BTreeSet<Digest> = self.counts.iter().filter_map(is_kept).filter_map(|chain| self.facts.diff_ids.get(&chain).copied()).collect();
        for place in 0..self.alive.len() {
            if self.facts.claims[place].packed.is_some_and(|diff_id| !kept.contains(&diff_id)) {
                self.give_up(place);
            }
        }
    }

    /// When a layer was of use last, by itself or below another one.
    fn latest_uses(&self) -> HashMap<Digest, SystemTime> {
        let mut latest = HashMap::new();
        for (place, claim) in self.facts.claims.iter().enumerate() {
            let (true, Some(used)) = (self.alive[place], claim.used) else { continue };
            for item in &claim.items {
                if let What::Layer(chain) = item {
                    let known = latest.entry(*chain).or_insert(used);
                    *known = used.max(*known);
                }
            }
        }
        latest
    }

    /// Gives up what was used least recently until everything that stays fits.
    fn shrink(&mut self, cap: u64, options: &PruneOptions) {
        let may_go = |claim: &Claim| match claim.reason {
            Reason::Image { in_use, .. } => options.unused_images && !in_use,
            _ => true,
        };
        let latest = self.latest_uses();
        let candidates = self.facts.claims.iter().enumerate().filter(|(place, claim)| self.alive[*place] && may_go(claim));
        // Of a chain that was used at one time the top goes first: what is below is of use without it, and the other way round nothing is gained.
        let turn = |(place, claim): (usize, &Claim)| {
            let used = claim.top.and_then(|top| latest.get(&top).copied()).or(claim.used)?;
            let depth = claim.items.iter().filter(|item| matches!(item, What::Layer(_))).count();
            Some((used, Reverse(depth), place))
        };
        let mut candidates: Vec<(SystemTime, Reverse<usize>, usize)> = candidates.filter_map(turn).collect();
        candidates.sort_unstable();
        for (.., place) in candidates {
            if self.total <= cap {
                return;
            }
            if self.give_up(place) {
                self.forget_packed();
            }
        }
    }

    fn decision(self) -> Decision {
        let mut decision = Decision::default();
        for (place, claim) in self.facts.claims.iter().enumerate() {
            if self.alive[place] {
                claim.items.iter().for_each(|item| decision.kept.entry(item.clone()).or_default().push(place));
            } else {
                decision.given_up.insert(place);
                if let Reason::Image { name, .. } = &claim.reason {
                    decision.untagged.push(name.clone());
                }
            }
        }
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn claim(reason: Reason, used: Option<u64>, items: &[&str]) -> Claim {
        Claim { reason, used: used.map(at), items: items.iter().map(|name| What::Fetched((*name).to_owned())).collect(), top: None, packed: None }
    }

    fn kept(claims: &[Claim], options: &PruneOptions) -> Vec<String> {
        let sizes: HashMap<What, u64> = claims.iter().flat_map(|claim| &claim.items).map(|item| (item.clone(), 10)).collect();
        let decision = decide(&Facts { claims, sizes: &sizes, diff_ids: &HashMap::new(), now: at(1000) }, options);
        let mut names: Vec<String> = decision.kept.keys().map(What::name).collect();
        names.sort();
        names
    }

    fn image(in_use: bool) -> Reason {
        Reason::Image { name: "image".to_owned(), in_use }
    }

    #[test]
    fn the_least_recently_used_goes_first_and_shared_items_stay() {
        let claims = [
            claim(Reason::Cache, Some(100), &["old", "shared"]),
            claim(Reason::Cache, Some(900), &["new", "shared"]),
            claim(Reason::Cache, Some(500), &["middle"]),
            claim(image(false), Some(1), &["image"]),
        ];
        let with = |cap: u64| kept(&claims, &PruneOptions { cap_bytes: Some(cap), ..PruneOptions::default() });
        assert_eq!(with(50), ["image", "middle", "new", "old", "shared"]);
        assert_eq!(with(49), ["image", "middle", "new", "shared"]);
        assert_eq!(with(39), ["image", "new", "shared"]);
        assert_eq!(with(20), ["image"]);
        assert_eq!(with(0), ["image"], "what is needed stays whatever the cap");
        let all = PruneOptions { cap_bytes: Some(0), unused_images: true, keep_images: Duration::MAX, ..PruneOptions::default() };
        assert_eq!(kept(&claims, &all), [""; 0]);
    }

    #[test]
    fn age_and_use_decide() {
        let claims = [
            claim(Reason::Cache, Some(100), &["old"]),
            claim(Reason::Cache, Some(900), &["new"]),
            claim(image(true), Some(1), &["used"]),
            claim(image(false), Some(1), &["idle"]),
        ];
        let keep_cache = |seconds| PruneOptions { keep_cache: Duration::from_secs(seconds), ..PruneOptions::default() };
        assert_eq!(kept(&claims, &keep_cache(500)), ["idle", "new", "used"]);
        assert_eq!(kept(&claims, &keep_cache(0)), ["idle", "used"]);
        assert_eq!(kept(&claims, &PruneOptions { unused_images: true, ..keep_cache(0) }), ["used"]);
        assert_eq!(kept(&claims, &PruneOptions { unused_images: true, keep_images: Duration::from_secs(5000), ..keep_cache(0) }), ["idle", "used"]);
    }

    #[test]
    fn of_a_chain_the_top_goes_first() {
        let layer = |name: &str| Digest::of(name.as_bytes());
        let step = |names: &[&str], used| {
            let items = names.iter().map(|name| What::Layer(layer(name))).chain([What::Record(layer(names[names.len() - 1]))]).collect();
            Claim { items, top: names.last().map(|name| layer(name)), ..claim(Reason::Cache, Some(used), &[]) }
        };
        // The base was looked up long ago, and is below what was used just now.
        let claims = [step(&["a"], 10), step(&["a", "b"], 20), step(&["a", "b", "c"], 900), step(&["x"], 500)];
        let sizes: HashMap<What, u64> =
            claims.iter().flat_map(|claim| &claim.items).map(|item| (item.clone(), if matches!(item, What::Layer(_)) { 10 } else { 0 })).collect();
        let kept = |cap| {
            let facts = Facts { claims: &claims, sizes: &sizes, diff_ids: &HashMap::new(), now: at(1000) };
            let decision = decide(&facts, &PruneOptions { cap_bytes: Some(cap), ..PruneOptions::default() });
            ["a", "b", "c", "x"].into_iter().filter(|name| decision.kept.contains_key(&What::Layer(layer(name)))).collect::<String>()
        };
        assert_eq!([kept(40), kept(30), kept(20), kept(10), kept(0)], ["abcx", "abc", "ab", "a", ""]);
    }

    #[test]
    fn a_packed_form_goes_with_its_layer() {
        let (chain, diff_id) = (Digest::of(b"chain"), Digest::of(b"diff"));
        let layer = Claim { items: BTreeSet::from([What::Layer(chain)]), ..claim(Reason::Cache, Some(10), &[]) };
        let packed = Claim { packed: Some(diff_id), ..claim(Reason::Packed, Some(999), &["blob"]) };
        let claims = [layer, packed];
        let diff_ids = HashMap::from([(chain, diff_id)]);
        let sizes = HashMap::from([(What::Layer(chain), 10), (What::Fetched("blob".to_owned()), 10)]);
        let facts = Facts { claims: &claims, sizes: &sizes, diff_ids: &diff_ids, now: at(1000) };
        assert_eq!(decide(&facts, &PruneOptions::default()).kept.len(), 2);
        assert_eq!(decide(&facts, &PruneOptions { keep_cache: Duration::from_secs(100), ..PruneOptions::default() }).kept.len(), 0);
        assert_eq!(decide(&facts, &PruneOptions { cap_bytes: Some(15), ..PruneOptions::default() }).kept.len(), 0);
    }
}
