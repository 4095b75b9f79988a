//! One pod's worker: it looks, asks the decider, does what it says, and looks again when anything has happened.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use strake_kinds::core::{Pod, PodStatus};
use strake_kinds::meta::Time;
use strake_pod::{ActionKey, ContainerFacts, ContainerState, ImageState, Observed, PodAction, PodMemory, PullFailure, Sandbox};
use tokio::sync::{mpsc, watch};

use crate::actions::{self, Job, Outcome};
use crate::adopt::Adopted;
use crate::images::Ready;
use crate::objects::Changed;
use crate::shared::{PodKey, Shared};
use crate::{sandbox, status, volumes};

/// Without anything to wait for, the worker looks again after this time all the same.
const LONGEST_REST: Duration = Duration::from_secs(600);
/// A status that could not be written is written again after this time.
const STATUS_RETRY: Duration = Duration::from_secs(1);

/// What a worker is told.
pub(crate) enum Message {
    /// The API has this now.
    Pod(Arc<Pod>),
    /// The API has it no more.
    Gone,
    /// The node stops: end everything, with the pod's grace, and leave the API's object alone.
    Halt,
    /// The daemon leaves: the containers go on.
    Leave,
    /// An action has ended.
    Done { key: ActionKey, outcome: Box<Outcome> },
    /// A container has ended.
    Ended { container: String, attempt: u32, state: Box<ContainerState> },
    /// A ConfigMap or Secret that a volume may show has changed.
    Object(Changed),
}

/// What others may know of a worker's pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// It is being ended.
    pub leaving: bool,
    /// The newest attempt of each container.
    pub containers: BTreeMap<String, Seen>,
}

/// What others may know of a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub attempt: u32,
    pub running: bool,
    /// It has ended, or never will begin.
    pub over: bool,
}

/// How a worker is reached.
#[derive(Clone)]
pub(crate) struct Handle {
    pub key: PodKey,
    pub uid: String,
    sender: mpsc::UnboundedSender<Message>,
    view: watch::Receiver<View>,
}

impl Handle {
    /// Tells the worker; one that has ended doesn't mind.
    pub(crate) fn tell(&self, message: Message) {
        let _ = self.sender.send(message);
    }

    pub(crate) fn view(&self) -> View {
        self.view.borrow().clone()
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.view.borrow().leaving
    }
}

struct Worker {
    shared: Arc<Shared>,
    uid: String,
    pod: Arc<Pod>,
    observed: Observed,
    memory: PodMemory,
    images: HashMap<String, Arc<Ready>>,
    pull_failures: HashMap<String, u32>,
    probes_run: u64,
    sender: mpsc::UnboundedSender<Message>,
    view: watch::Sender<View>,
    /// The status as last written.
    written: Option<PodStatus>,
    halting: bool,
    over: bool,
}

/// Starts a worker for a pod, with what of it is on this machine already.
pub(crate) fn start(shared: &Arc<Shared>, pod: Arc<Pod>, adopted: Adopted) -> Handle {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (uid, key) = (text(&pod.metadata.uid), (text(&pod.metadata.namespace), text(&pod.metadata.name)));
    let (sender, inbox) = mpsc::unbounded_channel();
    let (view, seen) = watch::channel(View::default());
    let handle = Handle { key, uid: uid.clone(), sender: sender.clone(), view: seen };
    shared.workers().insert(uid.clone(), handle.clone());
    let observed = Observed { host_ips: shared.host_ips.clone(), sandbox: adopted.sandbox, containers: adopted.containers, ..Observed::default() };
    let worker = Worker {
        shared: Arc::clone(shared),
        uid,
        pod,
        observed,
        memory: PodMemory::default(),
        images: HashMap::new(),
        pull_failures: HashMap::new(),
        probes_run: 0,
        sender,
        view,
        written: None,
        halting: false,
        over: false,
    };
    tokio::spawn(worker.run(inbox));
    handle
}

impl Worker {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        for (container, facts) in self.observed.containers.clone() {
            if matches!(facts.state, ContainerState::Running { .. }) {
                self.job().watch_end(container, facts.attempt);
            }
        }
        loop {
            let rest = self.turn().await;
            if self.over {
                return self.finish().await;
            }
            let first = tokio::select! {
                message = inbox.recv() => message,
                () = tokio::time::sleep(rest) => None,
            };
            let mut next = first;
            while let Some(message) = next {
                if matches!(message, Message::Leave) {
                    return;
                }
                self.take(message);
                next = inbox.try_recv().ok();
            }
        }
    }

    /// One look and what follows from it. Gives how long to rest.
    async fn turn(&mut self) -> Duration {
        let now = Timestamp::now();
        let step = strake_pod::step(&self.pod, &self.observed, std::mem::take(&mut self.memory), now);
        self.memory = step.memory;
        let mut delete = false;
        for action in step.actions {
            match action {
                PodAction::DeleteFromApi => delete = true,
                action => self.begin(action),
            }
        }
        self.publish();
        let mut rest = step.wake_at.map_or(LONGEST_REST, |at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        let told = self.halting || self.observed.gone || self.write_status(step.status).await;
        if !told {
            rest = rest.min(STATUS_RETRY);
        } else if delete && self.halting {
            self.over = true;
        } else if delete {
            self.begin(PodAction::DeleteFromApi);
        }
        let nothing_left = self.observed.sandbox == Sandbox::Absent && self.observed.containers.values().all(|facts| facts.state == ContainerState::Absent);
        if self.observed.gone && nothing_left && self.observed.in_flight.is_empty() {
            self.over = true;
        }
        rest
    }

    fn job(&self) -> Job {
        Job { shared: Arc::clone(&self.shared), pod: Arc::clone(&self.pod), uid: self.uid.clone(), pod_ips: self.pod_ips(), sender: self.sender.clone() }
    }

    fn pod_ips(&self) -> Vec<String> {
        match &self.observed.sandbox {
            Sandbox::Ready { ips } => ips.clone(),
            _ => Vec::new(),
        }
    }

    fn begin(&mut self, action: PodAction) {
        let Some(key) = action.key() else {
            if let PodAction::Event { event_type, reason, message, container } = action {
                self.shared.events.pod(&self.pod, container.as_deref(), event_type.as_str(), reason, message);
            }
            return;
        };
        self.observed.in_flight.insert(key.clone());
        let container = match &action {
            PodAction::CreateContainer { container, .. } | PodAction::StopContainer { container, .. } => Some(container),
            _ => None,
        };
        let image = container.and_then(|container| self.images.get(container)).cloned();
        let (job, sender) = (self.job(), self.sender.clone());
        tokio::spawn(async move {
            let done = std::panic::AssertUnwindSafe(actions::perform(job, action, image)).catch_unwind().await;
            // A panic is a mistake of ours: it must cost this one action, not the pod.
            let outcome = Box::new(done.unwrap_or(Outcome::Nothing));
            let _ = sender.send(Message::Done { key, outcome });
        });
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Pod(pod) => {
                if let Some(written) = &self.written
                    && !status::agree(pod.status.as_ref(), written)
                {
                    self.written = None;
                }
                if !self.halting {
                    self.pod = pod;
                }
            }
            Message::Gone => self.observed.gone = true,
            Message::Halt => self.halt(),
            Message::Leave => {}
            Message::Ended { container, attempt, state } => {
                if let Some(facts) = self.observed.containers.get_mut(&container).filter(|facts| facts.attempt == attempt) {
                    facts.state = *state;
                }
            }
            Message::Done { key, outcome } => {
                self.apply(&key, *outcome);
                self.observed.in_flight.remove(&key);
            }
            Message::Object(changed) => self.refresh(&changed),
        }
    }

    /// The pod is ended as if it had been deleted now, but nobody tells the API.
    fn halt(&mut self) {
        let mut pod = (*self.pod).clone();
        let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        pod.metadata.deletion_timestamp = Some(Time(Timestamp::now() + jiff::SignedDuration::from_secs(grace)));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.pod = Arc::new(pod);
        self.halting = true;
    }

    fn facts(&mut self, container: &str) -> &mut ContainerFacts {
        self.observed.containers.entry(container.to_owned()).or_default()
    }

    /// Enters the outcome of an action into what is observed.
    fn apply(&mut self, key: &ActionKey, outcome: Outcome) {
        match outcome {
            Outcome::Nothing => tracing::debug!(?key, pod = %self.uid, "an action ended without an outcome"),
            Outcome::Sandbox(sandbox) => self.observed.sandbox = sandbox,
            Outcome::Image { container, attempt, result } => self.apply_image(container, attempt, result),
            Outcome::Container { container, attempt, state } => self.apply_container(&container, attempt, state),
            Outcome::Probed { container, kind, mut result } => {
                self.probes_run += 1;
                result.sequence = self.probes_run;
                self.observed.probes.entry(container).or_default().insert(kind, result);
            }
            Outcome::Removed { container, attempt } => {
                let facts = self.facts(&container);
                if facts.attempt == attempt {
                    facts.state = ContainerState::Absent;
                    facts.id = None;
                }
                facts.older_attempts.retain(|older| *older != attempt);
            }
        }
    }

    fn apply_image(&mut self, container: String, attempt: u32, result: Result<Arc<Ready>, (PullFailure, String)>) {
        let state = match result {
            Ok(ready) => {
                self.pull_failures.remove(&container);
                let image_id = ready.id.clone();
                self.images.insert(container.clone(), ready);
                ImageState::Present { image_id, attempt }
            }
            Err((failure, message)) => {
                let failures = self.pull_failures.entry(container.clone()).or_insert(0);
                *failures += 1;
                ImageState::Failed { failure, message, failures: *failures, at: Timestamp::now() }
            }
        };
        self.facts(&container).image = state;
    }

    fn apply_container(&mut self, container: &str, attempt: u32, state: ContainerState) {
        let id = crate::spec::container_id(&self.uid, container, attempt).0;
        let facts = self.facts(container);
        if facts.state != ContainerState::Absent && facts.attempt < attempt {
            if let ContainerState::Exited(exit) = &facts.state {
                facts.previous = Some(exit.clone());
            }
            let before = facts.attempt;
            facts.older_attempts.push(before);
        }
        // The end may have been seen before the start was told.
        let over = matches!(facts.state, ContainerState::Exited(_) | ContainerState::Refused { .. });
        let ended = facts.attempt == attempt && over && matches!(state, ContainerState::Running { .. });
        facts.attempt = attempt;
        facts.id = Some(id);
        if !ended {
            facts.state = state;
        }
    }

    fn publish(&self) {
        let leaving = self.observed.gone || self.halting || self.pod.metadata.deletion_timestamp.is_some();
        let shown = |facts: &ContainerFacts| Seen {
            attempt: facts.attempt,
            running: matches!(facts.state, ContainerState::Running { .. }),
            over: matches!(facts.state, ContainerState::Exited(_) | ContainerState::Refused { .. }),
        };
        let present = self.observed.containers.iter().filter(|(_, facts)| facts.state != ContainerState::Absent);
        let containers = present.map(|(name, facts)| (name.clone(), shown(facts))).collect();
        self.view.send_replace(View { leaving, containers });
    }

    async fn write_status(&mut self, status: PodStatus) -> bool {
        if self.written.as_ref() == Some(&status) {
            return true;
        }
        if self.pod.status.as_ref() == Some(&status) {
            self.written = Some(status);
            return true;
        }
        match status::write(&self.shared.client, &self.pod, &status).await {
            Ok(()) => {
                self.written = Some(status);
                true
            }
            // The object has gone or is another one: the watch will say so.
            Err(error) if error.is_not_found() || error.is_conflict() => true,
            Err(error) => {
                tracing::warn!(pod = %self.uid, %error, "a pod's status could not be written");
                false
            }
        }
    }

    fn refresh(&self, changed: &Changed) {
        let ours = self.pod.metadata.namespace.as_deref() == Some(changed.namespace.as_str());
        let shows = || volumes::project::references(&self.pod).iter().any(|(kind, name)| *kind == changed.kind && *name == changed.name);
        if ours && matches!(self.observed.sandbox, Sandbox::Ready { .. }) && shows() {
            tokio::spawn(actions::refresh_volumes(self.job()));
        }
    }

    async fn finish(self) {
        let (root, uid) = (self.shared.root.clone(), self.uid.clone());
        let removed = tokio::task::spawn_blocking(move || sandbox::remove_directory(&root, &uid)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(pod = %self.uid, %error, "a pod's directory could not be removed");
        }
        self.shared.workers().remove(&self.uid);
    }
}
