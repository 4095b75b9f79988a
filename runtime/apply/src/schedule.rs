//! Which change may begin: knows the plan's edges and stages and how far each change has come, and nothing of a cluster.

use std::collections::BTreeSet;

use strake_plan::{DeployPlan, Wanted};

/// How far a change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Waiting,
    Begun,
    /// It exists.
    Present,
    /// It is as it should be.
    Ready,
    /// It was refused, or is not healthy.
    Failed,
    /// Something that it needs has failed.
    Skipped,
}

/// A plan on its way.
pub(crate) struct Schedule {
    places: Vec<Place>,
    stages: Vec<usize>,
    /// Edges that are not met yet.
    missing: Vec<usize>,
    /// Who waits for it, and for what.
    dependants: Vec<Vec<(usize, Wanted)>>,
    /// Changes whose edges are met, by stage.
    free: BTreeSet<(usize, usize)>,
    /// By stage: changes that are not as they should be yet.
    open: Vec<usize>,
    /// The first change that has failed, with its stage.
    failed: Option<(usize, usize)>,
}

impl Schedule {
    /// Nothing has begun.
    pub(crate) fn new(plan: &DeployPlan) -> Schedule {
        let count = plan.changes.len();
        let mut dependants = vec![Vec::new(); count];
        let mut missing = vec![0; count];
        for (place, change) in plan.changes.iter().enumerate() {
            for edge in change.after.iter().filter(|edge| edge.change.0 < count) {
                dependants[edge.change.0].push((place, edge.state));
                missing[place] += 1;
            }
        }
        let stages: Vec<usize> = plan.changes.iter().map(|change| change.stage).collect();
        let mut open = vec![0; stages.iter().max().map_or(0, |most| most + 1)];
        stages.iter().for_each(|stage| open[*stage] += 1);
        let free = (0..count).filter(|place| missing[*place] == 0).map(|place| (stages[place], place)).collect();
        Schedule { places: vec![Place::Waiting; count], stages, missing, dependants, free, open, failed: None }
    }

    /// The changes that may begin now; they count as begun.
    pub(crate) fn next(&mut self) -> Vec<usize> {
        let stage = self.open.iter().position(|left| *left > 0).unwrap_or(self.open.len());
        let next: Vec<(usize, usize)> = self.free.iter().copied().take_while(|(own, _)| *own <= stage).collect();
        let failed = self.failed.map(|(_, stage)| stage);
        let next = next.into_iter().filter(|(own, _)| failed.is_none_or(|failed| *own <= failed));
        let next: Vec<usize> = next.map(|(_, place)| place).collect();
        for place in &next {
            self.free.remove(&(self.stages[*place], *place));
            self.places[*place] = Place::Begun;
        }
        next
    }

    /// It exists.
    pub(crate) fn present(&mut self, place: usize) {
        if self.places[place] == Place::Begun {
            self.places[place] = Place::Present;
            self.meet(place, |wanted| wanted == Wanted::Present);
        }
    }

    /// It is as it should be.
    pub(crate) fn ready(&mut self, place: usize) {
        self.present(place);
        if self.places[place] == Place::Present {
            self.places[place] = Place::Ready;
            self.open[self.stages[place]] -= 1;
            self.meet(place, |wanted| wanted != Wanted::Present);
        }
    }

    /// Whether it is as it should be.
    pub(crate) fn is_ready(&self, place: usize) -> bool {
        self.places[place] == Place::Ready
    }

    fn meet(&mut self, place: usize, met: impl Fn(Wanted) -> bool) {
        for (other, _) in self.dependants[place].clone().into_iter().filter(|(_, wanted)| met(*wanted)) {
            self.missing[other] -= 1;
            if self.missing[other] == 0 && self.places[other] == Place::Waiting {
                self.free.insert((self.stages[other], other));
            }
        }
    }

    /// It has failed: what needs it is skipped. Each of those with what it needs.
    pub(crate) fn failed(&mut self, place: usize) -> Vec<(usize, usize)> {
        // What wanted no more than that it exists has what it wanted.
        let exists = self.places[place] == Place::Present;
        self.places[place] = Place::Failed;
        if self.failed.is_none_or(|(_, stage)| self.stages[place] < stage) {
            self.failed = Some((place, self.stages[place]));
        }
        let mut skipped = Vec::new();
        let mut causes = vec![(place, exists)];
        while let Some((cause, exists)) = causes.pop() {
            for (other, wanted) in self.dependants[cause].clone() {
                if self.places[other] == Place::Waiting && !(exists && wanted == Wanted::Present) {
                    self.places[other] = Place::Skipped;
                    self.free.remove(&(self.stages[other], other));
                    skipped.push((other, cause));
                    causes.push((other, false));
                }
            }
        }
        skipped
    }

    /// What was never begun, because something of an earlier stage has failed: each with that.
    pub(crate) fn left(&self) -> Vec<(usize, usize)> {
        let Some((cause, _)) = self.failed else { return Vec::new() };
        (0..self.places.len()).filter(|place| self.places[*place] == Place::Waiting).map(|place| (place, cause)).collect()
    }

    /// How far somebody waits for this change to come; `None` when nobody does.
    pub(crate) fn wanted(&self, place: usize) -> Option<Wanted> {
        let edges = self.dependants[place].iter().map(|(_, wanted)| *wanted).max().filter(|wanted| *wanted != Wanted::Present);
        let later = (self.stages[place] + 1 < self.open.len()).then_some(Wanted::Ready);
        edges.max(later)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use strake_plan::{Change, ChangeId, Edge};

    use super::*;

    fn plan(changes: &[(usize, &[(usize, Wanted)])]) -> DeployPlan {
        let change = |(stage, after): &(usize, &[(usize, Wanted)])| Change {
            stage: *stage,
            after: after.iter().map(|(place, state)| Edge { change: ChangeId(*place), state: *state }).collect(),
            ..Change::default()
        };
        DeployPlan { changes: changes.iter().map(change).collect(), ..DeployPlan::default() }
    }

    #[test]
    fn changes_begin_as_soon_as_what_they_need_is_there_and_not_level_by_level() {
        // 0 is slow; 1 needs 0 to be ready, 2 that it exists, 3 needs 2, 4 needs nothing.
        let mut schedule = Schedule::new(&plan(&[(0, &[]), (0, &[(0, Wanted::Ready)]), (0, &[(0, Wanted::Present)]), (0, &[(2, Wanted::Ready)]), (0, &[])]));
        assert_eq!(schedule.next(), [0, 4]);
        schedule.present(0);
        assert_eq!(schedule.next(), [2]);
        schedule.ready(2);
        assert_eq!(schedule.next(), [3], "while 0 is still on its way");
        schedule.ready(0);
        assert_eq!(schedule.next(), [1]);
        assert_eq!((schedule.wanted(0), schedule.wanted(2), schedule.wanted(4)), (Some(Wanted::Ready), Some(Wanted::Ready), None));
    }

    #[test]
    fn what_needs_something_that_failed_is_skipped_and_the_rest_goes_on() {
        let mut schedule = Schedule::new(&plan(&[(0, &[]), (0, &[(0, Wanted::Ready)]), (0, &[(1, Wanted::Present)]), (0, &[(0, Wanted::Present)]), (0, &[])]));
        assert_eq!(schedule.next(), [0, 4]);
        schedule.present(0);
        assert_eq!(schedule.next(), [3]);
        assert_eq!(schedule.failed(0), [(1, 0), (2, 1)], "3 has what it needs");
        assert!(schedule.next().is_empty() && schedule.left().is_empty());
    }

    #[test]
    fn a_stage_begins_when_the_one_before_is_healthy_and_never_after_a_failure() {
        let staged = plan(&[(0, &[]), (1, &[]), (1, &[]), (2, &[])]);
        let mut schedule = Schedule::new(&staged);
        assert_eq!(schedule.next(), [0]);
        schedule.present(0);
        assert!(schedule.next().is_empty());
        schedule.ready(0);
        assert_eq!(schedule.next(), [1, 2]);
        schedule.failed(1);
        schedule.ready(2);
        assert!(schedule.next().is_empty());
        assert_eq!(schedule.left(), [(3, 1)]);
    }

    proptest! {
        #[test]
        fn every_change_comes_to_an_end_once_and_never_before_what_it_needs(
            shape in prop::collection::vec((0usize..3, prop::collection::vec((0usize..20, 0usize..3), 0..4), prop::bool::weighted(0.1)), 1..20)
        ) {
            let states = [Wanted::Present, Wanted::Ready, Wanted::Complete];
            // Stages do not go backwards along an edge: the compiler has seen to that.
            let mut changes: Vec<Change> = Vec::new();
            for (stage, edges, _) in &shape {
                let place = changes.len();
                let after: Vec<Edge> = edges.iter().filter(|(to, _)| *to < place).map(|(to, state)| Edge { change: ChangeId(*to), state: states[*state] }).collect();
                let stage = after.iter().map(|edge| changes[edge.change.0].stage).fold(*stage, usize::max);
                changes.push(Change { stage, after, ..Change::default() });
            }
            let plan = DeployPlan { changes, ..DeployPlan::default() };
            let mut schedule = Schedule::new(&plan);
            let (mut done, mut failed, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
            loop {
                let next = schedule.next();
                if next.is_empty() {
                    break;
                }
                for place in next {
                    for edge in &plan.changes[place].after {
                        prop_assert!(done.contains(&edge.change.0) || (edge.state == Wanted::Present && failed.contains(&edge.change.0)));
                    }
                    prop_assert!(plan.changes.iter().enumerate().all(|(other, change)| change.stage >= plan.changes[place].stage || done.contains(&other)));
                    schedule.present(place);
                    if shape[place].2 {
                        failed.push(place);
                        skipped.extend(schedule.failed(place).into_iter().map(|(other, _)| other));
                    } else {
                        schedule.ready(place);
                        done.push(place);
                    }
                }
            }
            skipped.extend(schedule.left().into_iter().map(|(other, _)| other));
            let mut all: Vec<usize> = done.iter().chain(&failed).chain(&skipped).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..plan.changes.len()).collect::<Vec<_>>(), "each once");
            prop_assert!(skipped.is_empty() || !failed.is_empty());
        }
    }
}
