//! What another cluster knows of kinds that nothing among the inputs defines: their names in paths, whether they live in namespaces, and their schemas.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use strake_client::{Client, Resource};
use strake_kinds::structural::{Definition, Version};

use crate::args::Target;
use crate::connect::connect;
use crate::failure::Failure;
use crate::interrupt;

/// How long the cluster may take to answer. One that does not is told of when it is needed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the cluster for these kinds, each with its group and version. What it does not know or does not show is left out: that is warned of as without a cluster.
///
/// # Errors
/// An interrupt.
pub fn ask(root: &Path, target: &Target, kinds: &[(String, String, String)]) -> Result<Vec<Definition>, Failure> {
    interrupt::wait(async {
        let all = async {
            let client = connect(root, target).await.ok()?;
            let mut found: Vec<Definition> = Vec::new();
            for (group, version, kind) in kinds {
                found.extend(definition(&client, group, version, kind).await);
            }
            Some(found)
        };
        Ok(tokio::time::timeout(PATIENCE, all).await.ok().flatten().unwrap_or_default())
    })
}

/// By discovery, which everybody may read, then by the definition itself.
async fn definition(client: &Client, group: &str, version: &str, kind: &str) -> Option<Definition> {
    let known = client.raw_get(&format!("/apis/{group}/{version}")).await;
    let resources = known.as_ref().ok().and_then(|known| known["resources"].as_array());
    let row = resources.into_iter().flatten().find(|row| row["kind"] == kind && row["name"].as_str().is_some_and(|name| !name.contains('/')));
    let definitions = Resource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false);
    let Some(row) = row else {
        // Another version of the kind may be there, which is worth saying.
        let list = client.list(&definitions, None, &strake_client::ListParams::all()).await.ok()?;
        return list.items.iter().filter_map(read).find(|defined| defined.group == group && defined.kind == kind);
    };
    let plural = row["name"].as_str()?.to_owned();
    let full = client.get(&definitions, None, &format!("{plural}.{group}")).await.ok().flatten();
    let bare = || Definition {
        group: group.to_owned(),
        kind: kind.to_owned(),
        plural: plural.clone(),
        namespaced: row["namespaced"] == true,
        versions: vec![Version { name: version.to_owned(), served: true, schema: None }],
    };
    Some(full.as_ref().and_then(read).unwrap_or_else(bare))
}

/// Items of a list have no type of their own.
fn read(object: &Value) -> Option<Definition> {
    let mut object = object.clone();
    object["apiVersion"] = "apiextensions.k8s.io/v1".into();
    object["kind"] = "CustomResourceDefinition".into();
    Definition::of(&object)
}
