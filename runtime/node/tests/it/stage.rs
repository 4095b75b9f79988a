//! What a test stands on: a state directory with a busybox image, an API in memory, a node.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use strake_api::{ApiOptions, ApiServer, NoNode, router};
use strake_client::{Client, DeleteParams, Patch, Resource, WriteParams};
use strake_container::{Executor, LinuxExecutor};
use strake_network::{Network, Options};
use strake_node::{ExecRequest, ExecStreams, LogOptions, Node, Parts};
use strake_oci::ImageConfig;
use strake_state::Memory;
use strake_store::{CommitOptions, Store};
use tokio::sync::mpsc;

const BUSYBOX: &str = "/usr/bin/busybox";
pub const IMAGE: &str = "docker.io/library/box:1";
/// How long anything may take that has to happen: a loaded machine is slow, and that is no failure.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What the machine lacks for these tests.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("they make containers and links, which needs root".to_owned());
    }
    if !Path::new(BUSYBOX).exists() {
        return Some(format!("{BUSYBOX} (package busybox-static) is missing"));
    }
    Command::new("unshare").arg("--version").output().err().map(|error| format!("unshare: {error}"))
}

/// A state directory and an API.
pub struct Stage {
    folder: tempfile::TempDir,
    pub runtime: tokio::runtime::Runtime,
    pub client: Client,
}

/// A running node on a stage.
pub struct Running {
    pub node: Arc<Node>,
    pub network: Arc<Network>,
    pub client: Client,
    pub root: PathBuf,
}

impl Stage {
    pub fn new() -> Self {
        sh("ip link set lo up");
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let api = Arc::new(ApiServer::new(Arc::new(Memory::new()), ApiOptions::default(), Arc::new(NoNode)));
            api.bootstrap().await.unwrap();
            Client::in_process(router(api))
        });
        let stage = Stage { folder, runtime, client };
        stage.make_image();
        stage
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn store(&self) -> Store {
        Store::open(self.root()).unwrap()
    }

    fn make_image(&self) {
        let tree = tempfile::tempdir().unwrap();
        for name in ["bin", "etc", "tmp", "www"] {
            std::fs::create_dir(tree.path().join(name)).unwrap();
        }
        std::fs::copy(BUSYBOX, tree.path().join("bin/busybox")).unwrap();
        for name in ["sh", "sleep", "cat", "httpd", "wget", "nslookup", "echo", "id", "kill", "ls", "touch", "nc", "hostname", "mount", "ping", "true", "false"]
        {
            std::os::unix::fs::symlink("busybox", tree.path().join("bin").join(name)).unwrap();
        }
        std::fs::write(tree.path().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:100:101::/home/web:/bin/sh\n").unwrap();
        std::fs::write(tree.path().join("etc/group"), "root:x:0:\nweb:x:101:\n").unwrap();
        let mut config = ImageConfig { architecture: "amd64".to_owned(), os: "linux".to_owned(), ..ImageConfig::default() };
        config.config.cmd = Some(vec!["sleep".to_owned(), "1000".to_owned()]);
        config.config.env = vec!["PATH=/bin".to_owned(), "FROM_IMAGE=yes".to_owned()];
        self.store().import_rootfs(tree.path(), IMAGE, &config, CommitOptions { mtime: 0 }).unwrap();
    }

    /// A node with real containers.
    pub async fn node(&self) -> Running {
        let executor = LinuxExecutor::new(self.root(), PathBuf::from("/proc/self/exe")).unwrap();
        self.node_with(Arc::new(executor)).await
    }

    /// A node with an executor of the test's choice.
    pub async fn node_with(&self, executor: Arc<dyn Executor>) -> Running {
        let resolv_conf = self.root().join("resolv.conf");
        std::fs::write(&resolv_conf, "").unwrap();
        let options = Options { resolv_conf, ..Options::usual(self.root().join("run")) };
        let network = Arc::new(Network::open(options).await.unwrap());
        let parts = Parts {
            root: self.root().to_owned(),
            name: "n1".to_owned(),
            client: self.client.clone(),
            store: self.store(),
            executor,
            network: Arc::clone(&network),
        };
        Running { node: Node::start(parts).await.unwrap(), network, client: self.client.clone(), root: self.root().to_owned() }
    }

    /// Runs a test's body with a node, then stops everything and sees that nothing is left.
    pub fn run<F: Future<Output = ()>>(self, body: impl FnOnce(Running) -> F) {
        self.runtime.block_on(async {
            let running = self.node().await;
            let (node, network) = (Arc::clone(&running.node), Arc::clone(&running.network));
            body(running).await;
            node.stop_all().await.unwrap();
            network.teardown().await.unwrap();
        });
        self.assert_nothing_left();
    }

    pub fn assert_nothing_left(&self) {
        let links = sh("ip -o link");
        assert!(!links.contains("stk") && !links.contains("strake"), "{links}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours: Vec<&str> = mounts.lines().filter(|line| line.contains(&self.root().display().to_string())).collect();
        assert!(ours.is_empty(), "{ours:#?}");
        let left = |name: &str| std::fs::read_dir(self.root().join(name)).map(|entries| entries.count()).unwrap_or(0);
        assert_eq!((left("pods"), left("containers"), left("containers-fs"), left("run/netns")), (0, 0, 0, 0));
    }
}

/// A test that fails must not leave its containers: they outlive the process that made them.
impl Drop for Stage {
    fn drop(&mut self) {
        let Ok(executor) = LinuxExecutor::new(self.root(), PathBuf::from("/proc/self/exe")) else { return };
        for id in executor.list().unwrap_or_default() {
            if let Err(error) = executor.remove(&id) {
                println!("container {id} was left: {error}");
            }
        }
    }
}

impl Running {
    pub async fn create(&self, resource: &Resource, object: Value) -> Value {
        self.client.create(resource, Some("default"), &object, &WriteParams::default()).await.unwrap()
    }

    /// Makes a pod of this node.
    pub async fn pod(&self, name: &str, mut spec: Value) -> Value {
        spec["nodeName"] = json!("n1");
        spec["terminationGracePeriodSeconds"] = json!(spec["terminationGracePeriodSeconds"].as_i64().unwrap_or(1));
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec});
        self.create(&Resource::PODS, object).await
    }

    /// The pod, once `fits` says so.
    pub async fn until(&self, name: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pod = self.client.get(&Resource::PODS, Some("default"), name).await.unwrap();
            if let Some(pod) = &pod
                && fits(pod)
            {
                return pod.clone();
            }
            if Instant::now() > deadline {
                let status = pod.map(|pod| serde_json::to_string_pretty(&pod["status"]).unwrap());
                panic!("{name} never became {what}: {}\nevents: {:#?}", status.unwrap_or_default(), self.events(name).await);
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    pub async fn ready(&self, name: &str) -> Value {
        self.until(name, "ready", is_ready).await
    }

    pub async fn delete(&self, name: &str) {
        self.client.delete(&Resource::PODS, Some("default"), name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn gone(&self, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.client.get(&Resource::PODS, Some("default"), name).await.unwrap().is_some() || self.node.pods() > 0 {
            assert!(Instant::now() < deadline, "{name} never went");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    pub async fn patch(&self, resource: &Resource, name: &str, patch: Value) {
        self.client.patch(resource, Some("default"), name, &Patch::Merge(patch), None, &WriteParams::default()).await.unwrap();
    }

    /// `reason: message` of every event about a pod.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let all = self.client.list(&Resource::EVENTS, Some("default"), &strake_client::ListParams::all()).await.unwrap();
        let about = all.items.iter().filter(|event| event["involvedObject"]["name"] == name);
        about.map(|event| format!("{}: {}", event["reason"].as_str().unwrap(), event["message"].as_str().unwrap())).collect()
    }

    /// Waits for an event about the pod: a task of its own writes them, after the status that they explain.
    pub async fn told(&self, name: &str, fits: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let events = self.events(name).await;
            if events.iter().any(|event| fits(event)) {
                return;
            }
            assert!(Instant::now() < deadline, "nothing of the kind is told of {name}: {events:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until this is all that the pod's container has said.
    pub async fn says(&self, name: &str, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.logs(name, LogOptions::default()).await;
            if said == text {
                return;
            }
            assert!(Instant::now() < deadline, "{name} said {said:?} and never {text:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn logs(&self, name: &str, options: LogOptions) -> String {
        let options = LogOptions { container: "c".to_owned(), ..options };
        let mut stream = self.node.logs("default", name, options).await.unwrap();
        let mut text = Vec::new();
        while let Some(bytes) = stream.next().await {
            text.extend_from_slice(&bytes.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    /// Exit code, stdout and stderr of a command in a pod's container `c`.
    pub async fn exec(&self, name: &str, command: &[&str]) -> (i32, String, String) {
        self.exec_with(name, command, None, false).await
    }

    pub async fn exec_with(&self, name: &str, command: &[&str], input: Option<&str>, tty: bool) -> (i32, String, String) {
        let (stdin, stdin_end) = mpsc::channel(4);
        let (stdout, mut out) = mpsc::channel(64);
        let (stderr, mut err) = mpsc::channel(64);
        let (_resize, resize_end) = mpsc::channel(1);
        let request = ExecRequest { container: "c".to_owned(), command: command.iter().map(|word| (*word).to_owned()).collect(), stdin: input.is_some(), tty };
        if let Some(input) = input {
            stdin.send(bytes::Bytes::from(input.to_owned())).await.unwrap();
        }
        drop(stdin);
        let streams = ExecStreams { stdin: stdin_end, stdout, stderr, resize: resize_end };
        let run = self.node.exec("default", name, request, streams);
        let collect = async {
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            while let Some(bytes) = out.recv().await {
                stdout.extend_from_slice(&bytes);
            }
            while let Some(bytes) = err.recv().await {
                stderr.extend_from_slice(&bytes);
            }
            (stdout, stderr)
        };
        let (code, (stdout, stderr)) = tokio::join!(run, collect);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (code.unwrap(), text(stdout), text(stderr))
    }
}

pub fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// The waiting reason of a pod's first container.
pub fn waits_for(pod: &Value) -> &str {
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default()
}

/// A container `c` that runs a shell script.
pub fn shell(script: &str) -> Value {
    json!({"name": "c", "image": "box:1", "command": ["sh", "-c", script]})
}

pub fn sh(command: &str) -> String {
    let done = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}
