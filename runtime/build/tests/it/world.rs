//! A store, a build context and plans made by hand.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use strake_build::{BuildError, BuildOptions, Builder, BuiltImage, CancelFlag, Progress, ProgressEvent};
use strake_container::{Executor, LinuxExecutor};
use strake_oci::{Digest, ImageConfig};
use strake_plan::{BuildPlan, Chown, Context, ContextKind, Copy, CopySource, Image, ImageHistory, Mkdir, Mount, Network, Op, Origin, Run, StepIndex};
use strake_store::{Overlay, Store};

pub fn has_busybox() -> bool {
    Path::new("/bin/busybox").exists()
}

/// A store and a context in directories that go away.
pub struct World {
    dir: PathBuf,
    _kept: Option<tempfile::TempDir>,
    pub store: Arc<Store>,
    pub executor: Arc<dyn Executor>,
    pub options: BuildOptions,
    pub told: Told,
}

/// What a build told, in words.
#[derive(Default)]
pub struct Told {
    pub lines: Mutex<Vec<String>>,
}

impl Progress for Told {
    fn event(&self, event: ProgressEvent<'_>) {
        let line = match event {
            ProgressEvent::Started { step, .. } => format!("started {}", step.origin.text),
            ProgressEvent::Cached { step, .. } => format!("cached {}", step.origin.text),
            ProgressEvent::Output { bytes, .. } => format!("output {}", String::from_utf8_lossy(bytes)),
            ProgressEvent::Warning { text, .. } => format!("warning {text}"),
            ProgressEvent::Done { step, .. } => format!("done {}", step.origin.text),
            ProgressEvent::Failed { step, error, .. } => format!("failed {}: {error}", step.origin.text),
            ProgressEvent::CacheGivenUp { name, reason } => format!("cache given up {name}: {reason}"),
            ProgressEvent::Assembled { image } => format!("assembled {}", image.tags.join(" ")),
            _ => "something new".to_owned(),
        };
        self.lines.lock().unwrap().push(line);
    }
}

impl Told {
    /// What was told since this was last asked.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }

    /// The steps that were executed, by their text.
    pub fn executed(&self) -> Vec<String> {
        self.take().iter().filter_map(|line| line.strip_prefix("done ")).map(str::to_owned).collect()
    }
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::at(dir.path());
        world._kept = Some(dir);
        world
    }

    /// The world of another process.
    pub fn at(dir: &Path) -> Self {
        fs::create_dir_all(dir.join("context")).unwrap();
        let store = Arc::new(Store::open(&dir.join("root")).unwrap());
        let executor = Arc::new(LinuxExecutor::new(store.root(), "/proc/self/exe".into()).unwrap());
        World { dir: dir.to_owned(), _kept: None, store, executor, options: BuildOptions::default(), told: Told::default() }
    }

    pub fn context(&self) -> PathBuf {
        self.dir.join("context")
    }

    /// Writes a file of the context.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.context().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn link(&self, path: &str, target: &str) {
        let path = self.context().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    pub fn plan(&self) -> Planned {
        self.plan_ignoring(&[])
    }

    /// A plan whose context has an ignore file.
    pub fn plan_ignoring(&self, ignore: &[&str]) -> Planned {
        let kind = ContextKind::Directory { path: self.context().to_str().unwrap().to_owned() };
        let context = Context { kind, ignore: ignore.iter().map(|line| (*line).to_owned()).collect() };
        let mut plan = BuildPlan::default();
        plan.contexts.insert("main".to_owned(), context);
        Planned { plan, line: 0 }
    }

    pub fn build(&self, planned: &Planned) -> Result<Vec<BuiltImage>, BuildError> {
        self.build_with(planned, &CancelFlag::new())
    }

    pub fn build_with(&self, planned: &Planned, cancel: &CancelFlag) -> Result<Vec<BuiltImage>, BuildError> {
        Builder::new(Arc::clone(&self.store), Arc::clone(&self.executor), self.options.clone()).run(&planned.plan, &self.told, cancel)
    }

    /// Builds a plan with one image and lists its files.
    pub fn files(&self, planned: &Planned) -> Vec<String> {
        let built = self.build(planned).unwrap_or_else(|error| panic!("{}", chain_of(&error)));
        self.list(&built[0])
    }

    /// The message of a build that fails, with its causes.
    pub fn failure(&self, planned: &Planned) -> String {
        match self.build(planned) {
            Ok(built) => panic!("built {:?}", self.list(&built[0])),
            Err(error) => chain_of(&error),
        }
    }

    /// All files of an image: kind, mode, owner, path, and content.
    pub fn list(&self, image: &BuiltImage) -> Vec<String> {
        let mut lines = Vec::new();
        self.look(image, |root| list_below(root, Path::new(""), &mut lines));
        lines
    }

    /// The files of an image's topmost layer alone.
    pub fn top_layer(&self, image: &BuiltImage) -> Vec<String> {
        let mut lines = Vec::new();
        let chain = image.layers.last().unwrap().chain_id;
        list_below(&self.store.lowers(&chain).unwrap()[0], Path::new(""), &mut lines);
        lines
    }

    pub fn look(&self, image: &BuiltImage, look: impl FnOnce(&Path)) {
        let Some(layer) = image.layers.last() else { return };
        let mut lowers = self.store.lowers(&layer.chain_id).unwrap();
        lowers.push(self.store.root().join("empty"));
        let mount = Overlay { lowers: &lowers, writable: None, volatile: true }.mount_detached().unwrap();
        look(Path::new(&format!("/proc/self/fd/{}/.", mount.as_raw_fd())));
    }
}

/// An error with its causes.
pub fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

fn list_below(root: &Path, relative: &Path, lines: &mut Vec<String>) {
    let mut names: Vec<_> = fs::read_dir(root.join(relative)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let relative = relative.join(name);
        let path = root.join(&relative);
        let metadata = path.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        let (mode, owner) = (metadata.mode() & 0o7777, format!("{}:{}", metadata.uid(), metadata.gid()));
        let shown = relative.display();
        if kind.is_symlink() {
            lines.push(format!("l {owner} {shown} -> {}", fs::read_link(&path).unwrap().display()));
        } else if kind.is_file() {
            let text = fs::read_to_string(&path).unwrap_or_else(|_| "(not text)".to_owned());
            let text = if text.len() > 40 { format!("{} bytes", text.len()) } else { text };
            lines.push(format!("f {mode:o} {owner} {shown} = {text}"));
        } else {
            let letter = if kind.is_dir() {
                'd'
            } else if kind.is_fifo() {
                'p'
            } else if kind.is_char_device() {
                'c'
            } else {
                'b'
            };
            lines.push(format!("{letter} {mode:o} {owner} {shown}"));
        }
        if kind.is_dir() {
            list_below(root, &relative, lines);
        }
    }
}

/// A plan in the making.
#[derive(Clone)]
pub struct Planned {
    pub plan: BuildPlan,
    line: u32,
}

impl Planned {
    pub fn push(&mut self, op: Op, text: &str) -> StepIndex {
        self.line += 1;
        let origin = Origin { file: "Dockerfile".to_owned(), line: self.line, text: text.to_owned(), no_cache: false };
        self.plan.push(op, origin, "stage")
    }

    pub fn scratch(&mut self) -> StepIndex {
        self.push(Op::Scratch, "FROM scratch")
    }

    pub fn copy(&mut self, parent: StepIndex, sources: &[&str], dest: &str) -> StepIndex {
        self.copy_so(parent, sources, dest, |_| {})
    }

    /// COPY with flags.
    pub fn copy_so(&mut self, parent: StepIndex, sources: &[&str], dest: &str, change: impl FnOnce(&mut Copy)) -> StepIndex {
        let mut copy = Copy {
            parent,
            from: CopySource::Context { name: "main".to_owned() },
            sources: sources.iter().map(|source| (*source).to_owned()).collect(),
            inline: Vec::new(),
            dest: dest.to_owned(),
            chown: None,
            chmod: None,
            exclude: Vec::new(),
            parents: false,
            link: false,
            add: None,
            also: Vec::new(),
        };
        change(&mut copy);
        self.push(Op::Copy(copy), &format!("COPY {} {dest}", sources.join(" ")))
    }

    pub fn copy_from(&mut self, parent: StepIndex, from: StepIndex, sources: &[&str], dest: &str) -> StepIndex {
        self.copy_so(parent, sources, dest, |copy| copy.from = CopySource::Step { step: from })
    }

    pub fn mkdir(&mut self, parent: StepIndex, path: &str, user: &str) -> StepIndex {
        self.push(Op::Mkdir(Mkdir { parent, path: path.to_owned(), user: user.to_owned() }), &format!("WORKDIR {path}"))
    }

    /// A file system of a static busybox with its usual names.
    pub fn busybox(&mut self, world: &World) -> StepIndex {
        let tools = world.context().join("busybox/bin");
        if !tools.exists() {
            fs::create_dir_all(&tools).unwrap();
            fs::copy("/bin/busybox", tools.join("busybox")).unwrap();
            for name in ["sh", "cat", "echo", "ls", "id", "touch", "mkdir", "rm", "true", "false", "sleep", "stat", "env", "pwd", "ln", "mknod", "wc", "head"] {
                symlink("busybox", tools.join(name)).unwrap();
            }
            world.write("busybox/etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n");
            world.write("busybox/etc/group", "root:x:0:\nstaff:x:50:app\n");
            fs::create_dir_all(world.context().join("busybox/tmp")).unwrap();
        }
        let scratch = self.scratch();
        self.copy(scratch, &["busybox"], "/")
    }

    pub fn run(&mut self, parent: StepIndex, script: &str) -> StepIndex {
        self.run_so(parent, script, |_| {})
    }

    pub fn run_so(&mut self, parent: StepIndex, script: &str, change: impl FnOnce(&mut Run)) -> StepIndex {
        let mut run = Run {
            parent,
            args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec!["PATH=/bin".to_owned()],
            proxy_env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            mounts: Vec::<Mount>::new(),
            network: Network::Default,
            extra_hosts: Vec::new(),
            scripts: Vec::new(),
            platform: None,
            insecure: false,
            hostname: String::new(),
            ulimits: Vec::new(),
            resources: strake_plan::Resources::default(),
        };
        change(&mut run);
        self.push(Op::Run(run), &format!("RUN {script}"))
    }

    pub fn image(&mut self, step: StepIndex) -> &mut Self {
        let config = ImageConfig { architecture: "amd64".to_owned(), os: "linux".to_owned(), ..ImageConfig::default() };
        let history = vec![ImageHistory { created_by: "COPY".to_owned(), comment: "test".to_owned(), created: None, empty_layer: false }];
        let tags = vec![format!("localhost/test:{}", self.plan.images.len())];
        self.plan.images.push(Image { tags, step, config, history, origin: Origin::default() });
        self
    }
}

pub fn chown(text: &str) -> Option<Chown> {
    Some(Chown(text.to_owned()))
}

/// What identifies a build's images.
pub fn digests(built: &[BuiltImage]) -> Vec<Digest> {
    built.iter().map(|image| image.manifest).collect()
}
