//! strake rollout

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strake_apply::health::{Health, health};
use strake_apply::rollout::{self, Command, Phase, Record};
use strake_apply::{Applier, ApplyError, Options, inventory};
use strake_client::{Client, ListParams, Patch, Resource, WriteParams};
use strake_plan::{DeployPlan, ObjectId, RolloutStep, Strategy};

use crate::args::{Rollout, RolloutAbort, RolloutOf, RolloutPromote, RolloutUndo, RolloutVerb, Scope};
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
        RolloutVerb::Promote(args) => promote(root, args).await,
        RolloutVerb::Abort(args) => abort(root, args).await,
    }
}

async fn find(root: &Path, of: &RolloutOf) -> Result<(Client, String, Value), Failure> {
    named(root, &of.what, &of.scope).await
}

async fn named(root: &Path, what: &[String], scope: &Scope) -> Result<(Client, String, Value), Failure> {
    let client = connect(root, &scope.target).await?;
    let (resource, name) = one(what)?;
    if resource.kind != "Deployment" {
        return Err(Failure::text(format!("rollouts of {} are not supported yet: a deployment has one", resource.kind)));
    }
    let found = client.get(&Resource::DEPLOYMENTS, Some(&scope.namespace), &name).await?;
    let object = found.ok_or_else(|| missing(&resource, &name, &scope.namespace))?;
    Ok((client, name, object))
}

/// The Deployment beside one that is rolled out in steps, with where that is.
async fn in_steps(client: &Client, namespace: &str, name: &str) -> Result<Option<(String, Record)>, Failure> {
    for strategy in [Strategy::Canary, Strategy::BlueGreen] {
        let track = rollout::track_name(name, strategy);
        let found = client.get(&Resource::DEPLOYMENTS, Some(namespace), &track).await?;
        if let Some(record) = found.as_ref().and_then(Record::read) {
            return Ok(Some((track, record)));
        }
    }
    Ok(None)
}

fn none_goes_on(name: &str) -> Failure {
    Failure::text(format!("deployment/{name} has no canary or blue-green rollout that goes on"))
}

async fn command(client: &Client, namespace: &str, track: &str, command: &Command) -> Result<(), Failure> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {rollout::COMMAND: command.text()}}}));
    client.patch(&Resource::DEPLOYMENTS, Some(namespace), track, &patch, None, &WriteParams::manager(MANAGER)).await?;
    Ok(())
}

async fn promote(root: &Path, args: &RolloutPromote) -> Result<(), Failure> {
    let space = &args.scope.namespace;
    let (client, name, _) = named(root, &args.what, &args.scope).await?;
    let Some((track, record)) = in_steps(&client, space, &name).await? else { return Err(none_goes_on(&name)) };
    let paused = record.phase == Phase::Advance && matches!(record.at(), Some(RolloutStep::Pause(_)));
    match (record.phase, args.all) {
        (Phase::Return, _) => return Err(Failure::text(format!("deployment/{name} goes back to the old version already"))),
        (Phase::Advance, true) => command(&client, space, &track, &Command::PromoteAll).await?,
        (Phase::Advance, false) if paused => command(&client, space, &track, &Command::Promote(record.step)).await?,
        (Phase::Advance, false) => return Err(Failure::text(format!("deployment/{name} does not pause: {}", record.place()))),
        (Phase::Promote, _) => {}
    }
    say(format!("deployment/{name} goes on: {}", record.place()));
    Ok(())
}

async fn abort(root: &Path, args: &RolloutAbort) -> Result<(), Failure> {
    let space = &args.scope.namespace;
    let (client, name, own) = named(root, &args.what, &args.scope).await?;
    let Some((track, record)) = in_steps(&client, space, &name).await? else { return Err(none_goes_on(&name)) };
    if record.phase == Phase::Promote {
        let text = format!("deployment/{name} has passed all its steps and gets the new version: `strake rollback` goes back to the one before");
        return Err(Failure::text(text));
    }
    command(&client, space, &track, &Command::Abort(crate::commands::history::who())).await?;
    // An apply that goes on brings it back by itself; without one it is done here.
    let set = inventory::set_of(&own).unwrap_or_default().to_owned();
    let parents = client.list(&Resource::SECRETS, None, &ListParams::labels(inventory::parent_selector(&set))).await?;
    let parent = parents.items.first().and_then(|parent| Some((inventory::set_name(parent)?.to_owned(), parent["metadata"]["namespace"].as_str()?.to_owned())));
    let Some((set, namespace)) = parent else { return Err(Failure::text(format!("deployment/{name} belongs to no set of strake's"))) };
    let text = |text: &str| text.to_owned();
    let id = ObjectId {
        group: text("apps"),
        version: text("v1"),
        kind: text("Deployment"),
        resource: text("deployments"),
        namespace: space.clone(),
        name: name.clone(),
    };
    let plan = DeployPlan { set, namespace, ..DeployPlan::default() };
    match Applier::new(&client, &plan, Options::default(), &|_| {}).abort_rollout(&id).await {
        Ok(()) => say(format!("deployment/{name} is back at the old version")),
        Err(ApplyError::Locked { by, .. }) => say(format!("deployment/{name} goes back: the apply of {by} does it")),
        Err(error) => return Err(crate::commands::apply::explain(error)),
    }
    Ok(())
}

async fn status(root: &Path, of: &RolloutOf) -> Result<(), Failure> {
    let (client, name, _) = find(root, of).await?;
    let deadline = Instant::now() + Duration::from_secs(of.timeout);
    let mut said = String::new();
    loop {
        if let Some((_, record)) = in_steps(&client, &of.scope.namespace, &name).await? {
            let place = record.place();
            if place != said {
                say(format!("deployment/{name}: {place}"));
                said = place;
            }
            // Somebody has to say something first.
            if matches!((record.phase, record.at()), (Phase::Advance, Some(RolloutStep::Pause(None)))) {
                say(format!("paused until `strake rollout promote deployment/{name}`"));
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::text(format!("deployment/{name} is not done after {} s: {said}", of.timeout)));
            }
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let again = client.get(&Resource::DEPLOYMENTS, Some(&of.scope.namespace), &name).await?;
        let object = again.ok_or_else(|| Failure::text(format!("deployment/{name} was deleted meanwhile")))?;
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
