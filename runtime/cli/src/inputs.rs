//! What was named to be compiled: directories, files, stdin and git repositories, brought to this machine.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use strake_compile::Outcome;
use strake_store::Store;
use strake_words::GitReference;

use crate::args::Input;
use crate::commands::build::remote::{Fetcher, Named};
use crate::failure::Failure;
use crate::project::{self, Project, Text};
use crate::sync::source::leads_out;

/// The name of manifests that come from stdin.
pub const STDIN: &str = "<stdin>";
/// More than this is no manifest.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// The commits that addresses of repositories mean, as far as this run has asked.
static COMMITS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Where the inputs are.
#[derive(Clone, Debug, Default)]
pub struct Located {
    /// Directories and files of this machine, in the order in which they were named.
    pub places: Vec<PathBuf>,
    /// Manifests from stdin.
    stdin: Option<String>,
    /// Directories that nothing below them may lead out of.
    bounds: Vec<PathBuf>,
    /// What paths of repositories are called: `/…/tree/` is `shop@0123abc:`.
    names: Vec<(String, String)>,
}

/// Whether a word is the address of a repository.
pub fn is_repository(word: &Path) -> bool {
    let text = word.to_string_lossy();
    (GitReference::looks_like(&text) || text.starts_with("file://")) && !(GitReference::is_path_too(&text) && word.exists())
}

/// Whether the input is stdin alone.
pub fn is_stdin(input: &Input) -> bool {
    input.more.is_empty() && input.dir == Path::new("-")
}

/// The commit that the address of a repository means; nothing before it has been fetched.
pub fn commit_of(word: &Path) -> Option<String> {
    COMMITS.lock().unwrap_or_else(PoisonError::into_inner).get(word.to_string_lossy().as_ref()).cloned()
}

/// The address of the same folder at another reference.
pub fn at_reference(word: &Path, reference: &str) -> Result<PathBuf, Failure> {
    let text = word.to_string_lossy();
    let parsed = GitReference::parse_local(&text).map_err(|error| Failure::text(error.to_string()).with_code(2))?;
    let folder = parsed.subdir.map_or_else(String::new, |folder| format!(":{folder}"));
    let address = PathBuf::from(format!("{}#{reference}{folder}", parsed.remote));
    match GitReference::parse_local(&address.to_string_lossy()) {
        Ok(_) => Ok(address),
        Err(error) => Err(Failure::text(error.to_string()).with_code(2)),
    }
}

/// The names that a set of a repository can be called by: the repository's, then those of the folders.
pub fn names_of(word: &Path) -> Vec<String> {
    let Ok(parsed) = GitReference::parse_local(&word.to_string_lossy()) else { return Vec::new() };
    let folders = parsed.subdir.iter().flat_map(|folder| folder.split('/')).map(str::to_owned);
    std::iter::once(repository_name(&parsed)).chain(folders).collect()
}

fn repository_name(reference: &GitReference) -> String {
    let last = reference.remote.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
    last.strip_suffix(".git").unwrap_or(last).to_owned()
}

/// Brings all inputs here.
///
/// # Errors
/// A mixture that means nothing; a repository that cannot be fetched.
pub fn locate(root: &Path, input: &Input) -> Result<Located, Failure> {
    let usage = |text: &str| Failure::text(text).with_code(2);
    let mut located = Located { bounds: input.within.iter().cloned().collect(), ..Located::default() };
    for word in std::iter::once(&input.dir).chain(&input.more) {
        if word == Path::new("-") {
            if located.stdin.is_some() {
                return Err(usage("`-` is there twice, and there is one stdin"));
            }
            located.stdin = Some(read_stdin()?);
        } else if is_repository(word) {
            repository(root, word, input.offline, &mut located)?;
        } else {
            let known = |other: &PathBuf| std::fs::canonicalize(other).ok().zip(std::fs::canonicalize(word).ok()).is_some_and(|(a, b)| a == b);
            if !located.places.iter().any(known) {
                located.places.push(word.clone());
            }
        }
    }
    if located.places.is_empty() && input.env.is_some() {
        return Err(usage("--env names an environment of strake.yaml, and stdin has none beside it: name its directory too, or leave --env out"));
    }
    if located.places.is_empty() && input.locked {
        return Err(usage("--locked obeys the strake.lock of a directory, and stdin has none beside it"));
    }
    Ok(located)
}

fn read_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MOST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::text(format!("cannot read stdin: {error}")))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Failure::text("stdin has more than 64 MiB, which is no manifest"));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::text("there is nothing on stdin: `-` takes manifests from there"));
    }
    String::from_utf8(bytes).map_err(|_| Failure::text("what is on stdin is not UTF-8 text"))
}

fn repository(root: &Path, word: &Path, offline: bool, located: &mut Located) -> Result<(), Failure> {
    let text = word.to_string_lossy();
    let reference = GitReference::parse_local(&text).map_err(|error| Failure::text(error.to_string()).with_code(2))?;
    let store = Store::open(root)?;
    let secrets = BTreeMap::new();
    let fetcher = Fetcher::new(&store, offline, &secrets, None);
    let (_, folder) = fetcher.repository(&reference, false, Named::ByPerson)?;
    let commit = fetcher.fetched().last().map(|seen| seen.digest.1.clone()).unwrap_or_default();
    // The folder may be a link inside the tree; the tree's own path is what all its files begin with.
    let tree = folder.ancestors().find(|path| path.file_name().is_some_and(|name| name == "tree")).unwrap_or(&folder).to_owned();
    let link = leads_out(&tree).map_err(|source| Failure::read(&tree, source))?;
    if let Some(link) = link {
        return Err(Failure::text(format!("{text}: the link {} leads out of the repository, to a file of this machine", link.display())));
    }
    located.bounds.push(tree.clone());
    let name = format!("{}@{}:", repository_name(&reference), commit.get(..7).unwrap_or(&commit));
    located.names.push((format!("{}/", tree.display()), name));
    COMMITS.lock().unwrap_or_else(PoisonError::into_inner).insert(text.into_owned(), commit);
    located.places.push(folder);
    Ok(())
}

impl Located {
    /// Reads all of it.
    ///
    /// # Errors
    /// What cannot be read, and mixtures that mean nothing.
    pub fn read(&self, environment: Option<&str>) -> Result<Project, Failure> {
        let usage = |text: String| Failure::text(text).with_code(2);
        let several = self.places.len() > 1;
        let mut whole = Project::default();
        for place in &self.places {
            let own = environment.filter(|_| !several || place.join(strake_compile::config::FILE_NAME).is_file());
            let real = std::fs::canonicalize(place).unwrap_or_else(|_| place.clone());
            let within = self.bounds.iter().find(|bound| place.starts_with(bound) || real.starts_with(bound));
            let part = project::read_within(place, own, within.map(PathBuf::as_path)).map_err(|failure| self.told(failure))?;
            if part.config.is_some() && whole.config.is_some() {
                return Err(usage(format!(
                    "two of the directories have a {}: they are two projects, to be named one at a time",
                    strake_compile::config::FILE_NAME
                )));
            }
            if part.overlay.is_some() && whole.overlay.is_some() {
                return Err(usage("two of the directories are kustomize overlays: name one at a time, or make a third that has both as resources".to_owned()));
            }
            if part.config.is_some() {
                (whole.config, whole.settings, whole.name) = (part.config, part.settings, part.name);
            }
            whole.overlay = whole.overlay.or(part.overlay);
            whole.named.extend(part.named);
            add(&mut whole.manifests, part.manifests);
            add(&mut whole.dockerfiles, part.dockerfiles);
        }
        if let (Some(name), true, true) = (environment, several, whole.config.is_none()) {
            return Err(Failure::text(format!("there is no environment `{name}`: none of the directories has a {}", strake_compile::config::FILE_NAME)));
        }
        if let Some(text) = &self.stdin {
            if let Some(file) = whole.dockerfiles.first().or(whole.named.first().map(|named| &named.file)) {
                let text = format!(
                    "`-` takes finished manifests, and {} builds an image: render and build apart, or name a directory of manifests only",
                    file.path.display()
                );
                return Err(usage(text));
            }
            whole.manifests.push(Text { path: STDIN.into(), text: text.clone(), outside: false, inode: (0, 0) });
        }
        Ok(whole)
    }

    /// The place whose lock file is obeyed.
    pub fn first(&self) -> &Path {
        self.places.first().map_or(Path::new("."), PathBuf::as_path)
    }

    /// A text with the files of repositories called by repository and commit.
    fn named(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (path, name)| text.replace(path.as_str(), name))
    }

    fn told(&self, failure: Failure) -> Failure {
        if self.names.is_empty() { failure } else { Failure::text(self.named(&failure.to_string())).with_code(failure.code()) }
    }

    /// Calls the files of repositories by repository and commit, wherever they are named.
    pub fn name_files(&self, outcome: &mut Outcome) {
        if self.names.is_empty() {
            return;
        }
        let rename = |text: &mut String| *text = self.named(text);
        outcome.sources.rename(|name| self.named(name));
        for finding in &mut outcome.diagnostics {
            rename(&mut finding.message);
            rename(&mut finding.label);
            finding.labels.iter_mut().for_each(|label| rename(&mut label.message));
            finding.help.iter_mut().for_each(rename);
        }
        let Some(plan) = &mut outcome.plan else { return };
        for change in &mut plan.deploy.changes {
            rename(&mut change.origin);
            change.places.values_mut().for_each(rename);
        }
        plan.build.steps.iter_mut().for_each(|step| rename(&mut step.origin.file));
        plan.build.images.iter_mut().for_each(|image| rename(&mut image.origin.file));
    }
}

/// Adds files, each once. Only names of one inode are looked up: they are links, or hard links, which are files of their own.
fn add(all: &mut Vec<Text>, more: Vec<Text>) {
    let place = |text: &Text| std::fs::canonicalize(&text.path).unwrap_or_else(|_| text.path.clone());
    let mut known: HashMap<(u64, u64), Vec<usize>> = HashMap::new();
    for (index, text) in all.iter().enumerate() {
        known.entry(text.inode).or_default().push(index);
    }
    for text in more {
        let names = known.entry(text.inode).or_default();
        if names.is_empty() || !names.iter().any(|index| place(&all[*index]) == place(&text)) {
            names.push(all.len());
            all.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_repositories_are_known_and_named() {
        for word in ["https://h.example/shop.git#main:deploy", "git@h.example:team/shop.git", "file:///srv/shop.git"] {
            assert!(is_repository(Path::new(word)), "{word}");
        }
        assert!(!is_repository(Path::new("deploy/shop.git")) && !is_repository(Path::new("-")));
        assert_eq!(names_of(Path::new("https://h.example/team/shop.git#main:deploy/overlays/prod")), ["shop", "deploy", "overlays", "prod"]);
        assert_eq!(names_of(Path::new("git@h.example:shop.git")), ["shop"]);
        let other = at_reference(Path::new("file:///srv/shop.git#x:deploy"), "main").expect("an address");
        assert_eq!(other, Path::new("file:///srv/shop.git#main:deploy"));
        assert!(at_reference(Path::new("file:///srv/shop.git"), "-x").is_err());
    }

    #[test]
    fn mixtures_that_mean_nothing_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(&path, text).expect("written");
        };
        let object = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
        write("a/a.yaml", &object("a"));
        write("a/strake.yaml", "name: a\n");
        write("b/b.yaml", &object("b"));
        write("b/strake.yaml", "name: b\n");
        write("c/c.yaml", &object("c"));
        write("d/Dockerfile", "FROM scratch\n");
        let located = |names: &[&str], stdin: Option<&str>| Located {
            places: names.iter().map(|name| dir.path().join(name)).collect(),
            stdin: stdin.map(str::to_owned),
            bounds: Vec::new(),
            names: Vec::new(),
        };
        let both = located(&["a", "c", "c/c.yaml"], Some("kind: x")).read(None).expect("read");
        assert_eq!(both.manifests.len(), 3, "a file that is named twice is there once");
        assert_eq!(both.name.as_deref(), Some("a"));
        let refused = |located: Located, environment: Option<&str>| located.read(environment).expect_err("refused").to_string();
        assert!(refused(located(&["a", "b"], None), None).contains("two of the directories have a strake.yaml"));
        assert!(refused(located(&["d"], Some("kind: x")), None).contains("builds an image"));
        assert!(refused(located(&["c", "d"], None), Some("prod")).contains("no environment `prod`"));
    }
}
