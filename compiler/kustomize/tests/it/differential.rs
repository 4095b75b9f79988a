//! Overlays beside kustomize itself, feature by feature and in combinations: `tests/overlays/cases.txt` holds them, `expected.json` what kustomize 5 makes of them
//! (`UPDATE_GOLDEN=1` asks the one inside of kubectl). Where kubectl is installed it is asked again, and about combinations that dice choose.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use strake_source::{Diagnostic, Sources, Style};
use strake_yaml::Node;

use crate::{by_name, run, sorted};

type Files = BTreeMap<String, String>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/overlays")
}

/// The cases by name, each with its files and those of the first section.
fn cases() -> Vec<(String, Files)> {
    let text = fs::read_to_string(folder().join("cases.txt")).expect("the cases");
    let mut sections = text.split("\n=== ").skip(1).map(|section| {
        let (name, rest) = section.split_once('\n').expect("a name and files");
        let files = format!("\n{rest}");
        let files: Files = files
            .split("\n--- ")
            .skip(1)
            .map(|file| file.split_once('\n').expect("a path and a text"))
            .map(|(path, text)| (path.to_owned(), format!("{}\n", text.trim_end_matches('\n'))))
            .collect();
        (name.to_owned(), files)
    });
    let (_, base) = sections.next().expect("the base");
    sections.map(|(name, own)| (name, base.clone().into_iter().chain(own).collect())).collect()
}

fn write(files: &Files) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    dir
}

fn ours(name: &str, dir: &Path) -> BTreeMap<String, Value> {
    let (built, sources, diagnostics) = run(dir);
    let told = strake_source::render(&sources, &diagnostics, Style::Plain);
    assert!(!diagnostics.iter().any(Diagnostic::is_error), "{name}: {told}");
    by_name(built.objects.iter().map(Node::to_json)).into_iter().map(|(key, object)| (key, sorted(&object))).collect()
}

/// What kustomize says; `None` when it refuses.
fn theirs(name: &str, dir: &Path) -> Option<BTreeMap<String, Value>> {
    let output = Command::new("kubectl").arg("kustomize").arg(dir.join("overlay")).output().expect("kubectl runs");
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).expect("text");
    let mut sources = Sources::default();
    let file = sources.add("theirs", text.as_str());
    let (documents, findings) = strake_yaml::parse(file, &text);
    assert!(findings.is_empty(), "{name}: {findings:?}");
    Some(by_name(documents.iter().map(|document| document.root.to_json())).into_iter().map(|(key, object)| (key, sorted(&object))).collect())
}

/// Versions of kustomize that make the same of every case.
const VERSIONS: [&str; 2] = ["v5.5.", "v5.6."];

/// Whether kustomize can be asked here, in a version that means the same; if not, what is said.
fn asked() -> Result<(), String> {
    let said = Command::new("kubectl").args(["version", "--client"]).output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = said.as_deref().unwrap_or_default().lines().find_map(|line| line.strip_prefix("Kustomize Version: ")).unwrap_or("none").to_owned();
    if VERSIONS.iter().any(|known| version.starts_with(known)) {
        return Ok(());
    }
    Err(format!("kubectl has kustomize {version}, and {VERSIONS:?} are compared with: what they said is kept, and nothing is asked now"))
}

/// Where two sets of objects differ, one line each.
fn differences(ours: &BTreeMap<String, Value>, theirs: &BTreeMap<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
        match (ours.get(key), theirs.get(key)) {
            (Some(one), Some(other)) if one == other => {}
            (Some(one), Some(other)) => found.push(format!("{key}:\n  ours   {one}\n  theirs {other}")),
            (Some(_), None) => found.push(format!("{key}: only ours")),
            _ => found.push(format!("{key}: only theirs")),
        }
    }
    found
}

/// What kustomize makes of each case, by the objects' names.
type Kept = BTreeMap<String, BTreeMap<String, Value>>;

/// The case whose objects most others have too.
const PLAIN: &str = "resources alone";

/// With the objects that are those of the plain case only named.
fn folded(mut kept: Kept) -> Kept {
    let plain = kept.get(PLAIN).cloned().unwrap_or_default();
    for (_, objects) in kept.iter_mut().filter(|(name, _)| *name != PLAIN) {
        objects.iter_mut().filter(|(key, object)| plain.get(*key) == Some(*object)).for_each(|(_, object)| *object = Value::from("plain"));
    }
    kept
}

fn unfolded(mut kept: Kept) -> Kept {
    let plain = kept.get(PLAIN).cloned().unwrap_or_default();
    for (key, object) in kept.values_mut().flatten().filter(|(_, object)| **object == "plain") {
        *object = plain.get(key).cloned().unwrap_or_default();
    }
    kept
}

#[test]
fn overlays_are_what_kustomize_makes_of_them_feature_by_feature() {
    let (cases, asked) = (cases(), asked());
    if let Err(why) = &asked {
        eprintln!("{why}");
    }
    let here = asked.is_ok();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    let golden = folder().join("expected.json");
    let mut expected = unfolded(serde_json::from_str(&fs::read_to_string(&golden).unwrap_or_else(|_| "{}".to_owned())).expect("JSON"));
    let update = std::env::var_os("UPDATE_GOLDEN").is_some() && here;
    let mut wrong = Vec::new();
    for (name, files) in &cases {
        let dir = write(files);
        if here {
            let said = theirs(name, dir.path()).unwrap_or_else(|| panic!("{name}: kustomize refuses it"));
            if update {
                expected.insert(name.clone(), said);
            } else {
                wrong.extend(
                    differences(expected.get(name).unwrap_or(&BTreeMap::new()), &said).into_iter().map(|line| format!("{name}: kept, and said now: {line}")),
                );
            }
        }
        let expected = expected.get(name).unwrap_or_else(|| panic!("{name}: nothing is kept"));
        wrong.extend(differences(&ours(name, dir.path()), expected).into_iter().map(|line| format!("{name}: {line}")));
    }
    if update {
        expected.retain(|name, _| cases.iter().any(|(case, _)| case == name));
        let line = |object: (&String, &Value)| format!("    {}: {}", Value::from(object.0.as_str()), object.1);
        let case = |(name, objects): (&String, &BTreeMap<String, Value>)| {
            format!("  {}: {{\n{}\n  }}", Value::from(name.as_str()), objects.iter().map(line).collect::<Vec<_>>().join(",\n"))
        };
        let text = format!("{{\n{}\n}}", folded(expected).iter().map(case).collect::<Vec<_>>().join(",\n"));
        fs::write(&golden, text + "\n").expect("written");
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// Numbers that look random and are the same every time; `STRAKE_SEED` chooses others.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit.max(1)
    }
}

/// Fields of a kustomization; those of one line exclude each other. A label has one value throughout: kustomize 5 shares the nodes of labels that it has made itself, so
/// that another layer's new value for one of them changes selectors too.
const CHOICES: &[&[&str]] = &[
    &["namePrefix: a-", "namePrefix: b-"],
    &["nameSuffix: -x", "nameSuffix: -y"],
    &["namespace: one", "namespace: two"],
    &[
        "commonLabels: {c: \"1\"}",
        "labels: [{pairs: {one: \"1\"}}]",
        "labels: [{pairs: {two: \"2\"}, includeSelectors: true}]",
        "labels: [{pairs: {three: \"3\"}, includeTemplates: true}]",
    ],
    &["commonAnnotations: {mark: \"1\"}"],
    &[
        "images: [{name: nginx, newTag: t1}]",
        "images: [{name: nginx, newName: m.example/nginx}, {name: busybox, newTag: t}]",
        "images: [{name: postgres, newTag: \"15\"}]",
    ],
    &["configMapGenerator: [{name: extra, literals: [a=1]}]", "configMapGenerator: [{name: other, literals: [b=2], options: {disableNameSuffixHash: true}}]"],
    &["secretGenerator: [{name: sealed, literals: [p=1]}]"],
    &["generatorOptions: {labels: {g: \"1\"}}", "generatorOptions: {immutable: true}"],
    &[
        "patches: [{target: {kind: Deployment}, patch: '[{\"op\": \"replace\", \"path\": \"/spec/replicas\", \"value\": 6}]'}]",
        "patches: [{target: {kind: Service}, patch: '[{\"op\": \"add\", \"path\": \"/spec/sessionAffinity\", \"value\": \"ClientIP\"}]'}]",
        "patches: [{target: {kind: Deployment|CronJob}, patch: '{apiVersion: x, kind: x, metadata: {name: x, labels: {patched: \"1\"}}}'}]",
    ],
    &[
        "replacements: [{source: {kind: HorizontalPodAutoscaler, fieldPath: spec.maxReplicas}, targets: [{select: {kind: Deployment}, fieldPaths: [spec.replicas]}]}]",
    ],
];

fn kustomization(dice: &mut Dice, first: &str) -> String {
    let mut text = format!("{first}\n");
    for choices in CHOICES {
        // About half of them.
        let at = dice.below(choices.len() * 2);
        text.extend(choices.get(at).map(|choice| format!("{choice}\n")));
    }
    text
}

#[test]
fn combinations_are_what_kustomize_makes_of_them() {
    if let Err(why) = asked() {
        return eprintln!("{why}");
    }
    let seed: u64 = std::env::var("STRAKE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let rounds: usize = std::env::var("STRAKE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(24);
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (_, base) = cases().swap_remove(0);
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for round in 0..rounds {
        let mut files = base.clone();
        let component = dice.below(3) == 0;
        files.insert("middle/kustomization.yaml".to_owned(), kustomization(&mut dice, "resources: [../base]"));
        let first = if component { "resources: [../middle]\ncomponents: [../part]" } else { "resources: [../middle]" };
        files.insert(
            "overlay/kustomization.yaml".to_owned(),
            kustomization(&mut dice, first)
                .replace("name: extra", "name: upper")
                .replace("name: other", "name: topmost")
                .replace("name: sealed", "name: closed"),
        );
        let part = kustomization(&mut dice, "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component");
        files.insert(
            "part/kustomization.yaml".to_owned(),
            part.replace("name: extra", "name: part").replace("name: other", "name: piece").replace("name: sealed", "name: shut"),
        );
        let dir = write(&files);
        let name = format!("round {round} of seed {seed}");
        // What it refuses is no overlay.
        let Some(said) = theirs(&name, dir.path()) else { continue };
        compared += 1;
        let texts = ["middle", "part", "overlay"].map(|layer| files[&format!("{layer}/kustomization.yaml")].clone()).join("--\n");
        wrong.extend(differences(&ours(&name, dir.path()), &said).into_iter().map(|line| format!("{name}: {line}\n{texts}")));
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared * 2 > rounds, "kustomize takes most of them: {compared} of {rounds}");
}
