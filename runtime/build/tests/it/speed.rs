//! How long things take, printed and not judged: other work may be going on. `make bench` compares; what is asserted here is what was not done.

use std::time::{Duration, Instant};

use crate::world::World;
use crate::{Needs, Test};

pub const TESTS: &[Test] = &[
    ("speed::a_build_that_changes_nothing", Needs::Root, a_build_that_changes_nothing),
    ("speed::the_overhead_of_a_run", Needs::Containers, the_overhead_of_a_run),
];

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn timed(count: usize, mut work: impl FnMut()) -> Duration {
    let mut times = Vec::new();
    for _ in 0..count {
        let begin = Instant::now();
        work();
        times.push(begin.elapsed());
    }
    median(times)
}

/// 30 steps over 2,000 files.
fn a_build_that_changes_nothing() {
    let world = World::new();
    for file in 0..2000 {
        world.write(&format!("src/d{:02}/f{:02}", file / 100, file % 100), &format!("{file}").repeat(500));
    }
    let mut plan = world.plan();
    let mut step = plan.scratch();
    for number in 0..29 {
        step = if number % 10 == 9 { plan.copy(step, &["src"], &format!("/copy-{number}/")) } else { plan.mkdir(step, &format!("/w/{number}"), "") };
    }
    plan.image(step);
    let begin = Instant::now();
    world.build(&plan).unwrap();
    let first = begin.elapsed();
    std::thread::sleep(Duration::from_millis(50));
    world.build(&plan).unwrap();
    world.told.take();
    let again = timed(9, || drop(world.build(&plan).unwrap()));
    assert!(world.told.executed().is_empty());
    println!("    first build {first:?}, a build that changes nothing {again:?}");
}

fn the_overhead_of_a_run() {
    let world = World::new();
    let mut number = 0;
    let mut once = || {
        number += 1;
        let mut plan = world.plan();
        let base = plan.busybox(&world);
        let step = plan.run_so(base, "", |run| {
            run.args = vec!["/bin/true".to_owned()];
            run.env.push(format!("N={number}"));
        });
        plan.image(step);
        world.build(&plan).unwrap();
    };
    once();
    world.told.take();
    let each = timed(15, &mut once);
    println!("    a build with one new RUN {each:?}");
}
