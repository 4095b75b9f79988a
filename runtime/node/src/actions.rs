//! What the decider asks for, done.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use strake_client::{DeleteParams, Resource};
use strake_container::{ContainerError, ContainerId, ContainerStatus, ExitRecord, NetworkNamespace, resolve_user};
use strake_kinds::core::{Container, Pod, Probe};
use strake_pod::{ContainerState, Exit, PodAction, ProbeKind, ProbeResult, PullFailure, PullPolicy, Refusal, Sandbox};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::env::{self, Facts};
use crate::images::{Ready, Wanted, text};
use crate::probes::{self, Target};
use crate::shared::Shared;
use crate::spec::{self, Input, container_id};
use crate::worker::Message;
use crate::{logs, names, sandbox, signals, volumes};

/// Of a termination message.
const MOST_MESSAGE: u64 = 4096;
/// A container whose end could not be read is looked at again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What an action is done with.
pub(crate) struct Job {
    pub shared: Arc<Shared>,
    pub pod: Arc<Pod>,
    pub uid: String,
    pub pod_ips: Vec<String>,
    pub sender: mpsc::UnboundedSender<Message>,
}

/// What came of an action.
pub(crate) enum Outcome {
    /// Nothing to be seen.
    Nothing,
    Sandbox(Sandbox),
    Image {
        container: String,
        attempt: u32,
        result: Result<Arc<Ready>, (PullFailure, String)>,
    },
    Container {
        container: String,
        attempt: u32,
        state: ContainerState,
    },
    Probed {
        container: String,
        kind: ProbeKind,
        result: ProbeResult,
    },
    Removed {
        container: String,
        attempt: u32,
    },
}

/// Does one action.
pub(crate) async fn perform(job: Job, action: PodAction, image: Option<Arc<Ready>>) -> Outcome {
    match action {
        PodAction::PrepareSandbox => job.prepare().await,
        PodAction::PullImage { container, image, policy, attempt } => job.pull(container, &image, policy, attempt).await,
        PodAction::CreateContainer { container, attempt } => job.create(container, attempt, image).await,
        PodAction::StartContainer { container, attempt } => job.start(container, attempt).await,
        PodAction::StopContainer { container, attempt, grace_seconds, .. } => job.stop(&container, attempt, grace_seconds, image).await,
        PodAction::KillContainer { container, attempt, .. } => job.signal(&container, attempt, signals::KILL).await,
        PodAction::RunProbe { container, attempt, kind, probe, timeout_seconds } => job.probe(container, attempt, kind, &probe, timeout_seconds).await,
        PodAction::RemoveContainer { container, attempt } => job.remove(container, attempt).await,
        PodAction::TeardownSandbox => job.tear_down().await,
        PodAction::DeleteFromApi => job.delete().await,
        PodAction::Event { .. } => Outcome::Nothing,
    }
}

/// Writes the volumes' files again after an object has changed.
pub(crate) async fn refresh_volumes(job: Job) {
    let facts = job.volume_facts().await;
    let directory = sandbox::directory(&job.shared.root, &job.uid);
    let pod = Arc::clone(&job.pod);
    let done = tokio::task::spawn_blocking(move || volumes::refresh(&pod, &directory, &facts, &sandbox::stamp())).await;
    if let Ok(Err(failed)) = done {
        let message = format!("volume \"{}\" could not be brought up to date: {}", failed.volume, failed.message);
        job.shared.events.pod(&job.pod, None, "Warning", "FailedMount", message);
    }
}

impl Job {
    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or("default")
    }

    fn container(&self, name: &str) -> Option<&Container> {
        let spec = self.pod.spec.as_ref()?;
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
    }

    fn facts(&self) -> Facts {
        Facts {
            node_name: self.shared.name.clone(),
            host_ips: self.shared.host_ips.clone(),
            pod_ips: self.pod_ips.clone(),
            node_cpu_milli: self.shared.machine.cpu_milli,
            node_memory_bytes: self.shared.machine.allocatable_memory_bytes(),
            ..Facts::default()
        }
    }

    async fn volume_facts(&self) -> Facts {
        let mut facts = self.facts();
        let references = volumes::project::references(&self.pod);
        let names =
            |wanted: volumes::project::Kind| -> Vec<String> { references.iter().filter(|(kind, _)| *kind == wanted).map(|(_, name)| name.clone()).collect() };
        let (config_maps, secrets) = (names(volumes::project::Kind::ConfigMap), names(volumes::project::Kind::Secret));
        self.shared.objects.fill(self.namespace(), &config_maps, &secrets, &mut facts).await;
        facts
    }

    async fn prepare(self) -> Outcome {
        let facts = self.volume_facts().await;
        let (shared, pod) = (Arc::clone(&self.shared), Arc::clone(&self.pod));
        let made = tokio::task::spawn_blocking(move || sandbox::prepare(&shared, &pod, &facts)).await;
        Outcome::Sandbox(match made.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(ips) => Sandbox::Ready { ips },
            Err(message) => Sandbox::Failed { message, at: Timestamp::now() },
        })
    }

    async fn pull(self, container: String, image: &str, policy: PullPolicy, attempt: u32) -> Outcome {
        let wanted = Wanted { pod: &self.pod, container: &container, image, policy };
        let result = self.shared.images.ensure(&wanted).await;
        Outcome::Image { container, attempt, result }
    }

    async fn create(self, container: String, attempt: u32, image: Option<Arc<Ready>>) -> Outcome {
        let state = match self.try_create(&container, attempt, image).await {
            Ok(()) => ContainerState::Created,
            Err((refusal, message)) => ContainerState::Refused { refusal, message, at: Timestamp::now() },
        };
        Outcome::Container { container, attempt, state }
    }

    async fn try_create(&self, name: &str, attempt: u32, image: Option<Arc<Ready>>) -> Result<(), (Refusal, String)> {
        let config = |message: String| (Refusal::Config, message);
        let image = image.ok_or_else(|| (Refusal::Create, "its image is not ready".to_owned()))?;
        let container = self.container(name).cloned().ok_or_else(|| config(format!("there is no container {name} in the pod")))?;
        let env = self.environment(&container, &image).await.map_err(config)?;
        let (shared, pod, uid) = (Arc::clone(&self.shared), Arc::clone(&self.pod), self.uid.clone());
        let made = tokio::task::spawn_blocking(move || make(&shared, &pod, &uid, &container, attempt, &image, env)).await;
        made.unwrap_or_else(|error| Err((Refusal::Create, error.to_string())))
    }

    async fn environment(&self, container: &Container, image: &Ready) -> Result<Vec<String>, String> {
        let mut facts = self.facts();
        let (config_maps, secrets) = env::references(container);
        self.shared.objects.fill(self.namespace(), &config_maps, &secrets, &mut facts).await;
        let links = self.pod.spec.as_ref().and_then(|spec| spec.enable_service_links) != Some(false);
        let services = self.shared.objects.services().await;
        let services = env::of_services(services.iter(), self.namespace(), links);
        env::environment(&self.pod, container, &image.config.config.env, &services, &facts)
    }

    async fn start(self, container: String, attempt: u32) -> Outcome {
        let id = container_id(&self.uid, &container, attempt);
        let (shared, pod, uid, name) = (Arc::clone(&self.shared), Arc::clone(&self.pod), self.uid.clone(), container.clone());
        let started = tokio::task::spawn_blocking(move || {
            let ordered = shared.executor.start(&id);
            let status = shared.executor.status(&id)?;
            // The order of an earlier life may have been heard after that life's end, and after this one had looked: then it runs already.
            if !matches!(status, strake_container::ContainerStatus::Running { .. }) {
                ordered?;
            }
            Ok::<_, ContainerError>(state_of(&shared, Some(&pod), &uid, &name, attempt, &status))
        });
        let refused = |message: String| ContainerState::Refused { refusal: Refusal::Start, message, at: Timestamp::now() };
        let mut state = match started.await {
            Ok(Ok(state)) => state,
            Ok(Err(error)) => refused(text(&error)),
            Err(error) => refused(error.to_string()),
        };
        if matches!(state, ContainerState::Running { .. }) {
            self.watch_end(container.clone(), attempt);
            if let Err(message) = self.hook(&container, attempt, true).await {
                self.shared.events.pod(&self.pod, Some(&container), "Warning", "FailedPostStartHook", format!("PostStartHook failed: {message}"));
                let _ = self.send_signal(&container, attempt, signals::KILL).await;
                state = refused(format!("PostStartHook failed: {message}"));
            }
        }
        Outcome::Container { container, attempt, state }
    }

    /// Runs the container's postStart or preStop hook, if it has one.
    async fn hook(&self, name: &str, attempt: u32, start: bool) -> Result<(), String> {
        let Some(container) = self.container(name) else { return Ok(()) };
        let lifecycle = container.lifecycle.as_ref();
        let handler = lifecycle.and_then(|lifecycle| if start { lifecycle.post_start.as_ref() } else { lifecycle.pre_stop.as_ref() });
        let Some(handler) = handler else { return Ok(()) };
        probes::hook(&self.target(container, attempt), handler).await
    }

    fn target<'a>(&self, container: &'a Container, attempt: u32) -> Target<'a> {
        let pod_ip = self.pod_ips.first().cloned().unwrap_or_else(|| "127.0.0.1".to_owned());
        Target { container, id: container_id(&self.uid, &container.name, attempt), pod_ip, executor: Arc::clone(&self.shared.executor) }
    }

    /// Tells the worker when the container has ended.
    pub(crate) fn watch_end(&self, container: String, attempt: u32) {
        let (shared, pod, uid, sender) = (Arc::clone(&self.shared), Arc::clone(&self.pod), self.uid.clone(), self.sender.clone());
        tokio::spawn(async move {
            let id = container_id(&uid, &container, attempt);
            let state = loop {
                let looked = wait_for_end(&shared, &id).await;
                match looked {
                    Ok(ended @ ContainerStatus::Exited(_)) => break state_of(&shared, Some(&pod), &uid, &container, attempt, &ended),
                    Err(ContainerError::NotFound { .. }) => break ContainerState::Absent,
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%id, %error, "a container's end cannot be read"),
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                    () = sender.closed() => return,
                }
            };
            let _ = sender.send(Message::Ended { container, attempt, state: Box::new(state) });
        });
    }

    async fn stop(self, container: &str, attempt: u32, grace_seconds: i64, image: Option<Arc<Ready>>) -> Outcome {
        let grace = Duration::from_secs(u64::try_from(grace_seconds).unwrap_or(0));
        match tokio::time::timeout(grace, self.hook(container, attempt, false)).await {
            Ok(Ok(())) => {}
            Ok(Err(message)) => self.shared.events.pod(&self.pod, Some(container), "Warning", "FailedPreStopHook", format!("PreStopHook failed: {message}")),
            Err(_) => self.shared.events.pod(&self.pod, Some(container), "Warning", "FailedPreStopHook", "PreStopHook did not end in time".to_owned()),
        }
        let own = self.container(container).and_then(|container| container.image.clone()).unwrap_or_default();
        let named = match image {
            Some(image) => image.config.config.stop_signal.clone(),
            // Adopted from an earlier life of the daemon: its image is looked up by name.
            None => self.shared.images.stop_signal(&own).await,
        };
        self.signal(container, attempt, signals::number(&named).unwrap_or(signals::TERM)).await
    }

    async fn signal(&self, container: &str, attempt: u32, signal: i32) -> Outcome {
        match self.send_signal(container, attempt, signal).await {
            // Nothing there to end.
            Err(ContainerError::NotFound { .. }) => Outcome::Removed { container: container.to_owned(), attempt },
            Err(error) => {
                tracing::warn!(pod = %self.uid, container, %error, "a container could not be signalled");
                Outcome::Nothing
            }
            Ok(()) => Outcome::Nothing,
        }
    }

    async fn send_signal(&self, container: &str, attempt: u32, signal: i32) -> Result<(), ContainerError> {
        let (shared, id) = (Arc::clone(&self.shared), container_id(&self.uid, container, attempt));
        tokio::task::spawn_blocking(move || shared.executor.signal(&id, signal)).await.unwrap_or(Ok(()))
    }

    async fn probe(self, container: String, attempt: u32, kind: ProbeKind, probe: &Probe, timeout_seconds: i32) -> Outcome {
        let Some(spec) = self.container(&container) else { return Outcome::Nothing };
        let started_at = Timestamp::now();
        let timeout = Duration::from_secs(u64::try_from(timeout_seconds.max(1)).unwrap_or(1));
        let outcome = probes::run(&self.target(spec, attempt), probe, timeout).await;
        // The worker numbers the results.
        Outcome::Probed { container, kind, result: ProbeResult { attempt, sequence: 0, outcome, started_at } }
    }

    async fn remove(self, container: String, attempt: u32) -> Outcome {
        let (shared, uid, name) = (Arc::clone(&self.shared), self.uid.clone(), container.clone());
        let removed = tokio::task::spawn_blocking(move || {
            let id = container_id(&uid, &name, attempt);
            shared.executor.remove(&id).map_err(|error| text(&error))?;
            shared.store.remove_working(&id.0).map_err(|error| text(&error))?;
            logs::remove(&sandbox::log_path(&shared.root, &uid, &name, attempt));
            let _ = fs::remove_file(sandbox::termination_path(&shared.root, &uid, &name, attempt));
            Ok::<_, String>(())
        });
        match removed.await.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(()) => Outcome::Removed { container, attempt },
            Err(error) => {
                tracing::warn!(pod = %self.uid, container, attempt, %error, "a container could not be removed");
                tokio::time::sleep(LOOK_AGAIN).await;
                Outcome::Nothing
            }
        }
    }

    async fn tear_down(self) -> Outcome {
        let (shared, uid) = (Arc::clone(&self.shared), self.uid.clone());
        let done = tokio::task::spawn_blocking(move || sandbox::tear_down(&shared, &uid)).await;
        match done.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(()) => Outcome::Sandbox(Sandbox::Absent),
            Err(error) => {
                tracing::warn!(pod = %self.uid, %error, "a sandbox could not be removed");
                tokio::time::sleep(LOOK_AGAIN).await;
                Outcome::Nothing
            }
        }
    }

    async fn delete(self) -> Outcome {
        let params = DeleteParams { grace_seconds: Some(0), uid: Some(self.uid.clone()), ..DeleteParams::default() };
        let name = self.pod.metadata.name.as_deref().unwrap_or_default();
        let deleted = self.shared.client.delete(&Resource::PODS, Some(self.namespace()), name, &params).await;
        match deleted {
            Ok(_) => {
                // The watch tells what follows; without it this would be asked again at once.
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(error) if error.is_not_found() || error.is_conflict() => {
                let _ = self.sender.send(Message::Gone);
            }
            Err(error) => {
                tracing::warn!(pod = %self.uid, %error, "a pod that has ended could not be deleted from the API");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        Outcome::Nothing
    }
}

/// Makes a container. Blocks.
fn make(shared: &Shared, pod: &Pod, uid: &str, container: &Container, attempt: u32, image: &Ready, env: Vec<String>) -> Result<(), (Refusal, String)> {
    let config = |message: String| (Refusal::Config, message);
    let id = container_id(uid, &container.name, attempt);
    // One that an attempt cut off in the middle left.
    shared.executor.remove(&id).map_err(|error| (Refusal::Create, text(&error)))?;
    shared.store.remove_working(&id.0).map_err(|error| (Refusal::Create, text(&error)))?;
    let user = resolve_user(&image.lowers, &spec::user_text(pod, container, &image.config)).map_err(|error| config(text(&error)))?;
    spec::check_user(pod, container, &user.user).map_err(config)?;
    let directory = sandbox::directory(&shared.root, uid);
    let mounts = volumes::mounts(pod, container, &directory, &env).map_err(config)?;
    let log = sandbox::log_path(&shared.root, uid, &container.name, attempt);
    let termination = sandbox::termination_path(&shared.root, uid, &container.name, attempt);
    prepare_files(&log, &termination).map_err(|error| (Refusal::Create, format!("{}: {error}", directory.display())))?;
    let working = shared.store.working(&id.0, image.chain.as_ref()).map_err(|error| (Refusal::Create, text(&error)))?;
    let on_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    let network = if on_host { NetworkNamespace::Host } else { NetworkNamespace::Path(shared.network.namespace_path(uid)) };
    let input = Input {
        pod,
        container,
        attempt,
        image: &image.config,
        rootfs: strake_container::RootFs { lowers: working.lowers, upper: working.upper, work: working.work },
        user,
        env,
        mounts,
        hostname: names::hostname(pod, &shared.name),
        network,
        cgroup_parent: shared.pod_cgroup(uid),
        etc: &directory.join("etc"),
        log,
        termination_log: Some(termination),
        node_memory_bytes: shared.machine.memory_bytes,
    };
    let spec = spec::container_spec(input).map_err(config)?;
    shared.executor.create(&spec).map_err(|error| match error {
        ContainerError::InvalidSpec { reason, .. } => (Refusal::Config, reason),
        ContainerError::Create { reason, .. } => (Refusal::Create, reason),
        error => (Refusal::Create, text(&error)),
    })?;
    Ok(())
}

/// The log's directory, and the file for the last words: anybody in the container may write it.
fn prepare_files(log: &Path, termination: &Path) -> io::Result<()> {
    for path in [log, termination] {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o711).create(folder)?;
        }
    }
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o666).open(termination)?;
    file.set_permissions(fs::Permissions::from_mode(0o666))
}

async fn wait_for_end(shared: &Arc<Shared>, id: &ContainerId) -> Result<ContainerStatus, ContainerError> {
    if let Some(pidfd) = shared.executor.monitor_pidfd(id)? {
        #[expect(deprecated, reason = "what replaces it is an unsafe function; an OwnedFd that nobody else holds is sound in either")]
        let watched = AsyncFd::new(pidfd).map_err(|source| ContainerError::Wait { id: id.clone(), source })?;
        let _ready = watched.readable().await.map_err(|source| ContainerError::Wait { id: id.clone(), source })?;
    }
    let (shared, own) = (Arc::clone(shared), id.clone());
    tokio::task::spawn_blocking(move || shared.executor.status(&own)).await.unwrap_or_else(|_| Err(ContainerError::NotFound { id: id.clone() }))
}

fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default()
}

/// A container's status as the decider sees it.
pub(crate) fn state_of(shared: &Shared, pod: Option<&Pod>, uid: &str, container: &str, attempt: u32, status: &ContainerStatus) -> ContainerState {
    match status {
        ContainerStatus::Created { .. } => ContainerState::Created,
        ContainerStatus::Running { started_at_ns, .. } => ContainerState::Running { started_at: time(*started_at_ns) },
        ContainerStatus::Exited(record) if !record.error.is_empty() => {
            ContainerState::Refused { refusal: Refusal::Start, message: record.error.clone(), at: time(record.finished_at_ns) }
        }
        ContainerStatus::Exited(record) => ContainerState::Exited(exit_of(shared, pod, uid, container, attempt, record)),
    }
}

/// How a container ended, with its last words.
pub(crate) fn exit_of(shared: &Shared, pod: Option<&Pod>, uid: &str, container: &str, attempt: u32, record: &ExitRecord) -> Exit {
    let all = pod.and_then(|pod| pod.spec.as_ref()).into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let from_log =
        all.into_iter().find(|known| known.name == container).and_then(|known| known.termination_message_policy.as_deref()) == Some("FallbackToLogsOnError");
    let mut message = last_words(&sandbox::termination_path(&shared.root, uid, container, attempt));
    if message.is_none() && from_log && record.code != 0 {
        message = logs::last_lines(&sandbox::log_path(&shared.root, uid, container, attempt));
    }
    Exit {
        code: record.code,
        signal: record.signal,
        oom_killed: record.oom_killed,
        started_at: time(record.started_at_ns),
        finished_at: time(record.finished_at_ns),
        message,
        id: Some(container_id(uid, container, attempt).0),
    }
}

fn last_words(path: &Path) -> Option<String> {
    use std::io::Read;
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).ok()?;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let mut bytes = Vec::new();
    file.take(MOST_MESSAGE).read_to_end(&mut bytes).ok()?;
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}
