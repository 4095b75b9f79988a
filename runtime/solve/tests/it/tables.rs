//! Transcripts of small builds.

use strake_plan::{BuildPlan, CopySource, Op, Origin, StepIndex};
use strake_solve::{Command, Core, Ending, Event, ImageIndex, Subject, on_event};

use crate::plans::{copy, image, run};

fn say(core: &mut Core, event: Event) -> Vec<Command> {
    let mut commands = Vec::new();
    on_event(core, event, &mut commands);
    commands
}

/// scratch <- copy from context <- run; a stage nobody needs; one image.
fn small_plan() -> BuildPlan {
    let mut plan = BuildPlan::default();
    let base = plan.push(Op::Scratch, Origin::default(), "base");
    let copied = plan.push(copy(base, CopySource::Context { name: "main".to_owned() }, 1), Origin::default(), "base");
    let made = plan.push(run(copied, "make"), Origin::default(), "base");
    plan.push(run(base, "unneeded"), Origin::default(), "other");
    plan.images.push(image(made));
    plan
}

const BASE: StepIndex = StepIndex(0);
const COPIED: StepIndex = StepIndex(1);
const MADE: StepIndex = StepIndex(2);

#[test]
fn contexts_are_digested_while_inputs_are_looked_up() {
    let mut core = Core::new(&small_plan(), 4);
    let probe = |step| Command::Probe { step, by_content: false };
    assert_eq!(say(&mut core, Event::Start), [probe(BASE), Command::Key { step: COPIED, stages: false }]);
    assert_eq!(say(&mut core, Event::Probed { step: BASE, hit: Some(None) }), []);
    assert_eq!(say(&mut core, Event::ContentKeyed { step: COPIED }), [probe(COPIED)]);
    assert_eq!(say(&mut core, Event::Probed { step: COPIED, hit: None }), [Command::Execute { step: COPIED }]);
    assert_eq!(say(&mut core, Event::Finished { step: COPIED, chain: None }), [probe(MADE)]);
    assert_eq!(say(&mut core, Event::Probed { step: MADE, hit: Some(None) }), [Command::Assemble { image: ImageIndex(0) }]);
    assert_eq!(say(&mut core, Event::Assembled { image: ImageIndex(0) }), [Command::End(Ending::Built)]);
    assert!(!core.is_needed(StepIndex(3)));
}

#[test]
fn a_copy_between_stages_is_looked_up_twice_before_it_is_executed() {
    let mut plan = BuildPlan::default();
    let base = plan.push(Op::Scratch, Origin::default(), "a");
    let built = plan.push(run(base, "build"), Origin::default(), "a");
    let copied = plan.push(copy(base, CopySource::Step { step: built }, 1), Origin::default(), "b");
    plan.images.push(image(copied));
    let mut core = Core::new(&plan, 1);
    say(&mut core, Event::Start);
    say(&mut core, Event::Probed { step: base, hit: Some(None) });
    let commands = say(&mut core, Event::Probed { step: built, hit: Some(None) });
    assert_eq!(commands, [Command::Probe { step: copied, by_content: false }]);
    assert_eq!(say(&mut core, Event::Probed { step: copied, hit: None }), [Command::Key { step: copied, stages: true }]);
    assert_eq!(say(&mut core, Event::ContentKeyed { step: copied }), [Command::Probe { step: copied, by_content: true }]);
    assert_eq!(say(&mut core, Event::Probed { step: copied, hit: None }), [Command::Execute { step: copied }]);
}

#[test]
fn no_cache_goes_straight_to_execution() {
    let mut plan = BuildPlan::default();
    let base = plan.push(Op::Scratch, Origin::default(), "a");
    let made = plan.push(run(base, "make"), Origin { no_cache: true, ..Origin::default() }, "a");
    plan.images.push(image(made));
    let mut core = Core::new(&plan, 2);
    say(&mut core, Event::Start);
    assert_eq!(say(&mut core, Event::Probed { step: base, hit: Some(None) }), [Command::Execute { step: made }]);
}

#[test]
fn cancelling_stops_what_runs_and_ends_when_it_has_stopped() {
    let mut core = Core::new(&small_plan(), 4);
    say(&mut core, Event::Start);
    let stopped = say(&mut core, Event::Cancelled);
    assert_eq!(stopped, [Command::Stop { subject: Subject::Step(BASE) }, Command::Stop { subject: Subject::Step(COPIED) }]);
    assert_eq!(say(&mut core, Event::Probed { step: BASE, hit: Some(None) }), []);
    let gave_up = Event::Failed { subject: Subject::Step(COPIED), reason: "given up".to_owned() };
    assert_eq!(say(&mut core, gave_up.clone()), [Command::End(Ending::Cancelled)]);
    assert_eq!(say(&mut core, gave_up), [], "a late answer changes nothing");
}

#[test]
fn the_first_failure_is_named_and_ends_the_build() {
    let mut core = Core::new(&small_plan(), 4);
    say(&mut core, Event::Start);
    let subject = Subject::Step(COPIED);
    let commands = say(&mut core, Event::Failed { subject, reason: "no such file".to_owned() });
    assert_eq!(commands, [Command::Stop { subject: Subject::Step(BASE) }]);
    let commands = say(&mut core, Event::Probed { step: BASE, hit: Some(None) });
    assert_eq!(commands, [Command::End(Ending::Failed { subject, reason: "no such file".to_owned() })]);
}

#[test]
fn a_plan_without_images_ends_at_once() {
    let mut core = Core::new(&BuildPlan::default(), 2);
    assert_eq!(say(&mut core, Event::Start), [Command::End(Ending::Built)]);
}
