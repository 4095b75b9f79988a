//! Which directories are watched: every one that a build or a compilation reads, as it comes and goes.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::inbox::{Inbox, Scope};
use crate::failure::Failure;
use crate::project::SKIPPED;

/// Watches directories one by one: what is ignored costs nothing.
pub struct Watcher {
    watcher: RecommendedWatcher,
    inbox: Arc<Inbox>,
    /// With what tells a directory from one that has come in its place.
    known: BTreeMap<PathBuf, (u64, u64)>,
}

/// Whether an event says that something is different now.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

impl Watcher {
    /// One that puts what it sees into the inbox.
    pub fn new(inbox: &Arc<Inbox>) -> Result<Watcher, Failure> {
        let into = Arc::clone(inbox);
        let seen = move |event: notify::Result<notify::Event>| match event {
            Ok(event) if event.need_rescan() => into.overflowed(),
            Ok(event) if is_change(event.kind) => into.put(&event.paths),
            Ok(_) => {}
            Err(_) => into.overflowed(),
        };
        let watcher = notify::recommended_watcher(seen).map_err(|error| Failure::text(format!("files cannot be watched: {error}")))?;
        Ok(Watcher { watcher, inbox: Arc::clone(inbox), known: BTreeMap::new() })
    }

    /// Watches all that is below these directories, and nothing else. What cannot be watched is told.
    pub fn cover(&mut self, roots: &[PathBuf]) -> Vec<String> {
        let mut found = BTreeMap::new();
        self.inbox.clone().with_scope(|scope| roots.iter().for_each(|root| walk(root, scope, &mut found)));
        let gone: Vec<PathBuf> = self.known.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
        for path in gone {
            // One that was removed is watched no more anyway.
            let _ = self.watcher.unwatch(&path);
            self.known.remove(&path);
        }
        let mut failed = Vec::new();
        for (path, id) in found {
            if self.known.get(&path) == Some(&id) {
                continue;
            }
            if self.known.contains_key(&path) {
                let _ = self.watcher.unwatch(&path);
            }
            match self.watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.known.insert(path, id);
                }
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                Err(error) if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => {
                    failed.push(format!(
                        "{} is not watched: raise the sysctl fs.inotify.max_user_watches, or name in .dockerignore what no image needs",
                        path.display()
                    ));
                }
                Err(error) => failed.push(format!("{} is not watched: {error}", path.display())),
            }
        }
        failed
    }
}

fn walk(dir: &Path, scope: &Scope, found: &mut BTreeMap<PathBuf, (u64, u64)>) {
    let Ok(metadata) = std::fs::symlink_metadata(dir) else { return };
    if !metadata.is_dir() || found.insert(dir.to_owned(), (metadata.dev(), metadata.ino())).is_some() {
        return;
    }
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let path = entry.path();
        if is_of_use(&path, scope) {
            walk(&path, scope, found);
        }
    }
}

/// Whether something in a directory may matter.
fn is_of_use(dir: &Path, scope: &Scope) -> bool {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name == ".git" {
        return false;
    }
    let mut contexts = scope.contexts.iter().filter_map(|(root, ignore)| Some((dir.strip_prefix(root).ok()?.to_string_lossy().into_owned(), ignore)));
    let copied = contexts.any(|(inside, ignore)| inside.is_empty() || !ignore.excluded(&inside) || ignore.may_reinclude_below(&inside));
    let read = scope.sources.iter().any(|source| source.starts_with(dir));
    copied || read || (!name.starts_with('.') && !SKIPPED.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use strake_dockerfile::Ignore;

    use super::Watcher;
    use crate::commands::dev::inbox::{Inbox, Scope};

    fn make(path: &Path) {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, "x").expect("written");
    }

    #[test]
    fn what_no_image_needs_is_not_watched_and_what_comes_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("there");
        for file in ["web/src/a", "web/node_modules/m/x", "web/cache/x", ".git/objects/x", "k8s/a.yaml"] {
            make(&root.join(file));
        }
        let ignore = Ignore::from_patterns(["cache", "node_modules"]).expect("patterns");
        let inbox = Inbox::new();
        inbox.scope(Scope { contexts: vec![(root.join("web"), ignore)], sources: Default::default(), project: root.clone() });
        let mut watcher = Watcher::new(&inbox).expect("watched");
        assert!(watcher.cover(std::slice::from_ref(&root)).is_empty());
        let names =
            |watcher: &Watcher| -> Vec<String> { watcher.known.keys().map(|path| path.strip_prefix(&root).expect("inside").display().to_string()).collect() };
        // A directory that only an ignore file names may hold a manifest all the same: it is the project's own.
        assert_eq!(names(&watcher), ["", "k8s", "web", "web/cache", "web/src"]);
        make(&root.join("web/lib/deep/b"));
        let saved = Arc::clone(&inbox).wait(None).expect("a directory came");
        assert!(saved.files.contains(&root.join("web/lib")), "{saved:?}");
        assert!(watcher.cover(std::slice::from_ref(&root)).is_empty());
        assert!(names(&watcher).contains(&"web/lib/deep".to_owned()));
        // An editor writes beside and renames over.
        std::fs::write(root.join("web/lib/deep/b~"), "y").expect("written");
        std::fs::rename(root.join("web/lib/deep/b~"), root.join("web/lib/deep/b")).expect("renamed");
        while !inbox.wait(None).expect("a save").files.contains(&root.join("web/lib/deep/b")) {}
        std::fs::remove_dir_all(root.join("web/lib")).expect("removed");
        while !inbox.wait(None).expect("a removal").files.contains(&root.join("web/lib")) {}
        watcher.cover(std::slice::from_ref(&root));
        assert!(!names(&watcher).iter().any(|name| name.starts_with("web/lib")));
    }
}
