//! `make differential`: cases out of seeds, built by strake in several states and by whichever peer is installed; what differs is printed as the smallest
//! case that still differs. Words: `seconds=N` (1200), `seed=N` (the first seed; the time without it), `case=N` (only that seed), `peer=NAME` (only
//! those whose name begins so: `BuildKit`, `buildah`, or `none`).

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints")]

mod builders;
mod case;
mod compare;
mod features;
mod generate;
#[cfg(test)]
mod itself;
mod known;
mod served;
mod shrink;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use builders::{Buildah, Builder, Docker, Home, Strake};
use case::Case;
use compare::{Outcome, differences};
use features::{Feature, Features};
use strake_tests::World;

/// Cases that are tried to make one smaller.
const SHRINKS: usize = 60;

/// Which cases are made.
struct Seeds {
    first: u64,
    /// Only the first.
    alone: bool,
    limit: Duration,
}

fn main() {
    if let Some(reason) = strake_tests::cannot_run(&["busybox", "tar"]) {
        eprintln!("the differential test cannot run: {reason}");
        std::process::exit(1);
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok());
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seeds = Seeds {
        first: number("case").or(number("seed")).unwrap_or(clock),
        alone: number("case").is_some(),
        limit: Duration::from_secs(number("seconds").unwrap_or(1200)),
    };
    let world = World::new();
    let dir = world.path("diff");
    std::fs::create_dir_all(&dir).expect("a directory");
    let base = builders::base(&dir);
    let home = Home::find(&world);
    let mut peers = peers(&world, &home, &dir, &base);
    if let Some(only) = words.iter().find_map(|word| word.strip_prefix("peer=")) {
        peers.retain(|peer| peer.name().starts_with(only));
    }
    let served = served::Served::start(&world, &dir);
    let avoid = unknown(&served, &mut peers, &dir);
    let found = session(&world, &dir, &base, &mut peers, &avoid, &seeds);
    drop(peers);
    drop(served);
    home.leave(&world);
    // Exiting drops nothing.
    drop(world);
    std::process::exit(i32::from(found > 0));
}

fn peers<'w>(world: &'w World, home: &Home, dir: &Path, base: &Path) -> Vec<Box<dyn Builder + 'w>> {
    let mut peers: Vec<Box<dyn Builder + 'w>> = Vec::new();
    match Docker::start(world, home, dir, base) {
        Ok(docker) => peers.push(Box::new(docker)),
        Err(why) => eprintln!("SKIPPED BuildKit: {why}"),
    }
    match Buildah::start(world, home, dir, base) {
        Ok(buildah) => peers.push(Box::new(buildah)),
        Err(why) => eprintln!("SKIPPED buildah: {why}"),
    }
    for peer in &peers {
        println!("beside {}", peer.name());
    }
    peers
}

/// What cases leave out, and says so: what nobody serves, and what one of the peers does not know.
fn unknown(served: &Result<served::Served, String>, peers: &mut [Box<dyn Builder + '_>], dir: &Path) -> Features {
    let mut avoid = Features::new();
    if let Err(why) = served {
        eprintln!("SKIPPED ADD of URLs and git: {why}");
        avoid.extend([Feature::Url, Feature::Checksum, Feature::Git].map(|feature| (feature, why.clone())));
    }
    for peer in peers {
        for (feature, why) in features::unknown_to(peer.as_mut(), &dir.join("context")) {
            println!("left out: {feature:?}, which {} does not know: {why}", peer.name());
            avoid.insert(feature, why);
        }
    }
    avoid
}

/// Builds until the time is over; the number of cases that differ.
fn session(world: &World, dir: &Path, base: &Path, peers: &mut [Box<dyn Builder + '_>], avoid: &Features, seeds: &Seeds) -> usize {
    let mut ours = [(1, "one"), (4, "many")].map(|(jobs, name)| Strake::new(world, dir, base, name, jobs, false));
    let (begun, context) = (Instant::now(), dir.join("context"));
    let (mut cases, mut built, mut found) = (0, 0, 0);
    let (mut kinds, mut known): (BTreeMap<String, usize>, BTreeMap<String, usize>) = Default::default();
    for seed in seeds.first.. {
        if begun.elapsed() > seeds.limit || (seeds.alone && seed != seeds.first) {
            break;
        }
        let mut next = Some(generate::case(seed, avoid));
        // A mistake that all agree on hides what comes after it: the case goes on without its line.
        while let Some(case) = next.take() {
            cases += 1;
            let mut differs = |case: &Case, only: Option<&str>| judge(&mut ours, peers, case, &context, only);
            let (mine, said) = differs(&case, None);
            built += usize::from(mine.is_ok());
            if let (Err(why), []) = (&mine, said.as_slice()) {
                next = case.without_mistake(why);
            }
            for (who, mut lines) in said {
                lines.retain(|line| match known::known(&who, line) {
                    Some(name) => {
                        *known.entry(format!("{who}: {name}")).or_default() += 1;
                        false
                    }
                    None => true,
                });
                if lines.is_empty() {
                    continue;
                }
                found += 1;
                let kind = format!("{who}: {}", lines.first().map(|line| shrink::kind(line)).unwrap_or_default());
                let seen = kinds.entry(kind).or_default();
                *seen += 1;
                // The same kind of difference is shown three times and then only counted.
                if *seen > 3 {
                    continue;
                }
                // Nothing is made smaller once the time is over.
                let again = |case: &Case| match begun.elapsed() > seeds.limit {
                    true => Vec::new(),
                    false => {
                        let lines = differs(case, Some(&who)).1.pop().map(|(_, lines)| lines).unwrap_or_default();
                        lines.into_iter().filter(|line| known::known(&who, line).is_none()).collect()
                    }
                };
                let (small, lines) = shrink::shrink(case.clone(), lines, SHRINKS, again);
                println!("\n==== differs from {who}\n{small}--- differences\n{}\n", lines.join("\n"));
            }
        }
    }
    println!("{cases} cases, {built} of them images, in {} s; {found} differ", begun.elapsed().as_secs());
    kinds.iter().for_each(|(kind, count)| println!("{count:6} {kind}"));
    known.iter().for_each(|(kind, count)| println!("{count:6} known: {kind}"));
    found
}

/// What strake makes of a case, and who makes something else of it.
fn judge(
    ours: &mut [Strake<'_>],
    peers: &mut [Box<dyn Builder + '_>],
    case: &Case,
    context: &Path,
    only: Option<&str>,
) -> (Outcome, Vec<(String, Vec<String>)>) {
    let _ = std::fs::remove_dir_all(context);
    case.write(context);
    let mut said = Vec::new();
    // For one peer, one of ours is enough.
    let one = only.is_some_and(|only| only != "itself");
    let results: Vec<(Option<String>, Outcome)> = ours.iter_mut().take(if one { 1 } else { usize::MAX }).map(|strake| strake.digest(case, context)).collect();
    if results.iter().any(|(digest, _)| *digest != results[0].0) && only.is_none_or(|only| only == "itself") {
        let digests = results.iter().map(|(digest, outcome)| format!("{digest:?} {:?}", outcome.as_ref().err())).collect::<Vec<_>>();
        said.push(("itself".to_owned(), vec![format!("digests {}", digests.join(" "))]));
    }
    let (_, mine) = results.into_iter().next().expect("there are stores");
    for peer in peers.iter_mut().filter(|peer| only.is_none_or(|only| only == peer.name())) {
        let theirs = peer.build(case, context);
        let lines = differences(&mine, &theirs, peer.depth());
        if !lines.is_empty() {
            said.push((peer.name(), lines));
        }
    }
    (mine, said)
}
