//! Build caches that travel: exported, imported into an empty store, damaged, and lying.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use strake_build::{BlobSource, CacheExport, ImportedCache, InlineCache, MountChoice, PackedCache, Share, pack_cache};
use strake_oci::{Descriptor, Digest};
use strake_plan::{Mount, MountKind, StepIndex};
use strake_store::{Compression, Packing, Store, digest_of};

use crate::world::{Planned, World, digests};
use crate::{Needs, Test};

pub const TESTS: &[Test] = &[
    ("travel::an_imported_cache_executes_nothing_and_gives_the_same", Needs::Root, an_imported_cache_executes_nothing_and_gives_the_same),
    ("travel::only_what_is_used_is_fetched", Needs::Root, only_what_is_used_is_fetched),
    ("travel::a_small_cache_knows_stages_that_it_does_not_hold", Needs::Root, a_small_cache_knows_stages_that_it_does_not_hold),
    ("travel::each_of_several_images_has_a_share_of_its_own", Needs::Root, each_of_several_images_has_a_share_of_its_own),
    ("travel::what_was_imported_travels_on_without_being_fetched", Needs::Root, what_was_imported_travels_on_without_being_fetched),
    ("travel::a_damaged_cache_is_given_up_and_the_build_is_right", Needs::Root, a_damaged_cache_is_given_up_and_the_build_is_right),
    ("travel::a_lying_cache_poisons_nobody_else", Needs::Root, a_lying_cache_poisons_nobody_else),
    ("travel::an_image_can_be_its_own_cache", Needs::Root, an_image_can_be_its_own_cache),
    ("travel::cache_mounts_travel_when_asked_for", Needs::Containers, cache_mounts_travel_when_asked_for),
    ("travel::no_cache_empties_the_cache_mounts_of_its_steps", Needs::Containers, no_cache_empties_the_cache_mounts_of_its_steps),
];

/// Another store as the place where a cache's blobs are.
#[derive(Debug)]
struct Other {
    store: Arc<Store>,
    fetched: Mutex<Vec<Digest>>,
    damaged: bool,
}

impl BlobSource for Other {
    fn fetch(&self, blob: &Descriptor, store: &Store) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let digest = digest_of(blob)?;
        self.fetched.lock().unwrap().push(digest);
        let mut bytes = self.store.read(&digest, 64 << 20)?;
        if self.damaged {
            bytes[20] ^= 1;
        }
        let mut writer = store.writer()?;
        writer.append(&bytes)?;
        writer.commit(Some(&digest))?;
        Ok(())
    }
}

const MAX: CacheExport = CacheExport { every_step: true, compression: Packing::usual(Compression::Gzip), mounts: MountChoice::None };

/// Builds and packs what the steps gave.
fn exported(world: &mut World, plan: &Planned, export: &CacheExport) -> (Vec<Digest>, PackedCache) {
    let sink = Arc::new(Mutex::new(Vec::new()));
    world.options.records = Some(Arc::clone(&sink));
    let built = digests(&world.build(plan).unwrap());
    let packed = pack_cache(&world.store, &sink.lock().unwrap(), &world.options.imports, export).unwrap();
    world.told.take();
    (built, packed)
}

fn exported_from(world: &mut World, plan: fn(&World) -> (Planned, StepIndex), export: &CacheExport) -> (Vec<Digest>, PackedCache) {
    let plan = plan(world).0;
    exported(world, &plan, export)
}

fn import(world: &World, cache: &PackedCache, damaged: bool) -> (ImportedCache, Arc<Other>) {
    let source = Arc::new(Other { store: Arc::clone(&world.store), fetched: Mutex::default(), damaged });
    let config = world.store.read(&digest_of(&cache.packed.config).unwrap(), 8 << 20).unwrap();
    (ImportedCache::read("other", &cache.packed.manifest, &config, source.clone()).unwrap(), source)
}

fn fill(world: &World) {
    for name in ["src/a", "src/b/c", "more/d"] {
        world.write(name, &name.repeat(5000));
    }
}

/// A stage of two copies, of which the image takes one directory.
fn stages(world: &World) -> (Planned, StepIndex) {
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let first = plan.copy(scratch, &["src"], "/src/");
    let second = plan.copy(first, &["more"], "/more/");
    let taken = plan.copy_from(scratch, second, &["/src/b"], "/b");
    let step = plan.mkdir(taken, "/work", "1:2");
    plan.image(step);
    (plan, second)
}

fn worlds() -> (World, World) {
    let (one, two) = (World::new(), World::new());
    fill(&one);
    fill(&two);
    (one, two)
}

fn an_imported_cache_executes_nothing_and_gives_the_same() {
    let (mut one, mut two) = worlds();
    let (built, cache) = exported_from(&mut one, stages, &MAX);
    assert_eq!(cache.records, 4);
    two.options.imports = vec![import(&one, &cache, false).0];
    let plan = stages(&two).0;
    assert_eq!(digests(&two.build(&plan).unwrap()), built);
    assert_eq!(two.told.executed(), [""; 0]);
    assert!(two.store.verify().unwrap().is_empty());
    // A step that is new stands on what was imported.
    let mut longer = stages(&two).0;
    let last = StepIndex(longer.plan.steps.len() - 1);
    let more = longer.copy(last, &["more"], "/again/");
    longer.plan.images.clear();
    longer.image(more);
    two.build(&longer).unwrap();
    assert_eq!(two.told.executed(), ["COPY more /again/"]);
}

fn only_what_is_used_is_fetched() {
    let (mut one, mut two) = worlds();
    let (_, cache) = exported_from(&mut one, stages, &MAX);
    let (imported, source) = import(&one, &cache, false);
    two.options.imports = vec![imported];
    let (plan, second) = stages(&two);
    two.build(&plan).unwrap();
    assert_eq!(source.fetched.lock().unwrap().len(), 2, "the image's layers, and not those of the stage");
    // The stage is fetched when its files are needed.
    let mut other = plan.clone();
    let scratch = StepIndex(0);
    let step = other.copy_from(scratch, second, &["/more"], "/m");
    other.image(step);
    two.build(&other).unwrap();
    assert_eq!(source.fetched.lock().unwrap().len(), 4);
}

/// `mode=min`: what the stage gave is known, and not there.
fn a_small_cache_knows_stages_that_it_does_not_hold() {
    let (mut one, mut two) = worlds();
    let (built, small) = exported_from(&mut one, stages, &CacheExport { every_step: false, ..MAX });
    assert_eq!((small.records, small.packed.layers.len()), (4, 2));
    two.options.imports = vec![import(&one, &small, false).0];
    let plan = stages(&two).0;
    assert_eq!(digests(&two.build(&plan).unwrap()), built);
    assert_eq!(two.told.executed(), [""; 0]);
    // Other files of the stage are needed: it has to be made, and what the cache holds is still used.
    let mut three = World::new();
    fill(&three);
    three.options.imports = vec![import(&one, &small, false).0];
    let (mut plan, second) = stages(&three);
    let step = plan.copy_from(StepIndex(0), second, &["/more"], "/m");
    plan.image(step);
    assert_eq!(digests(&three.build(&plan).unwrap())[0], built[0]);
    let mut executed: Vec<String> = three.told.take();
    assert!(executed.iter().all(|line| !line.contains("given up")), "{executed:?}");
    executed.retain(|line| line.starts_with("done "));
    assert_eq!(executed, ["done COPY src /src/", "done COPY more /more/", "done COPY /more /m"]);
}

/// Two images of one build: the first copies from a stage that the second is not made of.
fn each_of_several_images_has_a_share_of_its_own() {
    let (mut one, _) = worlds();
    let both = |world: &World| {
        let (mut plan, _) = stages(world);
        let scratch = StepIndex(0);
        let step = plan.copy(scratch, &["more"], "/only-second/");
        plan.image(step);
        plan
    };
    let plan = both(&one);
    let images: Vec<StepIndex> = plan.plan.images.iter().map(|image| image.step).collect();
    let sink = Arc::new(Mutex::new(Vec::new()));
    one.options.records = Some(Arc::clone(&sink));
    one.options.inline_cache = InlineCache::Of([images[1]].into());
    let built = one.build(&plan).unwrap();
    assert_eq!([built[0].config.inline_cache.is_some(), built[1].config.inline_cache.is_some()], [false, true]);
    let all = sink.lock().unwrap().clone();
    assert_eq!(all.len(), 5);
    // Steps, and layers that the cache holds: all, and those of the image alone.
    for (image, every_step, holds) in [(0, true, (4, 4)), (0, false, (4, 2)), (1, true, (1, 1)), (1, false, (1, 1))] {
        let own = Share::of(&plan.plan, &images[image..=image]).records(&all);
        let cache = pack_cache(&one.store, &own, &[], &CacheExport { every_step, ..MAX }).unwrap();
        assert_eq!((cache.records, cache.packed.layers.len()), holds, "image {image}, every step: {every_step}");
        let mut two = World::new();
        fill(&two);
        two.options.imports = vec![import(&one, &cache, false).0];
        let again = two.build(&both(&two)).unwrap();
        assert_eq!(again[0].layers, built[0].layers);
        let executed = two.told.executed();
        assert_eq!(executed.len(), if image == 0 { 1 } else { 4 }, "{executed:?}");
    }
}

fn what_was_imported_travels_on_without_being_fetched() {
    let (mut one, mut two) = worlds();
    let (built, cache) = exported_from(&mut one, stages, &MAX);
    two.options.imports = vec![import(&one, &cache, false).0];
    let plan = stages(&two).0;
    let (again, onward) = exported(&mut two, &plan, &MAX);
    assert_eq!(again, built);
    assert_eq!((onward.records, onward.elsewhere.len()), (4, 2), "the layers of the stage are still elsewhere");
    assert_eq!(onward.packed.manifest, cache.packed.manifest, "and the cache is the same");
    assert!(two.told.executed().is_empty());
}

fn a_damaged_cache_is_given_up_and_the_build_is_right() {
    let (mut one, mut two) = worlds();
    let (built, cache) = exported_from(&mut one, stages, &MAX);
    let (damaged, source) = import(&one, &cache, true);
    two.options.imports = vec![damaged, import(&one, &cache, false).0];
    let plan = stages(&two).0;
    assert_eq!(digests(&two.build(&plan).unwrap()), built, "the second cache is as good as ever");
    assert!(!source.fetched.lock().unwrap().is_empty());
    assert_eq!(two.told.executed(), [""; 0]);
    let mut three = World::new();
    fill(&three);
    three.options.imports = vec![import(&one, &cache, true).0];
    let plan = stages(&three).0;
    assert_eq!(digests(&three.build(&plan).unwrap()), built);
    let told = three.told.take();
    assert!(told.iter().any(|line| line.starts_with("cache given up other") && line.contains("corrupt")), "{told:?}");
    assert_eq!(told.iter().filter(|line| line.starts_with("done ")).count(), 4, "{told:?}");
    assert!(three.store.verify().unwrap().is_empty());
}

/// A cache whose records lead to layers of something else: keys say nothing about results, so this build believes it, and only this one.
fn a_lying_cache_poisons_nobody_else() {
    let (mut one, mut two) = worlds();
    let honest = stages(&one).0;
    let (built, cache) = exported(&mut one, &honest, &MAX);
    let config: serde_json::Value = serde_json::from_slice(&one.store.read(&digest_of(&cache.packed.config).unwrap(), 8 << 20).unwrap()).unwrap();
    let mut lie = config.clone();
    for record in lie["records"].as_array_mut().unwrap() {
        record["layer"] = 0.into();
    }
    let source: Arc<dyn BlobSource> = Arc::new(Other { store: Arc::clone(&one.store), fetched: Mutex::default(), damaged: false });
    let lying = ImportedCache::read("liar", &cache.packed.manifest, lie.to_string().as_bytes(), Arc::clone(&source)).unwrap();
    two.options.imports = vec![lying];
    let plan = stages(&two).0;
    assert_ne!(digests(&two.build(&plan).unwrap()), built);
    two.options.imports.clear();
    two.told.take();
    assert_eq!(digests(&two.build(&plan).unwrap()), built, "a build that does not name it does not see it");
    assert_eq!(two.told.executed().len(), 4);
    // A diff id that the layer's blob does not give is noticed.
    let mut wrong = config;
    wrong["layers"].as_array_mut().unwrap().reverse();
    let mut three = World::new();
    fill(&three);
    three.options.imports = vec![ImportedCache::read("wrong", &cache.packed.manifest, wrong.to_string().as_bytes(), source).unwrap()];
    let plan = stages(&three).0;
    assert_eq!(digests(&three.build(&plan).unwrap()), built);
    assert!(three.told.take().iter().any(|line| line.starts_with("cache given up wrong") && line.contains("diff id")));
    assert!(three.store.verify().unwrap().is_empty());
}

fn an_image_can_be_its_own_cache() {
    let (mut one, two) = worlds();
    one.options.inline_cache = InlineCache::All;
    let built = one.build(&stages(&one).0).unwrap();
    let plain = two.build(&stages(&two).0).unwrap();
    assert_eq!(built[0].layers, plain[0].layers);
    assert_ne!(built[0].config_digest, plain[0].config_digest);
    let packed = one.store.packed(&built[0].manifest.to_string(), Some(Compression::Zstd)).unwrap();
    let config = one.store.read(&built[0].config_digest, 8 << 20).unwrap();
    let source = Arc::new(Other { store: Arc::clone(&one.store), fetched: Mutex::default(), damaged: false });
    let mut three = World::new();
    fill(&three);
    three.options.imports = vec![ImportedCache::read("image", &packed.manifest, &config, source).unwrap()];
    let plan = stages(&three).0;
    assert_eq!(three.build(&plan).unwrap()[0].manifest, plain[0].manifest, "and leaves no records of its own");
    assert_eq!(three.told.executed(), [""; 0], "the stage is known, and nobody needs its files");
}

fn with_mount(world: &World, script: &str) -> Planned {
    let mut plan = world.plan();
    let base = plan.busybox(world);
    let step = plan.run_so(base, script, |run| {
        let kind = MountKind::Cache { id: "it".into(), sharing: "shared".into(), mode: 0o750, uid: 3, gid: 4, from: None, source: String::new() };
        run.mounts.push(Mount { target: "/it".to_owned(), kind, read_only: false });
    });
    plan.image(step);
    plan
}

fn cache_mounts_travel_when_asked_for() {
    let (mut one, mut two) = worlds();
    let plan = with_mount(&one, "mkdir -p /it/deep; echo kept > /it/deep/file; touch -d '2001-02-03 04:05:06' /it/deep/file; ln /it/deep/file /it/link");
    assert_eq!(exported(&mut one, &plan, &MAX).1.packed.layers.len(), 2, "not when nobody asks");
    let (_, cache) = exported(&mut one, &plan, &CacheExport { mounts: MountChoice::These(vec!["it".to_owned()]), ..MAX });
    assert_eq!((cache.packed.layers.len(), cache.left_out.len()), (3, 0));
    let see = |world: &World| with_mount(world, "stat -c '%a %u %Y' /it /it/deep/file > /seen; cat /it/link >> /seen || echo none >> /seen");
    let seen = |world: &World| {
        let built = world.build(&see(world)).unwrap();
        let mut text = String::new();
        world.look(&built[0], |root| text = fs::read_to_string(root.join("seen")).unwrap());
        text
    };
    let (mut imported, _) = import(&one, &cache, false);
    two.options.imports = vec![imported.clone()];
    assert!(seen(&two).contains("none"), "asked for by nobody");
    let mut three = World::new();
    imported.use_mounts = MountChoice::All;
    three.options.imports = vec![imported];
    let text = seen(&three);
    assert!(text.starts_with("750 3 ") && text.contains("644 0 981173106\nkept\n"), "{text}");
    assert_eq!(two.told.take().iter().filter(|line| line.contains("given up")).count(), 0);
}

fn no_cache_empties_the_cache_mounts_of_its_steps() {
    let world = World::new();
    let mut plan = with_mount(&world, "ls /it > /seen; touch /it/was-here");
    let seen = |plan: &Planned| {
        let built = world.build(plan).unwrap();
        let mut text = String::new();
        world.look(&built[0], |root| text = fs::read_to_string(root.join("seen")).unwrap());
        text
    };
    assert_eq!(seen(&plan), "");
    // The step is executed again because its definition is another one; its mount has what was left there.
    assert_eq!(seen(&with_mount(&world, "ls  /it > /seen; touch /it/was-here")), "was-here\n");
    plan.plan.steps.iter_mut().for_each(|step| step.origin.no_cache = step.origin.text.starts_with("RUN"));
    assert_eq!(seen(&plan), "", "it begins empty");
    let ids: Vec<_> = fs::read_dir(world.store.root().join("cache/mount-ids")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(ids.iter().map(|path: &std::path::PathBuf| fs::read_to_string(path).unwrap()).collect::<Vec<_>>(), ["it (mode 750, owner 3:4)"]);
    assert!(Path::new(&world.store.root().join("cache/mounts")).read_dir().unwrap().count() == 1);
}
