//! Kustomize overlays in a directory: which one is meant, and its files read into memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use strake_compile::Overlay;
use strake_kustomize::{Entry, FILE_NAMES, Tree, normal, references, wanted};

use crate::failure::Failure;
use crate::project::{self, Text};
use crate::sealed;

/// Whether these are the entries of a directory with a kustomization.
pub fn is_layer(entries: &[fs::DirEntry]) -> bool {
    entries.iter().any(|entry| FILE_NAMES.iter().any(|name| entry.file_name() == *name))
}

/// The overlay that a directory means: its own, or the one below it that no other stands on. Nothing outside of `within` is read.
///
/// # Errors
/// Several are possible; a directory that cannot be read.
pub fn find(dir: &Path, within: Option<&Path>) -> Result<Option<Overlay>, Failure> {
    let mut layers = Vec::new();
    collect(dir, &mut layers)?;
    if layers.is_empty() {
        return Ok(None);
    }
    let own = normal(&dir.to_string_lossy());
    let directory = if layers.iter().any(|(layer, _)| *layer == own) {
        own
    } else {
        let below: BTreeSet<String> = layers.iter().flat_map(|(_, references)| references.iter().cloned()).collect();
        let tops: Vec<&String> = layers.iter().map(|(layer, _)| layer).filter(|layer| !below.contains(*layer)).collect();
        match tops.as_slice() {
            [one] => (*one).clone(),
            [] => return Err(Failure::text(format!("the kustomizations in {} stand on each other: there is no top", dir.display()))),
            many => {
                let list: String = many.iter().map(|layer| format!("\n  {layer}")).collect();
                return Err(Failure::text(format!("{} holds several overlays: name the one that you mean:{list}", dir.display())));
            }
        }
    };
    let tree = load(&directory, within)?;
    Ok(Some(Overlay { directory, tree }))
}

/// Every layer at or below a directory, with the directories that it stands on.
fn collect(dir: &Path, layers: &mut Vec<(String, BTreeSet<String>)>) -> Result<(), Failure> {
    let entries = project::entries(dir)?;
    if is_layer(&entries) {
        let path = FILE_NAMES.iter().map(|name| dir.join(name)).find(|path| path.is_file());
        let text = path.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let file = path.unwrap_or_else(|| dir.join(FILE_NAMES[0]));
        layers.push((normal(&dir.to_string_lossy()), references(&normal(&file.to_string_lossy()), &text)));
    }
    for entry in entries {
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && entry.file_type().is_ok_and(|kind| kind.is_dir()) && !project::SKIPPED.iter().any(|name| entry.file_name() == *name) {
            collect(&entry.path(), layers)?;
        }
    }
    Ok(())
}

/// Reads what the overlay wants until it wants nothing more.
fn load(directory: &str, within: Option<&Path>) -> Result<Tree, Failure> {
    let mut tree = Tree::default();
    loop {
        let wanted = wanted(&tree, directory);
        if wanted.is_empty() {
            return Ok(tree);
        }
        for path in &wanted {
            let entry = entry(Path::new(path), Path::new(directory), within);
            if let Entry::File(bytes) = &entry
                && let Ok(text) = std::str::from_utf8(bytes)
                && let Some(opened) = sealed::open(Path::new(path), text)?
            {
                tree.open(path, opened);
            }
            tree.insert(path, entry);
        }
    }
}

fn entry(path: &Path, overlay: &Path, within: Option<&Path>) -> Entry {
    let as_written = |path: &Path| PathBuf::from(normal(&path.to_string_lossy()));
    if within.is_some_and(|within| !as_written(path).starts_with(as_written(within))) {
        return Entry::Missing("is not in the repository".to_owned());
    }
    // The way to the overlay is the user's own; every other step is the repository's.
    if path.ancestors().filter(|step| !overlay.starts_with(step)).any(leads_out) {
        return Entry::Missing("is a symbolic link that leads out of its directory".to_owned());
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Entry::Directory,
        Ok(metadata) if metadata.len() > project::MOST_BYTES => Entry::Missing("is too large for a manifest".to_owned()),
        Ok(metadata) if !metadata.is_file() => Entry::Missing("is neither a file nor a directory".to_owned()),
        Ok(_) => fs::read(path).map_or_else(|error| Entry::Missing(error.to_string()), Entry::File),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Entry::Missing("no such file".to_owned()),
        Err(error) => Entry::Missing(error.to_string()),
    }
}

/// A repository's file must not show a file of the machine.
fn leads_out(path: &Path) -> bool {
    let link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let inside = || {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::canonicalize(path).ok().zip(fs::canonicalize(directory).ok()).is_some_and(|(target, directory)| target.starts_with(directory))
    };
    link && !inside()
}

/// Adds the Dockerfiles of the repository that the overlay is in, or of the directory that holds all its layers.
pub fn dockerfiles(overlay: &Overlay, dir: &Path, found: &mut Vec<Text>) -> Result<(), Failure> {
    let Some(top) = repository(Path::new(&overlay.directory)) else { return Ok(()) };
    let seen: BTreeSet<PathBuf> = found.iter().filter_map(|text| fs::canonicalize(&text.path).ok()).collect();
    let mut more = Vec::new();
    if fs::canonicalize(dir).ok() != fs::canonicalize(&top).ok() {
        project::dockerfiles(&top, &mut more)?;
    }
    more.retain(|text| fs::canonicalize(&text.path).map_or(true, |path| !seen.contains(&path)));
    more.iter_mut().for_each(|text| text.outside = true);
    found.append(&mut more);
    Ok(())
}

/// The nearest directory upwards with a `.git`, as a path like the one given.
fn repository(directory: &Path) -> Option<PathBuf> {
    let absolute = fs::canonicalize(directory).ok()?;
    let depth = absolute.ancestors().position(|ancestor| ancestor.join(".git").exists())?;
    let up: PathBuf = std::iter::repeat_n("..", depth).collect();
    Some(PathBuf::from(normal(&directory.join(up).to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_of_a_repository_leads_out_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("repo/overlay");
        fs::create_dir_all(dir.join("own")).expect("made");
        fs::write(folder.path().join("secret"), "x").expect("written");
        fs::write(dir.join("own/file"), "y").expect("written");
        symlink(folder.path().join("secret"), dir.join("file")).expect("linked");
        symlink(folder.path(), dir.join("folder")).expect("linked");
        symlink("own/file", dir.join("inside")).expect("linked");
        symlink(folder.path().join("repo"), folder.path().join("way")).expect("linked");
        let at = |name: &str| entry(&dir.join(name), &dir, None);
        assert!(matches!(at("file"), Entry::Missing(why) if why.contains("symbolic link")));
        assert!(matches!(at("folder/secret"), Entry::Missing(why) if why.contains("symbolic link")), "by way of a folder too");
        assert_eq!(at("inside"), Entry::File(b"y".to_vec()));
        let way = folder.path().join("way/overlay");
        assert_eq!(entry(&way.join("own/file"), &way, None), Entry::File(b"y".to_vec()), "the user may come by a link");
        let (repository, beside) = (folder.path().join("repo"), dir.join("../../secret"));
        assert_eq!(entry(&beside, &dir, None), Entry::File(b"x".to_vec()));
        assert!(matches!(entry(&beside, &dir, Some(&repository)), Entry::Missing(why) if why.contains("not in the repository")));
        assert_eq!(entry(&dir.join("own/file"), &dir, Some(&repository)), Entry::File(b"y".to_vec()));
    }
}
