//! The build half: steps with their inputs, and the images assembled from them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use strake_oci::{Digest, Hasher, ImageConfig, Platform};

/// A step's place in [`BuildPlan::steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepIndex(pub usize);

/// A step's identity: the digest of its definition and of its inputs' ids. Content of build contexts is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub Digest);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.short())
    }
}

/// A graph of steps in topological order: a step's inputs stand before it. Only steps that some image needs are here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildPlan {
    /// The steps.
    pub steps: Vec<Step>,
    /// What to assemble from them.
    pub images: Vec<Image>,
    /// Build contexts by name, as the steps refer to them.
    pub contexts: BTreeMap<String, Context>,
}

/// One unit of work with a file system as its result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// See [`StepId`].
    pub id: StepId,
    /// What to do.
    pub op: Op,
    /// Where it was written.
    pub origin: Origin,
    /// The stage, as progress shows it: its name or its number.
    pub stage: String,
}

/// Where a step was written and how a person knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The Dockerfile's path as the user gave it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// The instruction in one line, as progress shows it: `RUN make`, `COPY src/ /src/`.
    pub text: String,
    /// A step of this cannot be taken from the cache (`--no-cache`).
    #[serde(default)]
    pub no_cache: bool,
}

/// What a step does. Each makes at most one layer on top of its parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Op {
    /// The empty file system: `FROM scratch`.
    Scratch,
    /// A base image that the store holds (or can pull) under `reference`; `diff_ids` are its layers, lowest first.
    Base { reference: String, manifest: Digest, diff_ids: Vec<Digest> },
    /// RUN.
    Run(Run),
    /// COPY, and the parts of ADD that copy.
    Copy(Copy),
    /// WORKDIR.
    Mkdir(Mkdir),
}

/// RUN in a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The file system to run in.
    pub parent: StepIndex,
    /// The command with its arguments: the shell is already in front.
    pub args: Vec<String>,
    /// The whole environment, `KEY=value`, of image and ARGs.
    pub env: Vec<String>,
    /// Predefined proxy variables: given to the process, never part of the identity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxy_env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// USER as written: `name`, `uid`, `name:group`, …; empty is root.
    pub user: String,
    /// Mounts in the order written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Network of the container.
    #[serde(default)]
    pub network: Network,
    /// Names that the step's /etc/hosts has more; their addresses are no part of the identity, and whoever runs the build knows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<String>,
    /// Files given read-only for this step only: a heredoc script with a `#!` line under /dev/pipes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<InlineFile>,
    /// What its programs are for, when that is not what the build runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// --security=insecure: nothing is kept from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// The name that it sees of its machine; the builder's own when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Limits of its processes (`--ulimit`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<Ulimit>,
    /// What all of its processes may use together. It decides nothing about the result and is no part of any key.
    #[serde(default, skip_serializing_if = "Resources::is_unlimited")]
    pub resources: Resources,
}

/// What the processes of a RUN may use together; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory in bytes, without swap on top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processor time in thousandths of a processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_milli: Option<u64>,
    /// Weight beside others when processors are scarce, in thousandths of a processor (1,024 of Docker's shares are 1,000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_weight_milli: Option<u64>,
}

impl Resources {
    /// No limit at all.
    pub fn is_unlimited(&self) -> bool {
        *self == Resources::default()
    }
}

/// A limit of each process, as getrlimit(2) knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Its name without `RLIMIT_`, in lower case: `nofile`.
    pub name: String,
    /// What is in force; `None` is no limit.
    pub soft: Option<u64>,
    /// How far a process may raise it; `None` is no limit.
    pub hard: Option<u64>,
}

/// RUN --network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// The builder's default: the host's network, until builds have one of their own.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// RUN --mount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container; empty for a secret that is only a variable.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind,
    /// Read-only.
    pub read_only: bool,
}

/// What a RUN mount shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum MountKind {
    /// A path of a context or stage; writes are thrown away.
    Bind { from: CopySource, source: String },
    /// A directory that outlives the step and is never part of a layer. Its id and sharing are no part of the step's identity.
    Cache { id: String, sharing: String, mode: u32, uid: u32, gid: u32, from: Option<CopySource>, source: String },
    /// Memory; `size_bytes` 0 is the kernel's default.
    Tmpfs { size_bytes: u64 },
    /// A file in memory, a variable, or both, with a value that only whoever runs the build knows: it is in no plan, key or layer.
    Secret { id: String, env: Option<String>, required: bool, mode: u32, uid: u32, gid: u32 },
    /// A socket that leads to an SSH agent of whoever runs the build.
    Ssh { id: String, required: bool, mode: u32, uid: u32, gid: u32 },
}

/// COPY and ADD.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Copy {
    /// The file system to copy onto.
    pub parent: StepIndex,
    /// Where the sources are.
    pub from: CopySource,
    /// Source patterns, expanded, cleaned and relative to the source's root. Empty when only `inline` files are copied.
    pub sources: Vec<String>,
    /// Files whose content stands in the Dockerfile (heredocs).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inline: Vec<InlineFile>,
    /// Absolute destination; a final `/` means "into this directory".
    pub dest: String,
    /// --chown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chown: Option<Chown>,
    /// --chmod as written: octal or symbolic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chmod: Option<String>,
    /// --exclude patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// --parents.
    #[serde(default)]
    pub parents: bool,
    /// --link.
    #[serde(default)]
    pub link: bool,
    /// ADD: how archives are treated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<Add>,
    /// ADD with sources of several places: what is copied after `sources`, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Further>,
}

/// Sources of another place in the same ADD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Further {
    /// Where they are.
    pub from: CopySource,
    /// As in [`Copy::sources`].
    pub sources: Vec<String>,
    /// As in [`Add::unpack`].
    pub unpack: bool,
    /// As in [`Add::tree`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tree: bool,
}

/// What ADD does beyond COPY.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Add {
    /// Local archives are unpacked (`--unpack=false` turns it off).
    pub unpack: bool,
    /// The source is a repository's tree and not what is in it: a directory that is made for it is root's, with mode 0755, whatever is above.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tree: bool,
}

/// --chown as written: names are looked up in the destination's /etc/passwd and /etc/group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Chown(pub String);

/// Where files come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum CopySource {
    /// A build context by its name in [`BuildPlan::contexts`].
    Context { name: String },
    /// The file system of a step: the end of another stage, or a base image.
    Step { step: StepIndex },
    /// Nothing but inline files.
    Inline,
}

/// A file whose content stands in the Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InlineFile {
    /// File name (COPY), or absolute path (RUN script).
    pub name: String,
    /// The content.
    pub content: String,
}

/// WORKDIR: all missing components of the path, owned by the current user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mkdir {
    /// The file system to make it in.
    pub parent: StepIndex,
    /// Absolute path.
    pub path: String,
    /// USER in force; unknown names are root.
    pub user: String,
}

/// Where a context's files are. The compiler never reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// How to get at it.
    pub kind: ContextKind,
    /// The lines of its ignore file, in order.
    pub ignore: Vec<String>,
}

/// How to get at a context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ContextKind {
    /// A directory of this machine.
    Directory { path: String },
}

/// One image to assemble.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// What deploys and people call it: the references it will be tagged with, normalised.
    pub tags: Vec<String>,
    /// The step whose file system it is.
    pub step: StepIndex,
    /// The configuration; `rootfs`, `history` and `created` are filled in at assembly.
    pub config: ImageConfig,
    /// History rows: the base image's first.
    pub history: Vec<ImageHistory>,
    /// Where the target stage was written.
    pub origin: Origin,
}

/// One history row to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageHistory {
    /// `created_by` of the row.
    pub created_by: String,
    /// `comment` of the row; rows of the base keep theirs.
    pub comment: String,
    /// `created` of the row, for rows of the base.
    pub created: Option<String>,
    /// True when the row has no layer.
    pub empty_layer: bool,
}

impl Op {
    /// The steps this one reads, without repetition: its parent first.
    pub fn inputs(&self) -> Vec<StepIndex> {
        let mut inputs = Vec::new();
        let mut add = |index: StepIndex| {
            if !inputs.contains(&index) {
                inputs.push(index);
            }
        };
        let step_of = |source: &CopySource| match source {
            CopySource::Step { step } => Some(*step),
            CopySource::Context { .. } | CopySource::Inline => None,
        };
        match self {
            Op::Scratch | Op::Base { .. } => {}
            Op::Mkdir(mkdir) => add(mkdir.parent),
            Op::Copy(copy) => {
                add(copy.parent);
                step_of(&copy.from).into_iter().chain(copy.also.iter().filter_map(|further| step_of(&further.from))).for_each(add);
            }
            Op::Run(run) => {
                add(run.parent);
                let sources = run.mounts.iter().filter_map(|mount| match &mount.kind {
                    MountKind::Bind { from, .. } => step_of(from),
                    MountKind::Cache { from, .. } => from.as_ref().and_then(step_of),
                    MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => None,
                });
                sources.for_each(add);
            }
        }
        inputs
    }

    /// The step whose file system this one starts from.
    pub fn parent(&self) -> Option<StepIndex> {
        match self {
            Op::Scratch | Op::Base { .. } => None,
            Op::Run(run) => Some(run.parent),
            Op::Copy(copy) => Some(copy.parent),
            Op::Mkdir(mkdir) => Some(mkdir.parent),
        }
    }
}

impl BuildPlan {
    /// Adds a step and names it; a step with the same id is taken instead of added twice.
    ///
    /// The id frames the operation (with the places of inputs and the proxy variables taken out) and the inputs' ids.
    pub fn push(&mut self, op: Op, origin: Origin, stage: impl Into<String>) -> StepIndex {
        let id = self.identify(&op);
        if let Some(index) = self.steps.iter().position(|step| step.id == id && step.origin.no_cache == origin.no_cache) {
            return StepIndex(index);
        }
        self.steps.push(Step { id, op, origin, stage: stage.into() });
        StepIndex(self.steps.len() - 1)
    }

    fn identify(&self, op: &Op) -> StepId {
        let mut definition = serde_json::to_value(op).unwrap_or_default();
        if let Some(map) = definition.as_object_mut() {
            map.shift_remove("proxy_env");
            // A base is its layers, whatever it was called.
            map.shift_remove("reference");
            map.shift_remove("manifest");
        }
        forget_cache_names(&mut definition);
        self.name_inputs(&mut definition);
        let mut hasher = Hasher::default();
        hasher.field(b"strake step 1");
        hasher.field(definition.to_string().as_bytes());
        StepId(hasher.finish())
    }

    /// Replaces each place in the plan by the id of the step that stands there.
    fn name_inputs(&self, value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    match value.as_u64() {
                        Some(index) if key == "parent" || key == "step" => {
                            *value = self.steps[index as usize].id.0.to_string().into();
                        }
                        _ => self.name_inputs(value),
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| self.name_inputs(item)),
            _ => {}
        }
    }

    /// The step at a place.
    pub fn step(&self, index: StepIndex) -> &Step {
        &self.steps[index.0]
    }
}

impl MountKind {
    /// What a cache mount is kept under: its id, with the mode and the owner that its directory is to have where they are not the usual ones. Steps of different
    /// users that give one id have a directory each, as with BuildKit: one could not write to the other's.
    pub fn cache_key(&self) -> Option<String> {
        match self {
            MountKind::Cache { id, mode: 0o755, uid: 0, gid: 0, .. } => Some(id.clone()),
            MountKind::Cache { id, mode, uid, gid, .. } => Some(format!("{id} (mode {mode:o}, owner {uid}:{gid})")),
            _ => None,
        }
    }
}

/// Whether a cache mount that is kept under `key` has this id, whatever its mode and owner.
pub fn is_cache_of(key: &str, id: &str) -> bool {
    key.strip_prefix(id).is_some_and(|rest| rest.is_empty() || rest.starts_with(" (mode "))
}

/// Takes out of a RUN's definition what decides nothing about the result: where a cache mount is kept and how it is shared, and what processes may use.
pub fn forget_cache_names(definition: &mut serde_json::Value) {
    if let Some(map) = definition.as_object_mut() {
        map.shift_remove("resources");
    }
    for mount in definition.get_mut("mounts").and_then(serde_json::Value::as_array_mut).into_iter().flatten() {
        if let Some(kind) = mount.get_mut("kind").and_then(serde_json::Value::as_object_mut)
            && kind.get("type").is_some_and(|kind| kind == "cache")
        {
            kind.shift_remove("id");
            kind.shift_remove("sharing");
        }
    }
}
