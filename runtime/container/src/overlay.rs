//! Mounting overlays of any number of layers.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};

use crate::mount;
use crate::spec::Scratch;

/// Features that would make the upper directory unreadable for anything but this very mount: a layer is committed from it.
const OFF: [&str; 3] = ["index", "redirect_dir", "metacopy"];

/// Mounts an overlay at a path of this mount namespace and gives its root. `volatile` is always on: what a container writes is either thrown away or
/// synced when it is committed as a layer, so syncing it on the way (each of a package manager's hundreds of fsyncs) buys nothing.
pub(crate) fn mount(lowers: &[PathBuf], scratch: Option<&Scratch>, at: &Path, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    if let Some(scratch) = scratch {
        // Left by an earlier volatile mount of the same directories; it only warns of a crash of the machine in between.
        let _ = fs::remove_dir_all(scratch.work.join("work/incompat"));
    }
    if !takes_layers_one_by_one() {
        return classic(lowers, scratch, at, attributes);
    }
    let mount = modern(lowers, scratch, attributes)?;
    let target = rustix::fs::open(at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    mount::attach(&mount, target)?;
    Ok(mount)
}

/// Whether this kernel has `lowerdir+` (Linux 6.7). Before 6.5, overlayfs took any parameter of the new interface unseen and refused it, with a line in
/// the kernel's log, when the mount was made; so one that no kernel knows is tried first.
fn takes_layers_one_by_one() -> bool {
    // What is wrong here is said by the mount itself.
    let Ok(context) = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) else { return true };
    let looks = rustix::mount::fsconfig_set_flag(context.as_fd(), "strake") == Err(Errno::INVAL);
    looks && rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir+", "/") != Err(Errno::INVAL)
}

fn modern(lowers: &[PathBuf], scratch: Option<&Scratch>, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    rustix::mount::fsconfig_set_string(context, "source", "strake")?;
    for lower in lowers {
        rustix::mount::fsconfig_set_string(context, "lowerdir+", lower)?;
    }
    if let Some(scratch) = scratch {
        rustix::mount::fsconfig_set_string(context, "upperdir", &scratch.upper)?;
        rustix::mount::fsconfig_set_string(context, "workdir", &scratch.work)?;
        rustix::mount::fsconfig_set_flag(context, "volatile")?;
    }
    for feature in OFF {
        rustix::mount::fsconfig_set_string(context, feature, "off")?;
    }
    rustix::mount::fsconfig_create(context)?;
    Ok(rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// By mount(2), whose options must fit into one page: every directory is named by a descriptor, which also spares escaping.
fn classic(lowers: &[PathBuf], scratch: Option<&Scratch>, at: &Path, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let mut held = Vec::new();
    let mut name = |path: &Path| -> io::Result<String> {
        let fd = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
        held.push(fd);
        Ok(name)
    };
    let lowers: Vec<String> = lowers.iter().map(|lower| name(lower)).collect::<io::Result<_>>()?;
    let mut options = format!("lowerdir={}", lowers.join(":"));
    if let Some(scratch) = scratch {
        options.push_str(&format!(",upperdir={},workdir={},volatile", name(&scratch.upper)?, name(&scratch.work)?));
    }
    for feature in OFF {
        options.push_str(&format!(",{feature}=off"));
    }
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount("strake", at, "overlay", MountFlags::empty(), options.as_c_str())?;
    let root = rustix::fs::open(at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    mount::set_attributes(&root, attributes, false)?;
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs in a mount namespace of its own, which goes with the thread.
    fn in_own_namespace(work: impl FnOnce() + Send) {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: mounting overlays needs root");
            return;
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // SAFETY: the thread shares nothing that these flags part.
                unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS | rustix::thread::UnshareFlags::FS) }.unwrap();
                crate::program::make_mounts_private().unwrap();
                work();
            });
        });
    }

    #[test]
    fn both_ways_of_mounting_give_the_same() {
        in_own_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            let make = |name: &str| {
                let path = dir.path().join(name);
                fs::create_dir_all(&path).unwrap();
                path
            };
            // Names that the options of mount(2) would take apart, and more of them than fit into a page.
            let lowers: Vec<PathBuf> = (0..120).map(|number| make(&format!("lower,with:odd\\characters-and-a-long-name-{number:0>40}"))).collect();
            fs::write(lowers[119].join("deep"), "deep").unwrap();
            fs::write(lowers[0].join("file"), "top").unwrap();
            fs::write(lowers[1].join("file"), "below").unwrap();
            for way in [false, true] {
                let scratch = Scratch { upper: make(&format!("upper-{way}")), work: make(&format!("work-{way}")) };
                let at = make(&format!("at-{way}"));
                if way {
                    classic(&lowers, Some(&scratch), &at, MountAttrFlags::MOUNT_ATTR_NODEV).unwrap();
                } else {
                    mount(&lowers, Some(&scratch), &at, MountAttrFlags::MOUNT_ATTR_NODEV).unwrap();
                }
                assert_eq!(fs::read_to_string(at.join("file")).unwrap(), "top");
                assert_eq!(fs::read_to_string(at.join("deep")).unwrap(), "deep");
                fs::write(at.join("new"), "new").unwrap();
                assert_eq!(fs::read_to_string(scratch.upper.join("new")).unwrap(), "new");
                let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
                let line = table.lines().find(|line| line.contains(at.to_str().unwrap())).unwrap();
                assert!(line.contains("nodev") && line.contains("volatile"), "{line}");
            }
        });
    }
}
