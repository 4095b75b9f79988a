//! The lint rules: a table. None of them stops a plan unless it is set to.
//!
//! A rule has a code, a level, a page for `strake explain`, an example that it reports and one that it leaves alone; the examples are its tests. Levels are
//! changed by [`Options::lints`](crate::Options), and one object is excepted by the annotation `strake.dev/allow: CODE, CODE`.

mod images;
mod network;
mod pods;
mod probes;
mod rbac;
mod references;
mod scale;
mod secrets;
mod security;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rayon::prelude::*;
use serde_json::{Map, Value};
use strake_deploy::Manifest;
use strake_plan::{BuildPlan, Image, Phase};
use strake_source::{Diagnostic, Severity, Spanned};

/// The annotation that excepts an object from rules.
pub const ALLOW: &str = "strake.dev/allow";

/// How much a rule's finding counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nobody is told.
    Off,
    /// Told by `strake check`.
    Note,
    /// Told by everything that compiles.
    Warning,
    /// Stops the plan.
    Error,
}

impl Level {
    /// `off`, `note`, `warning`, `error`.
    pub fn parse(text: &str) -> Option<Level> {
        match text {
            "off" => Some(Level::Off),
            "note" => Some(Level::Note),
            "warning" | "warn" => Some(Level::Warning),
            "error" => Some(Level::Error),
            _ => None,
        }
    }
}

/// What an example is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Example {
    /// Whole objects.
    Objects(&'static str),
    /// Fields of the only container of a Deployment.
    Container(&'static str),
    /// Fields of the pods of a Deployment, beside its containers.
    Pod(&'static str),
    /// A Dockerfile that builds the image of a Deployment's only container, and fields of that container.
    Image(&'static str, &'static str),
    /// The same, with fields of the pods.
    PodImage(&'static str, &'static str),
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name in findings, options and annotations.
    pub code: &'static str,
    /// The level it has by itself.
    pub level: Level,
    /// One line.
    pub title: &'static str,
    /// Why it matters and what to do.
    pub text: &'static str,
    /// It reports this.
    pub bad: Example,
    /// It leaves this alone.
    pub good: Example,
    pub(crate) check: fn(&View<'_>, &mut Out<'_>),
}

/// All rules, by code.
pub fn rules() -> Vec<&'static Rule> {
    let files = [images::RULES, network::RULES, pods::RULES, probes::RULES, rbac::RULES, references::RULES, scale::RULES, secrets::RULES, security::RULES];
    let mut rules: Vec<&Rule> = files.into_iter().flatten().collect();
    rules.sort_by_key(|rule| rule.code);
    rules
}

/// What rules look at.
pub(crate) struct View<'a> {
    /// The objects that have no errors of their own.
    pub(crate) manifests: Vec<&'a Manifest>,
    /// All objects: one with errors still is there for what refers to it.
    pub(crate) all: &'a [Manifest],
    /// Images that the plan builds, as the manifests write them; without their content when it could not be planned.
    pub(crate) built: &'a BTreeMap<String, Option<&'a Image>>,
    /// How they are built.
    pub(crate) plan: &'a BuildPlan,
    /// Hooks of the project's file.
    hooks: &'a [(Phase, Spanned<String>)],
    /// Objects with pods, by namespace and by each label of the pods: selectors are looked up, not searched for.
    by_label: HashMap<(&'a str, &'a str, &'a str), Vec<usize>>,
    /// Kind, namespace and name of every object.
    names: HashSet<(&'a str, &'a str, &'a str)>,
    /// Every container: most rules look at them.
    containers: Vec<Place<'a>>,
}

/// Takes the findings of one rule.
pub(crate) struct Out<'a> {
    rule: &'static Rule,
    severity: Severity,
    findings: &'a mut Vec<Diagnostic>,
}

impl Out<'_> {
    /// A finding about a value of an object.
    pub(crate) fn at(&mut self, manifest: &Manifest, pointer: &str, message: impl Into<String>) {
        self.with(manifest, pointer, message, |finding| finding);
    }

    /// The same, with more to say.
    pub(crate) fn with(&mut self, manifest: &Manifest, pointer: &str, message: impl Into<String>, more: impl FnOnce(Diagnostic) -> Diagnostic) {
        if allowed(manifest, self.rule.code) {
            return;
        }
        let mut finding = more(Diagnostic::warning(self.rule.code, message).at(manifest.span(pointer)));
        finding.severity = self.severity;
        self.findings.push(finding);
    }
}

fn allowed(manifest: &Manifest, code: &str) -> bool {
    let annotations = manifest.at("/metadata/annotations").and_then(Value::as_object);
    let words = annotations.and_then(|annotations| annotations.get(ALLOW)).and_then(Value::as_str).unwrap_or_default();
    words.split([',', ' ']).any(|word| word == code)
}

/// `hooks` are those of the project's file.
pub(crate) fn run(
    manifests: &[Manifest],
    (built, plan): (&BTreeMap<String, Option<&Image>>, &BuildPlan),
    hooks: &[(Phase, Spanned<String>)],
    levels: &BTreeMap<String, Level>,
) -> Vec<Diagnostic> {
    let view = View::new(manifests, (built, plan), hooks);
    // Each rule looks at all objects, on any core; what they find stays in the order of rules.
    let each = |rule: &'static Rule| {
        let mut findings = Vec::new();
        let severity = match levels.get(rule.code).copied().unwrap_or(rule.level) {
            Level::Off => return findings,
            Level::Note => Severity::Note,
            Level::Warning => Severity::Warning,
            Level::Error => Severity::Error,
        };
        (rule.check)(&view, &mut Out { rule, severity, findings: &mut findings });
        findings
    };
    let found: Vec<Vec<Diagnostic>> = rules().into_par_iter().map(each).collect();
    let mut findings: Vec<Diagnostic> = found.into_iter().flatten().collect();
    unknown_allowances(&view, &mut findings);
    findings
}

/// A word in the annotation that is no rule would be taken for an exception.
fn unknown_allowances(view: &View<'_>, findings: &mut Vec<Diagnostic>) {
    let codes: BTreeSet<&str> = rules().iter().map(|rule| rule.code).collect();
    for manifest in view.all {
        let words = manifest.at("/metadata/annotations").and_then(|annotations| annotations.get(ALLOW)).and_then(Value::as_str);
        for word in words.unwrap_or_default().split([',', ' ']).filter(|word| !word.is_empty() && !codes.contains(word)) {
            let finding = Diagnostic::warning("unknown-rule", format!("`{word}` is no lint rule")).at(manifest.span("/metadata/annotations/strake.dev~1allow"));
            findings.push(match strake_source::nearest(word, codes.iter().copied()) {
                Some(near) => finding.label(format!("did you mean `{near}`?")),
                None => finding.help("`strake explain` lists the rules"),
            });
        }
    }
}

/// A container with where it is.
pub(crate) struct Place<'a> {
    pub(crate) manifest: &'a Manifest,
    pub(crate) pointer: String,
    pub(crate) container: &'a Map<String, Value>,
}

impl<'a> Place<'a> {
    pub(crate) fn name(&self) -> &'a str {
        self.container.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    /// A value inside the container, by pointer; the first name has no `~` in it.
    pub(crate) fn get(&self, pointer: &str) -> Option<&'a Value> {
        let pointer = pointer.strip_prefix('/')?;
        let (first, rest) = pointer.split_at(pointer.find('/').unwrap_or(pointer.len()));
        strake_deploy::find(self.container.get(first)?, rest)
    }

    /// An ordinary container: neither an init container, unless it goes on beside the others, nor one for debugging.
    pub(crate) fn is_main(&self) -> bool {
        self.pointer.contains("/containers/")
    }

    pub(crate) fn report(&self, out: &mut Out<'_>, pointer: &str, message: impl Into<String>, help: &str) {
        let whole = format!("{}{pointer}", self.pointer);
        out.with(self.manifest, &whole, message, |finding| if help.is_empty() { finding } else { finding.help(help) });
    }
}

impl<'a> View<'a> {
    fn new(manifests: &'a [Manifest], (built, plan): (&'a BTreeMap<String, Option<&'a Image>>, &'a BuildPlan), hooks: &'a [(Phase, Spanned<String>)]) -> Self {
        let sound: Vec<&Manifest> = manifests.iter().filter(|manifest| manifest.sound).collect();
        let mut by_label: HashMap<(&str, &str, &str), Vec<usize>> = HashMap::new();
        for (index, manifest) in sound.iter().enumerate() {
            for (key, value) in manifest.pod_labels().into_iter().flatten() {
                let place = (manifest.id.namespace.as_str(), key.as_str(), value.as_str().unwrap_or_default());
                by_label.entry(place).or_default().push(index);
            }
        }
        let names = manifests.iter().map(|manifest| (manifest.kind.kind, manifest.id.namespace.as_str(), manifest.id.name.as_str())).collect();
        let place = |manifest: &'a Manifest| manifest.containers().into_iter().map(move |(pointer, container)| Place { manifest, pointer, container });
        let containers = sound.iter().copied().flat_map(place).collect();
        View { manifests: sound, all: manifests, built, plan, hooks, by_label, names, containers }
    }

    /// Whether an object runs to its end and is then done with.
    pub(crate) fn is_hook(&self, manifest: &Manifest) -> bool {
        strake_deploy::is_hook(manifest, self.hooks)
    }

    /// Every container.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &Place<'a>> {
        self.containers.iter()
    }

    /// Every pod's spec: the object, the pointer to the spec, the spec.
    pub(crate) fn pods(&self) -> impl Iterator<Item = (&'a Manifest, &'static str, &'a Map<String, Value>)> {
        self.manifests.iter().filter_map(|manifest| Some((*manifest, manifest.pod_pointer()?, manifest.pod_spec()?)))
    }

    /// Objects of a kind.
    pub(crate) fn of(&self, kind: &'static str) -> impl Iterator<Item = &'a Manifest> {
        self.manifests.iter().copied().filter(move |manifest| manifest.kind.kind == kind && !manifest.kind.is_custom())
    }

    /// The objects of a namespace whose pods have all these labels, of which there is at least one.
    pub(crate) fn with_labels(&self, namespace: &str, labels: &Map<String, Value>) -> Vec<&'a Manifest> {
        let mut found: Option<Vec<usize>> = None;
        for (key, value) in labels {
            let place = (namespace, key.as_str(), value.as_str().unwrap_or_default());
            let holders = self.by_label.get(&place).map(Vec::as_slice).unwrap_or_default();
            found = Some(match found {
                None => holders.to_vec(),
                Some(before) => before.into_iter().filter(|index| holders.binary_search(index).is_ok()).collect(),
            });
        }
        found.unwrap_or_default().into_iter().map(|index| self.manifests[index]).collect()
    }

    /// The objects whose pods a Service's selector selects.
    pub(crate) fn selected(&self, service: &Manifest) -> Vec<&'a Manifest> {
        match service.at("/spec/selector").and_then(Value::as_object).filter(|selector| !selector.is_empty()) {
            Some(selector) => self.with_labels(&service.id.namespace, selector),
            None => Vec::new(),
        }
    }

    /// Whether something of this kind is there, with errors or without.
    pub(crate) fn exists(&self, kind: &str, namespace: &str, name: &str) -> bool {
        self.names.contains(&(kind, namespace, name))
    }

    /// Pods with errors in them may well be the ones that are meant.
    pub(crate) fn has_unsound_pods(&self, namespace: &str) -> bool {
        self.all.iter().any(|other| !other.sound && other.id.namespace == namespace && other.pod_pointer().is_some())
    }
}

/// The objects in a list, with pointers.
pub(crate) fn items<'a>(manifest: &'a Manifest, pointer: &str) -> Vec<(String, &'a Value)> {
    let list = manifest.at(pointer).and_then(Value::as_array).into_iter().flatten().enumerate();
    list.map(|(index, item)| (format!("{pointer}/{index}"), item)).collect()
}

/// A text field.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}
