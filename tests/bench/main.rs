//! `make bench`: strake and its peers on the same work in one run, printed as ratios. A figure alone moves from machine to machine; a ratio of one run holds.
//!
//! Words choose: `build`, `cluster`, `watch`, `compile`, `plan`, `shop` or `sync` for one part, an app's name (`runs`, `b`, `files`, `copies`, `stages`, `layer`, `store`) for one work, `quick` for a
//! tenth of the sizes, `alone` for strake without its peers. No word at all is everything.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench is a program that prints")]

mod apps;
mod builds;
mod cluster;
mod deploy;
mod floor;
mod follow;
mod moving;
mod peers;
mod report;
mod usage;
mod watch;

use apps::Sizes;
use report::Report;

/// Parts that build nothing beside other builders.
const PARTS: [&str; 6] = ["cluster", "watch", "compile", "plan", "shop", "sync"];
/// Words that choose no work.
const MANNERS: [&str; 2] = ["quick", "alone"];

fn main() {
    if let Some(reason) = strake_tests::cannot_run(&[]) {
        eprintln!("bench needs root and util-linux: {reason}");
        std::process::exit(1);
    }
    let mut works: Vec<&str> = builds::names().collect();
    works.extend(["layer", "store"]);
    works.extend(PARTS);
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(odd) = words.iter().find(|word| *word != "build" && !MANNERS.contains(&word.as_str()) && !works.contains(&word.as_str())) {
        eprintln!("bench: `{odd}` is none of build, {}, {}", works.join(", "), MANNERS.join(", "));
        std::process::exit(2);
    }
    let said = |word: &str| words.iter().any(|found| found == word);
    let all = words.iter().all(|word| MANNERS.contains(&word.as_str()));
    works.retain(|work| all || said(work) || (said("build") && !PARTS.contains(work)));
    let sizes = if said("quick") { Sizes::QUICK } else { Sizes::FULL };
    let world = strake_tests::World::new();
    let mut report = Report::default();
    println!("load of the machine at the start: {}", load());
    builds(&world, &works, sizes, said("alone"), &mut report);
    if works.contains(&"cluster") {
        cluster::measure(&mut report);
    }
    if works.contains(&"watch") {
        watch::measure(&mut report);
    }
    let objects = if said("quick") { 100 } else { 1000 };
    if works.contains(&"compile") {
        deploy::compile(objects, &mut report);
    }
    if works.contains(&"plan") {
        deploy::plan(objects, &mut report);
    }
    if works.contains(&"shop") {
        deploy::shop(&mut report);
    }
    if works.contains(&"sync") {
        follow::measure(&mut report);
    }
    println!("{report}\nload of the machine at the end: {}", load());
}

/// Load averages of 1, 5 and 15 minutes.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn builds(world: &strake_tests::World, works: &[&str], sizes: Sizes, alone: bool, report: &mut Report) {
    if works.iter().all(|work| PARTS.contains(work)) {
        return;
    }
    let dir = world.path("bench");
    let bases = apps::bases(&dir);
    let mut builders = peers::all(world, &dir, &bases, alone);
    for work in works {
        match *work {
            part if PARTS.contains(&part) => {}
            "b" if bases.debian.is_none() => eprintln!("SKIPPED app b: no Debian base (mmdebstrap is not installed)"),
            "layer" => moving::layer(world, &dir, sizes, &mut builders, report),
            "store" => moving::store(world, &dir, &bases, report),
            app => {
                builds::measure(app, &dir, sizes, &mut builders, report);
                if let ("b", Some(debian)) = (app, &bases.debian) {
                    apps::write_app(&dir, app, sizes);
                    floor::measure(world, "app b, cold", apps::APP_B, debian, &dir.join(app), report);
                    let _ = std::fs::remove_dir_all(dir.join(app));
                }
            }
        }
    }
    builders.iter_mut().for_each(|builder| builder.stop());
}
