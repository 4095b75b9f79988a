//! strake delete, strake scale

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use strake_client::{Client, DeleteParams, ListParams, Patch, Propagation, Resource, WriteParams};

use crate::args::{Delete, Scale};
use crate::commands::get::{missing, nothing_found, refused};
use crate::connect::connect;
use crate::failure::Failure;
use crate::output::{note, say};
use crate::select::{namespace, one, parse};

/// The field manager of what people do by hand.
pub const MANAGER: &str = "strake-cli";
const LOOK: Duration = Duration::from_millis(30);

/// Deletes objects and waits until they are gone.
pub async fn delete(root: &Path, args: &Delete) -> Result<(), Failure> {
    let client = connect(root, &args.scope.target).await?;
    let mut gone: Vec<(Resource, String, String)> = Vec::new();
    let mut absent: Vec<String> = Vec::new();
    for selection in parse(&args.what)? {
        let resource = selection.resource;
        let space = namespace(&resource, &args.scope.namespace);
        let mut names = selection.names;
        if let Some(selector) = &args.selector {
            let listed = client.list(&resource, space, &ListParams::labels(selector.clone())).await.map_err(|error| refused(&resource, error))?;
            names.extend(listed.items.iter().filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned)));
        } else if names.is_empty() {
            return Err(Failure::text(format!("delete all {}? Name them, or choose by -l", resource.plural)));
        }
        for name in names {
            let params = DeleteParams { propagation: Some(Propagation::Background), grace_seconds: args.grace_period, ..DeleteParams::default() };
            let uid = match client.get(&resource, space, &name).await? {
                Some(object) => object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
                // The others are deleted all the same.
                None => {
                    absent.push(missing(&resource, &name, &args.scope.namespace).to_string());
                    continue;
                }
            };
            client.delete(&resource, space, &name, &params).await?;
            say(format!("{}/{name} deleted", resource.kind.to_lowercase()));
            gone.push((resource.clone(), name, uid));
        }
    }
    if !args.no_wait {
        for (resource, name, uid) in &gone {
            wait_gone(&client, resource, namespace(resource, &args.scope.namespace), name, uid).await?;
        }
    }
    if gone.is_empty() && absent.is_empty() {
        note(nothing_found(Some(&args.scope.namespace)));
    }
    if absent.is_empty() { Ok(()) } else { Err(Failure::text(absent.join("\n"))) }
}

async fn wait_gone(client: &Client, resource: &Resource, space: Option<&str>, name: &str, uid: &str) -> Result<(), Failure> {
    // An object of the same name made since is another one.
    while client.get(resource, space, name).await?.is_some_and(|object| object["metadata"]["uid"] == uid) {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Sets the number of replicas.
pub async fn scale(root: &Path, args: &Scale) -> Result<(), Failure> {
    let client = connect(root, &args.scope.target).await?;
    let (resource, name) = one(&args.what)?;
    let patch = Patch::Merge(json!({"spec": {"replicas": args.replicas}}));
    let sent = client.patch(&resource, namespace(&resource, &args.scope.namespace), &name, &patch, Some("scale"), &WriteParams::manager(MANAGER)).await;
    if let Err(error) = sent {
        let there = error.is_not_found() && client.get(&resource, namespace(&resource, &args.scope.namespace), &name).await?.is_some();
        return Err(match there {
            true => Failure::text(format!("{} cannot be scaled: deployments and replicasets can", resource.plural)),
            false if error.is_not_found() => missing(&resource, &name, &args.scope.namespace),
            false => error.into(),
        });
    }
    say(format!("{}/{name} scaled to {}", resource.kind.to_lowercase(), args.replicas));
    Ok(())
}
