//! The logs of all pods of the set, line by line, as they come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use strake_client::{Change, Client, ListParams, LogParams, Resource};
use strake_plan::DeployPlan;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use super::tell::{Source, Tell};
use crate::commands::forward::selector;

/// A line longer than this is cut into several.
const LONGEST_LINE: usize = 64 << 10;
/// A log that broke off is opened again after this.
const PAUSE: Duration = Duration::from_millis(200);

/// Which pods are the set's: the namespace and what their labels must be.
pub type Owners = Vec<(String, String)>;

/// The owners of pods in a plan.
pub fn owners(plan: &DeployPlan) -> Owners {
    let labels = |change: &strake_plan::Change| {
        let found = match change.id.kind.as_str() {
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" => selector(&change.object["spec"]["selector"]["matchLabels"]),
            "Job" => Some(format!("batch.kubernetes.io/job-name={}", change.id.name)),
            _ => None,
        };
        Some((change.id.namespace.clone(), found?))
    };
    let mut owners: Owners = plan.changes.iter().filter_map(labels).collect();
    owners.sort();
    owners.dedup();
    owners
}

/// The runs of containers that are followed already: each is shown once.
type Followed = Arc<Mutex<BTreeMap<(String, String, i64), AbortHandle>>>;

/// All that is followed. Ends with it.
pub struct Logs {
    client: Client,
    tell: Tell,
    owners: BTreeMap<(String, String), JoinHandle<()>>,
    followed: Followed,
    /// Pods that were there before the loop: their old lines are known.
    since: String,
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.owners.values().for_each(JoinHandle::abort);
        self.followed.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(AbortHandle::abort);
    }
}

impl Logs {
    /// Nothing yet; `since` is when the loop began, as the API writes times.
    pub fn new(client: Client, tell: Tell, since: String) -> Logs {
        Logs { client, tell, owners: BTreeMap::new(), followed: Followed::default(), since }
    }

    /// Follows the pods of these owners, and no others. To be called inside a runtime.
    pub fn update(&mut self, owners: &Owners) {
        self.owners.retain(|owner, task| {
            let stays = owners.contains(owner);
            if !stays {
                task.abort();
            }
            stays
        });
        for owner in owners {
            if !self.owners.contains_key(owner) {
                let follow = follow(self.client.clone(), owner.clone(), self.tell, Arc::clone(&self.followed), self.since.clone());
                self.owners.insert(owner.clone(), tokio::spawn(follow));
            }
        }
    }
}

async fn follow(client: Client, (space, labels): (String, String), tell: Tell, followed: Followed, since: String) {
    let mut pods = client.reflect(&Resource::PODS, Some(&space), &ListParams::labels(labels));
    let mut readers = JoinSet::new();
    loop {
        let change = tokio::select! {
            change = pods.next() => change,
            Some(_) = readers.join_next() => continue,
        };
        let Some(change) = change else { return };
        let Change::Applied(pod) = change else { continue };
        let old = pod["metadata"]["creationTimestamp"].as_str().is_some_and(|made| made < since.as_str());
        for (source, run) in runs(&pod) {
            let key = (pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), source.container.clone(), run);
            let mut known = followed.lock().unwrap_or_else(PoisonError::into_inner);
            known.entry(key).or_insert_with(|| readers.spawn(read(client.clone(), source, tell, old)));
        }
    }
}

/// The containers of a pod that have said something, each with the number of its run.
fn runs(pod: &Value) -> Vec<(Source, i64)> {
    let text = |name: &str| pod["metadata"][name].as_str().unwrap_or_default().to_owned();
    let count = ["containers", "initContainers"].iter().filter_map(|list| pod["spec"][list].as_array()).map(Vec::len).sum::<usize>();
    let statuses = ["initContainerStatuses", "containerStatuses"].iter().filter_map(|list| pod["status"][list].as_array()).flatten();
    let run = |status: &Value| {
        let begun = ["running", "terminated"].iter().any(|state| status["state"][state].is_object());
        let source = Source { namespace: text("namespace"), pod: text("name"), container: status["name"].as_str()?.to_owned(), alone: count == 1 };
        begun.then(|| (source, status["restartCount"].as_i64().unwrap_or(0)))
    };
    statuses.filter_map(run).collect()
}

/// Shows one run of a container to its end.
async fn read(client: Client, source: Source, tell: Tell, old: bool) {
    let params = LogParams { container: Some(source.container.clone()), follow: true, tail: old.then_some(0), ..LogParams::default() };
    let mut lines = Lines::default();
    let mut tries = 0;
    let mut stream = loop {
        match client.logs(&source.namespace, &source.pod, &params).await {
            Ok(stream) => break stream,
            Err(error) if error.is_not_found() || tries > 5 => return,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
        tries += 1;
    };
    while let Some(Ok(bytes)) = stream.next().await {
        lines.push(&bytes, |line| tell.log(&source, line));
    }
    lines.end(|line| tell.log(&source, line));
}

/// Bytes to lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, bytes: &[u8], mut show: impl FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.0.extend_from_slice(part);
            if part.ends_with(b"\n") || self.0.len() > LONGEST_LINE {
                self.end(&mut show);
            }
        }
    }

    fn end(&mut self, mut show: impl FnMut(&str)) {
        let line = std::mem::take(&mut self.0);
        if !line.is_empty() {
            show(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Lines, runs};

    #[test]
    fn lines_are_whole() {
        let (mut lines, mut shown) = (Lines::default(), Vec::new());
        for piece in ["one\ntw", "o\r\n", "\n", "rest"] {
            lines.push(piece.as_bytes(), |line| shown.push(line.to_owned()));
        }
        lines.end(|line| shown.push(line.to_owned()));
        assert_eq!(shown, ["one", "two", "", "rest"]);
    }

    #[test]
    fn each_run_of_a_container_is_one() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [{}, {}]}, "status": {"containerStatuses": [
            {"name": "a", "restartCount": 2, "state": {"running": {}}}, {"name": "b", "state": {"waiting": {}}}]}});
        let found = runs(&pod);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0.container.as_str(), found[0].0.alone, found[0].1), ("a", false, 2));
    }
}
