//! Keeps the revisions of a set in its cluster; what they look like there is [`crate::history`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use strake_client::{Client, ClientError, DeleteParams, ListParams, Patch, Resource, WriteParams};
use strake_plan::DeployPlan;

use crate::applier::MANAGER;
use crate::history::{self, End, Entry, FORMAT_VERSION};
use crate::review::{GitState, Header};
use crate::{Applied, Applier, ApplyError, Blame, Outcome, Report, inventory};

/// How long the last note of an apply that failed may take.
const CLOSING: Duration = Duration::from_secs(5);
/// How often a number is tried that somebody else takes at the same moment.
const ATTEMPTS: u64 = 20;

/// What is written down of an apply besides what it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// The git revision of the directory.
    pub git: Option<GitState>,
    /// The digest of everything that was compiled.
    pub input: String,
    /// Who applies.
    pub who: String,
    /// strake's version.
    pub tool: String,
    /// The environment of the project's file.
    pub environment: Option<String>,
    /// The revision that is gone back to.
    pub back_to: Option<u64>,
    /// How many revisions stay; 0 keeps none, and writes none.
    pub keep: usize,
}

impl Note {
    /// What a plan's header says.
    pub fn of(header: &Header, who: &str, keep: usize) -> Note {
        Note {
            git: header.git.clone(),
            input: header.input.clone(),
            who: who.to_owned(),
            tool: header.tool.clone(),
            environment: header.environment.clone(),
            back_to: None,
            keep,
        }
    }
}

/// The revisions of one set.
#[derive(Clone, Copy)]
pub struct Revisions<'a> {
    client: &'a Client,
    set: &'a str,
    namespace: &'a str,
}

/// A revision that was begun.
pub(crate) struct Begun {
    entry: Entry,
    /// False while the namespace of the set does not exist: it is made by the same apply.
    written: bool,
}

fn failed(what: &str) -> impl Fn(ClientError) -> ApplyError {
    let object = what.to_owned();
    move |source| ApplyError::Refused { object: object.clone(), origin: "strake".to_owned(), source }
}

impl<'a> Revisions<'a> {
    /// Those of a set, by its name and namespace.
    pub fn new(client: &'a Client, set: &'a str, namespace: &'a str) -> Self {
        Revisions { client, set, namespace }
    }

    fn id(&self) -> String {
        inventory::set_id(self.set, self.namespace)
    }

    async fn secrets(&self, namespace: &str, selector: String) -> Result<Vec<Value>, ApplyError> {
        let listed = self.client.list(&Resource::SECRETS, Some(namespace), &ListParams::labels(selector)).await;
        match listed {
            Ok(list) => Ok(list.items),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(source) => Err(ApplyError::Read { what: format!("history of {}", self.set), source }),
        }
    }

    /// What is known of every revision, oldest first.
    ///
    /// # Errors
    /// The cluster cannot be read.
    pub async fn list(&self) -> Result<Vec<Entry>, ApplyError> {
        Ok(history::entries(&self.secrets(self.namespace, history::selector(&self.id())).await?))
    }

    /// The plan of a revision.
    ///
    /// # Errors
    /// A Secret of it is gone or damaged, or a later strake wrote it.
    pub async fn plan(&self, entry: &Entry) -> Result<DeployPlan, ApplyError> {
        let selector = history::selector_of(&self.id(), entry.number);
        let mut secrets = self.secrets(self.namespace, selector.clone()).await?;
        for namespace in &entry.values_in {
            secrets.extend(self.secrets(namespace, selector.clone()).await?);
        }
        Ok(history::decode(entry, self.namespace, &secrets)?)
    }

    /// Takes a number and writes what is about to be applied.
    async fn begin(&self, plan: &DeployPlan, mut entry: Entry) -> Result<Begun, ApplyError> {
        let first = entry.number;
        loop {
            let secrets = history::encode(&entry, plan)?;
            let mut written = true;
            for (place, secret) in secrets.iter().enumerate() {
                match self.create(self.namespace, secret).await {
                    Ok(()) => {}
                    Err(error) if place == 0 && error.is_already_exists() && entry.number < first + ATTEMPTS => {
                        entry.number += 1;
                        written = false;
                        break;
                    }
                    Err(error) if place == 0 && error.is_not_found() => return Ok(Begun { entry, written: false }),
                    Err(error) => return Err(failed("the set's revision")(error)),
                }
            }
            if written {
                return Ok(Begun { entry, written: true });
            }
        }
    }

    async fn create(&self, namespace: &str, secret: &Value) -> Result<(), ClientError> {
        self.client.create(&Resource::SECRETS, Some(namespace), secret, &WriteParams::manager(MANAGER)).await.map(|_| ())
    }

    /// Writes how it ended, and keeps the values of Secrets of other namespaces, which exist by now.
    async fn end(&self, plan: &DeployPlan, begun: Begun) -> Result<(), ApplyError> {
        let Begun { entry, written } = begun;
        // Before the end is told: a revision that says `deployed` can be gone back to.
        for secret in history::encode_values(&entry, plan)? {
            let namespace = secret["metadata"]["namespace"].as_str().unwrap_or_default();
            match self.create(namespace, &secret).await {
                Err(error) if error.is_already_exists() || (error.is_not_found() && entry.end != End::Deployed) => {}
                other => other.map_err(failed("the set's revision"))?,
            }
        }
        let mut secrets = history::encode(&entry, plan)?;
        if written {
            let head = secrets.swap_remove(0);
            let patch = Patch::Merge(json!({"metadata": {"annotations": head["metadata"]["annotations"]}}));
            let name = history::name(self.set, entry.number);
            let params = WriteParams::manager(MANAGER);
            self.client.patch(&Resource::SECRETS, Some(self.namespace), &name, &patch, None, &params).await.map_err(failed("the set's revision"))?;
            return Ok(());
        }
        match self.begin(plan, entry.clone()).await?.written {
            false if entry.end != End::Deployed => Ok(()),
            false => Err(ApplyError::NoNamespace(self.namespace.to_owned())),
            true => Ok(()),
        }
    }

    /// Removes revisions: what they are known by goes last, so that a crash leaves nothing that nobody finds.
    async fn forget(&self, entries: &[&Entry]) -> Result<(), ApplyError> {
        for entry in entries {
            let selector = history::selector_of(&self.id(), entry.number);
            for namespace in &entry.values_in {
                self.remove(&self.secrets(namespace, selector.clone()).await?).await?;
            }
            let own = history::name(self.set, entry.number);
            let (head, parts): (Vec<Value>, Vec<Value>) =
                self.secrets(self.namespace, selector).await?.into_iter().partition(|secret| secret["metadata"]["name"] == own.as_str());
            self.remove(&parts).await?;
            self.remove(&head).await?;
        }
        Ok(())
    }

    async fn remove(&self, secrets: &[Value]) -> Result<(), ApplyError> {
        for secret in secrets {
            let text = |field: &str| secret["metadata"][field].as_str().unwrap_or_default();
            match self.client.delete(&Resource::SECRETS, Some(text("namespace")), text("name"), &DeleteParams::default()).await {
                Err(error) if !error.is_not_found() => return Err(ApplyError::Delete { object: format!("secret/{}", text("name")), source: error }),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the whole history of the set, and says how many revisions that were.
    ///
    /// # Errors
    /// What cannot be read or deleted.
    pub async fn forget_all(&self) -> Result<usize, ApplyError> {
        let entries = self.list().await?;
        self.forget(&entries.iter().collect::<Vec<_>>()).await?;
        // Parts of a revision whose head is gone.
        self.remove(&self.secrets(self.namespace, history::selector(&self.id())).await?).await?;
        Ok(entries.len())
    }
}

impl Applier<'_> {
    pub(crate) fn revisions(&self) -> Revisions<'_> {
        Revisions::new(self.client, &self.plan.set, &self.plan.namespace)
    }

    /// Writes down what is about to be applied; nothing when the set was deployed like this before, and when no history is kept.
    pub(crate) async fn begin_revision(&self) -> Result<Option<Begun>, ApplyError> {
        let Some(note) = self.options.note.as_ref().filter(|note| note.keep > 0) else { return Ok(None) };
        let revisions = self.revisions();
        let known = revisions.list().await?;
        if let Some(newest) = known.last().filter(|newest| newest.end == End::Deployed && note.back_to.is_none())
            && revisions.plan(newest).await.is_ok_and(|plan| history::same(&plan, self.plan))
        {
            return Ok(None);
        }
        revisions.begin(self.plan, self.entry(note, known.last().map_or(1, |newest| newest.number + 1))).await.map(Some)
    }

    fn entry(&self, note: &Note, number: u64) -> Entry {
        Entry {
            format_version: FORMAT_VERSION,
            number,
            set: self.plan.set.clone(),
            started: Timestamp::now(),
            git: note.git.clone(),
            input: note.input.clone(),
            who: note.who.clone(),
            tool: note.tool.clone(),
            environment: note.environment.clone(),
            back_to: note.back_to,
            waited: self.options.wait.is_some(),
            objects: self.plan.changes.len(),
            images: history::images(self.plan, &BTreeMap::new()),
            ..Entry::default()
        }
    }

    /// Writes down how it ended, and lets revisions go that are too old. An apply that was like the last one and had something to mend is told as one of its own.
    pub(crate) async fn end_revision(&self, begun: Option<Begun>, result: &Result<Report, ApplyError>) -> Result<(), ApplyError> {
        match result {
            Ok(report) => self.write_end(begun, Ok(report)).await,
            // It is another apply's turn.
            Err(ApplyError::LockLost(_)) => Ok(()),
            // What cannot be told is found out by whoever reads the history: nobody holds the lock.
            Err(error) => tokio::time::timeout(CLOSING, self.write_end(begun, Err(error))).await.unwrap_or(Ok(())),
        }
    }

    async fn write_end(&self, begun: Option<Begun>, result: Result<&Report, &ApplyError>) -> Result<(), ApplyError> {
        let Some(note) = self.options.note.as_ref().filter(|note| note.keep > 0) else { return Ok(()) };
        let revisions = self.revisions();
        let mut begun = match begun {
            Some(begun) => begun,
            None if result.is_ok_and(Report::unchanged) => return Ok(()),
            None => {
                let known = revisions.list().await?;
                revisions.begin(self.plan, self.entry(note, known.last().map_or(1, |newest| newest.number + 1))).await?
            }
        };
        begun.entry.ended = Some(Timestamp::now());
        match result {
            Ok(report) => {
                begun.entry.end = End::Deployed;
                begun.entry.summary = summary(report);
                begun.entry.images = history::images(self.plan, &self.ran(&report.applied).await);
            }
            Err(ApplyError::Interrupted) => {}
            Err(error) => {
                begun.entry.end = End::Failed;
                begun.entry.reason = Some(reason(error));
            }
        }
        revisions.end(self.plan, begun).await?;
        let known = revisions.list().await?;
        let old = history::outdated(&known, note.keep);
        revisions.forget(&known.iter().filter(|entry| old.contains(&entry.number)).collect::<Vec<_>>()).await
    }

    /// What tags mean to the pods that run now; nothing when every image is pinned.
    async fn ran(&self, applied: &[Applied]) -> BTreeMap<String, String> {
        let open = |object: &Value| history::references(object).iter().any(|(_, reference)| !reference.contains('@'));
        let namespaces: BTreeSet<&str> =
            applied.iter().filter(|one| self.options.wait.is_some() && open(&one.object)).map(|one| one.id.namespace.as_str()).collect();
        let mut pods = Vec::new();
        for namespace in namespaces {
            // What cannot be read is only not told.
            pods.extend(self.client.list(&Resource::PODS, Some(namespace), &ListParams::default()).await.map(|list| list.items).unwrap_or_default());
        }
        history::ran(&pods)
    }
}

fn summary(report: &Report) -> BTreeMap<String, usize> {
    let count = |outcome| report.applied.iter().filter(|applied| applied.outcome == outcome).count();
    let counts = [
        ("created", count(Outcome::Created)),
        ("changed", count(Outcome::Configured)),
        ("unchanged", count(Outcome::Unchanged)),
        ("deleted", report.pruned.len()),
        ("kept", report.kept.len()),
    ];
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(word, count)| (word.to_owned(), count)).collect()
}

/// An error in a sentence. What a program wrote is no part of it: logs hold what nobody wants to keep for ten revisions.
fn reason(error: &ApplyError) -> String {
    let line = sentence(error).replace('\n', " ");
    if line.chars().count() > 400 { format!("{}…", line.chars().take(399).collect::<String>()) } else { line }
}

fn sentence(error: &ApplyError) -> String {
    let blamed = |blame: &Blame| format!("{}: {}", blame.object, if blame.state.is_empty() { &blame.reason } else { &blame.state });
    match error {
        ApplyError::Unhealthy { blames } => blames.iter().map(blamed).collect::<Vec<_>>().join("; "),
        ApplyError::Incomplete { refused, blames, .. } => refused.iter().map(sentence).chain(blames.iter().map(blamed)).collect::<Vec<_>>().join("; "),
        other => match std::error::Error::source(other) {
            Some(source) => format!("{other}: {source}"),
            None => other.to_string(),
        },
    }
}
