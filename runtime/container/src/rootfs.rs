//! The container's view of the file system: its layers, the system's own mounts, what is hidden of them, and the volumes.
//!
//! Nothing but `/dev`'s six nodes can be opened as a device in a container that is not privileged: every other mount has `nodev`, so the right to
//! make device nodes (which a build's RUN has, as elsewhere) opens none, and no device cgroup is needed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, makedev};
use rustix::mount::MountAttrFlags;

use crate::failure::{Doing, Failure};
use crate::mount::{self, INERT, Kind, Root};
use crate::overlay;
use crate::spec::{ContainerSpec, LayersMount, PartMount, Scratch, SecretMount, TmpfsMount, VolumeMount};

/// Hidden: they tell of the host, or act on it.
const MASKED: [&str; 12] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "proc/scsi",
    "sys/firmware",
    "sys/devices/virtual/powercap",
];

/// Readable only: they set the host's or the kernel's behaviour.
const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// Name and device numbers of what every container finds in `/dev`.
const DEVICES: [(&str, u32, u32); 6] = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Links in `/dev`.
const LINKS: [(&str, &str); 5] =
    [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx")];

/// A furnished root file system.
#[derive(Debug)]
pub(crate) struct Furnished {
    /// The root and what was made in it.
    pub root: Root,
    /// The devpts instance.
    pub terminals: OwnedFd,
    /// The directory `/dev`.
    pub dev: OwnedFd,
}

/// Mounts everything below `at`, in this process's own mount namespace. `cgroups` are the container's cgroup directories as (controller, path); an
/// empty controller name means the unified hierarchy.
pub(crate) fn furnish(spec: &ContainerSpec, at: &Path, empty: &Path, cgroups: &[(String, PathBuf)]) -> Result<Furnished, Failure> {
    let privileged = spec.security.privileged;
    let volumes = open_volumes(spec, at)?;
    let lowers = if spec.rootfs.lowers.is_empty() { &[empty.to_owned()][..] } else { &spec.rootfs.lowers };
    let scratch = Scratch { upper: spec.rootfs.upper.clone(), work: spec.rootfs.work.clone() };
    let attributes = if privileged { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_NODEV };
    let fd = overlay::mount(lowers, Some(&scratch), at, attributes).doing_to("mount the root file system on", &scratch.upper.display())?;
    let mut root = Root { fd, stubs: Vec::new() };

    let proc_target = root.system_directory("proc")?;
    let sys_target = root.system_directory("sys")?;
    let dev_target = root.system_directory("dev")?;
    let proc = mount::new("proc", &[], INERT).doing("mount /proc")?;
    mount::attach(&proc, proc_target).doing("mount /proc")?;
    let sys_attributes = if privileged { INERT } else { INERT | MountAttrFlags::MOUNT_ATTR_RDONLY };
    let sys = mount::new("sysfs", &[], sys_attributes).doing("mount /sys")?;
    mount::attach(&sys, sys_target).doing("mount /sys")?;
    show_cgroups(&sys, cgroups, privileged)?;
    let (dev, terminals, nodes) = mount_dev(dev_target, privileged)?;
    if !privileged {
        hide(&root, &nodes)?;
    }
    for (volume, source) in mounted(spec).zip(volumes) {
        let (path, source) = (target_of(volume), source);
        let kind = Kind::of(&source).doing_to("inspect the source of", &path)?;
        if mount::clean(path).is_empty() {
            return Err(Failure::new("nothing can be mounted over the root directory"));
        }
        let known = root.stubs.len();
        let target = root.target(path, kind)?;
        if matches!(volume, VolumeMount::Tmpfs(TmpfsMount { mode: None, .. })) && root.stubs.len() == known {
            mount::same_mode(&target, &source).doing_to("set the mode of", &path)?;
        }
        mount::attach(source, target).doing_to("mount on", &path)?;
    }
    Ok(Furnished { root, terminals, dev })
}

fn target_of(volume: &VolumeMount) -> &str {
    match volume {
        VolumeMount::Bind(bind) => &bind.target,
        VolumeMount::Tmpfs(tmpfs) => &tmpfs.target,
        VolumeMount::Part(part) => &part.target,
        VolumeMount::Layers(layers) => &layers.target,
        VolumeMount::Secret(secret) => &secret.target,
    }
}

/// All but the secrets that are variables only.
fn mounted(spec: &ContainerSpec) -> impl Iterator<Item = &VolumeMount> {
    spec.mounts.iter().filter(|volume| !matches!(volume, VolumeMount::Secret(secret) if secret.target.is_empty()))
}

/// Opens every volume as a mount that is attached nowhere, before anything of the image is mounted.
fn open_volumes(spec: &ContainerSpec, at: &Path) -> Result<Vec<OwnedFd>, Failure> {
    let base = if spec.security.privileged { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_NODEV };
    let open = |volume: &VolumeMount| match volume {
        VolumeMount::Bind(bind) => {
            let source = mount::copy(CWD, &bind.source, true).doing_to("open the mount source", &bind.source.display())?;
            let attributes = if bind.read_only { base | MountAttrFlags::MOUNT_ATTR_RDONLY } else { base };
            mount::set_attributes(&source, attributes, true).doing_to("restrict the mount of", &bind.source.display())?;
            Ok(source)
        }
        VolumeMount::Part(part) => {
            let source = open_part(part).doing_to("open the mount source", &part.volume.join(&part.path).display())?;
            let attributes = if part.read_only { base | MountAttrFlags::MOUNT_ATTR_RDONLY } else { base };
            mount::set_attributes(&source, attributes, true).doing_to("restrict the mount of", &part.path)?;
            Ok(source)
        }
        VolumeMount::Tmpfs(tmpfs) => {
            let (size, mode) = (tmpfs.size_bytes.to_string(), format!("{:o}", tmpfs.mode.unwrap_or(0o1777) & 0o7777));
            let mut options = vec![("mode", mode.as_str())];
            if tmpfs.size_bytes != 0 {
                options.push(("size", size.as_str()));
            }
            mount::new("tmpfs", &options, base | MountAttrFlags::MOUNT_ATTR_NOSUID).doing_to("make a tmpfs for", &tmpfs.target)
        }
        VolumeMount::Layers(layers) => open_layers(layers, at, base).doing_to("open the mount source", &layers.source),
        VolumeMount::Secret(secret) => open_secret(secret, at).doing_to("make the secret", &secret.target),
    };
    mounted(spec).map(open).collect()
}

/// Opened here, in the namespace that is mounted in: the kernel copies no mount of another one.
fn open_part(part: &PartMount) -> io::Result<OwnedFd> {
    let volume = rustix::fs::open(&part.volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    mount::copy(mount::open_in_root(volume, &mount::clean(&part.path), OFlags::PATH)?, Path::new(""), true)
}

/// The value in a file of a tmpfs that nothing else can reach: the root file system will cover it, and the namespace ends with the container.
fn open_secret(secret: &SecretMount, at: &Path) -> io::Result<OwnedFd> {
    let value = std::fs::read(&secret.source)?;
    let size = (value.len().max(1) * 2 + (64 << 10)).to_string();
    let tmpfs = mount::new("tmpfs", &[("mode", "700"), ("size", size.as_str())], INERT)?;
    let place = rustix::fs::open(at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    mount::attach(&tmpfs, place)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&tmpfs, "value", flags, Mode::from_raw_mode(0o600))?;
    let mut file = std::fs::File::from(file);
    io::Write::write_all(&mut file, &value)?;
    // The owner first: a change of owner takes set-uid bits away.
    std::os::unix::fs::fchown(&file, Some(secret.uid), Some(secret.gid))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(secret.mode & 0o7777))?;
    drop(file);
    let value = rustix::fs::openat(&tmpfs, "value", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let copy = mount::copy(value, Path::new(""), false)?;
    mount::set_attributes(&copy, INERT | MountAttrFlags::MOUNT_ATTR_RDONLY, false)?;
    Ok(copy)
}

/// The overlay is mounted where the root file system will cover it, because a path can only be copied out of a mount that is attached.
fn open_layers(layers: &LayersMount, at: &Path, base: MountAttrFlags) -> io::Result<OwnedFd> {
    let attributes = if layers.scratch.is_some() { base } else { base | MountAttrFlags::MOUNT_ATTR_RDONLY };
    let root = match (layers.lowers.as_slice(), &layers.scratch) {
        ([], None) => return Err(io::ErrorKind::NotFound.into()),
        ([only], None) => rustix::fs::open(only, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?,
        (lowers, scratch) => overlay::mount(lowers, scratch.as_ref(), at, base)?,
    };
    let source = mount::open_in_root(root, &mount::clean(&layers.source), OFlags::PATH)?;
    let copy = mount::copy(source, Path::new(""), false)?;
    mount::set_attributes(&copy, attributes, false)?;
    Ok(copy)
}

/// `/sys/fs/cgroup`: the container's own directories and nothing above, read-only (also each v1 controller by itself).
fn show_cgroups(sys: &OwnedFd, cgroups: &[(String, PathBuf)], privileged: bool) -> Result<(), Failure> {
    let Ok(target) = mount::open_plain(sys, "fs/cgroup") else { return Ok(()) };
    let attributes = if privileged { INERT } else { INERT | MountAttrFlags::MOUNT_ATTR_RDONLY };
    let own = |path: &Path| -> io::Result<OwnedFd> {
        let copy = mount::copy(CWD, path, true)?;
        mount::set_attributes(&copy, attributes, true)?;
        Ok(copy)
    };
    match cgroups {
        [] => Ok(()),
        [(controller, path)] if controller.is_empty() => own(path).and_then(|copy| mount::attach(copy, target)).doing("mount /sys/fs/cgroup"),
        several => {
            let tmpfs = mount::new("tmpfs", &[("mode", "755"), ("size", "64k")], INERT).doing("mount /sys/fs/cgroup")?;
            mount::attach(&tmpfs, target).doing("mount /sys/fs/cgroup")?;
            for (controller, path) in several {
                let mounted = rustix::fs::mkdirat(&tmpfs, controller.as_str(), Mode::from_raw_mode(0o755)).map_err(io::Error::from).and_then(|()| {
                    let place = mount::open_plain(&tmpfs, controller)?;
                    mount::attach(own(path)?, place)
                });
                mounted.doing_to("mount /sys/fs/cgroup for", controller)?;
            }
            mount::set_attributes(&tmpfs, attributes, false).doing("mount /sys/fs/cgroup")
        }
    }
}

/// `/dev`. Gives its directory, the devpts instance, and the directory that holds the real nodes.
fn mount_dev(target: OwnedFd, privileged: bool) -> Result<(OwnedFd, OwnedFd, OwnedFd), Failure> {
    let nodes =
        mount::new("tmpfs", &[("mode", "755"), ("size", "64k")], MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC).doing("mount /dev")?;
    mount::attach(&nodes, &target).doing("mount /dev")?;
    for (name, major, minor) in DEVICES {
        make_node(&nodes, name, 0o666, makedev(major, minor)).doing_to("make /dev/", &name)?;
    }
    let dev = if privileged {
        copy_host_devices(&nodes);
        nodes.try_clone().doing("duplicate a descriptor")?
    } else {
        // The nodes stay in a file system that this one covers; they are mounted into it one by one.
        let dev = mount::new("tmpfs", &[("mode", "755"), ("size", "64k")], INERT).doing("mount /dev")?;
        mount::attach(&dev, &nodes).doing("mount /dev")?;
        for (name, ..) in DEVICES {
            expose(&nodes, &dev, name).doing_to("mount /dev/", &name)?;
        }
        dev
    };
    for (name, to) in LINKS {
        rustix::fs::symlinkat(to, &dev, name).doing_to("make /dev/", &name)?;
    }
    let terminals =
        mount::new("devpts", &[("ptmxmode", "666"), ("mode", "620"), ("gid", "5")], MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC);
    let terminals = terminals.doing("mount /dev/pts")?;
    let shared = mount::new("tmpfs", &[("mode", "1777"), ("size", "65536k")], INERT).doing("mount /dev/shm")?;
    let queues = mount::new("mqueue", &[], INERT).doing("mount /dev/mqueue")?;
    for (name, what) in [("pts", &terminals), ("shm", &shared), ("mqueue", &queues)] {
        let mounted = rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755))
            .map_err(io::Error::from)
            .and_then(|()| mount::attach(what, mount::open_plain(&dev, name)?));
        mounted.doing_to("mount /dev/", &name)?;
    }
    Ok((dev, terminals, nodes))
}

/// The null device of the root file system that this process is in. The host's own must never be handed in: its mode could be changed through it.
pub(crate) fn open_null() -> io::Result<OwnedFd> {
    let top = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let null = rustix::fs::openat2(top, "dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    let stat = rustix::fs::fstat(&null)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != makedev(1, 3) {
        return Err(io::Error::other("/dev/null is not the null device"));
    }
    Ok(null)
}

fn make_node(dir: &OwnedFd, name: &str, mode: u32, device: u64) -> io::Result<()> {
    rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::from_raw_mode(mode), device)?;
    Ok(())
}

/// Makes a node of the covered file system visible.
fn expose(nodes: &OwnedFd, dev: &OwnedFd, name: &str) -> io::Result<()> {
    place_file(dev, name)?;
    mount::attach(mount::copy(nodes, Path::new(name), false)?, mount::open_plain(dev, name)?)
}

/// An empty file to mount on.
pub(crate) fn place_file(dir: impl AsFd, name: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    drop(rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o666))?);
    Ok(())
}

/// Privileged: the host's device nodes, those directly in its `/dev`. One that cannot be made is left out.
fn copy_host_devices(dev: &OwnedFd) {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir("/dev") else { return };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let kind = FileType::from_raw_mode(metadata.mode());
        if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) && entry.file_name() != "ptmx" && entry.file_name() != "console" {
            let _ = rustix::fs::mknodat(dev, entry.file_name(), kind, Mode::from_raw_mode(metadata.mode() & 0o7777), metadata.rdev());
        }
    }
}

/// Masks and write-protects parts of /proc and /sys. The null device that covers files is our own node, not one found in the image.
fn hide(root: &Root, nodes: &OwnedFd) -> Result<(), Failure> {
    let mut nothing: Option<OwnedFd> = None;
    for path in MASKED {
        let Ok(target) = mount::open_plain(&root.fd, path) else { continue };
        let cover = match (Kind::of(&target).doing_to("mask", &path)?, &nothing) {
            (Kind::File, _) => mount::copy(nodes, Path::new("null"), false),
            (Kind::Directory, Some(nothing)) => mount::copy(nothing, Path::new(""), false),
            (Kind::Directory, None) => mount::new("tmpfs", &[("mode", "755"), ("size", "4k")], INERT | MountAttrFlags::MOUNT_ATTR_RDONLY),
        };
        let cover = cover.doing_to("mask", &path)?;
        mount::attach(&cover, &target).doing_to("mask", &path)?;
        if nothing.is_none() && Kind::of(&target).is_ok_and(|kind| kind == Kind::Directory) {
            nothing = Some(cover);
        }
    }
    for path in READ_ONLY {
        let Ok(target) = mount::open_plain(&root.fd, path) else { continue };
        let protected = mount::copy(&target, Path::new(""), true).and_then(|copy| {
            mount::set_attributes(&copy, INERT | MountAttrFlags::MOUNT_ATTR_RDONLY, true)?;
            mount::attach(copy, target)
        });
        protected.doing_to("write-protect", &path)?;
    }
    Ok(())
}
