//! What a container is to be: plain data, made by `build` for a step and by `node` for a pod's container.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A container's name, unique below one state directory: letters, digits, `-`, `_`, `.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything the monitor needs to make one container. Serialised into the container's directory (mode 0600: it holds the environment).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its name.
    pub id: ContainerId,
    /// The file system.
    pub rootfs: RootFs,
    /// Program and arguments; the program is looked up in the PATH of `env` inside the root file system.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Absolute working directory; made when missing, always below the root file system.
    pub cwd: String,
    /// Who it runs as.
    pub user: User,
    /// Host name in its own UTS namespace.
    pub hostname: String,
    /// Its network.
    pub network: NetworkNamespace,
    /// Mounts from outside, in order; targets are resolved inside the root file system by file descriptor.
    pub mounts: Vec<VolumeMount>,
    /// Limits by cgroup.
    pub limits: Limits,
    /// Limits of each of its processes; those that are not named are the creator's.
    #[serde(default)]
    pub rlimits: Vec<ResourceLimit>,
    /// What it may do.
    pub security: Security,
    /// Path of the parent cgroup below every hierarchy, such as `strake-1f2e/pod-uid`: made when missing, removed when empty.
    pub cgroup_parent: String,
    /// Where its output goes.
    pub output: Output,
    /// Give it a terminal as stdio.
    pub terminal: bool,
    /// Keep stdin open (attach); otherwise /dev/null.
    pub stdin: bool,
    /// End the container when the process that created it ends: true for a build's RUN, false for pods.
    pub dies_with_creator: bool,
}

/// An overlay, mounted by the monitor in a mount namespace of its own, so that nothing is left when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Read-only directories, the topmost first (the order of overlayfs' lowerdir). May be empty.
    pub lowers: Vec<PathBuf>,
    /// The writable directory.
    pub upper: PathBuf,
    /// overlayfs' work directory, on the same file system as `upper`.
    pub work: PathBuf,
}

/// A user as numbers: names are resolved before (see `resolve_user`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Which network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkNamespace {
    /// A new one with loopback up and nothing else.
    Isolated,
    /// The creator's.
    Host,
    /// The one bound to this path.
    Path(PathBuf),
}

/// A mount from outside the root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeMount {
    /// A file or directory of the host.
    Bind(BindMount),
    /// What is below a directory of the host whose contents others may change.
    Part(PartMount),
    /// Memory.
    Tmpfs(TmpfsMount),
    /// A path of another image or of a build context.
    Layers(LayersMount),
    /// A value that nothing may keep: a file in memory, a variable, or both.
    Secret(SecretMount),
}

/// A secret. The specification says where its value is, never what it is; the value goes to a tmpfs of the container alone and to its first process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretMount {
    /// Where its value can be read while the container is made, such as a memory file of the creator below /proc.
    pub source: PathBuf,
    /// Absolute path in the container; empty when it is a variable only.
    pub target: String,
    /// The variable that it becomes as well.
    pub env: Option<String>,
    /// Mode of the file.
    pub mode: u32,
    /// Owner of the file.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
}

/// A file or directory of layers, mounted without the rest of them: `RUN --mount=type=bind,from=…`. `source` is resolved inside the layers by file
/// descriptor, so a symbolic link in them cannot lead outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayersMount {
    /// Read-only directories, the topmost first; at least one.
    pub lowers: Vec<PathBuf>,
    /// Where writes go (and are thrown away with it by the caller); read-only when `None`.
    pub scratch: Option<Scratch>,
    /// Absolute path in the layers.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
}

/// The writable part of an overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scratch {
    /// The writable directory.
    pub upper: PathBuf,
    /// overlayfs' work directory, on the same file system as `upper`.
    pub work: PathBuf,
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// Host path.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: String,
    /// Read-only.
    pub read_only: bool,
}

/// A bind mount of a path inside a volume. The path is walked when the container is made, and links in it never lead out of the volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartMount {
    /// The volume's directory on the host.
    pub volume: PathBuf,
    /// The path below it, which must exist.
    pub path: String,
    /// Absolute path in the container.
    pub target: String,
    /// Read-only.
    pub read_only: bool,
}

/// A tmpfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    /// Absolute path in the container.
    pub target: String,
    /// 0 is the kernel's default.
    pub size_bytes: u64,
    /// Mode of its root; without, that of the directory it covers, and 1777 where there is none.
    pub mode: Option<u32>,
}

/// Limits; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in bytes; swap is not given on top.
    pub memory_bytes: Option<u64>,
    /// CPU time in thousandths of a core (CFS quota over 100 ms).
    pub cpu_milli: Option<u64>,
    /// Relative weight in thousandths of a core requested (cgroup v1 shares / v2 weight).
    pub cpu_request_milli: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// oom_score_adj of the first process; values below the creator's are raised to it.
    pub oom_score_adj: Option<i32>,
    /// Be below the parent cgroup for every controller that this machine has, so that the parent's limits hold, even without limits of its own.
    #[serde(default)]
    pub below_parent: bool,
    /// How much its programs give way to others when processors are scarce (nice(2)), 0 to 19.
    #[serde(default)]
    pub niceness: u8,
}

/// A limit of each process (getrlimit(2)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// Its name without `RLIMIT_`, in lower case: `nofile`.
    pub name: String,
    /// What is in force; `None` is no limit.
    pub soft: Option<u64>,
    /// How far a process may raise it; `None` is no limit.
    pub hard: Option<u64>,
}

/// What a container may do. The default is the safe one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// Everything allowed: all capabilities of the creator, no seccomp, nothing masked, host devices.
    pub privileged: bool,
    /// Capabilities added to the default set, without `CAP_`; `ALL` is all.
    pub add_capabilities: Vec<String>,
    /// Capabilities taken away, without `CAP_`; `ALL` is all.
    pub drop_capabilities: Vec<String>,
    /// Set no_new_privs. (A build's RUN leaves it unset, as BuildKit does.)
    pub no_new_privileges: bool,
    /// The RuntimeDefault seccomp filter.
    pub seccomp: bool,
    /// Root file system read-only.
    pub read_only_root: bool,
}

impl Default for Security {
    fn default() -> Self {
        Security {
            privileged: false,
            add_capabilities: Vec::new(),
            drop_capabilities: Vec::new(),
            no_new_privileges: true,
            seccomp: true,
            read_only_root: false,
        }
    }
}

/// Where stdout and stderr go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// A log file in the CRI format (`time stream F|P text`), written by the monitor, rotated at `max_bytes` keeping `max_files`.
    Log { path: PathBuf, max_bytes: u64, max_files: u32 },
    /// Handed to the caller of `create` as a pipe that carries both streams (a build's RUN).
    Pipe,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed it for memory.
    pub oom_killed: bool,
    /// When it started, in nanoseconds since 1970.
    pub started_at_ns: i64,
    /// When it ended, in nanoseconds since 1970.
    pub finished_at_ns: i64,
    /// Why it never ran (program not found, permission denied, …), for people; empty when it ran.
    pub error: String,
}

/// What is known of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerStatus {
    /// Made, not started.
    Created { pid: i32 },
    /// Running.
    Running { pid: i32, started_at_ns: i64 },
    /// Ended; the record stays until `remove`.
    Exited(ExitRecord),
}

/// A further process in a running container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Environment added to the container's.
    pub env: Vec<String>,
    /// Working directory; the container's when `None`.
    pub cwd: Option<String>,
    /// Another user than the container's.
    pub user: Option<User>,
    /// Give it a terminal.
    pub terminal: bool,
    /// Keep stdin open.
    pub stdin: bool,
}
