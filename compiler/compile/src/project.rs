//! Inputs that have been parsed and joined, before base images are known.

use std::collections::BTreeMap;

use strake_deploy::{Manifest, images};
use strake_dockerfile::File;
use strake_kinds::structural::Definition;
use strake_plan::{BuildPlan, Context, ContextKind, FORMAT_VERSION, Plan};
use strake_source::{Diagnostic, FileId, Sources, Span};
use strake_stages::{BaseImage, BaseReference, Remote, RemoteSource, Request};
use strake_yaml::Node;

use crate::config::{self, Settings};
use crate::images::{Assignment, Candidate, assign, explicit_name, path_name};
use crate::inputs::{Dockerfile, Inputs, Options};
use crate::lint::Level;
use crate::{Outcome, lint};

/// The parsed inputs.
#[derive(Debug)]
pub struct Project {
    sources: Sources,
    manifests: Vec<Manifest>,
    /// One a Dockerfile that builds something, with the images it builds as the manifests write them.
    requests: Vec<(Request, Vec<String>)>,
    /// Images that a Dockerfile here builds, or would if it had no errors.
    assigned: Vec<String>,
    /// What the project's file says of the deployment.
    said: strake_deploy::Options,
    diagnostics: Vec<Diagnostic>,
    /// What the overlay replaced: a finding on a patched value shows both places.
    overlay: strake_kustomize::Built,
    options: Options,
}

impl Project {
    /// Parses everything, checks the objects, and finds out which Dockerfile builds what.
    pub fn read(inputs: &Inputs) -> Self {
        Project::read_knowing(inputs, Vec::new())
    }

    /// The same, with kinds of custom resources that a cluster knows, which [`Project::undefined`] asks for.
    pub fn read_knowing(inputs: &Inputs, definitions: Vec<Definition>) -> Self {
        let mut sources = Sources::default();
        let mut order: Vec<&crate::Manifest> = inputs.manifests.iter().collect();
        order.sort_by(|a, b| a.path.cmp(&b.path));
        let files: Vec<FileId> = order.iter().map(|file| add(inputs, file, &mut sources)).collect();
        let Given { values, lints, said, findings: mut told } = given(inputs, &mut sources);
        let Options { set, namespace, foreign, .. } = inputs.options.clone();
        let options = strake_deploy::Options { set, namespace, foreign, values, definitions, ..strake_deploy::Options::default() };
        let mut overlaid = Vec::new();
        let build = |overlay: &crate::Overlay| strake_kustomize::build(&overlay.tree, &overlay.directory, &mut sources, &mut overlaid);
        let mut overlay = inputs.overlay.as_ref().map(build).unwrap_or_default();
        let (manifests, mut diagnostics) = strake_deploy::read(&sources, &files, std::mem::take(&mut overlay.objects), &options);
        diagnostics.append(&mut told);
        diagnostics.append(&mut overlaid);
        diagnostics.extend(unopened(inputs, &sources));

        let mut dockerfiles: Vec<&Dockerfile> = inputs.dockerfiles.iter().collect();
        dockerfiles.sort_by(|a, b| a.path.cmp(&b.path));
        let mut trees = Vec::with_capacity(dockerfiles.len());
        for dockerfile in &dockerfiles {
            let id = sources.add(dockerfile.path.clone(), dockerfile.text.as_str());
            let (tree, findings) = strake_dockerfile::parse(id, &dockerfile.text);
            let sound = !findings.iter().any(Diagnostic::is_error);
            diagnostics.extend(findings);
            trees.push((tree, sound));
        }
        let candidates: Vec<Candidate> = dockerfiles.iter().zip(&trees).map(|(dockerfile, (tree, _))| candidate(dockerfile, tree)).collect();
        let assignment = assign(&candidates, &images(&manifests), &mut diagnostics);
        unused(&dockerfiles, &candidates, &assignment, &mut diagnostics);
        let contexts = context_names(&dockerfiles, &assignment);
        let mut requests = Vec::new();
        for ((index, dockerfile), (tree, sound)) in dockerfiles.iter().enumerate().zip(trees) {
            let images: Vec<String> = assignment.images[index].iter().cloned().collect();
            // Of one that cannot be read in full, its stages are looked at as far as they can be.
            let request = request(dockerfile, tree, &images, contexts[index].clone(), &inputs.options);
            match sound {
                true if !images.is_empty() => requests.push((request, images)),
                true => {}
                false => diagnostics.extend(strake_stages::errors_beside(&request)),
            }
        }
        let assigned = assignment.images.into_iter().flatten().collect();
        let options = Options { lints, ..inputs.options.clone() };
        Project { sources, manifests, requests, assigned, said, diagnostics, overlay, options }
    }

    /// Kinds of custom resources that nothing among the inputs defines, each once: group, version and kind.
    pub fn undefined(&self) -> Vec<(String, String, String)> {
        let defined: Vec<Definition> = self.manifests.iter().filter_map(|manifest| Definition::of(&manifest.value)).collect();
        let custom = self.manifests.iter().filter(|manifest| manifest.kind.is_custom());
        let unknown = custom.filter(|manifest| !defined.iter().any(|known| known.group == manifest.kind.group && known.kind == manifest.kind.kind));
        let mut kinds: Vec<_> = unknown.map(|manifest| [manifest.kind.group, manifest.kind.version, manifest.kind.kind]).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.into_iter().map(|[group, version, kind]| (group.to_owned(), version.to_owned(), kind.to_owned())).collect()
    }

    /// The base images that are needed, each once, by key. Triggers of `known` ones may need others: to be asked again until nothing new is named.
    pub fn needs(&self, known: &BTreeMap<String, BaseImage>) -> Vec<BaseReference> {
        let mut needs: BTreeMap<String, BaseReference> = BTreeMap::new();
        for (request, _) in &self.requests {
            let (references, _) = strake_stages::base_references_with(request, known);
            references.into_iter().for_each(|reference| {
                needs.entry(reference.key.clone()).or_insert(reference);
            });
        }
        needs.into_values().collect()
    }

    /// What ADDs name of elsewhere, each once.
    pub fn remotes(&self, bases: &BTreeMap<String, BaseImage>) -> Vec<RemoteSource> {
        let mut all: Vec<RemoteSource> = Vec::new();
        for source in self.requests.iter().flat_map(|(request, _)| strake_stages::remote_sources(request, bases)) {
            if !all.contains(&source) {
                all.push(source);
            }
        }
        all
    }

    /// Takes what was fetched, by [`RemoteSource::key`].
    pub fn fetched(&mut self, remotes: &BTreeMap<String, Remote>) {
        for (request, _) in &mut self.requests {
            request.remotes.clone_from(remotes);
        }
    }

    /// The files, for rendering what [`Project::needs`] refers to.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Makes the plan. `bases` are by the key of each needed reference.
    pub fn compile(self, bases: &BTreeMap<String, BaseImage>) -> Outcome {
        let Project { sources, manifests, requests, assigned, said, mut diagnostics, overlay, options } = self;
        let mut build = BuildPlan::default();
        let mut built: BTreeMap<String, usize> = BTreeMap::new();
        for (request, images) in &requests {
            let (index, findings) = strake_stages::lower_into(request, bases, &mut build);
            diagnostics.extend(findings);
            built.extend(images.iter().cloned().zip(index.into_iter().cycle()));
        }
        let contents: BTreeMap<String, Option<&strake_plan::Image>> =
            assigned.iter().map(|image| (image.clone(), built.get(image).and_then(|index| build.images.get(*index)))).collect();
        diagnostics.extend(lint::run(&manifests, (&contents, &build), &said.hooks, &options.lints));
        let Options { set, namespace, foreign, .. } = options;
        let set = strake_deploy::Options { set, namespace, foreign, ..said };
        let (deploy, told) = strake_deploy::plan(&sources, &manifests, &set, &|image| built.get(image).copied());
        diagnostics.extend(told);
        overlay.trace(&mut diagnostics);
        arrange(&sources, &mut diagnostics);
        let failed = diagnostics.iter().any(Diagnostic::is_error);
        let plan = (!failed).then_some(Plan { format_version: FORMAT_VERSION, build, deploy });
        Outcome { plan, diagnostics, sources }
    }
}

/// Takes a file in, with what stands encrypted in it.
fn add(inputs: &Inputs, file: &crate::Manifest, sources: &mut Sources) -> FileId {
    match inputs.sealed.get(&file.path) {
        Some(opened) => sources.add_sealed(file.path.clone(), file.text.as_str(), &opened.secrets),
        None => sources.add(file.path.clone(), file.text.as_str()),
    }
}

/// The encrypted files that could not be opened.
fn unopened(inputs: &Inputs, sources: &Sources) -> Vec<Diagnostic> {
    let of = |name: &str| inputs.sealed.get(name).or_else(|| inputs.overlay.as_ref()?.tree.opened(name));
    let each = |(id, file): (FileId, &strake_source::SourceFile)| {
        let (error, at) = of(&file.name)?.failure.as_ref()?;
        let finding = Diagnostic::error("sops", error.to_string()).at(Span::new(id, *at, *at + 4));
        Some(error.help().map_or(finding.clone(), |help| finding.help(help)))
    };
    sources.iter().filter_map(each).collect()
}

/// By file and place, each once. No finding has a secret in it.
fn arrange(sources: &Sources, diagnostics: &mut Vec<Diagnostic>) {
    if sources.secrets().next().is_some() {
        diagnostics.iter_mut().for_each(|finding| sources.redact_finding(finding));
    }
    let key = |finding: &Diagnostic| (finding.span.map(|span| (span.file, span.start, span.end)), std::cmp::Reverse(finding.severity), finding.code);
    diagnostics.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.message.cmp(&b.message)));
    diagnostics.dedup();
}

fn candidate(dockerfile: &Dockerfile, tree: &File) -> Candidate {
    let said = dockerfile.image.as_ref().map(|(name, _)| (name.clone(), Span::new(tree.file, 0, 0)));
    let explicit = said.or_else(|| explicit_name(tree.file, &dockerfile.text));
    Candidate { file: tree.file, explicit, name: path_name(&dockerfile.path, &dockerfile.context) }
}

/// What the project's file and the files of parameters say.
struct Given {
    /// Parameters; `None` when there are no such files.
    values: Option<BTreeMap<String, Node>>,
    lints: BTreeMap<String, Level>,
    said: strake_deploy::Options,
    findings: Vec<Diagnostic>,
}

fn given(inputs: &Inputs, sources: &mut Sources) -> Given {
    let mut findings = Vec::new();
    let mut settings = Settings::default();
    let mut declared = BTreeMap::new();
    let mut said = strake_deploy::Options::default();
    if let Some(config) = &inputs.config {
        let file = sources.add(config.path.clone(), config.text.as_str());
        let (read, told) = config::read(file, &config.text);
        findings.extend(told);
        declared.clone_from(&read.settings.values);
        said.hooks.clone_from(&read.hooks);
        said.keep_pods = read.keep_pods;
        said.health.clone_from(&read.health);
        match read.settings(inputs.options.environment.as_deref()) {
            Ok(chosen) => settings = chosen,
            Err(message) => findings.push(Diagnostic::error("project-file", message).at(Span::new(file, 0, 0))),
        }
    }
    for values in &inputs.values {
        let file = add(inputs, values, sources);
        let (read, told) = config::read_values(sources, file);
        findings.extend(told);
        if inputs.config.is_some() {
            findings.extend(config::check_values(&read, &declared));
        }
        settings.values.extend(read);
    }
    let values = (inputs.config.is_some() || !inputs.values.is_empty()).then_some(settings.values);
    settings.lints.extend(inputs.options.lints.clone());
    said.keep_revisions = settings.keep_revisions;
    Given { values, lints: settings.lints, said, findings }
}

fn unused(dockerfiles: &[&Dockerfile], candidates: &[Candidate], assignment: &Assignment, diagnostics: &mut Vec<Diagnostic>) {
    for ((dockerfile, candidate), images) in dockerfiles.iter().zip(candidates).zip(&assignment.images) {
        if !images.is_empty() || dockerfile.optional {
            continue;
        }
        let name = candidate.explicit.as_ref().map_or(candidate.name.as_str(), |(name, _)| name);
        let span = candidate.explicit.as_ref().map_or(Span::new(candidate.file, 0, 0), |(_, span)| *span);
        let finding =
            Diagnostic::warning("unused-dockerfile", format!("no manifest uses the image `{name}` that this Dockerfile builds; it is left out")).at(span);
        diagnostics.push(finding.help("name the image in its first line: `# image: NAME`"));
    }
}

/// Names of contexts are part of step ids, so they are the same on every machine: the one context is `context`, as for a build by itself; several are called
/// by their directory, below what they have in common.
fn context_names(dockerfiles: &[&Dockerfile], assignment: &Assignment) -> Vec<String> {
    let used = |index: &usize| !assignment.images[*index].is_empty();
    let identity = |index: usize| (dockerfiles[index].context.as_str(), dockerfiles[index].ignore.as_slice());
    let mut distinct: Vec<(&str, &[String])> = (0..dockerfiles.len()).filter(used).map(identity).collect();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() <= 1 {
        return vec!["context".to_owned(); dockerfiles.len()];
    }
    let common = common_folder(&distinct);
    let name = |index: usize| {
        let (context, _) = identity(index);
        let below = context.get(common..).unwrap_or(context).trim_matches('/');
        let below = if below.is_empty() { "context" } else { below };
        // Two ignore files over one directory are two contexts.
        let same = distinct.iter().filter(|(other, _)| *other == context);
        match same.clone().count() {
            0 | 1 => below.to_owned(),
            _ => format!("{below}#{}", same.clone().position(|other| *other == identity(index)).unwrap_or(0)),
        }
    };
    (0..dockerfiles.len()).map(name).collect()
}

/// Length of the path of the deepest directory that holds all contexts.
fn common_folder(contexts: &[(&str, &[String])]) -> usize {
    let Some((first, _)) = contexts.first() else { return 0 };
    let ends = first.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| at).chain([first.len()]);
    let holds = |end: &usize| contexts.iter().all(|(path, _)| path.starts_with(&first[..*end]) && matches!(path.as_bytes().get(*end), None | Some(b'/')));
    ends.filter(holds).max().unwrap_or(0)
}

fn request(dockerfile: &Dockerfile, file: File, images: &[String], context_name: String, options: &Options) -> Request {
    let said = dockerfile.image.as_ref().map(|(_, said)| said);
    // What is given for this run counts more than what the project's file says.
    let mut build_args: BTreeMap<String, Option<String>> =
        said.iter().flat_map(|said| &said.args).map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
    build_args.extend(options.build_args.clone());
    Request {
        file,
        file_name: dockerfile.path.clone(),
        target: said.and_then(|said| said.target.clone()),
        build_args,
        platform: options.platform.clone(),
        build_platform: options.build_platform.clone(),
        tags: images.to_vec(),
        labels: BTreeMap::new(),
        no_cache: options.no_cache,
        context_name,
        context: Context { kind: ContextKind::Directory { path: dockerfile.context.clone() }, ignore: dockerfile.ignore.clone() },
        named_contexts: BTreeMap::new(),
        named_images: BTreeMap::new(),
        named_builds: BTreeMap::new(),
        remotes: BTreeMap::new(),
        no_cache_stages: Vec::new(),
        network: strake_plan::Network::Default,
        extra_hosts: Vec::new(),
        rules: strake_stages::Rules::default(),
    }
}
