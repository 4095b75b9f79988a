//! Plans and scripts to drive the scheduler with.

use std::collections::BTreeSet;

use proptest::prelude::*;
use strake_oci::ImageConfig;
use strake_plan::{BuildPlan, Copy, CopySource, Image, Mkdir, Op, Origin, Run, StepIndex};

/// Which lookups hit and which executions fail, by step.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub hits: BTreeSet<usize>,
    pub content_hits: BTreeSet<usize>,
    pub failures: BTreeSet<usize>,
}

pub fn any_script() -> impl Strategy<Value = Script> {
    let set = || prop::collection::btree_set(0usize..24, 0..8);
    (set(), set(), prop::collection::btree_set(0usize..24, 0..3)).prop_map(|(hits, content_hits, failures)| Script { hits, content_hits, failures })
}

/// One step to be: what it is, and where its inputs are among those before it.
type Seed = (u8, usize, usize, bool);

pub fn any_plan() -> impl Strategy<Value = BuildPlan> {
    let seeds = prop::collection::vec((0u8..5, any::<usize>(), any::<usize>(), prop::bool::weighted(0.1)), 0..20);
    (seeds, prop::collection::vec(any::<usize>(), 0..4)).prop_map(|(seeds, images)| plan_of(&seeds, &images))
}

fn plan_of(seeds: &[Seed], images: &[usize]) -> BuildPlan {
    let mut plan = BuildPlan::default();
    plan.push(Op::Scratch, Origin::default(), "base");
    for (number, (kind, first, second, no_cache)) in seeds.iter().enumerate() {
        let (parent, other) = (StepIndex(first % plan.steps.len()), StepIndex(second % plan.steps.len()));
        let op = match kind {
            0 => run(parent, &format!("{number}")),
            1 => Op::Mkdir(Mkdir { parent, path: format!("/{number}"), user: String::new() }),
            2 => copy(parent, CopySource::Context { name: "main".to_owned() }, number),
            3 => copy(parent, CopySource::Step { step: other }, number),
            _ => copy(parent, CopySource::Inline, number),
        };
        let origin = Origin { line: number as u32 + 2, no_cache: *no_cache, ..Origin::default() };
        plan.push(op, origin, "stage");
    }
    for place in images {
        let step = StepIndex(place % plan.steps.len());
        plan.images.push(image(step));
    }
    plan
}

pub fn image(step: StepIndex) -> Image {
    Image { tags: Vec::new(), step, config: ImageConfig::default(), history: Vec::new(), origin: Origin::default() }
}

pub fn run(parent: StepIndex, word: &str) -> Op {
    Op::Run(Run {
        parent,
        args: vec![word.to_owned()],
        env: Vec::new(),
        proxy_env: Vec::new(),
        cwd: "/".to_owned(),
        user: String::new(),
        mounts: Vec::new(),
        network: strake_plan::Network::Default,
        extra_hosts: Vec::new(),
        scripts: Vec::new(),
        platform: None,
        insecure: false,
        hostname: String::new(),
        ulimits: Vec::new(),
        resources: strake_plan::Resources::default(),
    })
}

pub fn copy(parent: StepIndex, from: CopySource, number: usize) -> Op {
    Op::Copy(Copy {
        parent,
        from,
        sources: vec![format!("{number}")],
        inline: Vec::new(),
        dest: "/".to_owned(),
        chown: None,
        chmod: None,
        exclude: Vec::new(),
        parents: false,
        link: false,
        add: None,
        also: Vec::new(),
    })
}
