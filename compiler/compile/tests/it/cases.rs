//! Each folder of `tests/cases` is a project: its Dockerfiles and manifests in, `expected.txt` out: the findings and the plan.
//! `UPDATE_GOLDEN=1` writes what comes out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use strake_compile::{Dockerfile, Inputs, Manifest, Options, compile, needs, render};
use strake_oci::{ContainerConfig, Digest, ImageConfig, RootFs};
use strake_source::{Diagnostic, Severity, Sources};
use strake_stages::BaseImage;

/// Inputs without files.
pub fn empty() -> Inputs {
    let platform = || "linux/amd64".parse().expect("a platform");
    let options = Options {
        set: "shop".to_owned(),
        namespace: "default".to_owned(),
        platform: platform(),
        build_platform: platform(),
        build_args: BTreeMap::new(),
        foreign: false,
        environment: None,
        lints: BTreeMap::new(),
        no_cache: false,
    };
    Inputs { manifests: Vec::new(), overlay: None, config: None, values: Vec::new(), dockerfiles: Vec::new(), sealed: BTreeMap::new(), options }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder is readable") {
        let path = entry.expect("an entry is readable").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("text")
}

fn project(folder: &Path) -> Inputs {
    let mut inputs = empty();
    let mut found = Vec::new();
    files(folder, &mut found);
    for path in found {
        let shown = path.strip_prefix(folder).expect("below the folder").display().to_string();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if shown.contains("target/") {
            continue;
        }
        if name.contains("Dockerfile") {
            // The context is the Dockerfile's directory, in a project that lies at /project on every machine.
            let context = Path::new("/project").join(&shown).parent().expect("a file has a folder").display().to_string();
            inputs.dockerfiles.push(Dockerfile { path: shown, text: read(&path), context, ignore: Vec::new(), optional: false, image: None });
        } else if matches!(extension, Some("yaml" | "yml" | "json")) {
            inputs.manifests.push(Manifest { path: shown, text: read(&path) });
        }
    }
    inputs
}

/// Every needed image is there, with one layer.
fn bases(inputs: &Inputs) -> BTreeMap<String, BaseImage> {
    let base = |reference: &str| BaseImage {
        reference: reference.to_owned(),
        manifest: Digest::of(reference.as_bytes()),
        config: ImageConfig {
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
            config: ContainerConfig { env: vec!["PATH=/usr/bin:/bin".to_owned()], ..ContainerConfig::default() },
            rootfs: RootFs { diff_ids: vec![Digest::of(b"layer")], ..RootFs::default() },
            ..ImageConfig::default()
        },
    };
    needs(inputs).into_iter().map(|needed| (needed.key, base(&needed.reference))).collect()
}

fn shown(sources: &Sources, diagnostics: &[Diagnostic]) -> String {
    let mut out = String::new();
    for finding in diagnostics {
        let severity = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let place = finding.span.map(|span| sources.place(span)).unwrap_or_default();
        out += &format!("{severity}[{}] {place}: {}\n", finding.code.0, finding.message);
        if !finding.label.is_empty() {
            out += &format!("    ^ {}\n", finding.label);
        }
        for label in &finding.labels {
            out += &format!("    {}: {}\n", sources.place(label.span), label.message);
        }
        for help in &finding.help {
            out += &format!("    help: {help}\n");
        }
    }
    out
}

fn outcome(inputs: &Inputs) -> String {
    let outcome = compile(inputs, &bases(inputs));
    let findings = shown(&outcome.sources, &outcome.diagnostics);
    let plan = outcome.plan.map(|plan| render(&plan)).unwrap_or_else(|| "no plan\n".to_owned());
    if findings.is_empty() { plan } else { format!("{findings}\n{plan}") }
}

#[test]
fn cases() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut folders: Vec<PathBuf> = fs::read_dir(&root).expect("cases").map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    assert!(folders.len() >= 8, "the cases are there");
    let mut wrong = String::new();
    for folder in folders {
        let inputs = project(&folder);
        let found = outcome(&inputs);
        let golden = folder.join("expected.txt");
        if update {
            fs::write(&golden, &found).expect("written");
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            wrong += &format!("--- {}\n{expected}+++ found\n{found}\n", folder.display());
        }
        // Whatever the order of files, the outcome is the same.
        let mut reversed = inputs.clone();
        reversed.manifests.reverse();
        reversed.dockerfiles.reverse();
        assert_eq!(outcome(&reversed), found, "{}", folder.display());
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_examples_are_without_fault() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let examples = [("guestbook", 2), ("debian", 1)];
    for (name, edges) in examples {
        let inputs = project(&root.join(name));
        let outcome = compile(&inputs, &bases(&inputs));
        assert_eq!(shown(&outcome.sources, &outcome.diagnostics), "", "{name}");
        let plan = outcome.plan.expect("a plan");
        assert_eq!((plan.build.images.len(), plan.deploy.images.len()), (1, edges), "{name}");
    }
}

#[test]
fn a_missing_base_is_an_error_where_it_is_named() {
    let mut inputs = empty();
    inputs.dockerfiles.push(Dockerfile {
        path: "web/Dockerfile".into(),
        text: "FROM debian:13\n".into(),
        context: "/p/web".into(),
        ignore: Vec::new(),
        optional: false,
        image: None,
    });
    let outcome = compile(&inputs, &BTreeMap::new());
    assert!(outcome.plan.is_none());
    assert_eq!(outcome.diagnostics.len(), 1, "{:?}", outcome.diagnostics);
    assert_eq!(outcome.diagnostics[0].span.map(|span| outcome.sources.place(span)).as_deref(), Some("web/Dockerfile:1:6"));
}

#[test]
fn a_plan_survives_the_journey_through_json() {
    let inputs = project(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/shop"));
    let plan = compile(&inputs, &bases(&inputs)).plan.expect("a plan");
    let text = serde_json::to_string(&plan).expect("it serialises");
    let back: strake_plan::Plan = serde_json::from_str(&text).expect("it deserialises");
    assert_eq!(back, plan);
}
