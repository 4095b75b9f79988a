//! A pod's volumes: made below its directory, bound into its containers.

pub(crate) mod project;
mod write;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use strake_container::{BindMount, PartMount, VolumeMount};
use strake_kinds::core::{Container, EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume};

use crate::env::{self, Facts};
use crate::quantity;
use project::Files;

/// A volume that could not be made; the text is the event's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub volume: String,
    pub message: String,
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
}

fn group(pod: &Pod) -> Option<u32> {
    pod.spec.as_ref()?.security_context.as_ref()?.fs_group.and_then(|group| u32::try_from(group).ok())
}

fn path_of(directory: &Path, volume: &str) -> PathBuf {
    directory.join("volumes").join(volume)
}

/// Makes all volumes of a pod below its directory; those that are there already stay as they are. One of a type that isn't supported is
/// passed over: the container that mounts it says so.
pub(crate) fn set_up(pod: &Pod, directory: &Path, facts: &Facts, stamp: &str) -> Result<(), Failed> {
    let parent = directory.join("volumes");
    let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(&parent);
    made.map_err(|error| Failed { volume: String::new(), message: format!("{}: {error}", parent.display()) })?;
    for volume in volumes(pod) {
        let path = path_of(directory, &volume.name);
        let failed = |message: String| Failed { volume: volume.name.clone(), message };
        if let Some(source) = &volume.empty_dir {
            empty_dir(&path, source, group(pod)).map_err(|error| failed(error.to_string()))?;
        } else if let Some(source) = &volume.host_path {
            host_path(source).map_err(failed)?;
        } else if let Some(files) = files(pod, volume, facts) {
            let files = files.map_err(failed)?;
            let secret = volume.secret.is_some() || volume.projected.is_some();
            write_files(&path, &files, secret, stamp, group(pod)).map_err(|error| failed(error.to_string()))?;
        }
    }
    Ok(())
}

/// Writes what has changed in the objects that the pod's volumes show. Gives whether anything did.
pub(crate) fn refresh(pod: &Pod, directory: &Path, facts: &Facts, stamp: &str) -> Result<bool, Failed> {
    let mut changed = false;
    for volume in volumes(pod) {
        let Some(files) = files(pod, volume, facts) else { continue };
        let failed = |message: String| Failed { volume: volume.name.clone(), message };
        let files = files.map_err(failed)?;
        changed |= write::write(&path_of(directory, &volume.name), &files, stamp, group(pod)).map_err(|error| failed(error.to_string()))?;
    }
    Ok(changed)
}

fn files(pod: &Pod, volume: &Volume, facts: &Facts) -> Option<Result<Files, String>> {
    if let Some(source) = &volume.config_map {
        return Some(project::config_map(source, facts));
    }
    if let Some(source) = &volume.secret {
        return Some(project::secret(source, facts));
    }
    if let Some(source) = &volume.projected {
        return Some(project::projected(pod, source, facts));
    }
    volume.downward_api.as_ref().map(|source| project::downward(pod, source, facts))
}

fn write_files(path: &Path, files: &Files, secret: bool, stamp: &str, group: Option<u32>) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    if secret {
        // A secret is never on a disk.
        mount_memory(path, 0, 0o755)?;
    }
    write::write(path, files, stamp, group).map(|_| ())
}

fn empty_dir(path: &Path, source: &EmptyDirVolumeSource, group: Option<u32>) -> io::Result<()> {
    let on_disk = source.medium.as_deref() != Some("Memory");
    if path.is_dir() && (on_disk || is_memory(path)) {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).create(path)?;
    if source.medium.as_deref() == Some("Memory") {
        let size = source.size_limit.as_ref().map(quantity::units).transpose().map_err(io::Error::other)?;
        mount_memory(path, size.unwrap_or(0), 0o777)?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    if let Some(group) = group {
        std::os::unix::fs::chown(path, None, Some(group))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn is_memory(path: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    let parent = path.parent().and_then(|parent| fs::metadata(parent).ok()).map(|facts| facts.dev());
    let own = fs::metadata(path).ok().map(|facts| facts.dev());
    own != parent && rustix::fs::statfs(path).is_ok_and(|facts| u64::try_from(facts.f_type).is_ok_and(|kind| kind == TMPFS))
}

fn mount_memory(path: &Path, size_bytes: u64, mode: u32) -> io::Result<()> {
    if is_memory(path) {
        return Ok(());
    }
    let size = if size_bytes > 0 { format!(",size={size_bytes}") } else { String::new() };
    let options = std::ffi::CString::new(format!("mode={mode:o}{size}"))?;
    rustix::mount::mount("tmpfs", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str())).map_err(io::Error::from)
}

/// Checks or makes what a hostPath names.
fn host_path(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let found = fs::metadata(path).ok();
    let shown = path.display();
    let check = |fits: fn(&fs::Metadata) -> bool, what: &str| match &found {
        None => Err(format!("hostPath type check failed: {shown} does not exist")),
        Some(facts) if fits(facts) => Ok(()),
        Some(_) => Err(format!("hostPath type check failed: {shown} is not a {what}")),
    };
    let failed = |error: io::Error| format!("{shown}: {error}");
    match source.type_.as_deref().unwrap_or_default() {
        "" => found.map(|_| ()).map_or_else(|| fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed), Ok),
        "DirectoryOrCreate" if found.is_none() => fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed),
        "FileOrCreate" if found.is_none() => fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).map(|_| ()).map_err(failed),
        "Directory" | "DirectoryOrCreate" => check(fs::Metadata::is_dir, "directory"),
        "File" | "FileOrCreate" => check(fs::Metadata::is_file, "file"),
        "Socket" => check(|facts| facts.file_type().is_socket(), "socket"),
        "CharDevice" => check(|facts| facts.file_type().is_char_device(), "character device"),
        "BlockDevice" => check(|facts| facts.file_type().is_block_device(), "block device"),
        other => Err(format!("hostPath type {other} is not known")),
    }
}

/// The mounts of a container.
///
/// # Errors
/// A volume that isn't there or of a type that isn't supported, a subpath that leaves its volume.
pub(crate) fn mounts(pod: &Pod, container: &Container, directory: &Path, env: &[String]) -> Result<Vec<VolumeMount>, String> {
    let mut result = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes(pod).find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| format!("volume {} of mount {} is not in the pod", mount.name, mount.mount_path))?;
        let source = source(volume, directory)?;
        let path = match (mount.sub_path.as_deref().filter(|path| !path.is_empty()), mount.sub_path_expr.as_deref().filter(|path| !path.is_empty())) {
            (Some(path), _) => Some(path.to_owned()),
            (None, Some(expression)) => {
                let known = env.iter().filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                Some(env::expand(expression, &known))
            }
            _ => None,
        };
        // Files that the API keeps up to date are not the container's to change.
        let shown = volume.config_map.is_some() || volume.secret.is_some() || volume.projected.is_some() || volume.downward_api.is_some();
        let read_only = shown || mount.read_only == Some(true);
        let target = mount.mount_path.clone();
        result.push(match path {
            None => VolumeMount::Bind(BindMount { source, target, read_only }),
            Some(path) => {
                make_below(&source, &path).map_err(|error| format!("subPath {path} of volume {}: {error}", mount.name))?;
                VolumeMount::Part(PartMount { volume: source, path, target, read_only })
            }
        });
    }
    Ok(result)
}

fn source(volume: &Volume, directory: &Path) -> Result<PathBuf, String> {
    if let Some(source) = &volume.host_path {
        return Ok(PathBuf::from(&source.path));
    }
    let ours = volume.empty_dir.is_some() || volume.config_map.is_some() || volume.secret.is_some() || volume.projected.is_some();
    if ours || volume.downward_api.is_some() {
        return Ok(path_of(directory, &volume.name));
    }
    let fields = serde_json::to_value(volume).ok();
    let kind = fields.as_ref().and_then(|fields| fields.as_object()?.keys().find(|key| *key != "name").cloned()).unwrap_or_else(|| "nothing".to_owned());
    let supported = "emptyDir, configMap, secret, projected, downwardAPI and hostPath are";
    Err(format!("volume \"{}\" is of type {kind}, which is not supported: {supported}", volume.name))
}

/// Makes a path inside a volume as directories where it is missing. Links inside are followed inside only.
fn make_below(volume: &Path, path: &str) -> io::Result<()> {
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let root = openat2(CWD, volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::empty())?;
    let open = |path: &str| openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), inside);
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it must stay inside the volume"));
    }
    match open(path) {
        Ok(_) => return Ok(()),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mut below = root.try_clone()?;
    let mut done = String::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match mkdirat(&below, part, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        done = if done.is_empty() { part.to_owned() } else { format!("{done}/{part}") };
        below = open(&done)?;
    }
    Ok(())
}

/// Unmounts and removes all volumes; none is fine.
pub(crate) fn tear_down(directory: &Path) -> io::Result<()> {
    let parent = directory.join("volumes");
    let entries = match fs::read_dir(&parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        while is_memory(&path) {
            rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
        }
    }
    match fs::remove_dir_all(&parent) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(volumes: serde_json::Value, mounts: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "volumeMounts": mounts}], "volumes": volumes}})).unwrap()
    }

    fn mounts_of(pod: &Pod, directory: &Path) -> Result<Vec<VolumeMount>, String> {
        mounts(pod, &pod.spec.as_ref().unwrap().containers[0], directory, &["V=dyn".to_owned()])
    }

    #[test]
    fn volumes_are_made_mounted_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let data = Some([("k".to_owned(), b"v".to_vec())].into());
        let facts = Facts { config_maps: [("conf".to_owned(), data)].into(), ..Facts::default() };
        let volumes = json!([{"name": "tmp", "emptyDir": {}}, {"name": "conf", "configMap": {"name": "conf"}}]);
        let wanted =
            json!([{"name": "tmp", "mountPath": "/tmp"}, {"name": "conf", "mountPath": "/c"}, {"name": "tmp", "mountPath": "/s", "subPathExpr": "a/$(V)"}]);
        let pod = pod(volumes, wanted);
        set_up(&pod, folder.path(), &facts, "t").unwrap();
        fs::write(folder.path().join("volumes/tmp/kept"), "x").unwrap();
        set_up(&pod, folder.path(), &facts, "t").unwrap();
        assert!(folder.path().join("volumes/tmp/kept").exists(), "making it again keeps what is there");
        let mode = fs::metadata(folder.path().join("volumes/tmp")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o777);
        let made = mounts_of(&pod, folder.path()).unwrap();
        let read_only: Vec<bool> = made.iter().map(|mount| matches!(mount, VolumeMount::Bind(bind) if bind.read_only)).collect();
        assert_eq!(read_only, [false, true, false]);
        assert!(folder.path().join("volumes/tmp/a/dyn").is_dir());
        tear_down(folder.path()).unwrap();
        tear_down(folder.path()).unwrap();
        assert!(!folder.path().join("volumes").exists());
    }

    #[test]
    fn a_subpath_stays_inside_its_volume() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        fs::create_dir(&secret).unwrap();
        let volumes = json!([{"name": "v", "emptyDir": {}}]);
        let with = |path: &str| pod(volumes.clone(), json!([{"name": "v", "mountPath": "/m", "subPath": path}]));
        set_up(&with("x"), folder.path(), &Facts::default(), "t").unwrap();
        std::os::unix::fs::symlink(&secret, folder.path().join("volumes/v/out")).unwrap();
        std::os::unix::fs::symlink("/proc/self/root", folder.path().join("volumes/v/magic")).unwrap();
        for path in ["../x", "/x", "out", "out/deeper", "magic"] {
            let _ = mounts_of(&with(path), folder.path());
        }
        assert!(fs::read_dir(&secret).unwrap().next().is_none());
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let pod = pod(json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]), json!([{"name": "v", "mountPath": "/m"}]));
        let error = mounts_of(&pod, Path::new("/nonexistent")).unwrap_err();
        assert!(error.contains("persistentVolumeClaim, which is not supported"), "{error}");
    }

    #[test]
    fn host_paths_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let of =
            |name: &str, kind: &str| host_path(&HostPathVolumeSource { path: folder.path().join(name).display().to_string(), type_: Some(kind.to_owned()) });
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(of("file", "File").is_ok());
        assert!(of("file", "Directory").unwrap_err().ends_with("is not a directory"));
        assert!(of("none", "Socket").unwrap_err().ends_with("does not exist"));
        assert!(of("new", "DirectoryOrCreate").is_ok() && folder.path().join("new").is_dir());
        assert!(of("made", "FileOrCreate").is_ok() && folder.path().join("made").is_file());
    }
}
