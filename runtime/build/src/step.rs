//! One step: its key, its look-up, its execution.

use std::path::Path;
use std::sync::Arc;

use strake_dockerfile::has_wildcard;
use strake_oci::{Digest, Hasher};
use strake_plan::{Copy, CopySource, Mkdir, MountKind, Op, StepIndex};
use strake_solve::Chain;
use strake_store::{CommitOptions, Layer, StoreError};

use crate::cache::{Decided, KeyLock, Reads, content, key, listing};
use crate::copy::vary::{self, Variation};
use crate::copy::{Destination, ModeChange, Owner, OwnerError, Placing, Selection, Source, SourceOrigin, direct, find, is_archive, unpack};
use crate::progress::ProgressEvent;
use crate::run::{RunFailure, run};
use crate::session::Session;
use crate::tree::{LastLink, Root, clean, edit, view};
use crate::{CancelFlag, StepError};

/// How often a copy is begun again because files of the context changed under it.
const ATTEMPTS: usize = 3;

/// One place that a step reads files from.
struct Read<'a> {
    from: &'a CopySource,
    sources: Vec<String>,
    exclude: &'a [String],
    parents: bool,
    /// --chown is given.
    owner: bool,
    mode: Option<ModeChange>,
    /// It is mounted, not copied.
    shown: bool,
}

/// How a step got its result.
pub(crate) enum Made {
    /// It was executed.
    Executed(Chain),
    /// Another build made it while this one waited.
    Found(Chain),
}

/// A path as a pattern that matches only itself.
pub(crate) fn literal_pattern(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for character in path.chars() {
        if matches!(character, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// Opens what files are copied from.
pub(crate) fn source_of(session: &Session<'_>, from: &CopySource) -> Result<Arc<Source>, StepError> {
    match from {
        CopySource::Context { name } => Ok(Arc::clone(&session.context(name)?.source)),
        CopySource::Step { step } => session.viewed(*step, |lowers| {
            let root = view(&session.store, lowers).map_err(|source| StepError::View { source })?;
            Ok(Source { root, ignore: Default::default(), origin: SourceOrigin::Stage })
        }),
        CopySource::Inline => Err(StepError::Unsupported { what: "reading files that stand in the Dockerfile".to_owned() }),
    }
}

fn reads(op: &Op) -> Result<Vec<Read<'_>>, StepError> {
    match op {
        Op::Scratch | Op::Base { .. } | Op::Mkdir(_) => Ok(Vec::new()),
        Op::Copy(copy) => {
            let mode = mode_of(copy)?;
            let read = |from, sources: &[String]| Read {
                from,
                sources: sources.to_vec(),
                exclude: &copy.exclude,
                parents: copy.parents,
                owner: copy.chown.is_some(),
                mode: mode.clone(),
                shown: false,
            };
            let first = (copy.from != CopySource::Inline).then(|| read(&copy.from, &copy.sources));
            Ok(first.into_iter().chain(copy.also.iter().map(|further| read(&further.from, &further.sources))).collect())
        }
        Op::Run(run) => {
            let binds = run.mounts.iter().filter_map(|mount| match &mount.kind {
                MountKind::Bind { from, source } => {
                    Some(Read { from, sources: vec![literal_pattern(source)], exclude: &[], parents: false, owner: false, mode: None, shown: true })
                }
                MountKind::Cache { .. } | MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => None,
            });
            Ok(binds.collect())
        }
    }
}

fn mode_of(copy: &Copy) -> Result<Option<ModeChange>, StepError> {
    let parsed = copy.chmod.as_deref().map(ModeChange::parse).transpose();
    parsed.map(Option::flatten).map_err(|reason| StepError::Mode { reason })
}

/// What is digested of a step's sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What it reads from contexts; files of which no metadata has changed since they were digested together are not looked at.
    Contexts,
    /// The same with every file looked at, for a step that is to be executed.
    ContextsInFull,
    /// What it reads from other steps.
    Stages,
}

/// Selects and digests what the step reads.
pub(crate) fn digest_content(session: &Session<'_>, index: StepIndex, part: Part) -> Result<(), StepError> {
    let stages = part == Part::Stages;
    let mut hasher = Hasher::default();
    let (mut context_bytes, mut by_listing) = (0, false);
    for read in reads(&session.plan.step(index).op)? {
        let context = match read.from {
            CopySource::Context { name } if !stages => Some(session.context(name)?),
            CopySource::Step { .. } if stages => None,
            _ => continue,
        };
        let source = source_of(session, read.from)?;
        let selections = source.select(&read.sources, read.exclude, read.parents).map_err(|source| StepError::Select { source })?;
        if context.is_some() {
            context_bytes += selections.iter().map(Selection::size_bytes).sum::<u64>();
            session.prepare(index, |prepared| prepared.context_bytes = context_bytes);
        }
        let decided = Decided { owner: read.owner, mode: read.mode.as_ref(), shown: read.shown };
        let listed = context.as_ref().map(|context| (context, listing(&selections, decided)));
        if let Some((context, listing)) = &listed
            && part == Part::Contexts
            && let Some(digest) = context.listings.get(listing)
        {
            hasher.field(digest.as_bytes());
            by_listing = true;
            continue;
        }
        let digested = content(&source, &selections, context.as_ref().map(|context| context.stats()), decided)?;
        hasher.field(digested.digest.as_bytes());
        if let Some((context, listing)) = listed
            && context.stats().are_settled(selections.iter().flat_map(|selection| [&selection.top].into_iter().chain(&selection.below)))
        {
            context.listings.put(listing, digested.digest);
        }
        // The files of other steps never change: selecting them again is as good as keeping them.
        if context.is_some() {
            let (selections, lines) = (Arc::new(selections), digested.lines.map(Arc::new));
            session.prepare(index, |prepared| {
                prepared.selections.insert((read.from.clone(), read.sources), selections);
                prepared.lines = lines;
            });
        }
    }
    let digest = Some(hasher.finish());
    session.prepare(index, |prepared| if stages { prepared.stages = digest } else { (prepared.contexts, prepared.by_listing) = (digest, by_listing) });
    Ok(())
}

/// The keys under which a step's result is remembered: by results, and by content where that is known.
pub(crate) fn keys(session: &Session<'_>, index: StepIndex) -> (Digest, Option<Digest>) {
    let prepared = session.prepared(index);
    let op = &session.plan.step(index).op;
    let of = |reads| key(op, session.source_date_epoch(), &|step| session.chain(step), reads);
    let contexts = prepared.contexts.as_ref();
    let by_content = prepared.stages.as_ref().map(|stages| of(Reads::ByContent { contexts, stages }));
    (of(Reads::ByResult { contexts }), by_content)
}

/// Digests what a step reads from other steps, for its key by content, when a look-up by results made that unnecessary. Nothing is fetched for it, and
/// without that key only a later look-up misses.
pub(crate) fn complete_keys(session: &Session<'_>, index: StepIndex) {
    let op = &session.plan.step(index).op;
    let here = |step: &StepIndex| session.chain(*step).is_none_or(|chain| session.store.has_chain(&chain));
    let from_stages = reads(op).is_ok_and(|reads| reads.iter().any(|read| matches!(read.from, CopySource::Step { .. })));
    if from_stages
        && session.prepared(index).stages.is_none()
        && op.inputs().iter().all(here)
        && let Err(error) = digest_content(session, index, Part::Stages)
    {
        tracing::debug!(%error, "a key by content could not be made");
    }
}

/// Looks a step up.
pub(crate) fn probe(session: &Session<'_>, index: StepIndex, by_content: bool) -> Result<Option<Chain>, StepError> {
    match &session.plan.step(index).op {
        Op::Scratch => return Ok(Some(None)),
        Op::Base { diff_ids, .. } => {
            let chain = chain_of(diff_ids);
            return Ok(chain.is_none_or(|chain| session.store.has_chain(&chain)).then_some(chain));
        }
        Op::Run(_) | Op::Copy(_) | Op::Mkdir(_) => {}
    }
    let (by_result, content_key) = keys(session, index);
    let key = if by_content { content_key.unwrap_or(by_result) } else { by_result };
    let Some(layer) = session.store.cached(&key) else {
        // What a cache of elsewhere says is never remembered: it holds for a build that names that cache.
        let parent = session.plan.step(index).op.parent().and_then(|parent| session.chain(parent));
        return Ok(session.imports.look_up(&key, parent).map(Some));
    };
    if by_content {
        // Next time the first look will do.
        session.store.remember(&by_result, &layer).map_err(|source| StepError::Store { source })?;
    }
    Ok(Some(Some(layer.chain_id)))
}

fn chain_of(diff_ids: &[Digest]) -> Chain {
    diff_ids.iter().fold(None, |parent: Chain, diff_id| Some(Digest::chain(parent.as_ref(), diff_id)))
}

/// Unpacks a base image that is in the store as blobs only.
fn unpack_base(session: &Session<'_>, reference: &str, manifest: &Digest, diff_ids: &[Digest]) -> Result<Chain, StepError> {
    let missing = || StepError::BaseMissing { reference: reference.to_owned() };
    let image = session.store.image(&manifest.to_string()).map_err(|source| match source {
        StoreError::ImageMissing { .. } | StoreError::BlobMissing { .. } => missing(),
        source => StepError::Store { source },
    })?;
    let chain = session.store.unpack(&image).map_err(|source| StepError::Store { source })?;
    if chain == chain_of(diff_ids) { Ok(chain) } else { Err(missing()) }
}

/// Executes a step, unless another build does it at the same time: then its result is waited for.
pub(crate) fn execute(session: &Session<'_>, index: StepIndex, cancel: &CancelFlag) -> Result<Made, RunFailure> {
    let step = session.plan.step(index);
    if let Op::Base { reference, manifest, diff_ids } = &step.op {
        session.tell(ProgressEvent::Started { index, step });
        return Ok(Made::Executed(unpack_base(session, reference, manifest, diff_ids)?));
    }
    if session.prepared(index).by_listing {
        digest_content(session, index, Part::ContextsInFull)?;
    }
    let mut attempt = 1;
    loop {
        let (by_result, by_content) = keys(session, index);
        let lock = KeyLock::wait(&session.dirs.locks.join(by_result.hex()), cancel)?;
        if !step.origin.no_cache
            && let Some(layer) = session.store.cached(&by_result)
        {
            return Ok(Made::Found(Some(layer.chain_id)));
        }
        if attempt == 1 {
            session.tell(ProgressEvent::Started { index, step });
        }
        match make(session, index, cancel) {
            Ok(layer) => {
                for key in [Some(by_result), by_content].into_iter().flatten() {
                    session.store.remember(&key, &layer).map_err(|source| StepError::Store { source })?;
                }
                return Ok(Made::Executed(Some(layer.chain_id)));
            }
            // What was digested is not what is there now: begin again with what is there.
            Err(failure) if failure.error.is_change() && attempt < ATTEMPTS && !cancel.is_cancelled() => {
                drop(lock);
                attempt += 1;
                session.tell(ProgressEvent::Warning { index, step, text: "the build context changed while it was copied: copying again" });
                digest_content(session, index, Part::ContextsInFull)?;
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn make(session: &Session<'_>, index: StepIndex, cancel: &CancelFlag) -> Result<Layer, RunFailure> {
    let op = &session.plan.step(index).op;
    if let Some(parent) = op.parent() {
        session.ensure(parent)?;
    }
    match op {
        Op::Run(spec) => run(session, index, spec, cancel),
        Op::Copy(spec) => copy(session, index, spec, cancel).map_err(RunFailure::from),
        Op::Mkdir(spec) => mkdir(session, spec).map_err(RunFailure::from),
        Op::Scratch | Op::Base { .. } => Err(StepError::Unsupported { what: "executing a base".to_owned() }.into()),
    }
}

fn copy(session: &Session<'_>, index: StepIndex, copy: &Copy, cancel: &CancelFlag) -> Result<Layer, StepError> {
    let stored = |source| StepError::Store { source };
    let parent = session.chain(copy.parent);
    let variation = vary::begin(session, index, copy)?;
    let in_full = variation.is_none();
    let (draft, on, parts) = match variation {
        Some(Variation { draft, of, selections }) => {
            let part = Taken { source: source_of(session, &copy.from)?, selections: Arc::new(selections), sources: &copy.sources, unpack: false, tree: false };
            (draft, Some(of), vec![part])
        }
        None => (session.begin(parent)?, parent, parts_of(session, index, copy)?),
    };
    let selections = parts.first().map_or(&[][..], |part| part.selections.as_slice());
    let root = match direct::for_files(session, &draft, on, copy, selections)? {
        Some(root) => root,
        None => edit(&draft).map_err(|source| StepError::View { source })?,
    };
    let owner = owner_of(session, index, copy, on.is_some().then_some(&root))?;
    let mut placing = Placing { owner, mode: mode_of(copy)?, cancel: cancel.clone(), tree: false };
    for part in &parts {
        if in_full {
            warn_of(session, index, copy, &root, &part.selections, part.sources);
        }
        placing.tree = part.tree;
        place_all(part, copy, &placing, &root)?;
    }
    for file in &copy.inline {
        let destination = Destination { root: &root, path: &copy.dest };
        placing.place_inline(&file.name, file.content.as_bytes(), &destination).map_err(place_error)?;
    }
    drop(root);
    let layer = draft.commit(CommitOptions { mtime: session.source_date_epoch() }).map_err(stored)?;
    if let (true, Some(lines), Some(key)) = (in_full, session.prepared(index).lines, vary::kin_key(session, index)) {
        session.store.remember_kin(&key, &layer, &lines).map_err(stored)?;
    }
    Ok(layer)
}

/// Files of one place that a COPY or ADD takes.
struct Taken<'a> {
    source: Arc<Source>,
    selections: Arc<Vec<Selection>>,
    /// As they were written.
    sources: &'a [String],
    /// Archives among them are unpacked.
    unpack: bool,
    /// It is a tree, not what is in it.
    tree: bool,
}

fn parts_of<'a>(session: &Session<'_>, index: StepIndex, copy: &'a Copy) -> Result<Vec<Taken<'a>>, StepError> {
    let (unpack, tree) = copy.add.as_ref().map_or((false, false), |add| (add.unpack, add.tree));
    let first = (copy.from != CopySource::Inline).then_some((&copy.from, copy.sources.as_slice(), unpack, tree));
    let further = copy.also.iter().map(|further| (&further.from, further.sources.as_slice(), further.unpack, further.tree));
    let part = |(from, sources, unpack, tree): (&CopySource, &'a [String], bool, bool)| {
        let source = source_of(session, from)?;
        let selections = match source.origin {
            SourceOrigin::Context => session.selected(index, from, sources)?,
            SourceOrigin::Stage => Arc::new(source.select(sources, &copy.exclude, copy.parents).map_err(|source| StepError::Select { source })?),
        };
        Ok(Taken { source, selections, sources, unpack, tree })
    };
    first.into_iter().chain(further).map(part).collect()
}

fn place_all(part: &Taken<'_>, copy: &Copy, placing: &Placing, root: &Root) -> Result<(), StepError> {
    for selection in part.selections.iter() {
        if part.unpack && is_archive(&part.source, selection)? {
            // --chmod is for what is copied: neither what is unpacked nor the way there.
            let way = Placing { mode: None, owner: placing.owner, cancel: placing.cancel.clone(), tree: false };
            let into = directory(&way, root, &copy.dest)?;
            unpack(&part.source, selection, root, &into, placing.owner)?;
        } else {
            placing.place(&part.source, selection, &Destination { root, path: &copy.dest }).map_err(place_error)?;
        }
    }
    Ok(())
}

/// What is allowed and likely not meant.
fn warn_of(session: &Session<'_>, index: StepIndex, copy: &Copy, root: &Root, selections: &[Selection], sources: &[String]) {
    let warn = |text: &str| session.tell(ProgressEvent::Warning { index, step: session.plan.step(index), text });
    if selections.is_empty() && sources.iter().any(|source| has_wildcard(source)) {
        warn("no file matches: nothing is copied");
    }
    let files = selections.iter().filter(|selection| !selection.top.is_dir()).count();
    if files > 1 && !copy.dest.ends_with('/') && !root.resolve(&clean(Path::new(&copy.dest)), LastLink::Follow).is_ok_and(|found| found.stat.is_some()) {
        warn(&format!("several files are copied to {}, and the last one wins: end the destination with / to keep them all", copy.dest));
    }
}

fn place_error(source: crate::copy::PlaceError) -> StepError {
    match source {
        crate::copy::PlaceError::Cancelled => StepError::Cancelled,
        source => StepError::Place { source },
    }
}

/// A path of the destination as a directory, made when missing, without links in it.
fn directory(placing: &Placing, root: &Root, path: &str) -> Result<std::path::PathBuf, StepError> {
    let path = clean(Path::new(path));
    placing.make_dirs(root, &path).map_err(place_error)?;
    let found = root.resolve(&path, LastLink::Follow);
    found.map(|found| found.path).map_err(|source| place_error(crate::copy::PlaceError::Write { path, source }))
}

fn owner_of(session: &Session<'_>, index: StepIndex, copy: &Copy, root: Option<&Root>) -> Result<Option<Owner>, StepError> {
    let Some(chown) = copy.chown.as_ref().filter(|chown| !chown.0.is_empty()) else { return Ok(None) };
    let found = find(&chown.0, root).map_err(|source| StepError::Owner { source })?;
    for unknown in &found.unknown {
        let text = format!("--chown={}: the image knows no {unknown}; files are owned by {}:{}", chown.0, found.owner.uid, found.owner.gid);
        session.tell(ProgressEvent::Warning { index, step: session.plan.step(index), text: &text });
    }
    Ok(Some(found.owner))
}

/// WORKDIR makes a layer even when the directory is there.
fn mkdir(session: &Session<'_>, mkdir: &Mkdir) -> Result<Layer, StepError> {
    let stored = |source| StepError::Store { source };
    let parent = session.chain(mkdir.parent);
    let draft = session.begin(parent)?;
    let path = clean(Path::new(&mkdir.path));
    let root = match direct::for_directory(session, &draft, parent, &path, &mkdir.user)? {
        Some(root) => root,
        None => edit(&draft).map_err(|source| StepError::View { source })?,
    };
    let owner = match find(&mkdir.user, parent.is_some().then_some(&root)) {
        Ok(found) => found.owner,
        // A user that nobody knows is root here, as everywhere in WORKDIR.
        Err(OwnerError::NothingToLookIn { .. }) => Owner::default(),
        Err(source) => return Err(StepError::Owner { source }),
    };
    let placing = Placing { owner: (!mkdir.user.is_empty()).then_some(owner), ..Placing::default() };
    placing.make_dirs(&root, &path).map_err(place_error)?;
    drop(root);
    draft.commit(CommitOptions { mtime: session.source_date_epoch() }).map_err(stored)
}
