//! Overlay mounts: detached, so that nothing is visible anywhere until the caller attaches it. By the new mount API where the kernel's overlayfs speaks
//! it in full (Linux 6.7), else by mount(2) in a mount namespace that nobody else sees.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, mount, mount_change, open_tree,
};

/// Longest string that `fsconfig` accepts, its end mark left out.
const MAX_VALUE: usize = 255;

/// A layer must be whole in its own directory: no redirects, no metadata-only copies, no index of origins.
const OFF: [(&str, &str); 4] = [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off"), ("xino", "off")];

/// Why an overlay could not be mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// The kernel refused to start a mount.
    #[error("cannot start an overlay mount (is overlayfs available, and are we root?)")]
    Open { source: io::Error },
    /// The kernel refused a parameter.
    #[error("cannot set {key} of an overlay mount to {}", value.display())]
    Parameter { key: &'static str, value: PathBuf, source: io::Error },
    /// The kernel refused the whole.
    #[error("cannot mount an overlay of {lowers} layers with upper directory {}{}", upper.display(), said(kernel))]
    Create { lowers: usize, upper: PathBuf, kernel: String, source: io::Error },
    /// No lower directory was given.
    #[error("an overlay needs at least one lower directory")]
    NoLower,
}

/// What to mount.
#[derive(Clone, Copy, Debug)]
pub struct Overlay<'a> {
    /// Lower directories, topmost first.
    pub lowers: &'a [PathBuf],
    /// Upper and work directory; nothing for a read-only mount (which needs two lower directories).
    pub writable: Option<(&'a Path, &'a Path)>,
    /// Whether `sync` inside does nothing: for builds, whose result is synced as a whole. Package managers sync after every file.
    pub volatile: bool,
}

/// A writable overlay, not yet attached anywhere: use `move_mount` or work inside it through the descriptor.
pub fn mount_overlay_detached(lowers: &[PathBuf], upper: &Path, work: &Path) -> Result<OwnedFd, OverlayError> {
    Overlay { lowers, writable: Some((upper, work)), volatile: false }.mount_detached()
}

impl Overlay<'_> {
    /// Mounts it, attached nowhere.
    pub fn mount_detached(&self) -> Result<OwnedFd, OverlayError> {
        if self.lowers.is_empty() {
            return Err(OverlayError::NoLower);
        }
        if takes_layers_one_by_one() { self.by_context() } else { self.in_a_namespace_of_its_own() }
    }

    fn by_context(&self) -> Result<OwnedFd, OverlayError> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| OverlayError::Open { source: error.into() })?;
        // Keeps the descriptors by which long paths are named until the mount is made.
        let mut held = Vec::new();
        for lower in self.lowers {
            set_path(&context, "lowerdir+", lower, &mut held)?;
        }
        if let Some((upper, work)) = self.writable {
            set_path(&context, "upperdir", upper, &mut held)?;
            set_path(&context, "workdir", work, &mut held)?;
        }
        // Where the kernel lacks one of the options, it lacks the feature too.
        for (key, value) in OFF {
            let _ = fsconfig_set_string(context.as_fd(), key, value);
        }
        if self.volatile && self.writable.is_some() {
            let _ = fsconfig_set_flag(context.as_fd(), "volatile");
        }
        fsconfig_create(context.as_fd()).map_err(|error| self.refused(kernel_says(&context), error))?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(|error| self.refused(kernel_says(&context), error))
    }

    /// Older kernels want all layers in one option, which is too long for the new interface, and mount(2) attaches what it mounts. So a thread leaves
    /// the mount namespace for a copy of it, mounts there, keeps a detached copy of the mount, and its namespace ends with it.
    fn in_a_namespace_of_its_own(&self) -> Result<OwnedFd, OverlayError> {
        let mounted = std::thread::scope(|scope| scope.spawn(|| self.by_options()).join());
        mounted.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// To be called by a thread that does nothing else.
    fn by_options(&self) -> Result<OwnedFd, OverlayError> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(|error| OverlayError::Open { source: error.into() })?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).map_err(|error| OverlayError::Open { source: error.into() })?;
        // Options must fit into a page, and some characters in them separate: directories are named by descriptors (opened in this namespace, for
        // others are refused), and those by their numbers alone, as seen from the directory of descriptors.
        let mut held = Vec::new();
        let mut name = |key: &'static str, path: &Path| {
            let opened = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            let fd = opened.map_err(|error| OverlayError::Parameter { key, value: path.to_owned(), source: error.into() })?;
            let number = fd.as_raw_fd().to_string();
            held.push(fd);
            Ok(number)
        };
        let lowers = self.lowers.iter().map(|lower| name("lowerdir", lower)).collect::<Result<Vec<_>, _>>()?;
        let mut options = format!("lowerdir={}", lowers.join(":"));
        if let Some((upper, work)) = self.writable {
            options.push_str(&format!(",upperdir={},workdir={}", name("upperdir", upper)?, name("workdir", work)?));
            options.push_str(if self.volatile { ",volatile" } else { "" });
        }
        OFF.iter().for_each(|(key, value)| options.push_str(&format!(",{key}={value}")));
        self.mount_here(&options).map_err(|error| self.refused(String::new(), error))
    }

    /// Over the topmost layer, which only this thread sees covered.
    fn mount_here(&self, options: &str) -> Result<OwnedFd, Errno> {
        let at = std::path::absolute(&self.lowers[0]).map_err(|_| Errno::NOENT)?;
        let options = CString::new(options).map_err(|_| Errno::INVAL)?;
        rustix::process::chdir("/proc/self/fd")?;
        mount("strake", &at, "overlay", MountFlags::empty(), options.as_c_str())?;
        open_tree(CWD, &at, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
    }

    fn refused(&self, kernel: String, error: Errno) -> OverlayError {
        let upper = self.writable.map(|(upper, _)| upper.to_owned()).unwrap_or_default();
        OverlayError::Create { lowers: self.lowers.len(), upper, kernel, source: error.into() }
    }
}

/// Whether this kernel has `lowerdir+`. Before 6.5, overlayfs took any parameter of the new interface unseen and refused it, with a line in the kernel's
/// log, when the mount was made; so one that no kernel knows is tried first.
fn takes_layers_one_by_one() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        // What is wrong here is said by the mount itself.
        let Ok(context) = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) else { return true };
        let looks = fsconfig_set_flag(context.as_fd(), "strake") == Err(Errno::INVAL);
        looks && fsconfig_set_string(context.as_fd(), "lowerdir+", "/") != Err(Errno::INVAL)
    })
}

fn set_path(context: &OwnedFd, key: &'static str, path: &Path, held: &mut Vec<OwnedFd>) -> Result<(), OverlayError> {
    let refused = |error: Errno| OverlayError::Parameter { key, value: path.to_owned(), source: error.into() };
    if path.as_os_str().len() <= MAX_VALUE {
        return fsconfig_set_string(context.as_fd(), key, path).map_err(refused);
    }
    let short = shorten(path, held).map_err(refused)?;
    fsconfig_set_string(context.as_fd(), key, short.as_str()).map_err(refused)
}

fn shorten(path: &Path, held: &mut Vec<OwnedFd>) -> Result<String, Errno> {
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
    held.push(fd);
    Ok(name)
}

/// The reasons that the kernel wrote into the mount's context.
fn kernel_says(context: &OwnedFd) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(length) = rustix::io::read(context, &mut buffer) {
        if length == 0 {
            break;
        }
        let line = String::from_utf8_lossy(&buffer[..length]);
        lines.push(line.trim_start_matches(['e', 'w', 'i']).trim().to_owned());
    }
    lines.join("; ")
}

fn said(kernel: &str) -> String {
    if kernel.is_empty() { String::new() } else { format!(" ({kernel})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_mounting_give_the_same() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: mounting overlays needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        // Names that the options of mount(2) would take apart, and more of them than fit into a page.
        let lowers: Vec<PathBuf> = (0..120).map(|number| make(&format!("lower,with:odd\\characters-and-a-long-name-{number:0>40}"))).collect();
        std::fs::write(lowers[119].join("deep"), "deep").unwrap();
        std::fs::write(lowers[0].join("file"), "top").unwrap();
        std::fs::write(lowers[1].join("file"), "below").unwrap();
        for old in [false, true] {
            let (upper, work) = (make(&format!("upper-{old}")), make(&format!("work-{old}")));
            for writable in [Some((upper.as_path(), work.as_path())), None] {
                let overlay = Overlay { lowers: &lowers, writable, volatile: false };
                let mount = if old { overlay.in_a_namespace_of_its_own() } else { overlay.mount_detached() }.unwrap();
                let at = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
                assert_eq!(std::fs::read_to_string(at.join("file")).unwrap(), "top");
                assert_eq!(std::fs::read_to_string(at.join("deep")).unwrap(), "deep");
                assert_eq!(std::fs::write(at.join("new"), "new").is_ok(), writable.is_some());
                assert_eq!(std::fs::read_to_string(upper.join("new")).unwrap(), "new");
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains("lower,with"), "nothing is mounted where others see it: {mounts}");
        let missing = Overlay { lowers: &[dir.path().join("missing")], writable: None, volatile: false };
        assert!(missing.in_a_namespace_of_its_own().unwrap_err().to_string().contains("missing"));
    }
}
