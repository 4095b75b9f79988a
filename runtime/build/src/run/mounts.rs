//! `RUN --mount`: what each kind shows, and what must be kept or thrown away with it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use strake_container::{BindMount, LayersMount, Scratch, TmpfsMount, VolumeMount};
use strake_plan::{BuildPlan, CopySource, Mount, MountKind, Op, Run, StepIndex};
use strake_store::{Draft, Store};

use super::agent::{Agent, AgentSocket};
use super::secret;
use crate::cache::{KeyLock, told};
use crate::copy::{Destination, Placing};
use crate::session::{Dirs, Session};
use crate::step::{literal_pattern, source_of};
use crate::tree::Root;
use crate::{CancelFlag, StepError};

/// Where a context's files are put to be mounted from.
const SHOWN: &str = "/shown";

/// The mounts of one RUN. What they need lives as long as this.
#[derive(Default)]
pub(crate) struct Mounts {
    /// For the container.
    pub volumes: Vec<VolumeMount>,
    /// The first agent's socket in the container.
    pub agent: Option<String>,
    drafts: Vec<Draft>,
    locks: Vec<KeyLock>,
    agents: Vec<Agent>,
    /// Held for as long as a cache is used: who could take it alone knows that nobody uses it.
    _used: Vec<File>,
    secrets: Vec<secret::Shown>,
}

impl Mounts {
    /// Prepares the mounts that a RUN asks for.
    pub(crate) fn prepare(session: &Session<'_>, index: StepIndex, run: &Run, cancel: &CancelFlag) -> Result<Self, StepError> {
        let mut mounts = Mounts::default();
        mounts.lock_caches(session, run, cancel)?;
        for mount in &run.mounts {
            let volume = match &mount.kind {
                MountKind::Secret { .. } => match mounts.secret(session, mount)? {
                    Some(volume) => volume,
                    None => continue,
                },
                MountKind::Ssh { .. } => match mounts.ssh(session, mount)? {
                    Some(volume) => volume,
                    None => continue,
                },
                MountKind::Bind { from, source } => mounts.bind(session, index, mount, from, source)?,
                MountKind::Tmpfs { size_bytes } => VolumeMount::Tmpfs(TmpfsMount { target: mount.target.clone(), size_bytes: *size_bytes, mode: None }),
                MountKind::Cache { .. } => {
                    let source = mounts.cache(session, mount, cancel)?;
                    VolumeMount::Bind(BindMount { source, target: mount.target.clone(), read_only: mount.read_only })
                }
            };
            mounts.volumes.push(volume);
        }
        Ok(mounts)
    }

    /// A secret that was given; nothing for one that was not and need not be.
    fn secret(&mut self, session: &Session<'_>, mount: &Mount) -> Result<Option<VolumeMount>, StepError> {
        let MountKind::Secret { id, required, .. } = &mount.kind else { return Ok(None) };
        let Some(value) = session.options.secrets.get(id) else {
            return if *required { Err(StepError::SecretMissing { id: id.clone() }) } else { Ok(None) };
        };
        let Some(shown) = secret::show(mount, value)? else { return Ok(None) };
        let volume = VolumeMount::Secret(shown.mount.clone());
        self.secrets.push(shown);
        Ok(Some(volume))
    }

    /// An agent that was given; nothing for one that was not and need not be.
    fn ssh(&mut self, session: &Session<'_>, mount: &Mount) -> Result<Option<VolumeMount>, StepError> {
        let MountKind::Ssh { id, required, mode, uid, gid } = &mount.kind else { return Ok(None) };
        let Some(AgentSocket { path, .. }) = session.options.ssh.get(id) else {
            return if *required { Err(StepError::AgentMissing { id: id.clone() }) } else { Ok(None) };
        };
        let failed = |source| StepError::ForwardAgent { path: path.clone(), source };
        let agent = Agent::forward(path, &session.dirs.files, (*mode, *uid, *gid)).map_err(failed)?;
        let source = agent.socket();
        self.agents.push(agent);
        self.agent.get_or_insert_with(|| mount.target.clone());
        Ok(Some(VolumeMount::Bind(BindMount { source, target: mount.target.clone(), read_only: true })))
    }

    fn bind(&mut self, session: &Session<'_>, index: StepIndex, mount: &Mount, from: &CopySource, source: &str) -> Result<VolumeMount, StepError> {
        let (lowers, source) = match from {
            CopySource::Step { step } => (session.lowers(*step)?, format!("/{}", source.trim_start_matches('/'))),
            CopySource::Context { .. } => (vec![self.copy_of_context(session, index, from, source)?], SHOWN.to_owned()),
            CopySource::Inline => return Err(StepError::Unsupported { what: "a bind mount without a source".to_owned() }),
        };
        let scratch = if mount.read_only {
            None
        } else {
            let draft = self.draft(session)?;
            Some(Scratch { upper: draft.upper.clone(), work: draft.work.clone() })
        };
        Ok(VolumeMount::Layers(LayersMount { lowers, scratch, source, target: mount.target.clone() }))
    }

    /// A context's files as a build sees them: without what is ignored, owned by root, and the very ones that the key was made of.
    fn copy_of_context(&mut self, session: &Session<'_>, index: StepIndex, from: &CopySource, source: &str) -> Result<PathBuf, StepError> {
        let tree = source_of(session, from)?;
        let selections = session.selected(index, from, &[literal_pattern(source)])?;
        let draft = self.draft(session)?;
        let root = Root::open(&draft.upper).map_err(|source| StepError::Write { path: draft.upper.clone(), source })?;
        for selection in selections.iter() {
            let destination = Destination { root: &root, path: SHOWN };
            Placing::default().place(&tree, selection, &destination).map_err(|source| StepError::Place { source })?;
            // What is copied into a directory leaves it as it is; what is mounted is the source itself.
            if selection.top.is_dir() && !tree.is_own_root(&selection.top) {
                let mode = fs::Permissions::from_mode(selection.top.mode);
                let shown = root.open_dir(Path::new(SHOWN.trim_start_matches('/')));
                let changed = shown.map_err(std::io::Error::from).and_then(|dir| File::from(dir).set_permissions(mode));
                changed.map_err(|source| StepError::Write { path: draft.upper.clone(), source })?;
            }
        }
        Ok(draft.upper.clone())
    }

    fn draft(&mut self, session: &Session<'_>) -> Result<&Draft, StepError> {
        let draft = session.store.begin(None).map_err(|source| StepError::Store { source })?;
        self.drafts.push(draft);
        self.drafts.last().ok_or_else(|| StepError::Unsupported { what: "a mount without a directory".to_owned() })
    }

    /// Takes the locks of all caches that are for one step at a time: always in the same order, so that no two steps wait for each other, and each once.
    fn lock_caches(&mut self, session: &Session<'_>, run: &Run, cancel: &CancelFlag) -> Result<(), StepError> {
        let locked = run.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Cache { sharing, .. } if sharing == "locked" => mount.kind.cache_key().map(|key| cache_name(&key)),
            _ => None,
        });
        for name in locked.collect::<BTreeSet<_>>() {
            self.locks.push(KeyLock::wait(&lock_path(session, &name), cancel)?);
        }
        Ok(())
    }

    /// The directory of a cache mount, made when missing and held as `sharing` says.
    fn cache(&mut self, session: &Session<'_>, mount: &Mount, cancel: &CancelFlag) -> Result<PathBuf, StepError> {
        let (MountKind::Cache { sharing, mode, uid, gid, from, source, .. }, Some(id)) = (&mount.kind, mount.kind.cache_key()) else {
            return Err(StepError::Unsupported { what: "this kind of mount".to_owned() });
        };
        let id = id.as_str();
        let name = match sharing.as_str() {
            "private" => self.own(session, &cache_name(id))?,
            "shared" | "locked" | "" => cache_name(id),
            other => return Err(StepError::Unsupported { what: format!("a cache mount with sharing={other}") }),
        };
        let dir = session.dirs.mounts.join(&name);
        // Two builds may make the same directory at the same time.
        let _making = KeyLock::wait(&making_path(&session.dirs, &name), cancel)?;
        note_use(&session.dirs, &name, id)?;
        if !dir.exists() && !import(session, &dir, id)? {
            self.fill(session, &dir, from.as_ref().map(|from| (from, source.as_str())), (*mode, *uid, *gid))?;
        }
        let failed = |source| StepError::Write { path: dir.clone(), source };
        let used = File::open(&dir).map_err(failed)?;
        flock(&used, FlockOperation::LockShared).map_err(|error| failed(error.into()))?;
        self._used.push(used);
        Ok(dir)
    }

    /// The first copy of a private cache that nobody uses now.
    fn own(&mut self, session: &Session<'_>, name: &str) -> Result<String, StepError> {
        for number in 0_u32.. {
            let name = if number == 0 { name.to_owned() } else { format!("{name}-{number}") };
            if let Some(lock) = KeyLock::try_take(&lock_path(session, &name))? {
                self.locks.push(lock);
                return Ok(name);
            }
        }
        Err(StepError::Unsupported { what: "so many private caches".to_owned() })
    }

    /// Makes a cache directory under another name and renames it, so that it is never seen half full.
    fn fill(&self, session: &Session<'_>, dir: &Path, from: Option<(&CopySource, &str)>, (mode, uid, gid): (u32, u32, u32)) -> Result<(), StepError> {
        let failed = |source| StepError::Write { path: dir.to_owned(), source };
        let fresh = dir.with_extension("new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(failed)?;
        }
        fs::DirBuilder::new().mode(0o700).create(&fresh).map_err(failed)?;
        if let Some((from, source)) = from.filter(|(from, _)| **from != CopySource::Inline) {
            let tree = source_of(session, from)?;
            let selections = tree.select(&[literal_pattern(source)], &[], false).map_err(|source| StepError::Select { source })?;
            let root = Root::open(&fresh).map_err(failed)?;
            for selection in &selections {
                Placing::default().place(&tree, selection, &Destination { root: &root, path: "/" }).map_err(|source| StepError::Place { source })?;
            }
        }
        chown(&fresh, Some(uid), Some(gid)).map_err(failed)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(mode)).map_err(failed)?;
        fs::rename(&fresh, dir).map_err(failed)
    }
}

/// The directory name of a cache, whatever its id is made of.
fn cache_name(id: &str) -> String {
    blake3::hash(id.as_bytes()).to_hex()[..32].to_owned()
}

/// Where the first copy of a cache mount is, when there is one.
pub(crate) fn mount_dir(root: &Path, id: &str) -> PathBuf {
    root.join("cache/mounts").join(cache_name(id))
}

fn making_path(dirs: &Dirs, name: &str) -> PathBuf {
    dirs.locks.join(format!("make-{name}"))
}

/// Writes down whose directory this is, and that it was used now.
fn note_use(dirs: &Dirs, name: &str, id: &str) -> Result<(), StepError> {
    let path = dirs.mount_ids.join(name);
    fs::write(&path, id).map_err(|source| StepError::Write { path, source })
}

/// A cache mount that a build cache of elsewhere brings; `false` when none does, or it cannot be had: then the mount begins as without that cache.
fn import(session: &Session<'_>, dir: &Path, id: &str) -> Result<bool, StepError> {
    let Some((cache, blob, diff_id)) = session.imports.mount(id) else { return Ok(false) };
    let failed = |source| StepError::Write { path: dir.to_owned(), source };
    let fresh = dir.with_extension("new");
    let renew = || if fresh.exists() { fs::remove_dir_all(&fresh) } else { Ok(()) };
    renew().map_err(failed)?;
    let bring = || -> Result<(), String> {
        session.imports.fetch(cache, blob, &session.store).map_err(|error| told(&*error))?;
        fs::DirBuilder::new().mode(0o755).create(&fresh).map_err(|error| error.to_string())?;
        session.store.extract_files(blob, &diff_id, &fresh).map_err(|error| told(&error))
    };
    if let Err(reason) = bring() {
        tracing::warn!(id, reason, "a cache mount of the imported build cache cannot be used: it begins empty");
        renew().map_err(failed)?;
        return Ok(false);
    }
    fs::rename(&fresh, dir).map_err(failed)?;
    Ok(true)
}

/// The cache mounts of steps that are not to be taken from the cache begin empty (buildx prunes them too). One that a build uses now stays.
pub(crate) fn empty_mounts(plan: &BuildPlan, dirs: &Dirs, store: &Store, cancel: &CancelFlag) {
    let mut ids = BTreeSet::new();
    for step in plan.steps.iter().filter(|step| step.origin.no_cache) {
        let Op::Run(run) = &step.op else { continue };
        ids.extend(run.mounts.iter().filter_map(|mount| mount.kind.cache_key()));
    }
    for id in ids {
        let name = cache_name(&id);
        for number in 0_u32.. {
            let name = if number == 0 { name.clone() } else { format!("{name}-{number}") };
            let dir = dirs.mounts.join(&name);
            if !dir.exists() {
                break;
            }
            let Ok(_making) = KeyLock::wait(&making_path(dirs, &name), cancel) else { return };
            let alone = File::open(&dir).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
            if !alone {
                tracing::warn!(id, "a cache mount is in use by another build and keeps its files");
            } else if let Err(error) = store.discard(&dir) {
                tracing::warn!(id, %error, "a cache mount could not be emptied");
            }
        }
    }
}

fn lock_path(session: &Session<'_>, name: &str) -> PathBuf {
    session.dirs.locks.join(format!("mount-{name}"))
}
