//! Steps that only add files, written straight into the layer's directory: where it is clear from the layers below what a mount would show. The files are the
//! same either way.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use strake_plan::{Chown, Copy};
use strake_solve::Chain;
use strake_store::{Draft, StoreError};

use super::Selection;
use crate::StepError;
use crate::session::Session;
use crate::tree::{Entry, Found, LookError, Looks, Named, Root, ViewError, clean};

/// Names that are looked up below a directory that is there; a mount is quicker than more.
const MOST: usize = 256;

/// Directories of the layers below that the step's files go into, from the top: they become part of its layer.
#[derive(Debug, Default)]
struct Shown(Vec<(PathBuf, Looks)>);

/// Whether an owner is known without the files of users and groups.
pub(crate) fn is_number(chown: &str) -> bool {
    chown.bytes().all(|byte| byte.is_ascii_digit() || byte == b':')
}

fn looking(error: LookError) -> StepError {
    match error {
        LookError::Store(source) => StepError::Store { source },
        LookError::Read { path, source } => StepError::View { source: ViewError::Open { path, source } },
    }
}

/// The directory of a draft, ready for a WORKDIR; nothing when it takes a mount.
pub(crate) fn for_directory(session: &Session<'_>, draft: &Draft, parent: Chain, path: &Path, user: &str) -> Result<Option<Root>, StepError> {
    let mut shown = Shown::default();
    let known = user.is_empty() || user == "root" || is_number(user);
    if !known {
        return Ok(None);
    }
    match shown.way(session, parent, path)? {
        Some(Found::Missing) => shown.make(draft).map(Some),
        // All of it is there: the layer stays empty, and there is nothing to be found in its directory.
        Some(Found::Directory(_)) | Some(Found::Other | Found::Unclear) | None => Ok(None),
    }
}

/// The directory of a draft, ready for these files of a COPY; nothing when it takes a mount.
pub(crate) fn for_files(session: &Session<'_>, draft: &Draft, parent: Chain, copy: &Copy, selections: &[Selection]) -> Result<Option<Root>, StepError> {
    let by_number = copy.chown.as_ref().is_none_or(|Chown(chown)| is_number(chown));
    let nothing = selections.is_empty() && copy.inline.is_empty();
    if nothing || !by_number || copy.parents || copy.add.is_some() || !copy.also.is_empty() {
        return Ok(None);
    }
    let dest = clean(Path::new(&copy.dest));
    let mut shown = Shown::default();
    let found = if dest.as_os_str().is_empty() { Some(Found::Directory(Looks { mode: 0o755, uid: 0, gid: 0 })) } else { shown.way(session, parent, &dest)? };
    let fits = match found {
        Some(Found::Missing) => true,
        // What is no directory is replaced by one file, and is an error for anything else: which a mount tells.
        Some(Found::Other) => {
            !copy.dest.ends_with(['/', '.']) && selections.len() + copy.inline.len() == 1 && selections.iter().all(|selection| !selection.top.is_dir())
        }
        Some(Found::Directory(_)) => shown.contents(session, parent, copy, &dest, selections)?,
        Some(Found::Unclear) | None => false,
    };
    if fits { shown.make(draft).map(Some) } else { Ok(None) }
}

impl Shown {
    /// Follows a path from the root; gives what is at its end, or nothing where something else than a directory is on the way.
    fn way(&mut self, session: &Session<'_>, parent: Chain, path: &Path) -> Result<Option<Found>, StepError> {
        let (mut at, mut above) = (PathBuf::new(), PathBuf::new());
        let mut last = Found::Missing;
        for name in path {
            at.push(name);
            // By the lists of the directory above: a name that is new in every step is then not asked for in every layer.
            last = match session.below.look_in(&session.store, parent, &above, name).map_err(looking)? {
                Named::Missing => Found::Missing,
                Named::Other => Found::Other,
                Named::Unclear => Found::Unclear,
                Named::Directory => session.below.look(&session.store, parent, &at).map_err(looking)?,
            };
            above.push(name);
            match last {
                Found::Directory(looks) => self.0.push((at.clone(), looks)),
                Found::Missing => break,
                Found::Other if at == path => break,
                Found::Other | Found::Unclear => return Ok(None),
            }
        }
        Ok(Some(last))
    }

    /// Whether everything can be put into a directory that is there.
    fn contents(&mut self, session: &Session<'_>, parent: Chain, copy: &Copy, dest: &Path, selections: &[Selection]) -> Result<bool, StepError> {
        let named = |dir: &Path, name: &OsStr| session.below.look_in(&session.store, parent, dir, name).map_err(looking);
        let mut asked = 0;
        let plain = selections.iter().filter(|selection| !selection.top.is_dir()).map(|selection| selection.name.as_os_str());
        for name in plain.chain(copy.inline.iter().map(|file| OsStr::new(&file.name))) {
            asked += 1;
            if asked > MOST || matches!(named(dest, name)?, Named::Directory | Named::Unclear) {
                return Ok(false);
            }
        }
        for selection in selections.iter().filter(|selection| selection.top.is_dir()) {
            // Directories that are not there below: nothing in them is, either.
            let mut fresh: HashSet<&Path> = HashSet::new();
            for entry in &selection.below {
                let above = entry.relative.parent().unwrap_or(Path::new(""));
                if fresh.contains(above) {
                    fresh.extend(entry.is_dir().then_some(&*entry.relative));
                    continue;
                }
                asked += 1;
                let name = entry.relative.file_name().unwrap_or_default();
                if asked > MOST || !self.fits(session, parent, &dest.join(above), name, entry)? {
                    return Ok(false);
                }
                fresh.extend((entry.is_dir() && !self.0.iter().any(|(path, _)| *path == dest.join(&entry.relative))).then_some(&*entry.relative));
            }
        }
        Ok(true)
    }

    fn fits(&mut self, session: &Session<'_>, parent: Chain, dir: &Path, name: &OsStr, entry: &Entry) -> Result<bool, StepError> {
        match (session.below.look_in(&session.store, parent, dir, name).map_err(looking)?, entry.is_dir()) {
            (Named::Missing, _) | (Named::Other, false) => Ok(true),
            (Named::Directory, true) => {
                let path = dir.join(name);
                let found = session.below.look(&session.store, parent, &path).map_err(looking)?;
                if let Found::Directory(looks) = found {
                    self.0.push((path, looks));
                }
                Ok(matches!(found, Found::Directory(_)))
            }
            (Named::Other, true) | (Named::Directory, false) | (Named::Unclear, _) => Ok(false),
        }
    }

    /// Makes the directories, with the looks that they have below.
    fn make(self, draft: &Draft) -> Result<Root, StepError> {
        for (path, looks) in self.0 {
            let path = draft.upper.join(path);
            let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
            let dressed = match made {
                // Two selections may go the same way.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                made => made
                    .and_then(|()| std::os::unix::fs::chown(&path, Some(looks.uid), Some(looks.gid)))
                    .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(looks.mode))),
            };
            dressed.map_err(|source| StepError::Store { source: StoreError::Write { path, source } })?;
        }
        Root::open(&draft.upper).map_err(|source| StepError::View { source: ViewError::Open { path: draft.upper.clone(), source } })
    }
}
