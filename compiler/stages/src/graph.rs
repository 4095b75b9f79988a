//! Which stages there are, what each starts from, and which the target needs.

use std::collections::BTreeMap;

use strake_dockerfile::{Command, From, Instruction, Source, parse_fragment};
use strake_oci::Platform;
use strake_source::{Diagnostic, FileId, Span, nearest};
use strake_words::Reference;

use crate::scope::{self, Environment};
use crate::{BaseImage, Request};

/// The stages of a Dockerfile.
#[derive(Clone, Debug)]
pub struct StageGraph {
    /// In the order written.
    pub stages: Vec<Stage>,
    /// The stage to build.
    pub target: usize,
    pub(crate) globals: Environment,
}

/// One FROM and what follows it.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its name in lower case, if it has one.
    pub name: Option<String>,
    /// What it starts from; `None` when its FROM is wrong, which has been reported.
    pub base: Option<Base>,
    /// The platform of its base.
    pub platform: Platform,
    /// Its FROM's place in the file's instructions.
    pub from: usize,
    /// One past its last instruction.
    pub end: usize,
    /// The image or stage as written in its FROM.
    pub span: Span,
}

/// What a stage starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// A directory that the caller names.
    Context(String),
    /// An image of the same plan that the caller names.
    Built(String),
    /// An image of elsewhere.
    Image(BaseReference),
}

/// An image of elsewhere that a build needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseReference {
    /// The key under which [`crate::lower`] looks for it: the reference, and the platform when that is not the request's.
    pub key: String,
    /// In its long form, with a tag or digest.
    pub reference: String,
    /// The platform it must be for.
    pub platform: Platform,
    /// Where it was written.
    pub span: Span,
}

/// What a `--from` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The end of a stage.
    Stage(usize),
    /// A named context.
    Context(String),
    /// An image of the same plan that the caller names.
    Built(String),
    /// Nothing: `scratch`.
    Scratch,
    /// An image of elsewhere.
    Image(BaseReference),
}

/// The name under which a named context is kept and found: an image's short form without `latest`, anything else as it is.
pub fn context_key(name: &str) -> String {
    let familiar = Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar());
    familiar.strip_suffix(":latest").map_or(familiar.clone(), str::to_owned)
}

/// What the caller gives under a name.
#[derive(Clone, Copy)]
enum Named<'r> {
    Context(&'r str),
    Image(&'r str),
    Built(&'r str),
}

fn named<'r>(request: &'r Request, name: &str) -> Option<Named<'r>> {
    if request.named_contexts.is_empty() && request.named_images.is_empty() && request.named_builds.is_empty() {
        return None;
    }
    let key = context_key(name);
    let context = request.named_contexts.get_key_value(name).or_else(|| request.named_contexts.get_key_value(&key));
    let image = || request.named_images.get(name).or_else(|| request.named_images.get(&key));
    let build = || request.named_builds.get_key_value(name).or_else(|| request.named_builds.get_key_value(&key));
    let elsewhere = || image().map(|key| Named::Image(key)).or_else(|| build().map(|(name, _)| Named::Built(name)));
    context.map(|(name, _)| Named::Context(name)).or_else(elsewhere)
}

impl Named<'_> {
    fn base(self, request: &Request, platform: &Platform, span: Span) -> Base {
        match self {
            Named::Context(name) => Base::Context(name.to_owned()),
            Named::Built(name) => Base::Built(name.to_owned()),
            Named::Image(reference) => Base::Image(reference_to(request, reference.to_owned(), platform, span)),
        }
    }

    fn origin(self, request: &Request, platform: &Platform, span: Span) -> Origin {
        match self {
            Named::Context(name) => Origin::Context(name.to_owned()),
            Named::Built(name) => Origin::Built(name.to_owned()),
            Named::Image(reference) => Origin::Image(reference_to(request, reference.to_owned(), platform, span)),
        }
    }
}

fn reference_to(request: &Request, reference: String, platform: &Platform, span: Span) -> BaseReference {
    let key = if *platform == request.platform { reference.clone() } else { format!("{reference} {platform}") };
    BaseReference { key, reference, platform: platform.clone(), span }
}

impl StageGraph {
    /// Finds the stages. `None` when there is none, or no such target.
    pub fn build(request: &Request, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let globals = scope::globals(request, true, diagnostics);
        let defaults = scope::globals(request, false, &mut Vec::new());
        let instructions = &request.file.instructions;
        let froms: Vec<usize> = (0..instructions.len()).filter(|index| matches!(instructions[*index].command, Command::From(_))).collect();
        let mut graph = StageGraph { stages: Vec::new(), target: 0, globals };
        for (number, from) in froms.iter().copied().enumerate() {
            let end = froms.get(number + 1).copied().unwrap_or(instructions.len());
            if let Command::From(parsed) = &instructions[from].command {
                let stage = graph.stage(request, parsed, from, end, diagnostics);
                if stage.base.is_some() {
                    graph.check_defaults(request, parsed, &defaults, diagnostics);
                }
                graph.stages.push(stage);
            }
        }
        graph.target = graph.find_target(request, diagnostics)?;
        Some(graph)
    }

    fn stage(&self, request: &Request, from: &From, place: usize, end: usize, diagnostics: &mut Vec<Diagnostic>) -> Stage {
        let name = from.name.as_ref().map(|name| name.value.clone());
        let mut stage = Stage { name, base: None, platform: request.platform.clone(), from: place, end, span: from.image.span };
        let replaced = stage.name.as_deref().and_then(|name| named(request, name));
        if let Some(platform) = &from.platform {
            let Some(text) = scope::expand_global(request, platform, &self.globals, "UndefinedArgInFrom", diagnostics) else { return stage };
            match text.parse() {
                Ok(platform) => stage.platform = platform,
                Err(error) => {
                    diagnostics.push(Diagnostic::error("platform", format!("{error}")).at(platform.span));
                    return stage;
                }
            }
        }
        if let Some(named) = replaced {
            // A context of the stage's own name takes the place of the stage as a whole.
            stage.base = Some(named.base(request, &stage.platform, stage.span));
            stage.end = place + 1;
            return stage;
        }
        let Some(image) = scope::expand_global(request, &from.image, &self.globals, "UndefinedArgInFrom", diagnostics) else { return stage };
        stage.base = self.base(request, &image, from, &mut stage.platform, diagnostics);
        stage
    }

    /// InvalidDefaultArgInFrom: a base that only a build argument makes right.
    fn check_defaults(&self, request: &Request, from: &From, defaults: &Environment, diagnostics: &mut Vec<Diagnostic>) {
        if !from.image.value.contains('$') {
            return;
        }
        let Some(image) = scope::expand_global(request, &from.image, defaults, "UndefinedArgInFrom", &mut Vec::new()) else { return };
        let is_stage = self.stages.iter().any(|stage| stage.name.as_ref() == Some(&image));
        if !is_stage && named(request, &image).is_none() && Reference::parse(&image).is_err() {
            let message = format!("without build arguments, `{}` is `{image}`, which is not an image", from.image.value);
            let finding = Diagnostic::warning("InvalidDefaultArgInFrom", message).at(from.image.span);
            diagnostics.push(finding.help("give the ARG a default value"));
        }
    }

    fn base(&self, request: &Request, image: &str, from: &From, platform: &mut Platform, diagnostics: &mut Vec<Diagnostic>) -> Option<Base> {
        let span = from.image.span;
        if image.is_empty() {
            diagnostics.push(Diagnostic::error("base-image", format!("base name ({}) should not be blank", from.image.value)).at(span));
            return None;
        }
        if let Some(named) = named(request, image) {
            return Some(named.base(request, platform, span));
        }
        if let Some(index) = self.stages.iter().rposition(|stage| stage.name.as_deref() == Some(image)) {
            if from.platform.is_none() {
                platform.clone_from(&self.stages[index].platform);
            }
            return Some(Base::Stage(index));
        }
        if image == "scratch" {
            return Some(Base::Scratch);
        }
        self.image(request, image, platform, span, diagnostics).map(Base::Image)
    }

    fn image(&self, request: &Request, image: &str, platform: &Platform, span: Span, diagnostics: &mut Vec<Diagnostic>) -> Option<BaseReference> {
        match Reference::parse(image) {
            Ok(reference) => Some(reference_to(request, reference.with_default_tag().to_string(), platform, span)),
            Err(error) => {
                let names = self.stages.iter().filter_map(|stage| stage.name.as_deref());
                let mut finding = Diagnostic::error("base-image", error.to_string()).at(span);
                finding.help.extend(nearest(image, names).map(|near| format!("did you mean the stage `{near}`?")));
                diagnostics.push(finding);
                None
            }
        }
    }

    fn find_target(&self, request: &Request, diagnostics: &mut Vec<Diagnostic>) -> Option<usize> {
        let Some(wanted) = &request.target else { return self.stages.len().checked_sub(1) };
        let lower = wanted.to_lowercase();
        let by_name = self.stages.iter().rposition(|stage| stage.name.as_ref() == Some(&lower));
        let by_number = || wanted.parse::<usize>().ok().filter(|number| *number < self.stages.len());
        let found = by_name.or_else(by_number);
        if found.is_none() {
            let names: Vec<&str> = self.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
            let mut finding = Diagnostic::error("unknown-stage", format!("target stage \"{wanted}\" could not be found"));
            finding.help.extend(nearest(&lower, names.iter().copied()).map(|near| format!("did you mean `{near}`?")));
            finding.help.extend((!names.is_empty()).then(|| format!("the stages are {}", names.join(", "))));
            diagnostics.push(finding);
        }
        found
    }

    /// What a `--from` in the stage `current` names.
    pub(crate) fn origin(&self, request: &Request, from: &str, current: usize, span: Span, diagnostics: &mut Vec<Diagnostic>) -> Option<Origin> {
        let lower = from.to_lowercase();
        let number = from.bytes().all(|byte| byte.is_ascii_digit()).then(|| from.parse::<usize>().unwrap_or(usize::MAX));
        let earlier = self.stages[..current].iter().rposition(|stage| stage.name.as_ref() == Some(&lower));
        let found = number.or(earlier).or_else(|| self.stages.iter().position(|stage| stage.name.as_ref() == Some(&lower)));
        let wrong = match found {
            Some(index) if index < current => return Some(Origin::Stage(index)),
            Some(index) if index == current => format!("circular dependency detected on stage: {}", self.label(current)),
            Some(index) if index < self.stages.len() => format!("stage `{from}` is defined later: a stage can only use those above it"),
            Some(_) => format!("there is no stage {from}: the file has {}, counted from 0", self.stages.len()),
            None if named(request, from).is_some() => return named(request, from).map(|named| named.origin(request, &self.stages[current].platform, span)),
            None if from == "scratch" => return Some(Origin::Scratch),
            None => return self.image(request, from, &self.stages[current].platform, span, diagnostics).map(Origin::Image),
        };
        diagnostics.push(Diagnostic::error("stage-reference", wrong).at(span));
        None
    }

    /// A stage's name, or `stage-N`.
    pub fn label(&self, index: usize) -> String {
        self.stages[index].name.clone().unwrap_or_else(|| format!("stage-{index}"))
    }

    /// Which stages the target needs, and which images of elsewhere those need. ONBUILD triggers are followed: those of stages of this file, and those of the
    /// images that are among `bases`.
    pub(crate) fn reach(&self, request: &Request, bases: &BTreeMap<String, BaseImage>, diagnostics: &mut Vec<Diagnostic>) -> (Vec<bool>, Vec<BaseReference>) {
        let mut needed = vec![false; self.stages.len()];
        let mut images: BTreeMap<String, BaseReference> = BTreeMap::new();
        needed[self.target] = true;
        for index in (0..=self.target).rev() {
            if !needed[index] {
                continue;
            }
            let stage = &self.stages[index];
            let mut instructions: Vec<&Instruction> = request.file.instructions[stage.from..stage.end].iter().collect();
            let mut fired = Vec::new();
            match &stage.base {
                Some(Base::Stage(parent)) => {
                    needed[*parent] = true;
                    instructions.extend(triggers(request, &self.stages[*parent]));
                }
                Some(Base::Image(image)) => {
                    images.entry(image.key.clone()).or_insert_with(|| image.clone());
                    fired = bases.get(&image.key).map(|base| triggers_of(request, base)).unwrap_or_default();
                }
                Some(Base::Scratch | Base::Context(_) | Base::Built(_)) | None => {}
            }
            // What an image's trigger says stands in no file: the FROM is the place to report.
            let of_image = fired.iter().flat_map(froms).map(|(from, _)| (from, stage.span));
            for (from, span) in instructions.into_iter().flat_map(froms).chain(of_image) {
                match self.origin(request, from, index, span, diagnostics) {
                    Some(Origin::Stage(other)) => needed[other] = true,
                    Some(Origin::Image(image)) => {
                        images.entry(image.key.clone()).or_insert(image);
                    }
                    _ => {}
                }
            }
        }
        let mut images: Vec<BaseReference> = images.into_values().collect();
        images.sort_by_key(|image| image.span.start);
        (needed, images)
    }
}

fn triggers<'r>(request: &'r Request, stage: &Stage) -> impl Iterator<Item = &'r Instruction> {
    let body = &request.file.instructions[stage.from..stage.end];
    body.iter().filter_map(|instruction| if let Command::Onbuild(onbuild) = &instruction.command { Some(&*onbuild.trigger) } else { None })
}

/// The ONBUILD triggers of an image, as far as they can be read; what is wrong with the others is reported when they fire.
fn triggers_of(request: &Request, base: &BaseImage) -> Vec<Instruction> {
    let escape = request.file.directives.escape;
    base.config.config.on_build.iter().flat_map(|trigger| parse_fragment(FileId::default(), trigger, escape).0).collect()
}

/// The `--from`s of an instruction.
fn froms(instruction: &Instruction) -> Vec<(&str, Span)> {
    match &instruction.command {
        Command::Copy(copy) => {
            let has_paths = copy.sources.iter().any(|source| matches!(source, Source::Path(_)));
            copy.from.iter().filter(|from| has_paths && !from.value.contains('$')).map(|from| (from.value.as_str(), from.span)).collect()
        }
        Command::Run(run) => {
            let named = run.mounts.iter().filter_map(|mount| Some((mount.option("from")?, mount.span)));
            named.filter(|(from, _)| !from.is_empty() && !from.contains('$')).collect()
        }
        _ => Vec::new(),
    }
}

/// The images of elsewhere that the target needs, each once, in the order written: those of FROM, COPY --from and mounts of the stages it reaches.
/// What ONBUILD triggers of those images name is not among them: ask [`base_references_with`] once they are known. Its findings are among those of [`crate::lower`].
pub fn base_references(request: &Request) -> (Vec<BaseReference>, Vec<Diagnostic>) {
    base_references_with(request, &BTreeMap::new())
}

/// The same, with what the triggers of known images need. To be asked again until it names nothing new.
pub fn base_references_with(request: &Request, bases: &BTreeMap<String, BaseImage>) -> (Vec<BaseReference>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let Some(graph) = StageGraph::build(request, &mut diagnostics) else { return (Vec::new(), diagnostics) };
    let (_, images) = graph.reach(request, bases, &mut diagnostics);
    (images, diagnostics)
}

/// The base image of that reference, or an error that says how to get it.
pub(crate) fn find_base<'b>(
    bases: &'b BTreeMap<String, BaseImage>,
    wanted: &BaseReference,
    place: Span,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<&'b BaseImage> {
    let found = bases.get(&wanted.key);
    if found.is_none() {
        let shown = Reference::parse(&wanted.reference).map_or_else(|_| wanted.reference.clone(), |reference| reference.familiar());
        let finding = Diagnostic::error("unknown-base-image", format!("unknown base image `{shown}` for {}", wanted.platform));
        let finding = finding.at(place).label("not in the store");
        let finding = finding.help(format!("get it with `strake image pull {shown}`"));
        diagnostics.push(finding.help("or bring it from an archive with `strake image import`"));
    }
    found
}
