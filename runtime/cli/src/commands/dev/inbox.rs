//! What happens while the loop is busy: saved files, and the wish to stop. Nothing that comes in is ever lost, and what runs can be told.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strake_build::CancelFlag;
use strake_dockerfile::Ignore;
use tokio::sync::watch;

/// A save is one or several events; so long must it be quiet.
const QUIET: Duration = Duration::from_millis(15);
/// Saves that never stop are not waited for longer.
const MOST: Duration = Duration::from_millis(250);

/// Which files matter.
#[derive(Default)]
pub struct Scope {
    /// Directories that images are built from, with what their ignore files leave out.
    pub contexts: Vec<(PathBuf, Ignore)>,
    /// Files that were read: manifests, Dockerfiles, overlays.
    pub sources: BTreeSet<PathBuf>,
    /// The project's directory.
    pub project: PathBuf,
}

impl Scope {
    /// Whether a change of this file may change what runs.
    pub fn concerns(&self, path: &Path) -> bool {
        if self.sources.contains(path) {
            return true;
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let below = |root: &Path| path.strip_prefix(root).ok().map(|inside| inside.to_string_lossy().into_owned());
        let relative = below(&self.project);
        if relative.as_deref().is_some_and(|inside| inside.split('/').any(|part| part == ".git")) {
            return false;
        }
        if name.ends_with(".dockerignore") {
            return true;
        }
        let mut inside = self.contexts.iter().filter_map(|(root, ignore)| Some(!ignore.excluded(&below(root)?)));
        if inside.any(|copied| copied) {
            return true;
        }
        // What a project may be made of, and was not there when it was read.
        let hidden = relative.as_deref().is_some_and(|inside| inside.split('/').any(|part| part.starts_with('.')));
        let lower = name.to_lowercase();
        let written = [".yaml", ".yml", ".json"].iter().any(|end| lower.ends_with(end)) || lower.contains("dockerfile") || lower == "containerfile";
        relative.is_some() && !hidden && (written || path.is_dir())
    }
}

#[derive(Default)]
struct Content {
    changed: BTreeSet<PathBuf>,
    /// Events were lost: anything may have changed.
    lost: bool,
    last: Option<Instant>,
    first: Option<Instant>,
    stopped: bool,
    running: Option<CancelFlag>,
    scope: Scope,
}

impl Content {
    fn is_empty(&self) -> bool {
        self.changed.is_empty() && !self.lost
    }
}

/// What has been seen by those who cannot wait for a condition variable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// The loop is to end.
    pub stopped: bool,
    /// Something was saved.
    pub changed: bool,
}

/// The place where everything comes in.
pub struct Inbox {
    content: Mutex<Content>,
    comes: Condvar,
    signs: watch::Sender<Signs>,
}

/// What has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// These files.
    pub files: BTreeSet<PathBuf>,
    /// And what is not known.
    pub lost: bool,
    /// When the first of it came in.
    pub since: Option<Instant>,
}

impl Saved {
    /// Nothing was.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && !self.lost
    }
}

impl Inbox {
    /// An empty one.
    pub fn new() -> Arc<Inbox> {
        Arc::new(Inbox { content: Mutex::default(), comes: Condvar::new(), signs: watch::Sender::new(Signs::default()) })
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, content: &mut Content) {
        if let Some(flag) = content.running.take() {
            flag.cancel();
        }
        let signs = Signs { stopped: content.stopped, changed: !content.is_empty() };
        self.signs.send_replace(signs);
        self.comes.notify_all();
    }

    /// Files were changed, made or removed.
    pub fn put(&self, paths: &[PathBuf]) {
        let mut content = self.content();
        let found: Vec<PathBuf> = paths.iter().filter(|path| content.scope.concerns(path)).cloned().collect();
        if !found.is_empty() {
            content.changed.extend(found);
            self.came(&mut content);
        }
    }

    /// Events were lost.
    pub fn overflowed(&self) {
        let mut content = self.content();
        content.lost = true;
        self.came(&mut content);
    }

    fn came(&self, content: &mut Content) {
        let now = Instant::now();
        content.last = Some(now);
        content.first.get_or_insert(now);
        self.tell(content);
    }

    /// The loop is to end.
    pub fn stop(&self) {
        let mut content = self.content();
        content.stopped = true;
        self.tell(&mut content);
    }

    /// Whether something came in that has not been taken yet.
    pub fn is_disturbed(&self) -> bool {
        let content = self.content();
        content.stopped || !content.is_empty()
    }

    /// Which files matter from now on.
    pub fn scope(&self, scope: Scope) {
        self.content().scope = scope;
    }

    /// Looks at the scope.
    pub fn with_scope<T>(&self, look: impl FnOnce(&Scope) -> T) -> T {
        look(&self.content().scope)
    }

    /// Waits until something was saved and it is quiet; `None` when the loop is to end. Nothing at all has been saved when `limit` is over.
    pub fn wait(&self, limit: Option<Duration>) -> Option<Saved> {
        let mut content = self.content();
        let began = Instant::now();
        loop {
            if content.stopped {
                return None;
            }
            let pause = match (content.is_empty(), content.last, content.first) {
                (false, Some(last), Some(first)) => QUIET.saturating_sub(last.elapsed()).min(MOST.saturating_sub(first.elapsed())),
                _ => {
                    content = match limit.map(|limit| limit.saturating_sub(began.elapsed())) {
                        None => self.comes.wait(content).unwrap_or_else(PoisonError::into_inner),
                        Some(Duration::ZERO) => return Some(Saved::default()),
                        Some(left) => self.comes.wait_timeout(content, left).unwrap_or_else(PoisonError::into_inner).0,
                    };
                    continue;
                }
            };
            if pause.is_zero() {
                let saved = Saved { files: std::mem::take(&mut content.changed), lost: std::mem::take(&mut content.lost), since: content.first.take() };
                content.last = None;
                self.signs.send_replace(Signs { stopped: content.stopped, changed: false });
                return Some(saved);
            }
            content = self.comes.wait_timeout(content, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Raises the flag at the next thing that comes in; at once when something is there already.
    pub fn cancels(&self, flag: &CancelFlag) {
        let mut content = self.content();
        if content.stopped || !content.is_empty() {
            flag.cancel();
        } else {
            content.running = Some(flag.clone());
        }
    }

    /// Comes back when something was saved, or the loop is to end.
    pub async fn disturbed(&self) -> Signs {
        let mut signs = self.signs.subscribe();
        let found = signs.wait_for(|signs| signs.stopped || signs.changed).await.map(|signs| *signs);
        found.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use strake_build::CancelFlag;
    use strake_dockerfile::Ignore;

    use super::{Inbox, Scope};

    fn scope() -> Scope {
        let ignore = Ignore::from_patterns(["*.log", "tmp", "!tmp/keep"]).expect("patterns");
        Scope { contexts: vec![("/p/web".into(), ignore)], sources: ["/p/k8s/.hidden.yaml".into(), "/else/base.yaml".into()].into(), project: "/p".into() }
    }

    #[test]
    fn only_what_can_matter_does() {
        let scope = scope();
        for yes in [
            "/p/web/main.py",
            "/p/web/tmp/keep",
            "/p/web/.env",
            "/p/k8s/.hidden.yaml",
            "/else/base.yaml",
            "/p/k8s/new.yaml",
            "/p/api/Dockerfile",
            "/p/web/.dockerignore",
        ] {
            assert!(scope.concerns(&PathBuf::from(yes)), "{yes}");
        }
        for no in ["/p/web/a.log", "/p/web/tmp/x", "/p/.git/index", "/p/.idea/x.yaml", "/p/notes.txt", "/else/other.txt"] {
            assert!(!scope.concerns(&PathBuf::from(no)), "{no}");
        }
    }

    #[test]
    fn what_comes_in_is_kept_and_told() {
        let inbox = Inbox::new();
        inbox.scope(scope());
        let flag = CancelFlag::new();
        inbox.cancels(&flag);
        inbox.put(&["/p/web/a.log".into()]);
        assert!(!flag.is_cancelled(), "an ignored file disturbs nobody");
        inbox.put(&["/p/web/a".into(), "/p/web/b".into()]);
        assert!(flag.is_cancelled());
        let late = CancelFlag::new();
        inbox.cancels(&late);
        assert!(late.is_cancelled(), "what came before counts too");
        assert!(inbox.wait(Some(Duration::ZERO)).is_some_and(|saved| saved.files.len() == 2), "what was saved comes before the end of the time");
        assert!(inbox.wait(Some(Duration::ZERO)).is_some_and(|saved| saved.is_empty()));
        inbox.put(&["/p/web/a".into(), "/p/web/b".into()]);
        let saved = inbox.wait(None).expect("something was saved");
        assert_eq!((saved.files.len(), saved.lost), (2, false));
        inbox.overflowed();
        assert!(inbox.wait(None).expect("something may have been saved").lost);
        inbox.put(&["/p/web/a".into()]);
        inbox.stop();
        assert_eq!(inbox.wait(None), None);
    }
}
