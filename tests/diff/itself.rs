//! strake beside itself: whatever the number of workers, the store and what the cache knows, a case gives the same digest; and a reader of its own sees in the
//! image what strake's own store shows.

use strake_tests::{World, needs};

use crate::builders::{self, Strake};
use crate::features::{Feature, Features};
use crate::{case, compare, generate, shrink};

/// Cases of the ordinary test run; `make differential` makes thousands.
const CASES: u64 = 8;

#[test]
fn workers_stores_and_caches_change_nothing() {
    needs!("busybox", "tar");
    let world = World::new();
    let dir = world.path("diff");
    std::fs::create_dir_all(&dir).expect("a directory");
    let base = builders::base(&dir);
    let store = |name: &str, jobs, cold| Strake::new(&world, &dir, &base, name, jobs, cold);
    // The third uses the first one's store: everything is known to it. The fourth asks the cache for nothing.
    let mut all = [store("one", 1, false), store("many", 4, false), store("one", 3, false), store("many", 2, true)];
    // Nothing is served here.
    let avoid = Features::from([(Feature::Url, String::new()), (Feature::Git, String::new())]);
    let mut images = 0;
    for seed in 1..=CASES {
        let mut case = generate::case(seed, &avoid);
        let first = dir.join("first");
        // Without the lines that are mistakes; each of them is one to every state of strake.
        for _ in 0..3 {
            let _ = std::fs::remove_dir_all(&first);
            case.write(&first);
            let mistake = all[0].digest(&case, &first).1.err().and_then(|why| case.without_mistake(&why));
            let Some(less) = mistake else { break };
            case = less;
        }
        let context = dir.join(format!("context-{seed}"));
        case.write(&context);
        let results: Vec<_> = all.iter_mut().map(|strake| strake.digest(&case, &context)).collect();
        let first = &results[0];
        for (digest, outcome) in &results[1..] {
            assert_eq!(*digest, first.0, "{case}\n{:?}\n{:?}", outcome.as_ref().err(), first.1.as_ref().err());
            assert_eq!(compare::differences(outcome, &first.1, compare::Depth::History), Vec::<String>::new(), "{case}");
        }
        images += usize::from(first.1.is_ok());
    }
    assert!(images > 2, "only {images} of {CASES} cases are images: the generator makes mostly mistakes");
    for name in ["one", "many"] {
        world.strake(&["--root", dir.join(name).to_str().expect("UTF-8"), "image", "verify"]).ok();
    }
    world.nothing_left();
}

#[test]
fn a_case_is_the_same_for_the_same_seed_and_shrinks_to_what_matters() {
    let one = generate::case(7, &Features::new());
    assert_eq!(one, generate::case(7, &Features::new()));
    assert_ne!(one.dockerfile(), generate::case(8, &Features::new()).dockerfile());
    // What matters here is one line: shrinking finds a case of that line alone.
    let matters = |case: &case::Case| {
        let found = case.lines.iter().any(|line| line.to_string().starts_with("FROM"));
        if found { vec!["only strake fails: x".to_owned()] } else { Vec::new() }
    };
    let said = matters(&one);
    let (small, _) = shrink::shrink(one, said, 10_000, matters);
    assert_eq!((small.lines.len(), small.things.len(), small.ignore.len()), (1, 0, 0), "{small}");
}
