//! What runs is started anew when the configuration that it uses changes: the pods' template carries a checksum of it, so that a changed ConfigMap or Secret is a changed
//! workload, seen in the plan and rolled out like any other.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::manifest::Manifest;
use crate::references::{ReferenceKind, references};

/// The checksum of the ConfigMaps and Secrets of the set that the pods use.
pub const CHECKSUM: &str = "strake.dev/config-checksum";
/// `"false"` on a workload, on a ConfigMap or on a Secret: its changes restart nothing.
pub const RESTART: &str = "strake.dev/restart-on-config";

/// Rounds over a Secret's content: whoever may read a workload but not its Secrets should not be able to try words against the checksum in no time.
const ROUNDS: usize = 10_000;
/// Letters and digits of the hash that kustomize appends to a generated name.
const HASH_LETTERS: &str = "2456789bcdfghkmt";

/// The configuration of a set, by kind, namespace and name.
pub(crate) struct Configuration<'a> {
    digests: BTreeMap<(&'static str, &'a str, &'a str), [u8; 32]>,
}

impl<'a> Configuration<'a> {
    /// Of those objects that pods of the set use, and whose changes concern them.
    pub(crate) fn of(manifests: &'a [Manifest]) -> Configuration<'a> {
        let used: BTreeSet<(&str, &str, String)> = manifests.par_iter().filter(|manifest| is_workload(manifest)).flat_map_iter(uses).collect();
        let digest = |manifest: &'a Manifest| {
            let kind = match (manifest.kind.group, manifest.kind.kind) {
                ("", "ConfigMap") => "ConfigMap",
                ("", "Secret") => "Secret",
                _ => return None,
            };
            let (namespace, name) = (manifest.id.namespace.as_str(), manifest.id.name.as_str());
            let concerned = used.contains(&(kind, namespace, name.to_owned())) && !is_fixed(manifest);
            concerned.then(|| ((kind, namespace, name), content(manifest, kind)))
        };
        // The rounds over Secrets are work for all cores.
        Configuration { digests: manifests.par_iter().filter_map(digest).collect() }
    }

    /// The object, with a checksum where its pods use configuration of the set.
    pub(crate) fn stamp(&self, manifest: &Manifest) -> Value {
        let mut object = manifest.value.clone();
        if self.digests.is_empty() || !is_workload(manifest) || manifest.value["metadata"]["annotations"][RESTART] == "false" {
            return object;
        }
        let mut hash = Sha256::new();
        let mut any = false;
        let used: BTreeSet<(&str, &str, String)> = uses(manifest).collect();
        for (kind, namespace, name) in &used {
            if let Some(digest) = self.digests.get(&(*kind, *namespace, name.as_str())) {
                hash.update(format!("{kind}/{name}\n"));
                hash.update(digest);
                any = true;
            }
        }
        let template = &mut object["spec"]["template"];
        if !any || !template.is_object() {
            return object;
        }
        if !template["metadata"].is_object() {
            template["metadata"] = json!({});
        }
        let metadata = &mut template["metadata"];
        if !metadata["annotations"].is_object() {
            metadata["annotations"] = json!({});
        }
        metadata["annotations"][CHECKSUM] = Value::String(hex(&hash.finalize()[..10]));
        object
    }
}

/// Kinds that replace their pods when the template changes. A Job's template can never change, and what a CronJob makes is new anyway.
fn is_workload(manifest: &Manifest) -> bool {
    manifest.kind.group == "apps" && matches!(manifest.kind.kind, "Deployment" | "StatefulSet" | "DaemonSet")
}

/// What a workload's pods use: kind, namespace, name.
fn uses(manifest: &Manifest) -> impl Iterator<Item = (&'static str, &str, String)> {
    let of_pods = references(manifest).into_iter().filter(|reference| matches!(reference.kind, ReferenceKind::ConfigMap | ReferenceKind::Secret));
    // Credentials for pulling are read when an image is pulled, not by what runs.
    let run = of_pods.filter(|reference| !reference.pointer.contains("/imagePullSecrets/"));
    run.map(|reference| (reference.kind.kind(), manifest.id.namespace.as_str(), reference.name))
}

/// Its content never changes under this name, or its changes restart nothing by wish.
fn is_fixed(manifest: &Manifest) -> bool {
    let hashed = manifest.id.name.rsplit_once('-').is_some_and(|(_, end)| {
        end.len() == 10
            && end.chars().all(|letter| HASH_LETTERS.contains(letter))
            && end.contains(|letter: char| letter.is_ascii_digit())
            && end.contains(|letter: char| letter.is_ascii_lowercase())
    });
    hashed || manifest.value["immutable"] == true || manifest.value["metadata"]["annotations"][RESTART] == "false"
}

/// The digest of what a ConfigMap or Secret holds, whatever the order of its keys.
fn content(manifest: &Manifest, kind: &str) -> [u8; 32] {
    let mut object = manifest.value.clone();
    strake_kinds::default::fold_write_only(&mut object, manifest.kind);
    let mut hash = Sha256::new();
    for field in ["data", "binaryData"] {
        let entries: BTreeMap<&String, &Value> = object[field].as_object().into_iter().flatten().collect();
        for (key, value) in entries {
            let text = value.as_str().unwrap_or_default();
            hash.update(format!("{field}/{key}:{}\n", text.len()));
            hash.update(text);
        }
    }
    let mut digest: [u8; 32] = hash.finalize().into();
    if kind == "Secret" {
        let salt = format!("{}/{}", manifest.id.namespace, manifest.id.name);
        for _ in 0..ROUNDS {
            digest = Sha256::new().chain_update(salt.as_bytes()).chain_update(digest).finalize().into();
        }
    }
    digest
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
