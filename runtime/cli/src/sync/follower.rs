//! One repository, followed: asks the decider, does what it says, keeps the status, and begins again.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use strake_client::{Patch, Resource, WriteParams};
use strake_sync::{ACCEPT, Action, Event, Facts, Fate, Memory, REQUEST, Spec, Status, Trouble, decide, learn, notes};
use tokio::sync::{Notify, watch};

use super::keys::Keys;
use super::{Context, Key, deploy, drift, source};
use crate::failure::chain;

/// The field manager of the status.
const MANAGER: &str = "strake-sync";
/// How long until a status that could not be kept is written again.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// The resource of Syncs.
pub fn resource() -> Resource {
    Resource::new("strake.dev", "v1", "syncs", strake_sync::KIND, true)
}

/// Where the status is kept.
pub enum Keeper {
    /// In the object.
    Object,
    /// In a file, with what is wanted: in the foreground.
    File(PathBuf),
}

/// What one follower knows.
pub struct Follower {
    context: Arc<Context>,
    key: Key,
    keys: Keys,
    keeper: Keeper,
    /// The object, as it is now.
    objects: watch::Receiver<Arc<Value>>,
    /// Somebody says that something was pushed.
    nudge: Arc<Notify>,
    object: Arc<Value>,
    status: Status,
    kept: Option<Status>,
    memory: Memory,
}

impl Follower {
    /// Begins with what the object says of itself.
    pub fn new(context: Arc<Context>, keys: Keys, keeper: Keeper, objects: watch::Receiver<Arc<Value>>, nudge: Arc<Notify>) -> Follower {
        let object = objects.borrow().clone();
        let status: Status = serde_json::from_value(object["status"].clone()).unwrap_or_default();
        let kept = object["status"].is_object().then(|| status.clone());
        Follower { context, key: Key::of(&object), keys, keeper, objects, nudge, object, status, kept, memory: Memory::default() }
    }

    fn generation(&self) -> i64 {
        self.object["metadata"]["generation"].as_i64().unwrap_or_default()
    }

    fn dir(&self) -> PathBuf {
        self.context.root.join("sync").join(format!("{}.{}", self.key.namespace, self.key.name))
    }

    /// Gives the facts to a function.
    fn with<T>(&self, spec: &Spec, ask: impl FnOnce(&Facts<'_>) -> T) -> T {
        let annotation = |name: &str| self.object["metadata"]["annotations"][name].as_str();
        ask(&Facts {
            name: &self.key.to_string(),
            spec,
            generation: self.generation(),
            request: annotation(REQUEST),
            accepted: annotation(ACCEPT),
            status: &self.status,
            memory: &self.memory,
        })
    }

    fn tell(&mut self, spec: &Spec, event: Event) {
        (self.status, self.memory) = self.with(spec, |facts| learn(facts, event, Timestamp::now()));
    }

    /// Follows until the object is gone. `show` gets the status whenever it was kept.
    pub async fn run(mut self, show: impl Fn(&Key, &Status) + Send) {
        loop {
            self.object = self.objects.borrow_and_update().clone();
            let spec = match Spec::read(&self.object) {
                Ok(spec) => spec,
                Err(trouble) => {
                    self.status.invalid(self.generation(), &trouble, Timestamp::now());
                    self.keep(&show).await;
                    if self.objects.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            self.tell(&spec, Event::Changed);
            while !self.objects.has_changed().unwrap_or(true) {
                let decision = self.with(&spec, |facts| decide(facts, Timestamp::now()));
                tracing::debug!("sync {}: {}", self.key, decision.why);
                match decision.action {
                    Some(action) => self.perform(&spec, action, &show).await,
                    None => {
                        let kept = self.keep(&show).await;
                        let wait = if kept { decision.wait } else { Some(decision.wait.map_or(AGAIN, |wait| wait.min(AGAIN))) };
                        self.rest(&spec, wait).await;
                    }
                }
            }
            // The sender is gone: the object is.
            if self.objects.has_changed().is_err() {
                return;
            }
        }
    }

    async fn rest(&mut self, spec: &Spec, wait: Option<std::time::Duration>) {
        let timer = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let mut objects = self.objects.clone();
        let nudged = tokio::select! {
            () = timer => false,
            _ = objects.changed() => false,
            () = self.nudge.notified() => true,
        };
        if nudged {
            self.tell(spec, Event::Nudged);
        }
    }

    async fn perform(&mut self, spec: &Spec, action: Action, show: &impl Fn(&Key, &Status)) {
        let event = match action {
            Action::Ask => Event::Asked(self.ask(spec).await),
            Action::Fetch(head) => {
                let _place = self.context.asks.acquire().await;
                let fetched = match self.keys.git(spec.secret.as_deref()).await {
                    Ok(login) => source::fetch(spec, &head, self.status.last_applied_revision.as_deref(), &self.dir(), &login).await,
                    Err(trouble) => Err(trouble),
                };
                Event::Fetched(fetched)
            }
            Action::Deploy(head) => {
                let context = self.context.clone();
                let _place = context.deploys.acquire().await;
                self.tell(spec, Event::Started);
                // After a crash it must be known that this was begun.
                while !self.keep(show).await {
                    if self.objects.has_changed().is_err() {
                        return;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                let deployed = match self.kubeconfig(spec).await {
                    Ok(kubeconfig) => deploy::deploy(&context, &self.key, spec, &head, &self.dir(), kubeconfig).await,
                    Err(trouble) => Err(trouble),
                };
                Event::Deployed(deployed.map(|(message, changed, set)| {
                    self.tell(spec, Event::Named(set));
                    (message, changed)
                }))
            }
            Action::Check => {
                let _place = self.context.asks.acquire().await;
                let looked = match self.kubeconfig(spec).await {
                    Ok(kubeconfig) => drift::look(&self.context, self.status.applied_set.as_ref(), kubeconfig).await,
                    Err(trouble) => Err(trouble.message),
                };
                Event::Checked(looked)
            }
            Action::Report { commit, fate, description } => {
                let outcome = self.report(spec, &commit, fate, &description).await;
                Event::Reported(fate, commit, outcome)
            }
        };
        if let Event::Deployed(outcome) = &event {
            match outcome {
                Ok((message, _)) => tracing::info!("sync {}: {message}", self.key),
                Err(trouble) => tracing::warn!("sync {}: {}", self.key, trouble.message),
            }
            let _ = std::fs::remove_dir_all(self.dir());
        }
        self.tell(spec, event);
        self.keep(show).await;
    }

    /// The login for the cluster that is deployed to, when it is not the Sync's own: read anew each time.
    async fn kubeconfig(&self, spec: &Spec) -> Result<Option<String>, Trouble> {
        match &spec.kubeconfig {
            Some(secret) => self.keys.kubeconfig(secret).await.map(Some),
            None => Ok(None),
        }
    }

    async fn ask(&self, spec: &Spec) -> Result<strake_sync::Refs, Trouble> {
        let _place = self.context.asks.acquire().await;
        let login = self.keys.git(spec.secret.as_deref()).await?;
        source::ask(spec, &login).await
    }

    async fn report(&self, spec: &Spec, commit: &str, fate: Fate, description: &str) -> Result<(), String> {
        let Some(report) = &spec.report else { return Ok(()) };
        let token = self.keys.report(&report.secret).await.map_err(|trouble| trouble.message)?;
        let request = report.forge.request(&token, commit, fate, description);
        strake_registry::post(&request.url, &request.headers, request.body.to_string().into_bytes()).await.map_err(|error| chain(&error))
    }

    /// Tells what became different since the status was kept last.
    fn record(&self) {
        let Some(recorder) = &self.context.recorder else { return };
        let metadata = &self.object["metadata"];
        let about = json!({"apiVersion": strake_sync::API_VERSION, "kind": strake_sync::KIND, "namespace": self.key.namespace, "name": self.key.name, "uid": metadata["uid"]});
        for note in notes(self.kept.as_ref().unwrap_or(&Status::default()), &self.status) {
            recorder.record(about.clone(), if note.warning { "Warning" } else { "Normal" }, note.reason, &note.message);
        }
    }

    /// Keeps the status where it belongs; `false` when that did not work.
    async fn keep(&mut self, show: &impl Fn(&Key, &Status)) -> bool {
        if self.kept.as_ref() == Some(&self.status) {
            return true;
        }
        let status = serde_json::to_value(&self.status).unwrap_or_default();
        let written = match (&self.keeper, &self.context.client) {
            (Keeper::File(path), _) => write(path, &self.object, status).map_err(|error| error.to_string()),
            (Keeper::Object, None) => Ok(()),
            (Keeper::Object, Some(client)) => {
                let patch = Patch::Merge(json!({ "status": status }));
                let params = WriteParams::manager(MANAGER);
                let answer = client.patch(&resource(), Some(&self.key.namespace), &self.key.name, &patch, Some("status"), &params).await;
                answer.map(drop).map_err(|error| chain(&error))
            }
        };
        match written {
            Ok(()) => {
                self.record();
                self.kept = Some(self.status.clone());
                show(&self.key, &self.status);
                true
            }
            Err(error) => {
                tracing::warn!("sync {}: its status cannot be kept: {error}", self.key);
                false
            }
        }
    }
}

/// Writes the object with its status, whole or not at all.
fn write(path: &PathBuf, object: &Value, status: Value) -> std::io::Result<()> {
    let mut object = object.clone();
    object["status"] = status;
    let dir = path.parent().unwrap_or(path);
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    std::io::Write::write_all(&mut file, serde_json::to_string_pretty(&object)?.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}
