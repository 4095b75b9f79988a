//! Which files a COPY takes: patterns, ignore files, exclusions and `--parents`, as one list that is both hashed and copied.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use strake_dockerfile::{Ignore, Pattern, has_wildcard};

use crate::tree::{Entry, Kind, LastLink, Root, Verdict, clean, kind, list, walk};

/// A tree that files are copied from.
#[derive(Debug)]
pub struct Source {
    /// Its files.
    pub root: Root,
    /// What is not there for a build.
    pub ignore: Ignore,
    /// Where the files come from.
    pub origin: SourceOrigin,
}

/// Where a source's files come from: it decides about owners and attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceOrigin {
    /// A build context: everything is owned by root and has no extended attributes.
    Context,
    /// The file system of another step: everything is kept.
    Stage,
}

/// One source argument's match: a file, or a directory with what is below it.
#[derive(Debug)]
pub struct Selection {
    /// The name the file takes inside a destination directory: that of the argument, not of what a link leads to.
    pub name: OsString,
    /// The file or directory itself.
    pub top: Entry,
    /// What is below, directories before what they hold.
    pub below: Vec<Entry>,
}

impl Selection {
    /// Bytes of all files in it.
    pub fn size_bytes(&self) -> u64 {
        self.below.iter().chain([&self.top]).filter(|entry| entry.kind == Kind::File).map(|entry| entry.size).sum()
    }
}

/// Why sources could not be selected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// A source that is no pattern and is not there.
    #[error("`{path}` is not there{}", ignored_by(ignored))]
    NotFound { path: String, ignored: Option<u32> },
    /// A malformed pattern.
    #[error("{reason}")]
    Pattern { reason: String },
    /// Reading the tree failed.
    #[error("cannot read the source `{path}`")]
    Read { path: String, source: io::Error },
}

fn ignored_by(line: &Option<u32>) -> String {
    line.map(|line| format!(": line {line} of the ignore file leaves it out")).unwrap_or_default()
}

/// Whether patterns leave a path out.
fn leaves_out(ignore: &Ignore, path: &Path) -> bool {
    !ignore.is_empty() && ignore.excluded(&path.to_string_lossy())
}

/// A source pattern, compiled once for each of its parts.
fn compile(pattern: &str) -> Result<Pattern, SelectError> {
    Pattern::path(pattern).map_err(|error| SelectError::Pattern { reason: error.to_string() })
}

impl Source {
    /// Whether an entry is the root of a context, which has no metadata: a build sees it as a plain directory of root, whatever it is on this machine.
    pub(crate) fn is_own_root(&self, entry: &Entry) -> bool {
        self.origin == SourceOrigin::Context && entry.path.as_os_str().is_empty()
    }

    fn is_visible(&self, path: &Path) -> bool {
        !leaves_out(&self.ignore, path)
    }

    /// A directory that only leads to something that is taken after all is there, too.
    fn is_reachable(&self, path: &Path) -> bool {
        self.is_visible(path) || self.ignore.may_reinclude_below(&path.to_string_lossy())
    }

    /// What the sources of a COPY select, in the order written; the matches of one pattern in the order of their bytes.
    pub fn select(&self, sources: &[String], exclude: &[String], parents: bool) -> Result<Vec<Selection>, SelectError> {
        let exclude = Ignore::from_patterns(exclude).map_err(|reason| SelectError::Pattern { reason })?;
        let mut selections = Vec::new();
        for source in sources {
            if parents {
                selections.extend(self.select_with_parents(source, &exclude)?);
            } else {
                self.select_one(source, &exclude, &mut selections)?;
            }
        }
        Ok(selections)
    }

    fn select_one(&self, source: &str, exclude: &Ignore, selections: &mut Vec<Selection>) -> Result<(), SelectError> {
        let pattern = compile(source)?;
        if !has_wildcard(source) {
            let literal = pattern.literal().unwrap_or_else(|| source.to_owned());
            selections.extend(self.take(&clean(Path::new(&literal)), source, exclude)?);
            return Ok(());
        }
        for found in self.expand(&clean(Path::new(source)), source)? {
            let shown = found.to_string_lossy().into_owned();
            selections.extend(self.take(&found, &shown, exclude)?);
        }
        Ok(())
    }

    /// The paths that a pattern matches. Each part is matched in the directories that the parts before it led to.
    fn expand(&self, pattern: &Path, shown: &str) -> Result<Vec<PathBuf>, SelectError> {
        let mut found = vec![PathBuf::new()];
        // The directory before the first wildcard is named as it is: a mistake in it is one, as in any other name.
        let mut written = true;
        for part in pattern {
            let part = part.to_string_lossy();
            let pattern = compile(&part)?;
            if let Some(literal) = pattern.literal().filter(|_| !has_wildcard(&part)) {
                found.iter_mut().for_each(|dir| dir.push(&literal));
                continue;
            }
            let mut next = Vec::new();
            for dir in &found {
                let resolved = self.root.resolve_visible(dir, LastLink::Follow, &|path| self.is_reachable(path));
                let is_there = resolved.as_ref().is_ok_and(|resolved| resolved.stat.is_some());
                if std::mem::take(&mut written) && !is_there {
                    return Err(SelectError::NotFound { path: shown.to_owned(), ignored: self.ignored_above(dir) });
                }
                let Ok(resolved) = resolved else { continue };
                if resolved.stat.as_ref().is_some_and(|stat| kind(stat) == FileType::Directory) {
                    let names = self.names(&resolved.path).map_err(|error| read_error(shown, error))?;
                    next.extend(names.into_iter().filter(|name| pattern.matches(&name.to_string_lossy())).map(|name| dir.join(name)));
                }
            }
            found = next;
        }
        // What follows a wildcard may exist below some of the matches only.
        found.retain(|path| {
            let resolved = self.root.resolve_visible(path, LastLink::Keep, &|path| self.is_reachable(path));
            resolved.is_ok_and(|resolved| resolved.stat.is_some_and(|stat| self.counts(&resolved.path, kind(&stat))))
        });
        found.sort_unstable();
        Ok(found)
    }

    /// An ignored directory is a match only when something in it is not ignored.
    fn counts(&self, path: &Path, kind: FileType) -> bool {
        self.is_visible(path) || (kind == FileType::Directory && self.below(path, &Ignore::default(), Path::new("")).is_ok_and(|below| !below.is_empty()))
    }

    /// The visible names in a directory, sorted.
    fn names(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let mut names = list(&self.root, dir)?;
        names.retain(|name| self.is_reachable(&dir.join(name)));
        Ok(names)
    }

    /// The selection of one path; nothing when `--exclude` names the very file.
    fn take(&self, path: &Path, shown: &str, exclude: &Ignore) -> Result<Option<Selection>, SelectError> {
        self.take_within(path, shown, exclude, Path::new(""))
    }

    /// The same, where only what lies below or above `within` (from the path) is of interest.
    fn take_within(&self, path: &Path, shown: &str, exclude: &Ignore, within: &Path) -> Result<Option<Selection>, SelectError> {
        let missing = || SelectError::NotFound { path: shown.to_owned(), ignored: self.ignored_above(path) };
        let resolved = match self.root.resolve_visible(path, LastLink::Follow, &|path| self.is_reachable(path)) {
            Ok(resolved) => resolved,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(missing()),
            Err(error) => return Err(read_error(shown, error)),
        };
        let stat = resolved.stat.ok_or_else(missing)?;
        let top = Entry::new(resolved.path, PathBuf::new(), &stat, OsString::new());
        let name = path.file_name().unwrap_or(OsStr::new("")).to_owned();
        if !top.is_dir() {
            if !self.is_visible(&top.path) {
                return Err(missing());
            }
            let excluded = leaves_out(exclude, Path::new(&name));
            return Ok((!excluded).then_some(Selection { name, top, below: Vec::new() }));
        }
        let below = self.below(&top.path, exclude, within).map_err(|error| read_error(shown, error))?;
        if below.is_empty() && !self.is_visible(&top.path) {
            return Err(missing());
        }
        Ok(Some(Selection { name, top, below }))
    }

    /// Everything below a directory that neither the ignore file nor `--exclude` leaves out.
    fn below(&self, path: &Path, exclude: &Ignore, within: &Path) -> io::Result<Vec<Entry>> {
        walk(&self.root, path, &|path: &Path, relative: &Path, is_dir| {
            if !relative.starts_with(within) && !within.starts_with(relative) {
                return Verdict::Leave;
            }
            let (ignored, excluded) = (leaves_out(&self.ignore, path), leaves_out(exclude, relative));
            if !ignored && !excluded {
                return Verdict::Take;
            }
            let returns = |left: bool, ignore: &Ignore, path: &Path| !left || ignore.may_reinclude_below(&path.to_string_lossy());
            let below = is_dir && returns(ignored, &self.ignore, path) && returns(excluded, exclude, relative);
            if below { Verdict::LookBelow } else { Verdict::Leave }
        })
    }

    /// `--parents`: one tree, rooted before the pattern or at its `/./`, of the matches and the directories that lead to them.
    fn select_with_parents(&self, source: &str, exclude: &Ignore) -> Result<Option<Selection>, SelectError> {
        let (pivot, pattern) = source.split_once("/./").unwrap_or(("", source));
        let pattern = clean(Path::new(pattern)).to_string_lossy().into_owned();
        let matcher = Pattern::deep(&pattern).map_err(|error| SelectError::Pattern { reason: error.to_string() })?;
        let prefix = PathBuf::from(matcher.literal_prefix());
        let Some(mut tree) = self.take_within(&clean(Path::new(pivot)), source, &Ignore::default(), &prefix)? else { return Ok(None) };
        let literal = matcher.literal().filter(|literal| !literal.is_empty());
        if let Some(literal) = literal.filter(|literal| !tree.below.iter().any(|entry| entry.relative == Path::new(literal))) {
            return Err(SelectError::NotFound { path: source.to_owned(), ignored: self.ignored_above(Path::new(&literal)) });
        }
        // From the end, so that a directory learns of what is below it before it is looked at.
        let mut needed: BTreeSet<PathBuf> = BTreeSet::new();
        let mut kept = Vec::new();
        for mut entry in std::mem::take(&mut tree.below).into_iter().rev() {
            entry.implied = !is_included(&matcher, &entry.relative, exclude);
            if !entry.implied || needed.contains(&entry.relative) {
                needed.extend(entry.relative.parent().map(Path::to_owned));
                kept.push(entry);
            }
        }
        kept.reverse();
        tree.below = kept;
        Ok(Some(tree))
    }

    /// The line of the ignore file that hides a path or a directory above it.
    fn ignored_above(&self, path: &Path) -> Option<u32> {
        self.ignore.deciding_line(&path.to_string_lossy()).filter(|(_, excluded)| *excluded).map(|(line, _)| line)
    }
}

/// Whether a pattern of `--parents` takes a path: it matches it or a directory above it.
fn is_included(pattern: &Pattern, path: &Path, exclude: &Ignore) -> bool {
    let mut chain = path.ancestors().filter(|above| !above.as_os_str().is_empty());
    (pattern.as_str().is_empty() || chain.any(|above| pattern.matches(&above.to_string_lossy()))) && !leaves_out(exclude, path)
}

fn read_error(path: &str, source: io::Error) -> SelectError {
    SelectError::Read { path: path.to_owned(), source }
}
