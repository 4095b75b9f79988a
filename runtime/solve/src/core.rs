//! The scheduler's state and its one transition.

use std::collections::BTreeSet;

use strake_plan::{BuildPlan, CopySource, MountKind, Op, StepIndex};

use crate::{Chain, Command, Ending, Event, ImageIndex, Subject};

/// The scheduler of one build.
#[derive(Clone, Debug)]
pub struct Core {
    nodes: Vec<Node>,
    /// Image to its step.
    images: Vec<StepIndex>,
    images_left: usize,
    workers: usize,
    ready: BTreeSet<Ready>,
    running: BTreeSet<Subject>,
    ending: Option<Ending>,
    ended: bool,
}

/// What is known of one step.
#[derive(Clone, Debug)]
struct Node {
    needed: bool,
    /// Reads build contexts: digested from the start.
    reads_contexts: bool,
    /// Reads other steps' files in a way that their content can stand for.
    reads_stages: bool,
    no_cache: bool,
    /// Inputs whose results are missing, and one more while its contexts are being digested.
    missing: usize,
    followers: Vec<StepIndex>,
    images: Vec<ImageIndex>,
    state: State,
}

/// How far a step is. It only ever moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Inputs are missing, or contexts are being digested.
    Waiting,
    /// Being looked up by its definition.
    Probing,
    /// The content of other stages' files is being digested.
    Keying,
    /// Being looked up by that content.
    ProbingContent,
    /// Being executed.
    Executing,
    /// Its result is there.
    Done(Chain),
}

/// Work that may start, most urgent first: short work that unlocks other work goes before long work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ready {
    Assemble(ImageIndex),
    Probe { step: StepIndex, by_content: bool },
    KeyStages(StepIndex),
    KeyContexts(StepIndex),
    Execute(StepIndex),
}

impl Core {
    /// A scheduler for `plan` that has at most `workers` commands running (at least one).
    pub fn new(plan: &BuildPlan, workers: usize) -> Self {
        let mut core = Core {
            nodes: plan.steps.iter().map(|step| Node::new(&step.op, step.origin.no_cache)).collect(),
            images: plan.images.iter().map(|image| image.step).collect(),
            images_left: plan.images.len(),
            workers: workers.max(1),
            ready: BTreeSet::new(),
            running: BTreeSet::new(),
            ending: None,
            ended: false,
        };
        core.mark_needed(plan);
        for (place, step) in plan.steps.iter().enumerate() {
            if !core.nodes[place].needed {
                continue;
            }
            let inputs = step.op.inputs();
            core.nodes[place].missing += inputs.len();
            inputs.iter().for_each(|input| core.nodes[input.0].followers.push(StepIndex(place)));
        }
        for (place, image) in plan.images.iter().enumerate() {
            core.nodes[image.step.0].images.push(ImageIndex(place));
        }
        core
    }

    /// Inputs stand before the steps that read them, so one pass from the end reaches all.
    fn mark_needed(&mut self, plan: &BuildPlan) {
        plan.images.iter().for_each(|image| self.nodes[image.step.0].needed = true);
        for place in (0..plan.steps.len()).rev() {
            if self.nodes[place].needed {
                plan.steps[place].op.inputs().iter().for_each(|input| self.nodes[input.0].needed = true);
            }
        }
    }

    /// True when some image needs the step.
    pub fn is_needed(&self, step: StepIndex) -> bool {
        self.nodes[step.0].needed
    }

    /// The result of a step, once it is there.
    pub fn chain(&self, step: StepIndex) -> Option<Chain> {
        match self.nodes[step.0].state {
            State::Done(chain) => Some(chain),
            _ => None,
        }
    }

    /// The results of the images' steps, in the plan's order, as far as they are there.
    pub fn image_chains(&self) -> Vec<Option<Chain>> {
        self.images.iter().map(|step| self.chain(*step)).collect()
    }

    fn start(&mut self) {
        for place in 0..self.nodes.len() {
            let node = &self.nodes[place];
            if !node.needed {
                continue;
            }
            if node.reads_contexts {
                self.ready.insert(Ready::KeyContexts(StepIndex(place)));
            } else if node.missing == 0 {
                self.look_up(StepIndex(place));
            }
        }
    }

    /// All that a step waits for is there.
    fn look_up(&mut self, step: StepIndex) {
        let node = &mut self.nodes[step.0];
        if node.no_cache {
            node.state = State::Executing;
            self.ready.insert(Ready::Execute(step));
        } else {
            node.state = State::Probing;
            self.ready.insert(Ready::Probe { step, by_content: false });
        }
    }

    fn one_less_missing(&mut self, step: StepIndex) {
        let node = &mut self.nodes[step.0];
        node.missing -= 1;
        if node.missing == 0 && node.state == State::Waiting {
            self.look_up(step);
        }
    }

    fn keyed(&mut self, step: StepIndex) {
        let node = &mut self.nodes[step.0];
        if node.state == State::Keying {
            node.state = State::ProbingContent;
            self.ready.insert(Ready::Probe { step, by_content: true });
        } else {
            self.one_less_missing(step);
        }
    }

    fn probed(&mut self, step: StepIndex, hit: Option<Chain>) {
        if let Some(chain) = hit {
            return self.done(step, chain);
        }
        let node = &mut self.nodes[step.0];
        if node.state == State::Probing && node.reads_stages {
            node.state = State::Keying;
            self.ready.insert(Ready::KeyStages(step));
        } else {
            node.state = State::Executing;
            self.ready.insert(Ready::Execute(step));
        }
    }

    fn done(&mut self, step: StepIndex, chain: Chain) {
        let node = &mut self.nodes[step.0];
        node.state = State::Done(chain);
        let images = std::mem::take(&mut node.images);
        let followers = std::mem::take(&mut node.followers);
        self.ready.extend(images.into_iter().map(Ready::Assemble));
        followers.into_iter().for_each(|follower| self.one_less_missing(follower));
    }

    /// The first ending stands; what runs is told to stop.
    fn give_up(&mut self, ending: Ending, commands: &mut Vec<Command>) {
        if self.ending.is_none() {
            self.ending = Some(ending);
            self.ready.clear();
            commands.extend(self.running.iter().map(|subject| Command::Stop { subject: *subject }));
        }
    }

    fn dispatch(&mut self, commands: &mut Vec<Command>) {
        while self.running.len() < self.workers && self.ending.is_none() {
            let Some(next) = self.ready.pop_first() else { break };
            let (subject, command) = next.command();
            self.running.insert(subject);
            commands.push(command);
        }
        if self.running.is_empty() && !self.ended {
            let built = || (self.images_left == 0).then_some(Ending::Built);
            if let Some(ending) = self.ending.clone().or_else(built) {
                self.ended = true;
                commands.push(Command::End(ending));
            }
        }
    }
}

impl Node {
    fn new(op: &Op, no_cache: bool) -> Self {
        let (reads_contexts, reads_stages) = reads(op);
        Node {
            needed: false,
            reads_contexts,
            reads_stages,
            no_cache,
            missing: usize::from(reads_contexts),
            followers: Vec::new(),
            images: Vec::new(),
            state: State::Waiting,
        }
    }
}

/// Whether an operation reads build contexts, and whether it reads chosen files of other steps.
fn reads(op: &Op) -> (bool, bool) {
    let of = |source: &CopySource| (matches!(source, CopySource::Context { .. }), matches!(source, CopySource::Step { .. }));
    match op {
        Op::Scratch | Op::Base { .. } | Op::Mkdir(_) => (false, false),
        Op::Copy(copy) => copy.also.iter().map(|further| of(&further.from)).fold(of(&copy.from), |all, one| (all.0 | one.0, all.1 | one.1)),
        // What a cache mount starts with is no part of the key.
        Op::Run(run) => run.mounts.iter().fold((false, false), |(contexts, stages), mount| match &mount.kind {
            MountKind::Bind { from, .. } => (contexts | of(from).0, stages | of(from).1),
            MountKind::Cache { .. } | MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => (contexts, stages),
        }),
    }
}

impl Ready {
    fn command(self) -> (Subject, Command) {
        match self {
            Ready::Assemble(image) => (Subject::Image(image), Command::Assemble { image }),
            Ready::Probe { step, by_content } => (Subject::Step(step), Command::Probe { step, by_content }),
            Ready::KeyStages(step) => (Subject::Step(step), Command::Key { step, stages: true }),
            Ready::KeyContexts(step) => (Subject::Step(step), Command::Key { step, stages: false }),
            Ready::Execute(step) => (Subject::Step(step), Command::Execute { step }),
        }
    }
}

/// Takes one event in and appends what is to be done now. An event for something that is not running (a late answer after [`Command::End`]) changes nothing.
pub fn on_event(core: &mut Core, event: Event, commands: &mut Vec<Command>) {
    let step = |step: StepIndex| Subject::Step(step);
    let answered = |core: &mut Core, subject: Subject| core.running.remove(&subject);
    match event {
        Event::Start => core.start(),
        Event::Cancelled => core.give_up(Ending::Cancelled, commands),
        Event::Failed { subject, reason } => {
            if answered(core, subject) {
                core.give_up(Ending::Failed { subject, reason }, commands);
            }
        }
        Event::ContentKeyed { step: of } if answered(core, step(of)) => core.keyed(of),
        Event::Probed { step: of, hit } if answered(core, step(of)) => core.probed(of, hit),
        Event::Finished { step: of, chain } if answered(core, step(of)) => core.done(of, chain),
        Event::Assembled { image } if answered(core, Subject::Image(image)) => core.images_left -= 1,
        Event::ContentKeyed { .. } | Event::Probed { .. } | Event::Finished { .. } | Event::Assembled { .. } => {}
    }
    if core.ending.is_some() {
        core.ready.clear();
    }
    core.dispatch(commands);
}
