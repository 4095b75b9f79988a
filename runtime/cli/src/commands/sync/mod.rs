//! strake sync

mod foreground;
mod object;
mod show;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use strake_client::{Client, DeleteParams, ListParams, Patch, WriteParams};
use strake_sync::{ACCEPT, REQUEST, Status};

use crate::args::{Follow, Format, Sync, SyncList, SyncName, SyncNow, SyncStatus, SyncVerb, Target};
use crate::connect::connect;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{data, note, say};
use crate::sync::follower::resource;

/// The field manager of what is typed.
const MANAGER: &str = "strake-cli";
/// How often a status that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Follows a repository, or says how those that are followed are.
pub fn run(root: &Path, args: &Sync) -> Result<(), Failure> {
    match &args.verb {
        None => follow(root, &args.follow),
        Some(verb) => interrupt::wait(act(root, verb)),
    }
}

fn follow(root: &Path, args: &Follow) -> Result<(), Failure> {
    let wanted = object::of(args)?;
    if args.print {
        say(data(&wanted.sync, Format::Yaml));
        return Ok(());
    }
    if args.foreground || args.target.is_foreign() {
        if args.logins.secret.is_some() || args.logins.webhook_secret.is_some() || args.logins.report_secret.is_some() {
            return Err(
                Failure::text("in the foreground logins come from files: use --token-file, --ssh-key, --webhook-secret-file, --report-token-file").with_code(2)
            );
        }
        return foreground::run(root, args, wanted.sync);
    }
    if args.webhooks.hooks.is_some() {
        return Err(Failure::text("--hooks is for --foreground: a cluster hears webhooks with `strake serve --hooks ADDRESS:PORT`").with_code(2));
    }
    interrupt::wait_or("the repository is followed all the same", async {
        let client = connect(root, &Target::default()).await?;
        for secret in &wanted.secrets {
            apply(&client, &strake_client::Resource::SECRETS, secret).await?;
        }
        let made = apply(&client, &resource(), &wanted.sync).await?;
        let (namespace, name) = (args.namespace.as_str(), made["metadata"]["name"].as_str().unwrap_or_default());
        note(format!("{namespace}/{name} follows {}: `strake sync status {name}` says how it is", made["spec"]["url"].as_str().unwrap_or_default()));
        if args.wait { wait(&client, &SyncName { name: name.to_owned(), namespace: namespace.to_owned() }, None).await } else { Ok(()) }
    })
}

async fn apply(client: &Client, resource: &strake_client::Resource, object: &Value) -> Result<Value, Failure> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let patch = Patch::Apply { object: object.clone(), manager: MANAGER.to_owned(), force: true };
    Ok(client.patch(resource, object["metadata"]["namespace"].as_str(), name, &patch, None, &WriteParams::default()).await?)
}

async fn act(root: &Path, verb: &SyncVerb) -> Result<(), Failure> {
    match verb {
        SyncVerb::List(args) => list(root, args).await,
        SyncVerb::Status(args) => status(root, args).await,
        SyncVerb::Pause(of) => suspend(root, of, true).await,
        SyncVerb::Resume(of) => suspend(root, of, false).await,
        SyncVerb::Now(args) => now(root, args).await,
        SyncVerb::Delete(of) => {
            let (client, _) = found(root, of).await?;
            client.delete(&resource(), Some(&of.namespace), &of.name, &DeleteParams::default()).await?;
            say(format!("{}/{} follows its repository no longer; what runs stays", of.namespace, of.name));
            Ok(())
        }
    }
}

async fn list(root: &Path, args: &SyncList) -> Result<(), Failure> {
    let mut found = foreground::known(root);
    if strake_cluster::holder(root).is_some() {
        let client = connect(root, &Target::default()).await?;
        found.extend(client.list(&resource(), None, &ListParams::default()).await?.items);
    } else if found.is_empty() {
        // Says that there is no cluster, and how to get one.
        connect(root, &Target::default()).await?;
    }
    found.retain(|object| args.namespace.as_ref().is_none_or(|namespace| object["metadata"]["namespace"] == namespace.as_str()));
    match args.output {
        Format::Text if found.is_empty() => note("no repository is followed: begin with `strake sync REPO --path FOLDER`"),
        Format::Text => say(show::list(&found)),
        format => say(data(&found, format)),
    }
    Ok(())
}

/// The object, wherever it is.
async fn found(root: &Path, of: &SyncName) -> Result<(Client, Value), Failure> {
    let client = connect(root, &Target::default()).await?;
    let found = client.get(&resource(), Some(&of.namespace), &of.name).await?;
    if let Some(found) = found {
        return Ok((client, found));
    }
    let all = client.list(&resource(), None, &ListParams::default()).await?.items;
    let text = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let elsewhere = all.iter().find(|object| text(object, "name") == of.name).map(|object| format!(": it is in namespace {}", text(object, "namespace")));
    let names: Vec<String> = all.iter().map(|object| text(object, "name")).collect();
    let near = || strake_source::nearest(&of.name, names.iter().map(String::as_str)).map(|near| format!(": did you mean {near}?"));
    let hint = elsewhere.or_else(near).unwrap_or_default();
    Err(Failure::text(format!("there is no sync {}/{}{hint}", of.namespace, of.name)))
}

async fn status(root: &Path, args: &SyncStatus) -> Result<(), Failure> {
    let of = &args.sync;
    let own = |object: &Value| object["metadata"]["name"] == of.name.as_str() && object["metadata"]["namespace"] == of.namespace.as_str();
    let object = match foreground::known(root).into_iter().find(own) {
        Some(object) => object,
        None => found(root, of).await?.1,
    };
    match args.output {
        Format::Text => say(show::one(&object)),
        format => say(data(&object, format)),
    }
    let wrong = show::status_of(&object).condition("Ready").is_some_and(|ready| ready.status == "False");
    if wrong { Err(Failure::silent(1)) } else { Ok(()) }
}

async fn suspend(root: &Path, of: &SyncName, suspend: bool) -> Result<(), Failure> {
    let (client, _) = found(root, of).await?;
    let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
    client.patch(&resource(), Some(&of.namespace), &of.name, &patch, None, &WriteParams::manager(MANAGER)).await?;
    say(format!("{}/{} {}", of.namespace, of.name, if suspend { "is paused: what runs stays as it is" } else { "goes on" }));
    Ok(())
}

async fn now(root: &Path, args: &SyncNow) -> Result<(), Failure> {
    let of = &args.sync;
    let (client, object) = found(root, of).await?;
    if object["spec"]["suspend"] == true {
        return Err(Failure::text(format!("{}/{} is paused: let it go on with `strake sync resume {}`", of.namespace, of.name, of.name)));
    }
    let mut annotations = json!({});
    let request = jiff::Timestamp::now().to_string();
    annotations[REQUEST] = request.clone().into();
    if args.accept_moved_tag {
        let moved = show::moved_to(&object).ok_or_else(|| Failure::text(format!("no tag that {}/{} follows was moved", of.namespace, of.name)))?;
        annotations[ACCEPT] = moved.into();
    }
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    client.patch(&resource(), Some(&of.namespace), &of.name, &patch, None, &WriteParams::manager(MANAGER)).await?;
    if args.wait { wait(&client, of, Some(&request)).await } else { Ok(()) }
}

/// Waits until the newest commit runs, or something is wrong.
async fn wait(client: &Client, of: &SyncName, request: Option<&str>) -> Result<(), Failure> {
    loop {
        let object = client.get(&resource(), Some(&of.namespace), &of.name).await?;
        let object = object.ok_or_else(|| Failure::text(format!("the sync {}/{} is gone", of.namespace, of.name)))?;
        let status: Status = show::status_of(&object);
        let seen = object["metadata"]["generation"] == status.observed_generation;
        let heeded = request.is_none_or(|request| status.last_handled_request.as_deref() == Some(request));
        if let Some(ready) = status.condition("Ready").filter(|_| seen && heeded) {
            match ready.status.as_str() {
                // One that was applied for an earlier form of the object is about to be applied again.
                "True" if object["metadata"]["generation"] == status.applied_generation => {
                    say(&ready.message);
                    return Ok(());
                }
                "False" => return Err(Failure::text(show::failure(&object))),
                _ => {}
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
