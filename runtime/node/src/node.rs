//! The node: what others start, ask and stop.

use std::collections::HashMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use strake_client::{Change, Client, ListParams, Resource};
use strake_container::Executor;
use strake_kinds::core::Pod;
use strake_network::{Network, NetworkError};
use strake_store::Store;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::adopt::{self, Adopted};
use crate::events::Events;
use crate::exec::{self, ExecRequest, ExecStreams};
use crate::images::Images;
use crate::logs::{Log, LogOptions, LogStream};
use crate::machine::Machine;
use crate::objects::{Changed, Objects};
use crate::register::{self, Registration};
use crate::shared::Shared;
use crate::spec::container_id;
use crate::worker::{self, Handle, Message};
use crate::{NodeError, sandbox, services};

/// A pod that names no grace gets this long.
const USUAL_GRACE_SECONDS: i64 = 30;
/// More than the longest grace, for what follows it.
const STOP_MARGIN: Duration = Duration::from_secs(15);
const STOP_LOOK: Duration = Duration::from_millis(5);

/// What a node is made of.
pub struct Parts {
    /// The state directory.
    pub root: PathBuf,
    /// The node's name.
    pub name: String,
    /// The API.
    pub client: Client,
    /// Images and writable file systems.
    pub store: Store,
    /// What runs containers.
    pub executor: Arc<dyn Executor>,
    /// The pods' network.
    pub network: Arc<Network>,
}

/// A running node.
pub struct Node {
    shared: Arc<Shared>,
    registration: Arc<Registration>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Node {
    /// Takes up what is running already, registers the node, and runs its pods from now on. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the containers or the network of an earlier life cannot be put in order, or the API refuses the node.
    pub async fn start(parts: Parts) -> Result<Arc<Node>, NodeError> {
        let Parts { root, name, client, store, executor, network } = parts;
        let pods = root.join("pods");
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(&pods).map_err(|source| NodeError::Directory { path: pods, source })?;
        let (changes, changed) = mpsc::unbounded_channel();
        let events = Events::start(client.clone(), name.clone());
        let shared = Arc::new(Shared {
            host_ips: vec![network.internal_address().to_string()],
            machine: Machine::read(&root),
            images: Images::new(store.clone(), events.clone()),
            objects: Objects::start(client.clone(), changes),
            cgroup: cgroup_name(&root),
            workers: Mutex::default(),
            root,
            name,
            client,
            store,
            executor,
            network,
            events,
        });
        let owner = Arc::clone(&shared);
        let adopted = tokio::task::spawn_blocking(move || adopt::all(&owner)).await;
        let adopted = adopted.map_err(|error| NodeError::Directory { path: shared.root.clone(), source: std::io::Error::other(error) })??;
        let registration = Arc::new(Registration::new(&shared));
        registration.register().await.map_err(|source| NodeError::Register { name: shared.name.clone(), source: Box::new(source) })?;
        shared.events.node(&shared.name, "Normal", "Starting", "Starting strake's node.".to_owned());
        for hindrance in shared.network.hindrances() {
            shared.events.node(&shared.name, "Warning", "ForwardingDropped", hindrance.to_string());
        }
        let tasks = [
            tokio::spawn(register::keep(Arc::clone(&registration))).abort_handle(),
            tokio::spawn(services::run(shared.client.clone(), Arc::clone(&shared.network), shared.events.clone())).abort_handle(),
            tokio::spawn(follow_pods(Arc::clone(&shared), adopted)).abort_handle(),
            tokio::spawn(follow_objects(Arc::clone(&shared), changed)).abort_handle(),
        ];
        Ok(Arc::new(Node { shared, registration, tasks: Mutex::new(tasks.into()) }))
    }

    /// A container's log.
    ///
    /// # Errors
    /// When the node doesn't run the pod, or the container has no log yet.
    pub async fn logs(&self, namespace: &str, pod: &str, options: LogOptions) -> Result<LogStream, NodeError> {
        let handle = self.handle(namespace, pod)?;
        let container = options.container.clone();
        let view = handle.view();
        let missing = |reason: &str| NodeError::NotAvailable { pod: pod.to_owned(), container: container.clone(), reason: reason.to_owned() };
        let no_previous = || NodeError::NoPrevious { pod: pod.to_owned(), container: container.clone() };
        let newest = view.containers.get(&container).ok_or_else(|| missing("waiting to start: ContainerCreating"))?.attempt;
        let attempt = if options.previous { newest.checked_sub(1).ok_or_else(no_previous)? } else { newest };
        let path = sandbox::log_path(&self.shared.root, &handle.uid, &container, attempt);
        if options.previous && !path.exists() {
            return Err(no_previous());
        }
        if !path.exists() && !wait_for_file(&path, &handle, &container, options.follow).await {
            // Made, and has not said anything yet.
            return Ok(Box::pin(futures::stream::empty()));
        }
        let name = container.clone();
        let ended = move || handle.view().containers.get(&name).is_none_or(|seen| seen.attempt != attempt || seen.over);
        Ok(Log { path, options }.stream(ended))
    }

    /// Runs a command in a container until it ends and gives its exit code.
    ///
    /// # Errors
    /// When the container isn't running or the command cannot be started.
    pub async fn exec(&self, namespace: &str, pod: &str, request: ExecRequest, streams: ExecStreams) -> Result<i32, NodeError> {
        let handle = self.handle(namespace, pod)?;
        let view = handle.view();
        let running = view.containers.get(&request.container).filter(|seen| seen.running);
        let seen =
            running.ok_or_else(|| NodeError::NotAvailable { pod: pod.to_owned(), container: request.container.clone(), reason: "not running".to_owned() })?;
        let id = container_id(&handle.uid, &request.container, seen.attempt);
        exec::run(Arc::clone(&self.shared.executor), id, request, streams).await
    }

    /// Connects to a port as a process inside the pod would, on its loopback.
    ///
    /// # Errors
    /// When the node doesn't run the pod, or nothing there takes the connection.
    pub async fn forward(&self, namespace: &str, pod: &str, port: u16) -> Result<tokio::net::TcpStream, NodeError> {
        let uid = self.handle(namespace, pod)?.uid.clone();
        let failed = |source| NodeError::Connect { pod: pod.to_owned(), port, source };
        let Some(note) = sandbox::note(&self.shared.root, &uid) else {
            return Err(failed(std::io::Error::other("the pod has no network yet")));
        };
        if note.address.is_none() {
            return tokio::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).await.map_err(failed);
        }
        let network = Arc::clone(&self.shared.network);
        let dialled = tokio::task::spawn_blocking(move || network.dial(&uid, port)).await.map_err(|error| failed(std::io::Error::other(error)))?;
        let stream = dialled.map_err(|error| match error {
            NetworkError::Dial { source, .. } => failed(source),
            other => failed(std::io::Error::other(other)),
        })?;
        stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).map_err(failed)?;
        tokio::net::TcpStream::from_std(stream).map_err(failed)
    }

    fn handle(&self, namespace: &str, pod: &str) -> Result<Handle, NodeError> {
        let found = self.shared.worker(namespace, pod);
        found.ok_or_else(|| NodeError::UnknownPod { namespace: namespace.to_owned(), pod: pod.to_owned() })
    }

    /// How many pods have a worker.
    pub fn pods(&self) -> usize {
        self.shared.workers().len()
    }

    /// Ends every pod, each with its own grace, and waits until nothing of them is left on this machine. The API's objects stay, so that the
    /// next start runs them again.
    ///
    /// # Errors
    /// When some don't end in time.
    pub async fn stop_all(&self) -> Result<(), NodeError> {
        self.abort_tasks();
        self.registration.say_stopped().await;
        let handles: Vec<Handle> = self.shared.workers().values().cloned().collect();
        let mut longest = USUAL_GRACE_SECONDS;
        for handle in &handles {
            let pod = sandbox::kept_pod(&self.shared.root, &handle.uid);
            let grace = pod.and_then(|pod| pod.spec?.termination_grace_period_seconds).unwrap_or(USUAL_GRACE_SECONDS);
            longest = longest.max(grace);
            handle.tell(Message::Halt);
        }
        let limit = Duration::from_secs(u64::try_from(longest).unwrap_or(0)) + STOP_MARGIN;
        let ended = async {
            while self.pods() > 0 {
                tokio::time::sleep(STOP_LOOK).await;
            }
        };
        tokio::time::timeout(limit, ended).await.map_err(|_| NodeError::StopPods { count: self.pods() })
    }

    /// Stops looking after the pods; they go on by themselves and are taken up by the next start.
    pub async fn leave(&self) {
        self.abort_tasks();
        for handle in self.shared.workers().values() {
            handle.tell(Message::Leave);
        }
    }

    fn abort_tasks(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.drain(..).for_each(|task| task.abort());
    }
}

/// Removes what pods left on the disk, when nothing of them runs any more.
///
/// # Errors
/// Names what cannot be removed.
pub fn remove_remains(root: &Path) -> Result<(), NodeError> {
    let failed = |path: PathBuf| move |source| NodeError::RemoveRemains { path, source };
    for uid in sandbox::known(root).map_err(failed(root.join("pods")))? {
        sandbox::remove_directory(root, &uid).map_err(failed(sandbox::directory(root, &uid)))?;
    }
    Ok(())
}

/// Two state directories on one machine have two cgroups.
fn cgroup_name(root: &Path) -> String {
    let bytes = root.as_os_str().as_encoded_bytes();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    format!("strake-{:08x}", hash & 0xffff_ffff)
}

/// A container that was just started may not have written yet.
async fn wait_for_file(path: &Path, handle: &Handle, container: &str, follow: bool) -> bool {
    while follow && handle.view().containers.get(container).is_some_and(|seen| !seen.over) {
        if path.exists() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    path.exists()
}

/// Gives each pod of this node a worker.
async fn follow_pods(shared: Arc<Shared>, mut adopted: HashMap<String, Adopted>) {
    let ours = ListParams::fields(format!("spec.nodeName={}", shared.name));
    let mut reflection = shared.client.reflect(&Resource::PODS, None, &ours);
    let uid_of = |object: &Value| object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    while let Some(change) = reflection.next().await {
        match change {
            Change::Applied(object) => {
                let Ok(pod) = Pod::deserialize(&*object).map(Arc::new).inspect_err(|error| tracing::warn!(%error, "a pod could not be read")) else { continue };
                let uid = uid_of(&object);
                let known = shared.workers().get(&uid).cloned();
                match known {
                    Some(handle) => handle.tell(Message::Pod(pod)),
                    None => {
                        worker::start(&shared, pod, adopted.remove(&uid).unwrap_or_default());
                    }
                }
            }
            Change::Deleted(object) => {
                if let Some(handle) = shared.workers().get(&uid_of(&object)) {
                    handle.tell(Message::Gone);
                }
            }
            Change::Synced => end_strangers(&shared, std::mem::take(&mut adopted)).await,
        }
    }
}

/// What is here of pods that the API doesn't have: ended and removed.
async fn end_strangers(shared: &Arc<Shared>, strangers: HashMap<String, Adopted>) {
    for (uid, stranger) in strangers {
        tracing::info!(pod = %uid, "a pod that was deleted meanwhile is removed");
        let mut pod = sandbox::kept_pod(&shared.root, &uid).unwrap_or_default();
        pod.metadata.uid = Some(uid);
        let containers = pod.spec.get_or_insert_default();
        // Without its specification the containers' names are enough to end them.
        let known: Vec<String> = containers.containers.iter().chain(containers.init_containers.iter().flatten()).map(|one| one.name.clone()).collect();
        for name in stranger.containers.keys().filter(|name| !known.contains(name)) {
            containers.containers.push(strake_kinds::core::Container { name: name.clone(), ..Default::default() });
        }
        worker::start(shared, Arc::new(pod), stranger).tell(Message::Gone);
    }
}

/// Tells the workers of a namespace what has changed in it.
async fn follow_objects(shared: Arc<Shared>, mut changed: mpsc::UnboundedReceiver<Changed>) {
    while let Some(change) = changed.recv().await {
        for handle in shared.workers().values().filter(|handle| handle.key.0 == change.namespace) {
            handle.tell(Message::Object(change.clone()));
        }
    }
}
