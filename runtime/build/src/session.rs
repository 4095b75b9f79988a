//! What one build knows while it runs: the results so far, open contexts, and what was selected from them.

use std::collections::{BTreeMap, HashMap};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use strake_container::Executor;
use strake_dockerfile::Ignore;
use strake_oci::Digest;
use strake_plan::{BuildPlan, ContextKind, CopySource, StepIndex};
use strake_solve::Chain;
use strake_store::{Draft, KinLine, Store};

use crate::cache::{Imports, Listings, StatCache};
use crate::copy::{Selection, Source, SourceOrigin};
use crate::progress::{Progress, ProgressEvent};
use crate::tree::{Below, Root};
use crate::{BuildError, BuildOptions, CancelFlag, StepError};

/// Directories of the build below the store's root.
#[derive(Clone, Debug)]
pub(crate) struct Dirs {
    /// Locks by key.
    pub locks: PathBuf,
    /// Records of build contexts' files.
    pub stats: PathBuf,
    /// Cache mounts.
    pub mounts: PathBuf,
    /// A file for each cache mount: its id, and when it was last used.
    pub mount_ids: PathBuf,
    /// Files that containers are given.
    pub files: PathBuf,
}

impl Dirs {
    /// Makes the directories.
    pub(crate) fn make(root: &Path) -> Result<Self, BuildError> {
        let cache = root.join("cache");
        let dirs = Dirs {
            locks: cache.join("locks"),
            stats: cache.join("stat"),
            mounts: cache.join("mounts"),
            mount_ids: cache.join("mount-ids"),
            files: cache.join("files"),
        };
        for path in [&dirs.locks, &dirs.stats, &dirs.mounts, &dirs.mount_ids, &dirs.files] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| BuildError::MakeDirectory { path: path.clone(), source })?;
        }
        Ok(dirs)
    }
}

/// A build context, opened once.
pub(crate) struct OpenContext {
    pub source: Arc<Source>,
    pub listings: Listings,
    /// Where its files' records are, and its own place; loaded when a listing is not known.
    stats_at: (PathBuf, PathBuf),
    stats: OnceLock<StatCache>,
}

impl OpenContext {
    /// The records of its files.
    pub(crate) fn stats(&self) -> &StatCache {
        self.stats.get_or_init(|| StatCache::load(&self.stats_at.0, &self.stats_at.1))
    }
}

/// What a step's sources were when they were digested.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared {
    /// Digest of all that it reads from contexts.
    pub contexts: Option<Digest>,
    /// Some of that is known by its listing only: nothing was selected, and no file looked at.
    pub by_listing: bool,
    /// Digest of all that it reads from other steps' files.
    pub stages: Option<Digest>,
    /// What a copy of one directory is remembered by.
    pub lines: Option<Arc<Vec<KinLine>>>,
    /// Bytes of all files that it reads from contexts, known before they are digested.
    pub context_bytes: u64,
    /// The very files, by source and patterns.
    pub selections: HashMap<(CopySource, Vec<String>), Arc<Vec<Selection>>>,
}

/// One build.
pub(crate) struct Session<'a> {
    pub plan: &'a BuildPlan,
    pub store: Arc<Store>,
    pub executor: Arc<dyn Executor>,
    pub options: &'a BuildOptions,
    pub dirs: Dirs,
    pub imports: Imports<'a>,
    cancel: &'a CancelFlag,
    progress: &'a dyn Progress,
    chains: Mutex<Vec<Option<Chain>>>,
    /// What is known of layers.
    pub below: Below,
    views: Mutex<HashMap<Chain, Arc<Source>>>,
    prepared: Mutex<HashMap<StepIndex, Prepared>>,
    contexts: Mutex<BTreeMap<String, Arc<OpenContext>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        plan: &'a BuildPlan,
        store: Arc<Store>,
        executor: Arc<dyn Executor>,
        options: &'a BuildOptions,
        dirs: Dirs,
        (imports, cancel): (Imports<'a>, &'a CancelFlag),
        progress: &'a dyn Progress,
    ) -> Self {
        let chains = Mutex::new(vec![None; plan.steps.len()]);
        Session {
            plan,
            store,
            executor,
            options,
            dirs,
            imports,
            cancel,
            progress,
            chains,
            below: Below::default(),
            views: Mutex::default(),
            prepared: Mutex::default(),
            contexts: Mutex::default(),
        }
    }

    /// Tells what happened.
    pub(crate) fn tell(&self, event: ProgressEvent<'_>) {
        self.progress.event(event);
    }

    /// The time of everything that is made, in seconds since 1970.
    pub(crate) fn source_date_epoch(&self) -> i64 {
        self.options.source_date_epoch.unwrap_or(0)
    }

    /// The result of a step that is there: the scheduler asks for nothing before.
    pub(crate) fn chain(&self, step: StepIndex) -> Chain {
        lock(&self.chains).get(step.0).copied().flatten().flatten()
    }

    pub(crate) fn set_chain(&self, step: StepIndex, chain: Chain) {
        if let Some(place) = lock(&self.chains).get_mut(step.0) {
            *place = Some(chain);
        }
    }

    /// The layer that a finished step added: of a step that only a cache of elsewhere knows, by what that says.
    pub(crate) fn diff_id(&self, step: StepIndex) -> Option<Digest> {
        let chain = self.chain(step)?;
        let found = self.imports.found(&chain).map(|found| found.layer.diff_id);
        found.or_else(|| self.store.layers(&chain).ok()?.pop().map(|layer| layer.diff_id))
    }

    /// Sees to it that the result of a step is in the store, and not only in a build cache of elsewhere.
    pub(crate) fn ensure(&self, step: StepIndex) -> Result<(), StepError> {
        self.imports.ensure(self.chain(step), &self.store, &self.dirs.locks, self.cancel)
    }

    /// The directories of a step's file system, topmost first.
    pub(crate) fn lowers(&self, step: StepIndex) -> Result<Vec<PathBuf>, StepError> {
        self.ensure(step)?;
        match self.chain(step) {
            Some(chain) => self.below.lowers(&self.store, &chain).map_err(|source| StepError::Store { source }),
            None => Ok(vec![self.store.root().join("empty")]),
        }
    }

    /// Starts a layer.
    pub(crate) fn begin(&self, parent: Chain) -> Result<Draft, StepError> {
        let begun = match &parent {
            Some(chain) => self.below.lowers(&self.store, chain).and_then(|lowers| self.store.begin_on(chain, lowers)),
            None => self.store.begin(None),
        };
        begun.map_err(|source| StepError::Store { source })
    }

    /// The files of a step, opened at their first use: they never change, and closing a mount takes longer than what is done with it.
    pub(crate) fn viewed(&self, step: StepIndex, open: impl FnOnce(&[PathBuf]) -> Result<Source, StepError>) -> Result<Arc<Source>, StepError> {
        let lowers = self.lowers(step)?;
        let chain = self.chain(step);
        if let Some(open) = lock(&self.views).get(&chain) {
            return Ok(Arc::clone(open));
        }
        let source = Arc::new(open(&lowers)?);
        Ok(Arc::clone(lock(&self.views).entry(chain).or_insert(source)))
    }

    /// Closes the files of steps, all at a time.
    pub(crate) fn close_views(&self) {
        use rayon::prelude::*;
        let views: Vec<Arc<Source>> = lock(&self.views).drain().map(|(_, source)| source).collect();
        views.into_par_iter().for_each(drop);
    }

    /// A context, opened at its first use.
    pub(crate) fn context(&self, name: &str) -> Result<Arc<OpenContext>, StepError> {
        let mut contexts = lock(&self.contexts);
        if let Some(open) = contexts.get(name) {
            return Ok(Arc::clone(open));
        }
        let context = self.plan.contexts.get(name).ok_or_else(|| StepError::ContextMissing { name: name.to_owned() })?;
        let ContextKind::Directory { path } = &context.kind;
        let path = PathBuf::from(path);
        let opened = path.canonicalize().and_then(|path| Ok((Root::open(&path)?, path)));
        let (root, absolute) = opened.map_err(|source| StepError::OpenContext { path: path.clone(), source })?;
        let ignore = Ignore::from_patterns(&context.ignore).map_err(|reason| StepError::Ignore { path: path.clone(), reason })?;
        let source = Arc::new(Source { root, ignore, origin: SourceOrigin::Context });
        let listings = Listings::load(&self.dirs.stats, &absolute);
        let open = Arc::new(OpenContext { source, listings, stats_at: (self.dirs.stats.clone(), absolute), stats: OnceLock::new() });
        contexts.insert(name.to_owned(), Arc::clone(&open));
        Ok(open)
    }

    /// Writes down what was learned about contexts' files. Losing it costs time only.
    pub(crate) fn save_stats(&self) {
        for context in lock(&self.contexts).values() {
            let stats = context.stats.get().map_or(Ok(()), StatCache::save);
            if let Err(error) = stats.and_then(|()| context.listings.save()) {
                tracing::warn!(%error, "what is known of the build context could not be written down");
            }
        }
    }

    /// Changes what is known of a step's sources.
    pub(crate) fn prepare(&self, step: StepIndex, change: impl FnOnce(&mut Prepared)) {
        change(lock(&self.prepared).entry(step).or_default());
    }

    /// What is known of a step's sources.
    pub(crate) fn prepared(&self, step: StepIndex) -> Prepared {
        lock(&self.prepared).get(&step).cloned().unwrap_or_default()
    }

    /// Bytes of the files that a step reads from contexts, as far as that is known.
    pub(crate) fn context_bytes(&self, step: StepIndex) -> u64 {
        lock(&self.prepared).get(&step).map_or(0, |prepared| prepared.context_bytes)
    }

    /// The files that were selected when the step was digested.
    pub(crate) fn selected(&self, step: StepIndex, from: &CopySource, sources: &[String]) -> Result<Arc<Vec<Selection>>, StepError> {
        let found = self.prepared(step).selections.get(&(from.clone(), sources.to_vec())).cloned();
        found.ok_or_else(|| StepError::Unsupported { what: "a step whose sources were never selected".to_owned() })
    }
}
