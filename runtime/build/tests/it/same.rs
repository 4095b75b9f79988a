//! The same inputs give the same digests: in two stores, with one worker or many, whatever the clock and the directory order.

use crate::world::{Planned, World, digests};
use crate::{Needs, Test};

pub const TESTS: &[Test] = &[
    ("same::two_stores_and_any_number_of_workers", Needs::Root, two_stores_and_any_number_of_workers),
    ("same::runs_leave_nothing_of_the_machine", Needs::Containers, runs_leave_nothing_of_the_machine),
];

fn stages(
    world: &World,
    base: impl Fn(&mut Planned) -> strake_plan::StepIndex,
    last: impl Fn(&mut Planned, strake_plan::StepIndex) -> strake_plan::StepIndex,
) -> Planned {
    let mut plan = world.plan();
    let base = base(&mut plan);
    let mut ends = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let copied = plan.copy(base, &["src"], &format!("/{name}/"));
        let made = last(&mut plan, copied);
        ends.push(plan.mkdir(made, &format!("/work/{name}"), "1:2"));
    }
    let mut all = plan.scratch();
    for end in ends {
        all = plan.copy_from(all, end, &["/"], "/");
        plan.image(end);
    }
    plan.image(all);
    plan
}

fn fill(world: &World, backwards: bool) {
    let mut names: Vec<_> = (0..40).collect();
    if backwards {
        names.reverse();
    }
    for name in names {
        world.write(&format!("src/{}/{name}", name % 7), &format!("{name}").repeat(name * 300));
    }
    world.link("src/link", "0/7");
}

fn two_stores_and_any_number_of_workers() {
    let built = |workers, backwards| {
        let mut world = World::new();
        world.options.workers = workers;
        fill(&world, backwards);
        let plan = stages(&world, |plan| plan.scratch(), |_, step| step);
        digests(&world.build(&plan).unwrap())
    };
    let first = built(1, false);
    assert_eq!(first.len(), 5);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(first, built(8, true));
}

fn runs_leave_nothing_of_the_machine() {
    let built = |workers, pause| {
        let mut world = World::new();
        world.options.workers = workers;
        fill(&world, workers == 1);
        // Both stores get the same base whatever order its names were made in.
        let busybox = |plan: &mut Planned| plan.busybox(&world);
        let plan = stages(&world, busybox, |plan, step| plan.run(step, "echo made > /made; mkdir -p /var/x; ln /made /var/x/link; rm -r /bin/head"));
        std::thread::sleep(std::time::Duration::from_millis(pause));
        digests(&world.build(&plan).unwrap())
    };
    assert_eq!(built(1, 0), built(6, 1100));
}
