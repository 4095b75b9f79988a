//! What a directory holds: its manifests and its Dockerfiles, read into memory once.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use strake_compile::Overlay;
use strake_compile::config::{self, Config, FILE_NAME, ImageConfig, Settings};

use crate::failure::Failure;
use crate::overlay;

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The path as the user would type it.
    pub path: PathBuf,
    /// The content.
    pub text: String,
    /// Found outside the directory that was given.
    pub outside: bool,
    /// Device and inode: what one file has under all its names. Zeros for what is no file.
    pub inode: (u64, u64),
}

/// A Dockerfile that the project's file names, with the image that it builds.
#[derive(Clone, Debug)]
pub struct Named {
    /// The Dockerfile.
    pub file: Text,
    /// The directory whose files COPY sees.
    pub context: PathBuf,
    /// The image, and how it is built.
    pub image: (String, ImageConfig),
}

/// The inputs of a compilation.
#[derive(Clone, Debug, Default)]
pub struct Project {
    /// The project's own file.
    pub config: Option<Text>,
    /// What it says of the chosen environment.
    pub settings: Settings,
    /// The set's name that it gives.
    pub name: Option<String>,
    /// Dockerfiles that it names; they are not among the others.
    pub named: Vec<Named>,
    /// The kustomize overlay, when the directory is or holds one.
    pub overlay: Option<Overlay>,
    /// YAML and JSON manifests, in the order of their paths.
    pub manifests: Vec<Text>,
    /// Dockerfiles, in the order of their paths.
    pub dockerfiles: Vec<Text>,
}

/// Folders that never hold manifests.
pub const SKIPPED: [&str; 3] = ["node_modules", "target", "vendor"];
/// A file that is larger is data, not a manifest.
pub const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// Reads a directory (or a single manifest or Dockerfile). Hidden files and folders are left out.
///
/// # Errors
/// A missing path, a file that cannot be read or is not UTF-8; a directory with nothing in it, or with several overlays.
pub fn read(path: &Path, environment: Option<&str>) -> Result<Project, Failure> {
    read_within(path, environment, None)
}

/// The same where there may be nothing, or something else.
pub fn read_any(path: &Path, environment: Option<&str>) -> Result<Project, Failure> {
    let nothing = path.is_file() && is_bake_file(path)?;
    if nothing { Ok(Project::default()) } else { found(path, environment, None) }
}

/// The same, of a repository that somebody else wrote: nothing outside of `within` is read, whatever its files name.
///
/// # Errors
/// As [`read`], and a path that leads out.
pub fn read_within(path: &Path, environment: Option<&str>, within: Option<&Path>) -> Result<Project, Failure> {
    let project = found(path, environment, within)?;
    if project.manifests.is_empty() && project.dockerfiles.is_empty() && project.named.is_empty() && project.overlay.is_none() {
        return Err(Failure::text(format!("{} holds neither a Dockerfile nor a manifest (.yaml, .yml, .json)", path.display())));
    }
    Ok(project)
}

fn found(path: &Path, environment: Option<&str>, within: Option<&Path>) -> Result<Project, Failure> {
    let metadata = fs::metadata(path).map_err(|source| Failure::read(path, source))?;
    let mut project = Project::default();
    if metadata.is_dir() {
        let config = configure(path, environment, &mut project)?;
        directory(path, &config, within, &mut project)?;
    } else if is_dockerfile(&path.file_name().unwrap_or_default().to_string_lossy()) {
        project.dockerfiles.push(text(path)?);
    } else if ["yaml", "yml", "json"].iter().any(|extension| path.extension().is_some_and(|found| found == *extension)) {
        project.manifests.push(text(path)?);
    } else {
        return Err(Failure::text(format!("{} is neither a directory, a manifest (.yaml, .yml, .json) nor a Dockerfile", path.display())));
    }
    Ok(project)
}

/// The set's name that the project's file gives, and the settings of an environment; nothing where there is no file.
pub fn identity(dir: &Path, environment: Option<&str>) -> Result<(Option<String>, Settings), Failure> {
    let mut project = Project::default();
    if dir.is_dir() {
        configure(dir, environment, &mut project)?;
    }
    Ok((project.name, project.settings))
}

/// Reads the project's file, when there is one.
fn configure(dir: &Path, environment: Option<&str>, project: &mut Project) -> Result<Config, Failure> {
    let path = dir.join(FILE_NAME);
    if !path.is_file() {
        return match environment {
            Some(name) => Err(Failure::text(format!("there is no environment `{name}`: {} has no {FILE_NAME}", dir.display()))),
            None => Ok(Config::default()),
        };
    }
    let file = text(&path)?;
    // The findings are told by the compiler, which reads it again with everything else.
    let (config, _) = config::read(strake_source::FileId(0), &file.text);
    project.config = Some(file);
    project.settings = config.settings(environment).map_err(Failure::text)?;
    project.name.clone_from(&config.name);
    Ok(config)
}

/// Reads what a directory holds, as far as the project's file does not say otherwise.
fn directory(dir: &Path, config: &Config, within: Option<&Path>, project: &mut Project) -> Result<(), Failure> {
    match &project.settings.overlay {
        Some(overlay) => {
            let top = inside(dir, overlay, within)?;
            let found = overlay::find(&top, within)?;
            project.overlay =
                Some(found.ok_or_else(|| Failure::text(format!("{}: the overlay {} has no kustomization", dir.join(FILE_NAME).display(), top.display())))?);
            dockerfiles(dir, &mut project.dockerfiles)?;
        }
        None if config.manifests.is_empty() => {
            project.overlay = overlay::find(dir, within)?;
            walk(dir, project)?;
            if let Some(overlay) = &project.overlay {
                overlay::dockerfiles(overlay, dir, &mut project.dockerfiles)?;
            }
        }
        None => dockerfiles(dir, &mut project.dockerfiles)?,
    }
    for name in &config.manifests {
        let path = inside(dir, name, within)?;
        let metadata = fs::metadata(&path).map_err(|source| Failure::read(&path, source))?;
        if metadata.is_dir() {
            let mut below = Project::default();
            walk(&path, &mut below)?;
            project.manifests.append(&mut below.manifests);
        } else {
            project.manifests.push(text(&path)?);
        }
    }
    for (name, image) in &config.images {
        let context = image.context.as_ref().map(|context| inside(dir, context, within)).transpose()?;
        let path = match (&image.dockerfile, &context) {
            (Some(file), _) => inside(dir, file, within)?,
            (None, Some(context)) => context.join("Dockerfile"),
            (None, None) => dir.join("Dockerfile"),
        };
        let file = text(&path)?;
        let context = context.unwrap_or_else(|| path.parent().unwrap_or(dir).to_owned());
        project.named.push(Named { file, context, image: (name.clone(), image.clone()) });
    }
    let named: Vec<PathBuf> = project.named.iter().filter_map(|named| fs::canonicalize(&named.file.path).ok()).collect();
    project.dockerfiles.retain(|text| fs::canonicalize(&text.path).map_or(true, |path| !named.contains(&path)));
    Ok(())
}

/// A path that the project's file names. What a repository names must be in it: a Dockerfile that is a file of this machine would be shown in a finding, a context with
/// such files be copied into an image.
fn inside(dir: &Path, name: &str, within: Option<&Path>) -> Result<PathBuf, Failure> {
    let path = dir.join(name);
    let Some(within) = within else { return Ok(path) };
    let (whole, real) = (fs::canonicalize(within), fs::canonicalize(&path));
    match whole.and_then(|whole| Ok(real?.starts_with(whole))) {
        Ok(true) => Ok(path),
        Ok(false) => Err(Failure::text(format!("{}: `{name}` leads out of the repository: what it uses must be in it", dir.join(FILE_NAME).display()))),
        Err(source) => Err(Failure::read(&path, source)),
    }
}

/// Reads what is below a directory: found one after the other, read on all cores.
fn walk(dir: &Path, project: &mut Project) -> Result<(), Failure> {
    let mut manifests = Vec::new();
    find(dir, &mut manifests, &mut project.dockerfiles)?;
    let read: Vec<Result<Option<Text>, Failure>> = manifests.par_iter().map(|path| manifest(path)).collect();
    for text in read {
        project.manifests.extend(text?);
    }
    Ok(())
}

/// What may be manifests, by name, and the Dockerfiles, in the order of their paths.
fn find(dir: &Path, manifests: &mut Vec<PathBuf>, dockerfiles: &mut Vec<Text>) -> Result<(), Failure> {
    let failed = |source| Failure::read(dir, source);
    let entries = entries(dir)?;
    // The manifests of a layer belong to its overlay.
    let layer = overlay::is_layer(&entries);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().map_err(failed)?;
        if name.starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            if !SKIPPED.contains(&name.as_str()) && !layer {
                find(&path, manifests, dockerfiles)?;
            } else if layer {
                self::dockerfiles(&path, dockerfiles)?;
            }
        } else if is_dockerfile(&name) {
            dockerfiles.push(text(&path)?);
        } else if !layer && has_manifest_name(&path) {
            manifests.push(path);
        }
    }
    Ok(())
}

/// A directory's entries by name.
pub fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>, Failure> {
    let failed = |source| Failure::read(dir, source);
    let mut entries = fs::read_dir(dir).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}

/// The Dockerfiles below a directory.
pub fn dockerfiles(dir: &Path, found: &mut Vec<Text>) -> Result<(), Failure> {
    for entry in entries(dir)? {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let kind = entry.file_type().map_err(|source| Failure::read(dir, source))?;
        if name.starts_with('.') {
            continue;
        }
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            dockerfiles(&path, found)?;
        } else if !kind.is_dir() && is_dockerfile(&name) {
            found.push(text(&path)?);
        }
    }
    Ok(())
}

fn is_dockerfile(name: &str) -> bool {
    let name = name.to_lowercase();
    !name.ends_with(".dockerignore") && (name == "dockerfile" || name == "containerfile" || name.starts_with("dockerfile.") || name.ends_with(".dockerfile"))
}

fn has_manifest_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json")) && path.file_name().is_none_or(|name| name != FILE_NAME)
}

/// YAML and JSON with an `apiVersion` or a `kind` somewhere; other YAML (a compose file, a workflow, a values file) is not ours.
fn manifest(path: &Path) -> Result<Option<Text>, Failure> {
    let metadata = fs::metadata(path).map_err(|source| Failure::read(path, source))?;
    if !metadata.is_file() || metadata.len() > MOST_BYTES {
        return Ok(None);
    }
    let text = content(path, &metadata)?;
    let json = path.extension().is_some_and(|extension| extension == "json");
    let ours = text.text.contains("apiVersion") || (!json && text.text.lines().any(|line| line.starts_with("kind:")));
    Ok(ours.then_some(text))
}

/// A file of `strake bake`: HCL, or YAML and JSON that are no manifest.
pub fn is_bake_file(path: &Path) -> Result<bool, Failure> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("hcl") => Ok(true),
        Some("yaml" | "yml" | "json") => Ok(!has_manifest_name(path) || manifest(path)?.is_none()),
        _ => Ok(false),
    }
}

/// A file's text.
pub fn text(path: &Path) -> Result<Text, Failure> {
    let metadata = fs::metadata(path).map_err(|source| Failure::read(path, source))?;
    if metadata.len() > MOST_BYTES || !(metadata.is_file() || metadata.is_dir()) {
        let found = if metadata.is_file() { "has more than 16 MiB" } else { "is no ordinary file" };
        return Err(Failure::text(format!("{} {found}: it is neither a manifest nor a Dockerfile", path.display())));
    }
    content(path, &metadata)
}

fn content(path: &Path, metadata: &fs::Metadata) -> Result<Text, Failure> {
    let failed = |source| Failure::read(path, source);
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 1);
    // The size is known: behind `take` it is not asked for again.
    fs::File::open(path).map_err(failed)?.take(u64::MAX).read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::text(format!("{} is not UTF-8 text", path.display())))?;
    Ok(Text { path: path.to_owned(), text, outside: false, inode: (metadata.dev(), metadata.ino()) })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn finds_dockerfiles_and_manifests_and_leaves_the_rest() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        write("web/Dockerfile", "FROM scratch");
        write("web/Dockerfile.dockerignore", "x");
        write("k8s/a.yaml", "apiVersion: v1\nkind: Namespace");
        write("package.json", "{}");
        write(".git/a.yaml", "x: 1");
        let project = read(dir.path(), None).expect("read");
        let names =
            |texts: &[super::Text]| texts.iter().map(|text| text.path.strip_prefix(dir.path()).expect("inside").display().to_string()).collect::<Vec<_>>();
        assert_eq!(names(&project.dockerfiles), ["web/Dockerfile"]);
        assert_eq!(names(&project.manifests), ["k8s/a.yaml"]);
    }

    #[test]
    fn nothing_outside_of_a_repository_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("app")).expect("made");
        std::fs::create_dir_all(dir.path().join("beside")).expect("made");
        std::fs::write(dir.path().join("beside/Dockerfile"), "FROM scratch").expect("written");
        std::fs::write(dir.path().join("beside/kustomization.yaml"), "resources: []").expect("written");
        let absolute = dir.path().join("beside");
        let absolute = absolute.display();
        for text in [
            "images: {web: {dockerfile: ../../beside/Dockerfile}}".to_owned(),
            format!("images: {{web: {{dockerfile: {absolute}/Dockerfile}}}}"),
            "images: {web: {context: ../../beside}}".to_owned(),
            "manifests: [../../beside]".to_owned(),
            "environments: {x: {overlay: ../../beside}}".to_owned(),
        ] {
            std::fs::write(tree.join("app/strake.yaml"), &text).expect("written");
            let environment = text.starts_with("environments").then_some("x");
            let error = super::read_within(&tree.join("app"), environment, Some(&tree)).expect_err(&text).to_string();
            assert!(error.contains("leads out of the repository"), "{text}: {error}");
        }
        std::fs::write(tree.join("app/strake.yaml"), "images: {web: {context: ..}}").expect("written");
        std::fs::write(tree.join("Dockerfile"), "FROM scratch").expect("written");
        super::read_within(&tree.join("app"), None, Some(&tree)).expect("what is in it");
        std::fs::write(tree.join("app/strake.yaml"), "images: {web: {dockerfile: /dev/zero}}").expect("written");
        let error = read(&tree.join("app"), None).expect_err("no file").to_string();
        assert!(error.contains("no ordinary file"), "{error}");
    }

    #[test]
    fn an_empty_directory_is_said_to_be_so() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = read(dir.path(), None).expect_err("nothing in it");
        assert!(error.to_string().contains("neither a Dockerfile nor a manifest"));
    }
}
