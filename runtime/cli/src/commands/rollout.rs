//! strake rollout

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strake_apply::health::{Health, health};
use strake_client::{Client, ListParams, Patch, Resource, WriteParams};

use crate::args::{Rollout, RolloutOf, RolloutUndo, RolloutVerb};
use crate::commands::get::missing;
use crate::commands::write::MANAGER;
use crate::connect::connect;
use crate::failure::Failure;
use crate::output::{say, table};
use crate::select::one;

const REVISION: &str = "deployment.kubernetes.io/revision";
const CAUSE: &str = "kubernetes.io/change-cause";
const LOOK: Duration = Duration::from_millis(40);

/// Follows, shows, undoes or restarts a rollout.
pub async fn run(root: &Path, args: &Rollout) -> Result<(), Failure> {
    match &args.verb {
        RolloutVerb::Status(of) => status(root, of).await,
        RolloutVerb::History(of) => history(root, of).await,
        RolloutVerb::Undo(undo) => self::undo(root, undo).await,
        RolloutVerb::Restart(of) => restart(root, of).await,
    }
}

async fn find(root: &Path, of: &RolloutOf) -> Result<(Client, String, Value), Failure> {
    let client = connect(root, &of.scope.target).await?;
    let (resource, name) = one(&of.what)?;
    if resource.kind != "Deployment" {
        return Err(Failure::text(format!("rollouts of {} are not supported yet: a deployment has one", resource.kind)));
    }
    let found = client.get(&Resource::DEPLOYMENTS, Some(&of.scope.namespace), &name).await?;
    let object = found.ok_or_else(|| missing(&resource, &name, &of.scope.namespace))?;
    Ok((client, name, object))
}

async fn status(root: &Path, of: &RolloutOf) -> Result<(), Failure> {
    let (client, name, mut object) = find(root, of).await?;
    let deadline = Instant::now() + Duration::from_secs(of.timeout);
    let mut said = String::new();
    loop {
        match health(&object) {
            Health::Current => {
                say(format!("deployment/{name} successfully rolled out"));
                return Ok(());
            }
            Health::Failed(reason) | Health::Unknown(reason) => return Err(Failure::text(format!("deployment/{name} {reason}"))),
            other => {
                let reason = other.reason().to_owned();
                if reason != said {
                    say(format!("waiting for deployment/{name}: {reason}"));
                    said = reason;
                }
            }
        }
        if Instant::now() > deadline {
            return Err(Failure::text(format!("deployment/{name} is not done after {} s: {said}", of.timeout)));
        }
        tokio::time::sleep(LOOK).await;
        let again = client.get(&Resource::DEPLOYMENTS, Some(&of.scope.namespace), &name).await?;
        object = again.ok_or_else(|| Failure::text(format!("deployment/{name} was deleted meanwhile")))?;
    }
}

/// The ReplicaSets of a Deployment by revision, oldest first.
async fn revisions(client: &Client, deployment: &Value) -> Result<Vec<(i64, Value)>, Failure> {
    let namespace = deployment["metadata"]["namespace"].as_str();
    let list = client.list(&Resource::REPLICA_SETS, namespace, &ListParams::default()).await?;
    let uid = &deployment["metadata"]["uid"];
    let owned = |set: &Value| set["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == *uid));
    let revision = |set: &Value| set["metadata"]["annotations"][REVISION].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut found: Vec<(i64, Value)> = list.items.into_iter().filter(owned).map(|set| (revision(&set), set)).collect();
    found.sort_by_key(|(revision, _)| *revision);
    Ok(found)
}

async fn history(root: &Path, of: &RolloutOf) -> Result<(), Failure> {
    let (client, name, object) = find(root, of).await?;
    let images = |set: &Value| {
        let containers = set["spec"]["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
        containers.iter().filter_map(|container| container["image"].as_str().map(str::to_owned)).collect::<Vec<_>>().join(",")
    };
    let row = |(revision, set): &(i64, Value)| {
        let cause = set["metadata"]["annotations"][CAUSE].as_str().unwrap_or("<none>").to_owned();
        vec![revision.to_string(), images(set), cause]
    };
    let rows: Vec<Vec<String>> = revisions(&client, &object).await?.iter().map(row).collect();
    say(format!("deployment/{name}"));
    say(table(&["REVISION", "IMAGES", "CHANGE-CAUSE"], &rows));
    Ok(())
}

async fn undo(root: &Path, undo: &RolloutUndo) -> Result<(), Failure> {
    let (client, name, object) = find(root, &undo.of).await?;
    let found = revisions(&client, &object).await?;
    let chosen = match undo.to_revision {
        0 => found.iter().rev().nth(1),
        wanted => found.iter().find(|(revision, _)| *revision == wanted),
    };
    let Some((revision, set)) = chosen else {
        let known = found.iter().map(|(revision, _)| revision.to_string()).collect::<Vec<_>>().join(", ");
        return Err(Failure::text(format!("deployment/{name} has no such revision to go back to; there are: {known}")));
    };
    let mut template = set["spec"]["template"].clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    let patch = Patch::Json(json!([{"op": "replace", "path": "/spec/template", "value": template}]));
    client.patch(&Resource::DEPLOYMENTS, Some(&undo.of.scope.namespace), &name, &patch, None, &WriteParams::manager(MANAGER)).await?;
    say(format!("deployment/{name} goes back to revision {revision}"));
    Ok(())
}

async fn restart(root: &Path, of: &RolloutOf) -> Result<(), Failure> {
    let (client, name, _) = find(root, of).await?;
    let now = jiff::Timestamp::now().to_string();
    let patch = Patch::Strategic(json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}}}));
    client.patch(&Resource::DEPLOYMENTS, Some(&of.scope.namespace), &name, &patch, None, &WriteParams::manager(MANAGER)).await?;
    say(format!("deployment/{name} restarts"));
    Ok(())
}
