//! What the store takes on disk.

use std::fs;

use strake_store::PruneOptions;

use crate::world::World;
use crate::{Needs, Test};

pub const TESTS: &[Test] =
    &[("room::ten_images_that_share_a_base_take_the_room_of_what_differs", Needs::Root, ten_images_that_share_a_base_take_the_room_of_what_differs)];

const MB: usize = 1 << 20;

/// Bytes that are not all the same, and other ones for each seed.
fn noise(seed: u64, size_bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(step).take(size_bytes).collect()
}

fn ten_images_that_share_a_base_take_the_room_of_what_differs() {
    let world = World::new();
    let (files, images) = (24, 10);
    fs::create_dir_all(world.context().join("base")).unwrap();
    for number in 0..files {
        fs::write(world.context().join(format!("base/{number}")), noise(number, MB / 2)).unwrap();
    }
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let base = plan.copy(scratch, &["base"], "/");
    for number in 0..images {
        fs::write(world.context().join(format!("changed-{number}")), noise(1000 + number, MB / 2)).unwrap();
        let step = plan.copy(base, &[&format!("changed-{number}")], &format!("/{}", number % files));
        plan.image(step);
    }
    world.build(&plan).unwrap();
    let report = world.store.prune(PruneOptions { dry_run: true, ..PruneOptions::default() }).unwrap();
    let unique = (files + images) * (MB / 2) as u64;
    assert_eq!(report.size_bytes, 0, "nothing superfluous");
    let limit = unique + unique / 20;
    assert!(report.kept_bytes <= limit, "{} bytes on disk for {unique} unique ones", report.kept_bytes);
    assert_eq!(world.store.images().unwrap().len(), 10);
}
