//! The driver: stages in order, each on top of its base; then the image.

use std::collections::BTreeMap;

use strake_dockerfile::{Command, Ignore, Source};
use strake_oci::{Digest, ImageConfig, Platform};
use strake_plan::{BuildPlan, Copy, CopySource, Image, Op, Origin as StepOrigin, StepIndex};
use strake_source::{Diagnostic, Span};
use strake_words::Reference;

use crate::graph::{Base, BaseReference, Origin, StageGraph, base_references, find_base};
use crate::remote::is_remote;
use crate::stage::{StageLowering, State};
use crate::{BaseImage, RemoteSource, Request, history};

/// Makes the plan of one image. `None` when there is an error among the findings.
pub fn lower(request: &Request, bases: &BTreeMap<String, BaseImage>) -> (Option<BuildPlan>, Vec<Diagnostic>) {
    let mut plan = BuildPlan::default();
    let (image, diagnostics) = lower_into(request, bases, &mut plan);
    (image.map(|_| plan), diagnostics)
}

/// What ADD names of elsewhere in the stages that the target needs, each once. Names may depend on base images (by their ENV).
pub fn remote_sources(request: &Request, bases: &BTreeMap<String, BaseImage>) -> Vec<RemoteSource> {
    remote_sources_in(request, bases, &BuildPlan::default())
}

/// As [`remote_sources`], for a request that names images of a plan ([`Request::named_builds`]).
pub fn remote_sources_in(request: &Request, bases: &BTreeMap<String, BaseImage>, plan: &BuildPlan) -> Vec<RemoteSource> {
    // Only an ADD can name one: most builds are spared being lowered twice.
    let triggered = || bases.values().any(|base| !base.config.config.on_build.is_empty());
    if !request.file.instructions.iter().any(|instruction| may_fetch(&instruction.command)) && !triggered() {
        return Vec::new();
    }
    let mut diagnostics = Vec::new();
    let Some(graph) = StageGraph::build(request, &mut diagnostics) else { return Vec::new() };
    let (needed, _) = graph.reach(request, bases, &mut Vec::new());
    let (states, mut plan) = (vec![None; graph.stages.len()], plan.clone());
    let mut lowering = Lowering { request, graph: &graph, bases, plan: &mut plan, states, ignore: Ignore::default(), remotes: Vec::new(), diagnostics };
    for index in (0..needed.len()).filter(|index| needed[*index]) {
        lowering.stage(index);
    }
    let mut sources = Vec::new();
    for source in lowering.remotes {
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    sources
}

/// Whether an instruction could name something of elsewhere, once its variables are expanded.
fn may_fetch(command: &Command) -> bool {
    match command {
        Command::Add(add) => {
            let written = add.sources.iter().filter_map(|source| if let Source::Path(path) = source { Some(&path.value) } else { None });
            written.into_iter().any(|path| path.contains('$') || is_remote(path.trim_matches(['"', '\''])))
        }
        Command::Onbuild(onbuild) => may_fetch(&onbuild.trigger.command),
        _ => false,
    }
}

/// What is wrong with the stages of a Dockerfile whose text has errors of its own, as far as it can be read. Nothing is known of base images here, so what
/// depends on them is left out.
pub fn errors_beside(request: &Request) -> Vec<Diagnostic> {
    let (needed, _) = base_references(request);
    let stand_in = |base: BaseReference| {
        let config = ImageConfig { os: base.platform.os.clone(), architecture: base.platform.architecture.clone(), ..ImageConfig::default() };
        (base.key, BaseImage { reference: base.reference, manifest: Digest::of(b""), config })
    };
    let (_, found) = lower(request, &needed.into_iter().map(stand_in).collect());
    let unsure = ["expansion", "remote-file", "unknown-base-image", "unknown-stage"];
    found.into_iter().filter(|finding| finding.is_error() && !unsure.contains(&finding.code.0)).collect()
}

/// Adds the steps and the image of one request to a plan, and returns the image's place in it. Steps that the plan already has are shared.
/// With an error among the findings the plan stays as it was.
pub fn lower_into(request: &Request, bases: &BTreeMap<String, BaseImage>, plan: &mut BuildPlan) -> (Option<usize>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let Some(graph) = StageGraph::build(request, &mut diagnostics) else { return (None, diagnostics) };
    // What is wrong with a `--from` is reported again, at the same place, where it is lowered.
    let (needed, _) = graph.reach(request, bases, &mut Vec::new());
    let states = vec![None; graph.stages.len()];
    let steps_before = plan.steps.len();
    let ignore = Ignore::from_patterns(&request.context.ignore).unwrap_or_default();
    let mut lowering = Lowering { request, graph: &graph, bases, plan, states, ignore, remotes: Vec::new(), diagnostics };
    for index in (0..needed.len()).filter(|index| needed[*index]) {
        lowering.stage(index);
    }
    let image = lowering.image();
    let found = std::mem::take(&mut lowering.diagnostics);
    let mut diagnostics: Vec<Diagnostic> = found.into_iter().filter_map(|finding| request.file.judge(finding)).collect();
    let failed = diagnostics.iter().any(Diagnostic::is_error);
    diagnostics.sort_by_key(|finding| finding.span.map(|span| span.start));
    diagnostics.dedup();
    if failed {
        plan.steps.truncate(steps_before);
    }
    let place = image.filter(|_| !failed).map(|image| {
        plan.contexts.entry(request.context_name.clone()).or_insert_with(|| request.context.clone());
        plan.contexts.extend(request.named_contexts.iter().map(|(name, context)| (named_context(request, name), context.clone())));
        let remotes = request.remotes.values().map(|remote| (remote_context(&remote.digest), remote.context.clone()));
        plan.contexts.extend(remotes);
        plan.images.push(image);
        plan.images.len() - 1
    });
    (place, diagnostics)
}

/// A named context's name in the plan: kept apart from those of other requests.
fn named_context(request: &Request, name: &str) -> String {
    format!("{}#{name}", request.context_name)
}

/// The name in the plan of a file of elsewhere: its content's.
pub(crate) fn remote_context(digest: &strake_oci::Digest) -> String {
    format!("remote:{digest}")
}

pub(crate) struct Lowering<'r> {
    pub(crate) request: &'r Request,
    pub(crate) graph: &'r StageGraph,
    bases: &'r BTreeMap<String, BaseImage>,
    pub(crate) plan: &'r mut BuildPlan,
    /// What the stages lowered so far have become; `Some(None)` when one failed.
    states: Vec<Option<Option<State>>>,
    /// What the main context leaves out.
    pub(crate) ignore: Ignore,
    /// What of elsewhere was asked for.
    pub(crate) remotes: Vec<RemoteSource>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Lowering<'_> {
    /// Lowers a stage once. Stages only look at earlier ones, so this ends.
    fn stage(&mut self, index: usize) -> Option<&State> {
        if self.states[index].is_none() {
            let state = self.start(index).map(|state| {
                let mut stage = StageLowering::new(self, index, state);
                stage.run();
                stage.state
            });
            self.states[index] = Some(state);
        }
        self.states[index].as_ref().and_then(Option::as_ref)
    }

    /// What a stage starts with.
    fn start(&mut self, index: usize) -> Option<State> {
        let stage = &self.graph.stages[index];
        match stage.base.as_ref()? {
            Base::Stage(parent) => self.stage(*parent).map(State::inherited),
            Base::Scratch => {
                let step = self.scratch(index);
                Some(State::scratch(step, &stage.platform))
            }
            Base::Context(name) => {
                let parent = self.scratch(index);
                let step = self.files_of(index, parent, name);
                Some(State::scratch(step, &stage.platform))
            }
            Base::Built(name) => {
                let Image { step, config, history, .. } = self.built(name, &stage.platform)?.clone();
                Some(State::from_config(step, config, history))
            }
            Base::Image(wanted) => {
                let (bases, step) = (self.bases, self.base(index, wanted, stage.span)?);
                let base = bases.get(&wanted.key)?;
                let mut config = base.config.clone();
                let rows = config.history.iter().map(history::base_row).collect();
                let found = config.platform();
                if !found.architecture.is_empty() && (&found.os, &found.architecture) != (&stage.platform.os, &stage.platform.architecture) {
                    let message = format!("base image is for {found}, but {} was asked for", stage.platform);
                    self.diagnostics.push(Diagnostic::warning("InvalidBaseImagePlatform", message).at(stage.span));
                }
                set_platform(&mut config, &stage.platform);
                Some(State::from_config(step, config, rows))
            }
        }
    }

    fn origin_of_stage(&self, index: usize) -> StepOrigin {
        let from = &self.request.file.instructions[self.graph.stages[index].from];
        StepOrigin { file: self.request.file_name.clone(), line: from.line, text: from.text.clone(), no_cache: false }
    }

    fn scratch(&mut self, index: usize) -> StepIndex {
        let origin = self.origin_of_stage(index);
        self.plan.push(Op::Scratch, origin, self.graph.label(index))
    }

    /// The image of the plan that a name means, for a platform; the first when there is none for it.
    fn built(&self, name: &str, platform: &Platform) -> Option<&Image> {
        let mut images = self.request.named_builds.get(name)?.iter().filter_map(|place| self.plan.images.get(*place));
        let first = images.clone().next();
        images.find(|image| image.config.platform() == *platform).or(first)
    }

    /// All files of a named context, as a stage starts from them.
    fn files_of(&mut self, index: usize, parent: StepIndex, name: &str) -> StepIndex {
        let op = Copy {
            parent,
            from: CopySource::Context { name: named_context(self.request, name) },
            sources: vec![".".to_owned()],
            inline: Vec::new(),
            dest: "/".to_owned(),
            chown: None,
            chmod: None,
            exclude: Vec::new(),
            parents: false,
            link: false,
            add: None,
            also: Vec::new(),
        };
        let origin = self.origin_of_stage(index);
        self.plan.push(Op::Copy(op), origin, self.graph.label(index))
    }

    /// The step of an image of elsewhere. One without layers is as good as nothing.
    fn base(&mut self, index: usize, wanted: &BaseReference, place: Span) -> Option<StepIndex> {
        let base = find_base(self.bases, wanted, place, &mut self.diagnostics)?;
        if base.config.rootfs.diff_ids.is_empty() {
            return Some(self.scratch(index));
        }
        let op = Op::Base { reference: base.reference.clone(), manifest: base.manifest, diff_ids: base.config.rootfs.diff_ids.clone() };
        let origin = self.origin_of_stage(index);
        Some(self.plan.push(op, origin, self.graph.label(index)))
    }

    fn image(&mut self) -> Option<Image> {
        let origin = self.origin_of_stage(self.graph.target);
        let mut tags = Vec::new();
        for tag in &self.request.tags {
            match Reference::parse(tag) {
                Ok(reference) if reference.digest.is_none() => tags.push(reference.with_default_tag().to_string()),
                Ok(_) => self.diagnostics.push(Diagnostic::error("tag", format!("`{tag}` has a digest: an image to build can only be given a tag"))),
                Err(error) => self.diagnostics.push(Diagnostic::error("tag", error.to_string())),
            }
        }
        let labels = self.request.labels.clone();
        let state = self.stage(self.graph.target)?;
        let mut config = state.config.clone();
        config.config.labels.extend(labels);
        Some(Image { tags, step: state.step, config, history: state.history.clone(), origin })
    }
}

/// The platform asked for is what the image says it is for.
fn set_platform(config: &mut strake_oci::ImageConfig, platform: &Platform) {
    if config.os.is_empty() {
        config.os.clone_from(&platform.os);
    }
    if config.architecture.is_empty() {
        config.architecture.clone_from(&platform.architecture);
        config.variant.clone_from(&platform.variant);
    }
}

impl StageLowering<'_, '_> {
    /// The main build context.
    pub(crate) fn main_context(&self) -> CopySource {
        CopySource::Context { name: self.lowering.request.context_name.clone() }
    }

    /// What a `--from` names, as a source of files.
    pub(crate) fn source_of(&mut self, from: &str, span: Span) -> Option<CopySource> {
        let (graph, request, place) = (self.lowering.graph, self.lowering.request, self.place(span));
        match graph.origin(request, from, self.index, place, &mut self.lowering.diagnostics)? {
            Origin::Stage(index) => self.lowering.stage(index).map(|state| CopySource::Step { step: state.step }),
            Origin::Context(name) => Some(CopySource::Context { name: named_context(request, &name) }),
            Origin::Built(name) => {
                let platform = &graph.stages[self.index].platform;
                self.lowering.built(&name, platform).map(|image| CopySource::Step { step: image.step })
            }
            Origin::Scratch => Some(CopySource::Step { step: self.lowering.scratch(self.index) }),
            Origin::Image(wanted) => self.lowering.base(self.index, &wanted, place).map(|step| CopySource::Step { step }),
        }
    }
}
