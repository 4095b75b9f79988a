//! Looks whether a set is still as it was applied.

use std::path::Path;

use strake_apply::Revisions;
use strake_apply::drift::{Drifted, State};
use strake_apply::history::deployed;
use strake_apply::status::{SetName, drifted};
use strake_sync::AppliedSet;

use super::Context;
use super::keys::unnamed;
use crate::args::Target;
use crate::connect::connect;
use crate::failure::chain;

/// Objects that are named; the others are counted.
const NAMED: usize = 3;

/// What is not as it was applied, in one line. Nothing when all is, or when nothing is known to be applied.
pub async fn look(context: &Context, set: Option<&AppliedSet>, kubeconfig: Option<String>) -> Result<Option<String>, String> {
    let Some(set) = set.cloned() else { return Ok(None) };
    let (root, mut target, runtime) = (context.root.clone(), context.target.clone(), tokio::runtime::Handle::current());
    let login = kubeconfig.map(|text| unnamed(text.as_bytes())).transpose().map_err(|trouble| trouble.message)?;
    if let Some((_, path)) = &login {
        target.kubeconfig = Some(path.clone());
    }
    // A dry run of an apply is no future that may move between threads.
    let compared = tokio::task::spawn_blocking(move || runtime.block_on(compare(&root, &target, &set))).await;
    drop(login);
    compared.unwrap_or_else(|error| Err(error.to_string()))
}

async fn compare(root: &Path, target: &Target, set: &AppliedSet) -> Result<Option<String>, String> {
    let client = connect(root, target).await.map_err(|failure| failure.to_string())?;
    let name = SetName { set: set.name.clone(), namespace: set.namespace.clone() };
    let entries = Revisions::new(&client, &name.set, &name.namespace).list().await.map_err(|error| chain(&error))?;
    let Some(entry) = deployed(&entries) else { return Ok(None) };
    let found = drifted(&client, &name, entry).await.map_err(|error| chain(&error))?;
    Ok(summary(&found.drifted, entry.objects))
}

fn summary(found: &[Drifted], of: usize) -> Option<String> {
    let one = |drifted: &Drifted| {
        let what = match drifted.state {
            State::Missing => "is gone".to_owned(),
            State::Terminating => "is being deleted".to_owned(),
            State::Changed => {
                let paths: Vec<&str> = drifted.fields.iter().take(NAMED).map(|field| field.path.as_str()).collect();
                let more = drifted.fields.len().saturating_sub(NAMED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("has another {}{more}", paths.join(", "))
            }
        };
        format!("{} {what}", drifted.id)
    };
    let named: Vec<String> = found.iter().take(NAMED).map(one).collect();
    let more = if found.len() > NAMED { format!("; and {} more", found.len() - NAMED) } else { String::new() };
    (!found.is_empty()).then(|| format!("{} of {of} objects not as applied: {}{more}", found.len(), named.join("; ")))
}
