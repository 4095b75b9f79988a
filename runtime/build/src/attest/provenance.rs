//! How an image was made (SLSA provenance v1): what was asked for, what it was made of, who made it.
//!
//! By default nothing in it differs between two builds of the same things: no times, no names of machines. Values of secrets are nowhere; values of build
//! arguments only in mode `max`, as with buildx.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use strake_oci::{Digest, Platform};
use strake_plan::{BuildPlan, Image, MountKind, Op, Step, StepIndex};

use super::purl::image_purl;

/// The predicate's type.
pub const SLSA_PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// What `externalParameters` mean: this module's documentation.
pub const BUILD_TYPE: &str = "https://strake.dev/build/dockerfile/v1";

/// Something that the image was made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    /// Where it is: a package URL, or an address.
    pub uri: String,
    /// The digest's algorithm and hexadecimal digits.
    pub digest: (String, String),
}

/// When the build began and ended, in RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    pub started: String,
    pub finished: String,
}

/// Everything that the statement says, or is made from.
#[derive(Clone, Debug)]
pub struct Provenance<'a> {
    /// Mode `max`: values of build arguments, ids of secrets and agents, the steps, the Dockerfile.
    pub max: bool,
    /// The plan.
    pub plan: &'a BuildPlan,
    /// The image of the plan.
    pub image: &'a Image,
    /// What the build ran on.
    pub builder_platform: Platform,
    /// Who built; empty is "nobody in particular".
    pub builder_id: String,
    /// The Dockerfile's name.
    pub path: String,
    /// The Dockerfile's text.
    pub text: String,
    /// The address of a context that is not local.
    pub source: Option<Dependency>,
    /// Local contexts by name.
    pub locals: Vec<String>,
    /// `--target`.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: &'a BTreeMap<String, Option<String>>,
    /// `--label`.
    pub labels: &'a BTreeMap<String, String>,
    /// Base images' references as people write them, and platforms, by the digest of their manifests.
    pub bases: &'a BTreeMap<Digest, (String, Platform)>,
    /// Files and repositories of elsewhere.
    pub remotes: Vec<Dependency>,
    /// Whether the builder claims that the same inputs give the same image.
    pub reproducible: bool,
    /// Left out, unless somebody asks.
    pub times: Option<Times>,
}

impl Provenance<'_> {
    /// The predicate.
    pub fn predicate(&self) -> Value {
        let steps = self.steps();
        let mut parameters = json!({ "configSource": self.config_source(), "request": self.request(&steps) });
        if self.max {
            parameters["buildConfig"] = json!({ "steps": steps.iter().map(|step| self.step(step)).collect::<Vec<_>>() });
        }
        let mut dependencies: BTreeSet<Dependency> = self.remotes.iter().cloned().collect();
        dependencies.extend(self.source.clone());
        dependencies.extend(steps.iter().filter_map(|step| self.base(step)));
        let dependencies: Vec<Value> = dependencies.iter().map(Dependency::value).collect();
        json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": parameters,
                "internalParameters": { "builderPlatform": self.builder_platform.to_string() },
                "resolvedDependencies": dependencies,
            },
            "runDetails": { "builder": { "id": self.builder_id }, "metadata": self.metadata(&steps) },
        })
    }

    /// The steps that the image is made of, in the plan's order.
    fn steps(&self) -> Vec<&Step> {
        let (mut wanted, mut todo) = (BTreeSet::new(), vec![self.image.step]);
        while let Some(StepIndex(place)) = todo.pop() {
            if wanted.insert(place) {
                todo.extend(self.plan.steps[place].op.inputs());
            }
        }
        wanted.into_iter().map(|place| &self.plan.steps[place]).collect()
    }

    fn config_source(&self) -> Value {
        let mut source = json!({ "path": self.path });
        if let Some(Dependency { uri, digest: (algorithm, digits) }) = &self.source {
            source["uri"] = uri.clone().into();
            source["digest"] = json!({ algorithm: digits });
        }
        source
    }

    fn request(&self, steps: &[&Step]) -> Value {
        let mut args = Map::new();
        args.extend(self.target.iter().map(|target| ("target".to_owned(), Value::from(target.as_str()))));
        let given: Vec<(&String, &String)> = self.build_args.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))).collect();
        // Proxies often carry a password.
        let given: Vec<_> = given.into_iter().filter(|(name, _)| !name.to_lowercase().ends_with("_proxy")).collect();
        if self.max {
            args.extend(given.iter().map(|(name, value)| (format!("build-arg:{name}"), Value::from(value.as_str()))));
            args.extend(self.labels.iter().map(|(name, value)| (format!("label:{name}"), Value::from(value.as_str()))));
        }
        let mut request = json!({ "frontend": "dockerfile.v0", "args": args });
        if !given.is_empty() {
            request["buildArgNames"] = given.iter().map(|(name, _)| Value::from(name.as_str())).collect();
        }
        if !self.locals.is_empty() {
            request["locals"] = self.locals.iter().map(|name| json!({ "name": name })).collect();
        }
        if self.max {
            let (secrets, agents) = asked_for(steps);
            let listed = |ids: BTreeMap<String, bool>| ids.into_iter().map(|(id, required)| json!({ "id": id, "optional": !required })).collect::<Value>();
            if !secrets.is_empty() {
                request["secrets"] = listed(secrets);
            }
            if !agents.is_empty() {
                request["ssh"] = listed(agents);
            }
        }
        request
    }

    /// A step as the plan has it, with its inputs by id and without what is this machine's.
    fn step(&self, step: &Step) -> Value {
        let mut op = serde_json::to_value(&step.op).unwrap_or_default();
        if let Some(map) = op.as_object_mut() {
            map.remove("proxy_env");
        }
        strake_plan::forget_cache_names(&mut op);
        let inputs: Vec<String> = step.op.inputs().into_iter().map(|input| self.plan.step(input).id.0.to_string()).collect();
        json!({ "id": step.id.0.to_string(), "stage": step.stage, "line": step.origin.line, "inputs": inputs, "op": op })
    }

    fn base(&self, step: &Step) -> Option<Dependency> {
        let Op::Base { reference, manifest, .. } = &step.op else { return None };
        let uri = self.bases.get(manifest).map_or_else(|| image_purl(reference, None), |(familiar, platform)| image_purl(familiar, Some(platform)));
        Some(Dependency { uri, digest: ("sha256".to_owned(), manifest.hex()) })
    }

    fn metadata(&self, steps: &[&Step]) -> Value {
        let complete = self.locals.is_empty();
        let offline = |step: &&&Step| matches!(&step.op, Op::Run(run) if run.network != strake_plan::Network::None);
        let hermetic = complete && !steps.iter().any(|step| offline(&step));
        let mut metadata = json!({
            "strake_completeness": { "request": true, "resolvedDependencies": complete },
            "strake_hermetic": hermetic,
            "strake_reproducible": self.reproducible,
        });
        if self.max {
            metadata["strake_source"] = json!({ "filename": self.path, "language": "Dockerfile", "text": self.text });
        }
        if let Some(Times { started, finished }) = &self.times {
            metadata["startedOn"] = started.as_str().into();
            metadata["finishedOn"] = finished.as_str().into();
        }
        metadata
    }
}

impl Dependency {
    fn value(&self) -> Value {
        let (algorithm, digits) = &self.digest;
        json!({ "uri": self.uri, "digest": { algorithm: digits } })
    }
}

/// The secrets and agents that steps ask for, by id, and whether they must be given.
fn asked_for(steps: &[&Step]) -> (BTreeMap<String, bool>, BTreeMap<String, bool>) {
    let (mut secrets, mut agents) = (BTreeMap::new(), BTreeMap::new());
    let runs = steps.iter().filter_map(|step| if let Op::Run(run) = &step.op { Some(run) } else { None });
    for mount in runs.flat_map(|run| &run.mounts) {
        match &mount.kind {
            MountKind::Secret { id, required, .. } => *secrets.entry(id.clone()).or_insert(false) |= required,
            MountKind::Ssh { id, required, .. } => *agents.entry(id.clone()).or_insert(false) |= required,
            MountKind::Bind { .. } | MountKind::Cache { .. } | MountKind::Tmpfs { .. } => {}
        }
    }
    (secrets, agents)
}
