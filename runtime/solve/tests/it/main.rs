//! The scheduler's laws, driven by its commands alone.

mod plans;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

use plans::{Script, any_plan, any_script};
use proptest::prelude::*;
use strake_oci::Digest;
use strake_plan::{BuildPlan, StepIndex};
use strake_solve::{Chain, Command, Core, Ending, Event, Subject, on_event};

/// What a run of the scheduler did.
#[derive(Debug, Default)]
struct Trace {
    executed: Vec<StepIndex>,
    probed: Vec<(StepIndex, bool)>,
    /// Most commands running at one time.
    most_running: usize,
    started_after_failure: usize,
    chains: Vec<Option<Chain>>,
    ending: Option<Ending>,
}

/// Answers every command by the script; which of the running ones is answered next is `order`'s choice.
fn drive(plan: &BuildPlan, workers: usize, script: &Script, order: &[usize]) -> Trace {
    let mut core = Core::new(plan, workers);
    let mut running: Vec<Command> = Vec::new();
    let mut trace = Trace::default();
    let mut commands = Vec::new();
    let mut failed = false;
    let mut results: BTreeMap<StepIndex, Chain> = BTreeMap::new();
    on_event(&mut core, Event::Start, &mut commands);
    for turn in 0.. {
        assert!(turn < 10_000, "the scheduler does not come to an end");
        for command in commands.drain(..) {
            match command {
                Command::End(ending) => {
                    assert!(running.is_empty(), "ended with work running");
                    trace.chains = core.image_chains();
                    trace.ending = Some(ending);
                    return trace;
                }
                Command::Stop { .. } => {}
                command => {
                    trace.started_after_failure += usize::from(failed);
                    check_inputs(plan, &command, &results);
                    running.push(command);
                }
            }
        }
        trace.most_running = trace.most_running.max(running.len());
        assert!(!running.is_empty(), "nothing runs and nothing ended");
        let pick = order.get(turn).copied().unwrap_or(0) % running.len();
        let event = answer(plan, &running.remove(pick), script, &mut trace, &mut results);
        failed |= matches!(event, Event::Failed { .. });
        on_event(&mut core, event, &mut commands);
    }
    unreachable!("the loop returns at the end of the build")
}

/// No step is looked up or executed before its inputs are there.
fn check_inputs(plan: &BuildPlan, command: &Command, results: &BTreeMap<StepIndex, Chain>) {
    let of = match command {
        Command::Probe { step, .. } | Command::Execute { step } | Command::Key { step, stages: true } => plan.step(*step).op.inputs(),
        Command::Assemble { image } => vec![plan.images[image.0].step],
        Command::Key { .. } | Command::Stop { .. } | Command::End(_) => Vec::new(),
    };
    for input in of {
        assert!(results.contains_key(&input), "{command:?} before its input {input:?}");
    }
}

fn answer(plan: &BuildPlan, command: &Command, script: &Script, trace: &mut Trace, results: &mut BTreeMap<StepIndex, Chain>) -> Event {
    // A step's result is a function of its definition alone.
    let chain = |step: &StepIndex| Some(Digest::of(plan.step(*step).id.0.as_bytes()));
    match command {
        Command::Key { step, .. } => Event::ContentKeyed { step: *step },
        Command::Probe { step, by_content } => {
            trace.probed.push((*step, *by_content));
            let hit = if *by_content { script.content_hits.contains(&step.0) } else { script.hits.contains(&step.0) };
            if hit {
                results.insert(*step, chain(step));
            }
            Event::Probed { step: *step, hit: hit.then(|| chain(step)) }
        }
        Command::Execute { step } => {
            trace.executed.push(*step);
            if script.failures.contains(&step.0) {
                return Event::Failed { subject: Subject::Step(*step), reason: "scripted".to_owned() };
            }
            results.insert(*step, chain(step));
            Event::Finished { step: *step, chain: chain(step) }
        }
        Command::Assemble { image } => Event::Assembled { image: *image },
        Command::Stop { .. } | Command::End(_) => unreachable!("not something that is answered"),
    }
}

proptest! {
    #[test]
    fn any_order_of_completion_gives_the_same_result(
        plan in any_plan(), script in any_script(), order in prop::collection::vec(0usize..64, 0..200), workers in 1usize..6,
    ) {
        let script = Script { failures: BTreeSet::new(), ..script };
        let first = drive(&plan, 1, &script, &[]);
        let second = drive(&plan, workers, &script, &order);
        prop_assert_eq!(&first.ending, &Some(Ending::Built));
        prop_assert_eq!(&first.ending, &second.ending);
        prop_assert_eq!(&first.chains, &second.chains);
        prop_assert!(first.chains.iter().all(Option::is_some));
        let executed = |trace: &Trace| trace.executed.iter().copied().collect::<BTreeSet<_>>();
        prop_assert_eq!(executed(&first), executed(&second));
    }

    #[test]
    fn a_step_is_executed_at_most_once_and_only_when_needed(
        plan in any_plan(), script in any_script(), order in prop::collection::vec(0usize..64, 0..200), workers in 1usize..6,
    ) {
        let trace = drive(&plan, workers, &script, &order);
        let once: BTreeSet<_> = trace.executed.iter().collect();
        prop_assert_eq!(once.len(), trace.executed.len());
        let probed: BTreeSet<_> = trace.probed.iter().collect();
        prop_assert_eq!(probed.len(), trace.probed.len());
        let core = Core::new(&plan, 1);
        prop_assert!(trace.executed.iter().all(|step| core.is_needed(*step)));
        prop_assert!(trace.executed.iter().all(|step| plan.step(*step).origin.no_cache || !script.hits.contains(&step.0)));
        prop_assert!(trace.most_running <= workers);
    }

    #[test]
    fn after_a_failure_nothing_starts_and_the_failed_step_is_named(
        plan in any_plan(), script in any_script(), order in prop::collection::vec(0usize..64, 0..200), workers in 1usize..6,
    ) {
        let trace = drive(&plan, workers, &script, &order);
        prop_assert_eq!(trace.started_after_failure, 0);
        match trace.ending {
            Some(Ending::Failed { subject: Subject::Step(step), .. }) => prop_assert!(script.failures.contains(&step.0)),
            other => {
                prop_assert_eq!(other, Some(Ending::Built));
                prop_assert!(trace.executed.iter().all(|step| !script.failures.contains(&step.0)));
            }
        }
    }
}
