//! A copy that differs little from the one before is made of what differs only: with the same digest as one that was made in full, and less on disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use strake_oci::Digest;
use strake_plan::StepIndex;
use strake_store::PruneOptions;

use crate::world::{Planned, World, digests};
use crate::{Needs, Test};

pub const TESTS: &[Test] = &[
    ("vary::only_what_differs_is_written", Needs::Root, only_what_differs_is_written),
    ("vary::any_edits_give_what_a_full_copy_gives", Needs::Root, any_edits_give_what_a_full_copy_gives),
    ("vary::what_shows_through_stays", Needs::Root, what_shows_through_stays),
];

const FILES: usize = 40;

fn name(number: usize) -> String {
    format!("app/d{}/f{number}", number % 4)
}

/// A file system with one file in the way and one beside it, and the directory `app` copied onto it.
fn plan(world: &World) -> Planned {
    let mut plan = world.plan();
    let below = below(world, &mut plan);
    let step = plan.copy(below, &["app"], "/srv");
    plan.image(step);
    plan
}

fn below(world: &World, plan: &mut Planned) -> StepIndex {
    world.write("base/srv/d1/f1", "of the base");
    world.write("base/srv/d1/other", "beside");
    world.write("base/etc/passwd", "root:x:0:0::/:/bin/sh\n");
    let scratch = plan.scratch();
    plan.copy(scratch, &["base"], "/")
}

fn fill(world: &World) {
    (0..FILES).for_each(|number| world.write(&name(number), &format!("file {number}")));
}

/// What the same context gives in a store that has nothing.
fn in_full(world: &World) -> Vec<Digest> {
    let mut fresh = World::new();
    fresh.options = world.options.clone();
    digests(&fresh.build(&plan(world)).unwrap())
}

fn only_what_differs_is_written() {
    let world = World::new();
    fill(&world);
    let plan = plan(&world);
    let first = world.build(&plan).unwrap();
    assert_eq!(world.top_layer(&first[0]).iter().filter(|line| line.starts_with('f')).count(), FILES);

    world.write(&name(7), "changed");
    world.write("app/d2/new", "new");
    fs::set_permissions(world.context().join(name(9)), fs::Permissions::from_mode(0o600)).unwrap();
    let second = world.build(&plan).unwrap();
    let written: Vec<String> = world.top_layer(&second[0]).into_iter().filter(|line| line.starts_with('f')).collect();
    assert_eq!(written, ["f 600 0:0 srv/d1/f9 = file 9", "f 644 0:0 srv/d2/new = new", "f 644 0:0 srv/d3/f7 = changed"]);
    assert_eq!(digests(&second), in_full(&world));
    let all = world.list(&second[0]);
    assert!(all.contains(&"f 644 0:0 srv/d1/other = beside".to_owned()) && all.contains(&"f 644 0:0 srv/d1/f1 = file 1".to_owned()), "{all:#?}");
    assert_eq!(all.iter().filter(|line| line.starts_with('f')).count(), FILES + 3);

    // What is gone would show through: it is made in full, and what was below comes to light.
    fs::remove_file(world.context().join(name(1))).unwrap();
    let third = world.build(&plan).unwrap();
    assert_eq!(world.top_layer(&third[0]).iter().filter(|line| line.starts_with('f')).count(), FILES);
    assert!(world.list(&third[0]).contains(&"f 644 0:0 srv/d1/f1 = of the base".to_owned()));
    assert_eq!(digests(&third), in_full(&world));
}

/// Rounds of edits that a seed chooses: warm and cold agree each time, and the store stays sound.
fn any_edits_give_what_a_full_copy_gives() {
    let world = World::new();
    fill(&world);
    let plan = plan(&world);
    let mut state = 2_026u64;
    let mut dice = |sides: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    };
    let mut variations = 0;
    for round in 0..40 {
        for _ in 0..=dice(4) {
            let path = world.context().join(name(dice(FILES as u64 + 6) as usize));
            match dice(8) {
                0..4 => world.write(path.strip_prefix(world.context()).unwrap().to_str().unwrap(), &format!("round {round}")),
                4 => drop(fs::set_permissions(&path, fs::Permissions::from_mode(0o700 | dice(64) as u32))),
                5 => drop(fs::remove_file(&path)),
                6 => {
                    let _ = fs::remove_file(&path);
                    std::os::unix::fs::symlink(format!("to-{round}"), &path).unwrap();
                }
                _ => drop(fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o755 - dice(2) as u32 * 5))),
            }
        }
        let warm = world.build(&plan).unwrap();
        assert_eq!(digests(&warm), in_full(&world), "round {round}");
        variations += usize::from(world.top_layer(&warm[0]).len() < FILES / 2);
    }
    assert!(variations >= 10, "{variations} of the rounds were made as variations: the others prove nothing");
    let problems = world.store.verify().unwrap();
    assert!(problems.is_empty(), "{problems:?}");
}

fn what_shows_through_stays() {
    let world = World::new();
    fill(&world);
    let plan = plan(&world);
    let first = world.build(&plan).unwrap();
    world.write(&name(3), "changed");
    let second = world.build(&plan).unwrap();
    // The first image lost its name to the second, and the cache is given up: but its layer is what most of the second shows.
    let all = PruneOptions { keep_cache: Duration::ZERO, ..PruneOptions::default() };
    world.store.prune(all).unwrap();
    assert!(world.store.has_chain(&first[0].layers[1].chain_id));
    assert_eq!(world.list(&second[0]).iter().filter(|line| line.starts_with('f')).count(), FILES + 2);
    let problems = world.store.verify().unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    // With the second image everything goes.
    assert!(world.store.remove_image("localhost/test:0").unwrap());
    world.store.prune(all).unwrap();
    assert!(!world.store.has_chain(&first[0].layers[1].chain_id) && !world.store.has_chain(&second[0].layers[1].chain_id));
}
