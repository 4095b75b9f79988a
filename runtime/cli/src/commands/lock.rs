//! strake.lock: which content the image tags of a directory mean. `strake image lock` writes it, `--locked` builds and applies what it says.

mod policy;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use strake_oci::{Digest, Platform};
use strake_plan::{Context, ContextKind, Network, Plan};
use strake_registry::PullOptions;
use strake_source::{Diagnostic, Sources, Style, render};
use strake_stages::{BaseImage, Request};
use strake_store::{Store, StoreError};
use strake_words::Reference;
use strake_yaml::Kind;

use self::policy::{Change, Chosen, changes};
use crate::args::{Bake, Format, Input};
use crate::commands::images::{familiar, full};
use crate::commands::{bake, build, plan};
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Paint, counted, data, note, say};
use crate::project;

/// The file's name.
pub const NAME: &str = "strake.lock";
const HEADER: &str = "# Which content the image tags of this directory mean: made by `strake image lock`, obeyed with --locked.\nversion: 1\nimages:";
const CODE: &str = "lock-file";

/// strake image lock
#[derive(Args, Debug)]
#[command(after_help = "The file is sorted, and changes only when a tag means something else. Keep it with the code.

Where strake.yaml has a policy for an image, manifests name it without a tag, and the lock file says which of its registry's tags that is:
  lock:
    policies:
      - {image: registry.example.org/app, semver: '>=1.2 <2'}            the highest version; 1.3.0-rc.1 only where the range names one
      - {image: registry.example.org/web, semver: 1.x, tag: '*-alpine'}  versions with something around them
      - {image: registry.example.org/api, tag: 'main-*'}                 the highest number in place of the first *
      - {image: registry.example.org/job, tag: 'main-*', order: alphabetical}
--update takes the highest tags. A tag that is locked and means something else now has moved: that is told and not followed. In CI, a job on a timer runs it
and commits strake.lock (or opens a pull request); what deploys then obeys it.
Exit codes: 0 done, 1 failed, 2 --check: the file would change, or a tag has moved.

Examples:
  strake image lock
  strake image lock deploy/
  strake image lock web/Dockerfile
  strake image lock ci/docker-bake.hcl   the images of all its targets; also of a compose file's services
  strake image lock --update deploy/     the highest tags that the policies allow
  strake image lock --check deploy/      exit code 2 when a tag means something else now
  strake image lock --update --check deploy/ -o json
  strake up deploy/ --locked")]
pub struct LockArgs {
    /// A directory with Dockerfiles, manifests, bake files and compose files; or one of these files
    #[arg(value_name = "DIR|FILE", default_value = ".")]
    pub dir: PathBuf,
    /// Write nothing; say what would change
    #[arg(long)]
    pub check: bool,
    /// Take the highest tags that the policies of strake.yaml allow; keep what tags were locked to, and tell which have moved
    #[arg(long)]
    pub update: bool,
    /// Ask no registry: lock what the store has
    #[arg(long)]
    pub offline: bool,
    /// The platform that images chosen by a policy must have [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// How to print what changes
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Format,
    /// Set an ARG of the Dockerfiles (repeatable)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<String>,
    /// Give a variable of the bake files a value (repeatable)
    #[arg(long = "var", value_name = "NAME=VALUE")]
    pub variables: Vec<String>,
    /// Let bake files name files beyond the directory they are in: fs.read=PATH (repeatable)
    #[arg(long, value_name = "fs.read=PATH")]
    pub allow: Vec<String>,
}

/// What a lock file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    path: PathBuf,
    /// Full references with a tag, and the digest that each means.
    images: BTreeMap<String, Digest>,
    /// Repositories whose tag a policy chooses, and what it has chosen.
    policies: BTreeMap<String, Chosen>,
}

/// Where images may come from.
#[derive(Clone, Debug, Default)]
pub struct Sourcing {
    /// Ask registries even for what is here.
    pub pull: bool,
    /// Ask none.
    pub offline: bool,
    /// What tags mean, with `--locked`.
    pub lock: Option<Lock>,
}

impl Sourcing {
    /// As arguments say; the lock file is that of `place` or of a directory above it.
    pub fn new(pull: bool, offline: bool, locked: bool, place: &Path) -> Result<Sourcing, Failure> {
        Ok(Sourcing { pull, offline, lock: if locked { Some(Lock::find(place)?) } else { None } })
    }

    /// What a reference means: with a lock its tag has a digest.
    pub fn pinned(&self, reference: &str) -> Result<String, Failure> {
        self.lock.as_ref().map_or_else(|| Ok(reference.to_owned()), |lock| lock.pinned(reference))
    }

    /// What is locked is neither here nor to be had.
    pub fn locked_away(&self, store: &Store, reference: &str, pinned: &str, failure: &Failure) -> Failure {
        let digest = pinned.split_once('@').map_or(pinned, |(_, digest)| digest);
        let path = self.lock.as_ref().map(|lock| lock.path.display().to_string()).unwrap_or_default();
        let now = store.resolve(reference).ok().flatten().map(|found| format!("; the store's {} is {}", familiar(reference), found.digest()));
        Failure::text(format!("--locked: {path} has {} as {digest}, which cannot be had: {failure}{}", familiar(reference), now.unwrap_or_default()))
    }

    /// The name by which the store has an image.
    pub fn find(store: &Store, reference: &str) -> Result<Option<String>, Failure> {
        if store.resolve(reference)?.is_some() {
            return Ok(Some(reference.to_owned()));
        }
        let Some((_, digest)) = reference.split_once('@') else { return Ok(None) };
        match store.named(digest) {
            Ok(_) => Ok(Some(digest.to_owned())),
            Err(StoreError::ImageMissing { .. } | StoreError::BlobMissing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Lock {
    /// The lock file of a directory, or of the nearest one above it.
    ///
    /// # Errors
    /// When there is none, or it has mistakes in it.
    pub fn find(place: &Path) -> Result<Lock, Failure> {
        let start = std::fs::canonicalize(place).map_err(|source| Failure::read(place, source))?;
        for dir in start.ancestors() {
            let path = dir.join(NAME);
            match std::fs::read_to_string(&path) {
                Ok(text) => return Lock::parse(&path, &text),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
                Err(source) => return Err(Failure::read(&path, source)),
            }
        }
        Err(Failure::text(format!("--locked: there is no {NAME} in {} or above it: make one with `strake image lock`", place.display())))
    }

    fn parse(path: &Path, text: &str) -> Result<Lock, Failure> {
        let mut sources = Sources::default();
        let id = sources.add(path.display().to_string(), text);
        let (documents, mut findings) = strake_yaml::parse(id, text);
        findings.retain(Diagnostic::is_error);
        let mut lock = Lock { path: path.to_owned(), ..Lock::default() };
        let root = documents.first().map(|document| &document.root);
        for (name, value) in root.map(|root| root.entries()).unwrap_or_default() {
            match name.value.as_str() {
                "version" if matches!(&value.kind, Kind::Int(1)) => {}
                "version" => findings.push(Diagnostic::error(CODE, "a format that this strake does not know").at(value.span).label("expected 1")),
                "images" => {}
                "policies" => lock.policies = policy::read(value, &mut findings),
                other => findings.push(Diagnostic::error(CODE, format!("unknown field `{other}`")).at(name.span).label("expected version, images, policies")),
            }
        }
        if root.is_none_or(|root| root.get("version").is_none()) {
            findings.push(Diagnostic::error(CODE, format!("{} is no lock file: it has no version", path.display())));
        }
        for (name, value) in root.and_then(|root| root.get("images")).map(|images| images.entries()).unwrap_or_default() {
            let reference = Reference::parse(&name.value).ok().filter(|parsed| parsed.tag.is_some() && parsed.digest.is_none());
            match (reference, value.as_str().and_then(|text| text.parse().ok())) {
                (Some(reference), Some(digest)) => drop(lock.images.insert(reference.to_string(), digest)),
                (None, _) => findings.push(Diagnostic::error(CODE, format!("`{}` is no image with a tag", name.value)).at(name.span)),
                (_, None) => findings.push(Diagnostic::error(CODE, "no digest").at(value.span).label("expected sha256: and 64 hexadecimal characters")),
            }
        }
        if findings.is_empty() { Ok(lock) } else { Err(Failure::text(render(&sources, &findings, Style::Plain).trim_end())) }
    }

    fn text(&self) -> String {
        let mut text = HEADER.to_owned();
        if self.images.is_empty() {
            text.push_str(" {}");
        }
        for (reference, digest) in &self.images {
            text = format!("{text}\n  {reference}: {digest}");
        }
        text.push('\n');
        if !self.policies.is_empty() {
            text.push_str("policies:\n");
            text.extend(self.policies.iter().map(|(repository, chosen)| chosen.text(repository)));
        }
        text
    }

    /// A reference with the digest that its tag is locked to. One that has a digest already stays as it is.
    fn pinned(&self, reference: &str) -> Result<String, Failure> {
        if reference.contains('@') {
            return Ok(reference.to_owned());
        }
        let full = full(reference)?;
        if let Some((repository, chosen)) = policy::governed(&full).and_then(|repository| self.policies.get_key_value(&repository)) {
            return Ok(format!("{repository}:{}@{}", chosen.tag, chosen.digest));
        }
        match self.images.get(&full) {
            Some(digest) => Ok(format!("{full}@{digest}")),
            None => Err(Failure::text(format!("--locked: {} has no entry for {}: run `strake image lock` again", self.path.display(), familiar(&full)))),
        }
    }

    /// Puts the digests where containers of a plan use images that are not built by it.
    pub fn pin(&self, plan: &mut Plan) -> Result<(), Failure> {
        let mut missing = Vec::new();
        for_external_images(plan, &mut |image| match self.pinned(image) {
            Ok(pinned) => *image = pinned,
            Err(_) => missing.push(familiar(image)),
        });
        missing.sort();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Failure::text(format!("--locked: {} has no entry for {}: run `strake image lock` again", self.path.display(), missing.join(", "))))
    }
}

/// Calls `each` for every image that a container of the plan names and no Dockerfile of it builds.
fn for_external_images(plan: &mut Plan, each: &mut dyn FnMut(&mut String)) {
    let built: Vec<(usize, String)> = plan.deploy.images.iter().map(|edge| (edge.change.0, edge.pointer.clone())).collect();
    for (number, change) in plan.deploy.changes.iter_mut().enumerate() {
        if !change.id.group.is_empty() && !matches!(change.id.group.as_str(), "apps" | "batch") {
            continue;
        }
        let pods = ["/spec", "/spec/template/spec", "/spec/jobTemplate/spec/template/spec"];
        for (pod, list) in pods.iter().flat_map(|pod| ["initContainers", "containers", "ephemeralContainers"].map(|list| (pod, list))) {
            let place = format!("{pod}/{list}");
            let Some(containers) = change.object.pointer_mut(&place).and_then(Value::as_array_mut) else { continue };
            for (index, container) in containers.iter_mut().enumerate() {
                let pointer = format!("{place}/{index}/image");
                if let Some(Value::String(image)) = container.get_mut("image")
                    && !built.contains(&(number, pointer))
                {
                    each(image);
                }
            }
        }
    }
}

/// Writes or checks the lock file.
pub fn lock(root: &Path, args: &LockArgs) -> Result<(), Failure> {
    let store = Store::open(root)?;
    let dir = if args.dir.is_dir() { args.dir.as_path() } else { args.dir.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")) };
    let path = dir.join(NAME);
    let before = match std::fs::read_to_string(&path) {
        // A file that cannot be read is made anew, but by who asks for just that.
        Ok(text) => Lock::parse(&path, &text).map(Some).or_else(|failure| if args.check || args.update { Err(failure) } else { Ok(None) })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(Failure::read(&path, source)),
    };
    let references = references(root, args)?;
    let (lock, moved) = meanings(&store, references, before.as_ref(), dir, args)?;
    let mut changes = changes(&before.clone().unwrap_or_default(), &lock);
    let pending = before.is_none() || !changes.is_empty();
    changes.extend(moved);
    if args.output == Format::Text {
        changes.iter().for_each(|change| say(change.text()));
    } else {
        let changes: Vec<Value> = changes.iter().map(Change::data).collect();
        say(data(&json!({"file": path.display().to_string(), "written": pending && !args.check, "changes": changes}), args.output));
    }
    if args.check {
        let now =
            if args.update { "what the policies choose now: run `strake image lock --update`" } else { "what the tags mean now: run `strake image lock`" };
        return if pending || !changes.is_empty() { Err(Failure::text(format!("{} is not {now}", path.display())).with_code(2)) } else { Ok(()) };
    }
    let temporary = path.with_extension(format!("lock.{}", std::process::id()));
    let written = std::fs::write(&temporary, lock.text()).and_then(|()| std::fs::rename(&temporary, &path));
    written.map_err(|source| Failure::text(format!("cannot write {}: {source}", path.display())))?;
    note(format!("{}: {}", path.display(), counted(lock.images.len() + lock.policies.len(), "image")));
    Ok(())
}

/// What the lock file is to say, and the tags that have moved and are not followed.
fn meanings(store: &Store, references: Vec<String>, before: Option<&Lock>, dir: &Path, args: &LockArgs) -> Result<(Lock, Vec<Change>), Failure> {
    let mut policies = policy::of(dir)?;
    let (mut lock, mut moved, mut failed) = (Lock { path: dir.join(NAME), ..Lock::default() }, Vec::new(), Vec::new());
    for reference in references {
        let governed = policy::governed(&reference).and_then(|repository| policies.remove_entry(&repository));
        let outcome = if let Some((repository, policy)) = governed {
            let locked = before.and_then(|before| before.policies.get(&repository));
            policy::choose(store, &repository, &policy, locked, args).map(|(chosen, now)| {
                moved.extend(now.map(|now| Change::moved(&repository, Some(&chosen.tag), &chosen.digest, now)));
                lock.policies.insert(repository, chosen);
            })
        } else {
            resolve(store, &reference, args.offline).map(|digest| {
                let locked = before.filter(|_| args.update).and_then(|before| before.images.get(&reference)).filter(|locked| **locked != digest);
                let kept = locked.copied().unwrap_or(digest);
                moved.extend(locked.map(|locked| Change::moved(&reference, None, locked, digest)));
                lock.images.insert(reference.clone(), kept);
            })
        };
        match outcome {
            Ok(()) => {}
            Err(failure) if failure.code() == interrupt::INTERRUPTED => return Err(failure),
            Err(failure) => failed.push(format!("  {}: {failure}", familiar(&reference))),
        }
    }
    if !failed.is_empty() {
        return Err(Failure::text(format!("nothing was locked: {} cannot be resolved\n{}", counted(failed.len(), "image"), failed.join("\n"))));
    }
    for repository in policies.keys() {
        let name = familiar(repository);
        note(format!("{} the policy for {name} chooses nothing: no manifest and no Dockerfile names {name} without a tag", Paint::stderr().yellow("note:")));
    }
    Ok((lock, moved))
}

/// What a tag means: at its registry, else (told by a note) in the store.
fn resolve(store: &Store, reference: &str, offline: bool) -> Result<Digest, Failure> {
    let here = || -> Result<Option<Digest>, Failure> { Ok(store.resolve(reference)?.map(|found| strake_store::digest_of(&found)).transpose()?) };
    if offline {
        return here()?.ok_or_else(|| Failure::text("not in the store"));
    }
    let asked = interrupt::wait_or("nothing was locked", async { Ok(strake_registry::resolve(reference, store, &PullOptions::default()).await?) });
    match asked {
        Ok(digest) => Ok(digest),
        Err(failure) if failure.code() == interrupt::INTERRUPTED => Err(failure),
        Err(failure) => match here()? {
            Some(digest) => {
                note(format!("{} {} is locked to what the store has: {failure}", Paint::stderr().yellow("note:"), familiar(reference)));
                Ok(digest)
            }
            None => Err(failure),
        },
    }
}

/// What bake files and compose files take from elsewhere: of a file what `strake bake -f` would, of a directory what `strake bake` there would.
fn baked(root: &Path, store: &Store, args: &LockArgs) -> Result<Option<build::Needed>, Failure> {
    let bake = |files| Bake::of(files, args.variables.clone(), args.allow.clone(), args.offline);
    if !args.dir.is_dir() {
        let name = args.dir.display().to_string();
        return if project::is_bake_file(&args.dir)? { bake::needed(root, store, &bake(vec![name])).map(Some) } else { Ok(None) };
    }
    if !bake::any_in(&args.dir) {
        return Ok(None);
    }
    // Their paths are relative to where bake is run.
    let before = std::env::current_dir()?;
    std::env::set_current_dir(&args.dir)?;
    let needed = bake::needed(root, store, &bake(Vec::new()));
    std::env::set_current_dir(before)?;
    needed.map(Some)
}

/// Every image with a tag that the Dockerfiles, manifests and targets take from elsewhere, in full and sorted.
fn references(root: &Path, args: &LockArgs) -> Result<Vec<String>, Failure> {
    let store = Store::open(root)?;
    let baked = baked(root, &store, args)?;
    let mut found = match &baked {
        Some(_) => project::read_any(&args.dir, None)?,
        None => project::read(&args.dir, None)?,
    };
    let build::Needed { mut references, dockerfiles } = baked.unwrap_or_default();
    // What a target says of its Dockerfile (arguments, contexts) decides what that takes.
    found.dockerfiles.retain(|text| !std::fs::canonicalize(&text.path).is_ok_and(|path| dockerfiles.contains(&path)));
    for dockerfile in &found.dockerfiles {
        let mut sources = Sources::default();
        let id = sources.add(dockerfile.path.display().to_string(), dockerfile.text.as_str());
        let (file, findings) = strake_dockerfile::parse(id, &dockerfile.text);
        if findings.iter().any(Diagnostic::is_error) {
            crate::commands::build::report(&sources, &findings);
            return Err(Failure::silent(1));
        }
        // Every stage (there are no more than instructions): a lock for one target would not do for another.
        let targets: Vec<Option<String>> = std::iter::once(None).chain((0..file.instructions.len()).map(|number| Some(number.to_string()))).collect();
        for target in targets {
            with_triggers(&store, &request(dockerfile, file.clone(), target, &args.build_args)?, &mut references)?;
        }
    }
    if !found.manifests.is_empty() {
        let input = Input { offline: args.offline, ..Input::of(&args.dir, &args.build_args) };
        let mut compiled = plan::compile(root, &input, &Default::default())?;
        let mut named = Vec::new();
        for_external_images(&mut compiled.plan, &mut |image| named.push(image.clone()));
        for image in named {
            references.push(full(&image)?);
        }
    }
    references.retain(|reference| !reference.contains('@'));
    references.sort();
    references.dedup();
    Ok(references)
}

/// The base images of a Dockerfile, and those that the triggers (ONBUILD) of bases in the store name.
pub fn with_triggers(store: &Store, request: &Request, references: &mut Vec<String>) -> Result<(), Failure> {
    let mut known = BTreeMap::new();
    loop {
        let (needed, _) = strake_stages::base_references_with(request, &known);
        let before = known.len();
        for base in needed {
            if !known.contains_key(&base.key)
                && let Ok(image) = store.image_for(&base.reference, &base.platform)
            {
                let found = BaseImage { reference: base.reference.clone(), manifest: image.digest()?, config: image.config };
                known.insert(base.key, found);
            }
            references.push(base.reference);
        }
        if known.len() == before {
            return Ok(());
        }
    }
}

fn request(text: &project::Text, file: strake_dockerfile::File, target: Option<String>, build_args: &[String]) -> Result<Request, Failure> {
    Ok(Request {
        file,
        file_name: text.path.display().to_string(),
        target,
        build_args: crate::commands::build::build_args(build_args)?,
        platform: Platform::host(),
        build_platform: Platform::host(),
        tags: Vec::new(),
        labels: BTreeMap::new(),
        no_cache: false,
        context_name: "context".to_owned(),
        context: Context { kind: ContextKind::Directory { path: ".".to_owned() }, ignore: Vec::new() },
        named_contexts: BTreeMap::new(),
        named_images: BTreeMap::new(),
        named_builds: BTreeMap::new(),
        remotes: BTreeMap::new(),
        no_cache_stages: Vec::new(),
        network: Network::Default,
        extra_hosts: Vec::new(),
        rules: strake_stages::Rules::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Lock, changes};
    use std::path::Path;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn parse(text: &str) -> Result<Lock, String> {
        Lock::parse(Path::new("strake.lock"), text).map_err(|failure| failure.to_string())
    }

    #[test]
    fn what_is_written_is_read_and_sorted() {
        let lock = parse(&format!("version: 1\nimages:\n  z:1: {A}\n  docker.io/library/a:2: {B}\n")).expect("read");
        let text = lock.text();
        assert!(text.ends_with(&format!("images:\n  docker.io/library/a:2: {B}\n  docker.io/library/z:1: {A}\n")), "{text}");
        assert_eq!(parse(&text).expect("read").text(), text);
        assert_eq!(parse(&Lock::default().text()).expect("read").images.len(), 0);
        assert_eq!(lock.pinned("z:1").expect("locked"), format!("docker.io/library/z:1@{A}"));
        assert_eq!(lock.pinned(&format!("q@{A}")).expect("has one"), format!("q@{A}"));
        assert!(lock.pinned("z:2").expect_err("not there").to_string().contains("has no entry for z:2"));
        assert_eq!(changes(&lock, &lock), []);
        assert_eq!(changes(&Lock::default(), &lock).len(), 2);
    }

    #[test]
    fn what_a_policy_chose_stands_for_an_image_without_a_tag() {
        let text = format!(
            "version: 1\nimages:\n  a:1: {A}\npolicies:\n  h.example/app:\n    tag: \"1.10\"\n    digest: {A}\n    platform: linux/amd64\n    resolvedAt: \"2026-11-21T20:00:00Z\"\n"
        );
        let lock = parse(&text).expect("read");
        let again = lock.text();
        assert!(again.ends_with(text.split_once("policies").expect("there").1), "{again}");
        assert_eq!(parse(&again).expect("read"), lock);
        for name in ["h.example/app", "h.example/app:latest"] {
            assert_eq!(lock.pinned(name).expect("locked"), format!("h.example/app:1.10@{A}"));
        }
        assert!(lock.pinned("h.example/app:1.9").expect_err("its own tag is not the policy's").to_string().contains("has no entry for h.example/app:1.9"));
        let next = parse(&text.replace("1.10", "1.11").replace(A, B)).expect("read");
        let lines: Vec<String> = changes(&lock, &next).iter().map(super::Change::text).collect();
        assert_eq!(lines, [format!("~ a:1  {B}, was {A}"), format!("~ h.example/app  1.10 ({A}) -> 1.11 ({B})")]);
        assert!(parse(&text.replace("1.10", "1 10")).expect_err("no tag").contains("cannot be read"));
        assert!(parse(&text.replace("platform", "platfrom")).expect_err("a wrong field").contains("unknown field `platfrom`"));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, told) in [
            ("images: {}\n", "it has no version"),
            ("version: 2\n", "expected 1"),
            ("version: 1\nimage: {}\n", "unknown field `image`"),
            ("version: 1\nimages:\n  a:1: sha256:12\n", "strake.lock:3:8"),
            ("version: 1\nimages:\n  a: x\n", "is no image with a tag"),
        ] {
            let found = parse(text).expect_err(text);
            assert!(found.contains(told), "{text}: {found}");
        }
    }
}
