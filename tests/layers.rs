//! The map's invariants (ARCHITECTURE.md, "What is absent") against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Where a package stands: the folder names below the workspace's root.
fn folder(metadata: &Metadata, package: &Package) -> String {
    let path = package.manifest_path.parent().expect("a manifest has a folder");
    path.strip_prefix(&metadata.workspace_root).expect("a member is below the root").to_string()
}

struct Map {
    /// Package name -> folder.
    folders: BTreeMap<String, String>,
    /// Package name -> names of normal dependencies, ours and others'.
    dependencies: BTreeMap<String, BTreeSet<String>>,
}

fn map() -> Map {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata runs");
    let mut folders = BTreeMap::new();
    let mut dependencies = BTreeMap::new();
    for package in metadata.workspace_packages() {
        let normal = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
        dependencies.insert(package.name.to_string(), normal.map(|dependency| dependency.name.clone()).collect());
        folders.insert(package.name.to_string(), folder(&metadata, package));
    }
    Map { folders, dependencies }
}

impl Map {
    fn part(&self, package: &str) -> &str {
        let folder = &self.folders[package];
        folder.split('/').next().unwrap_or(folder)
    }

    fn ours(&self, package: &str) -> impl Iterator<Item = &String> {
        self.dependencies[package].iter().filter(|name| self.folders.contains_key(*name))
    }

    fn users_of(&self, crates: &[&str]) -> BTreeSet<&str> {
        let uses = |name: &&String| self.dependencies[*name].iter().any(|dependency| crates.contains(&dependency.as_str()));
        self.folders.keys().filter(uses).map(String::as_str).collect()
    }
}

fn set<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
    names.iter().copied().collect()
}

#[test]
fn grammar_stands_alone_and_the_compiler_never_looks_at_the_runtime() {
    let map = map();
    for package in map.folders.keys() {
        for dependency in map.ours(package) {
            match map.part(package) {
                "grammar" => assert_eq!(map.part(dependency), "grammar", "{package} -> {dependency}"),
                "compiler" => assert_ne!(map.part(dependency), "runtime", "{package} -> {dependency}"),
                _ => {}
            }
        }
    }
}

#[test]
fn the_runtime_takes_the_plan_and_not_the_compiler() {
    let map = map();
    let allowed = set(&["strake-oci", "strake-kinds", "strake-plan"]);
    for package in map.folders.keys().filter(|package| map.part(package) == "runtime" && *package != "strake-cli") {
        for dependency in map.ours(package).filter(|dependency| map.part(dependency) == "compiler") {
            assert!(allowed.contains(dependency.as_str()), "{package} -> {dependency}");
        }
    }
}

#[test]
fn leaves_of_the_runtime_do_not_know_each_other() {
    let map = map();
    let combiners = set(&["strake-build", "strake-apply", "strake-node", "strake-cluster", "strake-cli", "strake-api"]);
    // The registry client writes what it pulls into the store as it arrives, verified on the way.
    let edges: BTreeSet<(&str, &str)> = [("strake-registry", "strake-store")].into();
    for package in map.folders.keys().filter(|package| map.part(package) == "runtime" && !combiners.contains(package.as_str())) {
        for dependency in map.ours(package).filter(|dependency| map.part(dependency) == "runtime") {
            assert!(edges.contains(&(package.as_str(), dependency.as_str())), "{package} -> {dependency}");
        }
    }
    let api: BTreeSet<&str> = map.ours("strake-api").map(String::as_str).filter(|name| map.part(name) == "runtime").collect();
    assert_eq!(api, set(&["strake-state"]), "the API stands on the state alone");
}

#[test]
fn heavy_crates_have_one_home() {
    let map = map();
    assert_eq!(map.users_of(&["k8s-openapi"]), set(&["strake-kinds"]));
    assert_eq!(map.users_of(&["libc"]), set(&["strake-container"]));
    assert_eq!(map.users_of(&["redb"]), set(&["strake-state"]));
    assert_eq!(map.users_of(&["hcl-edit"]), set(&["strake-bake"]));
    assert_eq!(map.users_of(&["age", "aes-gcm"]), set(&["strake-sops"]));
    assert_eq!(map.users_of(&["kube"]), set(&["strake-client"]));
    assert_eq!(map.users_of(&["reqwest"]), set(&["strake-registry"]));
    assert!(map.users_of(&["axum"]).is_subset(&set(&["strake-api", "strake-cluster", "strake-registry"])));
    assert_eq!(map.users_of(&["clap", "indicatif"]), set(&["strake-cli"]));
}

#[test]
fn nothing_depends_on_the_program_or_its_tests() {
    let map = map();
    for package in map.folders.keys().filter(|package| *package != "strake-tests") {
        assert!(map.ours(package).all(|dependency| dependency != "strake-cli" && dependency != "strake-tests"), "{package}");
    }
}

#[test]
fn pure_packages_have_no_crate_that_does_io() {
    let map = map();
    // More than one core is no effect, as long as what comes out is in the order of what went in; only the compiler has work for several.
    let effects = ["tokio", "rustix", "nix", "libc", "hyper", "axum", "redb", "tempfile", "ignore", "inotify", "kube"];
    let pure = ["strake-solve", "strake-control", "strake-schedule", "strake-pod", "strake-sync"];
    let part = |package: &String| matches!(map.part(package), "grammar" | "compiler") || pure.contains(&package.as_str());
    for package in map.folders.keys().filter(|package| part(package)) {
        let cores = |name: &str| name == "rayon" && map.part(package) != "compiler";
        let found: Vec<_> = map.dependencies[package].iter().filter(|name| effects.contains(&name.as_str()) || cores(name)).collect();
        assert!(found.is_empty(), "{package} has {found:?}");
    }
}

#[test]
fn every_package_takes_the_workspace_lints() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata runs");
    for package in metadata.workspace_packages() {
        let text = std::fs::read_to_string(&package.manifest_path).expect("a manifest is readable");
        let own_table = package.name.as_str() == "strake-container";
        assert!(own_table || text.contains("[lints]\nworkspace = true"), "{}", package.name);
    }
}
