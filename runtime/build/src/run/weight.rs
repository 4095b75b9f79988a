//! Which RUNs give way to others while there are fewer processors than programs.
//!
//! What is copied into a stage is what its programs work on: the path that carries most of a build's files is likely the longest, and the build is over when that
//! path is. Its steps run as any program does; those on paths that carry little give way to them.

use strake_plan::{BuildPlan, Op, StepIndex};

use crate::session::Session;

/// A path that carries less than this is not worth giving way to.
const HEAVY_BYTES: u64 = 32 << 20;
/// A path is light beside one that carries so many times as much.
const TIMES: u64 = 4;
/// A third of the processor time that others get (sched(7), "The nice value").
const GIVES_WAY: u8 = 5;

/// How much the RUN `index` gives way, as nice(2) counts.
pub(super) fn niceness(session: &Session<'_>, index: StepIndex) -> u8 {
    decide(session.plan, index, &|step| session.context_bytes(step), &|step| session.chain(step).is_some())
}

/// The same of a plan: by how much each step reads from contexts, and which RUNs are done.
fn decide(plan: &BuildPlan, index: StepIndex, reads: &dyn Fn(StepIndex) -> u64, done: &dyn Fn(StepIndex) -> bool) -> u8 {
    // Inputs stand before what reads them: each step's path is known when it is needed.
    let mut carried: Vec<u64> = Vec::with_capacity(plan.steps.len());
    let mut heaviest = 0;
    for (place, step) in plan.steps.iter().enumerate() {
        let above = step.op.parent().map_or(0, |parent| carried.get(parent.0).copied().unwrap_or(0));
        let bytes = above.saturating_add(reads(StepIndex(place)));
        carried.push(bytes);
        if matches!(step.op, Op::Run(_)) && !done(StepIndex(place)) {
            heaviest = heaviest.max(bytes);
        }
    }
    let own = carried.get(index.0).copied().unwrap_or(0);
    if heaviest >= HEAVY_BYTES && own <= heaviest / TIMES { GIVES_WAY } else { 0 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use strake_plan::{BuildPlan, Copy, CopySource, Op, Origin, Run, StepIndex};

    use super::{GIVES_WAY, decide};

    const MB: u64 = 1 << 20;

    /// A base, a stage that copies the context and runs two programs, and one that runs two others.
    fn plan() -> (BuildPlan, [StepIndex; 6]) {
        let mut plan = BuildPlan::default();
        let run = |plan: &mut BuildPlan, parent: StepIndex, text: &str| {
            let run: Run = serde_json::from_value(json!({ "parent": parent, "args": [text], "env": [], "cwd": "/", "user": "" })).unwrap();
            plan.push(Op::Run(run), Origin::default(), "stage")
        };
        let base = plan.push(Op::Scratch, Origin::default(), "base");
        let from = CopySource::Context { name: String::new() };
        let copy: Copy = serde_json::from_value(json!({ "parent": base, "from": from, "sources": ["src"], "dest": "/src" })).unwrap();
        let copy = plan.push(Op::Copy(copy), Origin::default(), "heavy");
        let (first, second) = (run(&mut plan, copy, "sum"), run(&mut plan, copy, "other"));
        let last = run(&mut plan, first, "pack");
        let light = run(&mut plan, base, "seq");
        (plan, [copy, first, second, last, light, base])
    }

    #[test]
    fn light_paths_give_way_to_one_that_carries_much() {
        let (plan, [copy, first, second, last, light, _]) = plan();
        let nice = |bytes: u64, step, done: &[StepIndex]| decide(&plan, step, &|read| if read == copy { bytes } else { 0 }, &|step| done.contains(&step));
        for step in [first, second, last] {
            assert_eq!(nice(200 * MB, step, &[]), 0, "what carries it does not give way");
        }
        assert_eq!(nice(200 * MB, light, &[]), GIVES_WAY);
        assert_eq!(nice(200 * MB, light, &[first]), GIVES_WAY, "a step of the heavy path is still to come");
        assert_eq!(nice(200 * MB, light, &[first, second, last]), 0, "the heavy path is over");
        assert_eq!(nice(MB, light, &[]), 0, "little is not worth it");
    }

    #[test]
    fn paths_that_carry_about_as_much_are_equals() {
        let (plan, [copy, first, _, _, light, base]) = plan();
        let reads = |step: StepIndex| if step == copy || step == base { 100 * MB } else { 0 };
        assert_eq!(decide(&plan, light, &reads, &|_| false), 0);
        assert_eq!(decide(&plan, first, &reads, &|_| false), 0);
    }
}
